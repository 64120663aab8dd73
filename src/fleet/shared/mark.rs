//! How far this replica has come, noted in its data directory: a store that is behind that was put back to an older state.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use super::{JoinError, Lost};
use crate::domain::id::Revision;

/// Where every store begins.
const BEGINNING: Revision = Revision {
    epoch: 1,
    number: 0,
};

/// A store's id and the last revision that was in force here.
pub(super) struct Mark {
    path: PathBuf,
    noted: Option<(String, Revision)>,
}

impl Mark {
    /// Reads what was noted at an earlier start.
    pub(super) async fn open(path: PathBuf) -> Result<Self, JoinError> {
        let unusable = |path: &Path, why: String| JoinError::Mark {
            path: path.to_owned(),
            why,
        };
        let noted = match tokio::fs::read_to_string(&path).await {
            Ok(text) => Some(parse(&text).ok_or_else(|| {
                let why = "it is no note of a store and a revision; remove it if the store is known to be whole";
                unusable(&path, why.to_owned())
            })?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(unusable(&path, error.to_string())),
        };
        Ok(Self { path, noted })
    }

    /// The store that is known, and up to where; a replica that knows none takes the one that it finds.
    pub(super) fn known<'a>(&'a self, found: &'a str) -> (&'a str, Revision) {
        match &self.noted {
            Some((store, revision)) => (store, *revision),
            None => (found, Revision::default()),
        }
    }

    /// Notes that everything up to `applied` was in force, and returns once that lasts.
    pub(super) async fn note(&mut self, store: &str, applied: Revision) -> Result<(), JoinError> {
        if self
            .noted
            .as_ref()
            .is_some_and(|(_, noted)| *noted == applied)
        {
            return Ok(());
        }
        let (path, text) = (self.path.clone(), format!("{store} {applied}\n"));
        let written = tokio::task::spawn_blocking(move || write(&path, &text));
        let written = written
            .await
            .unwrap_or_else(|error| Err(io::Error::other(error)));
        written.map_err(|error| JoinError::Mark {
            path: self.path.clone(),
            why: error.to_string(),
        })?;
        self.noted = Some((store.to_owned(), applied));
        Ok(())
    }
}

/// Notes that a data directory is of this store, of which nothing is in force there yet.
pub(in crate::fleet) async fn claim(path: PathBuf, store: &str) -> Result<(), JoinError> {
    let mut mark = Mark::open(path).await?;
    match &mark.noted {
        None => mark.note(store, BEGINNING).await,
        Some((known, _)) if known == store => Ok(()),
        Some((known, _)) => Err(JoinError::Lost(Lost::Other {
            found: store.to_owned(),
            known: known.clone(),
        })),
    }
}

fn parse(text: &str) -> Option<(String, Revision)> {
    let (store, revision) = text.strip_suffix('\n')?.split_once(' ')?;
    let is_id = store.len() == 32 && store.bytes().all(|b| b.is_ascii_hexdigit());
    is_id.then_some(())?;
    Some((store.to_owned(), Revision::parse(revision)?))
}

/// Replaces the file at once, so that a crash leaves the old note or the new one.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = File::create(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    match path.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => File::open(directory)?.sync_all(),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_directory_is_of_one_store() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("redis.mark");
        let (one, other) = ("1".repeat(32), "2".repeat(32));
        for _ in 0..2 {
            claim(path.clone(), &one).await.unwrap();
        }
        assert!(matches!(
            claim(path.clone(), &other).await,
            Err(JoinError::Lost(Lost::Other { .. }))
        ));
        let mut mark = Mark::open(path.clone()).await.unwrap();
        assert_eq!(mark.known("found"), (one.as_str(), BEGINNING));
        let at = BEGINNING.next();
        mark.note(&one, at).await.unwrap();
        claim(path.clone(), &one).await.unwrap();
        let mark = Mark::open(path).await.unwrap();
        assert_eq!(
            mark.known("found"),
            (one.as_str(), at),
            "it is not put back"
        );
    }

    #[tokio::test]
    async fn what_was_noted_is_known_at_the_next_start() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("redis.mark");
        let store = "0123456789abcdef0123456789abcdef";
        let at = Revision {
            epoch: 2,
            number: 7,
        };
        let mut mark = Mark::open(path.clone()).await.unwrap();
        assert_eq!(mark.known("found"), ("found", Revision::default()));
        mark.note(store, at).await.unwrap();
        let mark = Mark::open(path.clone()).await.unwrap();
        assert_eq!(mark.known("found"), (store, at));

        for bad in [
            "",
            "x 1.1\n",
            "0123456789abcdef0123456789abcdef 1.1",
            "0123456789abcdef0123456789abcdef 01.1\n",
        ] {
            fs::write(&path, bad).unwrap();
            assert!(Mark::open(path.clone()).await.is_err(), "{bad:?}");
        }
    }
}

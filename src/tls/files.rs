//! Which files TLS is made of, and when they have changed.

use std::{
    fs,
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::{Material, Part, Unusable, with_path};

/// The files of a listener's TLS, all PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate, and those that lead from it to its authority.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The authorities of those who may connect; `None`: nobody is asked for a certificate.
    pub client_ca: Option<PathBuf>,
}

/// What the files hold.
pub(super) struct Contents {
    cert: Vec<u8>,
    key: Zeroizing<Vec<u8>>,
    client_ca: Option<Vec<u8>>,
}

pub(super) type Digest = [u8; 32];

impl TlsFiles {
    pub(super) fn read(&self) -> Result<Contents, String> {
        let read = |path: &Path| fs::read(path).map_err(|error| with_path(path, &error));
        Ok(Contents {
            cert: read(&self.cert)?,
            key: Zeroizing::new(read(&self.key)?),
            client_ca: self.client_ca.as_deref().map(read).transpose()?,
        })
    }

    /// Which file, and what is wrong with it.
    pub(super) fn explain(&self, unusable: &Unusable) -> String {
        let path = match unusable.part {
            Part::Cert => &self.cert,
            Part::Key => &self.key,
            Part::ClientCa => self.client_ca.as_ref().unwrap_or(&self.cert),
        };
        format!("{} {}", path.display(), unusable.why)
    }
}

impl Contents {
    pub(super) fn material(&self) -> Result<Material, Unusable> {
        Material::read(&self.cert, &self.key, self.client_ca.as_deref())
    }

    /// Tells these contents from any other, without keeping them.
    pub(super) fn digest(&self) -> Digest {
        let mut hash = Sha256::new();
        let client_ca = self.client_ca.as_deref().unwrap_or_default();
        for content in [&self.cert, &*self.key, client_ca] {
            hash.update((content.len() as u64).to_be_bytes());
            hash.update(content);
        }
        hash.finalize().into()
    }
}

/// Tells one reason why files cannot be read from another.
pub(super) fn digest_of_failure(why: &str) -> Digest {
    Sha256::digest(why.as_bytes()).into()
}

/// What was seen of the files so far.
#[derive(Debug)]
pub(super) struct Watch {
    /// What is in force.
    in_force: Digest,
    /// What was last judged, good or bad.
    judged: Digest,
    /// What was seen at the last look.
    last: Digest,
}

/// What a look at the files came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// Nothing new, or nothing that has come to rest yet.
    Known,
    /// They have changed.
    New,
}

impl Watch {
    pub(super) const fn new(in_force: Digest) -> Self {
        Self {
            in_force,
            judged: in_force,
            last: in_force,
        }
    }

    /// Takes a look. A change counts only once two looks in a row saw the same: a file that is being written, or a pair of
    /// which one is replaced, would pass for a whole one if it were cut at the right place.
    pub(super) fn see(&mut self, found: Digest) -> Look {
        let rests = found == self.last;
        self.last = found;
        if !rests || found == self.judged {
            return Look::Known;
        }
        self.judged = found;
        // What was in force before a faulty change, and is there again, is still in force.
        if found == self.in_force {
            return Look::Known;
        }
        Look::New
    }

    /// What was seen last is in force.
    pub(super) const fn in_force(&mut self, found: Digest) {
        self.in_force = found;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_counts_once_and_only_at_rest() {
        let [a, b, c] = [[1; 32], [2; 32], [3; 32]];
        let mut watch = Watch::new(a);
        assert_eq!(watch.see(a), Look::Known);
        // Half of it, then all of it.
        assert_eq!(watch.see(b), Look::Known);
        assert_eq!(watch.see(c), Look::Known);
        assert_eq!(watch.see(c), Look::New);
        assert_eq!(watch.see(c), Look::Known, "it was judged");
        // It was no good, and the old one came back.
        assert_eq!(watch.see(a), Look::Known);
        assert_eq!(watch.see(a), Look::Known, "it never left");
        // The same fault again is a fault again.
        assert_eq!(watch.see(c), Look::Known);
        assert_eq!(watch.see(c), Look::New);
        watch.in_force(c);
        assert_eq!(watch.see(a), Look::Known);
        assert_eq!(watch.see(a), Look::New);
    }
}

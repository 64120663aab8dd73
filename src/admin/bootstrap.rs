//! The first minutes of a store: its directory, its lock, its two workspaces and its root credential.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read as _, Write as _},
    os::unix::fs::{
        DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
    },
    path::{Path, PathBuf},
};

use super::mutation::with_random;
use crate::{
    domain::{
        credential::NativeToken,
        event::{Action, Entity, Event, key_changes},
        id::{KeyId, TokenPrefix, WorkspaceId},
        key::Key,
        permission::PermissionSet,
        secret::{GeneratedSecret, Secret},
        source::IpAllowlist,
        text::TextMap,
        time::Timestamp,
        workspace::Workspace,
    },
    store::{Batch, CommitError, RecordId, Store, StoreError, Write, embedded},
};

/// Holds the token of the root credential, if this store made one.
pub const ROOT_TOKEN_FILE: &str = "root.token";
/// Holds what a replica of a fleet knows of its store, if one was served from this directory.
pub const FLEET_MARK_FILE: &str = "redis.mark";
const LOCK_FILE: &str = "lock";

/// Why the directory or the store could not be made ready.
#[derive(Debug, thiserror::Error)]
pub enum BootstrapError {
    /// The directory cannot be used.
    #[error("the data directory {path} cannot be used: {source}")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is open to others and holds other things, so it is not ours to close.
    #[error(
        "the data directory {0} may be read by others and holds files that are not Portcullis's; choose a directory of \
         its own, or run: chmod 700 {0}"
    )]
    Open(PathBuf),
    /// It belongs to another user (the first number; the second is ours), who could replace what is in it.
    #[error(
        "the data directory {0} belongs to user id {1}; choose one of your own, or run: chown {2} {0}"
    )]
    Foreign(PathBuf, u32, u32),
    /// A replica of a fleet was served from it, and now no Redis is named.
    #[error(
        "the data directory {0} is of a replica of a fleet (it holds {FLEET_MARK_FILE}), and no Redis is named; name it with \
         --redis, or choose another --data-dir for a store of its own"
    )]
    OfFleet(PathBuf),
    /// Another process uses it.
    #[error(
        "the data directory {0} is in use by another portcullis{1}; stop that one, or choose another --data-dir"
    )]
    InUse(PathBuf, String),
    /// The root token could not be written.
    #[error("the root token could not be written to {path}: {source}")]
    Token {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The system gave no randomness.
    #[error("the system gave no randomness")]
    Randomness,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store did not take its first records.
    #[error("the new store did not take its first records: {0}")]
    Commit(#[from] CommitError),
}

/// A data directory that this process alone uses, until dropped.
#[derive(Debug)]
pub struct DataDirectory {
    path: PathBuf,
    _lock: File,
}

impl DataDirectory {
    /// Makes the directory if need be, closes it to others, and locks it.
    ///
    /// # Errors
    /// If that cannot be done, or another process has it.
    pub fn open(path: &Path) -> Result<Self, BootstrapError> {
        let unusable = |source| BootstrapError::Directory {
            path: path.to_owned(),
            source,
        };
        make_directory(path).map_err(unusable)?;
        close_to_others(path)?;
        let mut lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .mode(0o600)
            .open(path.join(LOCK_FILE))
            .map_err(unusable)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // The number only helps the reader; the lock itself says it all.
                let _ = lock.read_to_string(&mut holder);
                let holder = holder
                    .trim()
                    .parse::<u32>()
                    .map(|pid| format!(" (pid {pid})"))
                    .unwrap_or_default();
                return Err(BootstrapError::InUse(path.to_owned(), holder));
            }
            Err(TryLockError::Error(source)) => return Err(unusable(source)),
        }
        lock.set_len(0)
            .and_then(|()| writeln!(lock, "{}", std::process::id()))
            .map_err(unusable)?;
        Ok(Self {
            path: path.to_owned(),
            _lock: lock,
        })
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the embedded store stands, if there is one.
    #[must_use]
    pub fn store_file(&self) -> PathBuf {
        self.path.join(embedded::FILE_NAME)
    }

    /// Where it stands what a replica of a fleet knows of its store, if one was served from here.
    #[must_use]
    pub fn fleet_mark_file(&self) -> PathBuf {
        self.path.join(FLEET_MARK_FILE)
    }

    /// Where the root token stands, if this store made one.
    #[must_use]
    pub fn root_token_file(&self) -> PathBuf {
        self.path.join(ROOT_TOKEN_FILE)
    }
}

/// Makes the directory and those above it that are not there, and returns once their names last: a store in a directory
/// that a loss of power takes away is lost whatever it synced.
fn make_directory(path: &Path) -> io::Result<()> {
    let missing: Vec<&Path> = path
        .ancestors()
        .take_while(|path| !path.as_os_str().is_empty() && !path.exists())
        .collect();
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    for made in missing {
        sync_parent(made)?;
    }
    Ok(())
}

fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    File::open(parent)?.sync_all()
}

/// A new directory is closed already. An older one is closed if it is empty or ours; another is not ours to change.
///
/// A directory of another user is refused in any case: that user could put a store with a root of its own in its place.
fn close_to_others(path: &Path) -> Result<(), BootstrapError> {
    let unusable = |source| BootstrapError::Directory {
        path: path.to_owned(),
        source,
    };
    let metadata = fs::metadata(path).map_err(unusable)?;
    let own = rustix::process::geteuid().as_raw();
    if metadata.uid() != own {
        return Err(BootstrapError::Foreign(
            path.to_owned(),
            metadata.uid(),
            own,
        ));
    }
    if metadata.mode() & 0o077 == 0 {
        return Ok(());
    }
    let is_ours = path.join(embedded::FILE_NAME).exists()
        || fs::read_dir(path).map_err(unusable)?.next().is_none();
    if !is_ours {
        return Err(BootstrapError::Open(path.to_owned()));
    }
    fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(unusable)
}

/// Gives a new store its workspaces and its root credential; leaves any other as it is. True if the store was new.
///
/// # Errors
/// If the store or the token file fails.
pub async fn initialise(
    store: &dyn Store,
    directory: &DataDirectory,
    chosen_root: Option<&NativeToken>,
    now: Timestamp,
) -> Result<bool, BootstrapError> {
    if store.head().await?.number > 0 {
        return Ok(false);
    }
    write_first(store, directory, chosen_root, now).await
}

/// Gives a store that was never written to its workspaces and its root credential. False if another process did so just now;
/// then that one's root counts, and no token is left here.
///
/// The token is durable in its file before the commit that makes it valid: the other order could leave a store that
/// nobody can open.
///
/// # Errors
/// If the store or the token file fails.
pub async fn write_first(
    store: &dyn Store,
    directory: &DataDirectory,
    chosen_root: Option<&NativeToken>,
    now: Timestamp,
) -> Result<bool, BootstrapError> {
    let (key_id, secret, sealed) = with_random(|random| {
        let key_id = chosen_root.map_or_else(|| KeyId::from_random(random), NativeToken::key_id);
        let secret = chosen_root.map_or_else(
            || GeneratedSecret::from_random(key_id, random),
            GeneratedSecret::from_token,
        );
        let sealed = Secret::seal(1, &secret, now, random);
        (key_id, secret, sealed)
    })
    .map_err(|_| BootstrapError::Randomness)?;
    let prefix = chosen_root.map_or_else(TokenPrefix::default, NativeToken::prefix);
    if chosen_root.is_none() {
        let path = directory.root_token_file();
        write_durably(&path, secret.token(&prefix).expose())
            .map_err(|source| BootstrapError::Token { path, source })?;
    }
    match store.commit(first_batch(key_id, prefix, sealed, now)).await {
        Ok(_) => Ok(true),
        Err(CommitError::Conflict(_)) => {
            if chosen_root.is_none() {
                let path = directory.root_token_file();
                fs::remove_file(&path).map_err(|source| BootstrapError::Token { path, source })?;
            }
            Ok(false)
        }
        // The token stays where it is: it may be the root's.
        Err(error) => Err(error.into()),
    }
}

fn first_batch(key_id: KeyId, token_prefix: TokenPrefix, sealed: Secret, now: Timestamp) -> Batch {
    const ACTOR: &str = "portcullis";
    let root = Key {
        id: key_id,
        workspace: WorkspaceId::system(),
        display_name: "root".into(),
        description: "Made with the store. Holds every permission.".into(),
        owner: ACTOR.into(),
        token_prefix,
        disabled: false,
        permissions: PermissionSet::any(),
        ip_allowlist: IpAllowlist::default(),
        labels: TextMap::default(),
        settings: TextMap::default(),
        create_time: now,
        update_time: now,
        expire_time: None,
        archive_time: None,
    };
    let workspace = |id, display_name: &str| {
        Write::Workspace(Workspace {
            display_name: display_name.to_owned(),
            ..Workspace::new(id, TokenPrefix::default(), now)
        })
    };
    Batch {
        // Two processes may come with different roots; the workspace is the same for both, so that one of them is the first.
        reads: vec![
            (RecordId::Key(key_id), None),
            (RecordId::Workspace(WorkspaceId::system()), None),
        ],
        quiet: None,
        mutation: None,
        event: Event {
            time: now,
            actor: ACTOR.to_owned(),
            team: String::new(),
            action: Action::Create,
            method: "Initialise".into(),
            entity: Entity::Store,
            resource: root.name().to_string(),
            changes: key_changes(None, Some(&root)),
            source_address: String::new(),
            request_id: String::new(),
        },
        writes: vec![
            workspace(WorkspaceId::default_workspace(), "Default"),
            workspace(WorkspaceId::system(), "Admin credentials"),
            Write::Key(Box::new(root), vec![sealed]),
        ],
    }
}

/// Writes a file for the owner's eyes, and returns once it and its name last.
fn write_durably(path: &Path, content: &str) -> io::Result<()> {
    // A file of an earlier start that did not get to its commit holds a token that never was valid.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(content.as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    sync_parent(path)
}

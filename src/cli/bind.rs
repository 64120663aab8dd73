//! Opens the sockets of `serve`.

use std::{
    fmt,
    fs::{self, File, OpenOptions, TryLockError},
    io,
    net::TcpListener,
    os::unix::{
        fs::{FileTypeExt as _, OpenOptionsExt as _, PermissionsExt as _, lchown},
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
};

use crate::config::{Listen, SocketAccess};

/// A socket that listens, and where.
pub(super) enum Bound {
    Tcp(TcpListener),
    Unix(UnixSocket),
}

/// A Unix socket that listens; its file goes when this is dropped.
pub(super) struct UnixSocket {
    pub(super) listener: UnixListener,
    pub(super) guard: SocketFile,
}

/// Why a socket could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody else listens there.
    #[error(
        "{what}: {address} is in use by another process; stop that one, or choose another address with --{what}"
    )]
    InUse {
        /// Which listener.
        what: &'static str,
        /// Where.
        address: String,
    },
    /// There is a file of another kind.
    #[error("{what}: {path} is there and is no socket; remove it, or choose another path")]
    NotASocket {
        /// Which listener.
        what: &'static str,
        /// Where.
        path: PathBuf,
    },
    /// The socket cannot be given to whom it is meant for.
    #[error(
        "{what}: {address} cannot be given mode {mode:04o}{}: {source}; only root can give a socket to a group that it is not in",
        group.map(|group| format!(" and group {group}")).unwrap_or_default()
    )]
    Access {
        /// Which listener.
        what: &'static str,
        /// Where.
        address: String,
        /// The mode that it should have.
        mode: u32,
        /// The group that it should have.
        group: Option<u32>,
        /// Why.
        source: io::Error,
    },
    /// It failed otherwise.
    #[error("{what}: cannot listen on {address}: {source}")]
    Failed {
        /// Which listener.
        what: &'static str,
        /// Where.
        address: String,
        /// Why.
        source: io::Error,
    },
}

impl Bound {
    /// Opens the socket of the listener called `what`; if it is a Unix socket, with this mode and group.
    pub(super) fn open_for(
        what: &'static str,
        listen: &Listen,
        access: SocketAccess,
    ) -> Result<Self, BindError> {
        let bound = Self::open(what, listen)?;
        if let Self::Unix(socket) = &bound {
            socket.give(access).map_err(|source| BindError::Access {
                what,
                address: listen.to_string(),
                mode: access.mode,
                group: access.group,
                source,
            })?;
        }
        Ok(bound)
    }

    /// Opens the socket of the listener called `what`.
    pub(super) fn open(what: &'static str, listen: &Listen) -> Result<Self, BindError> {
        match listen {
            Listen::Tcp(address) => {
                let listener =
                    TcpListener::bind(address).map_err(|source| refused(what, listen, source))?;
                listener
                    .set_nonblocking(true)
                    .map_err(|source| refused(what, listen, source))?;
                Ok(Self::Tcp(listener))
            }
            Listen::Unix(path) => UnixSocket::open(what, path).map(Self::Unix),
        }
    }
}

/// The address, as a client would type it.
impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(listener) => match listener.local_addr() {
                Ok(address) => write!(f, "{address}"),
                Err(error) => write!(f, "({error})"),
            },
            Self::Unix(socket) => write!(f, "unix:{}", socket.guard.path.display()),
        }
    }
}

impl UnixSocket {
    /// Opens a socket that only its owner can connect to. A file that a killed process left behind is removed, but only
    /// under a lock that no living process holds, and when nobody listens there.
    pub(super) fn open(what: &'static str, path: &Path) -> Result<Self, BindError> {
        let listen = Listen::Unix(path.to_owned());
        let failed = |source| refused(what, &listen, source);
        let lock_path = PathBuf::from(format!("{}.lock", path.display()));
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&lock_path)
            .map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(BindError::InUse {
                    what,
                    address: listen.to_string(),
                });
            }
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        match fs::symlink_metadata(path) {
            Ok(file) if file.file_type().is_socket() => {
                // The lock keeps other replicas out, but a program of another kind knows nothing of it.
                match UnixStream::connect(path) {
                    Ok(_) => {
                        return Err(BindError::InUse {
                            what,
                            address: listen.to_string(),
                        });
                    }
                    Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                    Err(source) => return Err(failed(source)),
                }
                fs::remove_file(path).map_err(failed)?;
            }
            Ok(_) => {
                return Err(BindError::NotASocket {
                    what,
                    path: path.to_owned(),
                });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(failed(source)),
        }
        // `serve` has set the umask to 077, so there is no moment in which others could connect.
        let listener = UnixListener::bind(path).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        Ok(Self {
            listener,
            guard: SocketFile {
                path: path.to_owned(),
                _lock: lock,
            },
        })
    }
}

impl UnixSocket {
    /// Says who may connect. Until then only its owner can. The group comes first: the mode is meant for it and no other.
    fn give(&self, access: SocketAccess) -> io::Result<()> {
        let path = &self.guard.path;
        if let Some(group) = access.group {
            lchown(path, None, Some(group))?;
        }
        fs::set_permissions(path, fs::Permissions::from_mode(access.mode))
    }
}

/// Removes the socket's file when dropped, while still holding its lock.
pub(super) struct SocketFile {
    path: PathBuf,
    _lock: File,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // One that is left behind is removed at the next start.
        let _ = fs::remove_file(&self.path);
    }
}

fn refused(what: &'static str, listen: &Listen, source: io::Error) -> BindError {
    let address = listen.to_string();
    match source.kind() {
        io::ErrorKind::AddrInUse => BindError::InUse { what, address },
        _ => BindError::Failed {
            what,
            address,
            source,
        },
    }
}

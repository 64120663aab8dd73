//! Opens the sockets of `serve`.

use std::{
    fmt,
    fs::{self, File, OpenOptions, TryLockError},
    io,
    net::TcpListener,
    os::unix::{
        fs::{FileTypeExt as _, OpenOptionsExt as _},
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
};

use crate::config::Listen;

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

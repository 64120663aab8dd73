//! The Redis that a fleet shares.

mod read;
mod url;

use std::{fmt, path::PathBuf, time::Duration};

use zeroize::Zeroizing;

pub(super) use read::read;
pub use read::shown_span;

/// Where the fleet's Redis is, and how it is spoken to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisSettings {
    /// Where it listens.
    pub address: RedisAddress,
    /// The ACL user; `None`: the server's default user.
    pub user: Option<String>,
    /// The user's password. In the URL, or `PORTCULLIS_REDIS_PASSWORD`.
    pub password: Option<Password>,
    /// The database's number.
    pub database: u32,
    /// What all keys and channels begin with: 1 to 64 letters, digits, `-`, `_` and `.`. Default `portcullis`.
    pub namespace: String,
    /// Whether the server's durability is looked into. Default: it is.
    pub durability: RedisDurability,
}

impl RedisSettings {
    /// What all keys begin with unless something else is chosen.
    pub const DEFAULT_NAMESPACE: &str = "portcullis";

    /// The URL as it can be typed, without user and password.
    #[must_use]
    pub fn url(&self) -> String {
        url::of(&self.address, self.database)
    }
}

/// Where a Redis listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RedisAddress {
    /// `redis://host:port`. The address of an IPv6 host stands without its brackets.
    Tcp(String, u16),
    /// `rediss://host:port`
    Tls {
        /// The host, as its certificate names it.
        host: String,
        /// The port.
        port: u16,
        /// Certificates that sign the server's, in a PEM file; `None`: the public authorities that browsers trust.
        ca: Option<PathBuf>,
        /// The client's certificate chain and its key, in PEM files.
        client: Option<(PathBuf, PathBuf)>,
    },
    /// `redis+unix:///path`
    Unix(PathBuf),
}

/// What Portcullis does about a server that may lose what it acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RedisDurability {
    /// Refuses to start on it.
    Verify,
    /// Starts: the operator vouches for it.
    Assume,
}

/// How long a replica may answer without hearing from Redis, unless another length is chosen when the store is made.
pub const DEFAULT_LEASE: Duration = Duration::from_secs(15);

/// A password. Never printed, and cleared when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(Zeroizing<String>);

impl Password {
    /// Takes it over.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The text. It must not be kept, nor printed.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password")
    }
}

/// Host and port, without anything secret.
impl fmt::Display for RedisAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(host, port) => write!(f, "redis://{}:{port}", Host(host)),
            Self::Tls { host, port, .. } => write!(f, "rediss://{}:{port}", Host(host)),
            Self::Unix(path) => write!(f, "redis+unix://{}", path.display()),
        }
    }
}

/// A host as it stands before a port.
struct Host<'a>(&'a str);

impl fmt::Display for Host<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.contains(':') {
            write!(f, "[{}]", self.0)
        } else {
            f.write_str(self.0)
        }
    }
}

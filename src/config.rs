//! What the operator sets.
//!
//! A flag beats its variable, the variable beats the file, the file beats the default. A variable that is empty counts as
//! unset, but for `PORTCULLIS_ROOT_TOKEN`: who set that meant to choose a credential. All faults are reported
//! together, each with the place the value came from. Environment and files are arguments, so tests fake them.

mod callers;
mod envoy;
mod fault;
mod file;
mod flags;
mod gate_socket;
mod layers;
mod listen;
mod log;
mod name;
mod pem;
mod redis;
mod root_token;
mod setting;
mod table;
mod tls;

use std::{
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

pub use callers::MappedCaller;
pub use envoy::EnvoySettings;
pub use fault::{Fault, Faults};
pub use flags::{Hidden, InitFlags, RedisFlags, ServeFlags};
pub use gate_socket::SocketAccess;
pub use listen::{Listen, ListenSettings};
pub use log::{LogFormat, LogSettings};
pub use redis::{
    DEFAULT_LEASE, Password, RedisAddress, RedisDurability, RedisSettings, shown_span,
};
pub use root_token::RootToken;
pub use setting::{Origin, Setting};

use layers::Layers;

/// Looks up an environment variable.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<OsString>;
/// Reads a text file.
pub type ReadFile<'a> = &'a dyn Fn(&Path) -> io::Result<String>;

/// What `serve` runs with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where it listens.
    pub listen: ListenSettings,
    /// Callers that are known by their certificates, in the order of the file. Default: none; `[[caller]]` of the file only.
    pub callers: Vec<MappedCaller>,
    /// Where the store, the admin socket and the root token live. Default `./data`; `PORTCULLIS_DATA_DIR`.
    /// A relative path counts from the working directory, also in the file.
    pub data_dir: PathBuf,
    /// What this replica calls itself, 1 to 128 characters. Default: the host's name; `PORTCULLIS_NAME`.
    pub name: String,
    /// What it logs.
    pub log: LogSettings,
    /// The first root credential of a new store. Default: one is generated; `PORTCULLIS_ROOT_TOKEN` only, because
    /// a flag shows in the process list and a file in backups.
    pub root_token: Option<RootToken>,
    /// The Redis that a fleet shares. Default: none, and the store is in the data directory; `PORTCULLIS_REDIS`.
    pub redis: Option<RedisSettings>,
    /// The lease that the fleet's store is expected to have, 1 s to 10 min. Default: whatever it has; `PORTCULLIS_LEASE`.
    pub lease: Option<Duration>,
    /// How Envoy's requests are read. In the file only.
    pub envoy: EnvoySettings,
}

/// The settings, and where each came from.
#[derive(Debug, Clone)]
pub struct Explained {
    /// The settings.
    pub settings: Settings,
    /// One row a setting, in the order of [`Setting::ALL`], then those of the tables, one row a field or a list's entry.
    pub rows: Vec<Row>,
}

/// A setting as `config check` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The setting's name.
    pub name: &'static str,
    /// Its value. Of a secret only `set` or `not set`.
    pub value: String,
    /// Where the value came from.
    pub origin: Origin,
}

/// The directory of the store unless another is named.
pub const DEFAULT_DATA_DIR: &str = "./data";
/// The socket within the data directory that the admin listener is always on.
pub const ADMIN_SOCKET: &str = "admin.sock";

impl Settings {
    /// Finds the settings of `serve`.
    ///
    /// # Errors
    /// With every fault found, if there is any.
    pub fn resolve(
        flags: &ServeFlags,
        env: Environment<'_>,
        read_file: ReadFile<'_>,
    ) -> Result<Self, Faults> {
        Self::explain(flags, env, read_file).map(|explained| explained.settings)
    }

    /// As [`resolve`](Self::resolve), with the origin of every setting.
    ///
    /// # Errors
    /// As [`resolve`](Self::resolve).
    pub fn explain(
        flags: &ServeFlags,
        env: Environment<'_>,
        read_file: ReadFile<'_>,
    ) -> Result<Explained, Faults> {
        let mut layers = Layers::new(flags, env, read_file);
        let listen = listen::read(&mut layers, read_file);
        let callers = callers::read(&mut layers);
        let data_dir = layers.read(Setting::DataDir, DEFAULT_DATA_DIR, parse_data_dir);
        let name = layers.read(Setting::Name, &name::of_host(env, read_file), name::parse);
        let log = log::read(&mut layers);
        let fleet = redis::read(&mut layers, read_file);
        let envoy = envoy::read(&mut layers);
        let root_token = root_token::read(&mut layers, env);

        if let (Some(listen), Some(data_dir)) = (&listen, &data_dir) {
            listen.check(&data_dir.join(ADMIN_SOCKET), &mut layers);
        }
        match (
            layers.finish(),
            listen,
            callers,
            data_dir,
            name,
            log,
            fleet,
            envoy,
        ) {
            (
                Ok(rows),
                Some(listen),
                Some(callers),
                Some(data_dir),
                Some(name),
                Some(log),
                Some(fleet),
                Some(envoy),
            ) => Ok(Explained {
                settings: Self {
                    listen,
                    callers,
                    data_dir,
                    name,
                    log,
                    root_token,
                    redis: fleet.redis,
                    lease: fleet.lease,
                    envoy,
                },
                rows,
            }),
            // A reader answers `None` only after it noted a fault, so `Ok` with a `None` does not occur.
            (result, ..) => Err(result.err().unwrap_or_default()),
        }
    }
}

fn parse_data_dir(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() {
        return Err("is empty; name a directory, such as ./data".into());
    }
    if text.chars().any(char::is_control) {
        return Err("has control characters, which no line about it could show".into());
    }
    Ok(text.into())
}

#[cfg(test)]
mod tests;

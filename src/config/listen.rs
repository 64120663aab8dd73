//! Where the server listens.

use std::{
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
    str::FromStr,
};

use super::{
    Setting,
    layers::{Layers, parse_bool},
};

/// The listeners.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenSettings {
    /// Check. Default `127.0.0.1:7700`; `PORTCULLIS_GATE`. Off loopback only with `gate_insecure`.
    pub gate: Listen,
    /// Whether the gate may listen off loopback. Default false; `PORTCULLIS_GATE_INSECURE`.
    pub gate_insecure: bool,
    /// Management. Default `127.0.0.1:7701`; `PORTCULLIS_ADMIN`. Off loopback only with `admin_insecure`.
    pub admin: Listen,
    /// Whether the admin listener may be off loopback. Default false; `PORTCULLIS_ADMIN_INSECURE`.
    pub admin_insecure: bool,
    /// Probes and metrics, which hold no secrets. Default `127.0.0.1:7702`; `PORTCULLIS_OPS`.
    pub ops: Listen,
}

/// An address to listen on: `host:port` or `unix:/path`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// A TCP address. Port 0 takes a free one.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

/// What fits in `sockaddr_un.sun_path` on Linux with its closing NUL; macOS has 4 fewer and says so when binding.
const MAX_SOCKET_PATH: usize = 107;

impl Listen {
    /// True if only this machine can connect.
    #[must_use]
    pub const fn is_local(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().to_canonical().is_loopback(),
            Self::Unix(_) => true,
        }
    }

    /// True if both cannot be listened on at once.
    fn collides_with(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Unix(one), Self::Unix(two)) => one == two,
            (Self::Tcp(one), Self::Tcp(two)) => {
                let any = |address: &SocketAddr| address.ip().is_unspecified();
                // `[::]` takes IPv4 too, unless the system says otherwise.
                let overlap = one.ip() == two.ip()
                    || (any(one) && (one.is_ipv6() || two.is_ipv4()))
                    || (any(two) && (two.is_ipv6() || one.is_ipv4()));
                one.port() == two.port() && one.port() != 0 && overlap
            }
            _ => false,
        }
    }
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            // gRPC also writes `unix:///path`.
            let path = if path.starts_with("///") {
                &path[2..]
            } else {
                path
            };
            if path.is_empty() || path.contains('\0') {
                return Err("names no socket; write unix:/path".into());
            }
            if path.len() > MAX_SOCKET_PATH {
                return Err(format!(
                    "is longer than a socket's path may be ({MAX_SOCKET_PATH} bytes); shorten it"
                ));
            }
            return Ok(Self::Unix(path.into()));
        }
        let literal = match text.strip_prefix("localhost:") {
            Some(port) => format!("127.0.0.1:{port}"),
            None => text.to_owned(),
        };
        literal.parse().map(Self::Tcp).map_err(|_| {
            "is no address to listen on; write an IP address (or localhost) and a port, as 127.0.0.1:7700 or \
             [::1]:7700, or unix:/path"
                .into()
        })
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

pub(super) fn read(layers: &mut Layers<'_>) -> Option<ListenSettings> {
    let gate = layers.read(Setting::Gate, "127.0.0.1:7700", Listen::from_str);
    let gate_insecure = layers.read(Setting::GateInsecure, "false", parse_bool);
    let admin = layers.read(Setting::Admin, "127.0.0.1:7701", Listen::from_str);
    let admin_insecure = layers.read(Setting::AdminInsecure, "false", parse_bool);
    let ops = layers.read(Setting::Ops, "127.0.0.1:7702", Listen::from_str);
    // Each address that was read is judged, whatever is wrong with the others.
    if let (Some(gate), Some(false)) = (&gate, gate_insecure)
        && !gate.is_local()
    {
        layers.conflict(&format!(
            "gate, from {}: {gate} can be reached from beyond this machine, which is refused without mutual TLS or \
             a required caller credential; this version has neither. Listen on loopback or a Unix socket, or, if \
             everyone who can connect may check keys, say --gate-insecure",
            layers.origin(Setting::Gate)
        ));
    }
    if let (Some(admin), Some(false)) = (&admin, admin_insecure)
        && !admin.is_local()
    {
        layers.conflict(&format!(
            "admin, from {}: {admin} can be reached from beyond this machine, which is refused without TLS, because \
             admin credentials would travel unencrypted; this version has no TLS. Listen on loopback or a Unix \
             socket, or, if the network is trusted, say --admin-insecure",
            layers.origin(Setting::Admin)
        ));
    }
    Some(ListenSettings {
        gate: gate?,
        gate_insecure: gate_insecure?,
        admin: admin?,
        admin_insecure: admin_insecure?,
        ops: ops?,
    })
}

impl ListenSettings {
    /// Notes a fault for every two listeners on one address.
    pub(super) fn check(&self, admin_socket: &Path, layers: &mut Layers<'_>) {
        let listeners = [
            (Setting::Gate, &self.gate),
            (Setting::Admin, &self.admin),
            (Setting::Ops, &self.ops),
        ];
        for (index, (setting, address)) in listeners.iter().enumerate() {
            for (other, taken) in &listeners[..index] {
                if address.collides_with(taken) {
                    layers.conflict(&format!(
                        "{}, from {}: {address} is taken by {} ({taken}, from {}); give each its own address",
                        setting.name(),
                        layers.origin(*setting),
                        other.name(),
                        layers.origin(*other),
                    ));
                }
            }
            if address.collides_with(&Listen::Unix(admin_socket.to_owned())) {
                layers.conflict(&format!(
                    "{}, from {}: {address} is where the data directory's own admin socket goes; take another path",
                    setting.name(),
                    layers.origin(*setting),
                ));
            }
        }
    }
}

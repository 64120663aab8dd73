//! Where the server listens.

use std::{
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
    str::FromStr,
};

use super::{
    Origin, ReadFile, Setting, SocketAccess, gate_socket,
    layers::{Layers, parse_bool},
    tls::TlsNames,
};
use crate::tls::TlsFiles;

/// The listeners.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenSettings {
    /// Check. Default `127.0.0.1:7700`; `PORTCULLIS_GATE`. Off loopback only if its callers are asked who they are, or with
    /// `gate_insecure`.
    pub gate: Listen,
    /// Whether the gate may listen off loopback and ask nobody. Default false; `PORTCULLIS_GATE_INSECURE`.
    pub gate_insecure: bool,
    /// TLS of the gate. Default none; `PORTCULLIS_GATE_CERT`, `_KEY`, `_CLIENT_CA`.
    pub gate_tls: Option<TlsFiles>,
    /// Whether every caller of the gate is asked for a credential. Default false; `PORTCULLIS_GATE_REQUIRE_CREDENTIAL`.
    pub gate_require_credential: bool,
    /// Who may connect to a gate on a Unix socket. Default its owner; `PORTCULLIS_GATE_MODE`, `_GROUP`.
    pub gate_socket: SocketAccess,
    /// Management. Default `127.0.0.1:7701`; `PORTCULLIS_ADMIN`. Off loopback only with TLS, or with `admin_insecure`.
    pub admin: Listen,
    /// Whether the admin listener may be off loopback without TLS. Default false; `PORTCULLIS_ADMIN_INSECURE`.
    pub admin_insecure: bool,
    /// TLS of the admin listener. Default none; `PORTCULLIS_ADMIN_CERT`, `_KEY`, `_CLIENT_CA`.
    pub admin_tls: Option<TlsFiles>,
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

const GATE_TLS: TlsNames = TlsNames {
    listen: Setting::Gate,
    cert: Setting::GateCert,
    key: Setting::GateKey,
    client_ca: Setting::GateClientCa,
};
const ADMIN_TLS: TlsNames = TlsNames {
    listen: Setting::Admin,
    cert: Setting::AdminCert,
    key: Setting::AdminKey,
    client_ca: Setting::AdminClientCa,
};

pub(super) fn read(layers: &mut Layers<'_>, read_file: ReadFile<'_>) -> Option<ListenSettings> {
    let gate = layers.read(Setting::Gate, "127.0.0.1:7700", Listen::from_str);
    let gate_insecure = layers.read(Setting::GateInsecure, "false", parse_bool);
    let gate_tls = GATE_TLS.read(layers, gate.as_ref(), read_file);
    let gate_require_credential = layers.read(Setting::GateRequireCredential, "false", parse_bool);
    let gate_socket = gate_socket::read(layers, gate.as_ref(), read_file);
    let admin = layers.read(Setting::Admin, "127.0.0.1:7701", Listen::from_str);
    let admin_insecure = layers.read(Setting::AdminInsecure, "false", parse_bool);
    let admin_tls = ADMIN_TLS.read(layers, admin.as_ref(), read_file);
    let ops = layers.read(Setting::Ops, "127.0.0.1:7702", Listen::from_str);
    // Each address that was read is judged, whatever is wrong with the others. What is meant to protect a listener and has
    // a fault of its own is no second fault.
    let is_given = |setting| layers.source(setting) != Origin::Default;
    let asks = is_given(Setting::GateClientCa) || gate_require_credential != Some(false);
    let encrypts = is_given(Setting::AdminCert);
    if let (Some(gate), Some(false), false) = (&gate, gate_insecure, asks)
        && !gate.is_local()
    {
        layers.conflict(&format!(
            "gate, from {}: {gate} can be reached from beyond this machine, which is refused unless callers are asked who \
             they are. Ask for client certificates with gate-client-ca, or for credentials with gate-require-credential, or \
             listen on loopback or a Unix socket; or, if everyone who can connect may check keys, say --gate-insecure",
            layers.origin(Setting::Gate)
        ));
    }
    if let (Some(admin), Some(false), false) = (&admin, admin_insecure, encrypts)
        && !admin.is_local()
    {
        layers.conflict(&format!(
            "admin, from {}: {admin} can be reached from beyond this machine, which is refused without TLS, because \
             admin credentials would travel unencrypted. Name a certificate with admin-cert and admin-key, or listen on \
             loopback or a Unix socket; or, if the network is trusted, say --admin-insecure",
            layers.origin(Setting::Admin)
        ));
    }
    Some(ListenSettings {
        gate: gate?,
        gate_insecure: gate_insecure?,
        gate_tls: gate_tls.ok()?,
        gate_require_credential: gate_require_credential?,
        gate_socket: gate_socket?,
        admin: admin?,
        admin_insecure: admin_insecure?,
        admin_tls: admin_tls.ok()?,
        ops: ops?,
    })
}

impl ListenSettings {
    /// True if every caller of the gate is asked who it is.
    #[must_use]
    pub fn gate_asks_callers(&self) -> bool {
        let certificates = self
            .gate_tls
            .as_ref()
            .is_some_and(|files| files.client_ca.is_some());
        self.gate_require_credential || certificates
    }

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

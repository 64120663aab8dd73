//! Where a server is, and how it is reached.

use std::{fmt, net::IpAddr, path::PathBuf, time::Duration};

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};

use crate::{
    cli::failure::root_cause,
    tls::{ClientTls, explain},
};

/// Where a server is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Server {
    /// A Unix socket.
    Unix(PathBuf),
    /// `host:port`; the host may be a name.
    Tcp(String),
    /// The same, over TLS.
    Tls(String),
}

impl Server {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        const HOW: &str = "--server: write host:port, https://host:port or unix:/path";
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.is_empty() {
                Err(HOW.into())
            } else {
                Ok(Self::Unix(path.into()))
            };
        }
        let (address, with_tls) = match text.strip_prefix("https://") {
            Some(address) => (address, true),
            None => (text.strip_prefix("http://").unwrap_or(text), false),
        };
        let address = address.trim_end_matches('/');
        let (host, port) = address.rsplit_once(':').ok_or(HOW)?;
        let well_formed = !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port != 0);
        match address.parse::<http::uri::Authority>() {
            Ok(_) if well_formed && !address.contains('@') => Ok(if with_tls {
                Self::Tls(address.to_owned())
            } else {
                Self::Tcp(address.to_owned())
            }),
            _ => Err(HOW.into()),
        }
    }

    pub(super) const fn has_tls(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    pub(super) const fn is_socket(&self) -> bool {
        matches!(self, Self::Unix(_))
    }

    /// True if it can only be on this machine.
    pub(super) fn is_local(&self) -> bool {
        match self {
            Self::Unix(_) => true,
            Self::Tcp(address) | Self::Tls(address) => {
                let (host, _) = host_and_port(address);
                host == "localhost"
                    || host
                        .parse::<IpAddr>()
                        .is_ok_and(|ip| ip.to_canonical().is_loopback())
            }
        }
    }

    /// Connects, with `tls` where there is TLS, or says why not.
    pub(super) async fn connect(
        &self,
        timeout: Duration,
        tls: Option<ClientTls>,
    ) -> Result<Channel, String> {
        let connecting = async {
            match (self, tls) {
                (Self::Unix(path), _) => {
                    let path = path.clone();
                    let connector = tower::service_fn(move |_| {
                        let path = path.clone();
                        async move { UnixStream::connect(path).await.map(TokioIo::new) }
                    });
                    Endpoint::from_static("http://localhost")
                        .connect_with_connector(connector)
                        .await
                }
                (Self::Tls(address), Some(tls)) => {
                    let (host, port) = host_and_port(address);
                    let host = host.to_owned();
                    let connector = tower::service_fn(move |_| {
                        let (tls, host) = (tls.clone(), host.clone());
                        async move { tls.connect(&host, port).await.map(TokioIo::new) }
                    });
                    Endpoint::from_shared(format!("https://{address}"))?
                        .connect_with_connector(connector)
                        .await
                }
                (Self::Tcp(address) | Self::Tls(address), _) => {
                    // Without the means for TLS there is no connection to a server with TLS, rather than a plain one.
                    let scheme = if self.has_tls() { "https" } else { "http" };
                    Endpoint::from_shared(format!("{scheme}://{address}"))?
                        .connect()
                        .await
                }
            }
        };
        match tokio::time::timeout(timeout, connecting).await {
            Ok(connected) => {
                connected.map_err(|error| explain(&error).unwrap_or_else(|| root_cause(&error)))
            }
            Err(_) => Err("no answer in time".into()),
        }
    }
}

/// The host without the brackets of an address, and the port.
fn host_and_port(address: &str) -> (&str, u16) {
    let (host, port) = address.rsplit_once(':').unwrap_or((address, ""));
    let host = host.trim_start_matches('[').trim_end_matches(']');
    // It was a port when the address was read.
    (host, port.parse().unwrap_or_default())
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(address) => f.write_str(address),
            Self::Tls(address) => write!(f, "https://{address}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_named_as_host_and_port_or_as_a_socket() {
        for (text, server) in [
            ("127.0.0.1:7701", Server::Tcp("127.0.0.1:7701".into())),
            (
                "http://gate.example:7701/",
                Server::Tcp("gate.example:7701".into()),
            ),
            ("[::1]:7701", Server::Tcp("[::1]:7701".into())),
            (
                "https://gate.example:7701/",
                Server::Tls("gate.example:7701".into()),
            ),
            ("https://[::1]:7701", Server::Tls("[::1]:7701".into())),
            ("unix:/run/a b.sock", Server::Unix("/run/a b.sock".into())),
        ] {
            assert_eq!(Server::parse(text), Ok(server), "{text}");
        }
        for text in [
            "",
            "localhost",
            ":7701",
            "host:0",
            "host:65536",
            "unix:",
            "https://host",
            "https://a@b:1",
            "a@b:1",
            "a b:1",
        ] {
            assert!(Server::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn only_loopback_and_sockets_are_local() {
        let local = |text| Server::parse(text).unwrap().is_local();
        for text in [
            "127.0.0.1:1",
            "127.9.9.9:1",
            "[::1]:1",
            "localhost:1",
            "https://[::1]:1",
            "https://localhost:1",
            "unix:/a",
        ] {
            assert!(local(text), "{text}");
        }
        for text in [
            "0.0.0.0:1",
            "https://192.0.2.1:1",
            "192.0.2.1:1",
            "localhost.example:1",
            "127.0.0.1.example:1",
        ] {
            assert!(!local(text), "{text}");
        }
    }
}

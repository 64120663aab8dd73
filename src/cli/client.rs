//! Finds a server and a credential, and connects.

use std::{
    fmt, fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Channel, Endpoint},
};
use zeroize::Zeroizing;

use super::{
    console::{Console, clean},
    failure::{Failure, root_cause},
    key_ref::without_scheme,
    output::Format,
};
use crate::{
    admin::bootstrap::ROOT_TOKEN_FILE,
    config::{ADMIN_SOCKET, DEFAULT_DATA_DIR},
    proto::v1::{
        audit_service_client::AuditServiceClient, check_service_client::CheckServiceClient,
        fleet_service_client::FleetServiceClient, key_service_client::KeyServiceClient,
        workspace_service_client::WorkspaceServiceClient,
    },
};

/// A page of 1,000 keys, each as large as a key may be, is about 120 MB.
const MAX_ANSWER: usize = 256 << 20;

/// How many seconds an answer may take: longer than a change waits for a replica of a fleet that is gone, by the lease's default.
const ANSWER_WITHIN: u64 = 30;
/// The same where the server goes through all events for it.
const LONG_ANSWER_WITHIN: u64 = 600;

/// How a client command finds its server. The credential has no flag, because the process list is public: it is the
/// variable `PORTCULLIS_TOKEN`, else `--token-file`, else `root.token` in the data directory.
#[expect(
    clippy::doc_markdown,
    reason = "clap prints the docs of the fields as they stand"
)]
#[derive(Debug, Args)]
#[command(next_help_heading = "Connection")]
pub(super) struct ClientFlags {
    // The variables are looked up by `Console::variable`, not by clap, which takes an empty one for a value.
    /// The server: host:port or unix:/path [default: admin.sock in the data directory] [env: PORTCULLIS_SERVER]
    #[arg(long, global = true, value_name = "ADDR")]
    server: Option<String>,
    /// The data directory of a server on this machine [default: ./data] [env: PORTCULLIS_DATA_DIR]
    #[arg(long, global = true, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// A file that holds the admin token. The variable PORTCULLIS_TOKEN, which holds the token itself, beats it
    /// [env: PORTCULLIS_TOKEN_FILE]
    #[arg(long, global = true, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// How many seconds the server has for each answer [default: 30; audit export, verify and head: 600]
    #[arg(long, global = true, value_name = "SECONDS", value_parser = parse_timeout, allow_negative_numbers = true)]
    timeout: Option<u64>,
    /// How answers look; json is protobuf's JSON, in which fields at their default are left out
    #[arg(long, short, global = true, value_name = "FORMAT", value_enum, default_value_t = Format::Table)]
    pub(super) output: Format,
}

/// A connection to a server.
pub(super) struct Client {
    channel: Channel,
    attach: Attach,
}

/// What the generated clients call through.
pub(super) type Service = InterceptedService<Channel, Attach>;

/// Gives each call its deadline and the credential.
#[derive(Clone)]
pub(super) struct Attach {
    /// `None`: the caller watches the time itself.
    timeout: Option<Duration>,
    authorization: Option<MetadataValue<Ascii>>,
}

impl Interceptor for Attach {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(timeout) = self.timeout {
            request.set_timeout(timeout);
        }
        if let Some(value) = &self.authorization {
            request
                .metadata_mut()
                .insert("authorization", value.clone());
        }
        Ok(request)
    }
}

impl Client {
    /// Connects to the server that the flags name, or to one of this machine.
    pub(super) async fn connect(
        flags: &ClientFlags,
        console: &mut Console<'_>,
    ) -> Result<Self, Failure> {
        let timeout = flags.timeout(ANSWER_WITHIN);
        let server = flags.find_server(console)?;
        let authorization = flags.authorization(&server, console)?;
        let channel = server.connect(timeout).await.map_err(|cause| {
            Failure::Failed(format!(
                "no server at {server}: {}\nhint: start one with `{} serve`, or name another with --data-dir or --server",
                clean(&cause),
                console.command_name
            ))
        })?;
        Ok(Self {
            channel,
            attach: Attach {
                timeout: Some(timeout),
                authorization,
            },
        })
    }

    fn service(&self) -> Service {
        InterceptedService::new(self.channel.clone(), self.attach.clone())
    }

    pub(super) fn keys(&self) -> KeyServiceClient<Service> {
        KeyServiceClient::new(self.service()).max_decoding_message_size(MAX_ANSWER)
    }

    pub(super) fn workspaces(&self) -> WorkspaceServiceClient<Service> {
        WorkspaceServiceClient::new(self.service()).max_decoding_message_size(MAX_ANSWER)
    }

    pub(super) fn audits(&self) -> AuditServiceClient<Service> {
        AuditServiceClient::new(self.service()).max_decoding_message_size(MAX_ANSWER)
    }

    /// For calls that go through all events. `None`: the caller watches the time itself.
    pub(super) fn audits_within(&self, timeout: Option<Duration>) -> AuditServiceClient<Service> {
        AuditServiceClient::new(self.service_within(timeout)).max_decoding_message_size(MAX_ANSWER)
    }

    pub(super) fn fleets(&self) -> FleetServiceClient<Service> {
        FleetServiceClient::new(self.service())
    }

    /// For the call that waits for the whole fleet.
    pub(super) fn fleets_within(&self, timeout: Duration) -> FleetServiceClient<Service> {
        FleetServiceClient::new(self.service_within(Some(timeout)))
    }

    fn service_within(&self, timeout: Option<Duration>) -> Service {
        let attach = Attach {
            timeout,
            ..self.attach.clone()
        };
        InterceptedService::new(self.channel.clone(), attach)
    }

    pub(super) fn checks(&self) -> CheckServiceClient<Service> {
        CheckServiceClient::new(self.service())
    }
}

impl ClientFlags {
    fn timeout(&self, otherwise: u64) -> Duration {
        Duration::from_secs(self.timeout.unwrap_or(otherwise))
    }

    /// How long an answer may take for which the server goes through all events.
    pub(super) fn long_timeout(&self) -> Duration {
        self.timeout(LONG_ANSWER_WITHIN)
    }

    /// How long an answer may take for which the server waits for its whole fleet.
    pub(super) fn fleet_timeout(&self) -> Duration {
        self.timeout(ANSWER_WITHIN)
    }

    /// The data directory whose admin socket these flags lead to. It is refused to go any other way than over that
    /// socket, and with a credential: then the caller would not be whom the file system lets in.
    pub(super) fn admin_socket_directory(&self, console: &Console<'_>) -> Result<PathBuf, Failure> {
        const HOW: &str = "this works only over the admin socket of a server on this machine";
        let Server::Unix(path) = self.find_server(console)? else {
            return Err(Failure::Usage(format!(
                "{HOW}; leave out --server (and PORTCULLIS_SERVER) and name the directory with --data-dir"
            )));
        };
        if path.file_name() != Some(ADMIN_SOCKET.as_ref()) {
            return Err(Failure::Usage(format!(
                "{HOW}, which is named {ADMIN_SOCKET}; {} is another",
                clean(&path.display().to_string())
            )));
        }
        if console.variable("PORTCULLIS_TOKEN").is_some() || self.token_file(console).is_some() {
            return Err(Failure::Usage(format!(
                "{HOW}, without a credential; unset PORTCULLIS_TOKEN and PORTCULLIS_TOKEN_FILE and leave out --token-file"
            )));
        }
        let parent = path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty());
        Ok(parent.unwrap_or(Path::new(".")).to_owned())
    }

    /// The server to connect to. Without a name it is the socket in the data directory and nothing else: whoever may listen
    /// on a port of this machine while the server is down would be handed the root token.
    fn find_server(&self, console: &Console<'_>) -> Result<Server, Failure> {
        let variable = || {
            let value = console.variable("PORTCULLIS_SERVER")?;
            Some(value.to_string_lossy().into_owned())
        };
        match self.server.clone().or_else(variable) {
            Some(text) => Server::parse(&text).map_err(Failure::Usage),
            None => Ok(Server::Unix(self.data_dir(console).join(ADMIN_SOCKET))),
        }
    }

    fn data_dir(&self, console: &Console<'_>) -> PathBuf {
        let variable = || console.variable("PORTCULLIS_DATA_DIR").map(PathBuf::from);
        let given = self.data_dir.clone().or_else(variable);
        given.unwrap_or_else(|| DEFAULT_DATA_DIR.into())
    }

    fn token_file(&self, console: &Console<'_>) -> Option<PathBuf> {
        let variable = || console.variable("PORTCULLIS_TOKEN_FILE").map(PathBuf::from);
        self.token_file.clone().or_else(variable)
    }

    /// The credential to send, if there is one.
    fn authorization(
        &self,
        server: &Server,
        console: &mut Console<'_>,
    ) -> Result<Option<MetadataValue<Ascii>>, Failure> {
        // An empty one is not taken for none: a script that failed to get its token would go on with the power of the admin
        // socket or of root.
        let (token, source) = if let Some(value) = (console.env)("PORTCULLIS_TOKEN") {
            (
                Zeroizing::new(value.into_string().unwrap_or_default()),
                "PORTCULLIS_TOKEN".to_owned(),
            )
        } else if let Some(path) = self.token_file(console) {
            let token = read_token(&path).map_err(|error| unreadable(&path, &error))?;
            (token, path.display().to_string())
        } else {
            // The root token is picked up unasked, so it goes only where it belongs. The admin socket needs none, and
            // must stay a way in when the file no longer holds the truth.
            let Server::Tcp(_) = server else {
                return Ok(None);
            };
            if !server.is_local() {
                return Ok(None);
            }
            let path = self.data_dir(console).join(ROOT_TOKEN_FILE);
            match read_token(&path) {
                Ok(token) => (token, path.display().to_string()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(unreadable(&path, &error)),
            }
        };
        let token = without_scheme(&token);
        let header = Zeroizing::new(format!("Bearer {token}"));
        let usable = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
        let value = header
            .parse::<MetadataValue<Ascii>>()
            .ok()
            .filter(|_| usable);
        let mut value = value.ok_or_else(|| Failure::Failed(format!("{source} holds no token")))?;
        // Keeps it out of logs, and of the compression tables of HTTP/2.
        value.set_sensitive(true);
        if !server.is_local() {
            console.notice(&format!(
                "note: {server} is reached without TLS; the credential travels unencrypted"
            ));
        }
        Ok(Some(value))
    }
}

/// Reads `--timeout`, with or without its unit.
fn parse_timeout(text: &str) -> Result<u64, String> {
    text.strip_suffix('s')
        .unwrap_or(text)
        .parse()
        .ok()
        .filter(|seconds| (1..=86_400).contains(seconds))
        .ok_or_else(|| "write whole seconds, 1 to 86400".into())
}

fn read_token(path: &Path) -> io::Result<Zeroizing<String>> {
    fs::read_to_string(path).map(Zeroizing::new)
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    Failure::Failed(format!(
        "the token file {} cannot be read: {error}",
        path.display()
    ))
}

/// Where a server is.
#[derive(Debug, PartialEq, Eq)]
enum Server {
    /// A Unix socket.
    Unix(PathBuf),
    /// `host:port`; the host may be a name.
    Tcp(String),
}

impl Server {
    fn parse(text: &str) -> Result<Self, String> {
        const HOW: &str = "--server: write host:port or unix:/path";
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.is_empty() {
                Err(HOW.into())
            } else {
                Ok(Self::Unix(path.into()))
            };
        }
        let address = text
            .strip_prefix("http://")
            .unwrap_or(text)
            .trim_end_matches('/');
        if address.starts_with("https://") {
            return Err(format!("{HOW}; this version speaks no TLS"));
        }
        let (host, port) = address.rsplit_once(':').ok_or(HOW)?;
        let well_formed = !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port != 0);
        match address.parse::<http::uri::Authority>() {
            Ok(_) if well_formed && !address.contains('@') => Ok(Self::Tcp(address.to_owned())),
            _ => Err(HOW.into()),
        }
    }

    /// True if it can only be on this machine.
    fn is_local(&self) -> bool {
        match self {
            Self::Unix(_) => true,
            Self::Tcp(address) => {
                let host = address
                    .rsplit_once(':')
                    .map_or(address.as_str(), |(host, _)| host);
                let literal = host.trim_start_matches('[').trim_end_matches(']');
                host == "localhost"
                    || literal
                        .parse::<IpAddr>()
                        .is_ok_and(|ip| ip.to_canonical().is_loopback())
            }
        }
    }

    /// Connects, or says why not.
    async fn connect(&self, timeout: Duration) -> Result<Channel, String> {
        let connecting = async {
            match self {
                Self::Unix(path) => {
                    let path = path.clone();
                    let connector = tower::service_fn(move |_| {
                        let path = path.clone();
                        async move { UnixStream::connect(path).await.map(TokioIo::new) }
                    });
                    Endpoint::from_static("http://localhost")
                        .connect_with_connector(connector)
                        .await
                }
                Self::Tcp(address) => {
                    Endpoint::from_shared(format!("http://{address}"))?
                        .connect()
                        .await
                }
            }
        };
        match tokio::time::timeout(timeout, connecting).await {
            Ok(connected) => connected.map_err(|error| root_cause(&error)),
            Err(_) => Err("no answer in time".into()),
        }
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(address) => f.write_str(address),
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
            "https://host:1",
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
            "unix:/a",
        ] {
            assert!(local(text), "{text}");
        }
        for text in [
            "0.0.0.0:1",
            "192.0.2.1:1",
            "localhost.example:1",
            "127.0.0.1.example:1",
        ] {
            assert!(!local(text), "{text}");
        }
    }
}

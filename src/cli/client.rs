//! Finds a server and a credential, and connects.

mod server;

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::Channel,
};
use zeroize::Zeroizing;

use self::server::Server;
use super::{
    console::{Console, clean},
    failure::Failure,
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
    tls::{ClientFiles, ClientTls},
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
    /// The server: host:port, https://host:port for TLS, or unix:/path [default: admin.sock in the data directory]
    /// [env: PORTCULLIS_SERVER]
    #[arg(long, global = true, value_name = "ADDR")]
    server: Option<String>,
    /// A PEM file with the authorities that an https:// server is believed by [default: the public ones]
    /// [env: PORTCULLIS_CA]
    #[arg(long, global = true, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// A PEM file with one's own certificate, for an https:// server that asks for one [env: PORTCULLIS_CERT]
    #[arg(long, global = true, value_name = "FILE")]
    cert: Option<PathBuf>,
    // Not `key` to clap: the commands on keys have an argument of that name.
    /// A PEM file with the key of that certificate [env: PORTCULLIS_KEY]
    #[arg(id = "client-key", long = "key", global = true, value_name = "FILE")]
    key: Option<PathBuf>,
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
        let tls = flags.tls(&server, console)?;
        let authorization = flags.authorization(&server, console)?;
        let channel = server.connect(timeout, tls).await.map_err(|cause| {
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

    /// What encrypts the connection, if the server is one with TLS.
    fn tls(&self, server: &Server, console: &Console<'_>) -> Result<Option<ClientTls>, Failure> {
        let of = |flag: &Option<PathBuf>, variable: &str| {
            let given = || console.variable(variable).map(PathBuf::from);
            flag.clone().or_else(given)
        };
        let (ca, cert, key) = (
            of(&self.ca, "PORTCULLIS_CA"),
            of(&self.cert, "PORTCULLIS_CERT"),
            of(&self.key, "PORTCULLIS_KEY"),
        );
        if !server.has_tls() {
            // Whoever set up certificates means to be safe. On a socket of this machine they are no matter, unless they are
            // named on the spot.
            let by_flag = self.ca.is_some() || self.cert.is_some() || self.key.is_some();
            let given = ca.is_some() || cert.is_some() || key.is_some();
            if by_flag || (given && !server.is_socket()) {
                return Err(Failure::Usage(
                    "certificates are for TLS, which this server is not called with; write --server https://host:port, or \
                     leave out --ca, --cert and --key (and PORTCULLIS_CA, PORTCULLIS_CERT and PORTCULLIS_KEY)"
                        .into(),
                ));
            }
            return Ok(None);
        }
        let identity = match (cert, key) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            (Some(_), None) | (None, Some(_)) => {
                return Err(Failure::Usage(
                    "--cert and --key (PORTCULLIS_CERT and PORTCULLIS_KEY) go together; give both, or neither".into(),
                ));
            }
        };
        let tls = ClientTls::open(&ClientFiles { ca, identity });
        tls.map(Some).map_err(Failure::Failed)
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
            if server.is_socket() || !server.is_local() {
                return Ok(None);
            }
            // Whoever shows a certificate means to be who it names, and no more than that.
            if self.cert.is_some() || console.variable("PORTCULLIS_CERT").is_some() {
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
        if !server.is_local() && !server.has_tls() {
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

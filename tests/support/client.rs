//! Clients of a server, and the messages that suites keep sending.

use portcullis::proto::v1::{
    CheckRequest, CheckResponse, CreateKeyRequest, IssuedKey, Key, UpdateKeyRequest,
    audit_service_client::AuditServiceClient, check_service_client::CheckServiceClient,
    fleet_service_client::FleetServiceClient, key_service_client::KeyServiceClient,
    workspace_service_client::WorkspaceServiceClient,
};
use prost_types::FieldMask;
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Channel, Endpoint},
};
use tonic_health::pb::health_client::HealthClient;

use super::server::{Address, Server};

/// Sends a credential with every call, or none.
#[derive(Clone, Debug)]
pub struct Token(Option<MetadataValue<Ascii>>);

impl Token {
    /// None.
    #[must_use]
    pub fn none() -> Self {
        Self(None)
    }

    /// `authorization: Bearer {token}`.
    #[must_use]
    pub fn bearer(token: &str) -> Self {
        Self(Some(
            format!("Bearer {token}")
                .parse()
                .expect("a token is printable"),
        ))
    }
}

impl Interceptor for Token {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.0 {
            request
                .metadata_mut()
                .insert("authorization", value.clone());
        }
        Ok(request)
    }
}

type Calls = InterceptedService<Channel, Token>;

/// A client of every service at one address with one credential.
#[derive(Clone, Debug)]
pub struct Clients {
    pub channel: Channel,
    pub keys: KeyServiceClient<Calls>,
    pub workspaces: WorkspaceServiceClient<Calls>,
    pub fleet: FleetServiceClient<Calls>,
    pub audit: AuditServiceClient<Calls>,
    pub check: CheckServiceClient<Calls>,
    pub health: HealthClient<Calls>,
}

impl Clients {
    /// Connects when first used.
    ///
    /// # Panics
    ///
    /// When it is not an address.
    #[must_use]
    pub fn of(address: &Address, token: &Token) -> Self {
        let channel = Endpoint::from_shared(address.endpoint())
            .expect("an address")
            .connect_lazy();
        Self::over(channel, token)
    }

    /// Calls through this channel.
    #[must_use]
    pub fn over(channel: Channel, token: &Token) -> Self {
        let calls = || InterceptedService::new(channel.clone(), token.clone());
        Self {
            keys: KeyServiceClient::new(calls()),
            workspaces: WorkspaceServiceClient::new(calls()),
            fleet: FleetServiceClient::new(calls()),
            audit: AuditServiceClient::new(calls()),
            check: CheckServiceClient::new(calls()),
            health: HealthClient::new(calls()),
            channel,
        }
    }

    /// The server's admin listener, as its root.
    #[must_use]
    pub fn root(server: &Server) -> Self {
        Self::of(server.admin(), &Token::bearer(&server.root_token()))
    }

    /// The server's gate.
    #[must_use]
    pub fn gate(server: &Server) -> Self {
        Self::of(server.gate(), &Token::none())
    }

    /// Creates a key in `default` that holds `permissions`.
    ///
    /// # Panics
    ///
    /// When it is refused.
    pub async fn create(&self, display_name: &str, permissions: &[&str]) -> IssuedKey {
        self.create_key(key_named(display_name, permissions)).await
    }

    /// Creates this key in `default`.
    ///
    /// # Panics
    ///
    /// When it is refused.
    pub async fn create_key(&self, key: Key) -> IssuedKey {
        let request = CreateKeyRequest {
            parent: "workspaces/default".into(),
            key: Some(key),
            ..CreateKeyRequest::default()
        };
        self.keys
            .clone()
            .create_key(request)
            .await
            .expect("a good key is created")
            .into_inner()
    }

    /// Where the gate's store stands.
    pub async fn revision(&self) -> String {
        self.ask(check("")).await.revision
    }

    /// Asks.
    ///
    /// # Panics
    ///
    /// When there is no decision.
    pub async fn ask(&self, request: CheckRequest) -> CheckResponse {
        let answer = self
            .check
            .clone()
            .check(request)
            .await
            .expect("a decision")
            .into_inner();
        let ok = answer.reason() == portcullis::proto::v1::check_response::Reason::Ok;
        assert_eq!(
            answer.allowed, ok,
            "`allowed` and the reason OK go together: {answer:?}"
        );
        answer
    }
}

/// The admin listener as root, and the gate.
#[must_use]
pub fn clients(server: &Server) -> (Clients, Clients) {
    (Clients::root(server), Clients::gate(server))
}

/// A key to create, without anything.
#[must_use]
pub fn key() -> Key {
    Key::default()
}

/// A key to create.
#[must_use]
pub fn key_named(display_name: &str, permissions: &[&str]) -> Key {
    Key {
        display_name: display_name.into(),
        permissions: permissions.iter().map(ToString::to_string).collect(),
        ..Key::default()
    }
}

/// Asks for a change of the fields named.
#[must_use]
pub fn update(key: Key, mask: &[&str]) -> UpdateKeyRequest {
    let paths = mask.iter().map(ToString::to_string).collect();
    UpdateKeyRequest {
        key: Some(key),
        update_mask: Some(FieldMask { paths }),
        ..UpdateKeyRequest::default()
    }
}

/// Asks with this credential alone.
#[must_use]
pub fn check(credential: &str) -> CheckRequest {
    CheckRequest {
        credential: credential.into(),
        ..CheckRequest::default()
    }
}

/// Asks for these permissions.
#[must_use]
pub fn check_request(credential: &str, permissions: &[&str]) -> CheckRequest {
    CheckRequest {
        permissions: permissions.iter().map(ToString::to_string).collect(),
        ..check(credential)
    }
}

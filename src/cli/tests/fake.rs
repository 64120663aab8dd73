//! A server that holds one key and one workspace, remembers what it was asked, and answers as it is told.

mod audits;
mod fleets;
mod workspaces;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex, MutexGuard},
};

use tokio::net::{TcpListener, UnixListener};
use tokio_stream::wrappers::{TcpListenerStream, UnixListenerStream};
use tonic::{Request, Response, Status, transport::Server};

use super::{KEY_ID, token};
use crate::{
    proto::v1::{
        ArchiveKeyRequest, BatchCheckRequest, BatchCheckResponse, CheckRequest, CheckResponse,
        CheckedKey, CreateKeyRequest, DeleteKeyRequest, DisableKeyRequest, EnableKeyRequest,
        EnableKeyResponse, EndOverlapRequest, Event, GetKeyRequest, IssuedKey, Key,
        ListKeysRequest, ListKeysResponse, Replica, ResetSecretRequest, UpdateKeyRequest,
        VerifyEventsResponse, Workspace,
        audit_service_server::AuditServiceServer,
        check_response::Reason,
        check_service_server::{CheckService, CheckServiceServer},
        fleet_service_server::FleetServiceServer,
        key::State,
        key_service_server::{KeyService, KeyServiceServer},
        workspace_service_server::WorkspaceServiceServer,
    },
    status::with_issued_key,
};

#[derive(Clone, Default)]
pub(super) struct Fake(Arc<Mutex<Inner>>);

#[derive(Default)]
pub(super) struct Inner {
    /// One line a call: its `authorization`, then the request.
    pub(super) calls: Vec<String>,
    pub(super) key: Key,
    /// How many keys there are to list.
    pub(super) listed: usize,
    /// The pages of lists of keys, in the place of `listed`.
    pub(super) key_pages: Vec<Vec<Key>>,
    /// Answers as to a call that was made before.
    pub(super) replayed: bool,
    pub(super) workspace: Workspace,
    /// The pages of lists of events.
    pub(super) event_pages: Vec<Vec<Event>>,
    /// The pieces of an export.
    pub(super) pieces: Vec<&'static [u8]>,
    /// Ends an export after its pieces.
    pub(super) export_fails: Option<Status>,
    pub(super) verified: VerifyEventsResponse,
    pub(super) replicas: Vec<Replica>,
    /// The deadlines that were sent, as `grpc-timeout` writes them.
    pub(super) timeouts: Vec<String>,
    /// The settings of the last Check; a request's Debug does not show them.
    pub(super) settings: BTreeMap<String, String>,
    /// Refuses every call.
    pub(super) refuse: Option<Status>,
    /// The error that a reset ends with, beside its secret.
    pub(super) unsettled: Option<Status>,
    /// The replicas that a created or enabled key has not reached.
    pub(super) laggards: Vec<String>,
    /// Why Check denies; it allows if absent.
    pub(super) deny: Option<Reason>,
}

impl Fake {
    pub(super) fn new() -> Self {
        let fake = Self::default();
        fake.lock().key = Key {
            name: format!("workspaces/default/keys/{KEY_ID}"),
            key_id: KEY_ID.into(),
            display_name: "first".into(),
            state: State::Active.into(),
            permissions: vec!["sms.send".into()],
            labels: [
                ("team".to_owned(), "a".to_owned()),
                ("tier".to_owned(), "b".to_owned()),
            ]
            .into(),
            owner: "local:0".into(),
            etag: "e1".into(),
            ..Key::default()
        };
        fake.lock().workspace = Workspace {
            name: "workspaces/acme".into(),
            display_name: "Acme".into(),
            token_prefix: "ac".into(),
            etag: "w1".into(),
            ..Workspace::default()
        };
        fake
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap()
    }

    /// Listens on the data directory's admin socket until the runtime ends.
    pub(super) fn on_admin_socket(&self, data_dir: &Path) {
        let listener = UnixListener::bind(data_dir.join("admin.sock")).unwrap();
        let router = self.router();
        tokio::spawn(async move {
            router
                .serve_with_incoming(UnixListenerStream::new(listener))
                .await
        });
    }

    /// Listens on a free port of loopback until the runtime ends.
    pub(super) async fn on_tcp(&self) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = self.router();
        tokio::spawn(async move {
            router
                .serve_with_incoming(TcpListenerStream::new(listener))
                .await
        });
        address
    }

    fn router(&self) -> tonic::transport::server::Router {
        Server::builder()
            .add_service(KeyServiceServer::new(self.clone()))
            .add_service(CheckServiceServer::new(self.clone()))
            .add_service(WorkspaceServiceServer::new(self.clone()))
            .add_service(AuditServiceServer::new(self.clone()))
            .add_service(FleetServiceServer::new(self.clone()))
    }

    fn note<T: std::fmt::Debug>(&self, request: &Request<T>) -> Result<Key, Status> {
        let mut inner = self.lock();
        let authorization = request
            .metadata()
            .get("authorization")
            .map_or("-", |value| value.to_str().unwrap());
        let line = format!("{authorization} {:?}", request.get_ref());
        inner.calls.push(line);
        inner
            .refuse
            .clone()
            .map_or_else(|| Ok(inner.key.clone()), Err)
    }
}

/// The page after the token, and the next token; tokens are numbers of pages.
fn page_of<T: Clone>(pages: &[Vec<T>], token: &str) -> (Vec<T>, String) {
    let page: usize = token.parse().unwrap_or(0);
    let next = if page + 1 < pages.len() {
        (page + 1).to_string()
    } else {
        String::new()
    };
    (pages.get(page).cloned().unwrap_or_default(), next)
}

impl Fake {
    fn issued(&self, key: Key) -> Response<IssuedKey> {
        if self.lock().replayed {
            return Response::new(IssuedKey {
                key: Some(key),
                replayed: true,
                ..IssuedKey::default()
            });
        }
        Response::new(IssuedKey {
            key: Some(key),
            token: token(),
            secret: "the-secret".into(),
            lagging_replicas: self.lock().laggards.clone(),
            replayed: false,
        })
    }
}

#[tonic::async_trait]
impl KeyService for Fake {
    async fn create_key(
        &self,
        request: Request<CreateKeyRequest>,
    ) -> Result<Response<IssuedKey>, Status> {
        let base = self.note(&request)?;
        let asked = request.into_inner().key.unwrap_or_default();
        let key = Key {
            name: base.name,
            key_id: base.key_id,
            state: base.state,
            ..asked
        };
        Ok(self.issued(key))
    }

    async fn get_key(&self, request: Request<GetKeyRequest>) -> Result<Response<Key>, Status> {
        self.note(&request).map(Response::new)
    }

    async fn list_keys(
        &self,
        request: Request<ListKeysRequest>,
    ) -> Result<Response<ListKeysResponse>, Status> {
        let key = self.note(&request)?;
        let listed = self.lock().listed;
        let request = request.into_inner();
        let pages = self.lock().key_pages.clone();
        if !pages.is_empty() {
            let (keys, next_page_token) = page_of(&pages, &request.page_token);
            return Ok(Response::new(ListKeysResponse {
                keys,
                next_page_token,
            }));
        }
        let start = request.page_token.parse().unwrap_or(0);
        let end = listed.min(start + usize::try_from(request.page_size).unwrap());
        let next_page_token = if end < listed {
            end.to_string()
        } else {
            String::new()
        };
        let keys = (start..end)
            .map(|n| Key {
                display_name: format!("key-{n}"),
                ..key.clone()
            })
            .collect();
        Ok(Response::new(ListKeysResponse {
            keys,
            next_page_token,
        }))
    }

    async fn update_key(
        &self,
        request: Request<UpdateKeyRequest>,
    ) -> Result<Response<Key>, Status> {
        self.note(&request).map(Response::new)
    }

    async fn enable_key(
        &self,
        request: Request<EnableKeyRequest>,
    ) -> Result<Response<EnableKeyResponse>, Status> {
        self.note(&request).map(|key| {
            Response::new(EnableKeyResponse {
                key: Some(key),
                lagging_replicas: self.lock().laggards.clone(),
            })
        })
    }

    async fn disable_key(
        &self,
        request: Request<DisableKeyRequest>,
    ) -> Result<Response<Key>, Status> {
        let key = self.note(&request)?;
        Ok(Response::new(Key {
            state: State::Disabled.into(),
            ..key
        }))
    }

    async fn reset_secret(
        &self,
        request: Request<ResetSecretRequest>,
    ) -> Result<Response<IssuedKey>, Status> {
        let issued = self.note(&request).map(|key| self.issued(key))?;
        match self.lock().unsettled.clone() {
            Some(status) => Err(with_issued_key(&status, issued.get_ref())),
            None => Ok(issued),
        }
    }

    async fn end_overlap(
        &self,
        request: Request<EndOverlapRequest>,
    ) -> Result<Response<Key>, Status> {
        self.note(&request).map(Response::new)
    }

    async fn archive_key(
        &self,
        request: Request<ArchiveKeyRequest>,
    ) -> Result<Response<Key>, Status> {
        let key = self.note(&request)?;
        Ok(Response::new(Key {
            state: State::Archived.into(),
            ..key
        }))
    }

    async fn delete_key(&self, request: Request<DeleteKeyRequest>) -> Result<Response<()>, Status> {
        self.note(&request).map(|_| Response::new(()))
    }
}

#[tonic::async_trait]
impl CheckService for Fake {
    async fn check(
        &self,
        request: Request<CheckRequest>,
    ) -> Result<Response<CheckResponse>, Status> {
        let key = self.note(&request)?;
        let deny = self.lock().deny;
        let settings = request.into_inner().settings;
        self.lock().settings.clone_from(&settings);
        let checked = CheckedKey {
            name: key.name,
            owner: key.owner,
            labels: key.labels,
            expire_time: None,
        };
        Ok(Response::new(CheckResponse {
            allowed: deny.is_none(),
            reason: deny.unwrap_or(Reason::Ok).into(),
            key: Some(checked),
            settings: if deny.is_none() {
                settings
            } else {
                BTreeMap::new()
            },
            revision: "1.2".into(),
        }))
    }

    async fn batch_check(
        &self,
        _: Request<BatchCheckRequest>,
    ) -> Result<Response<BatchCheckResponse>, Status> {
        Err(Status::unimplemented(""))
    }
}

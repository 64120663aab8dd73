//! Authorization services of a test's own: one that says what it is told to say, to learn how Envoy takes it, and one that
//! breaks what Portcullis promises, to see that the tests would see it.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use portcullis::proto::envoy::service::auth::v3::{
    CheckRequest, CheckResponse,
    authorization_client::AuthorizationClient,
    authorization_server::{Authorization, AuthorizationServer},
    check_response::HttpResponse,
};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{
    Request, Response, Status, async_trait,
    transport::{Channel, Endpoint, Server},
};

use crate::support::Address;

type Script = Box<dyn Fn(&CheckRequest) -> Result<CheckResponse, Status> + Send + Sync>;

/// It answers by a script, and keeps what it was asked.
pub struct Scripted {
    address: SocketAddr,
    shared: Arc<Shared>,
    _serving: JoinSet<()>,
}

struct Shared {
    script: Mutex<Script>,
    asked: Mutex<Vec<CheckRequest>>,
}

impl Scripted {
    /// One that gives no decision until it is told what to say.
    pub async fn start() -> Self {
        let shared = Arc::new(Shared {
            script: Mutex::new(Box::new(|_| Err(Status::unavailable("no script")))),
            asked: Mutex::default(),
        });
        let (address, serving) = serve(Service(Arc::clone(&shared))).await;
        Self {
            address,
            shared,
            _serving: serving,
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on it answers so.
    pub fn says(
        &self,
        script: impl Fn(&CheckRequest) -> Result<CheckResponse, Status> + Send + Sync + 'static,
    ) {
        *self.shared.script.lock().expect("no holder panics") = Box::new(script);
    }

    /// From now on it answers this.
    pub fn answers(&self, answer: CheckResponse) {
        self.says(move |_| Ok(answer.clone()));
    }

    /// What it was asked since this was last called.
    pub fn asked(&self) -> Vec<CheckRequest> {
        std::mem::take(&mut self.shared.asked.lock().expect("no holder panics"))
    }
}

struct Service(Arc<Shared>);

#[async_trait]
impl Authorization for Service {
    async fn check(
        &self,
        request: Request<CheckRequest>,
    ) -> Result<Response<CheckResponse>, Status> {
        let request = request.into_inner();
        let script = self.0.script.lock().expect("no holder panics");
        let answer = script(&request);
        drop(script);
        self.0.asked.lock().expect("no holder panics").push(request);
        answer.map(Response::new)
    }
}

/// A way to a gate that turns its denials into gRPC errors, as a service does that has not read the fine print.
pub struct Turncoat {
    address: SocketAddr,
    _serving: JoinSet<()>,
}

impl Turncoat {
    pub async fn before(gate: &Address) -> Self {
        let gate = Endpoint::from_shared(gate.endpoint()).expect("an address");
        let gate = AuthorizationClient::new(gate.connect_lazy());
        let (address, serving) = serve(Turning(gate)).await;
        Self {
            address,
            _serving: serving,
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

struct Turning(AuthorizationClient<Channel>);

#[async_trait]
impl Authorization for Turning {
    async fn check(
        &self,
        request: Request<CheckRequest>,
    ) -> Result<Response<CheckResponse>, Status> {
        let answer = self.0.clone().check(request.into_inner()).await?;
        match &answer.get_ref().http_response {
            Some(HttpResponse::DeniedResponse(_)) => Err(Status::permission_denied("denied")),
            _ => Ok(answer),
        }
    }
}

/// Serves it on a free port, for as long as the tasks are kept.
async fn serve(service: impl Authorization) -> (SocketAddr, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let service = AuthorizationServer::new(service).max_decoding_message_size(1 << 20);
    let mut serving = JoinSet::new();
    serving.spawn(async move {
        Server::builder()
            .add_service(service)
            .serve_with_incoming(TcpListenerStream::new(listener))
            .await
            .expect("it serves");
    });
    (address, serving)
}

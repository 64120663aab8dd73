//! The admin listeners: TCP for credentials, with TLS or without, and a Unix socket for the operator of the machine.

mod encrypted;

use std::{any::Any, io, sync::Arc, time::Duration};

use axum::{
    extract::{Request, State},
    middleware::{Next, from_fn_with_state},
    response::Response,
};
use futures_util::{Stream, StreamExt as _, stream};
use http_body_util::BodyExt as _;
use tokio::{
    net::{TcpListener, TcpStream, UnixListener},
    sync::{Semaphore, watch},
};
use tonic::{
    body::Body,
    service::Routes,
    transport::{Error, Server, server::Router},
};
use tower::util::{MapRequestLayer, MapResponseLayer};
use tower_http::catch_panic::{CatchPanicLayer, ResponseForPanic};

use super::{
    audit_service::AuditApi, fleet_service::FleetApi, guarded_check::GuardedCheckApi,
    key_service::KeyApi, mutation::Management, workspace_service::WorkspaceApi,
};
use crate::{
    fleet::Fleet,
    gate::{
        accept_failures::AcceptFailures,
        callers::CallerMap,
        calls::{Calls, Lane},
        checker::Checker,
        keyring::Keyring,
        wire::{Guarded, HeldBytes, Place, RequestBody, Wire},
    },
    proto::v1::{
        audit_service_server::AuditServiceServer, check_service_server::CheckServiceServer,
        fleet_service_server::FleetServiceServer, key_service_server::KeyServiceServer,
        workspace_service_server::WorkspaceServiceServer,
    },
    status::{complete_error, internal_error, limit_reached},
    tls::Tls,
};

/// An idle connection is asked for a sign of life.
const KEEPALIVE_INTERVAL: Duration = Duration::from_mins(1);

/// Connections that an admin listener has at most, files permitting, and what it may have of the limit on them, in 64ths.
pub const MOST_CONNECTIONS: u64 = 1_024;
/// See [`MOST_CONNECTIONS`].
pub const SHARE_OF_FILES: u64 = 4;
/// Streams that one connection may have open.
const MAX_STREAMS: u32 = 256;
/// Header lists above this are refused.
const MAX_HEADERS: u32 = 16 << 10;
/// Calls that are reset before we have seen that they were begun, as on the gate.
const PENDING_RESETS: usize = 256;
/// Watches of health, and reflection, all callers together: they take no credential.
const MOST_WATCHES: usize = 1_024;
/// Bytes of requests that are not there whole, all callers together: sixteen of the largest.
const MOST_HELD: u64 = 64 << 20;

/// What the admin listeners serve.
#[derive(Clone)]
pub struct AdminServices {
    /// Keys, workspaces and their audit.
    pub management: Arc<Management>,
    /// Replicas.
    pub fleet: Arc<Fleet>,
    /// Records.
    pub keyring: Keyring,
    /// Judges callers, and answers Check.
    pub checker: Checker,
    /// Health and reflection.
    pub others: Routes,
    /// Where its calls are counted.
    pub calls: Calls,
    /// Its connections by TCP.
    pub wire: Wire,
}

impl AdminServices {
    /// Serves TCP until `shutdown` turns true and every call that was begun is answered.
    ///
    /// # Errors
    /// If the listener fails.
    pub async fn run_tcp(
        self,
        listener: TcpListener,
        shutdown: watch::Receiver<bool>,
    ) -> Result<(), Error> {
        let guarded = guarded(accepted_tcp(listener, self.wire.clone()), self.wire.clone());
        self.router()
            .serve_with_incoming_shutdown(guarded, stop(shutdown))
            .await
    }

    /// As [`run_tcp`](Self::run_tcp), over TLS. Certificates stand for what `callers` says.
    ///
    /// # Errors
    /// If the listener fails.
    pub async fn run_tls(
        self,
        listener: TcpListener,
        tls: Arc<Tls>,
        callers: CallerMap,
        shutdown: watch::Receiver<bool>,
    ) -> Result<(), Error> {
        encrypted::run(self, listener, tls, callers, shutdown).await
    }

    /// Serves the admin socket likewise.
    ///
    /// # Errors
    /// If the listener fails.
    pub async fn run_unix(
        self,
        listener: UnixListener,
        shutdown: watch::Receiver<bool>,
    ) -> Result<(), Error> {
        // Whoever fills the other listener does not keep the operator of the machine out.
        let wire = self.wire.with_places(MOST_CONNECTIONS, SHARE_OF_FILES);
        let accepted = accepted(listener, wire.clone(), async |listener| {
            listener.accept().await.map(|(stream, _)| stream)
        });
        self.router()
            .serve_with_incoming_shutdown(guarded(accepted, wire), stop(shutdown))
            .await
    }

    fn router(self) -> Router {
        let Self {
            management,
            fleet,
            keyring,
            checker,
            others,
            calls,
            wire: _,
        } = self;
        let audit = AuditApi::new(management.clone(), checker.clone());
        let keys = KeyApi::new(management.clone(), checker.clone());
        let workspaces = WorkspaceApi::new(management, checker.clone());
        let fleet = FleetApi::new(fleet, keyring, checker.clone());
        let calls = calls.lane();
        let share = HeldBytes::default().share_of(MOST_HELD);
        let own = Routes::new(KeyServiceServer::new(keys))
            .add_service(WorkspaceServiceServer::new(workspaces))
            .add_service(FleetServiceServer::new(fleet))
            .add_service(AuditServiceServer::new(audit))
            .add_service(CheckServiceServer::new(GuardedCheckApi::new(checker)))
            .into_axum_router()
            .reset_fallback()
            .layer(CatchPanicLayer::custom(PanicToStatus))
            .layer(from_fn_with_state(calls, count_call))
            .layer(MapRequestLayer::new(move |request: Request| {
                request.map(|body| axum::body::Body::new(RequestBody::new(body, &share)))
            }));
        // Watches of health and reflection are not counted: they end with the process, not before it.
        let watches = Arc::new(Semaphore::new(MOST_WATCHES));
        let routes = others
            .into_axum_router()
            .layer(from_fn_with_state(watches, limit_watches))
            .merge(own)
            .layer(MapResponseLayer::new(|mut response| {
                complete_error(&mut response);
                response
            }));
        Server::builder()
            .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
            .max_concurrent_streams(MAX_STREAMS)
            .http2_max_header_list_size(MAX_HEADERS)
            .http2_max_pending_accept_reset_streams(Some(PENDING_RESETS))
            .add_routes(Routes::from(routes))
    }
}

/// Answers while there are not too many of such calls; each counts until the last of its answer is sent, or given up.
async fn limit_watches(
    State(watches): State<Arc<Semaphore>>,
    request: Request,
    next: Next,
) -> Response {
    let Ok(permit) = watches.try_acquire_owned() else {
        let refusal = limit_reached("too many watches are open already").into_http::<Body>();
        return refusal.map(axum::body::Body::new);
    };
    let response = next.run(request).await;
    response.map(|body| {
        axum::body::Body::new(body.map_frame(move |frame| {
            let _held = &permit;
            frame
        }))
    })
}

/// Counts a call as open until its answer is sent.
async fn count_call(State(calls): State<Lane>, request: Request, next: Next) -> Response {
    let open = calls.open();
    let response = next.run(request).await;
    response.map(|body| axum::body::Body::new(open.until_sent(body)))
}

fn accepted_tcp(
    listener: TcpListener,
    wire: Wire,
) -> impl Stream<Item = io::Result<(TcpStream, Place)>> {
    accepted(listener, wire, async |listener| {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    })
}

/// The connections of a listener, each with its place. One that cannot be accepted ends nothing.
fn accepted<L, S>(
    listener: L,
    wire: Wire,
    accept: impl AsyncFn(&L) -> io::Result<S>,
) -> impl Stream<Item = io::Result<(S, Place)>> {
    let start = (listener, wire, accept, AcceptFailures::new("admin"));
    stream::unfold(start, |(listener, wire, accept, mut failures)| async move {
        loop {
            match accept(&listener).await {
                Ok(stream) => match wire.enter() {
                    Some(place) => {
                        return Some((Ok((stream, place)), (listener, wire, accept, failures)));
                    }
                    None => failures.refused(),
                },
                Err(error) => failures.wait(&error).await,
            }
        }
    })
}

/// The connections, their peers watched.
fn guarded<S>(
    accepted: impl Stream<Item = io::Result<(S, Place)>>,
    wire: Wire,
) -> impl Stream<Item = io::Result<Guarded<S>>> {
    accepted.map(move |accepted| {
        accepted.map(|(stream, place)| Guarded::new(stream, wire.clone(), place))
    })
}

async fn stop(mut shutdown: watch::Receiver<bool>) {
    // A sender that is gone means the same.
    let _ = shutdown.wait_for(|&stop| stop).await;
}

/// A panic ends its call with INTERNAL, and nothing else.
#[derive(Clone)]
struct PanicToStatus;

impl ResponseForPanic for PanicToStatus {
    type ResponseBody = Body;

    fn response_for_panic(&mut self, _panic: Box<dyn Any + Send>) -> http::Response<Body> {
        internal_error().into_http()
    }
}

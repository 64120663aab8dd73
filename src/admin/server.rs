//! The admin listeners: TCP for credentials, a Unix socket for the operator of the machine.

use std::{any::Any, sync::Arc, time::Duration};

use http::Response;
use tokio::{
    net::{TcpListener, UnixListener},
    sync::watch,
};
use tokio_stream::wrappers::{TcpListenerStream, UnixListenerStream};
use tonic::{
    body::Body,
    service::Routes,
    transport::{Error, Server, server::Router},
};
use tower::util::{MapFutureLayer, MapResponseLayer};
use tower_http::catch_panic::{CatchPanicLayer, ResponseForPanic};

use super::{
    fleet_service::FleetApi, guarded_check::GuardedCheckApi, key_service::KeyApi,
    mutation::Management, workspace_service::WorkspaceApi,
};
use crate::{
    fleet::Fleet,
    gate::{calls::Calls, checker::Checker, keyring::Keyring},
    proto::v1::{
        check_service_server::CheckServiceServer, fleet_service_server::FleetServiceServer,
        key_service_server::KeyServiceServer, workspace_service_server::WorkspaceServiceServer,
    },
    status::{complete_error, internal_error},
};

/// An idle connection is asked for a sign of life.
const KEEPALIVE_INTERVAL: Duration = Duration::from_mins(1);

/// What the admin listeners serve.
#[derive(Clone)]
pub struct AdminServices {
    /// Keys and workspaces.
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
        self.router()
            .serve_with_incoming_shutdown(TcpListenerStream::new(listener), stop(shutdown))
            .await
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
        self.router()
            .serve_with_incoming_shutdown(UnixListenerStream::new(listener), stop(shutdown))
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
        } = self;
        let keys = KeyApi::new(management.clone(), checker.clone());
        let workspaces = WorkspaceApi::new(management, checker.clone());
        let fleet = FleetApi::new(fleet, keyring, checker.clone());
        let lane = calls.lane();
        let routes = others
            .add_service(KeyServiceServer::new(keys))
            .add_service(WorkspaceServiceServer::new(workspaces))
            .add_service(FleetServiceServer::new(fleet))
            .add_service(CheckServiceServer::new(GuardedCheckApi::new(checker)))
            .into_axum_router()
            .layer(CatchPanicLayer::custom(PanicToStatus))
            .layer(MapResponseLayer::new(|mut response| {
                complete_error(&mut response);
                response
            }))
            .layer(MapFutureLayer::new(move |call| lane.count(Box::pin(call))));
        Server::builder()
            .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
            .tcp_nodelay(true)
            .add_routes(Routes::from(routes))
    }
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

    fn response_for_panic(&mut self, _panic: Box<dyn Any + Send>) -> Response<Body> {
        internal_error().into_http()
    }
}

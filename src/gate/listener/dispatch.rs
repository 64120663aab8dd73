//! Hands each call to the service it is for.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response};
use hyper::body::Incoming;
use tonic::{body::Body, codegen::Service as _, service::Routes};
use tower::ServiceExt as _;

use super::GateServices;
use crate::{
    gate::{
        callers::Peer,
        calls::{Lane, Open},
        check_service::CheckApi,
        envoy::{self, EnvoyApi},
    },
    proto::v1::check_service_server::{CheckServiceServer, SERVICE_NAME},
    status::complete_error,
};

/// A request larger than this is refused before it is decoded: a full batch of the longest useful checks.
const MAX_MESSAGE: usize = 2 << 20;

/// Check and Envoy's by their paths, without a router in between; the rest through the routes.
#[derive(Clone)]
pub(super) struct GateService {
    check: CheckServiceServer<CheckApi>,
    envoy: Arc<EnvoyApi>,
    others: Routes,
    calls: Lane,
    /// Whether anybody wants to know of the other end of the connection.
    is_guarded: bool,
    peer: Arc<Peer>,
}

impl GateService {
    pub(super) fn new(services: GateServices) -> Self {
        let GateServices {
            check,
            envoy,
            others,
            calls,
            entry,
        } = services;
        let check = check.guarded_by(entry.guard.clone());
        let envoy = envoy.guarded_by(entry.guard.clone());
        Self {
            check: CheckServiceServer::new(check).max_decoding_message_size(MAX_MESSAGE),
            envoy: Arc::new(envoy),
            others,
            calls,
            is_guarded: entry.guard.is_some(),
            peer: Arc::default(),
        }
    }

    /// The service of one connection.
    pub(super) fn for_peer(mut self, peer: Peer) -> Self {
        if self.is_guarded {
            self.peer = Arc::new(peer);
        }
        self
    }
}

impl hyper::service::Service<Request<Incoming>> for GateService {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = GateCall;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        let open = self.calls.open();
        if self.is_guarded {
            request.extensions_mut().insert(self.peer.clone());
        }
        let path = request.uri().path();
        if path == envoy::service::PATH {
            let answer = envoy::service::serve(self.envoy.clone(), request);
            let answer = async { Ok(answer.await.map(Body::new)) };
            return GateCall::new(Box::pin(answer), open, Until::Ready);
        }
        let method = path
            .strip_prefix('/')
            .and_then(|path| path.strip_prefix(SERVICE_NAME));
        match method {
            // One answer in one small piece, which is on its way once it is ready.
            Some("/Check") => GateCall::new(self.check.clone().call(request), open, Until::Ready),
            Some(method) if method.starts_with('/') => {
                GateCall::new(self.check.clone().call(request), open, Until::Sent)
            }
            // Watches of health and reflection end with the process, not before it.
            _ => {
                let call = self.others.clone().oneshot(request.map(Body::new));
                GateCall::new(Box::pin(call), open, Until::Ready)
            }
        }
    }
}

type Answer = Result<Response<Body>, Infallible>;

/// A call, counted as open, whose answer, if it is an error, says why as all errors do.
pub(super) struct GateCall {
    call: Pin<Box<dyn Future<Output = Answer> + Send>>,
    open: Option<Open>,
    until: Until,
}

/// How long a call counts as open.
#[derive(Clone, Copy)]
enum Until {
    /// Until its answer is ready.
    Ready,
    /// Until its answer is sent.
    Sent,
}

impl GateCall {
    fn new(call: Pin<Box<dyn Future<Output = Answer> + Send>>, open: Open, until: Until) -> Self {
        let open = Some(open);
        Self { call, open, until }
    }
}

impl Future for GateCall {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Answer> {
        let Poll::Ready(Ok(mut response)) = self.call.as_mut().poll(context) else {
            return Poll::Pending;
        };
        complete_error(&mut response);
        let response = match (self.open.take(), self.until) {
            (Some(open), Until::Sent) => response.map(|body| Body::new(open.until_sent(body))),
            (_, Until::Ready) | (None, Until::Sent) => response,
        };
        Poll::Ready(Ok(response))
    }
}

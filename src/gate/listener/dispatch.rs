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

use super::{
    GateServices,
    accounts::{Account, Unfinished},
    answer::{AnswerBody, hold_large},
};
use crate::{
    gate::{
        callers::Peer,
        calls::{Lane, Open},
        check_service::CheckApi,
        envoy::{self, EnvoyApi},
        wire::RequestBody,
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

/// What serves one connection.
#[derive(Clone)]
pub(super) struct ConnectionService {
    gate: GateService,
    account: Arc<Account>,
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

    pub(super) fn of(&self, account: Arc<Account>) -> ConnectionService {
        let gate = self.clone();
        ConnectionService { gate, account }
    }
}

impl hyper::service::Service<Request<Incoming>> for ConnectionService {
    type Response = Response<AnswerBody>;
    type Error = Infallible;
    type Future = GateCall;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        let Self { gate, account } = self;
        let begun = Begun {
            open: gate.calls.open(),
            unfinished: account.begin(),
        };
        if gate.is_guarded {
            request.extensions_mut().insert(gate.peer.clone());
        }
        let path = request.uri().path();
        if path == envoy::service::PATH {
            let request = request.map(|body| RequestBody::new(body, account.share()));
            let answer = envoy::service::serve(gate.envoy.clone(), request);
            let answer = async { Ok(answer.await.map(Body::new)) };
            return GateCall::new(Box::pin(answer), begun, Until::Ready);
        }
        let method = path
            .strip_prefix('/')
            .and_then(|path| path.strip_prefix(SERVICE_NAME));
        match method {
            // One answer in one small piece, which is on its way once it is ready.
            Some("/Check") => {
                let request = request.map(|body| RequestBody::new(body, account.share()));
                GateCall::new(gate.check.clone().call(request), begun, Until::Ready)
            }
            Some(method) if method.starts_with('/') => {
                let request = request.map(|body| RequestBody::new(body, account.share()));
                GateCall::new(gate.check.clone().call(request), begun, Until::Sent)
            }
            // Watches of health and reflection end with the process, not before it.
            _ => {
                let begun = Begun {
                    unfinished: account.begin_lasting(),
                    ..begun
                };
                let request = request.map(|body| RequestBody::lasting(body, account.share()));
                let call = gate.others.clone().oneshot(request.map(Body::new));
                GateCall::new(Box::pin(call), begun, Until::Ready)
            }
        }
    }
}

/// A call that was begun: to be waited for by a drain, and not finished.
struct Begun {
    open: Open,
    unfinished: Unfinished,
}

/// A call, counted as open, whose answer, if it is an error, says why as all errors do.
pub(super) struct GateCall {
    call: Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>,
    begun: Option<Begun>,
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
    fn new(
        call: Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>,
        begun: Begun,
        until: Until,
    ) -> Self {
        let begun = Some(begun);
        Self { call, begun, until }
    }
}

impl Future for GateCall {
    type Output = Result<Response<AnswerBody>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Poll::Ready(Ok(mut response)) = self.call.as_mut().poll(context) else {
            return Poll::Pending;
        };
        complete_error(&mut response);
        let Some(Begun { open, unfinished }) = self.begun.take() else {
            // A future that is ready is not polled again.
            return Poll::Pending;
        };
        Poll::Ready(Ok(match self.until {
            Until::Ready => response.map(|body| AnswerBody::small(body, unfinished)),
            Until::Sent => {
                let response = response.map(|body| Body::new(open.until_sent(body)));
                hold_large(response, unfinished, context)
            }
        }))
    }
}

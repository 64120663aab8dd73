//! Hands each call to the service it is for.

use std::{
    convert::Infallible,
    future::{Future, ready},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{HeaderName, HeaderValue, Request, Response, StatusCode};
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
    status::{complete_error, limit_reached},
};

/// A request larger than this is refused before it is decoded: a full batch of the longest useful checks.
const MAX_MESSAGE: usize = 2 << 20;

/// The call that probes make.
const HEALTH_CHECK: &str = "/grpc.health.v1.Health/Check";
/// Header lists above this are refused.
const MAX_HEADERS: usize = 16 << 10;
/// What a header counts beside its name and its value (RFC 9113, section 6.5.2).
const HEADER_OVERHEAD: usize = 32;

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
        let is_too_long = is_too_long(&request);
        let path = request.uri().path();
        if path == envoy::service::PATH {
            if is_too_long {
                return GateCall::answered(gate.envoy.refuse().map(Body::new), begun);
            }
            let request = request.map(|body| RequestBody::new(body, account.share()));
            let answer = envoy::service::serve(gate.envoy.clone(), request);
            let answer = async { Ok(answer.await.map(Body::new)) };
            return GateCall::new(Box::pin(answer), begun, Until::Ready);
        }
        if is_too_long {
            let mut refusal = Response::new(Body::empty());
            *refusal.status_mut() = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
            return GateCall::answered(refusal, begun);
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
            // A probe is no watch.
            _ if path == HEALTH_CHECK => {
                let request = request.map(|body| RequestBody::new(body, account.share()));
                let call = gate.others.clone().oneshot(request.map(Body::new));
                GateCall::new(Box::pin(call), begun, Until::Ready)
            }
            // Watches of health and reflection end with the process, not before it.
            _ => {
                let Some(unfinished) = account.begin_lasting() else {
                    let refusal = limit_reached("too many watches are open already");
                    return GateCall::answered(refusal.into_http(), begun);
                };
                let begun = Begun {
                    unfinished,
                    ..begun
                };
                let request = request.map(|body| RequestBody::lasting(body, account.share()));
                let call = gate.others.clone().oneshot(request.map(Body::new));
                GateCall::new(Box::pin(call), begun, Until::Ready)
            }
        }
    }
}

/// True if the headers are more than anybody needs for a call. They are gone with the refusal.
fn is_too_long(request: &Request<Incoming>) -> bool {
    let size = |(name, value): (&HeaderName, &HeaderValue)| {
        name.as_str().len() + value.len() + HEADER_OVERHEAD
    };
    let path = request.uri().path_and_query();
    let path = path.map_or(0, |path| path.as_str().len());
    path + request.headers().iter().map(size).sum::<usize>() > MAX_HEADERS
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

    /// A call whose answer does not depend on its body.
    fn answered(response: Response<Body>, begun: Begun) -> Self {
        Self::new(Box::pin(ready(Ok(response))), begun, Until::Ready)
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

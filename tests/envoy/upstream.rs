//! The service behind Envoy: it records every request that reaches it, and answers it.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, Version};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::BoxBody};
use hyper::{
    body::{Frame, Incoming},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use tokio::{net::TcpListener, task::JoinSet};

/// What the service says to everybody.
pub const GREETING: &str = "this is the service";

/// A request that got there.
#[derive(Clone, Debug)]
pub struct Reached {
    pub version: Version,
    pub method: String,
    /// With the query.
    pub path: String,
    pub headers: HeaderMap,
}

impl Reached {
    /// The header, which must not be there twice.
    #[track_caller]
    pub fn header(&self, name: &str) -> Option<String> {
        let mut all = self.headers.get_all(name).iter();
        let first = all.next().map(|value| lossy(value.as_bytes()));
        assert!(all.next().is_none(), "{name} is there twice: {self:?}");
        first
    }

    /// True if these bytes stand anywhere in it.
    pub fn contains(&self, needle: &str) -> bool {
        let needle = needle.as_bytes();
        let within = |text: &[u8]| text.windows(needle.len()).any(|part| part == needle);
        within(self.path.as_bytes())
            || self
                .headers
                .iter()
                .any(|(name, value)| within(name.as_str().as_bytes()) || within(value.as_bytes()))
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The service, on a free port; it ends when dropped.
pub struct Upstream {
    address: SocketAddr,
    reached: Arc<Mutex<Vec<Reached>>>,
    _accepting: JoinSet<()>,
}

impl Upstream {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let reached = Arc::new(Mutex::new(Vec::new()));
        let theirs = Arc::clone(&reached);
        let mut accepting = JoinSet::new();
        accepting.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let reached = Arc::clone(&theirs);
                connections.spawn(async move {
                    let service = service_fn(move |request| {
                        let answer = answer(&request, &reached);
                        async move { Ok::<_, Infallible>(answer) }
                    });
                    let mut builder = auto::Builder::new(TokioExecutor::new());
                    // Ten thousand addresses are a long header, and this is not what is tested.
                    builder.http1().max_buf_size(1 << 20);
                    builder.http2().max_header_list_size(1 << 20);
                    let _ = builder
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Self {
            address,
            reached,
            _accepting: accepting,
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What got there since this was last asked.
    pub fn take(&self) -> Vec<Reached> {
        std::mem::take(&mut self.reached.lock().expect("no holder panics"))
    }

    /// The one request that got there since this was last asked.
    #[track_caller]
    pub fn only(&self) -> Reached {
        let mut reached = self.take();
        assert_eq!(
            reached.len(),
            1,
            "one request reached the service: {reached:?}"
        );
        reached.remove(0)
    }

    /// Asserts that nothing got there since this was last asked.
    #[track_caller]
    pub fn untouched(&self, what: &str) {
        let reached = self.take();
        assert!(
            reached.is_empty(),
            "{what} reached the service: {reached:?}"
        );
    }
}

fn answer(
    request: &Request<Incoming>,
    reached: &Mutex<Vec<Reached>>,
) -> Response<BoxBody<Bytes, Infallible>> {
    let (headers, uri) = (request.headers(), request.uri());
    reached.lock().expect("no holder panics").push(Reached {
        version: request.version(),
        method: request.method().to_string(),
        path: uri
            .path_and_query()
            .map_or_else(|| uri.to_string(), ToString::to_string),
        headers: headers.clone(),
    });
    let content_type = headers.get("content-type").map(HeaderValue::as_bytes);
    if content_type.is_some_and(|kind| kind.starts_with(b"application/grpc")) {
        return serving();
    }
    let body = match *request.method() {
        Method::HEAD => Bytes::new(),
        _ => Bytes::from_static(GREETING.as_bytes()),
    };
    Response::new(Full::new(body).boxed())
}

/// What gRPC's health service answers: SERVING.
fn serving() -> Response<BoxBody<Bytes, Infallible>> {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let frames = [
        Frame::data(Bytes::from_static(&[0, 0, 0, 0, 2, 8, 1])),
        Frame::trailers(trailers),
    ];
    let body = StreamBody::new(futures_util::stream::iter(frames.map(Ok::<_, Infallible>)));
    let mut response = Response::new(body.boxed());
    response
        .headers_mut()
        .insert("content-type", HeaderValue::from_static("application/grpc"));
    response
}

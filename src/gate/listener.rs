//! How the gate accepts and runs connections. Nothing else knows, so this file can be swapped for a faster one.
//!
//! One thread accepts and deals connections out in turn to as many single-threaded runtimes as there are cores. A
//! connection stays on its thread: no work moves between cores, and replies that are ready together leave in one write.

use std::{
    convert::Infallible,
    future::Future,
    io,
    os::fd::AsFd,
    pin::{Pin, pin},
    task::{Context, Poll},
    thread,
    time::Duration,
};

use http::{Request, Response};
use hyper::{
    body::Incoming,
    rt::{Read, Write},
    server::conn::http2,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustix::net::sockopt;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
    runtime,
    sync::{mpsc, watch},
    task::JoinSet,
};
use tonic::{body::Body, codegen::Service as _, service::Routes};
use tower::ServiceExt as _;

use super::{
    accept_failures::AcceptFailures,
    calls::{Lane, Open},
    check_service::CheckApi,
};
use crate::{
    proto::v1::check_service_server::{CheckServiceServer, SERVICE_NAME},
    status::complete_error,
};

/// What the gate listens on.
#[derive(Debug)]
pub enum GateListener {
    /// Loopback by default.
    Tcp(std::net::TcpListener),
    /// A Unix socket.
    Unix(std::os::unix::net::UnixListener),
}

/// A request larger than this is refused before it is decoded: a full batch of the longest useful checks.
const MAX_MESSAGE: usize = 2 << 20;
/// Streams that one connection may have open.
const MAX_STREAMS: u32 = 1_024;
/// Header lists above this are refused.
const MAX_HEADERS: u32 = 16 << 10;
/// The kernel asks an idle peer for a sign of life after this time, and closes a connection without one. HTTP/2's own PING
/// would note the time of every frame for it, on the path of every Check.
const KEEPALIVE_IDLE: Duration = Duration::from_mins(1);

/// Builds the parts that one gate thread serves.
pub struct GateServices {
    /// Check itself.
    pub check: CheckApi,
    /// All that is not Check: health and reflection.
    pub others: Routes,
    /// Where its calls are counted.
    pub calls: Lane,
}

enum Socket {
    Tcp(std::net::TcpStream),
    Unix(std::os::unix::net::UnixStream),
}

/// Serves until `shutdown` turns true and every call that was begun is answered.
///
/// `services` is called once for each of the `threads`.
///
/// # Errors
/// If a thread cannot be started or the listener fails.
pub async fn run(
    listener: GateListener,
    threads: usize,
    services: impl Fn() -> GateServices,
    shutdown: watch::Receiver<bool>,
) -> io::Result<()> {
    let mut workers = Vec::with_capacity(threads);
    let mut running = JoinSet::new();
    for index in 0..threads {
        let (sockets, queue) = mpsc::unbounded_channel();
        let (done, ended) = tokio::sync::oneshot::channel::<()>();
        let (services, shutdown) = (services(), shutdown.clone());
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        thread::Builder::new()
            .name(format!("gate-{index}"))
            .spawn(move || {
                runtime.block_on(run_worker(queue, services, shutdown));
                drop(done);
            })?;
        workers.push(sockets);
        running.spawn(ended);
    }

    tokio::select! {
        accepted = accept(listener, &workers, shutdown) => accepted?,
        // Its share of the connections would be dropped for good.
        Some(_) = running.join_next() => return Err(io::Error::other("a gate thread has ended")),
    }
    drop(workers);
    while running.join_next().await.is_some() {}
    Ok(())
}

/// Deals connections out in turn. `SO_REUSEPORT` would leave that to a hash, which can put all of a client's few
/// connections on one core.
async fn accept(
    listener: GateListener,
    workers: &[mpsc::UnboundedSender<Socket>],
    mut shutdown: watch::Receiver<bool>,
) -> io::Result<()> {
    let listener = AsyncListener::new(listener)?;
    let mut failures = AcceptFailures::new("gate");
    let mut turn = (0..workers.len()).cycle();
    let mut deal = |socket| {
        if let Some(worker) = turn.next() {
            // A worker that is gone drops the socket, which its peer sees as closed.
            let _ = workers[worker].send(socket);
        }
    };
    loop {
        tokio::select! {
            biased;
            () = stopped(&mut shutdown) => break,
            accepted = listener.accept() => match accepted {
                Ok(socket) => deal(socket),
                Err(error) => failures.wait(&error).await,
            },
        }
    }
    // Those who connected before the listener closes are served like the others, and told to go.
    listener.accept_queued(deal)
}

async fn run_worker(
    mut queue: mpsc::UnboundedReceiver<Socket>,
    services: GateServices,
    shutdown: watch::Receiver<bool>,
) {
    let GateServices {
        check,
        others,
        calls,
    } = services;
    let service = GateService {
        check: CheckServiceServer::new(check).max_decoding_message_size(MAX_MESSAGE),
        others,
        calls,
    };
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            socket = queue.recv() => match socket {
                Some(socket) => serve(socket, &service, &shutdown, &mut connections),
                None => break,
            },
            Some(_) = connections.join_next() => {}
        }
    }
    while connections.join_next().await.is_some() {}
}

fn serve(
    socket: Socket,
    service: &GateService,
    shutdown: &watch::Receiver<bool>,
    connections: &mut JoinSet<()>,
) {
    let (service, shutdown) = (service.clone(), shutdown.clone());
    let opened = match socket {
        Socket::Tcp(socket) => tokio::net::TcpStream::from_std(socket).map(|stream| {
            connections.spawn(serve_connection(TokioIo::new(stream), service, shutdown));
        }),
        Socket::Unix(socket) => tokio::net::UnixStream::from_std(socket).map(|stream| {
            connections.spawn(serve_connection(TokioIo::new(stream), service, shutdown));
        }),
    };
    if let Err(error) = opened {
        tracing::warn!(error = %error, "a connection to the gate could not be served");
    }
}

async fn serve_connection<I>(
    io: TokioIo<I>,
    service: GateService,
    mut shutdown: watch::Receiver<bool>,
) where
    I: AsyncRead + AsyncWrite + Unpin + 'static,
    TokioIo<I>: Read + Write,
{
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEADERS)
        .auto_date_header(false)
        .serve_connection(io, service);
    let mut connection = pin!(connection);
    // A peer that breaks off or breaks the protocol ends its own connection only.
    tokio::select! {
        _ = connection.as_mut() => return,
        () = stopped(&mut shutdown) => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

async fn stopped(shutdown: &mut watch::Receiver<bool>) {
    // A sender that is gone means the same.
    let _ = shutdown.wait_for(|&stop| stop).await;
}

/// Check by its path, without a router in between; the rest through the routes.
#[derive(Clone)]
struct GateService {
    check: CheckServiceServer<CheckApi>,
    others: Routes,
    calls: Lane,
}

impl hyper::service::Service<Request<Incoming>> for GateService {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = GateCall;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let open = self.calls.open();
        let method = request
            .uri()
            .path()
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
struct GateCall {
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

enum AsyncListener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl AsyncListener {
    fn new(listener: GateListener) -> io::Result<Self> {
        match listener {
            GateListener::Tcp(listener) => {
                listener.set_nonblocking(true)?;
                TcpListener::from_std(listener).map(Self::Tcp)
            }
            GateListener::Unix(listener) => {
                listener.set_nonblocking(true)?;
                UnixListener::from_std(listener).map(Self::Unix)
            }
        }
    }

    /// The next connection, free of this thread's runtime so that another can take it.
    async fn accept(&self) -> io::Result<Socket> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                prepare(&stream)?;
                stream.into_std().map(Socket::Tcp)
            }
            Self::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                stream.into_std().map(Socket::Unix)
            }
        }
    }

    /// Takes what has queued up already, then closes.
    fn accept_queued(self, mut deal: impl FnMut(Socket)) -> io::Result<()> {
        // Both listeners are non-blocking, so an empty queue answers with an error, and any error ends this.
        match self {
            Self::Tcp(listener) => {
                let listener = listener.into_std()?;
                while let Ok((stream, _)) = listener.accept() {
                    stream.set_nonblocking(true)?;
                    prepare(&stream)?;
                    deal(Socket::Tcp(stream));
                }
            }
            Self::Unix(listener) => {
                let listener = listener.into_std()?;
                while let Ok((stream, _)) = listener.accept() {
                    stream.set_nonblocking(true)?;
                    deal(Socket::Unix(stream));
                }
            }
        }
        Ok(())
    }
}

/// A reply leaves at once, and a peer that vanished is noticed.
fn prepare(stream: &impl AsFd) -> io::Result<()> {
    sockopt::set_tcp_nodelay(stream, true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, KEEPALIVE_IDLE)?;
    Ok(())
}

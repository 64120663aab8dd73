//! How the gate accepts and runs connections. Nothing else knows, so this module can be swapped for a faster one.
//!
//! One thread accepts and deals connections out in turn to as many single-threaded runtimes as there are cores. A
//! connection stays on its thread: no work moves between cores, and replies that are ready together leave in one write.

mod accounts;
mod answer;
mod connection;
mod dispatch;
mod socket;
mod tls;

use std::{io, sync::Arc, thread};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    runtime,
    sync::{mpsc, watch},
    task::JoinSet,
};
use tonic::service::Routes;

use self::{
    accounts::{Account, Accounts},
    connection::serve_connection,
    dispatch::GateService,
    socket::{AsyncListener, Socket},
};
use super::{
    accept_failures::AcceptFailures,
    callers::{CallerMap, Guard, Peer},
    calls::Lane,
    check_service::CheckApi,
    envoy::EnvoyApi,
    wire::{Guarded, HeldBytes, Place, Wire},
};
use crate::tls::Tls;

/// Connections that the gate has at most, files permitting. A proxy has one or two for each of its threads.
pub const MOST_CONNECTIONS: u64 = 8_192;
/// What it may have of the limit on open files, in 64ths: the other listeners and the store need theirs.
pub const SHARE_OF_FILES: u64 = 48;

/// What the gate listens on.
#[derive(Debug)]
pub enum GateListener {
    /// Loopback by default.
    Tcp(std::net::TcpListener),
    /// A Unix socket.
    Unix(std::os::unix::net::UnixListener),
}

/// Builds the parts that one gate thread serves.
pub struct GateServices {
    /// Check itself.
    pub check: CheckApi,
    /// Check, as Envoy asks it.
    pub envoy: EnvoyApi,
    /// All that is neither: health and reflection.
    pub others: Routes,
    /// Where its calls are counted.
    pub calls: Lane,
    /// How connections come in.
    pub entry: Entry,
}

/// How connections to the gate come in, and whose calls are answered.
#[derive(Clone, Default)]
pub struct Entry {
    /// What TCP connections are encrypted with; `None`: with nothing.
    pub tls: Option<Arc<Tls>>,
    /// Judges the caller of each call; `None`: everybody who can connect may ask.
    pub guard: Option<Guard>,
    /// What certificates stand for.
    pub callers: CallerMap,
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
    wire: Wire,
    shutdown: watch::Receiver<bool>,
) -> io::Result<()> {
    let held = HeldBytes::default();
    let mut workers = Vec::with_capacity(threads);
    let mut running = JoinSet::new();
    for index in 0..threads {
        let (sockets, queue) = mpsc::unbounded_channel();
        let (done, ended) = tokio::sync::oneshot::channel::<()>();
        let (services, shutdown) = (services(), shutdown.clone());
        let (wire, held) = (wire.clone(), held.clone());
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        thread::Builder::new()
            .name(format!("gate-{index}"))
            .spawn(move || {
                runtime.block_on(async {
                    let accounts = Accounts::new(wire, held);
                    run_worker(queue, services, accounts, shutdown).await;
                });
                drop(done);
            })?;
        workers.push(sockets);
        running.spawn(ended);
    }

    tokio::select! {
        accepted = accept(listener, &workers, &wire, shutdown) => accepted?,
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
    workers: &[mpsc::UnboundedSender<(Socket, Place)>],
    wire: &Wire,
    mut shutdown: watch::Receiver<bool>,
) -> io::Result<()> {
    let listener = AsyncListener::new(listener)?;
    let mut failures = AcceptFailures::new("gate");
    let mut turn = (0..workers.len()).cycle();
    let mut deal = |socket, place| {
        if let Some(worker) = turn.next() {
            // A worker that is gone drops the socket, which its peer sees as closed.
            let _ = workers[worker].send((socket, place));
        }
    };
    loop {
        tokio::select! {
            biased;
            () = stopped(&mut shutdown) => break,
            accepted = listener.accept() => match accepted {
                Ok(socket) => match wire.enter() {
                    Some(place) => deal(socket, place),
                    None => failures.refused(),
                },
                Err(error) => failures.wait(&error).await,
            },
        }
    }
    // Those who connected before the listener closes are served like the others, and told to go.
    listener.accept_queued(|socket| {
        if let Some(place) = wire.enter() {
            deal(socket, place);
        }
    })
}

async fn run_worker(
    mut queue: mpsc::UnboundedReceiver<(Socket, Place)>,
    services: GateServices,
    mut accounts: Accounts,
    shutdown: watch::Receiver<bool>,
) {
    let entry = services.entry.clone();
    let service = GateService::new(services);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            socket = queue.recv() => match socket {
                Some((socket, place)) => {
                    let arrived = Arrived {
                        service: service.clone(),
                        account: accounts.join(),
                        wire: accounts.wire(),
                        place,
                        shutdown: shutdown.clone(),
                    };
                    serve(socket, arrived, &entry, &mut connections);
                }
                None => break,
            },
            Some(_) = connections.join_next() => {}
            () = accounts.look() => {}
        }
    }
    while connections.join_next().await.is_some() {}
}

/// A new connection, and what it is served with.
struct Arrived {
    service: GateService,
    account: Arc<Account>,
    wire: Wire,
    place: Place,
    shutdown: watch::Receiver<bool>,
}

impl Arrived {
    /// Serves it, of whom as much is known as `peer` says.
    async fn serve(self, io: impl AsyncRead + AsyncWrite + Unpin + 'static, peer: Peer) {
        let Self {
            service,
            account,
            wire,
            place,
            shutdown,
        } = self;
        let io = Guarded::new(io, wire, place);
        let service = service.for_peer(peer).of(account.clone());
        serve_connection(io, service, account, shutdown).await;
    }
}

fn serve(socket: Socket, arrived: Arrived, entry: &Entry, connections: &mut JoinSet<()>) {
    let opened = match socket {
        Socket::Tcp(socket) => tokio::net::TcpStream::from_std(socket).map(|stream| {
            // A peer that is gone already has no address, and no call either.
            let source = stream.peer_addr().ok().map(|address| address.ip());
            if let Some(tls) = entry.tls.clone() {
                let entry = entry.clone();
                connections.spawn(async move {
                    tls::serve(stream, source, &tls, &entry, arrived).await;
                });
            } else {
                connections.spawn(arrived.serve(stream, Peer::at(source)));
            }
        }),
        Socket::Unix(socket) => tokio::net::UnixStream::from_std(socket).map(|stream| {
            connections.spawn(arrived.serve(stream, Peer::default()));
        }),
    };
    if let Err(error) = opened {
        tracing::warn!(error = %error, "a connection to the gate could not be served");
    }
}

async fn stopped(shutdown: &mut watch::Receiver<bool>) {
    // A sender that is gone means the same.
    let _ = shutdown.wait_for(|&stop| stop).await;
}

//! A way to a server that can be made slow, or lose a reply.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    task::JoinSet,
};

/// A proxy on a port of its own; it ends when dropped, with all its connections.
pub struct Proxy {
    address: SocketAddr,
    ways: Arc<Ways>,
    _connections: JoinSet<()>,
}

/// How it treats what goes through.
#[derive(Default)]
struct Ways {
    /// Every piece of a reply waits for so long first. They stay in order.
    delay: Mutex<Duration>,
    /// What comes back after a request with these bytes is thrown away, and its connection cut: once.
    lose_after: Mutex<Option<Vec<u8>>>,
    lost: AtomicU64,
}

impl Proxy {
    /// In front of the server at that port of this machine.
    pub async fn before(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let ways = Arc::new(Ways::default());
        let theirs = Arc::clone(&ways);
        let mut accepting = JoinSet::new();
        accepting.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((near, _)) = listener.accept().await {
                // A server that is not there is a connection that ends at once.
                let Ok(far) = TcpStream::connect(("127.0.0.1", port)).await else {
                    continue;
                };
                let _ = (near.set_nodelay(true), far.set_nodelay(true));
                let ((near_read, near_write), (far_read, far_write)) =
                    (near.into_split(), far.into_split());
                let ways = Arc::clone(&theirs);
                connections.spawn(async move {
                    let cut = AtomicBool::new(false);
                    tokio::select! {
                        () = ask(near_read, far_write, &ways, &cut) => {}
                        () = answer(far_read, near_write, &ways, &cut) => {}
                    }
                });
            }
        });
        Self {
            address,
            ways,
            _connections: accepting,
        }
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Replies take so much longer from now on.
    pub fn delay_replies(&self, delay: Duration) {
        *self.ways.delay.lock().expect("no holder panics") = delay;
    }

    /// The reply to the next request that has these bytes in it is lost, with its connection.
    pub fn lose_reply_to(&self, bytes: &str) {
        *self.ways.lose_after.lock().expect("no holder panics") = Some(bytes.into());
    }

    /// How many replies were lost so far.
    pub fn lost(&self) -> u64 {
        self.ways.lost.load(Ordering::SeqCst)
    }
}

impl Ways {
    /// True for the request whose reply is to be lost.
    fn is_to_be_lost(&self, request: &[u8]) -> bool {
        let mut lose_after = self.lose_after.lock().expect("no holder panics");
        let found = lose_after
            .as_ref()
            .is_some_and(|bytes| request.windows(bytes.len()).any(|window| window == bytes));
        if found {
            *lose_after = None;
        }
        found
    }
}

async fn ask(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, ways: &Ways, cut: &AtomicBool) {
    let mut piece = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = from.read(&mut piece).await {
        if ways.is_to_be_lost(&piece[..read]) {
            cut.store(true, Ordering::SeqCst);
        }
        if to.write_all(&piece[..read]).await.is_err() {
            return;
        }
    }
}

async fn answer(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, ways: &Ways, cut: &AtomicBool) {
    let mut piece = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = from.read(&mut piece).await {
        let delay = *ways.delay.lock().expect("no holder panics");
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        if cut.load(Ordering::SeqCst) {
            ways.lost.fetch_add(1, Ordering::SeqCst);
            return;
        }
        if to.write_all(&piece[..read]).await.is_err() {
            return;
        }
    }
}

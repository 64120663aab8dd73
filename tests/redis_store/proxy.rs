//! A way to the server that can be cut.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{oneshot, watch},
};

/// What becomes of the next script that is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// It comes and goes.
    None,
    /// It is run, and its answer is lost with the connection.
    Answer,
    /// It never arrives, and the connection is lost.
    Call,
    /// It never arrives, and no connection is to be had from then on.
    End,
    /// The connection is lost, and the call arrives only when it is let go.
    Late,
    /// The same, and no other connection is to be had.
    LateAlone,
    /// The connection is lost, and the call arrives behind the script that is called next, before the one after it.
    Between,
    /// It is lost with the connection, and the script after the next one finds nobody.
    CallThenEnd,
}

/// A call that is held back: how to let it go, and who hears when it was run.
type Held = (oneshot::Sender<()>, oneshot::Receiver<()>);

struct Shared {
    port: u16,
    cut: Mutex<Cut>,
    held: Mutex<Option<Held>>,
    /// So many scripts may come before the call that is held back.
    before: Mutex<Option<u32>>,
    /// So many scripts may come before no connection is to be had.
    before_end: Mutex<Option<u32>>,
    is_open: watch::Sender<bool>,
    is_full: AtomicBool,
}

impl Shared {
    /// The call that is held back, if it is its turn before the script that is called now.
    fn due(&self) -> Option<Held> {
        if is_up(&self.before) {
            return self.held.lock().expect("a lock").take();
        }
        None
    }
}

/// Counts down; true when it is over.
fn is_up(left: &Mutex<Option<u32>>) -> bool {
    let mut left = left.lock().expect("a lock");
    let is_up = *left == Some(0);
    *left = left.and_then(|left| left.checked_sub(1));
    is_up
}

pub struct Proxy {
    shared: Arc<Shared>,
    pub port: u16,
    task: tokio::task::JoinHandle<()>,
}

impl Proxy {
    /// A way to the server on this port.
    pub async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let own = listener.local_addr().expect("an address").port();
        let shared = Arc::new(Shared {
            port,
            cut: Mutex::new(Cut::None),
            held: Mutex::new(None),
            before: Mutex::new(None),
            before_end: Mutex::new(None),
            is_open: watch::Sender::new(true),
            is_full: AtomicBool::new(false),
        });
        let task = tokio::spawn(accept(listener, shared.clone()));
        Self {
            shared,
            port: own,
            task,
        }
    }

    /// Says what becomes of the next script that is called.
    pub fn cut_next(&self, cut: Cut) {
        *self.shared.cut.lock().expect("a lock") = cut;
    }

    /// True if a call was cut since.
    pub fn has_cut(&self) -> bool {
        *self.shared.cut.lock().expect("a lock") == Cut::None
    }

    /// Lets the call go that was held back.
    pub fn let_go(&self) {
        let held = self.shared.held.lock().expect("a lock").take();
        let (go, _) = held.expect("a call that is held back");
        go.send(()).expect("its connection is there");
    }

    /// The same, and waits until it was run.
    pub async fn let_go_and_run(&self) {
        let held = self.shared.held.lock().expect("a lock").take();
        let (go, has_run) = held.expect("a call that is held back");
        go.send(()).expect("its connection is there");
        has_run.await.expect("it was run");
    }

    /// Loses all connections, and takes no other until it is opened again.
    pub fn close(&self) {
        self.shared.is_open.send_replace(false);
    }

    pub fn open(&self) {
        self.shared.is_open.send_replace(true);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((client, _)) = listener.accept().await {
        if *shared.is_open.borrow() && !shared.is_full.load(Ordering::SeqCst) {
            tokio::spawn(pass(client, shared.clone()));
        }
    }
}

async fn pass(client: TcpStream, shared: Arc<Shared>) {
    let Ok(server) = TcpStream::connect(("127.0.0.1", shared.port)).await else {
        return;
    };
    client.set_nodelay(true).expect("an option");
    server.set_nodelay(true).expect("an option");
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let mut is_open = shared.is_open.subscribe();
    let closed = async move {
        let _ = is_open.wait_for(|is_open| !is_open).await;
    };
    tokio::select! {
        () = both(from_client, to_client, from_server, to_server, shared) => {}
        () = closed => {}
    }
}

async fn both(
    mut from_client: OwnedReadHalf,
    mut to_client: OwnedWriteHalf,
    mut from_server: OwnedReadHalf,
    mut to_server: OwnedWriteHalf,
    shared: Arc<Shared>,
) {
    let mut calls = vec![0; 1 << 20];
    let mut answers = vec![0; 1 << 20];
    loop {
        tokio::select! {
            read = from_client.read(&mut calls) => {
                let Ok(length @ 1..) = read else { return };
                let call = &calls[..length];
                let cut = if is_script(call) {
                    std::mem::replace(&mut *shared.cut.lock().expect("a lock"), Cut::None)
                } else {
                    Cut::None
                };
                if cut == Cut::CallThenEnd {
                    *shared.before_end.lock().expect("a lock") = Some(1);
                    return;
                }
                let is_end = is_script(call) && is_up(&shared.before_end);
                if cut == Cut::End || is_end {
                    shared.is_open.send_replace(false);
                }
                if matches!(cut, Cut::Call | Cut::End) || is_end {
                    return;
                }
                if matches!(cut, Cut::Late | Cut::LateAlone | Cut::Between) {
                    shared.is_full.store(cut == Cut::LateAlone, Ordering::SeqCst);
                    let (go, released) = oneshot::channel();
                    let (ran, has_run) = oneshot::channel();
                    *shared.held.lock().expect("a lock") = Some((go, has_run));
                    if cut == Cut::Between {
                        *shared.before.lock().expect("a lock") = Some(1);
                    }
                    drop((from_client, to_client));
                    let _ = released.await;
                    let _ = to_server.write_all(call).await;
                    // Until it was run.
                    let _ = from_server.read(&mut answers).await;
                    let _ = ran.send(());
                    return;
                }
                if is_script(call)
                    && let Some((go, has_run)) = shared.due()
                {
                    let _ = go.send(());
                    let _ = has_run.await;
                }
                if to_server.write_all(call).await.is_err() {
                    return;
                }
                if cut == Cut::Answer {
                    let _ = from_server.read(&mut answers).await;
                    return;
                }
            }
            read = from_server.read(&mut answers) => {
                let Ok(length @ 1..) = read else { return };
                if to_client.write_all(&answers[..length]).await.is_err() {
                    return;
                }
            }
        }
    }
}

fn is_script(call: &[u8]) -> bool {
    let word = b"EVALSHA";
    call.windows(word.len()).any(|window| window == word)
}

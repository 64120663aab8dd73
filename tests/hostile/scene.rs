//! A server under attack, and the client that must not notice.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use portcullis::proto::v1::{CheckRequest, check_response::Reason};
use prost::Message as _;

use crate::support::{Address, Clients, Server, Setup, Token, check_request};

/// What a listener may take for one call of the healthy client. No time is asserted but that none hangs: times are for the
/// bench.
const HANG: Duration = Duration::from_secs(20);

/// A server with a key.
pub struct Scene {
    pub server: Server,
    pub token: String,
}

/// Which listener is attacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listener {
    Gate,
    Admin,
}

impl Scene {
    #[track_caller]
    #[must_use]
    pub fn new() -> Self {
        Self::of(Setup::new())
    }

    #[track_caller]
    #[must_use]
    pub fn of(setup: Setup) -> Self {
        raise_own_file_limit();
        let server = setup.start();
        let token = runtime().block_on(async {
            Clients::root(&server)
                .create("healthy", &["sms.send"])
                .await
                .token
        });
        Self { server, token }
    }

    #[must_use]
    pub fn address(&self, listener: Listener) -> SocketAddr {
        match listener {
            Listener::Gate => self.server.gate().tcp(),
            Listener::Admin => self.server.admin().tcp(),
        }
    }

    #[must_use]
    pub fn gate(&self) -> SocketAddr {
        self.address(Listener::Gate)
    }

    /// A request that is allowed, as bytes.
    #[must_use]
    pub fn good_request(&self) -> Vec<u8> {
        check_request(&self.token, &["sms.send"]).encode_to_vec()
    }

    /// How many peers were cut for it.
    #[track_caller]
    #[must_use]
    pub fn cuts(&self, listener: Listener, why: &str) -> u64 {
        let listener = match listener {
            Listener::Gate => "gate",
            Listener::Admin => "admin",
        };
        let (status, page) = self.server.page("/metrics");
        assert_eq!(status, 200);
        let start =
            format!("portcullis_connections_cut_total{{listener=\"{listener}\",why=\"{why}\"}} ");
        page.lines()
            .find_map(|line| line.strip_prefix(&start))
            .and_then(|count| count.parse().ok())
            .unwrap_or_else(|| panic!("{start} is not on the page:\n{page}"))
    }

    /// Attacks while healthy clients ask. They get their answers, memory grows by no more than `growth` MiB at any time,
    /// and afterwards all is as before.
    #[track_caller]
    pub fn attacked<T>(&self, growth: u64, attack: impl FnOnce() -> T) -> T {
        let peer = self.peer();
        runtime().block_on(async { ask(&peer.clients(), &self.token).await });
        let before = memory(self.server.pid(), "VmRSS:");
        let healthy = Healthy::start(peer.clone(), self.token.clone());
        let outcome = attack();
        let asked = healthy.finish();
        assert!(asked > 0, "the healthy client was there during the attack");
        let peak = memory(self.server.pid(), "VmHWM:");
        let grown = peak.saturating_sub(before) / 1024;
        assert!(
            grown <= growth,
            "memory grew by {grown} MiB, from {before} KiB to {peak} KiB; {growth} MiB were allowed"
        );
        eprintln!("healthy calls: {asked}, memory grew by {grown} MiB");
        // A new client, and the operator.
        runtime().block_on(async {
            ask(&peer.clients(), &self.token).await;
            let root = Clients::root(&self.server);
            root.create("afterwards", &["sms.send"]).await;
        });
        assert_eq!(self.server.page("/livez").0, 200);
        outcome
    }

    fn peer(&self) -> Peer {
        Peer {
            gate: self.server.gate().clone(),
            admin: self.server.admin().clone(),
            root: Token::bearer(&self.server.root_token()),
        }
    }
}

/// Who knows the way to both listeners.
#[derive(Clone)]
struct Peer {
    gate: Address,
    admin: Address,
    root: Token,
}

impl Peer {
    /// Within a runtime.
    fn clients(&self) -> [Clients; 2] {
        [
            Clients::of(&self.gate, &Token::none()),
            Clients::of(&self.admin, &self.root),
        ]
    }
}

/// A runtime of the caller's own.
#[must_use]
pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
}

/// Asks both listeners what is allowed and what is not.
async fn ask(clients: &[Clients; 2], token: &str) {
    for client in clients {
        let asked = async {
            let yes = client.ask(check_request(token, &["sms.send"])).await;
            assert_eq!(yes.reason(), Reason::Ok);
            let no = client.ask(check_request(token, &["sms.read"])).await;
            assert_eq!(no.reason(), Reason::PermissionDenied);
            let unknown: CheckRequest = check_request("pc_nobody", &["sms.send"]);
            let no = client.ask(unknown).await;
            assert_eq!(no.reason(), Reason::InvalidCredential);
        };
        tokio::time::timeout(HANG, asked)
            .await
            .expect("a healthy client is answered");
    }
}

/// Clients that do nothing wrong: one that keeps its connections, and new ones.
struct Healthy {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<u64>,
}

impl Healthy {
    fn start(peer: Peer, token: String) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            runtime().block_on(async {
                let clients = peer.clients();
                let mut asked = 0;
                while !stopped.load(Ordering::SeqCst) || asked == 0 {
                    ask(&clients, &token).await;
                    if asked % 20 == 0 {
                        ask(&peer.clients(), &token).await;
                    }
                    asked += 1;
                    // Leaves the two cores to the attack and the server.
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                asked
            })
        });
        Self { stop, thread }
    }

    #[track_caller]
    fn finish(self) -> u64 {
        self.stop.store(true, Ordering::SeqCst);
        self.thread
            .join()
            .expect("every healthy call was answered rightly")
    }
}

/// A figure of a process's memory, in KiB.
#[track_caller]
fn memory(pid: u32, name: &str) -> u64 {
    let status =
        std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the server is there");
    status
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .and_then(|rest| rest.trim().strip_suffix(" kB"))
        .and_then(|kib| kib.parse().ok())
        .unwrap_or_else(|| panic!("no {name} of process {pid}"))
}

/// As far as the system lets us.
pub fn raise_own_file_limit() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    setrlimit(Resource::Nofile, raised).expect("the soft limit may go up to the hard one");
    maximum.unwrap_or(u64::MAX)
}

//! Two replicas and a Redis behind one Envoy: after a revocation's OK no request reaches the service.

use std::sync::{
    Arc,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};

use portcullis::proto::v1::IssuedKey;
use tokio::{sync::mpsc, task::JoinSet, time::timeout};

use crate::{
    clients::{Answered, Ask, Http2, Protocol},
    fleet_harness::{Fleet, LONG, Replica, SHORT},
    harness::{Config, Envoy},
    scene::WORKSPACE,
    scene::{
        BOTH_PERMISSIONS, DISABLED, FENCED, Judge, SEND, create, known, may, name, test_hosts,
        workspace,
    },
    support::{Mutation, PATIENCE},
    upstream::{GREETING, Reached, Upstream},
};

const REVOCATIONS: usize = 60;
/// Half of them over HTTP/1.1, a connection a request, the others over one HTTP/2 connection each.
const CLIENTS: usize = 4;

/// The replicas behind one Envoy, which asks them in turn.
struct Edge {
    replicas: Vec<Replica>,
    envoy: Envoy,
    upstream: Upstream,
    /// The number of the next request of anybody.
    next: Arc<AtomicU64>,
}

impl Edge {
    async fn of(fleet: &Fleet) -> Option<Self> {
        let (replicas, upstream) = (fleet.start_all(2).await, Upstream::start().await);
        Mutation::create_workspace(WORKSPACE, workspace())
            .done(&replicas[0].root)
            .await;
        let config = test_hosts(Config::shipped("fleet.yaml"));
        let gates = [0, 1].map(|number: usize| replicas[number].server.gate().tcp());
        let config = config.before_two(gates).before(upstream.address());
        let envoy = Envoy::start(&config).ok()?;
        Some(Self {
            replicas,
            envoy,
            upstream,
            next: Arc::default(),
        })
    }

    /// How many questions this replica has decided.
    fn asked(&self, replica: usize) -> f64 {
        let server = &self.replicas[replica].server;
        server
            .metric("portcullis_checks_total", "")
            .unwrap_or_default()
    }
}

fn number_of(reached: &Reached) -> u64 {
    let number = reached.header("x-number").expect("a number");
    number.parse().expect("a number")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_revocations_ok_no_request_reaches_the_service() {
    let Ok(fleet) = Fleet::made(LONG) else {
        return;
    };
    let Some(edge) = Edge::of(&fleet).await else {
        return;
    };
    let before = [edge.asked(0), edge.asked(1)];
    let (mut passed, mut shut) = (0, 0);
    for round in 0..REVOCATIONS {
        let key = create(&edge.replicas[round % 2].root, may(&["sms.send"])).await;
        let end = Arc::new(AtomicU64::new(u64::MAX));
        let (opened, mut open) = mpsc::unbounded_channel();
        let mut clients = JoinSet::new();
        for client in 0..CLIENTS {
            clients.spawn(ask_until(
                edge.envoy.edge(),
                client,
                key.clone(),
                Arc::clone(&edge.next),
                Arc::clone(&end),
                opened.clone(),
            ));
        }
        for _ in 0..CLIENTS {
            let seen = timeout(PATIENCE, open.recv()).await;
            seen.expect("it is open before")
                .expect("no client gives up");
        }
        // Through either replica in turn.
        let root = &edge.replicas[(round / 2) % 2].root;
        Mutation::disable(name(&key)).done(root).await;
        // Whoever takes a later number sends after the answer.
        let answered = edge.next.fetch_add(1, Ordering::SeqCst);
        end.store(answered, Ordering::SeqCst);
        let mut denials = 0;
        while let Some(denied) = timeout(PATIENCE, clients.join_next())
            .await
            .expect("every client is denied")
        {
            denials += denied.expect("no client fails");
        }
        assert!(denials >= 2 * CLIENTS, "each asked twice after the answer");
        shut += denials;

        let reached = edge.upstream.take();
        let late: Vec<_> = reached
            .iter()
            .map(number_of)
            .filter(|&number| number > answered)
            .collect();
        assert_eq!(late, [0; 0], "sent after OK at {answered}, round {round}");
        assert!(reached.len() >= CLIENTS, "round {round}");
        passed += reached.len();
    }
    for replica in [0, 1] {
        let asked = edge.asked(replica) - before[replica];
        assert!(asked > 2.0 * 60.0, "both are asked: {replica} {asked}");
    }
    eprintln!(
        "{REVOCATIONS} revocations: {passed} requests passed before, {shut} were denied after"
    );
}

/// Sends without a pause until it has been denied twice after `end`. How often it was.
async fn ask_until(
    edge: std::net::SocketAddr,
    client: usize,
    key: IssuedKey,
    next: Arc<AtomicU64>,
    end: Arc<AtomicU64>,
    opened: mpsc::UnboundedSender<()>,
) -> usize {
    let mut http2 = Http2::open(edge).await;
    let (mut denied, mut told) = (0, false);
    while denied < 2 {
        let number = next.fetch_add(1, Ordering::SeqCst);
        let ask = Ask::of(SEND)
            .bearer(&key.token)
            .header("x-number", number.to_string());
        let answered: Answered = if client.is_multiple_of(2) {
            http2.send(&ask).await
        } else {
            ask.send(edge, Protocol::Http1).await
        };
        if answered.status == 200 {
            assert_eq!(answered.body, GREETING);
            if !told {
                told = true;
                let _ = opened.send(());
            }
        } else if answered.status == 503 {
            // Not decided in time, on a slow machine: neither open nor shut.
            assert_eq!(answered.reason().as_deref(), Some("UNAVAILABLE"));
        } else {
            DISABLED.is("a revoked key", &answered);
            // Before the answer a denial is early, and welcome.
            denied += usize::from(number > end.load(Ordering::SeqCst));
        }
    }
    denied
}

/// A replica that cannot know says 503 by an answer, which no setting of Envoy's turns into a pass.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_its_redis_the_fleet_denies_by_an_answer() {
    let Ok(fleet) = Fleet::made(SHORT) else {
        return;
    };
    let Some(edge) = Edge::of(&fleet).await else {
        return;
    };
    let key = create(&edge.replicas[0].root, may(&["sms.send", "sms.read"])).await;
    let ask = Ask::of(BOTH_PERMISSIONS).bearer(&key.token);
    fleet.redis.pause();
    let passed = AtomicUsize::new(0);
    crate::fleet_harness::eventually("both are fenced", async || {
        for replica in &edge.replicas {
            let seen = replica.seen(crate::support::check(&key.token)).await;
            if seen != crate::fleet_harness::FENCED {
                passed.fetch_add(1, Ordering::SeqCst);
                return false;
            }
        }
        true
    })
    .await;
    let mut judge = Judge::new(&edge.envoy, &edge.upstream);
    for protocol in crate::clients::BOTH {
        for _ in 0..4 {
            judge.denied("fenced", &ask, protocol, FENCED).await;
        }
    }
    judge.agrees_with_the_log();
    fleet.redis.resume();
}

/// One replica less is nothing to see, also before Envoy has noticed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_one_replica_is_there_requests_pass() {
    let Ok(fleet) = Fleet::made(LONG) else {
        return;
    };
    let Some(mut edge) = Edge::of(&fleet).await else {
        return;
    };
    let key = create(&edge.replicas[0].root, may(&["sms.send"])).await;
    let ask = Ask::of(SEND).bearer(&key.token);
    known(&edge.replicas[1].root, &key).await;
    let mut judge = Judge::new(&edge.envoy, &edge.upstream);
    for protocol in crate::clients::BOTH {
        for _ in 0..4 {
            judge.allowed("both", &ask, protocol).await;
        }
    }
    edge.replicas.remove(1).server.kill();
    for protocol in crate::clients::BOTH {
        for _ in 0..20 {
            judge.allowed("one", &ask, protocol).await;
        }
    }
    judge.agrees_with_the_log();
}

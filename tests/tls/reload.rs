//! Certificates that are replaced while the server runs.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Instant,
};

use portcullis::proto::v1::ListKeysRequest;
use tokio::task::JoinSet;
use tonic::Status;
use tonic_health::pb::HealthCheckRequest;

use crate::{
    pki::{Ca, EDGE, OPERATOR, Scene, assert_no_connection, swap},
    support::{Clients, PATIENCE, Server, Token, check, wait_until},
};

fn reloads(server: &Server, listener: &str, result: &str) -> f64 {
    let body = server.page("/metrics").1;
    let labels = format!("{{listener=\"{listener}\",result=\"{result}\"}}");
    let name = format!("portcullis_tls_reloads_total{labels} ");
    let line = body.lines().find_map(|line| line.strip_prefix(&name));
    line.expect("the metric").parse().expect("a number")
}

fn wait_for_reloads(server: &Server, result: &str, due: f64) {
    wait_until("both listeners have seen the change", || {
        ["gate", "admin"]
            .iter()
            .all(|listener| reloads(server, listener, result) >= due)
    });
}

/// Calls that go on until they are told to end, and must all be answered.
struct Traffic {
    calls: JoinSet<()>,
    stop: Arc<AtomicBool>,
    count: Arc<AtomicU64>,
}

impl Traffic {
    fn start(gate: &Clients, admin: &Clients, token: &str) -> Self {
        let mut traffic = Self {
            calls: JoinSet::new(),
            stop: Arc::default(),
            count: Arc::default(),
        };
        for _ in 0..4 {
            let (gate, token) = (gate.clone(), token.to_owned());
            traffic.run(move || {
                let (gate, token) = (gate.clone(), token.clone());
                async move {
                    let answer = gate.check.clone().check(check(&token)).await?;
                    assert!(answer.into_inner().allowed);
                    Ok(())
                }
            });
        }
        let admin = admin.clone();
        traffic.run(move || {
            let admin = admin.clone();
            async move { list(&admin).await }
        });
        traffic
    }

    fn run<F: Future<Output = Result<(), Status>> + Send + 'static>(
        &mut self,
        call: impl Fn() -> F + Send + 'static,
    ) {
        let (stop, count) = (self.stop.clone(), self.count.clone());
        self.calls.spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                match call().await {
                    Ok(()) => {}
                    // The connection was told to go before the call was sent on it. Clients of gRPC repeat that by
                    // themselves; this one leaves it to its user.
                    Err(status) if never_left(&status) => continue,
                    Err(status) => panic!("a call failed: {status:?}"),
                }
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
    }

    /// Waits for this many more calls.
    fn wait(&self, more: u64) {
        let due = self.count.load(Ordering::Relaxed) + more;
        wait_until("calls go on", || self.count.load(Ordering::Relaxed) >= due);
    }

    /// Ends them, all of which were answered.
    async fn end(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.calls.join_next().await {
            ended.expect("every call was answered");
        }
    }
}

/// True if the server cannot have seen the call.
fn never_left(status: &Status) -> bool {
    let mut next = std::error::Error::source(status);
    while let Some(error) = next {
        if error
            .downcast_ref::<hyper::Error>()
            .is_some_and(hyper::Error::is_canceled)
        {
            return true;
        }
        // Of a call that came after the last one that GOAWAY says was seen.
        if let Some(error) = error.downcast_ref::<h2::Error>() {
            let is_told = error.is_go_away() && error.is_remote();
            return is_told && error.reason() == Some(h2::Reason::NO_ERROR);
        }
        next = error.source();
    }
    false
}

async fn list(admin: &Clients) -> Result<(), Status> {
    let list = ListKeysRequest {
        parent: "workspaces/default".into(),
        ..ListKeysRequest::default()
    };
    admin.keys.clone().list_keys(list).await.map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_are_replaced_under_traffic_and_no_call_fails() {
    let scene = Scene::new();
    let server = scene.mutual().start();
    let token = scene.root(&server).create("first", &[]).await.token;
    let (gate_port, admin_port) = (server.gate().tcp().port(), server.admin().tcp().port());
    let edge = scene.clients.leaf(&[EDGE]);
    let operator = scene.clients.leaf(&[OPERATOR]);
    // Servers are believed by the old authority and by the new one.
    let next = Ca::new();
    scene.write("ca.pem", &format!("{}{}", scene.ca.pem(), next.pem()));
    let gate = scene.clients(gate_port, Some(&edge), &Token::none());
    let admin = scene.clients(admin_port, Some(&operator), &Token::none());
    let traffic = Traffic::start(&gate, &admin, &token);
    traffic.wait(50);

    // One after the other: what is between is a pair that does not belong together, and is not taken.
    let leaf = next.leaf(&["localhost", "127.0.0.1"]);
    swap(scene.dir.path(), "server.pem", &leaf.cert);
    traffic.wait(50);
    swap(scene.dir.path(), "server.key", &leaf.key);
    wait_for_reloads(&server, "ok", 1.0);
    traffic.wait(200);
    traffic.end().await;

    // What is shown now is the new one.
    scene.write("ca.pem", scene.ca.pem());
    let old = scene.clients(gate_port, Some(&edge), &Token::none());
    assert_no_connection("the old one", old.check.clone().check(check(&token)).await);
    scene.write("ca.pem", next.pem());
    let new = scene.clients(gate_port, Some(&edge), &Token::none());
    assert!(new.ask(check(&token)).await.allowed);
    let expiry = server.metric("portcullis_tls_certificate_expiry_seconds", "gate");
    assert!(expiry > Some(1.9e9), "{expiry:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_authority_that_is_removed_ends_the_connections_of_its_clients() {
    let scene = Scene::new();
    let server = scene.mutual().start();
    let token = scene.root(&server).create("first", &[]).await.token;
    let (gate_port, admin_port) = (server.gate().tcp().port(), server.admin().tcp().port());
    let next = Ca::new();
    let client =
        |ca: &Ca, name: &str, port| scene.clients(port, Some(&ca.leaf(&[name])), &Token::none());
    let both = format!("{}{}", scene.clients.pem(), next.pem());
    swap(scene.dir.path(), "clients.pem", &both);
    wait_for_reloads(&server, "ok", 1.0);
    let old = (
        client(&scene.clients, EDGE, gate_port),
        client(&scene.clients, OPERATOR, admin_port),
    );
    let new = (
        client(&next, EDGE, gate_port),
        client(&next, OPERATOR, admin_port),
    );
    let traffic = Traffic::start(&new.0, &new.1, &token);
    for (gate, admin) in [&old, &new] {
        assert!(gate.ask(check(&token)).await.allowed);
        list(admin).await.expect("keys");
    }

    swap(scene.dir.path(), "clients.pem", next.pem());
    wait_for_reloads(&server, "ok", 2.0);
    // The old ones are told to go, and do not get in again. Nothing else ended their connections.
    let deadline = Instant::now() + PATIENCE;
    while old.0.check.clone().check(check(&token)).await.is_ok() || list(&old.1).await.is_ok() {
        assert!(Instant::now() < deadline, "a removed authority still opens");
    }
    traffic.wait(200);
    traffic.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_half_written_is_not_taken() {
    let scene = Scene::new();
    let server = scene.mutual().start();
    let token = scene.root(&server).create("first", &[]).await.token;
    let edge = scene.clients.leaf(&[EDGE]);
    let port = server.gate().tcp().port();
    let works = async || {
        let gate = scene.clients(port, Some(&edge), &Token::none());
        assert!(gate.ask(check(&token)).await.allowed);
    };
    let leaf = scene.ca.leaf(&["localhost", "127.0.0.1"]);
    let (half, key_half) = (&leaf.cert[..leaf.cert.len() / 2], &leaf.key[..80]);
    let faults = [
        ("server.pem", half),
        ("server.key", key_half),
        ("clients.pem", ""),
        ("clients.pem", half),
    ];
    let mut due = 0.0;
    for (file, text) in faults {
        let whole = std::fs::read_to_string(scene.path(file)).expect("it is there");
        swap(scene.dir.path(), file, text);
        due += 1.0;
        wait_for_reloads(&server, "refused", due);
        works().await;
        swap(scene.dir.path(), file, &whole);
        wait_until("it is told", || server.stderr().contains(file));
    }
    // Not there at all.
    std::fs::remove_file(scene.path("server.key")).expect("it is there");
    wait_for_reloads(&server, "refused", due + 1.0);
    works().await;
    assert!(
        !server.stderr().contains(&key_half[40..]),
        "no key is logged"
    );
    for listener in ["gate", "admin"] {
        let refused = format!("{}", reloads(&server, listener, "refused"));
        let told = server
            .stderr()
            .lines()
            .filter(|line| line.contains("ERROR") && line.contains(&format!("\"{listener}\"")))
            .count();
        assert_eq!(told.to_string(), refused, "each is told once");
        assert!(reloads(&server, listener, "ok") < 0.5, "{listener}");
    }
    // And whole again.
    scene.server_cert(&leaf);
    wait_for_reloads(&server, "ok", 1.0);
    works().await;
}

/// A peer need not listen to being told to go. Nobody stays for ever by it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_does_not_end_is_cut_off_half_a_minute_after_the_change() {
    let scene = Scene::new();
    let server = scene.mutual().start();
    let edge = scene.clients.leaf(&[EDGE]);
    let mut watches = Vec::new();
    for address in [server.gate(), server.admin()] {
        let port = address.tcp().port();
        let mut health = scene.clients(port, Some(&edge), &Token::none()).health;
        let watch = health.watch(HealthCheckRequest::default()).await;
        let mut watch = watch.expect("health asks nobody").into_inner();
        watch.message().await.expect("a first status");
        // The client is kept: one that is dropped would end the connection.
        watches.push((health, watch));
    }
    scene.server_cert(&scene.ca.leaf(&["localhost", "127.0.0.1"]));
    wait_for_reloads(&server, "ok", 1.0);
    let changed = Instant::now();
    for (_health, mut watch) in watches {
        let ended = tokio::time::timeout(2 * PATIENCE, watch.message()).await;
        let ended = ended.expect("it is cut off");
        assert!(ended.is_err(), "the watch was not at its end: {ended:?}");
        let took = changed.elapsed();
        assert!(took.as_secs() >= 25, "its call was given time: {took:?}");
    }
}

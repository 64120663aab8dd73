//! Portcullis gone, stopped and started again under load: Envoy says 503, nothing reaches the service that should not, and
//! once Portcullis is ready again it is asked again.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use rustix::process::Signal;
use tokio::task::JoinSet;

use crate::{
    clients::{Ask, BOTH, Http2, Protocol},
    scene::{DISABLED, Judge, SEND, Scene, hosts, name},
    support::{Mutation, Setup, wait_until},
    upstream::GREETING,
};

/// So many requests may fail after the ready line: those that find the end of an old connection.
const MOST_FAILURES: usize = 3;

/// Requests without a pause, with a key that is good and one that is not, each known by its number.
struct Load {
    next: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    clients: JoinSet<Vec<Sent>>,
}

/// A request and its answer.
struct Sent {
    number: u64,
    good: bool,
    status: u16,
    /// What the next request's number was when the answer was there.
    until: u64,
}

impl Load {
    fn on(scene: &Scene, good: &str, bad: &str) -> Self {
        let (next, stop) = (
            Arc::new(AtomicU64::new(0)),
            Arc::new(AtomicBool::new(false)),
        );
        let mut clients = JoinSet::new();
        for client in 0..4_usize {
            let (next, stop) = (Arc::clone(&next), Arc::clone(&stop));
            let edge = scene.envoy.edge();
            let keys = [good.to_owned(), bad.to_owned()];
            clients.spawn(async move {
                let mut http2 = Http2::open(edge).await;
                let mut sent = Vec::new();
                while !stop.load(Ordering::SeqCst) {
                    let is_good = sent.len() % 2 == 0;
                    let number = next.fetch_add(1, Ordering::SeqCst);
                    let ask = Ask::of(SEND)
                        .path(&format!("/{number}"))
                        .bearer(&keys[usize::from(!is_good)]);
                    let answered = match BOTH[client % 2] {
                        Protocol::Http1 => ask.send(edge, Protocol::Http1).await,
                        Protocol::Http2 => http2.send(&ask).await,
                    };
                    if answered.status == 200 {
                        assert_eq!(answered.body, GREETING);
                    } else if answered.status == 403 {
                        DISABLED.is("under load", &answered);
                    } else {
                        assert_eq!(
                            (answered.status, &*answered.body),
                            (503, ""),
                            "{answered:?}"
                        );
                    }
                    sent.push(Sent {
                        number,
                        good: is_good,
                        status: answered.status,
                        until: next.load(Ordering::SeqCst),
                    });
                }
                sent
            });
        }
        Self {
            next,
            stop,
            clients,
        }
    }

    /// Waits until so many more were sent; which number comes next.
    fn proceed(&self, more: u64) -> u64 {
        let from = self.next.load(Ordering::SeqCst);
        wait_until("requests are sent", || {
            self.next.load(Ordering::SeqCst) >= from + more
        });
        self.next.load(Ordering::SeqCst)
    }

    /// Ends it. What was sent, by number.
    async fn end(mut self) -> Vec<Sent> {
        self.stop.store(true, Ordering::SeqCst);
        let mut all = Vec::new();
        while let Some(sent) = self.clients.join_next().await {
            all.extend(sent.expect("no client fails"));
        }
        all.sort_by_key(|sent| sent.number);
        all
    }
}

/// Asserts that exactly the good ones that were answered so reached the service.
fn only_the_good_ones_passed(scene: &Scene, sent: &[Sent]) {
    let reached: BTreeSet<u64> = scene
        .upstream
        .take()
        .iter()
        .map(|reached| reached.path[1..].parse().expect("a number"))
        .collect();
    let passed: BTreeSet<u64> = sent
        .iter()
        .filter(|sent| sent.status == 200)
        .map(|sent| sent.number)
        .collect();
    assert_eq!(
        reached, passed,
        "what reached the service was answered by it"
    );
    for sent in sent.iter().filter(|sent| !sent.good) {
        assert_ne!(sent.status, 200, "request {}", sent.number);
    }
}

/// Those that were sent from one number on, and answered while another one was still to come.
fn between(sent: &[Sent], from: u64, to: u64) -> impl Iterator<Item = &Sent> {
    sent.iter()
        .filter(move |sent| sent.number >= from && sent.until < to)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_it_lets_nothing_pass_and_started_again_it_answers_at_once() {
    let data = tempfile::tempdir().expect("a directory");
    let setup = || Setup::new().data_dir(data.path().join("data"));
    let Ok(mut scene) = Scene::start_as(setup(), |config| config).await else {
        return;
    };
    let gate = scene.server.gate().to_string();
    let (good, bad) = (scene.sender().await, scene.sender().await);
    scene.change(Mutation::disable(name(&bad))).await;

    let load = Load::on(&scene, &good.token, &bad.token);
    load.proceed(100);
    // Three ends: by force, by force again, and in good order.
    let mut down = Vec::new();
    for by_force in [true, true, false] {
        let server = scene.server;
        if by_force {
            server.kill();
        } else {
            assert!(server.stop().status.success());
        }
        let from = load.proceed(0);
        let to = load.proceed(50);
        scene.server = setup().gate(&*gate).start();
        let ready = load.next.load(Ordering::SeqCst);
        down.push((from, to, ready));
        load.proceed(100);
    }
    let sent = load.end().await;

    only_the_good_ones_passed(&scene, &sent);
    for (from, to, ready) in down {
        let mut count = 0;
        for sent in between(&sent, from, to) {
            assert_eq!(
                sent.status, 503,
                "nobody is there to say so: {}",
                sent.number
            );
            count += 1;
        }
        assert!(count > 20, "{count} requests while it was gone");
        let after: Vec<_> = sent.iter().filter(|sent| sent.number >= ready).collect();
        let first = after.iter().position(|sent| sent.status != 503);
        let first = first.expect("it answers again");
        assert!(
            first <= MOST_FAILURES,
            "{first} failed after the ready line"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopped_it_lets_nothing_pass_and_going_on_it_answers_at_once() {
    // With the time limit that the file has.
    let Ok(scene) = Scene::start_on("envoy.yaml", Setup::new(), hosts, &[]).await else {
        return;
    };
    let (good, bad) = (scene.sender().await, scene.sender().await);
    scene.change(Mutation::disable(name(&bad))).await;
    let asks = [&good, &bad].map(|key| Ask::of(SEND).bearer(&key.token));
    let mut judge = Judge::of(&scene);
    for protocol in BOTH {
        judge.allowed("at first", &asks[0], protocol).await;
        judge.denied("at first", &asks[1], protocol, DISABLED).await;
    }
    // Its connections stay open, and the kernel takes what is sent.
    scene.server.signal(Signal::STOP);
    for _ in 0..3 {
        for protocol in BOTH {
            for ask in &asks {
                judge.unasked("stopped", ask, protocol).await;
            }
        }
    }
    scene.server.signal(Signal::CONT);
    for protocol in BOTH {
        judge.allowed("going on", &asks[0], protocol).await;
        judge.denied("going on", &asks[1], protocol, DISABLED).await;
    }
    judge.agrees_with_the_log();
}

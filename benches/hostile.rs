//! What healthy clients notice of attacks by HTTP/2: for each attack, how long they wait for a decision while it runs, ÷ how
//! long before it.
//!
//! `cargo bench --bench hostile` (`-- --only NAME`, `-- --seconds N`). Everything on two connections of loopback, one for
//! each thread of the gate if it has two; attackers come back as soon as they are closed, from the same machine, so that
//! they take their time from its cores as well: the first line is a client that does nothing wrong and as much as it can.

#[path = "../tests/support/mod.rs"]
mod support;

#[path = "../tests/hostile/raw.rs"]
#[allow(dead_code, reason = "the tests use the rest")]
mod raw;

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use prost::Message as _;
use raw::{
    CHECK, CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PING, RST_STREAM, Raw, SETTINGS,
    WINDOW_UPDATE, call_headers, frame, header, message, setting,
};
use support::{Clients, Server, check_request};

/// Goes on until it is told that it is over.
type Run = dyn Fn(&Scene, &AtomicBool) + Sync;

/// An attack, run by several threads until it is over.
struct Attack {
    name: &'static str,
    threads: usize,
    /// Whether it has to gather its connections first.
    gathers: bool,
    run: Box<Run>,
}

struct Scene {
    gate: SocketAddr,
    good: Vec<u8>,
    /// The attack is what it is called.
    in_full: AtomicBool,
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let after = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1).cloned()
    };
    let only = after("--only");
    let seconds = after("--seconds").map_or(2, |text| text.parse().expect("a number of seconds"));
    let length = Duration::from_secs(seconds);
    portcullis::gate::wire::raise_file_limit();

    println!(
        "| attack | before: p50 / p99, µs | during: p50 / p99, µs | p50 ÷ | p99 ÷ | connections closed | memory, MiB |"
    );
    println!("|---|---|---|---|---|---|---|");
    for attack in attacks() {
        if only
            .as_ref()
            .is_some_and(|only| !attack.name.contains(only))
        {
            continue;
        }
        // Each has a server of its own, so that none has what another left behind.
        let server = Server::start();
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let token = runtime.block_on(async {
            let issued = Clients::root(&server).create("bench", &["sms.send"]).await;
            issued.token
        });
        drop(runtime);
        let scene = Scene {
            gate: server.gate().tcp(),
            good: message(&check_request(&token, &["sms.send"]).encode_to_vec()),
            in_full: AtomicBool::new(!attack.gathers),
        };
        let mut healthy = [Healthy::new(&scene), Healthy::new(&scene)];
        measure(&mut healthy, &scene, length / 2);
        let before = measure(&mut healthy, &scene, length);
        let over = AtomicBool::new(false);
        let during = std::thread::scope(|scope| {
            for _ in 0..attack.threads {
                scope.spawn(|| (attack.run)(&scene, &over));
            }
            // The attack comes into its own first.
            measure(&mut healthy, &scene, length / 4);
            while !scene.in_full.load(Ordering::SeqCst) {
                measure(&mut healthy, &scene, length / 20);
            }
            let during = measure(&mut healthy, &scene, length);
            over.store(true, Ordering::SeqCst);
            during
        });
        let cut = server
            .metric("portcullis_connections_cut_total", "listener=\"gate\"")
            .unwrap_or(0.0);
        println!(
            "| {} | {:.0} / {:.0} | {:.0} / {:.0} | {:.2} | {:.2} | {cut} | {} |",
            attack.name,
            before.0,
            before.1,
            during.0,
            during.1,
            during.0 / before.0,
            during.1 / before.1,
            peak(server.pid()),
        );
    }
}

/// A client that asks one thing after the other.
struct Healthy {
    raw: Raw,
    stream: u32,
    taken: usize,
}

impl Healthy {
    fn new(scene: &Scene) -> Self {
        Self {
            raw: Raw::open(scene.gate),
            stream: 1,
            taken: 0,
        }
    }

    /// Asks, and returns when the answer is there whole.
    fn ask(&mut self, good: &[u8]) {
        let stream = self.stream;
        self.stream += 2;
        let mut bytes = call(stream, good);
        if self.taken > 10_000 {
            let taken = u32::try_from(self.taken).expect("small").to_be_bytes();
            bytes.extend(frame(WINDOW_UPDATE, 0, 0, &taken));
            self.taken = 0;
        }
        self.raw.send(&bytes);
        let decision = self
            .raw
            .wait_for("a decision", |it| it.kind == DATA && it.stream == stream);
        assert_eq!(decision.payload[5..7], [8, 1], "allowed");
        self.taken += decision.payload.len();
        self.raw.wait_for("its end", |it| {
            it.stream == stream && it.flags & END_STREAM != 0
        });
    }
}

fn call(stream: u32, good: &[u8]) -> Vec<u8> {
    [
        frame(HEADERS, END_HEADERS, stream, &call_headers(CHECK)),
        frame(DATA, END_STREAM, stream, good),
    ]
    .concat()
}

/// Median and 99th percentile, in µs.
fn measure(healthy: &mut [Healthy], scene: &Scene, length: Duration) -> (f64, f64) {
    let mut took = Vec::new();
    let started = Instant::now();
    while started.elapsed() < length {
        for healthy in &mut *healthy {
            let asked = Instant::now();
            healthy.ask(&scene.good);
            took.push(asked.elapsed().as_secs_f64() * 1e6);
        }
        // Not a load of its own.
        std::thread::sleep(Duration::from_micros(200));
    }
    took.sort_by(f64::total_cmp);
    (took[took.len() / 2], took[took.len() * 99 / 100])
}

fn attacks() -> Vec<Attack> {
    let flood = |name, bytes: Vec<u8>| Attack {
        name,
        threads: 2,
        gathers: false,
        run: Box::new(move |scene: &Scene, over: &AtomicBool| {
            while !over.load(Ordering::SeqCst) {
                let mut raw = Raw::open(scene.gate);
                let _ = raw.try_send(&bytes);
                let _ = raw.end();
            }
        }),
    };
    let streams = |count: u32| (0..count).map(|n| 2 * n + 1);
    let head = || call_headers(CHECK);
    let begin = frame(HEADERS, END_HEADERS, 1, &head());
    let crowd = |name, count: usize, first: Vec<u8>| Attack {
        name,
        threads: 1,
        gathers: true,
        run: Box::new(move |scene: &Scene, over: &AtomicBool| {
            let mut peers: Vec<Raw> = Vec::new();
            while !over.load(Ordering::SeqCst) {
                if peers.len() < count {
                    let mut raw = Raw::connect(scene.gate);
                    let _ = raw.try_send(&first);
                    peers.push(raw);
                } else {
                    scene.in_full.store(true, Ordering::SeqCst);
                    std::thread::sleep(Duration::from_millis(10));
                }
            }
        }),
    };
    let opening = [raw::PREFACE.to_vec(), frame(SETTINGS, 0, 0, &[])].concat();
    let continuation = |n: u32| {
        let field = header(&format!("x-{n}"), &"a".repeat(900));
        frame(CONTINUATION, 0, 1, &field)
    };
    vec![
        Attack {
            name: "none: as many honest calls as it can, 16 at a time",
            threads: 2,
            gathers: false,
            run: Box::new(|scene, over| {
                let mut raw = Raw::open(scene.gate);
                let mut stream = 1;
                while !over.load(Ordering::SeqCst) {
                    let mut bytes: Vec<u8> = (0..16)
                        .flat_map(|n| call(stream + 2 * n, &scene.good))
                        .collect();
                    bytes.extend(frame(WINDOW_UPDATE, 0, 0, &4_000_u32.to_be_bytes()));
                    raw.send(&bytes);
                    for _ in 0..16 {
                        raw.wait_for("an end", |it| it.flags & END_STREAM != 0 && it.stream > 0);
                    }
                    stream += 32;
                }
            }),
        },
        flood(
            "103 rapid reset",
            streams(20_000)
                .flat_map(|stream| {
                    let begin = frame(HEADERS, END_HEADERS, stream, &head());
                    let reset = frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes());
                    [begin, reset].concat()
                })
                .collect(),
        ),
        flood(
            "104 CONTINUATION",
            [
                frame(HEADERS, 0, 1, &head()),
                (0..2_000).flat_map(continuation).collect(),
            ]
            .concat(),
        ),
        flood(
            "105 empty DATA",
            [begin.clone(), frame(DATA, 0, 1, &[]).repeat(20_000)].concat(),
        ),
        flood("106 PING", frame(PING, 0, 0, &[0; 8]).repeat(20_000)),
        flood("106 SETTINGS", frame(SETTINGS, 0, 0, &[]).repeat(20_000)),
        flood("106 unknown frames", frame(0xBE, 0, 0, b"?").repeat(20_000)),
        flood("zero window", setting(4, 0)),
        Attack {
            name: "98 oversize messages",
            threads: 2,
            gathers: false,
            run: Box::new(|scene, over| {
                let oversize = frame(DATA, 0, 1, &[0, 0, 32, 0, 1]);
                while !over.load(Ordering::SeqCst) {
                    let mut raw = Raw::open(scene.gate);
                    raw.send(&frame(HEADERS, END_HEADERS, 1, &call_headers(CHECK)));
                    raw.send(&oversize);
                    raw.wait_for("a refusal", |it| it.kind == HEADERS);
                }
            }),
        },
        Attack {
            name: "bodies of 2 MiB that never end, 1,024 streams a connection",
            threads: 4,
            gathers: false,
            run: Box::new(|scene, over| {
                let first = [&[0, 0, 31, 255, 255][..], &[0; 300]].concat();
                let bytes: Vec<u8> = (0..1_024)
                    .flat_map(|n| {
                        let stream = 2 * n + 1;
                        [
                            frame(HEADERS, END_HEADERS, stream, &call_headers(CHECK)),
                            frame(DATA, 0, stream, &first),
                        ]
                        .concat()
                    })
                    .collect();
                while !over.load(Ordering::SeqCst) {
                    let mut raw = Raw::open(scene.gate);
                    let _ = raw.try_send(&bytes);
                    std::thread::sleep(Duration::from_millis(100));
                }
            }),
        },
        Attack {
            name: "answers that nobody takes, 1,024 a connection",
            threads: 4,
            gathers: false,
            run: Box::new(|scene, over| {
                let calls: Vec<u8> = (0..1_024)
                    .flat_map(|n| call(2 * n + 1, &scene.good))
                    .collect();
                let mut peers = Vec::new();
                while !over.load(Ordering::SeqCst) {
                    let mut raw = Raw::open(scene.gate);
                    let _ = raw.try_send(&calls);
                    peers.push(raw);
                    std::thread::sleep(Duration::from_millis(50));
                }
            }),
        },
        crowd("108 silence, 1,000 connections", 1_000, vec![]),
        crowd("111 idle, 5,000 connections", 5_000, opening.clone()),
        crowd(
            "111 half-sent, 1,000 connections",
            1_000,
            [opening, frame(HEADERS, 0, 1, &head())].concat(),
        ),
    ]
}

/// The most memory that it has had, in MiB.
fn peak(pid: u32) -> u64 {
    let status =
        std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the server is there");
    let kib = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"))
        .and_then(|kib| kib.parse::<u64>().ok());
    kib.expect("a figure") / 1_024
}

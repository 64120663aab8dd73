//! More connections than anybody needs.

use crate::{
    raw::{
        CHECK, DATA, END_HEADERS, END_STREAM, HEADERS, PING, PREFACE, Raw, call_headers, frame,
        message,
    },
    scene::{Listener, Scene, raise_own_file_limit},
    support::{Setup, not_run, wait_until},
};

const IDLE: usize = 5_000;
const HALF_SENT: usize = 1_000;
/// MiB: 32 KiB for a connection, which are the library's buffers, and what is not the crowd's.
const GROWTH: u64 = 240;

#[test]
fn thousands_that_do_nothing_are_kept_and_halves_are_not() {
    // Their two ends, and the rest.
    if raise_own_file_limit() < (IDLE + HALF_SENT + 512) as u64 {
        not_run(
            "thousands of connections",
            "the limit on open files is too low",
        );
        return;
    }
    let scene = Scene::new();
    let gate = scene.gate();
    scene.attacked(GROWTH, || {
        let mut idle: Vec<Raw> = (0..IDLE).map(|_| Raw::open(gate)).collect();
        let halves: Vec<Raw> = (0..HALF_SENT)
            .map(|_| {
                let mut raw = Raw::open(gate);
                raw.send(&frame(HEADERS, 0, 1, &call_headers(CHECK)));
                raw
            })
            .collect();
        for raw in halves {
            let end = raw.end();
            assert!(end.goaway.is_none(), "row 111: half a request: {end:?}");
        }
        assert_eq!(scene.cuts(Listener::Gate, "slow_frame"), HALF_SENT as u64);
        // Which took longer than the limit of a preface: all that are idle are there.
        for raw in &mut idle {
            raw.send(&frame(PING, 0, 0, &[0; 8]));
        }
        for raw in &mut idle {
            raw.wait_for("row 111: a sign of life", |it| it.kind == PING);
        }
    });
    wait_until("all places are free again", || connections(&scene) <= 2.0);
}

#[test]
fn the_newest_connection_over_the_limit_is_refused_and_the_others_are_not_harmed() {
    // Of which the gate has three quarters.
    let scene = Scene::of(Setup::new().files(512));
    let places = 384;
    let gate = scene.gate();
    let mut held: Vec<Raw> = (0..places).map(|_| Raw::open(gate)).collect();
    for raw in &mut held {
        raw.send(&frame(PING, 0, 0, &[0; 8]));
        raw.wait_for("a sign of life", |it| it.kind == PING);
    }
    assert_eq!(connections(&scene).to_bits(), f64::from(places).to_bits());

    for _ in 0..100 {
        let mut late = Raw::connect(gate);
        let _ = late.try_send(PREFACE);
        let end = late.end();
        assert!(end.frames.is_empty(), "refused without a word: {end:?}");
    }
    let refused = scene
        .server
        .metric("portcullis_connections_refused_total", "listener=\"gate\"");
    assert_eq!(refused, Some(100.0));
    let told = scene
        .server
        .stderr()
        .matches("a connection was not accepted")
        .count();
    assert_eq!(told, 1, "once in a while: {}", scene.server.stderr());

    let mut old = held.pop().expect("one");
    old.send(&frame(HEADERS, END_HEADERS, 1, &call_headers(CHECK)));
    old.send(&frame(DATA, END_STREAM, 1, &message(&scene.good_request())));
    old.wait_for("a decision", |it| it.kind == DATA);
    drop(old);
    wait_until("its place is free", || {
        connections(&scene) < f64::from(places)
    });
    // The other listeners had their files all along.
    held.pop();
    wait_until("two places are free", || {
        connections(&scene) < f64::from(places) - 1.0
    });
    drop(held.split_off(held.len() - 20));
    scene.attacked(16, || {});
}

fn connections(scene: &Scene) -> f64 {
    let gauge = scene
        .server
        .metric("portcullis_connections", "listener=\"gate\"");
    gauge.expect("it is counted")
}

/// Anybody who can connect may watch health, and a watch never ends by itself.
#[test]
fn watches_are_so_many_and_crowd_out_nobody() {
    const WATCH: &str = "/grpc.health.v1.Health/Watch";
    const EACH: u32 = 64;
    let scene = Scene::new();
    let good = message(&scene.good_request());
    // MiB: the connections, and what the library keeps for each call.
    scene.attacked(96, || {
        let mut kept = Vec::new();
        for (listener, connections, most) in [
            (Listener::Gate, 100, 16 * 100),
            (Listener::Admin, 20, 1_024),
        ] {
            let mut watching = 0;
            for _ in 0..connections {
                let mut raw = Raw::open(scene.address(listener));
                for n in 0..EACH {
                    let stream = 2 * n + 1;
                    raw.send(&frame(HEADERS, END_HEADERS, stream, &call_headers(WATCH)));
                    raw.send(&frame(DATA, END_STREAM, stream, &message(&[])));
                }
                for _ in 0..EACH {
                    let head = raw.wait_for("a head", |it| it.kind == HEADERS);
                    watching += u32::from(head.flags & END_STREAM == 0);
                }
                kept.push(raw);
            }
            assert!((1..=most).contains(&watching), "{listener:?}: {watching}");
        }
        // As many at once as a window has answers for.
        let mut honest = Raw::open(scene.gate());
        let streams: Vec<u32> = (0..400).map(|n| 2 * n + 1).collect();
        let all: Vec<u8> = streams
            .iter()
            .flat_map(|stream| {
                let begin = frame(HEADERS, END_HEADERS, *stream, &call_headers(CHECK));
                [begin, frame(DATA, END_STREAM, *stream, &good)].concat()
            })
            .collect();
        honest.send(&all);
        for _ in &streams {
            honest.wait_for("a decision", |it| it.kind == DATA);
        }
    });
    assert_eq!(scene.cuts(Listener::Gate, "crowded"), 0);
}

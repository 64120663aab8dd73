//! Peers that take their time, and peers that speak something else. They are waited for as long as it is stated, and not a
//! byte longer.

use std::{
    thread::{Scope, ScopedJoinHandle},
    time::Duration,
};

use portcullis::gate::wire::{BODY_LIMIT, FRAME_LIMIT, PREFACE_LIMIT};

use crate::{
    raw::{
        CHECK, DATA, END_HEADERS, END_STREAM, End, HEADERS, PREFACE, RST_STREAM, Raw, SETTINGS,
        WINDOW_UPDATE, call_headers, frame, message,
    },
    scene::{Listener, Scene},
    support::PATIENCE,
};

/// A timer may ring late on a loaded machine, and never early by more than the kernel's coarseness.
#[track_caller]
fn assert_limit(row: &str, took: Duration, limit: Duration) {
    let early = limit.saturating_sub(Duration::from_millis(50));
    assert!(took >= early, "{row}: closed after {took:?} of {limit:?}");
    assert!(took < limit + PATIENCE, "{row}: closed after {took:?}");
}

#[test]
fn who_speaks_something_else_is_not_waited_for() {
    let scene = Scene::new();
    let wrong: [(&str, &[u8]); 4] = [
        (
            "row 108: HTTP/1.1",
            b"POST /portcullis.v1.CheckService/Check HTTP/1.1\r\nhost: gate\r\n\r\n",
        ),
        ("row 108: TLS", &[22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3]),
        ("row 108: a NUL", &[0]),
        (
            "row 108: another preface",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\r",
        ),
    ];
    scene.attacked(24, || {
        for listener in [Listener::Gate, Listener::Admin] {
            for (what, bytes) in &wrong {
                let mut raw = Raw::connect(scene.address(listener));
                raw.send(bytes);
                let End { took, goaway, .. } = raw.end();
                assert!(took < PREFACE_LIMIT, "{what}: {listener:?}: after {took:?}");
                // To whom it would mean something, it may be said.
                assert!(goaway.is_none_or(|code| code == 1), "{what}: {goaway:?}");
            }
            assert_eq!(
                scene.cuts(listener, "preface"),
                wrong.len() as u64,
                "{listener:?}: none of them by the clock"
            );
        }
    });
}

/// Runs a peer beside the others.
fn peer<'scope>(
    scope: &'scope Scope<'scope, '_>,
    scene: &'scope Scene,
    listener: Listener,
    run: impl FnOnce(Raw) + Send + 'scope,
) -> ScopedJoinHandle<'scope, ()> {
    let address = scene.address(listener);
    scope.spawn(move || run(Raw::connect(address)))
}

#[test]
fn whoever_keeps_us_waiting_is_waited_for_so_long_and_no_longer() {
    let scene = Scene::new();
    let good = message(&scene.good_request());
    let good = good.as_slice();
    let head = frame(HEADERS, END_HEADERS, 1, &call_headers(CHECK));
    let head = head.as_slice();
    scene.attacked(32, || {
        std::thread::scope(|scope| {
            // An honest peer that has nothing to say, and then has.
            peer(scope, &scene, Listener::Gate, move |mut raw| {
                raw.send(PREFACE);
                raw.send(&frame(SETTINGS, 0, 0, &[]));
                let quiet = 2 * FRAME_LIMIT.max(PREFACE_LIMIT);
                raw.stream
                    .set_read_timeout(Some(quiet))
                    .expect("a timeout can be set");
                loop {
                    match raw.next() {
                        Ok(Some(it)) => assert!(
                            [SETTINGS, WINDOW_UPDATE].contains(&it.kind),
                            "nothing was asked: {it:?}"
                        ),
                        Ok(None) => panic!("an idle connection lives on"),
                        // The time is over.
                        Err(_) => break,
                    }
                }
                raw.send(head);
                raw.send(&frame(DATA, END_STREAM, 1, good));
                raw.wait_for("the decision", |it| it.kind == DATA && it.stream == 1);
            });
            for listener in [Listener::Gate, Listener::Admin] {
                peer(scope, &scene, listener, |raw| {
                    let end = raw.end();
                    assert_limit("row 108: silence", end.took, PREFACE_LIMIT);
                });
                peer(scope, &scene, listener, |raw| {
                    let end = raw.trickle(PREFACE);
                    assert_limit("row 110: the preface", end.took, PREFACE_LIMIT);
                });
                peer(scope, &scene, listener, move |mut raw| {
                    raw.send(PREFACE);
                    raw.send(&frame(SETTINGS, 0, 0, &[]));
                    let end = raw.trickle(head);
                    assert_limit("row 110: the headers", end.took, FRAME_LIMIT);
                });
                peer(scope, &scene, listener, |mut raw| {
                    raw.send(PREFACE);
                    raw.send(&frame(SETTINGS, 0, 0, &[]));
                    // Whole frames, but a block of headers that never ends.
                    raw.send(&frame(HEADERS, 0, 1, &call_headers(CHECK)));
                    assert_limit("row 110: half a block", raw.end().took, FRAME_LIMIT);
                });
            }
            // Whole frames with one byte each: the call is over, the connection is not.
            peer(scope, &scene, Listener::Gate, move |mut raw| {
                raw.send(PREFACE);
                raw.send(&frame(SETTINGS, 0, 0, &[]));
                raw.send(head);
                let started = std::time::Instant::now();
                raw.stream
                    .set_read_timeout(Some(Duration::from_secs(1)))
                    .expect("a timeout can be set");
                let mut rest = good.iter();
                let answer = loop {
                    match raw.next() {
                        Ok(Some(it)) if it.kind == HEADERS => break it,
                        Ok(Some(_)) => {}
                        Ok(None) => panic!("row 110: its connection was closed"),
                        Err(_) => {
                            let byte = rest.next().expect("it is answered before the last byte");
                            raw.send(&frame(DATA, 0, 1, &[*byte]));
                        }
                    }
                };
                assert_limit("row 110: the body", started.elapsed(), BODY_LIMIT);
                assert_eq!(
                    answer.flags & END_STREAM,
                    END_STREAM,
                    "an error: {answer:?}"
                );
                raw.stream
                    .set_read_timeout(Some(PATIENCE))
                    .expect("a timeout can be set");
                raw.wait_for("the end of the call", |it| it.kind == RST_STREAM);
                raw.send(&frame(HEADERS, END_HEADERS, 3, &call_headers(CHECK)));
                raw.send(&frame(DATA, END_STREAM, 3, good));
                raw.wait_for("the neighbour", |it| it.kind == DATA && it.stream == 3);
            });
        });
    });
    for listener in [Listener::Gate, Listener::Admin] {
        assert_eq!(scene.cuts(listener, "preface"), 2, "{listener:?}");
        assert_eq!(scene.cuts(listener, "slow_frame"), 2, "{listener:?}");
    }
}

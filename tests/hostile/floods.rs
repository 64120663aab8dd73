//! Peers that send more than they ask for. Each is told to calm down, or closed, after a bounded number of frames.

use crate::{
    raw::{
        CHECK, COMPRESSION_ERROR, CONTINUATION, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM,
        End, HEADERS, PING, RST_STREAM, Raw, SETTINGS, WINDOW_UPDATE, call_headers, frame, header,
        message,
    },
    scene::{Listener, Scene},
};

/// More frames than any limit here, and few enough to be sent at once.
const MANY: u32 = 20_000;
/// How often an attacker comes back.
const ROUNDS: usize = 5;
/// What all floods together may add, MiB: connections come and go, so that it does not add up.
const GROWTH: u64 = 64;

/// Sends `flood` on a new connection while another thread reads, some rounds. Each must end with GOAWAY.
#[track_caller]
fn flooded(scene: &Scene, listener: Listener, what: &str, flood: &[u8]) {
    for _ in 0..ROUNDS {
        let end = send_and_read(scene, listener, flood);
        assert_eq!(
            end.goaway,
            Some(ENHANCE_YOUR_CALM),
            "{what}: {listener:?}; {} frames came",
            end.frames.len()
        );
    }
}

#[track_caller]
fn send_and_read(scene: &Scene, listener: Listener, flood: &[u8]) -> End {
    let raw = Raw::open(scene.address(listener));
    let mut writer = raw.stream.try_clone().expect("a second handle");
    std::thread::scope(|scope| {
        scope.spawn(move || {
            use std::io::Write as _;
            // Until nobody takes any more.
            let _ = writer.write_all(flood);
        });
        raw.end()
    })
}

/// Streams of a client have odd numbers.
fn streams(count: u32) -> impl Iterator<Item = u32> {
    (0..count).map(|n| 2 * n + 1)
}

/// Calls that are reset cost less than calls that are answered, and through a proxy anybody may reset any number of them: who
/// sends them has its turn like everybody, and is not cut. On the admin listener no proxy stands between.
#[test]
fn calls_that_are_reset_at_once_hold_up_nobody() {
    let scene = Scene::new();
    let flood: Vec<u8> = streams(MANY)
        .flat_map(|stream| {
            let begin = frame(HEADERS, END_HEADERS, stream, &call_headers(CHECK));
            let reset = frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes());
            [begin, reset].concat()
        })
        .collect();
    let good = message(&scene.good_request());
    scene.attacked(GROWTH, || {
        for _ in 0..ROUNDS {
            let mut raw = Raw::open(scene.gate());
            raw.send(&flood);
            let stream = 2 * MANY + 1;
            raw.send(&frame(HEADERS, END_HEADERS, stream, &call_headers(CHECK)));
            raw.send(&frame(DATA, END_STREAM, stream, &good));
            raw.wait_for("row 103: the decision behind them", |it| {
                it.kind == DATA && it.stream == stream
            });
        }
        flooded(&scene, Listener::Admin, "row 103: rapid reset", &flood);
    });
    assert_eq!(scene.cuts(Listener::Gate, "flood"), 0, "row 103");
}

/// The same so far apart that each call is seen to begin, and waited for.
#[test]
fn calls_that_are_reset_a_moment_later_hold_up_nobody() {
    const AT_ONCE: u32 = 100;
    let scene = Scene::new();
    let good = message(&scene.good_request());
    scene.attacked(GROWTH, || {
        let mut raw = Raw::open(scene.gate());
        for first in (0..MANY).step_by(AT_ONCE as usize) {
            let all = first..first + AT_ONCE;
            let begin = all.clone().flat_map(|n| {
                let stream = 2 * n + 1;
                let headers = frame(HEADERS, END_HEADERS, stream, &call_headers(CHECK));
                [headers, frame(DATA, 0, stream, &good[..5])].concat()
            });
            raw.send(&begin.collect::<Vec<u8>>());
            // The answer to the ping says that all before it has been seen.
            raw.send(&frame(PING, 0, 0, &u64::from(first).to_be_bytes()));
            raw.wait_for("row 103: the answer to a ping", |it| it.kind == PING);
            let reset = all.flat_map(|n| frame(RST_STREAM, 0, 2 * n + 1, &8_u32.to_be_bytes()));
            raw.send(&reset.collect::<Vec<u8>>());
        }
        let stream = 2 * MANY + 1;
        raw.send(&frame(HEADERS, END_HEADERS, stream, &call_headers(CHECK)));
        raw.send(&frame(DATA, END_STREAM, stream, &good));
        raw.wait_for("row 103: the decision behind them", |it| {
            it.kind == DATA && it.stream == stream
        });
    });
    assert_eq!(scene.cuts(Listener::Gate, "flood"), 0, "row 103");
}

/// It does so when this process was held up, and all that it asked is over at once. That is no attack.
#[test]
fn a_proxy_that_gives_up_on_all_it_asked_keeps_its_connection() {
    let scene = Scene::new();
    let good = message(&scene.good_request());
    let mut raw = Raw::open(scene.gate());
    let given_up: Vec<u8> = streams(100)
        .flat_map(|stream| {
            let begin = frame(HEADERS, END_HEADERS, stream, &call_headers(CHECK));
            let reset = frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes());
            [begin, reset].concat()
        })
        .collect();
    raw.send(&given_up);
    raw.send(&frame(HEADERS, END_HEADERS, 1_001, &call_headers(CHECK)));
    raw.send(&frame(DATA, END_STREAM, 1_001, &good));
    raw.wait_for("row 103: the next decision", |it| {
        it.kind == DATA && it.stream == 1_001
    });
}

#[test]
fn headers_that_never_end_are_not_gathered() {
    let scene = Scene::new();
    let mut flood = frame(HEADERS, 0, 1, &call_headers(CHECK));
    for n in 0..MANY / 10 {
        let field = header(&format!("x-{n}"), &"a".repeat(900));
        flood.extend(frame(CONTINUATION, 0, 1, &field));
    }
    scene.attacked(GROWTH, || {
        flooded(&scene, Listener::Gate, "row 104: CONTINUATION", &flood);
        flooded(&scene, Listener::Admin, "row 104: CONTINUATION", &flood);
    });
}

#[test]
fn data_without_bytes_does_not_go_on() {
    let scene = Scene::new();
    let mut flood = frame(HEADERS, END_HEADERS, 1, &call_headers(CHECK));
    for _ in 0..MANY {
        flood.extend(frame(DATA, 0, 1, &[]));
    }
    scene.attacked(GROWTH, || {
        flooded(&scene, Listener::Gate, "row 105: empty DATA", &flood);
        flooded(&scene, Listener::Admin, "row 105: empty DATA", &flood);
    });
}

#[test]
fn frames_that_ask_for_nothing_do_not_go_on() {
    let scene = Scene::new();
    let kinds = [
        ("row 106: PING", frame(PING, 0, 0, &[0; 8])),
        ("row 106: SETTINGS", frame(SETTINGS, 0, 0, &[])),
        (
            "row 106: windows of 1",
            frame(WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes()),
        ),
        ("row 106: PRIORITY", frame(2, 0, 1, &[0, 0, 0, 0, 1])),
        ("row 106: an unknown kind", frame(0xBE, 0, 0, b"?")),
    ];
    scene.attacked(GROWTH, || {
        for (what, one) in &kinds {
            let flood = one.repeat(MANY as usize);
            flooded(&scene, Listener::Gate, what, &flood);
            flooded(&scene, Listener::Admin, what, &flood);
        }
    });
    let due = (kinds.len() * ROUNDS) as u64;
    assert_eq!(scene.cuts(Listener::Gate, "flood"), due);
    assert_eq!(scene.cuts(Listener::Admin, "flood"), due);
}

#[test]
fn answers_to_pings_that_nobody_reads_do_not_pile_up() {
    let scene = Scene::new();
    for one in [frame(PING, 0, 0, &[0; 8]), frame(SETTINGS, 0, 0, &[])] {
        let flood = one.repeat(MANY as usize);
        scene.attacked(GROWTH, || {
            for _ in 0..ROUNDS {
                let mut raw = Raw::open(scene.gate());
                // Reads nothing while it sends; either it is not taken, or the end is there to be read.
                let _ = raw.try_send(&flood);
                let end = raw.end();
                assert!(
                    end.frames.len() < 5_000,
                    "row 106: {} answers",
                    end.frames.len()
                );
            }
        });
    }
    assert_eq!(scene.cuts(Listener::Gate, "flood"), 2 * ROUNDS as u64);
}

/// The head of a large list, in as many frames as it takes.
fn headers_of(path: &str, stream: u32, bytes: usize) -> Vec<u8> {
    let mut block = call_headers(path);
    let mut n = 0;
    while block.len() < bytes {
        block.extend(header(&format!("x-{n}"), &"a".repeat(1_000)));
        n += 1;
    }
    let pieces: Vec<&[u8]> = block.chunks(16 << 10).collect();
    let mut bytes = Vec::new();
    for (n, piece) in pieces.iter().enumerate() {
        let (kind, end) = if n == 0 {
            (HEADERS, END_STREAM)
        } else {
            (CONTINUATION, 0)
        };
        let last = n + 1 == pieces.len();
        let flags = end | if last { END_HEADERS } else { 0 };
        bytes.extend(frame(kind, flags, stream, piece));
    }
    bytes
}

#[test]
fn headers_over_the_limit_are_refused_and_the_call_beside_them_is_not() {
    let scene = Scene::new();
    scene.attacked(GROWTH, || {
        for listener in [Listener::Gate, Listener::Admin] {
            let mut raw = Raw::open(scene.address(listener));
            raw.send(&headers_of(CHECK, 1, 20 << 10));
            let refused = raw.wait_for("an answer", |it| it.kind == HEADERS && it.stream == 1);
            assert_eq!(
                refused.flags & END_STREAM,
                END_STREAM,
                "row 107: nothing follows"
            );
            // `:status: 431`, the value in Huffman's code.
            let status = [0x83, 0x69, 0x90, 0xFF];
            assert!(
                refused.payload.windows(4).any(|it| it == status),
                "row 107: {:x?}",
                refused.payload
            );
            // The call beside it on the gate, which asks nobody who they are.
            if listener == Listener::Gate {
                raw.send(&frame(HEADERS, END_HEADERS, 3, &call_headers(CHECK)));
                raw.send(&frame(DATA, END_STREAM, 3, &message(&scene.good_request())));
                raw.wait_for("its decision", |it| it.kind == DATA && it.stream == 3);
            }
            drop(raw);

            // Far beyond it not even the rest of the block is followed.
            let far = headers_of(CHECK, 1, 1 << 20);
            let raw = send_and_read(&scene, listener, &far);
            let told = [COMPRESSION_ERROR, ENHANCE_YOUR_CALM].map(Some);
            assert!(
                told.contains(&raw.goaway),
                "row 107: {listener:?}: {:?}",
                raw.goaway
            );
        }
    });
}

/// Envoy copies what its client wrote for tracing into the call. Were that answered with an error, its client would choose what
/// Envoy does about errors.
#[test]
fn envoys_call_is_denied_whatever_headers_it_carries() {
    const ENVOY: &str = "/envoy.service.auth.v3.Authorization/Check";
    let scene = Scene::new();
    for (stream, bytes) in [(1, 20 << 10), (3, 64 << 10), (5, 100 << 10)] {
        let mut raw = Raw::open(scene.gate());
        raw.send(&headers_of(ENVOY, stream, bytes));
        let head = raw.wait_for("its head", |it| it.kind == HEADERS && it.stream == stream);
        // `:status: 200` of the static table, and more to come.
        assert_eq!(
            (head.payload[0], head.flags & END_STREAM),
            (0x88, 0),
            "{bytes}"
        );
        let denial = raw.wait_for("a denial", |it| it.kind == DATA && it.stream == stream);
        let text = String::from_utf8_lossy(&denial.payload);
        assert!(text.contains("INVALID_REQUEST"), "{bytes}: {text}");
        let trailers = raw.wait_for("its end", |it| it.kind == HEADERS && it.stream == stream);
        assert_eq!(trailers.flags & END_STREAM, END_STREAM, "{bytes}");
    }
}

//! What peers could have us keep: parts of requests, and answers that they do not take.

use bytes::Bytes;
use portcullis::{
    gate::wire::STALL_LIMIT,
    proto::v1::{BatchCheckRequest, CheckRequest},
};
use prost::Message as _;
use tonic::Code;

use crate::{
    raw::{
        BATCH_CHECK, CHECK, DATA, END_HEADERS, END_STREAM, HEADERS, Raw, WINDOW_UPDATE,
        call_headers, frame, message, setting,
    },
    scene::{Listener, Scene, runtime},
    support::{PATIENCE, check_request, wait_until},
};

/// As many as a connection may have.
const STREAMS: u32 = 1_024;
const INITIAL_WINDOW: u16 = 4;
const REFLECTION: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";

/// All requests of 10 connections, each of them one byte short: 20 GiB, if they were taken.
#[test]
fn requests_that_are_never_whole_are_held_up_to_a_bound_and_a_time() {
    const CONNECTIONS: usize = 10;
    let scene = Scene::new();
    let gate = scene.gate();
    // Held are 128 MiB at most; beside them each of 10,240 streams has its own few KiB, and each connection a window of
    // 1 MiB.
    scene.attacked(384, || {
        let peers: Vec<_> = (0..CONNECTIONS)
            .map(|_| std::thread::spawn(move || runtime().block_on(unfinished_bodies(gate))))
            .collect();
        let mut codes: Vec<Option<Code>> = Vec::new();
        for peer in peers {
            codes.extend(peer.join().expect("a peer's thread"));
        }
        assert_eq!(codes.len(), CONNECTIONS * STREAMS as usize);
        let of = |code| codes.iter().filter(|it| **it == code).count();
        let late = of(Some(Code::DeadlineExceeded));
        let over = of(Some(Code::ResourceExhausted));
        // Who goes on with calls that were refused is closed in the end.
        let closed = of(None);
        assert_eq!(late + over + closed, codes.len(), "{codes:?}");
        assert!(over > 0, "there is no room for all");
        eprintln!("too late: {late}, no room: {over}, closed: {closed}");
    });
}

/// The status of each call; `None`: the connection was closed instead.
async fn unfinished_bodies(gate: std::net::SocketAddr) -> Vec<Option<Code>> {
    let stream = tokio::net::TcpStream::connect(gate)
        .await
        .expect("the listener is there");
    let (mut peer, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
    let connection = tokio::spawn(connection);
    let whole = message(&vec![0; (2 << 20) - 1]);
    let almost = Bytes::from(whole).slice(..(2 << 20) + 3);
    let mut calls = Vec::new();
    for _ in 0..STREAMS {
        let request = http::Request::post(format!("http://hostile{CHECK}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())
            .expect("a request");
        if std::future::poll_fn(|context| peer.poll_ready(context))
            .await
            .is_err()
        {
            break;
        }
        let (response, mut body) = peer.send_request(request, false).expect("a call");
        let _ = body.send_data(almost.clone(), false);
        calls.push((response, body));
    }
    let mut codes = vec![None; STREAMS as usize - calls.len()];
    for (response, _body) in &mut calls {
        let answered = tokio::time::timeout(2 * PATIENCE, response).await;
        codes.push(answered.expect("in time").ok().map(|head| {
            let code = head.headers().get("grpc-status").expect("an error");
            Code::from_bytes(code.as_bytes())
        }));
    }
    connection.abort();
    codes
}

#[test]
fn a_window_that_lets_nothing_through_is_not_waited_for() {
    let scene = Scene::new();
    scene.attacked(24, || {
        for window in [0, 1, 1_023] {
            for listener in [Listener::Gate, Listener::Admin] {
                let mut raw = Raw::open(scene.address(listener));
                let _ = raw.try_send(&setting(INITIAL_WINDOW, window));
                let end = raw.end();
                assert!(end.took < STALL_LIMIT, "{window}: after {:?}", end.took);
            }
        }
    });
    for listener in [Listener::Gate, Listener::Admin] {
        assert_eq!(scene.cuts(listener, "unanswered"), 3, "{listener:?}");
    }
    // What clients begin with, and the least.
    for window in [65_535, 1_024] {
        let mut raw = Raw::open(scene.gate());
        raw.send(&setting(INITIAL_WINDOW, window));
        raw.send(&frame(HEADERS, END_HEADERS, 1, &call_headers(CHECK)));
        raw.send(&frame(DATA, END_STREAM, 1, &message(&scene.good_request())));
        raw.wait_for("the decision", |it| it.kind == DATA);
    }
}

fn calls(path: &str, request: &[u8], count: u32) -> Vec<u8> {
    let (head, body) = (call_headers(path), message(request));
    (0..count)
        .flat_map(|n| {
            let stream = 2 * n + 1;
            let mut bytes = frame(HEADERS, END_HEADERS, stream, &head);
            let pieces: Vec<&[u8]> = body.chunks(16 << 10).collect();
            for (at, piece) in pieces.iter().enumerate() {
                let last = at + 1 == pieces.len();
                let flags = if last { END_STREAM } else { 0 };
                bytes.extend(frame(DATA, flags, stream, piece));
            }
            bytes
        })
        .collect()
}

/// A batch whose answer is far larger than the question.
fn batch(token: &str) -> Vec<u8> {
    let checks: Vec<CheckRequest> = (0..1_000)
        .map(|_| check_request(token, &["sms.send"]))
        .collect();
    BatchCheckRequest { checks }.encode_to_vec()
}

#[test]
fn answers_that_nobody_takes_are_kept_up_to_a_bound_and_a_time() {
    let scene = Scene::new();
    let small = calls(CHECK, &scene.good_request(), STREAMS);
    let symbol = "portcullis.v1.KeyService";
    let mut reflection = vec![4 << 3 | 2, u8::try_from(symbol.len()).expect("short")];
    reflection.extend(symbol.as_bytes());
    let large = calls(BATCH_CHECK, &batch(&scene.token), 300);
    assert!(
        large.len() > 16 << 20,
        "more than a system takes for others"
    );
    // Calls that may last, so that it is not their age that ends it; as many as there may be, and many questions in each.
    let lasting: Vec<u8> = (0..16)
        .flat_map(|n| {
            let stream = 2 * n + 1;
            let begin = frame(HEADERS, END_HEADERS, stream, &call_headers(REFLECTION));
            let questions = message(&reflection).repeat(200);
            [begin, frame(DATA, 0, stream, &questions)].concat()
        })
        .collect();
    // Of one connection 16 MiB are held, two have large answers; and what is decided upon takes its own while it is.
    scene.attacked(96, || {
        std::thread::scope(|scope| {
            // The windows of the calls are open, that of the connection is not opened again.
            scope.spawn(|| {
                let mut raw = Raw::open(scene.gate());
                let _ = raw.try_send(&small);
                let end = raw.end();
                let taken: usize = end
                    .frames
                    .iter()
                    .filter(|it| it.kind == DATA)
                    .map(|it| it.payload.len())
                    .sum();
                assert!(taken <= 65_535, "{taken} bytes of answers");
            });
            scope.spawn(|| {
                let mut raw = Raw::open(scene.gate());
                let _ = raw.try_send(&large);
                let _ = raw.end();
            });
            // All windows are open, and nothing is read.
            scope.spawn(|| {
                let mut raw = Raw::open(scene.gate());
                // Else the system itself would take many answers for it.
                rustix::net::sockopt::set_socket_recv_buffer_size(&raw.stream, 4_096)
                    .expect("an option can be set");
                raw.send(&setting(INITIAL_WINDOW, i32::MAX as u32));
                let most = (i32::MAX as u32 - 65_535).to_be_bytes();
                raw.send(&frame(WINDOW_UPDATE, 0, 0, &most));
                let _ = raw.try_send(&lasting);
                wait_until("the peer that does not read is cut", || {
                    scene.cuts(Listener::Gate, "stalled") == 1
                });
            });
        });
    });
    assert_eq!(scene.cuts(Listener::Gate, "unanswered"), 2);
    assert_eq!(scene.cuts(Listener::Gate, "stalled"), 1);
}

//! What one client of Envoy can do to the others: whatever it sends, the gate's answers to all of them are answers. Envoy is
//! made to let pass what it cannot ask about, as some run it, so that a call that fails is a request that gets through.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::{io::AsyncWriteExt as _, net::TcpStream, task::JoinSet, time::timeout};

use crate::{
    clients::{Answered, Ask, BOTH, Http2, Protocol},
    frames::{self, frame},
    harness::{Config, Envoy},
    scene::{IC, INV, Judge, SEND, Scene},
    support::{PATIENCE, Setup},
    upstream::GREETING,
};

const PING: u8 = 6;
const ACK: u8 = 1;
const CANCEL: [u8; 4] = 8_u32.to_be_bytes();

/// Envoy cuts a client once it has reset more than 250 streams that were just begun, and takes 100 of them at a time.
const CONNECTIONS: u32 = 90;
const TURNS: u32 = 3;
const AT_ONCE: u32 = 80;
const RESETS: u32 = CONNECTIONS * TURNS * AT_ONCE;

/// No credential of anybody's.
const NONSENSE: &str = "nonsense";

/// What fails is let through.
fn letting_pass(config: Config) -> Config {
    config.with("failure_mode_allow: false", "failure_mode_allow: true")
}

/// Asserts that Envoy had an answer to each call that it waited for.
#[track_caller]
fn none_failed(envoy: &Envoy) {
    for figure in ["error", "failure_mode_allowed"] {
        let name = format!("http.edge.ext_authz.{figure}");
        assert_eq!(envoy.stat(&name), 0, "{name}");
    }
}

/// Opens streams on new connections and resets each in the same write, so that Envoy begins a call and gives it up.
async fn reset_streams(edge: SocketAddr) {
    let bearer = format!("Bearer {NONSENSE}");
    let block = frames::fields(&[
        (b":method", b"GET"),
        (b":scheme", b"http"),
        (b":authority", SEND.as_bytes()),
        (b":path", b"/reset"),
        (b"authorization", bearer.as_bytes()),
    ]);
    for _ in 0..CONNECTIONS {
        let mut stream = TcpStream::connect(edge).await.expect("Envoy is there");
        let mut bytes = frames::PREFACE.to_vec();
        bytes.extend(frame(frames::SETTINGS, 0, 0, &[]));
        for turn in 0..TURNS {
            for number in 0..AT_ONCE {
                let id = 2 * (turn * AT_ONCE + number) + 1;
                bytes.extend(frame(frames::HEADERS, frames::WHOLE, id, &block));
                bytes.extend(frame(frames::RST_STREAM, 0, id, &CANCEL));
            }
            bytes.extend(frame(PING, 0, 0, &[0; 8]));
            stream.write_all(&bytes).await.expect("Envoy reads");
            bytes.clear();
            pong(&mut stream).await;
        }
    }
}

/// Waits until Envoy has read all that was sent.
async fn pong(stream: &mut TcpStream) {
    loop {
        let frame = frames::read(stream).await;
        let (kind, flags, payload) = frame.expect("Envoy keeps the connection");
        match kind {
            PING if flags & ACK != 0 => return,
            frames::GOAWAY => panic!("Envoy takes no more: {payload:?}"),
            _ => {}
        }
    }
}

/// Sends this again and again until it is told to stop.
async fn go_on(edge: SocketAddr, ask: Ask, over: Protocol, stop: Arc<AtomicBool>) -> Vec<Answered> {
    let mut http2 = Http2::open(edge).await;
    let mut answers = Vec::new();
    while !stop.load(Ordering::SeqCst) {
        answers.push(match over {
            Protocol::Http1 => ask.send(edge, Protocol::Http1).await,
            Protocol::Http2 => http2.send(&ask).await,
        });
    }
    answers
}

/// An outsider needs no key to begin calls, and to give them up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_resets_its_streams_takes_no_answer_from_another() {
    let Ok(scene) = Scene::start_as(Setup::new(), letting_pass).await else {
        return;
    };
    let key = scene.sender().await;
    let edge = scene.envoy.edge();
    let stop = Arc::new(AtomicBool::new(false));
    let (mut strangers, mut holders) = (JoinSet::new(), JoinSet::new());
    for over in [BOTH; 4].concat() {
        let ask = Ask::of(SEND).path("/stranger").bearer(NONSENSE);
        strangers.spawn(go_on(edge, ask, over, Arc::clone(&stop)));
    }
    for over in [BOTH; 2].concat() {
        let ask = Ask::of(SEND).path("/holder").bearer(&key.token);
        holders.spawn(go_on(edge, ask, over, Arc::clone(&stop)));
    }
    timeout(2 * PATIENCE, reset_streams(edge))
        .await
        .expect("Envoy keeps up");
    stop.store(true, Ordering::SeqCst);

    let strangers = strangers.join_all().await.concat();
    for answered in &strangers {
        IC.is("nonsense, meanwhile", answered);
    }
    let holders = holders.join_all().await.concat();
    for answered in &holders {
        assert_eq!((answered.status, &*answered.body), (200, GREETING));
    }
    for (who, count) in [("strangers", strangers.len()), ("holders", holders.len())] {
        assert!(count >= 20, "{count} calls of {who} meanwhile");
    }
    let mut reached = BTreeMap::new();
    for request in scene.upstream.take() {
        *reached.entry(request.path).or_default() += 1;
    }
    assert_eq!(
        reached,
        [("/holder".to_owned(), holders.len())].into(),
        "who got through"
    );

    none_failed(&scene.envoy);
    let reset = scene.envoy.stat("http.edge.downstream_rq_rx_reset");
    assert_eq!(reset, u64::from(RESETS), "streams that clients reset");
    let given_up = scene.envoy.stat("cluster.portcullis.upstream_rq_tx_reset");
    assert!(given_up > 20_000, "{given_up} calls were begun and reset");
    let ended = "cluster.portcullis.upstream_cx_destroy_remote";
    assert_eq!(scene.envoy.stat(ended), 0, "connections the gate ended");
    let cut = scene
        .server
        .metric("portcullis_connections_cut_total", "why=\"flood\"");
    assert_eq!(cut, Some(0.0), "connections cut for a flood");
}

/// Copies what a client says of its trace into the calls that are made for it.
const TRACING: &str = "use_remote_address: true\n          tracing: { provider: { name: envoy.tracers.opentelemetry, \
    typed_config: { \"@type\": type.googleapis.com/envoy.config.trace.v3.OpenTelemetryConfig, service_name: edge, \
    grpc_service: { envoy_grpc: { cluster_name: collector }, timeout: 1s } } } }\n";
/// It wants somebody to report to, who need not be there.
const COLLECTOR: &str = "  clusters:\n  - { name: collector, type: STATIC, connect_timeout: 1s }\n";

fn tracing(config: Config) -> Config {
    config
        .with("use_remote_address: true\n", TRACING)
        .with("  clusters:\n", COLLECTOR)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trace_that_is_too_long_is_denied_and_no_error() {
    let change = |config| tracing(letting_pass(config));
    let Ok(scene) = Scene::start_as(Setup::new(), change).await else {
        return;
    };
    let key = scene.sender().await;
    let traced = |token: &str, length: usize| {
        Ask::of(SEND)
            .bearer(token)
            .header("traceparent", format!("00-{:032x}-{:016x}-01", 1, 2))
            .header("tracestate", format!("a={}", "b".repeat(length)))
    };
    let mut judge = Judge::of(&scene);
    for protocol in BOTH {
        let short = traced(&key.token, 200);
        judge.allowed("a short one", &short, protocol).await;
        let short = traced(NONSENSE, 200);
        judge.denied("a short one", &short, protocol, IC).await;
        for kibibytes in [20, 50] {
            for token in [NONSENSE, &key.token] {
                let long = traced(token, kibibytes << 10);
                let what = format!("{kibibytes} KiB");
                judge.denied(&what, &long, protocol, INV).await;
            }
        }
    }
    judge.agrees_with_the_log();
    none_failed(&scene.envoy);
    let answered = scene.envoy.stat("http.edge.ext_authz.denied");
    assert_eq!(answered, 10, "denials that were answers");
}

//! Several requests on one connection: each is judged by itself, and none is hidden in another.

use crate::{
    clients::{Ask, Http2, raw},
    scene::{DISABLED, PD, SEND, Scene, may, name},
    support::Mutation,
    upstream::GREETING,
};

/// A request that another one follows.
fn kept_alive(ask: &Ask) -> Vec<u8> {
    let text = ask.bytes();
    let line = b"connection: close\r\n";
    let at = text
        .windows(line.len())
        .position(|part| part == line)
        .expect("it asks for the connection's end");
    [&text[..at], &text[at + line.len()..]].concat()
}

fn paths(scene: &Scene) -> Vec<String> {
    let reached = scene.upstream.take();
    reached.into_iter().map(|reached| reached.path).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_request_of_a_connection_is_judged_by_itself() {
    let Ok(scene) = Scene::start().await else {
        return;
    };
    let (good, bad) = (scene.sender().await, scene.sender().await);
    let reader = scene.create(may(&["sms.read"])).await;
    scene.change(Mutation::disable(name(&bad))).await;
    let edge = scene.envoy.edge();
    let ask = |path: &str, token: &str| Ask::of(SEND).path(path).bearer(token);

    // One after the other without waiting.
    let requests = [
        kept_alive(&ask("/1", &good.token)),
        kept_alive(&ask("/2", &bad.token)),
        kept_alive(&Ask::of(SEND).path("/3")),
        kept_alive(&ask("/4", &reader.token)),
        ask("/5", &good.token).bytes(),
    ];
    let mut stream = tokio::net::TcpStream::connect(edge).await.expect("Envoy");
    let mut answers = String::new();
    let exchange = async {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        stream
            .write_all(&requests.concat())
            .await
            .expect("Envoy reads");
        stream.read_to_string(&mut answers).await.expect("answers");
    };
    tokio::time::timeout(crate::support::PATIENCE, exchange)
        .await
        .expect("answers in time");
    let statuses: Vec<_> = answers
        .split("HTTP/1.1 ")
        .skip(1)
        .map(|answer| &answer[..3])
        .collect();
    assert_eq!(statuses, ["200", "403", "401", "403", "200"], "{answers}");
    assert_eq!(paths(&scene), ["/1", "/5"]);

    // All at once on one connection.
    let mut http2 = Http2::open(edge).await;
    let mut at_once = tokio::task::JoinSet::new();
    for number in 0..60 {
        let token = [&good.token, &bad.token, &reader.token][number % 3];
        let ask = ask(&format!("/{number}"), token);
        let mut connection = http2.again();
        at_once.spawn(async move { (number, connection.send(&ask).await) });
    }
    while let Some(done) = at_once.join_next().await {
        let (number, answered) = done.expect("no client fails");
        match number % 3 {
            0 => assert_eq!(answered.body, GREETING, "{number}"),
            1 => DISABLED.is("at once", &answered),
            _ => PD.is("at once", &answered),
        }
    }
    let mut seen = paths(&scene);
    seen.sort();
    let mut due: Vec<_> = (0..60)
        .step_by(3)
        .map(|number| format!("/{number}"))
        .collect();
    due.sort();
    assert_eq!(seen, due);
    let last = http2.send(&ask("/last", &bad.token)).await;
    DISABLED.is("last", &last);
    scene.upstream.untouched("a bad one after good ones");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_hides_in_anothers_body() {
    let Ok(scene) = Scene::start().await else {
        return;
    };
    let good = scene.sender().await;
    let bad = scene.sender().await;
    scene.change(Mutation::disable(name(&bad))).await;
    let hidden = String::from_utf8(Ask::of(SEND).path("/hidden").bytes()).expect("text");
    let post = |token: &str, headers: &str, body: &str| {
        format!(
            "POST /outer HTTP/1.1\r\nhost: {SEND}\r\nauthorization: Bearer {token}\r\n{headers}\r\n{body}"
        )
    };
    let length = hidden.len();
    let chunked = format!("0\r\n\r\n{hidden}");
    let chunk = format!("{length:x}\r\n{hidden}\r\n0\r\n\r\n");
    for (what, bytes, reaches) in [
        (
            "a body that is a request",
            post(
                &good.token,
                &format!("connection: close\r\ncontent-length: {length}\r\n"),
                &hidden,
            ),
            true,
        ),
        (
            "a chunk that is a request",
            post(
                &good.token,
                "connection: close\r\ntransfer-encoding: chunked\r\n",
                &chunk,
            ),
            true,
        ),
        (
            "a denied one with such a body",
            post(
                &bad.token,
                &format!("content-length: {length}\r\n"),
                &hidden,
            ),
            false,
        ),
        (
            "a denied one with such a chunk",
            post(&bad.token, "transfer-encoding: chunked\r\n", &chunk),
            false,
        ),
        (
            "two lengths",
            post(
                &good.token,
                &format!("content-length: 0\r\ncontent-length: {length}\r\n"),
                &hidden,
            ),
            false,
        ),
        (
            "a length and chunks",
            post(
                &good.token,
                &format!(
                    "content-length: {}\r\ntransfer-encoding: chunked\r\n",
                    chunked.len()
                ),
                &chunked,
            ),
            false,
        ),
        (
            "chunks in another spelling",
            post(&good.token, "transfer-encoding: xchunked\r\n", &chunked),
            false,
        ),
        (
            "a blank before the colon",
            post(
                &good.token,
                &format!("content-length : {length}\r\n"),
                &hidden,
            ),
            false,
        ),
    ] {
        let answered = raw(scene.envoy.edge(), bytes.as_bytes()).await;
        assert_eq!(answered.status == 200, reaches, "{what}: {answered:?}");
        let due: &[&str] = if reaches { &["/outer"] } else { &[] };
        assert_eq!(paths(&scene), due, "{what}");
    }
    // And Envoy is none the worse for it.
    let answered = raw(
        scene.envoy.edge(),
        &Ask::of(SEND).bearer(&good.token).bytes(),
    )
    .await;
    assert_eq!(answered.body, GREETING);
    assert_eq!(paths(&scene), ["/"]);
}

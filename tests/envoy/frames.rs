//! HTTP/2 by hand, for what no client library sends: Envoy takes it for no request, and nobody is asked.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::{
    scene::{SEND, Scene},
    support::PATIENCE,
};

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const GOAWAY: u8 = 7;
/// The end of the stream and of the headers.
pub const WHOLE: u8 = 0x5;

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len())
        .expect("a short frame")
        .to_be_bytes();
    let head = [&length[1..], &[kind, flags], &stream.to_be_bytes()[..]].concat();
    [&head, payload].concat()
}

/// Header fields as literals, neither indexed nor compressed.
pub fn fields(fields: &[(&[u8], &[u8])]) -> Vec<u8> {
    let text = |text: &[u8]| {
        // In HPACK 127 and more take further bytes of seven bits.
        let mut bytes = Vec::new();
        match text.len() {
            short @ 0..127 => bytes.push(u8::try_from(short).expect("it is short")),
            long => {
                bytes.push(127);
                prost::encoding::encode_varint((long - 127) as u64, &mut bytes);
            }
        }
        bytes.extend_from_slice(text);
        bytes
    };
    fields
        .iter()
        .flat_map(|(name, value)| [vec![0], text(name), text(value)].concat())
        .collect()
}

/// The next frame, unless the connection ends: its kind, its flags and its payload.
pub async fn read(stream: &mut TcpStream) -> Option<(u8, u8, Vec<u8>)> {
    let mut head = [0; 9];
    stream.read_exact(&mut head).await.ok()?;
    let [a, b, c, kind, flags, ..] = head;
    let length = u32::from_be_bytes([0, a, b, c]);
    let mut payload = vec![0; usize::try_from(length).expect("a length")];
    stream.read_exact(&mut payload).await.ok()?;
    Some((kind, flags, payload))
}

/// How a request was taken.
#[derive(Debug, PartialEq, Eq)]
enum Taken {
    /// With `:status: 200`.
    Ok,
    /// With another status.
    Refused,
    /// Its stream or its connection was ended.
    Ended,
}

async fn send(edge: SocketAddr, block: &[u8]) -> Taken {
    let exchange = async {
        let mut stream = TcpStream::connect(edge).await.expect("Envoy is there");
        let bytes = [
            PREFACE,
            &frame(SETTINGS, 0, 0, &[]),
            &frame(HEADERS, WHOLE, 1, block),
        ];
        stream
            .write_all(&bytes.concat())
            .await
            .expect("Envoy reads");
        loop {
            let Some((kind, _, payload)) = read(&mut stream).await else {
                return Taken::Ended;
            };
            match kind {
                // `:status: 200` is entry 8 of the static table.
                HEADERS if payload.contains(&0x88) => return Taken::Ok,
                HEADERS => return Taken::Refused,
                RST_STREAM | GOAWAY => return Taken::Ended,
                _ => {}
            }
        }
    };
    timeout(PATIENCE, exchange)
        .await
        .expect("an answer in time")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_http2_request_is_not_taken_for_one() {
    let Ok(scene) = Scene::start().await else {
        return;
    };
    let key = scene.sender().await;
    let edge = scene.envoy.edge();
    let bearer = format!("Bearer {}", key.token);
    let (before, after) = bearer.as_bytes().split_at(20);
    let request = |path: &'static [u8], more: &[(&[u8], &[u8])]| {
        let head: [(&[u8], &[u8]); 4] = [
            (b":method", b"GET"),
            (b":scheme", b"http"),
            (b":authority", SEND.as_bytes()),
            (b":path", path),
        ];
        fields(&[&head[..], more].concat())
    };
    let auth: (&[u8], &[u8]) = (b"authorization", bearer.as_bytes());
    assert_eq!(send(edge, &request(b"/", &[auth])).await, Taken::Ok);
    scene.upstream.only();

    let with = |between: &[u8]| [before, between, after].concat();
    let bad_values = [
        &b"\0"[..],
        b"\r",
        b"\n",
        b"\r\nx-portcullis-key: forged\r\n",
    ]
    .map(with);
    let mut blocks: Vec<(String, Vec<u8>)> = bad_values
        .iter()
        .map(|value| {
            let what = format!("rows 12 and 13: {}", value.escape_ascii());
            (what, request(b"/", &[(b"authorization", value)]))
        })
        .collect();
    for (what, block) in [
        (
            "an upper-case name",
            request(b"/", &[(b"Authorization", bearer.as_bytes())]),
        ),
        (
            "a name with a line's end",
            request(b"/", &[auth, (b"x\r\ny", b"1")]),
        ),
        ("an empty name", request(b"/", &[auth, (b"", b"1")])),
        (
            "a blank in a name",
            request(b"/", &[auth, (b"x portcullis", b"1")]),
        ),
        ("row 44: an empty path", request(b"", &[auth])),
        ("row 41: NUL in the path", request(b"/a\0", &[auth])),
        ("a line's end in the path", request(b"/a\r\nb", &[auth])),
        ("a blank in the path", request(b"/a b", &[auth])),
        ("two paths", request(b"/", &[auth, (b":path", b"/other")])),
        ("two methods", request(b"/", &[(b":method", b"POST"), auth])),
        (
            "a pseudo-header behind others",
            request(b"/", &[auth, (b":authority", b"other")]),
        ),
        (
            "an unknown pseudo-header",
            request(b"/", &[(b":portcullis", b"1"), auth]),
        ),
        (
            "HTTP/1.1's connection",
            request(b"/", &[auth, (b"connection", b"close")]),
        ),
        (
            "HTTP/1.1's chunks",
            request(b"/", &[auth, (b"transfer-encoding", b"chunked")]),
        ),
    ] {
        blocks.push((what.to_owned(), block));
    }
    for (what, block) in &blocks {
        let taken = send(edge, block).await;
        assert_ne!(taken, Taken::Ok, "{what}");
        scene.upstream.untouched(what);
    }
    assert_eq!(send(edge, &request(b"/", &[auth])).await, Taken::Ok);
    scene.upstream.only();
}

//! Messages that are none. Each ends its own call with an error, and nothing else on its connection.

use bytes::Bytes;
use h2::client::SendRequest;
use portcullis::proto::v1::CheckResponse;
use prost::Message as _;
use tonic::Code;

use crate::{
    raw::{CHECK, message},
    scene::{Listener, Scene, runtime},
};

/// One bad call.
struct Bad {
    row: &'static str,
    headers: &'static [(&'static str, &'static str)],
    pieces: Vec<Bytes>,
    due: Code,
}

/// 10 MiB of zeros as gzip writes them: a zero, and copies of 258 bytes from one byte back, in one block of fixed codes.
fn bomb() -> Vec<u8> {
    const COPIES: usize = 40_642;
    let mut bits: Vec<bool> = Vec::new();
    // A field begins with its lowest bit, a code with its highest.
    bits.extend([true, true, false]);
    let mut code = |code: u32, length: u32| {
        bits.extend((0..length).rev().map(|bit| code >> bit & 1 == 1));
    };
    code(0b0011_0000, 8);
    for _ in 0..COPIES {
        code(0b1100_0101, 8);
        code(0, 5);
    }
    code(0, 7);
    let zeros = vec![0; 1 + 258 * COPIES];
    let mut bytes = vec![0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 2, 255];
    bytes.extend(bits.chunks(8).map(|bits| {
        let bit = |(at, bit): (usize, &bool)| u8::from(*bit) << at;
        bits.iter().enumerate().map(bit).sum::<u8>()
    }));
    bytes.extend(crc32fast::hash(&zeros).to_le_bytes());
    bytes.extend(u32::try_from(zeros.len()).expect("10 MiB").to_le_bytes());
    bytes
}

fn compressed(bytes: &[u8]) -> Bytes {
    let mut framed = message(bytes);
    framed[0] = 1;
    framed.into()
}

fn bad_calls(good: &[u8], limit: usize) -> Vec<Bad> {
    let whole = message(good);
    let oversize = message(&vec![0; limit + 1]);
    let four_gib = [&[0, 255, 255, 255, 255][..], good].concat();
    let (early, _) = whole.split_at(whole.len() - 1);
    vec![
        Bad {
            row: "row 98: a message over the limit",
            headers: &[],
            pieces: oversize
                .chunks(16 << 10)
                .map(Bytes::copy_from_slice)
                .collect(),
            due: Code::OutOfRange,
        },
        Bad {
            row: "row 99: a length prefix of 4 GiB",
            headers: &[],
            pieces: vec![four_gib.into()],
            due: Code::OutOfRange,
        },
        Bad {
            row: "row 100: the compressed flag without an encoding",
            headers: &[],
            pieces: vec![compressed(good)],
            due: Code::InvalidArgument,
        },
        Bad {
            row: "row 101: a gzip bomb",
            headers: &[("grpc-encoding", "gzip")],
            pieces: vec![compressed(&bomb())],
            due: Code::Unimplemented,
        },
        Bad {
            row: "row 102: an end before the last byte",
            headers: &[],
            pieces: vec![Bytes::copy_from_slice(early)],
            due: Code::InvalidArgument,
        },
        Bad {
            row: "row 102: an end within the length",
            headers: &[],
            pieces: vec![Bytes::copy_from_slice(&whole[..3])],
            due: Code::InvalidArgument,
        },
        Bad {
            row: "row 102: no message at all",
            headers: &[],
            pieces: vec![],
            due: Code::InvalidArgument,
        },
    ]
}

/// The outcome of a call: its status, and the message that came before it.
struct Outcome {
    code: Code,
    answer: Option<CheckResponse>,
}

async fn call(
    peer: &mut SendRequest<Bytes>,
    headers: &[(&str, &str)],
    pieces: &[Bytes],
) -> Result<Outcome, h2::Error> {
    let mut request = http::Request::post(format!("http://hostile{CHECK}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(()).expect("a request");
    std::future::poll_fn(|context| peer.poll_ready(context)).await?;
    let (response, mut body) = peer.send_request(request, false)?;
    for piece in pieces {
        // What was answered already takes no more.
        if body.send_data(piece.clone(), false).is_err() {
            break;
        }
    }
    let _ = body.send_data(Bytes::new(), true);

    let (head, mut body) = response.await?.into_parts();
    assert_eq!(head.status, 200, "an error of gRPC, not of HTTP");
    let code = |headers: &http::HeaderMap| {
        headers
            .get("grpc-status")
            .map(|code| Code::from_bytes(code.as_bytes()))
    };
    if let Some(code) = code(&head.headers) {
        return Ok(Outcome { code, answer: None });
    }
    let mut bytes = Vec::new();
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        bytes.extend(data);
    }
    let trailers = body.trailers().await?.expect("a status behind the message");
    Ok(Outcome {
        code: code(&trailers).expect("a status"),
        answer: Some(CheckResponse::decode(&bytes[5..]).expect("a message")),
    })
}

fn run(listener: Listener) {
    let scene = Scene::new();
    let authorization = format!("Bearer {}", scene.server.root_token());
    let own = match listener {
        Listener::Gate => vec![],
        Listener::Admin => vec![("authorization", authorization.as_str())],
    };
    let good = message(&scene.good_request());
    // The gate takes 2 MiB, the admin listener 4.
    let limit = match listener {
        Listener::Gate => 2 << 20,
        Listener::Admin => 4 << 20,
    };
    let bad = bad_calls(&scene.good_request(), limit);
    let address = scene.address(listener);
    scene.attacked(24, || {
        runtime().block_on(async {
            let stream = tokio::net::TcpStream::connect(address)
                .await
                .expect("the listener is there");
            let (mut peer, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
            let connection = tokio::spawn(connection);
            // A neighbour that is in the middle of its call throughout.
            let mut neighbour = http::Request::post(format!("http://hostile{CHECK}"))
                .header("content-type", "application/grpc")
                .header("te", "trailers");
            for (name, value) in &own {
                neighbour = neighbour.header(*name, *value);
            }
            let (first, last) = good.split_at(10);
            let (answer, mut rest) = peer
                .send_request(neighbour.body(()).expect("a request"), false)
                .expect("a call");
            rest.send_data(Bytes::copy_from_slice(first), false)
                .expect("the first part");

            for Bad {
                row,
                headers,
                pieces,
                due,
            } in &bad
            {
                let headers = [&own[..], headers].concat();
                let got = call(&mut peer, &headers, pieces)
                    .await
                    .unwrap_or_else(|error| panic!("{row}: {error}"));
                assert_eq!(got.code, *due, "{row}");
                assert!(got.answer.is_none(), "{row}: {:?}", got.answer);
                let good = [Bytes::copy_from_slice(&good)];
                let neighbour = call(&mut peer, &own, &good).await.expect("an answer");
                assert_eq!(neighbour.code, Code::Ok, "{row}: the call after it");
                assert!(neighbour.answer.is_some_and(|it| it.allowed), "{row}");
            }
            // Row 112: what is no timeout is as none.
            for timeout in ["", "1", "S", "-1S", "99999999999S", "1.5S", "1x", "1S,1S"] {
                let headers = [&own[..], &[("grpc-timeout", timeout)]].concat();
                let good = [Bytes::copy_from_slice(&good)];
                let got = call(&mut peer, &headers, &good)
                    .await
                    .unwrap_or_else(|error| panic!("row 112: {timeout:?}: {error}"));
                assert_eq!(got.code, Code::Ok, "row 112: {timeout:?}");
                assert!(got.answer.is_some_and(|it| it.allowed), "{timeout:?}");
            }

            rest.send_data(Bytes::copy_from_slice(last), true)
                .expect("the last part");
            let (head, mut body) = answer.await.expect("an answer").into_parts();
            assert!(
                !head.headers.contains_key("grpc-status"),
                "the call beside them was harmed: {head:?}"
            );
            let data = body.data().await.expect("data").expect("data");
            let answer = CheckResponse::decode(&data[5..]).expect("a message");
            assert!(answer.allowed, "the call beside them");
            connection.abort();
        });
    });
}

#[test]
fn a_bad_message_ends_its_own_call_on_the_gate() {
    run(Listener::Gate);
}

#[test]
fn a_bad_message_ends_its_own_call_on_the_admin_listener() {
    run(Listener::Admin);
}

//! Messages that Envoy would not send: they are answered all the same.

use portcullis::proto::envoy::config::core::v3::{Pipe, address::Address as Kind};
use prost::Message as _;

use crate::{
    direct,
    rows::Keys,
    scene::{IC, INV, NO_POLICY, SD, SEND, Scene},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_that_envoy_would_not_send_are_denied_by_an_answer() {
    let Ok(scene) = Scene::start().await else {
        return;
    };
    let keys = Keys::of(&scene).await;
    let gate = scene.server.gate().tcp();
    let token = &*keys.good.token;
    let encoded = |change: &dyn Fn(&mut _)| {
        let mut request = direct::envoys(&[("x-api-key", token)]);
        change(&mut request);
        direct::framed(&request.encode_to_vec())
    };
    direct::passes("a good message", gate, &encoded(&|_| {})).await;

    let local = || direct::envoys(&[("x-api-key", &keys.local.token)]);
    let from = |source| {
        let mut request = local();
        request.attributes.as_mut().expect("attributes").source = source;
        direct::framed(&request.encode_to_vec())
    };
    let pipe = Kind::Pipe(Pipe {
        path: "/run/edge.sock".into(),
        mode: 0,
    });
    let whole = direct::envoys(&[("x-api-key", token)]).encode_to_vec();
    let nested = {
        // `metadata_context.filter_metadata`'s entry: a struct of a struct, two hundred deep.
        let field = |number: u8, inner: &[u8]| {
            let mut bytes = vec![number << 3 | 2];
            prost::encoding::encode_varint(inner.len() as u64, &mut bytes);
            bytes.extend_from_slice(inner);
            bytes
        };
        let mut value = Vec::new();
        for _ in 0..200 {
            // Value.struct_value = 5, Struct.fields = 1, entry: value = 2.
            value = field(1, &field(2, &field(5, &value)));
        }
        let metadata = field(1, &[field(1, b"a"), field(2, &value)].concat());
        [whole.clone(), field(1, &field(11, &metadata))].concat()
    };
    let not_text = {
        let mut bytes = whole.clone();
        let at = bytes
            .windows(SEND.len())
            .position(|part| part == b"sms.send".as_slice() || part == SEND.as_bytes());
        assert!(at.is_some(), "the host is in it");
        let at = bytes
            .windows(8)
            .position(|part| part == b"sms.send")
            .expect("the permission is in it");
        bytes[at] = 0xff;
        bytes
    };
    let prefixed = |flag: u8, length: u32, message: &[u8]| {
        [&[flag], &length.to_be_bytes()[..], message].concat()
    };
    let length = u32::try_from(whole.len()).expect("a short message");
    let twice = [whole.clone(), whole.clone()].concat();
    for (what, body, denial) in [
        (
            "row 3: two in the map and the list",
            encoded(&|request| {
                direct::http(request)
                    .headers
                    .insert("x-api-key".into(), token.into());
            }),
            INV,
        ),
        (
            "row 12: NUL",
            encoded(&|request| {
                let headers = &mut direct::http(request)
                    .header_map
                    .as_mut()
                    .expect("a map")
                    .headers;
                headers[0].raw_value.insert(9, 0);
            }),
            IC,
        ),
        (
            "row 13: CRLF",
            encoded(&|request| {
                let headers = &mut direct::http(request)
                    .header_map
                    .as_mut()
                    .expect("a map")
                    .headers;
                headers[0].raw_value.extend_from_slice(b"\r\n");
            }),
            IC,
        ),
        ("row 30: no bytes", direct::framed(&[]), INV),
        ("row 30: no message", Vec::new(), INV),
        ("row 31: no attributes", direct::framed(&[0x0a, 0x00]), INV),
        (
            "row 32: no request",
            encoded(&|request| {
                request.attributes.as_mut().expect("attributes").request = None;
            }),
            INV,
        ),
        (
            "row 32: no HTTP",
            encoded(&|request| {
                let request = &mut request.attributes.as_mut().expect("attributes").request;
                request.as_mut().expect("a request").http = None;
            }),
            INV,
        ),
        ("row 33: no source", from(None), SD),
        (
            "row 34: a Unix socket's peer",
            from(Some(direct::peer(pipe))),
            SD,
        ),
        (
            "row 35: method with NUL",
            encoded(&|request| {
                direct::http(request).method = "G\0T".into();
            }),
            INV,
        ),
        (
            "row 45: 64 KiB path",
            encoded(&|request| {
                direct::http(request).path = format!("/{}", "a".repeat(64 << 10));
            }),
            INV,
        ),
        (
            "row 46: upper case in the map",
            encoded(&|request| {
                direct::http(request)
                    .headers
                    .insert("X-Api-Key".into(), token.into());
            }),
            INV,
        ),
        (
            "row 46: upper case in the list",
            encoded(&|request| {
                let headers = &mut direct::http(request)
                    .header_map
                    .as_mut()
                    .expect("a map")
                    .headers;
                headers[0].key = "X-Api-Key".into();
            }),
            INV,
        ),
        (
            "row 47: another in the map",
            encoded(&|request| {
                direct::http(request)
                    .headers
                    .insert("authorization".into(), "Bearer x".into());
            }),
            INV,
        ),
        (
            "row 49: cut off within",
            direct::framed(&whole[..whole.len() - 3]),
            INV,
        ),
        (
            "row 49: cut off on the wire",
            prefixed(0, length, &whole[..40]),
            INV,
        ),
        (
            "row 49: more than it says",
            prefixed(0, length - 3, &whole),
            INV,
        ),
        (
            "row 49: two messages",
            direct::framed(&whole).repeat(2),
            INV,
        ),
        (
            "row 50: an endless number",
            direct::framed(&[0xff; 11]),
            INV,
        ),
        ("row 51: 200 deep", direct::framed(&nested), INV),
        ("row 52: no text", direct::framed(&not_text), INV),
        (
            "row 56: 10,000 forwarded entries",
            {
                let mut request = direct::envoys(&[
                    ("x-api-key", &keys.local.token),
                    ("x-forwarded-for", &vec!["203.0.113.7"; 10_000].join(",")),
                ]);
                request.attributes.as_mut().expect("attributes").source = None;
                direct::framed(&request.encode_to_vec())
            },
            SD,
        ),
        ("compressed", prefixed(1, length, &whole), INV),
        ("4 GiB by its own word", prefixed(0, u32::MAX, &whole), INV),
        (
            "over 256 KiB",
            encoded(&|request| {
                direct::http(request).body = "a".repeat(257 << 10);
            }),
            INV,
        ),
        (
            "two policies by two messages in one",
            direct::framed(&twice),
            NO_POLICY,
        ),
    ] {
        direct::denies(what, gate, &body, denial).await;
    }
    direct::passes(
        "row 53: a size of -2^63",
        gate,
        &encoded(&|request| {
            direct::http(request).size = i64::MIN;
        }),
    )
    .await;
    direct::passes("the gate goes on", gate, &encoded(&|_| {})).await;
}

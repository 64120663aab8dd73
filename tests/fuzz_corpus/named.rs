//! Messages that the fuzzer begins with.

use portcullis::proto::envoy::{
    config::core::v3::{Address, HeaderMap, HeaderValue, SocketAddress, address},
    service::auth::v3::{
        AttributeContext, CheckRequest,
        attribute_context::{HttpRequest, Peer, Request},
    },
};
use prost::Message as _;

use super::property;

/// `POST /v1/messages/7` from 192.0.2.7 with the key's token in `x-api-key`, to a route that asks for `sms.send`.
fn call() -> CheckRequest {
    let text = str::to_owned;
    let headers = [
        (":authority", "api.example"),
        (":method", "POST"),
        (":path", "/v1/messages/7"),
        ("x-api-key", property::token()),
    ];
    let http = HttpRequest {
        id: text("1"),
        method: text("POST"),
        path: text("/v1/messages/7"),
        host: text("api.example"),
        scheme: text("https"),
        protocol: text("HTTP/1.1"),
        headers: headers
            .map(|(name, value)| (text(name), text(value)))
            .into(),
        ..HttpRequest::default()
    };
    let socket = SocketAddress {
        address: text("192.0.2.7"),
        ..SocketAddress::default()
    };
    let source = Peer {
        address: Some(Address {
            address: Some(address::Address::SocketAddress(socket)),
        }),
        ..Peer::default()
    };
    CheckRequest {
        attributes: Some(AttributeContext {
            source: Some(source),
            request: Some(Request {
                time: None,
                http: Some(http),
            }),
            context_extensions: [("workspace", "default"), ("permission", "sms.send")]
                .map(|(key, value)| (text(key), text(value)))
                .into(),
            ..AttributeContext::default()
        }),
    }
}

/// The call after a change of its HTTP request.
fn with(change: impl FnOnce(&mut HttpRequest)) -> Vec<u8> {
    let mut call = call();
    change(http(&mut call));
    call.encode_to_vec()
}

/// As [`with`], of a call about whose route Envoy says nothing.
fn routed(method: &str, path: &str) -> Vec<u8> {
    let mut call = call();
    attributes(&mut call).context_extensions.clear();
    let http = http(&mut call);
    (http.method, http.path) = (method.into(), path.into());
    call.encode_to_vec()
}

fn attributes(call: &mut CheckRequest) -> &mut AttributeContext {
    call.attributes.as_mut().expect("attributes")
}

fn http(call: &mut CheckRequest) -> &mut HttpRequest {
    let request = attributes(call).request.as_mut().expect("a request");
    request.http.as_mut().expect("of HTTP")
}

/// A field that has a length.
fn field(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut field = vec![tag << 3 | 2];
    prost::encode_length_delimiter(content.len(), &mut field).expect("there is room");
    field.extend_from_slice(content);
    field
}

fn without_key(http: &mut HttpRequest) {
    http.headers.remove("x-api-key");
}

fn add(http: &mut HttpRequest, name: &str, value: &str) {
    http.headers.insert(name.into(), value.into());
}

/// Their names, the HTTP statuses they get, and themselves.
pub fn messages() -> Vec<(&'static str, i32, Vec<u8>)> {
    let token = property::token();
    let valid = call().encode_to_vec();
    let bearer = format!("Bearer {token}");
    let mut no_http = call();
    attributes(&mut no_http).request = Some(Request::default());
    let mut twice = valid.clone();
    twice.extend(field(
        1,
        &field(10, &[field(1, b"permission"), field(2, b"none")].concat()),
    ));
    let deep = (0..200).fold(Vec::new(), |inner, _| {
        field(5, &field(1, &field(2, &inner)))
    });
    let deep = field(
        1,
        &field(11, &field(1, &field(2, &field(1, &field(2, &deep))))),
    );
    vec![
        ("allowed-by-envoys-route", 200, valid.clone()),
        (
            "allowed-by-our-route",
            200,
            routed("POST", "/v1/messages/7?x=y"),
        ),
        (
            "allowed-as-bearer",
            200,
            with(|http| {
                without_key(http);
                add(http, "authorization", &bearer);
            }),
        ),
        (
            "allowed-by-the-query",
            200,
            with(|http| {
                without_key(http);
                http.path = format!("/v1/messages/7?api_key={token}");
            }),
        ),
        (
            "allowed-with-a-setting",
            200,
            with(|http| add(http, "x-sender", "ACME")),
        ),
        ("row-1-missing", 401, with(without_key)),
        (
            "row-5-two-credentials",
            400,
            with(|http| add(http, "authorization", &bearer)),
        ),
        ("row-30-empty", 400, Vec::new()),
        ("row-31-no-attributes", 400, field(1, &[])),
        ("row-32-no-http", 400, no_http.encode_to_vec()),
        ("row-36-two-slashes", 400, routed("POST", "//v1/messages/7")),
        (
            "row-38-dots-escaped",
            400,
            routed("POST", "/v1/%2e%2e/messages/7"),
        ),
        (
            "row-45-long-path",
            400,
            with(|http| http.path = format!("/{}", "a".repeat(64 << 10))),
        ),
        (
            "row-46-upper-case-header",
            400,
            with(|http| add(http, "X-Api-Key", token)),
        ),
        (
            "row-47-two-kinds-of-headers",
            400,
            with(|http| {
                http.header_map = Some(HeaderMap {
                    headers: vec![HeaderValue {
                        key: "x-api-key".into(),
                        raw_value: b"pc_another".to_vec(),
                        ..HeaderValue::default()
                    }],
                });
            }),
        ),
        (
            "row-48-forged-identity",
            200,
            with(|http| add(http, "x-portcullis-key", "root")),
        ),
        (
            "row-48a-folded-identity",
            200,
            with(|http| add(http, "x_portcullis_key", "root")),
        ),
        ("row-49-cut-off", 400, valid[..valid.len() - 1].to_vec()),
        (
            "row-50-varint-without-end",
            400,
            [&[0x0a][..], &[0xff; 10], &[1]].concat(),
        ),
        (
            "row-51-nested-200-deep",
            400,
            [valid.clone(), deep].concat(),
        ),
        (
            "row-52-no-utf-8",
            400,
            [
                valid.clone(),
                field(1, &field(4, &field(2, &field(4, b"/\xff")))),
            ]
            .concat(),
        ),
        (
            "row-53-size-of-minus-2-to-63",
            200,
            with(|http| http.size = i64::MIN),
        ),
        ("row-54a-no-policy", 403, routed("PUT", "/v1/messages/7")),
        ("a-key-of-a-map-twice", 403, twice),
    ]
}

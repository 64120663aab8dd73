//! Calls of Envoy's service at the gate itself, with messages that Envoy would not send.

use std::net::SocketAddr;

use bytes::Bytes;
use http::Request;
use portcullis::proto::envoy::{
    config::core::v3::{
        Address, HeaderMap, HeaderValue, SocketAddress, address::Address as Kind,
        socket_address::PortSpecifier,
    },
    service::auth::v3::{
        AttributeContext, CheckRequest, CheckResponse,
        attribute_context::{self, HttpRequest, Peer},
        check_response::HttpResponse,
    },
};
use prost::Message as _;
use prost_types::value::Kind as ValueKind;
use tokio::{net::TcpStream, time::timeout};

use crate::{
    scene::{Denial, SEND, WORKSPACE},
    support::PATIENCE,
};

/// A message that Envoy would send: `GET /` of a client at 203.0.113.7, on the route that asks for `sms.send`.
pub fn envoys(headers: &[(&str, &str)]) -> CheckRequest {
    let headers = headers.iter().map(|(name, value)| HeaderValue {
        key: (*name).into(),
        raw_value: value.as_bytes().to_vec(),
        ..HeaderValue::default()
    });
    let http = HttpRequest {
        id: "1".into(),
        method: "GET".into(),
        path: "/".into(),
        host: SEND.into(),
        scheme: "http".into(),
        protocol: "HTTP/1.1".into(),
        header_map: Some(HeaderMap {
            headers: headers.collect(),
        }),
        ..HttpRequest::default()
    };
    let socket = SocketAddress {
        address: "203.0.113.7".into(),
        port_specifier: Some(PortSpecifier::PortValue(1234)),
        ..SocketAddress::default()
    };
    let extensions = [("workspace", WORKSPACE), ("permission", "sms.send")];
    CheckRequest {
        attributes: Some(AttributeContext {
            source: Some(peer(Kind::SocketAddress(socket))),
            request: Some(attribute_context::Request {
                time: None,
                http: Some(http),
            }),
            context_extensions: extensions
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
            ..AttributeContext::default()
        }),
    }
}

/// The HTTP request in it.
pub fn http(request: &mut CheckRequest) -> &mut HttpRequest {
    let attributes = request.attributes.as_mut().expect("attributes");
    let request = attributes.request.as_mut().expect("a request");
    request.http.as_mut().expect("an HTTP request")
}

pub fn peer(kind: Kind) -> Peer {
    Peer {
        address: Some(Address {
            address: Some(kind),
        }),
        ..Peer::default()
    }
}

/// A message on the wire of gRPC.
pub fn framed(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).expect("a short message");
    [&[0], &length.to_be_bytes()[..], message].concat()
}

/// What the gate answered, all of which is an answer to Envoy: HTTP 200 and `grpc-status` 0.
#[track_caller]
fn answered(what: &str, reply: Result<Reply, h2::Error>) -> CheckResponse {
    let reply = reply.unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(reply.status, 200, "{what}");
    assert_eq!(
        reply.grpc_status.as_deref(),
        Some("0"),
        "{what}: an answer, not an error"
    );
    let (prefix, message) = reply.body.split_at(5);
    let length = u32::try_from(message.len()).expect("a short message");
    assert_eq!(prefix, [&[0], &length.to_be_bytes()[..]].concat(), "{what}");
    assert_ne!(length, 0, "{what}: Envoy takes an empty message for OK");
    CheckResponse::decode(message).expect("a CheckResponse")
}

struct Reply {
    status: u16,
    body: Vec<u8>,
    grpc_status: Option<String>,
}

/// Sends this body and nothing more, and gets an answer that passes.
pub async fn passes(what: &str, gate: SocketAddr, body: &[u8]) {
    let answer = answered(what, call(gate, body).await);
    let status = answer.status.expect("a status");
    assert_eq!(status.code, 0, "{what}: {status:?}");
    assert!(
        matches!(answer.http_response, Some(HttpResponse::OkResponse(_))),
        "{what}"
    );
}

/// Sends this body and nothing more, and gets this denial.
pub async fn denies(what: &str, gate: SocketAddr, body: &[u8], denial: Denial) {
    let answer = answered(what, call(gate, body).await);
    let status = answer.status.expect("a status");
    assert_ne!(status.code, 0, "{what}: Envoy would let it pass");
    let Some(HttpResponse::DeniedResponse(denied)) = answer.http_response else {
        panic!("{what}: not denied");
    };
    let code = denied.status.expect("a status").code;
    assert_eq!(code, i32::from(denial.status), "{what}: {}", denied.body);
    let due = format!("{{\"error\":{{\"reason\":\"{}\",", denial.reason);
    assert!(denied.body.starts_with(&due), "{what}: {}", denied.body);
    let metadata = answer.dynamic_metadata.expect("metadata").fields;
    let logged = metadata.get("reason").and_then(|value| value.kind.clone());
    assert_eq!(
        logged,
        Some(ValueKind::StringValue(denial.logged.into())),
        "{what}"
    );
}

async fn call(gate: SocketAddr, body: &[u8]) -> Result<Reply, h2::Error> {
    let exchange = async {
        let stream = TcpStream::connect(gate).await.expect("the gate is there");
        let (requests, connection) = h2::client::handshake(stream).await?;
        tokio::spawn(connection);
        let request = Request::post("http://gate/envoy.service.auth.v3.Authorization/Check")
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())
            .expect("a request");
        let (response, mut sending) = requests.ready().await?.send_request(request, false)?;
        sending.send_data(Bytes::copy_from_slice(body), true)?;
        let (head, mut incoming) = response.await?.into_parts();
        let mut body = Vec::new();
        while let Some(piece) = incoming.data().await {
            let piece = piece?;
            incoming.flow_control().release_capacity(piece.len())?;
            body.extend_from_slice(&piece);
        }
        let trailers = incoming.trailers().await?.unwrap_or_default();
        let grpc_status = trailers
            .get("grpc-status")
            .or_else(|| head.headers.get("grpc-status"));
        Ok(Reply {
            status: head.status.as_u16(),
            body,
            grpc_status: grpc_status.map(|value| value.to_str().expect("text").to_owned()),
        })
    };
    timeout(PATIENCE, exchange)
        .await
        .expect("an answer in time")
}

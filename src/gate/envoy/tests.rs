//! The requests are encoded with Envoy's own messages, and the answers read as Envoy reads them.

mod attributes;
mod credentials;
mod headers;
mod policies;
mod wire;

use std::{collections::BTreeMap, sync::Arc};

use super::*;
use crate::{
    domain::{
        key::Key,
        permission::PermissionSet,
        setting::{Declaration, Declarations, Kind},
        source::IpAllowlist,
        workspace::Workspace,
    },
    gate::{
        clock::Clock,
        testing::{Gate, ManualClock, key},
    },
    proto::envoy::{
        config::core::v3::{
            self as core, Address, SocketAddress, address, socket_address::PortSpecifier,
        },
        service::auth::v3::{
            AttributeContext, CheckRequest, DeniedHttpResponse, OkHttpResponse,
            attribute_context::{self, HttpRequest, Peer},
            check_response::HttpResponse,
        },
    },
};

/// A gate, and a key of the default workspace that may do `sms.send`.
struct Scene {
    gate: Gate,
    token: String,
    settings: EnvoySettings,
}

impl Scene {
    fn new() -> Self {
        Self::with_key(may_send())
    }

    fn with_key(key: Key) -> Self {
        let mut gate = Gate::new();
        let token = gate.put_new(key);
        Self {
            gate,
            token,
            settings: EnvoySettings::default(),
        }
    }

    /// A request of the key's token to a route that asks for `sms.send`.
    fn call(&self) -> Call {
        Call::of(&self.token)
    }

    fn api(&self) -> EnvoyApi<ManualClock> {
        EnvoyApi::new(self.gate.checker.clone(), Arc::new(self.settings.clone()))
    }

    async fn answer(&self, call: &Call) -> Told {
        self.answer_bytes(call.encoded()).await
    }

    async fn answer_bytes(&self, bytes: impl Into<Bytes>) -> Told {
        Told::from(self.api().answer(bytes.into()).await)
    }
}

fn may_send() -> Key {
    Key {
        permissions: PermissionSet::new(["sms.send"]),
        ..key()
    }
}

/// A workspace with a setting called `sender` under the header `x-sender`, and one called `quiet` under none.
fn with_settings() -> Workspace {
    let text = |name: &str, header: Option<&str>| Declaration {
        name: name.into(),
        description: "".into(),
        kind: Kind::Text {
            max_length: 9,
            allowed: [].into(),
        },
        default: Some("default".into()),
        header: header.map(Into::into),
    };
    Workspace {
        settings: Declarations::new(vec![text("sender", Some("x-sender")), text("quiet", None)])
            .unwrap(),
        ..Workspace::new(
            crate::domain::id::WorkspaceId::default_workspace(),
            crate::domain::id::TokenPrefix::default(),
            crate::gate::testing::at(1),
        )
    }
}

/// A request as Envoy puts it.
#[derive(Clone, Default)]
struct Call(CheckRequest);

impl Call {
    /// `POST /v1/messages` from 192.0.2.7, with the token in `x-api-key`.
    fn of(token: &str) -> Self {
        let http = HttpRequest {
            id: "1".into(),
            method: "POST".into(),
            path: "/v1/messages".into(),
            host: "api.example".into(),
            scheme: "https".into(),
            protocol: "HTTP/1.1".into(),
            headers: [
                (":method", "POST"),
                (":path", "/v1/messages"),
                ("x-api-key", token),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
            ..HttpRequest::default()
        };
        let mut call = Self(CheckRequest {
            attributes: Some(AttributeContext {
                request: Some(attribute_context::Request {
                    time: None,
                    http: Some(http),
                }),
                ..AttributeContext::default()
            }),
        });
        call.attributes().context_extensions =
            [("workspace", "default"), ("permission", "sms.send")]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into();
        call.from("192.0.2.7")
    }

    fn attributes(&mut self) -> &mut AttributeContext {
        self.0.attributes.get_or_insert_default()
    }

    fn http(&mut self) -> &mut HttpRequest {
        let request = self.attributes().request.get_or_insert_default();
        request.http.get_or_insert_default()
    }

    fn from(mut self, source: &str) -> Self {
        self.attributes().source = Some(Peer {
            address: Some(Address {
                address: Some(address::Address::SocketAddress(SocketAddress {
                    address: source.into(),
                    port_specifier: Some(PortSpecifier::PortValue(4711)),
                    ..SocketAddress::default()
                })),
            }),
            ..Peer::default()
        });
        self
    }

    fn header(mut self, name: &str, value: &str) -> Self {
        self.http().headers.insert(name.into(), value.into());
        self
    }

    fn without(mut self, name: &str) -> Self {
        self.http().headers.remove(name);
        self
    }

    /// A header as it came, as Envoy sends them with `encode_raw_headers`.
    fn raw_header(mut self, name: &str, value: &[u8]) -> Self {
        let map = self.http().header_map.get_or_insert_default();
        map.headers.push(core::HeaderValue {
            key: name.into(),
            raw_value: value.to_vec(),
            ..core::HeaderValue::default()
        });
        self
    }

    fn path(mut self, path: &str) -> Self {
        self.http().path = path.into();
        self
    }

    fn extension(mut self, key: &str, value: &str) -> Self {
        self.attributes()
            .context_extensions
            .insert(key.into(), value.into());
        self
    }

    fn without_extension(mut self, key: &str) -> Self {
        self.attributes().context_extensions.remove(key);
        self
    }

    fn encoded(&self) -> Vec<u8> {
        self.0.encode_to_vec()
    }
}

/// An answer as Envoy reads it.
#[derive(Debug)]
struct Told {
    /// The HTTP status; 200: the request goes on.
    status: u32,
    reason: String,
    body: String,
    /// For the upstream, or for the caller.
    headers: BTreeMap<String, String>,
    removed: Vec<String>,
    removed_query: Vec<String>,
    metadata: BTreeMap<String, prost_types::Value>,
    code: i32,
}

impl From<CheckResponse> for Told {
    fn from(response: CheckResponse) -> Self {
        let metadata = response.dynamic_metadata.unwrap_or_default().fields;
        let code = response.status.expect("Envoy asks for one").code;
        let reason = text(&metadata["reason"]);
        let told = match response.http_response.expect("one of both") {
            HttpResponse::OkResponse(OkHttpResponse {
                headers,
                headers_to_remove,
                query_parameters_to_remove,
                ..
            }) => (
                200,
                headers,
                headers_to_remove,
                query_parameters_to_remove,
                String::new(),
            ),
            HttpResponse::DeniedResponse(DeniedHttpResponse {
                status,
                headers,
                body,
            }) => {
                let status = status.expect("one").code;
                (status.cast_unsigned(), headers, vec![], vec![], body)
            }
            HttpResponse::ErrorResponse(_) => panic!("an error is for failure_mode_allow to judge"),
        };
        let (status, headers, removed, removed_query, body) = told;
        assert_eq!(status == 200, code == 0, "both say the same");
        let headers: Vec<(String, String)> = headers
            .into_iter()
            .map(|option| option.header.expect("a header"))
            .map(|header| (header.key, header.value))
            .collect();
        let told = Self {
            status,
            reason,
            body,
            headers: headers.iter().cloned().collect(),
            removed,
            removed_query,
            metadata,
            code,
        };
        assert_eq!(told.headers.len(), headers.len(), "each once: {headers:?}");
        told
    }
}

impl Told {
    #[track_caller]
    fn is(&self, status: u32, reason: &str) {
        assert_eq!((self.status, &*self.reason), (status, reason), "{self:?}");
    }
}

fn text(value: &prost_types::Value) -> String {
    match &value.kind {
        Some(prost_types::value::Kind::StringValue(text)) => text.clone(),
        other => panic!("{other:?} is no text"),
    }
}

#[tokio::test]
async fn a_key_that_may_do_it_opens_the_call() {
    let scene = Scene::new();
    let told = scene.answer(&scene.call()).await;
    told.is(200, "OK");
    assert_eq!(told.headers["x-portcullis-workspace"], "default");
    assert_eq!(told.headers["x-portcullis-owner"], "local:0");
    assert_eq!(told.headers["x-portcullis-key"].len(), 22);
    assert_eq!(told.removed, ["x-api-key"]);
    for (name, header) in [
        ("key", "x-portcullis-key"),
        ("workspace", "x-portcullis-workspace"),
        ("owner", "x-portcullis-owner"),
    ] {
        assert_eq!(text(&told.metadata[name]), told.headers[header]);
    }
}

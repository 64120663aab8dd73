//! Envoy's own manners: what our adapter and the shipped files rely on, shown with an authorization service that says what
//! it is told to say. What changes here with another Envoy is to be read in `src/gate/envoy` and `deploy/envoy`.

use std::collections::BTreeMap;

use portcullis::proto::envoy::{
    config::core::v3::{
        HeaderValue, HeaderValueOption, address::Address as PeerAddress,
        header_value_option::HeaderAppendAction,
    },
    service::auth::v3::{
        AttributeContext, CheckResponse, DeniedHttpResponse, OkHttpResponse,
        attribute_context::HttpRequest, check_response::HttpResponse,
    },
    r#type::v3::HttpStatus,
};
use prost_types::{Struct, Value, value::Kind};
use tonic::Status;

use crate::{
    authz::Scripted,
    clients::{Answered, Ask, BOTH, Called, Protocol, grpcurl},
    harness::{Config, Envoy},
    scene::test_hosts,
    support::{self, Address, Missing},
    upstream::{GREETING, Upstream},
};

const HOST: &str = "shipped.test";

/// Envoy between a service and an authorization service that is told what to say.
struct Manners {
    authz: Scripted,
    upstream: Upstream,
    envoy: Envoy,
}

impl Manners {
    async fn under(change: impl FnOnce(Config) -> Config) -> Result<Self, Missing> {
        let (authz, upstream) = (Scripted::start().await, Upstream::start().await);
        let config = change(test_hosts(Config::shipped("envoy.yaml")));
        let config = config.between(&Address::Tcp(authz.address()), upstream.address());
        let envoy = Envoy::start(&config)?;
        Ok(Self {
            authz,
            upstream,
            envoy,
        })
    }

    async fn send(&self, ask: &Ask, protocol: Protocol) -> Answered {
        ask.send(self.envoy.edge(), protocol).await
    }

    /// What the one request was put as.
    #[track_caller]
    fn asked(&self) -> AttributeContext {
        let mut asked = self.authz.asked();
        assert_eq!(asked.len(), 1, "it is asked once");
        asked.remove(0).attributes.expect("attributes")
    }
}

fn set(key: &str, value: &str) -> HeaderValueOption {
    HeaderValueOption {
        header: Some(HeaderValue {
            key: key.into(),
            value: value.into(),
            ..HeaderValue::default()
        }),
        ..HeaderValueOption::default()
    }
}

fn set_by(key: &str, action: HeaderAppendAction) -> HeaderValueOption {
    HeaderValueOption {
        append_action: action.into(),
        ..set(key, "ours")
    }
}

fn ok(response: OkHttpResponse) -> CheckResponse {
    CheckResponse {
        status: Some(tonic_types::Status::default()),
        http_response: Some(HttpResponse::OkResponse(response)),
        dynamic_metadata: None,
    }
}

fn denied(http: i32, code: i32, headers: Vec<HeaderValueOption>) -> CheckResponse {
    let why = Value {
        kind: Some(Kind::StringValue("WHY".into())),
    };
    CheckResponse {
        status: Some(tonic_types::Status {
            code,
            ..tonic_types::Status::default()
        }),
        http_response: Some(HttpResponse::DeniedResponse(DeniedHttpResponse {
            status: Some(HttpStatus { code: http }),
            headers,
            body: "the body".into(),
        })),
        dynamic_metadata: Some(Struct {
            fields: [("reason".to_owned(), why)].into(),
        }),
    }
}

fn http(attributes: AttributeContext) -> HttpRequest {
    let request = attributes.request.expect("a request");
    request.http.expect("an HTTP request")
}

/// The headers as they were put, pseudo-headers aside.
fn raw_headers(http: &HttpRequest) -> Vec<(String, Vec<u8>)> {
    let map = http.header_map.as_ref().expect("headers as they came");
    map.headers
        .iter()
        .filter(|header| !header.key.starts_with(':'))
        .map(|header| {
            assert_eq!(header.value, "", "the value is sent as bytes");
            (header.key.clone(), header.raw_value.clone())
        })
        .collect()
}

/// The reason why a denial must carry a status of its own, and a message may never be sent empty.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_status_code_of_an_answer_decides() {
    let passing = [
        ("a denial whose code says OK", denied(403, 0, vec![])),
        ("no bytes at all", CheckResponse::default()),
        (
            "no more than a status",
            CheckResponse {
                status: Some(tonic_types::Status::default()),
                ..CheckResponse::default()
            },
        ),
    ];
    let mut allowing = ok(OkHttpResponse::default());
    allowing.status = Some(tonic_types::Status {
        code: 7,
        ..tonic_types::Status::default()
    });
    for failure_mode_allow in [false, true] {
        let change = |config: Config| {
            let allow = format!("failure_mode_allow: {failure_mode_allow}");
            config.with("failure_mode_allow: false", &allow)
        };
        let Ok(manners) = Manners::under(change).await else {
            return;
        };
        for protocol in BOTH {
            for (what, answer) in &passing {
                manners.authz.answers(answer.clone());
                let answered = manners.send(&Ask::of(HOST), protocol).await;
                assert_eq!(answered.body, GREETING, "{what}");
                manners.upstream.only();
            }
            manners.authz.answers(allowing.clone());
            let answered = manners.send(&Ask::of(HOST), protocol).await;
            assert_eq!(
                (answered.status, &*answered.body),
                (403, ""),
                "OK, but its code is 7"
            );
            manners.upstream.untouched("OK with code 7");

            // An error is no answer, and then it depends.
            manners.authz.says(|_| Err(Status::permission_denied("no")));
            let answered = manners.send(&Ask::of(HOST), protocol).await;
            if failure_mode_allow {
                assert_eq!(answered.body, GREETING, "an error lets it pass");
                manners.upstream.only();
            } else {
                assert_eq!(
                    (answered.status, &*answered.body),
                    (503, ""),
                    "status_on_error"
                );
                manners.upstream.untouched("an error");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(deprecated, reason = "Envoy heeds the field that it calls deprecated")]
async fn headers_are_replaced_and_then_removed() {
    let Ok(manners) = Manners::under(|config| config).await else {
        return;
    };
    let appended = HeaderValueOption {
        append: Some(true),
        ..set("x-append", "ours")
    };
    manners.authz.answers(ok(OkHttpResponse {
        headers: vec![
            set("x-set", "ours"),
            set("x-set-twice", "ours"),
            set("x-empty", ""),
            set("x-gone", "ours"),
            set("x_under", "ours"),
            appended,
            set_by("x-action-append", HeaderAppendAction::AppendIfExistsOrAdd),
            set_by("x-action-absent", HeaderAppendAction::AddIfAbsent),
            set_by("x-action-exists", HeaderAppendAction::OverwriteIfExists),
        ],
        headers_to_remove: ["x-gone", "X-Upper", "x_gone", "host", ":path"]
            .map(str::to_owned)
            .into(),
        ..OkHttpResponse::default()
    }));
    let sent = [
        "x-set",
        "x-set-twice",
        "x-set-twice",
        "x-empty",
        "x-gone",
        "x_gone",
        "x-upper",
        "x_under",
        "x-append",
        "x-action-append",
        "x-action-absent",
    ];
    let ask = Ask::of(HOST).path("/kept");
    let ask = sent
        .iter()
        .fold(ask, |ask, name| ask.header(name, "theirs"));
    for protocol in BOTH {
        let answered = manners.send(&ask, protocol).await;
        assert_eq!(answered.status, 200);
        let reached = manners.upstream.only();
        for (name, due) in [
            ("x-set", Some("ours")),
            ("x-set-twice", Some("ours")),
            ("x-empty", Some("")),
            // Removed after it was set.
            ("x-gone", None),
            ("x_gone", None),
            ("x-upper", None),
            ("x_under", Some("ours")),
            // The field that is deprecated counts, and the one that replaces it does not.
            ("x-append", Some("theirs,ours")),
            ("x-action-append", Some("ours")),
            ("x-action-absent", Some("ours")),
        ] {
            assert_eq!(
                reached.header(name).as_deref(),
                due,
                "{name} ({protocol:?})"
            );
        }
        assert_eq!(reached.path, "/kept", "what a request needs stays");
    }
    // What would end its header is not sent on: Envoy refuses the request.
    for bad in [set("x-set", "a\r\nb: c"), set("bad name", "a")] {
        let what = format!("{bad:?}");
        manners.authz.answers(ok(OkHttpResponse {
            headers: vec![bad],
            ..OkHttpResponse::default()
        }));
        for protocol in BOTH {
            let answered = manners.send(&ask, protocol).await;
            assert_eq!(answered.status, 503, "{what}");
            manners.upstream.untouched(&what);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_parameter_is_removed_by_its_written_name_and_the_others_are_put_in_order() {
    let Ok(manners) = Manners::under(|config| config).await else {
        return;
    };
    manners.authz.answers(ok(OkHttpResponse {
        query_parameters_to_remove: vec!["api_key".into()],
        ..OkHttpResponse::default()
    }));
    for protocol in BOTH {
        for (sent, due) in [
            ("/p?api_key=1", "/p"),
            ("/p?api_key", "/p"),
            ("/p?api_key=1&api_key=2&api_key", "/p"),
            ("/p?b=%41%20+&api_key=1&a=b=c", "/p?a=b=c&b=%41%20+"),
            ("/p?b&api_key=1&a", "/p?a=&b="),
            ("/p?a=1&&api_key=1&c;d", "/p?=&a=1&c;d="),
            // Not its written name.
            ("/p?%61pi_key=2&api_key=1", "/p?%61pi_key=2"),
            ("/p?API_KEY=2&api_key=1", "/p?API_KEY=2"),
            ("/p?x;api_key=1", "/p?x;api_key=1"),
        ] {
            manners.send(&Ask::of(HOST).path(sent), protocol).await;
            assert_eq!(manners.upstream.only().path, due, "{sent} ({protocol:?})");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_denial_has_its_headers_and_grpc_makes_a_status_of_it() {
    let Ok(manners) = Manners::under(|config| config).await else {
        return;
    };
    let headers = vec![
        set("content-type", "application/json"),
        set("www-authenticate", "Bearer realm=\"x\""),
        set("retry-after", "1"),
    ];
    manners.authz.answers(denied(401, 16, headers.clone()));
    for protocol in BOTH {
        for (method, body) in [("GET", "the body"), ("HEAD", "")] {
            let ask = Ask::of(HOST).method(method);
            let answered = manners.send(&ask, protocol).await;
            assert_eq!((answered.status, &*answered.body), (401, body), "{method}");
            for header in &headers {
                let header = header.header.as_ref().expect("a header");
                assert_eq!(answered.header(&header.key), Some(&*header.value));
            }
        }
    }
    for line in manners.envoy.logged(4) {
        assert_eq!(
            line.get("reason").as_deref(),
            Some("WHY"),
            "metadata of a denial"
        );
    }
    manners.upstream.untouched("what was denied");

    let Ok(program) = support::grpcurl() else {
        return;
    };
    let mut statuses = BTreeMap::new();
    for (http, code, headers) in [
        (400, 16, vec![]),
        (401, 3, vec![]),
        (403, 3, vec![]),
        (429, 3, vec![]),
        (503, 3, vec![]),
        // The one way to say it.
        (400, 16, vec![set("grpc-status", "3")]),
    ] {
        let told = !headers.is_empty();
        manners.authz.answers(denied(http, code, headers));
        let Called { code, text } = grpcurl(&program, manners.envoy.edge(), HOST, &[]).await;
        assert_eq!(text, "the body", "the body is the message");
        statuses.insert((http, told), code);
    }
    let due = [
        ((400, false), "Internal"),
        ((400, true), "InvalidArgument"),
        ((401, false), "Unauthenticated"),
        ((403, false), "PermissionDenied"),
        ((429, false), "Unavailable"),
        ((503, false), "Unavailable"),
    ];
    assert_eq!(
        statuses,
        due.map(|(key, code)| (key, code.to_owned())).into()
    );
    manners.upstream.untouched("what was denied");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_are_put_as_they_came() {
    let ask = Ask::of(HOST)
        .header("x-api-key", "k1")
        .header("X-Api-Key", "k2")
        .header("x-bytes", b"a\xffb")
        .header("x-empty", "")
        .header("x_under", "1");
    for raw in [true, false] {
        let change = |config: Config| {
            let raw = format!("encode_raw_headers: {raw}");
            config.with("encode_raw_headers: true", &raw)
        };
        let Ok(manners) = Manners::under(change).await else {
            return;
        };
        manners.authz.answers(ok(OkHttpResponse::default()));
        for protocol in BOTH {
            manners.send(&ask, protocol).await;
            let http = http(manners.asked());
            assert_eq!(http.size, 0, "{protocol:?}");
            if raw {
                assert_eq!(http.headers, BTreeMap::new(), "only in one place");
                let seen = raw_headers(&http);
                let due = [
                    ("x-api-key", &b"k1"[..]),
                    ("x-api-key", b"k2"),
                    ("x-bytes", b"a\xffb"),
                    ("x-empty", b""),
                    ("x_under", b"1"),
                ];
                let due: Vec<_> = due
                    .map(|(name, value)| (name.to_owned(), value.to_vec()))
                    .into();
                let ours: Vec<_> = seen
                    .into_iter()
                    .filter(|seen| due.iter().any(|due| due.0 == seen.0))
                    .collect();
                assert_eq!(ours, due, "each of them, in their order ({protocol:?})");
            } else {
                assert_eq!(http.header_map, None, "only in one place");
                // Joined, and what is no text replaced.
                for (name, due) in [("x-api-key", "k1,k2"), ("x-bytes", "a!b"), ("x-empty", "")] {
                    let seen = http.headers.get(name).map(String::as_str);
                    assert_eq!(seen, Some(due), "{name} ({protocol:?})");
                }
            }
        }
    }
}

/// Where a request comes from: the peer, always; and who adds what to x-forwarded-for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_source_is_the_peer_and_envoy_adds_it_only_if_it_uses_it() {
    for (uses, hops) in [(true, 0), (true, 2), (false, 0), (false, 2)] {
        let change = |config: Config| {
            let uses =
                format!("use_remote_address: {uses}\n          xff_num_trusted_hops: {hops}");
            config.with("use_remote_address: true", &uses)
        };
        let Ok(manners) = Manners::under(change).await else {
            return;
        };
        manners.authz.answers(ok(OkHttpResponse::default()));
        for protocol in BOTH {
            for (sent, with_its_own) in [
                (&[][..], "203.0.113.9"),
                (&["192.0.2.1"], "192.0.2.1,203.0.113.9"),
                (
                    &["192.0.2.1, 192.0.2.2"],
                    "192.0.2.1, 192.0.2.2,203.0.113.9",
                ),
                (
                    &["192.0.2.1", "192.0.2.2"],
                    "192.0.2.1,192.0.2.2,203.0.113.9",
                ),
            ] {
                let ask = Ask::of(HOST).from("203.0.113.9");
                let ask = sent
                    .iter()
                    .fold(ask, |ask, value| ask.header("x-forwarded-for", value));
                manners.send(&ask, protocol).await;
                let asked = manners.asked();
                let peer = asked.source.clone().expect("a source").address;
                let Some(PeerAddress::SocketAddress(peer)) = peer.expect("an address").address
                else {
                    panic!("a TCP peer");
                };
                assert_eq!(peer.address, "203.0.113.9", "{uses} {hops} {sent:?}");
                let seen: Vec<_> = raw_headers(&http(asked))
                    .into_iter()
                    .filter(|(name, _)| name == "x-forwarded-for")
                    .map(|(_, value)| String::from_utf8(value).expect("text"))
                    .collect();
                let due = match with_its_own.strip_suffix("203.0.113.9") {
                    _ if uses => vec![with_its_own],
                    Some("") => vec![],
                    Some(without) => vec![without.trim_end_matches(',')],
                    None => panic!("it ends with the peer"),
                };
                assert_eq!(seen, due, "{uses} {hops} {sent:?} ({protocol:?})");
            }
        }
    }
}

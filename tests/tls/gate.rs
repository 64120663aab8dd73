//! The gate over TLS, and whose calls it answers.

use portcullis::proto::{
    envoy::service::auth::v3::{
        self as envoy, AttributeContext, attribute_context, check_response::HttpResponse,
    },
    v1::{BatchCheckRequest, CheckRequest, ErrorReason, Key, check_response::Reason},
};
use tonic::{
    Code, Request, Status, client::Grpc, service::interceptor::InterceptedService,
    transport::Channel,
};
use tonic_health::pb::HealthCheckRequest;

use crate::{
    pki::{
        Ca, EDGE, OPERATOR, Scene, assert_no_connection, create_workspace, disable, issue,
        issue_key,
    },
    support::{
        Clients, Setup, Token, assert_refused, check, clients, key_named, reason_of, wait_until,
    },
};

fn asked(token: &str, workspace: &str) -> CheckRequest {
    CheckRequest {
        workspace: workspace.into(),
        ..check(token)
    }
}

/// Asks once by itself and once at the end of a batch, which stand or fall together.
async fn ask(caller: &Clients, request: CheckRequest) -> Result<Reason, Status> {
    let first = asked("nothing", "default");
    let batch = BatchCheckRequest {
        checks: vec![first, request.clone()],
    };
    let batch = caller.check.clone().batch_check(batch).await;
    let single = caller.check.clone().check(request).await;
    match (single, batch) {
        (Ok(single), Ok(batch)) => {
            let last = batch.into_inner().results.pop().expect("two results");
            let single = single.into_inner();
            assert_eq!(single.reason(), last.reason(), "single and in a batch");
            Ok(single.reason())
        }
        (Err(single), Err(batch)) => {
            assert_eq!(
                reason_of(&single),
                reason_of(&batch),
                "single and in a batch"
            );
            Err(single)
        }
        (single, batch) => panic!("single {single:?}, in a batch {batch:?}"),
    }
}

async fn refused(caller: &Clients, request: CheckRequest, code: Code, reason: ErrorReason) {
    match ask(caller, request).await {
        Ok(answer) => panic!("{code}, {reason:?} is due, not the answer {answer:?}"),
        Err(status) => {
            assert_eq!(
                (status.code(), reason_of(&status)),
                (code, reason),
                "{status:?}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gate_with_a_certificate_is_called_over_tls_and_not_without() {
    let scene = Scene::new();
    let server = scene.server_tls("gate").start();
    let (admin, plain) = clients(&server);
    let token = admin.create("first", &[]).await.token;
    let gate = scene.clients(server.gate().tcp().port(), None, &Token::none());
    assert!(gate.ask(check(&token)).await.allowed);
    let refused = plain.check.clone().check(check(&token)).await;
    assert_no_connection("without TLS", refused);
    assert_eq!(
        server.metric("portcullis_checks_total", "reason=\"OK\""),
        Some(1.0)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mapped_certificate_asks_about_its_own_workspaces() {
    let scene = Scene::new();
    let server = scene.mutual().start();
    let root = scene.root(&server);
    create_workspace(&root, "acme").await;
    let token = root.create("first", &[]).await.token;
    let port = server.gate().tcp().port();

    let edge = scene.clients(port, Some(&scene.clients.leaf(&[EDGE])), &Token::none());
    assert_eq!(
        ask(&edge, asked(&token, "default")).await.unwrap(),
        Reason::Ok
    );
    // A local gate: no workspace is `default`.
    assert_eq!(ask(&edge, check(&token)).await.unwrap(), Reason::Ok);
    let (denied, not_permitted) = (Code::PermissionDenied, ErrorReason::CallerNotPermitted);
    refused(&edge, asked(&token, "acme"), denied, not_permitted).await;
    refused(&edge, asked(&token, "system"), denied, not_permitted).await;
    // What is no workspace has no keys, and is answered.
    let answer = ask(&edge, asked(&token, "No Workspace")).await.unwrap();
    assert_eq!(answer, Reason::InvalidRequest);

    // Mapped, to permissions that are not this one.
    let operator = scene.clients(port, Some(&scene.clients.leaf(&[OPERATOR])), &Token::none());
    refused(&operator, asked(&token, "default"), denied, not_permitted).await;

    let unknown = (Code::Unauthenticated, ErrorReason::CredentialMissing);
    for names in [
        &["spiffe://example.org/other"][..],
        &["spiffe://example.org/edge/more"],
        &["edge.example.org"],
        &[EDGE, "spiffe://example.org/other"],
        &[],
    ] {
        let leaf = scene.clients.leaf(names);
        let caller = scene.clients(port, Some(&leaf), &Token::none());
        refused(&caller, asked(&token, "default"), unknown.0, unknown.1).await;
    }
    let counted = |reason: &str| {
        server.metric(
            "portcullis_gate_callers_refused_total",
            &format!("reason=\"{reason}\""),
        )
    };
    assert_eq!(counted("NOT_PERMITTED"), Some(6.0));
    assert_eq!(counted("MISSING"), Some(10.0));
    assert!(!server.stderr().contains(&token), "no credential is logged");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_shows_no_good_certificate_does_not_get_to_ask() {
    let scene = Scene::new();
    let server = scene.mutual().start();
    let token = scene.root(&server).create("first", &[]).await.token;
    let port = server.gate().tcp().port();
    let leaves = [
        ("none", None),
        ("expired", Some(scene.clients.expired(&[EDGE]))),
        ("of another authority", Some(Ca::new().leaf(&[EDGE]))),
        ("of the server's authority", Some(scene.ca.leaf(&[EDGE]))),
    ];
    let mut before = Some(0.0);
    for (what, leaf) in &leaves {
        // A good credential makes up for nothing.
        let credential = Token::bearer(&server.root_token());
        let caller = scene.clients(port, leaf.as_ref(), &credential);
        assert_no_connection(what, caller.check.clone().check(check(&token)).await);
        let failed = || server.metric("portcullis_tls_handshakes_failed_total", "gate");
        wait_until(what, || failed() > before);
        before = failed();
    }
    assert_eq!(server.metric("portcullis_checks_total", ""), Some(0.0));
    let edge = scene.clients(port, Some(&scene.clients.leaf(&[EDGE])), &Token::none());
    assert!(
        edge.ask(check(&token)).await.allowed,
        "and neighbours are served"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_required_credential_is_judged_on_every_call() {
    let server = Setup::new().arg("--gate-require-credential").start();
    let (root, nobody) = clients(&server);
    create_workspace(&root, "acme").await;
    let token = root.create("first", &[]).await.token;
    let request = || asked(&token, "default");
    let gate = |token: &str| Clients::of(server.gate(), &Token::bearer(token));

    let missing = ErrorReason::CredentialMissing;
    refused(&nobody, request(), Code::Unauthenticated, missing).await;
    let invalid = (Code::Unauthenticated, ErrorReason::CredentialInvalid);
    // A key of a workspace, wrong, and no token at all.
    let wrong = format!("{}x", server.root_token());
    for bad in [token.as_str(), wrong.as_str(), "garbage"] {
        refused(&gate(bad), request(), invalid.0, invalid.1).await;
    }

    let default = issue(&root, &["default:check"]).await;
    let caller = gate(&default.token);
    assert_eq!(ask(&caller, request()).await.unwrap(), Reason::Ok);
    let (denied, not_permitted) = (Code::PermissionDenied, ErrorReason::CallerNotPermitted);
    refused(&caller, asked(&token, "acme"), denied, not_permitted).await;
    let other = issue(&root, &["acme:check"]).await;
    refused(&gate(&other.token), request(), denied, not_permitted).await;
    let unfit = issue(&root, &["*:keys.read", "*:keys.write"]).await;
    refused(&gate(&unfit.token), request(), denied, not_permitted).await;

    // Limited to addresses: its own, and another.
    for (address, may) in [("127.0.0.1", true), ("192.0.2.1", false)] {
        let limited = Key {
            ip_allowlist: vec![address.into()],
            ..key_named("", &["default:check"])
        };
        let caller = gate(&issue_key(&root, limited).await.token);
        if may {
            assert_eq!(ask(&caller, request()).await.unwrap(), Reason::Ok);
        } else {
            refused(&caller, request(), invalid.0, invalid.1).await;
        }
    }

    // Revoked: the next call on the same connection is refused.
    disable(&root, &default.key.expect("a key").name).await;
    refused(&caller, request(), invalid.0, invalid.1).await;

    // Health asks nobody.
    let mut health = nobody.health.clone();
    let health = health.check(HealthCheckRequest::default()).await;
    health.expect("health needs no credential");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_credential_that_is_bad_is_not_made_good_by_a_certificate() {
    let scene = Scene::new();
    let server = scene.mutual().start();
    let root = scene.root(&server);
    create_workspace(&root, "acme").await;
    let token = root.create("first", &[]).await.token;
    let port = server.gate().tcp().port();
    let edge = scene.clients.leaf(&[EDGE]);
    let revoked = issue(&root, &["default:check"]).await;
    disable(&root, &revoked.key.expect("a key").name).await;
    for bad in [revoked.token.as_str(), "garbage"] {
        let caller = scene.clients(port, Some(&edge), &Token::bearer(bad));
        let result = caller.check.clone().check(check(&token)).await;
        let reason = ErrorReason::CredentialInvalid;
        assert_refused(bad, result, Code::Unauthenticated, reason, &[]);
    }
    // A good one counts instead of the certificate, not beside it.
    let acme = issue(&root, &["acme:check"]).await;
    let caller = scene.clients(port, Some(&edge), &Token::bearer(&acme.token));
    let (denied, not_permitted) = (Code::PermissionDenied, ErrorReason::CallerNotPermitted);
    refused(&caller, asked(&token, "default"), denied, not_permitted).await;
    let answer = caller.ask(asked(&token, "acme")).await;
    assert_eq!(answer.reason(), Reason::InvalidCredential);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gate_for_strangers_asks_for_the_workspace() {
    let server = Setup::new()
        .gate("0.0.0.0:0")
        .arg("--gate-require-credential")
        .start();
    let root = Clients::root(&server);
    let token = root.create("first", &[]).await.token;
    let caller = issue(&root, &["default:check"]).await;
    let port = server.gate().tcp().port();
    let local = crate::support::Address::Tcp((std::net::Ipv4Addr::LOCALHOST, port).into());
    let gate = Clients::of(&local, &Token::bearer(&caller.token));
    let answer = gate.ask(check(&token)).await;
    assert_eq!(answer.reason(), Reason::InvalidRequest, "{answer:?}");
    assert!(gate.ask(asked(&token, "default")).await.allowed);
}

/// As Envoy asks about a request with this key, on a route of this workspace. What it is told: 200, or a denial.
async fn ask_as_envoy(channel: &Channel, token: &Token, key: &str, workspace: &str) -> i32 {
    let extensions = [("workspace", workspace), ("permission", "none")];
    let http = attribute_context::HttpRequest {
        method: "GET".into(),
        path: "/".into(),
        headers: [("x-api-key".to_owned(), key.to_owned())].into(),
        ..Default::default()
    };
    let request = envoy::CheckRequest {
        attributes: Some(AttributeContext {
            request: Some(attribute_context::Request {
                http: Some(http),
                ..Default::default()
            }),
            context_extensions: extensions
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            ..Default::default()
        }),
    };
    let mut grpc = Grpc::new(InterceptedService::new(channel.clone(), token.clone()));
    grpc.ready().await.expect("a connection");
    let path = "/envoy.service.auth.v3.Authorization/Check";
    let codec = tonic_prost::ProstCodec::<_, envoy::CheckResponse>::default();
    let path = http::uri::PathAndQuery::from_static(path);
    let answer = grpc.unary(Request::new(request), path, codec).await;
    // Whoever asks: an error would be Envoy's to judge.
    let answer = answer.expect("always an answer").into_inner();
    let code = answer.status.expect("a status").code;
    match answer.http_response.expect("what to do") {
        HttpResponse::OkResponse(_) => {
            assert_eq!(code, 0);
            200
        }
        HttpResponse::DeniedResponse(denied) => {
            assert_ne!(code, 0);
            denied.status.expect("a status").code
        }
        HttpResponse::ErrorResponse(_) => panic!("an error is no denial"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn envoy_is_asked_who_it_is_like_any_other_caller() {
    let scene = Scene::new();
    let server = scene.mutual().start();
    let root = scene.root(&server);
    create_workspace(&root, "acme").await;
    let key = root.create("first", &[]).await.token;
    let port = server.gate().tcp().port();
    let edge = scene.channel(port, Some(&scene.clients.leaf(&[EDGE])));
    let stranger = scene.channel(port, Some(&scene.clients.leaf(&["other.example.org"])));
    let default = issue(&root, &["default:check"]).await;
    let acme = issue(&root, &["acme:check"]).await;
    let (none, garbage) = (Token::none(), Token::bearer("garbage"));
    let with_default = Token::bearer(&default.token);
    let with_acme = Token::bearer(&acme.token);
    for (what, channel, token, workspace, due) in [
        ("by certificate", &edge, &none, "default", 200),
        ("by certificate, elsewhere", &edge, &none, "acme", 403),
        ("unmapped", &stranger, &none, "default", 403),
        ("by credential", &stranger, &with_default, "default", 200),
        (
            "by credential, elsewhere",
            &stranger,
            &with_default,
            "acme",
            403,
        ),
        ("a bad credential", &edge, &garbage, "default", 403),
        ("another's credential", &edge, &with_acme, "default", 403),
        ("its own", &edge, &with_acme, "acme", 401),
    ] {
        let told = ask_as_envoy(channel, token, &key, workspace).await;
        assert_eq!(told, due, "{what}");
    }
    disable(&root, &default.key.expect("a key").name).await;
    let told = ask_as_envoy(&stranger, &with_default, &key, "default").await;
    assert_eq!(told, 403, "revoked");
}

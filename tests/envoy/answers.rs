//! What passes, with what, and what does not: over HTTP/1.1, HTTP/2 and gRPC.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use portcullis::proto::v1::{IssuedKey, Key};

use crate::{
    clients::{Ask, BOTH, Called, grpcurl},
    scene::{
        ANY_KEY, BAD_SETTING, BOTH_PERMISSIONS, CLOSED, DISABLED, Denial, EXPIRED, IC, INV, Judge,
        NO_POLICY, PD, SD, SEND, Scene, WORKSPACE, id, may, name,
    },
    support::{self, Clients, Mutation, Token, update},
    upstream::Reached,
};

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

/// Asserts that the service learns who calls, and nothing that would let it call in the same name.
#[track_caller]
fn introduced(what: &str, reached: &Reached, key: &IssuedKey, owner: &str) {
    for (header, value) in [
        ("x-portcullis-key", id(key)),
        ("x-portcullis-workspace", WORKSPACE),
        ("x-portcullis-owner", owner),
    ] {
        assert_eq!(
            reached.header(header).as_deref(),
            Some(value),
            "{what}: {header}"
        );
    }
    for header in ["authorization", "x-api-key"] {
        assert_eq!(reached.header(header), None, "{what}: {header}");
    }
    let encoded = STANDARD.encode(&key.token);
    for secret in [&key.token, &key.secret, &encoded] {
        assert!(
            !reached.contains(secret),
            "{what}: a secret went upstream: {reached:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_good_key_passes_with_its_identity_and_without_its_secret() {
    let Ok(scene) = Scene::start().await else {
        return;
    };
    let key = scene.sender().await;
    let owner = key.key.as_ref().expect("a key").owner.clone();
    assert_ne!(owner, "", "a root made it");
    let mut judge = Judge::of(&scene);
    let carriers = [
        ("authorization", format!("Bearer {}", key.token)),
        ("authorization", format!("bEaReR {}", key.token)),
        ("authorization", basic(id(&key), &key.secret)),
        ("authorization", basic(WORKSPACE, &key.token)),
        ("x-api-key", key.token.clone()),
        ("X-Api-Key", key.token.clone()),
    ];
    for protocol in BOTH {
        for (header, value) in &carriers {
            let what = format!("{header}: {}", value.split(' ').next().unwrap_or_default());
            let ask = Ask::of(SEND)
                .path("/v1/messages?a=1&b=%2f")
                .header("x-other", "kept")
                .header(header, value);
            let reached = judge.allowed(&what, &ask, protocol).await;
            introduced(&what, &reached, &key, &owner);
            assert_eq!(reached.path, "/v1/messages?a=1&b=%2f", "{what}");
            assert_eq!(reached.header("x-other").as_deref(), Some("kept"), "{what}");
        }
        for method in ["POST", "DELETE", "OPTIONS", "HEAD"] {
            let ask = Ask::of(SEND).method(method).bearer(&key.token);
            let reached = judge.allowed(method, &ask, protocol).await;
            introduced(method, &reached, &key, &owner);
            assert_eq!(reached.method, method);
        }
        let ask = Ask::of(ANY_KEY).bearer(&key.token);
        let reached = judge.allowed("a route for any key", &ask, protocol).await;
        introduced("a route for any key", &reached, &key, &owner);
        let ask = Ask::of("shipped.test").bearer(&key.token);
        judge
            .denied(
                "the shipped route is another workspace's",
                &ask,
                protocol,
                IC,
            )
            .await;
    }
    judge.agrees_with_the_log();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_denial_says_why_in_its_own_way_and_nothing_reaches_the_service() {
    let Ok(scene) = Scene::start().await else {
        return;
    };
    let good = scene.sender().await;
    let reader = scene.create(may(&["sms.read"])).await;
    let (disabled, archived, deleted) = (
        scene.sender().await,
        scene.sender().await,
        scene.sender().await,
    );
    scene.change(Mutation::disable(name(&disabled))).await;
    scene.change(Mutation::archive(name(&archived))).await;
    scene.change(Mutation::delete(name(&deleted))).await;
    let expired = scene.expired().await;
    let local = Key {
        ip_allowlist: vec!["203.0.113.0/24".into()],
        ..may(&["sms.send"])
    };
    let local = scene.create(local).await;
    let system = scene.server.root_token();
    let stranger = scene
        .root
        .create("of another workspace", &["sms.send"])
        .await;

    let bearer = |key: &IssuedKey| Ask::of(SEND).bearer(&key.token);
    let flipped = {
        let mut token = good.token.clone();
        let last = token.pop().expect("a token is not empty");
        token.push(if last == '0' { '1' } else { '0' });
        token
    };
    let cases: Vec<(&str, Ask, Denial)> = vec![
        ("no credential", Ask::of(SEND), IC),
        ("no token", Ask::of(SEND).bearer("nonsense"), IC),
        ("a wrong check sum", Ask::of(SEND).bearer(&flipped), IC),
        (
            "another key's secret",
            Ask::of(SEND).header("authorization", basic(id(&good), &reader.secret)),
            IC,
        ),
        ("a deleted key", bearer(&deleted), IC),
        ("an archived key", bearer(&archived), IC),
        ("a key of another workspace", bearer(&stranger), IC),
        ("a key of `system`", Ask::of(SEND).bearer(&system), IC),
        ("a disabled key", bearer(&disabled), DISABLED),
        ("an expired key", bearer(&expired), EXPIRED),
        ("from elsewhere", bearer(&local), SD),
        (
            "from elsewhere, by another's word",
            bearer(&local).header("x-forwarded-for", "203.0.113.7"),
            SD,
        ),
        ("without the permission", bearer(&reader), PD),
        (
            "with one of two permissions",
            Ask::of(BOTH_PERMISSIONS).bearer(&good.token),
            PD,
        ),
        (
            "a value that is none of the setting's",
            bearer(&good).header("x-sms-sender", "Nobody"),
            BAD_SETTING,
        ),
        (
            "two values of a setting",
            bearer(&good)
                .header("x-sms-sender", "Acme")
                .header("x-sms-sender", "Acme"),
            BAD_SETTING,
        ),
        (
            "a value that is no text",
            bearer(&good).header("x-sms-sender", b"Acm\xff"),
            BAD_SETTING,
        ),
        (
            "two credentials",
            bearer(&good).header("x-api-key", &good.token),
            INV,
        ),
    ];
    let mut judge = Judge::of(&scene);
    for protocol in BOTH {
        for (what, ask, denial) in &cases {
            judge.denied(what, ask, protocol, *denial).await;
        }
        for (host, policy) in CLOSED {
            let ask = Ask::of(host).bearer(&good.token);
            // What is well written but means nothing in the workspace is judged with the key.
            let denial = match *host {
                "undeclared.test" => PD,
                "no-such-workspace.test" => IC,
                _ => NO_POLICY,
            };
            judge
                .denied(&format!("policy {policy:?}"), &ask, protocol, denial)
                .await;
        }
        let from = bearer(&local).from("203.0.113.7");
        judge
            .allowed("from where it may be used", &from, protocol)
            .await;
        judge
            .allowed("the good key is good", &bearer(&good), protocol)
            .await;
    }
    judge.agrees_with_the_log();
    // Of a key whose secret was not proved the log says nothing; of another one which it is.
    let lines = scene.envoy.logged(2 * (cases.len() + CLOSED.len() + 2));
    for ((what, _, denial), line) in cases.iter().zip(&lines) {
        let proved = !matches!(*denial, d if d == IC || d == INV || d == BAD_SETTING);
        if proved || *denial == IC || *denial == INV {
            assert_eq!(line.get("key").is_some(), proved, "{what}: {line:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_go_upstream_as_headers_and_the_requests_own_value_wins() {
    let Ok(scene) = Scene::start().await else {
        return;
    };
    let plain = scene.sender().await;
    let own = Key {
        settings: [
            ("default_sender".to_owned(), "AcmeShop".to_owned()),
            ("dlr_url".to_owned(), "https://acme.example/dlr".to_owned()),
        ]
        .into(),
        ..may(&["sms.send"])
    };
    let own = scene.create(own).await;
    let mut judge = Judge::of(&scene);
    for protocol in BOTH {
        for (what, key, sent, due) in [
            (
                "the workspace's",
                &plain,
                &[][..],
                [Some("Acme"), Some("OFF"), None],
            ),
            (
                "the key's",
                &own,
                &[],
                [
                    Some("AcmeShop"),
                    Some("OFF"),
                    Some("https://acme.example/dlr"),
                ],
            ),
            (
                "the request's",
                &own,
                &[
                    ("x-sms-sender", "AcmeAlerts"),
                    ("X-Sms-Auto-Replace", "FULL"),
                ],
                [
                    Some("AcmeAlerts"),
                    Some("FULL"),
                    Some("https://acme.example/dlr"),
                ],
            ),
            (
                "the request's where nobody else has one",
                &plain,
                &[("x-sms-dlr-url", "https://elsewhere.example/")],
                [
                    Some("Acme"),
                    Some("OFF"),
                    Some("https://elsewhere.example/"),
                ],
            ),
            // One that nobody has a value of, neither.
            (
                "not another spelling's without a value",
                &plain,
                &[
                    ("x_sms_dlr_url", "http://elsewhere.example/"),
                    ("x-sms.dlr_url", "http://elsewhere.example/"),
                ],
                [Some("Acme"), Some("OFF"), None],
            ),
            // Another spelling is no value of the request's, and may not look like one to the service.
            (
                "not another spelling's",
                &own,
                &[
                    ("x_sms_sender", "AcmeAlerts"),
                    ("x-sms_sender", "Nobody"),
                    ("x.sms.sender", "Acme"),
                ],
                [
                    Some("AcmeShop"),
                    Some("OFF"),
                    Some("https://acme.example/dlr"),
                ],
            ),
        ] {
            let mut ask = Ask::of(SEND).bearer(&key.token);
            for (header, value) in sent {
                ask = ask.header(header, value);
            }
            let reached = judge.allowed(what, &ask, protocol).await;
            let headers = ["x-sms-sender", "x-sms-auto-replace", "x-sms-dlr-url"];
            let seen = headers.map(|header| reached.header(header));
            assert_eq!(seen, due.map(|value| value.map(str::to_owned)), "{what}");
            assert!(!reached.contains("http://elsewhere"), "{what}: {reached:?}");
            for header in ["x_sms_sender", "x-sms_sender", "x.sms.sender"] {
                assert_eq!(reached.header(header), None, "{what}: {header}");
            }
        }
        for (what, header, value) in [
            ("too much", "x-sms-auto-replace", "EVERYTHING"),
            (
                "an insecure URL",
                "x-sms-dlr-url",
                "http://elsewhere.example/",
            ),
            ("an empty one", "x-sms-sender", ""),
        ] {
            let ask = Ask::of(SEND).bearer(&own.token).header(header, value);
            judge.denied(what, &ask, protocol, BAD_SETTING).await;
        }
    }
    judge.agrees_with_the_log();
}

/// Names that some server may take for ours. Those with a dot are no identity to Envoy either.
const FORGED: [&str; 12] = [
    "x-portcullis-key",
    "X-PORTCULLIS-KEY",
    "x_portcullis_key",
    "X-Portcullis_Key",
    "x-portcullis_owner",
    "X_Portcullis-Workspace",
    "x-portcullis-owner",
    "x-portcullis-workspace",
    "x-portcullis-role",
    "x_portcullis_anything_else",
    "x.portcullis.key",
    "x-portcullis-",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forged_identity_never_reaches_the_service() {
    let Ok(scene) = Scene::start().await else {
        return;
    };
    let key = scene.sender().await;
    let owner = key.key.as_ref().expect("a key").owner.clone();
    let mut judge = Judge::of(&scene);
    let ask = |names: &[&str]| {
        let ask = Ask::of(SEND)
            .bearer(&key.token)
            .header("x-portcullisx", "kept");
        names
            .iter()
            .fold(ask, |ask, name| ask.header(name, "forged"))
    };
    for protocol in BOTH {
        let twice = [FORGED, FORGED].concat();
        let each = FORGED.iter().map(std::slice::from_ref);
        for names in each.chain([&FORGED[..], &twice]) {
            let what = format!("{names:?}");
            let reached = judge.allowed(&what, &ask(names), protocol).await;
            introduced(&what, &reached, &key, &owner);
            assert!(!reached.contains("forged"), "{what}: {reached:?}");
            assert_eq!(reached.header("x-portcullisx").as_deref(), Some("kept"));
        }
        // A header that the client names as one of its connection's is gone before anybody is asked.
        let named = ask(&[]).header("connection", "authorization, x-portcullis-key");
        if protocol == crate::clients::Protocol::Http1 {
            judge
                .denied("a credential of the connection's", &named, protocol, IC)
                .await;
        }
    }
    judge.agrees_with_the_log();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_owner_is_sent_as_empty() {
    let Ok(scene) = Scene::start().await else {
        return;
    };
    // Nobody is known at the socket of the file system.
    let local = Clients::of(&scene.server.admin_socket(), &Token::none());
    let key = crate::scene::create(&local, may(&["sms.send"])).await;
    let owner = key.key.as_ref().expect("a key").owner.clone();
    let mut judge = Judge::of(&scene);
    for protocol in BOTH {
        let ask = Ask::of(SEND)
            .bearer(&key.token)
            .header("x-portcullis-owner", "forged");
        let reached = judge.allowed("no owner", &ask, protocol).await;
        introduced("no owner", &reached, &key, &owner);
    }
    judge.agrees_with_the_log();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grpc_service_is_called_and_its_callers_get_the_matching_status() {
    let Ok(program) = support::grpcurl() else {
        return;
    };
    let Ok(scene) = Scene::start().await else {
        return;
    };
    let good = scene.sender().await;
    let reader = scene.create(may(&["sms.read"])).await;
    let disabled = scene.sender().await;
    scene.change(Mutation::disable(name(&disabled))).await;
    let expired = scene.expired().await;
    let local = Key {
        ip_allowlist: vec!["203.0.113.7".into()],
        ..may(&["sms.send"])
    };
    let local = scene.create(local).await;
    let edge = scene.envoy.edge();
    let bearer = |key: &IssuedKey| format!("Bearer {}", key.token);

    let ok = Called {
        code: "OK".into(),
        text: r#"{ "status": "SERVING" }"#.into(),
    };
    let authorized = bearer(&good);
    for header in [("authorization", &*authorized), ("x-api-key", &good.token)] {
        let called = grpcurl(&program, edge, SEND, &[header]).await;
        assert_eq!(called, ok, "{}", header.0);
        let reached = scene.upstream.only();
        introduced(
            "gRPC",
            &reached,
            &good,
            &good.key.as_ref().expect("a key").owner,
        );
        assert_eq!(reached.path, "/grpc.health.v1.Health/Check");
        assert_eq!(reached.header("x-sms-sender").as_deref(), Some("Acme"));
    }

    let missing = "the API key is missing or not valid";
    let forbidden = "the API key does not permit this call";
    let closed = "nothing says which permission this call requires, so it is closed";
    let malformed = "the request is malformed, ambiguous, or has more than one credential";
    let setting = "a header has a value that the setting it stands for does not take";
    for (what, host, headers, code, message) in [
        ("no credential", SEND, vec![], "Unauthenticated", missing),
        (
            "no token",
            SEND,
            vec![("x-api-key", "nonsense".to_owned())],
            "Unauthenticated",
            missing,
        ),
        (
            "a disabled key",
            SEND,
            vec![("authorization", bearer(&disabled))],
            "PermissionDenied",
            "the API key is disabled",
        ),
        (
            "an expired key",
            SEND,
            vec![("authorization", bearer(&expired))],
            "PermissionDenied",
            "the API key has expired",
        ),
        (
            "from elsewhere",
            SEND,
            vec![("authorization", bearer(&local))],
            "PermissionDenied",
            "the API key may not be used from this address",
        ),
        (
            "no permission",
            SEND,
            vec![("authorization", bearer(&reader))],
            "PermissionDenied",
            forbidden,
        ),
        (
            "no policy",
            "no-policy.test",
            vec![("authorization", bearer(&good))],
            "PermissionDenied",
            closed,
        ),
        (
            "two credentials",
            SEND,
            vec![
                ("authorization", bearer(&good)),
                ("x-api-key", good.token.clone()),
            ],
            "InvalidArgument",
            malformed,
        ),
        (
            "a bad setting",
            SEND,
            vec![
                ("authorization", bearer(&good)),
                ("x-sms-sender", "Nobody".to_owned()),
            ],
            "InvalidArgument",
            setting,
        ),
    ] {
        let headers: Vec<_> = headers
            .iter()
            .map(|(name, value)| (*name, &**value))
            .collect();
        let called = grpcurl(&program, edge, host, &headers).await;
        let due = Called {
            code: code.into(),
            text: message.into(),
        };
        assert_eq!(called, due, "{what}");
        scene.upstream.untouched(what);
    }
}

/// A change of a key counts from its answer on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_changes_is_judged_as_it_is_now() {
    let Ok(scene) = Scene::start().await else {
        return;
    };
    let key = scene.sender().await;
    let ask = Ask::of(SEND).bearer(&key.token);
    let mut judge = Judge::of(&scene);
    for protocol in BOTH {
        judge.allowed("at first", &ask, protocol).await;
        scene.change(Mutation::disable(name(&key))).await;
        judge.denied("disabled", &ask, protocol, DISABLED).await;
        scene.change(Mutation::enable(name(&key))).await;
        judge.allowed("enabled", &ask, protocol).await;
        let change = |permissions: &[&str]| {
            let key = Key {
                name: name(&key).into(),
                permissions: permissions.iter().map(ToString::to_string).collect(),
                ..Key::default()
            };
            Mutation::UpdateKey(update(key, &["permissions"]))
        };
        scene.change(change(&["sms.read"])).await;
        judge.denied("narrowed", &ask, protocol, PD).await;
        scene.change(change(&["sms.send"])).await;
    }
    judge.agrees_with_the_log();
}

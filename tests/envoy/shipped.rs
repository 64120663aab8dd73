//! The files of `deploy/envoy`: all of them by Envoy's own judgement, and each by what it is for.

use std::{fs, path::Path};

use portcullis::proto::v1::{IssuedKey, Key};

use crate::{
    clients::{Ask, BOTH, Called, grpcurl},
    harness::{Config, shipped, validate},
    pki::{Ca, Leaf},
    scene::{
        DISABLED, Denial, IC, Judge, NO_POLICY, PD, SEND, Scene, create, id, may, name, patient,
        test_hosts,
    },
    support::{self, Clients, Mutation, Setup},
};

/// What makes a file safe, whatever else is in it.
const IN_ALL: [&str; 11] = [
    "normalize_path: true",
    "merge_slashes: true",
    "path_with_escaped_slashes_action: REJECT_REQUEST",
    "headers_with_underscores_action: REJECT_REQUEST",
    "use_remote_address: true",
    "timeout: 0.2s",
    "failure_mode_allow: false",
    "status_on_error: { code: ServiceUnavailable }",
    "encode_raw_headers: true",
    "%RESPONSE_CODE_DETAILS%",
    "%DYNAMIC_METADATA(envoy.filters.http.ext_authz:reason)%",
];

/// Where the files that speak TLS have their certificates.
const CERTIFICATES: &str = "/etc/envoy/portcullis";
/// What Envoy and the gate are called in them.
const ENVOY: &str = "spiffe://example.org/ns/edge/sa/envoy";
const GATE: &str = "spiffe://example.org/ns/portcullis/sa/portcullis";

fn files() -> Vec<String> {
    let entries = fs::read_dir(shipped("")).expect("the shipped files");
    let names = entries.map(|entry| entry.expect("a file").file_name());
    let mut names: Vec<_> = names
        .map(|name| name.into_string().expect("a name"))
        .filter(|name| {
            let extension = Path::new(name).extension();
            extension.is_some_and(|extension| extension == "yaml")
        })
        .collect();
    names.sort();
    names
}

#[test]
fn every_shipped_file_is_valid_and_safe() {
    let pki = Pki::new();
    let names = files();
    assert_eq!(names.len(), 7, "{names:?}");
    let readme = fs::read_to_string(shipped("README.md")).expect("a README");
    for name in names {
        let config = Config::shipped(&name);
        let lines = config.text().lines();
        let said: Vec<_> = lines.filter(|line| !line.trim().starts_with('#')).collect();
        for line in IN_ALL {
            let is_said = said.iter().any(|said| said.contains(line));
            assert!(is_said, "{name} lacks {line}");
        }
        assert!(
            readme.contains(&format!("`{name}`")),
            "the README knows {name}"
        );
        let Ok(output) = validate(&pki.placed(config)) else {
            return;
        };
        assert!(output.status.success(), "{name}: {output:?}");
    }
    let bad = Config::shipped("envoy.yaml").with("normalize_path: true", "normalise_path: true");
    let Ok(output) = validate(&bad) else {
        return;
    };
    assert!(!output.status.success(), "what is not valid is seen");
}

/// The certificates of a gate and of its clients.
struct Pki {
    dir: tempfile::TempDir,
    clients: Ca,
}

impl Pki {
    fn new() -> Self {
        let (gates, clients) = (Ca::new(), Ca::new());
        let pki = Self {
            dir: tempfile::tempdir().expect("a directory"),
            clients,
        };
        pki.write("ca.pem", gates.pem());
        pki.write("clients.pem", pki.clients.pem());
        pki.identity("gate", &gates.leaf(&["portcullis.example.org", GATE]));
        // Of the same authority, and somebody else.
        pki.identity(
            "other",
            &gates.leaf(&["portcullis.example.org", "spiffe://example.org/other"]),
        );
        pki.identity("envoy", &pki.clients.leaf(&[ENVOY]));
        pki
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.dir.path().join(name), text).expect("a file");
    }

    fn identity(&self, name: &str, leaf: &Leaf) {
        self.write(&format!("{name}.pem"), &leaf.cert);
        self.write(&format!("{name}.key"), &leaf.key);
    }

    /// The file with our certificates.
    fn placed(&self, config: Config) -> Config {
        config.replacing(CERTIFICATES, &self.dir.path().display().to_string())
    }

    /// A gate that shows the certificate of that name.
    fn gate(&self, name: &str) -> Setup {
        let file = |name: String| self.dir.path().join(name).display().to_string();
        Setup::new()
            .arg("--gate-cert")
            .arg(file(format!("{name}.pem")))
            .arg("--gate-key")
            .arg(file(format!("{name}.key")))
    }
}

/// Asserts that a good key passes, a bad one is denied and a disabled one from its answer on.
async fn works(scene: &Scene) {
    let key = scene.sender().await;
    let mut judge = Judge::of(scene);
    let ask = Ask::of(SEND).bearer(&key.token);
    for protocol in BOTH {
        let reached = judge.allowed("a good key", &ask, protocol).await;
        assert_eq!(
            reached.header("x-portcullis-key").as_deref(),
            Some(id(&key))
        );
        assert_eq!(reached.header("authorization"), None);
        judge.denied("none", &Ask::of(SEND), protocol, IC).await;
    }
    scene.change(Mutation::disable(name(&key))).await;
    for protocol in BOTH {
        judge.denied("disabled", &ask, protocol, DISABLED).await;
    }
    judge.agrees_with_the_log();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_a_unix_socket() {
    let dir = tempfile::tempdir().expect("a directory");
    let socket = format!("unix:{}", dir.path().join("gate.sock").display());
    let setup = Setup::new().gate(socket);
    let Ok(scene) = Scene::start_on("unix-socket.yaml", setup, test_hosts, &[]).await else {
        return;
    };
    works(&scene).await;
}

/// Whoever may not ask is told so by an answer.
const STRANGER: Denial = Denial {
    status: 403,
    reason: "PERMISSION_DENIED",
    logged: "CALLER_REFUSED",
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_mutual_tls() {
    let pki = Pki::new();
    let callers = |workspace: &str| {
        let file = format!("{workspace}.toml");
        let permission = format!("{workspace}:check");
        pki.write(
            &file,
            &format!("[[caller]]\nspiffe = \"{ENVOY}\"\npermissions = [\"{permission}\"]\n"),
        );
        let mut setup = pki.gate("gate");
        for (flag, file) in [("--gate-client-ca", "clients.pem"), ("--config", &*file)] {
            setup = setup.arg(flag).arg(pki.dir.path().join(file));
        }
        setup
    };
    let placed = |config| pki.placed(test_hosts(config));
    let Ok(scene) = Scene::start_on("mtls.yaml", callers("acme"), placed, &[]).await else {
        return;
    };
    works(&scene).await;

    // One that may ask about another workspace's keys only.
    let Ok(scene) = Scene::start_on("mtls.yaml", callers("default"), placed, &[]).await else {
        return;
    };
    let key = scene.sender().await;
    let ask = Ask::of(SEND).bearer(&key.token);
    let mut judge = Judge::of(&scene);
    for protocol in BOTH {
        judge
            .denied("of another workspace", &ask, protocol, STRANGER)
            .await;
    }
    judge.agrees_with_the_log();

    // A gate that is not the one that Envoy knows gets no credential to see.
    let Ok(scene) = Scene::start_on("mtls.yaml", pki.gate("other"), placed, &[]).await else {
        return;
    };
    let key = scene.sender().await;
    let ask = Ask::of(SEND).bearer(&key.token);
    let mut judge = Judge::of(&scene);
    for protocol in BOTH {
        judge.unasked("of another name", &ask, protocol).await;
    }
    judge.agrees_with_the_log();
    assert_ne!(
        scene.envoy.stat("cluster.portcullis.ssl.fail_verify_san"),
        0
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_credential_from_the_environment() {
    let pki = Pki::new();
    let data = tempfile::tempdir().expect("a directory");
    // The key is made by a server that ends, as an operator would make it beforehand.
    let setup = || {
        pki.gate("gate")
            .arg("--gate-require-credential")
            .data_dir(data.path().join("d"))
    };
    let server = setup().start();
    let root = Clients::root(&server);
    let key = Key {
        display_name: "envoy".into(),
        permissions: vec!["acme:check".into()],
        ..Key::default()
    };
    let asker: IssuedKey = match Mutation::create("workspaces/system", key).done(&root).await {
        support::Answer::Issued(issued) => issued,
        other => panic!("a key is issued, not {other:?}"),
    };
    assert!(server.stop().status.success());

    let placed = |config| pki.placed(test_hosts(config));
    let environment = [("PORTCULLIS_CHECK_KEY", &*asker.token)];
    let Ok(scene) = Scene::start_on("credential.yaml", setup(), placed, &environment).await else {
        return;
    };
    works(&scene).await;
    let good = scene.sender().await;
    let ask = Ask::of(SEND).bearer(&good.token);
    assert_eq!(ask.send(scene.envoy.edge(), BOTH[0]).await.status, 200);
    scene.upstream.only();
    // What the client sends is never taken for what Envoy sends.
    scene.change(Mutation::disable(name(&asker))).await;
    let own = Ask::of(SEND).header("x-api-key", &good.token);
    for ask in [ask, own.bearer(&scene.server.root_token())] {
        let answered = ask.send(scene.envoy.edge(), BOTH[0]).await;
        assert_ne!(answered.status, 200, "{answered:?}");
        scene
            .upstream
            .untouched("after Envoy's own key was disabled");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_route() {
    let Ok(scene) = Scene::start_on("routes.yaml", Setup::new(), patient, &[]).await else {
        return;
    };
    let root = &scene.root;
    let sender = root.create("sender", &["sms.send"]).await;
    let reader = root.create("reader", &["sms.read", "reports.read"]).await;
    let half = root.create("half", &["sms.read"]).await;
    let acme = create(root, may(&["sms.send"])).await;
    let host = "messages.example.org";
    let ask = |path: &str, key: &IssuedKey| Ask::of(host).path(path).bearer(&key.token);
    let mut judge = Judge::of(&scene);
    for protocol in BOTH {
        for (what, ask) in [
            ("a permission", ask("/v1/messages", &sender).method("POST")),
            (
                "with a query",
                ask("/v1/messages?x=/../y", &sender).method("POST"),
            ),
            ("two permissions", ask("/v1/reports/1", &reader)),
            ("any key", ask("/v1/whoami", &half)),
            (
                "another host",
                Ask::of("acme.example.org").bearer(&acme.token),
            ),
            (
                "another host's port",
                Ask::of("acme.example.org:8080").bearer(&acme.token),
            ),
        ] {
            judge.allowed(what, &ask, protocol).await;
        }
        for (what, ask, denial) in [
            (
                "another permission",
                ask("/v1/messages", &reader).method("POST"),
                PD,
            ),
            ("one of two", ask("/v1/reports/1", &half), PD),
            ("another tenant", ask("/v1/whoami", &acme), IC),
            (
                "another tenant",
                Ask::of("acme.example.org").bearer(&sender.token),
                IC,
            ),
            // What no route names is closed, also to those who may do all that is named.
            ("another method", ask("/v1/messages", &sender), NO_POLICY),
            (
                "below it",
                ask("/v1/messages/1", &sender).method("POST"),
                NO_POLICY,
            ),
            ("elsewhere", ask("/", &sender), NO_POLICY),
            ("below what is open", ask("/healthz/x", &sender), NO_POLICY),
            (
                "beside what is open",
                ask("/healthz/../v1/whoami", &acme),
                IC,
            ),
            ("upper case", ask("/HEALTHZ", &sender), NO_POLICY),
            ("encoded", ask("/v1/%6dessages", &reader).method("POST"), PD),
            (
                "slashes",
                ask("//v1///messages", &reader).method("POST"),
                PD,
            ),
            ("no key", Ask::of(host).path("/v1/whoami"), IC),
        ] {
            judge.denied(what, &ask, protocol, denial).await;
        }
    }
    judge.agrees_with_the_log();

    for protocol in BOTH {
        let ask = Ask::of(host)
            .path("/healthz")
            .header("x-portcullis-key", "forged")
            .header("x-portcullis-owner", "forged");
        let answered = ask.send(scene.envoy.edge(), protocol).await;
        assert_eq!(answered.status, 200, "open");
        assert!(
            !scene.upstream.only().contains("forged"),
            "nobody has judged it"
        );
        let answered = ask
            .header("x_portcullis_key", "forged")
            .send(scene.envoy.edge(), protocol)
            .await;
        assert_ne!(answered.status, 200, "{answered:?}");
        scene.upstream.untouched("a name with underscores");
        let answered = Ask::of("unknown.example.org")
            .send(scene.envoy.edge(), protocol)
            .await;
        assert_eq!(answered.status, 404, "a host that is not there");
        scene.upstream.untouched("an unknown host");
    }
    let Ok(program) = support::grpcurl() else {
        return;
    };
    let bearer = format!("Bearer {}", sender.token);
    let called = grpcurl(
        &program,
        scene.envoy.edge(),
        host,
        &[("authorization", &bearer)],
    )
    .await;
    let due = Called {
        code: "PermissionDenied".into(),
        text: "nothing says which permission this call requires, so it is closed".into(),
    };
    assert_eq!(called, due, "a gRPC method that no route names");
    scene
        .upstream
        .untouched("a gRPC method that no route names");
}

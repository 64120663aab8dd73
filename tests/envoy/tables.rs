//! What the gate's own file says of Envoy's requests: a route table, a query parameter, trusted hops.

use portcullis::proto::v1::{IssuedKey, Key};

use crate::{
    clients::{Ask, BOTH, Protocol},
    direct,
    harness::Config,
    scene::{ANY_KEY, Denial, IC, INV, Judge, NO_POLICY, PD, SD, SEND, Scene, id, may, test_hosts},
    support::Setup,
};
use prost::Message as _;

/// A server with this file.
struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }

    fn setup(&self, text: &str) -> Setup {
        let file = self.0.path().join("portcullis.toml");
        std::fs::write(&file, text).expect("a file");
        Setup::new().arg("--config").arg(file)
    }
}

/// Envoy says nothing of these calls, and the table does.
const TABLE: &str = r#"
[[envoy.route]]
path = "/v1/messages"
methods = ["POST"]
workspace = "acme"
permission = "sms.send"
[[envoy.route]]
path = "/v1/messages"
methods = ["GET", "HEAD"]
workspace = "acme"
permission = "sms.read"
[[envoy.route]]
path = "/v1/messages/{id}"
workspace = "acme"
permission = "sms.read"
[[envoy.route]]
path = "/files/{*rest}"
workspace = "acme"
permission = "sms.send,sms.read"
[[envoy.route]]
path = "/whoami"
workspace = "acme"
permission = "none"
[[envoy.route]]
path = "/grpc.health.v1.Health/Check"
workspace = "acme"
permission = "sms.send"
"#;

/// The host that Envoy has no policy of.
const HOST: &str = "no-policy.test";

/// Envoy as somebody might run it who took none of the path settings.
fn careless(config: Config) -> Config {
    config
        .with("          normalize_path: true\n", "")
        .with("          merge_slashes: true\n", "")
        .with(
            "          path_with_escaped_slashes_action: REJECT_REQUEST\n",
            "",
        )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_table_decides_where_envoy_says_nothing() {
    let files = Files::new();
    let Ok(scene) = Scene::start_as(files.setup(TABLE), careless).await else {
        return;
    };
    let sender = scene.sender().await;
    let reader = scene.create(may(&["sms.read"])).await;
    let both = scene.create(may(&["sms.send", "sms.read"])).await;
    let ask = |method: &str, path: &str, key: &IssuedKey| {
        Ask::of(HOST).method(method).path(path).bearer(&key.token)
    };
    let mut judge = Judge::of(&scene);
    for protocol in BOTH {
        for (method, path, key) in [
            ("POST", "/v1/messages", &sender),
            ("POST", "/v1/messages?a=/../x", &sender),
            ("GET", "/v1/messages", &reader),
            ("HEAD", "/v1/messages", &reader),
            ("DELETE", "/v1/messages/17", &reader),
            ("GET", "/v1/messages/a%20b", &reader),
            ("GET", "/files/a/b/c", &both),
            ("PUT", "/whoami", &reader),
        ] {
            let reached = judge.allowed(path, &ask(method, path, key), protocol).await;
            assert_eq!(reached.header("x-portcullis-key").as_deref(), Some(id(key)));
            assert_eq!(reached.path, path, "it goes on as it was judged");
        }
        for (method, path, key, denial) in [
            ("POST", "/v1/messages", &reader, PD),
            ("GET", "/v1/messages", &sender, PD),
            ("GET", "/files/a", &sender, PD),
            ("DELETE", "/v1/messages", &both, NO_POLICY),
            ("GET", "/", &both, NO_POLICY),
            ("GET", "/v1", &both, NO_POLICY),
            ("GET", "/v1/messages/1/2", &both, NO_POLICY),
            ("GET", "/V1/messages", &both, NO_POLICY),
            ("GET", "/files", &both, NO_POLICY),
        ] {
            let what = format!("{method} {path}");
            judge
                .denied(&what, &ask(method, path, key), protocol, denial)
                .await;
        }
        // The host has a policy in Envoy, and then the table is not asked.
        let elsewhere = Ask::of(ANY_KEY).path("/v1/messages").bearer(&reader.token);
        judge
            .allowed("Envoy's own policy", &elsewhere, protocol)
            .await;
        let half = Ask::of("no-permission.test")
            .path("/whoami")
            .bearer(&both.token);
        judge
            .denied("half a policy of Envoy's", &half, protocol, NO_POLICY)
            .await;
    }
    judge.agrees_with_the_log();
}

/// Rows 36 to 44: paths that a server may take for another one. Whoever left Envoy's own settings out is safe, too.
const AMBIGUOUS: [(&str, &str); 16] = [
    ("36", "//whoami"),
    ("36", "/files//a"),
    ("37", "/files/../whoami"),
    ("37", "/files/./a"),
    ("37", "/files/.."),
    ("38", "/files/%2e%2e/whoami"),
    ("38", "/files/.%2E/whoami"),
    ("39", "/files%2Fa"),
    ("39", "/files/..%2fwhoami"),
    ("40", "/files/..%5Cwhoami"),
    ("40", "/files/..\\whoami"),
    ("41", "/files/a%00"),
    ("42", "/files/%zz"),
    ("42", "/files/%"),
    ("42", "/files/%e"),
    ("42", "/files/a%0d%0ab"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_path_that_can_be_read_in_two_ways_opens_nothing() {
    let files = Files::new();
    for allow in [false, true] {
        let change = |config| {
            let allow = format!("failure_mode_allow: {allow}");
            careless(config).with("failure_mode_allow: false", &allow)
        };
        let Ok(scene) = Scene::start_as(files.setup(TABLE), change).await else {
            return;
        };
        let key = scene.create(may(&["sms.send", "sms.read"])).await;
        let mut judge = Judge::of(&scene);
        for (row, path) in AMBIGUOUS {
            let what = format!("row {row}: {path}");
            let ask = Ask::of(HOST).path(path).bearer(&key.token);
            // The HTTP/2 client of the tests will not send a backslash.
            let over: &[Protocol] = if path.contains('\\') {
                &BOTH[..1]
            } else {
                &BOTH
            };
            for protocol in over {
                judge.denied(&what, &ask, *protocol, INV).await;
            }
        }
        // Row 43, absolute-form, which Envoy itself turns into a path; row 44 it refuses.
        let absolute = Ask::of(HOST)
            .path(&format!("http://{HOST}/whoami"))
            .bearer(&key.token);
        let reached = judge
            .allowed("row 43: absolute", &absolute, Protocol::Http1)
            .await;
        assert_eq!(reached.path, "/whoami");
        let absolute = Ask::of(HOST)
            .path(&format!("http://{HOST}//whoami"))
            .bearer(&key.token);
        judge
            .denied("row 43: absolute", &absolute, Protocol::Http1, INV)
            .await;
        judge.agrees_with_the_log();

        let gate = scene.server.gate().tcp();
        for (what, path) in [
            ("row 43: absolute-form", "http://no-policy.test/whoami"),
            ("row 43: no slash", "whoami"),
            ("row 44: an empty path", ""),
            ("row 44: only a query", "?a=1"),
            ("row 42: a fragment", "/whoami#a"),
        ] {
            let mut request = direct::envoys(&[("x-api-key", &key.token)]);
            path.clone_into(&mut direct::http(&mut request).path);
            let attributes = request.attributes.as_mut().expect("attributes");
            attributes.context_extensions.clear();
            let body = direct::framed(&request.encode_to_vec());
            direct::denies(what, gate, &body, INV).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_credential_in_the_query_opens_and_goes_no_further() {
    let files = Files::new();
    let setup = files.setup("[envoy]\nquery-parameter = \"api_key\"\n");
    let Ok(scene) = Scene::start_as(setup, |config| config).await else {
        return;
    };
    let key = scene.sender().await;
    let (token, other) = (&key.token, scene.sender().await.token);
    let mut judge = Judge::of(&scene);
    for protocol in BOTH {
        for (path, due) in [
            (format!("/p?api_key={token}"), "/p"),
            (format!("/p?b=2&api_key={token}&a=1"), "/p?a=1&b=2"),
            (format!("/p?API_KEY=x&api_key={token}"), "/p?API_KEY=x"),
        ] {
            let reached = judge
                .allowed(due, &Ask::of(SEND).path(&path), protocol)
                .await;
            assert_eq!(reached.path, due);
            assert_eq!(
                reached.header("x-portcullis-key").as_deref(),
                Some(id(&key))
            );
            assert!(!reached.contains(token), "{reached:?}");
        }
        let cases: Vec<(&str, Ask, Denial)> = vec![
            (
                "row 28: two",
                Ask::of(SEND).path(&format!("/?api_key={token}&api_key={other}")),
                INV,
            ),
            (
                "row 28: two equal",
                Ask::of(SEND).path(&format!("/?api_key={token}&api_key={token}")),
                INV,
            ),
            (
                "row 28: an empty one more",
                Ask::of(SEND).path(&format!("/?api_key={token}&api_key")),
                INV,
            ),
            (
                "row 28: one encoded",
                Ask::of(SEND).path(&format!("/?api_key={token}&%61pi_key={other}")),
                INV,
            ),
            (
                "an encoded name",
                Ask::of(SEND).path(&format!("/?api%5fkey={token}")),
                INV,
            ),
            (
                "row 5: a header, too",
                Ask::of(SEND)
                    .path(&format!("/?api_key={token}"))
                    .bearer(token),
                INV,
            ),
            (
                "row 4: joined",
                Ask::of(SEND).path(&format!("/?api_key={token},{token}")),
                INV,
            ),
            (
                "row 19: encoded",
                Ask::of(SEND).path(&format!("/?api_key={}", token.replace('_', "%5F"))),
                IC,
            ),
            ("an empty one", Ask::of(SEND).path("/?api_key="), IC),
            (
                "after a semicolon",
                Ask::of(SEND).path(&format!("/?a;api_key={token}")),
                IC,
            ),
            (
                "upper case",
                Ask::of(SEND).path(&format!("/?API_KEY={token}")),
                IC,
            ),
            (
                "in the path",
                Ask::of(SEND).path(&format!("/api_key={token}")),
                IC,
            ),
        ];
        for (what, ask, denial) in &cases {
            judge.denied(what, ask, protocol, *denial).await;
        }
    }
    judge.agrees_with_the_log();
}

/// The off-by-one of Envoy's own hop, by every pair of what Envoy adds and what the gate counts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trusted_hops_are_counted_from_the_right_with_what_envoy_adds() {
    // Client and load balancer; Envoy's peer is the latter.
    let (client, balancer, forged) = ("203.0.113.7", "198.51.100.1", "192.0.2.66");
    for (uses_remote, hops, judged) in [
        (true, 0, balancer),
        (true, 1, balancer),
        (true, 2, client),
        (true, 3, forged),
        (false, 0, balancer),
        (false, 1, client),
        (false, 2, forged),
    ] {
        let files = Files::new();
        let setup = files.setup(&format!("[envoy]\ntrusted-hops = {hops}\n"));
        let change = |config: Config| {
            let uses = format!("          use_remote_address: {uses_remote}\n");
            test_hosts(config).with("          use_remote_address: true\n", &uses)
        };
        let Ok(scene) = Scene::start_on("load-balancer.yaml", setup, change, &[]).await else {
            return;
        };
        let mut keys = Vec::new();
        for address in [client, balancer, forged] {
            let key = Key {
                ip_allowlist: vec![address.into()],
                ..may(&["sms.send"])
            };
            keys.push((address, scene.create(key).await));
        }
        let mut judge = Judge::of(&scene);
        for protocol in BOTH {
            for (address, key) in &keys {
                let what = format!("{uses_remote} {hops}: {address}");
                let ask = Ask::of(SEND).bearer(&key.token).from(balancer);
                // What the client says of itself, and what the balancer adds; in one header or in two.
                let one = ask
                    .clone()
                    .header("x-forwarded-for", format!("{forged}, {client}"));
                let two = ask
                    .header("x-forwarded-for", forged)
                    .header("x-forwarded-for", client);
                for ask in [one, two] {
                    if *address == judged {
                        judge.allowed(&what, &ask, protocol).await;
                    } else {
                        judge.denied(&what, &ask, protocol, SD).await;
                    }
                }
            }
            // Nobody has added anything: where the gate counts further than there is, it knows no source.
            let key = &keys.iter().find(|key| key.0 == judged).expect("a key").1;
            let ask = Ask::of(SEND).bearer(&key.token).from(balancer);
            if judged != balancer {
                judge.denied("too short a list", &ask, protocol, SD).await;
                for no_address in ["unknown", "203.0.113.7:80", "_hidden", ""] {
                    let list = [no_address; 4].join(", ");
                    let ask = ask.clone().header("x-forwarded-for", list);
                    judge.denied(no_address, &ask, protocol, SD).await;
                }
            }
        }
        judge.agrees_with_the_log();
    }
}

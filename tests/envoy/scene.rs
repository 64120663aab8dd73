//! A Portcullis, an Envoy that asks it and a service behind it, and how a request through them is judged.

use std::time::{Duration, SystemTime};

use portcullis::proto::v1::{
    CheckRequest, IssuedKey, Key, SettingDeclaration, Workspace,
    setting_declaration::{EnumType, StringType, Type, UrlType},
};

use tonic::Code;

use crate::{
    clients::{Answered, Ask, Protocol},
    fleet_harness::eventually,
    harness::{Config, Envoy},
    support::{Clients, Missing, Mutation, Server, Setup, check},
    upstream::{GREETING, Reached, Upstream},
};

/// What the tests' keys are of. Its permissions are `sms.send` and `sms.read`.
pub const WORKSPACE: &str = "acme";

/// The hosts that Envoy knows, each with a policy of its own: whoever holds `sms.send`, and so on.
pub const SEND: &str = "send.test";
pub const BOTH_PERMISSIONS: &str = "both.test";
pub const ANY_KEY: &str = "any-key.test";
/// Those that are closed to everybody: by name, what is said of them.
pub const CLOSED: &[(&str, &[(&str, &str)])] = &[
    ("no-policy.test", &[]),
    ("no-workspace.test", &[("permission", "sms.send")]),
    ("no-permission.test", &[("workspace", WORKSPACE)]),
    (
        "empty-permission.test",
        &[("workspace", WORKSPACE), ("permission", "")],
    ),
    (
        "empty-workspace.test",
        &[("workspace", ""), ("permission", "none")],
    ),
    (
        "undeclared.test",
        &[("workspace", WORKSPACE), ("permission", "sms.sned")],
    ),
    ("all.test", &[("workspace", WORKSPACE), ("permission", "*")]),
    (
        "none-and-more.test",
        &[("workspace", WORKSPACE), ("permission", "none,sms.send")],
    ),
    (
        "trailing-comma.test",
        &[("workspace", WORKSPACE), ("permission", "sms.send,")],
    ),
    (
        "blank.test",
        &[("workspace", WORKSPACE), ("permission", " sms.send")],
    ),
    (
        "no-such-workspace.test",
        &[("workspace", "nowhere"), ("permission", "sms.send")],
    ),
    (
        "no-workspace-at-all.test",
        &[("workspace", "No/Such"), ("permission", "sms.send")],
    ),
];

/// Lets a test say who the client is: `PROXY TCP4 …` before the request, or nothing.
const PROXY_PROTOCOL: &str = "    listener_filters: [{ name: envoy.filters.listener.proxy_protocol, typed_config: { \
    \"@type\": type.googleapis.com/envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol, \
    allow_requests_without_proxy_protocol: true } }]\n    filter_chains:\n";

/// The whole picture.
pub struct Scene {
    pub server: Server,
    pub root: Clients,
    pub envoy: Envoy,
    pub upstream: Upstream,
}

impl Scene {
    /// On the shipped sidecar file.
    ///
    /// # Errors
    ///
    /// When there is no Envoy on this machine.
    pub async fn start() -> Result<Self, Missing> {
        Self::start_as(Setup::new(), |config| config).await
    }

    /// With a server and a file of the test's own.
    pub async fn start_as(
        setup: Setup,
        change: impl FnOnce(Config) -> Config,
    ) -> Result<Self, Missing> {
        let change = |config| change(test_hosts(config));
        Self::start_on("envoy.yaml", setup, change, &[]).await
    }

    /// On another shipped file, and with variables of Envoy's environment.
    pub async fn start_on(
        file: &str,
        setup: Setup,
        change: impl FnOnce(Config) -> Config,
        environment: &[(&str, &str)],
    ) -> Result<Self, Missing> {
        let (server, upstream) = (setup.start(), Upstream::start().await);
        let root = Clients::root(&server);
        let made = Mutation::create_workspace(WORKSPACE, workspace());
        made.done(&root).await;
        let config = change(Config::shipped(file)).between(server.gate(), upstream.address());
        let envoy = Envoy::start_with(&config, environment)?;
        Ok(Self {
            server,
            root,
            envoy,
            upstream,
        })
    }

    /// A key of the workspace that holds `sms.send`.
    pub async fn sender(&self) -> IssuedKey {
        self.create(may(&["sms.send"])).await
    }

    pub async fn create(&self, key: Key) -> IssuedKey {
        create(&self.root, key).await
    }

    /// A key that expired just now.
    pub async fn expired(&self) -> IssuedKey {
        loop {
            let soon = SystemTime::now() + Duration::from_millis(300);
            let key = Key {
                expire_time: Some(soon.into()),
                ..may(&["sms.send"])
            };
            // On a machine that is slow enough it is past before it is written.
            if let Ok(made) = Mutation::create(&parent(), key).send(&self.root).await {
                let crate::support::Answer::Issued(issued) = made.into_inner() else {
                    panic!("a key is issued");
                };
                while SystemTime::now() <= soon {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                return issued;
            }
        }
    }

    pub async fn change(&self, change: Mutation) {
        change.done(&self.root).await;
    }
}

fn parent() -> String {
    format!("workspaces/{WORKSPACE}")
}

pub async fn create(root: &Clients, key: Key) -> IssuedKey {
    let issued = match Mutation::create(&parent(), key).done(root).await {
        crate::support::Answer::Issued(issued) => issued,
        other => panic!("a key is issued, not {other:?}"),
    };
    known(root, &issued).await;
    issued
}

/// Waits until the secret was verified there. On a slow machine that may take longer than Envoy is made to wait, and then
/// the first answer would be another one.
pub async fn known(root: &Clients, issued: &IssuedKey) {
    let request = CheckRequest {
        workspace: WORKSPACE.into(),
        ..check(&issued.token)
    };
    eventually("the key's secret is verified", async || {
        match root.check.clone().check(request.clone()).await {
            Ok(_) => true,
            Err(status) => {
                assert_eq!(status.code(), Code::Unavailable, "{status:?}");
                false
            }
        }
    })
    .await;
}

pub fn may(permissions: &[&str]) -> Key {
    crate::support::key_named("through Envoy", permissions)
}

/// The name of an issued key.
pub fn name(issued: &IssuedKey) -> &str {
    &issued.key.as_ref().expect("an issued key is shown").name
}

/// The id of an issued key.
pub fn id(issued: &IssuedKey) -> &str {
    &issued.key.as_ref().expect("an issued key is shown").key_id
}

/// The hosts that the tests call, on a machine that may be slow.
pub fn test_hosts(config: Config) -> Config {
    patient(hosts(config))
}

/// With time enough for a machine that has other things to do.
pub fn patient(config: Config) -> Config {
    config
        .with(
            "                timeout: 0.2s\n",
            "                timeout: 20s\n",
        )
        .with("connect_timeout: 0.1s", "connect_timeout: 20s")
        // Only a fleet's file has it.
        .replacing("max_interval: 0.2s", "max_interval: 20s")
}

/// The hosts that the tests call, and names of headers with underscores let through.
pub fn hosts(config: Config) -> Config {
    let of = |permission| [("workspace", WORKSPACE), ("permission", permission)];
    let mut config = config
        .with_host(SEND, &of("sms.send"))
        .with_host(BOTH_PERMISSIONS, &of("sms.send,sms.read"))
        .with_host(ANY_KEY, &of("none"))
        .with("    filter_chains:\n", PROXY_PROTOCOL)
        .with(
            "headers_with_underscores_action: REJECT_REQUEST",
            "headers_with_underscores_action: ALLOW",
        );
    for (host, policy) in CLOSED {
        config = config.with_host(host, policy);
    }
    // The shipped host has a policy, and takes every name that no other does.
    config.with("domains: [\"*\"]", "domains: [shipped.test]")
}

pub fn workspace() -> Workspace {
    let setting = |name: &str, default: &str, header: &str, kind| SettingDeclaration {
        name: name.into(),
        default_value: default.into(),
        header: header.into(),
        r#type: Some(kind),
        ..SettingDeclaration::default()
    };
    let texts = |texts: &[&str]| texts.iter().map(ToString::to_string).collect();
    Workspace {
        permissions: texts(&["sms.send", "sms.read"]),
        settings: vec![
            setting(
                "default_sender",
                "Acme",
                "x-sms-sender",
                Type::StringType(StringType {
                    max_length: 11,
                    allowed: texts(&["Acme", "AcmeAlerts", "AcmeShop"]),
                }),
            ),
            setting(
                "auto_replace",
                "OFF",
                "x-sms-auto-replace",
                Type::EnumType(EnumType {
                    values: texts(&["OFF", "ON", "FULL"]),
                }),
            ),
            setting(
                "dlr_url",
                "",
                "x-sms-dlr-url",
                Type::UrlType(UrlType::default()),
            ),
        ],
        ..Workspace::default()
    }
}

/// What a denial of ours is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Denial {
    pub status: u16,
    /// For the client.
    pub reason: &'static str,
    /// For the operator, in the access log.
    pub logged: &'static str,
}

const fn denial(status: u16, reason: &'static str) -> Denial {
    let logged = reason;
    Denial {
        status,
        reason,
        logged,
    }
}

pub const IC: Denial = denial(401, "INVALID_CREDENTIAL");
pub const INV: Denial = denial(400, "INVALID_REQUEST");
pub const BAD_SETTING: Denial = denial(400, "INVALID_SETTING");
pub const SD: Denial = denial(403, "SOURCE_DENIED");
pub const PD: Denial = denial(403, "PERMISSION_DENIED");
pub const DISABLED: Denial = denial(403, "KEY_DISABLED");
pub const EXPIRED: Denial = denial(403, "KEY_EXPIRED");
pub const NO_POLICY: Denial = Denial {
    logged: "NO_POLICY",
    ..PD
};
pub const FENCED: Denial = Denial {
    status: 503,
    reason: "UNAVAILABLE",
    logged: "REPLICA_FENCED",
};

/// Sends requests one after the other, and judges each by what the client was answered, what reached the service, and,
/// at the end, by what Envoy logged of it.
pub struct Judge<'a> {
    envoy: &'a Envoy,
    upstream: &'a Upstream,
    due: Vec<Due>,
}

#[derive(Debug, PartialEq, Eq)]
struct Due {
    what: String,
    status: String,
    details: String,
    reason: Option<String>,
}

impl<'a> Judge<'a> {
    /// Of an Envoy that has not been asked anything yet.
    pub fn new(envoy: &'a Envoy, upstream: &'a Upstream) -> Self {
        Self {
            envoy,
            upstream,
            due: Vec::new(),
        }
    }

    pub fn of(scene: &'a Scene) -> Self {
        Self::new(&scene.envoy, &scene.upstream)
    }

    /// It must reach the service, as this.
    pub async fn allowed(&mut self, what: &str, ask: &Ask, protocol: Protocol) -> Reached {
        let answered = ask.send(self.envoy.edge(), protocol).await;
        let what = format!("{what} ({protocol:?})");
        assert_eq!(answered.status, 200, "{what}: {answered:?}");
        if ask.method != "HEAD" {
            assert_eq!(answered.body, GREETING, "{what}");
        }
        self.expect(&what, 200, "via_upstream", Some("OK"));
        let reached = self.upstream.only();
        let version = match protocol {
            Protocol::Http1 => http::Version::HTTP_11,
            Protocol::Http2 => http::Version::HTTP_2,
        };
        assert_eq!(reached.version, version, "{what}");
        reached
    }

    /// Portcullis must deny it, and nothing reach the service.
    pub async fn denied(&mut self, what: &str, ask: &Ask, protocol: Protocol, denial: Denial) {
        let answered = ask.send(self.envoy.edge(), protocol).await;
        let what = format!("{what} ({protocol:?})");
        denial.is(&what, &answered);
        self.expect(
            &what,
            denial.status,
            "ext_authz_denied",
            Some(denial.logged),
        );
        self.upstream.untouched(&what);
    }

    /// Envoy must say that it could not ask.
    pub async fn unasked(&mut self, what: &str, ask: &Ask, protocol: Protocol) {
        let answered = ask.send(self.envoy.edge(), protocol).await;
        let what = format!("{what} ({protocol:?})");
        assert_eq!((answered.status, &*answered.body), (503, ""), "{what}");
        self.expect(&what, 503, "ext_authz_error", None);
        self.upstream.untouched(&what);
    }

    fn expect(&mut self, what: &str, status: u16, details: &str, reason: Option<&str>) {
        self.due.push(Due {
            what: what.into(),
            status: status.to_string(),
            details: details.into(),
            reason: reason.map(str::to_owned),
        });
    }

    /// Asserts that Envoy saw it all in the same way.
    #[track_caller]
    pub fn agrees_with_the_log(self) {
        let logged = self.envoy.logged(self.due.len());
        for (due, line) in self.due.iter().zip(&logged) {
            let seen = Due {
                what: due.what.clone(),
                status: line.get("status").unwrap_or_default(),
                details: line.get("details").unwrap_or_default(),
                reason: line.get("reason"),
            };
            assert_eq!(seen, *due, "{line:?}");
        }
        self.upstream.untouched("later, something");
    }
}

impl Denial {
    /// Asserts that the client was answered this, by us.
    #[track_caller]
    pub fn is(self, what: &str, answered: &Answered) {
        assert_eq!(answered.status, self.status, "{what}: {answered:?}");
        assert_eq!(
            answered.reason().as_deref(),
            Some(self.reason),
            "{what}: {answered:?}"
        );
        let challenge = (self.status == 401).then_some("Bearer realm=\"portcullis\"");
        let retry = (self.status == 503).then_some("1");
        for (header, value) in [
            ("content-type", Some("application/json")),
            ("www-authenticate", challenge),
            ("retry-after", retry),
        ] {
            assert_eq!(answered.header(header), value, "{what}: {header}");
        }
    }
}

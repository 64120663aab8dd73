//! What a workspace may not declare, which values keys and requests may not give, and texts in both.

use std::collections::BTreeMap;

use portcullis::proto::v1::{
    CheckRequest, ErrorReason, GetKeyRequest, GetWorkspaceRequest, Key, SettingDeclaration,
    Workspace,
    check_response::Reason,
    setting_declaration::{BoolType, EnumType, IntegerType, StringType, Type, UrlType},
};
use tonic::Code;

use crate::{
    credential::denies,
    support::{Clients, Mutation, Server, assert_refused, check, clients, key, key_named, update},
    unchanged,
};

fn string(max_length: i32, allowed: &[&str]) -> Type {
    Type::StringType(StringType {
        max_length,
        allowed: texts(allowed),
    })
}

fn names(values: &[&str]) -> Type {
    Type::EnumType(EnumType {
        values: texts(values),
    })
}

fn texts(values: &[&str]) -> Vec<String> {
    values.iter().map(ToString::to_string).collect()
}

fn setting(name: &str, kind: Type) -> SettingDeclaration {
    SettingDeclaration {
        name: name.into(),
        r#type: Some(kind),
        ..SettingDeclaration::default()
    }
}

fn with_default(default: &str, kind: Type) -> SettingDeclaration {
    SettingDeclaration {
        default_value: default.into(),
        ..setting("bad", kind)
    }
}

fn with_header(header: &str) -> SettingDeclaration {
    SettingDeclaration {
        header: header.into(),
        ..setting("bad", string(0, &[]))
    }
}

fn described(description: &str) -> SettingDeclaration {
    SettingDeclaration {
        description: description.into(),
        ..setting("bad", string(0, &[]))
    }
}

/// Texts that may stand nowhere in a value.
const DECEIVING: [(&str, &str); 9] = [
    ("row 57: CRLF", "good\r\nx-portcullis-key: forged"),
    ("row 57: CR", "good\rbad"),
    ("row 57: LF", "good\nbad"),
    ("row 57: LF at the end", "good\n"),
    ("row 92: U+202E", "good\u{202e}bad"),
    ("row 92: U+2066", "good\u{2066}bad"),
    ("row 93: ANSI escape", "\u{1b}[31mgood"),
    ("row 93: C1 control", "\u{9b}31mgood"),
    ("row 94: NUL", "good\0"),
];

/// A server with a workspace `acme` to which bad things are written.
struct Scene {
    admin: Clients,
    gate: Clients,
    made: Workspace,
    _server: Server,
}

impl Scene {
    async fn new(workspace: Workspace) -> Self {
        let server = Server::start();
        let (admin, gate) = clients(&server);
        Mutation::create_workspace("acme", workspace)
            .done(&admin)
            .await;
        let made = get(&admin).await;
        Self {
            admin,
            gate,
            made,
            _server: server,
        }
    }

    /// Asserts that no workspace can be created like this, and none changed to it.
    async fn refuses(&self, what: &str, bad: &Workspace, path: &str, field: &str) {
        let before = self.gate.revision().await;
        let change = Workspace {
            name: self.made.name.clone(),
            ..bad.clone()
        };
        for call in [
            Mutation::create_workspace("other", bad.clone()),
            Mutation::update_workspace(change.clone(), &[path]),
            // Without a mask, which looks at what is populated.
            Mutation::update_workspace(change, &[]),
        ] {
            assert_refused(
                what,
                call.send(&self.admin).await,
                Code::InvalidArgument,
                ErrorReason::InvalidField,
                &[field],
            );
        }
        assert_eq!(get(&self.admin).await, self.made, "{what}");
        unchanged(what, &self.gate, &before).await;
    }

    async fn refuses_setting(&self, what: &str, bad: SettingDeclaration) {
        // In second place behind a good one, so that the index is told and not guessed.
        let bad = Workspace {
            settings: vec![setting("good", Type::BoolType(BoolType {})), bad],
            ..Workspace::default()
        };
        self.refuses(what, &bad, "settings", "workspace.settings[1]")
            .await;
    }
}

async fn get(admin: &Clients) -> Workspace {
    let request = GetWorkspaceRequest {
        name: "workspaces/acme".into(),
    };
    let found = admin.workspaces.clone().get_workspace(request).await;
    found.expect("the workspace is there").into_inner()
}

#[tokio::test]
async fn a_setting_that_deceives_its_reader_is_not_declared() {
    let scene = Scene::new(Workspace::default()).await;
    for (what, text) in DECEIVING {
        for bad in [
            setting(text, string(0, &[])),
            setting("bad", string(0, &["good", text])),
            setting("bad", names(&["good", text])),
            with_default(text, string(0, &[])),
            with_default(text, names(&["good"])),
            with_default(text, Type::UrlType(UrlType { allow_http: true })),
            with_default(
                &format!("https://example.com/{text}"),
                Type::UrlType(UrlType { allow_http: true }),
            ),
            with_default(text, Type::BoolType(BoolType {})),
            with_default(text, Type::IntegerType(IntegerType::default())),
            with_header(text),
        ] {
            scene.refuses_setting(what, bad).await;
        }
        // A description may have lines, as a key's.
        if !text.contains('\n') || text.contains('\r') {
            scene.refuses_setting(what, described(text)).await;
        }
    }
    let huge = "n".repeat(1 << 20);
    for (what, bad) in [
        ("row 91: a name of 1 MiB", setting(&huge, string(0, &[]))),
        ("row 91: a description of 1 MiB", described(&huge)),
        (
            "row 91: a description of 1,025 characters",
            described(&"ü".repeat(1_025)),
        ),
        (
            "row 91: a value of 1 MiB",
            setting("bad", string(0, &[&huge])),
        ),
        (
            "row 91: a value longer than its type takes",
            setting("bad", string(3, &["four"])),
        ),
        ("row 91: a name of 1 MiB", setting("bad", names(&[&huge]))),
        (
            "row 91: a name of 65 characters",
            setting("bad", names(&[&"n".repeat(65)])),
        ),
        (
            "row 91: a default of 1 MiB",
            with_default(&huge, string(0, &[])),
        ),
        (
            "row 91: a default of 1,025 characters",
            with_default(&"ü".repeat(1_025), string(0, &[])),
        ),
        ("row 91: a header of 1 MiB", with_header(&huge)),
        (
            "row 91: a header of 65 characters",
            with_header(&"h".repeat(65)),
        ),
    ] {
        scene.refuses_setting(what, bad).await;
    }
    for name in [
        "",
        " ",
        "Mode",
        "1st",
        "a b",
        "a/b",
        "-a",
        "ü",
        &"n".repeat(64),
    ] {
        let what = format!("row 96: a setting named {name:?}");
        scene
            .refuses_setting(&what, setting(name, string(0, &[])))
            .await;
    }
    let good = Workspace {
        settings: vec![
            SettingDeclaration {
                description: "one\n\ttwo".into(),
                default_value: "ü".repeat(1_024),
                header: "X-Acme-Sender".into(),
                ..setting(&"n".repeat(63), string(1_024, &[]))
            },
            setting("allowed", string(0, &[&"ü".repeat(1_024)])),
        ],
        ..Workspace::default()
    };
    let good = Mutation::create_workspace("fine", good);
    good.done(&scene.admin).await;
}

#[tokio::test]
async fn a_setting_has_a_type_that_makes_sense() {
    let scene = Scene::new(Workspace::default()).await;
    let many: Vec<String> = (0..101).map(|n| format!("v{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let https = || Type::UrlType(UrlType { allow_http: false });
    let range = |min, max| Type::IntegerType(IntegerType { min, max });
    for (what, bad) in [
        (
            "no type",
            SettingDeclaration {
                name: "bad".into(),
                ..SettingDeclaration::default()
            },
        ),
        ("max_length -1", setting("bad", string(-1, &[]))),
        ("max_length 1,025", setting("bad", string(1_025, &[]))),
        ("max_length 2^31-1", setting("bad", string(i32::MAX, &[]))),
        ("max_length -2^31", setting("bad", string(i32::MIN, &[]))),
        ("an empty value", setting("bad", string(0, &["", "a"]))),
        ("a value twice", setting("bad", string(0, &["a", "a"]))),
        ("101 values", setting("bad", string(0, &many))),
        ("an enum of nothing", setting("bad", names(&[]))),
        ("an empty name", setting("bad", names(&[""]))),
        ("a name twice", setting("bad", names(&["A", "B", "A"]))),
        ("a name with a blank", setting("bad", names(&["A B"]))),
        ("101 names", setting("bad", names(&many))),
        (
            "a range of nothing",
            setting("bad", range(Some(2), Some(1))),
        ),
        (
            "a default out of range",
            with_default("3", range(None, Some(2))),
        ),
        (
            "a default of another type",
            with_default("x", range(None, None)),
        ),
        (
            "a default with a sign",
            with_default("+1", range(None, None)),
        ),
        (
            "a default past 64 bits",
            with_default("9223372036854775808", range(None, None)),
        ),
        (
            "a default that is no name",
            with_default("on", names(&["ON"])),
        ),
        (
            "a default that is not allowed",
            with_default("b", string(0, &["a"])),
        ),
        (
            "a default in capitals",
            with_default("TRUE", Type::BoolType(BoolType {})),
        ),
        (
            "a default without a scheme",
            with_default("example.com", https()),
        ),
        (
            "a default with http",
            with_default("http://example.com", https()),
        ),
        (
            "a default with user info",
            with_default("https://me@example.com", https()),
        ),
        (
            "a default that is a script",
            with_default("javascript:alert(1)", https()),
        ),
        (
            "a default with a backslash",
            with_default("https://example.com\\@x", https()),
        ),
        (
            "a header that stands for a credential",
            with_header("Authorization"),
        ),
        (
            "a header that carries a credential",
            with_header("x-api-key"),
        ),
        ("a header of identity", with_header("X-Portcullis-Key")),
        ("a header of routing", with_header("x-forwarded-for")),
        ("a header of framing", with_header("Content-Length")),
        (
            "a header of the connection",
            with_header("Transfer-Encoding"),
        ),
        ("a pseudo header", with_header(":path")),
        (
            "a header that folds to identity",
            with_header("x_portcullis_key"),
        ),
        ("a header with a blank", with_header("x-a b")),
        ("a header beyond ASCII", with_header("x-\u{fc}")),
    ] {
        scene.refuses_setting(what, bad).await;
    }
    let twice = |settings: [SettingDeclaration; 2]| Workspace {
        settings: settings.to_vec(),
        ..Workspace::default()
    };
    let header = |name: &str, header: &str| SettingDeclaration {
        name: name.into(),
        ..with_header(header)
    };
    for (what, bad) in [
        (
            "one name twice",
            twice([header("one", ""), header("one", "x-one")]),
        ),
        (
            "one header twice",
            twice([header("one", "x-acme"), header("two", "X-Acme")]),
        ),
    ] {
        scene
            .refuses(what, &bad, "settings", "workspace.settings[1]")
            .await;
    }
    let declared = |count: usize| Workspace {
        settings: (0..count)
            .map(|n| setting(&format!("s{n}"), string(0, &[])))
            .collect(),
        ..Workspace::default()
    };
    for (what, count) in [("row 95: 51 settings", 51), ("row 95: 10,000", 10_000)] {
        scene
            .refuses(what, &declared(count), "settings", "workspace.settings")
            .await;
    }
    Mutation::create_workspace("fifty", declared(50))
        .done(&scene.admin)
        .await;
}

#[tokio::test]
async fn a_workspaces_other_fields_are_bounded() {
    let scene = Scene::new(Workspace::default()).await;
    let huge = "n".repeat(1 << 20);
    for (what, text) in DECEIVING
        .into_iter()
        .chain([("row 91: 1 MiB", huge.as_str())])
        .chain([("row 91: 129 characters", &huge[..129])])
    {
        let bad = Workspace {
            display_name: text.into(),
            ..Workspace::default()
        };
        scene
            .refuses(what, &bad, "display_name", "workspace.display_name")
            .await;
        let bad = Workspace {
            token_prefix: text.into(),
            ..Workspace::default()
        };
        scene
            .refuses(what, &bad, "token_prefix", "workspace.token_prefix")
            .await;
        let bad = Workspace {
            permissions: texts(&["sms.send", text]),
            ..Workspace::default()
        };
        scene
            .refuses(what, &bad, "permissions", "workspace.permissions[1]")
            .await;
    }
    for name in ["", "*", "SMS", "sms send", "*.send", "1.x", "."] {
        let bad = Workspace {
            permissions: texts(&["sms.send", name]),
            ..Workspace::default()
        };
        let what = format!("a permission named {name:?}");
        scene
            .refuses(&what, &bad, "permissions", "workspace.permissions[1]")
            .await;
    }
    let permissions = |count: usize| Workspace {
        permissions: (0..count).map(|n| format!("p{n}")).collect(),
        ..Workspace::default()
    };
    scene
        .refuses(
            "101 permissions",
            &permissions(101),
            "permissions",
            "workspace.permissions",
        )
        .await;
    for prefix in ["PC", "1pc", "p_c", "p-c", &"p".repeat(17)] {
        let bad = Workspace {
            token_prefix: prefix.into(),
            ..Workspace::default()
        };
        scene
            .refuses(prefix, &bad, "token_prefix", "workspace.token_prefix")
            .await;
    }
    for archive_limit in [-1, 1_001, i32::MAX, i32::MIN, 65_536, 65_537] {
        let bad = Workspace {
            archive_limit,
            ..Workspace::default()
        };
        let what = format!("archive_limit {archive_limit}");
        scene
            .refuses(&what, &bad, "archive_limit", "workspace.archive_limit")
            .await;
    }
    // Everything that is wrong is told at once.
    let bad = Workspace {
        display_name: "\u{202e}".into(),
        token_prefix: "P".into(),
        permissions: texts(&["*"]),
        archive_limit: -1,
        settings: vec![SettingDeclaration::default()],
        ..Workspace::default()
    };
    assert_refused(
        "all of it",
        Mutation::create_workspace("other", bad)
            .send(&scene.admin)
            .await,
        Code::InvalidArgument,
        ErrorReason::InvalidField,
        &[
            "workspace.display_name",
            "workspace.token_prefix",
            "workspace.permissions[0]",
            "workspace.archive_limit",
            "workspace.settings[0]",
        ],
    );
    let most = Workspace {
        display_name: "same".into(),
        archive_limit: 1_000,
        ..permissions(100)
    };
    for id in ["most", "most-again"] {
        let created = Mutation::create_workspace(id, most.clone());
        // Row 97: names of workspaces may repeat as well.
        created.done(&scene.admin).await;
    }
    // Clients drop answers whose metadata grows past some KiB: not all hundred names are told.
    let long = Workspace {
        permissions: (0..100).map(|n| format!("p{n:0>127}")).collect(),
        ..Workspace::default()
    };
    Mutation::create_workspace("long", long)
        .done(&scene.admin)
        .await;
    for permissions in [&[][..], &["p"]] {
        let create = Mutation::create("workspaces/long", key_named("", permissions));
        let status = create.send(&scene.admin).await.expect_err("refused");
        let size = status.message().len() + status.details().len();
        assert!(size < 6_000, "{size}: {status:?}");
    }
}

/// The workspace of the values below.
fn declaring() -> Workspace {
    Workspace {
        settings: vec![
            SettingDeclaration {
                default_value: "Acme".into(),
                ..setting("sender", string(200, &[]))
            },
            setting("allowed", string(0, &["Acme", "Acme Bank"])),
            setting("mode", names(&["OFF", "ON"])),
            setting("hook", Type::UrlType(UrlType { allow_http: false })),
            setting("flag", Type::BoolType(BoolType {})),
            setting(
                "retries",
                Type::IntegerType(IntegerType {
                    min: Some(0),
                    max: Some(9),
                }),
            ),
        ],
        ..Workspace::default()
    }
}

/// Settings with values that they do not take.
fn bad_values() -> Vec<(String, &'static str, String)> {
    let mut all = Vec::new();
    for (what, text) in DECEIVING {
        for name in ["sender", "allowed", "mode", "hook", "flag", "retries"] {
            all.push((format!("{what} in {name}"), name, text.to_owned()));
        }
        let url = format!("https://example.com/{text}");
        all.push((format!("{what} in a URL"), "hook", url));
    }
    for (name, value) in [
        ("sender", String::new()),
        ("sender", "s".repeat(201)),
        ("sender", "s".repeat(1 << 20)),
        ("allowed", "acme".into()),
        ("allowed", "Acme ".into()),
        ("mode", "on".into()),
        ("mode", String::new()),
        ("hook", "http://example.com".into()),
        ("hook", "https://".into()),
        ("hook", "https://me:pw@example.com".into()),
        (
            "hook",
            format!("https://example.com/{}", "u".repeat(1 << 20)),
        ),
        ("flag", "1".into()),
        ("retries", "10".into()),
        ("retries", "-1".into()),
        ("retries", "01".into()),
        ("retries", "9".repeat(1 << 20)),
        ("nobody", "x".into()),
        ("sende", "x".into()),
        ("sender.x", "x".into()),
    ] {
        let shown = value.get(..20).unwrap_or(&value);
        all.push((format!("row 91: {name} {shown:?}"), name, value));
    }
    all
}

#[tokio::test]
async fn a_key_has_only_values_that_its_settings_take() {
    let scene = Scene::new(declaring()).await;
    let create = |settings: BTreeMap<String, String>| {
        let key = Key { settings, ..key() };
        Mutation::create("workspaces/acme", key)
    };
    let good = BTreeMap::from([("sender".to_owned(), "Bank".to_owned())]);
    let issued = create(good).done(&scene.admin).await;
    let name = issued.key().name;
    let found = async || {
        let request = GetKeyRequest { name: name.clone() };
        let found = scene.admin.keys.clone().get_key(request).await;
        found.expect("the key is there").into_inner()
    };
    let made = found().await;
    let refuses = async |what: &str, settings: BTreeMap<String, String>, field: &str| {
        let before = scene.gate.revision().await;
        let change = Key {
            name: made.name.clone(),
            settings: settings.clone(),
            ..key()
        };
        for call in [
            create(settings),
            Mutation::UpdateKey(update(change.clone(), &["settings"])),
            Mutation::UpdateKey(update(change, &[])),
        ] {
            assert_refused(
                what,
                call.send(&scene.admin).await,
                Code::InvalidArgument,
                ErrorReason::InvalidField,
                &[field],
            );
        }
        unchanged(what, &scene.gate, &before).await;
        assert_eq!(found().await, made, "{what}");
    };
    for (what, name, value) in bad_values() {
        // Beside a good one.
        let settings = BTreeMap::from([
            (name.to_owned(), value),
            (
                if name == "flag" { "mode" } else { "flag" }.to_owned(),
                if name == "flag" { "ON" } else { "true" }.to_owned(),
            ),
        ]);
        refuses(&what, settings, &format!("key.settings[{name:?}]")).await;
    }
    for (what, name) in [
        ("row 91: a name of 1 MiB", "n".repeat(1 << 20)),
        ("row 91: a name of 64 characters", "n".repeat(64)),
        ("row 92: U+202E in a name", "a\u{202e}".into()),
        ("row 93: ANSI escape in a name", "\u{1b}[31m".into()),
        ("row 94: NUL in a name", "sender\0".into()),
        ("row 96: no name", String::new()),
        ("row 57: CRLF in a name", "sender\r\n".into()),
        ("a capital", "Sender".into()),
    ] {
        let settings = BTreeMap::from([(name, "x".to_owned())]);
        refuses(what, settings, "key.settings").await;
    }
    for count in [51, 100_000] {
        let settings = (0..count).map(|n| (format!("s{n}"), "x".to_owned()));
        let what = format!("row 95: {count} values");
        refuses(&what, settings.collect(), "key.settings").await;
    }
    // In a workspace that declares none there is none to give a value for.
    let plain = Mutation::create(
        "workspaces/default",
        Key {
            settings: BTreeMap::from([("sender".to_owned(), "x".to_owned())]),
            ..key()
        },
    );
    assert_refused(
        "an undeclared setting",
        plain.send(&scene.admin).await,
        Code::InvalidArgument,
        ErrorReason::InvalidField,
        &["key.settings[\"sender\"]"],
    );
}

#[tokio::test]
async fn a_request_with_a_value_that_is_not_taken_is_denied() {
    let scene = Scene::new(declaring()).await;
    let own = Key {
        permissions: texts(&["sms.send"]),
        settings: BTreeMap::from([("mode".to_owned(), "ON".to_owned())]),
        ..key()
    };
    let issued = Mutation::create("workspaces/acme", own)
        .done(&scene.admin)
        .await;
    let crate::support::Answer::Issued(issued) = issued else {
        panic!("{issued:?}")
    };
    let asked = |settings: BTreeMap<String, String>| CheckRequest {
        workspace: "acme".into(),
        permissions: texts(&["sms.send"]),
        settings,
        ..check(&issued.token)
    };
    let pair = |name: &str, value: &str| BTreeMap::from([(name.to_owned(), value.to_owned())]);
    let answer = scene.gate.ask(asked(pair("sender", "Bank"))).await;
    let effective = [("mode", "ON"), ("sender", "Bank")];
    let effective = effective.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert!(answer.allowed);
    assert_eq!(answer.settings, BTreeMap::from(effective));

    let names = [
        "n".repeat(1 << 20),
        "a\u{202e}".to_owned(),
        "sender\r\n".to_owned(),
        "\0".to_owned(),
        String::new(),
    ];
    let bad_names = names.iter().map(|name| ("a name", &**name, "x".to_owned()));
    let bad_values = bad_values();
    let bad = bad_values
        .iter()
        .map(|(what, name, value)| (&**what, *name, value.clone()))
        .chain(bad_names);
    for (what, name, value) in bad {
        let what = format!("row 29c: {what}");
        // Too large for a batch beside itself.
        if name.len() + value.len() > 1_000 {
            let answer = scene.gate.ask(asked(pair(name, &value))).await;
            assert_eq!(answer.reason(), Reason::InvalidSetting, "{what}");
            continue;
        }
        let request = asked(pair(name, &value));
        denies(&scene.gate, &what, request.clone(), Reason::InvalidSetting).await;
        let answer = scene.gate.ask(request.clone()).await;
        assert!(answer.settings.is_empty(), "{what}: {answer:?}");
        assert!(answer.key.is_some(), "{what}: the secret was proved");
        // Last of all: what else is wrong is told before.
        let unheld = CheckRequest {
            permissions: texts(&["otp.send"]),
            ..request.clone()
        };
        denies(&scene.gate, &what, unheld, Reason::PermissionDenied).await;
        let stranger = CheckRequest {
            credential: "pc_nobody".into(),
            ..request
        };
        denies(&scene.gate, &what, stranger, Reason::InvalidCredential).await;
    }
    let many = (0..51).map(|n| (format!("s{n}"), "x".to_owned())).collect();
    denies(
        &scene.gate,
        "row 29c: 51 values are no question",
        asked(many),
        Reason::InvalidRequest,
    )
    .await;
}

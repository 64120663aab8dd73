use super::*;
use crate::proto::v1::{
    SettingDeclaration, Workspace,
    setting_declaration::{BoolType, EnumType, IntegerType, StringType, Type, UrlType},
};

fn setting(name: &str, kind: Option<Type>) -> SettingDeclaration {
    SettingDeclaration {
        name: name.into(),
        r#type: kind,
        ..SettingDeclaration::default()
    }
}

#[tokio::test]
async fn a_workspace_is_created_from_flags() {
    let world = World::new();
    let ran = world
        .run(&[
            "workspace",
            "create",
            "acme",
            "--name",
            "Acme",
            "--token-prefix",
            "ac",
            "-p",
            "sms.send,otp.send",
            "--permission",
            "otp.verify",
            "--archive-limit",
            "3",
            "--request-id",
            "r1",
        ])
        .await;
    assert_eq!(ran.status, 0, "{}", ran.err);
    let call = world.calls().remove(0);
    for part in [
        r#"workspace_id: "acme""#,
        r#"display_name: "Acme""#,
        r#"token_prefix: "ac""#,
        r#"permissions: ["sms.send", "otp.send", "otp.verify"]"#,
        "archive_limit: 3",
        r#"request_id: "r1""#,
    ] {
        assert!(call.contains(part), "{part} is not in {call}");
    }
    for arguments in [
        &["create", "acme", "--archive-limit", "0"][..],
        &["create", "acme", "--archive-limit", "-1"],
        &["create", "acme", "--archive-limit", "1001"],
        &["create", "acme", "--permission", "a,,b"],
        &[
            "create",
            "acme",
            "--file",
            "/no/such/file",
            "--token-prefix",
            "A",
        ],
        &["update", "acme"],
        &["update", "Acme", "--name", "a"],
        &["update", "acme", "--name", "a", "--clear", "name"],
        &[
            "update",
            "acme",
            "--permission",
            "a",
            "--clear",
            "permissions",
        ],
        &["delete", "Acme", "--yes"],
        &["delete", "acme"],
    ] {
        let ran = world.run(&[&["workspace"], arguments].concat()).await;
        assert_eq!(ran.status, 2, "{arguments:?}: {}", ran.err);
    }
    assert!(world.calls().is_empty());
}

#[tokio::test]
async fn a_file_is_what_get_prints_and_flags_go_before_it() {
    let world = World::new();
    {
        let mut inner = world.fake.lock();
        inner.workspace.permissions = vec!["sms.send".into()];
        inner.workspace.settings = vec![setting(
            "limit",
            Some(Type::IntegerType(IntegerType {
                min: Some(-1),
                max: None,
            })),
        )];
        inner.workspace.create_time = Some(prost_types::Timestamp::default());
    }
    let got = world.run(&["workspace", "get", "acme", "-o", "json"]).await;
    let file = world.data_dir().join("w.json");
    fs::write(&file, &got.out).unwrap();
    let file = file.to_str().unwrap();
    world.calls();
    let ran = world
        .run(&[
            "workspace",
            "create",
            "other",
            "--file",
            file,
            "--name",
            "Other",
        ])
        .await;
    assert_eq!(ran.status, 0, "{}", ran.err);
    let call = world.calls().remove(0);
    for part in [
        r#"workspace_id: "other""#,
        r#"Workspace { name: "", display_name: "Other", token_prefix: "ac", permissions: ["sms.send"]"#,
        "IntegerType { min: Some(-1), max: None }",
        r#"create_time: None, update_time: None, etag: """#,
    ] {
        assert!(call.contains(part), "{part} is not in {call}");
    }
    // The file's etag is that of what was edited.
    let ran = world
        .run(&["workspace", "update", "acme", "--file", file])
        .await;
    assert_eq!(ran.status, 0, "{}", ran.err);
    let call = world.calls().remove(0);
    for part in [
        r#"name: "workspaces/acme""#,
        r#"etag: "w1""#,
        r#"paths: ["display_name", "permissions", "settings", "token_prefix"]"#,
    ] {
        assert!(call.contains(part), "{part} is not in {call}");
    }
    let ran = world
        .run(&["workspace", "update", "other", "--file", file])
        .await;
    assert_eq!(ran.status, 2);
    assert!(
        ran.err.contains("another workspace") && world.calls().is_empty(),
        "{}",
        ran.err
    );
}

#[tokio::test]
async fn an_update_changes_just_what_is_named() {
    let mut world = World::new();
    for (file, arguments, mask, value) in [
        (
            "",
            &["--name", ""][..],
            r#"["display_name"]"#,
            r#"display_name: """#,
        ),
        (
            "",
            &["-p", "a,b"],
            r#"["permissions"]"#,
            r#"permissions: ["a", "b"]"#,
        ),
        (
            "",
            &["--clear", "settings,archive-limit"],
            r#"["archive_limit", "settings"]"#,
            "settings: []",
        ),
        (
            "",
            &["--clear", "token-prefix", "--etag", "w0"],
            r#"["token_prefix"]"#,
            r#"etag: "w0""#,
        ),
        (
            r#"{"permissions": []}"#,
            &["--file", "-"],
            r#"["permissions"]"#,
            "permissions: []",
        ),
        (
            r#"{"archiveLimit": 4, "permissions": ["a"], "etag": "w7"}"#,
            &["--file", "-", "--clear", "permissions"],
            r#"["archive_limit", "permissions"]"#,
            r#"permissions: [], settings: [], archive_limit: 4, create_time: None, update_time: None, etag: "w7""#,
        ),
        (
            r#"{"displayName": "file", "etag": "w7"}"#,
            &["--file", "-", "--name", "flag", "--etag", "w8"],
            r#"["display_name"]"#,
            r#"display_name: "flag""#,
        ),
    ] {
        world.answers = Some(file.to_owned().leak());
        let ran = world
            .run(&[&["workspace", "update", "acme"], arguments].concat())
            .await;
        assert_eq!(ran.status, 0, "{arguments:?}: {}", ran.err);
        let call = world.calls().remove(0);
        for part in [
            &format!("paths: {mask}"),
            value,
            r#"name: "workspaces/acme""#,
        ] {
            assert!(
                call.contains(part),
                "{arguments:?}: {part} is not in {call}"
            );
        }
        assert!(
            !call.contains("w7\"") || !arguments.contains(&"--etag"),
            "{call}"
        );
    }
    for (file, says) in [
        ("", "holds no workspace"),
        ("{\"nmae\": 1}", "nmae"),
        ("{\"etag\": \"w1\"}", "nothing to change"),
    ] {
        world.answers = Some(file);
        let ran = world
            .run(&["workspace", "update", "acme", "--file", "-"])
            .await;
        assert_eq!(ran.status, 2, "{file}: {}", ran.err);
        assert!(ran.err.contains(says), "{}", ran.err);
    }
    let ran = world
        .run(&["workspace", "update", "acme", "--file", "/no/such/file"])
        .await;
    assert_eq!(ran.status, 1);
    assert!(
        ran.err.contains("/no/such/file cannot be read"),
        "{}",
        ran.err
    );
    assert!(world.calls().is_empty());
}

#[tokio::test]
async fn deleting_a_workspace_asks_first() {
    let mut world = World::new();
    let delete = ["workspace", "delete", "acme"];
    assert_eq!(world.run(&delete).await.status, 2);
    assert!(world.calls().is_empty());
    world.answers = Some("\n");
    let ran = world.run(&delete).await;
    assert_eq!(ran.status, 1);
    assert!(
        ran.err.contains("Acme") && ran.err.contains("never be used again"),
        "{}",
        ran.err
    );
    assert!(
        world
            .calls()
            .iter()
            .all(|call| call.contains("GetWorkspaceRequest"))
    );
    world.answers = Some("yes\n");
    let ran = world.run(&delete).await;
    assert_eq!(
        (ran.status, ran.out.as_str()),
        (0, "workspaces/acme is deleted\n")
    );
    assert!(world.calls()[1].contains(r#"etag: "w1""#));
    world.answers = None;
    let ran = world
        .run(&[&delete[..], &["--yes", "--request-id", "r1"]].concat())
        .await;
    assert_eq!(ran.status, 0, "{}", ran.err);
    let call = world.calls().remove(0);
    assert!(call.contains(r#"etag: "", request_id: "r1""#), "{call}");
}

#[tokio::test]
async fn declarations_can_be_read() {
    let world = World::new();
    world.fake.lock().workspace = Workspace {
        name: "workspaces/acme".into(),
        permissions: vec!["sms.send".into(), "otp.send".into(), "a".into(), "b".into()],
        settings: vec![
            SettingDeclaration {
                default_value: "Ac\"me".into(),
                header: "x-sender".into(),
                description: "who\nsends\u{1b}".into(),
                ..setting(
                    "sender",
                    Some(Type::StringType(StringType {
                        max_length: 11,
                        allowed: vec!["Acme".into(), "Ac\"me".into()],
                    })),
                )
            },
            setting(
                "mode",
                Some(Type::EnumType(EnumType {
                    values: vec!["OFF".into(), "ON".into()],
                })),
            ),
            setting("url", Some(Type::UrlType(UrlType { allow_http: true }))),
            setting("flag", Some(Type::BoolType(BoolType {}))),
            setting(
                "n",
                Some(Type::IntegerType(IntegerType {
                    min: Some(1),
                    max: Some(9),
                })),
            ),
            setting("new", None),
        ],
        archive_limit: 3,
        ..Workspace::default()
    };
    let ran = world.run(&["workspace", "get", "acme"]).await;
    assert_eq!(ran.status, 0, "{}", ran.err);
    for part in [
        "permissions    sms.send\n               otp.send\n",
        "settings       sender: text, at most 11 characters, one of Acme, Ac\"me; default \"Ac\\\"me\"; header x-sender \
         (who sends\u{fffd})\n",
        "               mode: one of OFF, ON\n",
        "               url: URL, https or http\n",
        "               flag: true or false\n",
        "               n: whole number, 1 to 9\n",
        "               new: of a type that this program does not know\n",
        "archive limit  3 archived keys\n",
    ] {
        assert!(ran.out.contains(part), "{part} is not in {}", ran.out);
    }
    let ran = world.run(&["workspace", "list"]).await;
    assert!(
        ran.out.contains("sms.send,otp.send,a,+1") && ran.out.contains("sender,mode,url,+3"),
        "{}",
        ran.out
    );
}

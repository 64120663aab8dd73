use super::*;
use crate::proto::v1::key::State;

#[tokio::test]
async fn the_secret_of_a_token_never_leaves_the_process() {
    let world = World::new();
    let token = token();
    let secret = token.rsplit('_').next().unwrap();
    for arguments in [
        &["key", "get", &token][..],
        &["key", "update", &token, "--name", "x", "--label", "a=b"],
        &["key", "enable", &token],
        &["key", "disable", &token, "--yes"],
        &["key", "reset", &token, "--yes"],
        &["key", "delete", &token, "--yes", "--force"],
    ] {
        let ran = world.run(arguments).await;
        assert_eq!(ran.status, 0, "{arguments:?}: {}", ran.err);
        for call in world.calls() {
            assert!(
                call.contains(KEY_ID) && !call.contains(secret),
                "{arguments:?}: {call}"
            );
        }
    }
}

#[tokio::test]
async fn create_sends_what_was_asked_and_shows_the_token_once() {
    let world = World::new();
    let ran = world
        .run(&[
            "key",
            "create",
            "--name",
            "first",
            "--description",
            "for tests",
            "--permission",
            "a,b",
            "-p",
            "c",
            "--ip",
            "192.0.2.1, 198.51.100.0/24",
            "--ip",
            "::1",
            "--label",
            "team=x=y",
            "--expires",
            "2026-12-31",
            "-w",
            "acme",
        ])
        .await;
    assert_eq!(ran.status, 0, "{}", ran.err);
    let call = world.calls().remove(0);
    for part in [
        r#"parent: "workspaces/acme""#,
        r#"display_name: "first""#,
        r#"description: "for tests""#,
        r#"permissions: ["a", "b", "c"]"#,
        r#"ip_allowlist: ["192.0.2.1", "198.51.100.0/24", "::1"]"#,
        r#"labels: {"team": "x=y"}"#,
        "seconds: 1798757999, nanos: 999999999",
    ] {
        assert!(call.contains(part), "{part} is not in {call}");
    }
    assert_eq!(ran.out.matches(&token()).count(), 1);
    assert!(
        ran.out.contains("secret        the-secret\n"),
        "{}",
        ran.out
    );
    assert!(
        ran.out.contains("this once")
            && ran
                .out
                .contains("2026-12-31T23:59:59+01:00 (Europe/Berlin)"),
        "{}",
        ran.out
    );
    assert!(
        ran.err.contains("end of that day in Europe/Berlin"),
        "{}",
        ran.err
    );
}

#[tokio::test]
async fn json_is_one_object_and_alone_on_stdout() {
    let world = World::new();
    world.fake.lock().key.description = "\u{9b}2J \u{202e}".into();
    let ran = world
        .run(&[
            "key",
            "create",
            "--expires",
            "2026-12-31",
            "--output",
            "json",
        ])
        .await;
    let issued: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(issued["token"], token());
    assert_eq!(issued["key"]["state"], "ACTIVE");
    assert_eq!(
        issued["key"]["expireTime"],
        "2026-12-31T22:59:59.999999999Z"
    );
    let ran = world.run(&["key", "get", KEY_ID, "-o", "json"]).await;
    let key: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(key["displayName"], "first");
    // The same text, but nothing that a terminal would act on.
    assert_eq!(key["description"], "\u{9b}2J \u{202e}");
    assert!(!ran.out.contains(['\u{9b}', '\u{202e}']));
}

#[tokio::test]
async fn nothing_that_a_server_says_reaches_the_terminal_raw() {
    let world = World::new();
    {
        let mut inner = world.fake.lock();
        inner.key.display_name = "\u{1b}]0;owned\u{7}\u{202e}".into();
        inner.key.description = "one\ntwo\tthree\u{1b}[2J".into();
        inner.key.name.push('\u{1b}');
        inner.listed = 1;
    }
    for arguments in [
        &["key", "get", KEY_ID][..],
        &["key", "list"],
        &["key", "disable", KEY_ID, "--yes"],
    ] {
        let ran = world.run(arguments).await;
        assert_eq!(ran.status, 0, "{}", ran.err);
        assert!(
            !ran.out.contains(['\u{1b}', '\u{7}', '\u{202e}', '\t']),
            "{:?}",
            ran.out
        );
    }
    let ran = world.run(&["key", "get", KEY_ID]).await;
    assert!(
        ran.out
            .contains("description   one\n              two\u{fffd}three"),
        "{}",
        ran.out
    );
}

#[tokio::test]
async fn nobody_asked_means_nothing_changed() {
    for command in ["disable", "reset", "delete"] {
        let mut world = World::new();
        let ran = world.run(&["key", command, KEY_ID]).await;
        assert_eq!(ran.status, 2, "{}", ran.err);
        assert!(
            ran.err.contains("--yes") && world.calls().is_empty(),
            "{}",
            ran.err
        );
        for answer in ["", "\n", "n\n", "maybe\n"] {
            world.answers = Some(answer);
            let ran = world
                .run(&["key", command, KEY_ID, "--output", "json"])
                .await;
            assert_eq!(ran.status, 1, "{}", ran.err);
            assert!(
                world
                    .calls()
                    .iter()
                    .all(|call| call.contains("GetKeyRequest"))
            );
            assert!(ran.out.is_empty());
        }
    }
}

#[tokio::test]
async fn the_question_says_what_breaks_and_yes_does_it() {
    for (command, arguments, sent) in [
        ("disable", &[][..], "DisableKeyRequest"),
        ("reset", &[], "ResetSecretRequest"),
        ("delete", &["--force"], "DeleteKeyRequest"),
    ] {
        let mut world = World::new();
        world.answers = Some("y\n");
        let ran = world
            .run(&[&["key", command, KEY_ID], arguments].concat())
            .await;
        assert_eq!(ran.status, 0, "{}", ran.err);
        for part in [
            "first",
            KEY_ID,
            "sms.send",
            "local:0",
            "ACTIVE",
            "refused at once",
            "[y/N]",
        ] {
            assert!(ran.err.contains(part), "{part} is not in {}", ran.err);
        }
        let calls = world.calls();
        assert_eq!(calls.len(), 2, "{calls:?}");
        assert!(calls[1].contains(sent), "{calls:?}");
        // What was shown is what was agreed to; but a key that is to stop working stops, whatever else was changed.
        assert_eq!(
            calls[1].contains(r#"etag: "e1""#),
            command != "disable",
            "{calls:?}"
        );
    }
}

#[tokio::test]
async fn an_active_key_is_deleted_only_with_force() {
    let mut world = World::new();
    world.answers = Some("y\n");
    let ran = world.run(&["key", "delete", KEY_ID]).await;
    assert_eq!(ran.status, 1);
    assert!(
        ran.err.contains("--force") && !ran.err.contains("[y/N]"),
        "{}",
        ran.err
    );
    assert!(
        world
            .calls()
            .iter()
            .all(|call| call.contains("GetKeyRequest"))
    );
    world.fake.lock().key.state = State::Disabled.into();
    assert_eq!(world.run(&["key", "delete", KEY_ID]).await.status, 0);
    world.calls();
    world
        .run(&["key", "delete", KEY_ID, "--yes", "--force"])
        .await;
    assert!(world.calls()[0].contains("force: true"));
}

#[tokio::test]
async fn update_changes_just_the_fields_named() {
    let world = World::new();
    for (arguments, mask, value) in [
        (
            &["--name", "n"][..],
            r#"["display_name"]"#,
            r#"display_name: "n""#,
        ),
        (
            &["--name", ""],
            r#"["display_name"]"#,
            r#"display_name: """#,
        ),
        (
            &["--description", "d"],
            r#"["description"]"#,
            r#"description: "d""#,
        ),
        (
            &["--permission", "a,b"],
            r#"["permissions"]"#,
            r#"permissions: ["a", "b"]"#,
        ),
        (
            &["--ip", "::1"],
            r#"["ip_allowlist"]"#,
            r#"ip_allowlist: ["::1"]"#,
        ),
        (
            &["--expires", "30d"],
            r#"["expire_time"]"#,
            "expire_time: Some",
        ),
        (&["--no-expiry"], r#"["expire_time"]"#, "expire_time: None"),
        (
            &["--clear", "ips,permissions"],
            r#"["permissions", "ip_allowlist"]"#,
            "permissions: []",
        ),
        (
            &["--clear", "labels", "--label", "a=b"],
            r#"["labels"]"#,
            r#"labels: {"a": "b"}"#,
        ),
        (&["--clear", "labels"], r#"["labels"]"#, "labels: {}"),
    ] {
        let ran = world
            .run(&[&["key", "update", KEY_ID], arguments].concat())
            .await;
        assert_eq!(ran.status, 0, "{arguments:?}: {}", ran.err);
        let calls = world.calls();
        assert_eq!(calls.len(), 1, "{calls:?}");
        assert!(
            calls[0].contains(&format!("paths: {mask}")),
            "{arguments:?}: {calls:?}"
        );
        assert!(
            calls[0].contains(value) && calls[0].contains(r#"etag: """#),
            "{arguments:?}: {calls:?}"
        );
    }
}

#[tokio::test]
async fn a_label_is_changed_without_losing_the_others() {
    let world = World::new();
    for (arguments, labels) in [
        (&["--label", "team=z"][..], r#"{"team": "z", "tier": "b"}"#),
        (
            &["--label", "new=c"],
            r#"{"new": "c", "team": "a", "tier": "b"}"#,
        ),
        (&["--remove-label", "team"], r#"{"tier": "b"}"#),
        (
            &["--remove-label", "team", "--label", "new=c"],
            r#"{"new": "c", "tier": "b"}"#,
        ),
    ] {
        let ran = world
            .run(&[&["key", "update", KEY_ID], arguments].concat())
            .await;
        assert_eq!(ran.status, 0, "{arguments:?}: {}", ran.err);
        let calls = world.calls();
        assert!(calls[0].contains("GetKeyRequest"), "{calls:?}");
        // The etag is that of the labels read, so a change in between is not lost.
        for part in [
            &format!("labels: {labels}"),
            r#"etag: "e1""#,
            r#"paths: ["labels"]"#,
        ] {
            assert!(calls[1].contains(part), "{part} is not in {calls:?}");
        }
    }
}

#[tokio::test]
async fn a_contradiction_is_refused_before_anything_is_sent() {
    let world = World::new();
    for arguments in [
        &["update", KEY_ID][..],
        &[
            "update",
            KEY_ID,
            "--permission",
            "a",
            "--clear",
            "permissions",
        ],
        &["update", KEY_ID, "--remove-label", "a", "--clear", "labels"],
        &["update", KEY_ID, "--expires", "30d", "--no-expiry"],
        &["update", KEY_ID, "--label", "a"],
        &["create", "--permission", "a,,b"],
        &["create", "--expires", "2020-01-01"],
        &["create", "--workspace", "Not-An-Id"],
        &["list", "--limit", "0"],
        &["get", "first"],
    ] {
        let ran = world.run(&[&["key"], arguments].concat()).await;
        assert_eq!(ran.status, 2, "{arguments:?}: {}", ran.err);
    }
    assert!(world.calls().is_empty());
}

#[tokio::test]
async fn a_wrong_argument_is_named_before_anything_is_sent() {
    let world = World::new();
    for (arguments, says) in [
        (&["workspace", "create", "Acme"][..], "ID must be"),
        (&["workspace", "get", "Acme"], "ID must be"),
        (
            &["workspace", "create", "acme", "--token-prefix", "A"],
            "--token-prefix must be",
        ),
        (
            &["key", "create", "--label", "a=b", "--label", "Team=c"],
            "'Team=c'",
        ),
        (&["key", "update", KEY_ID, "--label", "Team=c"], "'Team=c'"),
        (
            &["key", "create", "--ip", "10.0.0.1,10.0.0.0/33"],
            "'10.0.0.0/33'",
        ),
        (&["key", "update", KEY_ID, "--ip", "host"], "'host'"),
        (&["key", "delete", KEY_ID], "--yes, and --force"),
    ] {
        let ran = world.run(arguments).await;
        assert_eq!(ran.status, 2, "{arguments:?}: {}", ran.err);
        assert!(ran.err.contains(says), "{arguments:?}: {}", ran.err);
    }
    assert!(world.calls().is_empty());
}

#[tokio::test]
async fn a_list_follows_its_pages_to_the_end_or_to_the_limit() {
    let world = World::new();
    world.fake.lock().listed = 2_500;
    let ran = world.run(&["key", "list"]).await;
    assert_eq!(ran.out.lines().count(), 2_501);
    assert!(ran.out.starts_with("KEY ID") && ran.out.contains("key-2499"));
    assert_eq!(world.calls().len(), 3);

    let ran = world.run(&["key", "list", "--output", "json"]).await;
    let list: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(list["keys"].as_array().unwrap().len(), 2_500);
    world.calls();

    let ran = world
        .run(&["key", "list", "--limit", "1001", "--output", "json"])
        .await;
    let list: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(list["keys"].as_array().unwrap().len(), 1_001);
    assert!(world.calls()[1].contains("page_size: 1,"));
    assert!(ran.err.contains("more than the 1001"), "{}", ran.err);
    let ran = world.run(&["key", "list", "--limit", "2500"]).await;
    assert_eq!(ran.err, "");
}

#[tokio::test]
async fn a_limit_is_a_whole_number() {
    let world = World::new();
    for command in ["key", "workspace"] {
        for limit in ["-1", "0", "1.5", "all"] {
            let ran = world.run(&[command, "list", "--limit", limit]).await;
            assert_eq!(ran.status, 2);
            assert!(
                ran.err.contains("whole number, 1 or more"),
                "{limit}: {}",
                ran.err
            );
        }
    }
}

#[tokio::test]
async fn a_new_key_without_permissions_is_told_of() {
    let world = World::new();
    let ran = world.run(&["key", "create", "-w", "system"]).await;
    assert!(ran.err.contains("no permission"), "{}", ran.err);
    let ran = world.run(&["key", "create", "-p", "a"]).await;
    assert_eq!(ran.err, "");
}

#[tokio::test]
async fn a_key_may_be_told_never_to_expire() {
    let world = World::new();
    let create = ["key", "create", "-p", "a", "--expires", "never"];
    let update = ["key", "update", KEY_ID, "--expires", "never"];
    for arguments in [&create[..], &update] {
        let ran = world.run(arguments).await;
        assert_eq!(ran.status, 0, "{}", ran.err);
        let call = world.calls().remove(0);
        assert!(call.contains("expire_time: None"), "{call}");
        assert_eq!(
            call.contains(r#"paths: ["expire_time"]"#),
            arguments == update
        );
    }
}

#[tokio::test]
async fn a_wrong_expiry_is_explained() {
    let world = World::new();
    for when in ["-1d", "2020-01-01", "soon", "9999999d"] {
        let ran = world.run(&["key", "create", "--expires", when]).await;
        assert_eq!(ran.status, 2);
        assert!(
            ran.err.starts_with("error: --expires") && !ran.err.contains("--no-expiry"),
            "{}",
            ran.err
        );
        let ran = world
            .run(&["key", "update", KEY_ID, "--expires", when])
            .await;
        assert_eq!(ran.status, 2);
        assert!(ran.err.contains("--no-expiry"), "{}", ran.err);
    }
}

#[tokio::test]
async fn an_empty_list_is_valid_json_too_and_an_error_leaves_none() {
    let world = World::new();
    let ran = world.run(&["key", "list", "--output", "json"]).await;
    let list: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(list, serde_json::json!({"keys": []}));
    world.fake.lock().refuse = Some(Status::unavailable("busy"));
    let ran = world.run(&["key", "list", "--output", "json"]).await;
    assert_eq!((ran.status, ran.out.as_str()), (1, ""));
}

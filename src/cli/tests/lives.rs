//! The life of a key: overlaps, archives, settings, and calls that may be repeated.

use tonic::Code;

use super::*;
use crate::{
    proto::v1::{ErrorReason, SecretInfo},
    status::status_with,
};

/// The old secret is dead, and the new one is shown only now.
#[tokio::test]
async fn a_reset_that_is_not_in_force_everywhere_shows_its_token_and_fails() {
    let world = World::new();
    world.fake.lock().unsettled = Some(status_with(
        Code::Unavailable,
        ErrorReason::CommittedNotFleetWide,
        "committed as 1.7, but not in force on every replica; waiting for b",
        [
            ("revision", "1.7".to_owned()),
            ("waiting_for", "b".to_owned()),
        ],
    ));
    let reset = ["key", "reset", KEY_ID, "--yes"];
    let ran = world.run(&reset).await;
    assert_eq!(ran.status, 1, "{}", ran.err);
    assert_eq!(ran.out.matches(&token()).count(), 1, "{}", ran.out);
    assert!(ran.out.contains("the-secret"), "{}", ran.out);
    for says in [
        "waiting for b [COMMITTED_NOT_FLEET_WIDE]",
        "another reset would replace",
    ] {
        assert!(ran.err.contains(says), "{}", ran.err);
    }
    assert!(!ran.err.contains(&token()) && !ran.err.contains("the-secret"));
    let ran = world
        .run(&[&reset[..], &["--output", "json"]].concat())
        .await;
    assert_eq!(ran.status, 1, "{}", ran.err);
    let issued: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(issued["token"], token());
}

#[tokio::test]
async fn replicas_that_have_not_heard_of_a_key_are_named() {
    let world = World::new();
    for arguments in [
        &["key", "create", "--name", "a"][..],
        &["key", "enable", KEY_ID],
        &["admin", "create", "--role", "auditor", "--name", "n"],
    ] {
        world.fake.lock().laggards = Vec::new();
        let ran = world.run(arguments).await;
        assert_eq!(ran.status, 0, "{arguments:?}: {}", ran.err);
        assert!(!ran.err.contains("warning"), "{}", ran.err);
        world.fake.lock().laggards = vec!["b".into(), "c\u{1b}[2J".into()];
        let ran = world.run(arguments).await;
        assert_eq!(ran.status, 0, "{arguments:?}: {}", ran.err);
        assert!(
            ran.err
                .contains("warning: not yet in force on b, c\u{fffd}[2J;"),
            "{}",
            ran.err
        );
    }
}

#[tokio::test]
async fn a_reset_may_overlap() {
    let world = World::new();
    for (overlap, sent) in [
        (&[][..], "overlap: None"),
        (
            &["--overlap", "24h"],
            "overlap: Some(Duration { seconds: 86400, nanos: 0 })",
        ),
        (
            &["--overlap", "0s"],
            "overlap: Some(Duration { seconds: 0, nanos: 0 })",
        ),
    ] {
        let ran = world
            .run(&[&["key", "reset", KEY_ID, "--yes"], overlap].concat())
            .await;
        assert_eq!(ran.status, 0, "{}", ran.err);
        assert_eq!(ran.out.matches(&token()).count(), 1);
        assert!(world.calls()[0].contains(sent), "{overlap:?}");
    }
    for overlap in ["31d", "soon", "-1h", "", "1.5d"] {
        let ran = world
            .run(&["key", "reset", KEY_ID, "--yes", "--overlap", overlap])
            .await;
        assert_eq!(ran.status, 2, "{overlap}");
        assert!(ran.err.contains("--overlap"), "{}", ran.err);
    }
    assert!(world.calls().is_empty());
}

#[tokio::test]
async fn the_question_before_a_reset_tells_what_an_overlap_spares() {
    let mut world = World::new();
    world.answers = Some("n\n");
    let reset = ["key", "reset", KEY_ID];
    for (overlap, says) in [
        (&[][..], "refused at once"),
        (&["--overlap", "0s"], "refused at once"),
        (&["--overlap", "24h"], "stays good for 1 days"),
        (&["--overlap", "90m"], "stays good for 90 minutes"),
    ] {
        let says = says.replace("1 days", "1 day");
        let ran = world.run(&[&reset, overlap].concat()).await;
        assert_eq!(ran.status, 1);
        assert!(ran.err.contains(&says), "{overlap:?}: {}", ran.err);
    }
    world.fake.lock().key.secrets = vec![SecretInfo::default(), SecretInfo::default()];
    let ran = world
        .run(&[&reset[..], &["--overlap", "1h"]].concat())
        .await;
    assert!(
        ran.err.contains("earlier overlap kept alive is refused"),
        "{}",
        ran.err
    );
}

#[tokio::test]
async fn a_repeated_call_says_that_its_token_was_shown() {
    let world = World::new();
    world.fake.lock().replayed = true;
    for arguments in [
        &["key", "create", "-p", "a", "--request-id", "r1"][..],
        &["key", "reset", KEY_ID, "--yes", "--request-id", "r1"],
        &[
            "admin",
            "create",
            "--role",
            "checker",
            "--name",
            "a",
            "--request-id",
            "r1",
        ],
    ] {
        let ran = world.run(arguments).await;
        assert_eq!(ran.status, 0, "{}", ran.err);
        assert!(world.calls()[0].contains(r#"request_id: "r1""#));
        for part in [
            "made before",
            "nothing more was changed",
            "portcullis key reset workspaces/default/keys/",
        ] {
            assert!(ran.out.contains(part), "{part}: {}", ran.out);
        }
        assert!(!ran.out.contains("shown this once"), "{}", ran.out);
        let json = world.run(&[arguments, &["-o", "json"]].concat()).await;
        let issued: serde_json::Value = serde_json::from_str(&json.out).unwrap();
        assert_eq!(issued["replayed"], true);
        assert!(issued.get("token").is_none() && json.err.contains("made before"));
        world.calls();
    }
}

#[tokio::test]
async fn a_call_may_be_named_and_held_to_an_etag() {
    let mut world = World::new();
    for asked in [None, Some("y\n")] {
        world.answers = asked;
        let yes: &[&str] = if asked.is_some() { &[] } else { &["--yes"] };
        for (command, asks) in [
            (&["enable"][..], false),
            (&["update", "--name", "n"], false),
            (&["update", "--label", "a=b"], false),
            (&["disable"], true),
            (&["reset"], true),
            (&["end-overlap"], true),
            (&["archive"], true),
            (&["delete", "--force"], true),
        ] {
            let flags = ["--request-id", "r-1", "--etag", "e0", KEY_ID];
            let yes = if asks { yes } else { &[] };
            let ran = world.run(&[&["key"], command, &flags, yes].concat()).await;
            assert_eq!(ran.status, 0, "{command:?}: {}", ran.err);
            let call = world.calls().pop().unwrap();
            for part in [r#"request_id: "r-1""#, r#"etag: "e0""#] {
                assert!(call.contains(part), "{part} is not in {call}");
            }
        }
    }
    // Repeated, it would be shown with another etag and so be another call.
    let ran = world
        .run(&["key", "reset", KEY_ID, "--request-id", "r-1"])
        .await;
    assert_eq!(ran.status, 0, "{}", ran.err);
    assert!(world.calls().pop().unwrap().contains(r#"etag: """#));
}

#[tokio::test]
async fn what_could_not_be_repeated_gets_no_request_id() {
    let world = World::new();
    let id = ["--request-id", "r1"];
    for (arguments, says) in [
        (
            &["key", "update", KEY_ID, "--label", "a=b"][..],
            "needs --etag",
        ),
        (
            &["key", "update", KEY_ID, "--remove-setting", "a"],
            "needs --etag",
        ),
        (
            &["key", "update", KEY_ID, "--expires", "30d"],
            "a span counts from now",
        ),
        (
            &["key", "create", "--expires", "30d"],
            "a span counts from now",
        ),
        (
            &[
                "admin",
                "create",
                "--role",
                "admin",
                "--name",
                "a",
                "--expires",
                "1w",
            ],
            "a span counts from now",
        ),
    ] {
        let ran = world.run(&[arguments, &id].concat()).await;
        assert_eq!(ran.status, 2, "{arguments:?}: {}", ran.err);
        assert!(ran.err.contains(says), "{}", ran.err);
    }
    for flag in [
        &["--request-id", ""][..],
        &["--request-id", "a b"],
        &["--etag", ""],
    ] {
        let ran = world
            .run(&[&["key", "enable", KEY_ID], flag].concat())
            .await;
        assert_eq!(ran.status, 2, "{flag:?}");
    }
    assert!(world.calls().is_empty());
    let ran = world
        .run(&[&["key", "create", "--expires", "2026-12-31"][..], &id].concat())
        .await;
    assert_eq!(ran.status, 0, "{}", ran.err);
}

#[tokio::test]
async fn archiving_and_ending_an_overlap_ask_first() {
    for (command, sent, says) in [
        (
            "archive",
            "ArchiveKeyRequest",
            "neither changed nor enabled",
        ),
        (
            "end-overlap",
            "EndOverlapRequest",
            "older secret is refused at once",
        ),
    ] {
        let mut world = World::new();
        world.fake.lock().key.secrets = vec![SecretInfo::default(), SecretInfo::default()];
        let ran = world.run(&["key", command, KEY_ID]).await;
        assert_eq!(ran.status, 2);
        assert!(ran.err.contains("--yes") && world.calls().is_empty());
        world.answers = Some("n\n");
        assert_eq!(world.run(&["key", command, KEY_ID]).await.status, 1);
        assert!(
            world
                .calls()
                .iter()
                .all(|call| call.contains("GetKeyRequest"))
        );
        world.answers = Some("y\n");
        let ran = world.run(&["key", command, KEY_ID]).await;
        assert_eq!(ran.status, 0, "{}", ran.err);
        assert!(ran.err.contains(says), "{}", ran.err);
        let call = world.calls().pop().unwrap();
        assert!(
            call.contains(sent) && call.contains(r#"etag: "e1""#),
            "{call}"
        );
    }
    let world = World::new();
    let ran = world.run(&["key", "archive", &token(), "--yes"]).await;
    assert_eq!(
        ran.out,
        format!("workspaces/default/keys/{KEY_ID} is ARCHIVED\n")
    );
    let secret = token().rsplit('_').next().unwrap().to_owned();
    for command in ["archive", "end-overlap", "log"] {
        let yes: &[&str] = if command == "log" { &[] } else { &["--yes"] };
        let ran = world
            .run(&[&["key", command, &token()], yes].concat())
            .await;
        assert_eq!(ran.status, 0, "{}", ran.err);
    }
    assert!(
        world
            .calls()
            .iter()
            .all(|call| call.contains(KEY_ID) && !call.contains(&secret))
    );
}

#[tokio::test]
async fn a_setting_is_changed_without_losing_the_others() {
    let world = World::new();
    world.fake.lock().key.settings = [("one", "1"), ("two", "2")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
    for (arguments, settings, reads) in [
        (
            &["--setting", "one=x"][..],
            r#"{"one": "x", "two": "2"}"#,
            true,
        ),
        (&["--remove-setting", "one"], r#"{"two": "2"}"#, true),
        (
            &["--setting", "three=a=b", "--remove-setting", "two"],
            r#"{"one": "1", "three": "a=b"}"#,
            true,
        ),
        (&["--clear", "settings"], "{}", false),
        (
            &["--clear", "settings", "--setting", "three="],
            r#"{"three": ""}"#,
            false,
        ),
    ] {
        let ran = world
            .run(&[&["key", "update", KEY_ID], arguments].concat())
            .await;
        assert_eq!(ran.status, 0, "{arguments:?}: {}", ran.err);
        let calls = world.calls();
        assert_eq!(calls.len(), if reads { 2 } else { 1 }, "{calls:?}");
        let etag = if reads {
            r#"etag: "e1""#
        } else {
            r#"etag: """#
        };
        let call = calls.last().unwrap();
        for part in [
            &format!("settings: {settings}"),
            etag,
            r#"paths: ["settings"]"#,
        ] {
            assert!(call.contains(part), "{part} is not in {call}");
        }
    }
    // Both at once are read once.
    world
        .run(&[
            "key",
            "update",
            KEY_ID,
            "--setting",
            "one=x",
            "--label",
            "n=v",
        ])
        .await;
    let calls = world.calls();
    assert!(
        calls.len() == 2 && calls[1].contains(r#"paths: ["settings", "labels"]"#),
        "{calls:?}"
    );
    assert!(calls[1].contains(r#""n": "v", "team": "a""#), "{calls:?}");
    for arguments in [
        &[
            "update",
            KEY_ID,
            "--remove-setting",
            "a",
            "--clear",
            "settings",
        ][..],
        &["update", KEY_ID, "--setting", "a"],
        &["create", "--setting", "A=b"],
    ] {
        let ran = world.run(&[&["key"], arguments].concat()).await;
        assert_eq!(ran.status, 2, "{arguments:?}");
    }
    let ran = world
        .run(&[
            "key",
            "create",
            "-p",
            "a",
            "--setting",
            "one=1",
            "--setting",
            "two=",
        ])
        .await;
    assert_eq!(ran.status, 0, "{}", ran.err);
    let calls = world.calls();
    assert!(
        calls[0].contains(r#"settings: {"one": "1", "two": ""}"#),
        "{calls:?}"
    );
}

//! Looking at keys: what is shown of one, finding them, and their logs.

use super::*;
use crate::proto::v1::{Event, FieldChange, Key, SecretInfo, key::State};

fn at(seconds: i64) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds, nanos: 0 }
}

#[tokio::test]
async fn a_key_shows_access_settings_archive_and_secrets() {
    let world = World::new();
    {
        let mut inner = world.fake.lock();
        inner.key.access = 2;
        inner.key.settings = [("sender".to_owned(), "A\n\u{1b}B".to_owned())].into();
        inner.key.archive_time = Some(at(1_780_000_000));
        inner.key.secrets = vec![
            SecretInfo {
                id: "2".into(),
                create_time: Some(at(1_770_000_000)),
                expire_time: None,
            },
            SecretInfo {
                id: "1".into(),
                create_time: Some(at(1_760_000_000)),
                expire_time: Some(at(1_790_000_000)),
            },
        ];
    }
    let ran = world.run(&["key", "get", KEY_ID]).await;
    assert_eq!(ran.status, 0, "{}", ran.err);
    for part in [
        "access        PARTIAL\n",
        "settings      sender=A\u{fffd}\u{fffd}B\n",
        "archived      2026-05-28T22:26:40+02:00 (Europe/Berlin)\n",
        "secrets       2: made 2026-02-02T03:40:00+01:00, the newest\n",
        "              1: made 2025-10-09T10:53:20+02:00, good until 2026-09-21T16:13:20+02:00\n",
    ] {
        assert!(ran.out.contains(part), "{part} is not in {}", ran.out);
    }
}

#[tokio::test]
async fn a_list_may_be_filtered_searched_and_ordered() {
    let world = World::new();
    let ran = world
        .run(&[
            "key",
            "list",
            "--filter",
            "state = ACTIVE",
            "--query",
            &token(),
            "--order-by",
            "expire_time desc",
            "--archived",
            "-w",
            "acme",
        ])
        .await;
    assert_eq!(ran.status, 0, "{}", ran.err);
    let call = world.calls().remove(0);
    for part in [
        r#"parent: "workspaces/acme""#,
        r#"filter: "state = ACTIVE""#,
        &format!(r#"query: "{KEY_ID}""#),
        r#"order_by: "expire_time desc""#,
        "show_archived: true",
    ] {
        assert!(call.contains(part), "{part} is not in {call}");
    }
    let secret = token().rsplit('_').next().unwrap().to_owned();
    for flag in ["--filter", "--query"] {
        let ran = world.run(&["key", "list", flag, &secret]).await;
        assert_eq!(ran.status, 2);
        assert!(ran.err.contains(flag) && !ran.err.contains(&secret));
    }
    assert!(world.calls().is_empty());
}

#[tokio::test]
async fn short_and_empty_pages_are_not_the_end() {
    let world = World::new();
    let key = |name: &str| Key {
        key_id: KEY_ID.into(),
        display_name: name.into(),
        state: State::Active.into(),
        ..Key::default()
    };
    world.fake.lock().key_pages = vec![
        vec![],
        vec![key("a")],
        vec![],
        vec![key("a much longer name"), key("c")],
        vec![],
    ];
    let ran = world.run(&["key", "list"]).await;
    assert_eq!(ran.status, 0, "{}", ran.err);
    let lines: Vec<_> = ran.out.lines().collect();
    assert_eq!(lines.len(), 4, "{}", ran.out);
    let column = lines[0].find("STATE").unwrap();
    assert!(
        lines[1..]
            .iter()
            .all(|line| line[column..].starts_with("ACTIVE")),
        "{}",
        ran.out
    );
    assert_eq!(world.calls().len(), 5);
    let ran = world
        .run(&["key", "list", "-o", "json", "--limit", "2"])
        .await;
    let list: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(list["keys"].as_array().unwrap().len(), 2);
    assert!(ran.err.contains("may be more than the 2"), "{}", ran.err);
}

#[tokio::test]
async fn a_keys_log_is_the_events_about_it() {
    let world = World::new();
    let event = |revision: &str, after: &str| Event {
        revision: revision.into(),
        time: Some(at(1_770_000_000)),
        actor: "local:0".into(),
        method: "UpdateKey".into(),
        changes: vec![
            FieldChange {
                field: "display_name".into(),
                before: "old".into(),
                after: after.into(),
            },
            FieldChange {
                field: "labels.team".into(),
                before: String::new(),
                after: "a".into(),
            },
        ],
        ..Event::default()
    };
    world.fake.lock().event_pages = vec![
        vec![event("1.9", "n\u{1b}ew\nline")],
        vec![],
        vec![event("1.3", "")],
    ];
    let ran = world.run(&["key", "log", KEY_ID, "-w", "acme"]).await;
    assert_eq!(ran.status, 0, "{}", ran.err);
    let calls = world.calls();
    let filter = format!(r#"filter: "resource = \"workspaces/acme/keys/{KEY_ID}\"""#);
    assert!(
        calls[0].contains(&filter) && calls[0].contains(r#"parent: "workspaces/acme""#),
        "{calls:?}"
    );
    let lines: Vec<_> = ran.out.lines().collect();
    assert_eq!(lines.len(), 3, "{}", ran.out);
    assert!(
        lines[1].ends_with("display_name: old → n\u{fffd}ew line; labels.team: a"),
        "{}",
        ran.out
    );
    assert!(
        lines[2].contains("1.3") && lines[2].contains("display_name: old → -;"),
        "{}",
        ran.out
    );
    let ran = world
        .run(&["key", "log", KEY_ID, "--limit", "1", "-o", "json"])
        .await;
    let list: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(list["events"][0]["revision"], "1.9");
    assert_eq!(list["events"].as_array().unwrap().len(), 1);
    assert_eq!(world.run(&["key", "log", "first"]).await.status, 2);
}

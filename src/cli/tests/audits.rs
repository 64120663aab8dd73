use super::*;
use crate::proto::v1::{BrokenLink, Event, VerifyEventsResponse};

const PIECES: [&[u8]; 2] = [b"{\"a\":1}\n{\"b\":\"\xc2\x9b2J\"}\n", b"{\"c\":3}\n"];

fn head() -> String {
    format!("1.7:{}", "0a".repeat(32))
}

fn intact() -> VerifyEventsResponse {
    VerifyEventsResponse {
        intact: true,
        event_count: 7,
        head: head(),
        broken_link: None,
    }
}

fn broken() -> VerifyEventsResponse {
    VerifyEventsResponse {
        intact: false,
        event_count: 4,
        head: head(),
        broken_link: Some(BrokenLink {
            revision: "1.5".into(),
            reason: "its digest\u{1b} does not fit".into(),
        }),
    }
}

#[tokio::test]
async fn a_list_of_events_asks_for_all_that_one_may_see() {
    let world = World::new();
    world.fake.lock().event_pages = vec![
        vec![],
        vec![Event {
            revision: "1.9".into(),
            actor: "local:0".into(),
            method: "DisableKey".into(),
            resource: "workspaces/acme/keys/a\u{202e}".into(),
            ..Event::default()
        }],
    ];
    let ran = world
        .run(&[
            "audit",
            "list",
            "--team",
            "a",
            "--team",
            "b",
            "--query",
            "billing",
            "--order-by",
            "time",
        ])
        .await;
    assert_eq!(ran.status, 0, "{}", ran.err);
    let calls = world.calls();
    assert_eq!(calls.len(), 2);
    for part in [
        r#"parent: "workspaces/-""#,
        r#"filter: "(team = \"a\" OR team = \"b\")""#,
        r#"query: "billing""#,
        r#"order_by: "time""#,
    ] {
        assert!(calls[0].contains(part), "{part} is not in {calls:?}");
    }
    assert!(
        ran.out
            .contains("DisableKey  workspaces/acme/keys/a\u{fffd}  local:0"),
        "{}",
        ran.out
    );
    for arguments in [
        &["--since", "soon"][..],
        &["--action", "archive"],
        &["--limit", "0"],
        &["-w", "Acme"],
        &["--team", "a", "--filter", "b)"],
        &["--actor", &token()[..token().len() - 1]],
    ] {
        let ran = world.run(&[&["audit", "list"], arguments].concat()).await;
        assert_eq!(ran.status, 2, "{arguments:?}: {}", ran.err);
    }
    assert!(world.calls().is_empty());
}

#[tokio::test]
async fn an_export_is_the_servers_bytes() {
    let world = World::new();
    world.fake.lock().pieces = PIECES.to_vec();
    let whole = PIECES.concat();
    let ran = world
        .run(&["audit", "export", "-w", "acme", "--format", "csv"])
        .await;
    assert_eq!((ran.status, ran.out.as_bytes()), (0, &whole[..]));
    assert_eq!(ran.err, "");
    let call = world.calls().remove(0);
    assert!(
        call.contains(r#"parent: "workspaces/acme""#) && call.contains("format: Csv"),
        "{call}"
    );
    let file = world.data_dir().join("out.jsonl");
    let ran = world
        .run(&["audit", "export", "--out", file.to_str().unwrap()])
        .await;
    assert_eq!((ran.status, ran.out.as_str()), (0, ""), "{}", ran.err);
    assert_eq!(fs::read(&file).unwrap(), whole);
    assert!(world.calls()[0].contains("format: JsonLines"));
}

#[tokio::test]
async fn a_terminal_is_shown_an_export_but_acts_on_none_of_it() {
    let mut world = World::new();
    world.fake.lock().pieces = PIECES.to_vec();
    world.out_terminal = true;
    world.err_terminal = true;
    let ran = world.run(&["audit", "export"]).await;
    assert_eq!(ran.out, "{\"a\":1}\n{\"b\":\"\u{fffd}2J\"}\n{\"c\":3}\n");
    // Progress would stand in the middle of it.
    assert_eq!(ran.err, "");
}

#[tokio::test]
async fn progress_is_told_where_somebody_sees_it() {
    let mut world = World::new();
    world.fake.lock().pieces = PIECES.to_vec();
    world.err_terminal = true;
    let file = world.data_dir().join("out");
    let file = file.to_str().unwrap();
    for (arguments, last) in [
        (&["--out", file][..], "\rexported 3 events, 29 B  \n"),
        (&[], "\rexported 3 events, 29 B  \n"),
        (&["--format", "csv"], "\rexported 29 B  \n"),
    ] {
        let ran = world.run(&[&["audit", "export"], arguments].concat()).await;
        assert_eq!(ran.status, 0, "{}", ran.err);
        assert!(ran.err.ends_with(last), "{:?}", ran.err);
    }
}

#[tokio::test]
async fn an_export_that_fails_leaves_no_file_and_no_loss() {
    let world = World::new();
    {
        let mut inner = world.fake.lock();
        inner.pieces = PIECES.to_vec();
        inner.export_fails = Some(Status::unavailable("gone"));
    }
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("out.jsonl");
    let arguments = ["audit", "export", "--out", file.to_str().unwrap()];
    let names = || {
        let entries = fs::read_dir(directory.path()).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name())
            .collect::<Vec<_>>()
    };
    let ran = world.run(&arguments).await;
    assert_eq!(ran.status, 1);
    assert!(
        ran.err.contains("gone") && names().is_empty(),
        "{:?}",
        names()
    );
    fs::write(&file, "older").unwrap();
    assert_eq!(world.run(&arguments).await.status, 1);
    assert_eq!(fs::read_to_string(&file).unwrap(), "older");
    assert_eq!(names(), ["out.jsonl"]);
    world.calls();
    for out in [
        "/no/such/directory/out",
        "/dev/null",
        directory.path().to_str().unwrap(),
    ] {
        let ran = world.run(&["audit", "export", "--out", out]).await;
        assert_eq!(ran.status, 1);
        assert!(ran.err.contains("cannot be written"), "{}", ran.err);
    }
    assert!(world.calls().is_empty());
}

#[tokio::test]
async fn a_verification_exits_by_what_it_found() {
    let world = World::new();
    world.fake.lock().verified = intact();
    let ran = world.run(&["audit", "verify"]).await;
    assert_eq!(ran.status, 0, "{}", ran.err);
    assert!(
        ran.out.starts_with("INTACT") && ran.out.contains(&head()),
        "{}",
        ran.out
    );
    assert!(ran.err.contains("without --anchor"), "{}", ran.err);
    assert!(world.calls()[0].contains(r#"anchor: """#));
    let ran = world
        .run(&["audit", "verify", "--anchor", &format!("{}\n", head())])
        .await;
    assert_eq!((ran.status, ran.err.as_str()), (0, ""));
    assert!(world.calls()[0].contains(&format!("anchor: {:?}", head())));

    world.fake.lock().verified = broken();
    for format in ["table", "json"] {
        let ran = world
            .run(&["audit", "verify", "--anchor", &head(), "-o", format])
            .await;
        assert_eq!(ran.status, 1);
        assert!(
            ran.out.contains("1.5") && ran.out.contains("does not fit"),
            "{}",
            ran.out
        );
        assert!(
            !ran.out.contains(['\u{1b}']) && !ran.out.contains("INTACT"),
            "{}",
            ran.out
        );
    }
    world.calls();
    for anchor in ["", "1.7", "1.7:abc", &token()] {
        let ran = world.run(&["audit", "verify", "--anchor", anchor]).await;
        assert_eq!(ran.status, 2, "{anchor}");
    }
    assert!(world.calls().is_empty());
}

#[tokio::test]
async fn a_head_is_printed_alone_and_only_of_an_intact_chain() {
    let world = World::new();
    world.fake.lock().verified = intact();
    let ran = world.run(&["audit", "head"]).await;
    assert_eq!((ran.status, ran.out), (0, format!("{}\n", head())));
    assert_eq!(ran.err, "");
    let ran = world.run(&["audit", "head", "-o", "json"]).await;
    let json: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(json["head"], head());
    world.fake.lock().verified = broken();
    let ran = world.run(&["audit", "head"]).await;
    assert_eq!((ran.status, ran.out.as_str()), (1, ""));
    assert!(
        ran.err
            .contains("revision 1.5: its digest\u{fffd} does not fit"),
        "{}",
        ran.err
    );
}

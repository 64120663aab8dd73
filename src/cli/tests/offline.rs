//! Verifying a file, without a server.

use super::*;
use crate::{
    admin::audit::line::write_json,
    domain::{
        chain::Chain,
        event::{Action, Entity, Event},
        id::Revision,
        time::Timestamp,
    },
    store::{EventRecord, event_digest},
};

/// The lines of an export, and its head.
fn export(count: u64) -> (Vec<Vec<u8>>, String) {
    let mut chain = Chain::new();
    let lines = (1..=count).map(|number| {
        let revision = Revision { epoch: 1, number };
        let event = Event {
            time: Timestamp::from_unix_nanos(number),
            actor: "local:0".into(),
            team: String::new(),
            action: Action::Update,
            method: "UpdateKey".into(),
            entity: Entity::Key,
            resource: format!("workspaces/default/keys/{KEY_ID}"),
            changes: Vec::new(),
            source_address: String::new(),
            request_id: String::new(),
        };
        let digest = event_digest(2, revision, &event);
        chain.link(revision, &digest).unwrap();
        let record = EventRecord {
            schema: 2,
            revision,
            digest,
            event,
        };
        let mut line = Vec::new();
        write_json(&mut line, &record, Some(chain.head()));
        line
    });
    let lines = lines.collect();
    (lines, chain.head().to_string())
}

#[tokio::test]
async fn a_whole_export_is_verified_without_a_server() {
    let mut world = World::without_server();
    let (lines, head) = export(3);
    let file = world.data_dir().join("export.jsonl");
    fs::write(&file, lines.concat()).unwrap();
    let file = file.to_str().unwrap();
    let ran = world.run(&["audit", "verify", "--file", file]).await;
    assert_eq!(ran.status, 0, "{}", ran.err);
    assert!(
        ran.out.starts_with("INTACT") && ran.out.contains("events  3") && ran.out.contains(&head),
        "{}",
        ran.out
    );
    assert!(ran.err.contains("without --anchor"), "{}", ran.err);
    world.err_terminal = true;
    let ran = world
        .run(&["audit", "verify", "--file", file, "--anchor", &head])
        .await;
    assert_eq!(ran.status, 0, "{}", ran.err);
    assert!(ran.err.ends_with("\rverified 100 %  \n"), "{:?}", ran.err);
    world.err_terminal = false;
    let ran = world
        .run(&["audit", "verify", "--file", file, "-o", "json"])
        .await;
    let verified: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(verified["head"], head);
}

#[tokio::test]
async fn what_is_wrong_with_a_file_is_named() {
    let world = World::without_server();
    let (lines, head) = export(4);
    let (_, earlier) = export(2);
    let forged = earlier.replacen(|c: char| c.is_ascii_lowercase(), "0", 1);
    let changed = String::from_utf8(lines[1].clone()).unwrap();
    let changed = changed.replace("local:0", "local:\u{202e}1").into_bytes();
    let file = world.data_dir().join("export.jsonl");
    for (content, anchor, says) in [
        (
            [&lines[0], &changed, &lines[2]].map(Vec::as_slice).concat(),
            None,
            &["line 2"][..],
        ),
        (
            [&lines[0], &lines[2]].map(Vec::as_slice).concat(),
            None,
            &["revision 1.2", "some events only"],
        ),
        (lines[1..].concat(), None, &["revision 1.1"]),
        (
            lines[..3].concat(),
            Some(head.as_str()),
            &["revision 1.4", "ends before the anchor"],
        ),
        (lines.concat(), Some(forged.as_str()), &["revision 1.2"]),
        (b"no json\n".to_vec(), None, &["line 1"]),
        (Vec::new(), None, &["revision 1.1"]),
    ] {
        fs::write(&file, content).unwrap();
        let anchor: Vec<&str> = anchor.map_or_else(Vec::new, |head| vec!["--anchor", head]);
        let verify = ["audit", "verify", "--file", file.to_str().unwrap()];
        let ran = world.run(&[&verify[..], &anchor].concat()).await;
        assert_eq!(ran.status, 1, "{says:?}: {}", ran.out);
        assert!(ran.out.starts_with("BROKEN"), "{}", ran.out);
        for part in says {
            assert!(ran.out.contains(part), "{part} is not in {}", ran.out);
        }
        assert!(!ran.out.contains('\u{202e}'), "{}", ran.out);
    }
    let ran = world
        .run(&["audit", "verify", "--file", "/no/such/file"])
        .await;
    assert_eq!(ran.status, 1);
    assert!(
        ran.err.contains("/no/such/file cannot be read"),
        "{}",
        ran.err
    );
}

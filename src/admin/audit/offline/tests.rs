use super::*;
use crate::{
    admin::audit::line::write_json,
    domain::{
        event::{Action, Entity, Event, FieldChange},
        time::Timestamp,
    },
    store::{EventRecord, event_digest},
};

fn record(number: u64, after: &str) -> EventRecord {
    let revision = Revision { epoch: 1, number };
    let event = Event {
        time: Timestamp::from_unix_nanos(number),
        actor: "local:0".into(),
        team: String::new(),
        action: Action::Update,
        method: "UpdateKey".into(),
        entity: Entity::Key,
        resource: "workspaces/default/keys/4fZ0123456789abcdefghi".into(),
        changes: vec![FieldChange {
            field: "display_name".into(),
            before: String::new(),
            after: after.into(),
        }],
        source_address: String::new(),
        request_id: String::new(),
    };
    EventRecord {
        schema: 2,
        revision,
        digest: event_digest(2, revision, &event),
        event,
    }
}

fn records(count: u64) -> Vec<EventRecord> {
    (1..=count).map(|number| record(number, "name")).collect()
}

/// The lines of an export of these events, with the chain that they make, and the head behind the last.
fn lines(records: &[EventRecord]) -> (Vec<Vec<u8>>, ChainHead) {
    let mut chain = Chain::new();
    let lines = records.iter().map(|record| {
        let mut line = Vec::new();
        chain
            .link(record.revision, &record.digest)
            .expect("the next one");
        write_json(&mut line, record, Some(chain.head()));
        line
    });
    (lines.collect(), chain.head())
}

fn verify(lines: &[Vec<u8>], anchor: Option<ChainHead>) -> FileVerdict {
    verify_file(&*lines.concat(), anchor).expect("memory can be read")
}

#[track_caller]
fn assert_broken(verdict: &FileVerdict, due_line: u64, due_events: u64) {
    match verdict {
        FileVerdict::Broken { line, events, .. } => {
            assert_eq!((*line, *events), (due_line, due_events), "{verdict:?}");
        }
        other => panic!("line {due_line} is broken, but: {other:?}"),
    }
}

#[test]
fn an_export_of_all_events_is_whole() {
    let (lines, head) = lines(&records(5));
    let due = FileVerdict::Whole { events: 5, head };
    assert_eq!(verify(&lines, None), due);
    for number in 0..=5 {
        let anchor = self::lines(&records(number)).1;
        assert_eq!(verify(&lines, Some(anchor)), due, "{number}");
    }
    let ahead = self::lines(&records(6)).1;
    assert_eq!(
        verify(&lines, Some(ahead)),
        FileVerdict::EndsBeforeAnchor { events: 5, head }
    );
}

#[test]
fn a_part_is_told_from_a_whole_whatever_is_missing() {
    let (lines, head) = lines(&records(5));
    for (without, missing) in [(0, 1), (1, 2), (3, 4)] {
        let mut part = lines.clone();
        part.remove(without);
        for anchor in [None, Some(head)] {
            assert_eq!(
                verify(&part, anchor),
                FileVerdict::Part {
                    events: 4,
                    missing: Revision {
                        epoch: 1,
                        number: missing
                    }
                },
                "without line {without}"
            );
        }
    }
    assert_eq!(
        verify(&[], None),
        FileVerdict::Part {
            events: 0,
            missing: FIRST
        }
    );
    // Without the last ones it is whole up to there, and only the anchor can tell.
    let (short, shorter) = (&lines[..3], self::lines(&records(3)).1);
    assert_eq!(
        verify(short, Some(head)),
        FileVerdict::EndsBeforeAnchor {
            events: 3,
            head: shorter
        }
    );
}

#[test]
fn the_first_broken_line_is_named() {
    let (good, _) = lines(&records(5));
    let text = |line: &[u8]| String::from_utf8(line.to_vec()).expect("text");

    let mut changed = good.clone();
    changed[2] = text(&good[2]).replace("local:0", "local:1").into_bytes();
    changed[3] = b"nonsense\n".to_vec();
    assert_broken(&verify(&changed, None), 3, 2);

    let mut swapped = good.clone();
    swapped.swap(1, 2);
    assert_broken(&verify(&swapped, None), 3, 2);

    let mut twice = good.clone();
    twice.insert(2, good[1].clone());
    assert_broken(&verify(&twice, None), 3, 2);

    let mut cut = good.clone();
    cut[4].pop();
    assert_broken(&verify(&cut, None), 5, 4);

    let mut bytes = good.clone();
    bytes[1] = b"\xff\n".to_vec();
    assert_broken(&verify(&bytes, None), 2, 1);

    // In a part each event is still looked at.
    let mut part = good.clone();
    part.remove(0);
    part[3] = text(&part[3]).replace("local:0", "local:1").into_bytes();
    assert_broken(&verify(&part, None), 4, 3);
    let mut part = good.clone();
    part.remove(0);
    part.swap(2, 3);
    assert_broken(&verify(&part, None), 4, 3);
}

#[test]
fn a_forged_event_with_its_own_digest_breaks_the_chain_and_a_forged_chain_misses_the_anchor() {
    let mut forged = records(5);
    let (good, head) = lines(&forged);
    forged[2] = record(3, "forged");
    let (rechained, _) = lines(&forged);

    let mut event = good.clone();
    event[2].clone_from(&rechained[2]);
    assert_broken(&verify(&event, None), 4, 3);
    let mut event = good;
    event[2].clear();
    write_json(&mut event[2], &forged[2], None);
    assert_broken(&verify(&event, None), 4, 3);

    assert!(
        matches!(
            verify(&rechained, None),
            FileVerdict::Whole { events: 5, .. }
        ),
        "whoever can write events can chain them"
    );
    assert_broken(&verify(&rechained, Some(head)), 5, 4);
    let earlier = lines(&records(3)).1;
    assert_broken(&verify(&rechained, Some(earlier)), 3, 2);
}

/// Who may not see all is told no chain; what they have can be whole all the same.
#[test]
fn a_file_without_the_chain_is_verified_by_its_digests() {
    let records = records(3);
    let head = lines(&records).1;
    let mut bare = Vec::new();
    for record in &records {
        write_json(&mut bare, record, None);
    }
    let verdict = verify_file(&*bare, Some(head)).expect("readable");
    assert_eq!(verdict, FileVerdict::Whole { events: 3, head });
}

#[test]
fn a_chain_of_another_revision_is_named() {
    let record = record(1, "name");
    let mut line = Vec::new();
    let chain = ChainHead {
        revision: Revision {
            epoch: 1,
            number: 2,
        },
        hash: [0; 32],
    };
    write_json(&mut line, &record, Some(chain));
    assert_broken(&verify(&[line], None), 1, 0);
}

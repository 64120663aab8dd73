//! Events are read in ten years as they were written, and one that was changed is known.

use proptest::prelude::*;

use super::{
    super::tests::{at, bytes, revision},
    *,
};

const EVENT: &str = include_str!("../fixtures/event.hex");
const EVENT_2: &str = include_str!("../fixtures/event_2.hex");

/// What `event.hex` says.
fn event() -> Event {
    let change = |field: &str, before: &str, after: &str| crate::domain::event::FieldChange {
        field: field.into(),
        before: before.into(),
        after: after.into(),
    };
    Event {
        time: at(1_700_000_001, 7),
        actor: "workspaces/system/keys/0000000000000000000001".into(),
        team: "platform".into(),
        action: Action::Update,
        method: "DisableKey".into(),
        entity: Entity::Key,
        resource: "workspaces/acme-2/keys/0000000000000000000002".into(),
        changes: vec![
            change("state", "ACTIVE", "DISABLED"),
            change("labels.team", "", "payments"),
        ],
        source_address: "192.0.2.7".into(),
        request_id: String::new(),
    }
}

/// What `event_2.hex` says: every field is set, and none to its default.
fn event_2() -> Event {
    Event {
        request_id: "call 17".into(),
        ..event()
    }
}

fn record(schema: u32, event: Event) -> EventRecord {
    EventRecord {
        schema,
        revision: revision(300),
        digest: event_digest(schema, revision(300), &event),
        event,
    }
}

#[test]
fn events_of_every_schema_are_read_and_those_of_the_latest_written_as_ever() {
    assert_eq!(encode_event(revision(300), &event_2()), bytes(EVENT_2));
    for (fixture, schema, event) in [(EVENT, 1, event()), (EVENT_2, 2, event_2())] {
        let due = FoundEvent::Event(Box::new(record(schema, event)));
        assert_eq!(decode_event(revision(300), &bytes(fixture)), due);
    }
}

/// The digest is over the bytes without its own: a tag, a length and 32 bytes, the last field in version 1 and the last but
/// one in version 2.
#[test]
fn the_digest_is_over_everything_but_itself() {
    for (fixture, schema, event, after) in [
        (EVENT, 1, event(), 0),
        (EVENT_2, 2, event_2(), 2 + "call 17".len()),
    ] {
        let fixture = bytes(fixture);
        let (before, rest) = fixture.split_at(fixture.len() - after - 34);
        let (digest, after) = rest.split_at(34);
        assert_eq!(digest[..2], [0x6a, 32]);
        let due = Sha256::digest([before, after].concat());
        assert_eq!(digest[2..], *due);
        assert_eq!(event_digest(schema, revision(300), &event), *due);
    }
}

/// Asserts that bytes in an event's place are known for damaged, for a reason that has `why` in it.
#[track_caller]
fn damaged(bytes: &[u8], why: &str) {
    match decode_event(revision(300), bytes) {
        FoundEvent::Damaged { at, why: said } => {
            assert_eq!(at, revision(300));
            assert!(said.contains(why), "{said:?}, where {why:?} was due");
        }
        FoundEvent::Event(event) => panic!("read as {event:?}, where {why:?} was due"),
    }
}

/// The event with something changed, and the digest made to fit by whoever did.
fn forged(change: impl FnOnce(&mut stored::Event)) -> Vec<u8> {
    let mut message = stored::Event::decode(&*bytes(EVENT_2)).unwrap();
    change(&mut message);
    message.digest = Vec::new();
    message.digest = Sha256::digest(message.encode_to_vec()).to_vec();
    message.encode_to_vec()
}

fn altered(change: impl FnOnce(&mut stored::Event)) -> Vec<u8> {
    let mut message = stored::Event::decode(&*bytes(EVENT_2)).unwrap();
    change(&mut message);
    message.encode_to_vec()
}

#[test]
fn what_is_not_the_event_of_its_place_is_damaged() {
    let good = bytes(EVENT_2);
    assert!(matches!(
        decode_event(revision(300), &forged(|_| ())),
        FoundEvent::Event(_)
    ));
    damaged(b"garbage", "not an event");
    damaged(&good[..good.len() - 1], "not an event");
    damaged(&[], "schema 0");
    damaged(&forged(|event| event.schema = 3), "schema 3");
    damaged(&forged(|event| event.number = 299), "the event of 1.299");
    damaged(&forged(|event| event.epoch = 2), "the event of 2.300");
    damaged(&forged(|event| event.time = None), "a time is missing");
    damaged(&forged(|event| event.action = "ERASE".into()), "kind");
    damaged(&forged(|event| event.entity = String::new()), "kind");
    damaged(&altered(|event| event.digest.clear()), "without a digest");
    damaged(&altered(|event| event.digest.push(0)), "without a digest");
    damaged(&altered(|event| event.digest[31] ^= 1), "its digest");
    damaged(&altered(|event| event.schema = 1), "its digest");
    damaged(&altered(|event| event.actor.push('x')), "its digest");
    damaged(&altered(|event| event.request_id.clear()), "its digest");
    damaged(&altered(|event| drop(event.changes.pop())), "its digest");
    let time = stored::Time {
        seconds: 0,
        nanos: 0,
    };
    damaged(&altered(|event| event.time = Some(time)), "its digest");
    // Field 1,000 as a text: nothing that is shown has changed, but no version wrote it.
    let more = [&good[..], &[0xc2, 0x3e, 3], b"new"].concat();
    damaged(&more, "not encoded");
    // A field twice: the last one counts.
    let twice = [&[0x08, 1][..], &good].concat();
    damaged(&twice, "not encoded");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Whatever is done to the bytes of an event, it is either known or undone.
    #[test]
    fn a_changed_byte_is_always_known(
        fixture in prop::sample::select(vec![EVENT, EVENT_2]),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let good = bytes(fixture);
        let mut bytes = good.clone();
        for (place, byte) in damage {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        let found = decode_event(revision(300), &bytes);
        prop_assert_eq!(matches!(found, FoundEvent::Event(_)), bytes == good);
    }
}

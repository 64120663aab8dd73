//! Changes are read as they were written, and one that is not understood is not passed over.

use super::{
    super::tests::{bytes, key_of_schema_2, revision},
    *,
};
use crate::domain::id::WorkspaceId;

const CHANGE_2: &str = include_str!("../fixtures/change_2.hex");
const KEY_2: &str = include_str!("../fixtures/key_2.hex");
const TOMBSTONE_2: &str = include_str!("../fixtures/tombstone_2.hex");
const WRITER: &str = "00112233445566778899aabbccddeeff";

fn commit() -> [u8; 16] {
    std::array::from_fn(|place| u8::try_from(place).unwrap())
}

fn ids() -> [RecordId; 3] {
    [
        RecordId::Key(key_of_schema_2().key.id),
        RecordId::Workspace(WorkspaceId::parse("acme").unwrap()),
        RecordId::Unknown((*b"?").into()),
    ]
}

#[test]
fn changes_of_schema_2_are_read_and_written_as_ever() {
    let [key, workspace, _] = ids();
    let records = [
        (key.clone(), Some(bytes(KEY_2))),
        (workspace.clone(), Some(bytes(TOMBSTONE_2))),
        (key.clone(), None),
    ];
    let encoded = encode_change(revision(299), revision(300), WRITER, commit(), &records);
    assert_eq!(encoded, bytes(CHANGE_2));
    let due = Logged {
        after: revision(299),
        revision: revision(300),
        writer: WRITER.to_owned(),
        commit: commit(),
        records: vec![
            (key.clone(), Stored::Key(Box::new(key_of_schema_2()))),
            (workspace, Stored::Retired(revision(300))),
            (key, Stored::Gone),
        ],
    };
    assert_eq!(decode_change(revision(300), &encoded), Ok(due));
}

fn altered(change: impl FnOnce(&mut stored::Change)) -> Vec<u8> {
    let mut message = stored::Change::decode(&*bytes(CHANGE_2)).unwrap();
    change(&mut message);
    message.encode_to_vec()
}

#[test]
fn a_change_that_cannot_be_read_is_an_error() {
    for (bytes, why) in [
        (b"garbage".to_vec(), "not a change"),
        (Vec::new(), "schema 0"),
        (altered(|change| change.schema = 1), "schema 1"),
        (altered(|change| change.schema = 3), "schema 3"),
        (altered(|change| change.epoch = 2), "the change of 2.300"),
        (altered(|change| change.number = 301), "the change of 1.301"),
        (altered(|change| change.after_number = 300), "after 1.300"),
        (altered(|change| change.after_epoch = 2), "after 2.299"),
        (altered(|change| change.writer.clear()), "writer"),
        (altered(|change| change.writer.insert(0, 'x')), "writer"),
        (
            altered(|change| change.writer.make_ascii_uppercase()),
            "writer",
        ),
        (altered(|change| change.commit.truncate(15)), "mark"),
    ] {
        let said = decode_change(revision(300), &bytes)
            .unwrap_err()
            .to_string();
        assert!(said.contains(why), "{said:?}, where {why:?} was due");
    }
}

/// Which record it is stands outside it, so whoever held it before is told that it is not to be believed any more.
#[test]
fn a_record_in_a_change_that_cannot_be_read_is_unreadable() {
    let [key, workspace, unknown] = ids();
    let records = [
        (key.clone(), Some(b"garbage".to_vec())),
        (workspace.clone(), Some(bytes(KEY_2))),
        (unknown.clone(), Some(bytes(KEY_2))),
    ];
    let encoded = encode_change(revision(299), revision(300), WRITER, commit(), &records);
    let logged = decode_change(revision(300), &encoded).unwrap();
    let found: Vec<_> = logged.records.iter().map(|(id, _)| id.clone()).collect();
    assert_eq!(found, [key.clone(), workspace, unknown]);
    for (id, stored) in &logged.records {
        assert!(
            matches!(stored, Stored::Unreadable(_)),
            "{id:?}: {stored:?}"
        );
    }
    // Of another revision than the change.
    let records = [(key, Some(bytes(KEY_2)))];
    for (after, at) in [
        (revision(300), revision(301)),
        (revision(298), revision(299)),
    ] {
        let encoded = encode_change(after, at, WRITER, commit(), &records);
        let logged = decode_change(at, &encoded).unwrap();
        assert!(matches!(logged.records[0].1, Stored::Unreadable(_)));
    }
}

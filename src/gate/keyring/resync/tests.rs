use super::*;
use crate::{
    domain::{
        id::{KeyId, TokenPrefix, WorkspaceId},
        key::KeyRecord,
        workspace::Workspace,
    },
    gate::{
        keyring::Found,
        testing::{at, issue, key},
    },
    store::{Change, WorkspaceRecord},
};

fn rev(number: u64) -> Revision {
    Revision { epoch: 1, number }
}

fn id(bits: u128) -> KeyId {
    KeyId::from_bits(bits)
}

fn record(bits: u128, number: u64) -> (RecordId, Stored) {
    let mut key = key();
    key.id = id(bits);
    let (_, sealed) = issue(&key);
    let record = KeyRecord {
        key,
        secrets: vec![sealed],
        revision: rev(number),
    };
    (RecordId::Key(id(bits)), Stored::Key(Box::new(record)))
}

fn workspace(name: &str, number: u64) -> (RecordId, Stored) {
    let name = WorkspaceId::parse(name).unwrap();
    let record = WorkspaceRecord {
        workspace: Workspace::new(name.clone(), TokenPrefix::default(), at(1)),
        revision: rev(number),
    };
    (RecordId::Workspace(name), Stored::Workspace(record))
}

/// A keyring with keys 1 and 2 and two workspaces, at revision 10.
fn keyring() -> KeyringWriter {
    let mut keyring = KeyringWriter::new();
    let records = vec![
        workspace("default", 1),
        workspace("acme", 2),
        record(1, 5),
        record(2, 10),
    ];
    keyring.apply(Change {
        after: rev(9),
        revision: rev(10),
        records,
    });
    keyring
}

#[track_caller]
fn holds(keyring: &KeyringWriter, bits: u128, number: Option<u64>) {
    let found = match keyring.reader().record(id(bits)) {
        Found::Record(record) => Some(record.revision.number),
        Found::Unreadable => Some(0),
        Found::Nothing => None,
    };
    assert_eq!(found, number, "key {bits}");
}

const UNREADABLE: Option<u64> = Some(0);

#[test]
fn a_later_snapshot_is_taken_over_whole() {
    let mut keyring = keyring();
    let mut resync = keyring.resync();
    for (id, stored) in [
        workspace("default", 1),
        record(1, 5),
        record(3, 12),
        record(3, 13),
    ] {
        resync.place(id, stored);
    }
    resync.complete(rev(13));
    holds(&keyring, 1, Some(5));
    holds(&keyring, 2, None);
    holds(&keyring, 3, Some(13));
    let reader = keyring.reader();
    assert_eq!(reader.applied(), rev(13));
    assert_eq!(reader.len(), 2);
    assert_eq!(reader.unreadable(), 0);
    let acme = WorkspaceId::parse("acme").unwrap();
    assert!(!keyring.directory().workspaces.contains_key(&acme));
    assert!(keyring.directory().taken.contains(&acme));
}

/// Row 115 of the bad inputs.
#[test]
fn an_older_state_is_never_put_back() {
    let mut keyring = keyring();
    let mut resync = keyring.resync();
    let (id, stored) = record(2, 9);
    resync.place(id, stored);
    holds(&keyring, 2, UNREADABLE);
    assert_eq!(keyring.reader().unreadable(), 1);
}

#[test]
fn what_was_deleted_is_never_revived() {
    let mut keyring = keyring();
    keyring.apply(Change {
        after: rev(10),
        revision: rev(11),
        records: vec![
            (RecordId::Key(id(2)), Stored::Gone),
            (workspace("acme", 2).0, Stored::Retired(rev(11))),
        ],
    });
    let mut resync = keyring.resync();
    for (id, stored) in [record(2, 10), workspace("acme", 2)] {
        resync.place(id, stored);
    }
    resync.complete(rev(11));
    holds(&keyring, 2, UNREADABLE);
    assert_eq!(keyring.reader().unreadable(), 2);
}

/// Until it is complete, nothing is announced and nothing is taken out, and a second try goes on from there.
#[test]
fn one_that_is_broken_off_moved_forward_only() {
    let mut keyring = keyring();
    let mut resync = keyring.resync();
    let (id, stored) = record(1, 12);
    resync.place(id, stored);
    drop(resync);
    holds(&keyring, 1, Some(12));
    holds(&keyring, 2, Some(10));
    assert_eq!(keyring.reader().applied(), rev(10));

    let mut resync = keyring.resync();
    let (id, stored) = record(1, 11);
    resync.place(id, stored);
    holds(&keyring, 1, UNREADABLE);
}

/// The log is read behind the records, from before the first of them: it leads to what was read already, and there is no
/// moment at which the key is denied.
#[test]
fn what_led_to_a_state_that_was_read_takes_nothing_back() {
    let mut keyring = keyring();
    let mut resync = keyring.resync();
    for number in [14, 12, 13, 14] {
        let (id, stored) = record(1, number);
        resync.place(id, stored);
        holds(resync.keyring, 1, Some(14));
    }
    let (id, stored) = record(1, 10);
    resync.place(id, stored);
    holds(&keyring, 1, UNREADABLE);
}

/// A record that could not be read, and now can, is believed again.
#[test]
fn what_was_unreadable_may_become_readable() {
    let mut keyring = keyring();
    let unreadable = || Stored::Unreadable("garbage".into());
    keyring.place(RecordId::Key(id(1)), unreadable());
    let mut resync = keyring.resync();
    let (id, stored) = record(1, 5);
    resync.place(id, stored);
    let (id, _) = record(2, 1);
    resync.place(id, unreadable());
    resync.complete(rev(12));
    holds(&keyring, 1, Some(5));
    holds(&keyring, 2, UNREADABLE);
}

/// A keyring whose first reading broke off begins anew.
#[test]
fn a_first_reading_can_begin_anew() {
    let mut keyring = KeyringWriter::new();
    for (id, stored) in [workspace("default", 1), record(1, 5)] {
        keyring.place(id, stored);
    }
    keyring.resync().take_out_unseen();
    for (id, stored) in [workspace("default", 1), record(2, 4)] {
        keyring.place(id, stored);
    }
    keyring.announce(rev(6));
    holds(&keyring, 1, None);
    holds(&keyring, 2, Some(4));
    assert_eq!(keyring.reader().len(), 1);
}

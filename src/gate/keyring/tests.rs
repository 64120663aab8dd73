use super::*;
use crate::gate::testing::{Gate, at, issue, key};
use crate::{
    domain::{id::TokenPrefix, time::Timestamp, workspace::Workspace},
    store::WorkspaceRecord,
};

fn slots(keyring: &Keyring, id: KeyId) -> Vec<Arc<Slot>> {
    keyring.with(id, |entry| match entry {
        Some(Entry::Key(cached)) => cached.slots.iter().map(|live| live.slot.clone()).collect(),
        _ => Vec::new(),
    })
}

#[tokio::test]
async fn a_slot_lives_as_long_as_its_secret_is_the_same() {
    let mut gate = Gate::new();
    let mut key = key();
    let (_, sealed) = issue(&key);
    let keyring = gate.keyring.reader();
    gate.put(key.clone(), vec![sealed.clone()]);
    let before = slots(&keyring, key.id);
    key.disabled = true;
    gate.put(key.clone(), vec![sealed.clone()]);
    assert!(Arc::ptr_eq(&before[0], &slots(&keyring, key.id)[0]));

    let (_, other) = issue(&key);
    gate.put(key.clone(), vec![other]);
    let reset = slots(&keyring, key.id);
    assert!(!Arc::ptr_eq(&before[0], &reset[0]));
    // Back to the old secret: its slot died with the record it came from.
    gate.put(key.clone(), vec![sealed.clone()]);
    assert!(!Arc::ptr_eq(&before[0], &slots(&keyring, key.id)[0]));
    gate.apply(RecordId::Key(key.id), Stored::Gone);
    gate.put(key.clone(), vec![sealed]);
    assert!(!Arc::ptr_eq(&before[0], &slots(&keyring, key.id)[0]));
}

#[tokio::test]
async fn a_list_is_in_the_order_of_creation_and_pages_lose_nothing() {
    let mut gate = Gate::new();
    let keyring = gate.keyring.reader();
    let mut ids = Vec::new();
    for age in [5, 3, 9, 3, 1, 7] {
        let mut key = key();
        key.create_time = at(age);
        ids.push((age, key.id));
        gate.put_new(key);
    }
    ids.sort_unstable();
    let workspace = WorkspaceId::default_workspace();
    let mut listed = Vec::new();
    let mut after = None;
    loop {
        let (page, next) = keyring.list_keys(&workspace, after, 2);
        listed.extend(page.iter().map(|record| record.key.id));
        // A key that goes while somebody lists takes no other with it.
        if listed.len() == 2 {
            gate.apply(RecordId::Key(ids[0].1), Stored::Gone);
        }
        after = next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(listed, ids.iter().map(|(_, id)| *id).collect::<Vec<_>>());
    assert!(
        keyring
            .list_keys(&WorkspaceId::system(), None, 10)
            .0
            .is_empty()
    );
}

#[tokio::test]
async fn unreadable_records_are_counted_while_they_stand_there() {
    let mut gate = Gate::new();
    let keyring = gate.keyring.reader();
    let (first, second) = (key(), key());
    let unreadable = || Stored::Unreadable("garbage".into());
    gate.put_new(first.clone());
    gate.apply(RecordId::Key(first.id), unreadable());
    gate.apply(RecordId::Key(first.id), unreadable());
    gate.apply(RecordId::Key(second.id), unreadable());
    gate.apply(RecordId::Workspace(WorkspaceId::system()), unreadable());
    assert_eq!((keyring.unreadable(), keyring.len()), (3, 2));
    assert!(matches!(keyring.record(first.id), Found::Unreadable));
    assert!(
        keyring
            .list_keys(&WorkspaceId::default_workspace(), None, 10)
            .0
            .is_empty()
    );
    gate.put_new(first.clone());
    gate.apply(RecordId::Key(second.id), Stored::Gone);
    assert_eq!((keyring.unreadable(), keyring.len()), (1, 1));
    assert!(matches!(keyring.record(first.id), Found::Record(_)));
}

#[tokio::test]
async fn a_retired_workspace_is_gone_and_no_key_is() {
    let mut gate = Gate::new();
    let keyring = gate.keyring.reader();
    let id = WorkspaceId::parse("acme").unwrap();
    let now = Timestamp::from_unix_nanos(0);
    let workspace = Workspace::new(id.clone(), TokenPrefix::default(), now);
    let revision = Revision {
        epoch: 1,
        number: 1,
    };
    let record = WorkspaceRecord {
        workspace,
        revision,
    };
    let record_id = RecordId::Workspace(id.clone());
    gate.apply(record_id.clone(), Stored::Workspace(record));
    assert!(keyring.workspace(&id).is_some());
    gate.apply(record_id, Stored::Retired(revision));
    assert!(keyring.workspace(&id).is_none());
    assert_eq!(keyring.unreadable(), 0);

    // Keys leave no tombstones, so one in a key's place cannot be believed.
    let key = key();
    gate.put_new(key.clone());
    gate.apply(RecordId::Key(key.id), Stored::Retired(revision));
    assert!(matches!(keyring.record(key.id), Found::Unreadable));
    assert_eq!(keyring.unreadable(), 1);
}

#[test]
fn a_revision_survives_packing() {
    let revision = Revision {
        epoch: 65_535,
        number: (1 << 48) - 1,
    };
    assert_eq!(unpack(pack(revision)), revision);
    assert_eq!(
        unpack(pack(Revision {
            epoch: 1,
            number: 2
        })),
        Revision {
            epoch: 1,
            number: 2
        }
    );
}

/// The record, then `applied`: a reader that sees a revision finds every record of it.
///
/// A change of many records takes nearly all of the writer's time to place, so a revision that is announced too early
/// is seen at once by a reader that looks for the record that is placed last.
#[test]
fn whoever_sees_a_revision_finds_its_records() {
    const CHANGES: u64 = 1_000;
    const RECORDS: usize = 64;
    let mut writer = KeyringWriter::new();
    let keyring = writer.reader();
    let mut keys: Vec<Key> = (0..RECORDS).map(|_| key()).collect();
    let last = keys[RECORDS - 1].id;
    let number_of = |number| Revision { epoch: 1, number };

    let reader = std::thread::spawn(move || {
        let announced = keyring.watch();
        let mut looks = 0u64;
        loop {
            let told = *announced.borrow();
            let applied = keyring.applied();
            assert!(told <= applied, "told of {told}, but {applied} is in force");
            let found = keyring.with(last, |entry| match entry {
                Some(Entry::Key(cached)) => cached.revision,
                _ => Revision::default(),
            });
            assert!(
                applied <= found,
                "{applied} is in force, but the record is of {found}"
            );
            looks += u64::from(applied.number > 0);
            if applied.number == CHANGES {
                return looks;
            }
            std::hint::spin_loop();
        }
    });
    for number in 1..=CHANGES {
        let revision = number_of(number);
        let records = keys
            .iter_mut()
            .map(|key| {
                key.disabled = !key.disabled;
                let record = KeyRecord {
                    key: key.clone(),
                    secrets: Vec::new(),
                    revision,
                };
                (RecordId::Key(key.id), Stored::Key(Box::new(record)))
            })
            .collect();
        writer.apply(Change { revision, records });
        if reader.is_finished() {
            break;
        }
    }
    assert!(reader.join().expect("no look finds an older state") > 0);
}

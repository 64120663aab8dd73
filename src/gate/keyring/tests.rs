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

/// The end of an overlap is no part of what was proved: callers of the old secret go on without argon2. What is proved of
/// one secret never counts for another, nor for the same one come back.
#[tokio::test]
async fn a_reset_keeps_the_old_secrets_slot_through_its_overlap_and_no_longer() {
    let mut gate = Gate::new();
    let key = key();
    let (_, first) = issue(&key);
    let (_, mut second) = issue(&key);
    second.id = 2;
    let until = |secret: &Secret, end| Secret {
        expire_time: Some(at(end)),
        ..secret.clone()
    };
    let keyring = gate.keyring.reader();
    gate.put(key.clone(), vec![first.clone()]);
    let before = slots(&keyring, key.id);

    gate.put(key.clone(), vec![until(&first, 50), second.clone()]);
    let overlapping = slots(&keyring, key.id);
    assert_eq!(overlapping.len(), 2);
    assert!(Arc::ptr_eq(&before[0], &overlapping[0]));
    assert!(!Arc::ptr_eq(&before[0], &overlapping[1]));
    // The end itself is that of the record, also when it is read back.
    gate.put(key.clone(), vec![until(&first, 20), second.clone()]);
    assert!(Arc::ptr_eq(&before[0], &slots(&keyring, key.id)[0]));
    let Found::Record(record) = keyring.record(key.id) else {
        panic!("the record is there")
    };
    assert_eq!(record.secrets, [until(&first, 20), second.clone()]);

    // A record with the same id of the secret, but another verifier, is another secret.
    let (_, mut forged) = issue(&key);
    forged.id = first.id;
    gate.put(key.clone(), vec![until(&forged, 20), second.clone()]);
    assert!(!Arc::ptr_eq(&before[0], &slots(&keyring, key.id)[0]));
    assert!(Arc::ptr_eq(&overlapping[1], &slots(&keyring, key.id)[1]));

    gate.put(key.clone(), vec![second.clone()]);
    assert!(Arc::ptr_eq(&overlapping[1], &slots(&keyring, key.id)[0]));
    // Back to the first one: what was remembered of it went with it.
    gate.put(key.clone(), vec![first, second]);
    let back = slots(&keyring, key.id);
    assert!(!Arc::ptr_eq(&before[0], &back[0]));
    assert!(Arc::ptr_eq(&overlapping[1], &back[1]));

    // Archiving takes the slots away; a record that brings the key back, from wherever, starts unproved.
    let secrets = vec![back[1].secret.clone()];
    gate.put(key.clone(), Vec::new());
    gate.put(key.clone(), secrets);
    assert!(!Arc::ptr_eq(&overlapping[1], &slots(&keyring, key.id)[0]));
}

#[tokio::test]
async fn archived_keys_stand_in_the_order_of_their_archiving() {
    let mut gate = Gate::new();
    let keyring = gate.keyring.reader();
    let workspace = WorkspaceId::default_workspace();
    let mut keys = [key(), key(), key()];
    for key in &keys {
        gate.put_new(key.clone());
    }
    assert_eq!(keyring.archived(&workspace), []);
    for (key, time) in keys.iter_mut().zip([30, 10, 20]) {
        key.archive_time = Some(at(time));
        gate.put(key.clone(), Vec::new());
    }
    let ids = |order: [usize; 3]| order.map(|place| keys[place].id);
    assert_eq!(keyring.archived(&workspace), ids([1, 2, 0]));
    assert!(keyring.has_keys(&workspace));
    // An edit of an archived key, were there one, is no second archiving.
    gate.put(keys[1].clone(), Vec::new());
    assert_eq!(keyring.archived(&workspace), ids([1, 2, 0]));
    gate.apply(RecordId::Key(keys[2].id), Stored::Gone);
    gate.apply(
        RecordId::Key(keys[0].id),
        Stored::Unreadable("garbage".into()),
    );
    assert_eq!(keyring.archived(&workspace), [keys[1].id]);
    gate.apply(RecordId::Key(keys[1].id), Stored::Gone);
    assert_eq!(keyring.archived(&workspace), []);
    assert!(!keyring.has_keys(&workspace));
}

/// All keys, archived ones too, oldest first.
fn plain() -> Search {
    Search {
        filter: KeyFilter::everything(at(1)),
        query: None,
        order: None,
        show_archived: true,
        owner: None,
    }
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
        let Page { keys: page, next } = keyring.search(&workspace, &plain(), after.as_ref(), 2);
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
            .search(&WorkspaceId::system(), &plain(), None, 10)
            .keys
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
            .search(&WorkspaceId::default_workspace(), &plain(), None, 10)
            .keys
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
        writer.apply(Change {
            after: Revision::default(),
            revision,
            records,
        });
        if reader.is_finished() {
            break;
        }
    }
    assert!(reader.join().expect("no look finds an older state") > 0);
}

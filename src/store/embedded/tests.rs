//! What is true of the embedded store alone. What holds for any is in `tests/store_contract.rs`.

use std::{
    io,
    sync::atomic::{AtomicU8, Ordering},
};

use redb::{TableDefinition, backends::InMemoryBackend};

use super::{tables::META_HEAD, *};
use crate::{
    domain::{
        event::{Action, Entity, Event},
        id::{KeyId, TokenPrefix, WorkspaceId},
        key::{Key, Labels},
        permission::PermissionSet,
        source::IpAllowlist,
        time::Timestamp,
    },
    store::{CommitError, Write},
};

fn key_id(number: u64) -> RecordId {
    RecordId::Key(KeyId::from_bits(number.into()))
}

fn write_key(number: u64) -> Write {
    let now = Timestamp::from_unix_nanos(1);
    let key = Key {
        id: KeyId::from_bits(number.into()),
        workspace: WorkspaceId::default_workspace(),
        display_name: "a key".into(),
        description: "".into(),
        owner: "".into(),
        token_prefix: TokenPrefix::default(),
        disabled: false,
        permissions: PermissionSet::any(),
        ip_allowlist: IpAllowlist::default(),
        labels: Labels::default(),
        create_time: now,
        update_time: now,
        expire_time: None,
    };
    Write::Key(Box::new(key), Vec::new())
}

fn batch(reads: Vec<(RecordId, Option<Revision>)>, writes: Vec<Write>) -> Batch {
    let event = Event {
        time: Timestamp::from_unix_nanos(1),
        actor: "local:0".into(),
        team: String::new(),
        action: Action::Update,
        method: "Test",
        entity: Entity::Key,
        resource: String::new(),
        changes: Vec::new(),
        source_address: String::new(),
    };
    Batch {
        reads,
        writes,
        event,
    }
}

fn revision(number: u64) -> Revision {
    Revision { epoch: 1, number }
}

/// A directory with a store that holds keys 1 to `keys`, one a revision.
async fn directory_of(keys: u64) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(directory.path()).unwrap();
    for number in 1..=keys {
        let batch = batch(vec![], vec![write_key(number)]);
        assert_eq!(store.commit(batch).await.unwrap(), revision(number));
    }
    directory
}

/// Changes the file behind the store's back.
fn edit(directory: &Path, change: impl FnOnce(&redb::WriteTransaction)) {
    let database = Database::open(directory.join(FILE_NAME)).unwrap();
    let transaction = database.begin_write().unwrap();
    change(&transaction);
    transaction.commit().unwrap();
}

async fn read(store: &EmbeddedStore) -> Result<Vec<(RecordId, Stored)>, StoreError> {
    let mut portions = store.load().await?.portions;
    let mut records = Vec::new();
    while let Some(portion) = portions.recv().await {
        records.extend(portion?);
    }
    Ok(records)
}

fn refusal(directory: &Path) -> StoreError {
    let opened = EmbeddedStore::open(directory);
    opened.err().expect("such a store is not opened")
}

#[tokio::test]
async fn a_directory_has_one_store_at_a_time() {
    let directory = directory_of(1).await;
    let first = EmbeddedStore::open(directory.path()).unwrap();
    let refusal = refusal(directory.path());
    assert!(matches!(refusal, StoreError::InUse(_)), "{refusal:?}");
    let said = refusal.to_string();
    let file = directory.path().join(FILE_NAME);
    assert!(said.contains(file.to_str().unwrap()), "{said}");
    assert!(said.contains("in use by another process"), "{said}");
    assert!(said.contains("--data-dir"), "it says what to do: {said}");

    // Dropping the store closes the file, whoever still holds what was read from it or followed.
    let snapshot = first.load().await.unwrap();
    let changes = first.follow(revision(1)).await.unwrap();
    drop(first);
    let second = EmbeddedStore::open(directory.path()).unwrap();
    assert_eq!(read(&second).await.unwrap().len(), 1);
    drop((snapshot, changes));
}

#[tokio::test]
async fn a_follower_hears_of_the_stores_end() {
    let directory = directory_of(1).await;
    let store = EmbeddedStore::open(directory.path()).unwrap();
    let mut changes = store.follow(revision(1)).await.unwrap();
    drop(store);
    assert!(changes.recv().await.is_none());
}

/// Changes are not kept, so there is one place to follow from.
#[tokio::test]
async fn a_follower_starts_at_the_head() {
    let directory = directory_of(2).await;
    let store = EmbeddedStore::open(directory.path()).unwrap();
    for from in [revision(1), revision(3), Revision::default()] {
        let refused = store.follow(from).await.unwrap_err();
        assert!(matches!(refused, StoreError::Gap(gap) if gap == from));
    }
    assert!(store.follow(revision(2)).await.is_ok());
}

#[tokio::test]
async fn a_store_of_a_later_version_is_not_opened() {
    let directory = directory_of(1).await;
    edit(directory.path(), |transaction| {
        let mut meta = transaction.open_table(META).unwrap();
        meta.insert("schema", (2, 0)).unwrap();
    });
    let refusal = refusal(directory.path());
    assert!(matches!(refusal, StoreError::Schema { found: 2, known: 1 }));
    let said = refusal.to_string();
    assert!(said.contains("run the version that wrote it"), "{said}");
}

#[tokio::test]
async fn a_store_that_was_wound_back_is_not_opened() {
    for head in [None, Some((1, 2)), Some((1, 4)), Some((2, 3))] {
        let directory = directory_of(3).await;
        edit(directory.path(), |transaction| {
            let mut meta = transaction.open_table(META).unwrap();
            match head {
                None => drop(meta.remove(META_HEAD).unwrap()),
                Some(head) => drop(meta.insert(META_HEAD, head).unwrap()),
            }
        });
        let refusal = refusal(directory.path()).to_string();
        assert!(refusal.contains("its last event is of 1.3"), "{refusal}");
    }
}

#[test]
fn a_file_that_is_no_store_is_not_opened() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join(FILE_NAME), [7; 10_000]).unwrap();
    let refused = refusal(directory.path());
    assert!(matches!(refused, StoreError::Failed(_)), "{refused:?}");

    // Another program's tables are not taken over either.
    let directory = tempfile::tempdir().unwrap();
    let database = Database::create(directory.path().join(FILE_NAME)).unwrap();
    let transaction = database.begin_write().unwrap();
    let foreign = TableDefinition::<u64, u64>::new("records");
    transaction.open_table(foreign).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let refused = refusal(directory.path());
    assert!(matches!(refused, StoreError::Failed(_)), "{refused:?}");
}

/// A first start that was cut off leaves nothing that the next one trips over.
#[tokio::test]
async fn a_half_made_store_is_made_anew() {
    for left in [&[][..], &[0; 5_000], b"redb"] {
        let directory = tempfile::tempdir().unwrap();
        let half_made = directory.path().join(HALF_MADE_NAME);
        std::fs::write(&half_made, left).unwrap();
        let store = EmbeddedStore::open(directory.path()).unwrap();
        let first = batch(vec![], vec![write_key(1)]);
        assert_eq!(store.commit(first).await.unwrap(), revision(1));
        drop(store);
        assert!(!half_made.exists());
        let store = EmbeddedStore::open(directory.path()).unwrap();
        assert_eq!(read(&store).await.unwrap().len(), 1);
    }
}

/// Rows that no version of ours wrote are shown, each for itself, and harm none of the others.
#[tokio::test]
async fn a_row_under_a_malformed_id_is_unreadable() {
    let directory = directory_of(2).await;
    let rows: [&[u8]; 6] = [b"", b"k", b"kshort", b"wNot an id", b"w\xff", b"?"];
    edit(directory.path(), |transaction| {
        let mut records = transaction.open_table(RECORDS).unwrap();
        let good = records.get(&*tables::encode_row(&key_id(1))).unwrap();
        let good = good.unwrap().value().to_vec();
        for row in rows {
            records.insert(row, &*good).unwrap();
        }
    });
    let store = EmbeddedStore::open(directory.path()).unwrap();
    let records = read(&store).await.unwrap();
    let unknown: Vec<&RecordId> = records
        .iter()
        .filter(|(_, stored)| matches!(stored, Stored::Unreadable(_)))
        .map(|(id, _)| id)
        .collect();
    assert_eq!(unknown.len(), rows.len());
    for row in rows {
        assert!(unknown.contains(&&RecordId::Unknown(row.into())), "{row:?}");
    }
    assert_eq!(records.len(), rows.len() + 2);
    let next = batch(vec![(key_id(1), Some(revision(1)))], vec![write_key(1)]);
    assert_eq!(store.commit(next).await.unwrap(), revision(3));
}

/// No change can have been decided on what nobody could read, so none is made, deletion included.
#[tokio::test]
async fn an_unreadable_record_conflicts_with_every_expectation() {
    let directory = directory_of(2).await;
    let ahead = {
        let record = crate::domain::key::KeyRecord {
            key: match write_key(1) {
                Write::Key(key, _) => *key,
                _ => unreachable!("it writes a key"),
            },
            secrets: Vec::new(),
            // The revision that the next change gets.
            revision: revision(3),
        };
        codec::encode_key(&record)
    };
    for bytes in [b"garbage", &*ahead] {
        edit(directory.path(), |transaction| {
            let mut records = transaction.open_table(RECORDS).unwrap();
            let row = tables::encode_row(&key_id(1));
            records.insert(&*row, bytes).unwrap();
        });
        let store = EmbeddedStore::open(directory.path()).unwrap();
        let records = read(&store).await.unwrap();
        let unreadable = |(id, stored): &(RecordId, Stored)| {
            *id == key_id(1) && matches!(stored, Stored::Unreadable(_))
        };
        assert_eq!(records.iter().filter(|row| unreadable(row)).count(), 1);
        for expected in [
            None,
            Some(revision(1)),
            Some(revision(2)),
            Some(revision(3)),
        ] {
            for write in [
                write_key(1),
                Write::DeleteKey(KeyId::from_bits(1)),
                write_key(2),
            ] {
                let batch = batch(vec![(key_id(1), expected)], vec![write]);
                let refused = store.commit(batch).await.unwrap_err();
                assert!(matches!(refused, CommitError::Conflict(id) if id == key_id(1)));
            }
        }
        assert_eq!(store.events().unwrap().len(), 2);
    }
}

/// Memory that fails or panics when it is read, once told to.
#[derive(Debug)]
struct Failing {
    memory: InMemoryBackend,
    mode: Arc<AtomicU8>,
}

const WORKS: u8 = 0;
const FAILS: u8 = 1;
const PANICS: u8 = 2;

impl StorageBackend for Failing {
    fn len(&self) -> io::Result<u64> {
        self.memory.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        match self.mode.load(Ordering::SeqCst) {
            FAILS => Err(io::Error::other("a bad sector")),
            PANICS => panic!("a bad sector"),
            _ => self.memory.read(offset, out),
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.memory.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.memory.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.memory.write(offset, data)
    }
}

/// A channel that ends says that all was read; a replica would serve without the rest.
#[tokio::test]
async fn records_that_cannot_be_had_are_never_just_left_out() {
    for mode in [FAILS, PANICS] {
        let directory = directory_of(0).await;
        let store = EmbeddedStore::open(directory.path()).unwrap();
        let writes = (1..=20_000).map(write_key).collect();
        store.commit(batch(vec![], writes)).await.unwrap();
        drop(store);

        let memory = InMemoryBackend::new();
        let bytes = std::fs::read(directory.path().join(FILE_NAME)).unwrap();
        memory.set_len(bytes.len() as u64).unwrap();
        memory.write(0, &bytes).unwrap();
        let switch = Arc::new(AtomicU8::new(WORKS));
        let failing = Failing {
            memory,
            mode: switch.clone(),
        };
        // Without a cache, since in a debug build opening reads every page.
        let mut builder = Database::builder();
        let database = builder.set_cache_size(0).create_with_backend(failing);
        let store = EmbeddedStore::start(database.unwrap()).unwrap();
        let mut portions = store.load().await.unwrap().portions;
        switch.store(mode, Ordering::SeqCst);
        let mut portion = portions.recv().await;
        // The first ones may have been read before the disk went bad.
        while let Some(Ok(_)) = portion {
            portion = portions.recv().await;
        }
        switch.store(WORKS, Ordering::SeqCst);
        let error = portion.expect("not complete").unwrap_err();
        assert!(matches!(error, StoreError::Failed(_)), "{error:?}");
    }
}

//! What is true of the embedded store alone. What holds for any is in `tests/store_contract.rs`.

use std::{
    io,
    sync::atomic::{AtomicU8, Ordering},
};

use redb::{
    ReadableTable as _, ReadableTableMetadata as _, TableDefinition, backends::InMemoryBackend,
};

use super::{
    tables::{DONE_TIMES, META_HEAD},
    *,
};
use crate::{
    domain::{
        event::{Action, Entity, Event},
        id::{KeyId, TokenPrefix, WorkspaceId},
        key::Key,
        name::KeyName,
        permission::PermissionSet,
        source::IpAllowlist,
        text::TextMap,
        time::Timestamp,
    },
    store::{
        CommitError, Mutation, RETENTION, RecordId, Stored, Write,
        codec::{self, rows::encode_row},
    },
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
        labels: TextMap::default(),
        settings: TextMap::default(),
        create_time: now,
        update_time: now,
        expire_time: None,
        archive_time: None,
    };
    Write::Key(Box::new(key), Vec::new())
}

fn batch(reads: Vec<(RecordId, Option<Revision>)>, writes: Vec<Write>) -> Batch {
    let event = Event {
        time: Timestamp::from_unix_nanos(1),
        actor: "local:0".into(),
        team: String::new(),
        action: Action::Update,
        method: "Test".into(),
        entity: Entity::Key,
        resource: String::new(),
        changes: Vec::new(),
        source_address: String::new(),
        request_id: String::new(),
    };
    Batch {
        reads,
        quiet: None,
        mutation: None,
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
    let mut portions = store.load().await?;
    let mut records = Vec::new();
    while let Some(portion) = portions.recv().await {
        match portion? {
            Portion::Records(some) => records.extend(some),
            Portion::Complete(_) => return Ok(records),
        }
    }
    panic!("not complete")
}

async fn events(
    store: &EmbeddedStore,
    direction: Direction,
) -> Result<Vec<FoundEvent>, StoreError> {
    let mut portions = store.events(None, direction).await?;
    let mut events = Vec::new();
    while let Some(portion) = portions.recv().await {
        events.extend(portion?);
    }
    Ok(events)
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
        meta.insert("schema", (3, 0)).unwrap();
    });
    let refusal = refusal(directory.path());
    assert!(matches!(refusal, StoreError::Schema { found: 3, known: 2 }));
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
        let good = records.get(&*encode_row(&key_id(1))).unwrap();
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
            let row = encode_row(&key_id(1));
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
                Write::DeleteKey(KeyName {
                    workspace: WorkspaceId::default_workspace(),
                    id: KeyId::from_bits(1),
                }),
                write_key(2),
            ] {
                let batch = batch(vec![(key_id(1), expected)], vec![write]);
                let refused = store.commit(batch).await.unwrap_err();
                assert!(matches!(refused, CommitError::Conflict(id) if id == key_id(1)));
            }
        }
        assert_eq!(read(&store).await.unwrap().len(), 2);
        assert_eq!(
            events(&store, Direction::OldestFirst).await.unwrap().len(),
            2
        );
    }
}

/// A store as version 1 left it: with records and an event of schema 1, and without the tables of mutations.
#[tokio::test]
async fn a_store_of_version_1_goes_on() {
    let bytes = |hex: &str| {
        let digits: Vec<u32> = hex.chars().filter_map(|digit| digit.to_digit(16)).collect();
        let bytes = digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]);
        bytes
            .map(|byte| u8::try_from(byte).unwrap())
            .collect::<Vec<u8>>()
    };
    let key = bytes(include_str!("../codec/fixtures/key.hex"));
    let workspace = bytes(include_str!("../codec/fixtures/workspace.hex"));
    let event = bytes(include_str!("../codec/fixtures/event.hex"));
    let key_id = RecordId::Key(KeyId::from_bits(0x0123_4567_89ab_cdef_fedc_ba98_7654_3210));
    let acme = RecordId::Workspace(WorkspaceId::parse("acme-2").unwrap());

    let directory = tempfile::tempdir().unwrap();
    let database = Database::create(directory.path().join(FILE_NAME)).unwrap();
    let transaction = database.begin_write().unwrap();
    {
        let mut meta = transaction.open_table(META).unwrap();
        meta.insert("schema", (1, 0)).unwrap();
        meta.insert(META_HEAD, (1, 300)).unwrap();
        let mut records = transaction.open_table(RECORDS).unwrap();
        records.insert(&*encode_row(&key_id), &*key).unwrap();
        records.insert(&*encode_row(&acme), &*workspace).unwrap();
        let mut events = transaction.open_table(EVENTS).unwrap();
        events.insert((1, 300), &*event).unwrap();
    }
    transaction.commit().unwrap();
    drop(database);

    let mutation = Mutation {
        id: MutationId([1; 32]),
        fingerprint: [2; 32],
    };
    for head in [301, 302] {
        let store = EmbeddedStore::open(directory.path()).unwrap();
        let records = read(&store).await.unwrap();
        let of = |id| {
            records
                .iter()
                .find(|(own, _)| own == id)
                .map(|(_, stored)| stored)
        };
        assert!(
            matches!(of(&key_id), Some(Stored::Key(record)) if record.revision == revision(300))
        );
        assert!(matches!(of(&acme), Some(Stored::Workspace(_))));
        let found = events(&store, Direction::OldestFirst).await.unwrap();
        let FoundEvent::Event(first) = &found[0] else {
            panic!("{found:?}");
        };
        assert_eq!((first.schema, first.revision), (1, revision(300)));

        let batch = Batch {
            mutation: (head == 301).then_some(mutation),
            ..batch(
                vec![(key_id.clone(), Some(revision(300)))],
                vec![write_key(1)],
            )
        };
        assert_eq!(store.commit(batch).await.unwrap(), revision(head));
        let now = Timestamp::from_unix_nanos(1);
        let done = store.done(mutation.id, now).await.unwrap();
        assert_eq!(done.unwrap().revision, revision(301));
    }
    edit(directory.path(), |transaction| {
        let meta = transaction.open_table(META).unwrap();
        let schema = meta.get("schema").unwrap().unwrap().value();
        assert_eq!(schema, (2, 0), "version 1 refuses it from now on");
    });
}

/// A batch that is mutation `id`, made this many seconds after 1970.
fn mutation(id: u8, seconds: u64) -> Batch {
    let mut batch = batch(vec![], vec![write_key(1)]);
    batch.event.time = Timestamp::from_unix_nanos(seconds * 1_000_000_000);
    batch.mutation = Some(Mutation {
        id: MutationId([id; 32]),
        fingerprint: [0; 32],
    });
    batch
}

/// Mutations that are kept: by their id, and by their time.
fn kept(store: &EmbeddedStore) -> (u64, u64) {
    let transaction = store.database.begin_read().unwrap();
    let known = transaction.open_table(DONE).unwrap().len().unwrap();
    let times = transaction.open_table(DONE_TIMES).unwrap().len().unwrap();
    (known, times)
}

#[tokio::test]
async fn expired_mutations_are_dropped_a_few_at_a_time() {
    let directory = directory_of(0).await;
    let store = EmbeddedStore::open(directory.path()).unwrap();
    for id in 0..20 {
        store.commit(mutation(id, 0)).await.unwrap();
    }
    assert_eq!(kept(&store), (20, 20));
    // Other changes cost nothing more, and one that has just expired may still be asked for by a batch on its way.
    let expired = RETENTION.as_secs() + 1;
    store.commit(mutation(100, expired)).await.unwrap();
    assert_eq!(kept(&store), (21, 21));
    let late = expired + 3_600;
    for (id, left) in [
        (101, 21 - 8 + 1),
        (102, 14 - 8 + 1),
        (103, 7 - 4 + 1),
        (104, 5),
    ] {
        store.commit(mutation(id, late)).await.unwrap();
        assert_eq!(kept(&store), (left, left), "after {id}");
    }
    // One that expired and is made again has the one row at its new time.
    store.commit(mutation(100, late * 2)).await.unwrap();
    let (known, times) = kept(&store);
    assert_eq!(known, times);
    assert!(
        store
            .done(MutationId([100; 32]), Timestamp::from_unix_nanos(0))
            .await
            .unwrap()
            .is_some()
    );
}

/// Whether it was made cannot be told, so it is neither made again nor answered; all others go on, in the same group, too.
#[tokio::test]
async fn a_mutation_that_cannot_be_read_is_refused_alone() {
    let directory = directory_of(0).await;
    let store = EmbeddedStore::open(directory.path()).unwrap();
    store.commit(mutation(1, 0)).await.unwrap();
    drop(store);
    edit(directory.path(), |transaction| {
        let mut known = transaction.open_table(DONE).unwrap();
        known.insert(&[1; 32], &b"garbage"[..]).unwrap();
    });
    let store = EmbeddedStore::open(directory.path()).unwrap();
    let (first, damaged, last) = tokio::join!(
        store.commit(mutation(2, 0)),
        store.commit(mutation(1, 0)),
        store.commit(mutation(3, 0)),
    );
    assert!(first.is_ok() && last.is_ok(), "{first:?} {last:?}");
    assert!(
        matches!(damaged, Err(CommitError::Failed(_))),
        "{damaged:?}"
    );
    let now = Timestamp::from_unix_nanos(0);
    store.done(MutationId([1; 32]), now).await.unwrap_err();
    assert!(
        store
            .done(MutationId([2; 32]), now)
            .await
            .unwrap()
            .is_some()
    );
    assert_eq!(store.head().await.unwrap(), revision(3));
}

/// What is on its way is bounded, however many and however large the events are.
#[tokio::test]
async fn a_portion_of_events_is_bounded_in_number_and_size() {
    let directory = directory_of(0).await;
    let store = EmbeddedStore::open(directory.path()).unwrap();
    let commit = async |resource: &str| {
        let mut batch = batch(vec![], vec![write_key(1)]);
        batch.event.resource = resource.to_owned();
        store.commit(batch).await.unwrap();
    };
    let large = "x".repeat(400_000);
    for _ in 0..7 {
        commit(&large).await;
    }
    futures_util::future::join_all((0..1_500).map(|_| commit(""))).await;
    let mut portions = store.events(None, Direction::OldestFirst).await.unwrap();
    let mut sizes = Vec::new();
    while let Some(portion) = portions.recv().await {
        sizes.push(portion.unwrap().len());
    }
    assert_eq!(sizes, [3, 3, 512, 512, 477]);
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

/// A store whose disk goes bad when the switch is thrown, with as many events as records.
async fn failing(switch: &Arc<AtomicU8>) -> EmbeddedStore {
    let directory = directory_of(0).await;
    let store = EmbeddedStore::open(directory.path()).unwrap();
    let writes = (1..=20_000).map(write_key).collect();
    store.commit(batch(vec![], writes)).await.unwrap();
    let events = (0..5_000).map(|_| store.commit(batch(vec![], vec![write_key(1)])));
    for committed in futures_util::future::join_all(events).await {
        committed.unwrap();
    }
    drop(store);

    let memory = InMemoryBackend::new();
    let bytes = std::fs::read(directory.path().join(FILE_NAME)).unwrap();
    memory.set_len(bytes.len() as u64).unwrap();
    memory.write(0, &bytes).unwrap();
    let failing = Failing {
        memory,
        mode: switch.clone(),
    };
    // Without a cache, since in a debug build opening reads every page.
    let mut builder = Database::builder();
    let database = builder.set_cache_size(0).create_with_backend(failing);
    EmbeddedStore::start(database.unwrap()).unwrap()
}

/// Reads until the end or an error.
async fn drain<T>(mut portions: mpsc::Receiver<Result<T, StoreError>>) -> Result<(), StoreError> {
    while let Some(portion) = portions.recv().await {
        portion?;
    }
    Ok(())
}

/// A channel that ends says that all was read; a replica would serve without the rest, and a log would seem whole.
#[tokio::test]
async fn what_cannot_be_had_is_never_just_left_out() {
    for mode in [FAILS, PANICS] {
        let switch = Arc::new(AtomicU8::new(WORKS));
        let store = failing(&switch).await;
        let records = store.load().await.unwrap();
        switch.store(mode, Ordering::SeqCst);
        // The first ones may have been read before the disk went bad.
        let error = drain(records).await.expect_err("not complete");
        assert!(matches!(error, StoreError::Failed(_)), "{error:?}");
        switch.store(WORKS, Ordering::SeqCst);

        for direction in [Direction::OldestFirst, Direction::NewestFirst] {
            let store = failing(&switch).await;
            let events = store.events(None, direction).await.unwrap();
            switch.store(mode, Ordering::SeqCst);
            let error = drain(events).await.expect_err("not complete");
            assert!(matches!(error, StoreError::Failed(_)), "{error:?}");
            switch.store(WORKS, Ordering::SeqCst);
        }
    }
}

/// A mutation that cannot be looked up must not pass for one that was not made.
#[tokio::test]
async fn a_mutation_that_cannot_be_looked_up_is_an_error() {
    for mode in [FAILS, PANICS] {
        let switch = Arc::new(AtomicU8::new(WORKS));
        let store = failing(&switch).await;
        store.commit(mutation(1, 0)).await.unwrap();
        switch.store(mode, Ordering::SeqCst);
        let id = MutationId([1; 32]);
        let refused = store.done(id, Timestamp::from_unix_nanos(0)).await;
        switch.store(WORKS, Ordering::SeqCst);
        assert!(matches!(refused, Err(StoreError::Failed(_))), "{refused:?}");
    }
}

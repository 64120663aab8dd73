//! The store of a single process: redb in the data directory.
//!
//! One thread owns all writing. It takes the batches that have queued up, checks and writes each as a revision of its
//! own, and makes them durable together with one fsync; then followers hear of them, then the callers.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use async_trait::async_trait;
use redb::{
    Database, DatabaseError, ReadOnlyTable, ReadableDatabase as _, ReadableTable as _,
    StorageBackend, Table, TableDefinition, WriteTransaction,
};
use tokio::sync::{mpsc, oneshot};

use super::{
    Batch, Change, CommitError, RecordId, Snapshot, Store, StoreError, Stored, Write, codec,
};
use crate::domain::{
    id::{KeyId, Revision, WorkspaceId},
    key::KeyRecord,
};
use crate::store::WorkspaceRecord;

/// The file in the data directory.
pub const FILE_NAME: &str = "store.redb";

/// Layout of the tables below.
const SCHEMA: u32 = 1;
/// The epoch of a store that has had one history only.
const FIRST_EPOCH: u32 = 1;

const META: TableDefinition<&str, (u32, u64)> = TableDefinition::new("meta");
/// `META`: (schema, 0).
const META_SCHEMA: &str = "schema";
/// `META`: (epoch, number) of the last revision.
const META_HEAD: &str = "head";
/// A kind byte and the id, to an encoded record.
const RECORDS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("records");
/// (epoch, number) to an encoded event.
const EVENTS: TableDefinition<(u32, u64), &[u8]> = TableDefinition::new("events");

/// The most batches that share an fsync.
const MAX_GROUP: usize = 256;
/// Batches that may wait for the writer; more wait in their callers.
const QUEUE: usize = 1_024;
/// Records a portion of a snapshot.
const PORTION: usize = 1_024;

/// A store in one file.
pub struct EmbeddedStore {
    database: Arc<Database>,
    queue: Option<mpsc::Sender<Request>>,
    shared: Arc<Mutex<Shared>>,
    writer: Option<thread::JoinHandle<()>>,
}

/// What the writer and `follow` agree on under one lock.
struct Shared {
    head: Revision,
    followers: Vec<mpsc::UnboundedSender<Change>>,
}

struct Request {
    batch: Batch,
    answer: oneshot::Sender<Result<Revision, CommitError>>,
}

impl EmbeddedStore {
    /// Opens the store in a directory, and makes it if there is none. The directory must be there.
    ///
    /// # Errors
    /// If another process has it open, a later version wrote it, or the file cannot be read or written.
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        let path = directory.join(FILE_NAME);
        let database = Database::create(&path).map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => StoreError::InUse(path.display().to_string()),
            error => failed(error),
        })?;
        Self::start(database)
    }

    /// Opens the store on a backend of the caller's, such as one that loses what was not synced.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_backend(backend: impl StorageBackend) -> Result<Self, StoreError> {
        Self::start(
            Database::builder()
                .create_with_backend(backend)
                .map_err(failed)?,
        )
    }

    fn start(database: Database) -> Result<Self, StoreError> {
        let database = Arc::new(database);
        let head = prepare(&database)?;
        let shared = Arc::new(Mutex::new(Shared {
            head,
            followers: Vec::new(),
        }));
        let (queue, requests) = mpsc::channel(QUEUE);
        let mut writer = Writer {
            database: database.clone(),
            shared: shared.clone(),
            head,
        };
        let writer = thread::Builder::new()
            .name("store".into())
            .spawn(move || writer.run(requests))
            .map_err(|error| StoreError::Failed(error.to_string()))?;
        Ok(Self {
            database,
            queue: Some(queue),
            shared,
            writer: Some(writer),
        })
    }

    /// The encoded audit events of all revisions, in order.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn events(&self) -> Result<Vec<(Revision, Vec<u8>)>, StoreError> {
        let table = self
            .database
            .begin_read()
            .map_err(failed)?
            .open_table(EVENTS)
            .map_err(failed)?;
        table
            .iter()
            .map_err(failed)?
            .map(|row| {
                let (key, event) = row.map_err(failed)?;
                let (epoch, number) = key.value();
                Ok((Revision { epoch, number }, event.value().to_vec()))
            })
            .collect()
    }
}

/// Waits for the writer, so that the file is closed when the store is gone.
impl Drop for EmbeddedStore {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(writer) = self.writer.take() {
            // A writer that panicked has said so already, and its callers got errors.
            let _ = writer.join();
        }
    }
}

#[async_trait]
impl Store for EmbeddedStore {
    async fn load(&self) -> Result<Snapshot, StoreError> {
        let transaction = self.database.begin_read().map_err(failed)?;
        let head = transaction
            .open_table(META)
            .map_err(failed)?
            .get(META_HEAD)
            .map_err(failed)?;
        let (epoch, number) = head.map_or((FIRST_EPOCH, 0), |head| head.value());
        let revision = Revision { epoch, number };
        let records = transaction.open_table(RECORDS).map_err(failed)?;

        let (sender, portions) = mpsc::channel(4);
        tokio::task::spawn_blocking(move || {
            if let Err(error) = read_portions(&records, revision, &sender) {
                // A reader that went away wants no error either.
                let _ = sender.blocking_send(Err(error));
            }
        });
        Ok(Snapshot { revision, portions })
    }

    async fn commit(&self, batch: Batch) -> Result<Revision, CommitError> {
        let stopped = || StoreError::Failed("its writer has stopped".to_owned());
        let (answer, answered) = oneshot::channel();
        let queue = self.queue.as_ref().ok_or_else(stopped)?;
        queue
            .send(Request { batch, answer })
            .await
            .map_err(|_| stopped())?;
        answered.await.map_err(|_| stopped())?
    }

    async fn follow(&self, from: Revision) -> Result<mpsc::UnboundedReceiver<Change>, StoreError> {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        // Changes are not kept, so a follower starts where the store stands or not at all.
        if shared.head != from {
            return Err(StoreError::Gap(from));
        }
        let (sender, changes) = mpsc::unbounded_channel();
        shared.followers.push(sender);
        Ok(changes)
    }

    fn durability(&self) -> &'static str {
        "fsync"
    }
}

/// Sends all records in portions, until the reader goes away.
fn read_portions(
    records: &ReadOnlyTable<&'static [u8], &'static [u8]>,
    head: Revision,
    sender: &mpsc::Sender<Result<Vec<(RecordId, Stored)>, StoreError>>,
) -> Result<(), StoreError> {
    let mut portion = Vec::with_capacity(PORTION);
    for row in records.iter().map_err(failed)? {
        let (key, bytes) = row.map_err(failed)?;
        portion.push(decode_row(key.value(), bytes.value(), head));
        if portion.len() == PORTION {
            let full = std::mem::replace(&mut portion, Vec::with_capacity(PORTION));
            if sender.blocking_send(Ok(full)).is_err() {
                return Ok(());
            }
        }
    }
    // The last portion may be empty, and its reader gone.
    let _ = sender.blocking_send(Ok(portion));
    Ok(())
}

/// Makes the tables of a new store, checks those of an old one, and answers where it stands.
fn prepare(database: &Database) -> Result<Revision, StoreError> {
    let transaction = database.begin_write().map_err(failed)?;
    let head = {
        let mut meta = transaction.open_table(META).map_err(failed)?;
        let found = meta
            .get(META_SCHEMA)
            .map_err(failed)?
            .map(|schema| schema.value().0);
        match found {
            None => drop(meta.insert(META_SCHEMA, (SCHEMA, 0)).map_err(failed)?),
            Some(SCHEMA) => {}
            Some(found) => {
                return Err(StoreError::Schema {
                    found,
                    known: SCHEMA,
                });
            }
        }
        transaction.open_table(RECORDS).map_err(failed)?;
        transaction.open_table(EVENTS).map_err(failed)?;
        meta.get(META_HEAD)
            .map_err(failed)?
            .map_or((FIRST_EPOCH, 0), |head| head.value())
    };
    transaction.commit().map_err(failed)?;
    Ok(Revision {
        epoch: head.0,
        number: head.1,
    })
}

struct Writer {
    database: Arc<Database>,
    shared: Arc<Mutex<Shared>>,
    head: Revision,
}

type Answer = oneshot::Sender<Result<Revision, CommitError>>;

impl Writer {
    fn run(&mut self, mut requests: mpsc::Receiver<Request>) {
        let mut group = Vec::with_capacity(MAX_GROUP);
        while requests.blocking_recv_many(&mut group, MAX_GROUP) > 0 {
            self.write_group(&mut group);
        }
    }

    fn write_group(&mut self, group: &mut Vec<Request>) {
        let mut answers: Vec<Answer> = Vec::with_capacity(group.len());
        let mut changes = Vec::with_capacity(group.len());
        match self.write_durably(group, &mut answers, &mut changes) {
            Ok(()) => {
                let revisions: Vec<Revision> =
                    changes.iter().map(|change| change.revision).collect();
                self.publish(changes);
                for (answer, revision) in answers.into_iter().zip(revisions) {
                    // A caller that went away reads the outcome later.
                    let _ = answer.send(Ok(revision));
                }
            }
            Err(error) => {
                tracing::error!(error = %error, batches = answers.len() + group.len(), "the store did not take changes");
                let waiting = answers
                    .into_iter()
                    .chain(group.drain(..).map(|request| request.answer));
                for answer in waiting {
                    let _ = answer.send(Err(CommitError::Failed(error.clone())));
                }
            }
        }
    }

    /// Writes the group in one transaction and syncs it. Batches that conflict are answered at once and leave nothing.
    fn write_durably(
        &self,
        group: &mut Vec<Request>,
        answers: &mut Vec<Answer>,
        changes: &mut Vec<Change>,
    ) -> Result<(), StoreError> {
        let transaction = self.database.begin_write().map_err(failed)?;
        let mut head = self.head;
        for Request { batch, answer } in group.drain(..) {
            match write_batch(&transaction, batch, head.next()) {
                Ok(change) => {
                    head = change.revision;
                    answers.push(answer);
                    changes.push(change);
                }
                Err(CommitError::Conflict(id)) => drop(answer.send(Err(CommitError::Conflict(id)))),
                Err(CommitError::Failed(error)) => {
                    answers.push(answer);
                    return Err(error);
                }
            }
        }
        if changes.is_empty() {
            return transaction.abort().map_err(failed);
        }
        let mut meta = transaction.open_table(META).map_err(failed)?;
        meta.insert(META_HEAD, (head.epoch, head.number))
            .map_err(failed)?;
        drop(meta);
        // The default durability is `Immediate`: commit returns after fsync.
        transaction.commit().map_err(failed)
    }

    fn publish(&mut self, changes: Vec<Change>) {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        for change in changes {
            self.head = change.revision;
            shared.head = change.revision;
            shared
                .followers
                .retain(|follower| follower.send(change.clone()).is_ok());
        }
    }
}

/// Checks a batch's read set, then writes its records and its event.
fn write_batch(
    transaction: &WriteTransaction,
    batch: Batch,
    revision: Revision,
) -> Result<Change, CommitError> {
    let Batch {
        reads,
        writes,
        event,
    } = batch;
    let mut records = transaction.open_table(RECORDS).map_err(failed)?;
    for (id, expected) in reads {
        if current_revision(&records, &id, revision)? != expected {
            return Err(CommitError::Conflict(id));
        }
    }

    let mut changed = Vec::with_capacity(writes.len());
    for write in writes {
        let (id, stored, bytes) = match write {
            Write::Key(key, secrets) => {
                let record = KeyRecord {
                    key: *key,
                    secrets,
                    revision,
                };
                let bytes = codec::encode_key(&record);
                (
                    RecordId::Key(record.key.id),
                    Stored::Key(Box::new(record)),
                    Some(bytes),
                )
            }
            Write::Workspace(workspace) => {
                let record = WorkspaceRecord {
                    workspace,
                    revision,
                };
                let bytes = codec::encode_workspace(&record);
                (
                    RecordId::Workspace(record.workspace.id.clone()),
                    Stored::Workspace(record),
                    Some(bytes),
                )
            }
            Write::DeleteKey(id) => (RecordId::Key(id), Stored::Gone, None),
        };
        let row = encode_row_id(&id);
        match bytes {
            Some(bytes) => drop(records.insert(&*row, &*bytes).map_err(failed)?),
            None => drop(records.remove(&*row).map_err(failed)?),
        }
        changed.push((id, stored));
    }

    let mut events = transaction.open_table(EVENTS).map_err(failed)?;
    let bytes = codec::encode_event(revision, &event);
    events
        .insert((revision.epoch, revision.number), &*bytes)
        .map_err(failed)?;
    Ok(Change {
        revision,
        records: changed,
    })
}

/// The revision of a record, or `None` if there is none.
fn current_revision(
    records: &Table<'_, &'static [u8], &'static [u8]>,
    id: &RecordId,
    head: Revision,
) -> Result<Option<Revision>, CommitError> {
    let Some(bytes) = records.get(&*encode_row_id(id)).map_err(failed)? else {
        return Ok(None);
    };
    match codec::decode(id, bytes.value(), head) {
        Stored::Key(record) => Ok(Some(record.revision)),
        Stored::Workspace(record) => Ok(Some(record.revision)),
        // Nobody can have read it, so no change can have been decided on it.
        Stored::Unreadable(_) | Stored::Gone => Err(CommitError::Conflict(id.clone())),
    }
}

const KIND_KEY: u8 = b'k';
const KIND_WORKSPACE: u8 = b'w';

fn encode_row_id(id: &RecordId) -> Vec<u8> {
    match id {
        RecordId::Key(id) => [&[KIND_KEY], &id.bits().to_be_bytes()[..]].concat(),
        RecordId::Workspace(id) => [&[KIND_WORKSPACE], id.as_str().as_bytes()].concat(),
    }
}

fn decode_row_id(row: &[u8]) -> Option<RecordId> {
    match row.split_first()? {
        (&KIND_KEY, bits) => Some(RecordId::Key(KeyId::from_bits(u128::from_be_bytes(
            bits.try_into().ok()?,
        )))),
        (&KIND_WORKSPACE, id) => Some(RecordId::Workspace(
            WorkspaceId::parse(std::str::from_utf8(id).ok()?).ok()?,
        )),
        _ => None,
    }
}

/// A row whose id makes no sense belongs to no key that Check could be asked for; it is counted as the nameless key's.
fn decode_row(row: &[u8], bytes: &[u8], head: Revision) -> (RecordId, Stored) {
    match decode_row_id(row) {
        Some(id) => {
            let stored = codec::decode(&id, bytes, head);
            (id, stored)
        }
        None => (
            RecordId::Key(KeyId::from_bits(0)),
            Stored::Unreadable("under a malformed id".to_owned()),
        ),
    }
}

fn failed(error: impl Into<redb::Error>) -> StoreError {
    StoreError::Failed(error.into().to_string())
}

#[cfg(test)]
mod tests;

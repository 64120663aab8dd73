//! The one thread that writes.

use std::{
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use redb::{Database, ReadableTable as _, Table, WriteTransaction};
use tokio::sync::{mpsc, oneshot};

use super::tables::{EVENTS, META, META_HEAD, RECORDS, encode_row, failed};
use crate::{
    domain::{id::Revision, key::KeyRecord},
    store::{
        Batch, Change, CommitError, RecordId, StoreError, Stored, WorkspaceRecord, Write, codec,
    },
};

/// The most batches that share an fsync.
const MAX_GROUP: usize = 256;
/// Batches that may wait for the writer; more wait in their callers.
const QUEUE: usize = 1_024;

/// A batch on its way to the writer.
pub(super) struct Request {
    pub(super) batch: Batch,
    pub(super) answer: Answer,
}

type Answer = oneshot::Sender<Result<Revision, CommitError>>;

/// What the writer and `follow` agree on under one lock.
pub(super) struct Shared {
    pub(super) head: Revision,
    pub(super) followers: Vec<mpsc::UnboundedSender<Change>>,
}

/// Starts the writer. It ends when the queue is closed and written.
pub(super) fn start(
    database: Arc<Database>,
    shared: Arc<Mutex<Shared>>,
    head: Revision,
) -> Result<(mpsc::Sender<Request>, thread::JoinHandle<()>), StoreError> {
    let (queue, requests) = mpsc::channel(QUEUE);
    let mut writer = Writer {
        database,
        shared,
        head,
    };
    let thread = thread::Builder::new()
        .name("store".into())
        .spawn(move || writer.run(requests))
        .map_err(|error| StoreError::Failed(error.to_string()))?;
    Ok((queue, thread))
}

struct Writer {
    database: Arc<Database>,
    shared: Arc<Mutex<Shared>>,
    head: Revision,
}

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
            match write_batch(&transaction, batch, head) {
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

/// Checks a batch's read set, then writes its records and its event as the revision after `head`.
fn write_batch(
    transaction: &WriteTransaction,
    batch: Batch,
    head: Revision,
) -> Result<Change, CommitError> {
    let Batch {
        reads,
        writes,
        event,
    } = batch;
    let mut records = transaction.open_table(RECORDS).map_err(failed)?;
    for (id, expected) in reads {
        if current_revision(&records, &id, head)? != expected {
            return Err(CommitError::Conflict(id));
        }
    }

    let revision = head.next();
    let mut changed = Vec::with_capacity(writes.len());
    for write in writes {
        let (id, stored, bytes) = encode(write, revision);
        let row = encode_row(&id);
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

/// A written record as followers get it, and as it is stored; `None`: not any more.
fn encode(write: Write, revision: Revision) -> (RecordId, Stored, Option<Vec<u8>>) {
    match write {
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
    }
}

/// The revision of a record, or `None` if there is none.
fn current_revision(
    records: &Table<'_, &'static [u8], &'static [u8]>,
    id: &RecordId,
    head: Revision,
) -> Result<Option<Revision>, CommitError> {
    let Some(bytes) = records.get(&*encode_row(id)).map_err(failed)? else {
        return Ok(None);
    };
    match codec::decode(id, bytes.value(), head) {
        Stored::Key(record) => Ok(Some(record.revision)),
        Stored::Workspace(record) => Ok(Some(record.revision)),
        // Nobody can have read it, so no change can have been decided on it.
        Stored::Unreadable(_) | Stored::Gone => Err(CommitError::Conflict(id.clone())),
    }
}

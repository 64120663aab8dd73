//! The one thread that writes.

use std::{
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use redb::{Database, ReadableTable as _, Table, WriteTransaction};
use tokio::sync::{mpsc, oneshot};

use super::{
    done::{self, Outcome},
    quiet::{KeyWrites, Staged},
    tables::{DONE, EVENTS, META, META_HEAD, RECORDS, failed},
};
use crate::{
    domain::id::Revision,
    store::{
        Batch, Change, CommitError, RecordId, StoreError, Stored,
        codec::{
            self,
            rows::encode_row,
            writes::{encode_write, key_workspace, written_workspace},
        },
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
        key_writes: KeyWrites::new(head),
        broken: None,
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
    key_writes: KeyWrites,
    /// Why nothing is written any more. After a commit that failed nobody knows what is on disk: a later one could write
    /// other changes under revisions that are there already. Opening the store again reads what is.
    broken: Option<StoreError>,
}

/// A batch that is written, and waits for the commit.
struct Written {
    effect: Effect,
    answer: Answer,
}

/// What a batch comes to once it is committed.
enum Effect {
    /// Records changed.
    Change(Change),
    /// Only its mutation is known from now on, as one that found the record of this revision to be as it wants it.
    Remembered(Revision),
}

impl Writer {
    fn run(&mut self, mut requests: mpsc::Receiver<Request>) {
        let _end = EndFollowing(self.shared.clone());
        let mut group = Vec::with_capacity(MAX_GROUP);
        while requests.blocking_recv_many(&mut group, MAX_GROUP) > 0 {
            self.write_group(&mut group);
        }
    }

    fn write_group(&mut self, group: &mut Vec<Request>) {
        let mut written = Vec::with_capacity(group.len());
        let outcome = match &self.broken {
            Some(error) => Err(error.clone()),
            None => self.write_durably(group, &mut written),
        };
        match outcome {
            Ok(()) => self.publish(written),
            Err(error) => {
                tracing::error!(error = %error, batches = written.len() + group.len(), "the store did not take changes");
                let written = written.into_iter().map(|written| written.answer);
                let waiting = group.drain(..).map(|request| request.answer);
                for answer in written.chain(waiting) {
                    let _ = answer.send(Err(CommitError::Failed(error.clone())));
                }
            }
        }
    }

    /// Writes the group in one transaction and syncs it. Batches that are refused are answered at once and leave nothing.
    fn write_durably(
        &mut self,
        group: &mut Vec<Request>,
        written: &mut Vec<Written>,
    ) -> Result<(), StoreError> {
        let transaction = self.database.begin_write().map_err(failed)?;
        let mut head = self.head;
        let mut staged = Staged::default();
        // From the back, so that a failure leaves the batches that were not reached in the group.
        group.reverse();
        while let Some(Request { batch, answer }) = group.pop() {
            match write_batch(&transaction, batch, head, &self.key_writes, &mut staged) {
                Ok(effect) => {
                    if let Effect::Change(change) = &effect {
                        head = change.revision;
                    }
                    written.push(Written { effect, answer });
                }
                Err(Refusal::Batch(refused)) => drop(answer.send(Err(refused))),
                Err(Refusal::Group(error)) => {
                    drop(answer.send(Err(CommitError::Failed(error.clone()))));
                    return Err(error);
                }
            }
        }
        if written.is_empty() {
            return transaction.abort().map_err(failed);
        }
        let mut meta = transaction.open_table(META).map_err(failed)?;
        meta.insert(META_HEAD, (head.epoch, head.number))
            .map_err(failed)?;
        drop(meta);
        // The default durability is `Immediate`: commit returns after fsync.
        transaction.commit().map_err(|error| {
            let error = failed(error);
            self.broken = Some(error.clone());
            error
        })?;
        self.key_writes.merge(staged);
        Ok(())
    }

    /// Tells followers, then the callers.
    fn publish(&mut self, written: Vec<Written>) {
        let mut answers = Vec::with_capacity(written.len());
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        for Written { effect, answer } in written {
            let revision = match effect {
                Effect::Change(change) => {
                    self.head = change.revision;
                    shared.head = change.revision;
                    shared
                        .followers
                        .retain(|follower| follower.send(change.clone()).is_ok());
                    change.revision
                }
                Effect::Remembered(revision) => revision,
            };
            answers.push((answer, revision));
        }
        drop(shared);
        for (answer, revision) in answers {
            // A caller that went away reads the outcome later.
            let _ = answer.send(Ok(revision));
        }
    }
}

/// Closes the followers' channels when the writer ends, by a panic too: what it committed last may not have been told,
/// and a follower that waits for ever would go on allowing on old records.
struct EndFollowing(Arc<Mutex<Shared>>);

impl Drop for EndFollowing {
    fn drop(&mut self) {
        let mut shared = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        shared.followers.clear();
    }
}

/// Why a batch was not written.
enum Refusal {
    /// This batch is refused and left nothing, and the others go on.
    Batch(CommitError),
    /// The transaction cannot be trusted any more.
    Group(StoreError),
}

impl Refusal {
    fn conflict(id: RecordId) -> Self {
        Self::Batch(CommitError::Conflict(id))
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        Self::Group(error)
    }
}

/// Checks a batch, then writes its records, its event and its mutation's name as the revision after `head`.
fn write_batch(
    transaction: &WriteTransaction,
    batch: Batch,
    head: Revision,
    key_writes: &KeyWrites,
    staged: &mut Staged,
) -> Result<Effect, Refusal> {
    let mut records = transaction.open_table(RECORDS).map_err(failed)?;
    check(transaction, &records, &batch, head, key_writes, staged)?;
    if batch.writes.is_empty() {
        return remember(transaction, &records, batch, head);
    }
    let Batch {
        reads: _,
        quiet: _,
        mutation,
        writes,
        event,
    } = batch;

    let revision = head.next();
    let mut changed = Vec::with_capacity(writes.len());
    let mut first = None;
    for write in writes {
        if let Some(workspace) = key_workspace(&write) {
            staged.note(workspace, revision);
        }
        let (id, stored, bytes) = encode_write(write, revision);
        let row = encode_row(&id);
        match &bytes {
            Some(bytes) => drop(records.insert(&*row, &**bytes).map_err(failed)?),
            None => drop(records.remove(&*row).map_err(failed)?),
        }
        if changed.is_empty() && mutation.is_some() {
            first = bytes;
        }
        changed.push((id, stored));
    }

    if let Some(mutation) = mutation {
        let outcome = Outcome {
            revision,
            head: revision,
            time: event.time,
            record: first,
        };
        done::write(transaction, mutation, outcome)?;
    }
    let mut events = transaction.open_table(EVENTS).map_err(failed)?;
    let bytes = codec::events::encode_event(revision, &event);
    events
        .insert((revision.epoch, revision.number), &*bytes)
        .map_err(failed)?;
    Ok(Effect::Change(Change {
        after: head,
        revision,
        records: changed,
    }))
}

/// Makes the mutation of a batch that writes nothing known, with the first record that it read.
fn remember(
    transaction: &WriteTransaction,
    records: &Records<'_>,
    batch: Batch,
    head: Revision,
) -> Result<Effect, Refusal> {
    let Some((id, Some(revision))) = batch.reads.into_iter().next() else {
        let why = "a batch that writes nothing must have read something".to_owned();
        return Err(Refusal::Batch(CommitError::Failed(StoreError::Failed(why))));
    };
    let record = records.get(&*encode_row(&id)).map_err(failed)?;
    let record = record.map(|bytes| bytes.value().to_vec());
    if let Some(mutation) = batch.mutation {
        let outcome = Outcome {
            revision,
            head,
            time: batch.event.time,
            record,
        };
        done::write(transaction, mutation, outcome)?;
    }
    Ok(Effect::Remembered(revision))
}

/// Refuses a batch that must not be written. Nothing has been by then.
fn check(
    transaction: &WriteTransaction,
    records: &Records<'_>,
    batch: &Batch,
    head: Revision,
    key_writes: &KeyWrites,
    staged: &Staged,
) -> Result<(), Refusal> {
    // Before the read set, which a mutation that was made has itself changed.
    if let Some(mutation) = &batch.mutation {
        let known = transaction.open_table(DONE).map_err(failed)?;
        match done::find(&known, mutation.id, batch.event.time, head) {
            Ok(None) => {}
            Ok(Some(done)) => return Err(Refusal::Batch(CommitError::Repeated(Box::new(done)))),
            // Whether it was made is just what nobody can tell.
            Err(error) => return Err(Refusal::Batch(CommitError::Failed(error))),
        }
    }
    for (id, expected) in &batch.reads {
        if current_revision(records, id, head)? != *expected {
            return Err(Refusal::conflict(id.clone()));
        }
    }
    if let Some((workspace, since)) = &batch.quiet
        && key_writes.last(workspace, staged) > *since
    {
        return Err(Refusal::conflict(RecordId::Workspace(workspace.clone())));
    }
    for write in &batch.writes {
        let Some(workspace) = written_workspace(write) else {
            continue;
        };
        let id = RecordId::Workspace(workspace.clone());
        if let Stored::Retired(_) = current(records, &id, head)? {
            return Err(Refusal::conflict(id));
        }
    }
    Ok(())
}

type Records<'a> = Table<'a, &'static [u8], &'static [u8]>;

/// What stands under an id.
fn current(records: &Records<'_>, id: &RecordId, head: Revision) -> Result<Stored, StoreError> {
    let found = records.get(&*encode_row(id)).map_err(failed)?;
    Ok(found.map_or(Stored::Gone, |bytes| codec::decode(id, bytes.value(), head)))
}

/// The revision of a record, or `None` if there is none.
fn current_revision(
    records: &Records<'_>,
    id: &RecordId,
    head: Revision,
) -> Result<Option<Revision>, Refusal> {
    match current(records, id, head)? {
        Stored::Gone => Ok(None),
        Stored::Key(record) => Ok(Some(record.revision)),
        Stored::Workspace(record) => Ok(Some(record.revision)),
        Stored::Retired(revision) => Ok(Some(revision)),
        // Nobody can have read it, so no change can have been decided on it.
        Stored::Unreadable(_) => Err(Refusal::conflict(id.clone())),
    }
}

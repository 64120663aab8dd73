//! Where records last: a small trait in domain types.
//!
//! There is one way to change a record: [`Store::commit`].

mod codec;
pub mod embedded;
pub mod redis;
pub mod shared;

use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::mpsc;

pub use self::codec::events::{event_digest, knows_event_schema};
use crate::domain::{
    event::Event,
    id::{KeyId, Revision, WorkspaceId},
    key::{Key, KeyRecord},
    name::KeyName,
    secret::Secret,
    time::Timestamp,
    workspace::Workspace,
};

/// How long a committed mutation's id is known, by the events' times. At just this age it still is; a clock that was set
/// back makes it known for longer, never for less.
pub const RETENTION: Duration = Duration::from_hours(24);

/// Seconds and nanoseconds of the oldest mutation that is still known.
fn known_since(now: Timestamp) -> (i64, u32) {
    (
        now.seconds() - RETENTION.as_secs().cast_signed(),
        now.nanos(),
    )
}

/// Holds records and events, and orders changes.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Reads every record as of one revision, in portions. A record may come more than once; the last one counts. Those that
    /// came are all there are only if the last portion is [`Portion::Complete`].
    ///
    /// # Errors
    /// If the store cannot be read at all. A record that cannot be read is [`Stored::Unreadable`].
    async fn load(&self) -> Result<mpsc::Receiver<Result<Portion, StoreError>>, StoreError>;

    /// The last revision; its number is 0 in a store that was never written to.
    ///
    /// # Errors
    /// If the store cannot be read.
    async fn head(&self) -> Result<Revision, StoreError>;

    /// Writes a batch as one revision, with its event, all or nothing. `Ok` means durable.
    ///
    /// In this order: a mutation that was made before is answered as it was; the read set must hold; the workspace must have
    /// been quiet; no workspace is written over a retired one.
    ///
    /// # Errors
    /// [`CommitError::Repeated`], [`CommitError::Conflict`] and [`CommitError::NotWritten`]: nothing was written.
    /// [`CommitError::Failed`]: unknown whether it was.
    async fn commit(&self, batch: Batch) -> Result<Revision, CommitError>;

    /// Yields every change after `from`, in order and without gaps. A channel that closes means that changes may be
    /// missed from then on.
    ///
    /// # Errors
    /// If the changes since `from` are not to be had any more.
    async fn follow(&self, from: Revision) -> Result<mpsc::UnboundedReceiver<Change>, StoreError>;

    /// What a mutation did, if it was committed within [`RETENTION`] before `now`.
    ///
    /// # Errors
    /// If the store cannot be read, or what it knows of this mutation makes no sense.
    async fn done(&self, id: MutationId, now: Timestamp) -> Result<Option<Done>, StoreError>;

    /// Reads the events as of one revision, in portions and in constant memory: those after (or, newest first, before)
    /// `after`, which is not among them. All of them, only if no portion is an error. Dropping the receiver ends it. A reader
    /// that dawdles makes the store keep what has been replaced meanwhile.
    ///
    /// # Errors
    /// If the store cannot be read at all. An event that cannot be read is [`FoundEvent::Damaged`].
    async fn events(
        &self,
        after: Option<Revision>,
        direction: Direction,
    ) -> Result<mpsc::Receiver<Result<Vec<FoundEvent>, StoreError>>, StoreError>;

    /// What an acknowledged change survives, in a word for operators.
    fn durability(&self) -> &'static str;
}

/// Names a record.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RecordId {
    /// A key.
    Key(KeyId),
    /// A workspace.
    Workspace(WorkspaceId),
    /// What stands where this version looks for records, but under an id that it does not know. Always unreadable.
    Unknown(Box<[u8]>),
}

/// A workspace with the revision of its last change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkspaceRecord {
    /// The workspace.
    pub workspace: Workspace,
    /// When it was last written.
    pub revision: Revision,
}

/// What stands under a record's id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stored {
    /// A key.
    Key(Box<KeyRecord>),
    /// A workspace.
    Workspace(WorkspaceRecord),
    /// Something that this version cannot read, or must not believe. Nothing may be allowed on its account.
    Unreadable(String),
    /// A workspace was here, and was deleted at this revision. Its id is not used again.
    Retired(Revision),
    /// Nothing any more.
    Gone,
}

/// A part of what a store holds.
#[derive(Debug, Clone)]
pub enum Portion {
    /// Some of the records. `Gone` takes back one that came before.
    Records(Vec<(RecordId, Stored)>),
    /// All have come, and are as of this revision; its number is 0 in a store that was never written to.
    Complete(Revision),
}

/// One revision's worth of changed records.
#[derive(Debug, Clone)]
pub struct Change {
    /// The revision before it. Within an epoch that is the number before; the first of an epoch tells where the epoch before
    /// ended.
    pub after: Revision,
    /// The revision that they were written at.
    pub revision: Revision,
    /// The records, as they are from then on.
    pub records: Vec<(RecordId, Stored)>,
}

/// A change to commit.
#[derive(Debug, Clone)]
pub struct Batch {
    /// What the change was decided on: each record's revision as it was read, `None` for one that was not there. If any
    /// is another by now, nothing is written.
    pub reads: Vec<(RecordId, Option<Revision>)>,
    /// No key of this workspace was written or deleted after this revision, else nothing is written, and the conflict is the
    /// workspace's. A decision on all keys of a workspace (is it empty, is a permission held, how many are archived) would
    /// need all of them in the read set; and a count on the workspace's record would have every change of a key contend for
    /// that record. A store that cannot tell says that there was a change.
    pub quiet: Option<(WorkspaceId, Revision)>,
    /// Makes the batch one that is written once, however often it is committed.
    pub mutation: Option<Mutation>,
    /// The records to write. If there are none, for a call that found everything as it wants it, the batch takes no revision
    /// and leaves no event: only its mutation is known from then on, with the first record of the read set, which must be
    /// there, as its result, and the batch answers that record's revision. A repetition that comes after the record was
    /// changed by others then changes nothing either.
    pub writes: Vec<Write>,
    /// What the audit log says of it.
    pub event: Event,
}

/// Names a mutation, so that a repeated call is known: the hash of who calls what and of the caller's own id of the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MutationId(pub [u8; 32]);

/// A mutation to be made once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mutation {
    /// Its name.
    pub id: MutationId,
    /// A hash of what was asked for, kept for the caller: the store compares nothing by it.
    pub fingerprint: [u8; 32],
}

/// A mutation that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// The fingerprint that it was committed with.
    pub fingerprint: [u8; 32],
    /// The revision that it was committed as.
    pub revision: Revision,
    /// The batch's first record as it was written then, `Gone` for a key's deletion; if it wrote none, the first that it
    /// read.
    pub result: Stored,
}

/// One record to write.
#[derive(Debug, Clone)]
pub enum Write {
    /// A key with its secrets.
    Key(Box<Key>, Vec<Secret>),
    /// The end of a key. The workspace must be the key's own: it is the one that is not quiet.
    DeleteKey(KeyName),
    /// A workspace. Conflicts where one was retired, whatever the read set says.
    Workspace(Workspace),
    /// The end of a workspace, for good.
    DeleteWorkspace(WorkspaceId),
}

/// An event as it stands in the store, and holds what its digest says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventRecord {
    /// The version of the layout that it was written in; the digest is over that one.
    pub schema: u32,
    /// The revision that it tells of.
    pub revision: Revision,
    /// What happened.
    pub event: Event,
    /// Equal to [`event_digest`] of the others.
    pub digest: [u8; 32],
}

/// What stands in an event's place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FoundEvent {
    /// The event.
    Event(Box<EventRecord>),
    /// Something that is not the event that was written there.
    Damaged {
        /// The revision whose event should stand there.
        at: Revision,
        /// What is wrong with it.
        why: String,
    },
}

/// Which way events are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// By rising revision.
    OldestFirst,
    /// By falling revision.
    NewestFirst,
}

/// Why a store could not be used.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// Another process has it open.
    #[error(
        "the store {0} is in use by another process; stop that one, or choose another --data-dir"
    )]
    InUse(String),
    /// It was written by a later version.
    #[error(
        "the store has schema {found}, and this version reads schema {known}; run the version that wrote it"
    )]
    Schema {
        /// What stands in the store.
        found: u32,
        /// What this version reads.
        known: u32,
    },
    /// Reading or writing failed.
    #[error("the store failed: {0}")]
    Failed(String),
    /// The changes asked for are gone.
    #[error("the changes since revision {0} are not to be had")]
    Gap(Revision),
}

/// Why a batch was not acknowledged.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CommitError {
    /// The record is not what the change was decided on. Nothing was written.
    #[error("{0:?} has changed")]
    Conflict(RecordId),
    /// This mutation was committed before, with whatever fingerprint. Nothing was written now.
    #[error("it was committed before, as {}", .0.revision)]
    Repeated(Box<Done>),
    /// The store does not take it now. Nothing was written.
    #[error("nothing was written: {0}")]
    NotWritten(StoreError),
    /// The batch may or may not have been written.
    #[error(transparent)]
    Failed(#[from] StoreError),
}

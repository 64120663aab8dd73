//! Where records last: a small trait in domain types.
//!
//! There is one way to change a record: [`Store::commit`].

mod codec;
pub mod embedded;

use async_trait::async_trait;
use tokio::sync::mpsc;

use crate::domain::{
    event::Event,
    id::{KeyId, Revision, WorkspaceId},
    key::{Key, KeyRecord},
    secret::Secret,
    workspace::Workspace,
};

/// Holds records and events, and orders changes.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Reads every record as of one revision.
    ///
    /// # Errors
    /// If the store cannot be read at all. A record that cannot be read is [`Stored::Unreadable`].
    async fn load(&self) -> Result<Snapshot, StoreError>;

    /// Writes a batch as one revision, with its event, all or nothing. `Ok` means durable.
    ///
    /// # Errors
    /// [`CommitError::Conflict`]: nothing was written. [`CommitError::Failed`]: unknown whether it was.
    async fn commit(&self, batch: Batch) -> Result<Revision, CommitError>;

    /// Yields every change after `from`, in order and without gaps. A channel that closes means that changes may be
    /// missed from then on.
    ///
    /// # Errors
    /// If the changes since `from` are not to be had any more.
    async fn follow(&self, from: Revision) -> Result<mpsc::UnboundedReceiver<Change>, StoreError>;

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
    /// Nothing any more.
    Gone,
}

/// All records as of one revision.
pub struct Snapshot {
    /// The revision; number 0 in a store that was never written to.
    pub revision: Revision,
    /// The records, in portions. Complete only if no portion is an error.
    pub portions: mpsc::Receiver<Result<Vec<(RecordId, Stored)>, StoreError>>,
}

/// One revision's worth of changed records.
#[derive(Debug, Clone)]
pub struct Change {
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
    /// The records to write.
    pub writes: Vec<Write>,
    /// What the audit log says of it.
    pub event: Event,
}

/// One record to write.
#[derive(Debug, Clone)]
pub enum Write {
    /// A key with its secrets.
    Key(Box<Key>, Vec<Secret>),
    /// The end of a key.
    DeleteKey(KeyId),
    /// A workspace.
    Workspace(Workspace),
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
    /// The batch may or may not have been written.
    #[error(transparent)]
    Failed(#[from] StoreError),
}

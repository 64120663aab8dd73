//! A store that several replicas share: who they are, how far each has come, and for how long each may answer.
//!
//! Everything here belongs to one [`History`]. A store that was restarted, emptied or replaced has another, and answers
//! [`SharedError::OtherHistory`] until this process has [adopted](SharedStore::adopt) it: what was acknowledged in one says
//! nothing about another.

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use tokio::sync::watch;

use super::{Store, StoreError};
use crate::domain::{id::Revision, time::Timestamp};

/// What revisions, members and acknowledgements belong to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct History {
    /// Given to the store when it was made: 32 hexadecimal digits.
    pub store: String,
    /// Counts the restarts of the server that were looked into.
    pub epoch: u32,
    /// The server process that the epoch was opened on.
    pub server: String,
}

/// Where the store stands, read at one instant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The history that the store is in.
    pub history: History,
    /// The server process that answered. Another than the history's: it was restarted, and nobody has opened an epoch yet.
    pub server: String,
    /// The last revision.
    pub head: Revision,
    /// Every change after it is in the log.
    pub floor: Revision,
    /// The last revision of the history before, by epoch: what epoch 2 was opened after stands under 2.
    pub opened_after: BTreeMap<u32, Revision>,
    /// True once every lease of the histories before has run out, so that acknowledgements mean something.
    pub settled: bool,
    /// How long a replica may answer on one renewal.
    pub lease: Duration,
    /// The server's clock.
    pub time: Timestamp,
}

/// One running Portcullis that answers Check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Given by the operator.
    pub name: String,
    /// New at each start: 32 hexadecimal digits.
    pub incarnation: String,
    /// It decides on this state, or a later one.
    pub applied: Revision,
    /// Counts its renewals: while it stands still, the member is silent.
    pub renewals: u64,
    /// When it renewed last, by the server's clock. For people; nothing is decided on it.
    pub renewed: Timestamp,
}

/// Everyone who may hold a lease, read at one instant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roll {
    /// Where the store stood.
    pub standing: Standing,
    /// The members, by incarnation.
    pub members: Vec<Member>,
}

/// What a replica tells of itself when it renews its lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    /// Everything up to it is in force here. Acknowledges it.
    pub applied: Revision,
    /// Counts the renewals of this incarnation. The count is its own, not the store's: for a member that was taken out and comes
    /// back it would begin anew there, and could be taken for one that stood still.
    pub renewals: u64,
    /// This replica has seen the history for longer than any lease of an earlier one can last.
    pub settled: bool,
}

/// Why a shared store did not do as it was told.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SharedError {
    /// It is not in the history that this process has adopted. Nothing was done.
    #[error("the store is in another history: it stands at {}", .0.head)]
    OtherHistory(Box<Standing>),
    /// It is not to be had, or does not make sense.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What a store that replicas share can do beside. [`Store::commit`], too, refuses in a history that was not adopted.
#[async_trait]
pub trait SharedStore: Store {
    /// This process, as the others see it: its name and its incarnation.
    fn own(&self) -> (&str, &str);

    /// Where the store stands, in whatever history.
    ///
    /// # Errors
    /// If it cannot be asked, or was never made.
    async fn standing(&self) -> Result<Standing, StoreError>;

    /// Takes a history for the one that everything from now on belongs to.
    fn adopt(&self, history: History);

    /// Enters this replica among the members, or renews its entry, and answers where the store stood just then. Others that
    /// wait for what is acknowledged here are told.
    ///
    /// # Errors
    /// [`SharedError`].
    async fn renew(&self, report: Report) -> Result<Standing, SharedError>;

    /// Reads the members, in whatever history.
    ///
    /// # Errors
    /// If the store cannot be asked.
    async fn roll(&self) -> Result<Roll, StoreError>;

    /// Takes a member out if it has not renewed since it was seen at `renewals`. True if it is out now.
    ///
    /// # Errors
    /// [`SharedError`].
    async fn remove(&self, incarnation: &str, renewals: u64) -> Result<bool, SharedError>;

    /// Takes this replica out. It must have stopped answering.
    ///
    /// # Errors
    /// [`SharedError`].
    async fn leave(&self) -> Result<(), SharedError>;

    /// Opens the next epoch on a store that was restarted and stands as `found`, with an event of its own as the epoch's first
    /// revision and without members. Does nothing if the store has moved on.
    ///
    /// # Errors
    /// [`SharedError`].
    async fn open_epoch(&self, found: &Standing, now: Timestamp) -> Result<(), SharedError>;

    /// How full the server's memory is, in thousandths of what it may use; `None`: it may use all there is.
    ///
    /// # Errors
    /// If the store cannot be asked.
    async fn fullness(&self) -> Result<Option<u64>, StoreError>;

    /// Ticks when the store may have become another: it is connected again, or took no change for the history's sake. Whoever
    /// keeps a lease looks at once.
    fn turns(&self) -> watch::Receiver<u64>;

    /// Ticks when somebody acknowledged something that this process may be waiting for. A tick may be lost.
    fn acknowledgements(&self) -> watch::Receiver<u64>;
}

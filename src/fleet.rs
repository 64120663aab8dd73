//! Keeps this replica's keyring at the store's state, and tells when a change is in force everywhere.
//!
//! On the embedded store this process is the whole fleet. On a shared one it is a member of it.

mod alone;
mod shared;

use std::{path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::time::Instant;

pub use self::shared::{JoinError, Lost};
use self::{alone::Alone, shared::Member};
use crate::{
    domain::id::Revision,
    gate::{
        catch_up::{CatchUp, NotReached},
        clock::Clock,
        keyring::KeyringWriter,
        lease::Lease,
    },
    store::{Store, StoreError, shared::SharedStore},
};

/// This replica among its fleet.
pub struct Fleet(Kind);

enum Kind {
    Alone(Alone),
    Member(Box<Member>),
}

/// One running Portcullis that answers Check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replica {
    /// Given by the operator.
    pub name: String,
    /// New at each start: 32 hexadecimal digits.
    pub incarnation: String,
    /// Everything up to this revision is in force there.
    pub applied: Revision,
    /// How many revisions it is behind.
    pub lag: u64,
    /// What is left of its lease, at most; `None`: it has no end.
    pub lease_left: Option<Duration>,
    /// What an acknowledged change survives.
    pub durability: &'static str,
}

/// A change is in force on every replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settled {
    /// What is in force: the change, or a later one.
    pub revision: Revision,
    /// How that is known.
    pub by: SettledBy,
}

/// How it is known that a change is in force everywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SettledBy {
    /// So many replicas said so, and there is no other.
    Acknowledgements(usize),
    /// Every lease that may have been held when the change was made has run out.
    LeaseEnd,
}

/// A change is committed, but not known to be in force on every replica.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("committed as {revision}, but not in force on every replica; waiting for {}", waiting_for.join(", "))]
pub struct NotFleetWide {
    /// The change.
    pub revision: Revision,
    /// The names of the replicas that have not said that they decide on it.
    pub waiting_for: Vec<String>,
}

impl Fleet {
    /// The whole fleet of a store that nobody shares. Reads all records into the keyring, then follows every later change in
    /// the background. If that ever ends, the lease is fenced: a replica that may miss a revocation allows nothing.
    ///
    /// # Errors
    /// If the store cannot be read or followed, or the system has no randomness.
    pub async fn alone(
        store: &dyn Store,
        name: String,
        writer: KeyringWriter,
        lease: Arc<Lease>,
    ) -> Result<Self, StoreError> {
        let alone = Alone::join(store, name, writer, lease).await?;
        Ok(Self(Kind::Alone(alone)))
    }

    /// A member of the fleet that shares a store. Reads all records into the keyring, enters the members, and from then on
    /// follows every change and renews the lease in the background. `mark` is the file that notes how far this replica has come.
    ///
    /// # Errors
    /// [`JoinError`].
    pub async fn among(
        store: Arc<dyn SharedStore>,
        writer: KeyringWriter,
        lease: Arc<Lease>,
        clock: Arc<dyn Clock>,
        mark: PathBuf,
    ) -> Result<Self, JoinError> {
        let member = Member::join(store, writer, lease, clock, mark).await?;
        Ok(Self(Kind::Member(Box::new(member))))
    }

    /// Notes in the file `mark` that its directory is of the store with this id, before a replica was started there.
    ///
    /// # Errors
    /// [`JoinError`], if the directory is another store's.
    pub async fn claim(mark: PathBuf, store: &str) -> Result<(), JoinError> {
        shared::claim(mark, store).await
    }

    /// Returns once every replica decides on the state at `revision` or a later one. To be called only after the change was
    /// committed: what it waits for is counted from the call. `until` is when the caller wants to hear at the latest; without
    /// it, the wait ends when every lease must have.
    ///
    /// # Errors
    /// [`NotFleetWide`] if that cannot be had by then.
    pub async fn settle(
        &self,
        revision: Revision,
        until: Option<Instant>,
    ) -> Result<Settled, NotFleetWide> {
        match &self.0 {
            Kind::Alone(alone) => alone.settle(revision, until).await,
            Kind::Member(member) => member.settle(revision, until).await,
        }
    }

    /// The replicas, by name and incarnation.
    ///
    /// # Errors
    /// If the store cannot be asked.
    pub async fn replicas(&self) -> Result<Vec<Replica>, StoreError> {
        match &self.0 {
            Kind::Alone(alone) => Ok(vec![alone.replica()]),
            Kind::Member(member) => member.replicas().await,
        }
    }

    /// How much of its memory the store uses, in thousandths, as seen within the last minute; 0: that is unknown, or it has no
    /// limit.
    #[must_use]
    pub fn store_fullness(&self) -> u64 {
        match &self.0 {
            Kind::Alone(_) => 0,
            Kind::Member(member) => member.store_fullness(),
        }
    }

    /// Stops answering, then takes this replica out of the fleet, so that nobody waits for it.
    pub async fn leave(&self) {
        match &self.0 {
            Kind::Alone(_) => {}
            Kind::Member(member) => member.leave().await,
        }
    }
}

#[async_trait]
impl CatchUp for Fleet {
    async fn reach(&self, revision: Revision) -> Result<(), NotReached> {
        match &self.0 {
            Kind::Alone(alone) => alone.reach(revision),
            Kind::Member(member) => member.reach(revision).await,
        }
    }
}

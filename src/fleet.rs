//! Keeps this replica's keyring at the store's state, and tells when a change is in force everywhere.
//!
//! On the embedded store this process is the whole fleet.

mod follow;

use std::sync::Arc;

use tokio::sync::watch;

use crate::{
    domain::id::Revision,
    gate::{keyring::Keyring, lease::Lease},
    store::{Store, StoreError},
};

/// This replica among its fleet.
pub struct Fleet {
    replica: Replica,
    applied: watch::Receiver<Revision>,
}

/// One running Portcullis that answers Check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replica {
    /// Given by the operator.
    pub name: String,
    /// New at each start: 32 hexadecimal digits.
    pub incarnation: String,
    /// What an acknowledged change survives.
    pub durability: &'static str,
}

/// A change is committed, but not known to be in force on every replica.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("committed as {revision}, but not in force on every replica; waiting for {}", waiting_for.join(", "))]
pub struct NotFleetWide {
    /// The change.
    pub revision: Revision,
    /// The replicas that have not said that they decide on it.
    pub waiting_for: Vec<String>,
}

impl Fleet {
    /// Reads all records into the keyring, then follows every later change in the background. If that ever ends, the
    /// lease is fenced: a replica that may miss a revocation allows nothing.
    ///
    /// # Errors
    /// If the store cannot be read or followed, or the system has no randomness.
    pub async fn join(
        store: &dyn Store,
        name: String,
        writer: crate::gate::keyring::KeyringWriter,
        lease: Arc<Lease>,
    ) -> Result<Self, StoreError> {
        let mut bits = [0u8; 16];
        getrandom::fill(&mut bits).map_err(|error| StoreError::Failed(error.to_string()))?;
        let replica = Replica {
            name,
            incarnation: format!("{:032x}", u128::from_be_bytes(bits)),
            durability: store.durability(),
        };
        let applied = writer.reader().watch();
        follow::boot_and_follow(store, writer, lease).await?;
        Ok(Self { replica, applied })
    }

    /// Returns once every replica decides on the state at `revision` or a later one, and answers what that is.
    ///
    /// # Errors
    /// [`NotFleetWide`] if that cannot be had.
    pub async fn settle(&self, revision: Revision) -> Result<Revision, NotFleetWide> {
        let mut applied = self.applied.clone();
        match applied.wait_for(|&applied| applied >= revision).await {
            Ok(applied) => Ok(*applied),
            // The follower is gone. Its lease is fenced, but this call cannot tell since when.
            Err(_) => Err(NotFleetWide {
                revision,
                waiting_for: vec![self.replica.name.clone()],
            }),
        }
    }

    /// The replicas, and the revision that each has in force.
    #[must_use]
    pub fn replicas(&self, keyring: &Keyring) -> Vec<(Replica, Revision)> {
        vec![(self.replica.clone(), keyring.applied())]
    }
}

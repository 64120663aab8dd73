//! The fleet of one: the only process that reads and writes its store.

use std::sync::Arc;

use tokio::{sync::watch, time::Instant};

use super::{NotFleetWide, Replica, Settled, SettledBy};
use crate::{
    domain::id::Revision,
    gate::{catch_up::NotReached, keyring::KeyringWriter, lease::Lease},
    store::{Change, Portion, Store, StoreError},
};

/// The only replica.
pub(super) struct Alone {
    name: String,
    incarnation: String,
    durability: &'static str,
    applied: watch::Receiver<Revision>,
}

impl Alone {
    /// Reads all records into the keyring, and from then on applies changes in the background as they are committed.
    pub(super) async fn join(
        store: &dyn Store,
        name: String,
        keyring: KeyringWriter,
        lease: Arc<Lease>,
    ) -> Result<Self, StoreError> {
        let mut bits = [0u8; 16];
        getrandom::fill(&mut bits).map_err(|error| StoreError::Failed(error.to_string()))?;
        let applied = keyring.reader().watch();
        boot_and_follow(store, keyring, lease).await?;
        Ok(Self {
            name,
            incarnation: format!("{:032x}", u128::from_be_bytes(bits)),
            durability: store.durability(),
            applied,
        })
    }

    pub(super) async fn settle(
        &self,
        revision: Revision,
        until: Option<Instant>,
    ) -> Result<Settled, NotFleetWide> {
        let mut applied = self.applied.clone();
        let wait = applied.wait_for(|&applied| applied >= revision);
        let reached = match until {
            Some(until) => tokio::time::timeout_at(until, wait).await,
            None => Ok(wait.await),
        };
        match reached {
            Ok(Ok(applied)) => Ok(Settled {
                revision: *applied,
                by: SettledBy::Acknowledgements(1),
            }),
            // Late, or the follower is gone: its lease is fenced then, but this call cannot tell since when.
            Ok(Err(_)) | Err(_) => Err(NotFleetWide {
                revision,
                waiting_for: vec![self.name.clone()],
            }),
        }
    }

    pub(super) fn replica(&self) -> Replica {
        Replica {
            name: self.name.clone(),
            incarnation: self.incarnation.clone(),
            applied: *self.applied.borrow(),
            lag: 0,
            lease_left: None,
            durability: self.durability,
        }
    }

    /// What is acknowledged is applied here already, so what is not lies ahead of everything.
    pub(super) fn reach(&self, revision: Revision) -> Result<(), NotReached> {
        if revision <= *self.applied.borrow() {
            Ok(())
        } else {
            Err(NotReached::Ahead)
        }
    }
}

async fn boot_and_follow(
    store: &dyn Store,
    mut keyring: KeyringWriter,
    lease: Arc<Lease>,
) -> Result<(), StoreError> {
    let mut portions = store.load().await?;
    let mut changes = None;
    while let Some(portion) = portions.recv().await {
        match portion? {
            Portion::Records(records) => {
                for (id, stored) in records {
                    keyring.place(id, stored);
                }
            }
            Portion::Complete(revision) => {
                // Nobody has heard of this replica yet, so nothing was committed since the records were read.
                changes = Some((revision, store.follow(revision).await?));
            }
        }
    }
    let incomplete = || StoreError::Failed("its records ended half-way".to_owned());
    let (revision, mut changes) = changes.ok_or_else(incomplete)?;
    keyring.announce(revision);

    tokio::spawn(async move {
        // However this task ends, by the channel's end or by a panic, nothing is allowed from then on.
        let _fence = FenceOnDrop(lease);
        let mut applied = revision;
        while let Some(change) = changes.recv().await {
            if !continues(applied, &change) {
                tracing::error!(applied = %applied, found = %change.revision, "a change is missing; this replica is fenced");
                return;
            }
            applied = change.revision;
            keyring.apply(change);
        }
    });
    Ok(())
}

/// Each change names the one before it, so that one that was missed shows.
fn continues(applied: Revision, change: &Change) -> bool {
    change.after == applied
}

struct FenceOnDrop(Arc<Lease>);

impl Drop for FenceOnDrop {
    fn drop(&mut self) {
        self.0.fence();
    }
}

#[cfg(test)]
mod tests;

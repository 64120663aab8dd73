//! Boot and follow: the one writer of the keyring.

use std::sync::Arc;

use crate::{
    domain::id::Revision,
    gate::{keyring::KeyringWriter, lease::Lease},
    store::{Change, Store, StoreError},
};

/// Reads all records into the keyring, and from then on applies changes in the background as they are committed.
pub(super) async fn boot_and_follow(
    store: &dyn Store,
    mut keyring: KeyringWriter,
    lease: Arc<Lease>,
) -> Result<(), StoreError> {
    let snapshot = store.load().await?;
    let mut changes = store.follow(snapshot.revision).await?;
    let mut portions = snapshot.portions;
    while let Some(portion) = portions.recv().await {
        for (id, stored) in portion? {
            keyring.place(id, stored);
        }
    }
    keyring.announce(snapshot.revision);

    tokio::spawn(async move {
        // However this task ends, by the channel's end or by a panic, nothing is allowed from then on.
        let _fence = FenceOnDrop(lease);
        let mut applied = snapshot.revision;
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

/// Revisions are dense within an epoch, so a gap means that a change was missed.
fn continues(applied: Revision, change: &Change) -> bool {
    change.revision == applied.next()
}

struct FenceOnDrop(Arc<Lease>);

impl Drop for FenceOnDrop {
    fn drop(&mut self) {
        self.0.fence();
    }
}

#[cfg(test)]
mod tests;

//! Applies changes as they are committed, and reads everything anew when some were missed.

use std::{sync::Arc, time::Duration};

use super::{
    Parts,
    history::{Verdict, judge},
};
use crate::{
    gate::keyring::KeyringWriter,
    store::{Change, Portion, StoreError, Stored},
};

/// The first and the last pause between two attempts to read everything again.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(2));

/// Runs for as long as the process does. The lease is not its business: it is extended only while what is applied here has
/// caught up with the store.
pub(super) async fn run(parts: Arc<Parts>, mut keyring: KeyringWriter) {
    loop {
        let applied = keyring.reader().applied();
        match follow(&parts, &mut keyring).await {
            Ok(()) => tracing::warn!(
                applied = %applied,
                "changes were missed; all records are read again, and this replica's lease is not extended until then"
            ),
            Err(error) => tracing::warn!(error = %error, "the changes cannot be followed"),
        }
        let mut told = String::new();
        let mut pause = PAUSES.0;
        while let Err(error) = resync(&parts, &mut keyring).await {
            // The same trouble is told once.
            let error = error.to_string();
            if error != told {
                tracing::warn!(error, "the records cannot be read again yet");
                told = error;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    }
}

/// Applies changes until one is missing.
async fn follow(parts: &Parts, keyring: &mut KeyringWriter) -> Result<(), StoreError> {
    let mut applied = keyring.reader().applied();
    let mut changes = parts.store.follow(applied).await?;
    while let Some(change) = changes.recv().await {
        // Each change names the one before it. Another than ours means that one was missed, or that the store's history is no
        // longer the one that we know; resync tells which.
        if change.after != applied {
            return Ok(());
        }
        applied = change.revision;
        keyring.apply(of_its_revision(change));
    }
    Ok(())
}

/// A record that says that it was written at another revision than its change was put there by somebody else.
fn of_its_revision(mut change: Change) -> Change {
    for (_, stored) in &mut change.records {
        let written = match stored {
            Stored::Key(record) => record.revision,
            Stored::Workspace(record) => record.revision,
            Stored::Retired(revision) => *revision,
            Stored::Gone | Stored::Unreadable(_) => continue,
        };
        if written != change.revision {
            *stored = Stored::Unreadable(format!(
                "written at {written}, in the log of {}",
                change.revision
            ));
        }
    }
    change
}

/// Brings the keyring to the store's state, each record forward only.
async fn resync(parts: &Parts, keyring: &mut KeyringWriter) -> Result<(), StoreError> {
    let before = parts.store.standing().await?;
    let known = keyring.reader().applied();
    let history = match judge(&parts.id, known, &before) {
        Verdict::GoesOn(history) => history,
        Verdict::Restarted => return Err(unfit("its server was restarted")),
        Verdict::Lost(lost) => return Err(StoreError::Failed(lost.to_string())),
    };
    let mut portions = parts.store.load().await?;
    let mut resync = keyring.resync();
    while let Some(portion) = portions.recv().await {
        match portion? {
            Portion::Records(records) => {
                for (id, stored) in records {
                    resync.place(id, stored);
                }
            }
            Portion::Complete(revision) => {
                if parts.store.standing().await?.history != history {
                    return Err(unfit("its history changed while it was read"));
                }
                // A state that is behind ours is never announced.
                if revision < known {
                    return Err(unfit("what was read is older than what is in force"));
                }
                resync.complete(revision);
                tracing::info!(revision = %revision, "all records were read again");
                return Ok(());
            }
        }
    }
    Err(unfit("its records ended half-way"))
}

fn unfit(why: &str) -> StoreError {
    StoreError::Failed(why.to_owned())
}

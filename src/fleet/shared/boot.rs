//! How a replica gets its first state: the right history, then all its records.

use std::time::Duration;

use super::{
    JoinError,
    history::{Verdict, judge},
    mark::Mark,
};
use crate::{
    domain::id::Revision,
    gate::{clock::Clock, keyring::KeyringWriter},
    store::{
        Portion, StoreError,
        shared::{SharedError, SharedStore, Standing},
    },
};

/// How often a start is tried anew while the store changes under it: its log is cut, or its server restarts.
const TRIES: usize = 5;
/// What a try waits for before the next.
const PAUSE: Duration = Duration::from_millis(200);

/// Reads everything into an empty keyring and adopts the history that it is of.
pub(super) async fn boot(
    store: &dyn SharedStore,
    mut keyring: KeyringWriter,
    mark: &Mark,
    clock: &dyn Clock,
) -> Result<(Standing, KeyringWriter), JoinError> {
    let mut left = TRIES;
    loop {
        let error = match try_once(store, &mut keyring, mark, clock).await {
            Ok(standing) => return Ok((standing, keyring)),
            Err(JoinError::Store(error)) => error,
            Err(error) => return Err(error),
        };
        left -= 1;
        if left == 0 {
            return Err(error.into());
        }
        tracing::warn!(error = %error, "the records could not be read; they are read again");
        // What was placed so far is of a state that nobody vouches for.
        keyring.resync().take_out_unseen();
        tokio::time::sleep(PAUSE).await;
    }
}

async fn try_once(
    store: &dyn SharedStore,
    keyring: &mut KeyringWriter,
    mark: &Mark,
    clock: &dyn Clock,
) -> Result<Standing, JoinError> {
    let standing = right_history(store, mark, clock).await?;
    store.adopt(standing.history.clone());
    let revision = read(store, keyring).await?;
    // What was read is of the history that it began in, or of none.
    if store.standing().await?.history != standing.history {
        let why = "its history changed while it was read".to_owned();
        return Err(StoreError::Failed(why).into());
    }
    keyring.announce(revision);
    Ok(standing)
}

/// Where the store stands, once that goes on from what this replica knows. A server that was restarted gets its epoch.
async fn right_history(
    store: &dyn SharedStore,
    mark: &Mark,
    clock: &dyn Clock,
) -> Result<Standing, JoinError> {
    let mut left = TRIES;
    loop {
        let standing = store.standing().await?;
        let (id, known) = mark.known(&standing.history.store);
        match judge(id, known, &standing) {
            Verdict::GoesOn(_) => return Ok(standing),
            Verdict::Lost(lost) => return Err(lost.into()),
            Verdict::Restarted if left > 0 => {
                left -= 1;
                open_epoch(store, &standing, clock).await?;
            }
            Verdict::Restarted => {
                let why = "its server restarts again and again".to_owned();
                return Err(StoreError::Failed(why).into());
            }
        }
    }
}

pub(super) async fn open_epoch(
    store: &dyn SharedStore,
    standing: &Standing,
    clock: &dyn Clock,
) -> Result<(), StoreError> {
    match store.open_epoch(standing, clock.now().wall).await {
        Ok(()) => {
            tracing::warn!(
                epoch = standing.history.epoch + 1,
                head = %standing.head,
                "the store's server was restarted with its data; a new epoch was opened on it"
            );
            Ok(())
        }
        // Somebody else was faster, or it was restarted again.
        Err(SharedError::OtherHistory(_)) => Ok(()),
        Err(SharedError::Store(error)) => Err(error),
    }
}

async fn read(
    store: &dyn SharedStore,
    keyring: &mut KeyringWriter,
) -> Result<Revision, StoreError> {
    let mut portions = store.load().await?;
    while let Some(portion) = portions.recv().await {
        match portion? {
            Portion::Records(records) => {
                for (id, stored) in records {
                    keyring.place(id, stored);
                }
            }
            Portion::Complete(revision) => return Ok(revision),
        }
    }
    Err(StoreError::Failed("its records ended half-way".to_owned()))
}

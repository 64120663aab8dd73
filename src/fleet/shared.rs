//! A member of a fleet: how it comes in, what it tells its callers, how it goes.

mod barrier;
mod boot;
mod follow;
mod history;
mod lookout;
mod mark;
mod renew;
mod silence;
mod spans;

use std::{
    path::PathBuf,
    sync::{
        Arc, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Mutex, oneshot, watch},
    task::JoinHandle,
    time::Instant,
};

pub use self::history::Lost;
pub(super) use self::mark::claim;
use self::{barrier::Barrier, mark::Mark, renew::Renewer};
use super::{NotFleetWide, Replica, Settled};
use crate::{
    domain::id::Revision,
    gate::{catch_up::NotReached, clock::Clock, keyring::KeyringWriter, lease::Lease},
    store::{
        StoreError,
        shared::{SharedError, SharedStore},
    },
};

/// How long a member that leaves tries to say so. One that does not manage to is missed after its lease.
const GOODBYE: Duration = Duration::from_secs(2);
/// How long a caller waits for a state that it has seen elsewhere. A gateway gives up after 200 ms.
const CATCH_UP: Duration = Duration::from_millis(150);

/// Why a replica could not join its fleet.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The store is not the one that this replica knows.
    #[error("{0}")]
    Lost(#[from] Lost),
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What is noted in the data directory cannot be used.
    #[error("{path} cannot be used: {why}")]
    Mark {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
}

impl From<SharedError> for JoinError {
    fn from(error: SharedError) -> Self {
        match error {
            SharedError::Store(error) => Self::Store(error),
            SharedError::OtherHistory(_) => Self::Store(StoreError::Failed(
                "its history changed while it was read".to_owned(),
            )),
        }
    }
}

/// What all tasks of a member share.
struct Parts {
    store: Arc<dyn SharedStore>,
    lease: Arc<Lease>,
    clock: Arc<dyn Clock>,
    /// The store's id.
    id: String,
    /// How long one renewal lasts: the same for all the fleet.
    length: Duration,
    /// How full the store's memory was when it was looked at, in thousandths; 0: unknown, or without a limit.
    fullness: AtomicU64,
    /// Counts the renewals that failed.
    troubles: AtomicU64,
    /// The latest revision that the store is known to have had.
    heard: std::sync::Mutex<Revision>,
}

impl Parts {
    fn hear(&self, revision: Revision) {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        *heard = revision.max(*heard);
    }

    fn heard(&self) -> Revision {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// This replica, as a member.
pub(super) struct Member {
    parts: Arc<Parts>,
    applied: watch::Receiver<Revision>,
    barrier: Barrier,
    renewals: renew::Handle,
    /// Writes the note; told by `retired`.
    noting: Mutex<Option<JoinHandle<()>>>,
    retired: watch::Sender<bool>,
    /// Ends the renewing; `None` once it was told to.
    stop: Mutex<Option<(oneshot::Sender<()>, JoinHandle<()>)>>,
}

impl Member {
    /// Reads all records into the keyring, enters the members, and from then on follows and renews in the background. When it
    /// returns, the replica answers.
    pub(super) async fn join(
        store: Arc<dyn SharedStore>,
        keyring: KeyringWriter,
        lease: Arc<Lease>,
        clock: Arc<dyn Clock>,
        mark: PathBuf,
    ) -> Result<Self, JoinError> {
        let mut mark = Mark::open(mark).await?;
        let applied = keyring.reader().watch();
        let (standing, keyring) = boot::boot(&*store, keyring, &mark, &*clock).await?;
        let parts = Arc::new(Parts {
            id: standing.history.store.clone(),
            length: standing.lease,
            fullness: AtomicU64::new(0),
            troubles: AtomicU64::new(0),
            heard: std::sync::Mutex::new(*applied.borrow()),
            store,
            lease,
            clock,
        });
        mark.note(&parts.id, *applied.borrow()).await?;

        tokio::spawn(follow::run(parts.clone(), keyring));
        let (mut renewer, renewals) = Renewer::new(parts.clone(), applied.clone(), standing);
        renewer.first().await?;
        let retired = watch::Sender::new(false);
        tokio::spawn(lookout::look(parts.clone(), retired.subscribe()));
        let noting = lookout::note(parts.clone(), applied.clone(), mark, retired.subscribe());
        let noting = Mutex::new(Some(tokio::spawn(noting)));
        let (stop, stopped) = oneshot::channel();
        let renewing = tokio::spawn(renewer.run(stopped));
        Ok(Self {
            barrier: Barrier::new(parts.clone()),
            parts,
            applied,
            renewals,
            noting,
            retired,
            stop: Mutex::new(Some((stop, renewing))),
        })
    }

    pub(super) async fn settle(
        &self,
        revision: Revision,
        until: Option<Instant>,
    ) -> Result<Settled, NotFleetWide> {
        self.barrier.settle(revision, until).await
    }

    pub(super) async fn replicas(&self) -> Result<Vec<Replica>, StoreError> {
        let roll = self.parts.store.roll().await?;
        let mut replicas: Vec<Replica> = roll
            .members
            .into_iter()
            .map(|member| {
                let silent = roll.standing.time.unix_nanos() - member.renewed.unix_nanos();
                let silent = Duration::from_nanos(u64::try_from(silent).unwrap_or(0));
                Replica {
                    lag: history::distance(member.applied, &roll.standing),
                    lease_left: Some(self.parts.length.saturating_sub(silent)),
                    durability: self.parts.store.durability(),
                    name: member.name,
                    incarnation: member.incarnation,
                    applied: member.applied,
                }
            })
            .collect();
        replicas.sort_by(|a, b| (&a.name, &a.incarnation).cmp(&(&b.name, &b.incarnation)));
        Ok(replicas)
    }

    /// Thousandths of its memory that the store uses; 0: unknown, or without a limit.
    pub(super) fn store_fullness(&self) -> u64 {
        self.parts.fullness.load(Ordering::Relaxed)
    }

    pub(super) async fn reach(&self, revision: Revision) -> Result<(), NotReached> {
        let mut applied = self.applied.clone();
        if revision <= *applied.borrow_and_update() {
            return Ok(());
        }
        let reached = async {
            let head = self.renewals.now().await.ok_or(NotReached::Behind)?;
            if revision > head {
                return Err(NotReached::Ahead);
            }
            let reached = applied.wait_for(|&applied| applied >= revision).await;
            reached.map(drop).map_err(|_| NotReached::Behind)
        };
        let reached = tokio::time::timeout(CATCH_UP, reached).await;
        reached.unwrap_or(Err(NotReached::Behind))
    }

    /// Stops answering, then says so: the other order would let a change be in force everywhere but here.
    pub(super) async fn leave(&self) {
        let Some((stop, renewing)) = self.stop.lock().await.take() else {
            return;
        };
        self.parts.lease.fence();
        self.retired.send_replace(true);
        let goodbye = async {
            // A renewal that is under way ends first, or it would enter this replica again. Nobody listens only if it has ended.
            let _ = stop.send(());
            let _ = renewing.await;
            // Whatever it extended at the last moment.
            self.parts.lease.fence();
            // The last note, by which the next start knows a store that was put back.
            if let Some(noting) = self.noting.lock().await.take() {
                let _ = noting.await;
            }
            self.parts.store.leave().await
        };
        match tokio::time::timeout(GOODBYE, goodbye).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(error = %error, "leaving could not be told to the fleet, which waits for this replica's lease to end");
            }
            Err(_) => {
                self.parts.lease.fence();
                tracing::warn!("leaving could not be told to the fleet in time");
            }
        }
    }
}

#[cfg(test)]
mod tests;

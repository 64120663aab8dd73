//! How far a change is in force. OK means everywhere; only a change that takes nothing away is answered sooner.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use super::{
    Failure,
    call::{Call, Patience},
};
use crate::{
    domain::id::Revision,
    fleet::{Fleet, NotFleetWide, Settled, SettledBy},
    store::{Batch, CommitError, Store},
};

/// What a committed call came to. It is had only by saying what is to be if it is not in force everywhere.
#[derive(Debug)]
#[must_use]
pub struct Made<T> {
    value: T,
    barrier: Result<Settled, NotFleetWide>,
}

/// What a committed call came to that is not in force everywhere.
#[derive(Debug)]
pub struct Short<T> {
    /// What it came to.
    pub value: T,
    /// Who is waited for.
    pub pending: NotFleetWide,
}

impl<T> Made<T> {
    pub(super) const fn new(value: T, barrier: Result<Settled, NotFleetWide>) -> Self {
        Self { value, barrier }
    }

    /// For whatever takes something away: what it came to, if every replica decides on it.
    ///
    /// # Errors
    /// [`Short`] if not.
    pub fn everywhere(self) -> Result<T, Short<T>> {
        let Self { value, barrier } = self;
        match barrier {
            Ok(_) => Ok(value),
            Err(pending) => Err(Short { value, pending }),
        }
    }

    /// For what only gives, so that a replica which has not heard of it refuses too much and allows nothing wrong: what it
    /// came to, and the names of such replicas.
    pub fn with_laggards(self) -> (T, Vec<String>) {
        let laggards = self.barrier.err().map(|pending| pending.waiting_for);
        (self.value, laggards.unwrap_or_default())
    }

    pub(super) fn map<U>(self, to: impl FnOnce(T) -> U) -> Made<U> {
        Made::new(to(self.value), self.barrier)
    }

    pub(super) fn try_map<U>(
        self,
        to: impl FnOnce(T) -> Result<U, Failure>,
    ) -> Result<Made<U>, Failure> {
        Ok(Made::new(to(self.value)?, self.barrier))
    }
}

impl<T> From<Short<T>> for Failure {
    fn from(short: Short<T>) -> Self {
        Self::NotFleetWide(short.pending)
    }
}

/// What has become of changes since the start, for metrics.
#[derive(Debug, Default)]
pub(super) struct Tally {
    mutations: Mutex<BTreeMap<&'static str, u64>>,
    failed: AtomicU64,
    acknowledged: AtomicU64,
    lease_ended: AtomicU64,
    short: AtomicU64,
}

impl Tally {
    /// Committed changes by call.
    pub(super) fn mutations(&self) -> BTreeMap<&'static str, u64> {
        self.mutations
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Changes that the store did not acknowledge.
    pub(super) fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    /// Waits for a change to be in force everywhere, by how they ended.
    pub(super) fn barriers(&self) -> [(&'static str, u64); 3] {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        [
            (ACKNOWLEDGEMENTS, of(&self.acknowledged)),
            (LEASE_END, of(&self.lease_ended)),
            (NONE, of(&self.short)),
        ]
    }

    fn count(&self, method: &'static str) {
        *self
            .mutations
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(method)
            .or_default() += 1;
    }
}

const ACKNOWLEDGEMENTS: &str = "acknowledgements";
const LEASE_END: &str = "lease_end";
const NONE: &str = "none";

/// Waits until a revision is in force everywhere, at most as long as the call may wait.
pub(super) async fn settle(
    fleet: &Fleet,
    tally: &Tally,
    revision: Revision,
    patience: Patience,
) -> Result<Settled, NotFleetWide> {
    let settled = fleet.settle(revision, patience.until()).await;
    let counter = match &settled {
        Ok(settled) => match settled.by {
            SettledBy::Acknowledgements(_) => &tally.acknowledged,
            SettledBy::LeaseEnd => &tally.lease_ended,
        },
        Err(_) => &tally.short,
    };
    counter.fetch_add(1, Ordering::Relaxed);
    settled
}

/// A commit with its barrier and its line in the log. It runs on its own: a caller that goes away, or whose deadline passes,
/// takes back nothing that the store may have written, so what became of it is told all the same.
pub(super) struct Committing {
    store: Arc<dyn Store>,
    fleet: Arc<Fleet>,
    tally: Arc<Tally>,
    patience: Patience,
    method: &'static str,
}

impl Committing {
    pub(super) fn new(
        store: Arc<dyn Store>,
        fleet: Arc<Fleet>,
        tally: Arc<Tally>,
        call: &Call,
    ) -> Self {
        Self {
            store,
            fleet,
            tally,
            patience: call.patience(),
            method: call.method,
        }
    }

    pub(super) async fn run(self, batch: Batch) -> Result<Made<Revision>, CommitError> {
        let Self {
            store,
            fleet,
            tally,
            patience,
            method,
        } = self;
        // A batch without writes only remembers a call that found everything as it wants it.
        let changed = (!batch.writes.is_empty())
            .then(|| (batch.event.actor.clone(), batch.event.resource.clone()));
        let revision = store.commit(batch).await.inspect_err(|error| {
            if let CommitError::NotWritten(_) | CommitError::Failed(_) = error {
                tally.failed.fetch_add(1, Ordering::Relaxed);
            }
        })?;
        if changed.is_some() {
            tally.count(method);
        }
        let committed = Instant::now();
        let barrier = settle(&fleet, &tally, revision, patience).await;
        if let Some((actor, resource)) = changed {
            let (settled_by, acknowledged) = match &barrier {
                Ok(settled) => match settled.by {
                    SettledBy::Acknowledgements(count) => (ACKNOWLEDGEMENTS, Some(count)),
                    SettledBy::LeaseEnd => (LEASE_END, None),
                },
                Err(_) => (NONE, None),
            };
            let waiting_for = barrier
                .as_ref()
                .err()
                .map(|pending| pending.waiting_for.join(","));
            tracing::info!(
                actor,
                method,
                resource,
                revision = %revision,
                settled_by,
                acknowledged,
                settled_ms = committed.elapsed().as_millis(),
                waiting_for,
                "changed"
            );
        }
        Ok(Made::new(revision, barrier))
    }
}

//! The one way to change a record: decide on what is in memory, commit with what was read, wait until it is in force
//! everywhere.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{Failure, call::Call, shares::Shares};
use crate::{
    domain::{
        Invalid,
        event::{Action, Entity, Event, FieldChange},
        id::{Revision, WorkspaceId},
        secret::Random,
        time::Timestamp,
    },
    fleet::Fleet,
    gate::{clock::Clock, keyring::Keyring},
    store::{Batch, CommitError, Done, Mutation, RecordId, Store, Write},
};

/// What all management shares.
pub struct Management {
    pub(super) store: Arc<dyn Store>,
    pub(super) keyring: Keyring,
    pub(super) fleet: Arc<Fleet>,
    pub(super) clock: Arc<dyn Clock>,
    /// Searches that run or wait.
    pub(super) searches: Arc<Shares>,
    /// Exports that are open.
    pub(super) exports: Arc<Shares>,
    /// Committed changes by call.
    mutations: Mutex<BTreeMap<&'static str, u64>>,
    /// Changes that the store did not acknowledge.
    failed: AtomicU64,
}

/// What a call wants to change.
pub(super) struct Proposal {
    pub(super) action: Action,
    pub(super) entity: Entity,
    pub(super) resource: String,
    pub(super) changes: Vec<FieldChange>,
    pub(super) reads: Vec<(RecordId, Option<Revision>)>,
    /// The workspace on all of whose keys it was decided, and the revision that those were seen at.
    pub(super) quiet: Option<(WorkspaceId, Revision)>,
    pub(super) writes: Vec<Write>,
    pub(super) time: Timestamp,
}

/// What became of a proposal.
pub(super) enum Outcome {
    /// It is committed and in force everywhere.
    Done(Revision),
    /// The call was made before, and this is what it did then. It is in force everywhere.
    Repeated(Done),
    /// What it was decided on has changed, and the change has arrived here: decide again.
    Stale,
}

/// Decisions on a stale record before a call gives up. Each try has lost to a change that was made, so this many calls at
/// once can pass on one record.
pub(super) const TRIES: usize = 100;

impl Management {
    /// Management of a store.
    #[must_use]
    pub fn new(
        store: Arc<dyn Store>,
        keyring: Keyring,
        fleet: Arc<Fleet>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            store,
            keyring,
            fleet,
            clock,
            searches: Shares::new(
                "there are too many searches at once; wait for one to end",
                64,
                4,
            ),
            exports: Shares::new(
                "there are too many exports at once; wait for one to end",
                8,
                2,
            ),
            mutations: Mutex::default(),
            failed: AtomicU64::new(0),
        }
    }

    /// Commits a proposal, and waits until it is in force everywhere.
    pub(super) async fn commit(&self, call: &Call, proposal: Proposal) -> Result<Outcome, Failure> {
        let Call { caller, method, .. } = call;
        let method = *method;
        let mutation = call.mutation()?;
        let Proposal {
            action,
            entity,
            resource,
            changes,
            mut reads,
            quiet,
            writes,
            time,
        } = proposal;
        let event = Event {
            time,
            actor: caller.principal.clone(),
            team: caller.team.clone(),
            action,
            method: method.into(),
            entity,
            resource: resource.clone(),
            changes,
            source_address: caller.source_address.clone(),
            request_id: call.request_id.clone(),
        };
        // A caller whose authority changed since it was judged changes nothing.
        reads.extend(
            caller
                .read
                .clone()
                .map(|(id, revision)| (id, Some(revision))),
        );
        let changes_something = !writes.is_empty();
        let known = self.keyring.applied();
        match self
            .store
            .commit(Batch {
                reads,
                quiet,
                mutation,
                writes,
                event,
            })
            .await
        {
            Ok(revision) => {
                if changes_something {
                    *self
                        .mutations
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .entry(method)
                        .or_default() += 1;
                    tracing::info!(actor = caller.principal, method, resource, revision = %revision, "changed");
                }
                self.fleet.settle(revision, None).await?;
                Ok(Outcome::Done(revision))
            }
            Err(CommitError::NotWritten(error)) => Err(Failure::NotRead(error)),
            Err(CommitError::Conflict(id)) => {
                self.catch_up(known).await;
                match &caller.read {
                    // The record may be the target, too; then deciding again finds the caller's authority changed.
                    Some((own, _)) if *own == id => Err(Failure::Conflict),
                    _ => Ok(Outcome::Stale),
                }
            }
            Err(CommitError::Repeated(done)) => {
                let mutation = mutation.ok_or(Failure::Internal(
                    "the store knows a call that has no request id",
                ))?;
                Ok(Outcome::Repeated(
                    self.accept_repeat(mutation, *done).await?,
                ))
            }
            Err(CommitError::Failed(error)) => {
                self.failed.fetch_add(1, Ordering::Relaxed);
                Err(Failure::Store(error))
            }
        }
    }

    /// Ends a call that finds everything as it wants it: `reads` is what it found, the resource itself first. If it has a
    /// request id, that is remembered, so that its repetition changes nothing should others have changed the resource since.
    pub(super) async fn keep(
        &self,
        call: &Call,
        reads: Vec<(RecordId, Option<Revision>)>,
        revision: Revision,
        time: Timestamp,
    ) -> Result<Outcome, Failure> {
        if call.mutation()?.is_some() {
            let nothing = Proposal {
                action: Action::Update,
                entity: Entity::Key,
                resource: String::new(),
                changes: Vec::new(),
                reads,
                quiet: None,
                writes: Vec::new(),
                time,
            };
            return self.commit(call, nothing).await;
        }
        // The state may be new here and not yet in force elsewhere, and OK means everywhere.
        self.fleet.settle(revision, None).await?;
        Ok(Outcome::Done(revision))
    }

    /// What the call did when it was made before, if it was. Asked before anything is decided: what it changed then may be
    /// why it could not be made again. It is in force everywhere.
    ///
    /// # Errors
    /// If the request id is malformed or was another call's, or the store cannot be asked.
    pub(super) async fn repeated(&self, call: &Call) -> Result<Option<Done>, Failure> {
        let Some(mutation) = call.mutation()? else {
            return Ok(None);
        };
        match self.store.done(mutation.id, self.now()).await {
            Ok(None) => Ok(None),
            Ok(Some(done)) => self.accept_repeat(mutation, done).await.map(Some),
            Err(error) => Err(Failure::Store(error)),
        }
    }

    async fn accept_repeat(&self, mutation: Mutation, done: Done) -> Result<Done, Failure> {
        if done.fingerprint != mutation.fingerprint {
            return Err(Failure::RequestIdReused);
        }
        self.fleet.settle(done.revision, None).await?;
        Ok(done)
    }

    /// What a call answers whose resource is not there. If it is a repeated delete, its caller may take this for the answer
    /// that was lost, so it means the same: gone everywhere.
    pub(super) async fn gone(&self, resource: String) -> Failure {
        match self.fleet.settle(self.keyring.applied(), None).await {
            Ok(_) => Failure::NotFound(resource),
            Err(pending) => pending.into(),
        }
    }

    /// Waits for the change that a decision had not seen.
    async fn catch_up(&self, known: Revision) {
        const LONGEST: std::time::Duration = std::time::Duration::from_secs(1);
        let mut applied = self.keyring.watch();
        // If nothing comes, the next try conflicts again and counts.
        let _ = tokio::time::timeout(LONGEST, applied.wait_for(|&applied| applied > known)).await;
    }

    /// The time, as the store's changes carry it.
    pub(super) fn now(&self) -> Timestamp {
        self.clock.now().wall
    }

    /// Changes that the store did not acknowledge, for metrics.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    /// Committed changes by call, for metrics.
    #[must_use]
    pub fn mutations(&self) -> BTreeMap<&'static str, u64> {
        self.mutations
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// Runs `make` with the system's generator.
///
/// # Errors
/// If the system gave no randomness. What was made is dropped then.
pub(super) fn with_random<T>(make: impl FnOnce(Random<'_>) -> T) -> Result<T, Invalid> {
    let mut failed = false;
    let result = make(&mut |buffer| {
        if !failed && getrandom::fill(buffer).is_err() {
            failed = true;
        }
        if failed {
            // Any bytes do, since what is made of them is dropped; but they must not all be refused by a sampler.
            buffer.fill(0);
        }
    });
    if failed {
        Err(Invalid::new("the system gave no randomness"))
    } else {
        Ok(result)
    }
}

#[cfg(test)]
mod tests;

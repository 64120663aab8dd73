//! The one way to change a record: decide on what is in memory, commit with what was read, wait until it is in force
//! everywhere.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    Failure,
    barrier::{Committing, Made, Tally, settle},
    call::Call,
    shares::Shares,
};
use crate::{
    domain::{
        Invalid,
        event::{Action, Entity, Event, FieldChange},
        id::{Revision, WorkspaceId},
        secret::Random,
        time::Timestamp,
    },
    fleet::Fleet,
    gate::{catch_up::CatchUp as _, clock::Clock, keyring::Keyring},
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
    tally: Arc<Tally>,
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
    /// It is committed.
    Done(Made<Revision>),
    /// The call was made before, and this is what it did then.
    Repeated(Made<Done>),
    /// What it was decided on has changed, and the change has arrived here: decide again.
    Stale,
}

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
            tally: Arc::default(),
        }
    }

    /// Commits a proposal, and waits until it is in force everywhere, or its caller wants to hear.
    pub(super) async fn commit(&self, call: &Call, proposal: Proposal) -> Result<Outcome, Failure> {
        let Call { caller, method, .. } = call;
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
            method: (*method).into(),
            entity,
            resource,
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
        let batch = Batch {
            reads,
            quiet,
            mutation,
            writes,
            event,
        };
        let committing = Committing::new(
            self.store.clone(),
            self.fleet.clone(),
            self.tally.clone(),
            call,
        );
        let committed = tokio::spawn(committing.run(batch))
            .await
            .map_err(|_| Failure::Internal("a commit ended without an answer"))?;
        match committed {
            Ok(made) => Ok(Outcome::Done(made)),
            Err(CommitError::NotWritten(error)) => Err(Failure::NotWritten(error)),
            Err(CommitError::Conflict(id)) => {
                if let Ok(head) = self.store.head().await {
                    self.catch_up(call, head).await;
                }
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
                let repeated = self.accept_repeat(call, mutation, *done).await?;
                Ok(Outcome::Repeated(repeated))
            }
            Err(CommitError::Failed(error)) => Err(Failure::Store(error)),
        }
    }

    /// Ends a call that finds everything as it wants it: `reads` is what it found, the resource itself first, as of `seen`.
    /// If it has a request id, that is remembered, so that its repetition changes nothing should others have changed the
    /// resource since.
    pub(super) async fn keep(
        &self,
        call: &Call,
        reads: Vec<(RecordId, Option<Revision>)>,
        since: &mut Option<Revision>,
        seen: Revision,
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
        if !self.is_current(call, since, seen).await? {
            return Ok(Outcome::Stale);
        }
        // The state may be new here and not yet in force elsewhere, and OK means everywhere.
        let found = reads.first().and_then(|(_, revision)| *revision);
        Ok(Outcome::Done(
            self.settle(call, found.unwrap_or(seen)).await,
        ))
    }

    /// True if what was read at `seen` tells of every change that had been made when the call began; if not, those have
    /// arrived by now, or were waited for. Asked before a call ends because of what it found: on a store that others change,
    /// too, "it is gone" and "it is disabled" may be old news here, and OK would promise what is not so.
    ///
    /// `since` is what the call has to have heard of; it is asked for once.
    pub(super) async fn is_current(
        &self,
        call: &Call,
        since: &mut Option<Revision>,
        seen: Revision,
    ) -> Result<bool, Failure> {
        let head = match *since {
            Some(head) => head,
            None => self.store.head().await.map_err(Failure::NotRead)?,
        };
        *since = Some(head);
        if seen >= head {
            return Ok(true);
        }
        self.catch_up(call, head).await;
        Ok(false)
    }

    /// What the call did when it was made before, if it was. Asked before anything is decided: what it changed then may be
    /// why it could not be made again.
    ///
    /// # Errors
    /// If the request id is malformed or was another call's, or the store cannot be asked.
    pub(super) async fn repeated(&self, call: &Call) -> Result<Option<Made<Done>>, Failure> {
        let Some(mutation) = call.mutation()? else {
            return Ok(None);
        };
        match self.store.done(mutation.id, self.now()).await {
            Ok(None) => Ok(None),
            Ok(Some(done)) => self.accept_repeat(call, mutation, done).await.map(Some),
            Err(error) => Err(Failure::Store(error)),
        }
    }

    async fn accept_repeat(
        &self,
        call: &Call,
        mutation: Mutation,
        done: Done,
    ) -> Result<Made<Done>, Failure> {
        if done.fingerprint != mutation.fingerprint {
            return Err(Failure::RequestIdReused);
        }
        Ok(self.settle(call, done.revision).await.map(|_| done))
    }

    /// What a call answers whose resource was not there at `seen`. If it is a repeated delete, its caller may take this for
    /// the answer that was lost, so it means the same: gone everywhere.
    pub(super) async fn gone(&self, call: &Call, resource: String, seen: Revision) -> Failure {
        match self.settle(call, seen).await.everywhere() {
            Err(short) if !call.only_gives() => short.into(),
            _ => Failure::NotFound(resource),
        }
    }

    /// Waits until what a call came to is in force everywhere.
    async fn settle(&self, call: &Call, revision: Revision) -> Made<Revision> {
        let barrier = settle(&self.fleet, &self.tally, revision, call.patience()).await;
        Made::new(revision, barrier)
    }

    /// Waits for the changes up to `head`, which a decision had not seen.
    async fn catch_up(&self, call: &Call, head: Revision) {
        let mut applied = self.keyring.watch();
        let arrive = async {
            // It asks the store, should nobody have told this replica. Whatever it says, the changes may still be on the way.
            let _ = self.fleet.reach(head).await;
            let _ = applied.wait_for(|&applied| applied >= head).await;
        };
        // If nothing comes, the next try fails again and counts.
        let _ = tokio::time::timeout_at(call.catch_up_until(), arrive).await;
    }

    /// The time, as the store's changes carry it.
    pub(super) fn now(&self) -> Timestamp {
        self.clock.now().wall
    }

    /// Changes that the store did not acknowledge, for metrics.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.tally.failed()
    }

    /// Committed changes by call, for metrics.
    #[must_use]
    pub fn mutations(&self) -> BTreeMap<&'static str, u64> {
        self.tally.mutations()
    }

    /// How full a shared store's memory is, for metrics.
    #[must_use]
    pub fn store_fullness(&self) -> u64 {
        self.fleet.store_fullness()
    }

    /// Waits for a change to be in force everywhere, by how they ended, for metrics.
    #[must_use]
    pub fn barriers(&self) -> [(&'static str, u64); 3] {
        self.tally.barriers()
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
pub(super) mod tests;

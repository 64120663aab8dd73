//! The store of a fleet: a Redis that every replica writes and follows.
//!
//! Every write is a script that first compares the history. Messages only wake: what is told in them is looked up.

mod commit;
mod core;
mod events;
mod layout;
mod link;
mod load;
mod log;
mod scripts;
mod standing;
mod start;

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::{mpsc, watch};

pub use self::start::RedisStartError;
use self::{core::Core, start::Promise};
use super::{
    Batch, Change, CommitError, Direction, Done, FoundEvent, MutationId, Portion, Store,
    StoreError,
    shared::{History, Report, Roll, SharedError, SharedStore, Standing},
};
use crate::domain::{id::Revision, time::Timestamp};

type Answered<T> = Result<T, StoreError>;

/// A store on Redis.
pub struct RedisStore {
    core: Arc<Core>,
    promise: Promise,
    /// Dropped with the store, which ends its tasks.
    open: watch::Sender<()>,
}

impl RedisStore {
    /// Keeps about so many changes in the log, instead of 65,536: a replica that was away for longer reads everything anew.
    #[must_use]
    pub fn keep_in_log(self, changes: u64) -> Self {
        self.core.keep_in_log(changes);
        self
    }
}

#[async_trait]
impl Store for RedisStore {
    async fn load(&self) -> Result<mpsc::Receiver<Result<Portion, StoreError>>, StoreError> {
        load::load(self.core.clone()).await
    }

    async fn head(&self) -> Result<Revision, StoreError> {
        Ok(self.core.own_standing().await?.head)
    }

    async fn commit(&self, batch: Batch) -> Result<Revision, CommitError> {
        self.core.commit(batch).await
    }

    async fn follow(&self, from: Revision) -> Result<mpsc::UnboundedReceiver<Change>, StoreError> {
        log::follow(&self.core, self.open.subscribe(), from).await
    }

    async fn done(&self, id: MutationId, now: Timestamp) -> Result<Option<Done>, StoreError> {
        self.core.done(id, now).await
    }

    async fn events(
        &self,
        after: Option<Revision>,
        direction: Direction,
    ) -> Result<mpsc::Receiver<Result<Vec<FoundEvent>, StoreError>>, StoreError> {
        events::events(self.core.clone(), after, direction).await
    }

    fn durability(&self) -> &'static str {
        self.core.durability()
    }
}

#[async_trait]
impl SharedStore for RedisStore {
    fn own(&self) -> (&str, &str) {
        self.core.own()
    }

    async fn standing(&self) -> Result<Standing, StoreError> {
        self.core.standing().await
    }

    fn adopt(&self, history: History) {
        self.core.adopt(history);
    }

    async fn renew(&self, report: Report) -> Result<Standing, SharedError> {
        self.core.renew(report).await
    }

    async fn roll(&self) -> Result<Roll, StoreError> {
        self.core.roll().await
    }

    async fn remove(&self, incarnation: &str, renewals: u64) -> Result<bool, SharedError> {
        self.core.remove(incarnation, renewals).await
    }

    async fn leave(&self) -> Result<(), SharedError> {
        self.core.leave().await
    }

    async fn open_epoch(&self, found: &Standing, now: Timestamp) -> Result<(), SharedError> {
        // A server that was restarted with other settings may lose what it acknowledges from now on.
        self.promise.check(&self.core.dialer).await?;
        self.core.open_epoch(found, now).await
    }

    async fn fullness(&self) -> Result<Option<u64>, StoreError> {
        self.core.fullness().await
    }

    fn turns(&self) -> watch::Receiver<u64> {
        self.core.signals.turned.subscribe()
    }

    fn acknowledgements(&self) -> watch::Receiver<u64> {
        self.core.acknowledgements()
    }
}

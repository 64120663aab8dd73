//! Reads events step by step, and holds nothing in between.

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::{
    admin::Failure,
    domain::id::Revision,
    store::{Direction, FoundEvent, Store},
};

/// Portions of the store that a step takes, each at most 512 events or about 1 MiB.
const PORTIONS_A_STEP: usize = 4;
/// The most steps that are read at once, whoever asks: each takes a thread.
static READING: Semaphore = Semaphore::const_new(2);

/// A way through the events.
///
/// Between two steps nothing of the store is held, neither a thread nor a state that it would have to keep: it does not
/// matter how long the one who asked takes for what the last step found.
pub(super) struct Walk {
    store: Arc<dyn Store>,
    after: Option<Revision>,
    direction: Direction,
    over: bool,
}

impl Walk {
    /// Begins behind `after`, or at the start.
    pub(super) fn new(
        store: Arc<dyn Store>,
        after: Option<Revision>,
        direction: Direction,
    ) -> Self {
        Self {
            store,
            after,
            direction,
            over: false,
        }
    }

    /// The next events; none: there are no more.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub(super) async fn step(&mut self) -> Result<Vec<FoundEvent>, Failure> {
        let mut step = Vec::new();
        if self.over {
            return Ok(step);
        }
        let _permit = READING
            .acquire()
            .await
            .map_err(|_| Failure::Internal("events are not read any more"))?;
        let mut portions = self
            .store
            .events(self.after, self.direction)
            .await
            .map_err(Failure::NotRead)?;
        for _ in 0..PORTIONS_A_STEP {
            let Some(portion) = portions.recv().await else {
                self.over = true;
                break;
            };
            step.extend(portion.map_err(Failure::NotRead)?);
        }
        match step.last() {
            Some(FoundEvent::Event(record)) => self.after = Some(record.revision),
            Some(FoundEvent::Damaged { at, .. }) => self.after = Some(*at),
            None => self.over = true,
        }
        Ok(step)
    }

    /// True if the last step was the last one.
    pub(super) const fn is_over(&self) -> bool {
        self.over
    }
}

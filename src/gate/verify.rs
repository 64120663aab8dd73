//! Runs argon2 where it cannot hold up a Check that does not need it.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    runtime::Handle,
    sync::{Mutex as Turn, Semaphore},
    time::{Instant, timeout_at},
};
use zeroize::Zeroizing;

use super::{
    keyring::Slot,
    memo::{MemoKey, SecretHash},
};
use crate::domain::credential::SecretRef;

/// How long a verify may wait for its turn. A cold replica must not shed good keys, nor make callers wait past their
/// deadlines.
const LONGEST_WAIT: Duration = Duration::from_millis(50);

/// One for the process: at most half the cores run argon2, and at most one run is for any one secret.
pub struct VerifyPool {
    runtime: Handle,
    permits: Arc<Semaphore>,
    memo_key: MemoKey,
    /// Whose turn it is, by the slot's address. A slot that is gone leaves a dead entry, which the next one sweeps.
    turns: Mutex<HashMap<usize, Weak<Turn<()>>>>,
    counters: Counters,
}

#[derive(Default)]
struct Counters {
    runs: AtomicU64,
    waiting: AtomicU64,
    shed: AtomicU64,
}

/// No verdict: the wait was too long, or the run broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NoVerdict;

impl VerifyPool {
    /// A pool whose runs take place on the runtime's blocking threads.
    ///
    /// # Errors
    /// If the system has no randomness for the memo's key.
    pub fn new(runtime: Handle) -> Result<Self, getrandom::Error> {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Ok(Self {
            runtime,
            permits: Arc::new(Semaphore::new((cores / 2).max(1))),
            memo_key: MemoKey::random()?,
            turns: Mutex::default(),
            counters: Counters::default(),
        })
    }

    pub(super) fn hash(&self, secret: SecretRef<'_>) -> SecretHash {
        self.memo_key.hash(secret)
    }

    /// Has argon2 judge a secret that nothing else could, and remembers a match in the slot.
    pub(super) async fn verify(
        &self,
        slot: &Arc<Slot>,
        secret: SecretRef<'_>,
    ) -> Result<bool, NoVerdict> {
        let deadline = Instant::now() + LONGEST_WAIT;
        let waiting = Waiting::new(&self.counters);
        let shed = |_| {
            self.counters.shed.fetch_add(1, Ordering::Relaxed);
            NoVerdict
        };
        let turn = timeout_at(deadline, self.turn(slot).lock_owned())
            .await
            .map_err(shed)?;
        let hash = self.hash(secret);
        if let Some(verdict) = slot.memo.recall(hash) {
            return Ok(verdict);
        }
        let permits = self.permits.clone();
        let permit = timeout_at(deadline, permits.acquire_owned())
            .await
            .map_err(shed)?
            .map_err(|_| NoVerdict)?;
        drop(waiting);

        self.counters.runs.fetch_add(1, Ordering::Relaxed);
        let slot = slot.clone();
        let secret = Zeroizing::new(*secret.expose());
        let run = self.runtime.spawn_blocking(move || {
            // Both are held by the run itself, not by its caller, who may go away in the middle.
            let _held = (permit, turn);
            let proved = slot.secret.verifier.verify(SecretRef::new(&secret));
            if proved {
                slot.memo.remember(hash);
            }
            proved
        });
        run.await.map_err(|_| NoVerdict)
    }

    fn turn(&self, slot: &Arc<Slot>) -> Arc<Turn<()>> {
        const SWEEP_ABOVE: usize = 64;
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        if turns.len() > SWEEP_ABOVE {
            turns.retain(|_, turn| turn.strong_count() > 0);
        }
        let address = Arc::as_ptr(slot).addr();
        if let Some(turn) = turns.get(&address).and_then(Weak::upgrade) {
            return turn;
        }
        let turn = Arc::new(Turn::new(()));
        turns.insert(address, Arc::downgrade(&turn));
        turn
    }

    /// Holds back every verify until dropped.
    #[cfg(test)]
    pub(super) fn hold_all_permits(&self) -> tokio::sync::OwnedSemaphorePermit {
        let all = u32::try_from(self.permits.available_permits()).unwrap();
        self.permits.clone().try_acquire_many_owned(all).unwrap()
    }

    /// How often argon2 ran.
    #[must_use]
    pub fn runs(&self) -> u64 {
        self.counters.runs.load(Ordering::Relaxed)
    }

    /// How many verifies wait for their turn.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.counters.waiting.load(Ordering::Relaxed)
    }

    /// How many verifies were turned away because they waited too long.
    #[must_use]
    pub fn shed(&self) -> u64 {
        self.counters.shed.load(Ordering::Relaxed)
    }
}

/// Counts as waiting until dropped.
struct Waiting<'a>(&'a Counters);

impl<'a> Waiting<'a> {
    fn new(counters: &'a Counters) -> Self {
        counters.waiting.fetch_add(1, Ordering::Relaxed);
        Self(counters)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;

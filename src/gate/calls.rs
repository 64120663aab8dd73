//! Counts the calls that are open, so that a drain knows when the last one is answered.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

/// The open calls of a process.
#[derive(Debug, Clone, Default)]
pub struct Calls(Arc<Mutex<Vec<Lane>>>);

/// The calls of one thread or listener: a lane of its own costs no other thread anything.
#[derive(Debug, Clone, Default)]
pub struct Lane(Arc<Counters>);

#[derive(Debug, Default)]
#[repr(align(128))]
struct Counters {
    begun: AtomicU64,
    ended: AtomicU64,
}

impl Calls {
    /// One more lane.
    #[must_use]
    pub fn lane(&self) -> Lane {
        let lane = Lane::default();
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(lane.clone());
        lane
    }

    /// Returns once no call has been open, and none begun, for this long.
    pub async fn silent_for(&self, silence: Duration) {
        let mut before = None;
        loop {
            let now = self.count();
            if now.0 == now.1 && before == Some(now) {
                return;
            }
            before = Some(now);
            tokio::time::sleep(silence).await;
        }
    }

    /// Calls begun and ended since the start.
    fn count(&self) -> (u64, u64) {
        let lanes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // What has ended is read first: a call that is counted as ended was begun.
        let ended = lanes
            .iter()
            .map(|lane| lane.0.ended.load(Ordering::SeqCst))
            .sum();
        let begun = lanes
            .iter()
            .map(|lane| lane.0.begun.load(Ordering::SeqCst))
            .sum();
        (begun, ended)
    }
}

impl Lane {
    /// Counts a call as open until its future is gone.
    pub fn count<F>(&self, call: F) -> Counted<F> {
        self.0.begun.fetch_add(1, Ordering::SeqCst);
        Counted {
            call,
            _open: Open(self.clone()),
        }
    }
}

struct Open(Lane);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.0.ended.fetch_add(1, Ordering::SeqCst);
    }
}

/// A call that is counted.
pub struct Counted<F> {
    call: F,
    _open: Open,
}

impl<F: Future + Unpin> Future for Counted<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        Pin::new(&mut self.call).poll(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::{Instant, sleep};

    /// Time is the test's own, so the waits are exact.
    #[tokio::test(start_paused = true)]
    async fn silence_begins_when_the_last_call_has_ended() {
        const SILENCE: Duration = Duration::from_secs(2);
        let calls = Calls::default();
        let (one, two) = (calls.lane(), calls.lane());
        let started = Instant::now();
        let slow = one.count(Box::pin(sleep(Duration::from_secs(7))));
        let quick = two.count(Box::pin(sleep(Duration::from_secs(3))));
        tokio::spawn(async move { tokio::join!(slow, quick) });
        calls.silent_for(SILENCE).await;
        let waited = started.elapsed();
        assert!(
            waited >= Duration::from_secs(9) && waited <= Duration::from_secs(11),
            "{waited:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_between_two_looks_is_no_silence() {
        const SILENCE: Duration = Duration::from_secs(2);
        let calls = Calls::default();
        let lane = calls.lane();
        let started = Instant::now();
        tokio::spawn(async move {
            sleep(Duration::from_secs(1)).await;
            lane.count(Box::pin(async {})).await;
        });
        calls.silent_for(SILENCE).await;
        assert_eq!(started.elapsed(), 2 * SILENCE);
    }
}

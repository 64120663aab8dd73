//! What a listener does when a connection cannot be accepted: wait a little, and say so now and then.

use std::{io, time::Duration};

use tokio::time::{Instant, sleep};

/// Without a pause, a process out of file descriptors would do nothing but fail to accept.
const PAUSE: Duration = Duration::from_millis(50);
/// A flood of failures must not become a flood of log lines.
const SILENCE: Duration = Duration::from_secs(10);

/// The failures of one listener.
#[derive(Debug)]
pub struct AcceptFailures {
    listener: &'static str,
    told: Option<Instant>,
    untold: u64,
}

impl AcceptFailures {
    /// None so far.
    #[must_use]
    pub const fn new(listener: &'static str) -> Self {
        Self {
            listener,
            told: None,
            untold: 0,
        }
    }

    /// Takes note of a failure: out of file descriptors, or a peer that went away while queued. Neither ends a listener.
    pub async fn wait(&mut self, error: &io::Error) {
        self.tell(error);
        sleep(PAUSE).await;
    }

    /// Takes note of a connection that was refused: the next one need not wait for it.
    pub fn refused(&mut self) {
        self.tell(&io::Error::other("there are too many already"));
    }

    fn tell(&mut self, error: &io::Error) {
        if self.told.is_none_or(|told| told.elapsed() >= SILENCE) {
            let (listener, more) = (self.listener, self.untold);
            tracing::warn!(listener, error = %error, since_last_told = more, "a connection was not accepted");
            self.told = Some(Instant::now());
            self.untold = 0;
        } else {
            self.untold += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn failures_are_slowed_down_and_told_now_and_then() {
        let mut failures = AcceptFailures::new("test");
        let started = Instant::now();
        let error = io::Error::other("too many open files");
        let mut told = 0;
        for _ in 0..1_000 {
            failures.wait(&error).await;
            told += u64::from(failures.untold == 0);
        }
        assert_eq!(started.elapsed(), 1_000 * PAUSE);
        assert_eq!(told, 5, "in 50 s, one in 10 s");
    }
}

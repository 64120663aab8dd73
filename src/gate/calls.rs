//! Counts the calls that are open, so that a drain knows when the last one is answered.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::Body;

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
    /// Counts a call as open until the guard is gone.
    #[must_use]
    pub fn open(&self) -> Open {
        self.0.begun.fetch_add(1, Ordering::SeqCst);
        Open(self.clone())
    }
}

/// A call that is open.
#[derive(Debug)]
pub struct Open(Lane);

impl Open {
    /// The body of the call's answer: the call is open until every byte of it is written to the socket, or given up.
    ///
    /// HTTP/2 takes a body's pieces before the peer has room for them, so that the end of the body is not the end of the
    /// call; each piece holds it open for itself.
    pub fn until_sent<B: Body<Data = Bytes>>(
        self,
        body: B,
    ) -> impl Body<Data = Bytes, Error = B::Error> {
        let open = Arc::new(self);
        body.map_frame(move |frame| {
            frame.map_data(|bytes| {
                let open = open.clone();
                Bytes::from_owner(Piece { bytes, _open: open })
            })
        })
    }
}

/// A piece of an answer.
struct Piece {
    bytes: Bytes,
    _open: Arc<Open>,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.0.ended.fetch_add(1, Ordering::SeqCst);
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
        for (lane, seconds) in [(one, 7), (two, 3)] {
            let open = lane.open();
            tokio::spawn(async move {
                sleep(Duration::from_secs(seconds)).await;
                drop(open);
            });
        }
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
            drop(lane.open());
        });
        calls.silent_for(SILENCE).await;
        assert_eq!(started.elapsed(), 2 * SILENCE);
    }

    #[tokio::test]
    async fn a_call_is_open_until_the_last_piece_of_its_answer_is_gone() {
        let calls = Calls::default();
        let answer = tonic::body::Body::new(http_body_util::Full::new(Bytes::from("answer")));
        let mut body = Box::pin(calls.lane().open().until_sent(answer));
        let piece = body.frame().await.unwrap().unwrap().into_data().unwrap();
        drop(body);
        assert_eq!((&piece[..], calls.count()), (&b"answer"[..], (1, 0)));
        drop(piece);
        assert_eq!(calls.count(), (1, 1));
    }
}

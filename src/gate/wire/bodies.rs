//! The bodies of requests that are not there whole: how long they may take, and how many bytes of them are held.

use std::{
    future::Future as _,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::{Sleep, sleep};
use tonic::Status;

use crate::status::limit_reached;

/// From the first moment that a body is waited for to its end.
pub const BODY_LIMIT: Duration = Duration::from_secs(10);
/// Of the unfinished calls of a listener, all connections together.
pub const MOST_HELD: u64 = 128 << 20;
/// And of one connection: eight of the largest requests at once.
pub const MOST_HELD_FOR_ONE: u64 = 16 << 20;

/// Before each message: whether it is compressed (1 byte), its length (4 bytes).
const HEAD: usize = 5;

/// Bytes that are held for the calls of a listener which are not finished: parts of requests, and large answers that were
/// not taken.
///
/// What arrives whole is never counted: it is decided upon and gone before anything else of its thread runs.
#[derive(Debug, Clone, Default)]
pub struct HeldBytes(Arc<AtomicU64>);

/// What is held for one connection.
#[derive(Debug, Clone)]
pub struct Share(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    all: HeldBytes,
    most: u64,
    own: AtomicU64,
}

/// Bytes that are held until this is dropped.
#[derive(Debug)]
pub struct Held {
    share: Share,
    bytes: u64,
}

impl HeldBytes {
    /// The share of one connection.
    #[must_use]
    pub fn share(&self) -> Share {
        self.share_of(MOST_HELD_FOR_ONE)
    }

    /// A share of this many bytes.
    #[must_use]
    pub fn share_of(&self, most: u64) -> Share {
        Share(Arc::new(Shared {
            all: self.clone(),
            most,
            own: AtomicU64::new(0),
        }))
    }
}

impl Share {
    /// Holds nothing yet.
    #[must_use]
    pub fn hold(&self) -> Held {
        Held {
            share: self.clone(),
            bytes: 0,
        }
    }

    /// Whether so many more may be held. They are then.
    fn take(&self, more: u64) -> bool {
        let Shared { all, most, own } = &*self.0;
        let below = |counter: &AtomicU64, most: u64| {
            let add = |held: u64| held.checked_add(more).filter(|&held| held <= most);
            counter
                .try_update(Ordering::Relaxed, Ordering::Relaxed, add)
                .is_ok()
        };
        if !below(own, *most) {
            return false;
        }
        if !below(&all.0, MOST_HELD) {
            own.fetch_sub(more, Ordering::Relaxed);
            return false;
        }
        true
    }
}

impl Held {
    /// Holds `bytes` in all, if there is room for them.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED`, if there is not.
    pub fn grow_to(&mut self, bytes: u64) -> Result<(), Status> {
        if bytes > self.bytes {
            if !self.share.take(bytes - self.bytes) {
                return Err(limit_reached(
                    "too many bytes of unfinished calls are held already",
                ));
            }
            self.bytes = bytes;
        }
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // Most calls arrive whole and never held anything.
        if self.bytes > 0 {
            let Shared { all, own, .. } = &*self.share.0;
            own.fetch_sub(self.bytes, Ordering::Relaxed);
            all.0.fetch_sub(self.bytes, Ordering::Relaxed);
        }
    }
}

/// The body of a request, with a limit to how long it is waited for and to how much of it.
#[derive(Debug)]
pub struct RequestBody<B> {
    body: B,
    held: Held,
    /// Bytes that have been passed on.
    passed: u64,
    /// The first of them, which say how long the first message is. The library makes room for all of it at once, and a
    /// few bytes of 2 MiB cost the process as much as all: counted by what has come, 10,000 calls held 1.7 GiB.
    head: [u8; HEAD],
    limit: Limit,
}

/// How long a body is waited for.
#[derive(Debug)]
enum Limit {
    /// For as long as its peer likes.
    None,
    /// It has not been waited for yet.
    Unset,
    Running(Pin<Box<Sleep>>),
}

impl<B> RequestBody<B> {
    /// The body of a request that is sent at once.
    pub fn new(body: B, share: &Share) -> Self {
        Self {
            body,
            held: share.hold(),
            passed: 0,
            head: [0; HEAD],
            limit: Limit::Unset,
        }
    }

    /// The body of a call whose requests may be long in coming.
    pub fn lasting(body: B, share: &Share) -> Self {
        Self {
            limit: Limit::None,
            ..Self::new(body, share)
        }
    }

    /// Takes note of what is passed on. If it is the first part of a message, there must be room for all of it.
    fn pass(&mut self, data: &Bytes) -> Result<(), Status> {
        if self.passed < HEAD as u64 {
            let at = usize::try_from(self.passed).unwrap_or(HEAD);
            for (head, byte) in self.head[at..].iter_mut().zip(data) {
                *head = *byte;
            }
        }
        self.passed += data.len() as u64;
        let needed = self.needed();
        // What is longer than any message may be is refused for that, and nothing is held for it.
        if needed > self.passed && needed <= MOST_HELD_FOR_ONE {
            self.held.grow_to(needed)?;
        }
        Ok(())
    }

    /// The bytes of the first message, or as many as have come.
    fn needed(&self) -> u64 {
        if self.passed < HEAD as u64 {
            return self.passed;
        }
        let [_, length @ ..] = self.head;
        let first = HEAD as u64 + u64::from(u32::from_be_bytes(length));
        first.max(self.passed)
    }

    /// Whether the rest is still worth waiting for.
    #[cold]
    fn wait(&mut self, context: &mut Context<'_>) -> Poll<Status> {
        if let Err(status) = self.held.grow_to(self.needed()) {
            return Poll::Ready(status);
        }
        if let Limit::Unset = self.limit {
            self.limit = Limit::Running(Box::pin(sleep(BODY_LIMIT)));
        }
        match &mut self.limit {
            Limit::Running(timer) => timer.as_mut().poll(context).map(|()| {
                Status::deadline_exceeded(format!(
                    "the request was not there whole after {} s",
                    BODY_LIMIT.as_secs()
                ))
            }),
            Limit::None | Limit::Unset => Poll::Pending,
        }
    }
}

impl<B> Body for RequestBody<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        match Pin::new(&mut self.body).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => {
                let passed = frame.data_ref().map_or(Ok(()), |data| self.pass(data));
                Poll::Ready(Some(passed.map(|()| frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                Poll::Ready(Some(Err(Status::from_error(error.into()))))
            }
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => self.wait(context).map(|status| Some(Err(status))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests;

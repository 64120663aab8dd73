//! A call that changes something: who makes it, how long it may take, and what tells it from every other, so that it can be
//! repeated.

use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tokio::time::Instant;
use tonic::metadata::MetadataMap;

use super::{Failure, caller::Caller};
use crate::store::{Mutation, MutationId};

/// The longest request id, in characters.
const MAX_REQUEST_ID: usize = 64;

/// Decisions on a stale record before a call gives up. Each try has lost to a change that was made, so this many calls at
/// once can pass on one record.
const TRIES: usize = 100;
/// The longest that a call without a deadline goes on trying.
const LONGEST_TRYING: Duration = Duration::from_secs(10);
/// The longest wait for a change that others made.
const LONGEST_CATCH_UP: Duration = Duration::from_secs(1);
/// The longest that a call which only gives waits to be in force everywhere.
const LONGEST_GIVING: Duration = Duration::from_secs(1);

/// When the answer to a call has to be under way so that it arrives before the caller's deadline, which its `grpc-timeout`
/// sets; `None`: it has none. Counted from now, so to be asked before anything else is done.
#[must_use]
pub fn answer_by(metadata: &MetadataMap) -> Option<Instant> {
    const SHORTEST_MARGIN: Duration = Duration::from_millis(20);
    const LONGEST_MARGIN: Duration = Duration::from_millis(500);
    let timeout = parse_timeout(metadata.get("grpc-timeout")?.as_bytes())?;
    let margin = (timeout / 10).clamp(SHORTEST_MARGIN, LONGEST_MARGIN);
    Instant::now().checked_add(timeout.saturating_sub(margin))
}

/// Reads 1 to 8 digits and a unit, as gRPC writes a timeout; `None`: it is malformed, which is as if there were none.
fn parse_timeout(text: &[u8]) -> Option<Duration> {
    let (unit, digits) = text.split_last()?;
    if !matches!(digits.len(), 1..=8) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let value = digits
        .iter()
        .fold(0, |value, digit| value * 10 + u64::from(digit - b'0'));
    Some(match unit {
        b'H' => Duration::from_secs(value * 3_600),
        b'M' => Duration::from_secs(value * 60),
        b'S' => Duration::from_secs(value),
        b'm' => Duration::from_millis(value),
        b'u' => Duration::from_micros(value),
        b'n' => Duration::from_nanos(value),
        _ => return None,
    })
}

/// The tries of a call. There is always one.
#[derive(Debug)]
pub(super) struct Tries {
    left: usize,
    until: Instant,
}

impl Iterator for Tries {
    type Item = ();

    fn next(&mut self) -> Option<()> {
        if self.left < TRIES && Instant::now() >= self.until {
            return None;
        }
        self.left = self.left.checked_sub(1)?;
        Some(())
    }
}

/// A call that changes something.
#[derive(Debug, Clone)]
pub struct Call {
    /// Who makes it.
    pub caller: Caller,
    /// Its name in the API.
    pub method: &'static str,
    /// The caller's own id of it; empty: it has none.
    pub request_id: String,
    fingerprint: [u8; 32],
    answer_by: Option<Instant>,
}

/// How long a call may wait once it is committed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    answer_by: Option<Instant>,
    longest: Option<Duration>,
}

impl Patience {
    /// When a wait that begins now ends at the latest; `None`: when the fleet says.
    pub(super) fn until(self) -> Option<Instant> {
        let longest = self.longest.map(|longest| Instant::now() + longest);
        match (self.answer_by, longest) {
            (Some(by), Some(longest)) => Some(by.min(longest)),
            (by, longest) => by.or(longest),
        }
    }
}

impl Call {
    /// A call with its request's bytes, the `request_id` left out.
    #[must_use]
    pub fn new(caller: Caller, method: &'static str, request_id: String, body: &[u8]) -> Self {
        let fingerprint = Sha256::new()
            .chain_update(method)
            .chain_update([0])
            .chain_update(body)
            .finalize();
        Self {
            caller,
            method,
            request_id,
            fingerprint: fingerprint.into(),
            answer_by: None,
        }
    }

    /// The same call, to be answered by then; `None`: its caller waits as long as it takes.
    #[must_use]
    pub const fn to_answer_by(mut self, by: Option<Instant>) -> Self {
        self.answer_by = by;
        self
    }

    /// How long it may wait, once it is committed, to be in force everywhere. Of what only gives nothing unsafe remains where
    /// it has not arrived, so that does not wait for a replica which is slow or gone.
    pub(super) fn patience(&self) -> Patience {
        Patience {
            answer_by: self.answer_by,
            longest: self.only_gives().then_some(LONGEST_GIVING),
        }
    }

    /// True if it takes nothing away. Whatever is not known to be harmless does.
    pub(super) fn only_gives(&self) -> bool {
        matches!(self.method, "CreateKey" | "CreateWorkspace" | "EnableKey")
    }

    /// When a wait for what it is decided on ends at the latest.
    pub(super) fn catch_up_until(&self) -> Instant {
        let latest = Instant::now() + LONGEST_CATCH_UP;
        self.answer_by.map_or(latest, |by| by.min(latest))
    }

    /// Tries to decide on records that others keep changing: so many, and as long as the caller waits.
    pub(super) fn tries(&self) -> Tries {
        Tries {
            left: TRIES,
            until: self
                .answer_by
                .unwrap_or_else(|| Instant::now() + LONGEST_TRYING),
        }
    }

    /// What the store knows the call by, should it come again; `None`: it has no request id.
    ///
    /// The id belongs to its caller: nobody learns, or stops, what another did by guessing theirs.
    ///
    /// # Errors
    /// If the request id is malformed.
    pub(super) fn mutation(&self) -> Result<Option<Mutation>, Failure> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        match &*self.request_id {
            "" => Ok(None),
            id if id.len() <= MAX_REQUEST_ID && id.bytes().all(plain) => {
                let name = Sha256::new()
                    .chain_update("portcullis mutation 1")
                    .chain_update([0])
                    // Neither holds a zero byte.
                    .chain_update(&self.caller.principal)
                    .chain_update([0])
                    .chain_update(id)
                    .finalize();
                Ok(Some(Mutation {
                    id: MutationId(name.into()),
                    fingerprint: self.fingerprint,
                }))
            }
            _ => Err(Failure::invalid(
                "request_id",
                "must be 1 to 64 letters, digits, '-', '_' and '.'",
            )),
        }
    }
}

#[cfg(test)]
mod tests;

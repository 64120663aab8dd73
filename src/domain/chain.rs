//! The hash chain over the audit events: what proves that none was changed, taken out or put in.
//!
//! `h₀` is 32 zero bytes, and `hₙ = SHA-256(hₙ₋₁ ‖ n ‖ digestₙ)` with `n` as 8 big-endian bytes. Nothing stores the links:
//! who reads the events makes them anew. They prove nothing by themselves, since whoever can write events can chain
//! them; they prove that the events are those of a head that was kept elsewhere.

use std::fmt;

use sha2::{Digest as _, Sha256};

use super::{Invalid, id::Revision};

/// Where a chain stands: all events up to a revision, in 32 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ChainHead {
    /// The last event's revision.
    pub revision: Revision,
    /// `hₙ`.
    pub hash: [u8; 32],
}

/// A chain in the making, one event after another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    head: ChainHead,
}

/// Why an event is not the next link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BrokenLink {
    /// Events are missing before it.
    #[error("event {found} follows, where {due} is due")]
    Missing {
        /// The first that is missing.
        due: Revision,
        /// What came instead.
        found: Revision,
    },
    /// It is in the chain already, or belongs before its end.
    #[error("event {found} follows {last}, and is not after it")]
    Repeated {
        /// The last link.
        last: Revision,
        /// What came after it.
        found: Revision,
    },
}

impl ChainHead {
    /// Before the first event.
    pub const START: Self = Self {
        revision: Revision {
            epoch: 0,
            number: 0,
        },
        hash: [0; 32],
    };

    /// Reads `{revision}:{64 hexadecimal digits}`, as [`Display`](fmt::Display) writes it.
    ///
    /// # Errors
    /// If the text is of any other form.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let malformed =
            || Invalid::new("must be of the form {epoch}.{number}:{64 hexadecimal digits}");
        let (revision, digits) = text.split_once(':').ok_or_else(malformed)?;
        let revision = Revision::parse(revision).ok_or_else(malformed)?;
        let digits = digits.as_bytes();
        if digits.len() != 64 {
            return Err(malformed());
        }
        let mut hash = [0; 32];
        for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
            let [high, low] = [pair[0], pair[1]].map(|digit| match digit {
                b'0'..=b'9' => Some(digit - b'0'),
                b'a'..=b'f' => Some(digit - b'a' + 10),
                _ => None,
            });
            *byte = high.ok_or_else(malformed)? << 4 | low.ok_or_else(malformed)?;
        }
        Ok(Self { revision, hash })
    }
}

impl fmt::Display for ChainHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.revision)?;
        self.hash
            .iter()
            .try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Chain {
    /// A chain that begins with the first event.
    #[must_use]
    pub const fn new() -> Self {
        Self::after(ChainHead::START)
    }

    /// A chain that goes on from a head which is trusted.
    #[must_use]
    pub const fn after(head: ChainHead) -> Self {
        Self { head }
    }

    /// Where it stands.
    #[must_use]
    pub const fn head(&self) -> ChainHead {
        self.head
    }

    /// Appends the event of a revision. Numbers are dense within an epoch, and an epoch begins with 1, so a hole shows here
    /// and not only in the hash. Where an epoch should have ended cannot show: only the head can tell.
    ///
    /// # Errors
    /// If that event is not the next one. The chain stays as it was.
    pub fn link(&mut self, revision: Revision, digest: &[u8; 32]) -> Result<(), BrokenLink> {
        let ChainHead {
            revision: last,
            hash,
        } = self.head;
        if revision <= last {
            return Err(BrokenLink::Repeated {
                last,
                found: revision,
            });
        }
        let due = if revision.epoch == last.epoch {
            last.next()
        } else {
            Revision {
                epoch: revision.epoch,
                number: 1,
            }
        };
        if revision != due {
            return Err(BrokenLink::Missing {
                due,
                found: revision,
            });
        }
        let hash = Sha256::new()
            .chain_update(hash)
            .chain_update(revision.number.to_be_bytes())
            .chain_update(digest)
            .finalize()
            .into();
        self.head = ChainHead { revision, hash };
        Ok(())
    }
}

impl Default for Chain {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests;

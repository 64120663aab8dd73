//! How long this replica may still answer ALLOW.

use std::sync::atomic::{AtomicU64, Ordering};

use super::clock::Boottime;

/// A deadline on the boot clock. Past it, nothing is allowed.
///
/// The lease is read before the clock, and the clock before the record. Another order lets a pause between the two pass a
/// revoked key.
#[derive(Debug)]
pub struct Lease {
    /// Nanoseconds on the boot clock.
    deadline: AtomicU64,
}

impl Lease {
    /// A lease that does not run out: for a store that no other replica changes.
    #[must_use]
    pub const fn unlimited() -> Self {
        Self {
            deadline: AtomicU64::new(u64::MAX),
        }
    }

    /// A lease that has not begun: nothing is allowed before the first [`extend`](Self::extend).
    #[must_use]
    pub const fn none() -> Self {
        Self {
            deadline: AtomicU64::new(0),
        }
    }

    /// Lets it run until `deadline`, if that is later than what it has.
    pub fn extend(&self, deadline: Boottime) {
        self.deadline.fetch_max(deadline.0, Ordering::SeqCst);
    }

    /// Ends the lease at once, until it is extended again.
    pub fn fence(&self) {
        self.deadline.store(0, Ordering::SeqCst);
    }

    /// When it runs out.
    #[must_use]
    pub fn deadline(&self) -> Boottime {
        Boottime(self.deadline.load(Ordering::SeqCst))
    }

    /// True if it was ended, or never begun. One that ran out is not: that takes a clock.
    #[must_use]
    pub fn is_fenced(&self) -> bool {
        self.deadline() == Boottime(0)
    }
}

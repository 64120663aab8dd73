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

    /// Ends the lease at once and for good.
    pub fn fence(&self) {
        self.deadline.store(0, Ordering::SeqCst);
    }

    /// When it runs out.
    #[must_use]
    pub fn deadline(&self) -> Boottime {
        Boottime(self.deadline.load(Ordering::SeqCst))
    }

    /// True once nothing can be allowed any more.
    #[must_use]
    pub fn is_fenced(&self) -> bool {
        self.deadline() == Boottime(0)
    }
}

//! How a Check gets to a state that its caller has seen elsewhere.

use async_trait::async_trait;

use crate::domain::id::Revision;

/// Brings this replica further along.
#[async_trait]
pub trait CatchUp: Send + Sync + 'static {
    /// Returns once everything up to `revision` is in force here. It does not wait long.
    ///
    /// # Errors
    /// [`NotReached`].
    async fn reach(&self, revision: Revision) -> Result<(), NotReached>;
}

/// Why a revision is not in force here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotReached {
    /// The store has none such: it lies ahead of everything that was recorded.
    #[error("the revision lies ahead of everything that the store has recorded")]
    Ahead,
    /// This replica is behind it, and did not catch up in time.
    #[error("this replica is behind the revision, and did not catch up in time")]
    Behind,
}

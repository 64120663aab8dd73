//! There is always a root in force: the last one stays as it is.

use super::{Failure, mutation::Management};
use crate::{
    domain::{
        id::{KeyId, WorkspaceId},
        key::Key,
        name::of_workspace,
    },
    gate::checker::Undecided,
    store::WorkspaceRecord,
};

impl Management {
    /// Lets a key become `after`, or go, unless it is the last root in force. A change that takes a root away has the
    /// record answered in its reads, and writes it again: of two such changes at once only one is committed as it was
    /// decided.
    ///
    /// # Errors
    /// [`Failure::LastRoot`].
    pub(super) async fn release_root(
        &self,
        before: &Key,
        after: Option<&Key>,
    ) -> Result<Option<WorkspaceRecord>, Failure> {
        if !before.is_root_in_force() || after.is_some_and(Key::is_root_in_force) {
            return Ok(None);
        }
        let system = WorkspaceId::system();
        let record = self
            .keyring
            .workspace(&system)
            .ok_or_else(|| Failure::Unreadable(of_workspace(&system)))?;
        // The keys that are looked at next must be at least as new as this record. It may have been put in place a
        // moment before the key that was written with it.
        self.keyring
            .watch()
            .wait_for(|&applied| applied >= record.revision)
            .await
            .map_err(|_| Failure::Undecided(Undecided::Fenced))?;
        if self.has_root_beside(before.id) {
            Ok(Some(record))
        } else {
            Err(Failure::LastRoot(before.name().to_string()))
        }
    }

    /// A key whose record cannot be read is none.
    fn has_root_beside(&self, id: KeyId) -> bool {
        let system = WorkspaceId::system();
        let beside = |key: &Key| key.id != id && key.is_root_in_force();
        self.keyring.find_key(&system, beside).is_some()
    }
}

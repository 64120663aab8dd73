//! What administration asks of workspaces, and of all keys of one.

use std::ops::Bound;

use super::{Entry, Keyring, ListPosition, directory::Listing};
use crate::{
    domain::{
        id::{KeyId, WorkspaceId},
        key::Key,
    },
    store::WorkspaceRecord,
};

impl Keyring {
    /// A workspace's record.
    #[must_use]
    pub fn workspace(&self, id: &WorkspaceId) -> Option<WorkspaceRecord> {
        self.directory().workspaces.get(id).cloned()
    }

    /// True if there is, or was, a workspace of this id.
    #[must_use]
    pub fn is_taken(&self, id: &WorkspaceId) -> bool {
        self.directory().taken.contains(id)
    }

    /// Up to `limit` workspaces after `after`, by id, as far as `wanted` likes them.
    pub fn list_workspaces(
        &self,
        after: Option<&WorkspaceId>,
        limit: usize,
        wanted: impl Fn(&WorkspaceId) -> bool,
    ) -> Vec<WorkspaceRecord> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let directory = self.directory();
        let following = directory
            .workspaces
            .range::<WorkspaceId, _>((from, Bound::Unbounded));
        following
            .filter(|(id, _)| wanted(id))
            .take(limit)
            .map(|(_, record)| record.clone())
            .collect()
    }

    /// The archived keys of a workspace, first the ones archived first.
    #[must_use]
    pub fn archived(&self, workspace: &WorkspaceId) -> Vec<KeyId> {
        let directory = self.directory();
        let listing = directory.listing(workspace);
        listing.map(Listing::archived).unwrap_or_default()
    }

    /// True if a workspace has any key, archived ones included.
    #[must_use]
    pub fn has_keys(&self, workspace: &WorkspaceId) -> bool {
        self.directory().listing(workspace).is_some()
    }

    /// Any key of a workspace that `wanted` likes. It looks at each key as it is then, in small portions, so that no change
    /// has to wait for it.
    #[must_use]
    pub fn find_key(&self, workspace: &WorkspaceId, wanted: impl Fn(&Key) -> bool) -> Option<Key> {
        let mut after: Option<ListPosition> = None;
        loop {
            let positions: Vec<ListPosition> = {
                let directory = self.directory();
                let rows = directory.listing(workspace)?.rows_after(after);
                rows.iter().map(|row| row.position).collect()
            };
            after = Some(*positions.last()?);
            let found = positions.iter().find_map(|position| {
                self.with(position.id(), |entry| match entry {
                    Some(Entry::Key(cached)) if wanted(&cached.key) => Some(cached.key.clone()),
                    _ => None,
                })
            });
            if found.is_some() {
                return found;
            }
        }
    }
}

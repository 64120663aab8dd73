//! Since when no key of a workspace has changed.

use std::collections::HashMap;

use crate::domain::id::{Revision, WorkspaceId};

/// Workspaces that are told apart. Past this many all count as changed at the latest change of any.
const MOST: usize = 65_536;

/// The last change of a key of each workspace, kept by the writer. It never says that a workspace was quiet which was not;
/// it may say the reverse, and the callers, whose knowledge has caught up by then, decide again.
pub(super) struct KeyWrites {
    /// The last change of those that are not in `last`, at the latest. On opening, the head: who decides has loaded that.
    floor: Revision,
    last: HashMap<WorkspaceId, Revision>,
}

/// What the batches of a group have changed. It counts for the batches after them at once, but is kept only if the group is
/// committed: a revision that nobody ever hears of could not be caught up with.
#[derive(Default)]
pub(super) struct Staged(HashMap<WorkspaceId, Revision>);

impl Staged {
    /// Notes that a key of this workspace is written or deleted.
    pub(super) fn note(&mut self, workspace: &WorkspaceId, revision: Revision) {
        match self.0.get_mut(workspace) {
            Some(last) => *last = revision,
            None => drop(self.0.insert(workspace.clone(), revision)),
        }
    }
}

impl KeyWrites {
    /// Of a store that stands at `head`.
    pub(super) fn new(head: Revision) -> Self {
        Self {
            floor: head,
            last: HashMap::new(),
        }
    }

    /// The last change of a key of this workspace, or a later revision.
    pub(super) fn last(&self, workspace: &WorkspaceId, staged: &Staged) -> Revision {
        let last = staged.0.get(workspace).or_else(|| self.last.get(workspace));
        last.copied().unwrap_or(self.floor)
    }

    /// Takes on what was committed.
    pub(super) fn merge(&mut self, Staged(staged): Staged) {
        self.last.extend(staged);
        if self.last.len() > MOST {
            let latest = self.last.values().copied().max();
            self.floor = latest.unwrap_or(self.floor);
            self.last = HashMap::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn revision(number: u64) -> Revision {
        Revision { epoch: 1, number }
    }

    fn workspace(number: usize) -> WorkspaceId {
        WorkspaceId::parse(&format!("w{number}")).unwrap()
    }

    #[test]
    fn a_change_counts_at_once_but_is_kept_only_with_its_group() {
        let mut writes = KeyWrites::new(revision(5));
        let nothing = Staged::default();
        assert_eq!(writes.last(&workspace(1), &nothing), revision(5));

        let mut staged = Staged::default();
        staged.note(&workspace(1), revision(6));
        staged.note(&workspace(1), revision(7));
        assert_eq!(writes.last(&workspace(1), &staged), revision(7));
        assert_eq!(writes.last(&workspace(2), &staged), revision(5));
        assert_eq!(writes.last(&workspace(1), &nothing), revision(5));

        writes.merge(staged);
        assert_eq!(writes.last(&workspace(1), &nothing), revision(7));
        assert_eq!(writes.last(&workspace(2), &nothing), revision(5));
    }

    /// However many workspaces there are, memory is bounded, and none of them seems quieter than it is.
    #[test]
    fn many_workspaces_never_seem_quieter_than_they_are() {
        let mut writes = KeyWrites::new(revision(0));
        let nothing = Staged::default();
        for number in 1..=MOST + 10 {
            let mut staged = Staged::default();
            staged.note(&workspace(number), revision(number as u64));
            writes.merge(staged);
            assert!(writes.last.len() <= MOST);
        }
        for number in 1..=MOST + 10 {
            let last = writes.last(&workspace(number), &nothing);
            assert!(last >= revision(number as u64), "{number}: {last}");
            assert!(last <= revision(MOST as u64 + 10), "{number}: {last}");
        }
    }
}

//! Who may see which events.

use std::collections::HashMap;

use super::Parent;
use crate::{
    admin::{Failure, caller::Caller},
    domain::{
        event::{DROPPED_FIELD, Entity, Event},
        grant::Act,
        id::{KeyId, WorkspaceId},
        name::{KeyName, parse_workspace},
    },
    gate::keyring::{Found, Keyring},
};

/// The most keys whose owner is remembered.
const MOST_KEYS: usize = 10_000;

/// The events that a caller may see, as far as they are of `parent`.
///
/// `audit.read` on a workspace shows its events and those of its keys, also when it is deleted. `keys.own` there shows those
/// of the keys that the caller created, archived ones included, as long as they exist.
pub(super) struct Sight {
    caller: Caller,
    parent: Parent,
    keyring: Keyring,
    /// Whether a key is the caller's own, so far.
    own: HashMap<KeyId, bool>,
}

impl Sight {
    /// Goes on only if the caller may see any events there, whether there are any or not.
    ///
    /// # Errors
    /// [`Failure::NotPermitted`].
    pub(super) fn admit(caller: &Caller, parent: &Parent) -> Result<(), Failure> {
        let mut acts = [Act::AuditRead, Act::KeysOwn].into_iter();
        let (admitted, workspace) = match parent {
            Parent::Workspace(id) => (acts.any(|act| caller.may(act, id)), Some(id.clone())),
            Parent::Any => (acts.any(|act| caller.may_somewhere(act)), None),
        };
        if admitted {
            Ok(())
        } else {
            Err(Failure::NotPermitted(Act::AuditRead, workspace))
        }
    }

    /// What this caller sees.
    pub(super) fn new(caller: Caller, parent: Parent, keyring: Keyring) -> Self {
        Self {
            caller,
            parent,
            keyring,
            own: HashMap::new(),
        }
    }

    /// The caller.
    pub(super) const fn caller(&self) -> &Caller {
        &self.caller
    }

    /// True if the caller may see the event, and it is of the parent.
    pub(super) fn sees(&mut self, event: &Event) -> bool {
        let Some((workspace, key)) = place(event) else {
            // An event of nothing that this version knows: it is of no workspace, so only who may see all sees it.
            return self.parent == Parent::Any && self.caller.may_everywhere(Act::AuditRead);
        };
        match &self.parent {
            Parent::Workspace(id) if *id != workspace => return false,
            Parent::Workspace(_) | Parent::Any => {}
        }
        if self.caller.may(Act::AuditRead, &workspace) {
            return true;
        }
        match key {
            // One that tells of other keys, which went when this one was archived, is not theirs alone.
            Some(key) if self.caller.may(Act::KeysOwn, &workspace) && !tells_of_others(event) => {
                self.owns(key, &workspace)
            }
            _ => false,
        }
    }

    fn owns(&mut self, id: KeyId, workspace: &WorkspaceId) -> bool {
        if let Some(own) = self.own.get(&id) {
            return *own;
        }
        let own = match self.keyring.record(id) {
            Found::Record(record) => {
                record.key.workspace == *workspace && *record.key.owner == *self.caller.principal
            }
            // Whose it was is not known any more.
            Found::Unreadable | Found::Nothing => false,
        };
        if self.own.len() == MOST_KEYS {
            self.own.clear();
        }
        self.own.insert(id, own);
        own
    }
}

fn tells_of_others(event: &Event) -> bool {
    let mut fields = event.changes.iter().map(|change| &*change.field);
    fields.any(|field| field == DROPPED_FIELD)
}

/// The workspace that an event belongs to, and the key.
fn place(event: &Event) -> Option<(WorkspaceId, Option<KeyId>)> {
    match event.entity {
        Entity::Key => {
            let name = KeyName::parse(&event.resource).ok()?;
            Some((name.workspace, Some(name.id)))
        }
        Entity::Workspace => Some((parse_workspace(&event.resource).ok()?, None)),
        // It tells of the first root, and of the workspaces that are always there.
        Entity::Store => Some((WorkspaceId::system(), None)),
    }
}

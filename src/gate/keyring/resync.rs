//! Brings a keyring that has missed changes to a later snapshot, in place: each record moves forward or not at all.
//!
//! A second keyring to be swapped in would need twice the memory, and every Check one more pointer to follow. In place, Check
//! sees some records as they are already and some as they were; either is at least as new as what was in force before.

use std::{collections::HashSet, sync::Arc};

use super::{Entry, KeyringWriter, Rules};
use crate::{
    domain::id::Revision,
    store::{RecordId, Stored},
};

/// A resync under way. Dropped before it is [complete](Self::complete), it leaves records of which each is as new as it was
/// or newer, and nothing is announced.
pub struct Resync<'a> {
    keyring: &'a mut KeyringWriter,
    /// Everything up to it was in force when this began, so what is that old and not held was deleted.
    known: Revision,
    seen: HashSet<RecordId>,
}

/// What a keyring holds under an id.
enum Held {
    Nothing,
    /// A workspace that is not there any more.
    Retired,
    Unreadable,
    At(Revision),
}

impl KeyringWriter {
    /// Begins to take over a snapshot that is at least as new as what was announced last.
    pub fn resync(&mut self) -> Resync<'_> {
        Resync {
            known: self.reader().applied(),
            keyring: self,
            seen: HashSet::new(),
        }
    }

    fn held(&self, id: &RecordId) -> Held {
        match id {
            RecordId::Key(id) => match self.shared.keys.pin().get(id) {
                None => Held::Nothing,
                Some(Entry::Unreadable) => Held::Unreadable,
                Some(Entry::Key(cached)) => Held::At(cached.revision),
            },
            RecordId::Workspace(id) => {
                if let Some(record) = self.directory().workspaces.get(id) {
                    return Held::At(record.revision);
                }
                let rules = self.homes.get(id).map(|home| Arc::clone(&home.rules()));
                match rules.as_deref() {
                    Some(Rules::Unreadable) => Held::Unreadable,
                    _ if self.directory().taken.contains(id) => Held::Retired,
                    _ => Held::Nothing,
                }
            }
            RecordId::Unknown(_) => Held::Unreadable,
        }
    }
}

impl Resync<'_> {
    /// Puts a record of the snapshot in force. One that is older than what is held, or is known to be gone, was put back behind
    /// our back: nothing is allowed on its account.
    pub fn place(&mut self, id: RecordId, stored: Stored) {
        let (revision, is_end) = match &stored {
            Stored::Key(record) => (record.revision, false),
            Stored::Workspace(record) => (record.revision, false),
            Stored::Retired(revision) => (*revision, true),
            Stored::Unreadable(_) => {
                self.seen.insert(id.clone());
                return self.keyring.place(id, stored);
            }
            Stored::Gone => {
                self.seen.remove(&id);
                return self.keyring.place(id, stored);
            }
        };
        let is_again = !self.seen.insert(id.clone());
        let back = |what: &str| Stored::Unreadable(format!("{what} was put back in its place"));
        let stored = match self.keyring.held(&id) {
            Held::At(held) if held == revision => return,
            // The log tells again, on its way to it, what led to a state that was read while others went on writing.
            Held::At(held) if held > revision && is_again && revision > self.known => return,
            Held::At(held) if held > revision => back("an older state of it"),
            Held::Nothing if revision <= self.known => back("a record that was deleted"),
            Held::Retired if is_end => return,
            Held::Retired => back("a workspace that was deleted"),
            Held::Nothing | Held::Unreadable | Held::At(_) => stored,
        };
        self.keyring.place(id, stored);
    }

    /// All of the snapshot was placed: takes out what it does not hold, and declares everything up to `revision` to be in force.
    pub fn complete(mut self, revision: Revision) {
        self.take_out_unseen();
        self.keyring.announce(revision);
    }

    /// Takes out what was not placed.
    pub fn take_out_unseen(&mut self) {
        let Self { keyring, seen, .. } = self;
        let mut unseen: Vec<RecordId> = Vec::new();
        let shared = keyring.shared.clone();
        let keys = shared.keys.pin();
        unseen.extend(keys.keys().map(|id| RecordId::Key(*id)));
        // One that is absent already is not taken out again: its id would count as used.
        let there = keyring
            .homes
            .iter()
            .filter(|(_, home)| !matches!(**home.rules(), Rules::Absent));
        unseen.extend(there.map(|(id, _)| RecordId::Workspace(id.clone())));
        unseen.extend(keyring.unreadable.iter().cloned());
        unseen.retain(|id| !seen.contains(id));
        for id in unseen {
            keyring.place(id, Stored::Gone);
        }
    }
}

#[cfg(test)]
mod tests;

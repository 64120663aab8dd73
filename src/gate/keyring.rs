//! The records that Check decides on, in memory.
//!
//! Two halves: [`KeyringWriter`] applies the store's changes, one at a time; [`Keyring`] reads, from any thread, without
//! a lock on the way of a Check.

mod directory;
mod hasher;
mod key_filter;
mod list;
mod query;
mod resync;
mod search;

use std::{
    collections::HashSet,
    hash::{BuildHasherDefault, Hash},
    ops::Deref,
    sync::{
        Arc, PoisonError, RwLock, RwLockWriteGuard,
        atomic::{AtomicU64, Ordering},
    },
};

use arc_swap::ArcSwap;
use papaya::HashMap;
use tokio::sync::watch;

pub use directory::ListPosition;
use directory::{Directory, NewRow};
use hasher::KeyIdHasher;
pub use key_filter::KeyFilter;
pub use query::{KeyQuery, MAX_QUERY};
pub use resync::Resync;
pub use search::{Cursor, KeyOrder, Page, Search};

use super::memo::Memo;
use crate::{
    domain::{
        id::{KeyId, Revision, TokenPrefix, WorkspaceId},
        key::{Key, KeyRecord},
        permission::PermissionSet,
        secret::Secret,
        time::Timestamp,
        workspace::Declared,
    },
    store::{Change, RecordId, Stored},
};

/// What stands in the keyring under a key's id.
#[expect(
    clippy::large_enum_variant,
    reason = "a box would cost every Check a cache miss to save space in the entries that should not be there"
)]
pub(super) enum Entry {
    /// A key.
    Key(CachedKey),
    /// A record that cannot be read: nothing may be decided on it.
    Unreadable,
}

/// A key as Check needs it.
pub(super) struct CachedKey {
    pub(super) key: Key,
    /// What its workspace says, as of the last change applied.
    pub(super) home: Arc<Home>,
    pub(super) slots: Box<[LiveSlot]>,
    pub(super) revision: Revision,
}

/// One secret of a key, until when it is good, and whether it was proved in this process.
pub(super) struct LiveSlot {
    pub(super) slot: Arc<Slot>,
    /// The end of its overlap. It is no part of the slot, so that a reset, which sets it, lets callers of the old secret
    /// go on without another argon2.
    ends: Option<Box<Timestamp>>,
}

impl LiveSlot {
    /// True until the end of its overlap, exclusive.
    pub(super) fn is_live(&self, now: Timestamp) -> bool {
        self.ends.as_deref().is_none_or(|&end| now < end)
    }
}

/// What proves a secret, and whether it was proved in this process.
pub(super) struct Slot {
    /// Without an end of its own.
    pub(super) secret: Secret,
    pub(super) memo: Memo,
}

impl CachedKey {
    fn to_record(&self) -> KeyRecord {
        let secrets = self.slots.iter().map(|live| Secret {
            expire_time: live.ends.as_deref().copied(),
            ..live.slot.secret.clone()
        });
        KeyRecord {
            key: self.key.clone(),
            secrets: secrets.collect(),
            revision: self.revision,
        }
    }

    fn position(&self) -> ListPosition {
        ListPosition::new(self.key.create_time, self.key.id)
    }

    fn to_row(&self) -> NewRow {
        let secrets = self.slots.iter().map(|live| &live.slot.secret);
        let newest = secrets.max_by_key(|secret| secret.id);
        NewRow::of(&self.key, newest.map(|secret| secret.create_time))
    }
}

/// A workspace as Check needs it. All its keys share one, so that a change of it is in force for each of them at once.
pub(super) struct Home(ArcSwap<Rules>);

/// What a workspace says of its keys' checks.
pub(super) enum Rules {
    /// It is there and declares this.
    Present(Declared),
    /// It is not there: its keys are unknown keys.
    Absent,
    /// Its record cannot be read: nothing may be decided on its keys.
    Unreadable,
}

impl Home {
    fn new(rules: Rules) -> Self {
        Self(ArcSwap::from_pointee(rules))
    }

    /// The rules as of the last change applied when it is called.
    pub(super) fn rules(&self) -> impl Deref<Target = Arc<Rules>> {
        self.0.load()
    }
}

/// What a reader of a key's record finds.
#[derive(Debug)]
pub enum Found {
    /// The record.
    Record(Box<KeyRecord>),
    /// A record that cannot be read.
    Unreadable,
    /// None.
    Nothing,
}

/// The reading half. Cheap to clone.
#[derive(Clone)]
pub struct Keyring {
    shared: Arc<Shared>,
    announced: watch::Receiver<Revision>,
}

struct Shared {
    keys: HashMap<KeyId, Entry, BuildHasherDefault<KeyIdHasher>>,
    /// The revision up to which all changes are in `keys`, packed.
    applied: AtomicU64,
    /// The number of records that cannot be read.
    unreadable: AtomicU64,
    /// What only administration reads; no Check takes this lock.
    directory: RwLock<Directory>,
}

impl Keyring {
    /// The revision up to which every change is in force here. A record read afterwards is at least that new.
    #[must_use]
    pub fn applied(&self) -> Revision {
        unpack(self.shared.applied.load(Ordering::Acquire))
    }

    /// Tells of each new [`applied`](Self::applied). It closes when the writing half is gone.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Revision> {
        self.announced.clone()
    }

    /// Looks at the entry of a key, lock-free. It is as new as the last change applied when it is called.
    pub(super) fn with<R>(&self, id: KeyId, look: impl FnOnce(Option<&Entry>) -> R) -> R {
        look(self.shared.keys.pin().get(&id))
    }

    /// A copy of a key's record.
    #[must_use]
    pub fn record(&self, id: KeyId) -> Found {
        self.with(id, |entry| match entry {
            Some(Entry::Key(cached)) => Found::Record(Box::new(cached.to_record())),
            Some(Entry::Unreadable) => Found::Unreadable,
            None => Found::Nothing,
        })
    }

    /// How many keys there are, unreadable ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shared.keys.len()
    }

    /// True if there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many records cannot be read.
    #[must_use]
    pub fn unreadable(&self) -> u64 {
        self.shared.unreadable.load(Ordering::Relaxed)
    }

    fn directory(&self) -> std::sync::RwLockReadGuard<'_, Directory> {
        self.shared
            .directory
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// The writing half. There is one.
pub struct KeyringWriter {
    shared: Arc<Shared>,
    /// Held by the writer alone, so that it closes when nothing is applied any more.
    announced: watch::Sender<Revision>,
    /// Equal sets are kept once, since many keys hold the same.
    permissions: HashSet<PermissionSet>,
    owners: HashSet<Arc<str>>,
    workspaces: HashSet<WorkspaceId>,
    prefixes: HashSet<TokenPrefix>,
    /// One of each workspace that has or had a record or a key.
    homes: std::collections::HashMap<WorkspaceId, Arc<Home>>,
    unreadable: HashSet<RecordId>,
    /// False until the first announcement: the records of a snapshot come in any order.
    is_settled: bool,
}

impl KeyringWriter {
    /// An empty keyring.
    #[must_use]
    pub fn new() -> Self {
        let shared = Shared {
            keys: HashMap::default(),
            applied: AtomicU64::new(0),
            unreadable: AtomicU64::new(0),
            directory: RwLock::default(),
        };
        Self {
            shared: Arc::new(shared),
            announced: watch::Sender::new(Revision::default()),
            permissions: HashSet::new(),
            owners: HashSet::new(),
            workspaces: HashSet::new(),
            prefixes: HashSet::new(),
            homes: std::collections::HashMap::new(),
            unreadable: HashSet::new(),
            is_settled: false,
        }
    }

    /// Its reading half.
    #[must_use]
    pub fn reader(&self) -> Keyring {
        Keyring {
            shared: self.shared.clone(),
            announced: self.announced.subscribe(),
        }
    }

    /// Puts a change in force. When it returns, no later look finds an older state of its records.
    pub fn apply(&mut self, change: Change) {
        for (id, stored) in change.records {
            self.place(id, stored);
        }
        self.announce(change.revision);
    }

    /// Puts records of a snapshot in place, which are in force, and listed, only once [`announce`](Self::announce) is called.
    pub fn place(&mut self, id: RecordId, stored: Stored) {
        if let Stored::Unreadable(why) = &stored {
            tracing::error!(record = ?id, why, "a stored record cannot be read; nothing is allowed on its account");
        }
        let readable = match (id.clone(), stored) {
            (RecordId::Key(id), Stored::Key(record)) => {
                self.place_key(id, *record);
                true
            }
            (RecordId::Key(id), Stored::Gone) => {
                self.remove_key(id);
                true
            }
            (RecordId::Workspace(id), Stored::Workspace(record)) => {
                self.set_rules(&id, Rules::Present(record.workspace.declared()));
                let mut directory = self.directory();
                directory.taken.insert(id.clone());
                directory.workspaces.insert(id, record);
                true
            }
            (RecordId::Workspace(id), Stored::Retired(_) | Stored::Gone) => {
                self.set_rules(&id, Rules::Absent);
                let mut directory = self.directory();
                directory.workspaces.remove(&id);
                directory.taken.insert(id);
                true
            }
            (
                RecordId::Key(id),
                Stored::Unreadable(_) | Stored::Workspace(_) | Stored::Retired(_),
            ) => {
                self.remove_key(id);
                self.shared.keys.pin().insert(id, Entry::Unreadable);
                false
            }
            (RecordId::Workspace(id), Stored::Unreadable(_) | Stored::Key(_)) => {
                self.set_rules(&id, Rules::Unreadable);
                let mut directory = self.directory();
                directory.workspaces.remove(&id);
                directory.taken.insert(id);
                false
            }
            (RecordId::Unknown(_), stored) => matches!(stored, Stored::Gone),
        };
        if readable {
            self.unreadable.remove(&id);
        } else {
            self.unreadable.insert(id);
        }
        self.shared
            .unreadable
            .store(self.unreadable.len() as u64, Ordering::Relaxed);
    }

    /// Declares everything up to `revision` to be in force.
    pub fn announce(&mut self, revision: Revision) {
        self.settle();
        // The record is applied before the acknowledgement: both of these come after every `place`.
        self.shared.applied.store(pack(revision), Ordering::Release);
        self.announced.send_replace(revision);
    }

    /// Lists what was placed so far.
    fn settle(&mut self) {
        if self.is_settled {
            return;
        }
        self.is_settled = true;
        let keys = self.shared.keys.pin();
        // Some of what was noted may be gone again by now, or stand elsewhere.
        let row_of =
            |workspace: &WorkspaceId, position: ListPosition| match keys.get(&position.id()) {
                Some(Entry::Key(cached)) => {
                    let stands_there =
                        cached.key.workspace == *workspace && cached.position() == position;
                    stands_there.then(|| cached.to_row())
                }
                Some(Entry::Unreadable) | None => None,
            };
        self.directory().settle(row_of);
    }

    fn place_key(&mut self, id: KeyId, record: KeyRecord) {
        let KeyRecord {
            mut key,
            secrets,
            revision,
        } = record;
        key.permissions = share(&mut self.permissions, key.permissions);
        key.owner = share(&mut self.owners, key.owner);
        key.workspace = share(&mut self.workspaces, key.workspace);
        key.token_prefix = share(&mut self.prefixes, key.token_prefix);
        let workspace = key.workspace.clone();
        let home = self.home(&workspace);

        let keys = self.shared.keys.pin();
        let old = keys.get(&id);
        let slots = secrets
            .into_iter()
            .map(|secret| keep_or_make_slot(old, secret))
            .collect();
        let cached = CachedKey {
            key,
            home,
            slots,
            revision,
        };
        let position = cached.position();
        let row = self.is_settled.then(|| cached.to_row());
        keys.insert(id, Entry::Key(cached));
        // Listed only once it is in force: no revocation waits for somebody who searches.
        let mut directory = Self::write(&self.shared);
        if let Some(Entry::Key(old)) = old
            && (&old.key.workspace, old.position()) != (&workspace, position)
        {
            directory.remove(&old.key.workspace, old.position());
        }
        match row {
            Some(row) => directory.put(&workspace, row),
            None => directory.note(&workspace, position),
        }
    }

    /// Puts a workspace's rules in force for all its keys, those to come included.
    fn set_rules(&mut self, id: &WorkspaceId, rules: Rules) {
        self.home(id).0.store(Arc::new(rules));
    }

    /// The home of a workspace's keys. One whose record was not placed yet is absent: until it is, its keys open nothing.
    fn home(&mut self, id: &WorkspaceId) -> Arc<Home> {
        let absent = || Arc::new(Home::new(Rules::Absent));
        self.homes.entry(id.clone()).or_insert_with(absent).clone()
    }

    fn remove_key(&self, id: KeyId) {
        let keys = self.shared.keys.pin();
        if let Some(Entry::Key(gone)) = keys.remove(&id) {
            self.directory()
                .remove(&gone.key.workspace, gone.position());
        }
    }

    fn directory(&self) -> RwLockWriteGuard<'_, Directory> {
        Self::write(&self.shared)
    }

    fn write(shared: &Shared) -> RwLockWriteGuard<'_, Directory> {
        shared
            .directory
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for KeyringWriter {
    fn default() -> Self {
        Self::new()
    }
}

/// A secret that did not change, but for the end of its overlap, keeps its slot and with it the memo; any other starts
/// unproved.
fn keep_or_make_slot(old: Option<&Entry>, mut secret: Secret) -> LiveSlot {
    let ends = secret.expire_time.take().map(Box::new);
    let kept = match old {
        Some(Entry::Key(old)) => old.slots.iter().find(|live| live.slot.secret == secret),
        Some(Entry::Unreadable) | None => None,
    };
    let slot = kept.map_or_else(
        || {
            Arc::new(Slot {
                secret,
                memo: Memo::default(),
            })
        },
        |live| live.slot.clone(),
    );
    LiveSlot { slot, ends }
}

/// The value itself, or the equal one that is kept already.
fn share<T: Clone + Eq + Hash>(kept: &mut HashSet<T>, value: T) -> T {
    /// Past this many different values sharing gains little and would only grow.
    const MOST: usize = 65_536;
    if let Some(same) = kept.get(&value) {
        return same.clone();
    }
    if kept.len() >= MOST {
        kept.clear();
    }
    kept.insert(value.clone());
    value
}

/// 16 bits of epoch and 48 of number: one atomic, so that no reader sees half of a change.
fn pack(revision: Revision) -> u64 {
    assert!(
        revision.number < 1 << 48 && revision.epoch < 1 << 16,
        "revision {revision} is out of range"
    );
    u64::from(revision.epoch) << 48 | revision.number
}

fn unpack(packed: u64) -> Revision {
    let epoch = u32::try_from(packed >> 48).expect("16 bits fit in 32");
    Revision {
        epoch,
        number: packed & ((1 << 48) - 1),
    }
}

#[cfg(test)]
mod tests;

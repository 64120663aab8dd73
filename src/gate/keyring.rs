//! The records that Check decides on, in memory.
//!
//! Two halves: [`KeyringWriter`] applies the store's changes, one at a time; [`Keyring`] reads, from any thread, without
//! a lock on the way of a Check.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    hash::{BuildHasherDefault, Hash, Hasher},
    ops::{Bound, Deref},
    sync::{
        Arc, PoisonError, RwLock, RwLockWriteGuard,
        atomic::{AtomicU64, Ordering},
    },
};

use arc_swap::ArcSwap;
use papaya::HashMap;
use tokio::sync::watch;

use super::memo::Memo;
use crate::{
    domain::{
        id::{KeyId, Revision, TokenPrefix, WorkspaceId},
        key::{Key, KeyRecord},
        permission::PermissionSet,
        secret::Secret,
        setting::Declarations,
        time::Timestamp,
    },
    store::{Change, RecordId, Stored, WorkspaceRecord},
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
}

/// A workspace as Check needs it. All its keys share one, so that a change of it is in force for each of them at once.
pub(super) struct Home(ArcSwap<Rules>);

/// What a workspace says of its keys' checks.
pub(super) enum Rules {
    /// It is there and declares these settings.
    Present(Declarations),
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

#[derive(Default)]
struct Directory {
    workspaces: BTreeMap<WorkspaceId, WorkspaceRecord>,
    /// The ids of these, of the ones that cannot be read, and of those that were deleted: none is used again.
    taken: BTreeSet<WorkspaceId>,
    /// The keys of each workspace in the order of their creation.
    keys: BTreeMap<WorkspaceId, BTreeSet<ListPosition>>,
    /// Those of them that are archived, first the ones archived first.
    archived: BTreeMap<WorkspaceId, BTreeSet<(Timestamp, KeyId)>>,
}

/// Where a key stands in the list of its workspace: oldest first. Neither part ever changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ListPosition {
    /// When the key was created.
    pub create_time: Timestamp,
    /// Its id, for keys of the same instant.
    pub id: KeyId,
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

    /// Up to `limit` keys of a workspace after `after`, oldest first, and where the next page begins if there is one.
    #[must_use]
    pub fn list_keys(
        &self,
        workspace: &WorkspaceId,
        after: Option<ListPosition>,
        limit: usize,
    ) -> (Vec<KeyRecord>, Option<ListPosition>) {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut positions: Vec<ListPosition> = match self.directory().keys.get(workspace) {
            // One more than asked tells whether there is another page.
            Some(keys) => keys
                .range((from, Bound::Unbounded))
                .take(limit + 1)
                .copied()
                .collect(),
            None => Vec::new(),
        };
        let more = positions.len() > limit;
        positions.truncate(limit);
        let next = positions.last().copied().filter(|_| more);
        // A key that went between the two looks is simply not listed; the page is shorter, and not the last.
        let records = positions
            .into_iter()
            .filter_map(|position| match self.record(position.id) {
                Found::Record(record) => Some(*record),
                Found::Unreadable | Found::Nothing => None,
            })
            .collect();
        (records, next)
    }

    /// The archived keys of a workspace, first the ones archived first.
    #[must_use]
    pub fn archived(&self, workspace: &WorkspaceId) -> Vec<KeyId> {
        let directory = self.directory();
        let archived = directory.archived.get(workspace).into_iter().flatten();
        archived.map(|&(_, id)| id).collect()
    }

    /// True if a workspace has any key, archived ones included.
    #[must_use]
    pub fn has_keys(&self, workspace: &WorkspaceId) -> bool {
        let directory = self.directory();
        directory
            .keys
            .get(workspace)
            .is_some_and(|keys| !keys.is_empty())
    }

    /// Any key of a workspace that `wanted` likes. It looks at each key as it is then, in small portions, so that no change
    /// has to wait for it.
    #[must_use]
    pub fn find_key(&self, workspace: &WorkspaceId, wanted: impl Fn(&Key) -> bool) -> Option<Key> {
        const PORTION: usize = 4_096;
        let mut after: Option<ListPosition> = None;
        loop {
            let from = after.map_or(Bound::Unbounded, Bound::Excluded);
            let positions: Vec<ListPosition> = match self.directory().keys.get(workspace) {
                Some(keys) => keys
                    .range((from, Bound::Unbounded))
                    .take(PORTION)
                    .copied()
                    .collect(),
                None => Vec::new(),
            };
            after = Some(*positions.last()?);
            let found = positions.iter().find_map(|position| {
                self.with(position.id, |entry| match entry {
                    Some(Entry::Key(cached)) if wanted(&cached.key) => Some(cached.key.clone()),
                    _ => None,
                })
            });
            if found.is_some() {
                return found;
            }
        }
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

    /// Puts records of a snapshot in place, which are in force only once [`announce`](Self::announce) is called.
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
                self.set_rules(&id, Rules::Present(record.workspace.settings.clone()));
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
        // The record is applied before the acknowledgement: both of these come after every `place`.
        self.shared.applied.store(pack(revision), Ordering::Release);
        self.announced.send_replace(revision);
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
        let position = ListPosition {
            create_time: key.create_time,
            id,
        };
        let workspace = key.workspace.clone();
        let home = self.home(&workspace);

        let keys = self.shared.keys.pin();
        let old = keys.get(&id);
        let slots = secrets
            .into_iter()
            .map(|secret| keep_or_make_slot(old, secret))
            .collect();
        let is_new = !matches!(old, Some(Entry::Key(_)));
        let archived_since = match old {
            Some(Entry::Key(old)) => old.key.archive_time,
            Some(Entry::Unreadable) | None => None,
        };
        let archive_time = key.archive_time;
        keys.insert(
            id,
            Entry::Key(CachedKey {
                key,
                home,
                slots,
                revision,
            }),
        );
        let mut directory = Self::write(&self.shared);
        if archived_since != archive_time {
            let archived = directory.archived.entry(workspace.clone()).or_default();
            archived.extend(archive_time.map(|time| (time, id)));
            if let Some(time) = archived_since {
                archived.remove(&(time, id));
            }
        }
        if is_new {
            let listed = directory.keys.entry(workspace).or_default();
            listed.insert(position);
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
        if let Some(Entry::Key(CachedKey { key, .. })) = keys.remove(&id) {
            let position = ListPosition {
                create_time: key.create_time,
                id,
            };
            let mut directory = self.directory();
            if let Some(listed) = directory.keys.get_mut(&key.workspace) {
                listed.remove(&position);
            }
            let archived = directory.archived.get_mut(&key.workspace);
            if let (Some(archived), Some(time)) = (archived, key.archive_time) {
                archived.remove(&(time, id));
            }
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

/// Key ids are random bits that only this project draws, so they are their own hash.
#[derive(Default)]
struct KeyIdHasher(u64);

impl Hasher for KeyIdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    #[expect(clippy::cast_possible_truncation, reason = "both halves are taken")]
    fn write_u128(&mut self, bits: u128) {
        self.0 = (bits >> 64) as u64 ^ bits as u64;
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(byte);
        }
    }
}

#[cfg(test)]
mod tests;

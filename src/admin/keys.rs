//! What can be done with keys.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::Semaphore;

use super::{
    Failure,
    barrier::Made,
    call::Call,
    caller::{Caller, Reach, out_of_reach},
    mutation::{Management, Outcome, Proposal, with_random},
};
use crate::{
    domain::{
        event::{Action, Entity, key_changes},
        grant::Act,
        id::{KeyId, WorkspaceId},
        key::{Key, KeyRecord},
        name::KeyName,
        permission::PermissionSet,
        secret::{GeneratedSecret, Secret},
        source::IpAllowlist,
        text::TextMap,
        time::Timestamp,
        workspace::{Access, Workspace},
    },
    gate::keyring::{Cursor, Found, Page, Search},
    store::{Done, RecordId, Stored, Write},
};

/// A search that takes longer is given up: others wait for it.
const LONGEST_SEARCH: Duration = Duration::from_secs(2);

struct SetOnDrop(Arc<AtomicBool>);

impl Drop for SetOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A key to create.
#[derive(Debug, Clone)]
pub struct NewKey {
    /// For people.
    pub display_name: String,
    /// For people.
    pub description: String,
    /// `None`: what a key gets that chooses none.
    pub permissions: Option<PermissionSet>,
    /// Where it may be used from.
    pub ip_allowlist: IpAllowlist,
    /// The operator's own.
    pub labels: TextMap,
    /// Its values for the workspace's settings.
    pub settings: TextMap,
    /// When it stops working.
    pub expire_time: Option<Timestamp>,
}

/// A key as callers see it: the record, and what its workspace makes of it.
#[derive(Debug, Clone)]
pub struct KeyView {
    /// The record.
    pub record: KeyRecord,
    /// How much of its workspace it may do.
    pub access: Access,
}

/// A key with its new secret, which is shown once.
pub struct Issued {
    /// The key.
    pub view: KeyView,
    /// Its secret; `None`: the call was made before, and showed it then.
    pub secret: Option<GeneratedSecret>,
}

/// A page to list.
#[derive(Debug)]
pub struct KeyPage {
    /// What to find; its owner is set by who asks.
    pub search: Search,
    /// Where it begins; `None`: at the start.
    pub after: Option<Cursor>,
    /// How many keys it has.
    pub limit: usize,
}

impl Management {
    /// Creates a key of `workspace`. `new` is asked what to create once the caller is known to be allowed to.
    ///
    /// # Errors
    /// If the caller may not, the key is malformed, or there is no such workspace.
    pub async fn create_key(
        &self,
        call: &Call,
        workspace: &WorkspaceId,
        new: impl FnOnce() -> Result<NewKey, Failure>,
    ) -> Result<Made<Issued>, Failure> {
        let caller = &call.caller;
        caller.reach(Act::KeysWrite, workspace)?;
        if let Some(made) = self.repeated(call).await? {
            return made.try_map(|done| self.issued_before(done));
        }
        let new = new()?;
        let now = self.now();
        check_expiry(new.expire_time, None, now)?;

        let mut since = None;
        for () in call.tries() {
            let seen = self.keyring.applied();
            let found = match self.find_workspace(workspace) {
                Ok(found) => found,
                Err(_) if !self.is_current(call, &mut since, seen).await? => continue,
                Err(failure) => return Err(failure),
            };
            let permissions = match &new.permissions {
                Some(chosen) => chosen.clone(),
                None => default_permissions(&found.workspace)?,
            };
            let (id, secret, sealed) = issue(None, 1, now)?;
            let key = Key {
                id,
                workspace: workspace.clone(),
                display_name: new.display_name.clone().into(),
                description: new.description.clone().into(),
                owner: caller.principal.clone().into(),
                token_prefix: found.workspace.token_prefix.clone(),
                disabled: false,
                permissions,
                ip_allowlist: new.ip_allowlist.clone(),
                labels: new.labels.clone(),
                settings: new.settings.clone(),
                create_time: now,
                update_time: now,
                expire_time: new.expire_time,
                archive_time: None,
            };
            check_declared(&found.workspace, &key)?;
            caller.require_cover(&key)?;
            let secrets = vec![sealed];
            let proposal = Proposal {
                action: Action::Create,
                entity: Entity::Key,
                resource: key.name().to_string(),
                changes: key_changes(None, Some(&key)),
                reads: vec![
                    (RecordId::Key(id), None),
                    (RecordId::Workspace(workspace.clone()), Some(found.revision)),
                ],
                quiet: None,
                writes: vec![Write::Key(Box::new(key.clone()), secrets.clone())],
                time: now,
            };
            match self.commit(call, proposal).await? {
                Outcome::Done(made) => {
                    return Ok(made.map(|revision| {
                        let record = KeyRecord {
                            key,
                            secrets,
                            revision,
                        };
                        Issued {
                            view: self.view(record),
                            secret: Some(secret),
                        }
                    }));
                }
                Outcome::Repeated(made) => return made.try_map(|done| self.issued_before(done)),
                Outcome::Stale => {}
            }
        }
        Err(Failure::Conflict)
    }

    /// Reads a key.
    ///
    /// # Errors
    /// If the caller may not, or there is no such key.
    pub fn get_key(&self, caller: &Caller, name: &KeyName) -> Result<KeyView, Failure> {
        let reach = caller.reach(Act::KeysRead, &name.workspace)?;
        let record = self.find_key(name, Act::KeysRead, &reach)?;
        Ok(self.view(record))
    }

    /// Lists a page of a workspace's keys, as far as the caller may see them. `page` is asked for once the caller is known to
    /// be allowed to list.
    ///
    /// # Errors
    /// If the caller may not, the page is malformed, or there is no such workspace.
    pub async fn list_keys(
        &self,
        caller: &Caller,
        workspace: &WorkspaceId,
        page: impl FnOnce() -> Result<KeyPage, Failure>,
    ) -> Result<(Vec<KeyView>, Option<Cursor>), Failure> {
        let reach = caller.reach(Act::KeysRead, workspace)?;
        let KeyPage {
            mut search,
            after,
            limit,
        } = page()?;
        self.find_workspace(workspace)?;
        search.owner = match reach {
            Reach::All => None,
            Reach::Own(principal) => Some(principal),
        };
        let Page { keys, next } = self.search(caller, workspace, search, after, limit).await?;
        let views = keys.into_iter().map(|record| self.view(record));
        Ok((views.collect(), next))
    }

    async fn search(
        &self,
        caller: &Caller,
        workspace: &WorkspaceId,
        search: Search,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<Page, Failure> {
        /// A search may read every key: one at a time leaves the processors to the gate.
        static SEARCHING: Semaphore = Semaphore::const_new(1);
        if search.is_plain() {
            return Ok(self
                .keyring
                .search(workspace, &search, after.as_ref(), limit));
        }
        let _share = self.searches.take(&caller.principal)?;
        let broken = |_| Failure::Internal("a search ended without an answer");
        let permit = SEARCHING
            .acquire()
            .await
            .map_err(|_| Failure::Internal("there are no searches any more"))?;
        let (keyring, workspace) = (self.keyring.clone(), workspace.clone());
        // Ends the search when its caller goes away.
        let unwanted = Arc::new(AtomicBool::new(false));
        let _end = SetOnDrop(unwanted.clone());
        let begun = Instant::now();
        let found = tokio::task::spawn_blocking(move || {
            // Given back when the search ends, also if nobody waits for it any more.
            let _permit = permit;
            let stop = || unwanted.load(Ordering::Relaxed) || begun.elapsed() > LONGEST_SEARCH;
            keyring.search_until(&workspace, &search, after.as_ref(), limit, stop)
        });
        found.await.map_err(broken)?.ok_or(Failure::Limit(
            "the search took longer than 2 seconds; narrow the filter or the query",
        ))
    }

    /// The record of a key within reach.
    pub(super) fn find_key(
        &self,
        name: &KeyName,
        act: Act,
        reach: &Reach,
    ) -> Result<KeyRecord, Failure> {
        let found = match self.keyring.record(name.id) {
            Found::Record(record) if record.key.workspace == name.workspace => Ok(*record),
            Found::Unreadable => Err(Failure::Unreadable(name.to_string())),
            Found::Record(_) | Found::Nothing => Err(Failure::NotFound(name.to_string())),
        };
        match (found, reach) {
            (Ok(record), _) if reach.covers(&record.key) => Ok(record),
            (Err(failure), Reach::All) => Err(failure),
            // Whether the key of another exists is not told.
            (Ok(_) | Err(_), _) => Err(out_of_reach(act, name)),
        }
    }

    /// A key's record as callers see it.
    pub(super) fn view(&self, record: KeyRecord) -> KeyView {
        let held = &record.key.permissions;
        let access = match self.keyring.workspace(&record.key.workspace) {
            Some(found) => found.workspace.access(held),
            // A call that comes again may show a key whose workspace is gone since.
            None if held.is_any() => Access::Full,
            None => Access::Partial,
        };
        KeyView { record, access }
    }

    /// The key that a call wrote when it was made before.
    pub(super) fn written_before(&self, done: Done) -> Result<KeyView, Failure> {
        match done.result {
            Stored::Key(record) => Ok(self.view(*record)),
            _ => Err(Failure::Internal("a call that writes keys wrote none")),
        }
    }

    /// The same, without the secret, which was shown then.
    pub(super) fn issued_before(&self, done: Done) -> Result<Issued, Failure> {
        Ok(Issued {
            view: self.written_before(done)?,
            secret: None,
        })
    }
}

/// A new secret for a key, or for a new key if there is none yet, with what is kept of it.
pub(super) fn issue(
    key: Option<KeyId>,
    id: u32,
    now: Timestamp,
) -> Result<(KeyId, GeneratedSecret, Secret), Failure> {
    with_random(|random| {
        let key_id = key.unwrap_or_else(|| KeyId::from_random(random));
        let secret = GeneratedSecret::from_random(key_id, random);
        let sealed = Secret::seal(id, &secret, now, random);
        (key_id, secret, sealed)
    })
    .map_err(|_| Failure::Internal("the system gave no randomness"))
}

/// What a key gets that chooses none. An admin credential must not become powerful by an omission, and where there is a
/// list to choose from nobody is given all of it unasked.
fn default_permissions(workspace: &Workspace) -> Result<PermissionSet, Failure> {
    if workspace.id.is_system() {
        Ok(PermissionSet::none())
    } else if workspace.declares_permissions() {
        let declared: Vec<_> = workspace.permissions.iter().collect();
        Err(Failure::invalid(
            "key.permissions",
            format!("must be chosen: {}, or *", declared.join(", ")),
        ))
    } else {
        Ok(PermissionSet::any())
    }
}

/// Goes on only if a key holds what its workspace declares.
pub(super) fn check_declared(workspace: &Workspace, key: &Key) -> Result<(), Failure> {
    if let Some(name) = workspace.undeclared(&key.permissions) {
        let declared: Vec<_> = workspace.permissions.iter().collect();
        let why = format!(
            "{name:?} is not declared by the workspace; there are {}",
            declared.join(", ")
        );
        return Err(Failure::invalid("key.permissions", why));
    }
    match workspace.refused_setting(&key.settings) {
        Some((name, why)) => Err(Failure::invalid(format!("key.settings[{name:?}]"), why)),
        None => Ok(()),
    }
}

/// An end in the past is refused, unless it is the one that stands there.
pub(super) fn check_expiry(
    end: Option<Timestamp>,
    before: Option<Timestamp>,
    now: Timestamp,
) -> Result<(), Failure> {
    match end {
        Some(end) if end <= now && before != Some(end) => Err(Failure::invalid(
            "key.expire_time",
            format!("must lie in the future; it is {now} now"),
        )),
        _ => Ok(()),
    }
}

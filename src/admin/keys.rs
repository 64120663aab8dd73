//! What can be done with keys.

use super::{
    Failure,
    caller::Caller,
    mutation::{Management, Outcome, Proposal, TRIES, with_random},
};
use crate::{
    domain::{
        event::{Action, Entity, FieldChange, key_changes, secret_change},
        grant::{Act, Grants},
        id::{KeyId, WorkspaceId},
        key::{Key, KeyRecord, Labels, State},
        name::{KeyName, of_workspace},
        permission::PermissionSet,
        secret::{GeneratedSecret, Secret},
        source::IpAllowlist,
        time::Timestamp,
    },
    gate::keyring::{Found, ListPosition},
    store::{RecordId, Write},
};

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
    pub labels: Labels,
    /// When it stops working.
    pub expire_time: Option<Timestamp>,
}

/// The fields of a key to change; `None`: as it is.
#[derive(Debug, Clone, Default)]
pub struct KeyEdit {
    /// For people.
    pub display_name: Option<String>,
    /// For people.
    pub description: Option<String>,
    /// What it may do.
    pub permissions: Option<PermissionSet>,
    /// Where it may be used from.
    pub ip_allowlist: Option<IpAllowlist>,
    /// The operator's own.
    pub labels: Option<Labels>,
    /// When it stops working; `Some(None)`: never.
    pub expire_time: Option<Option<Timestamp>>,
}

/// A key with its new secret, which is shown once.
pub struct Issued {
    /// The key.
    pub record: KeyRecord,
    /// Its secret.
    pub secret: GeneratedSecret,
}

/// What a call makes of the record it finds.
enum Next {
    /// It is as the call wants it.
    Keep,
    /// The key and its secrets from now on, and what the log says.
    Write(Box<Key>, Vec<Secret>, Vec<FieldChange>),
    /// It is to go.
    Delete,
}

/// Which key a call is to change, and on what condition.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// The key.
    pub name: &'a KeyName,
    /// If not empty, it must be the key's.
    pub etag: &'a str,
}

impl Management {
    /// Creates a key of `workspace`. `new` is asked what to create once the caller is known to be allowed to.
    ///
    /// # Errors
    /// If the caller may not, the key is malformed, or there is no such workspace.
    pub async fn create_key(
        &self,
        caller: &Caller,
        workspace: &WorkspaceId,
        new: impl FnOnce() -> Result<NewKey, Failure>,
    ) -> Result<Issued, Failure> {
        caller.require(Act::KeysWrite, workspace)?;
        let new = new()?;
        let now = self.now();
        check_expiry(new.expire_time, None, now)?;
        let permissions = new
            .permissions
            .unwrap_or_else(|| default_permissions(workspace));
        require_superset(caller, workspace, &permissions)?;

        for _ in 0..TRIES {
            let found = self
                .keyring
                .workspace(workspace)
                .ok_or_else(|| Failure::NotFound(of_workspace(workspace)))?;
            let (id, secret, sealed) = issue(None, 1, now)?;
            let key = Key {
                id,
                workspace: workspace.clone(),
                display_name: new.display_name.clone().into(),
                description: new.description.clone().into(),
                owner: caller.principal.clone().into(),
                token_prefix: found.workspace.token_prefix.clone(),
                disabled: false,
                permissions: permissions.clone(),
                ip_allowlist: new.ip_allowlist.clone(),
                labels: new.labels.clone(),
                create_time: now,
                update_time: now,
                expire_time: new.expire_time,
            };
            let secrets = vec![sealed];
            let proposal = Proposal {
                method: "CreateKey",
                action: Action::Create,
                entity: Entity::Key,
                resource: key.name().to_string(),
                changes: key_changes(None, Some(&key)),
                reads: vec![
                    (RecordId::Key(id), None),
                    (RecordId::Workspace(workspace.clone()), Some(found.revision)),
                ],
                writes: vec![Write::Key(Box::new(key.clone()), secrets.clone())],
                time: now,
            };
            if let Outcome::Done(revision) = self.commit(caller, proposal).await? {
                return Ok(Issued {
                    record: KeyRecord {
                        key,
                        secrets,
                        revision,
                    },
                    secret,
                });
            }
        }
        Err(Failure::Conflict)
    }

    /// Reads a key.
    ///
    /// # Errors
    /// If the caller may not, or there is no such key.
    pub fn get_key(&self, caller: &Caller, name: &KeyName) -> Result<KeyRecord, Failure> {
        caller.require(Act::KeysRead, &name.workspace)?;
        self.find_key(name)
    }

    /// Lists up to `limit` keys of a workspace after a position, oldest first. `page` is asked for both once the caller is
    /// known to be allowed to see them.
    ///
    /// # Errors
    /// If the caller may not, the page is malformed, or there is no such workspace.
    pub fn list_keys(
        &self,
        caller: &Caller,
        workspace: &WorkspaceId,
        page: impl FnOnce() -> Result<(Option<ListPosition>, usize), Failure>,
    ) -> Result<(Vec<KeyRecord>, Option<ListPosition>), Failure> {
        caller.require(Act::KeysRead, workspace)?;
        let (after, limit) = page()?;
        if self.keyring.workspace(workspace).is_none() {
            return Err(Failure::NotFound(of_workspace(workspace)));
        }
        // One more than asked tells whether there is another page.
        let mut records = self.keyring.list_keys(workspace, after, limit + 1);
        let more = records.len() > limit;
        records.truncate(limit);
        let last = records.last().filter(|_| more);
        let next = last.map(|record| ListPosition {
            create_time: record.key.create_time,
            id: record.key.id,
        });
        Ok((records, next))
    }

    /// Changes fields of a key. `edit` is asked which once the caller is known to be allowed to.
    ///
    /// # Errors
    /// If the caller may not, the edit is malformed, there is no such key, or its etag is another.
    pub async fn update_key(
        &self,
        caller: &Caller,
        target: Target<'_>,
        edit: impl FnOnce() -> Result<KeyEdit, Failure>,
    ) -> Result<KeyRecord, Failure> {
        caller.require(Act::KeysWrite, &target.name.workspace)?;
        let edit = edit()?;
        self.change_key(caller, target, "UpdateKey", |record, now| {
            let mut key = record.key.clone();
            if let Some(end) = edit.expire_time {
                check_expiry(end, key.expire_time, now)?;
                key.expire_time = end;
            }
            let KeyEdit {
                display_name,
                description,
                permissions,
                ip_allowlist,
                labels,
                expire_time: _,
            } = edit.clone();
            assign(&mut key.display_name, display_name.map(Into::into));
            assign(&mut key.description, description.map(Into::into));
            assign(&mut key.permissions, permissions);
            assign(&mut key.ip_allowlist, ip_allowlist);
            assign(&mut key.labels, labels);
            let changes = key_changes(Some(&record.key), Some(&key));
            Ok(if changes.is_empty() {
                Next::Keep
            } else {
                Next::Write(Box::new(key), record.secrets.clone(), changes)
            })
        })
        .await
    }

    /// Makes a disabled key ACTIVE again.
    ///
    /// # Errors
    /// If the caller may not, there is no such key, or its etag is another.
    pub async fn enable_key(
        &self,
        caller: &Caller,
        target: Target<'_>,
    ) -> Result<KeyRecord, Failure> {
        self.set_disabled(caller, target, "EnableKey", false).await
    }

    /// Disables a key.
    ///
    /// # Errors
    /// If the caller may not, there is no such key, or its etag is another.
    pub async fn disable_key(
        &self,
        caller: &Caller,
        target: Target<'_>,
    ) -> Result<KeyRecord, Failure> {
        self.set_disabled(caller, target, "DisableKey", true).await
    }

    async fn set_disabled(
        &self,
        caller: &Caller,
        target: Target<'_>,
        method: &'static str,
        disabled: bool,
    ) -> Result<KeyRecord, Failure> {
        caller.require(Act::KeysWrite, &target.name.workspace)?;
        self.change_key(caller, target, method, |record, _| {
            if record.key.disabled == disabled {
                return Ok(Next::Keep);
            }
            let key = Key {
                disabled,
                ..record.key.clone()
            };
            let changes = key_changes(Some(&record.key), Some(&key));
            Ok(Next::Write(Box::new(key), record.secrets.clone(), changes))
        })
        .await
    }

    /// Replaces the secret of a key.
    ///
    /// # Errors
    /// If the caller may not, there is no such key, or its etag is another.
    pub async fn reset_secret(
        &self,
        caller: &Caller,
        target: Target<'_>,
    ) -> Result<Issued, Failure> {
        caller.require(Act::KeysWrite, &target.name.workspace)?;
        let mut issued = None;
        let record = self
            .change_key(caller, target, "ResetSecret", |record, now| {
                let old: Vec<u32> = record.secrets.iter().map(|secret| secret.id).collect();
                let id = old.iter().max().map_or(1, |newest| newest + 1);
                let (_, secret, sealed) = issue(Some(record.key.id), id, now)?;
                issued = Some(secret);
                Ok(Next::Write(
                    Box::new(record.key.clone()),
                    vec![sealed],
                    vec![secret_change(&old, id)],
                ))
            })
            .await?;
        let secret = issued.ok_or(Failure::Internal("a reset made no secret"))?;
        Ok(Issued { record, secret })
    }

    /// Deletes a key. An ACTIVE one goes only by `force`.
    ///
    /// # Errors
    /// If the caller may not, there is no such key, its etag is another, or it is ACTIVE.
    pub async fn delete_key(
        &self,
        caller: &Caller,
        target: Target<'_>,
        force: bool,
    ) -> Result<(), Failure> {
        caller.require(Act::KeysWrite, &target.name.workspace)?;
        self.change_key(caller, target, "DeleteKey", |record, now| {
            match record.key.state(now) {
                State::Active if !force => Err(Failure::KeyActive(target.name.to_string())),
                State::Active | State::Disabled | State::Expired => Ok(Next::Delete),
            }
        })
        .await
        .map(drop)
    }

    /// Decides on the key as it is, commits, and decides again if it was another by then.
    async fn change_key(
        &self,
        caller: &Caller,
        target: Target<'_>,
        method: &'static str,
        mut decide: impl FnMut(&KeyRecord, Timestamp) -> Result<Next, Failure>,
    ) -> Result<KeyRecord, Failure> {
        let Target { name, etag } = target;
        for _ in 0..TRIES {
            let record = self.find_key(name)?;
            if !etag.is_empty() && etag != record.revision.to_string() {
                return Err(Failure::EtagMismatch(name.to_string()));
            }
            require_superset(caller, &name.workspace, &record.key.permissions)?;
            let now = self.now();
            let (mut after, write, action, changes) = match decide(&record, now)? {
                Next::Keep => {
                    // The state may be new here and not yet in force elsewhere, and OK means everywhere.
                    self.fleet.settle(record.revision).await?;
                    return Ok(record);
                }
                Next::Write(mut key, secrets, changes) => {
                    require_superset(caller, &name.workspace, &key.permissions)?;
                    key.update_time = now;
                    let key = *key;
                    let write = Write::Key(Box::new(key.clone()), secrets.clone());
                    (
                        KeyRecord {
                            key,
                            secrets,
                            revision: record.revision,
                        },
                        write,
                        Action::Update,
                        changes,
                    )
                }
                Next::Delete => {
                    let changes = key_changes(Some(&record.key), None);
                    (
                        record.clone(),
                        Write::DeleteKey(name.id),
                        Action::Delete,
                        changes,
                    )
                }
            };
            let proposal = Proposal {
                method,
                action,
                entity: Entity::Key,
                resource: name.to_string(),
                changes,
                reads: vec![(RecordId::Key(name.id), Some(record.revision))],
                writes: vec![write],
                time: now,
            };
            if let Outcome::Done(revision) = self.commit(caller, proposal).await? {
                after.revision = revision;
                return Ok(after);
            }
        }
        Err(Failure::Conflict)
    }

    fn find_key(&self, name: &KeyName) -> Result<KeyRecord, Failure> {
        match self.keyring.record(name.id) {
            Found::Record(record) if record.key.workspace == name.workspace => Ok(*record),
            Found::Unreadable => Err(Failure::Unreadable(name.to_string())),
            Found::Record(_) | Found::Nothing => Err(Failure::NotFound(name.to_string())),
        }
    }
}

/// A new secret for a key, or for a new key if there is none yet, with what is kept of it.
fn issue(
    key: Option<KeyId>,
    id: u32,
    now: Timestamp,
) -> Result<(KeyId, GeneratedSecret, Secret), Failure> {
    with_random(|random| {
        let key_id = key.unwrap_or_else(|| {
            let mut bits = [0; 16];
            random(&mut bits);
            KeyId::from_bits(u128::from_be_bytes(bits))
        });
        let secret = GeneratedSecret::from_random(key_id, random);
        let sealed = Secret::seal(id, &secret, now, random);
        (key_id, secret, sealed)
    })
    .map_err(|_| Failure::Internal("the system gave no randomness"))
}

/// What a key gets that chooses none. An admin credential must not become powerful by an omission.
fn default_permissions(workspace: &WorkspaceId) -> PermissionSet {
    if workspace.is_system() {
        PermissionSet::none()
    } else {
        PermissionSet::any()
    }
}

/// Within `system`, only who holds all of it gives a set of permissions, or touches a key that has it.
fn require_superset(
    caller: &Caller,
    workspace: &WorkspaceId,
    permissions: &PermissionSet,
) -> Result<(), Failure> {
    if !workspace.is_system() {
        return Ok(());
    }
    let grants =
        Grants::parse(permissions).map_err(|why| Failure::invalid("key.permissions", why))?;
    caller.require_superset_of(&grants)
}

/// An end in the past is refused, unless it is the one that stands there.
fn check_expiry(
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

fn assign<T>(place: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *place = value;
    }
}

//! What can be done with a key that is there: every change decides on the record as it is, and again if it was another
//! by the time of the commit.

use super::{
    Failure,
    caller::Caller,
    keys::{Issued, check_expiry, issue, require_superset},
    mutation::{Management, Outcome, Proposal, TRIES},
};
use crate::{
    domain::{
        event::{Action, Entity, FieldChange, key_changes, secret_change},
        grant::Act,
        key::{Key, KeyRecord, Labels, State},
        name::KeyName,
        permission::PermissionSet,
        secret::Secret,
        source::IpAllowlist,
        time::Timestamp,
        workspace::Workspace,
    },
    store::{RecordId, WorkspaceRecord, Write},
};

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
    /// Changes fields of a key. `edit` is asked which once the caller is known to be allowed to.
    ///
    /// # Errors
    /// If the caller may not, the edit is malformed, there is no such key, its etag is another, or it is the last root.
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
    /// If the caller may not, there is no such key, its etag is another, or it is the last root.
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
    /// If the caller may not, there is no such key, its etag is another, it is ACTIVE, or the last root.
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
            let (mut after, write, action, changes, released) = match decide(&record, now)? {
                Next::Keep => {
                    // The state may be new here and not yet in force elsewhere, and OK means everywhere.
                    self.fleet.settle(record.revision).await?;
                    return Ok(record);
                }
                Next::Write(mut key, secrets, changes) => {
                    require_superset(caller, &name.workspace, &key.permissions)?;
                    let released = self.release_root(&record.key, Some(&key)).await?;
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
                        released,
                    )
                }
                Next::Delete => {
                    let released = self.release_root(&record.key, None).await?;
                    let changes = key_changes(Some(&record.key), None);
                    (
                        record.clone(),
                        Write::DeleteKey(name.clone()),
                        Action::Delete,
                        changes,
                        released,
                    )
                }
            };
            let mut reads = vec![(RecordId::Key(name.id), Some(record.revision))];
            let mut writes = vec![write];
            if let Some(WorkspaceRecord {
                workspace,
                revision,
            }) = released
            {
                reads.push((RecordId::Workspace(workspace.id.clone()), Some(revision)));
                writes.push(Write::Workspace(Workspace {
                    update_time: now,
                    ..workspace
                }));
            }
            let proposal = Proposal {
                method,
                action,
                entity: Entity::Key,
                resource: name.to_string(),
                changes,
                reads,
                writes,
                time: now,
            };
            if let Outcome::Done(revision) = self.commit(caller, proposal).await? {
                after.revision = revision;
                return Ok(after);
            }
        }
        Err(Failure::Conflict)
    }
}

fn assign<T>(place: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *place = value;
    }
}

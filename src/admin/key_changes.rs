//! What can be done with a key that is there: every change decides on the record as it is, and again if it was another
//! by the time of the commit.

use std::time::Duration;

use super::{
    Failure,
    barrier::Made,
    call::Call,
    keys::{Issued, KeyView, check_declared, check_expiry, issue},
    mutation::{Management, Outcome, Proposal},
};
use crate::{
    domain::{
        event::{Action, DROPPED_FIELD, Entity, FieldChange, key_changes, secrets_change},
        grant::Act,
        id::{Revision, WorkspaceId},
        key::{Key, KeyRecord, State},
        name::KeyName,
        permission::PermissionSet,
        secret::Secret,
        source::IpAllowlist,
        text::TextMap,
        time::Timestamp,
        workspace::Workspace,
    },
    store::{Done, RecordId, WorkspaceRecord, Write},
};

/// The longest overlap of a reset.
pub const MAX_OVERLAP: Duration = Duration::from_hours(30 * 24);

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
    pub labels: Option<TextMap>,
    /// Its values for the workspace's settings.
    pub settings: Option<TextMap>,
    /// When it stops working; `Some(None)`: never.
    pub expire_time: Option<Option<Timestamp>>,
}

/// What a call makes of the record it finds.
enum Step {
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

/// What became of a call on a key.
enum Changed {
    /// The key as it is now, or was before it went.
    Now(KeyRecord),
    /// The call was made before.
    Before(Done),
}

impl Management {
    /// Changes fields of a key. `edit` is asked which once the caller is known to be allowed to.
    ///
    /// # Errors
    /// If the caller may not, the edit is malformed, there is no such key, its etag is another, it is archived, or it is the
    /// last root.
    pub async fn update_key(
        &self,
        call: &Call,
        target: Target<'_>,
        edit: impl FnOnce() -> Result<KeyEdit, Failure>,
    ) -> Result<KeyView, Failure> {
        // Judged here, too, so that whoever may not learns nothing of what the edit should look like.
        call.caller.reach(Act::KeysWrite, &target.name.workspace)?;
        let edit = edit()?;
        let changed = self
            .change_key(call, target, |record, workspace, now| {
                refuse_archived(record)?;
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
                    settings,
                    expire_time: _,
                } = edit.clone();
                assign(&mut key.display_name, display_name.map(Into::into));
                assign(&mut key.description, description.map(Into::into));
                assign(&mut key.permissions, permissions);
                assign(&mut key.ip_allowlist, ip_allowlist);
                assign(&mut key.labels, labels);
                assign(&mut key.settings, settings);
                check_declared(workspace, &key)?;
                Ok(changed_to(record, key, record.secrets.clone()))
            })
            .await?;
        self.view_changed(changed.everywhere()?)
    }

    /// Makes a disabled key ACTIVE again.
    ///
    /// # Errors
    /// If the caller may not, there is no such key, its etag is another, or it is archived.
    pub async fn enable_key(
        &self,
        call: &Call,
        target: Target<'_>,
    ) -> Result<Made<KeyView>, Failure> {
        self.set_disabled(call, target, false).await
    }

    /// Disables a key.
    ///
    /// # Errors
    /// If the caller may not, there is no such key, its etag is another, it is archived, or the last root.
    pub async fn disable_key(&self, call: &Call, target: Target<'_>) -> Result<KeyView, Failure> {
        let made = self.set_disabled(call, target, true).await?;
        Ok(made.everywhere()?)
    }

    async fn set_disabled(
        &self,
        call: &Call,
        target: Target<'_>,
        disabled: bool,
    ) -> Result<Made<KeyView>, Failure> {
        let made = self
            .change_key(call, target, |record, _, _| {
                refuse_archived(record)?;
                let key = Key {
                    disabled,
                    ..record.key.clone()
                };
                Ok(changed_to(record, key, record.secrets.clone()))
            })
            .await?;
        made.try_map(|changed| self.view_changed(changed))
    }

    /// Replaces the secret of a key. The old one stays good for `overlap`, at most until the key's own end; what an earlier
    /// overlap kept ends now. If that is not in force everywhere, the secret is had all the same: it is shown only now.
    ///
    /// # Errors
    /// If the caller may not, the overlap is malformed, there is no such key, its etag is another, or it is archived.
    pub async fn reset_secret(
        &self,
        call: &Call,
        target: Target<'_>,
        overlap: impl FnOnce() -> Result<Duration, Failure>,
    ) -> Result<Made<Issued>, Failure> {
        call.caller.reach(Act::KeysWrite, &target.name.workspace)?;
        let overlap = overlap()?;
        let mut issued = None;
        let made = self
            .change_key(call, target, |record, workspace, now| {
                refuse_archived(record)?;
                let newest = record.secrets.iter().map(|secret| secret.id).max();
                let id = newest.map_or(1, |newest| newest + 1);
                let (_, secret, sealed) = issue(Some(record.key.id), id, now)?;
                issued = Some(secret);
                let secrets: Vec<Secret> = kept_beside(record, overlap, now)
                    .into_iter()
                    .chain([sealed])
                    .collect();
                // The token is issued now, so it begins as the workspace's tokens do now.
                let key = Key {
                    token_prefix: workspace.token_prefix.clone(),
                    ..record.key.clone()
                };
                Ok(changed_to(record, key, secrets))
            })
            .await?;
        made.try_map(|changed| match changed {
            Changed::Now(record) => Ok(Issued {
                view: self.view(record),
                secret: Some(issued.ok_or(Failure::Internal("a reset made no secret"))?),
            }),
            Changed::Before(done) => self.issued_before(done),
        })
    }

    /// Ends what a reset's overlap keeps: only the newest secret stays good.
    ///
    /// # Errors
    /// If the caller may not, there is no such key, its etag is another, or it is archived.
    pub async fn end_overlap(&self, call: &Call, target: Target<'_>) -> Result<KeyView, Failure> {
        let changed = self
            .change_key(call, target, |record, _, _| {
                refuse_archived(record)?;
                let lasting = record.secrets.iter();
                let lasting = lasting.filter(|secret| secret.expire_time.is_none());
                Ok(changed_to(
                    record,
                    record.key.clone(),
                    lasting.cloned().collect(),
                ))
            })
            .await?;
        self.view_changed(changed.everywhere()?)
    }

    /// Archives a key for good, and deletes the workspace's oldest archived keys past its limit.
    ///
    /// # Errors
    /// If the caller may not, there is no such key, its etag is another, or it is the last root.
    pub async fn archive_key(&self, call: &Call, target: Target<'_>) -> Result<KeyView, Failure> {
        let changed = self
            .change_key(call, target, |record, _, now| {
                let key = Key {
                    archive_time: Some(record.key.archive_time.unwrap_or(now)),
                    ..record.key.clone()
                };
                // It opens nothing any more, so nothing that could prove it is kept.
                Ok(changed_to(record, key, Vec::new()))
            })
            .await?;
        self.view_changed(changed.everywhere()?)
    }

    /// Deletes a key. An ACTIVE one goes only by `force`.
    ///
    /// # Errors
    /// If the caller may not, there is no such key, its etag is another, it is ACTIVE, or the last root.
    pub async fn delete_key(
        &self,
        call: &Call,
        target: Target<'_>,
        force: bool,
    ) -> Result<(), Failure> {
        let made = self
            .change_key(call, target, |record, _, now| match record.key.state(now) {
                State::Active if !force => Err(Failure::KeyActive(target.name.to_string())),
                State::Active | State::Disabled | State::Expired | State::Archived => {
                    Ok(Some(Step::Delete))
                }
            })
            .await?;
        made.everywhere()?;
        Ok(())
    }

    /// Decides on the key as it is, commits, and decides again if it was another by then.
    async fn change_key(
        &self,
        call: &Call,
        target: Target<'_>,
        mut decide: impl FnMut(&KeyRecord, &Workspace, Timestamp) -> Result<Option<Step>, Failure>,
    ) -> Result<Made<Changed>, Failure> {
        let Target { name, etag } = target;
        let reach = call.caller.reach(Act::KeysWrite, &name.workspace)?;
        if let Some(made) = self.repeated(call).await? {
            return Ok(made.map(Changed::Before));
        }
        let mut since = None;
        for () in call.tries() {
            // Read before the records, so they are at least that new.
            let seen = self.keyring.applied();
            let now = self.now();
            let mut decided = || {
                let record = self.find_key(name, Act::KeysWrite, &reach)?;
                if !etag.is_empty() && etag != record.revision.to_string() {
                    return Err(Failure::EtagMismatch(name.to_string()));
                }
                call.caller.require_cover(&record.key)?;
                let workspace = self.find_workspace(&name.workspace)?;
                let step = decide(&record, &workspace.workspace, now)?;
                Ok((record, workspace, step))
            };
            let (record, workspace, step) = match decided() {
                Ok(decided) => decided,
                Err(_) if !self.is_current(call, &mut since, seen).await? => continue,
                Err(Failure::NotFound(resource)) => {
                    return Err(self.gone(call, resource, seen).await);
                }
                Err(failure) => return Err(failure),
            };
            let Some(step) = step else {
                let reads = vec![(RecordId::Key(name.id), Some(record.revision))];
                match self.keep(call, reads, &mut since, seen, now).await? {
                    Outcome::Done(made) => return Ok(made.map(|_| Changed::Now(record))),
                    Outcome::Repeated(made) => return Ok(made.map(Changed::Before)),
                    Outcome::Stale => continue,
                }
            };
            let (mut after, proposal) = self
                .propose(call, name, &record, &workspace, step, now)
                .await?;
            match self.commit(call, proposal).await? {
                Outcome::Done(made) => {
                    return Ok(made.map(|revision| {
                        after.revision = revision;
                        Changed::Now(after)
                    }));
                }
                Outcome::Repeated(made) => return Ok(made.map(Changed::Before)),
                Outcome::Stale => {}
            }
        }
        Err(Failure::Conflict)
    }

    /// What to commit so that the key becomes what was decided, and its record then.
    async fn propose(
        &self,
        call: &Call,
        name: &KeyName,
        before: &KeyRecord,
        workspace: &WorkspaceRecord,
        step: Step,
        now: Timestamp,
    ) -> Result<(KeyRecord, Proposal), Failure> {
        let mut proposal = Proposal {
            action: Action::Update,
            entity: Entity::Key,
            resource: name.to_string(),
            changes: Vec::new(),
            reads: vec![
                (RecordId::Key(name.id), Some(before.revision)),
                (
                    RecordId::Workspace(name.workspace.clone()),
                    Some(workspace.revision),
                ),
            ],
            quiet: None,
            writes: Vec::new(),
            time: now,
        };
        let (after, released) = match step {
            Step::Write(key, secrets, changes) => {
                call.caller.require_cover(&key)?;
                let released = self.release_root(&before.key, Some(&key)).await?;
                let key = Key {
                    update_time: now,
                    ..*key
                };
                let write = Write::Key(Box::new(key.clone()), secrets.clone());
                proposal.changes = changes;
                proposal.writes.push(write);
                if key.archive_time.is_some() {
                    proposal.action = Action::Delete;
                    let limit = workspace.workspace.archive_limit.get().into();
                    self.drop_oldest_archived(&name.workspace, limit, Some(name), &mut proposal);
                }
                let after = KeyRecord {
                    key,
                    secrets,
                    revision: before.revision,
                };
                (after, released)
            }
            Step::Delete => {
                proposal.action = Action::Delete;
                proposal.changes = key_changes(Some(&before.key), None);
                proposal.writes.push(Write::DeleteKey(name.clone()));
                let released = self.release_root(&before.key, None).await?;
                (before.clone(), released)
            }
        };
        if let Some(released) = released {
            // Written again, so that of two changes that each leave the other's root in force only one is committed.
            proposal.writes.push(Write::Workspace(Workspace {
                update_time: now,
                ..released.workspace
            }));
        }
        Ok((after, proposal))
    }

    /// Has a proposal delete the archived keys of a workspace past `limit`, those archived first, where `joining` becomes one
    /// more of them. It then holds only if no key of the workspace changes meanwhile: two keys archived at once would each
    /// leave room for themselves alone.
    pub(super) fn drop_oldest_archived(
        &self,
        workspace: &WorkspaceId,
        limit: usize,
        joining: Option<&KeyName>,
        proposal: &mut Proposal,
    ) {
        // Read before the keys: what was applied since shows as a conflict.
        let seen: Revision = self.keyring.applied();
        let archived = self.keyring.archived(workspace);
        let over = (archived.len() + usize::from(joining.is_some())).saturating_sub(limit);
        for id in archived.into_iter().take(over) {
            let name = KeyName {
                workspace: workspace.clone(),
                id,
            };
            proposal.changes.push(FieldChange {
                field: DROPPED_FIELD.to_owned(),
                before: name.to_string(),
                after: String::new(),
            });
            proposal.writes.push(Write::DeleteKey(name));
        }
        proposal.quiet = Some((workspace.clone(), seen));
    }

    fn view_changed(&self, changed: Changed) -> Result<KeyView, Failure> {
        match changed {
            Changed::Now(record) => Ok(self.view(record)),
            Changed::Before(done) => self.written_before(done),
        }
    }
}

/// An archived key is neither edited, enabled nor given a secret: it is never good again.
fn refuse_archived(record: &KeyRecord) -> Result<(), Failure> {
    match record.key.archive_time {
        Some(_) => Err(Failure::KeyArchived(record.key.name().to_string())),
        None => Ok(()),
    }
}

/// The step from a record to a key with these secrets; `None`: that is what it is.
fn changed_to(before: &KeyRecord, key: Key, secrets: Vec<Secret>) -> Option<Step> {
    // The records are compared, not what the log says of them: that is for people, and could look the same.
    if before.key == key && before.secrets == secrets {
        return None;
    }
    let mut changes = key_changes(Some(&before.key), Some(&key));
    if before.secrets != secrets {
        changes.push(secrets_change(&before.secrets, &secrets));
    }
    Some(Step::Write(Box::new(key), secrets, changes))
}

/// The newest secret of a key with the end that an overlap of a reset gives it; `None`: it ends at once.
fn kept_beside(record: &KeyRecord, overlap: Duration, now: Timestamp) -> Option<Secret> {
    let newest = record
        .secrets
        .iter()
        .filter(|secret| secret.is_live(now))
        .max_by_key(|secret| secret.id)?;
    let mut end = now.checked_add(overlap)?;
    for bound in [record.key.expire_time, newest.expire_time]
        .into_iter()
        .flatten()
    {
        end = end.min(bound);
    }
    (end > now).then(|| Secret {
        expire_time: Some(end),
        ..newest.clone()
    })
}

fn assign<T>(place: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *place = value;
    }
}

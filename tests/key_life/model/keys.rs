//! What calls on keys do.

use portcullis::domain::{
    event::{Action, Entity},
    id::KeyId,
    name::KeyName,
};

use super::{Caller, Change, Key, Model, Mutant, Refusal, Reply, Secret, Token, Workspace};
use crate::calls::{Call, End, Fields, Names, Op, SYSTEM, id};

impl Model {
    pub(super) fn create_key(
        &mut self,
        caller: &Caller,
        call: &Call,
        workspace: &'static str,
        fields: &Fields,
        new: KeyId,
    ) -> Result<Reply, Refusal> {
        Self::may_write_some(caller, workspace)?;
        if let Some(reply) = self.repeated(caller, call)? {
            return Ok(reply);
        }
        let expire = fields.expire.and_then(End::minute);
        if expire.is_some_and(|end| end <= self.now) {
            return Err("Invalid key.expire_time");
        }
        let home = self.workspaces.get(workspace).ok_or("NotFound")?;
        let permissions: Names = match fields.permissions {
            Some(chosen) => chosen,
            None if workspace == SYSTEM => &[],
            None if home.permissions.is_empty() => &["*"],
            None => return Err("Invalid key.permissions"),
        };
        let key = Key {
            name: KeyName {
                workspace: id(workspace),
                id: new,
            },
            display_name: fields.display_name.unwrap_or_default(),
            owner: caller.name.clone(),
            prefix: home.prefix,
            disabled: false,
            permissions,
            sources: fields.sources.unwrap_or_default(),
            labels: fields.labels.unwrap_or_default(),
            settings: fields.settings.unwrap_or_default(),
            create: self.now,
            update: self.now,
            expire,
            archive: None,
            secrets: vec![Secret {
                id: 1,
                create: self.now,
                end: None,
            }],
            revision: 0,
        };
        self.check_declared(home, &key)?;
        if !self.is(Mutant::SupersetOfBeforeOnly) {
            self.require_cover(caller, &key)?;
        }
        self.names.push(key.name.clone());
        self.tokens.push(Token {
            key: key.name.clone(),
            secret: 1,
        });
        let change = Change::of_key(Action::Create, key, true);
        Ok(self.commit(caller, call, change))
    }

    fn check_declared(&self, home: &Workspace, key: &Key) -> Result<(), Refusal> {
        match home.refuses(key) {
            Some(_) if self.is(Mutant::DeclarationsUnchecked) => Ok(()),
            Some("key.permissions") => Err("Invalid key.permissions"),
            Some(_) => Err("Invalid key.settings"),
            None => Ok(()),
        }
    }

    pub(super) fn change_key(
        &mut self,
        caller: &Caller,
        call: &Call,
        name: &KeyName,
        etag: &str,
    ) -> Result<Reply, Refusal> {
        let workspace = name.workspace.as_str();
        Self::may_write_some(caller, workspace)?;
        let all = Self::may(caller, "keys.write", workspace) || self.is(Mutant::OwnReachesAll);
        if let Some(reply) = self.repeated(caller, call)? {
            return Ok(reply);
        }
        let found = self.keys.get(&name.id).filter(|key| key.name == *name);
        let before = match found {
            Some(key) if all || key.owner == caller.name => key.clone(),
            _ if !all => return Err("NotPermitted"),
            _ => return Err("NotFound"),
        };
        if !etag.is_empty() && etag != format!("1.{}", before.revision) && !self.is(Mutant::AnyEtag)
        {
            return Err("EtagMismatch");
        }
        if !self.is(Mutant::SupersetOfAfterOnly) {
            self.require_cover(caller, &before)?;
        }
        let Some(mut after) = self.changed(&before, &call.op)? else {
            return self.delete_key(caller, call, before);
        };
        if after == before && !self.is(Mutant::NoOpIsAChange) {
            return Ok(self.keep(caller, call, Reply::Key(Box::new(before), false)));
        }
        if !self.is(Mutant::SupersetOfBeforeOnly) {
            self.require_cover(caller, &after)?;
        }
        let releases = before.is_root() && !after.is_root();
        self.require_other_root(releases, &before)?;
        after.update = self.now;
        let shown = matches!(call.op, Op::ResetSecret(..));
        if shown {
            self.tokens.push(Token {
                key: name.clone(),
                secret: after
                    .secrets
                    .iter()
                    .map(|secret| secret.id)
                    .max()
                    .unwrap_or(1),
            });
        }
        let archived = after.archive.is_some() && before.archive.is_none();
        let action = if archived {
            Action::Delete
        } else {
            Action::Update
        };
        let mut change = Change::of_key(action, after, shown);
        if archived {
            let limit = self.workspaces[workspace].limit;
            change.dropped = self.oldest_archived(workspace, 1, limit);
        }
        let reply = self.commit(caller, call, change);
        self.note_release(releases);
        Ok(reply)
    }

    /// The key as the call leaves it; `None`: it goes.
    fn changed(&self, before: &Key, op: &Op) -> Result<Option<Key>, Refusal> {
        let mut after = before.clone();
        let kept = matches!(op, Op::ArchiveKey(..) | Op::DeleteKey(..));
        if before.archive.is_some() && !kept && !self.is(Mutant::ArchivedKeyIsEdited) {
            return Err("KeyArchived");
        }
        match op {
            Op::UpdateKey(_, _, fields) => {
                if let Some(end) = fields.expire.map(End::minute) {
                    let past = end.is_some_and(|end| end <= self.now);
                    if past && end != before.expire {
                        return Err("Invalid key.expire_time");
                    }
                    after.expire = end;
                }
                after.display_name = fields.display_name.unwrap_or(before.display_name);
                after.permissions = fields.permissions.unwrap_or(before.permissions);
                after.sources = fields.sources.unwrap_or(before.sources);
                after.labels = fields.labels.unwrap_or(before.labels);
                after.settings = fields.settings.unwrap_or(before.settings);
                self.check_declared(&self.workspaces[before.workspace()], &after)?;
            }
            Op::EnableKey(..) => after.disabled = false,
            Op::DisableKey(..) => after.disabled = true,
            Op::ResetSecret(_, _, overlap) => {
                after.prefix = self.workspaces[before.workspace()].prefix;
                let newest = before.secrets.iter().max_by_key(|secret| secret.id);
                // None only in an archived key, which only a mutant resets.
                let newest = newest.copied().unwrap_or(Secret {
                    id: 0,
                    create: self.now,
                    end: None,
                });
                let end = self.now + overlap;
                let end = match before.expire {
                    Some(expire) if !self.is(Mutant::OverlapOutlivesTheKey) => end.min(expire),
                    _ => end,
                };
                if self.is(Mutant::OverlapOutlivesAReset) {
                    after.secrets.retain(|secret| secret.id != newest.id);
                } else {
                    after.secrets.clear();
                }
                if end > self.now {
                    after.secrets.push(Secret {
                        end: Some(end),
                        ..newest
                    });
                } else if self.is(Mutant::OldSecretStaysGood) {
                    after.secrets.push(newest);
                }
                after.secrets.push(Secret {
                    id: newest.id + 1,
                    create: self.now,
                    end: None,
                });
            }
            Op::EndOverlap(..) => after.secrets.retain(|secret| secret.end.is_none()),
            Op::ArchiveKey(..) => {
                after.archive = before.archive.or(Some(self.now));
                if !self.is(Mutant::ArchivedKeyStaysGood) {
                    after.secrets.clear();
                }
            }
            Op::DeleteKey(_, _, force) => {
                let active =
                    before.archive.is_none() && !before.disabled && !self.is_over(before.expire);
                if active && !force && !self.is(Mutant::ForceNotNeeded) {
                    return Err("KeyActive");
                }
                return Ok(None);
            }
            other => unreachable!("{other:?} changes no key"),
        }
        Ok(Some(after))
    }

    fn delete_key(&mut self, caller: &Caller, call: &Call, before: Key) -> Result<Reply, Refusal> {
        let releases = before.is_root();
        self.require_other_root(releases, &before)?;
        self.keys.remove(&before.name.id);
        let change = Change {
            action: Action::Delete,
            entity: Entity::Key,
            resource: before.name.to_string(),
            reply: Reply::Nothing,
            dropped: Vec::new(),
        };
        let reply = self.commit(caller, call, change);
        self.note_release(releases);
        Ok(reply)
    }

    fn require_other_root(&self, releases: bool, before: &Key) -> Result<(), Refusal> {
        let mut others = self.keys.values().filter(|key| key.name != before.name);
        if releases && !others.any(Key::is_root) && !self.is(Mutant::LastRootMayGo) {
            return Err("LastRoot");
        }
        Ok(())
    }

    /// Whoever takes a root away writes the workspace of roots, too.
    fn note_release(&mut self, releases: bool) {
        if releases && let Some(system) = self.workspaces.get_mut(SYSTEM) {
            system.revision = self.head;
            system.update = self.now;
        }
    }

    /// The archived keys of a workspace, first the ones archived first.
    pub fn archived(&self, workspace: &str) -> Vec<KeyName> {
        let mut archived: Vec<_> = self
            .keys
            .values()
            .filter(|key| key.workspace() == workspace)
            .filter_map(|key| Some((key.archive?, key.name.id, key.name.clone())))
            .collect();
        archived.sort_unstable_by_key(|&(at, id, _)| (at, id));
        archived.into_iter().map(|(_, _, name)| name).collect()
    }

    pub(super) fn oldest_archived(
        &self,
        workspace: &str,
        joining: usize,
        limit: u16,
    ) -> Vec<KeyName> {
        let mut archived = self.archived(workspace);
        let over = (archived.len() + joining).saturating_sub(limit.into());
        if self.is(Mutant::ArchiveLimitForgotten) {
            return Vec::new();
        }
        archived.truncate(over);
        archived
    }
}

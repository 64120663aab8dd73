//! What can be done with workspaces.

use super::{
    Failure,
    call::Call,
    caller::Caller,
    mutation::{Management, Outcome, Proposal},
};
use crate::{
    domain::{
        event::{Action, Entity, workspace_changes},
        grant::Act,
        id::{DEFAULT_WORKSPACE, Revision, TokenPrefix, WorkspaceId},
        key::Key,
        name::of_workspace,
        permission::PermissionSet,
        setting::Declarations,
        workspace::{ArchiveLimit, Workspace},
    },
    store::{Done, RecordId, Stored, WorkspaceRecord, Write},
};

/// The fields of a workspace to set; `None`: as it is, or its default.
#[derive(Debug, Clone, Default)]
pub struct WorkspaceEdit {
    /// For people.
    pub display_name: Option<String>,
    /// What its new tokens begin with.
    pub token_prefix: Option<TokenPrefix>,
    /// The permissions that there are.
    pub permissions: Option<PermissionSet>,
    /// The settings that there are.
    pub settings: Option<Declarations>,
    /// How many archived keys it keeps.
    pub archive_limit: Option<ArchiveLimit>,
}

impl WorkspaceEdit {
    fn apply(self, before: Workspace) -> Workspace {
        let Self {
            display_name,
            token_prefix,
            permissions,
            settings,
            archive_limit,
        } = self;
        Workspace {
            display_name: display_name.unwrap_or(before.display_name),
            token_prefix: token_prefix.unwrap_or(before.token_prefix),
            permissions: permissions.unwrap_or(before.permissions),
            settings: settings.unwrap_or(before.settings),
            archive_limit: archive_limit.unwrap_or(before.archive_limit),
            ..before
        }
    }
}

/// Which workspace a call is to change, and on what condition.
#[derive(Debug, Clone, Copy)]
pub struct WorkspaceTarget<'a> {
    /// The workspace.
    pub id: &'a WorkspaceId,
    /// If not empty, it must be the workspace's.
    pub etag: &'a str,
}

impl Management {
    /// Creates a workspace. `new` is asked what to create once the caller is known to be allowed to.
    ///
    /// # Errors
    /// If the caller may not, the workspace is malformed, or its id is or was taken.
    pub async fn create_workspace(
        &self,
        call: &Call,
        id: &WorkspaceId,
        new: impl FnOnce() -> Result<WorkspaceEdit, Failure>,
    ) -> Result<WorkspaceRecord, Failure> {
        call.caller.require(Act::WorkspacesWrite, id)?;
        if let Some(made) = self.repeated(call).await? {
            return workspace_before(made.with_laggards().0);
        }
        let edit = new()?;
        if self.keyring.is_taken(id) {
            return Err(Failure::Exists(of_workspace(id)));
        }
        let now = self.now();
        let workspace = edit.apply(Workspace::new(id.clone(), TokenPrefix::default(), now));
        let proposal = Proposal {
            action: Action::Create,
            entity: Entity::Workspace,
            resource: of_workspace(id),
            changes: workspace_changes(None, Some(&workspace)),
            reads: vec![(RecordId::Workspace(id.clone()), None)],
            quiet: None,
            writes: vec![Write::Workspace(workspace.clone())],
            time: now,
        };
        match self.commit(call, proposal).await? {
            // A replica that has not heard of it accepts none of its keys.
            Outcome::Done(made) => Ok(WorkspaceRecord {
                workspace,
                revision: made.with_laggards().0,
            }),
            Outcome::Repeated(made) => workspace_before(made.with_laggards().0),
            Outcome::Stale => Err(Failure::Exists(of_workspace(id))),
        }
    }

    /// Changes fields of a workspace, for all its keys at once. `edit` is asked which once the caller is known to be allowed
    /// to.
    ///
    /// # Errors
    /// If the caller may not, the edit is malformed, there is no such workspace, its etag is another, it is `system`, or a key
    /// holds what would no longer be allowed.
    pub async fn update_workspace(
        &self,
        call: &Call,
        target: WorkspaceTarget<'_>,
        edit: impl FnOnce() -> Result<WorkspaceEdit, Failure>,
    ) -> Result<WorkspaceRecord, Failure> {
        let id = target.id;
        call.caller.require(Act::WorkspacesWrite, id)?;
        if let Some(made) = self.repeated(call).await? {
            return workspace_before(made.everywhere()?);
        }
        let edit = edit()?;
        if id.is_system() {
            return Err(Failure::WorkspaceReserved(of_workspace(id)));
        }
        let mut since = None;
        for () in call.tries() {
            // Read before the keys: what was applied since shows as a conflict.
            let seen = self.keyring.applied();
            let found = match self.find_target(target) {
                Ok(found) => found,
                Err(_) if !self.is_current(call, &mut since, seen).await? => continue,
                Err(failure) => return Err(failure),
            };
            let now = self.now();
            let after = edit.clone().apply(found.workspace.clone());
            if after == found.workspace {
                let reads = vec![(RecordId::Workspace(id.clone()), Some(found.revision))];
                match self.keep(call, reads, &mut since, seen, now).await? {
                    Outcome::Done(made) => {
                        made.everywhere()?;
                        return Ok(found);
                    }
                    Outcome::Repeated(made) => return workspace_before(made.everywhere()?),
                    Outcome::Stale => continue,
                }
            }
            let after = Workspace {
                update_time: now,
                ..after
            };
            let mut proposal = Proposal {
                action: Action::Update,
                entity: Entity::Workspace,
                resource: of_workspace(id),
                changes: workspace_changes(Some(&found.workspace), Some(&after)),
                reads: vec![(RecordId::Workspace(id.clone()), Some(found.revision))],
                quiet: None,
                writes: vec![Write::Workspace(after.clone())],
                time: now,
            };
            if after.archive_limit.get() < found.workspace.archive_limit.get() {
                let limit = after.archive_limit.get().into();
                self.drop_oldest_archived(id, limit, None, &mut proposal);
            }
            if narrows(&found.workspace, &after) {
                self.require_nothing_lost(&call.caller, &after).await?;
                proposal.quiet = Some((id.clone(), seen));
            }
            match self.commit(call, proposal).await? {
                Outcome::Done(made) => {
                    return Ok(WorkspaceRecord {
                        workspace: after,
                        revision: made.everywhere()?,
                    });
                }
                Outcome::Repeated(made) => return workspace_before(made.everywhere()?),
                Outcome::Stale => {}
            }
        }
        Err(Failure::Conflict)
    }

    /// Deletes a workspace without keys. Its id is not used again.
    ///
    /// # Errors
    /// If the caller may not, there is no such workspace, its etag is another, it has keys, or is `system` or `default`.
    pub async fn delete_workspace(
        &self,
        call: &Call,
        target: WorkspaceTarget<'_>,
    ) -> Result<(), Failure> {
        let id = target.id;
        call.caller.require(Act::WorkspacesWrite, id)?;
        if let Some(made) = self.repeated(call).await? {
            made.everywhere()?;
            return Ok(());
        }
        if id.is_system() || id.as_str() == DEFAULT_WORKSPACE {
            return Err(Failure::WorkspaceReserved(of_workspace(id)));
        }
        let mut since = None;
        for () in call.tries() {
            let seen: Revision = self.keyring.applied();
            let found = self.find_target(target).and_then(|found| {
                if self.keyring.has_keys(id) {
                    return Err(Failure::WorkspaceNotEmpty(of_workspace(id)));
                }
                Ok(found)
            });
            let found = match found {
                Ok(found) => found,
                Err(_) if !self.is_current(call, &mut since, seen).await? => continue,
                Err(Failure::NotFound(resource)) => {
                    return Err(self.gone(call, resource, seen).await);
                }
                Err(failure) => return Err(failure),
            };
            let proposal = Proposal {
                action: Action::Delete,
                entity: Entity::Workspace,
                resource: of_workspace(id),
                changes: workspace_changes(Some(&found.workspace), None),
                reads: vec![(RecordId::Workspace(id.clone()), Some(found.revision))],
                // A key that is created meanwhile read the same record, which this does not change before it is gone.
                quiet: Some((id.clone(), seen)),
                writes: vec![Write::DeleteWorkspace(id.clone())],
                time: self.now(),
            };
            match self.commit(call, proposal).await? {
                Outcome::Done(made) => {
                    made.everywhere()?;
                    return Ok(());
                }
                Outcome::Repeated(made) => {
                    made.everywhere()?;
                    return Ok(());
                }
                Outcome::Stale => {}
            }
        }
        Err(Failure::Conflict)
    }

    /// Reads a workspace.
    ///
    /// # Errors
    /// If the caller may not know of it, or there is none.
    pub fn get_workspace(
        &self,
        caller: &Caller,
        id: &WorkspaceId,
    ) -> Result<WorkspaceRecord, Failure> {
        if !caller.sees(id) {
            return Err(Failure::NotPermitted(Act::KeysRead, Some(id.clone())));
        }
        self.find_workspace(id)
    }

    /// Lists up to `limit` workspaces that the caller may know of, by id, after one of them.
    #[must_use]
    pub fn list_workspaces(
        &self,
        caller: &Caller,
        after: Option<&WorkspaceId>,
        limit: usize,
    ) -> (Vec<WorkspaceRecord>, Option<WorkspaceId>) {
        let mut records = self
            .keyring
            .list_workspaces(after, limit + 1, |id| caller.sees(id));
        let more = records.len() > limit;
        records.truncate(limit);
        let next = records
            .last()
            .filter(|_| more)
            .map(|record| record.workspace.id.clone());
        (records, next)
    }

    pub(super) fn find_workspace(&self, id: &WorkspaceId) -> Result<WorkspaceRecord, Failure> {
        self.keyring
            .workspace(id)
            .ok_or_else(|| Failure::NotFound(of_workspace(id)))
    }

    fn find_target(&self, target: WorkspaceTarget<'_>) -> Result<WorkspaceRecord, Failure> {
        let WorkspaceTarget { id, etag } = target;
        let found = self.find_workspace(id)?;
        if !etag.is_empty() && etag != found.revision.to_string() {
            return Err(Failure::EtagMismatch(of_workspace(id)));
        }
        Ok(found)
    }

    /// Goes on only if every key that may still be used holds what `after` declares. There may be a million, so another
    /// thread looks.
    async fn require_nothing_lost(
        &self,
        caller: &Caller,
        after: &Workspace,
    ) -> Result<(), Failure> {
        let (keyring, after) = (self.keyring.clone(), after.clone());
        let id = after.id.clone();
        let looked = tokio::task::spawn_blocking(move || {
            let found = keyring.find_key(&after.id, |key| {
                key.archive_time.is_none() && lost(&after, key).is_some()
            })?;
            let field = lost(&after, &found).unwrap_or_default();
            Some((found.name().to_string(), field))
        });
        let found = looked
            .await
            .map_err(|_| Failure::Internal("looking through a workspace's keys failed"))?;
        match found {
            // Which key it is, is for those who may see keys.
            Some(_) if !caller.may(Act::KeysRead, &id) => Err(Failure::DeclarationInUse {
                key: of_workspace(&id),
                field: "what one of its keys has".to_owned(),
            }),
            Some((key, field)) => Err(Failure::DeclarationInUse { key, field }),
            None => Ok(()),
        }
    }
}

/// What a key holds that its workspace would not allow.
fn lost(workspace: &Workspace, key: &Key) -> Option<String> {
    let permission = workspace
        .undeclared(&key.permissions)
        .map(|name| format!("permissions {name}"));
    let setting = || {
        workspace
            .refused_setting(&key.settings)
            .map(|(name, _)| format!("settings.{name}"))
    };
    permission.or_else(setting)
}

/// True if a key that was right under `before` may be wrong under `after`.
fn narrows(before: &Workspace, after: &Workspace) -> bool {
    let permissions = after.declares_permissions()
        && (!before.declares_permissions() || after.undeclared(&before.permissions).is_some());
    let settings = before.settings.iter().any(|old| {
        after
            .settings
            .get(&old.name)
            .is_none_or(|new| new.kind != old.kind)
    });
    permissions || settings
}

/// The workspace that a call wrote when it was made before.
fn workspace_before(done: Done) -> Result<WorkspaceRecord, Failure> {
    match done.result {
        Stored::Workspace(record) => Ok(record),
        _ => Err(Failure::Internal(
            "a call that writes a workspace wrote none",
        )),
    }
}

//! What can be done with workspaces.

use super::{
    Failure,
    caller::Caller,
    mutation::{Management, Outcome, Proposal},
};
use crate::{
    domain::{
        event::{Action, Entity, workspace_changes},
        grant::Act,
        id::{TokenPrefix, WorkspaceId},
        name::of_workspace,
        workspace::Workspace,
    },
    store::{RecordId, WorkspaceRecord, Write},
};

/// A workspace to create.
#[derive(Debug, Clone)]
pub struct NewWorkspace {
    /// For people.
    pub display_name: String,
    /// What its tokens begin with.
    pub token_prefix: TokenPrefix,
}

impl Management {
    /// Creates a workspace. `new` is asked what to create once the caller is known to be allowed to.
    ///
    /// # Errors
    /// If the caller may not, the workspace is malformed, or its id is taken.
    pub async fn create_workspace(
        &self,
        caller: &Caller,
        id: &WorkspaceId,
        new: impl FnOnce() -> Result<NewWorkspace, Failure>,
    ) -> Result<WorkspaceRecord, Failure> {
        caller.require(Act::WorkspacesWrite, id)?;
        let NewWorkspace {
            display_name,
            token_prefix,
        } = new()?;
        let now = self.now();
        let workspace = Workspace {
            id: id.clone(),
            display_name,
            token_prefix,
            create_time: now,
            update_time: now,
        };
        let proposal = Proposal {
            method: "CreateWorkspace",
            action: Action::Create,
            entity: Entity::Workspace,
            resource: of_workspace(id),
            changes: workspace_changes(&workspace),
            reads: vec![(RecordId::Workspace(id.clone()), None)],
            writes: vec![Write::Workspace(workspace.clone())],
            time: now,
        };
        match self.commit(caller, proposal).await? {
            Outcome::Done(revision) => Ok(WorkspaceRecord {
                workspace,
                revision,
            }),
            Outcome::Stale => Err(Failure::Exists(of_workspace(id))),
        }
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
        self.keyring
            .workspace(id)
            .ok_or_else(|| Failure::NotFound(of_workspace(id)))
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
}

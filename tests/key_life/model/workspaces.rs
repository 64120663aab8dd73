//! What calls on workspaces do.

use portcullis::domain::event::Action;

use super::{Caller, Change, Model, Mutant, Refusal, Reply, Workspace};
use crate::calls::{Call, SYSTEM, WorkspaceFields};

impl Model {
    fn may_write_workspace(caller: &Caller, workspace: &str) -> Result<(), Refusal> {
        if Self::may(caller, "workspaces.write", workspace) {
            Ok(())
        } else {
            Err("NotPermitted")
        }
    }

    pub(super) fn create_workspace(
        &mut self,
        caller: &Caller,
        call: &Call,
        workspace: &'static str,
        fields: &WorkspaceFields,
    ) -> Result<Reply, Refusal> {
        Self::may_write_workspace(caller, workspace)?;
        if let Some(reply) = self.repeated(caller, call)? {
            return Ok(reply);
        }
        let was = self.retired.contains(workspace) && !self.is(Mutant::WorkspaceIdComesBack);
        if self.workspaces.contains_key(workspace) || was {
            return Err("Exists");
        }
        let new = Workspace::new(workspace, "", self.now).with(fields);
        let change = Change::of_workspace(Action::Create, workspace, Reply::Workspace(new));
        Ok(self.commit(caller, call, change))
    }

    pub(super) fn update_workspace(
        &mut self,
        caller: &Caller,
        call: &Call,
        workspace: &'static str,
        etag: &str,
        fields: &WorkspaceFields,
    ) -> Result<Reply, Refusal> {
        Self::may_write_workspace(caller, workspace)?;
        if let Some(reply) = self.repeated(caller, call)? {
            return Ok(reply);
        }
        if workspace == SYSTEM {
            return Err("WorkspaceReserved");
        }
        let before = self.find_workspace(workspace, etag)?.clone();
        let after = before.with(fields);
        if after == before {
            return Ok(self.keep(caller, call, Reply::Workspace(before)));
        }
        let mut asked = self.keys.values().filter(|key| {
            key.workspace() == workspace
                && (key.archive.is_none() || self.is(Mutant::NarrowingAsksArchivedKeys))
        });
        if asked.any(|key| after.refuses(key).is_some()) && !self.is(Mutant::NarrowingAsksNobody) {
            return Err("DeclarationInUse");
        }
        let dropped = self.oldest_archived(workspace, 0, after.limit);
        let after = Reply::Workspace(Workspace {
            update: self.now,
            ..after
        });
        let mut change = Change::of_workspace(Action::Update, workspace, after);
        change.dropped = dropped;
        Ok(self.commit(caller, call, change))
    }

    pub(super) fn delete_workspace(
        &mut self,
        caller: &Caller,
        call: &Call,
        workspace: &'static str,
        etag: &str,
    ) -> Result<Reply, Refusal> {
        Self::may_write_workspace(caller, workspace)?;
        if let Some(reply) = self.repeated(caller, call)? {
            return Ok(reply);
        }
        if workspace == SYSTEM || workspace == "default" {
            return Err("WorkspaceReserved");
        }
        self.find_workspace(workspace, etag)?;
        let mut keys = self.keys.values();
        if keys.any(|key| key.workspace() == workspace) && !self.is(Mutant::FullWorkspaceGoes) {
            return Err("WorkspaceNotEmpty");
        }
        self.workspaces.remove(workspace);
        self.retired.insert(workspace);
        let change = Change::of_workspace(Action::Delete, workspace, Reply::Nothing);
        Ok(self.commit(caller, call, change))
    }

    fn find_workspace(&self, workspace: &str, etag: &str) -> Result<&Workspace, Refusal> {
        let found = self.workspaces.get(workspace).ok_or("NotFound")?;
        if !etag.is_empty() && etag != format!("1.{}", found.revision) && !self.is(Mutant::AnyEtag)
        {
            return Err("EtagMismatch");
        }
        Ok(found)
    }
}

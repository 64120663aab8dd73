//! Resource names: `workspaces/{workspace}` and `workspaces/{workspace}/keys/{key_id}`.

use std::fmt;

use super::{
    Invalid,
    id::{KeyId, WorkspaceId},
};

/// The name of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyName {
    /// The workspace that owns it.
    pub workspace: WorkspaceId,
    /// Its id, unique in the store.
    pub id: KeyId,
}

impl KeyName {
    /// Reads `workspaces/{workspace}/keys/{key_id}`.
    ///
    /// # Errors
    /// If the text is of any other form.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let malformed = || Invalid::new("must be of the form workspaces/{workspace}/keys/{key_id}");
        let rest = text.strip_prefix("workspaces/").ok_or_else(malformed)?;
        let (workspace, id) = rest.split_once("/keys/").ok_or_else(malformed)?;
        Ok(Self {
            workspace: WorkspaceId::parse(workspace).map_err(|_| malformed())?,
            id: KeyId::parse(id.as_bytes()).ok_or_else(malformed)?,
        })
    }
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&of_key(&self.workspace, self.id))
    }
}

/// Writes `workspaces/{workspace}/keys/{key_id}`. Every answer of Check carries one, so it is put together by hand.
#[must_use]
pub fn of_key(workspace: &WorkspaceId, id: KeyId) -> String {
    let id = id.to_text();
    // Base62 digits are ASCII, so this cannot fail; an empty id would still be no secret.
    let id = std::str::from_utf8(&id).unwrap_or_default();
    ["workspaces/", workspace.as_str(), "/keys/", id].concat()
}

/// Reads `workspaces/{workspace}`.
///
/// # Errors
/// If the text is of any other form.
pub fn parse_workspace(text: &str) -> Result<WorkspaceId, Invalid> {
    text.strip_prefix("workspaces/")
        .and_then(|id| WorkspaceId::parse(id).ok())
        .ok_or_else(|| Invalid::new("must be of the form workspaces/{workspace}"))
}

/// Writes `workspaces/{workspace}`.
#[must_use]
pub fn of_workspace(id: &WorkspaceId) -> String {
    format!("workspaces/{id}")
}

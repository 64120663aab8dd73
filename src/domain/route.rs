//! Which calls ask for which permissions of which workspace's keys.

use super::{
    id::WorkspaceId,
    permission::{ANY, MAX_PERMISSIONS, is_permission},
};

/// What a call asks of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Whose keys are accepted.
    pub workspace: WorkspaceId,
    /// What must be held; none: any valid key will do.
    pub permissions: Box<[String]>,
}

/// A path that some upstream may read in another way than we do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AmbiguousPath;

/// The policies of all routes.
#[derive(Debug, Clone, Default)]
pub struct RouteTable;

impl Policy {
    /// Reads a policy: a workspace, and names of permissions with commas between them, or `none` alone.
    #[must_use]
    pub fn new(workspace: &str, permission: &str) -> Option<Self> {
        let workspace = WorkspaceId::parse(workspace).ok()?;
        let permissions: Box<[String]> = match permission {
            "none" => [].into(),
            names => names.split(',').map(str::to_owned).collect(),
        };
        let named = |name: &String| name != ANY && name != "none" && is_permission(name);
        (permissions.len() <= MAX_PERMISSIONS && permissions.iter().all(named)).then_some(Self {
            workspace,
            permissions,
        })
    }
}

impl RouteTable {
    /// The policy of a call.
    ///
    /// # Errors
    /// If the path is ambiguous.
    pub fn find(&self, _method: &str, _path: &str) -> Result<Option<&Policy>, AmbiguousPath> {
        Ok(None)
    }
}

//! A tenant.

use super::{
    id::{TokenPrefix, WorkspaceId},
    time::Timestamp,
};

/// Owns keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workspace {
    /// Never used again after deletion.
    pub id: WorkspaceId,
    /// For people.
    pub display_name: String,
    /// What its new tokens begin with.
    pub token_prefix: TokenPrefix,
    /// When it was created.
    pub create_time: Timestamp,
    /// When it was last changed.
    pub update_time: Timestamp,
}

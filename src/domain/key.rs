//! An API key.

use std::sync::Arc;

use super::{
    id::{KeyId, Revision, TokenPrefix, WorkspaceId},
    name::KeyName,
    permission::PermissionSet,
    secret::Secret,
    source::IpAllowlist,
    text::TextMap,
    time::Timestamp,
};

/// Everything about a key but its secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// The public half.
    pub id: KeyId,
    /// Who owns it.
    pub workspace: WorkspaceId,
    /// For people.
    pub display_name: Box<str>,
    /// For people.
    pub description: Box<str>,
    /// The principal that created it.
    pub owner: Arc<str>,
    /// What its newest token began with when it was issued.
    pub token_prefix: TokenPrefix,
    /// Check refuses it.
    pub disabled: bool,
    /// What it may do.
    pub permissions: PermissionSet,
    /// Where it may be used from.
    pub ip_allowlist: IpAllowlist,
    /// The operator's own names and values.
    pub labels: TextMap,
    /// Its values for the workspace's settings.
    pub settings: TextMap,
    /// When it was created.
    pub create_time: Timestamp,
    /// When it was last changed.
    pub update_time: Timestamp,
    /// When it stops working; `None`: never.
    pub expire_time: Option<Timestamp>,
    /// When it was archived, for good; `None`: it is not.
    pub archive_time: Option<Timestamp>,
}

/// What a key is good for at some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Check accepts it.
    Active,
    /// An operator disabled it.
    Disabled,
    /// Its `expire_time` has come.
    Expired,
    /// Archived for good: to Check it does not exist.
    Archived,
}

impl Key {
    /// The key's state at `now`. An archived key is that whatever else it is, and a disabled one stays `Disabled` whatever
    /// its expiry.
    #[must_use]
    pub fn state(&self, now: Timestamp) -> State {
        match self.expire_time {
            _ if self.archive_time.is_some() => State::Archived,
            _ if self.disabled => State::Disabled,
            // The end is exclusive: at `expire_time` itself the key no longer works.
            Some(end) if now >= end => State::Expired,
            _ => State::Active,
        }
    }

    /// True for an admin credential that may do everything, from anywhere, for good.
    #[must_use]
    pub fn is_root_in_force(&self) -> bool {
        self.workspace.is_system()
            && self.permissions == PermissionSet::any()
            && !self.disabled
            && self.archive_time.is_none()
            && self.expire_time.is_none()
            && self.ip_allowlist.entries().is_empty()
    }

    /// The key's resource name.
    #[must_use]
    pub fn name(&self) -> KeyName {
        KeyName {
            workspace: self.workspace.clone(),
            id: self.id,
        }
    }

    /// Token prefix and first key id characters.
    #[must_use]
    pub fn token_hint(&self) -> String {
        format!(
            "{}_{}",
            self.token_prefix.as_str(),
            &self.id.to_string()[..6]
        )
    }
}

/// A key with its secrets at rest and the revision of its last change: what a store holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRecord {
    /// The key.
    pub key: Key,
    /// What proves it.
    pub secrets: Vec<Secret>,
    /// When it was last written.
    pub revision: Revision,
}

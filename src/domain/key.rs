//! An API key.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    id::{KeyId, Revision, TokenPrefix, WorkspaceId},
    name::KeyName,
    permission::PermissionSet,
    secret::Secret,
    source::IpAllowlist,
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
    /// What its token began with when it was issued.
    pub token_prefix: TokenPrefix,
    /// Check refuses it.
    pub disabled: bool,
    /// What it may do.
    pub permissions: PermissionSet,
    /// Where it may be used from.
    pub ip_allowlist: IpAllowlist,
    /// The operator's own names and values.
    pub labels: Labels,
    /// When it was created.
    pub create_time: Timestamp,
    /// When it was last changed.
    pub update_time: Timestamp,
    /// When it stops working; `None`: never.
    pub expire_time: Option<Timestamp>,
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
}

impl Key {
    /// The key's state at `now`. A disabled key stays `Disabled` whatever its expiry.
    #[must_use]
    pub fn state(&self, now: Timestamp) -> State {
        match self.expire_time {
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

/// Labels, sorted by name. Most keys have few or none, so a slice is all it takes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Labels(Box<[(Box<str>, Box<str>)]>);

impl Labels {
    /// The value of a label.
    pub fn get(&self, name: &str) -> Option<&str> {
        let place = self
            .0
            .binary_search_by(|(known, _)| (**known).cmp(name))
            .ok()?;
        Some(&self.0[place].1)
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }
}

impl<N: Into<Box<str>>, V: Into<Box<str>>> FromIterator<(N, V)> for Labels {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(labels: I) -> Self {
        let sorted: BTreeMap<Box<str>, Box<str>> = labels
            .into_iter()
            .map(|(name, value)| (name.into(), value.into()))
            .collect();
        Self(sorted.into_iter().collect())
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

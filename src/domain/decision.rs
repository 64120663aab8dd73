//! Whether a key opens a call.

use std::net::IpAddr;

use super::{
    key::{Key, State},
    time::Timestamp,
};

/// Why a decision is what it is. Only `Ok` allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The key opens the call.
    Ok,
    /// No credential, no key of that id here, or not its secret.
    InvalidCredential,
    /// The key is disabled.
    KeyDisabled,
    /// The key's `expire_time` has come.
    KeyExpired,
    /// The source is unknown or not in the key's list.
    SourceDenied,
    /// A permission that was asked for is not held.
    PermissionDenied,
    /// A setting of the request is not declared, or its value not valid.
    InvalidSetting,
    /// The request is malformed.
    InvalidRequest,
}

impl Reason {
    /// Every reason, in the order of their declaration.
    pub const ALL: [Self; 8] = [
        Self::Ok,
        Self::InvalidCredential,
        Self::KeyDisabled,
        Self::KeyExpired,
        Self::SourceDenied,
        Self::PermissionDenied,
        Self::InvalidSetting,
        Self::InvalidRequest,
    ];

    /// The name that the API uses.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::InvalidCredential => "INVALID_CREDENTIAL",
            Self::KeyDisabled => "KEY_DISABLED",
            Self::KeyExpired => "KEY_EXPIRED",
            Self::SourceDenied => "SOURCE_DENIED",
            Self::PermissionDenied => "PERMISSION_DENIED",
            Self::InvalidSetting => "INVALID_SETTING",
            Self::InvalidRequest => "INVALID_REQUEST",
        }
    }
}

/// Judges a key whose secret is proved. The order is part of the API: the first reason that applies is the answer.
#[must_use]
pub fn judge<S: AsRef<str>>(
    key: &Key,
    permissions: &[S],
    source: Option<IpAddr>,
    now: Timestamp,
) -> Reason {
    match key.state(now) {
        // The same answer as for a key that does not exist.
        State::Archived => return Reason::InvalidCredential,
        State::Disabled => return Reason::KeyDisabled,
        State::Expired => return Reason::KeyExpired,
        State::Active => {}
    }
    if !key.ip_allowlist.admits(source) {
        return Reason::SourceDenied;
    }
    if !key.permissions.holds_all(permissions) {
        return Reason::PermissionDenied;
    }
    Reason::Ok
}

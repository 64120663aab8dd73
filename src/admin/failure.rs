//! Why a management call failed, and what its caller is told.

use tonic::{Code, Status};
use zeroize::Zeroize as _;

use super::{barrier::Short, convert::show_issued, keys::Issued};
use crate::{
    domain::{
        grant::Act,
        id::{Revision, WorkspaceId},
        time::Timestamp,
    },
    fleet::NotFleetWide,
    gate::checker::Undecided,
    proto::v1::ErrorReason,
    status::{internal_error, invalid_fields, status, status_with, with_issued_key},
    store::StoreError,
};

/// Why a call failed.
#[derive(Debug, Clone)]
pub enum Failure {
    /// Fields are malformed: each field's name, and why.
    Invalid(Vec<(String, String)>),
    /// No admin credential.
    CredentialMissing,
    /// An admin credential that is not in force.
    CredentialInvalid,
    /// The caller holds no permission for the act there.
    NotPermitted(Act, Option<WorkspaceId>),
    /// The change gives or touches what the caller does not hold.
    GrantExceedsCaller,
    /// There is no such resource.
    NotFound(String),
    /// There is one already.
    Exists(String),
    /// The etag is not the resource's.
    EtagMismatch(String),
    /// Others kept changing what the call depends on.
    Conflict,
    /// An ACTIVE key is not deleted without `force`.
    KeyActive(String),
    /// Without this key there would be no root in force.
    LastRoot(String),
    /// An archived key is changed no more.
    KeyArchived(String),
    /// The request id was that of another call.
    RequestIdReused,
    /// A workspace with keys is not deleted.
    WorkspaceNotEmpty(String),
    /// A workspace that stays as it is.
    WorkspaceReserved(String),
    /// A key holds what its workspace would no longer allow.
    DeclarationInUse {
        /// The key.
        key: String,
        /// The permission or setting.
        field: String,
    },
    /// The call would cost more than it is given: what there is too much of.
    Limit(&'static str),
    /// A revision ahead of the store.
    RevisionAhead(Revision),
    /// A record that cannot be read.
    Unreadable(String),
    /// The caller's credential could not be judged.
    Undecided(Undecided),
    /// The store did not acknowledge.
    Store(StoreError),
    /// The store did not take the change.
    NotWritten(StoreError),
    /// The store could not be read, where nothing was to be changed.
    NotRead(StoreError),
    /// Committed, but not in force everywhere.
    NotFleetWide(NotFleetWide),
    /// A defect.
    Internal(&'static str),
}

impl Failure {
    /// One malformed field.
    pub(super) fn invalid(field: impl Into<String>, why: impl ToString) -> Self {
        Self::Invalid(vec![(field.into(), why.to_string())])
    }
}

impl From<Undecided> for Failure {
    fn from(undecided: Undecided) -> Self {
        Self::Undecided(undecided)
    }
}

impl From<NotFleetWide> for Failure {
    fn from(pending: NotFleetWide) -> Self {
        Self::NotFleetWide(pending)
    }
}

impl From<Failure> for Status {
    fn from(failure: Failure) -> Self {
        let of = |resource: String| [("resource", resource)];
        match failure {
            Failure::Invalid(violations) => invalid_fields(violations),
            Failure::CredentialMissing => status(
                Code::Unauthenticated,
                ErrorReason::CredentialMissing,
                "an admin credential is needed: authorization: Bearer {token of a key in workspaces/system}; or, over TLS, a \
                 client certificate that the configuration maps",
            ),
            Failure::CredentialInvalid => status(
                Code::Unauthenticated,
                ErrorReason::CredentialInvalid,
                "the admin credential is unknown, wrong, disabled, expired or used from a refused address",
            ),
            Failure::NotPermitted(act, workspace) => {
                let scope =
                    workspace.map_or_else(|| "*".to_owned(), |workspace| workspace.to_string());
                let message = format!("the caller lacks the permission {scope}:{act}");
                status(
                    Code::PermissionDenied,
                    ErrorReason::CallerNotPermitted,
                    message,
                )
            }
            Failure::GrantExceedsCaller => status(
                Code::PermissionDenied,
                ErrorReason::GrantExceedsCaller,
                "a system key is made or changed only by a caller with all its permissions, that may call from wherever it \
                 may and lasts as long, before and after",
            ),
            Failure::NotFound(resource) => status_with(
                Code::NotFound,
                ErrorReason::ResourceNotFound,
                format!("{resource} does not exist"),
                of(resource),
            ),
            Failure::Exists(resource) => status_with(
                Code::AlreadyExists,
                ErrorReason::ResourceExists,
                format!("{resource} exists, or did: an id is not used again"),
                of(resource),
            ),
            Failure::EtagMismatch(resource) => status_with(
                Code::Aborted,
                ErrorReason::EtagMismatch,
                format!("{resource} has changed: the etag is not its current one; read it again"),
                of(resource),
            ),
            Failure::Conflict => status(
                Code::Aborted,
                ErrorReason::Conflict,
                "what the call depends on kept changing; nothing was written, and the call may be repeated",
            ),
            Failure::KeyActive(resource) => status_with(
                Code::FailedPrecondition,
                ErrorReason::KeyActive,
                format!("{resource} is ACTIVE: disable it first, or set force"),
                of(resource),
            ),
            Failure::LastRoot(resource) => status_with(
                Code::FailedPrecondition,
                ErrorReason::LastRoot,
                format!(
                    "{resource} is the last root in force: first create another key in workspaces/system with the \
                     permission * and neither expiry nor IP allowlist"
                ),
                of(resource),
            ),
            Failure::KeyArchived(resource) => status_with(
                Code::FailedPrecondition,
                ErrorReason::KeyArchived,
                format!("{resource} is archived for good; it can only be deleted"),
                of(resource),
            ),
            Failure::RequestIdReused => status(
                Code::AlreadyExists,
                ErrorReason::RequestIdReused,
                "this request_id was used for another call or another body; take a new one for each change",
            ),
            Failure::WorkspaceNotEmpty(resource) => status_with(
                Code::FailedPrecondition,
                ErrorReason::WorkspaceNotEmpty,
                format!("{resource} still has keys: delete them first, archived ones included"),
                of(resource),
            ),
            Failure::WorkspaceReserved(resource) => status_with(
                Code::FailedPrecondition,
                ErrorReason::WorkspaceReserved,
                format!(
                    "{resource} is reserved: system is neither changed nor deleted, and default is not deleted"
                ),
                of(resource),
            ),
            Failure::DeclarationInUse { key, field } => {
                let message = format!(
                    "{key} holds {field}, which would no longer be allowed; change that key first"
                );
                status_with(
                    Code::FailedPrecondition,
                    ErrorReason::DeclarationInUse,
                    message,
                    [("resource", key), ("field", field)],
                )
            }
            Failure::Limit(what) => {
                status(Code::ResourceExhausted, ErrorReason::ResourceLimit, what)
            }
            Failure::RevisionAhead(revision) => status(
                Code::FailedPrecondition,
                ErrorReason::RevisionAhead,
                format!("revision {revision} lies ahead of everything this store has recorded"),
            ),
            Failure::Unreadable(resource) => status_with(
                Code::Unavailable,
                ErrorReason::RecordUnreadable,
                format!("the stored record of {resource} cannot be read by this version"),
                of(resource),
            ),
            Failure::Undecided(undecided) => undecided.into(),
            Failure::Store(error) => {
                tracing::error!(error = %error, "a change was not acknowledged by the store");
                status(
                    Code::Unavailable,
                    ErrorReason::StoreFailed,
                    "the store did not acknowledge the change, which may or may not be there; read before repeating",
                )
            }
            Failure::NotWritten(error) => {
                tracing::error!(error = %error, "a change was not taken by the store");
                status(
                    Code::Unavailable,
                    ErrorReason::StoreFailed,
                    "the store does not take changes now; nothing was written, and the call may be repeated",
                )
            }
            Failure::NotRead(error) => {
                tracing::error!(error = %error, "the store could not be read");
                status(
                    Code::Unavailable,
                    ErrorReason::StoreFailed,
                    "the store could not be read; the call changes nothing, and may be repeated",
                )
            }
            Failure::NotFleetWide(pending) => not_fleet_wide(&pending),
            Failure::Internal(what) => {
                tracing::error!(what, "a call failed because of a defect");
                internal_error()
            }
        }
    }
}

/// The most replicas, and the most of their names' bytes, that an error names: it travels in headers, and clients refuse those
/// past a few KiB.
const MOST_NAMED: usize = 20;
const MOST_NAME_BYTES: usize = 1_000;

fn not_fleet_wide(pending: &NotFleetWide) -> Status {
    let NotFleetWide {
        revision,
        waiting_for,
    } = pending;
    let mut bytes = 0;
    let named: Vec<&str> = waiting_for
        .iter()
        .map(String::as_str)
        .take(MOST_NAMED)
        .take_while(|name| {
            bytes += name.len();
            bytes <= MOST_NAME_BYTES
        })
        .collect();
    let more = match waiting_for.len() - named.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let message = format!(
        "committed as {revision}, but not in force on every replica; waiting for {}{more}",
        named.join(", ")
    );
    status_with(
        Code::Unavailable,
        ErrorReason::CommittedNotFleetWide,
        message,
        [
            ("revision", revision.to_string()),
            ("waiting_for", named.join(",")),
            ("waiting_for_count", waiting_for.len().to_string()),
        ],
    )
}

/// The same for a reset, with the new secret in the details: the old one is dead, and this is the only answer to show it. Of
/// the key stands there what is short.
pub(super) fn reset_not_fleet_wide(short: Short<Issued>, now: Timestamp) -> Status {
    let Short { value, pending } = short;
    let plain = not_fleet_wide(&pending);
    if value.secret.is_none() {
        return plain;
    }
    let mut issued = show_issued(&value, now, Vec::new());
    if let Some(key) = &mut issued.key {
        key.description.clear();
        key.permissions.clear();
        key.ip_allowlist.clear();
        key.settings.clear();
        key.labels.clear();
    }
    let shown = with_issued_key(&plain, &issued);
    issued.token.zeroize();
    issued.secret.zeroize();
    shown
}

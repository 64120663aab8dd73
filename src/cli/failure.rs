//! Why a command failed, in words for the person who typed it.

use std::{borrow::Cow, error::Error, fmt, io};

use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::{console::clean, key_ref::bare_workspace};
use crate::{config::Faults, proto::v1::ErrorReason, status::carries_issued_key, tls::explain};

/// Displays as whole lines for stderr.
#[derive(Debug)]
pub(super) enum Failure {
    /// The command line cannot be carried out as it stands.
    Usage(String),
    /// Anything else that went wrong here.
    Failed(String),
    /// The settings are wrong.
    Settings(Faults),
    /// The server refused, or was lost.
    Call(Box<Status>),
    /// As `Call`, in a command about a key that was named without its workspace.
    CallAboutBareKey(Box<Status>),
    /// The answer could not be written.
    Output(io::Error),
}

impl Failure {
    pub(super) const fn exit_status(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Failed(_)
            | Self::Settings(_)
            | Self::Call(_)
            | Self::CallAboutBareKey(_)
            | Self::Output(_) => 1,
        }
    }

    /// The same failure, of a command about a key that was named without its workspace.
    pub(super) fn about_bare_key(self) -> Self {
        match self {
            Self::Call(status) => Self::CallAboutBareKey(status),
            other => other,
        }
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Self::Call(Box::new(status))
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

impl From<Faults> for Failure {
    fn from(faults: Faults) -> Self {
        Self::Settings(faults)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(text) | Self::Failed(text) => writeln!(f, "error: {text}"),
            Self::Settings(faults) => {
                writeln!(f, "error: the settings are wrong")?;
                faults
                    .0
                    .iter()
                    .try_for_each(|fault| writeln!(f, "  {fault}"))
            }
            Self::Call(status) => write_status(f, status, false),
            Self::CallAboutBareKey(status) => write_status(f, status, true),
            // Whoever reads us has what they wanted: `portcullis key list | head`.
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            Self::Output(error) => writeln!(f, "error: the answer cannot be written: {error}"),
        }
    }
}

fn write_status(f: &mut fmt::Formatter<'_>, status: &Status, bare_key: bool) -> fmt::Result {
    if timed_out(status) {
        return writeln!(
            f,
            "error: no answer in time. A change may have been made all the same: look before repeating it, and give \
             it longer with --timeout"
        );
    }
    if let Some(source) = status.source() {
        let why = explain(source).unwrap_or_else(|| root_cause(source));
        return writeln!(f, "error: the connection failed: {}", clean(&why));
    }
    let details = status.get_error_details();
    let info = details.error_info();
    let reason = info.map_or_else(
        || format!("{:?}", status.code()),
        |info| info.reason.clone(),
    );
    let message = if status.message().is_empty() {
        status.code().description()
    } else {
        status.message()
    };
    writeln!(f, "error: {} [{}]", clean(message), clean(&reason))?;
    for violation in details
        .bad_request()
        .map_or(&[][..], |bad| &bad.field_violations)
    {
        // The message may have named them all.
        if !message.contains(&violation.description) {
            writeln!(
                f,
                "  {}: {}",
                clean(&violation.field),
                clean(&violation.description)
            )?;
        }
    }
    let metadata = |name: &str| {
        let value = info.and_then(|info| info.metadata.get(name));
        clean(value.map_or("", String::as_str))
    };
    if carries_issued_key(status) {
        return writeln!(
            f,
            "hint: the secret is replaced and the new token is good; another reset would replace that one. The replicas \
             named may accept the old one until they have heard of it"
        );
    }
    let hint = hint(
        status.code(),
        &reason,
        &metadata("resource"),
        &metadata("field"),
        &metadata("revision"),
        bare_key,
    );
    hint.map_or(Ok(()), |hint| writeln!(f, "hint: {hint}"))
}

/// Our own deadline shows as Cancelled with this text, the server's as `DEADLINE_EXCEEDED`.
fn timed_out(status: &Status) -> bool {
    status.code() == Code::DeadlineExceeded
        || (status.code() == Code::Cancelled && status.message() == "Timeout expired")
}

fn hint(
    code: Code,
    reason: &str,
    resource: &str,
    field: &str,
    revision: &str,
    bare_key: bool,
) -> Option<Cow<'static, str>> {
    let hint = match ErrorReason::from_str_name(reason) {
        Some(ErrorReason::CredentialMissing) => {
            "set PORTCULLIS_TOKEN, name a file that holds a token with --token-file, or, on the server's own \
             machine, name its directory with --data-dir"
        }
        Some(ErrorReason::CredentialInvalid) => {
            "look at PORTCULLIS_TOKEN, --token-file, and root.token in the data directory"
        }
        Some(ErrorReason::ResourceNotFound) if resource.contains("/keys/") => {
            if !bare_key {
                return None;
            }
            "keys are looked for in the workspace `default` unless --workspace names another"
        }
        // Of a key out of reach it is not told whether it exists, so this may be the wrong workspace just the same.
        Some(ErrorReason::CallerNotPermitted) if bare_key => {
            "keys are looked for in the workspace `default` unless --workspace names another"
        }
        Some(ErrorReason::ResourceNotFound) if resource.starts_with("workspaces/") => {
            "`workspace list` shows those there are, `workspace create` makes one"
        }
        Some(ErrorReason::EtagMismatch) => {
            "it was changed meanwhile; look at it again, then repeat"
        }
        Some(ErrorReason::KeyActive) => "`key disable` does the one, --force the other",
        Some(ErrorReason::RequestIdReused) => {
            "this --request-id named another call within the last 24 hours; take a new one, or repeat that call exactly \
             as it was"
        }
        Some(ErrorReason::KeyArchived) => {
            "it can only be deleted now (`key delete`); `key create` makes another in its place"
        }
        Some(ErrorReason::WorkspaceNotEmpty) => {
            let workspace = bare_workspace(resource);
            return Some(
                format!(
                    "`key list --archived -w {workspace}` shows its keys; delete each of them first"
                )
                .into(),
            );
        }
        Some(ErrorReason::WorkspaceReserved) => {
            "Portcullis itself needs it; `workspace list` shows the others"
        }
        Some(ErrorReason::DeclarationInUse) => {
            return Some(
                format!(
                    "{resource} holds {field}; take it from that key with `key update`, and from any other that has it, \
                     or delete those keys, then repeat"
                )
                .into(),
            );
        }
        Some(ErrorReason::GrantExceedsCaller) => {
            "your own credential must have all that the other has: if yours has an IP allowlist or an expiry, the other \
             needs --ip within it and --expires no later"
        }
        Some(ErrorReason::LastRoot) => {
            "`key create -w system --permission '*'` makes another root; then this one can go"
        }
        Some(ErrorReason::CommittedNotFleetWide) => {
            return Some(
                format!(
                    "the change is made; `fleet await {revision}` waits until it is in force everywhere, `fleet status` \
                     shows who is behind"
                )
                .into(),
            );
        }
        Some(ErrorReason::RevisionAhead) => {
            "it is of another store, or changes that this store once had are gone"
        }
        _ if code == Code::Unimplemented => {
            "name the admin listener with --server; a gate serves Check only"
        }
        _ => return None,
    };
    Some(hint.into())
}

/// The innermost error's text: the outer ones say only that there is an inner one.
pub(super) fn root_cause(error: &dyn Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

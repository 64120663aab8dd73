//! What errors look like on the wire: one `ErrorInfo` each, and field violations where they apply.

use std::collections::HashMap;

use http::Response;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt as _};

use crate::proto::v1::ErrorReason;

/// The domain of every `ErrorInfo`.
pub const ERROR_DOMAIN: &str = "portcullis.dev";

/// An error with its reason.
pub(crate) fn status(code: Code, reason: ErrorReason, message: impl Into<String>) -> Status {
    status_with(code, reason, message, [])
}

/// An error with its reason and what a program may want to know of it.
pub(crate) fn status_with<const N: usize>(
    code: Code,
    reason: ErrorReason,
    message: impl Into<String>,
    metadata: [(&str, String); N],
) -> Status {
    let metadata: HashMap<String, String> = metadata
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
    let details = ErrorDetails::with_error_info(reason.as_str_name(), ERROR_DOMAIN, metadata);
    Status::with_error_details(code, message, details)
}

/// The most violations that one error names. Clients refuse answers whose metadata grows past a few KiB.
const MAX_VIOLATIONS: usize = 10;
/// The longest a field's name or description is in an error, in characters: both may repeat what the caller sent.
const MAX_TEXT: usize = 200;

/// `INVALID_ARGUMENT` that names the fields that are wrong, up to ten of them.
pub(crate) fn invalid_fields(violations: Vec<(String, String)>) -> Status {
    let more = violations.len().saturating_sub(MAX_VIOLATIONS);
    let named: Vec<FieldViolation> = violations
        .into_iter()
        .take(MAX_VIOLATIONS)
        .map(|(field, why)| FieldViolation::new(shorten(field), shorten(why)))
        .collect();
    let mut message = named
        .first()
        .map(|first| format!("{}: {}", first.field, first.description))
        .unwrap_or_default();
    if named.len() + more > 1 {
        message = format!("{message} (and {} more)", named.len() + more - 1);
    }
    let mut details = ErrorDetails::with_error_info(
        ErrorReason::InvalidField.as_str_name(),
        ERROR_DOMAIN,
        HashMap::new(),
    );
    details.set_bad_request(named);
    Status::with_error_details(Code::InvalidArgument, message, details)
}

fn shorten(text: String) -> String {
    match text.char_indices().nth(MAX_TEXT) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// A defect of ours. What went wrong stands in the log, not in the answer.
pub(crate) fn internal_error() -> Status {
    status(
        Code::Internal,
        ErrorReason::InternalError,
        "a defect of Portcullis; its log says more",
    )
}

/// Gives an error that the gRPC library answered by itself, before any handler was asked, the `ErrorInfo` that every
/// error has.
pub(crate) fn complete_error<B>(response: &mut Response<B>) {
    let headers = response.headers();
    // A call that was answered has its status behind the message; only an error's stands here.
    let Some(code) = headers.get(Status::GRPC_STATUS) else {
        return;
    };
    let code = Code::from_bytes(code.as_bytes());
    if code == Code::Ok || headers.contains_key(Status::GRPC_STATUS_DETAILS) {
        return;
    }
    // The library calls bytes that are no message a defect of the server.
    let code = if code == Code::Internal {
        Code::InvalidArgument
    } else {
        code
    };
    let reason = match code {
        Code::Unimplemented => ErrorReason::UnknownMethod,
        Code::NotFound => ErrorReason::ResourceNotFound,
        _ => ErrorReason::MalformedMessage,
    };
    let message = Status::from_header_map(headers)
        .map(|status| status.message().to_owned())
        .filter(|message| !message.is_empty())
        .unwrap_or_else(|| code.description().to_owned());
    let completed = status(code, reason, message);
    // Should the details not fit a header, the error stays as it was: still an error.
    let _ = completed.add_header(response.headers_mut());
}

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

/// `INVALID_ARGUMENT` that names every field that is wrong.
pub(crate) fn invalid_fields(violations: Vec<(String, String)>) -> Status {
    let message = violations
        .iter()
        .map(|(field, why)| format!("{field}: {why}"))
        .collect::<Vec<_>>()
        .join("; ");
    let mut details = ErrorDetails::with_error_info(
        ErrorReason::InvalidField.as_str_name(),
        ERROR_DOMAIN,
        HashMap::new(),
    );
    details.set_bad_request(
        violations
            .into_iter()
            .map(|(field, why)| FieldViolation::new(field, why))
            .collect::<Vec<_>>(),
    );
    Status::with_error_details(Code::InvalidArgument, message, details)
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

//! What errors look like on the wire: one `ErrorInfo` each, and field violations where they apply.

use std::collections::HashMap;

use http::Response;
use prost::Message as _;
use prost_types::Any;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt as _};
use zeroize::Zeroize as _;

use crate::proto::v1::{ErrorReason, IssuedKey};

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

/// `RESOURCE_EXHAUSTED`: a limit that all callers share, or one of this caller, is reached.
pub(crate) fn limit_reached(message: &str) -> Status {
    status(Code::ResourceExhausted, ErrorReason::ResourceLimit, message)
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

/// What an [`IssuedKey`] is called among the details of an error.
const ISSUED_KEY: &str = "type.googleapis.com/portcullis.v1.IssuedKey";

/// The same error with an issued key among its details.
pub(crate) fn with_issued_key(plain: &Status, issued: &IssuedKey) -> Status {
    // What this process has encoded itself.
    let mut carried = tonic_types::Status::decode(plain.details()).unwrap_or_default();
    carried.details.push(Any {
        type_url: ISSUED_KEY.to_owned(),
        value: issued.encode_to_vec(),
    });
    let details = carried.encode_to_vec();
    for detail in &mut carried.details {
        detail.value.zeroize();
    }
    Status::with_details(plain.code(), plain.message(), details.into())
}

/// Takes the issued key out of an error that carries one. That it carried one can still be told.
pub(crate) fn take_issued_key(status: &mut Status) -> Option<IssuedKey> {
    let mut carried = tonic_types::Status::decode(status.details()).ok()?;
    let found = carried
        .details
        .iter_mut()
        .find(|detail| detail.type_url == ISSUED_KEY)?;
    let issued = IssuedKey::decode(&*found.value).ok()?;
    found.value.zeroize();
    let details = carried.encode_to_vec();
    *status = Status::with_details(status.code(), status.message(), details.into());
    Some(issued)
}

/// True if the error carries an issued key, or did.
pub(crate) fn carries_issued_key(status: &Status) -> bool {
    tonic_types::Status::decode(status.details()).is_ok_and(|carried| {
        carried
            .details
            .iter()
            .any(|detail| detail.type_url == ISSUED_KEY)
    })
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
/// error has. Marks the details of every error as sensitive.
pub(crate) fn complete_error<B>(response: &mut Response<B>) {
    // They may hold a secret: kept out of the compression tables of HTTP/2, and of logs.
    if let Some(details) = response.headers_mut().get_mut(Status::GRPC_STATUS_DETAILS) {
        details.set_sensitive(true);
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn carrying() -> Status {
        let plain = status(
            Code::Unavailable,
            ErrorReason::CommittedNotFleetWide,
            "not yet",
        );
        let issued = IssuedKey {
            token: "pc_id_secret".into(),
            secret: "secret".into(),
            ..IssuedKey::default()
        };
        with_issued_key(&plain, &issued)
    }

    #[test]
    fn an_issued_key_is_taken_out_of_an_error_and_not_left_in_it() {
        let mut status = carrying();
        let info = status.get_details_error_info().expect("beside the key");
        assert_eq!(info.reason, "COMMITTED_NOT_FLEET_WIDE");
        assert_eq!(
            (status.code(), status.message()),
            (Code::Unavailable, "not yet")
        );
        let issued = take_issued_key(&mut status).expect("it is there");
        assert_eq!(issued.token, "pc_id_secret");
        assert!(!format!("{status:?}").contains("secret"), "{status:?}");
        assert!(carries_issued_key(&status));
        assert!(status.get_details_error_info().is_some());
        assert!(!carries_issued_key(&internal_error()));
        assert_eq!(take_issued_key(&mut internal_error()), None);
    }

    #[test]
    fn the_details_of_an_error_are_sent_as_sensitive() {
        let mut response = carrying().into_http::<()>();
        complete_error(&mut response);
        let details = &response.headers()[Status::GRPC_STATUS_DETAILS];
        assert!(details.is_sensitive());
    }
}

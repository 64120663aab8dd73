//! How a refusal is judged: its code, its `ErrorInfo`, the field it names.

use std::fmt::Debug;

use portcullis::proto::v1::ErrorReason;
use tonic::{Code, Response, Status};
use tonic_types::StatusExt as _;

/// The reason that a status carries.
///
/// # Panics
///
/// When it carries no `ErrorInfo` of ours: the contract is one on every error.
#[track_caller]
#[must_use]
pub fn reason_of(status: &Status) -> ErrorReason {
    let infos: Vec<_> = status
        .get_error_details_vec()
        .into_iter()
        .filter_map(|detail| match detail {
            tonic_types::ErrorDetail::ErrorInfo(info) => Some(info),
            _ => None,
        })
        .collect();
    let [info] = infos.as_slice() else {
        panic!(
            "one ErrorInfo is due, {} are there: {status:?}",
            infos.len()
        );
    };
    assert_eq!(info.domain, "portcullis.dev", "the domain of {status:?}");
    ErrorReason::from_str_name(&info.reason)
        .unwrap_or_else(|| panic!("{} is no ErrorReason", info.reason))
}

/// Asserts that a call was refused with this code, for this reason, naming these fields and no other.
///
/// A field that ends in `*` stands for any that begins so.
///
/// # Panics
///
/// When it was not.
#[track_caller]
pub fn assert_refused<T: Debug>(
    what: &str,
    result: Result<Response<T>, Status>,
    code: Code,
    reason: ErrorReason,
    fields: &[&str],
) {
    let status = match result {
        Ok(answer) => panic!("{what}: accepted: {:?}", answer.into_inner()),
        Err(status) => status,
    };
    assert_eq!(status.code(), code, "{what}: the code of {status:?}");
    assert_eq!(
        reason_of(&status),
        reason,
        "{what}: the reason of {status:?}"
    );
    let named: Vec<String> = status
        .get_details_bad_request()
        .map(|details| {
            details
                .field_violations
                .into_iter()
                .map(|violation| violation.field)
                .collect()
        })
        .unwrap_or_default();
    let stands_for = |field: &str, name: &String| match field.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == field,
    };
    for field in fields {
        assert!(
            named.iter().any(|name| stands_for(field, name)),
            "{what}: {field} is not named, but {named:?}: {status:?}"
        );
    }
    for name in &named {
        assert!(
            fields.iter().any(|field| stands_for(field, name)),
            "{what}: {name} is named, too, where only {fields:?} are at fault: {status:?}"
        );
    }
    assert!(
        !status.message().is_empty(),
        "{what}: a refusal says something to its reader"
    );
}

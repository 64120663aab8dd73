//! A call that changes something: who makes it, and what tells it from every other, so that it can be repeated.

use sha2::{Digest as _, Sha256};

use super::{Failure, caller::Caller};
use crate::store::{Mutation, MutationId};

/// The longest request id, in characters.
const MAX_REQUEST_ID: usize = 64;

/// A call that changes something.
#[derive(Debug, Clone)]
pub struct Call {
    /// Who makes it.
    pub caller: Caller,
    /// Its name in the API.
    pub method: &'static str,
    /// The caller's own id of it; empty: it has none.
    pub request_id: String,
    fingerprint: [u8; 32],
}

impl Call {
    /// A call with its request's bytes, the `request_id` left out.
    #[must_use]
    pub fn new(caller: Caller, method: &'static str, request_id: String, body: &[u8]) -> Self {
        let fingerprint = Sha256::new()
            .chain_update(method)
            .chain_update([0])
            .chain_update(body)
            .finalize();
        Self {
            caller,
            method,
            request_id,
            fingerprint: fingerprint.into(),
        }
    }

    /// What the store knows the call by, should it come again; `None`: it has no request id.
    ///
    /// The id belongs to its caller: nobody learns, or stops, what another did by guessing theirs.
    ///
    /// # Errors
    /// If the request id is malformed.
    pub(super) fn mutation(&self) -> Result<Option<Mutation>, Failure> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        match &*self.request_id {
            "" => Ok(None),
            id if id.len() <= MAX_REQUEST_ID && id.bytes().all(plain) => {
                let name = Sha256::new()
                    .chain_update("portcullis mutation 1")
                    .chain_update([0])
                    // Neither holds a zero byte.
                    .chain_update(&self.caller.principal)
                    .chain_update([0])
                    .chain_update(id)
                    .finalize();
                Ok(Some(Mutation {
                    id: MutationId(name.into()),
                    fingerprint: self.fingerprint,
                }))
            }
            _ => Err(Failure::invalid(
                "request_id",
                "must be 1 to 64 letters, digits, '-', '_' and '.'",
            )),
        }
    }
}

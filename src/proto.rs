//! Generated messages and services. Only adapters use them.

use std::fmt;

/// The management and Check API.
#[allow(clippy::all, clippy::pedantic, missing_docs)]
pub mod v1 {
    tonic::include_proto!("portcullis.v1");
}

/// What stands in a store.
#[allow(clippy::all, clippy::pedantic, missing_docs)]
pub(crate) mod stored {
    tonic::include_proto!("portcullis.store.v1");
}

/// The encoded `FileDescriptorSet` of [`v1`], for reflection and for JSON.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/portcullis.v1.bin"));

// Both messages hold a secret, so neither may derive Debug.
impl fmt::Debug for v1::IssuedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IssuedKey")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for v1::CheckRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CheckRequest")
            .field("permissions", &self.permissions)
            .field("source_address", &self.source_address)
            .field("workspace", &self.workspace)
            .field("min_revision", &self.min_revision)
            .field("labels", &self.labels)
            .finish_non_exhaustive()
    }
}

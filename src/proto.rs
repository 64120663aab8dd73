//! Generated messages and services. Only adapters use them.

use std::fmt;

/// The management and Check API.
#[allow(clippy::all, clippy::pedantic, missing_docs)]
pub mod v1 {
    tonic::include_proto!("portcullis.v1");
}

/// What is read of Envoy's request: [`envoy`]'s, trimmed.
#[allow(clippy::all, clippy::pedantic, missing_docs)]
pub mod extauthz {
    tonic::include_proto!("portcullis.extauthz.v1");
}

/// Envoy's own messages. Its answers are written with them.
#[allow(clippy::all, clippy::pedantic, missing_docs, rustdoc::all)]
pub mod envoy {
    pub mod config {
        pub mod core {
            pub mod v3 {
                tonic::include_proto!("envoy.config.core.v3");
            }
        }
    }
    pub mod r#type {
        pub mod v3 {
            tonic::include_proto!("envoy.r#type.v3");
        }
    }
    pub mod service {
        pub mod auth {
            pub mod v3 {
                tonic::include_proto!("envoy.service.auth.v3");
            }
        }
    }
}

#[allow(clippy::all, clippy::pedantic, missing_docs, rustdoc::all)]
mod xds {
    pub mod core {
        pub mod v3 {
            tonic::include_proto!("xds.core.v3");
        }
    }
}

/// What stands in a store.
#[allow(clippy::all, clippy::pedantic, missing_docs)]
pub(crate) mod stored {
    tonic::include_proto!("portcullis.store.v1");
}

/// The encoded `FileDescriptorSet` of [`v1`], for reflection and for JSON.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/portcullis.v1.bin"));

// These messages hold a secret, so none may derive Debug.
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

/// Their `Debug` prints their name.
macro_rules! unprinted {
    ($($message:ty),*) => {$(
        impl fmt::Debug for $message {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($message)).finish_non_exhaustive()
            }
        }
    )*};
}

// Any header may be a credential.
unprinted!(
    extauthz::Entry,
    extauthz::HttpRequest,
    extauthz::HeaderValue,
    envoy::service::auth::v3::attribute_context::HttpRequest
);

//! Portcullis: a gRPC authorization sidecar for API keys.

pub mod domain;
pub mod proto;

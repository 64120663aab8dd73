//! Portcullis: a gRPC authorization sidecar for API keys.
//!
//! The modules in reading order. Each uses only those above it, and the ones set apart at the end.

pub mod domain;

pub mod store;

pub mod gate;

pub mod fleet;

pub mod admin;

pub mod cli;

// Set apart: what is sent and stored, how errors look on the wire, settings, logs, TLS.
pub mod config;
pub mod proto;
mod status;
pub mod telemetry;
pub mod tls;

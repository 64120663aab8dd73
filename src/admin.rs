//! Management: who may do what ([`caller`]), what it does ([`keys`], [`key_changes`], [`workspaces`]), how it is
//! committed ([`mutation`], the one way to change a record), and what is told of it afterwards ([`audit`]). The `*_service`
//! files put gRPC in front.

pub mod audit;
pub mod audit_service;
pub mod barrier;
pub mod bootstrap;
pub mod call;
pub mod caller;
mod convert;
mod failure;
pub mod fleet_service;
mod guarded_check;
pub mod key_changes;
pub mod key_service;
pub mod keys;
pub mod mutation;
pub mod ops;
mod page;
mod roots;
pub mod server;
mod shares;
pub mod workspace_service;
pub mod workspaces;

pub use failure::Failure;

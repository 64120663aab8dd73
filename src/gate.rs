//! The way of a Check: [`listener`] accepts, [`callers`] guards, [`check_service`] or [`envoy`] reads the request, [`checker`]
//! decides on a record of the [`keyring`], with [`verify`] for a secret that was not seen before.

pub mod accept_failures;
pub mod callers;
pub mod calls;
pub mod catch_up;
pub mod check_service;
pub mod checker;
pub mod clock;
pub mod envoy;
pub mod keyring;
pub mod lease;
pub mod listener;
mod memo;
pub mod metrics;
#[cfg(test)]
mod testing;
pub mod verify;
pub mod wire;

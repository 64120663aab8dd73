//! TLS against real processes: who gets through, who does not, and what happens when certificates change.

mod admin;
mod cli;
mod gate;
mod pki;
mod reload;
mod sockets;
#[path = "../support/mod.rs"]
mod support;
mod wire;

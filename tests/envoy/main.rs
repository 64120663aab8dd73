//! The real Envoy in front of a service that records what reaches it, asking a Portcullis that is a process of its own.
//!
//! Envoy runs on the files of `deploy/envoy`, with other addresses in them. Every test says both what the client was
//! answered, and by whom, and what reached the service.

mod answers;
mod authz;
mod clients;
mod connections;
mod direct;
mod fleet;
#[path = "../fleet/harness.rs"]
#[allow(dead_code, reason = "it is shared with the fleet's own suite")]
mod fleet_harness;
mod frames;
mod harness;
mod manners;
mod messages;
mod neighbours;
mod outages;
#[path = "../tls/pki.rs"]
#[allow(dead_code, reason = "it is shared with the suite of TLS")]
mod pki;
#[path = "../fleet/race.rs"]
#[allow(dead_code, reason = "as above")]
mod race;
mod rows;
mod scene;
mod shipped;
#[path = "../support/mod.rs"]
mod support;
mod tables;
mod upstream;

//! A fleet of real processes over a real Redis: OK means everywhere, and a replica that cannot know does not allow.
//!
//! Each test has a Redis of its own, under the configuration and the access rules of `deploy/redis`, and says how what it
//! waited for came about: a revocation that the lease's end brought about is not one that everybody acknowledged.

mod access;
mod changes;
mod disables;
mod forged;
mod harness;
mod lagging;
mod outages;
mod proxy;
mod race;
mod restarts;
mod retries;
#[path = "../support/mod.rs"]
mod support;
mod unsettled;
mod writers;

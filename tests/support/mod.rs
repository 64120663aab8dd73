//! What the black-box suites share: the real binary as a server, clients for it, and how to judge its refusals.
//!
//! Ports are the system's choice and every server has a directory of its own, so suites run side by side.

#![allow(dead_code, reason = "each suite uses a part of it")]
#![allow(unused_imports, reason = "each suite uses a part of it")]

mod client;
mod mutation;
pub mod records;
mod redis;
mod refusal;
mod server;
mod tools;

pub use client::{Clients, Token, check, check_request, clients, key, key_named, update};
pub use mutation::{Answer, Mutation};
pub use redis::{RedisServer, redis_settings};
pub use refusal::{assert_refused, reason_of};
pub use server::{Address, Exit, Server, Setup};
pub use tools::{
    Missing, buf, envoy, go, grpcurl, not_run, python, redis_cli, redis_server, systemd_analyze,
    unshare,
};

use std::time::{Duration, Instant};

/// How long anything may take that is waited for. Far beyond what is normal: a loaded machine is no defect.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until `condition` holds.
///
/// # Panics
///
/// When it does not hold within [`PATIENCE`].
#[track_caller]
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(
            Instant::now() < deadline,
            "waited {PATIENCE:?} in vain: {what}"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Pseudo-random numbers (`SplitMix64`), so that a failing run can be repeated from its seed.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// Starts from `PORTCULLIS_TEST_SEED`, or from the clock.
    #[must_use]
    pub fn seeded() -> (Self, u64) {
        let seed = std::env::var("PORTCULLIS_TEST_SEED")
            .ok()
            .and_then(|seed| seed.parse().ok())
            .unwrap_or_else(|| {
                let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
                now.map_or(1, |since| u64::from(since.subsec_nanos()) ^ since.as_secs())
            });
        (Self(seed), seed)
    }

    /// Starts from a seed.
    #[must_use]
    pub const fn of(seed: u64) -> Self {
        Self(seed)
    }

    /// Another stream, for another task.
    #[must_use]
    pub fn fork(&mut self) -> Self {
        Self(self.next())
    }

    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

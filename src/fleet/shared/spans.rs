//! How long a lease of another replica may last, counted on this one's clock.

use std::time::Duration;

/// By how much the rate of a clock may be off: 10 %.
const DRIFT_PERCENT: u32 = 10;

/// After so long no lease is left that was renewed before. The holder counts `lease` on a clock that may run slow, and we count
/// on one that may run fast: (1 + ρ) / (1 − ρ) of it, for which 1 + 2ρ and a fortieth is enough; and something for rounding.
pub(super) fn longest_lease(lease: Duration) -> Duration {
    const ROUNDING: Duration = Duration::from_millis(50);
    lease + lease * 2 * DRIFT_PERCENT / 100 + lease / 40 + ROUNDING
}

/// How often a lease is renewed.
pub(super) fn renewal_interval(lease: Duration) -> Duration {
    lease / 5
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_lease_covers_two_clocks_that_drift_apart() {
        for lease in [1, 2, 15, 600].map(Duration::from_secs) {
            let drift = f64::from(DRIFT_PERCENT) / 100.0;
            let worst = lease.as_secs_f64() * (1.0 + drift) / (1.0 - drift);
            assert!(longest_lease(lease).as_secs_f64() > worst, "{lease:?}");
            assert!(longest_lease(lease) < lease * 2, "{lease:?}");
        }
    }
}

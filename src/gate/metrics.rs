//! Counts checks without a lock: each gate thread has counters of its own, added up when somebody asks.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::domain::decision::Reason;

/// Upper bounds of the latency buckets, in nanoseconds. What takes longer counts in the sum and the total only.
pub const BUCKETS_NANOS: [u64; 12] = [
    250,
    500,
    1_000,
    2_500,
    5_000,
    10_000,
    50_000,
    100_000,
    500_000,
    1_000_000,
    10_000_000,
    100_000_000,
];

/// How a check can end: decided for one of the reasons, or not decided.
const OUTCOMES: usize = Reason::ALL.len() + 1;

/// One thread's counters.
#[derive(Default)]
#[repr(align(128))]
struct Shard {
    outcomes: [AtomicU64; OUTCOMES],
    buckets: [AtomicU64; BUCKETS_NANOS.len() + 1],
    nanos: AtomicU64,
}

/// Counts for one thread.
#[derive(Clone)]
pub struct CheckRecorder(Arc<Shard>);

impl CheckRecorder {
    /// Counts a check; `None`: it was not decided.
    pub fn record(&self, outcome: Option<Reason>, took: Duration) {
        let Shard {
            outcomes,
            buckets,
            nanos,
        } = &*self.0;
        let outcome = outcome.map_or(OUTCOMES - 1, |reason| reason as usize);
        outcomes[outcome].fetch_add(1, Ordering::Relaxed);
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        buckets[BUCKETS_NANOS.partition_point(|&bound| bound < took)]
            .fetch_add(1, Ordering::Relaxed);
        nanos.fetch_add(took, Ordering::Relaxed);
    }
}

/// All threads' counters.
#[derive(Clone, Default)]
pub struct CheckMetrics(Arc<Mutex<Vec<Arc<Shard>>>>);

/// The sums of all threads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckTotals {
    /// Checks by what they ended with, as a label.
    pub outcomes: Vec<(&'static str, u64)>,
    /// Checks that took at most the bound of the same place in [`BUCKETS_NANOS`], and one more for the rest. Not
    /// cumulative.
    pub buckets: [u64; BUCKETS_NANOS.len() + 1],
    /// What they took together.
    pub took: Duration,
}

impl CheckMetrics {
    /// Counters for one more thread.
    #[must_use]
    pub fn recorder(&self) -> CheckRecorder {
        let shard = Arc::new(Shard::default());
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(shard.clone());
        CheckRecorder(shard)
    }

    /// Adds up.
    #[must_use]
    pub fn totals(&self) -> CheckTotals {
        let shards = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let sum = |read: &dyn Fn(&Shard) -> &AtomicU64| -> u64 {
            shards
                .iter()
                .map(|shard| read(shard).load(Ordering::Relaxed))
                .sum()
        };
        let names = Reason::ALL
            .map(Reason::name)
            .into_iter()
            .chain(["UNDECIDED"]);
        CheckTotals {
            outcomes: names
                .enumerate()
                .map(|(i, name)| (name, sum(&|shard| &shard.outcomes[i])))
                .collect(),
            buckets: std::array::from_fn(|i| sum(&|shard| &shard.buckets[i])),
            took: Duration::from_nanos(sum(&|shard| &shard.nanos)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_check_is_counted_once_in_each_view() {
        let metrics = CheckMetrics::default();
        let (one, two) = (metrics.recorder(), metrics.recorder());
        one.record(Some(Reason::Ok), Duration::from_nanos(250));
        one.record(Some(Reason::KeyDisabled), Duration::from_nanos(251));
        two.record(Some(Reason::Ok), Duration::from_secs(9));
        two.record(None, Duration::ZERO);
        let totals = metrics.totals();
        let of = |name| totals.outcomes.iter().find(|(n, _)| *n == name).unwrap().1;
        assert_eq!(
            [
                of("OK"),
                of("KEY_DISABLED"),
                of("UNDECIDED"),
                of("KEY_EXPIRED")
            ],
            [2, 1, 1, 0]
        );
        assert_eq!(
            (
                totals.buckets[0],
                totals.buckets[1],
                totals.buckets[BUCKETS_NANOS.len()]
            ),
            (2, 1, 1)
        );
        assert_eq!(totals.buckets.iter().sum::<u64>(), 4);
        assert_eq!(totals.took, Duration::from_nanos(9_000_000_501));
    }

    #[test]
    fn a_reason_counts_at_its_own_place() {
        for (place, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, place);
        }
    }
}

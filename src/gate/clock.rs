//! What time it is, for leases and for expiry.

use std::sync::atomic::{AtomicU64, Ordering};

use rustix::time::{ClockId, clock_gettime};

use crate::domain::time::Timestamp;

/// Nanoseconds since the machine started, suspended time included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Boottime(pub u64);

/// One reading of the time.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// For leases and durations.
    pub boottime: Boottime,
    /// For expiry. Never goes back within a process.
    pub wall: Timestamp,
}

/// Tells the time.
pub trait Clock: Send + Sync + 'static {
    /// Reads it.
    fn now(&self) -> Now;

    /// Takes over a wall clock that is ahead: one that read `wall` when this machine's boot clock read `at`, or earlier.
    fn follow(&self, wall: Timestamp, at: Boottime);
}

/// The machine's clocks: `CLOCK_BOOTTIME`, and the wall clock as the furthest that it was ever seen ahead of it.
///
/// A wall clock that is set back must not open an expired key again, so only steps forward are followed, each at the
/// next [`follow_steps`](Self::follow_steps). It also makes one clock reading enough for a Check.
pub struct SystemClock {
    /// Wall clock minus boot time, in nanoseconds.
    wall_offset: AtomicU64,
}

impl SystemClock {
    /// Reads both clocks for the first time.
    #[must_use]
    pub fn new() -> Self {
        let clock = Self {
            wall_offset: AtomicU64::new(0),
        };
        clock.follow_steps();
        clock
    }

    /// Takes over a wall clock that was set forward. To be called several times a second.
    pub fn follow_steps(&self) {
        self.observe(read(ClockId::Realtime).saturating_sub(read(ClockId::Boottime)));
    }

    fn observe(&self, offset: u64) {
        self.wall_offset.fetch_max(offset, Ordering::Relaxed);
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Now {
        let boottime = read(ClockId::Boottime);
        let wall = Timestamp::from_unix_nanos(boottime + self.wall_offset.load(Ordering::Relaxed));
        Now {
            boottime: Boottime(boottime),
            wall,
        }
    }

    fn follow(&self, wall: Timestamp, at: Boottime) {
        // Past the year 2554 nothing is followed.
        self.observe(
            u64::try_from(wall.unix_nanos())
                .unwrap_or(0)
                .saturating_sub(at.0),
        );
    }
}

fn read(id: ClockId) -> u64 {
    let time = clock_gettime(id);
    // Neither clock is before its zero; one that claims so makes every lease end and no key expire early.
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Row 76 of the bad inputs: the clock steps back, an expired key stays expired.
    #[test]
    fn a_wall_clock_set_back_is_not_followed() {
        let clock = SystemClock::new();
        let real = clock.wall_offset.load(Ordering::Relaxed);
        let hour = 3_600_000_000_000;
        clock.observe(real + hour);
        let ahead = clock.now().wall;
        clock.observe(real);
        clock.follow_steps();
        assert!(clock.now().wall >= ahead);
    }

    #[test]
    fn the_wall_clock_is_the_machines() {
        let before = Timestamp::from_unix_nanos(read(ClockId::Realtime)).seconds();
        let read_now = SystemClock::new().now().wall.seconds();
        assert!(
            (before..=before + 5).contains(&read_now),
            "{before} {read_now}"
        );
    }
}

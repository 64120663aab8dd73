//! Points in time, as the API carries them.

use std::{fmt, num::NonZeroU32, time::Duration};

use super::Invalid;

/// Nanoseconds since 1970 in UTC, from year 1 to year 9999 (the range of a protobuf Timestamp).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp {
    seconds: i64,
    /// The nanoseconds within the second, plus one. Never 0, so that an optional time takes no more room than a time: a key
    /// has three of them.
    nanos: NonZeroU32,
}

const NANOS_PER_SECOND: u64 = 1_000_000_000;
/// 0001-01-01T00:00:00Z.
const MIN_SECONDS: i64 = -62_135_596_800;
/// 9999-12-31T23:59:59Z.
const MAX_SECONDS: i64 = 253_402_300_799;

impl Timestamp {
    /// The point `seconds` and `nanos` after 1970.
    ///
    /// # Errors
    /// If it lies outside years 1 to 9999, or `nanos` outside 0 to 999,999,999.
    pub fn new(seconds: i64, nanos: i32) -> Result<Self, Invalid> {
        if !(MIN_SECONDS..=MAX_SECONDS).contains(&seconds) {
            return Err(Invalid::new("must lie in the years 1 to 9999"));
        }
        match u32::try_from(nanos) {
            Ok(nanos) if u64::from(nanos) < NANOS_PER_SECOND => {
                Ok(Self::from_parts(seconds, nanos))
            }
            _ => Err(Invalid::new("nanos must be 0 to 999,999,999")),
        }
    }

    /// The point this many nanoseconds after 1970.
    #[must_use]
    pub const fn from_unix_nanos(nanos: u64) -> Self {
        let seconds = (nanos / NANOS_PER_SECOND).cast_signed();
        // A remainder below 10^9 fits.
        Self::from_parts(seconds, (nanos % NANOS_PER_SECOND) as u32)
    }

    /// `nanos` is below 10^9.
    const fn from_parts(seconds: i64, nanos: u32) -> Self {
        Self {
            seconds,
            nanos: NonZeroU32::MIN.saturating_add(nanos),
        }
    }

    /// The point this much later; `None` after year 9999.
    #[must_use]
    pub fn checked_add(self, span: Duration) -> Option<Self> {
        let seconds = self.seconds.checked_add_unsigned(span.as_secs())?;
        // Both are below 10^9, so the sum fits, and carries at most one second.
        let nanos = self.nanos() + span.subsec_nanos();
        let carries = u64::from(nanos) >= NANOS_PER_SECOND;
        let nanos = u64::from(nanos) - if carries { NANOS_PER_SECOND } else { 0 };
        let seconds = seconds.checked_add(i64::from(carries))?;
        Self::new(seconds, i32::try_from(nanos).ok()?).ok()
    }

    /// Nanoseconds since 1970.
    #[must_use]
    pub fn unix_nanos(self) -> i128 {
        i128::from(self.seconds) * i128::from(NANOS_PER_SECOND) + i128::from(self.nanos())
    }

    /// Whole seconds since 1970, rounded down.
    #[must_use]
    pub const fn seconds(self) -> i64 {
        self.seconds
    }

    /// Nanoseconds within the second, 0 to 999,999,999.
    #[must_use]
    pub const fn nanos(self) -> u32 {
        self.nanos.get() - 1
    }
}

/// RFC 3339 in UTC.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::new(self.seconds, self.nanos().cast_signed()) {
            Ok(time) => write!(f, "{time}"),
            // Only the last day of year 9999, which jiff keeps for time zones.
            Err(_) => write!(f, "{}.{:09}s", self.seconds, self.nanos()),
        }
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Timestamp({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_range_of_a_protobuf_timestamp_is_held() {
        assert!(Timestamp::new(MAX_SECONDS, 999_999_999).is_ok());
        assert!(Timestamp::new(MIN_SECONDS, 0).is_ok());
        for (seconds, nanos) in [
            (MAX_SECONDS + 1, 0),
            (MIN_SECONDS - 1, 0),
            (0, -1),
            (0, 1_000_000_000),
        ] {
            assert!(Timestamp::new(seconds, nanos).is_err(), "{seconds} {nanos}");
        }
    }

    #[test]
    fn a_later_point_is_exact_or_none() {
        let at = |s, n| Timestamp::new(s, n).unwrap();
        let sum = |time: Timestamp, s, n| time.checked_add(Duration::new(s, n));
        assert_eq!(sum(at(5, 999_999_999), 1, 1), Some(at(7, 0)));
        assert_eq!(sum(at(-5, 1), 2, 3), Some(at(-3, 4)));
        assert_eq!(
            sum(at(MAX_SECONDS - 1, 0), 1, 999_999_999),
            Some(at(MAX_SECONDS, 999_999_999))
        );
        assert_eq!(sum(at(MAX_SECONDS, 999_999_999), 0, 1), None);
        assert_eq!(sum(at(0, 0), u64::MAX, 999_999_999), None);
    }

    #[test]
    fn an_optional_time_takes_no_more_room_than_a_time() {
        assert_eq!(size_of::<Option<Timestamp>>(), size_of::<Timestamp>());
        let last = Timestamp::new(0, 999_999_999).unwrap();
        assert_eq!(
            (last.nanos(), Timestamp::from_unix_nanos(0).nanos()),
            (999_999_999, 0)
        );
    }

    #[test]
    fn order_is_by_second_then_nanosecond() {
        let at = |s, n| Timestamp::new(s, n).unwrap();
        assert!(at(5, 0) > at(4, 999_999_999));
        assert!(at(5, 1) > at(5, 0));
        assert_eq!(Timestamp::from_unix_nanos(5_000_000_001), at(5, 1));
    }
}

//! Times in filters.

use jiff::civil::Date;

use super::{Invalid, Timestamp};

const NANOS_PER_SECOND: i128 = 1_000_000_000;

/// Reads a point in time: RFC 3339, a date, or a distance from `now`.
pub(super) fn read(text: &str, now: Timestamp) -> Result<Timestamp, Invalid> {
    match text.as_bytes() {
        [sign @ (b'+' | b'-'), b'0'..=b'9', ..] => relative(*sign == b'-', &text[1..], now),
        bytes if bytes.len() == 10 => match text.parse::<Date>() {
            Ok(date) => instant(&format!("{date}T00:00:00Z")),
            Err(_) => Err(malformed()),
        },
        // RFC 3339 has nothing else; the reader behind it would also take spaces and names of zones.
        bytes
            if bytes.iter().all(|b| {
                matches!(
                    b,
                    b'0'..=b'9' | b'T' | b't' | b'Z' | b'z' | b':' | b'.' | b'+' | b'-'
                )
            }) =>
        {
            instant(text)
        }
        _ => Err(malformed()),
    }
}

fn relative(back: bool, distance: &str, now: Timestamp) -> Result<Timestamp, Invalid> {
    let digits = distance.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit: i64 = match &distance[digits.len()..] {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        "w" => 604_800,
        _ => return Err(malformed()),
    };
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(malformed());
    }
    let far = || Invalid::new("lies too far away: times are in the years 1 to 9999");
    // Any of these steps may overflow, since the number is the caller's.
    let distance = digits
        .parse::<i64>()
        .ok()
        .and_then(|number| number.checked_mul(unit))
        .ok_or_else(far)?;
    let seconds = if back {
        now.seconds().checked_sub(distance)
    } else {
        now.seconds().checked_add(distance)
    };
    Timestamp::new(seconds.ok_or_else(far)?, now.nanos().cast_signed()).map_err(|_| far())
}

fn instant(text: &str) -> Result<Timestamp, Invalid> {
    let time: jiff::Timestamp = text.parse().map_err(|_| malformed())?;
    let nanos = time.as_nanosecond();
    // Rounded down, also before 1970.
    let seconds = i64::try_from(nanos.div_euclid(NANOS_PER_SECOND)).map_err(|_| malformed())?;
    let nanos = i32::try_from(nanos.rem_euclid(NANOS_PER_SECOND)).map_err(|_| malformed())?;
    Timestamp::new(seconds, nanos)
}

fn malformed() -> Invalid {
    Invalid::new(
        "a time is written 2026-12-31T09:00:00Z, 2026-12-31, or from now on: +7d, -90d (s, m, h, d, w)",
    )
}

//! Reads `--expires`.

use jiff::{Span, Timestamp, ToSpan as _, Zoned, civil::Date};

use super::output::zone_name;

const HOW: &str = "write a time as 2026-12-31T18:00:00Z, a day as 2026-12-31 (its end, here), a span as 30d, 12h, \
                   90m, 30s, or never";

/// When a key is to expire.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Expiry {
    /// The time.
    pub(super) at: Timestamp,
    /// How the text was understood, where that depends on the time zone or on the time.
    pub(super) note: Option<String>,
}

impl Expiry {
    /// The time as the API carries it.
    pub(super) fn to_proto(&self) -> prost_types::Timestamp {
        prost_types::Timestamp {
            seconds: self.at.as_second(),
            nanos: self.at.subsec_nanosecond(),
        }
    }
}

/// Reads an RFC 3339 time, a bare date (the end of that day in `now`'s zone), or a span from now: `30s`, `90m`, `12h`, and
/// in calendar days `30d`, `2w`, so that a change of the clocks does not shift the hour. `None` if it is `never`.
///
/// # Errors
/// If it is none of these, or not later than `now`.
pub(super) fn parse(text: &str, now: &Zoned) -> Result<Option<Expiry>, String> {
    match text.trim() {
        "never" => Ok(None),
        text => parse_time(text, now).map(Some),
    }
}

/// True for a span: it means another time with every call.
pub(super) fn counts_from_now(text: &str) -> bool {
    span(text.trim()).is_some()
}

fn parse_time(text: &str, now: &Zoned) -> Result<Expiry, String> {
    let expiry = if is_bare_date(text) {
        end_of_day(text, now)?
    } else if let Some(span) = span(text) {
        let at = span
            .and_then(|span| now.checked_add(span).ok())
            .ok_or_else(|| too_far(text))?;
        let note = format!(
            "{text} from now, in {}: {}",
            zone_name(now.time_zone()),
            at.strftime("%Y-%m-%dT%H:%M:%S%:z")
        );
        Expiry {
            at: at.timestamp(),
            note: Some(note),
        }
    } else if text.strip_prefix('-').and_then(span).is_some() {
        return Err(format!(
            "--expires {text:?} is not in the future; write the span without '-'"
        ));
    } else if let Ok(at) = text.parse::<Timestamp>() {
        Expiry { at, note: None }
    } else if text.parse::<jiff::civil::DateTime>().is_ok() {
        return Err(format!(
            "--expires {text:?} lacks a zone; end it in Z, or in an offset such as +02:00"
        ));
    } else {
        return Err(format!("--expires {text:?} is no time; {HOW}"));
    };
    if expiry.at > now.timestamp() {
        return Ok(expiry);
    }
    let meaning = expiry
        .note
        .map_or_else(String::new, |note| format!(" ({note})"));
    Err(format!(
        "--expires {text:?} is not in the future{meaning}; name a later time"
    ))
}

/// `2026-12-31` and no other spelling: jiff's parser also takes a date with a time, and drops the time.
pub(super) fn is_bare_date(text: &str) -> bool {
    let pattern = "0000-00-00";
    text.len() == pattern.len()
        && text.bytes().zip(pattern.bytes()).all(|(byte, p)| {
            if p == b'0' {
                byte.is_ascii_digit()
            } else {
                byte == p
            }
        })
}

fn end_of_day(text: &str, now: &Zoned) -> Result<Expiry, String> {
    let date: Date = text
        .parse()
        .map_err(|_| format!("--expires {text:?} is no day of the calendar; {HOW}"))?;
    // The instant before the next day begins. Naming 23:59:59 instead would be wrong where the clocks change at
    // midnight: that hour is missing, or there twice.
    let next = date.tomorrow().map_err(|_| too_far(text))?;
    let next = next
        .to_zoned(now.time_zone().clone())
        .and_then(|day| day.start_of_day())
        .map_err(|_| too_far(text))?;
    let end = next
        .checked_sub(1.nanosecond())
        .map_err(|_| too_far(text))?;
    let note = format!(
        "{text} means the end of that day in {}: {}",
        zone_name(now.time_zone()),
        end.strftime("%Y-%m-%dT%H:%M:%S%.f%:z")
    );
    Ok(Expiry {
        at: end.timestamp(),
        note: Some(note),
    })
}

/// The outer `None` if the text is no span, the inner one if it is out of range.
#[expect(
    clippy::option_option,
    reason = "both are told to the person, in different words"
)]
pub(super) fn span(text: &str) -> Option<Option<Span>> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .filter(|&digits| digits > 0)?;
    let (count, unit) = text.split_at(digits);
    let make = match unit {
        "s" => Span::try_seconds,
        "m" => Span::try_minutes,
        "h" => Span::try_hours,
        "d" => Span::try_days::<i64>,
        "w" => Span::try_weeks,
        _ => return None,
    };
    Some(
        count
            .parse()
            .ok()
            .and_then(|count: i64| make(Span::new(), count).ok()),
    )
}

fn too_far(text: &str) -> String {
    format!("--expires {text:?} is too far in the future; write never if the key is not to expire")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(now: &str, text: &str) -> Result<String, String> {
        parse(text, &now.parse().unwrap()).map(|expiry| expiry.unwrap().at.to_string())
    }

    const BERLIN: &str = "2026-03-28T12:00:00+01:00[Europe/Berlin]";

    #[test]
    fn a_full_time_is_taken_as_it_is() {
        for (text, expected) in [
            ("2026-12-31T18:00:00Z", "2026-12-31T18:00:00Z"),
            ("2026-12-31T18:00:00.5+02:00", "2026-12-31T16:00:00.5Z"),
            (" 2026-12-31t18:00:00z ", "2026-12-31T18:00:00Z"),
        ] {
            assert_eq!(at(BERLIN, text).as_deref(), Ok(expected));
        }
        assert_eq!(
            parse("2026-12-31T18:00:00Z", &BERLIN.parse().unwrap())
                .unwrap()
                .unwrap()
                .note,
            None
        );
    }

    #[test]
    fn never_is_no_time_at_all() {
        assert_eq!(parse(" never ", &BERLIN.parse().unwrap()), Ok(None));
    }

    #[test]
    fn a_bare_date_is_the_end_of_that_day_in_the_zone_and_says_so() {
        let expiry = parse("2026-12-31", &BERLIN.parse().unwrap())
            .unwrap()
            .unwrap();
        assert_eq!(expiry.at.to_string(), "2026-12-31T22:59:59.999999999Z");
        let note = expiry.note.unwrap();
        assert!(
            note.contains("Europe/Berlin") && note.contains("2026-12-31T23:59:59.999999999+01:00"),
            "{note}"
        );
        // Today still lies ahead.
        assert_eq!(
            at(BERLIN, "2026-03-28").as_deref(),
            Ok("2026-03-28T22:59:59.999999999Z")
        );
        assert_eq!(
            at(
                "2026-03-28T12:00:00-07:00[America/Los_Angeles]",
                "2026-12-31"
            )
            .as_deref(),
            Ok("2027-01-01T07:59:59.999999999Z")
        );
    }

    #[test]
    fn the_end_of_a_day_is_right_when_the_clocks_change() {
        for (now, date, expected) in [
            // Berlin goes to summer time at 02:00 and back at 03:00.
            (BERLIN, "2026-03-29", "2026-03-29T21:59:59.999999999Z"),
            (BERLIN, "2026-10-25", "2026-10-25T22:59:59.999999999Z"),
            // Cairo goes to summer time at midnight: the next day begins at 01:00.
            (
                "2026-04-01T12:00:00+02:00[Africa/Cairo]",
                "2026-04-23",
                "2026-04-23T21:59:59.999999999Z",
            ),
            // Cairo goes back at midnight: the day's last hour is there twice, and the second one is its end.
            (
                "2026-04-01T12:00:00+02:00[Africa/Cairo]",
                "2026-10-29",
                "2026-10-29T21:59:59.999999999Z",
            ),
        ] {
            assert_eq!(at(now, date).as_deref(), Ok(expected), "{date}");
        }
    }

    #[test]
    fn a_span_counts_from_now_and_days_keep_the_hour() {
        for (text, expected) in [
            ("30s", "2026-03-28T11:00:30Z"),
            ("90m", "2026-03-28T12:30:00Z"),
            ("12h", "2026-03-28T23:00:00Z"),
            ("24h", "2026-03-29T11:00:00Z"),
            // The clocks go forward in between: 12:00 stays 12:00.
            ("1d", "2026-03-29T10:00:00Z"),
            ("2w", "2026-04-11T10:00:00Z"),
            ("30d", "2026-04-27T10:00:00Z"),
        ] {
            assert_eq!(at(BERLIN, text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn a_span_says_when_it_ends() {
        let expiry = parse("1d", &BERLIN.parse().unwrap()).unwrap().unwrap();
        assert_eq!(
            expiry.note.unwrap(),
            "1d from now, in Europe/Berlin: 2026-03-29T12:00:00+02:00"
        );
    }

    #[test]
    fn the_past_is_refused_and_named() {
        for text in [
            "2020-01-01",
            "2026-03-27",
            "2026-03-28T11:00:00Z",
            "2026-03-28T10:59:59Z",
            "0d",
            "0m",
            "-1d",
        ] {
            let error = at(BERLIN, text).unwrap_err();
            assert!(
                error.contains("not in the future") && error.contains(text),
                "{error}"
            );
        }
        assert!(
            at(BERLIN, "2020-01-01")
                .unwrap_err()
                .contains("Europe/Berlin")
        );
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for (text, says) in [
            ("", "no time"),
            ("Never!", "no time"),
            ("30", "no time"),
            ("d", "no time"),
            ("-5", "no time"),
            ("5y", "no time"),
            ("31.12.2026", "no time"),
            ("2026-02-30", "no day"),
            ("2026-13-01", "no day"),
            ("2026-12-31T18:00:00", "lacks a zone"),
            ("2026-12-31 18:00", "lacks a zone"),
            ("99999999999999999999d", "too far"),
            ("9999999d", "too far"),
            ("9999-12-31", "too far"),
        ] {
            let error = at(BERLIN, text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}

//! Reads the values of flags. What is malformed is refused here, before anything is sent.

use std::time::Duration;

use crate::domain::{source::IpAllowlist, text};

/// The longest overlap of two secrets.
const MAX_OVERLAP: u64 = 30 * 86_400;

/// Reads a label, `NAME=VALUE`.
pub(super) fn parse_label(text: &str) -> Result<(String, String), String> {
    let (name, value) = pair(text)?;
    text::check_label(name, value).map_err(|why| why.to_string())?;
    Ok((name.to_owned(), value.to_owned()))
}

/// Reads a setting's value, `NAME=VALUE`. Only the server knows which values are valid.
pub(super) fn parse_setting(text: &str) -> Result<(String, String), String> {
    const LONGEST_NAME: usize = 63;
    let (name, value) = pair(text)?;
    if text::is_dotted_name(name, LONGEST_NAME) {
        return Ok((name.to_owned(), value.to_owned()));
    }
    Err(
        "a setting's name is a lower-case letter, then up to 62 of a-z, 0-9, '-', '_' and '.'"
            .into(),
    )
}

fn pair(text: &str) -> Result<(&str, &str), String> {
    text.split_once('=')
        .filter(|(name, _)| !name.is_empty())
        .ok_or_else(|| "write NAME=VALUE".into())
}

/// Reads one of several addresses or CIDR blocks between commas. The server makes it canonical.
pub(super) fn parse_ip(text: &str) -> Result<String, String> {
    let item = parse_item(text)?;
    match IpAllowlist::parse(&[&item]) {
        Ok(_) => Ok(item),
        Err(invalid) => Err(invalid.reason.to_string()),
    }
}

/// Reads one of several values between commas.
pub(super) fn parse_item(text: &str) -> Result<String, String> {
    match text.trim() {
        "" => Err("a value between the commas is empty".into()),
        item => Ok(item.to_owned()),
    }
}

/// Reads `--request-id`.
pub(super) fn parse_request_id(text: &str) -> Result<String, String> {
    const LONGEST: usize = 64;
    let well_formed = (1..=LONGEST).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    if well_formed {
        return Ok(text.to_owned());
    }
    Err("write 1 to 64 letters, digits, '-', '_' and '.'".into())
}

/// Reads `--etag`. An empty one is more likely a script's mistake than the wish to go without.
pub(super) fn parse_etag(text: &str) -> Result<String, String> {
    match text.trim() {
        "" => Err("it is empty; leave --etag out to go without".into()),
        etag => Ok(etag.to_owned()),
    }
}

/// Reads `--overlap`.
pub(super) fn parse_overlap(text: &str) -> Result<Duration, String> {
    let seconds = fixed_span(text.trim()).ok_or(
        "write a span in seconds, minutes, hours, days or weeks, such as 90s, 30m, 24h, 7d or 2w",
    )?;
    if seconds > MAX_OVERLAP {
        return Err("two secrets overlap for at most 30d".into());
    }
    Ok(Duration::from_secs(seconds))
}

/// The seconds of a span such as `24h`, in which a day has 24 hours. One that is too long for a `u64` is the longest.
fn fixed_span(text: &str) -> Option<u64> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .filter(|&digits| digits > 0)?;
    let (count, unit) = text.split_at(digits);
    let unit = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        "w" => 604_800,
        _ => return None,
    };
    // Digits alone fail to parse only if they are too many.
    let count: u64 = count.parse().unwrap_or(u64::MAX);
    Some(count.saturating_mul(unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_overlap_is_a_span_of_at_most_thirty_days() {
        for (text, seconds) in [
            ("0s", 0),
            ("90s", 90),
            ("30m", 1_800),
            ("24h", 86_400),
            ("7d", 604_800),
            (" 2w ", 1_209_600),
            ("30d", 2_592_000),
        ] {
            assert_eq!(parse_overlap(text), Ok(Duration::from_secs(seconds)));
        }
        for text in ["", "24", "h", "-1d", "1.5h", "1y", "24 h", "٣d"] {
            assert!(parse_overlap(text).unwrap_err().contains("span"), "{text}");
        }
        for text in [
            "31d",
            "721h",
            "5w",
            "2592001s",
            "99999999999999999999999s",
            "9999999999999999999w",
        ] {
            assert!(
                parse_overlap(text).unwrap_err().contains("at most 30d"),
                "{text}"
            );
        }
    }

    #[test]
    fn a_request_id_and_an_etag_are_not_empty() {
        for text in [
            "a",
            "8f14e45f-ceea-467f-a0e6-2f3c1b9d5e7a",
            "a.b_c",
            &"x".repeat(64),
        ] {
            assert_eq!(parse_request_id(text).as_deref(), Ok(text));
        }
        for text in ["", " ", "a b", "ä", "a/b", &"x".repeat(65)] {
            assert!(parse_request_id(text).is_err(), "{text}");
        }
        assert_eq!(parse_etag(" 1.7 ").as_deref(), Ok("1.7"));
        assert!(parse_etag("").is_err() && parse_etag(" ").is_err());
    }

    #[test]
    fn a_setting_has_a_plain_name_and_any_value() {
        let parsed = parse_setting("dlr_url=https://a.example/?x=1").unwrap();
        assert_eq!(parsed, ("dlr_url".into(), "https://a.example/?x=1".into()));
        assert_eq!(parse_setting("a=").unwrap().1, "");
        for text in ["", "a", "=a", "A=b", "a b=c", "1=a"] {
            assert!(parse_setting(text).is_err(), "{text}");
        }
    }
}

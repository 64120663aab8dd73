//! When a certificate ends.

use rustls::pki_types::CertificateDer;

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// The `notAfter` of a certificate, in seconds since 1970 (RFC 5280, 4.1.2.5). `None`: it cannot be read. Nothing but a
/// metric rests on it: whether a certificate is in force is judged by the TLS library.
pub(super) fn not_after(certificate: &CertificateDer<'_>) -> Option<i64> {
    let (_, certificate, _) = element(certificate, Some(SEQUENCE))?;
    let (_, mut rest, _) = element(certificate, Some(SEQUENCE))?;
    if let Some((_, _, after)) = element(rest, Some(VERSION)) {
        rest = after;
    }
    // Serial number, signature algorithm, issuer; then the two times.
    for tag in [INTEGER, SEQUENCE, SEQUENCE] {
        (_, _, rest) = element(rest, Some(tag))?;
    }
    let (_, validity, _) = element(rest, Some(SEQUENCE))?;
    let (_, _, rest) = element(validity, None)?;
    let (tag, time, _) = element(rest, None)?;
    seconds(tag, std::str::from_utf8(time).ok()?)
}

/// The first element of DER: its tag, its content, and what follows it.
fn element(der: &[u8], wanted: Option<u8>) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    if wanted.is_some_and(|wanted| wanted != tag) {
        return None;
    }
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
        // No certificate is longer than four bytes can say.
        if bytes.is_empty() || bytes.len() > 4 {
            return None;
        }
        let length = bytes
            .iter()
            .fold(0, |length, &byte| (length << 8) | usize::from(byte));
        (length, rest)
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

/// `YYMMDDHHMMSSZ`, of 1950 to 2049, or `YYYYMMDDHHMMSSZ`.
fn seconds(tag: u8, text: &str) -> Option<i64> {
    let digits = text
        .strip_suffix('Z')
        .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
    let full = match (tag, digits.len()) {
        (UTC_TIME, 12) if digits < "50" => format!("20{digits}"),
        (UTC_TIME, 12) => format!("19{digits}"),
        (GENERALIZED_TIME, 14) => digits.to_owned(),
        _ => return None,
    };
    let number = |from: usize, to: usize| full[from..to].parse().ok();
    let date =
        jiff::civil::Date::new(full[..4].parse().ok()?, number(4, 6)?, number(6, 8)?).ok()?;
    let time = jiff::civil::Time::new(number(8, 10)?, number(10, 12)?, number(12, 14)?, 0).ok()?;
    let zone = jiff::tz::TimeZone::UTC;
    let at = date.to_datetime(time).to_zoned(zone).ok()?;
    Some(at.timestamp().as_second())
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    #[test]
    fn the_end_of_a_certificate_is_read_off_it() {
        for (year, month, day) in [(2026, 12, 31), (2049, 2, 28), (2050, 1, 1), (4096, 2, 29)] {
            let mut params = CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
            let end = date_time_ymd(year, month, day);
            params.not_after = end;
            let key = KeyPair::generate().unwrap();
            let certificate = params.self_signed(&key).unwrap();
            assert_eq!(
                not_after(certificate.der()),
                Some(end.unix_timestamp()),
                "{end}"
            );
        }
    }

    #[test]
    fn what_is_no_certificate_has_no_end() {
        let key = KeyPair::generate().unwrap();
        let whole = CertificateParams::default().self_signed(&key).unwrap();
        let whole = whole.der().to_vec();
        for cut in 0..whole.len() {
            assert_eq!(not_after(&whole[..cut].to_vec().into()), None, "{cut}");
        }
        for bad in [
            &[][..],
            &[0x30],
            &[0x30, 0x85, 1, 1, 1, 1, 1],
            &[0x30, 0x80],
        ] {
            assert_eq!(not_after(&bad.to_vec().into()), None, "{bad:?}");
        }
        assert_eq!(seconds(UTC_TIME, "700101000000Z"), Some(0));
        for text in [
            "701301000000Z",
            "700132000000Z",
            "700101000000",
            "70010100000Z",
            "7001010000000Z",
        ] {
            assert_eq!(seconds(UTC_TIME, text), None, "{text}");
        }
    }
}

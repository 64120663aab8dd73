//! Finds the credential in a request.

use std::str;

use super::request::Asked;
use crate::config::EnvoySettings;

const AUTHORIZATION: &str = "authorization";

/// What is found.
pub(super) enum Found<'a> {
    /// No credential.
    None,
    /// One, and where it was. Empty, if what stands there is no text.
    One(&'a str, Carrier<'a>),
    /// More than one, whether they are equal or not.
    Several,
}

/// Where a credential was. It is removed from there before the request goes upstream.
pub(super) enum Carrier<'a> {
    Header(&'a str),
    Query(&'a str),
}

/// Looks at all places that a credential may be in.
pub(super) fn find<'a>(asked: &Asked<'a>, settings: &'a EnvoySettings) -> Found<'a> {
    let headers = asked
        .headers()
        .filter(|(name, _)| *name == AUTHORIZATION || Some(*name) == settings.header.as_deref())
        .map(|(name, value)| {
            (
                str::from_utf8(value).unwrap_or_default(),
                Carrier::Header(name),
            )
        });
    let parameters = settings
        .query_parameter
        .as_deref()
        .into_iter()
        .flat_map(|name| parameters(asked.path, name));
    let mut found = headers.chain(parameters);
    match (found.next(), found.next()) {
        (None, _) => Found::None,
        // Envoy joins headers of one name with commas, and no credential has one.
        (Some((value, carrier)), None) if !value.contains(',') => Found::One(value, carrier),
        _ => Found::Several,
    }
}

/// The values of a query parameter. Under a name that is the parameter's only once it is decoded, Envoy would not find it to
/// remove it; so such a one counts twice, which no request may have.
fn parameters<'a>(path: &'a str, name: &'a str) -> impl Iterator<Item = (&'a str, Carrier<'a>)> {
    let query = path.split_once('?').map_or("", |(_, query)| query);
    query.split('&').flat_map(move |pair| {
        let (written, value) = pair.split_once('=').unwrap_or((pair, ""));
        let times = if written == name {
            1
        } else if decodes_to(written, name) {
            2
        } else {
            0
        };
        std::iter::repeat_with(move || (value, Carrier::Query(name))).take(times)
    })
}

/// True if percent-decoding makes `name` of the text.
fn decodes_to(written: &str, name: &str) -> bool {
    let mut rest = written.as_bytes();
    let decoded = std::iter::from_fn(|| match rest {
        [b'%', high, low, after @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
            let digit = |byte: u8| char::from(byte).to_digit(16).unwrap_or_default();
            rest = after;
            u8::try_from(digit(*high) << 4 | digit(*low)).ok()
        }
        [byte, after @ ..] => {
            rest = after;
            Some(*byte)
        }
        [] => None,
    });
    decoded.eq(name.bytes())
}

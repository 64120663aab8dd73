//! Where a request came from.

use std::{net::IpAddr, str};

use super::request::Asked;
use crate::domain::source::parse_source;

/// The request's source; `None`: unknown.
///
/// With no hops it is the peer that Envoy reports. With `hops`, it is that entry of `x-forwarded-for`, counted from the right,
/// where each proxy adds the peer that it saw itself: what stands further left may be the client's own invention.
pub(super) fn of(asked: &Asked<'_>, hops: usize) -> Option<IpAddr> {
    let Some(before) = hops.checked_sub(1) else {
        return asked.peer.and_then(parse_source);
    };
    // From the right, and no further than asked, however long the list is.
    let entry = asked
        .header("x-forwarded-for")
        .rev()
        .flat_map(|value| value.rsplit(|byte| *byte == b','))
        .nth(before)?;
    parse_source(str::from_utf8(entry).ok()?.trim_matches([' ', '\t']))
}

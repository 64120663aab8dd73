//! Where a request may come from.

use std::{net::IpAddr, sync::Arc};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::Invalid;

/// The most entries a list has.
pub const MAX_ENTRIES: usize = 1_000;

/// The addresses that a key may be used from. Cheap to clone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IpAllowlist(Option<Arc<Lists>>);

#[derive(Debug, PartialEq, Eq)]
struct Lists {
    /// As the operator reads it back: canonical, sorted, without duplicates.
    entries: Box<[IpNet]>,
    /// Disjoint, sorted ranges of the same, ends included.
    v4: Box<[(u32, u32)]>,
    v6: Box<[(u128, u128)]>,
}

/// Which entry of a list was refused, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidEntry {
    /// Its index; `None`: the list as a whole.
    pub index: Option<usize>,
    /// Why.
    pub reason: Invalid,
}

impl IpAllowlist {
    /// Reads addresses and CIDR blocks. Host bits are dropped, duplicates folded, `::ffff:a.b.c.d` is IPv4; a list of
    /// just `0.0.0.0/0`, with or without `::/0`, is the empty list.
    ///
    /// # Errors
    /// If there are more than 1,000 entries, or one is neither an address nor a block.
    pub fn parse<S: AsRef<str>>(entries: &[S]) -> Result<Self, InvalidEntry> {
        if entries.len() > MAX_ENTRIES {
            return Err(InvalidEntry {
                index: None,
                reason: Invalid::new("must have at most 1,000 entries"),
            });
        }
        let mut nets = entries
            .iter()
            .enumerate()
            .map(|(index, entry)| {
                parse_entry(entry.as_ref()).map_err(|reason| InvalidEntry {
                    index: Some(index),
                    reason,
                })
            })
            .collect::<Result<Vec<IpNet>, _>>()?;
        nets.sort_unstable();
        nets.dedup();
        let all_v4 = IpNet::V4(Ipv4Net::default());
        let all_v6 = IpNet::V6(Ipv6Net::default());
        if nets.is_empty() || nets == [all_v4] || nets == [all_v4, all_v6] {
            return Ok(Self(None));
        }

        let v4 = disjoint(nets.iter().filter_map(|net| match net {
            IpNet::V4(net) => Some((net.network().to_bits(), net.broadcast().to_bits())),
            IpNet::V6(_) => None,
        }));
        let v6 = disjoint(nets.iter().filter_map(|net| match net {
            IpNet::V6(net) => Some((net.network().to_bits(), net.broadcast().to_bits())),
            IpNet::V4(_) => None,
        }));
        Ok(Self(Some(Arc::new(Lists {
            entries: nets.into(),
            v4,
            v6,
        }))))
    }

    /// The canonical entries; empty: any source.
    #[must_use]
    pub fn entries(&self) -> &[IpNet] {
        self.0.as_ref().map_or(&[], |lists| &lists.entries)
    }

    /// True if every source that passes `other` passes this one. It may say no where only touching blocks together do.
    #[must_use]
    pub fn admits_all_of(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(mine), Some(other)) => {
                covers_all(&mine.v4, &other.v4) && covers_all(&mine.v6, &other.v6)
            }
        }
    }

    /// True if a request from `source` may pass. An unknown source passes an empty list only.
    #[must_use]
    pub fn admits(&self, source: Option<IpAddr>) -> bool {
        match (&self.0, source.map(|address| address.to_canonical())) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(lists), Some(IpAddr::V4(address))) => covers(&lists.v4, address.to_bits()),
            (Some(lists), Some(IpAddr::V6(address))) => covers(&lists.v6, address.to_bits()),
        }
    }
}

/// Reads the address a request came from: IPv4 or IPv6, no port, no zone. `::ffff:a.b.c.d` is IPv4.
#[must_use]
pub fn parse_source(text: &str) -> Option<IpAddr> {
    text.parse::<IpAddr>()
        .ok()
        .map(|address| address.to_canonical())
}

fn parse_entry(text: &str) -> Result<IpNet, Invalid> {
    let net = match text.parse::<IpAddr>() {
        Ok(address) => IpNet::from(address),
        // A leading zero is octal to some readers, in a prefix length as in an address.
        Err(_) if has_zero_led_length(text) => {
            return Err(Invalid::new("a prefix length must not begin with 0"));
        }
        Err(_) => text.parse::<IpNet>().map_err(|_| {
            Invalid::new("must be an IPv4 or IPv6 address, or a CIDR block such as 10.0.0.0/8")
        })?,
    };
    Ok(match net {
        // ::ffff:0:0/96 is where IPv6 keeps IPv4.
        IpNet::V6(v6) if v6.prefix_len() >= 96 => match v6.addr().to_ipv4_mapped() {
            Some(v4) => IpNet::V4(Ipv4Net::new_assert(v4, v6.prefix_len() - 96)),
            None => net,
        },
        _ => net,
    }
    .trunc())
}

fn has_zero_led_length(text: &str) -> bool {
    text.rsplit_once('/')
        .is_some_and(|(_, length)| length.len() > 1 && length.starts_with('0'))
}

/// Merges ranges, sorted by start, into disjoint ones.
fn disjoint<T: Copy + Ord>(ranges: impl Iterator<Item = (T, T)>) -> Box<[(T, T)]> {
    let mut merged: Vec<(T, T)> = Vec::new();
    for (start, end) in ranges {
        match merged.last_mut() {
            Some(last) if start <= last.1 => last.1 = last.1.max(end),
            _ => merged.push((start, end)),
        }
    }
    merged.into()
}

fn covers<T: Copy + Ord>(ranges: &[(T, T)], address: T) -> bool {
    let after = ranges.partition_point(|range| range.0 <= address);
    after > 0 && address <= ranges[after - 1].1
}

fn covers_all<T: Copy + Ord>(ranges: &[(T, T)], others: &[(T, T)]) -> bool {
    // Both are disjoint, and adjacent blocks are not merged: an other range may span several of ours only if they touch,
    // which merging them here would find; not to is the cautious side.
    others.iter().all(|&(start, end)| {
        let after = ranges.partition_point(|range| range.0 <= start);
        after > 0 && end <= ranges[after - 1].1
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn list(entries: &[&str]) -> IpAllowlist {
        IpAllowlist::parse(entries).unwrap()
    }

    fn admits(list: &IpAllowlist, source: &str) -> bool {
        list.admits(Some(parse_source(source).unwrap()))
    }

    #[test]
    fn what_is_no_address_or_block_is_refused_by_index() {
        let refused = [
            "010.0.0.1",
            "1.2.3",
            "0x7f.1",
            "10.0.0.0/33",
            "::/129",
            "10.0.0.0/-1",
            "10.0.0.0/+8",
            "10.0.0.0/08",
            "fe80::1%eth0",
            "1.2.3.4:80",
            "",
            " ",
            " 10.0.0.1",
            "10.0.0.1 ",
            "10.0.0.0/",
            "/8",
            "[::1]",
            "localhost",
        ];
        for entry in refused {
            let refused = IpAllowlist::parse(&["10.0.0.1", entry]);
            assert_eq!(refused.map_err(|e| e.index), Err(Some(1)), "{entry:?}");
        }
        assert!(IpAllowlist::parse(&vec!["10.0.0.1"; 1_000]).is_ok());
        assert_eq!(
            IpAllowlist::parse(&vec!["10.0.0.1"; 1_001]).map_err(|e| e.index),
            Err(None)
        );
    }

    #[test]
    fn entries_are_canonical() {
        let list = list(&[
            "123.123.123.1/24",
            "10.0.0.1",
            "::ffff:10.0.0.1",
            "10.0.0.1/32",
            "2001:db8::1/32",
        ]);
        let entries: Vec<_> = list.entries().iter().map(ToString::to_string).collect();
        assert_eq!(
            entries,
            ["10.0.0.1/32", "123.123.123.0/24", "2001:db8::/32"]
        );
    }

    #[test]
    fn everything_is_the_empty_list() {
        for entries in [
            &["0.0.0.0/0"][..],
            &["0.0.0.0/0", "::/0"],
            &["1.2.3.4/0"],
            &["::ffff:0:0/96"],
            &[],
        ] {
            assert_eq!(list(entries), IpAllowlist::default(), "{entries:?}");
        }
        assert_ne!(list(&["::/0"]), IpAllowlist::default());
        assert_ne!(list(&["0.0.0.0/0", "10.0.0.0/8"]), IpAllowlist::default());
    }

    #[test]
    fn a_list_never_admits_an_unknown_source() {
        assert!(IpAllowlist::default().admits(None));
        assert!(!list(&["10.0.0.0/8"]).admits(None));
    }

    #[test]
    fn mapped_addresses_are_ipv4_on_both_sides() {
        assert!(admits(&list(&["10.0.0.1"]), "::ffff:10.0.0.1"));
        assert!(admits(&list(&["::ffff:10.0.0.1"]), "10.0.0.1"));
        assert!(!admits(&list(&["::/0"]), "10.0.0.1"));
    }

    proptest! {
        /// The binary search over merged ranges answers as a walk over the entries does.
        #[test]
        fn nested_and_touching_blocks_admit_exactly_their_members(
            blocks in prop::collection::vec((0u32..64, 24u8..=32), 1..20), address in 0u32..64,
        ) {
            let text: Vec<_> = blocks.iter().map(|(a, p)| format!("{}/{p}", std::net::Ipv4Addr::from(*a))).collect();
            let address = IpAddr::from(std::net::Ipv4Addr::from(address));
            let naive = text.iter().any(|t| t.parse::<IpNet>().unwrap().contains(&address));
            prop_assert_eq!(IpAllowlist::parse(&text).unwrap().admits(Some(address)), naive);
        }
    }
}

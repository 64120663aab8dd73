//! A chain tells any two series of events apart.

use proptest::prelude::*;

use super::*;

fn revision(epoch: u32, number: u64) -> Revision {
    Revision { epoch, number }
}

fn linked(digests: &[[u8; 32]]) -> ChainHead {
    let mut chain = Chain::new();
    for (number, digest) in (1..).zip(digests) {
        chain.link(revision(1, number), digest).unwrap();
    }
    chain.head()
}

/// Computed by hand, with `sha256sum` over `h ‖ n ‖ digest`.
#[test]
fn a_link_is_the_hash_of_the_last_the_number_and_the_digest() {
    let mut chain = Chain::default();
    assert_eq!(chain.head(), ChainHead::START);
    chain.link(revision(1, 1), &[0x11; 32]).unwrap();
    assert_eq!(chain.head().to_string(), FIRST);
    chain.link(revision(1, 2), &[0x22; 32]).unwrap();
    assert_eq!(chain.head().to_string(), SECOND);
}

const FIRST: &str = "1.1:8bdbfe12a05c9146f45b4ef6d5e2cce12f35ea40cf4c0f06a221669756b0eac1";
const SECOND: &str = "1.2:47fe63f5b04201c9ffe5dc7bc38d3b2b136899d3f38a998c5f0149febad21b1a";

#[test]
fn a_chain_goes_on_from_a_head() {
    let mut whole = Chain::new();
    let mut parts = Chain::new();
    for number in 1..=10 {
        let digest = [u8::try_from(number).unwrap(); 32];
        whole.link(revision(1, number), &digest).unwrap();
        parts = Chain::after(ChainHead::parse(&parts.head().to_string()).unwrap());
        parts.link(revision(1, number), &digest).unwrap();
    }
    assert_eq!(whole, parts);
}

#[test]
fn a_hole_or_a_repeat_is_refused_and_changes_nothing() {
    let mut chain = Chain::new();
    for number in 1..=3 {
        chain.link(revision(2, number), &[7; 32]).unwrap();
    }
    let before = chain.clone();
    let missing = |due, found| BrokenLink::Missing { due, found };
    let repeated = |found| BrokenLink::Repeated {
        last: revision(2, 3),
        found,
    };
    for (found, broken) in [
        (revision(2, 5), missing(revision(2, 4), revision(2, 5))),
        (revision(2, 3), repeated(revision(2, 3))),
        (revision(2, 1), repeated(revision(2, 1))),
        (revision(1, 4), repeated(revision(1, 4))),
        (revision(0, 0), repeated(revision(0, 0))),
        // An epoch begins with its first event, not amid it.
        (revision(3, 4), missing(revision(3, 1), revision(3, 4))),
        (revision(3, 0), missing(revision(3, 1), revision(3, 0))),
    ] {
        assert_eq!(chain.link(found, &[7; 32]), Err(broken), "{found}");
        assert_eq!(chain, before);
    }
    chain.link(revision(2, 4), &[7; 32]).unwrap();
    chain.link(revision(5, 1), &[7; 32]).unwrap();
    assert_eq!(chain.head().revision, revision(5, 1));
}

#[test]
fn a_chain_begins_with_the_first_event() {
    for found in [revision(1, 2), revision(1, 0), revision(7, 9)] {
        assert!(Chain::new().link(found, &[0; 32]).is_err(), "{found}");
    }
    assert!(Chain::new().link(revision(7, 1), &[0; 32]).is_ok());
}

#[test]
fn a_head_has_one_spelling() {
    let good = format!("1.42:{}", "0f".repeat(32));
    let head = ChainHead::parse(&good).unwrap();
    assert_eq!(head.revision, revision(1, 42));
    assert_eq!(head.hash, [15; 32]);
    assert_eq!(head.to_string(), good);
    for bad in [
        "",
        ":",
        "1.42",
        "1.42:",
        &"0f".repeat(32),
        &good.to_uppercase(),
        &good.replace(':', " "),
        &good[..good.len() - 1],
        &format!("{good}0"),
        &format!("{good}:"),
        &format!(" {good}"),
        &good.replace("1.42", "01.42"),
        &good.replace("0f0f", "0g0f"),
        // 64 bytes, but not 64 digits.
        &format!("1.42:{}", "é".repeat(32)),
        &format!("1.42:+{}", &"0f".repeat(32)[1..]),
    ] {
        assert!(ChainHead::parse(bad).is_err(), "{bad:?}");
    }
}

fn digests() -> impl Strategy<Value = Vec<[u8; 32]>> {
    prop::collection::vec(any::<[u8; 32]>(), 2..20)
}

proptest! {
    #[test]
    fn a_changed_event_changes_the_head(
        digests in digests(), place in any::<prop::sample::Index>(),
        byte in 0..32usize, bit in 0..8u8,
    ) {
        let mut changed = digests.clone();
        changed[place.index(digests.len())][byte] ^= 1 << bit;
        prop_assert_ne!(linked(&digests), linked(&changed));
    }

    /// Also when the rest is numbered anew, so that no hole shows.
    #[test]
    fn an_event_taken_out_put_in_or_moved_changes_the_head(
        digests in digests(), place in any::<prop::sample::Index>(),
    ) {
        let place = place.index(digests.len());
        let head = linked(&digests);
        let mut out = digests.clone();
        let taken = out.remove(place);
        prop_assert_ne!(head.hash, linked(&out).hash);
        let mut twice = digests.clone();
        twice.insert(place, taken);
        prop_assert_ne!(head.hash, linked(&twice).hash);
        let mut moved = digests.clone();
        moved.swap(place, (place + 1) % digests.len());
        prop_assert_ne!(head.hash, linked(&moved).hash);
    }
}

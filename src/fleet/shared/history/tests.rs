use std::{collections::BTreeMap, time::Duration};

use super::*;
use crate::domain::time::Timestamp;

fn at(epoch: u32, number: u64) -> Revision {
    Revision { epoch, number }
}

/// A store that stands at `head`, with the ends of its epochs before.
fn standing(head: Revision, ends: &[Revision]) -> Standing {
    let opened_after: BTreeMap<u32, Revision> =
        ends.iter().map(|end| (end.epoch + 1, *end)).collect();
    Standing {
        history: History {
            store: "ours".into(),
            epoch: head.epoch,
            server: "server".into(),
        },
        server: "server".into(),
        head,
        floor: at(1, 0),
        opened_after,
        settled: true,
        lease: Duration::from_secs(15),
        time: Timestamp::from_unix_nanos(1),
    }
}

#[track_caller]
fn check(known: Revision, found: &Standing, is_ours: bool) {
    let verdict = judge("ours", known, found);
    let goes_on = matches!(verdict, Verdict::GoesOn(_));
    assert_eq!(goes_on, is_ours, "{known} at {}: {verdict:?}", found.head);
}

#[test]
fn a_store_that_holds_what_is_known_goes_on() {
    let one = standing(at(1, 7), &[]);
    check(at(1, 7), &one, true);
    check(at(1, 5), &one, true);
    check(Revision::default(), &one, true);
    let three = standing(at(3, 2), &[at(1, 7), at(2, 4)]);
    check(at(1, 7), &three, true);
    check(at(2, 4), &three, true);
    check(at(3, 1), &three, true);
}

/// Taking one of these for ours would open what was closed by the changes that it has lost.
#[test]
fn a_store_that_lost_what_is_known_is_not_ours() {
    check(at(1, 8), &standing(at(1, 7), &[]), false);
    let three = standing(at(3, 2), &[at(1, 7), at(2, 4)]);
    check(at(1, 8), &three, false);
    check(at(2, 5), &three, false);
    check(at(3, 3), &three, false);
    check(at(4, 1), &three, false);
    // Later numbers of a later epoch do not make up for what was lost before it.
    check(at(1, 8), &standing(at(2, 100), &[at(1, 7)]), false);
    // Nobody noted where an epoch ended.
    check(at(1, 1), &standing(at(2, 100), &[]), false);
    check(at(1, 1), &standing(at(3, 1), &[at(2, 4)]), false);
}

#[test]
fn another_store_is_not_ours_however_far_it_is() {
    let mut other = standing(at(9, 9), &[]);
    other.history.store = "theirs".into();
    assert!(matches!(
        judge("ours", at(1, 1), &other),
        Verdict::Lost(Lost::Other { .. })
    ));
}

/// A restart is looked into only if nothing was lost: whoever opens an epoch vouches for what is there.
#[test]
fn a_restarted_server_is_told_from_one_that_lost_something() {
    let mut restarted = standing(at(1, 7), &[]);
    restarted.server = "another".into();
    assert_eq!(judge("ours", at(1, 7), &restarted), Verdict::Restarted);
    assert!(matches!(
        judge("ours", at(1, 8), &restarted),
        Verdict::Lost(Lost::Behind { .. })
    ));
}

#[test]
fn the_distance_counts_across_epochs() {
    let three = standing(at(3, 2), &[at(1, 7), at(2, 4)]);
    assert_eq!(distance(at(3, 2), &three), 0);
    assert_eq!(distance(at(3, 1), &three), 1);
    assert_eq!(distance(at(2, 4), &three), 2);
    assert_eq!(distance(at(1, 5), &three), 2 + 4 + 2);
}

use super::*;

fn revision(epoch: u32, number: u64) -> Revision {
    Revision { epoch, number }
}

/// A verifier that has taken so many events of the first epoch.
fn taken(events: u64, anchor: Option<ChainHead>) -> (Verifier, Result<(), Broken>) {
    let mut verifier = Verifier::new(anchor);
    for number in 1..=events {
        let linked = verifier.link(revision(1, number), &[7; 32]);
        if linked.is_err() {
            return (verifier, linked);
        }
    }
    (verifier, Ok(()))
}

fn head(events: u64) -> ChainHead {
    taken(events, None).0.head()
}

#[test]
fn a_whole_chain_is_intact_with_any_anchor_on_it() {
    let due = Verdict {
        events: 5,
        head: head(5),
        broken: None,
    };
    for anchor in [None, Some(0), Some(1), Some(3), Some(5)] {
        let (verifier, linked) = taken(5, anchor.map(head));
        assert_eq!(linked, Ok(()), "{anchor:?}");
        assert_eq!(verifier.finish(), Ok(due.clone()), "{anchor:?}");
    }
}

#[test]
fn an_anchor_with_another_hash_is_named() {
    for (number, verified) in [(1, 0), (3, 2), (5, 4)] {
        let anchor = ChainHead {
            hash: [9; 32],
            ..head(number)
        };
        let (verifier, linked) = taken(5, Some(anchor));
        let broken = linked.expect_err("another hash");
        assert_eq!(broken.at, revision(1, number));
        let verdict = verifier.broken(broken);
        assert_eq!(verdict.events, verified);
        assert_eq!(verdict.head, head(verified), "up to the last good one");
    }
    let start = ChainHead {
        hash: [9; 32],
        ..ChainHead::START
    };
    let (_, linked) = taken(5, Some(start));
    assert_eq!(linked.expect_err("no event").at, start.revision);
    let verdict = Verifier::new(Some(start)).finish().expect("not ahead");
    assert!(verdict.broken.is_some());
}

#[test]
fn an_anchor_ahead_of_the_last_event_is_told_apart() {
    let anchor = ChainHead {
        revision: revision(1, 6),
        ..head(5)
    };
    let (verifier, linked) = taken(5, Some(anchor));
    assert_eq!(linked, Ok(()));
    assert_eq!(
        verifier.finish(),
        Err(Ahead {
            revision: revision(1, 6)
        })
    );
}

/// The history that the anchor was of was cut off, and another one goes on.
#[test]
fn an_anchor_that_a_later_epoch_passes_is_named() {
    let anchor = head(5);
    let (mut verifier, linked) = taken(4, Some(anchor));
    assert_eq!(linked, Ok(()));
    let broken = verifier.link(revision(2, 1), &[7; 32]);
    assert_eq!(broken.expect_err("passed").at, anchor.revision);
}

#[test]
fn gaps_and_repeats_are_named() {
    for (found, what) in [(5, "missing"), (3, "repeated"), (1, "long ago")] {
        let (mut verifier, _) = taken(3, None);
        let broken = verifier.link(revision(1, found), &[7; 32]);
        assert_eq!(broken.expect_err(what).at, revision(1, found), "{what}");
    }
    let broken = Verifier::new(None).link(revision(1, 2), &[7; 32]);
    assert_eq!(broken.expect_err("the first is 1").at, revision(1, 2));
}

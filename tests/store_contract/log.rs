//! The checks on the events as a store tells them.

use std::sync::Arc;

use portcullis::{
    domain::id::Revision,
    store::{Batch, Direction, EventRecord, FoundEvent, Store},
};

use super::{
    Site,
    checks::{revision, taken},
    support::records::{batch, events, found_events, put},
};

/// Enough that they come in several portions.
const MANY: u64 = 1_700;

/// Commits so many changes, each with an event of its own.
async fn fill(store: &Arc<dyn Store>, count: u64) {
    let mut commits = tokio::task::JoinSet::new();
    for number in 0..count {
        let store = store.clone();
        commits.spawn(async move {
            let batch: Batch = batch(vec![], vec![put(1, "")], &format!("change {number}"));
            taken(store.commit(batch).await)
        });
    }
    commits.join_all().await;
}

#[track_caller]
fn revisions(found: &[FoundEvent]) -> Vec<u64> {
    let number = |found: &FoundEvent| match found {
        FoundEvent::Event(event) => event.revision.number,
        FoundEvent::Damaged { at, why } => panic!("the event of {at}: {why}"),
    };
    found.iter().map(number).collect()
}

/// Asserts that these are the events of these revisions, in this order.
#[track_caller]
fn told(found: &[FoundEvent], due: impl Iterator<Item = u64>, what: &str) {
    let (found, due) = (revisions(found), due.collect::<Vec<_>>());
    let wrong = found.iter().zip(&due).find(|(found, due)| found != due);
    assert_eq!(wrong, None, "{what}: another one was due");
    assert_eq!(found.len(), due.len(), "{what}: so many were due");
}

pub async fn events_are_told_from_either_end_without_gaps(site: Arc<dyn Site>) {
    let store = site.open().await;
    for direction in [Direction::OldestFirst, Direction::NewestFirst] {
        let none = found_events(&*store, None, direction).await;
        assert_eq!(none, [], "there is nothing yet");
    }
    fill(&store, MANY).await;
    let forth = found_events(&*store, None, Direction::OldestFirst).await;
    told(&forth, 1..=MANY, "from the first");
    let mut back = found_events(&*store, None, Direction::NewestFirst).await;
    back.reverse();
    assert!(back == forth, "the same from the last");
    let mut resources: Vec<String> = events(&*store)
        .await
        .into_iter()
        .map(|EventRecord { event, .. }| event.resource)
        .collect();
    resources.sort_unstable();
    resources.dedup();
    assert_eq!(resources.len() as u64, MANY, "each change has told its own");

    let at = |number| Some(revision(number));
    let of = |epoch| Some(Revision { epoch, number: 1 });
    for (after, first) in [
        (at(0), 1),
        (at(1), 2),
        (at(511), 512),
        (at(512), 513),
        (at(MANY - 1), MANY),
        (at(MANY), MANY + 1),
        (at(MANY + 7), MANY + 1),
        (of(0), 1),
        (of(2), MANY + 1),
    ] {
        let rest = found_events(&*store, after, Direction::OldestFirst).await;
        told(&rest, first..=MANY, &format!("after {after:?}"));
    }
    for (before, last) in [
        (at(0), 0),
        (at(1), 0),
        (at(2), 1),
        (at(513), 512),
        (at(MANY), MANY - 1),
        (at(MANY + 1), MANY),
        (of(0), 0),
        (of(2), MANY),
    ] {
        let rest = found_events(&*store, before, Direction::NewestFirst).await;
        told(&rest, (1..=last).rev(), &format!("before {before:?}"));
    }
    // A reader goes on where it stopped: what has come meanwhile follows, and nothing is told twice.
    let mut stopped = None;
    let mut all = Vec::new();
    for _ in 0..3 {
        let mut portions = store
            .events(stopped, Direction::OldestFirst)
            .await
            .expect("the events");
        let portion = portions.recv().await.expect("a portion");
        let portion = portion.expect("a portion");
        stopped = revisions(&portion).last().map(|&number| revision(number));
        all.extend(portion);
        drop(portions);
        fill(&store, 1).await;
    }
    assert!(all.len() > 2, "three portions");
    told(&all, 1..=all.len() as u64, "with pauses");
}

pub async fn events_are_as_of_one_revision(site: Arc<dyn Site>) {
    let store = site.open().await;
    fill(&store, MANY).await;
    for direction in [Direction::OldestFirst, Direction::NewestFirst] {
        let (head, _) = super::support::records::load(&*store).await;
        let mut portions = store.events(None, direction).await.expect("the events");
        // All of these come after the reading began.
        fill(&store, 20).await;
        let mut found = Vec::new();
        while let Some(portion) = portions.recv().await {
            found.extend(portion.expect("a portion"));
        }
        assert_eq!(found.len() as u64, head.number);
    }
}

type Damage = fn(&dyn Site) -> Vec<u8>;

pub async fn a_damaged_event_is_reported_and_the_others_are_told(site: Arc<dyn Site>) {
    let store = site.open().await;
    fill(&store, 20).await;
    drop(store);
    let damages: [(u64, Damage); 6] = [
        (2, |_| b"garbage".to_vec()),
        (5, |_| Vec::new()),
        // One that tells of something else.
        (8, |site| {
            let mut event = site.event(revision(8));
            let place = event.windows(6).position(|part| part == b"change");
            event[place.expect("what it tells of")] = b'C';
            event
        }),
        // Another's, as it is.
        (11, |site| site.event(revision(12))),
        (14, |site| {
            let mut event = site.event(revision(14));
            event.pop();
            event
        }),
        // Something more, which its digest does not know of: field 1,000 as a text.
        (20, |site| {
            [&site.event(revision(20))[..], &[0xc2, 0x3e, 3], b"new"].concat()
        }),
    ];
    for (number, damage) in &damages {
        let bytes = damage(&*site);
        site.put_event(revision(*number), &bytes);
    }
    let store = site.open().await;
    for direction in [Direction::OldestFirst, Direction::NewestFirst] {
        let mut found = found_events(&*store, None, direction).await;
        if direction == Direction::NewestFirst {
            found.reverse();
        }
        assert_eq!(found.len(), 20);
        for (number, found) in (1..).zip(found) {
            let is_damaged = damages.iter().any(|(place, _)| *place == number);
            match found {
                FoundEvent::Event(event) => {
                    assert!(!is_damaged, "{number} passes for whole: {event:?}");
                    assert_eq!(event.revision, revision(number));
                }
                FoundEvent::Damaged { at, why } => {
                    assert!(is_damaged, "{number}: {why}");
                    assert_eq!(at, revision(number));
                    assert!(!why.is_empty());
                }
            }
        }
    }
}

//! Loss of power at any moment, on a disk that keeps what was synced and nothing else for certain.
//!
//! A round commits from several tasks at once until the disk goes dark, opens the store on what the disk kept, and judges
//! what is there. `PORTCULLIS_TEST_SEED` repeats a run's cuts; the tasks' interleaving is the machine's.

mod disk;
#[path = "../support/mod.rs"]
mod support;

use std::{collections::BTreeMap, sync::Arc};

use disk::{Disk, Loss, Plugged, place};
use portcullis::{
    domain::id::Revision,
    store::{
        Batch, CommitError, Direction, FoundEvent, Mutation, Store, Stored, embedded::EmbeddedStore,
    },
};
use support::{
    Random,
    records::{batch, event, found_events, id, load, mutation, put},
};

const ROUNDS: u64 = 1_000;
/// Rounds on one disk, each beginning with what the cut before left.
const ROUNDS_A_DISK: u64 = 20;
/// Tasks that commit at once, each on two records of its own.
const TASKS: u64 = 6;
/// The last call that may be the one that is cut. Opening a store takes the first few dozen.
const LATEST_CUT: u64 = 160;

// --------------------------------------------------------------------------------------------------------- the ledger

/// What the callers know of their commits.
#[derive(Debug, Default, Clone)]
struct Ledger {
    /// The last commit of each task that is certain: how many it has made, and the revision of the last.
    certain: BTreeMap<u64, (u64, Revision)>,
    /// Tasks with one commit more that may or may not be there.
    pending: Vec<u64>,
    /// Every revision that was acknowledged to a caller or told to a follower, and what it was.
    told: BTreeMap<Revision, String>,
}

/// What stands in a store.
#[derive(Debug, Clone)]
struct Found {
    head: Revision,
    /// What each record is called, and its revision.
    records: BTreeMap<u64, (String, Revision)>,
    /// The events' resources, by revision.
    events: Vec<(Revision, String)>,
    /// The revisions of each task's mutations that the store knows, the first ones and two more than it has events.
    done: BTreeMap<u64, Vec<Option<Revision>>>,
}

/// The two records that each commit of a task writes, always with the same name: how many commits the task has made.
fn records_of(task: u64) -> [u64; 2] {
    [task + 1, task + 1_001]
}

/// What each commit of a task is known by.
fn mutation_of(task: u64, count: u64) -> Mutation {
    mutation(task * 1_000_000 + count, 0)
}

fn task_of(resource: &str) -> Option<u64> {
    resource.split_once('/')?.0.parse().ok()
}

fn resource(task: u64, count: u64) -> String {
    format!("{task}/{count}")
}

async fn find(store: &EmbeddedStore) -> Result<Found, String> {
    let (head, stored) = load(store).await;
    let mut records = BTreeMap::new();
    for number in (0..TASKS).flat_map(records_of) {
        match stored.get(&id(number)) {
            None => {}
            Some(Stored::Key(record)) => {
                let name = record.key.display_name.to_string();
                records.insert(number, (name, record.revision));
            }
            Some(other) => return Err(format!("record {number} is {other:?}")),
        }
    }
    if stored.len() != records.len() {
        return Err("there are records that nobody wrote".into());
    }
    let mut events = Vec::new();
    let mut counts = BTreeMap::<u64, u64>::new();
    for found in found_events(store, None, Direction::OldestFirst).await {
        let FoundEvent::Event(found) = found else {
            return Err(format!("{found:?}"));
        };
        let resource = found.event.resource;
        if let Some(task) = task_of(&resource) {
            *counts.entry(task).or_default() += 1;
        }
        events.push((found.revision, resource));
    }
    let mut done = BTreeMap::new();
    for task in 0..TASKS {
        let revisions: &mut Vec<_> = done.entry(task).or_default();
        for count in 1..=counts.get(&task).copied().unwrap_or_default() + 2 {
            let id = mutation_of(task, count).id;
            let found = store.done(id, event("").time).await;
            let found = found.map_err(|error| error.to_string())?;
            revisions.push(found.map(|done| done.revision));
        }
    }
    Ok(Found {
        head,
        records,
        events,
        done,
    })
}

/// Holds what was found against what the callers know. If all is well, the callers know more: what is there is certain.
fn judge(ledger: &mut Ledger, found: &Found) -> Result<(), String> {
    let dense = (1..).map(|number| Revision { epoch: 1, number });
    if !dense
        .zip(&found.events)
        .all(|(due, (revision, _))| due == *revision)
    {
        return Err("the revisions are not dense".into());
    }
    if found.head.number != found.events.len() as u64 {
        let events = found.events.len();
        return Err(format!("the head is {}, with {events} events", found.head));
    }
    let events: BTreeMap<&Revision, &String> = found
        .events
        .iter()
        .map(|(revision, what)| (revision, what))
        .collect();
    for (revision, what) in &ledger.told {
        if events.get(revision) != Some(&what) {
            return Err(format!(
                "{revision} was {what}, and is {:?}",
                events.get(revision)
            ));
        }
    }
    for task in 0..TASKS {
        let [one, other] = records_of(task).map(|number| found.records.get(&number));
        if one != other {
            return Err(format!("half of a commit of {task}: {one:?} and {other:?}"));
        }
        let (known, known_at) = ledger.certain.get(&task).copied().unwrap_or_default();
        let (count, at) = match one {
            None => (0, Revision::default()),
            Some((name, at)) => (name.parse().map_err(|_| format!("a name {name}"))?, *at),
        };
        let possible = known..=known + u64::from(ledger.pending.contains(&task));
        if !possible.contains(&count) || (count == known && at != known_at) {
            return Err(format!(
                "{task} has {count} at {at}; {known} at {known_at} was certain"
            ));
        }
        let own = found.events.iter();
        let mut own = own.filter(|(_, what)| task_of(what) == Some(task));
        let mut due: Vec<_> = own.clone().map(|(revision, _)| Some(*revision)).collect();
        due.extend([None, None]);
        if found.done.get(&task) != Some(&due) {
            let done = found.done.get(&task);
            return Err(format!(
                "{task} is known to have done {done:?}, and did {due:?}"
            ));
        }
        let due = (1..=count).map(|count| resource(task, count));
        if !due.eq(own.clone().map(|(_, what)| what.clone())) {
            return Err(format!(
                "the events of {task} are not those of its {count} commits"
            ));
        }
        if own.next_back().is_some_and(|(last, _)| *last != at) {
            return Err(format!(
                "the last event of {task} is not of its records' revision"
            ));
        }
        ledger.certain.insert(task, (count, at));
    }
    ledger.pending.clear();
    Ok(())
}

/// Commits from all tasks at once until the store fails.
async fn commit_until_dark(store: Arc<EmbeddedStore>, ledger: &mut Ledger) {
    let head = load_head(&store).await;
    let follower = match head {
        Some(head) => store.follow(head).await.ok(),
        None => None,
    };
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..TASKS {
        let store = store.clone();
        let (mut count, mut at) = ledger.certain.get(&task).copied().unwrap_or_default();
        tasks.spawn(async move {
            let mut acknowledged = Vec::new();
            loop {
                let expected = (count > 0).then_some(at);
                let numbers = records_of(task);
                let reads = numbers.map(|number| (id(number), expected)).to_vec();
                let name = (count + 1).to_string();
                let writes = numbers.map(|number| put(number, &name)).to_vec();
                let next = Batch {
                    mutation: Some(mutation_of(task, count + 1)),
                    ..batch(reads, writes, &resource(task, count + 1))
                };
                match store.commit(next).await {
                    Ok(revision) => {
                        (count, at) = (count + 1, revision);
                        acknowledged.push((revision, resource(task, count)));
                    }
                    Err(CommitError::Failed(_)) => return (task, count, at, acknowledged),
                    Err(CommitError::Conflict(id)) => panic!("nobody else writes {id:?}"),
                    Err(CommitError::Repeated(done)) => panic!("it was not there: {done:?}"),
                    Err(CommitError::NotWritten(why)) => panic!("not said by this store: {why}"),
                }
            }
        });
    }
    for (task, count, at, acknowledged) in tasks.join_all().await {
        ledger.certain.insert(task, (count, at));
        ledger.pending.push(task);
        ledger.told.extend(acknowledged);
    }
    // The writer is gone with the store; what it told is all there.
    drop(store);
    if let Some(mut follower) = follower {
        while let Some(change) = follower.recv().await {
            let (_, stored) = &change.records[0];
            let Stored::Key(record) = stored else {
                panic!("told of {stored:?}");
            };
            let task = (record.key.id.bits() - 1) % 1_000;
            let what = format!("{task}/{}", record.key.display_name);
            ledger.told.insert(change.revision, what);
        }
    }
}

async fn load_head(store: &EmbeddedStore) -> Option<Revision> {
    store.head().await.ok()
}

/// A round: the image that a cut left, and what is wrong with it.
async fn round(disk: Disk, ledger: &mut Ledger) -> (Vec<u8>, Result<(), String>) {
    let plugged = Plugged::new(disk);
    // Opening can be cut, too.
    if let Ok(store) = EmbeddedStore::open_backend(plugged.clone()) {
        commit_until_dark(Arc::new(store), ledger).await;
    }
    let image = plugged.pull();
    let whole = Disk::new(image.clone(), u64::MAX, Loss::All, Random::seeded().0);
    let outcome = match EmbeddedStore::open_backend(Plugged::new(whole)) {
        Err(error) => Err(format!("the store does not open: {error}")),
        Ok(store) => find(&store).await.and_then(|found| judge(ledger, &found)),
    };
    (image, outcome)
}

/// An empty store on a quiet disk. Making it is not cut here: a directory's store gets its name when it is made.
fn empty_store() -> Vec<u8> {
    let disk = Disk::new(Vec::new(), u64::MAX, Loss::All, Random::seeded().0);
    let plugged = Plugged::new(disk);
    drop(EmbeddedStore::open_backend(plugged.clone()).expect("a new store"));
    plugged.pull()
}

/// Runs rounds until one finds something wrong, and answers how many commits were acknowledged.
async fn rounds(rounds: u64, lies: bool) -> Result<usize, String> {
    let empty = empty_store();
    let (mut random, seed) = Random::seeded();
    println!("PORTCULLIS_TEST_SEED={seed}");
    let mut acknowledged = 0;
    let (mut image, mut ledger) = (empty.clone(), Ledger::default());
    for number in 0..rounds {
        if number % ROUNDS_A_DISK == 0 {
            acknowledged += ledger.told.len();
            (image, ledger) = (empty.clone(), Ledger::default());
        }
        let loss = match random.below(4) {
            0 => Loss::All,
            1 => Loss::Tail,
            _ => Loss::AnySector,
        };
        let cut = random.below(LATEST_CUT);
        let mut disk = Disk::new(image, cut, loss, random.fork());
        disk.lies = lies;
        let outcome;
        (image, outcome) = round(disk, &mut ledger).await;
        outcome.map_err(|wrong| {
            format!("seed {seed}, round {number}, {loss:?} lost at call {cut}: {wrong}")
        })?;
    }
    acknowledged += ledger.told.len();
    Ok(acknowledged)
}

// ---------------------------------------------------------------------------------------------------------- the tests

#[tokio::test]
async fn nothing_acknowledged_is_lost_and_nothing_is_half_there() {
    let acknowledged = rounds(ROUNDS, false).await;
    let acknowledged = acknowledged.unwrap_or_else(|wrong| panic!("{wrong}"));
    println!("{ROUNDS} rounds, {acknowledged} commits acknowledged");
    assert!(
        acknowledged > place(ROUNDS),
        "cuts that come before any commit show nothing: {acknowledged} were acknowledged"
    );
}

/// The rounds would notice a store that acknowledges what is not on the disk.
#[tokio::test]
async fn a_disk_that_lies_about_its_syncs_is_found_out() {
    let wrong = rounds(50, true)
        .await
        .expect_err("acknowledged changes are gone");
    println!("{wrong}");
}

type Damage = fn(&mut Found);

/// And the judge knows half of a commit when it is shown one.
#[test]
fn the_judge_knows_what_must_not_be() {
    let revision = |number| Revision { epoch: 1, number };
    let at = |number: u64, count: &str| (count.to_owned(), revision(number));
    let good = Found {
        head: revision(3),
        records: BTreeMap::from([
            (1, at(3, "2")),
            (1_001, at(3, "2")),
            (2, at(2, "1")),
            (1_002, at(2, "1")),
        ]),
        events: vec![
            (revision(1), "0/1".into()),
            (revision(2), "1/1".into()),
            (revision(3), "0/2".into()),
        ],
        done: (0..TASKS)
            .map(|task| {
                let done: &[u64] = match task {
                    0 => &[1, 3],
                    1 => &[2],
                    _ => &[],
                };
                let mut done: Vec<_> = done.iter().map(|&number| Some(revision(number))).collect();
                done.extend([None, None]);
                (task, done)
            })
            .collect(),
    };
    let ledger = Ledger {
        certain: BTreeMap::from([(0, (1, revision(1))), (1, (1, revision(2)))]),
        pending: vec![0],
        told: BTreeMap::from([(revision(1), "0/1".into()), (revision(2), "1/1".into())]),
    };
    assert_eq!(judge(&mut ledger.clone(), &good), Ok(()));

    let damages: [(&str, Damage); 12] = [
        ("a record of two", |found| drop(found.records.remove(&1))),
        ("an older record of two", |found| {
            let older = (
                "1".into(),
                Revision {
                    epoch: 1,
                    number: 1,
                },
            );
            found.records.insert(1, older);
        }),
        ("both records lost", |found| {
            found.records.remove(&2);
            found.records.remove(&1_002);
        }),
        ("records without their event", |found| {
            found.events.pop();
            found.head.number = 2;
        }),
        ("an event without its records", |found| {
            for record in [1, 1_001] {
                let older = (
                    "1".into(),
                    Revision {
                        epoch: 1,
                        number: 1,
                    },
                );
                found.records.insert(record, older);
            }
        }),
        ("a head too high", |found| found.head.number = 4),
        ("a head too low", |found| found.head.number = 2),
        ("a hole", |found| drop(found.events.remove(1))),
        ("another event", |found| found.events[1].1 = "1/2".into()),
        ("a commit whose mutation is not known", |found| {
            found.done.get_mut(&0).expect("a task's")[1] = None;
        }),
        ("a mutation without its commit", |found| {
            let later = found.head.next();
            found.done.get_mut(&1).expect("a task's")[1] = Some(later);
        }),
        ("a mutation known for another commit", |found| {
            found.done.get_mut(&0).expect("a task's").swap(0, 1);
        }),
    ];
    for (what, damage) in damages {
        let mut found = good.clone();
        damage(&mut found);
        assert!(judge(&mut ledger.clone(), &found).is_err(), "{what}");
    }
    let mut nothing_pending = Ledger {
        pending: Vec::new(),
        ..ledger
    };
    assert!(judge(&mut nothing_pending, &good).is_err(), "one too many");
}

/// After a sync that failed the cache may be gone while later syncs work. Nothing may be acknowledged on top of it.
#[tokio::test]
async fn after_a_failed_sync_nothing_is_acknowledged() {
    let disk = Disk::new(Vec::new(), u64::MAX, Loss::All, Random::seeded().0);
    let plugged = Plugged::new(disk);
    let store = EmbeddedStore::open_backend(plugged.clone()).expect("a new store");
    let one = |number| batch(vec![], vec![put(number, "")], "");
    for number in 1..=3 {
        store.commit(one(number)).await.expect("a good disk");
    }
    let head = load_head(&store).await.expect("a head");
    let mut changes = store.follow(head).await.expect("a follower");

    plugged.disk().fails_next_sync = true;
    for number in 4..=10 {
        let outcome = store.commit(one(number)).await;
        assert!(
            matches!(outcome, Err(CommitError::Failed(_))),
            "{outcome:?}"
        );
    }
    assert!(!plugged.disk().fails_next_sync, "the sync was tried");
    assert!(changes.try_recv().is_err(), "and nothing is told");
    drop(store);

    let rest = Disk::new(plugged.pull(), u64::MAX, Loss::All, Random::seeded().0);
    let store = EmbeddedStore::open_backend(Plugged::new(rest)).expect("what was synced");
    let (head, records) = load(&store).await;
    assert_eq!((head.number, records.len()), (3, 3));
    assert_eq!(store.commit(one(4)).await.expect("a good disk").number, 4);
}

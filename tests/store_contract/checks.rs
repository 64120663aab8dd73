//! The checks: each is one guarantee, on any store, at a place that is empty at first.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use portcullis::{
    domain::{
        id::{Revision, TokenPrefix, WorkspaceId},
        key::{Key, KeyRecord},
        permission::PermissionSet,
        source::IpAllowlist,
        text::TextMap,
    },
    store::{
        Change, CommitError, EventRecord, RecordId, StoreError, Stored, WorkspaceRecord, Write,
        event_digest,
    },
};
use prost::Message as _;
use sha2::{Digest as _, Sha256};
use tokio::sync::Mutex;

use super::{
    Site,
    support::records::{
        StoredEvent, at, batch, delete, events, id, issue, key, load, put, workspace,
    },
};

pub fn revision(number: u64) -> Revision {
    Revision { epoch: 1, number }
}

/// Commits what must be taken.
#[track_caller]
pub fn taken(outcome: Result<Revision, CommitError>) -> Revision {
    outcome.unwrap_or_else(|error| panic!("a good batch was refused: {error}"))
}

/// Asserts that a batch was refused on account of this record.
#[track_caller]
pub fn conflicts(outcome: Result<Revision, CommitError>, due: &RecordId) {
    match outcome {
        Err(CommitError::Conflict(id)) => assert_eq!(id, *due, "the conflict names the record"),
        Err(error) => panic!("a stale batch failed instead: {error}"),
        Ok(revision) => panic!("a stale batch was taken as {revision}"),
    }
}

pub async fn a_new_store_is_empty(site: Arc<dyn Site>) {
    let store = site.open().await;
    let (head, records) = load(&*store).await;
    assert_eq!((head.number, records.len()), (0, 0));
    assert!(events(&*store).await.is_empty());
    assert!(!store.durability().is_empty(), "operators are told");
}

/// A key with everything that a key can have.
fn full_key() -> Key {
    Key {
        workspace: WorkspaceId::parse("acme").expect("a workspace's id"),
        description: "two\nlines".into(),
        token_prefix: TokenPrefix::parse("acme").expect("a prefix"),
        disabled: true,
        permissions: PermissionSet::new(["sms.send", "otp.send"]),
        ip_allowlist: IpAllowlist::parse(&["10.0.0.0/8", "2001:db8::/32"]).expect("a list"),
        labels: TextMap::from_iter([("team", "payments"), ("env", "live")]),
        update_time: at(1_700_000_000_999_999_999),
        expire_time: Some(at(1_800_000_000_000_000_000)),
        archive_time: Some(at(1_750_000_000_000_000_000)),
        settings: TextMap::from_iter([("default_sender", "Acme")]),
        ..key(1, "Zahlungen – Süd")
    }
}

pub async fn what_is_committed_is_loaded(site: Arc<dyn Site>) {
    let store = site.open().await;
    let full = full_key();
    let secrets = vec![issue(&full, 1).1, issue(&full, 2).1];
    let acme = workspace("acme", "Acme");
    let writes = vec![
        Write::Key(Box::new(full.clone()), secrets.clone()),
        Write::Workspace(acme.clone()),
    ];
    let first = taken(store.commit(batch(vec![], writes, "")).await);

    let acme_id = RecordId::Workspace(acme.id.clone());
    let due = |key: &Key, secrets, revision| {
        Stored::Key(Box::new(KeyRecord {
            key: key.clone(),
            secrets,
            revision,
        }))
    };
    let mut all = BTreeMap::from([
        (id(1), due(&full, secrets.clone(), first)),
        (
            acme_id,
            Stored::Workspace(WorkspaceRecord {
                workspace: acme,
                revision: first,
            }),
        ),
    ]);
    assert_eq!(load(&*store).await, (first, all.clone()));

    // A change replaces the record as a whole, and no other.
    let changed = Key {
        disabled: false,
        expire_time: None,
        labels: TextMap::default(),
        settings: TextMap::default(),
        ..full
    };
    let secrets = secrets[1..].to_vec();
    let write = Write::Key(Box::new(changed.clone()), secrets.clone());
    let second = batch(vec![(id(1), Some(first))], vec![write], "");
    let second = taken(store.commit(second).await);
    all.insert(id(1), due(&changed, secrets, second));
    assert_eq!(load(&*store).await, (second, all));
}

pub async fn revisions_are_dense_from_one(site: Arc<dyn Site>) {
    let store = site.open().await;
    for number in 1..=20 {
        let one = batch(vec![], vec![put(number, "")], "");
        assert_eq!(taken(store.commit(one).await), revision(number));
        assert_eq!(load(&*store).await.0, revision(number));
    }
    let mut commits = tokio::task::JoinSet::new();
    for number in 21..=120 {
        let store = store.clone();
        commits.spawn(async move { store.commit(batch(vec![], vec![put(number, "")], "")).await });
    }
    let mut revisions: Vec<Revision> = commits.join_all().await.into_iter().map(taken).collect();
    revisions.sort_unstable();
    assert_eq!(revisions, (21..=120).map(revision).collect::<Vec<_>>());
}

pub async fn a_stale_read_set_writes_nothing(site: Arc<dyn Site>) {
    let store = site.open().await;
    let acme = workspace("acme", "Acme");
    let acme_id = RecordId::Workspace(acme.id.clone());
    taken(store.commit(batch(vec![], vec![put(1, "one")], "")).await);
    taken(store.commit(batch(vec![], vec![put(2, "two")], "")).await);
    let third = vec![put(1, "one again"), Write::Workspace(acme)];
    taken(store.commit(batch(vec![], third, "")).await);
    let before = load(&*store).await;

    let other = WorkspaceId::parse("other").expect("a workspace's id");
    for (stale, expected) in [
        (id(1), Some(revision(1))),
        (id(1), Some(revision(2))),
        (id(1), Some(revision(4))),
        (id(2), Some(revision(3))),
        (id(1), None),
        (id(9), Some(revision(3))),
        (acme_id.clone(), Some(revision(2))),
        (acme_id.clone(), None),
        (RecordId::Workspace(other), Some(revision(1))),
    ] {
        // Stale first, last, and among what is right.
        let right = [(id(2), Some(revision(2))), (id(8), None)];
        for place in 0..=right.len() {
            let mut reads = right.to_vec();
            reads.insert(place, (stale.clone(), expected));
            let writes = vec![
                put(2, "changed"),
                put(7, "new"),
                delete(1),
                Write::Workspace(workspace("acme", "changed")),
            ];
            conflicts(store.commit(batch(reads, writes, "")).await, &stale);
        }
    }
    assert_eq!(load(&*store).await, before, "no record, no revision");
    assert_eq!(events(&*store).await.len(), 3, "no event");

    let reads = vec![
        (id(1), Some(revision(3))),
        (id(2), Some(revision(2))),
        (id(9), None),
        (acme_id, Some(revision(3))),
    ];
    let right = store
        .commit(batch(reads, vec![put(2, "changed")], ""))
        .await;
    assert_eq!(taken(right), revision(4), "the number was not used up");
}

pub async fn a_batch_is_one_revision_all_or_nothing(site: Arc<dyn Site>) {
    let store = site.open().await;
    let first = vec![put(1, "one"), put(2, "two"), put(3, "three")];
    assert_eq!(
        taken(store.commit(batch(vec![], first, "")).await),
        revision(1)
    );
    let writes = vec![
        put(1, "changed"),
        delete(2),
        put(4, "four"),
        Write::Workspace(workspace("acme", "Acme")),
    ];
    let reads = vec![(id(1), Some(revision(1))), (id(4), None)];
    assert_eq!(
        taken(store.commit(batch(reads, writes, "")).await),
        revision(2)
    );

    let (head, records) = load(&*store).await;
    assert_eq!(head, revision(2));
    let acme = RecordId::Workspace(workspace("acme", "").id);
    let found: Vec<(RecordId, u64)> = records
        .iter()
        .map(|(id, stored)| (id.clone(), revision_of(stored).number))
        .collect();
    assert_eq!(found, [(id(1), 2), (id(3), 1), (id(4), 2), (acme, 2)]);
    assert_eq!(events(&*store).await.len(), 2, "one event a batch");
}

#[track_caller]
pub fn revision_of(stored: &Stored) -> Revision {
    match stored {
        Stored::Key(record) => record.revision,
        Stored::Workspace(record) => record.revision,
        Stored::Unreadable(why) => panic!("unreadable: {why}"),
        Stored::Retired(revision) => *revision,
        Stored::Gone => panic!("a snapshot does not tell what is gone"),
    }
}

pub async fn a_deleted_record_is_gone(site: Arc<dyn Site>) {
    let store = site.open().await;
    let first = vec![put(1, "one"), put(2, "two")];
    taken(store.commit(batch(vec![], first, "")).await);
    let delete = || vec![delete(1)];
    taken(
        store
            .commit(batch(vec![(id(1), Some(revision(1)))], delete(), ""))
            .await,
    );
    let (_, records) = load(&*store).await;
    assert_eq!(records.keys().collect::<Vec<_>>(), [&id(2)]);

    // Whoever decided on it as it was is refused; whoever knows that it is gone is not.
    let stale = batch(vec![(id(1), Some(revision(1)))], vec![put(1, "")], "");
    conflicts(store.commit(stale).await, &id(1));
    let again = batch(vec![(id(1), None)], vec![put(1, "again")], "");
    assert_eq!(taken(store.commit(again).await), revision(3));
    assert_eq!(revision_of(&load(&*store).await.1[&id(1)]), revision(3));
}

pub async fn every_revision_has_its_event(site: Arc<dyn Site>) {
    let store = site.open().await;
    for number in 1..=5 {
        let resource = format!("resource {number}");
        taken(
            store
                .commit(batch(vec![], vec![put(number, "")], &resource))
                .await,
        );
        let stale = batch(vec![(id(1), None)], vec![put(1, "")], "refused");
        conflicts(store.commit(stale).await, &id(1));
    }
    let events = events(&*store).await;
    let numbers: Vec<Revision> = events.iter().map(|event| event.revision).collect();
    assert_eq!(numbers, (1..=5).map(revision).collect::<Vec<_>>());
    drop(store);
    for record in events {
        let stored = StoredEvent {
            digest: record.digest.to_vec(),
            ..StoredEvent::of(&record)
        };
        assert_eq!(site.event(record.revision), stored.encode_to_vec());
        let EventRecord {
            schema,
            revision,
            event,
            digest,
        } = record.clone();
        let due = batch(vec![], vec![], &format!("resource {}", revision.number)).event;
        assert_eq!((schema, &event), (2, &due));
        // The digest as the format has it, and as whoever holds an event can compute it.
        let told = StoredEvent::of(&record).encode_to_vec();
        assert_eq!(digest, *Sha256::digest(told), "the digest verifies");
        assert_eq!(digest, event_digest(schema, revision, &event));
    }
}

pub async fn no_event_holds_a_secret(site: Arc<dyn Site>) {
    let store = site.open().await;
    let key = key(1, "");
    let (secret, sealed) = issue(&key, 1);
    let phc = sealed.verifier.to_phc();
    let screen = sealed.screen;
    let write = Write::Key(Box::new(key), vec![sealed]);
    taken(store.commit(batch(vec![], vec![write], "")).await);

    drop(store);
    let event = site.event(revision(1));
    let mut parts: Vec<&[u8]> = phc.split('$').skip(4).map(str::as_bytes).collect();
    assert_eq!(parts.len(), 2, "salt and hash: {phc}");
    let screens = [screen.to_be_bytes(), screen.to_le_bytes()];
    parts.extend(screens.iter().map(|bytes| &bytes[..]));
    parts.push(&secret.expose().as_bytes()[..8]);
    for part in parts {
        let holds = event.windows(part.len()).any(|window| window == part);
        assert!(!holds, "an event holds a part of a secret");
    }
}

pub async fn of_concurrent_commits_one_wins(site: Arc<dyn Site>) {
    const AT_ONCE: usize = 16;
    let store = site.open().await;
    let mut read = None;
    for round in 1..=10 {
        let mut commits = tokio::task::JoinSet::new();
        for contender in 0..AT_ONCE {
            let store = store.clone();
            commits.spawn(async move {
                let name = contender.to_string();
                // The write that comes along is to a record of the contender's own.
                let writes = vec![put(1, &name), put(10 + contender as u64, &name)];
                (
                    contender,
                    store.commit(batch(vec![(id(1), read)], writes, "")).await,
                )
            });
        }
        let mut winners = Vec::new();
        for (contender, outcome) in commits.join_all().await {
            match outcome {
                Ok(revision) => winners.push((contender, revision)),
                refused => conflicts(refused, &id(1)),
            }
        }
        let [(winner, won)] = winners[..] else {
            panic!("not one winner, but {winners:?}");
        };
        assert_eq!(won, revision(round));
        let (head, records) = load(&*store).await;
        assert_eq!(head, won);
        let written: Vec<&RecordId> = records
            .iter()
            .filter(|(_, stored)| revision_of(stored) == won)
            .map(|(id, _)| id)
            .collect();
        assert_eq!(written, [&id(1), &id(10 + winner as u64)]);
        read = Some(won);
    }
    assert_eq!(events(&*store).await.len(), 10);
}

pub async fn a_snapshot_is_of_one_revision(site: Arc<dyn Site>) {
    let store = site.open().await;
    let between = (2..5_000).map(|number| put(number, "")).collect();
    taken(store.commit(batch(vec![], between, "")).await);
    let stop = Arc::new(AtomicBool::new(false));
    let writer = tokio::spawn({
        let (store, stop) = (store.clone(), stop.clone());
        async move {
            while !stop.load(Ordering::Relaxed) {
                // Far apart, so that one load reads them at different times if it can.
                let writes = vec![put(1, ""), put(5_000, "")];
                taken(store.commit(batch(vec![], writes, "")).await);
            }
        }
    });
    // Stops it also when a snapshot turns out wrong.
    let _stop = StopOnDrop(stop.clone());
    for _ in 0..20 {
        let (head, records) = load(&*store).await;
        let newest = records.values().map(revision_of).max();
        assert_eq!(newest, Some(head), "of another revision than it says");
        let of = |number| records.get(&id(number)).map(revision_of);
        assert_eq!(of(1), of(5_000), "half of a batch is there");
    }
    stop.store(true, Ordering::Relaxed);
    writer.await.expect("the writer is through");
}

struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

pub async fn followers_hear_everything_once_in_order(site: Arc<dyn Site>) {
    const TASKS: u64 = 4;
    const EACH: u64 = 25;
    let store = site.open().await;
    taken(
        store
            .commit(batch(vec![], vec![put(1, "before")], ""))
            .await,
    );
    let mut followers = Vec::new();
    for _ in 0..2 {
        followers.push(
            store
                .follow(revision(1))
                .await
                .expect("a follower at the head"),
        );
    }
    let committed = Arc::new(Mutex::new(BTreeMap::new()));
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..TASKS {
        let (store, committed) = (store.clone(), committed.clone());
        tasks.spawn(async move {
            for n in 0..EACH {
                let record = 10 + task;
                let (name, write) = match n % 5 {
                    4 => (None, delete(record)),
                    _ => (Some(n.to_string()), put(record, &n.to_string())),
                };
                let stale = batch(vec![(id(1), None)], vec![put(1, "")], "");
                conflicts(store.commit(stale).await, &id(1));
                let at = taken(store.commit(batch(vec![], vec![write], "")).await);
                committed.lock().await.insert(at, (id(record), name));
            }
        });
    }
    for (number, follower) in followers.iter_mut().enumerate() {
        let mut heard = Vec::new();
        for due in 2..2 + TASKS * EACH {
            let Change {
                after,
                revision: at,
                records,
            } = follower.recv().await.expect("the store is open");
            assert_eq!(at, revision(due), "every change in order, exactly once");
            assert_eq!(after, revision(due - 1), "it says what it comes after");
            if number == 0 {
                let there = load(&*store).await.0;
                assert!(there >= at, "{at} was told before it was there");
            }
            heard.push((at, records));
        }
        while let Some(done) = tasks.join_next().await {
            done.expect("a writer is through");
        }
        let committed = committed.lock().await;
        for (at, records) in heard {
            let (record, name) = &committed[&at];
            match (&records[..], name) {
                ([(id, Stored::Gone)], None) => assert_eq!(id, record),
                ([(id, Stored::Key(found))], Some(name)) => {
                    assert_eq!((id, found.revision), (record, at));
                    assert_eq!(*found.key.display_name, **name);
                }
                found => panic!("{at} was told as {found:?}"),
            }
        }
        assert!(follower.try_recv().is_err(), "and nothing else");
    }
}

pub async fn a_follower_starts_where_it_asked_or_not_at_all(site: Arc<dyn Site>) {
    let store = site.open().await;
    for number in 1..=3 {
        taken(store.commit(batch(vec![], vec![put(number, "")], "")).await);
    }
    let mut followers = Vec::new();
    for from in [
        revision(0),
        revision(1),
        revision(2),
        revision(3),
        revision(4),
    ] {
        followers.push((from, store.follow(from).await));
    }
    taken(store.commit(batch(vec![], vec![put(4, "")], "")).await);
    for (from, follower) in followers {
        match follower {
            Ok(mut changes) => {
                let first = changes.recv().await.expect("the store is open").revision;
                assert_eq!(first, from.next(), "a gap after {from}");
                assert!(from.number <= 3, "{from} was ahead of the head");
            }
            Err(StoreError::Gap(gap)) => {
                assert_eq!(gap, from);
                assert_ne!(from.number, 3, "the head can always be followed from");
            }
            Err(error) => panic!("{error}"),
        }
    }
}

pub async fn a_store_lasts(site: Arc<dyn Site>) {
    let mut due = (revision(0), BTreeMap::new());
    let mut all = Vec::new();
    for round in 0..3 {
        let store = site.open().await;
        let found = load(&*store).await;
        assert_eq!((found.0.number, &found.1), (due.0.number, &due.1));
        assert_eq!(events(&*store).await, all);
        for number in 1..=5 {
            let expected = found.1.get(&id(number)).map(revision_of);
            let reads = vec![(id(number), expected)];
            let at = store.commit(batch(reads, vec![put(number, "")], "")).await;
            assert_eq!(taken(at), revision(round * 5 + number), "it goes on");
        }
        due = load(&*store).await;
        all = events(&*store).await;
    }
    assert_eq!(all.len(), 15);
}

//! Several stores at once on one server.

use std::sync::Arc;

use portcullis::{
    config::{DEFAULT_LEASE, RedisSettings},
    store::{
        CommitError, Store as _, StoreError, Stored, redis::RedisStore, shared::SharedStore as _,
    },
};

use super::{
    Site, next, open,
    proxy::Proxy,
    report, revision,
    support::records::{batch, events, id, load, put},
    write,
};

/// Every change of one key is decided on the one before: none is lost, and all are one chain.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_stores_that_commit_at_once_no_update_is_lost() {
    const EACH: u64 = 60;
    let Ok(site) = Site::new(&[]).await else {
        return;
    };
    let watcher = site.open("watcher").await;
    let mut changes = watcher.follow(revision(0)).await.expect("a follower");
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..3 {
        let store = Arc::new(site.open(&format!("writer {task}")).await);
        tasks.spawn(async move {
            let mut lost = 0;
            for _ in 0..EACH {
                // Counts up: reads the key, and writes it with one more.
                loop {
                    let (_, records) = load(&*store).await;
                    let (read, count) = match records.get(&id(1)) {
                        Some(Stored::Key(record)) => (
                            Some(record.revision),
                            record.key.display_name.parse::<u64>().expect("a count"),
                        ),
                        None => (None, 0),
                        other => panic!("{other:?}"),
                    };
                    let name = (count + 1).to_string();
                    let one = batch(vec![(id(1), read)], vec![put(1, &name)], "");
                    match store.commit(one).await {
                        Ok(_) => break,
                        Err(CommitError::Conflict(_)) => lost += 1,
                        Err(error) => panic!("{error}"),
                    }
                }
            }
            lost
        });
    }
    let conflicts: u64 = tasks.join_all().await.into_iter().sum();
    assert!(conflicts > 0, "they met");
    let (head, records) = load(&watcher).await;
    assert_eq!(head, revision(3 * EACH), "dense");
    let Some(Stored::Key(record)) = records.get(&id(1)) else {
        panic!("{records:?}");
    };
    assert_eq!(*record.key.display_name, *(3 * EACH).to_string());
    for number in 1..=3 * EACH {
        let change = next(&mut changes).await.expect("a change");
        assert_eq!(change.after, revision(number - 1));
        assert_eq!(change.revision, revision(number));
        let [(_, Stored::Key(record))] = &change.records[..] else {
            panic!("{change:?}");
        };
        assert_eq!(*record.key.display_name, *number.to_string());
    }
    assert_eq!(events(&watcher).await.len() as u64, 3 * EACH);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_commits_the_others_hear_of_and_what_they_acknowledge_it_hears_of() {
    let Ok(site) = Site::new(&[]).await else {
        return;
    };
    let writer = site.open("writer").await;
    let other = site.open("other").await;
    let mut changes = other.follow(revision(0)).await.expect("a follower");
    let mut heard = writer.acknowledgements();
    heard.mark_unchanged();
    write(&writer, 1, "one").await.expect("written");
    let change = next(&mut changes).await.expect("a change");
    assert_eq!(change.revision, revision(1));
    other.renew(report(revision(1))).await.expect("renewed");
    tokio::time::timeout(super::PATIENCE, heard.changed())
        .await
        .expect("it is told")
        .expect("the store is open");
    let roll = writer.roll().await.expect("the members");
    assert_eq!(roll.members.len(), 1);
    assert_eq!(roll.members[0].applied, revision(1));
}

/// A replica that was away while the log was cut reads everything anew.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_away_for_longer_than_the_log_reaches_is_told_so_and_can_load() {
    let Ok(site) = Site::new(&[]).await else {
        return;
    };
    let proxy = Proxy::to(site.server.port()).await;
    let away = site.open_by(proxy.port).await;
    let mut changes = away.follow(revision(0)).await.expect("a follower");
    let writer = site.open("writer").await.keep_in_log(10);
    write(&writer, 1, "one").await.expect("written");
    assert!(next(&mut changes).await.is_some());

    proxy.close();
    for number in 2..=300 {
        write(&writer, number % 7, "").await.expect("written");
    }
    let standing = super::standing(&writer).await;
    assert!(standing.floor > revision(1), "{}", standing.floor);
    proxy.open();
    assert!(
        next(&mut changes).await.is_none(),
        "it may have missed some"
    );
    match away.follow(revision(1)).await {
        Err(StoreError::Gap(at)) => assert_eq!(at, revision(1)),
        other => panic!("{other:?}"),
    }
    let (head, records) = load(&away).await;
    assert_eq!((head, records.len()), (revision(300), 7));
    // The floor is as far back as one can follow from, and no farther.
    let floor = standing.floor;
    let mut changes = away.follow(floor).await.expect("a follower");
    let first = next(&mut changes).await.expect("a change");
    assert_eq!((first.after, first.revision), (floor, floor.next()));
    let before = revision(floor.number - 1);
    assert!(matches!(away.follow(before).await, Err(StoreError::Gap(_))));
}

/// What is loaded while others write is what stood there at one revision, with nothing that was deleted meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_amid_commits_is_of_one_revision() {
    let Ok(site) = Site::new(&[]).await else {
        return;
    };
    let writer = Arc::new(site.open("writer").await);
    let many = (1..2_000).map(|number| put(number, "")).collect();
    writer
        .commit(batch(vec![], many, ""))
        .await
        .expect("written");
    let reader = site.open("reader").await;
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let writing = tokio::spawn({
        let (writer, stop) = (writer.clone(), stop.clone());
        async move {
            let mut number = 0;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                number += 1;
                // Moves a key: one is deleted, and another comes, so there are always as many.
                let moved = vec![
                    super::support::records::delete(number),
                    put(10_000 + number, ""),
                ];
                writer
                    .commit(batch(vec![], moved, ""))
                    .await
                    .expect("written");
            }
        }
    });
    for _ in 0..20 {
        let (head, records) = load(&reader).await;
        let moved = head.number - 1;
        assert_eq!(records.len(), 1_999, "at {head}");
        for number in 1..=moved.min(1_999) {
            assert!(!records.contains_key(&id(number)), "{number} at {head}");
            assert!(
                records.contains_key(&id(10_000 + number)),
                "{number} at {head}"
            );
        }
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    writing.await.expect("the writer is through");
}

/// Two stores of the same name in two databases share their channels, and nothing else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stores_in_another_database_or_namespace_are_apart() {
    let Ok(site) = Site::new(&[]).await else {
        return;
    };
    let own = site.open("own").await;
    let mut changes = own.follow(revision(0)).await.expect("a follower");
    for settings in [
        RedisSettings {
            database: 1,
            ..site.settings.clone()
        },
        RedisSettings {
            namespace: "other".to_owned(),
            ..site.settings.clone()
        },
    ] {
        let made = RedisStore::make(&settings, "maker", DEFAULT_LEASE).await;
        assert!(made.expect("a store").1);
        let made = RedisStore::make(&settings, "maker", DEFAULT_LEASE).await;
        assert!(!made.expect("a store").1, "it is there already");
        let other = open(&settings, "other").await;
        assert_ne!(
            super::standing(&other).await.history.store,
            super::standing(&own).await.history.store
        );
        for _ in 0..20 {
            write(&other, 1, "other").await.expect("written");
        }
        other.renew(report(revision(20))).await.expect("renewed");
        assert_eq!(own.head().await.expect("a head"), revision(0));
        assert!(own.roll().await.expect("the members").members.is_empty());
    }
    write(&own, 1, "own").await.expect("written");
    let change = next(&mut changes).await.expect("a change");
    assert_eq!(change.revision, revision(1));
    let (_, Stored::Key(record)) = &change.records[0] else {
        panic!("{change:?}");
    };
    assert_eq!(&*record.key.display_name, "own");
}

/// Whoever may publish can wake, and no more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forged_messages_change_nothing() {
    let Ok(site) = Site::new(&[]).await else {
        return;
    };
    let store = site.open("store").await;
    let other = site.open("other").await;
    write(&other, 1, "one").await.expect("written");
    let mut changes = store.follow(revision(1)).await.expect("a follower");
    let before = site.digest();
    let id = super::standing(&store).await.history.store;
    let (_, incarnation) = store.own();
    let look = Site::key(&format!("look:{incarnation}"));
    let hints = Site::key("hints");
    let good = format!("{id} 1 2");
    for message in [
        &b""[..],
        b"garbage",
        b"\xff\xfe",
        good.as_bytes(),
        format!("{id} 1 18446744073709551615").as_bytes(),
        format!("{id} 4294967295 1").as_bytes(),
        format!("{id} 1").as_bytes(),
        format!("{id} 1 2 3").as_bytes(),
        format!("{id} -1 +2").as_bytes(),
        b"00000000000000000000000000000000 1 2",
        &vec![b'1'; 100_000],
    ] {
        for channel in [&hints, &look] {
            site.server.cli(&[b"PUBLISH", channel.as_bytes(), message]);
        }
    }
    assert_eq!(site.digest(), before);
    assert_eq!(store.head().await.expect("a head"), revision(1));
    write(&other, 2, "two").await.expect("written");
    let change = next(&mut changes).await.expect("a change");
    assert_eq!(change.revision, revision(2), "the first that was heard of");
    assert!(changes.try_recv().is_err(), "and nothing else");
}

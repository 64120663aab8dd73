//! Histories: a server that was restarted is not trusted before somebody has looked into it.

use portcullis::{
    domain::{event::Action, id::Revision},
    store::{
        CommitError, Store as _, StoreError,
        shared::{History, Report, SharedError, SharedStore as _},
    },
};

use super::{
    Site, assert_not_written, next, report, revision, standing,
    support::records::{at, events, load},
    write,
};

fn epoch_2(number: u64) -> Revision {
    Revision { epoch: 2, number }
}

fn is_other_history<T>(outcome: &Result<T, SharedError>) -> bool {
    matches!(outcome, Err(SharedError::OtherHistory(_)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_written_in_a_history_that_was_not_adopted() {
    let Ok(site) = Site::new(&[]).await else {
        return;
    };
    let store = portcullis::store::redis::RedisStore::connect(&site.settings, "new")
        .await
        .expect("it opens");
    let good = standing(&store).await.history;
    let others = [
        None,
        Some(History {
            store: "0".repeat(32),
            ..good.clone()
        }),
        Some(History {
            epoch: 2,
            ..good.clone()
        }),
        Some(History {
            server: "another:one".to_owned(),
            ..good.clone()
        }),
    ];
    let before = site.digest();
    for other in others {
        if let Some(other) = other {
            store.adopt(other);
        }
        assert_not_written(&write(&store, 1, "").await, "another history");
        assert!(is_other_history(&store.renew(report(revision(0))).await));
        assert!(is_other_history(&store.remove("x", 1).await));
        assert!(is_other_history(&store.leave().await));
        // These are answered in whatever history.
        assert_eq!(standing(&store).await.history, good);
        assert!(store.roll().await.expect("the members").members.is_empty());
        assert_eq!(site.digest(), before);
    }
    store.adopt(good);
    assert_eq!(write(&store, 1, "").await.expect("written"), revision(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_is_another_history_until_an_epoch_is_opened_on_it() {
    let Ok(mut site) = Site::new(&[]).await else {
        return;
    };
    let store = site.open("store").await;
    let other = site.open("other").await;
    for number in 1..=3 {
        write(&store, number, "").await.expect("written");
    }
    let mut changes = store.follow(revision(2)).await.expect("a follower");
    assert_eq!(
        next(&mut changes).await.expect("a change").revision,
        revision(3)
    );
    other.renew(report(revision(3))).await.expect("renewed");
    site.server.restart();

    super::eventually("it is connected again", || async {
        store.standing().await.is_ok() && other.standing().await.is_ok()
    })
    .await;
    let found = standing(&store).await;
    assert_ne!(found.server, found.history.server, "it was restarted");
    assert!(found.settled);
    assert_not_written(&write(&store, 4, "").await, "another history");
    match store.renew(report(revision(3))).await {
        Err(SharedError::OtherHistory(standing)) => assert_eq!(*standing, {
            let mut due = found.clone();
            due.time = standing.time;
            due
        }),
        outcome => panic!("{outcome:?}"),
    }
    assert_eq!(store.roll().await.expect("the members").members.len(), 1);

    let now = at(1_700_000_000_000_000_000);
    store.open_epoch(&found, now).await.expect("opened");
    let before = site.digest();
    // Whoever comes second changes nothing, and it is no error.
    other
        .open_epoch(&found, now)
        .await
        .expect("it has moved on");
    assert_eq!(site.digest(), before);
    let opened = standing(&store).await;
    assert_eq!((opened.history.epoch, opened.head), (2, epoch_2(1)));
    assert_eq!(opened.history.store, found.history.store);
    assert_eq!(opened.history.server, opened.server);
    assert_eq!(opened.opened_after.get(&2), Some(&revision(3)));
    assert!(!opened.settled, "leases of the epoch before may last");
    assert!(store.roll().await.expect("the members").members.is_empty());
    // Nobody is in it before having adopted it.
    assert_not_written(&write(&store, 4, "").await, "not adopted");
    assert!(is_other_history(&store.renew(report(revision(3))).await));
    // Again without a restart: nothing.
    other.open_epoch(&opened, now).await.expect("nothing to do");
    assert_eq!(standing(&other).await.history, opened.history);

    store.adopt(opened.history.clone());
    let first = next(&mut changes).await.expect("a change");
    assert_eq!((first.after, first.revision), (revision(3), epoch_2(1)));
    assert!(first.records.is_empty());
    assert_eq!(write(&store, 4, "").await.expect("written"), epoch_2(2));
    let second = next(&mut changes).await.expect("a change");
    assert_eq!((second.after, second.revision), (epoch_2(1), epoch_2(2)));
    let (head, records) = load(&store).await;
    assert_eq!((head, records.len()), (epoch_2(2), 4));

    let events = events(&store).await;
    let revisions: Vec<_> = events.iter().map(|event| event.revision).collect();
    let due = [
        revision(1),
        revision(2),
        revision(3),
        epoch_2(1),
        epoch_2(2),
    ];
    assert_eq!(revisions, due);
    let opening = &events[3].event;
    assert_eq!(
        (&*opening.method, opening.action),
        ("OpenEpoch", Action::Update)
    );
    assert_eq!(opening.actor, "portcullis");

    // Settled is what a member says that has waited, and it stays.
    let settled = store.renew(report(epoch_2(2))).await.expect("renewed");
    assert!(!settled.settled);
    let waited = Report {
        applied: epoch_2(2),
        renewals: 2,
        settled: true,
    };
    assert!(store.renew(waited).await.expect("renewed").settled);
    let after = store.renew(report(epoch_2(2))).await.expect("renewed");
    assert!(after.settled);
}

/// What it acknowledged from then on it might lose, and nobody would have asked it again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_epoch_is_opened_on_a_server_that_came_back_with_weaker_settings() {
    let Ok(mut site) = Site::new(&[]).await else {
        return;
    };
    let store = site.open("replica").await;
    write(&store, 1, "").await.expect("written");
    for (line, is_fit) in [
        ("appendfsync everysec", false),
        ("maxmemory-policy allkeys-lru", false),
        ("maxmemory-policy noeviction", true),
    ] {
        site.server.configure(&[line]);
        site.server.restart();
        let mut found = store.standing().await;
        while found.is_err() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            found = store.standing().await;
        }
        let found = found.expect("it stands somewhere");
        assert_ne!(found.server, found.history.server);
        let opened = store.open_epoch(&found, at(1)).await;
        assert_eq!(opened.is_ok(), is_fit, "{line}: {opened:?}");
        let epoch = standing(&store).await.history.epoch;
        assert_eq!(epoch, 1 + u32::from(is_fit), "{line}");
    }
}

/// A replica has seen more than the server that came back has: it has lost an acknowledged change.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_epoch_is_opened_on_a_server_that_lost_what_a_member_had_applied() {
    let Ok(mut site) = Site::new(&[]).await else {
        return;
    };
    let store = site.open("store").await;
    write(&store, 1, "").await.expect("written");
    store.renew(report(revision(2))).await.expect("renewed");
    site.server.restart();
    super::eventually("it is connected again", || async {
        store.standing().await.is_ok()
    })
    .await;
    let found = standing(&store).await;
    let before = site.digest();
    match store.open_epoch(&found, at(1)).await {
        Err(SharedError::Store(StoreError::Failed(why))) => {
            assert!(why.contains("1.1") && why.contains(store.own().1), "{why}");
        }
        outcome => panic!("{outcome:?}"),
    }
    assert_eq!(site.digest(), before);
}

/// The head, the server or the store is another than the one that was found: somebody was faster, or it is not that store.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_epoch_is_opened_on_what_was_found_or_not_at_all() {
    let Ok(mut site) = Site::new(&[]).await else {
        return;
    };
    let store = site.open("store").await;
    write(&store, 1, "").await.expect("written");
    site.server.restart();
    super::eventually("it is connected again", || async {
        store.standing().await.is_ok()
    })
    .await;
    let found = standing(&store).await;
    let before = site.digest();
    let mut wrong = vec![found.clone(); 4];
    wrong[0].head = revision(2);
    wrong[1].server = found.history.server.clone();
    wrong[2].history.server = found.server.clone();
    wrong[3].history.epoch = 7;
    for wrong in wrong {
        store.open_epoch(&wrong, at(1)).await.expect("moved on");
        assert_eq!(site.digest(), before, "{wrong:?}");
    }
    let mut another = found.clone();
    another.history.store = "0".repeat(32);
    assert!(is_other_history(&store.open_epoch(&another, at(1)).await));
    assert_eq!(site.digest(), before);
    // What would make a script fail half-way is found out before it begins.
    for name in ["log", "audit", "members"] {
        let key = Site::key(name);
        site.server.try_cli(&["RENAME", &*key, "away"]).ok();
        site.server.cli(&["SET", &*key, "a text"]);
        let before = site.digest();
        let outcome = store.open_epoch(&found, at(1)).await;
        assert!(outcome.is_err(), "{name}: {outcome:?}");
        assert_eq!(site.digest(), before, "{name}");
        site.server.cli(&["DEL", &*key]);
        site.server.try_cli(&["RENAME", "away", &*key]).ok();
    }
    store.open_epoch(&found, at(1)).await.expect("opened");
    assert_eq!(standing(&store).await.head, epoch_2(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_was_emptied_is_no_store_and_one_made_anew_is_another() {
    let Ok(site) = Site::new(&[]).await else {
        return;
    };
    let store = site.open("store").await;
    write(&store, 1, "").await.expect("written");
    let mut changes = store.follow(revision(1)).await.expect("a follower");
    site.server.cli(&["FLUSHALL"]);
    let before = site.digest();
    assert_not_written(&write(&store, 2, "").await, "there is no store");
    assert!(store.standing().await.is_err());
    assert!(store.head().await.is_err());
    assert!(store.roll().await.is_err());
    assert!(store.load().await.is_err());
    assert!(store.follow(revision(1)).await.is_err());
    assert!(store.renew(report(revision(1))).await.is_err());
    assert!(store.remove("x", 0).await.is_err());
    assert!(store.leave().await.is_err());
    let id = portcullis::store::MutationId([0; 32]);
    assert!(store.done(id, at(1)).await.is_err());
    assert_eq!(site.digest(), before, "nothing is made in passing");

    let made = portcullis::store::redis::RedisStore::make(
        &site.settings,
        "maker",
        portcullis::config::DEFAULT_LEASE,
    )
    .await;
    let (anew, is_new) = made.expect("a store can be made");
    assert!(is_new);
    for number in 1..=5 {
        write(&anew, number, "new").await.expect("written");
    }
    assert_not_written(&write(&store, 2, "").await, "another store");
    assert!(is_other_history(&store.renew(report(revision(1))).await));
    assert!(store.done(id, at(1)).await.is_err());
    assert!(store.follow(revision(1)).await.is_err());
    assert!(store.load().await.is_err());
    assert!(store.head().await.is_err());
    let direction = portcullis::store::Direction::OldestFirst;
    assert!(store.events(None, direction).await.is_err());
    // The other store's changes are not taken for this one's.
    let own = History {
        server: "gone".to_owned(),
        ..standing(&anew).await.history
    };
    store.adopt(own);
    assert!(next(&mut changes).await.is_none());
}

/// Leftovers would be taken for the new store's own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_store_is_made_on_what_is_left_of_another() {
    let Ok(site) = Site::new(&[]).await else {
        return;
    };
    let store = site.open("store").await;
    write(&store, 1, "").await.expect("written");
    store.renew(report(revision(1))).await.expect("renewed");
    let keys = site.server.cli(&["KEYS", "*"]);
    let keys: Vec<String> = redis::from_redis_value(keys).expect("keys");
    assert_eq!(
        keys.len(),
        6,
        "ctl, log, audit, quiet, members, a bucket: {keys:?}"
    );
    let ctl = Site::key("ctl");
    for kept in keys.iter().filter(|key| **key != ctl) {
        site.server.cli(&["COPY", kept, "kept"]);
        site.server.cli(&["COPY", &*ctl, "kept ctl"]);
        for key in &keys {
            site.server.cli(&["RENAME", key, &*format!("away {key}")]);
        }
        site.server.cli(&["RENAME", "kept", kept]);
        let before = site.digest();
        let made = portcullis::store::redis::RedisStore::make(
            &site.settings,
            "maker",
            portcullis::config::DEFAULT_LEASE,
        )
        .await;
        let error = made.map(drop).expect_err("something is left");
        assert!(error.to_string().contains(kept), "{error}");
        assert_eq!(site.digest(), before);
        site.server.cli(&["DEL", kept, "kept ctl"]);
        for key in &keys {
            site.server.cli(&["RENAME", &*format!("away {key}"), key]);
        }
    }
    assert_eq!(write(&store, 2, "").await.expect("written"), revision(2));
}

/// An answer that is lost over a restart: what was written is known, and what was not is not claimed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_amid_a_restart_is_acknowledged_only_if_it_lasts() {
    let Ok(mut site) = Site::new(&[]).await else {
        return;
    };
    let store = std::sync::Arc::new(site.open("store").await);
    for round in 1..=5 {
        let head = standing(&store).await.head;
        let committing = tokio::spawn({
            let store = store.clone();
            async move {
                let mut acknowledged = Vec::new();
                for number in 0.. {
                    match write(&store, number, "").await {
                        Ok(at) => acknowledged.push(at),
                        Err(CommitError::NotWritten(_) | CommitError::Failed(_)) => break,
                        Err(error) => panic!("{error}"),
                    }
                }
                acknowledged
            }
        });
        super::eventually("it commits", || async {
            store.head().await.is_ok_and(|now| now > head)
        })
        .await;
        site.server.restart();
        let acknowledged = committing.await.expect("it ends");
        super::eventually("it is connected again", || async {
            store.standing().await.is_ok()
        })
        .await;
        let found = standing(&store).await;
        let last = acknowledged.last().copied().unwrap_or_default();
        assert!(
            found.head >= last,
            "{last} was acknowledged, {}",
            found.head
        );
        assert!(found.head.number <= last.number + 1, "one was under way");
        store.open_epoch(&found, at(1)).await.expect("opened");
        let opened = standing(&store).await;
        assert_eq!(opened.history.epoch, round + 1);
        store.adopt(opened.history);
    }
    events(&*store).await;
}

//! A server that has no memory left, takes no writes, forbids, stops, or throws connections away.

use std::time::{Duration, Instant};

use portcullis::{
    config::{DEFAULT_LEASE, Password, RedisSettings},
    domain::event::{Action, Event},
    store::{
        Batch, CommitError, Direction, Store as _, StoreError, redis::RedisStore,
        shared::SharedStore as _,
    },
};

use super::{
    Site, assert_not_written, next, open, report, revision, standing,
    support::records::{at, batch, delete, event, events, found_events, id, load, mutation, put},
    write,
};

/// A batch whose event tells of this call.
fn by(action: Action, method: &'static str) -> Batch {
    Batch {
        event: Event {
            action,
            method: method.into(),
            ..event("")
        },
        mutation: Some(mutation(1, 7)),
        ..batch(vec![], vec![put(1, "")], "")
    }
}

/// Whoever fills the server must not keep anybody from revoking a key.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_no_memory_left_keys_are_taken_away_and_none_is_given() {
    let Ok(mut site) = Site::new(&[]).await else {
        return;
    };
    let store = site.open("store").await;
    write(&store, 1, "").await.expect("written");
    site.server.cli(&["CONFIG", "SET", "maxmemory", "1"]);
    assert!(
        site.server.try_cli(&["SET", "a", "b"]).is_err(),
        "it is full"
    );
    let before = site.digest();
    for refused in [
        by(Action::Create, "CreateKey"),
        by(Action::Create, "CreateWorkspace"),
        by(Action::Update, "EnableKey"),
    ] {
        assert_not_written(&store.commit(refused).await, "it opens something");
        assert_eq!(site.digest(), before);
    }
    for (number, (action, method)) in (2..).zip([
        (Action::Update, "DisableKey"),
        (Action::Update, "UpdateKey"),
        (Action::Delete, "DeleteKey"),
    ]) {
        let tightening = Batch {
            mutation: Some(mutation(number, 7)),
            ..by(action, method)
        };
        let at = store.commit(tightening).await;
        assert_eq!(at.expect("written"), revision(number));
    }
    let renewed = store.renew(report(revision(4))).await.expect("renewed");
    assert_eq!(renewed.head, revision(4));
    // So does everything that has to go on.
    let mut changes = store.follow(revision(3)).await.expect("a follower");
    assert_eq!(
        next(&mut changes).await.expect("a change").revision,
        revision(4)
    );
    assert_eq!(load(&store).await.0, revision(4));
    assert_eq!(events(&store).await.len(), 4);
    let other = site.open("other").await;
    other.renew(report(revision(4))).await.expect("renewed");
    assert!(store.remove(other.own().1, 1).await.expect("an answer"));
    store.leave().await.expect("it leaves");

    site.server.kill();
    site.server.configure(&["maxmemory 1"]);
    site.server.start_again();
    super::eventually("it is connected again", || async {
        store.standing().await.is_ok()
    })
    .await;
    let found = standing(&store).await;
    store.open_epoch(&found, at(1)).await.expect("opened");
    assert_eq!(standing(&store).await.history.epoch, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_lost_its_place_takes_nothing() {
    let Ok(site) = Site::new(&[]).await else {
        return;
    };
    let store = site.open("store").await;
    write(&store, 1, "").await.expect("written");
    // Of a primary that is not there.
    site.server.cli(&["REPLICAOF", "127.0.0.1", "1"]);
    assert_not_written(&write(&store, 2, "").await, "a replica");
    assert!(store.renew(report(revision(1))).await.is_err());
    assert!(store.leave().await.is_err());
    assert!(store.remove("x", 1).await.is_err());
    site.server.cli(&["REPLICAOF", "NO", "ONE"]);
    // It may have become another history by that: it was out of our sight.
    assert_eq!(load(&store).await.0, revision(1));
}

/// The rights that docs name: no more are needed.
const RIGHTS: &[&str] = &[
    "+info",
    "+acl|getuser",
    "+config|get",
    "+subscribe",
    "+publish",
    "+evalsha",
    "+script|load",
    "+time",
    "+type",
    "+exists",
    "+get",
    "+set",
    "+hget",
    "+hmget",
    "+hgetall",
    "+hscan",
    "+hset",
    "+hdel",
    "+xadd",
    "+xrange",
    "+xrevrange",
    "+xtrim",
    "+xinfo|stream",
];
const PASSWORD: &str = "correct-horse-4711";

/// Gives the user `portcullis` these rights, on one namespace.
fn give(site: &Site, rights: &[&str]) {
    let mut rule = vec![
        "ACL",
        "SETUSER",
        "portcullis",
        "reset",
        "on",
        ">correct-horse-4711",
        "~{own:0}:*",
        "&{own:0}:*",
        "-@all",
    ];
    rule.extend(rights);
    site.server.cli(&rule);
}

fn as_user(site: &Site) -> RedisSettings {
    RedisSettings {
        user: Some("portcullis".to_owned()),
        password: Some(Password::new(PASSWORD.to_owned())),
        namespace: "own".to_owned(),
        ..site.settings.clone()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_with_the_rights_that_are_named_can_do_everything() {
    let Ok(mut site) = Site::new(&[]).await else {
        return;
    };
    give(&site, RIGHTS);
    let settings = as_user(&site);
    let (store, is_new) = RedisStore::make(&settings, "maker", DEFAULT_LEASE)
        .await
        .expect("a store can be made");
    assert!(is_new);
    let store = store.keep_in_log(10);
    let mut changes = store.follow(revision(0)).await.expect("a follower");
    for number in 1..=150 {
        let one = Batch {
            reads: vec![(id(number), None)],
            quiet: Some((portcullis::domain::id::WorkspaceId::system(), revision(0))),
            mutation: Some(mutation(number, 7)),
            ..batch(vec![], vec![put(number, ""), delete(number - 1)], "")
        };
        let at = store.commit(one).await.expect("written");
        assert_eq!(at, revision(number));
        assert_eq!(next(&mut changes).await.expect("a change").revision, at);
    }
    assert!(
        standing(&store).await.floor > revision(0),
        "the log was cut"
    );
    let nothing = Batch {
        mutation: Some(mutation(999, 7)),
        ..batch(vec![(id(150), Some(revision(150)))], vec![], "")
    };
    store.commit(nothing).await.expect("remembered");
    assert!(
        store
            .done(mutation(999, 7).id, at(1))
            .await
            .expect("an answer")
            .is_some()
    );
    assert_eq!(load(&store).await.1.len(), 1);
    assert_eq!(events(&store).await.len(), 150);
    let back = found_events(&store, None, Direction::NewestFirst).await;
    assert_eq!(back.len(), 150);
    store.renew(report(revision(150))).await.expect("renewed");
    let other = open(&settings, "other").await;
    other.renew(report(revision(150))).await.expect("renewed");
    assert!(other.remove(store.own().1, 1).await.expect("an answer"));
    other.leave().await.expect("it leaves");
    drop(other);

    // The user is gone with the restart, and comes back.
    site.server.restart();
    give(&site, RIGHTS);
    super::eventually("it is connected again", || async {
        store.standing().await.is_ok()
    })
    .await;
    let found = standing(&store).await;
    store
        .renew(report(revision(150)))
        .await
        .expect_err("another history");
    store.open_epoch(&found, at(1)).await.expect("opened");
    let opened = standing(&store).await;
    assert_eq!(opened.history.epoch, 2);
    store.adopt(opened.history);
    write(&store, 1, "").await.expect("written");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_one_of_the_rights_a_commit_writes_nothing_at_all() {
    let Ok(site) = Site::new(&[]).await else {
        return;
    };
    give(&site, RIGHTS);
    let settings = as_user(&site);
    let (store, _) = RedisStore::make(&settings, "maker", DEFAULT_LEASE)
        .await
        .expect("a store can be made");
    let one = |number| Batch {
        reads: vec![(id(1), None)],
        quiet: Some((portcullis::domain::id::WorkspaceId::system(), revision(0))),
        mutation: Some(mutation(number, 7)),
        ..batch(vec![], vec![put(number, ""), delete(7)], "")
    };
    assert_eq!(store.commit(one(2)).await.expect("written"), revision(1));
    for right in RIGHTS {
        let unneeded = [
            "+config|get",
            "+subscribe",
            "+script|load",
            "+hscan",
            "+xrevrange",
            "+hgetall",
            "+acl|getuser",
            "+xrange",
        ];
        let rights: Vec<_> = RIGHTS.iter().copied().filter(|it| it != right).collect();
        give(&site, &rights);
        let before = site.digest();
        if *right == "+publish" {
            // A hint that is not told is made good by the next renewal.
            assert_eq!(store.commit(one(3)).await.expect("written"), revision(2));
            continue;
        }
        if unneeded.contains(right) {
            continue;
        }
        assert_not_written(&store.commit(one(4)).await, right);
        assert_eq!(site.digest(), before, "{right}");
    }
    give(&site, RIGHTS);
    assert_eq!(store.commit(one(5)).await.expect("written"), revision(3));
}

/// A server that stops without a word: every call ends in time, and all goes on by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stops_for_a_while_is_found_again() {
    let Ok(site) = Site::new(&[]).await else {
        return;
    };
    let store = site.open("store").await;
    let other = site.open("other").await;
    write(&store, 1, "").await.expect("written");
    let mut changes = store.follow(revision(1)).await.expect("a follower");
    site.server.pause();
    let began = Instant::now();
    let outcome = write(&store, 2, "").await;
    assert!(
        matches!(outcome, Err(CommitError::Failed(StoreError::Failed(_)))),
        "it was sent, so nobody can tell: {outcome:?}"
    );
    assert!(store.renew(report(revision(1))).await.is_err());
    assert!(store.standing().await.is_err());
    assert!(store.roll().await.is_err());
    assert!(
        began.elapsed() < Duration::from_secs(12),
        "{:?}",
        began.elapsed()
    );
    site.server.resume();

    // Without anybody calling: the subscription is there again, and what came while it was not is told.
    let at = loop {
        match write(&other, 3, "").await {
            Ok(at) => break at,
            Err(error) => drop(error),
        }
    };
    let mut last = revision(1);
    while last < at {
        let change = next(&mut changes).await.expect("a change");
        assert_eq!(change.after, last);
        last = change.revision;
    }
    assert!(at <= revision(4), "each was written once at most: {at}");
    assert_eq!(events(&store).await.len() as u64, at.number);
    store.renew(report(at)).await.expect("renewed");
}

/// Nothing tells an idle process that its connection is gone but the connection itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_are_thrown_away_come_back_without_a_call() {
    let Ok(site) = Site::new(&[]).await else {
        return;
    };
    let idle = site.open("idle").await;
    let mut changes = idle.follow(revision(0)).await.expect("a follower");
    let mut acknowledged = idle.acknowledgements();
    let mut number = 0;
    for kind in ["pubsub", "normal", "pubsub", "normal"] {
        site.server
            .try_cli(&["CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes"])
            .expect("killed");
        let other = site.open("other").await;
        number += 1;
        write(&other, number, "").await.expect("written");
        let change = next(&mut changes).await.expect("a change");
        assert_eq!(change.revision, revision(number), "after {kind}");
        // What it wrote is acknowledged, and it hears of that.
        write(&idle, 99, "").await.expect("written");
        number += 1;
        next(&mut changes).await.expect("a change");
        let mut theirs = other
            .follow(revision(number - 1))
            .await
            .expect("a follower");
        next(&mut theirs).await.expect("a change");
        acknowledged.mark_unchanged();
        other
            .renew(report(revision(number)))
            .await
            .expect("renewed");
        tokio::time::timeout(super::PATIENCE, acknowledged.changed())
            .await
            .expect("it is told")
            .expect("the store is open");
    }
}

/// The scripts are gone from the server, as after a restart: they are sent again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_forgot_the_scripts_is_given_them_again() {
    let Ok(site) = Site::new(&[]).await else {
        return;
    };
    let store = site.open("store").await;
    for number in 1..=3 {
        assert_eq!(
            write(&store, 1, "").await.expect("written"),
            revision(number)
        );
        store
            .renew(report(revision(number)))
            .await
            .expect("renewed");
        site.server.cli(&["SCRIPT", "FLUSH"]);
    }
}

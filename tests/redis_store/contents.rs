//! What stands in Redis is not trusted: what was not written by us is unreadable or an error, and never simply absent.

use portcullis::{
    domain::id::WorkspaceId,
    store::{
        Batch, CommitError, Direction, FoundEvent, Portion, RecordId, Store as _, StoreError,
        Stored, shared::SharedStore as _,
    },
};

use super::{
    Site, assert_not_written, next, report, revision, standing,
    support::records::{at, batch, found_events, id, load, mutation, put},
    write,
};

/// Two keys, the second written twice.
async fn filled() -> Option<(Site, portcullis::store::redis::RedisStore)> {
    let site = Site::new(&[]).await.ok()?;
    let store = site.open("store").await;
    for number in [1, 2, 2] {
        write(&store, number, "").await.expect("written");
    }
    Some((site, store))
}

/// Bucket, row and value of the key with this number.
fn row_of(site: &Site, number: u64) -> (String, Vec<u8>, Vec<u8>) {
    let row = [&b"k"[..], &u128::from(number).to_be_bytes()].concat();
    let found = site.rows().into_iter().find(|(_, found, _)| *found == row);
    found.expect("the key's row")
}

fn set(site: &Site, key: &str, row: &[u8], value: &[u8]) {
    site.server.cli(&[b"HSET", key.as_bytes(), row, value]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_is_not_what_was_written_there_is_unreadable() {
    let Some((site, store)) = filled().await else {
        return;
    };
    let (bucket, row, good) = row_of(&site, 1);
    let (_, _, others) = row_of(&site, 2);
    let record = &good[4..];
    assert_eq!(&good[..4], b"1.1 ");
    let ahead = [b"1.9 ", record].concat();
    let mut newer_schema = good.clone();
    assert_eq!(newer_schema[4..6], [8, 2], "the schema comes first");
    newer_schema[5] = 9;
    let mut inner_ahead = good.clone();
    assert_eq!(
        inner_ahead[8..10],
        [24, 1],
        "then the epoch, and the number"
    );
    inner_ahead[9] = 9;
    inner_ahead[..4].copy_from_slice(b"1.9 ");
    for (value, what) in [
        (b"garbage".to_vec(), "garbage"),
        (Vec::new(), "nothing"),
        (b"1.1 ".to_vec(), "no record"),
        (b"1.1 garbage".to_vec(), "garbage behind a revision"),
        (record.to_vec(), "no revision before it"),
        ([b"1.2 ", record].concat(), "an older revision in it"),
        (ahead, "a revision ahead before it"),
        (inner_ahead, "a revision ahead of the head"),
        ([b"01.1 ", record].concat(), "another spelling"),
        (others, "another key's record"),
        (newer_schema, "a newer schema"),
        (good[..good.len() - 1].to_vec(), "a part of it"),
    ] {
        set(&site, &bucket, &row, &value);
        let (head, records) = load(&store).await;
        assert_eq!((head, records.len()), (revision(3), 2), "{what}");
        let found = records.get(&id(1)).expect("not absent");
        assert!(matches!(found, Stored::Unreadable(_)), "{what}: {found:?}");
        assert!(matches!(records[&id(2)], Stored::Key(_)), "{what}");
    }
    set(&site, &bucket, &row, &good);
    assert!(matches!(load(&store).await.1[&id(1)], Stored::Key(_)));
    // What nobody can have read, nobody can have decided on.
    set(&site, &bucket, &row, b"garbage");
    let before = site.digest();
    for read in [None, Some(revision(1))] {
        let decided = batch(vec![(id(1), read)], vec![put(1, "")], "");
        let outcome = store.commit(decided).await;
        assert!(
            matches!(outcome, Err(CommitError::Conflict(_))),
            "{outcome:?}"
        );
    }
    assert_eq!(site.digest(), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_is_no_records_or_in_another_bucket_is_told() {
    let Some((site, store)) = filled().await else {
        return;
    };
    let (bucket, row, good) = row_of(&site, 1);
    set(&site, &bucket, b"zzz", &good);
    let (other, _, _) = row_of(&site, 2);
    assert_ne!(bucket, other);
    set(&site, &other, &row, &good);
    let (_, records) = load(&store).await;
    assert!(matches!(records[&id(1)], Stored::Key(_)));
    for row in [&b"zzz"[..], &row] {
        let found = &records[&RecordId::Unknown(row.into())];
        assert!(matches!(found, Stored::Unreadable(_)), "{found:?}");
    }
    // Without the right one the other does not stand in for it.
    site.server.cli(&[b"HDEL", bucket.as_bytes(), &row]);
    assert!(!load(&store).await.1.contains_key(&id(1)));
}

/// Reads all that can be had; what went wrong, if it was not complete.
async fn try_load(store: &portcullis::store::redis::RedisStore) -> Result<(), StoreError> {
    let mut portions = store.load().await?;
    while let Some(portion) = portions.recv().await {
        if let Portion::Complete(_) = portion? {
            return Ok(());
        }
    }
    Err(StoreError::Failed("it just ended".to_owned()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_of_another_type_is_an_error_and_nothing_is_written() {
    let Some((site, store)) = filled().await else {
        return;
    };
    let (bucket, ..) = row_of(&site, 1);
    // Touches everything but the members.
    let all = || Batch {
        mutation: Some(mutation(1, 7)),
        quiet: Some((WorkspaceId::system(), revision(0))),
        reads: vec![(id(1), Some(revision(1)))],
        ..batch(vec![], vec![put(1, "")], "")
    };
    let only_writes = || batch(vec![], vec![put(1, "")], "");
    let done = Site::key(&format!("done:0000000000000001{}", "0".repeat(48)));
    let [ctl, log, audit, quiet, members] =
        ["ctl", "log", "audit", "quiet", "members"].map(Site::key);
    let keys = [&ctl, &log, &audit, &quiet, &members, &bucket, &done];
    for name in keys {
        let is_there = site.server.try_cli(&["RENAME", name, "away"]).is_ok();
        for wrong in [["SET", "a text"], ["RPUSH", "a list"]] {
            site.server.cli(&[wrong[0], name, wrong[1]]);
            let before = site.digest();
            if name != &members {
                // A text may be what is known of the mutation, and cannot be read.
                let outcome = store.commit(all()).await;
                match &outcome {
                    Err(CommitError::Failed(_)) if name == &done && wrong[0] == "SET" => {}
                    outcome => assert_not_written(outcome, name),
                }
            }
            if name != &members && name != &done {
                assert_not_written(&store.commit(only_writes()).await, name);
            }
            assert_eq!(site.digest(), before, "{name}");
            if name == &ctl || name == &members {
                assert!(store.renew(report(revision(3))).await.is_err());
                assert!(store.roll().await.is_err());
                assert!(store.leave().await.is_err());
                assert!(store.remove("x", 1).await.is_err());
            }
            if name == &ctl || name == &bucket {
                assert!(try_load(&store).await.is_err(), "{name}");
            }
            if name == &log {
                assert!(store.follow(revision(3)).await.is_err());
                assert!(try_load(&store).await.is_err());
            }
            if name == &done {
                let known = store.done(mutation(1, 7).id, at(1)).await;
                assert!(known.is_err(), "{known:?}");
            }
            assert_eq!(site.digest(), before, "{name}");
            site.server.cli(&["DEL", name]);
        }
        if is_there {
            site.server.cli(&["RENAME", "away", name]);
        }
    }
    assert_eq!(store.commit(all()).await.expect("written"), revision(4));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_ahead_of_the_head_takes_no_commit() {
    let Some((site, store)) = filled().await else {
        return;
    };
    for name in ["log", "audit"].map(Site::key) {
        site.server.cli(&["COPY", &*name, "kept"]);
        site.server.cli(&["XADD", &*name, "1-9", "x", "forged"]);
        let before = site.digest();
        assert_not_written(&write(&store, 1, "").await, &name);
        assert_eq!(site.digest(), before, "{name}");
        site.server.cli(&["DEL", &*name]);
        site.server.cli(&["RENAME", "kept", &*name]);
        // Neither if the forged entry is gone again.
        site.server.cli(&["COPY", &*name, "kept"]);
        site.server.cli(&["XSETID", &*name, "1-9"]);
        let before = site.digest();
        assert_not_written(&write(&store, 1, "").await, &name);
        assert_eq!(site.digest(), before, "{name}");
        site.server.cli(&["DEL", &*name]);
        site.server.cli(&["RENAME", "kept", &*name]);
    }
    assert_eq!(write(&store, 1, "").await.expect("written"), revision(4));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_known_of_a_mutation_and_cannot_be_read_is_not_taken_for_nothing() {
    let Some((site, store)) = filled().await else {
        return;
    };
    let once = || Batch {
        mutation: Some(mutation(1, 7)),
        ..batch(vec![], vec![put(1, "")], "")
    };
    store.commit(once()).await.expect("written");
    let done = Site::key(&format!("done:0000000000000001{}", "0".repeat(48)));
    let good = site.server.cli(&["GET", &*done]);
    let good: Vec<u8> = redis::from_redis_value(good).expect("a text");
    let space = good.iter().position(|byte| *byte == b' ').expect("a time");
    let another_time = [b"1700000000.2", &good[space..]].concat();
    for wrong in [
        b"garbage".to_vec(),
        Vec::new(),
        good[space + 1..].to_vec(),
        good[..=space].to_vec(),
        another_time,
    ] {
        site.server.cli(&[b"SET", done.as_bytes(), &wrong]);
        let before = site.digest();
        let outcome = store.commit(once()).await;
        assert!(
            matches!(outcome, Err(CommitError::Failed(_))),
            "{outcome:?}"
        );
        let known = store.done(mutation(1, 7).id, at(1)).await;
        assert!(known.is_err(), "{known:?}");
        assert_eq!(site.digest(), before);
    }
}

/// A stream's: its id, and its fields.
type Entry = (String, Vec<(String, Vec<u8>)>);

/// A follower that does not understand a change, or misses one, says so by ending.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_cannot_be_followed_ends_the_following() {
    let Some((site, store)) = filled().await else {
        return;
    };
    let log = Site::key("log");
    let third = site.server.cli(&["XRANGE", &*log, "1-3", "1-3"]);
    let third: Vec<Entry> = redis::from_redis_value(third).expect("an entry");
    let third = third[0].1[0].1.clone();
    let entries: [Option<(&[u8], Vec<u8>)>; 4] = [
        None,
        Some((b"c", b"garbage".to_vec())),
        Some((b"x", third.clone())),
        // Another's change under this id.
        Some((b"c", third)),
    ];
    for entry in entries {
        let mut changes = store.follow(revision(3)).await.expect("a follower");
        let ctl = Site::key("ctl");
        if let Some((field, value)) = &entry {
            site.server
                .cli(&[b"XADD", log.as_bytes(), b"1-4", field, value]);
        }
        site.server.cli(&["HSET", &*ctl, "head", "1.4"]);
        // It is told by the standing that there is more.
        store.renew(report(revision(3))).await.expect("renewed");
        assert!(next(&mut changes).await.is_none(), "{entry:?}");
        assert!(store.follow(revision(3)).await.is_err());
        assert!(try_load(&store).await.is_ok(), "the records are all there");
        site.server.cli(&["HSET", &*ctl, "head", "1.3"]);
        site.server.cli(&["XTRIM", &*log, "MINID", "1-9"]);
        site.server.cli(&["DEL", &*log]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ctl_that_makes_no_sense_is_an_error() {
    let Some((site, store)) = filled().await else {
        return;
    };
    let ctl = Site::key("ctl");
    let good = standing(&store).await;
    for (field, wrong) in [
        ("store", "garbage"),
        ("epoch", "x"),
        ("epoch", "2"),
        ("head", "garbage"),
        ("head", "1.999999999999999999"),
        ("head", "2.1"),
        ("floor", ""),
        ("lease_ms", "-1"),
        ("buckets", "0"),
        ("buckets", "9999999"),
        ("settled", "x"),
        ("opened_after:x", "1.1"),
        ("opened_after:2", "x"),
    ] {
        let before = site.server.cli(&["HGET", &*ctl, field]);
        site.server.cli(&["HSET", &*ctl, field, wrong]);
        let found = store.standing().await;
        assert!(found.is_err(), "{field} {wrong}: {found:?}");
        assert!(store.renew(report(revision(3))).await.is_err(), "{field}");
        match before {
            redis::Value::BulkString(before) => {
                site.server
                    .cli(&[b"HSET", ctl.as_bytes(), field.as_bytes(), &before]);
            }
            _ => drop(site.server.cli(&["HDEL", &*ctl, field])),
        }
    }
    assert_eq!(standing(&store).await.head, good.head);
    // Records would be looked for where they are not.
    site.server.cli(&["HSET", &*ctl, "buckets", "255"]);
    let before = site.digest();
    assert_not_written(&write(&store, 1, "").await, "another number of buckets");
    assert_eq!(site.digest(), before);
}

/// Whoever takes an event away leaves a gap that shows, wherever it is but at the start.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_is_missing_is_told() {
    let Some((site, store)) = filled().await else {
        return;
    };
    for number in 4..=9 {
        write(&store, number, "").await.expect("written");
    }
    let audit = Site::key("audit");
    site.server
        .cli(&["XDEL", &*audit, "1-1", "1-3", "1-5", "1-6", "1-9"]);
    for (direction, due) in [
        (
            Direction::OldestFirst,
            vec![
                (2, true),
                (3, false),
                (4, true),
                (5, false),
                (7, true),
                (8, true),
                (9, false),
            ],
        ),
        (
            Direction::NewestFirst,
            vec![
                (9, false),
                (8, true),
                (7, true),
                (6, false),
                (4, true),
                (3, false),
                (2, true),
            ],
        ),
    ] {
        let found: Vec<_> = found_events(&store, None, direction)
            .await
            .into_iter()
            .map(|found| match found {
                FoundEvent::Event(event) => (event.revision.number, true),
                FoundEvent::Damaged { at, .. } => (at.number, false),
            })
            .collect();
        assert_eq!(found, due, "{direction:?}");
    }
}

//! Events that something else wrote into the store's file.

use std::path::Path;

use portcullis::{
    admin::audit::offline::{FileVerdict, verify_file},
    domain::chain::ChainHead,
    proto::v1::{BrokenLink, ErrorReason},
};
use prost::Message as _;
use redb::{Database, TableDefinition};
use sha2::{Digest as _, Sha256};
use tonic::Code;

use super::{
    ALL, Clients, DEFAULT, ListEventsRequest, all, create_key, export, json_lines, key_named, list,
    support::{Setup, assert_refused, reason_of, records::StoredEvent},
    verify,
};

const EVENTS: TableDefinition<(u32, u64), &[u8]> = TableDefinition::new("events");

/// Changes what stands in the place of an event; `None`: nothing.
fn edit(data_dir: &Path, number: u64, change: impl FnOnce(StoredEvent) -> Option<StoredEvent>) {
    let database = Database::open(data_dir.join("store.redb")).expect("the store's file");
    let transaction = database.begin_write().expect("a transaction");
    {
        let mut events = transaction.open_table(EVENTS).expect("events");
        let place = (1, number);
        let bytes = events
            .remove(place)
            .expect("readable")
            .expect("an event")
            .value()
            .to_vec();
        let event = StoredEvent::decode(&*bytes).expect("an event");
        if let Some(event) = change(event) {
            let bytes = event.encode_to_vec();
            events.insert(place, &*bytes).expect("writable");
        }
    }
    transaction.commit().expect("committed");
}

/// As whoever knows the layout would do it.
fn with_digest(mut event: StoredEvent) -> StoredEvent {
    event.digest.clear();
    event.digest = Sha256::digest(event.encode_to_vec()).to_vec();
    event
}

fn forged(mut event: StoredEvent) -> StoredEvent {
    event.actor = "local:1".into();
    event
}

const EVENTS_THERE: i64 = 10;

/// A store of ten events in a directory of its own, and its head.
async fn history(data_dir: &Path) -> String {
    let server = Setup::new().data_dir(data_dir).start();
    let root = Clients::root(&server);
    for number in 1..EVENTS_THERE {
        let made = key_named(&format!("key {number}"), &[]);
        create_key(&root, DEFAULT, made).await.expect("root may");
    }
    let verified = verify(&root, "").await.expect("root may");
    assert!(verified.intact && verified.event_count == EVENTS_THERE);
    server.stop();
    verified.head
}

#[tokio::test]
async fn an_event_that_was_changed_or_taken_out_is_named() {
    type Tampering = fn(StoredEvent) -> Option<StoredEvent>;
    let tamperings: [(&str, u64, Tampering, u64, &str); 5] = [
        (
            "changed",
            4,
            |event| Some(forged(event)),
            4,
            "its digest says",
        ),
        (
            "the first, changed",
            1,
            |event| Some(forged(event)),
            1,
            "its digest says",
        ),
        ("taken out", 4, |_| None, 5, "where 1.4 is due"),
        ("the first, taken out", 1, |_| None, 2, "where 1.1 is due"),
        (
            "that of another revision",
            4,
            |mut event| {
                event.number = 3;
                Some(with_digest(event))
            },
            4,
            "the event of 1.3",
        ),
    ];
    for (what, number, tampering, named, why) in tamperings {
        let directory = tempfile::tempdir().expect("a directory");
        let data_dir = directory.path().join("data");
        history(&data_dir).await;
        edit(&data_dir, number, tampering);
        let server = Setup::new().data_dir(&data_dir).start();
        let root = Clients::root(&server);
        let verified = verify(&root, "").await.expect("root may");
        assert!(!verified.intact, "{what}");
        let BrokenLink { revision, reason } = verified.broken_link.expect("named");
        assert_eq!(revision, format!("1.{named}"), "{what}: {reason}");
        assert!(reason.contains(why), "{what}: {reason}");
        let before = number - 1;
        assert_eq!(verified.event_count.unsigned_abs(), before, "{what}");
        assert!(
            verified
                .head
                .ends_with(if before == 0 { "0000" } else { "" }),
            "{what}"
        );

        // An export ends there, with an error, behind the lines that came before.
        let mut stream = root
            .audit
            .clone()
            .export_events(json_lines(ALL))
            .await
            .expect("begun")
            .into_inner();
        let mut bytes = Vec::new();
        let error = loop {
            match stream.message().await {
                Ok(Some(piece)) => bytes.extend(piece.data),
                Ok(None) => panic!("{what}: an export that ends says that it is complete"),
                Err(error) => break error,
            }
        };
        assert_eq!(error.code(), Code::Unavailable, "{what}: {error:?}");
        assert_eq!(reason_of(&error), ErrorReason::RecordUnreadable, "{what}");
        let lines = String::from_utf8(bytes).expect("text").lines().count();
        assert_eq!(lines as u64, before, "{what}");
    }
}

/// A page ends before an event that cannot be read, and the next one is the error; the other side is seen from there.
#[tokio::test]
async fn a_list_does_not_pass_over_an_event_that_cannot_be_read() {
    let directory = tempfile::tempdir().expect("a directory");
    let data_dir = directory.path().join("data");
    history(&data_dir).await;
    edit(&data_dir, 4, |event| Some(forged(event)));
    let server = Setup::new().data_dir(&data_dir).start();
    let root = Clients::root(&server);
    for (order, due) in [("time desc", 6), ("time", 3)] {
        let mut request = ListEventsRequest {
            order_by: order.into(),
            ..all(ALL)
        };
        let page = list(&root, request.clone())
            .await
            .expect("a page")
            .into_inner();
        assert_eq!(page.events.len(), due, "{order}");
        request.page_token = page.next_page_token;
        assert_refused(
            order,
            list(&root, request).await,
            Code::Unavailable,
            ErrorReason::RecordUnreadable,
            &[],
        );
    }
}

/// Whoever can write events can make their digests, too. Only a head that was kept elsewhere tells.
#[tokio::test]
async fn a_forgery_with_a_new_digest_is_found_by_the_anchor_alone() {
    let directory = tempfile::tempdir().expect("a directory");
    let data_dir = directory.path().join("data");
    let head = history(&data_dir).await;
    edit(&data_dir, 4, |event| Some(with_digest(forged(event))));
    let server = Setup::new().data_dir(&data_dir).start();
    let root = Clients::root(&server);
    let verified = verify(&root, "").await.expect("root may");
    assert!(
        verified.intact,
        "it does not contradict itself: {verified:?}"
    );
    assert_ne!(verified.head, head);
    let verified = verify(&root, &head).await.expect("root may");
    let broken = verified.broken_link.expect("the anchor is missed");
    assert!(!verified.intact);
    assert_eq!(broken.revision, "1.10", "the anchor's: {}", broken.reason);

    let bytes = export(&root, json_lines(ALL))
        .await
        .expect("it does not contradict itself");
    let whole = verify_file(&*bytes, None).expect("readable");
    assert!(matches!(whole, FileVerdict::Whole { .. }), "{whole:?}");
    let anchor = ChainHead::parse(&head).expect("a head");
    let missed = verify_file(&*bytes, Some(anchor)).expect("readable");
    assert!(
        matches!(missed, FileVerdict::Broken { line: 10, .. }),
        "{missed:?}"
    );
}

#[tokio::test]
async fn an_anchor_is_checked_before_it_is_believed() {
    let directory = tempfile::tempdir().expect("a directory");
    let data_dir = directory.path().join("data");
    let head = history(&data_dir).await;
    let server = Setup::new().data_dir(&data_dir).start();
    let root = Clients::root(&server);
    assert!(verify(&root, &head).await.expect("root may").intact);
    let (_, hash) = head.split_once(':').expect("a head");
    for bad in [
        "1.10",
        "1.10:",
        ":",
        hash,
        &head[..head.len() - 1],
        &format!("{head}0"),
        &head.to_uppercase().replace("1.10", "01.10"),
        &format!("{head} "),
    ] {
        let request = portcullis::proto::v1::VerifyEventsRequest { anchor: bad.into() };
        let refused = root.audit.clone().verify_events(request).await;
        let (code, reason) = (Code::InvalidArgument, ErrorReason::InvalidField);
        assert_refused(bad, refused, code, reason, &["anchor"]);
    }
    for ahead in [format!("1.11:{hash}"), format!("2.1:{hash}")] {
        let refused = verify(&root, &ahead).await.expect_err("ahead");
        assert_eq!(refused.code(), Code::FailedPrecondition, "{ahead}");
        assert_eq!(reason_of(&refused), ErrorReason::RevisionAhead, "{ahead}");
    }
    for (other, at) in [
        (format!("1.9:{hash}"), "1.9"),
        (format!("1.0:{hash}"), "1.0"),
    ] {
        let verified = verify(&root, &other).await.expect("root may");
        let broken = verified.broken_link.expect("another hash");
        assert_eq!(broken.revision, at);
    }
}

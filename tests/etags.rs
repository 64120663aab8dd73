//! Many writers on one key: with etags no increment is lost, and without them changes to different fields all land.

mod support;

use std::{collections::BTreeMap, sync::Arc};

use portcullis::proto::v1::{ErrorReason, GetKeyRequest, Key};
use support::{Clients, Server, key, reason_of, update};
use tokio::sync::Barrier;
use tonic::Code;

const WRITERS: usize = 8;
const INCREMENTS: usize = 20;

/// A field's name, and a key with the nth value in it.
type Field = (&'static str, fn(usize) -> Key);

async fn get(admin: &Clients, name: &str) -> Key {
    admin
        .keys
        .clone()
        .get_key(GetKeyRequest { name: name.into() })
        .await
        .expect("the key is there")
        .into_inner()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn read_modify_write_with_an_etag_loses_nothing() {
    let server = Server::start();
    let name = Clients::root(&server)
        .create("counter", &[])
        .await
        .key
        .expect("a key")
        .name;
    let all_have_read = Arc::new(Barrier::new(WRITERS));
    let writers: Vec<_> = (0..WRITERS)
        .map(|_| {
            let (admin, name) = (Clients::root(&server), name.clone());
            let all_have_read = all_have_read.clone();
            tokio::spawn(async move {
                let mut retries = 0;
                for _ in 0..INCREMENTS {
                    retries += increment(&admin, &name, &all_have_read).await;
                }
                retries
            })
        })
        .collect();
    let mut retries = 0;
    for writer in writers {
        retries += writer.await.expect("a writer");
    }
    let counter = get(&Clients::root(&server), &name).await.labels["counter"].clone();
    assert_eq!(
        counter,
        (WRITERS * INCREMENTS).to_string(),
        "after {retries} retries"
    );
    // Each time all have read before the first writes, so all but one at most come too late.
    assert!(
        retries >= (WRITERS - 1) * INCREMENTS,
        "{retries} retries: a stale etag was accepted"
    );
}

/// Adds one, trying again as often as others come first; answers how often they did.
async fn increment(admin: &Clients, name: &str, all_have_read: &Barrier) -> usize {
    let mut retries = 0;
    loop {
        let Key { labels, etag, .. } = get(admin, name).await;
        if retries == 0 {
            all_have_read.wait().await;
        }
        let counter: usize = labels
            .get("counter")
            .map_or(0, |counter| counter.parse().expect("a number"));
        let labels = BTreeMap::from([("counter".to_owned(), (counter + 1).to_string())]);
        let change = update(
            Key {
                name: name.into(),
                etag,
                labels,
                ..key()
            },
            &["labels"],
        );
        match admin.keys.clone().update_key(change).await {
            Ok(_) => return retries,
            Err(status) => {
                assert_eq!(status.code(), Code::Aborted, "{status:?}");
                assert_eq!(reason_of(&status), ErrorReason::EtagMismatch, "{status:?}");
                retries += 1;
                assert!(retries < 10_000, "starved");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_to_different_fields_all_land_without_etags() {
    let server = Server::start();
    let name = Clients::root(&server)
        .create("shared", &["p0"])
        .await
        .key
        .expect("a key")
        .name;
    let fields: [Field; 5] = [
        ("display_name", |n| Key {
            display_name: format!("name {n}"),
            ..key()
        }),
        ("description", |n| Key {
            description: format!("text {n}"),
            ..key()
        }),
        ("permissions", |n| Key {
            permissions: vec![format!("p{n}")],
            ..key()
        }),
        ("ip_allowlist", |n| Key {
            ip_allowlist: vec![format!("10.0.{n}.0/24")],
            ..key()
        }),
        ("labels", |n| Key {
            labels: BTreeMap::from([("n".into(), n.to_string())]),
            ..key()
        }),
    ];
    let writers: Vec<_> = fields
        .into_iter()
        .map(|(field, value)| {
            let (admin, name) = (Clients::root(&server), name.clone());
            tokio::spawn(async move {
                for n in 1..=INCREMENTS {
                    let change = update(
                        Key {
                            name: name.clone(),
                            ..value(n)
                        },
                        &[field],
                    );
                    let changed = admin.keys.clone().update_key(change).await;
                    let changed = changed
                        .expect("without an etag nobody is turned away")
                        .into_inner();
                    assert_eq!(
                        only(field, &changed),
                        only(field, &value(n)),
                        "one's own write is in the answer"
                    );
                    assert_eq!(
                        only(field, &get(&admin, &name).await),
                        only(field, &value(n)),
                        "and is read back"
                    );
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.expect("a writer");
    }
    let last = get(&Clients::root(&server), &name).await;
    for (field, value) in fields {
        assert_eq!(
            only(field, &last),
            only(field, &value(INCREMENTS)),
            "{field}"
        );
    }
}

/// One field's value.
fn only(field: &str, key: &Key) -> String {
    match field {
        "display_name" => key.display_name.clone(),
        "description" => key.description.clone(),
        "permissions" => key.permissions.join(","),
        "ip_allowlist" => key.ip_allowlist.join(","),
        "labels" => format!("{:?}", key.labels),
        _ => unreachable!("{field} is not written here"),
    }
}

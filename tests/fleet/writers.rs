//! Several writers at once, through different replicas: no update is lost, and there is one chain of events.

use std::collections::BTreeSet;

use futures_util::{StreamExt as _, future::join_all, stream};
use portcullis::proto::v1::{GetKeyRequest, Key, ListEventsRequest};
use tonic::Code;

use crate::{
    harness::{Fleet, LONG, Replica, barriers},
    support::{Clients, Mutation, update},
};

/// How often each replica's writer counts up.
const STEPS: usize = 40;

async fn read(clients: &Clients, name: &str) -> Key {
    let request = GetKeyRequest { name: name.into() };
    let answer = clients.keys.clone().get_key(request).await;
    answer.expect("the key is there").into_inner()
}

/// Counts up what stands in the description, so often; an etag says that nobody did so meanwhile.
async fn count_up(clients: Clients, name: String) -> usize {
    let mut refused = 0;
    for _ in 0..STEPS {
        loop {
            let key = read(&clients, &name).await;
            let count: usize = key.description.parse().expect("a count");
            let counted = Key {
                name: name.clone(),
                description: (count + 1).to_string(),
                ..Key::default()
            };
            let change =
                Mutation::UpdateKey(update(counted, &["description"])).with_etag(&key.etag);
            match change.send(&clients).await {
                Ok(_) => break,
                Err(status) => assert_eq!(status.code(), Code::Aborted, "{status:?}"),
            }
            refused += 1;
        }
    }
    refused
}

/// The revisions of all events, newest first.
async fn revisions(replica: &Replica) -> Vec<(u32, u64)> {
    let mut revisions = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListEventsRequest {
            parent: "workspaces/-".into(),
            page_size: 1_000,
            page_token,
            ..ListEventsRequest::default()
        };
        let page = replica
            .root
            .audit
            .clone()
            .list_events(request)
            .await
            .expect("a page")
            .into_inner();
        revisions.extend(page.events.iter().map(|event| {
            let (epoch, number) = event.revision.split_once('.').expect("epoch.number");
            let (epoch, number) = (epoch.parse::<u32>(), number.parse::<u64>());
            (epoch.expect("an epoch"), number.expect("a number"))
        }));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return revisions;
        }
    }
}

/// Every replica reads one chain without a gap, of so many events.
async fn one_chain(replicas: &[Replica], due: u64) {
    for replica in replicas {
        assert_eq!(replica.verified_events().await, due, "{}", replica.name);
        let revisions = revisions(replica).await;
        let dense: Vec<_> = (1..=due).rev().map(|number| (1, number)).collect();
        assert_eq!(revisions, dense, "{}", replica.name);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_on_one_key_lose_no_update() {
    let Ok(fleet) = Fleet::made(LONG) else {
        return;
    };
    let replicas = fleet.start_all(3).await;
    let made = replicas[0].verified_events().await;
    let like = Key {
        description: "0".into(),
        ..Key::default()
    };
    let key = replicas[0].root.create_key(like).await;
    let name = key.key.expect("an issued key is shown").name;

    let writers = replicas
        .iter()
        .map(|replica| count_up(replica.root.clone(), name.clone()));
    let refused: usize = join_all(writers).await.into_iter().sum();
    assert!(refused > 0, "the writers never met: nothing was tried");
    for replica in &replicas {
        let counted = read(&replica.root, &name).await.description;
        assert_eq!(counted, (3 * STEPS).to_string(), "{}", replica.name);
    }
    one_chain(&replicas, made + 1 + 3 * STEPS as u64).await;
}

/// Without an etag, each call is done again on what it finds: none undoes another's field.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_of_different_fields_do_not_undo_each_other() {
    let Ok(fleet) = Fleet::made(LONG) else {
        return;
    };
    let replicas = fleet.start_all(3).await;
    let made = replicas[0].verified_events().await;
    let key = replicas[0].root.create("shared", &["a"]).await;
    let name = &key.key.expect("an issued key is shown").name;

    let writers = replicas.iter().enumerate().map(|(at, replica)| async move {
        for step in 1..=STEPS {
            let text = format!("step {step}");
            let mut key = Key {
                name: name.clone(),
                ..Key::default()
            };
            let field = match at {
                0 => {
                    key.display_name = text;
                    "display_name"
                }
                1 => {
                    key.description = text;
                    "description"
                }
                _ => {
                    key.labels.insert("step".into(), step.to_string());
                    "labels"
                }
            };
            // Others may keep changing it for longer than the replica tries.
            let change = Mutation::UpdateKey(update(key, &[field]));
            while let Err(status) = change.send(&replica.root).await {
                assert_eq!(status.code(), Code::Aborted, "{status:?}");
            }
        }
    });
    join_all(writers).await;
    for replica in &replicas {
        let key = read(&replica.root, name).await;
        let last = format!("step {STEPS}");
        assert_eq!(key.display_name, last);
        assert_eq!(key.description, last);
        assert_eq!(key.labels["step"], STEPS.to_string());
    }
    one_chain(&replicas, made + 1 + 3 * STEPS as u64).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_on_different_keys_all_get_through() {
    let Ok(fleet) = Fleet::made(LONG) else {
        return;
    };
    let replicas = fleet.start_all(3).await;
    let made = replicas[0].verified_events().await;
    let before = barriers(&replicas);
    let names: BTreeSet<String> = stream::iter(0..150)
        .map(|number| {
            let root = &replicas[number % 3].root;
            // Through another one, which knows it by now.
            let other = &replicas[(number + 1) % 3].root;
            async move {
                let issued = root.create(&format!("key {number}"), &[]).await;
                let name = issued.key.expect("an issued key is shown").name;
                Mutation::disable(&name).done(other).await;
                name
            }
        })
        .buffer_unordered(12)
        .collect()
        .await;
    assert_eq!(names.len(), 150);
    barriers(&replicas).only_acknowledged_since(before, 300);
    one_chain(&replicas, made + 300).await;
}

//! Lists read page by page while others change what is listed.

mod support;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use futures_util::future::join_all;
use portcullis::proto::v1::{DeleteKeyRequest, ListKeysRequest, ListKeysResponse};
use support::{Clients, Random, Server};
use tokio::sync::Barrier;

async fn page(admin: &Clients, size: i32, token: &str) -> ListKeysResponse {
    let request = ListKeysRequest {
        parent: "workspaces/default".into(),
        page_size: size,
        page_token: token.into(),
        ..ListKeysRequest::default()
    };
    let listed = admin.keys.clone().list_keys(request).await;
    listed.expect("a page").into_inner()
}

/// How often each key is listed, from the first page to the last.
async fn list(admin: &Clients, size: i32) -> BTreeMap<String, usize> {
    let mut listed = BTreeMap::new();
    let mut token = String::new();
    loop {
        let page = page(admin, size, &token).await;
        for key in page.keys {
            *listed.entry(key.name).or_default() += 1;
        }
        token = page.next_page_token;
        if token.is_empty() {
            return listed;
        }
    }
}

async fn create(admin: &Clients) -> String {
    admin.create("listed", &[]).await.key.expect("a key").name
}

async fn delete(admin: &Clients, name: &str) {
    let request = DeleteKeyRequest {
        name: name.into(),
        force: true,
        etag: String::new(),
        ..DeleteKeyRequest::default()
    };
    let deleted = admin.keys.clone().delete_key(request).await;
    deleted.expect("the key is there to go");
}

/// Whatever goes meanwhile: each key that stays is listed once, and no page ends the list before its end.
async fn keys_that_stay_are_listed_once_while_others_go(size: i32, keys: usize, rounds: usize) {
    /// Deletions that are asked for at once, so that they follow close upon each other.
    const WAVE: usize = 10;
    const LISTERS: usize = 4;
    let server = Server::start();
    let admin = Clients::root(&server);
    let (mut random, seed) = Random::seeded();
    for round in 0..rounds {
        // One alone first: until the credential was proved once, so many at once would be too many.
        let mut names = vec![create(&admin).await];
        names.extend(join_all((1..keys).map(|_| create(&admin))).await);
        // Two of three go, in any order; the last that is listed stays, so that an end that comes early is seen.
        let order = list(&admin, 1_000).await;
        assert_eq!(order.len(), keys);
        let last = page(&admin, 1_000, "")
            .await
            .keys
            .pop()
            .expect("a key")
            .name;
        names.retain(|name| *name != last);
        let (mut stay, mut go) = (vec![last], Vec::new());
        for name in names {
            if random.below(3) == 0 {
                stay.push(name);
            } else {
                go.push(name);
            }
        }
        for index in (1..go.len()).rev() {
            let other = random.below(u64::try_from(index).expect("small") + 1);
            go.swap(index, usize::try_from(other).expect("small"));
        }
        let gone = Arc::new(AtomicBool::new(false));
        // All list already when the first key goes.
        let begin = Arc::new(Barrier::new(LISTERS + 1));
        let stay = Arc::new(stay);
        let listers: Vec<_> = (0..LISTERS)
            .map(|_| {
                let admin = Clients::root(&server);
                let (gone, stay, begin) = (gone.clone(), stay.clone(), begin.clone());
                let what = format!("pages of {size}, round {round} of PORTCULLIS_TEST_SEED={seed}");
                tokio::spawn(async move {
                    let mut passes = 0;
                    begin.wait().await;
                    // The last pass begins when all is gone.
                    loop {
                        let after = gone.load(Ordering::SeqCst);
                        let listed = list(&admin, size).await;
                        passes += 1;
                        for name in stay.iter() {
                            let times = listed.get(name);
                            assert_eq!(times, Some(&1), "{what}, pass {passes}: {name}");
                        }
                        let once = listed.values().all(|&times| times == 1);
                        assert!(once, "{what}, pass {passes}: {listed:?}");
                        if after {
                            assert_eq!(listed.len(), stay.len(), "{what}: what went is gone");
                            return;
                        }
                    }
                })
            })
            .collect();
        begin.wait().await;
        for wave in go.chunks(WAVE) {
            join_all(wave.iter().map(|name| delete(&admin, name))).await;
        }
        gone.store(true, Ordering::SeqCst);
        for lister in listers {
            lister.await.expect("a complete list each time");
        }
        join_all(stay.iter().map(|name| delete(&admin, name))).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_pages_beside_deletions() {
    keys_that_stay_are_listed_once_while_others_go(3, 150, 2).await;
}

/// Between finding what belongs on a page and reading it lies the more time, the larger the page.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_pages_beside_deletions() {
    keys_that_stay_are_listed_once_while_others_go(100, 400, 1).await;
}

/// A key that a page ended at may go: the next page begins after where it stood.
#[tokio::test]
async fn the_key_that_a_page_ended_at_may_go() {
    let server = Server::start();
    let admin = Clients::root(&server);
    let mut names = Vec::new();
    for _ in 0..10 {
        names.push(create(&admin).await);
    }
    let mut listed = Vec::new();
    let mut token = String::new();
    loop {
        let page = page(&admin, 3, &token).await;
        listed.extend(page.keys.into_iter().map(|key| key.name));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
        // The last of this page and the two that the next would begin with.
        let at = listed.len() - 1;
        let next = names.iter().position(|name| *name == listed[at]);
        let next = next.expect("a key of ours");
        let until = (next + 3).min(names.len() - 1);
        for name in names.drain(next..until) {
            delete(&admin, &name).await;
        }
    }
    assert_eq!(listed.last(), names.last(), "the end is the last key");
    for name in &names {
        assert!(listed.contains(name), "{name} stays and is not listed");
    }
}

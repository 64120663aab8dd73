//! A call whose answer was lost is made again, through another replica: it is done once, answers the original, and its
//! answer is as true of the whole fleet as the first would have been.

use std::time::Duration;

use portcullis::proto::v1::Key;
use tonic::Code;

use crate::{
    harness::{Fleet, LONG, barriers},
    proxy::Proxy,
    race::Seen,
    support::{Answer, Mutation, Random, check},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeated_call_answers_the_original_through_any_replica() {
    let Ok(fleet) = Fleet::made(LONG) else {
        return;
    };
    let replicas = fleet.start_all(3).await;
    let made = replicas[0].verified_events().await;
    let create = Mutation::create("workspaces/default", Key::default()).with_id("create");
    let Answer::Issued(issued) = create.done(&replicas[0].root).await else {
        panic!("a key is issued");
    };
    let name = issued.key.as_ref().expect("a key").name.clone();
    let mut calls = 1;
    for replica in &replicas {
        let Answer::Issued(again) = create.done(&replica.root).await else {
            panic!("a key is issued");
        };
        assert_eq!(again.key, issued.key, "through {}", replica.name);
        assert!(again.secret.is_empty(), "a secret is shown once");
    }

    let before = barriers(&replicas);
    let mut repeats = 0;
    for (number, call) in [
        Mutation::rename(&name, "another"),
        Mutation::reset(&name, 3_600),
        Mutation::end_overlap(&name),
        Mutation::disable(&name),
        Mutation::enable(&name),
        Mutation::archive(&name),
        Mutation::delete(&name),
    ]
    .into_iter()
    .enumerate()
    {
        let call = call.with_id(&format!("call-{number}"));
        let first = call.done(&replicas[number % 3].root).await;
        calls += 1;
        for replica in &replicas {
            let again = call.done(&replica.root).await;
            repeats += 1;
            match (&first, &again) {
                (Answer::Issued(first), Answer::Issued(again)) => assert_eq!(first.key, again.key),
                (first, again) => assert_eq!(first, again, "{call:?} through {}", replica.name),
            }
        }
    }
    // The repeats, too, waited for the fleet.
    barriers(&replicas).only_acknowledged_since(before, calls - 1 + repeats);
    for replica in &replicas {
        assert_eq!(replica.verified_events().await, made + calls);
    }
}

/// The connection between a replica and its Redis breaks just when the change was made.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_whose_reply_the_replica_lost_is_made_once() {
    let Ok(fleet) = Fleet::made(LONG) else {
        return;
    };
    let proxy = Proxy::before(fleet.redis.port()).await;
    let lossy = fleet.setup_through("lossy", proxy.port()).start();
    let lossy = fleet.known_as("lossy", lossy);
    let plain = fleet.start("plain");
    plain.until_members(&["lossy", "plain"]).await;
    let key = plain.root.create("key", &[]).await;
    let name = key.key.expect("an issued key is shown").name;
    let made = plain.verified_events().await;

    for round in 1..=10 {
        let title = format!("title number {round}");
        proxy.lose_reply_to(&title);
        let call = Mutation::rename(&name, &title).with_id(&format!("rename-{round}"));
        match call.send(&lossy.root).await {
            Ok(answer) => assert_eq!(answer.into_inner().key().display_name, title),
            // It may say that it does not know, and nothing else.
            Err(status) => assert_eq!(status.code(), Code::Unavailable, "{status:?}"),
        }
        assert_eq!(proxy.lost(), round, "a reply was lost");
        for replica in [&plain, &lossy] {
            let answer = call.done(&replica.root).await;
            assert_eq!(answer.key().display_name, title, "{}", replica.name);
        }
        assert_eq!(plain.verified_events().await, made + round);
    }
    // All is as before.
    let open = check(&key.token);
    for replica in [&plain, &lossy] {
        assert_eq!(replica.seen(open.clone()).await, Seen::Open);
    }
}

/// The connection between the caller and the replica breaks at any moment.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_whose_caller_hung_up_is_made_once() {
    let Ok(fleet) = Fleet::made(LONG) else {
        return;
    };
    let replicas = fleet.start_all(3).await;
    let made = replicas[0].verified_events().await;
    let (mut random, seed) = Random::seeded();
    eprintln!("PORTCULLIS_TEST_SEED={seed}");
    for round in 0..60 {
        let key = replicas[0].root.create("key", &[]).await;
        let name = key.key.expect("an issued key is shown").name;
        let call = Mutation::disable(&name).with_id(&format!("disable-{round}"));
        let (root, first) = (replicas[round % 3].root.clone(), call.clone());
        let calling = tokio::spawn(async move { first.send(&root).await });
        // When the caller hangs up is what is tried here, at random.
        tokio::time::sleep(Duration::from_micros(random.below(8_000))).await;
        calling.abort();
        let other = &replicas[(round + 1) % 3];
        call.done(&other.root).await;
        for replica in &replicas {
            let answer = replica.seen(check(&key.token)).await;
            assert_eq!(answer, Seen::Shut("KEY_DISABLED"), "{}", replica.name);
        }
    }
    for replica in &replicas {
        assert_eq!(replica.verified_events().await, made + 120);
    }
}

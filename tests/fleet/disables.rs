//! The promise itself: once `DisableKey` is answered OK, no replica lets the key through.

use futures_util::{StreamExt as _, stream};
use portcullis::proto::v1::IssuedKey;

use crate::{
    harness::{Fleet, LONG, acknowledged, barriers},
    race::race,
    support::{Mutation, check},
};

const DISABLES: usize = 1_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_thousand_disables_no_replica_let_a_key_through() {
    let Ok(fleet) = Fleet::made(LONG) else {
        return;
    };
    let replicas = fleet.start_all(3).await;
    let keys: Vec<IssuedKey> = stream::iter(0..DISABLES)
        .map(|number| {
            let root = replicas[number % 3].root.clone();
            async move { root.create(&format!("key {number}"), &[]).await }
        })
        .buffered(12)
        .collect()
        .await;
    for key in &keys {
        assert_eq!(key.lagging_replicas, [""; 0], "a healthy fleet keeps up");
    }

    let before = barriers(&replicas);
    let (mut questions, mut took) = (0, Vec::with_capacity(DISABLES));
    for (number, key) in keys.iter().enumerate() {
        let name = &key.key.as_ref().expect("an issued key is shown").name;
        let probes = replicas
            .iter()
            .map(|replica| replica.probe(check(&key.token)));
        let disable = Mutation::disable(name);
        let outcome = race(probes, disable.done(&replicas[number % 3].root)).await;
        questions += outcome.sightings.len();
        took.push(outcome.took);
        outcome.shut_for("KEY_DISABLED");
    }
    barriers(&replicas).only_acknowledged_since(before, DISABLES as u64);
    let counts = acknowledged(&replicas, "DisableKey");
    assert_eq!(counts, vec!["3"; DISABLES], "each was acknowledged by all");
    took.sort_unstable();
    eprintln!(
        "{DISABLES} disables raced by {questions} questions: p50 {:?}, p99 {:?}, slowest {:?}",
        took[DISABLES / 2],
        took[DISABLES * 99 / 100],
        took[DISABLES - 1]
    );
}

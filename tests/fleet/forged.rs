//! Messages that nobody of the fleet sent: whoever may publish can wake replicas, and nothing else.

use portcullis::proto::v1::ListReplicasRequest;

use crate::{
    harness::{Fleet, LONG, Replica, barriers, users_acl},
    race::{Seen, race},
    support::{Mutation, check},
};

/// A key is made and revoked through these, and all know of it by acknowledgements.
async fn changes_work(replicas: &[Replica]) {
    let before = barriers(replicas);
    let key = replicas[0].root.create("key", &[]).await;
    let name = key.key.expect("an issued key is shown").name;
    let probes = replicas
        .iter()
        .map(|replica| replica.probe(check(&key.token)));
    race(probes, Mutation::disable(&name).done(&replicas[1].root))
        .await
        .shut_for("KEY_DISABLED");
    barriers(replicas).only_acknowledged_since(before, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forged_and_garbled_messages_change_nothing() {
    let Ok(fleet) = Fleet::made(LONG) else {
        return;
    };
    let replicas = fleet.start_all(2).await;
    let open = replicas[0].root.create("open", &[]).await.token;
    let shut = replicas[0].root.create("shut", &[]).await;
    let name = shut.key.expect("an issued key is shown").name;
    Mutation::disable(&name).done(&replicas[0].root).await;
    let events = replicas[0].verified_events().await;
    let revision = replicas[0].gate.revision().await;

    let store = fleet.redis.cli(&["HGET", "{portcullis:0}:ctl", "store"]);
    let store: String = redis::from_redis_value(store).expect("a store id");
    let other = "0".repeat(32);
    let long = "9".repeat(1 << 20);
    let texts = [
        String::new(),
        " ".into(),
        "\n".into(),
        "garbage".into(),
        store.clone(),
        format!("{store} 1"),
        format!("{store} 1 0"),
        format!("{store} 1 -1"),
        format!("{store} 0 0"),
        format!("{store} 1 1"),
        format!("{store} 1 999999999"),
        format!("{store} 2 1"),
        format!("{store} 4294967295 18446744073709551615"),
        format!("{store} 4294967296 18446744073709551616"),
        format!("{store} 1 {long}"),
        format!("{other} 1 999999999"),
        format!("{other} 7 7"),
        long,
    ];
    let mut payloads: Vec<Vec<u8>> = texts.into_iter().map(String::into_bytes).collect();
    payloads.push(vec![0xff, 0xfe, 0, 0x80]);
    payloads.push([store.as_bytes(), b" 1 \xff\xff"].concat());

    let members = replicas[0].root.fleet.clone();
    let members = members.clone().list_replicas(ListReplicasRequest {}).await;
    let mut channels = vec!["{portcullis:0}:hints".to_owned()];
    for member in members.expect("the members").into_inner().replicas {
        channels.push(format!("{{portcullis:0}}:look:{}", member.incarnation));
    }
    assert_eq!(channels.len(), 3, "{channels:?}");
    let mut heard = 0;
    for channel in &channels {
        for payload in &payloads {
            let publish = [b"PUBLISH", channel.as_bytes(), payload];
            let receivers: i64 =
                redis::from_redis_value(fleet.redis.cli(&publish)).expect("a count");
            heard += receivers;
        }
        // A flood of what looks right.
        for number in 0..500 {
            let payload = format!("{store} 1 {}", 1_000_000 + number);
            fleet
                .redis
                .cli(&["PUBLISH", channel.as_str(), payload.as_str()]);
        }
    }
    assert!(heard > 0, "nobody listens: nothing was tried");

    for replica in &replicas {
        assert_eq!(replica.seen(check(&open)).await, Seen::Open);
        let seen = replica.seen(check(&shut.token)).await;
        assert_eq!(seen, Seen::Shut("KEY_DISABLED"));
        assert_eq!(replica.gate.revision().await, revision);
        assert_eq!(replica.verified_events().await, events);
        replica.until_members(&["r1", "r2"]).await;
    }
    changes_work(&replicas).await;
}

/// Databases of one Redis share its channels, so each store hears the other's hints.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stores_in_two_databases_do_not_mix() {
    let rules = format!("{} +select\n", users_acl().trim_end());
    let Ok(mut fleet) = Fleet::made_under(LONG, &rules) else {
        return;
    };
    let first = fleet.start_all(2).await;
    fleet.enter_database(1, LONG);
    let second = [fleet.start("s1"), fleet.start("s2")];
    for replica in &second {
        replica.until_members(&["s1", "s2"]).await;
    }
    for replica in &first {
        replica.until_members(&["r1", "r2"]).await;
    }
    let of_first = first[0].root.create("first", &[]).await.token;
    let of_second = second[0].root.create("second", &[]).await.token;
    for (replicas, own, other) in [
        (&first[..], &of_first, &of_second),
        (&second[..], &of_second, &of_first),
    ] {
        changes_work(replicas).await;
        for replica in replicas {
            assert_eq!(replica.seen(check(own)).await, Seen::Open);
            let seen = replica.seen(check(other)).await;
            assert_eq!(seen, Seen::Shut("INVALID_CREDENTIAL"));
        }
    }
}

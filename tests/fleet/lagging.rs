//! A replica that stopped: what is revoked meanwhile waits for the end of its lease and for no longer, and whoever cannot wait
//! so long is told.

use std::time::{Duration, Instant};

use portcullis::proto::v1::{AwaitRevisionRequest, DisableKeyRequest, ErrorReason};
use rustix::process::Signal;
use tokio::task::JoinSet;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;

use crate::{
    harness::{Barriers, FENCED, Fleet, LONG, SHORT, SHORT_LEASE, barriers},
    race::{Seen, race},
    support::{Mutation, check, reason_of},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revocation_waits_for_the_lease_of_a_stopped_replica_and_no_longer() {
    let Ok(fleet) = Fleet::made(SHORT) else {
        return;
    };
    let replicas = fleet.start_all(3).await;
    let good = replicas[0].root.create("good", &[]).await.token;
    let key = replicas[0].root.create("key", &[]).await;
    let name = key.key.expect("an issued key is shown").name;
    let before = barriers(&replicas[..2]);
    for replica in &replicas {
        assert_eq!(replica.seen(check(&key.token)).await, Seen::Open);
    }

    let stopped = &replicas[2];
    stopped.server.signal(Signal::STOP);
    let at = Instant::now();
    let probes = replicas[..2]
        .iter()
        .map(|replica| replica.probe(check(&key.token)));
    race(probes, Mutation::disable(&name).done(&replicas[0].root))
        .await
        .shut_for("KEY_DISABLED");
    let waited = at.elapsed();
    // It renewed at most a fifth of a lease before it stopped (and a little, on a busy machine).
    assert!(
        waited > SHORT_LEASE * 7 / 10,
        "OK after {waited:?}, when its lease may have gone on"
    );
    assert!(waited < SHORT_LEASE * 3, "OK only after {waited:?}");
    let after = barriers(&replicas[..2]);
    assert_eq!(
        after,
        Barriers {
            by_lease_end: before.by_lease_end + 1,
            ..before
        },
        "the lease's end it was"
    );

    // What it is asked while it stands still it answers first of all when it goes on.
    let probe = stopped.probe(check(&key.token));
    let waiting: JoinSet<_> = (0..8)
        .map(|_| {
            let probe = probe.clone();
            async move { probe.ask().await }
        })
        .collect();
    stopped.server.signal(Signal::CONT);
    for seen in waiting.join_all().await {
        let right = seen == FENCED || seen == Seen::Shut("KEY_DISABLED");
        assert!(right, "its first answer is {seen:?}");
    }
    stopped.until(&check(&good), &Seen::Open).await;
    assert_eq!(
        stopped.seen(check(&key.token)).await,
        Seen::Shut("KEY_DISABLED")
    );
    for replica in &replicas {
        replica.until_members(&["r1", "r2", "r3"]).await;
    }
    let before = barriers(&replicas);
    let key = stopped.root.create("another", &[]).await;
    let probes = replicas
        .iter()
        .map(|replica| replica.probe(check(&key.token)));
    let name = key.key.expect("an issued key is shown").name;
    race(probes, Mutation::disable(&name).done(&stopped.root))
        .await
        .shut_for("KEY_DISABLED");
    barriers(&replicas).only_acknowledged_since(before, 2);
}

/// Asserts that it is committed, waits for these replicas, and says as what it is committed.
#[track_caller]
fn not_fleet_wide(status: &Status, waiting_for: &str) -> String {
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    assert_eq!(
        reason_of(status),
        ErrorReason::CommittedNotFleetWide,
        "{status:?}"
    );
    let info = status.get_details_error_info().expect("an ErrorInfo");
    assert_eq!(info.metadata["waiting_for"], waiting_for);
    info.metadata["revision"].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_cannot_wait_for_the_lease_is_told_in_time_and_may_ask_again() {
    let Ok(fleet) = Fleet::made(LONG) else {
        return;
    };
    let replicas = fleet.start_all(3).await;
    let key = replicas[0].root.create("key", &[]).await;
    let name = key.key.expect("an issued key is shown").name;
    let stopped = &replicas[2];
    stopped.server.signal(Signal::STOP);

    let disable = || {
        let mut request = Request::new(DisableKeyRequest {
            name: name.clone(),
            ..DisableKeyRequest::default()
        });
        // Past it, the client itself would say that it is over, and not that.
        request.set_timeout(Duration::from_millis(1_200));
        request
    };
    let mut revisions = Vec::new();
    for replica in [&replicas[0], &replicas[1]] {
        let began = Instant::now();
        let status = replica
            .root
            .keys
            .clone()
            .disable_key(disable())
            .await
            .expect_err("one replica cannot know of it");
        revisions.push(not_fleet_wide(&status, "r3"));
        assert!(began.elapsed() < Duration::from_millis(1_200));
        // It is in force wherever it can be.
        let seen = replica.seen(check(&key.token)).await;
        assert_eq!(seen, Seen::Shut("KEY_DISABLED"));
    }
    // Disabling it again changes nothing and waits again; so does asking for the revision.
    let revision = revisions[0].clone();
    let mut wait = Request::new(AwaitRevisionRequest {
        revision: revision.clone(),
    });
    wait.set_timeout(Duration::from_millis(700));
    let status = replicas[1]
        .root
        .fleet
        .clone()
        .await_revision(wait)
        .await
        .expect_err("one replica cannot know of it");
    not_fleet_wide(&status, "r3");

    stopped.server.signal(Signal::CONT);
    let before = barriers(&replicas);
    replicas[0]
        .root
        .keys
        .clone()
        .disable_key(disable())
        .await
        .expect("they all know of it");
    barriers(&replicas).only_acknowledged_since(before, 1);
    let reached = replicas[1]
        .root
        .fleet
        .clone()
        .await_revision(AwaitRevisionRequest { revision })
        .await;
    reached.expect("they all know of it");
    for replica in &replicas {
        let seen = replica.seen(check(&key.token)).await;
        assert_eq!(seen, Seen::Shut("KEY_DISABLED"), "{}", replica.name);
    }
}

//! Redis gone, back, emptied, replaced: the replicas answer as long as they may, then say that they cannot, and what was shut
//! never opens.

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::task::JoinSet;

use crate::{
    harness::{
        FENCED, Fleet, LONG, Replica, SHORT, SHORT_LEASE, barriers, done_at_last, eventually,
    },
    race::{Probe, Seen, Sighting, late, race},
    support::{Clients, Mutation, check},
};

/// A key that is open and one that is shut.
struct Keys {
    open: String,
    shut: String,
}

async fn keys(root: &Clients) -> Keys {
    let open = root.create("open", &[]).await.token;
    let shut = root.create("shut", &[]).await;
    let name = shut.key.expect("an issued key is shown").name;
    Mutation::disable(&name).done(root).await;
    Keys {
        open,
        shut: shut.token,
    }
}

/// Questions that are asked in the background until they are asked for.
struct Watch {
    stop: Arc<AtomicBool>,
    asking: JoinSet<Vec<Sighting>>,
}

impl Watch {
    /// Asks all of these for the key, over and over.
    fn on(replicas: &[Replica], token: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut asking = JoinSet::new();
        for replica in replicas {
            let (probe, stop) = (replica.probe(check(token)), Arc::clone(&stop));
            asking.spawn(Self::ask(replica.name.clone(), probe, stop));
        }
        Self { stop, asking }
    }

    async fn ask(replica: String, probe: Probe, stop: Arc<AtomicBool>) -> Vec<Sighting> {
        let mut sightings = Vec::new();
        while !stop.load(Ordering::SeqCst) {
            let sent = Instant::now();
            let seen = probe.ask().await;
            sightings.push(Sighting {
                replica: replica.clone(),
                sent,
                seen,
            });
            // The machine has other things to do; what is looked for lasts far longer.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        sightings
    }

    async fn end(self) -> Vec<Sighting> {
        self.stop.store(true, Ordering::SeqCst);
        let sightings: Vec<_> = self.asking.join_all().await.concat();
        assert!(!sightings.is_empty());
        sightings
    }

    /// Asserts that it was open all the time.
    async fn was_always_open(self) {
        for sighting in self.end().await {
            assert_eq!(sighting.seen, Seen::Open, "a failed Check: {sighting:?}");
        }
    }

    /// Asserts that it was never open, and that each answer made sense.
    async fn was_never_open(self) {
        for sighting in self.end().await {
            let right = matches!(sighting.seen, Seen::Shut(_)) || sighting.seen == FENCED;
            assert!(right, "{sighting:?}");
        }
    }
}

async fn until_all(replicas: &[Replica], token: &str, due: &Seen) {
    for replica in replicas {
        replica.until(&check(token), due).await;
    }
}

/// A key is made and revoked, and all know of it by acknowledgements.
async fn changes_work(replicas: &[Replica]) {
    let before = barriers(replicas);
    let key = replicas[0].root.create("after it", &[]).await;
    let name = key.key.expect("an issued key is shown").name;
    let probes = replicas
        .iter()
        .map(|replica| replica.probe(check(&key.token)));
    let last = replicas.last().expect("there are replicas");
    race(probes, Mutation::disable(&name).done(&last.root))
        .await
        .shut_for("KEY_DISABLED");
    barriers(replicas).only_acknowledged_since(before, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_shorter_than_the_lease_fails_no_check() {
    let Ok(fleet) = Fleet::made(LONG) else {
        return;
    };
    let replicas = fleet.start_all(3).await;
    let keys = keys(&replicas[0].root).await;
    let (open, shut) = (
        Watch::on(&replicas, &keys.open),
        Watch::on(&replicas, &keys.shut),
    );
    fleet.redis.pause();
    // As long as an outage that is to go unnoticed: that is what is promised.
    tokio::time::sleep(Duration::from_secs(5)).await;
    fleet.redis.resume();
    let create = Mutation::create("workspaces/default", crate::support::key());
    done_at_last(&create, &replicas[1]).await;
    open.was_always_open().await;
    shut.was_never_open().await;
    changes_work(&replicas).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_longer_than_the_lease_fences_every_replica_until_it_is_over() {
    let Ok(fleet) = Fleet::made(SHORT) else {
        return;
    };
    let replicas = fleet.start_all(3).await;
    let keys = keys(&replicas[0].root).await;
    let (open, shut) = (
        Watch::on(&replicas, &keys.open),
        Watch::on(&replicas, &keys.shut),
    );
    fleet.redis.pause();
    let paused = Instant::now();
    until_all(&replicas, &keys.open, &FENCED).await;
    assert!(
        paused.elapsed() > SHORT_LEASE / 2,
        "fenced while their leases went on"
    );
    // A change is not to be had, and is not claimed either.
    let status = Mutation::create("workspaces/default", crate::support::key())
        .send(&replicas[0].root)
        .await
        .expect_err("there is no store");
    assert_eq!(status.code(), tonic::Code::Unavailable, "{status:?}");
    let sightings = open.end().await;
    // Stopping it takes a moment, in which it may have answered once more.
    let after = paused + SHORT_LEASE + Duration::from_millis(100);
    let wrong = late(after, &sightings);
    assert!(wrong.is_empty(), "open without a lease: {wrong:?}");
    for sighting in sightings {
        let right = matches!(sighting.seen, Seen::Open) || sighting.seen == FENCED;
        assert!(right, "{sighting:?}");
    }
    for replica in &replicas {
        for page in ["/livez", "/readyz"] {
            let (status, body) = replica.server.page(page);
            assert_eq!(status, 200, "{page} of {}: {body}", replica.name);
        }
    }

    fleet.redis.resume();
    until_all(&replicas, &keys.open, &Seen::Open).await;
    shut.was_never_open().await;
    for replica in &replicas {
        replica.until_members(&["r1", "r2", "r3"]).await;
    }
    changes_work(&replicas).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_restarted_at_once_with_its_data_fails_no_check() {
    let Ok(mut fleet) = Fleet::made(LONG) else {
        return;
    };
    let replicas = fleet.start_all(3).await;
    let keys = keys(&replicas[0].root).await;
    let (open, shut) = (
        Watch::on(&replicas, &keys.open),
        Watch::on(&replicas, &keys.shut),
    );
    fleet.redis.restart();
    for replica in &replicas {
        replica.until_members(&["r1", "r2", "r3"]).await;
    }
    open.was_always_open().await;
    shut.was_never_open().await;
    let create = Mutation::create("workspaces/default", crate::support::key());
    done_at_last(&create, &replicas[1]).await;
    let events = replicas[0].verified_events().await;
    for replica in &replicas {
        assert_eq!(replica.verified_events().await, events);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_comes_back_with_its_data_heals_by_itself() {
    let Ok(mut fleet) = Fleet::made(SHORT) else {
        return;
    };
    let replicas = fleet.start_all(3).await;
    let keys = keys(&replicas[0].root).await;
    let shut = Watch::on(&replicas, &keys.shut);
    for _ in 0..2 {
        fleet.redis.kill();
        until_all(&replicas, &keys.open, &FENCED).await;
        fleet.redis.start_again();
        until_all(&replicas, &keys.open, &Seen::Open).await;
        for replica in &replicas {
            replica.until_members(&["r1", "r2", "r3"]).await;
        }
        // At first, leases of before may be about; once they cannot be, acknowledgements count again.
        eventually("acknowledgements count again", async || {
            let before = barriers(&replicas);
            replicas[0].root.create("another", &[]).await;
            let after = barriers(&replicas);
            after.by_acknowledgements > before.by_acknowledgements
        })
        .await;
        changes_work(&replicas).await;
    }
    shut.was_never_open().await;
    for replica in &replicas {
        replica.verified_events().await;
    }
}

/// Nothing that was shut opens, nobody answers, and nobody can start: for longer than any lease.
async fn stays_fenced(fleet: &Fleet, replicas: Vec<Replica>, keys: &Keys, shut: Watch) {
    until_all(&replicas, &keys.open, &FENCED).await;
    let open = Watch::on(&replicas, &keys.open);
    // For good, and not until the next renewal: that is what is looked at here.
    tokio::time::sleep(SHORT_LEASE * 2).await;
    for sighting in open.end().await {
        assert_eq!(sighting.seen, FENCED, "{sighting:?}");
    }
    shut.was_never_open().await;
    // Started again, it knows by its directory that this is not the store it knew.
    for replica in replicas {
        let name = replica.name;
        replica.server.kill();
        match fleet.setup(&name).try_start() {
            Err(exit) => assert_ne!(exit.status.code(), Some(0), "{name}: {exit}"),
            Ok(_) => panic!("{name} starts on what is not its store"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_emptied_redis_opens_nothing() {
    let Ok(fleet) = Fleet::made(SHORT) else {
        return;
    };
    let replicas = fleet.start_all(3).await;
    let keys = keys(&replicas[0].root).await;
    let shut = Watch::on(&replicas, &keys.shut);
    fleet.redis.cli(&["FLUSHALL"]);
    stays_fenced(&fleet, replicas, &keys, shut).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_replaced_by_an_empty_one_opens_nothing() {
    let Ok(mut fleet) = Fleet::made(SHORT) else {
        return;
    };
    let replicas = fleet.start_all(3).await;
    let keys = keys(&replicas[0].root).await;
    let shut = Watch::on(&replicas, &keys.shut);
    fleet.redis.kill();
    fs::remove_dir_all(files_of(&fleet)).expect("its files can be removed");
    fleet.redis.start_again();
    stays_fenced(&fleet, replicas, &keys, shut).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_with_another_store_opens_nothing() {
    let Ok(fleet) = Fleet::made(SHORT) else {
        return;
    };
    let replicas = fleet.start_all(3).await;
    let keys = keys(&replicas[0].root).await;
    let shut = Watch::on(&replicas, &keys.shut);
    fleet.redis.cli(&["FLUSHALL"]);
    let output = fleet.init_in("another", SHORT);
    assert!(output.status.success(), "{output:?}");
    stays_fenced(&fleet, replicas, &keys, shut).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_put_back_to_an_older_state_opens_nothing() {
    let Ok(mut fleet) = Fleet::made(SHORT) else {
        return;
    };
    let replicas = fleet.start_all(3).await;
    let open = replicas[0].root.create("open", &[]).await.token;
    let key = replicas[0].root.create("shut", &[]).await;
    fleet.redis.kill();
    let kept = tempfile::tempdir().expect("a temporary directory");
    copy(&files_of(&fleet), kept.path());
    fleet.redis.start_again();
    until_all(&replicas, &open, &Seen::Open).await;
    let name = key.key.expect("an issued key is shown").name;
    // While leases of before the restart may be about, this may take one.
    done_at_last(&Mutation::disable(&name), &replicas[1]).await;
    let shut = Watch::on(&replicas, &key.token);

    fleet.redis.kill();
    fs::remove_dir_all(files_of(&fleet)).expect("its files can be removed");
    fs::create_dir(files_of(&fleet)).expect("a directory can be made");
    copy(kept.path(), &files_of(&fleet));
    fleet.redis.start_again();
    let keys = Keys {
        open,
        shut: key.token,
    };
    stays_fenced(&fleet, replicas, &keys, shut).await;
}

/// Where the Redis keeps what it acknowledged.
fn files_of(fleet: &Fleet) -> std::path::PathBuf {
    fleet.redis.dir().join("appendonlydir")
}

fn copy(from: &Path, to: &Path) {
    for file in fs::read_dir(from).expect("a directory") {
        let file = file.expect("a file");
        fs::copy(file.path(), to.join(file.file_name())).expect("a copy");
    }
}

//! Replicas that come and go while keys are revoked: nobody is let through by one that was not there, and nobody waits for
//! one that has left.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{sync::watch, task::JoinSet};

use crate::{
    harness::{Fleet, LONG, Replica, barriers},
    race::{Probe, Seen, late, race},
    support::{Clients, Mutation, check},
};

/// No revocation may take so long. A busy machine takes its time, but to wait for a replica that is gone takes all of a
/// [`LONG`] lease.
const BOUND: Duration = Duration::from_secs(10);

/// Says that it is over, also when the test fails: the runtime does not end before what waits for it.
struct Over(Arc<AtomicBool>);

impl Over {
    fn say(&self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl Drop for Over {
    fn drop(&mut self) {
        self.say();
    }
}

/// One disable, raced on these replicas. How long it took.
async fn disable(through: &Replica, raced_on: &[&Replica]) -> Duration {
    let key = through.root.create("key", &[]).await;
    let name = key.key.expect("an issued key is shown").name;
    let probes = raced_on
        .iter()
        .map(|replica| replica.probe(check(&key.token)));
    let outcome = race(probes, Mutation::disable(&name).done(&through.root)).await;
    let took = outcome.took;
    outcome.shut_for("KEY_DISABLED");
    took
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_joins_during_a_revocation_does_not_let_the_key_through() {
    let Ok(fleet) = Fleet::made(LONG) else {
        return;
    };
    let fleet = Arc::new(fleet);
    let replicas = fleet.start_all(3).await;
    let before = barriers(&replicas);
    let over = Over(Arc::default());
    // The fourth comes and goes, and its gate is known while it is there.
    let (here, gate) = watch::channel(None::<Clients>);
    let coming_and_going = {
        let (fleet, over) = (Arc::clone(&fleet), Arc::clone(&over.0));
        let runtime = tokio::runtime::Handle::current();
        tokio::task::spawn_blocking(move || {
            // Its clients belong to the runtime of the test.
            let _entered = runtime.enter();
            let mut joins = 0;
            while !over.load(Ordering::SeqCst) {
                let fourth = fleet.start("r4");
                here.send_replace(Some(fourth.gate.clone()));
                joins += 1;
                let exit = fourth.server.stop();
                assert_eq!(exit.status.code(), Some(0), "{exit}");
            }
            joins
        })
    };

    let (mut changes, mut seen_open) = (0, 0);
    while !coming_and_going.is_finished() {
        let through = &replicas[changes % 3];
        let key = through.root.create("key", &[]).await;
        let name = key.key.expect("an issued key is shown").name;
        let mut probes: Vec<_> = replicas
            .iter()
            .map(|replica| replica.probe(check(&key.token)))
            .collect();
        let request = check(&key.token);
        // The fourth is asked wherever it is just then; that it is not there is no failure.
        let at = gate.clone();
        let fourth = Probe::new("r4", move || {
            let (at, request) = (at.borrow().clone(), request.clone());
            async move {
                let Some(gate) = at else {
                    return Seen::Failed("not there yet".into());
                };
                match gate.check.clone().check(request).await {
                    Ok(answer) if answer.get_ref().allowed => Seen::Open,
                    Ok(_) => Seen::Shut("denied"),
                    Err(status) => {
                        // A gate that is gone refuses at once, and asking on and on would only take the machine's time.
                        tokio::time::sleep(Duration::from_millis(2)).await;
                        Seen::Failed(status.code().to_string())
                    }
                }
            }
        });
        let fourth = fourth.without_waiting();
        probes.push(fourth);
        let mut outcome = race(probes, Mutation::disable(&name).done(&through.root)).await;
        assert!(outcome.took < BOUND, "{:?}", outcome.took);
        let of_fourth: Vec<_> = outcome
            .sightings
            .extract_if(.., |sighting| sighting.replica == "r4")
            .collect();
        let wrong = late(outcome.acknowledged, &of_fourth);
        assert!(wrong.is_empty(), "open after OK: {wrong:?}");
        seen_open += of_fourth
            .iter()
            .filter(|sighting| sighting.seen == Seen::Open)
            .count();
        outcome.shut_for("KEY_DISABLED");
        changes += 1;
        if changes == 150 {
            over.say();
        }
    }
    let joins = coming_and_going.await.expect("the fourth comes and goes");
    assert!(
        joins > 10 && changes >= 150,
        "{joins} joins, {changes} changes"
    );
    assert!(
        seen_open > 0,
        "the fourth never answered: nothing was tried"
    );
    eprintln!("{changes} disables while a fourth replica joined {joins} times");
    barriers(&replicas).only_acknowledged_since(before, 2 * changes as u64);
}

/// Asks a gate until it is told to stop; every answer must be ALLOW. How many there were.
async fn always_open(replica: Probe, stop: Arc<AtomicBool>) -> u64 {
    let mut asked = 0;
    while !stop.load(Ordering::SeqCst) {
        let seen = replica.ask().await;
        assert_eq!(seen, Seen::Open, "a failed Check");
        asked += 1;
    }
    asked
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_fails_no_check_and_delays_no_revocation() {
    let Ok(fleet) = Fleet::made(LONG) else {
        return;
    };
    let fleet = Arc::new(fleet);
    let mut replicas = fleet.start_all(3).await;
    let good = replicas[0].root.create("good", &[]).await.token;
    let mut slowest = Duration::ZERO;
    for restarted in 0..3 {
        let leaving = replicas.remove(restarted);
        let before = barriers(&replicas);
        let stop = Arc::new(AtomicBool::new(false));
        let mut load = JoinSet::new();
        for replica in &replicas {
            load.spawn(always_open(replica.probe(check(&good)), Arc::clone(&stop)));
        }
        let others: Vec<_> = replicas.iter().collect();
        let mut changes = 0;
        for _ in 0..5 {
            slowest = slowest.max(disable(others[changes % 2], &others).await);
            changes += 1;
        }
        // Down and up again, while the others revoke.
        let name = leaving.name.clone();
        let (theirs, runtime) = (Arc::clone(&fleet), tokio::runtime::Handle::current());
        let restart = tokio::task::spawn_blocking(move || {
            let _entered = runtime.enter();
            let exit = leaving.server.stop();
            assert_eq!(exit.status.code(), Some(0), "{exit}");
            theirs.start(&leaving.name)
        });
        while !restart.is_finished() {
            slowest = slowest.max(disable(others[changes % 2], &others).await);
            changes += 1;
        }
        let back = restart.await.expect("it starts again");
        // Ready means ready: what is disabled from now on is raced on it, too.
        let all: Vec<_> = others.iter().copied().chain([&back]).collect();
        for _ in 0..5 {
            slowest = slowest.max(disable(others[changes % 2], &all).await);
            changes += 1;
        }
        stop.store(true, Ordering::SeqCst);
        let asked: u64 = load.join_all().await.into_iter().sum();
        eprintln!("{name}: {changes} disables and {asked} Checks meanwhile");
        barriers(&replicas).only_acknowledged_since(before, 2 * changes as u64);
        replicas.insert(restarted, back);
    }
    assert!(slowest < BOUND, "the slowest disable took {slowest:?}");
}

//! A replica's life: it serves, its health follows its lease, it is waited for, it leaves.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn init_makes_a_store_that_replicas_serve_and_leave() {
    let Ok(redis) = RedisServer::start(&[]) else {
        return;
    };
    let dir = scratch();
    let data = dir.path().join("a");
    let ran = made(&redis, &data, &["--lease", "5s"]);
    let url = redis.url();
    for part in [
        format!("made the store {url} (redis, namespace portcullis, lease 5s)\n"),
        format!("root token: {}\n", data.join("root.token").display()),
        format!("serve --redis {url} --data-dir {}\n", data.display()),
    ] {
        assert!(ran.out.contains(&part), "{part} is not in {}", ran.out);
    }
    let token = token_of(&data).expect("a root token");
    assert!(!ran.out.contains(&token) && !ran.err.contains(&token));

    let first = replica(&redis, &data).args(["--name", "blue"]).start();
    let other = dir.path().join("b");
    let second = replica(&redis, &other).args(["--name", "green"]).start();
    assert_eq!(
        first.store(),
        format!("{url} (redis, namespace portcullis)")
    );
    wait_until("the line on the root token", || {
        second
            .stdout()
            .contains("root token: not kept on this machine")
    });
    assert!(first.stdout().contains(&format!(
        "root token: {}",
        data.join("root.token").display()
    )));
    assert!(
        !first.stdout().contains("no longer valid"),
        "{}",
        first.stdout()
    );

    let root = Clients::of(second.admin(), &Token::bearer(&token));
    let issued = root.create("first", &[]).await;
    for server in [&first, &second] {
        assert!(
            Clients::gate(server)
                .ask(check(&issued.token))
                .await
                .allowed
        );
    }
    let listed = root
        .fleet
        .clone()
        .list_replicas(ListReplicasRequest {})
        .await;
    let replicas = listed.expect("a list").into_inner().replicas;
    let names: Vec<_> = replicas
        .iter()
        .map(|replica| replica.name.as_str())
        .collect();
    assert_eq!(names, ["blue", "green"]);
    for replica in &replicas {
        assert_eq!(replica.store_durability, "appendfsync always");
        let left = replica.lease_left.expect("a lease has an end");
        assert!((0..=5).contains(&left.seconds), "{left:?}");
        assert_eq!((replica.lag, replica.incarnation.len()), (0, 32));
    }

    let mut status = portcullis(&["fleet", "status", "--data-dir"]);
    status.arg(&other);
    let ran = run(status);
    assert_eq!(
        (ran.code, ran.out.lines().count()),
        (0, 3),
        "{}{}",
        ran.out,
        ran.err
    );

    assert!(first.stop().status.success());
    let left = run({
        let mut status = portcullis(&["fleet", "status", "--data-dir"]);
        status.arg(&other);
        status
    });
    assert!(
        left.out.contains("green") && !left.out.contains("blue"),
        "who ended in order is waited for no more: {}",
        left.out
    );
    assert!(second.stop().status.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_follows_the_lease_and_probes_do_not() {
    let Ok(redis) = RedisServer::start(&[]) else {
        return;
    };
    let dir = scratch();
    let data = dir.path().join("a");
    made(&redis, &data, &["--lease", "1s"]);
    let server = replica(&redis, &data).start();
    let gate = Clients::gate(&server);
    let mut health = gate.health.clone();
    let mut watch = health
        .watch(HealthCheckRequest::default())
        .await
        .expect("health")
        .into_inner();
    let mut turns = async |wanted: ServingStatus| {
        let turned = async {
            loop {
                let heard = watch.message().await.expect("a stream").expect("a status");
                if heard.status() == wanted {
                    return;
                }
            }
        };
        let turned = tokio::time::timeout(support::PATIENCE, turned).await;
        turned.unwrap_or_else(|_| panic!("never {wanted:?}"));
    };
    turns(ServingStatus::Serving).await;
    redis.pause();
    turns(ServingStatus::NotServing).await;
    for page in ["/livez", "/readyz"] {
        assert_eq!(server.page(page).0, 200, "{page}");
    }
    redis.resume();
    turns(ServingStatus::Serving).await;
    assert!(server.stop().status.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revision_is_awaited_until_the_deadline_and_no_longer() {
    use rustix::process::Signal;

    let Ok(redis) = RedisServer::start(&[]) else {
        return;
    };
    let dir = scratch();
    let (data, other): (PathBuf, PathBuf) = (dir.path().join("a"), dir.path().join("b"));
    made(&redis, &data, &["--lease", "10m"]);
    let server = replica(&redis, &data).args(["--name", "blue"]).start();
    let laggard = replica(&redis, &other).args(["--name", "green"]).start();
    let (admin, _) = clients(&server);
    let revision = admin
        .create("first", &[])
        .await
        .key
        .expect("a key")
        .revision;
    let wait = |revision: &str, timeout: &str| {
        let mut command = portcullis(&[
            "fleet",
            "await",
            revision,
            "--timeout",
            timeout,
            "--data-dir",
        ]);
        command.arg(&data);
        run(command)
    };
    let ran = wait(&revision, "30s");
    assert_eq!(ran.code, 0, "{}", ran.err);
    let ahead = wait("1.999", "30s");
    assert_eq!(ahead.code, 1);
    assert!(ahead.err.contains("REVISION_AHEAD"), "{}", ahead.err);

    laggard.signal(Signal::STOP);
    // Nobody waits for the answer to this one.
    let (second, _) = clients(&server);
    let second = tokio::spawn(async move { second.create("second", &[]).await });
    let revision = loop {
        let mut fleet = admin.fleet.clone();
        let listed = fleet.list_replicas(ListReplicasRequest {});
        let replicas = listed.await.expect("a list").into_inner().replicas;
        let [blue, green] = &replicas[..] else {
            panic!("{replicas:?}")
        };
        if blue.applied_revision != revision {
            assert_eq!((green.lag, &green.applied_revision), (1, &revision));
            break blue.applied_revision.clone();
        }
    };
    let begun = Instant::now();
    let late = wait(&revision, "2s");
    let took = begun.elapsed();
    assert_eq!(late.code, 1, "{}", late.out);
    for part in ["COMMITTED_NOT_FLEET_WIDE", "waiting for green", &revision] {
        assert!(late.err.contains(part), "{part} is not in {}", late.err);
    }
    assert!(
        took >= Duration::from_secs(1),
        "it waited for {took:?} only"
    );
    laggard.signal(Signal::CONT);
    let ran = wait(&revision, "30s");
    assert_eq!(ran.code, 0, "{}", ran.err);
    second.await.expect("the second key");
}

/// Once every lease must have run out, what was committed is in force everywhere; what may never have been is not.
#[test]
fn a_revision_that_is_not_known_to_be_there_is_not_in_force_by_the_passing_of_time() {
    let Ok(redis) = RedisServer::start(&[]) else {
        return;
    };
    let dir = scratch();
    let data = dir.path().join("a");
    made(&redis, &data, &["--lease", "1s"]);
    let server = replica(&redis, &data).start();
    redis.pause();
    let mut command = portcullis(&["fleet", "await", "1.999", "--timeout", "5s", "--data-dir"]);
    command.arg(&data);
    let ran = run(command);
    assert_eq!(ran.code, 1, "{}", ran.out);
    assert!(
        ran.err.contains("UNAVAILABLE") || ran.err.contains("COMMITTED_NOT_FLEET_WIDE"),
        "{}",
        ran.err
    );
    redis.resume();
    drop(server);
}

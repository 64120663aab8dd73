//! What a fleet's start refuses.

use super::*;

#[test]
fn a_redis_without_a_store_names_the_command_that_makes_one() {
    let Ok(redis) = RedisServer::start(&[]) else {
        return;
    };
    let dir = scratch();
    let data = dir.path().join("it's");
    let setup = || replica(&redis, &data).args(["--namespace", "blue"]);
    let exit = refuses("row 127c", setup(), &["namespace blue"]);
    assert_eq!(keys_in(&redis), 0, "row 127c: serve makes none");
    let command = exit.stderr.lines().find_map(|line| {
        let at = line.find(env!("CARGO_BIN_EXE_portcullis"))?;
        Some(line[at..].to_owned())
    });
    let command = command.unwrap_or_else(|| panic!("no command: {exit}"));
    let ran = run({
        let mut shell = Command::new("sh");
        shell
            .args(["-c", &command])
            .env_clear()
            .stdin(Stdio::null());
        shell
    });
    assert_eq!(ran.code, 0, "row 127c: {command}: {}", ran.err);
    drop(setup().start());
}

#[test]
fn a_redis_that_may_lose_what_it_acknowledged_is_refused() {
    for (line, word) in [
        ("appendfsync everysec", "appendfsync"),
        ("appendonly no", "appendonly"),
    ] {
        let Ok(redis) = RedisServer::start(&[line]) else {
            return;
        };
        let dir = scratch();
        let data = dir.path().join("a");
        let ran = run(init(&redis, &data, &[]));
        assert!(
            ran.code == 1 && ran.err.contains(word),
            "row 127b: {line}: {}",
            ran.err
        );
        assert_eq!(
            (keys_in(&redis), token_of(&data)),
            (0, None),
            "row 127b: {line}"
        );
        let assume = ["--redis-durability", "assume"];
        made(&redis, &data, &assume);
        refuses("row 127b", replica(&redis, &data), &[word, "assume"]);
        drop(replica(&redis, &data).args(assume).start());
    }
    let eviction = ["maxmemory 100mb", "maxmemory-policy allkeys-lru"];
    let Ok(redis) = RedisServer::start(&eviction) else {
        return;
    };
    let dir = scratch();
    for how in ["verify", "assume"] {
        let ran = run(init(&redis, dir.path(), &["--redis-durability", how]));
        assert!(
            ran.code == 1 && ran.err.contains("noeviction"),
            "{how}: {}",
            ran.err
        );
    }
}

#[test]
fn a_lease_other_than_the_stores_is_refused() {
    let Ok(redis) = RedisServer::start(&[]) else {
        return;
    };
    let dir = scratch();
    let data = dir.path().join("a");
    made(&redis, &data, &["--lease", "5s"]);
    refuses(
        "row 127a",
        replica(&redis, &data).env("PORTCULLIS_LEASE", "15s"),
        &["lease", "5s", "15s"],
    );
    drop(replica(&redis, &data).args(["--lease", "5000ms"]).start());
}

#[test]
fn a_redis_that_is_not_there_or_does_not_answer_is_an_error_in_time() {
    let Ok(redis) = RedisServer::start(&[]) else {
        return;
    };
    let dir = scratch();
    let data = dir.path().join("a");
    made(&redis, &data, &[]);
    redis.pause();
    refuses(
        "a Redis that hangs",
        replica(&redis, &data),
        &[&redis.url()],
    );
    let begun = Instant::now();
    let ran = run(init(&redis, &dir.path().join("b"), &[]));
    assert_eq!(ran.code, 1, "{}", ran.out);
    assert!(ran.err.contains(&redis.url()), "{}", ran.err);
    assert!(begun.elapsed() < Duration::from_secs(20));
    redis.resume();
    let url = redis.url();
    drop(redis);
    let setup = Setup::new().data_dir(&data).arg("--redis").arg(&url);
    refuses("no Redis", setup, &[&url]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_password_of_redis_is_printed_nowhere() {
    let Ok(redis) = RedisServer::start(&[]) else {
        return;
    };
    redis.cli(&[
        "ACL",
        "SETUSER",
        "app",
        "on",
        &format!(">{PASSWORD}"),
        "~*",
        "&*",
        "+@all",
    ]);
    // Nobody gets in as this one, whose rights the server loads its file with.
    redis.cli(&["ACL", "SETUSER", "default", "off", "resetpass"]);
    let address = format!("127.0.0.1:{}", redis.port());
    let (in_url, without) = (
        format!("redis://app:{PASSWORD}@{address}"),
        format!("redis://app@{address}"),
    );
    let dir = scratch();
    let data = dir.path().join("a");
    let quiet = |what: &str, out: &str, err: &str| {
        assert!(
            !out.contains("hunter2") && !err.contains("hunter2"),
            "{what}: {out}{err}"
        );
    };
    let mut command = portcullis(&["init", "--redis", &without, "--data-dir"]);
    command
        .arg(&data)
        .env("PORTCULLIS_REDIS_PASSWORD", PASSWORD);
    let ran = run(command);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(ran.out.contains("PORTCULLIS_REDIS_PASSWORD"), "{}", ran.out);
    quiet("init", &ran.out, &ran.err);

    let setup = |url: &str| {
        let setup = Setup::new().data_dir(&data).arg("--redis").arg(url);
        setup.args(["--log", "trace"])
    };
    for (what, setup) in [
        ("in the URL", setup(&in_url)),
        (
            "in the variable",
            setup(&without).env("PORTCULLIS_REDIS_PASSWORD", PASSWORD),
        ),
    ] {
        let server = setup.start();
        let (admin, _) = clients(&server);
        admin.create(what, &[]).await;
        let exit = server.stop();
        assert!(exit.status.success(), "{what}: {exit}");
        quiet(what, &exit.stdout, &exit.stderr);
    }
    let wrong = setup(&without).env("PORTCULLIS_REDIS_PASSWORD", "hunter2-but-another");
    let exit = refuses("a wrong password", wrong, &[&address]);
    quiet("a wrong password", &exit.stdout, &exit.stderr);
}

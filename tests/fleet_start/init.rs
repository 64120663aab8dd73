//! What `init` makes, and what it leaves alone.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_init_changes_nothing_and_says_so() {
    let Ok(redis) = RedisServer::start(&[]) else {
        return;
    };
    let dir = scratch();
    let (data, elsewhere) = (dir.path().join("a"), dir.path().join("b"));
    made(&redis, &data, &["--lease", "7s"]);
    let token = token_of(&data);
    for (directory, more, says) in [
        (&data, &[][..], ""),
        (&data, &["--lease", "7s"], ""),
        (
            &data,
            &["--lease", "9s"],
            "note: the store's lease is 7s and stays so",
        ),
        (
            &elsewhere,
            &["--lease", "1m"],
            "note: the store's lease is 7s and stays so",
        ),
    ] {
        let ran = run(init(&redis, directory, more));
        assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
        for part in [
            "is there already, and nothing was changed",
            "lease 7s",
            "serve --redis",
        ] {
            assert!(ran.out.contains(part), "{part} is not in {}", ran.out);
        }
        assert!(ran.err.contains(says), "{}", ran.err);
        assert_eq!(ran.err.is_empty(), says.is_empty(), "{}", ran.err);
    }
    assert_eq!(token_of(&data), token);
    assert_eq!(token_of(&elsewhere), None);
    let server = replica(&redis, &elsewhere).start();
    let root = Clients::of(server.admin(), &Token::bearer(&token.expect("a token")));
    root.create("by the first root", &[]).await;
    assert_eq!(made_by_init(&root).await, 1);
}

/// What an init leaves that was killed before it wrote the first records.
async fn begin(redis: &RedisServer) {
    let (settings, lease) = (redis_settings(redis), Duration::from_secs(6));
    let (_store, is_new) = RedisStore::make(&settings, "killed", lease)
        .await
        .expect("a store");
    assert!(is_new);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_init_that_was_killed_is_completed_by_the_next() {
    for restarted in [false, true] {
        let Ok(mut redis) = RedisServer::start(&[]) else {
            return;
        };
        let dir = scratch();
        let data = dir.path().join("a");
        begin(&redis).await;
        if restarted {
            redis.restart();
        }
        refuses(
            "a store without records",
            replica(&redis, &data),
            &["init --redis"],
        );
        let ran = made(&redis, &data, &["--lease", "20s"]);
        assert!(
            ran.err.contains("the store's lease is 6s and stays so"),
            "{}",
            ran.err
        );
        let server = replica(&redis, &data).start();
        let (admin, _) = clients(&server);
        admin.create("first", &[]).await;
        assert_eq!(made_by_init(&admin).await, 1);
        assert!(server.stop().status.success());
        assert!(
            run(init(&redis, &data, &[]))
                .out
                .contains("nothing was changed")
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_inits_at_once_make_one_store_with_one_root() {
    const AT_ONCE: usize = 6;
    let Ok(redis) = RedisServer::start(&[]) else {
        return;
    };
    let dir = scratch();
    let directory = |n: usize| dir.path().join(n.to_string());
    let begun: Vec<_> = (0..AT_ONCE)
        .map(|n| {
            let mut command = init(&redis, &directory(n), &[]);
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
            command.spawn().expect("it runs")
        })
        .collect();
    let mut makers = Vec::new();
    for (n, child) in begun.into_iter().enumerate() {
        let output = child.wait_with_output().expect("it ends");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "{said}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        if said.starts_with("made the store") {
            makers.push(n);
        } else {
            assert_eq!(token_of(&directory(n)), None, "{said}");
        }
    }
    let [maker] = makers[..] else {
        panic!("made by {makers:?}")
    };
    let server = replica(&redis, &directory(maker)).start();
    let (admin, _) = clients(&server);
    admin.create("by the one root", &[]).await;
    assert_eq!(made_by_init(&admin).await, 1);
    assert!(!server.stdout().contains("no longer valid"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_given_root_token_is_the_root_and_is_kept_nowhere() {
    let Ok(redis) = RedisServer::start(&[]) else {
        return;
    };
    let token = Server::start().root_token();
    let dir = scratch();
    let data = dir.path().join("a");
    let mut command = init(&redis, &data, &[]);
    command.env("PORTCULLIS_ROOT_TOKEN", &token);
    let ran = run(command);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(
        ran.out
            .contains("root token: the one in PORTCULLIS_ROOT_TOKEN"),
        "{}",
        ran.out
    );
    assert!(!ran.out.contains(&token) && !ran.err.contains(&token));
    assert_eq!(token_of(&data), None);
    let server = replica(&redis, &data).start();
    Clients::of(server.admin(), &Token::bearer(&token))
        .create("first", &[])
        .await;
}

#[test]
fn the_root_token_of_another_store_is_not_overwritten() {
    let Ok(redis) = RedisServer::start(&[]) else {
        return;
    };
    let dir = scratch();
    let embedded = dir.path().join("embedded");
    let token = Setup::new().data_dir(&embedded).start().root_token();
    let ran = run(init(&redis, &embedded, &[]));
    assert_eq!(ran.code, 1, "{}", ran.out);
    for part in ["root.token", "embedded store", "--data-dir"] {
        assert!(ran.err.contains(part), "{}", ran.err);
    }
    assert_eq!(token_of(&embedded), Some(token));
    assert_eq!(keys_in(&redis), 0, "and no store is begun");

    let fleet = dir.path().join("fleet");
    made(&redis, &fleet, &[]);
    let (token, keys) = (token_of(&fleet), keys_in(&redis));
    let ran = run(init(&redis, &fleet, &["--namespace", "other"]));
    assert_eq!(ran.code, 1, "{}", ran.out);
    assert!(
        ran.err.contains("redis.mark") && ran.err.contains("--data-dir"),
        "{}",
        ran.err
    );
    assert_eq!((token_of(&fleet), keys_in(&redis)), (token.clone(), keys));

    // A replica that lost its settings must not make a store of its own in the place of the fleet's.
    let exit = refuses(
        "a fleet's directory without its Redis",
        Setup::new().data_dir(&fleet),
        &["redis.mark", "--redis"],
    );
    assert!(exit.stderr.contains(&fleet.display().to_string()));
    assert_eq!(token_of(&fleet), token);
    assert!(!fleet.join("store.redb").exists());

    // A token that somebody put there is not this store's either.
    let copied = dir.path().join("copied");
    fs::create_dir(&copied).expect("a directory");
    fs::set_permissions(&copied, std::os::unix::fs::PermissionsExt::from_mode(0o700))
        .expect("its mode");
    fs::write(copied.join("root.token"), "a token\n").expect("a file");
    let ran = run(init(&redis, &copied, &["--namespace", "third"]));
    assert_eq!(ran.code, 1, "{}", ran.out);
    assert_eq!(
        (token_of(&copied).as_deref(), keys_in(&redis)),
        (Some("a token"), keys)
    );
    let ran = run(init(&redis, &copied, &[]));
    assert!(
        ran.code == 0 && ran.out.contains("nothing was changed"),
        "{}",
        ran.err
    );
}

//! What a server must be like, and what is said if it is not. Never a password.

use std::fmt::Write as _;

use portcullis::{
    config::{DEFAULT_LEASE, Password, RedisAddress, RedisDurability, RedisSettings},
    store::{
        Store as _,
        redis::{RedisStartError, RedisStore},
    },
};

use super::{Site, support::RedisServer, support::redis_settings, write};

const PASSWORD: &str = "correct-horse-4711";

/// What an error says in every way that it can.
fn said(error: &impl std::error::Error) -> String {
    let mut said = format!("{error} {error:?} {error:#?}");
    let mut source = error.source();
    while let Some(error) = source {
        write!(said, "{error} {error:?}").expect("a text");
        source = error.source();
    }
    said
}

async fn refused(settings: &RedisSettings) -> RedisStartError {
    let made = RedisStore::make(settings, "maker", DEFAULT_LEASE).await;
    made.map(drop).expect_err("it is no good")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_may_lose_what_it_acknowledged_is_refused_unless_somebody_vouches_for_it() {
    for (lines, setting) in [
        (&["appendonly no"][..], "appendonly"),
        (&["appendfsync everysec"], "appendfsync"),
        (&["appendfsync no"], "appendfsync"),
        (
            &["no-appendfsync-on-rewrite yes"],
            "no-appendfsync-on-rewrite",
        ),
        // With this one's rights the file is loaded.
        (&["user default on nopass ~* &* +@all -debug"], "`default`"),
    ] {
        let Ok(server) = RedisServer::start(lines) else {
            return;
        };
        let settings = redis_settings(&server);
        let error = refused(&settings).await;
        assert!(
            matches!(error, RedisStartError::NotDurable { .. }),
            "{error:?}"
        );
        let said = error.to_string();
        assert!(
            said.contains(setting) && said.contains("--redis-durability assume"),
            "{said}"
        );
        let assumed = RedisSettings {
            durability: RedisDurability::Assume,
            ..settings.clone()
        };
        let made = RedisStore::make(&assumed, "maker", DEFAULT_LEASE).await;
        assert_eq!(made.expect("a store").0.durability(), "assumed");
        // So is one that is there already.
        let opened = RedisStore::connect(&settings, "replica").await;
        let error = opened.map(drop).expect_err("it is no good");
        assert!(
            matches!(error, RedisStartError::NotDurable { .. }),
            "{error:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_with_replicas_and_one_that_is_a_replica_are_refused() {
    let (Ok(primary), Ok(replica)) = (RedisServer::start(&[]), RedisServer::start(&[])) else {
        return;
    };
    replica.cli(&["REPLICAOF", "127.0.0.1", &*primary.port().to_string()]);
    super::eventually("it is attached", || async {
        let info = primary.cli(&["INFO", "replication"]);
        format!("{info:?}").contains("connected_slaves:1")
    })
    .await;
    for server in [&primary, &replica] {
        let error = refused(&redis_settings(server)).await;
        assert!(
            matches!(error, RedisStartError::NotDurable { .. }),
            "{error:?}"
        );
        assert!(error.to_string().contains("replica"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_throws_keys_away_is_refused_whatever_is_assumed() {
    // Without a limit it throws nothing away yet; one may be set while it runs.
    let lines = ["maxmemory-policy allkeys-lru"];
    let Ok(server) = RedisServer::start(&lines) else {
        return;
    };
    for durability in [RedisDurability::Verify, RedisDurability::Assume] {
        let settings = RedisSettings {
            durability,
            ..redis_settings(&server)
        };
        let error = refused(&settings).await;
        assert!(matches!(error, RedisStartError::Evicts { .. }), "{error:?}");
        let said = error.to_string();
        assert!(
            said.contains("allkeys-lru") && said.contains("noeviction"),
            "{said}"
        );
    }
    server.cli(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    let made = RedisStore::make(&redis_settings(&server), "maker", DEFAULT_LEASE).await;
    let (store, is_new) = made.expect("a store");
    assert!(is_new);
    assert_eq!(store.durability(), "appendfsync always");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_there_is_no_store_none_is_opened() {
    let Ok(server) = RedisServer::start(&[]) else {
        return;
    };
    let opened = RedisStore::connect(&redis_settings(&server), "replica").await;
    let error = opened.map(drop).expect_err("there is none");
    assert!(
        matches!(error, RedisStartError::NotMade { .. }),
        "{error:?}"
    );
    assert!(error.to_string().contains("portcullis init"), "{error}");
    let keys = server.cli(&["DBSIZE"]);
    assert_eq!(keys, redis::Value::Int(0), "looking makes nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_error_tells_the_password() {
    let Ok(site) = Site::new(&[]).await else {
        return;
    };
    let rule = [
        "ACL",
        "SETUSER",
        "good",
        "on",
        ">correct-horse-4711",
        "~*",
        "&*",
        "+@all",
    ];
    site.server.cli(&rule);
    let with = |user: &str, password: &str| RedisSettings {
        user: Some(user.to_owned()),
        password: Some(Password::new(password.to_owned())),
        ..site.settings.clone()
    };
    assert!(!format!("{:?}", with("good", PASSWORD)).contains(PASSWORD));
    let wrong = format!("{PASSWORD}-wrong");
    let closed = RedisSettings {
        address: RedisAddress::Tcp("127.0.0.1".to_owned(), 1),
        ..with("good", PASSWORD)
    };
    let tls = RedisSettings {
        address: RedisAddress::Tls {
            host: "127.0.0.1".to_owned(),
            port: site.server.port(),
            ca: None,
            client: None,
        },
        ..with("good", PASSWORD)
    };
    let socket = RedisSettings {
        address: RedisAddress::Unix("/nowhere/redis.sock".into()),
        ..with("good", PASSWORD)
    };
    let name = RedisSettings {
        address: RedisAddress::Tcp("no.such.host.invalid".to_owned(), 1),
        ..with("good", PASSWORD)
    };
    for settings in [
        with("good", &wrong),
        with("nobody", PASSWORD),
        closed,
        tls,
        socket,
        name,
    ] {
        let error = refused(&settings).await;
        let said = said(&error);
        assert!(!said.contains(PASSWORD), "{said}");
        assert!(
            said.contains(&settings.address.to_string()),
            "it says where: {said}"
        );
    }
    // Withdrawn while it runs.
    let (store, is_new) = RedisStore::make(&with("good", PASSWORD), "maker", DEFAULT_LEASE)
        .await
        .expect("it is let in");
    assert!(!is_new, "the store is there already");
    write(&store, 1, "").await.expect("written");
    site.server.cli(&["ACL", "DELUSER", "good"]);
    for _ in 0..3 {
        let error = write(&store, 2, "").await.expect_err("not let in any more");
        assert!(!said(&error).contains(PASSWORD), "{error:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_not_ask_for_the_durability_is_told_what_to_do() {
    let Ok(site) = Site::new(&[]).await else {
        return;
    };
    site.server.cli(&[
        "ACL",
        "SETUSER",
        "curt",
        "on",
        ">correct-horse-4711",
        "~*",
        "&*",
        "+@all",
        "-config",
    ]);
    let settings = RedisSettings {
        user: Some("curt".to_owned()),
        password: Some(Password::new(PASSWORD.to_owned())),
        ..site.settings.clone()
    };
    let error = refused(&settings).await;
    assert!(
        matches!(error, RedisStartError::NotToldDurable { .. }),
        "{error:?}"
    );
    let said = error.to_string();
    assert!(said.contains("ACL SETUSER curt +config|get"), "{said}");
    assert!(said.contains("--redis-durability assume"), "{said}");
    let assumed = RedisSettings {
        durability: RedisDurability::Assume,
        ..settings
    };
    assert!(RedisStore::connect(&assumed, "replica").await.is_ok());
}

/// Opens the store by this way, and uses it.
async fn works(settings: &RedisSettings) -> Result<(), RedisStartError> {
    let (store, _) = RedisStore::make(settings, "maker", DEFAULT_LEASE).await?;
    let at = write(&store, 1, "").await.expect("written");
    assert_eq!(store.head().await.expect("a head"), at);
    let mut changes = store.follow(at).await.expect("a follower");
    let next = write(&store, 1, "").await.expect("written");
    let change = super::next(&mut changes).await.expect("a change");
    assert_eq!(change.revision, next);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_and_tls_lead_to_the_server_and_only_with_the_right_certificates() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = |name: &str| dir.path().join(name);
    let mut certificates = Vec::new();
    for name in ["server", "client", "other"] {
        let names = vec!["localhost".to_owned()];
        let made = rcgen::generate_simple_self_signed(names).expect("a certificate");
        let (chain, key) = (path(&format!("{name}.pem")), path(&format!("{name}.key")));
        std::fs::write(&chain, made.cert.pem()).expect("a file");
        std::fs::write(&key, made.signing_key.serialize_pem()).expect("a file");
        certificates.push((chain, key));
    }
    let [server, client, other] = <[_; 3]>::try_from(certificates).expect("three");
    let tls_port = std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("a port")
        .port();
    let socket = path("redis.sock");
    let lines = [
        format!("unixsocket {}", socket.display()),
        format!("tls-port {tls_port}"),
        format!("tls-cert-file {}", server.0.display()),
        format!("tls-key-file {}", server.1.display()),
        format!("tls-ca-cert-file {}", client.0.display()),
        "tls-auth-clients yes".to_owned(),
    ];
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let Ok(redis) = RedisServer::start(&lines) else {
        return;
    };
    let by = |address| RedisSettings {
        address,
        ..redis_settings(&redis)
    };
    let made = works(&by(RedisAddress::Unix(socket))).await;
    made.expect("the socket leads there");
    let tls = |host: &str, ca: Option<&std::path::PathBuf>, client: Option<&(_, _)>| {
        by(RedisAddress::Tls {
            host: host.to_owned(),
            port: tls_port,
            ca: ca.cloned(),
            client: client.cloned(),
        })
    };
    let good = tls("localhost", Some(&server.0), Some(&client));
    works(&good).await.expect("TLS leads there");
    for (bad, what) in [
        (
            tls("localhost", Some(&other.0), Some(&client)),
            "another CA",
        ),
        (tls("localhost", None, Some(&client)), "the usual CAs"),
        (
            tls("127.0.0.1", Some(&server.0), Some(&client)),
            "another name",
        ),
        (
            tls("localhost", Some(&server.0), Some(&other)),
            "another client",
        ),
        (tls("localhost", Some(&server.0), None), "no client"),
        (tls("localhost", Some(&path("none")), None), "no file"),
    ] {
        let error = works(&bad).await.expect_err(what);
        let is_due = matches!(error, RedisStartError::Unreachable { .. });
        assert!(is_due, "{what}: {error:?}");
    }
}

use std::time::Duration;

use super::*;

const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n";
const KEY: &str = "-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----\n";

fn redis(url: &str) -> Given {
    Given::env(&[("PORTCULLIS_REDIS", url)])
}

impl Given {
    fn and(mut self, name: &'static str, value: &str) -> Self {
        self.env.insert(name, value.to_owned());
        self
    }

    fn with_file(mut self, name: &'static str, content: &'static str) -> Self {
        self.others.insert(name, content.to_owned());
        self
    }

    #[track_caller]
    fn redis(&self) -> RedisSettings {
        self.settings().redis.expect("a Redis")
    }

    fn row(&self, name: &str) -> (String, String) {
        let rows = self.explain().unwrap().rows;
        let row = rows.into_iter().find(|row| row.name == name).unwrap();
        (row.value, row.origin.to_string())
    }
}

#[test]
fn a_url_says_where_redis_is_and_who_calls() {
    for (url, address, user, password, database) in [
        ("redis://h", "redis://h:6379", None, None, 0),
        ("redis://h/", "redis://h:6379", None, None, 0),
        (
            "redis://my_redis-1.example:1/2",
            "redis://my_redis-1.example:1",
            None,
            None,
            2,
        ),
        (
            "redis://:pw@127.0.0.1",
            "redis://127.0.0.1:6379",
            None,
            Some("pw"),
            0,
        ),
        (
            "redis://app:p%40s%2Fs%3a%25@[::1]:7/15",
            "redis://[::1]:7",
            Some("app"),
            Some("p@s/s:%"),
            15,
        ),
        (
            "redis://a%20b:p:q@[2001:DB8::1]",
            "redis://[2001:db8::1]:6379",
            Some("a b"),
            Some("p:q"),
            0,
        ),
        ("rediss://h:6380/1", "rediss://h:6380", None, None, 1),
        (
            "redis+unix:///run/redis.sock",
            "redis+unix:///run/redis.sock",
            None,
            None,
            0,
        ),
        (
            "redis+unix:///run/a%20b.sock?db=3",
            "redis+unix:///run/a b.sock",
            None,
            None,
            3,
        ),
    ] {
        let redis = redis(url).redis();
        assert_eq!(redis.address.to_string(), address, "{url}");
        assert_eq!(redis.user.as_deref(), user, "{url}");
        assert_eq!(
            redis.password.as_ref().map(Password::expose),
            password,
            "{url}"
        );
        assert_eq!(redis.database, database, "{url}");
    }
    let brackets = redis("redis://[::1]:7").redis().address;
    assert_eq!(
        brackets,
        RedisAddress::Tcp("::1".into(), 7),
        "as a resolver wants it"
    );
}

#[test]
fn the_defaults_of_a_fleet_are_as_documented() {
    let given = redis("redis://h");
    let settings = given.redis();
    assert_eq!(settings.namespace, "portcullis");
    assert_eq!(settings.durability, RedisDurability::Verify);
    assert_eq!(given.settings().lease, None, "whatever the store has");
    assert_eq!(DEFAULT_LEASE, Duration::from_secs(15));
    let tls = redis("rediss://h").redis().address;
    let RedisAddress::Tls { ca, client, .. } = tls else {
        panic!("{tls:?}")
    };
    assert!(ca.is_none() && client.is_none());
}

#[test]
fn everything_about_a_fleet_can_be_given_in_the_file_but_for_its_password() {
    let settings = Given::file(
        r#"redis = "rediss://h:1/2"
           redis-user = "app"
           redis-ca = "ca.pem"
           redis-cert = "cert.pem"
           redis-key = "key.pem"
           redis-durability = "assume"
           namespace = "a.b-C_1"
           lease = "1500ms""#,
    )
    .with_file("ca.pem", CERTIFICATE)
    .with_file("cert.pem", CERTIFICATE)
    .with_file("key.pem", KEY)
    .and("PORTCULLIS_REDIS_PASSWORD", "hunter2")
    .settings();
    assert_eq!(
        settings.redis,
        Some(RedisSettings {
            address: RedisAddress::Tls {
                host: "h".into(),
                port: 1,
                ca: Some("ca.pem".into()),
                client: Some(("cert.pem".into(), "key.pem".into())),
            },
            user: Some("app".into()),
            password: Some(Password::new("hunter2".into())),
            database: 2,
            namespace: "a.b-C_1".into(),
            durability: RedisDurability::Assume,
        })
    );
    assert_eq!(settings.lease, Some(Duration::from_millis(1_500)));
    Given::file("redis = \"redis://:hunter2@h\"")
        .refused(&["redis, from p.toml:1", "PORTCULLIS_REDIS_PASSWORD"]);
    for name in ["redis-password", "redis_password"] {
        let text = format!("redis = \"redis://h\"\n{name} = \"hunter2\"");
        Given::file(text.leak()).refused(&["p.toml:2", "PORTCULLIS_REDIS_PASSWORD"]);
    }
}

#[test]
fn what_is_no_url_of_a_redis_is_refused_with_what_to_write() {
    for (url, says) in [
        ("localhost:6379", "redis://HOST"),
        ("http://h", "redis+unix://"),
        ("redis:h", "redis://HOST"),
        ("redis-sentinel://h", "scheme"),
        ("REDIS://h", "scheme"),
        ("redis://", "host"),
        ("redis://:1", "host"),
        ("redis://h:", "host"),
        ("redis://h:0", "host"),
        ("redis://h:65536", "host"),
        ("redis://h:+1", "host"),
        ("redis://h:01", "host"),
        ("redis://::1", "IPV6"),
        ("redis://[::1", "IPV6"),
        ("redis://[::1]1", "IPV6"),
        ("redis://[1.2.3.4]", "IPV6"),
        ("redis://h h", "host"),
        ("redis://h1,h2", "host"),
        ("redis://h/x", "number"),
        ("redis://h/-1", "number"),
        ("redis://h/1/2", "number"),
        ("redis://h/01", "number"),
        ("redis://h/4294967296", "number"),
        ("redis://h?db=1", "query"),
        ("redis://h/1?", "query"),
        ("redis://h#x", "%23"),
        ("redis+unix://", "socket"),
        ("redis+unix:///", "socket"),
        ("redis+unix://run/x", "socket"),
        ("redis+unix:///a%00b", "socket"),
        ("redis+unix:///a?db=", "number"),
        ("redis+unix:///a?database=1", "db"),
        ("redis+unix:///a?db=1&x=2", "number"),
        (&format!("redis+unix:///{}", "a".repeat(107)), "shorten"),
    ] {
        redis(url).refused(&["redis, from PORTCULLIS_REDIS", says]);
    }
}

#[test]
fn a_password_is_printed_nowhere() {
    for url in [
        "redis://:hunter2@h",
        "redis://hunter2@h",
        "redis://app:hunter2@h:x",
        "redis://app:hunter2",
        "redis://:hunter2",
        "redis://:a/hunter2@h",
        "redis://:a@hunter2@h",
        "redis://:a#hunter2@h",
        "redis://:a?hunter2@h",
        "redis://:%hunter2@h",
        "redis://:%ff%hunter2@h",
        "redis://:%ffhunter2@h",
        "redis://h?password=hunter2",
        "redis://h?hunter2",
        "redis:hunter2@h",
        "hunter2",
        "hunter2://h",
        "redis://app:a:hunter2@h/hunter2",
        "redis+unix://:hunter2@/run/x",
        "redis+unix:///x?password=hunter2",
        "redis+unix:///x?hunter2",
    ] {
        for mut given in [redis(url), Given::default(), Given::file("log = \"info\"")] {
            if given.env.is_empty() {
                given.flags.redis.redis = Some(Hidden::from(OsString::from(url)));
            }
            let shown = match given.explain() {
                Ok(explained) => format!("{explained:?}"),
                Err(faults) => format!("{faults}\n{faults:?}"),
            };
            let flags = format!("{:?}", given.flags);
            assert!(!shown.contains("hunter2"), "{url}: {shown}");
            assert!(!flags.contains("hunter2"), "{url}: {flags}");
        }
        let text = format!("redis = \"{url}\"");
        let shown = Given::file(text.leak()).explain().unwrap_err().to_string();
        assert!(!shown.contains("hunter2"), "{url}: {shown}");
    }
    let given = redis("redis://app@h").and("PORTCULLIS_REDIS_PASSWORD", "hunter2");
    let shown = format!("{:?}", given.explain().unwrap());
    assert!(!shown.contains("hunter2"), "{shown}");
    assert_eq!(
        given.row("redis-password"),
        ("set".into(), "PORTCULLIS_REDIS_PASSWORD".into())
    );
    let given = redis("rediss://app:hunter2@h:1/2");
    assert_eq!(given.row("redis").0, "rediss://h:1/2");
    assert_eq!(given.redis().password.unwrap().expose(), "hunter2");
}

#[test]
fn a_users_password_has_one_place() {
    let variable = "PORTCULLIS_REDIS_PASSWORD";
    redis("redis://:a@h")
        .and(variable, "b")
        .refused(&[variable, "out of the URL"]);
    // Not even if they are equal: one of them will be changed alone.
    redis("redis://:a@h")
        .and(variable, "a")
        .refused(&[variable]);
    redis("redis://a:b@h")
        .and("PORTCULLIS_REDIS_USER", "c")
        .refused(&["redis-user", "leave one"]);
    redis("redis://app@h").refused(&["no password", variable]);
    redis("redis://h")
        .and("PORTCULLIS_REDIS_USER", "app")
        .refused(&["no password", variable]);
    // A password alone is the default user's.
    assert_eq!(redis("redis://h").and(variable, "p").redis().user, None);
    let redis = redis("redis+unix:///run/x")
        .and("PORTCULLIS_REDIS_USER", "app")
        .and(variable, "p:@/%41")
        .redis();
    assert_eq!(redis.user.as_deref(), Some("app"));
    assert_eq!(
        redis.password.unwrap().expose(),
        "p:@/%41",
        "taken as it stands"
    );
}

#[test]
fn without_a_redis_nothing_is_said_about_one() {
    for (variable, value) in [
        ("PORTCULLIS_REDIS_USER", "app"),
        ("PORTCULLIS_REDIS_PASSWORD", "hunter2"),
        ("PORTCULLIS_REDIS_CA", "ca.pem"),
        ("PORTCULLIS_REDIS_CERT", "ca.pem"),
        ("PORTCULLIS_REDIS_KEY", "key.pem"),
        ("PORTCULLIS_REDIS_DURABILITY", "verify"),
        ("PORTCULLIS_NAMESPACE", "portcullis"),
        ("PORTCULLIS_LEASE", "15s"),
    ] {
        let given = Given::env(&[(variable, value)])
            .with_file("ca.pem", CERTIFICATE)
            .with_file("key.pem", KEY);
        given.refused(&[variable, "--redis"]);
    }
    Given::env(&[("PORTCULLIS_NAME", "a")]).settings();
    // What is wrong with the URL is told, and not that there is none.
    let given = redis("nonsense").and("PORTCULLIS_NAMESPACE", "x");
    given.refused(&["redis, from PORTCULLIS_REDIS"]);
    // The file that may name it could not be read.
    let mut given = Given::file("redis =");
    given.flags.redis.namespace = Some("x".into());
    given.refused(&["p.toml:1", "TOML"]);
}

#[test]
fn certificates_go_with_tls_and_are_readable() {
    let tls = || {
        redis("rediss://h")
            .with_file("ca.pem", CERTIFICATE)
            .with_file("key.pem", KEY)
            .with_file("empty", "")
    };
    for variable in ["PORTCULLIS_REDIS_CA", "PORTCULLIS_REDIS_CERT"] {
        for url in ["redis://h", "redis+unix:///x"] {
            let given = redis(url).with_file("ca.pem", CERTIFICATE);
            given
                .and(variable, "ca.pem")
                .refused(&[variable, "rediss://"]);
        }
    }
    tls().and("PORTCULLIS_REDIS_CA", "ca.pem").settings();
    tls()
        .and("PORTCULLIS_REDIS_CERT", "ca.pem")
        .refused(&["redis-cert", "without redis-key"]);
    tls()
        .and("PORTCULLIS_REDIS_KEY", "key.pem")
        .refused(&["redis-key", "without redis-cert"]);
    tls()
        .and("PORTCULLIS_REDIS_CA", "gone.pem")
        .refused(&["gone.pem", "cannot be read"]);
    tls()
        .and("PORTCULLIS_REDIS_CA", "key.pem")
        .refused(&["key.pem", "no certificate"]);
    tls()
        .and("PORTCULLIS_REDIS_CA", "empty")
        .refused(&["empty", "no certificate"]);
    // One that cannot be read is not called missing.
    tls()
        .and("PORTCULLIS_REDIS_CERT", "gone.pem")
        .and("PORTCULLIS_REDIS_KEY", "key.pem")
        .refused(&["redis-cert", "gone.pem"]);
    tls()
        .and("PORTCULLIS_REDIS_CERT", "ca.pem")
        .and("PORTCULLIS_REDIS_KEY", "ca.pem")
        .refused(&["redis-key", "no private key"]);
    // Whoever sets the variable to the key itself does not find it in the logs.
    let faults = tls()
        .and("PORTCULLIS_REDIS_CERT", "ca.pem")
        .and("PORTCULLIS_REDIS_KEY", KEY)
        .faults();
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert!(
        faults[0].contains("no file's name") && !faults[0].contains("hunter2"),
        "{faults:?}"
    );
}

#[test]
fn values_about_a_fleet_have_bounds() {
    for (variable, good, bad) in [
        (
            "PORTCULLIS_NAMESPACE",
            vec!["a", "A.b_c-1", &"x".repeat(64)],
            vec![" ", "a:b", "{a}", "ä", &"x".repeat(65)],
        ),
        (
            "PORTCULLIS_LEASE",
            vec!["1s", "1000ms", "15s", "10m", "600s"],
            vec![
                "15",
                "0s",
                "999ms",
                "11m",
                "601s",
                "-1s",
                "1.5s",
                "s",
                "15 s",
                "1h",
                "99999999999s",
            ],
        ),
        (
            "PORTCULLIS_REDIS_DURABILITY",
            vec!["verify", "assume"],
            vec!["no", "Verify", " "],
        ),
        ("PORTCULLIS_REDIS_USER", vec!["a"], vec![" ", "a b", "a\nb"]),
    ] {
        for value in good {
            redis("redis://h")
                .and("PORTCULLIS_REDIS_PASSWORD", "p")
                .and(variable, value)
                .settings();
        }
        for value in bad {
            redis("redis://h")
                .and("PORTCULLIS_REDIS_PASSWORD", "p")
                .and(variable, value)
                .refused(&[variable]);
        }
    }
}

#[test]
fn all_faults_about_a_fleet_are_told_at_once() {
    let faults = redis("redis://:hunter2@h:x")
        .and("PORTCULLIS_NAMESPACE", "{x}")
        .and("PORTCULLIS_LEASE", "1h")
        .and("PORTCULLIS_REDIS_DURABILITY", "maybe")
        .and("PORTCULLIS_REDIS_CA", "gone.pem")
        .and("PORTCULLIS_GATE", "nowhere")
        .faults();
    assert_eq!(faults.len(), 6, "{faults:#?}");
    let faults =
        Given::file("redis = \"redis://app:hunter2@h\"\nredis-user = \"b\"\nredis-ca = \"ca.pem\"")
            .with_file("ca.pem", CERTIFICATE)
            .and("PORTCULLIS_REDIS_PASSWORD", "hunter3")
            .faults();
    assert_eq!(faults.len(), 4, "{faults:#?}");
    assert!(!faults.concat().contains("hunter"), "{faults:#?}");
}

#[test]
fn a_url_is_shown_as_it_can_be_typed_again() {
    for (url, shown) in [
        ("redis://app:pw@h", "redis://h:6379"),
        ("redis://h/3", "redis://h:6379/3"),
        ("rediss://[::1]:1", "rediss://[::1]:1"),
        (
            "redis+unix:///a%20b%25%3F%23%C3%A4?db=2",
            "redis+unix:///a%20b%25%3F%23%C3%A4?db=2",
        ),
        ("redis+unix:///run/x.sock", "redis+unix:///run/x.sock"),
    ] {
        let given = redis(url);
        assert_eq!(given.redis().url(), shown);
        assert_eq!(given.row("redis").0, shown);
        let again = redis(shown).redis();
        assert_eq!(
            (again.address, again.database),
            (given.redis().address, given.redis().database)
        );
    }
}

//! What `init` and `serve` both know of a fleet's store.

use std::{path::Path, time::Duration};

use crate::{
    config::{DEFAULT_DATA_DIR, RedisAddress, RedisDurability, RedisSettings},
    store::shared::Standing,
};

/// How long Redis has to be there. What is read from it then takes as long as there are records.
pub(super) const FOUND_WITHIN: Duration = Duration::from_secs(10);

/// What is said of a Redis that was not there for that long.
pub(super) fn silence(address: &RedisAddress) -> String {
    format!(
        "{address} does not answer within {} s; see that it runs and can be reached",
        FOUND_WITHIN.as_secs()
    )
}

/// True if the store has its first records: an `init` may have been killed before it wrote them.
pub(super) fn is_begun(standing: &Standing) -> bool {
    // The first revision of every epoch but the first is the opening of the epoch, which writes no records.
    let opening = |epoch| u64::from(epoch > 1);
    let ends = standing.opened_after.values().chain([&standing.head]);
    ends.into_iter()
        .any(|revision| revision.number > opening(revision.epoch))
}

/// The command that makes the store that these settings name. Without the password.
pub(super) fn init_command(command: &str, redis: &RedisSettings, data_dir: &Path) -> String {
    with_password(
        redis,
        format!(
            "{command} init {} --data-dir {}",
            flags(redis),
            quoted(&data_dir.display().to_string())
        ),
    )
}

/// The command that serves from the store that these settings name. Without the password.
pub(super) fn serve_command(command: &str, redis: &RedisSettings, data_dir: &Path) -> String {
    let data_dir = match data_dir.to_str() {
        Some(DEFAULT_DATA_DIR) => String::new(),
        _ => format!(" --data-dir {}", quoted(&data_dir.display().to_string())),
    };
    with_password(redis, format!("{command} serve {}{data_dir}", flags(redis)))
}

fn with_password(redis: &RedisSettings, command: String) -> String {
    if redis.password.is_some() {
        format!("{command}  (with PORTCULLIS_REDIS_PASSWORD set)")
    } else {
        command
    }
}

/// The flags that lead to this Redis.
fn flags(redis: &RedisSettings) -> String {
    let mut flags = vec![("redis", redis.url())];
    flags.extend(redis.user.clone().map(|user| ("redis-user", user)));
    if let RedisAddress::Tls { ca, client, .. } = &redis.address {
        let (cert, key) = client.clone().unzip();
        for (name, path) in [("redis-ca", ca), ("redis-cert", &cert), ("redis-key", &key)] {
            flags.extend(path.as_ref().map(|path| (name, path.display().to_string())));
        }
    }
    if redis.durability == RedisDurability::Assume {
        flags.push(("redis-durability", "assume".to_owned()));
    }
    if redis.namespace != RedisSettings::DEFAULT_NAMESPACE {
        flags.push(("namespace", redis.namespace.clone()));
    }
    let flags = flags
        .iter()
        .map(|(name, value)| format!("--{name} {}", quoted(value)));
    flags.collect::<Vec<_>>().join(" ")
}

/// The text as a shell takes it for one word.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@%+,=".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{
        config::Password,
        domain::{id::Revision, time::Timestamp},
        store::shared::History,
    };

    fn standing(head: &str, opened_after: &[(u32, &str)]) -> Standing {
        let revision = |text| Revision::parse(text).unwrap();
        let head = revision(head);
        Standing {
            history: History {
                store: "0".repeat(32),
                epoch: head.epoch,
                server: "a".into(),
            },
            server: "a".into(),
            head,
            floor: revision("1.0"),
            opened_after: opened_after
                .iter()
                .map(|(epoch, after)| (*epoch, revision(after)))
                .collect::<BTreeMap<_, _>>(),
            settled: true,
            lease: Duration::from_secs(15),
            time: Timestamp::from_unix_nanos(0),
        }
    }

    #[test]
    fn a_store_that_only_was_restarted_has_no_records_yet() {
        for (head, opened_after, begun) in [
            ("1.0", &[][..], false),
            ("1.1", &[], true),
            ("2.1", &[(2, "1.0")], false),
            ("2.2", &[(2, "1.0")], true),
            ("2.1", &[(2, "1.1")], true),
            ("3.1", &[(2, "1.0"), (3, "2.1")], false),
            ("3.1", &[(2, "1.0"), (3, "2.2")], true),
            ("3.1", &[(2, "1.7"), (3, "2.1")], true),
        ] {
            let standing = standing(head, opened_after);
            assert_eq!(is_begun(&standing), begun, "{head} {opened_after:?}");
        }
    }

    #[test]
    fn a_command_leads_to_the_same_redis_and_holds_no_password() {
        let plain = RedisSettings {
            address: RedisAddress::Tcp("127.0.0.1".into(), 6379),
            user: None,
            password: None,
            database: 0,
            namespace: "portcullis".into(),
            durability: RedisDurability::Verify,
        };
        assert_eq!(
            init_command("portcullis", &plain, Path::new("./data")),
            "portcullis init --redis redis://127.0.0.1:6379 --data-dir ./data"
        );
        assert_eq!(
            serve_command("portcullis", &plain, Path::new("./data")),
            "portcullis serve --redis redis://127.0.0.1:6379"
        );
        let full = RedisSettings {
            address: RedisAddress::Tls {
                host: "h".into(),
                port: 1,
                ca: Some("a b.pem".into()),
                client: Some(("cert.pem".into(), "key.pem".into())),
            },
            user: Some("app".into()),
            password: Some(Password::new("hunter2".into())),
            database: 2,
            namespace: "blue".into(),
            durability: RedisDurability::Assume,
        };
        assert_eq!(
            serve_command("./p", &full, Path::new("it's")),
            "./p serve --redis rediss://h:1/2 --redis-user app --redis-ca 'a b.pem' --redis-cert cert.pem --redis-key key.pem \
             --redis-durability assume --namespace blue --data-dir 'it'\\''s'  (with PORTCULLIS_REDIS_PASSWORD set)"
        );
        let socket = RedisSettings {
            address: RedisAddress::Unix("/run/x.sock".into()),
            database: 3,
            ..plain
        };
        let command = serve_command("p", &socket, Path::new("./data"));
        assert_eq!(command, "p serve --redis 'redis+unix:///run/x.sock?db=3'");
    }
}

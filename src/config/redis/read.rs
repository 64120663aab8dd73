//! Reads the settings of a fleet.

use std::{path::PathBuf, time::Duration};

use super::{
    Password, RedisAddress, RedisDurability, RedisSettings,
    url::{self, Place, RedisUrl},
};
use crate::config::{
    Origin, ReadFile, Setting,
    layers::{Layers, NOT_SET, Noted},
    pem,
};

const PASSWORD_VARIABLE: &str = "PORTCULLIS_REDIS_PASSWORD";
const MIN_LEASE: Duration = Duration::from_secs(1);
const MAX_LEASE: Duration = Duration::from_mins(10);

/// What is said of a fleet, if this is one.
pub(in crate::config) struct FleetSettings {
    pub(in crate::config) redis: Option<RedisSettings>,
    pub(in crate::config) lease: Option<Duration>,
}

/// Reads the settings and notes their rows. `None` if a fault was noted instead.
pub(in crate::config) fn read(
    layers: &mut Layers<'_>,
    read_file: ReadFile<'_>,
) -> Option<FleetSettings> {
    let url = layers.read_unquoted(Setting::Redis, url::parse, RedisUrl::shown);
    let user = layers.read_unquoted(Setting::RedisUser, parse_user, Clone::clone);
    let pem = |layers: &mut Layers<'_>, setting, holds| {
        layers.read_unquoted(
            setting,
            |text| pem::parse(text, holds, read_file).map(|file| file.path),
            |path: &PathBuf| path.display().to_string(),
        )
    };
    let ca = pem(layers, Setting::RedisCa, "CERTIFICATE");
    let cert = pem(layers, Setting::RedisCert, "CERTIFICATE");
    let key = pem(layers, Setting::RedisKey, "PRIVATE KEY");
    let durability = layers.read(Setting::RedisDurability, "verify", parse_durability);
    let namespace = layers.read(
        Setting::Namespace,
        RedisSettings::DEFAULT_NAMESPACE,
        parse_namespace,
    );
    let lease = layers.read_unquoted(Setting::Lease, parse_lease, |lease| shown_span(*lease));
    let password = read_password(layers);

    // Which settings go together can be told only once it is known where they lead.
    let Some(url) = url.ok()? else {
        refuse_without_redis(layers);
        return Some(FleetSettings {
            redis: None,
            lease: None,
        });
    };
    refuse_password_in_file(&url, layers);
    let has_tls = matches!(url.place, Place::Tls { .. });
    check_tls(has_tls, layers);
    let user = one_user(url.user, user.ok()?, layers);
    let password = one_password(url.password, password.ok()?, layers);
    if user.is_some() && password.is_none() {
        layers.conflict(&format!(
            "redis: a user is given and no password, and without one Redis would take this process for its default user; \
             set {PASSWORD_VARIABLE} (to anything, if the user is one with nopass)"
        ));
    }
    let address = match url.place {
        Place::Tcp { host, port } => RedisAddress::Tcp(host, port),
        Place::Tls { host, port } => RedisAddress::Tls {
            host,
            port,
            ca: ca.ok()?,
            client: cert.ok()?.zip(key.ok()?),
        },
        Place::Unix(path) => RedisAddress::Unix(path),
    };
    Some(FleetSettings {
        redis: Some(RedisSettings {
            address,
            user,
            password,
            database: url.database,
            namespace: namespace?,
            durability: durability?,
        }),
        lease: lease.ok()?,
    })
}

/// Reads the password, which has no flag and no place in the file.
fn read_password(layers: &mut Layers<'_>) -> Result<Option<Password>, Noted> {
    const NAME: &str = "redis-password";
    let Some(bytes) = layers.secret(PASSWORD_VARIABLE) else {
        layers.row(NAME, NOT_SET.into(), Origin::Default);
        return Ok(None);
    };
    let origin = Origin::Variable(PASSWORD_VARIABLE.into());
    let Ok(text) = std::str::from_utf8(&bytes) else {
        layers.fault(&format!(
            "{NAME}, from {origin}: is not UTF-8; write it as UTF-8 text"
        ));
        return Err(Noted);
    };
    layers.row(NAME, "set".into(), origin);
    Ok(Some(Password::new(text.to_owned())))
}

/// What is about a fleet says nothing without one, and whoever wrote it meant that there is one.
fn refuse_without_redis(layers: &mut Layers<'_>) {
    let given = [
        Setting::RedisUser,
        Setting::RedisCa,
        Setting::RedisCert,
        Setting::RedisKey,
        Setting::RedisDurability,
        Setting::Namespace,
        Setting::Lease,
    ];
    let given = given.map(|setting| (setting.name(), layers.source(setting)));
    let password = layers
        .secret(PASSWORD_VARIABLE)
        .map(|_| Origin::Variable(PASSWORD_VARIABLE.into()));
    let password = ("redis-password", password.unwrap_or(Origin::Default));
    for (name, origin) in given.into_iter().chain([password]) {
        if origin != Origin::Default {
            layers.conflict(&format!(
                "{name}, from {origin}: is about the Redis of a fleet, and none is named; name it with redis \
                 (--redis redis://HOST:PORT), or take this out"
            ));
        }
    }
}

fn refuse_password_in_file(url: &RedisUrl, layers: &mut Layers<'_>) {
    let origin = layers.source(Setting::Redis);
    if url.password.is_some() && matches!(origin, Origin::File(..)) {
        layers.fault(&format!(
            "redis, from {origin}: has a password, and a secret does not belong in the file; take it out of the URL and set \
             the variable {PASSWORD_VARIABLE}"
        ));
    }
}

fn check_tls(has_tls: bool, layers: &mut Layers<'_>) {
    let [ca, cert, key] = [Setting::RedisCa, Setting::RedisCert, Setting::RedisKey]
        .map(|setting| (setting.name(), layers.source(setting)));
    if !has_tls {
        for (name, origin) in [&ca, &cert, &key] {
            if *origin != Origin::Default {
                layers.conflict(&format!(
                    "{name}, from {origin}: is for TLS, which redis, from {}, does not ask for; write rediss://, or take \
                     this out",
                    layers.source(Setting::Redis)
                ));
            }
        }
        return;
    }
    for ((name, origin), (other, other_origin)) in [(&cert, &key), (&key, &cert)] {
        if *origin != Origin::Default && *other_origin == Origin::Default {
            layers.conflict(&format!(
                "{name}, from {origin}: is of no use without {other}; give both, or neither"
            ));
        }
    }
}

fn one_user(
    in_url: Option<String>,
    apart: Option<String>,
    layers: &mut Layers<'_>,
) -> Option<String> {
    if in_url.is_some() && apart.is_some() {
        layers.conflict(&format!(
            "redis-user, from {}: the URL of redis, from {}, names a user too; leave one of them out",
            layers.source(Setting::RedisUser),
            layers.source(Setting::Redis)
        ));
    }
    in_url.or(apart)
}

fn one_password(
    in_url: Option<Password>,
    apart: Option<Password>,
    layers: &mut Layers<'_>,
) -> Option<Password> {
    if in_url.is_some() && apart.is_some() {
        layers.conflict(&format!(
            "redis-password, from {PASSWORD_VARIABLE}: the URL of redis, from {}, holds a password too; take it out of the \
             URL",
            layers.source(Setting::Redis)
        ));
    }
    in_url.or(apart)
}

fn parse_user(text: &str) -> Result<String, String> {
    if text.is_empty() || text.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err("is no user of Redis: it is empty, or has blanks; name an ACL user".into());
    }
    Ok(text.to_owned())
}

fn parse_durability(text: &str) -> Result<RedisDurability, String> {
    match text {
        "verify" => Ok(RedisDurability::Verify),
        "assume" => Ok(RedisDurability::Assume),
        _ => Err("is neither verify nor assume; write one of them".into()),
    }
}

fn parse_namespace(text: &str) -> Result<String, String> {
    let well_formed = (1..=64).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    if well_formed {
        Ok(text.to_owned())
    } else {
        Err("is no namespace; write 1 to 64 letters, digits, '.', '_' and '-'".into())
    }
}

fn parse_lease(text: &str) -> Result<Duration, String> {
    span(text)
        .filter(|span| (MIN_LEASE..=MAX_LEASE).contains(span))
        .ok_or_else(|| {
            format!(
                "{text:?} is no span from 1s to 10m; write seconds, minutes or milliseconds, such as 15s, 1m or 1500ms"
            )
        })
}

fn span(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (count, unit) = text.split_at(digits);
    let count = u64::from(count.parse::<u32>().ok()?);
    match unit {
        "ms" => Some(Duration::from_millis(count)),
        "s" => Some(Duration::from_secs(count)),
        "m" => Some(Duration::from_secs(count * 60)),
        _ => None,
    }
}

/// A lease as the setting takes it.
#[must_use]
pub fn shown_span(span: Duration) -> String {
    if span.subsec_millis() == 0 {
        format!("{}s", span.as_secs())
    } else {
        format!("{}ms", span.as_millis())
    }
}

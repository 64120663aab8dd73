//! How a key looks to people.

use std::collections::BTreeMap;

use prost_types::Timestamp;

use crate::{
    cli::{
        console::{Console, clean},
        failure::Failure,
        output::{Format, json, rows, time, zone_name},
    },
    proto::v1::{IssuedKey, Key, SecretInfo, key::Access},
};

/// Writes a key.
pub(super) fn key(key: &Key, format: Format, console: &mut Console<'_>) -> Result<(), Failure> {
    match format {
        Format::Json => json(console.out, "Key", key),
        Format::Table => {
            let table = table(key, console);
            rows(console.out, &table)
        }
    }
}

/// Writes a key with its token. If that fails the token is lost, so the failure says how to get another.
pub(in crate::cli) fn issued(
    issued: &IssuedKey,
    format: Format,
    console: &mut Console<'_>,
) -> Result<(), Failure> {
    let table = issued
        .key
        .as_ref()
        .map_or_else(Vec::new, |key| table(key, console));
    show_once(issued, table, format, console)?;
    laggards(&issued.lagging_replicas, console);
    Ok(())
}

/// Writes the token of a reset that ended in an error. Of the key stands there only what is short.
pub(in crate::cli) fn issued_in_error(
    issued: &IssuedKey,
    format: Format,
    console: &mut Console<'_>,
) -> Result<(), Failure> {
    let table = issued.key.as_ref().map_or_else(Vec::new, |key| {
        vec![
            ["name".into(), key.name.clone()],
            ["key id".into(), key.key_id.clone()],
            ["display name".into(), or(key.display_name.clone(), "-")],
            ["state".into(), key.state().as_str_name().to_owned()],
        ]
    });
    show_once(issued, table, format, console)
}

/// Warns of the replicas that refuse a new or enabled key for now.
pub(in crate::cli) fn laggards(names: &[String], console: &mut Console<'_>) {
    if !names.is_empty() {
        console.notice(&format!(
            "warning: not yet in force on {}; the key is refused there until the replica has heard of it",
            clean(&names.join(", "))
        ));
    }
}

fn show_once(
    issued: &IssuedKey,
    table: Vec<[String; 2]>,
    format: Format,
    console: &mut Console<'_>,
) -> Result<(), Failure> {
    let written = write_issued(issued, table, format, console);
    let flushed = written.and_then(|()| Ok(console.out.flush()?));
    let Err(failure) = flushed else { return Ok(()) };
    if !issued.replayed {
        let advice = format!(
            "the change was made but its token was not shown; make another: {}",
            reset_command(issued, console)
        );
        console.notice(&advice);
    }
    Err(failure)
}

fn write_issued(
    issued: &IssuedKey,
    mut table: Vec<[String; 2]>,
    format: Format,
    console: &mut Console<'_>,
) -> Result<(), Failure> {
    if issued.replayed {
        return write_replayed(issued, &table, format, console);
    }
    if format == Format::Json {
        return json(console.out, "IssuedKey", issued);
    }
    table.push(["token".into(), issued.token.clone()]);
    table.push(["secret".into(), issued.secret.clone()]);
    rows(console.out, &table)?;
    writeln!(
        console.out,
        "\nThe token is shown this once and stored nowhere. Keep it now.\nIt holds the secret, which is for Basic: {{key id}}:{{secret}}."
    )?;
    Ok(())
}

/// A call that was repeated changes nothing more, and its token was shown to whoever made it first.
fn write_replayed(
    issued: &IssuedKey,
    table: &[[String; 2]],
    format: Format,
    console: &mut Console<'_>,
) -> Result<(), Failure> {
    let told = format!(
        "This call was made before with this --request-id: nothing more was changed, and the token was shown then.\n\
         If that answer was lost, make another token without this --request-id: {}",
        reset_command(issued, console)
    );
    match format {
        Format::Json => {
            json(console.out, "IssuedKey", issued)?;
            console.notice(&told);
        }
        Format::Table => {
            rows(console.out, table)?;
            writeln!(console.out, "\n{told}")?;
        }
    }
    Ok(())
}

/// How to get another token.
fn reset_command(issued: &IssuedKey, console: &Console<'_>) -> String {
    let name = issued.key.as_ref().map_or("", |key| key.name.as_str());
    format!("{} key reset {}", console.command_name, clean(name))
}

fn table(key: &Key, console: &Console<'_>) -> Vec<[String; 2]> {
    let zone = console.zone();
    let at = |at: &Option<Timestamp>, otherwise: &str| match at {
        None => otherwise.to_owned(),
        at => format!("{} ({})", time(at.as_ref(), zone, "-"), zone_name(zone)),
    };
    let mut table = vec![
        ("name", key.name.clone()),
        ("key id", key.key_id.clone()),
        ("display name", or(key.display_name.clone(), "-")),
        ("description", or(key.description.clone(), "-")),
        ("state", key.state().as_str_name().to_owned()),
        ("permissions", permissions(key)),
        ("access", access(key)),
        ("used from", sources(key)),
        ("settings", pairs(&key.settings, "\n")),
        ("labels", pairs(&key.labels, ", ")),
        ("expires", at(&key.expire_time, "never")),
        ("created", time(key.create_time.as_ref(), zone, "-")),
        ("changed", time(key.update_time.as_ref(), zone, "-")),
        ("owner", or(key.owner.clone(), "-")),
    ];
    if key.archive_time.is_some() {
        table.push(("archived", at(&key.archive_time, "-")));
    }
    if !key.secrets.is_empty() {
        let secrets: Vec<_> = key
            .secrets
            .iter()
            .map(|secret| secret_line(secret, console))
            .collect();
        table.push(("secrets", secrets.join("\n")));
    }
    table.push(("etag", key.etag.clone()));
    table
        .into_iter()
        .map(|(name, value)| [name.to_owned(), value])
        .collect()
}

/// What may be known of a secret.
fn secret_line(secret: &SecretInfo, console: &Console<'_>) -> String {
    let SecretInfo {
        id,
        create_time,
        expire_time,
    } = secret;
    let zone = console.zone();
    let made = time(create_time.as_ref(), zone, "-");
    let ends = match expire_time {
        None => "the newest".to_owned(),
        ends => format!("good until {}", time(ends.as_ref(), zone, "-")),
    };
    one_line(&format!("{id}: made {made}, {ends}"))
}

/// Names and values. They are on lines of their own if line feeds are between them, so they may hold none.
fn pairs(map: &BTreeMap<String, String>, between: &str) -> String {
    let pairs: Vec<_> = map
        .iter()
        .map(|(name, value)| one_line(&format!("{name}={value}")))
        .collect();
    or(pairs.join(between), "-")
}

fn one_line(text: &str) -> String {
    text.replace('\n', "\u{fffd}")
}

fn access(key: &Key) -> String {
    match key.access() {
        Access::Unspecified => "-",
        Access::Full => "FULL (all that there is in its workspace)",
        Access::Partial => "PARTIAL",
    }
    .to_owned()
}

/// What a person should know before the key is taken from its callers.
pub(in crate::cli) fn summary(key: &Key, console: &mut Console<'_>) -> Result<(), Failure> {
    let table = [
        ("  name", key.name.clone()),
        ("  display name", or(key.display_name.clone(), "-")),
        ("  key id", key.key_id.clone()),
        ("  state", key.state().as_str_name().to_owned()),
        ("  permissions", permissions(key)),
        ("  owner", or(key.owner.clone(), "-")),
    ]
    .map(|(name, value)| [name.to_owned(), value]);
    rows(console.err, &table)
}

fn permissions(key: &Key) -> String {
    let all = if key.permissions.iter().any(|name| name == "*") {
        " (everything)"
    } else {
        ""
    };
    or(key.permissions.join(", "), "none") + all
}

fn sources(key: &Key) -> String {
    or(key.ip_allowlist.join(", "), "any address")
}

fn or(text: String, otherwise: &str) -> String {
    if text.is_empty() {
        otherwise.to_owned()
    } else {
        text
    }
}

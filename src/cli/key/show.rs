//! How a key looks to people.

use crate::{
    cli::{
        console::Console,
        failure::Failure,
        output::{Format, json, rows, time, zone_name},
    },
    proto::v1::{IssuedKey, Key},
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
pub(super) fn issued(
    issued: &IssuedKey,
    format: Format,
    console: &mut Console<'_>,
) -> Result<(), Failure> {
    let written = write_issued(issued, format, console).and_then(|()| Ok(console.out.flush()?));
    let Err(failure) = written else { return Ok(()) };
    let id = issued.key.as_ref().map_or("", |key| key.key_id.as_str());
    let command = console.command_name.to_owned();
    console.notice(&format!(
        "the change was made but its token was not shown; make another: {command} key reset {id}"
    ));
    Err(failure)
}

fn write_issued(
    issued: &IssuedKey,
    format: Format,
    console: &mut Console<'_>,
) -> Result<(), Failure> {
    if format == Format::Json {
        return json(console.out, "IssuedKey", issued);
    }
    let mut table = issued
        .key
        .as_ref()
        .map_or_else(Vec::new, |key| table(key, console));
    table.push(["token".into(), issued.token.clone()]);
    table.push(["secret".into(), issued.secret.clone()]);
    rows(console.out, &table)?;
    writeln!(
        console.out,
        "\nThe token is shown this once and stored nowhere. Keep it now.\nIt holds the secret, which is for Basic: {{key id}}:{{secret}}."
    )?;
    Ok(())
}

fn table(key: &Key, console: &Console<'_>) -> Vec<[String; 2]> {
    let zone = console.zone();
    let expires = match &key.expire_time {
        None => "never".to_owned(),
        at => format!("{} ({})", time(at.as_ref(), zone, "never"), zone_name(zone)),
    };
    let labels: Vec<_> = key
        .labels
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    [
        ("name", key.name.clone()),
        ("key id", key.key_id.clone()),
        ("display name", or(key.display_name.clone(), "-")),
        ("description", or(key.description.clone(), "-")),
        ("state", key.state().as_str_name().to_owned()),
        ("permissions", permissions(key)),
        ("used from", sources(key)),
        ("labels", or(labels.join(", "), "-")),
        ("expires", expires),
        ("created", time(key.create_time.as_ref(), zone, "-")),
        ("changed", time(key.update_time.as_ref(), zone, "-")),
        ("owner", or(key.owner.clone(), "-")),
        ("etag", key.etag.clone()),
    ]
    .map(|(name, value)| [name.to_owned(), value])
    .into()
}

/// What a person should know before the key is taken from its callers.
pub(super) fn summary(key: &Key, console: &mut Console<'_>) -> Result<(), Failure> {
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

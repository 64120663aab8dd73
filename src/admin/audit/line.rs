//! An event as a line of an export. One line holds all that its digest is over.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use crate::{
    domain::{
        Invalid,
        chain::ChainHead,
        event::{Action, Entity, Event, FieldChange},
        id::Revision,
        time::Timestamp,
    },
    store::{EventRecord, event_digest, knows_event_schema},
};

/// The fields of a line, in the order in which they are written: those of the API's `Event` by their JSON names, then what
/// is needed to verify it.
const FIELDS: [&str; 14] = [
    "revision",
    "time",
    "actor",
    "team",
    "action",
    "method",
    "entity",
    "resource",
    "changes",
    "sourceAddress",
    "requestId",
    "digest",
    "schema",
    "chain",
];
const CHANGE_FIELDS: [&str; 3] = ["field", "before", "after"];

/// A line as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The event. It holds what its digest says.
    pub record: EventRecord,
    /// The chain's head at it, as the line claims; `None`: it claims none.
    pub chain: Option<ChainHead>,
}

/// Writes an event as a line of JSON Lines. Every field is there, in the same order, also the empty ones.
pub fn write_json(out: &mut Vec<u8>, record: &EventRecord, chain: Option<ChainHead>) {
    let cells = cells(record, chain);
    let mut line = String::new();
    for (place, (name, cell)) in FIELDS.iter().zip(cells).enumerate() {
        line.push(if place == 0 { '{' } else { ',' });
        // Writing to a String cannot fail.
        let _ = write!(line, "{}:", json_text(name));
        match cell {
            Cell::Text(text) => line.push_str(&json_text(&text)),
            Cell::Json(json) => line.push_str(&json),
        }
    }
    line.push_str("}\n");
    out.extend_from_slice(line.as_bytes());
}

/// Writes the first line of a CSV file.
pub fn write_csv_header(out: &mut Vec<u8>) {
    out.extend_from_slice(FIELDS.join(",").as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Writes an event as a line of CSV.
pub fn write_csv(out: &mut Vec<u8>, record: &EventRecord, chain: Option<ChainHead>) {
    for (place, cell) in cells(record, chain).into_iter().enumerate() {
        if place > 0 {
            out.push(b',');
        }
        let (Cell::Text(text) | Cell::Json(text)) = cell;
        write_csv_cell(out, &text);
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes a cell as RFC 4180 has it. What a spreadsheet would take for a formula gets a `'` in front: names in events are
/// chosen by others than those who open the file.
fn write_csv_cell(out: &mut Vec<u8>, text: &str) {
    let guard = text.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']);
    let quote = text.contains([',', '"', '\r', '\n']);
    if quote {
        out.push(b'"');
    }
    if guard {
        out.push(b'\'');
    }
    if quote {
        out.extend_from_slice(text.replace('"', "\"\"").as_bytes());
        out.push(b'"');
    } else {
        out.extend_from_slice(text.as_bytes());
    }
}

enum Cell {
    Text(String),
    /// JSON, which in a line of JSON stands as it is.
    Json(String),
}

/// The values of [`FIELDS`].
fn cells(record: &EventRecord, chain: Option<ChainHead>) -> [Cell; FIELDS.len()] {
    let EventRecord {
        schema,
        revision,
        event,
        digest,
    } = record;
    let Event {
        time,
        actor,
        team,
        action,
        method,
        entity,
        resource,
        changes,
        source_address,
        request_id,
    } = event;
    let text = |text: &str| Cell::Text(text.to_owned());
    [
        Cell::Text(revision.to_string()),
        Cell::Text(time.to_string()),
        text(actor),
        text(team),
        text(action.name()),
        text(method),
        text(entity.name()),
        text(resource),
        Cell::Json(write_changes(changes)),
        text(source_address),
        text(request_id),
        Cell::Text(hex(digest)),
        Cell::Json(schema.to_string()),
        Cell::Text(chain.map(|head| head.to_string()).unwrap_or_default()),
    ]
}

fn write_changes(changes: &[FieldChange]) -> String {
    let mut json = "[".to_owned();
    for (place, change) in changes.iter().enumerate() {
        let FieldChange {
            field,
            before,
            after,
        } = change;
        json.push_str(if place == 0 { "{" } else { ",{" });
        for (place, (name, value)) in CHANGE_FIELDS.iter().zip([field, before, after]).enumerate() {
            let comma = if place == 0 { "" } else { "," };
            let _ = write!(json, "{comma}{}:{}", json_text(name), json_text(value));
        }
        json.push('}');
    }
    json.push(']');
    json
}

fn json_text(text: &str) -> String {
    Value::from(text).to_string()
}

/// Reads a line of JSON Lines, without its end, and checks that the event holds what its digest says.
///
/// The line must be what [`write_json`] makes of the event, byte by byte. So it holds nothing that the digest does not cover,
/// and nothing that two readers could read in two ways. What it claims of the chain is only read.
///
/// # Errors
/// If it is anything else.
pub fn read_json(line: &str) -> Result<Line, Invalid> {
    let value: Value =
        serde_json::from_str(line).map_err(|_| Invalid::new("is not a JSON object"))?;
    let Value::Object(fields) = value else {
        return Err(Invalid::new("is not a JSON object"));
    };
    let schema = field(&fields, "schema")?
        .as_u64()
        .and_then(|schema| u32::try_from(schema).ok())
        .ok_or_else(|| malformed("schema"))?;
    if !knows_event_schema(schema) {
        return Err(Invalid::owned(format!(
            "schema {schema} is not known to this version"
        )));
    }
    let revision = Revision::parse(text(&fields, "revision")?);
    let chain = match text(&fields, "chain")? {
        "" => None,
        head => Some(ChainHead::parse(head).map_err(|_| malformed("chain"))?),
    };
    let record = EventRecord {
        schema,
        revision: revision.ok_or_else(|| malformed("revision"))?,
        digest: read_hex(text(&fields, "digest")?).ok_or_else(|| malformed("digest"))?,
        event: read_event(&fields)?,
    };
    if record.digest != event_digest(schema, record.revision, &record.event) {
        return Err(Invalid::new("its content is not what its digest says"));
    }
    let mut written = Vec::new();
    write_json(&mut written, &record, chain);
    if written.strip_suffix(b"\n") != Some(line.as_bytes()) {
        return Err(Invalid::new("is not written as an export writes it"));
    }
    Ok(Line { record, chain })
}

fn read_event(fields: &Map<String, Value>) -> Result<Event, Invalid> {
    let owned = |name| text(fields, name).map(ToOwned::to_owned);
    let changes = field(fields, "changes")?
        .as_array()
        .ok_or_else(|| malformed("changes"))?;
    let action = text(fields, "action")?;
    let entity = text(fields, "entity")?;
    Ok(Event {
        time: read_time(text(fields, "time")?).ok_or_else(|| malformed("time"))?,
        actor: owned("actor")?,
        team: owned("team")?,
        action: Action::ALL
            .into_iter()
            .find(|known| known.name() == action)
            .ok_or_else(|| malformed("action"))?,
        method: owned("method")?.into(),
        entity: Entity::ALL
            .into_iter()
            .find(|known| known.name() == entity)
            .ok_or_else(|| malformed("entity"))?,
        resource: owned("resource")?,
        changes: changes.iter().map(read_change).collect::<Result<_, _>>()?,
        source_address: owned("sourceAddress")?,
        request_id: owned("requestId")?,
    })
}

fn read_change(value: &Value) -> Result<FieldChange, Invalid> {
    let fields = value.as_object().ok_or_else(|| malformed("changes"))?;
    let [field, before, after] =
        CHANGE_FIELDS.map(|name| text(fields, name).map(ToOwned::to_owned));
    Ok(FieldChange {
        field: field?,
        before: before?,
        after: after?,
    })
}

fn field<'f>(fields: &'f Map<String, Value>, name: &str) -> Result<&'f Value, Invalid> {
    fields
        .get(name)
        .ok_or_else(|| Invalid::owned(format!("has no field {name}")))
}

fn text<'f>(fields: &'f Map<String, Value>, name: &str) -> Result<&'f str, Invalid> {
    field(fields, name)?.as_str().ok_or_else(|| malformed(name))
}

fn malformed(name: &str) -> Invalid {
    Invalid::owned(format!("its field {name} is malformed"))
}

/// Reads what [`Timestamp`]'s `Display` wrote.
fn read_time(text: &str) -> Option<Timestamp> {
    let time = if let Some(digits) = text.strip_suffix('s') {
        let (seconds, nanos) = digits.split_once('.')?;
        Timestamp::new(seconds.parse().ok()?, nanos.parse().ok()?)
    } else {
        let nanos = text.parse::<jiff::Timestamp>().ok()?.as_nanosecond();
        // Rounded down, also before 1970.
        Timestamp::new(
            i64::try_from(nanos.div_euclid(1_000_000_000)).ok()?,
            i32::try_from(nanos.rem_euclid(1_000_000_000)).ok()?,
        )
    };
    time.ok()
}

/// 64 hexadecimal digits.
#[must_use]
pub fn hex(hash: &[u8; 32]) -> String {
    let mut digits = String::with_capacity(64);
    for byte in hash {
        let _ = write!(digits, "{byte:02x}");
    }
    digits
}

fn read_hex(digits: &str) -> Option<[u8; 32]> {
    let mut hash = [0; 32];
    let digits = digits.as_bytes();
    if digits.len() != 64 {
        return None;
    }
    for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
        // A sign is no digit, though numbers may have one; the line must come back as it was, which refuses capitals.
        let pair = std::str::from_utf8(pair).ok()?;
        *byte = u8::from_str_radix(pair, 16).ok()?;
    }
    Some(hash)
}

#[cfg(test)]
mod tests;

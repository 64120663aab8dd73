//! How answers look: tables for people, protobuf JSON for scripts.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    io::Write,
};

use clap::ValueEnum;
use jiff::tz::{Offset, TimeZone};
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage};
use prost_types::Timestamp;
use tabwriter::TabWriter;

use super::{
    console::{acts_on_terminal, clean},
    failure::Failure,
};
use crate::proto::DESCRIPTORS;

/// How answers look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    // No doc comments: clap would spread every --help over twice the lines to show them.
    Table,
    Json,
}

/// Writes protobuf messages as their canonical JSON.
pub(super) struct Json(DescriptorPool);

impl Json {
    pub(super) fn new() -> Result<Self, Failure> {
        DescriptorPool::decode(DESCRIPTORS)
            .map(Self)
            .map_err(|error| defect(&error.to_string()))
    }

    /// The message as one line. `name` is its message's, within the API's package.
    pub(super) fn line<M: Message>(&self, name: &str, message: &M) -> Result<String, Failure> {
        let value = serde_json::to_string(&self.dynamic(name, message)?);
        value
            .map(|text| escape(&text))
            .map_err(|error| defect(&error.to_string()))
    }

    /// The message over several lines.
    pub(super) fn pretty<M: Message>(&self, name: &str, message: &M) -> Result<String, Failure> {
        let value = serde_json::to_string_pretty(&self.dynamic(name, message)?);
        value
            .map(|text| escape(&text))
            .map_err(|error| defect(&error.to_string()))
    }

    /// Reads a message, and which of its fields the text names, as masks name them.
    ///
    /// # Errors
    /// If the text is no such message, or names a field that there is not, or one in both of its spellings.
    pub(super) fn read<M: Message + Default>(
        &self,
        name: &str,
        text: &str,
    ) -> Result<(M, BTreeSet<String>), String> {
        let descriptor = self.0.get_message_by_name(&format!("portcullis.v1.{name}"));
        let descriptor =
            descriptor.ok_or_else(|| defect(&format!("no message {name}")).to_string())?;
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let message = DynamicMessage::deserialize(descriptor.clone(), &mut deserializer)
            .and_then(|message| deserializer.end().map(|()| message))
            .map_err(|error| error.to_string())?;
        let message = message
            .transcode_to()
            .map_err(|error: prost::DecodeError| error.to_string())?;
        // A field that is named at its default is not in the message, so the names are read once more.
        let named: BTreeMap<String, serde_json::Value> =
            serde_json::from_str(text).map_err(|error| error.to_string())?;
        let mut fields = BTreeSet::new();
        for key in named.into_keys() {
            let field = descriptor
                .get_field_by_json_name(&key)
                .or_else(|| descriptor.get_field_by_name(&key));
            let field = field.ok_or_else(|| format!("there is no field {key}"))?;
            if !fields.insert(field.name().to_owned()) {
                return Err(format!("{key} is there in both of its spellings"));
            }
        }
        Ok((message, fields))
    }

    fn dynamic<M: Message>(&self, name: &str, message: &M) -> Result<DynamicMessage, Failure> {
        let descriptor = self.0.get_message_by_name(&format!("portcullis.v1.{name}"));
        let descriptor = descriptor.ok_or_else(|| defect(&format!("no message {name}")))?;
        let mut dynamic = DynamicMessage::new(descriptor);
        dynamic
            .transcode_from(message)
            .map_err(|error| defect(&error.to_string()))?;
        Ok(dynamic)
    }
}

fn defect(what: &str) -> Failure {
    Failure::Failed(format!(
        "a defect of this program: the answer cannot be shown as JSON: {what}"
    ))
}

/// JSON may hold characters that a terminal acts on; they occur only in strings, where an escape says the same.
fn escape(json: &str) -> String {
    let mut escaped = String::with_capacity(json.len());
    for c in json.chars() {
        // The line feeds are our own, between the fields. None of the others is beyond U+FFFF.
        if acts_on_terminal(c) && c != '\n' {
            // Writing to a String cannot fail.
            let _ = write!(escaped, "\\u{:04x}", u32::from(c));
        } else {
            escaped.push(c);
        }
    }
    escaped
}

/// Writes one message as JSON.
pub(super) fn json<M: Message>(
    out: &mut dyn Write,
    name: &str,
    message: &M,
) -> Result<(), Failure> {
    Ok(writeln!(out, "{}", Json::new()?.pretty(name, message)?)?)
}

/// Writes rows under each other, columns aligned. The cells are cleaned; a line feed in a cell's text goes on in the
/// same column of the next line if it is the last one.
pub(super) fn rows<const N: usize>(
    out: &mut dyn Write,
    rows: &[[String; N]],
) -> Result<(), Failure> {
    let mut table = TabWriter::new(out).padding(2);
    for row in rows {
        let (last, first) = row
            .split_last()
            .map_or(("", &[][..]), |(last, first)| (last.as_str(), first));
        for cell in first {
            write!(table, "{}\t", clean(cell))?;
        }
        let lines: Vec<_> = last.split('\n').map(clean).collect();
        writeln!(
            table,
            "{}",
            lines.join(&format!("\n{}", "\t".repeat(first.len())))
        )?;
    }
    Ok(table.flush()?)
}

/// A time for people: local, with its offset, without spaces. `otherwise` if there is none.
pub(super) fn time(time: Option<&Timestamp>, zone: &TimeZone, otherwise: &str) -> String {
    let Some(time) = time else {
        return otherwise.to_owned();
    };
    match jiff::Timestamp::new(time.seconds, time.nanos) {
        Ok(at) => at
            .to_zoned(zone.clone())
            .strftime("%Y-%m-%dT%H:%M:%S%:z")
            .to_string(),
        Err(_) => "out of range".to_owned(),
    }
}

/// The zone's name, or its offset if it has none.
pub(super) fn zone_name(zone: &TimeZone) -> String {
    match (zone.iana_name(), zone.to_fixed_offset()) {
        (Some("Etc/Unknown"), _) | (None, Ok(Offset::UTC)) => "UTC".to_owned(),
        (Some(name), _) => name.to_owned(),
        (None, Ok(offset)) => offset.to_string(),
        (None, Err(_)) => "the local zone".to_owned(),
    }
}

/// The text, shortened to `longest` characters.
pub(super) fn shorten(text: &str, longest: usize) -> String {
    match text.char_indices().nth(longest) {
        None => text.to_owned(),
        Some(_) => text.chars().take(longest - 1).chain(['…']).collect(),
    }
}

/// The first few, and how many more there are; `none` if there are none.
pub(super) fn few(names: &[String], none: &str) -> String {
    const SHOWN: usize = 3;
    match names {
        [] => none.to_owned(),
        few if few.len() <= SHOWN => few.join(","),
        many => format!("{},+{}", many[..SHOWN].join(","), many.len() - SHOWN),
    }
}

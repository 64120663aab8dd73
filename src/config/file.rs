//! The configuration file: TOML, a line for each setting, and tables.

use std::{borrow::Cow, path::Path};

use toml::{
    Spanned,
    de::{DeTable, DeValue, Error},
};

use super::{
    Fault, Origin, Setting,
    table::{Entry, Located, Table, Value},
};

/// A setting that the file gives.
pub(super) struct FileValue {
    pub(super) setting: Setting,
    /// `None` if the value is of a wrong type, which was reported.
    pub(super) text: Option<String>,
    pub(super) origin: Origin,
}

/// What a file holds.
pub(super) struct Contents {
    pub(super) settings: Vec<FileValue>,
    /// What is no setting: tables, and what has no business there.
    pub(super) rest: Table,
    /// False if something stands there twice, which was reported: nobody knows which is meant.
    pub(super) is_certain: bool,
}

/// Reads the file's text, noting every fault in it. `None` if it is not TOML: what could still be made out of it would
/// only be called faults that are not there.
///
/// The parser's own rendering of an error quotes the line, which may hold a secret that does not belong there;
/// so only its message and place are used.
pub(super) fn read(path: &Path, text: &str, faults: &mut Vec<Fault>) -> Option<Contents> {
    let file = File { path, text };
    let (table, errors) = DeTable::parse_recoverable(text);
    // What stands there twice hides nothing else, so that all of it is told. Of other errors only the first is: the parser
    // goes on after it, and what it finds then need not be wrong.
    let is_double = |error: &Error| error.message() == "duplicate key";
    let is_toml = errors.iter().all(is_double);
    let told = if is_toml { errors.len() } else { 1 };
    for error in errors.iter().take(told) {
        let offset = error.span().map_or(0, |span| span.start);
        faults.push(Fault::new(&format!(
            "config, from {}: is not TOML: {}",
            file.place(offset),
            error.message()
        )));
    }
    if !is_toml {
        return None;
    }
    let mut settings = Vec::new();
    let mut rest = Vec::new();
    for entry in file.entries(table.get_ref()) {
        match Setting::from_name(&entry.name) {
            Some(setting) => settings.push(setting_of(setting, entry.value, faults)),
            None => rest.push(entry),
        }
    }
    Some(Contents {
        settings,
        rest: Table::new(String::new(), file.place(0), rest),
        is_certain: errors.is_empty(),
    })
}

fn setting_of(setting: Setting, found: Located<Value>, faults: &mut Vec<Fault>) -> FileValue {
    let Located { value, origin } = found;
    let text = match value {
        Value::Text(text) => Some(text),
        Value::Bool(value) if setting.is_switch() => Some(value.to_string()),
        other => {
            let wanted = if setting.is_switch() {
                "true or false"
            } else {
                "a text in quotes"
            };
            faults.push(Fault::new(&format!(
                "{}, from {origin}: is of type {}; write {wanted}",
                setting.name(),
                other.type_name()
            )));
            None
        }
    };
    FileValue {
        setting,
        text,
        origin,
    }
}

/// A file with its text, to which the parser's places refer.
struct File<'a> {
    path: &'a Path,
    text: &'a str,
}

impl File<'_> {
    fn place(&self, offset: usize) -> Origin {
        let before = self.text.bytes().take(offset);
        let line = 1 + before.filter(|&byte| byte == b'\n').count();
        Origin::File(self.path.to_owned(), line)
    }

    /// The entries of a table as they stand in the file, one below the other.
    fn entries(&self, table: &DeTable<'_>) -> Vec<Entry> {
        let mut entries: Vec<_> = table.iter().collect();
        entries.sort_by_key(|(name, _)| name.span().start);
        let entry = |(name, value): (&Spanned<Cow<'_, str>>, &Spanned<_>)| Entry {
            name: name.get_ref().to_string(),
            value: Located {
                value: self.value(value.get_ref()),
                origin: self.place(name.span().start),
            },
        };
        entries.into_iter().map(entry).collect()
    }

    fn value(&self, value: &DeValue<'_>) -> Value {
        match value {
            DeValue::String(text) => Value::Text(text.to_string()),
            DeValue::Integer(number) => {
                Value::Number(i64::from_str_radix(number.as_str(), number.radix()).ok())
            }
            DeValue::Boolean(value) => Value::Bool(*value),
            DeValue::Array(items) => {
                let item = |item: &Spanned<DeValue<'_>>| Located {
                    value: self.value(item.get_ref()),
                    origin: self.place(item.span().start),
                };
                Value::List(items.iter().map(item).collect())
            }
            DeValue::Table(table) => Value::Table(self.entries(table)),
            DeValue::Float(_) | DeValue::Datetime(_) => Value::Other(value.type_str()),
        }
    }
}

/// Why nothing of this name is read from the top of the file.
pub(super) fn about_unknown(name: &str) -> String {
    let folded = name.to_ascii_lowercase().replace('_', "-");
    if folded == "root-token" {
        return "a secret does not belong in the file; take it out and set the variable PORTCULLIS_ROOT_TOKEN".into();
    }
    if folded == "redis-password" {
        return "a secret does not belong in the file; take it out and set the variable PORTCULLIS_REDIS_PASSWORD".into();
    }
    if let Some(setting) = Setting::from_name(&folded) {
        return format!("is no setting; did you mean {}?", setting.name());
    }
    let known: Vec<_> = Setting::ALL.into_iter().map(Setting::name).collect();
    format!(
        "is no setting; take it out, or name one of {}, or one of the tables [envoy] and [[caller]]",
        known.join(", ")
    )
}

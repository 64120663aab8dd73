//! The configuration file: TOML, one line a setting.

use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::{Fault, Origin, Setting};

/// A setting that the file gives.
pub(super) struct FileValue {
    pub(super) setting: Setting,
    /// `None` if the value is of a wrong type, which was reported.
    pub(super) text: Option<String>,
    pub(super) origin: Origin,
}

/// Reads the file's text, noting every fault in it. `None` if it is not TOML: what could still be made out of it would
/// only be called faults that are not there.
///
/// The parser's own rendering of an error quotes the line, which may hold a secret that does not belong there;
/// so only its message and place are used.
pub(super) fn read(path: &Path, text: &str, faults: &mut Vec<Fault>) -> Option<Vec<FileValue>> {
    let place = |offset: usize| {
        let line = 1 + text
            .bytes()
            .take(offset)
            .filter(|&byte| byte == b'\n')
            .count();
        Origin::File(path.to_owned(), line)
    };
    let (table, errors) = DeTable::parse_recoverable(text);
    // Only the first: the parser goes on after it, and what it finds then need not be wrong.
    if let Some(error) = errors.first() {
        let offset = error.span().map_or(0, |span| span.start);
        faults.push(Fault::new(&format!(
            "config, from {}: is not TOML: {}",
            place(offset),
            error.message()
        )));
        return None;
    }
    let mut values = Vec::new();
    for (name, value) in table.get_ref() {
        let origin = place(name.span().start);
        let name = name.get_ref();
        let Some(setting) = Setting::from_name(name) else {
            faults.push(Fault::new(&format!(
                "{name:?}, from {origin}: {}",
                about_unknown(name)
            )));
            continue;
        };
        let text = match value.get_ref() {
            DeValue::String(text) => Some(text.to_string()),
            DeValue::Boolean(value)
                if matches!(setting, Setting::GateInsecure | Setting::AdminInsecure) =>
            {
                Some(value.to_string())
            }
            other => {
                let wanted = match setting {
                    Setting::GateInsecure | Setting::AdminInsecure => "true or false",
                    _ => "a text in quotes",
                };
                faults.push(Fault::new(&format!(
                    "{}, from {origin}: is of type {}; write {wanted}",
                    setting.name(),
                    other.type_str()
                )));
                None
            }
        };
        values.push(FileValue {
            setting,
            text,
            origin,
        });
    }
    Some(values)
}

fn about_unknown(name: &str) -> String {
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
        "is no setting; take it out, or name one of {}",
        known.join(", ")
    )
}

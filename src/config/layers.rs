//! Picks each setting from the strongest source that gives it, and collects what is wrong.

use std::{ffi::OsString, path::PathBuf};

use zeroize::Zeroizing;

use super::{
    Environment, Fault, Faults, Origin, ReadFile, Row, ServeFlags, Setting,
    file::{self, FileValue},
    table::{self, Table},
};

/// What stands in the place of a value that nobody gave.
pub(super) const NOT_SET: &str = "not set";
const CONFIG_VARIABLE: &str = "PORTCULLIS_CONFIG";

/// A setting is not to be had, and why was noted.
pub(super) struct Noted;

pub(super) struct Layers<'a> {
    flags: &'a ServeFlags,
    env: Environment<'a>,
    file: Vec<FileValue>,
    /// What the file has besides, and nobody asked for yet.
    rest: Option<Table>,
    /// Whether there is a file that could not be read, so that settings may be missing or not be the ones meant.
    file_lost: bool,
    faults: Vec<Fault>,
    rows: Vec<Row>,
}

impl<'a> Layers<'a> {
    pub(super) fn new(
        flags: &'a ServeFlags,
        env: Environment<'a>,
        read_file: ReadFile<'_>,
    ) -> Self {
        let mut layers = Self {
            flags,
            env,
            file: Vec::new(),
            rest: None,
            file_lost: false,
            faults: Vec::new(),
            rows: Vec::new(),
        };
        let path = match (&flags.config, layers.variable(CONFIG_VARIABLE)) {
            (Some(path), _) => Some((path.clone(), Origin::Flag("--config".into()))),
            (None, Some(path)) => Some((
                PathBuf::from(path),
                Origin::Variable(CONFIG_VARIABLE.into()),
            )),
            (None, None) => None,
        };
        if let Some((path, origin)) = path {
            match read_file(&path) {
                Ok(text) => match file::read(&path, &text, &mut layers.faults) {
                    Some(contents) => {
                        layers.file = contents.settings;
                        layers.rest = Some(contents.rest);
                        layers.file_lost = !contents.is_certain;
                    }
                    None => layers.file_lost = true,
                },
                Err(error) => {
                    layers.file_lost = true;
                    layers.fault(&format!(
                        "config, from {origin}: {} cannot be read: {error}; name a TOML file that is there",
                        path.display()
                    ));
                }
            }
        }
        layers
    }

    /// Reads a setting and notes its row. `None` if a fault was noted instead.
    pub(super) fn read<T>(
        &mut self,
        setting: Setting,
        default: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let (given, origin) = self.given(setting)?;
        let text = given.unwrap_or_else(|| default.to_owned());
        match parse(&text) {
            Ok(value) => {
                self.row(setting.name(), text, origin);
                Some(value)
            }
            Err(problem) => {
                self.fault(&format!(
                    "{}, from {origin}: {text:?} {problem}",
                    setting.name()
                ));
                None
            }
        }
    }

    /// As [`read`](Self::read), of a setting that need not be given. What is wrong is told without the text.
    pub(super) fn read_unquoted<T>(
        &mut self,
        setting: Setting,
        parse: impl FnOnce(&str) -> Result<T, String>,
        show: impl FnOnce(&T) -> String,
    ) -> Result<Option<T>, Noted> {
        let (given, origin) = self.given(setting).ok_or(Noted)?;
        let Some(text) = given.map(Zeroizing::new) else {
            self.row(setting.name(), NOT_SET.into(), origin);
            return Ok(None);
        };
        match parse(&text) {
            Ok(value) => {
                self.row(setting.name(), show(&value), origin);
                Ok(Some(value))
            }
            Err(problem) => {
                self.fault(&format!("{}, from {origin}: {problem}", setting.name()));
                Err(Noted)
            }
        }
    }

    /// The text that the strongest source gives, or `None` within if none does; `None` if it is no text.
    pub(super) fn given(&mut self, setting: Setting) -> Option<(Option<String>, Origin)> {
        let variable = setting.variable();
        let (raw, origin) = if let Some(raw) = self.flags.get(setting) {
            (
                raw.to_owned(),
                Origin::Flag(format!("--{}", setting.name())),
            )
        } else if let Some(raw) = self.variable(&variable) {
            (raw, Origin::Variable(variable))
        } else if let Some(found) = self.file.iter().find(|value| value.setting == setting) {
            // A value of the wrong type was reported when the file was read.
            return Some((Some(found.text.clone()?), found.origin.clone()));
        } else {
            return Some((None, Origin::Default));
        };
        let Ok(text) = raw.into_string() else {
            self.fault(&format!(
                "{}, from {origin}: is not UTF-8; write it as UTF-8 text",
                setting.name()
            ));
            return None;
        };
        Some((Some(text), origin))
    }

    /// Reads a table of the file, `[name]`, to its end; `None` if there is none.
    ///
    /// # Errors
    /// If a fault was noted about it.
    pub(super) fn table<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&mut Table, &mut Layers<'_>) -> Result<T, Noted>,
    ) -> Result<Option<T>, Noted> {
        let Some(found) = self.rest.as_mut().and_then(|rest| rest.take(name)) else {
            return Ok(None);
        };
        table::read_one(name.to_owned(), found, self, read).map(Some)
    }

    /// Reads a list of tables of the file, `[[name]]`, each to its end; `None` if there is none.
    ///
    /// # Errors
    /// If a fault was noted about any of them, each of which is read.
    pub(super) fn tables<T>(
        &mut self,
        name: &'static str,
        read: impl FnMut(&mut Table, &mut Layers<'_>) -> Result<T, Noted>,
    ) -> Result<Option<Vec<T>>, Noted> {
        let Some(found) = self.rest.as_mut().and_then(|rest| rest.take(name)) else {
            return Ok(None);
        };
        table::read_all(name.to_owned(), found, self, read).map(Some)
    }

    /// What a variable that no flag and no line of the file stands for holds.
    pub(super) fn secret(&self, name: &str) -> Option<Zeroizing<Vec<u8>>> {
        self.variable(name)
            .map(|value| Zeroizing::new(value.into_encoded_bytes()))
    }

    /// The variable's value. An empty one counts as unset, as shells and unit files cannot always leave it out.
    fn variable(&self, name: &str) -> Option<OsString> {
        (self.env)(name).filter(|value| !value.is_empty())
    }

    pub(super) fn row(&mut self, name: &'static str, value: String, origin: Origin) {
        self.rows.push(Row {
            name,
            value,
            origin,
        });
    }

    pub(super) fn fault(&mut self, text: &str) {
        self.faults.push(Fault::new(text));
    }

    /// Notes that settings do not go together. Not if the file could not be read: what is missing may be in it.
    pub(super) fn conflict(&mut self, text: &str) {
        if !self.file_lost {
            self.fault(text);
        }
    }

    /// Where the setting would be read from, whatever is wrong with what stands there.
    pub(super) fn source(&self, setting: Setting) -> Origin {
        let variable = setting.variable();
        if self.flags.get(setting).is_some() {
            Origin::Flag(format!("--{}", setting.name()))
        } else if self.variable(&variable).is_some() {
            Origin::Variable(variable)
        } else {
            let found = self.file.iter().find(|value| value.setting == setting);
            found.map_or(Origin::Default, |value| value.origin.clone())
        }
    }

    /// Where the setting was read from, for a fault that shows only later.
    pub(super) fn origin(&self, setting: Setting) -> Origin {
        self.rows
            .iter()
            .find(|row| row.name == setting.name())
            .map_or(Origin::Default, |row| row.origin.clone())
    }

    /// Ends the reading. Whatever of the file nobody asked for is a fault.
    pub(super) fn finish(mut self) -> Result<Vec<Row>, Faults> {
        for entry in self.rest.take().iter().flat_map(Table::rest) {
            self.fault(&format!(
                "{:?}, from {}: {}",
                entry.name,
                entry.value.origin,
                file::about_unknown(&entry.name)
            ));
        }
        if self.faults.is_empty() {
            Ok(self.rows)
        } else {
            Err(Faults(self.faults))
        }
    }
}

/// Reads `true` or `false`.
pub(super) fn parse_bool(text: &str) -> Result<bool, String> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err("is neither true nor false; write one of them".into()),
    }
}

//! Tables of the configuration file, such as `[envoy]` and `[[caller]]`, and how they are read.
//!
//! A table is read by asking for each of its fields. What was not asked for is no field and is reported, so that no
//! list of names has to agree with what is read. No fault quotes a value: whoever asked knows whether it may be shown.

use super::{
    Origin,
    layers::{Layers, Noted},
};

/// Something in the file, and where it stands.
pub(super) struct Located<T> {
    pub(super) value: T,
    pub(super) origin: Origin,
}

/// A value of TOML, as far as settings need it.
pub(super) enum Value {
    Text(String),
    /// `None`: a number that no `i64` is.
    Number(Option<i64>),
    Bool(bool),
    List(Vec<Located<Value>>),
    Table(Vec<Entry>),
    /// Of this type, which no setting is.
    Other(&'static str),
}

/// A name with its value. The place is that of the name.
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) value: Located<Value>,
}

/// A table that is being read.
pub(super) struct Table {
    /// The way to it, such as `envoy.route`.
    name: String,
    origin: Origin,
    /// What was not asked for yet.
    entries: Vec<Entry>,
    asked: Vec<&'static str>,
}

impl Value {
    /// As TOML calls it.
    pub(super) const fn type_name(&self) -> &'static str {
        match self {
            Self::Text(_) => "string",
            Self::Number(_) => "integer",
            Self::Bool(_) => "boolean",
            Self::List(_) => "array",
            Self::Table(_) => "table",
            Self::Other(name) => name,
        }
    }
}

impl Table {
    /// The file's top, or a table in it.
    pub(super) const fn new(name: String, origin: Origin, entries: Vec<Entry>) -> Self {
        Self {
            name,
            origin,
            entries,
            asked: Vec::new(),
        }
    }

    /// Where it begins.
    pub(super) const fn origin(&self) -> &Origin {
        &self.origin
    }

    /// A text; `None` if the table does not have it.
    pub(super) fn text(
        &mut self,
        field: &'static str,
        layers: &mut Layers<'_>,
    ) -> Result<Option<Located<String>>, Noted> {
        let Some(Located { value, origin }) = self.take(field) else {
            return Ok(None);
        };
        match value {
            Value::Text(value) => Ok(Some(Located { value, origin })),
            other => Err(self.mistyped(field, &origin, &other, "a text in quotes", layers)),
        }
    }

    /// A list of texts; `None` if the table does not have it.
    pub(super) fn texts(
        &mut self,
        field: &'static str,
        layers: &mut Layers<'_>,
    ) -> Result<Option<Located<Vec<Located<String>>>>, Noted> {
        const WANTED: &str = "a list of texts, such as [\"a\", \"b\"]";
        let Some(Located { value, origin }) = self.take(field) else {
            return Ok(None);
        };
        let items = match value {
            Value::List(items) => items,
            other => return Err(self.mistyped(field, &origin, &other, WANTED, layers)),
        };
        let mut texts = Ok(Vec::new());
        for Located { value, origin } in items {
            match (value, &mut texts) {
                (Value::Text(value), Ok(texts)) => texts.push(Located { value, origin }),
                (Value::Text(_), Err(_)) => {}
                (other, _) => {
                    texts = Err(self.mistyped(field, &origin, &other, WANTED, layers));
                }
            }
        }
        let value = texts?;
        Ok(Some(Located { value, origin }))
    }

    /// A whole number; `None` if the table does not have it.
    pub(super) fn number(
        &mut self,
        field: &'static str,
        layers: &mut Layers<'_>,
    ) -> Result<Option<Located<i64>>, Noted> {
        let Some(Located { value, origin }) = self.take(field) else {
            return Ok(None);
        };
        match value {
            Value::Number(Some(value)) => Ok(Some(Located { value, origin })),
            Value::Number(None) => {
                Err(self.fault(field, &origin, "has too many digits; write fewer", layers))
            }
            other => Err(self.mistyped(field, &origin, &other, "a whole number", layers)),
        }
    }

    /// Reads tables within this one, `[[name.field]]`; `None` if there is none.
    ///
    /// # Errors
    /// If a fault was noted about any of them, each of which is read.
    pub(super) fn tables<T>(
        &mut self,
        field: &'static str,
        layers: &mut Layers<'_>,
        read: impl FnMut(&mut Self, &mut Layers<'_>) -> Result<T, Noted>,
    ) -> Result<Option<Vec<T>>, Noted> {
        let Some(found) = self.take(field) else {
            return Ok(None);
        };
        read_all(self.path(field), found, layers, read).map(Some)
    }

    /// Notes what is wrong with a field, and how to put it right.
    pub(super) fn fault(
        &self,
        field: &str,
        origin: &Origin,
        problem: &str,
        layers: &mut Layers<'_>,
    ) -> Noted {
        layers.fault(&format!("{}, from {origin}: {problem}", self.path(field)));
        Noted
    }

    /// Notes what is wrong with the table as a whole, and how to put it right.
    pub(super) fn fault_of_all(&self, problem: &str, layers: &mut Layers<'_>) -> Noted {
        layers.fault(&format!("{}, from {}: {problem}", self.name, self.origin));
        Noted
    }

    pub(super) fn take(&mut self, field: &'static str) -> Option<Located<Value>> {
        self.asked.push(field);
        let place = self.entries.iter().position(|entry| entry.name == field)?;
        Some(self.entries.remove(place).value)
    }

    /// What nobody asked for.
    pub(super) fn rest(&self) -> &[Entry] {
        &self.entries
    }

    fn path(&self, field: &str) -> String {
        if self.name.is_empty() {
            field.to_owned()
        } else {
            format!("{}.{field}", self.name)
        }
    }

    fn mistyped(
        &self,
        field: &str,
        origin: &Origin,
        value: &Value,
        wanted: &str,
        layers: &mut Layers<'_>,
    ) -> Noted {
        let problem = format!("is of type {}; write {wanted}", value.type_name());
        self.fault(field, origin, &problem, layers)
    }

    /// Notes every field that is none.
    fn finish(&self, layers: &mut Layers<'_>) -> Result<(), Noted> {
        for entry in &self.entries {
            let folded = entry.name.to_ascii_lowercase().replace('_', "-");
            let how = match self.asked.iter().find(|name| **name == folded) {
                Some(name) => format!("did you mean {name}?"),
                None => format!("take it out, or name one of {}", self.asked.join(", ")),
            };
            layers.fault(&format!(
                "{:?}, from {}: is no field of {}; {how}",
                entry.name, entry.value.origin, self.name
            ));
        }
        if self.entries.is_empty() {
            Ok(())
        } else {
            Err(Noted)
        }
    }
}

/// Reads a table to its end.
pub(super) fn read_one<T>(
    name: String,
    found: Located<Value>,
    layers: &mut Layers<'_>,
    read: impl FnOnce(&mut Table, &mut Layers<'_>) -> Result<T, Noted>,
) -> Result<T, Noted> {
    let Located { value, origin } = found;
    let entries = match value {
        Value::Table(entries) => entries,
        other => {
            layers.fault(&format!(
                "{name}, from {origin}: is of type {}; write a table, [{name}]",
                other.type_name()
            ));
            return Err(Noted);
        }
    };
    let mut table = Table::new(name, origin, entries);
    let value = read(&mut table, layers);
    table.finish(layers)?;
    value
}

/// Reads a list of tables, each to its end.
pub(super) fn read_all<T>(
    name: String,
    found: Located<Value>,
    layers: &mut Layers<'_>,
    mut read: impl FnMut(&mut Table, &mut Layers<'_>) -> Result<T, Noted>,
) -> Result<Vec<T>, Noted> {
    let Located { value, origin } = found;
    let wrong = |origin: &Origin, value: &Value, layers: &mut Layers<'_>| {
        layers.fault(&format!(
            "{name}, from {origin}: is of type {}; write a table for each, [[{name}]]",
            value.type_name()
        ));
        Noted
    };
    let items = match value {
        Value::List(items) => items,
        other => return Err(wrong(&origin, &other, layers)),
    };
    let mut all = Ok(Vec::new());
    for item in items {
        let one = match item.value {
            Value::Table(_) => read_one(name.clone(), item, layers, &mut read),
            other => Err(wrong(&item.origin, &other, layers)),
        };
        match (one, &mut all) {
            (Ok(one), Ok(all)) => all.push(one),
            (Ok(_), Err(_)) => {}
            (Err(noted), _) => all = Err(noted),
        }
    }
    all
}

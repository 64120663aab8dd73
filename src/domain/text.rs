//! Texts that people store: which there may be, and names with values.

use std::collections::BTreeMap;

use super::Invalid;

/// The longest display name, in characters.
pub const MAX_DISPLAY_NAME: usize = 128;
/// The longest description, in characters.
pub const MAX_DESCRIPTION: usize = 1_024;
/// The most labels a key has.
pub const MAX_LABELS: usize = 64;
/// The longest label name, in characters.
pub const MAX_LABEL_NAME: usize = 63;
/// The longest label value, in characters.
pub const MAX_LABEL_VALUE: usize = 256;

/// Names and values, sorted by name: labels, and values of settings. Most keys have few or none, so a slice is all it takes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct TextMap(Box<[(Box<str>, Box<str>)]>);

impl TextMap {
    /// The value of a name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        let place = self
            .0
            .binary_search_by(|(known, _)| (**known).cmp(name))
            .ok()?;
        Some(&self.0[place].1)
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }

    /// True if there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<N: Into<Box<str>>, V: Into<Box<str>>> FromIterator<(N, V)> for TextMap {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        let sorted: BTreeMap<Box<str>, Box<str>> = pairs
            .into_iter()
            .map(|(name, value)| (name.into(), value.into()))
            .collect();
        Self(sorted.into_iter().collect())
    }
}

/// Checks a display name.
///
/// # Errors
/// If it is longer than 128 characters or has one that can mislead a reader.
pub fn check_display_name(text: &str) -> Result<(), Invalid> {
    check_line(text, MAX_DISPLAY_NAME)
}

/// Checks a description, which may have line feeds and tabs.
///
/// # Errors
/// If it is longer than 1,024 characters or has one that can mislead a reader.
pub fn check_description(text: &str) -> Result<(), Invalid> {
    check(text, MAX_DESCRIPTION, |c| c == '\n' || c == '\t')
}

/// Checks a label.
///
/// # Errors
/// If the name is not `[a-z][a-z0-9._-]{0,62}`, or the value longer than 256 characters or misleading.
pub fn check_label(name: &str, value: &str) -> Result<(), Invalid> {
    if !is_dotted_name(name, MAX_LABEL_NAME) {
        return Err(Invalid::new(
            "a label's name must be a lower-case letter, then up to 62 of a-z, 0-9, '-', '_' and '.'",
        ));
    }
    check_line(value, MAX_LABEL_VALUE)
}

/// True for `[a-z][a-z0-9._-]*` of at most `longest` characters.
#[must_use]
pub fn is_dotted_name(text: &str, longest: usize) -> bool {
    let bytes = text.as_bytes();
    matches!(bytes, [b'a'..=b'z', ..])
        && bytes.len() <= longest
        && bytes
            .iter()
            .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-'))
}

/// Checks a text of one line and at most `longest` characters.
///
/// # Errors
/// If it is longer or has a character that can mislead a reader.
pub fn check_line(text: &str, longest: usize) -> Result<(), Invalid> {
    check(text, longest, |_| false)
}

fn check(text: &str, longest: usize, also_fine: fn(char) -> bool) -> Result<(), Invalid> {
    // Bytes first, so that a megabyte is refused without counting its characters.
    if text.len() > longest * 4 || text.chars().count() > longest {
        return Err(Invalid::owned(format!(
            "must have at most {longest} characters"
        )));
    }
    match text.chars().find(|&c| is_misleading(c) && !also_fine(c)) {
        None => Ok(()),
        Some(c) => Err(Invalid::owned(format!(
            "must not contain U+{:04X}",
            u32::from(c)
        ))),
    }
}

/// Characters that move the cursor, change the reading direction or break lines: a terminal or a log would show
/// something other than what is stored.
fn is_misleading(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{061C}' | '\u{200E}' | '\u{200F}' | '\u{2028}' | '\u{2029}'
            | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}' | '\u{FEFF}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_cannot_mislead_its_reader() {
        for bad in [
            "\u{202E}gpj.exe",
            "\u{1b}[31mred",
            "nul\0",
            "two\nlines",
            "\u{85}",
            "\u{2028}",
        ] {
            assert!(check_display_name(bad).is_err(), "{bad:?}");
        }
        for good in ["", "Zahlungen – Süd", "短信", "👩‍🚀 rocket", &"ä".repeat(128)] {
            assert!(check_display_name(good).is_ok(), "{good:?}");
        }
        assert!(check_display_name(&"ä".repeat(129)).is_err());
        assert!(check_display_name(&"a".repeat(1 << 20)).is_err());
        assert!(check_description("two\nlines\tand a tab").is_ok());
        assert!(check_description("carriage\rreturn").is_err());
    }

    #[test]
    fn a_label_has_a_plain_name() {
        assert!(check_label("team", "payments").is_ok());
        for bad in ["", "Team", "1st", "a b", "ä", &"a".repeat(64)] {
            assert!(check_label(bad, "").is_err(), "{bad:?}");
        }
        assert!(check_label("team", "x\u{202E}").is_err());
    }
}

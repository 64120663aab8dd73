use std::fmt;

use crate::domain::credential::SECRET_LENGTH;

/// One thing that is wrong, in words for the operator: which setting, from where, what is wrong, how to fix it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault(String);

impl Fault {
    /// Keeps the text to one line, the terminal safe from what a file or a variable may hold, and tokens that were pasted into
    /// the wrong place out of it.
    pub(super) fn new(text: &str) -> Self {
        let mut shown = String::with_capacity(text.len());
        for word in text.split_inclusive(|c: char| !c.is_ascii_alphanumeric() && c != '_') {
            let end = word.trim_end_matches(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            if holds_secret(end) {
                shown.push_str("(a token)");
                shown.push_str(&word[end.len()..]);
            } else {
                shown.push_str(word);
            }
        }
        Self(shown.replace(char::is_control, " "))
    }
}

/// True if a part of the word, between underscores, is as long as the secret of a key.
fn holds_secret(word: &str) -> bool {
    word.split('_').any(|part| part.len() >= SECRET_LENGTH)
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Everything that is wrong with the settings. Displays one fault a line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Faults(pub Vec<Fault>);

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.0.iter().enumerate() {
            let line_feed = if index == 0 { "" } else { "\n" };
            write!(f, "{line_feed}{fault}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_in_the_wrong_place_is_not_shown() {
        let secret = "a".repeat(SECRET_LENGTH);
        for text in [
            format!(
                "dns, from f:1: \"Bearer pc_{}_{secret}\" is no name",
                "b".repeat(22)
            ),
            format!("{secret:?}, from f:2: is no setting"),
            format!("x{secret}"),
        ] {
            let shown = Fault::new(&text).to_string();
            assert!(
                shown.contains("(a token)") && !shown.contains(&secret),
                "{shown}"
            );
        }
        let plain = "gate, from f:3: \"unix:/run/portcullis_gate/a.sock\" is taken";
        assert_eq!(Fault::new(plain).to_string(), plain);
    }
}

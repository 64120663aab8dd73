//! Words to look for in events.

use crate::domain::{Invalid, event::Event};

/// The longest query, in characters.
pub const MAX_QUERY: usize = 256;

/// Words, each of which an event must hold somewhere, in upper or lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Words(Vec<String>);

impl Words {
    /// Reads words with white space between them; none find everything.
    ///
    /// # Errors
    /// If they are longer than 256 characters together.
    pub fn parse(query: &str) -> Result<Self, Invalid> {
        if query.chars().nth(MAX_QUERY).is_some() {
            return Err(Invalid::new("must have at most 256 characters"));
        }
        Ok(Self(query.split_whitespace().map(lower).collect()))
    }

    /// True if the event holds each of them in one of its texts.
    #[must_use]
    pub fn are_in(&self, event: &Event) -> bool {
        if self.0.is_empty() {
            return true;
        }
        let mut missing: Vec<&str> = self.0.iter().map(String::as_str).collect();
        texts(event).any(|text| {
            let text = lower(text);
            missing.retain(|word| !text.contains(word));
            missing.is_empty()
        })
    }
}

fn texts(event: &Event) -> impl Iterator<Item = &str> {
    let Event {
        time: _,
        actor,
        team,
        action: _,
        method,
        entity: _,
        resource,
        changes,
        source_address,
        request_id,
    } = event;
    let changes = changes
        .iter()
        .flat_map(|change| [&change.field, &change.before, &change.after]);
    [resource, actor, team]
        .into_iter()
        .map(String::as_str)
        .chain([&**method])
        .chain([source_address, request_id].into_iter().map(String::as_str))
        .chain(changes.map(String::as_str))
}

/// Letter by letter: what a letter becomes must not depend on the ones around it, or a part would not be found in the whole.
fn lower(text: &str) -> String {
    text.chars().flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        event::{Action, Entity, FieldChange},
        time::Timestamp,
    };

    fn event() -> Event {
        Event {
            time: Timestamp::new(1_000_000, 0).expect("a time"),
            actor: "workspaces/system/keys/Actor".into(),
            team: "Payments".into(),
            action: Action::Delete,
            method: "ArchiveKey".into(),
            entity: Entity::Key,
            resource: "workspaces/default/keys/Resource".into(),
            changes: vec![FieldChange {
                field: "display_name".into(),
                before: "ΟΔΟΣΑ".into(),
                after: "Größe".into(),
            }],
            source_address: "10.0.0.7".into(),
            request_id: "Call-9".into(),
        }
    }

    #[test]
    fn each_word_is_found_in_any_text_and_in_any_case() {
        for (query, found) in [
            ("", true),
            (" \t ", true),
            ("KEYS/ACTOR", true),
            ("payments", true),
            ("archive", true),
            ("resource", true),
            ("10.0.0", true),
            ("call-9", true),
            ("DISPLAY_NAME", true),
            ("ΟΔΟΣ", true),
            ("GRÖSSE", false),
            ("GRÖ", true),
            ("payments archive 10.0.0.7 größe", true),
            ("payments missing", false),
            ("missing payments", false),
            // The action and the entity are for the filter.
            ("DELETE", false),
            // No word spans two texts.
            ("payments10", false),
        ] {
            let words = Words::parse(query).expect("short enough");
            assert_eq!(words.are_in(&event()), found, "{query:?}");
        }
    }

    #[test]
    fn a_query_has_at_most_256_characters() {
        assert!(Words::parse(&"ä".repeat(256)).is_ok());
        assert!(Words::parse(&"ä".repeat(257)).is_err());
        assert!(Words::parse(&" ".repeat(257)).is_err());
    }
}

//! Filters on events.

use crate::domain::{
    Invalid,
    event::{Action, Entity, Event},
    filter::{Condition, Field, Filter, Kind, Test},
    time::Timestamp,
};

/// A filter on events, in the language of [`filter`](crate::domain::filter).
///
/// Fields: `time`; `action` (CREATE, UPDATE, DELETE); `entity` (KEY, WORKSPACE, STORE); the texts `team`, `actor`,
/// `method`, `resource`, `source_address` and `request_id`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventFilter(Filter<Condition<EventField>>);

/// A field of an event that filters can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum EventField {
    Team,
    Action,
    Actor,
    Method,
    Entity,
    Resource,
    Time,
    SourceAddress,
    RequestId,
}

const ACTIONS: &[&str] = &["CREATE", "UPDATE", "DELETE"];
const ENTITIES: &[&str] = &["KEY", "WORKSPACE", "STORE"];

impl EventFilter {
    /// Reads a filter. Relative times count from `now`.
    ///
    /// # Errors
    /// As [`Filter::parse`].
    pub fn parse(text: &str, now: Timestamp) -> Result<Self, Invalid> {
        Filter::parse(text, now).map(Self)
    }

    /// True if the event passes.
    #[must_use]
    pub fn matches(&self, event: &Event) -> bool {
        self.0.passes(|condition| {
            let field = condition.field;
            match &condition.test {
                Test::Text(test) => field.text(event).is_some_and(|text| test.passes(text)),
                Test::Time(test) => test.passes(Some(event.time)),
                Test::Choice(place) => field.choice(event) == Some(*place),
                // There is no set and no map among the fields.
                Test::Element(_) | Test::Entry(..) | Test::AnyEntry => false,
            }
        })
    }
}

impl EventField {
    fn text(self, event: &Event) -> Option<&str> {
        Some(match self {
            Self::Team => &event.team,
            Self::Actor => &event.actor,
            Self::Method => &event.method,
            Self::Resource => &event.resource,
            Self::SourceAddress => &event.source_address,
            Self::RequestId => &event.request_id,
            Self::Action | Self::Entity | Self::Time => return None,
        })
    }

    /// The place of the event's value in the field's names.
    fn choice(self, event: &Event) -> Option<usize> {
        Some(match self {
            Self::Action => match event.action {
                Action::Create => 0,
                Action::Update => 1,
                Action::Delete => 2,
            },
            Self::Entity => match event.entity {
                Entity::Key => 0,
                Entity::Workspace => 1,
                Entity::Store => 2,
            },
            _ => return None,
        })
    }
}

impl Field for EventField {
    const ALL: &'static [Self] = &[
        Self::Team,
        Self::Action,
        Self::Actor,
        Self::Method,
        Self::Entity,
        Self::Resource,
        Self::Time,
        Self::SourceAddress,
        Self::RequestId,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Team => "team",
            Self::Action => "action",
            Self::Actor => "actor",
            Self::Method => "method",
            Self::Entity => "entity",
            Self::Resource => "resource",
            Self::Time => "time",
            Self::SourceAddress => "source_address",
            Self::RequestId => "request_id",
        }
    }

    fn kind(self) -> Kind {
        match self {
            Self::Team
            | Self::Actor
            | Self::Method
            | Self::Resource
            | Self::SourceAddress
            | Self::RequestId => Kind::Text,
            Self::Action => Kind::Choice(ACTIONS),
            Self::Entity => Kind::Choice(ENTITIES),
            Self::Time => Kind::Time,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> Event {
        Event {
            time: Timestamp::new(1_000_000, 0).expect("a time"),
            actor: "workspaces/system/keys/0123456789abcdefghijkl".into(),
            team: "payments".into(),
            action: Action::Delete,
            method: "ArchiveKey".into(),
            entity: Entity::Key,
            resource: "workspaces/default/keys/4fZ0123456789abcdefghi".into(),
            changes: Vec::new(),
            source_address: "10.0.0.7".into(),
            request_id: "4b1e".into(),
        }
    }

    #[test]
    fn every_field_of_an_event_can_be_asked() {
        let now = Timestamp::new(1_000_060, 0).expect("a time");
        for (filter, passes) in [
            ("", true),
            ("team = payments", true),
            ("team = otp OR team = payments", true),
            ("team = otp", false),
            ("action = DELETE", true),
            ("action != DELETE", false),
            ("actor = *ijkl", true),
            ("actor = local:*", false),
            ("method = ArchiveKey", true),
            ("method:key", true),
            ("method = CreateKey", false),
            ("entity = KEY", true),
            ("entity = WORKSPACE OR entity = STORE", false),
            ("resource = workspaces/default/*", true),
            ("resource = workspaces/system/*", false),
            ("time >= -60s AND time < -59s", true),
            ("time > -1m", false),
            ("source_address = 10.0.0.7", true),
            ("NOT source_address:*", false),
            ("request_id = 4b1e", true),
        ] {
            let parsed = EventFilter::parse(filter, now).expect(filter);
            assert_eq!(parsed.matches(&event()), passes, "{filter}");
        }
        for entity in [Entity::Key, Entity::Workspace, Entity::Store] {
            for action in [Action::Create, Action::Update, Action::Delete] {
                let event = Event {
                    action,
                    entity,
                    ..event()
                };
                let named = format!("action = {action:?} AND entity = {entity:?}").to_uppercase();
                let named = named
                    .replace("ACTION", "action")
                    .replace("ENTITY", "entity");
                let parsed = EventFilter::parse(&named, now).expect("names as in the API");
                assert!(parsed.matches(&event), "{named}");
            }
        }
        for bad in ["secret = x", "action = ARCHIVE", "time:1", "team < a"] {
            assert!(EventFilter::parse(bad, now).is_err(), "{bad}");
        }
    }
}

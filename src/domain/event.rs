//! The record of a change: who did what to which resource.

pub mod filter;

use std::borrow::Cow;

use super::{key::Key, secret::Secret, time::Timestamp, workspace::Workspace};

/// One event stands beside every committed change, in the same commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// On the writer's clock.
    pub time: Timestamp,
    /// Who: a `system` key's name, or `local:{uid}`.
    pub actor: String,
    /// The label `team` of the actor's key.
    pub team: String,
    /// What kind of change.
    pub action: Action,
    /// The call.
    pub method: Cow<'static, str>,
    /// What kind of resource.
    pub entity: Entity,
    /// The resource's name.
    pub resource: String,
    /// What changed. Never a secret.
    pub changes: Vec<FieldChange>,
    /// Where the call came from; empty for the admin socket.
    pub source_address: String,
    /// The caller's own id of the call; empty if it gave none.
    pub request_id: String,
}

/// The field under which an event names the archived keys that its change deleted.
pub const DROPPED_FIELD: &str = "archived";

/// What kind of change an event tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// The resource came to be.
    Create,
    /// It changed.
    Update,
    /// It is gone.
    Delete,
}

impl Action {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Create, Self::Update, Self::Delete];

    /// As the API and stored events write it: its spelling is for ever.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
        }
    }
}

/// What kind of resource an event tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entity {
    /// A key.
    Key,
    /// A workspace.
    Workspace,
    /// The store itself, when it is made.
    Store,
}

impl Entity {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Key, Self::Workspace, Self::Store];

    /// As the API and stored events write it: its spelling is for ever.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Key => "KEY",
            Self::Workspace => "WORKSPACE",
            Self::Store => "STORE",
        }
    }
}

/// One field's change, as text. An empty text stands for "not set".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldChange {
    /// The field's name in the API.
    pub field: String,
    /// As it was.
    pub before: String,
    /// As it is.
    pub after: String,
}

/// Names what differs between two states of a key; `None`: it did not, or does no longer exist.
#[must_use]
pub fn key_changes(before: Option<&Key>, after: Option<&Key>) -> Vec<FieldChange> {
    differences(
        &before.map(key_fields).unwrap_or_default(),
        &after.map(key_fields).unwrap_or_default(),
    )
}

/// Names what differs between two states of a workspace; `None`: it did not, or does no longer exist.
#[must_use]
pub fn workspace_changes(
    before: Option<&Workspace>,
    after: Option<&Workspace>,
) -> Vec<FieldChange> {
    differences(
        &before.map(workspace_fields).unwrap_or_default(),
        &after.map(workspace_fields).unwrap_or_default(),
    )
}

fn workspace_fields(workspace: &Workspace) -> Vec<Field> {
    // Destructured, as below.
    let Workspace {
        id: _,
        display_name,
        token_prefix,
        permissions,
        settings,
        archive_limit,
        create_time: _,
        update_time: _,
    } = workspace;
    let mut fields = vec![
        ("display_name".to_owned(), display_name.clone()),
        ("token_prefix".to_owned(), token_prefix.as_str().to_owned()),
        (
            "permissions".to_owned(),
            permissions.iter().collect::<Vec<_>>().join(","),
        ),
        ("archive_limit".to_owned(), archive_limit.get().to_string()),
    ];
    fields.extend(settings.iter().map(|declaration| {
        (
            format!("settings.{}", declaration.name),
            declaration.to_string(),
        )
    }));
    fields
}

type Field = (String, String);

fn key_fields(key: &Key) -> Vec<Field> {
    // Destructured, so that a new field does not compile before somebody decides how it is told.
    let Key {
        id: _,
        workspace: _,
        display_name,
        description,
        owner,
        token_prefix: _,
        disabled,
        permissions,
        ip_allowlist,
        labels,
        create_time: _,
        update_time: _,
        expire_time,
        archive_time,
        settings,
    } = key;
    let entries: Vec<_> = ip_allowlist
        .entries()
        .iter()
        .map(ToString::to_string)
        .collect();
    let mut fields = vec![
        ("display_name".to_owned(), display_name.to_string()),
        ("description".to_owned(), description.to_string()),
        ("owner".to_owned(), owner.to_string()),
        (
            "state".to_owned(),
            match (archive_time, disabled) {
                (Some(_), _) => "ARCHIVED",
                (None, true) => "DISABLED",
                (None, false) => "ACTIVE",
            }
            .to_owned(),
        ),
        (
            "permissions".to_owned(),
            permissions.iter().collect::<Vec<_>>().join(","),
        ),
        ("ip_allowlist".to_owned(), entries.join(",")),
        (
            "expire_time".to_owned(),
            expire_time.map(|time| time.to_string()).unwrap_or_default(),
        ),
    ];
    fields.extend(
        labels
            .iter()
            .map(|(name, value)| (format!("labels.{name}"), value.to_owned())),
    );
    fields.extend(
        settings
            .iter()
            .map(|(name, value)| (format!("settings.{name}"), value.to_owned())),
    );
    fields
}

fn differences(before: &[Field], after: &[Field]) -> Vec<FieldChange> {
    let value = |fields: &[Field], name: &str| {
        fields
            .iter()
            .find(|(field, _)| field == name)
            .map(|(_, value)| value.clone())
            .unwrap_or_default()
    };
    let has = |fields: &[Field], name: &str| fields.iter().any(|(field, _)| field == name);
    let mut names: Vec<&str> = before
        .iter()
        .chain(after)
        .map(|(name, _)| name.as_str())
        .collect();
    let mut seen = std::collections::HashSet::new();
    names.retain(|name| seen.insert(*name));
    names
        .into_iter()
        .map(|name| FieldChange {
            field: name.to_owned(),
            before: value(before, name),
            after: value(after, name),
        })
        .filter(|change| {
            // A label may be there without a value, and is told of all the same.
            let comes_or_goes = has(before, &change.field) != has(after, &change.field);
            change.before != change.after || (comes_or_goes && change.field.starts_with("labels."))
        })
        .collect()
}

/// Names which secrets of a key are live, by their ids and the ends that they have. Their values are never told.
#[must_use]
pub fn secrets_change(before: &[Secret], after: &[Secret]) -> FieldChange {
    let text = |secrets: &[Secret]| {
        secrets
            .iter()
            .map(|secret| match secret.expire_time {
                Some(end) => format!("{} until {end}", secret.id),
                None => secret.id.to_string(),
            })
            .collect::<Vec<_>>()
            .join(",")
    };
    FieldChange {
        field: "secrets".to_owned(),
        before: text(before),
        after: text(after),
    }
}

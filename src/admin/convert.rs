//! Messages ⇄ domain types. Every malformed field of a request is named at once.

mod audit;
mod workspaces;

use std::{collections::BTreeMap, time::Duration};

use prost_types::FieldMask;
use tokio::time::Instant;

pub(super) use self::{
    audit::{
        read_anchor, read_event_order, read_export_form, read_parent, read_revision, show_event,
        show_verdict, write_revision,
    },
    workspaces::{read_new_workspace, read_workspace_edit, show_workspace},
};
use super::{
    Failure,
    call::Call,
    caller::Caller,
    key_changes::{KeyEdit, MAX_OVERLAP},
    keys::{Issued, KeyView, NewKey},
};
use crate::{
    domain::{
        Invalid,
        grant::Grants,
        id::WorkspaceId,
        key::{Key, KeyRecord, State},
        name::{KeyName, parse_workspace},
        permission::{self, PermissionSet},
        secret::GeneratedSecret,
        setting::{MAX_NAME, MAX_SETTINGS},
        source::IpAllowlist,
        text::{self, TextMap, is_dotted_name},
        time::Timestamp,
        workspace::Access,
    },
    proto::v1,
};

/// Collects what is wrong with a request.
#[derive(Default)]
pub(super) struct Violations(Vec<(String, String)>);

impl Violations {
    pub(super) fn add(&mut self, field: impl Into<String>, why: impl ToString) {
        self.0.push((field.into(), why.to_string()));
    }

    /// The value, or its violation and a stand-in that is dropped in the end.
    pub(super) fn take<T: Default>(&mut self, field: &str, value: Result<T, Invalid>) -> T {
        value.unwrap_or_else(|why| {
            self.add(field, why);
            T::default()
        })
    }

    /// Goes on only if nothing was wrong.
    pub(super) fn finish<T>(self, value: T) -> Result<T, Failure> {
        if self.0.is_empty() {
            Ok(value)
        } else {
            Err(Failure::Invalid(self.0))
        }
    }
}

/// A call with what tells it from others: its request, without the id that was taken out of it.
pub(super) fn call_of(
    caller: Caller,
    method: &'static str,
    request_id: String,
    request: &impl prost::Message,
    answer_by: Option<Instant>,
) -> Call {
    Call::new(caller, method, request_id, &request.encode_to_vec()).to_answer_by(answer_by)
}

/// Reads a workspace's name.
pub(super) fn read_workspace_name(field: &str, name: &str) -> Result<WorkspaceId, Failure> {
    parse_workspace(name).map_err(|why| Failure::invalid(field, why))
}

/// Reads a key's name.
pub(super) fn read_key_name(field: &str, name: &str) -> Result<KeyName, Failure> {
    KeyName::parse(name).map_err(|why| Failure::invalid(field, why))
}

/// The fields of a key that a caller may set.
const SETTABLE: [&str; 7] = [
    "display_name",
    "description",
    "permissions",
    "ip_allowlist",
    "labels",
    "expire_time",
    "settings",
];
/// The fields that only the server sets.
const OUTPUT_ONLY: [&str; 12] = [
    "name",
    "key_id",
    "owner",
    "token_hint",
    "state",
    "access",
    "create_time",
    "update_time",
    "archive_time",
    "secrets",
    "etag",
    "revision",
];

/// Reads the key of a `CreateKey` request.
pub(super) fn read_new_key(key: v1::Key, workspace: &WorkspaceId) -> Result<NewKey, Failure> {
    let chosen = !key.permissions.is_empty();
    let KeyEdit {
        display_name,
        description,
        permissions,
        ip_allowlist,
        labels,
        expire_time,
        settings,
    } = read_fields(key, workspace, |_| true)?;
    Ok(NewKey {
        display_name: display_name.unwrap_or_default(),
        description: description.unwrap_or_default(),
        permissions: permissions.filter(|_| chosen),
        ip_allowlist: ip_allowlist.unwrap_or_default(),
        labels: labels.unwrap_or_default(),
        expire_time: expire_time.flatten(),
        settings: settings.unwrap_or_default(),
    })
}

/// Reads the change that an `UpdateKey` request asks for.
pub(super) fn read_edit(
    key: v1::Key,
    mask: Option<FieldMask>,
    workspace: &WorkspaceId,
) -> Result<KeyEdit, Failure> {
    let paths = mask.map(|mask| mask.paths).unwrap_or_default();
    if paths.is_empty() {
        // No mask: what is populated. Clearing a field therefore needs the mask.
        let v1::Key {
            display_name,
            description,
            permissions,
            ip_allowlist,
            labels,
            expire_time,
            settings,
            ..
        } = &key;
        let populated = [
            !display_name.is_empty(),
            !description.is_empty(),
            !permissions.is_empty(),
            !ip_allowlist.is_empty(),
            !labels.is_empty(),
            expire_time.is_some(),
            !settings.is_empty(),
        ];
        return read_fields(key, workspace, |place| populated[place]);
    }
    if paths == ["*"] {
        if key.etag.is_empty() {
            return Err(Failure::invalid(
                "key.etag",
                "is required with the mask '*'",
            ));
        }
        return read_fields(key, workspace, |_| true);
    }
    check_mask(&paths, &SETTABLE, &OUTPUT_ONLY, "key")?;
    read_fields(key, workspace, |place| {
        paths.iter().any(|path| path == SETTABLE[place])
    })
}

/// Checks the paths of a mask that is not just `*`.
pub(super) fn check_mask(
    paths: &[String],
    settable: &[&str],
    output_only: &[&str],
    resource: &str,
) -> Result<(), Failure> {
    let mut violations = Violations::default();
    for path in paths {
        match path.as_str() {
            "*" => violations.add("update_mask", "'*' must stand alone"),
            known if settable.contains(&known) => {}
            known if output_only.contains(&known) => {
                violations.add("update_mask", format!("{known} is set by the server only"));
            }
            unknown => violations.add(
                "update_mask",
                format!("{unknown:?} is no field of a {resource}"),
            ),
        }
    }
    violations.finish(())
}

/// Reads the settable fields at the places that are `wanted`.
fn read_fields(
    key: v1::Key,
    workspace: &WorkspaceId,
    wanted: impl Fn(usize) -> bool,
) -> Result<KeyEdit, Failure> {
    // Destructured, so that a new field does not compile before somebody reads it.
    let v1::Key {
        name: _,
        key_id: _,
        display_name,
        description,
        owner: _,
        token_hint: _,
        state: _,
        permissions,
        access: _,
        ip_allowlist,
        settings,
        labels,
        create_time: _,
        update_time: _,
        expire_time,
        archive_time: _,
        secrets: _,
        etag: _,
        revision: _,
    } = key;
    let mut violations = Violations::default();
    let mut edit = KeyEdit::default();
    if wanted(0) {
        let checked = text::check_display_name(&display_name).map(|()| display_name);
        edit.display_name = Some(violations.take("key.display_name", checked));
    }
    if wanted(1) {
        let checked = text::check_description(&description).map(|()| description);
        edit.description = Some(violations.take("key.description", checked));
    }
    if wanted(2) {
        edit.permissions = Some(read_permissions(permissions, workspace, &mut violations));
    }
    if wanted(3) {
        edit.ip_allowlist = Some(IpAllowlist::parse(&ip_allowlist).unwrap_or_else(|invalid| {
            let entry = invalid
                .index
                .map(|index| format!("[{index}]"))
                .unwrap_or_default();
            violations.add(format!("key.ip_allowlist{entry}"), invalid.reason);
            IpAllowlist::default()
        }));
    }
    if wanted(4) {
        edit.labels = Some(read_labels(labels, &mut violations));
    }
    if wanted(5) {
        let read = expire_time
            .map(|time| Timestamp::new(time.seconds, time.nanos))
            .transpose();
        edit.expire_time = Some(violations.take("key.expire_time", read));
    }
    if wanted(6) {
        edit.settings = Some(read_settings(settings, &mut violations));
    }
    violations.finish(edit)
}

fn read_permissions(
    names: Vec<String>,
    workspace: &WorkspaceId,
    violations: &mut Violations,
) -> PermissionSet {
    if names.len() > permission::MAX_PERMISSIONS {
        violations.add("key.permissions", "must have at most 100 names");
        return PermissionSet::none();
    }
    if !workspace.is_system() {
        for (index, name) in names.iter().enumerate() {
            if let Err(why) = permission::check_name(name) {
                violations.add(format!("key.permissions[{index}]"), why);
            }
        }
    }
    let set = PermissionSet::new(names);
    if workspace.is_system()
        && let Err(why) = Grants::parse(&set)
    {
        violations.add("key.permissions", why);
    }
    set
}

fn read_labels(labels: BTreeMap<String, String>, violations: &mut Violations) -> TextMap {
    if labels.len() > text::MAX_LABELS {
        violations.add(
            "key.labels",
            format!("must have at most {} entries", text::MAX_LABELS),
        );
        return TextMap::default();
    }
    for (name, value) in &labels {
        if let Err(why) = text::check_label(name, value) {
            violations.add("key.labels", why);
        }
    }
    labels.into_iter().collect()
}

/// Reads the values for settings. Whether the workspace declares them and takes the values is seen when the key is
/// written.
fn read_settings(settings: BTreeMap<String, String>, violations: &mut Violations) -> TextMap {
    if settings.len() > MAX_SETTINGS {
        violations.add("key.settings", "must have at most 50 entries");
        return TextMap::default();
    }
    for name in settings.keys() {
        if !is_dotted_name(name, MAX_NAME) {
            violations.add(
                "key.settings",
                "is not a setting that the workspace declares",
            );
        }
    }
    settings.into_iter().collect()
}

/// Reads how long a reset overlaps.
pub(super) fn read_overlap(overlap: Option<prost_types::Duration>) -> Result<Duration, Failure> {
    let Some(prost_types::Duration { seconds, nanos }) = overlap else {
        return Ok(Duration::ZERO);
    };
    let read = match (u64::try_from(seconds), u32::try_from(nanos)) {
        (Ok(seconds), Ok(nanos)) if nanos < 1_000_000_000 => Duration::new(seconds, nanos),
        _ => {
            return Err(Failure::invalid(
                "overlap",
                "must not be negative, nor malformed",
            ));
        }
    };
    if read > MAX_OVERLAP {
        return Err(Failure::invalid("overlap", "must be at most 30 days"));
    }
    Ok(read)
}

/// Shows a key as it is at `now`.
pub(super) fn show_key(view: &KeyView, now: Timestamp) -> v1::Key {
    let KeyView { record, access } = view;
    let KeyRecord {
        key,
        secrets,
        revision,
    } = record;
    let Key {
        id,
        workspace: _,
        display_name,
        description,
        owner,
        token_prefix: _,
        disabled: _,
        permissions,
        ip_allowlist,
        labels,
        settings,
        create_time,
        update_time,
        expire_time,
        archive_time,
    } = key;
    let state = match key.state(now) {
        State::Active => v1::key::State::Active,
        State::Disabled => v1::key::State::Disabled,
        State::Expired => v1::key::State::Expired,
        State::Archived => v1::key::State::Archived,
    };
    let access = match access {
        Access::Full => v1::key::Access::Full,
        Access::Partial => v1::key::Access::Partial,
    };
    v1::Key {
        name: key.name().to_string(),
        key_id: id.to_string(),
        display_name: display_name.to_string(),
        description: description.to_string(),
        owner: owner.to_string(),
        token_hint: key.token_hint(),
        state: state.into(),
        permissions: permissions.iter().map(str::to_owned).collect(),
        access: access.into(),
        ip_allowlist: ip_allowlist
            .entries()
            .iter()
            .map(ToString::to_string)
            .collect(),
        settings: show_map(settings),
        labels: show_map(labels),
        create_time: Some(show_time(*create_time)),
        update_time: Some(show_time(*update_time)),
        expire_time: expire_time.map(show_time),
        archive_time: archive_time.map(show_time),
        secrets: secrets
            .iter()
            .filter(|secret| secret.is_live(now))
            .map(|secret| v1::SecretInfo {
                id: secret.id.to_string(),
                create_time: Some(show_time(secret.create_time)),
                expire_time: secret.expire_time.map(show_time),
            })
            .collect(),
        etag: revision.to_string(),
        revision: revision.to_string(),
    }
}

fn show_map(map: &TextMap) -> BTreeMap<String, String> {
    map.iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// Shows a key and its new secret, this once.
pub(super) fn show_issued(
    issued: &Issued,
    now: Timestamp,
    lagging_replicas: Vec<String>,
) -> v1::IssuedKey {
    let Issued { view, secret } = issued;
    let token = |secret: &GeneratedSecret| {
        let token = secret.token(&view.record.key.token_prefix);
        token.expose().to_owned()
    };
    v1::IssuedKey {
        key: Some(show_key(view, now)),
        token: secret.as_ref().map(token).unwrap_or_default(),
        secret: secret
            .as_ref()
            .map(|secret| secret.expose().to_owned())
            .unwrap_or_default(),
        lagging_replicas,
        replayed: secret.is_none(),
    }
}

pub(super) fn show_time(time: Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: time.seconds(),
        nanos: time.nanos().cast_signed(),
    }
}

#[cfg(test)]
mod tests;

//! Messages ⇄ domain types. Every malformed field of a request is named at once.

use prost_types::FieldMask;

use super::{
    Failure,
    key_changes::KeyEdit,
    keys::{Issued, NewKey},
};
use crate::{
    domain::{
        Invalid,
        grant::Grants,
        id::{KeyId, WorkspaceId},
        key::{Key, KeyRecord, Labels, State},
        name::{KeyName, of_workspace, parse_workspace},
        permission::{self, PermissionSet},
        source::IpAllowlist,
        text,
        time::Timestamp,
        workspace::Workspace,
    },
    gate::keyring::ListPosition,
    proto::v1,
    store::WorkspaceRecord,
};

/// Collects what is wrong with a request.
#[derive(Default)]
pub(super) struct Violations(Vec<(String, String)>);

impl Violations {
    fn add(&mut self, field: impl Into<String>, why: impl ToString) {
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

/// Reads a workspace's name.
pub(super) fn read_workspace_name(field: &str, name: &str) -> Result<WorkspaceId, Failure> {
    parse_workspace(name).map_err(|why| Failure::invalid(field, why))
}

/// Reads a key's name.
pub(super) fn read_key_name(field: &str, name: &str) -> Result<KeyName, Failure> {
    KeyName::parse(name).map_err(|why| Failure::invalid(field, why))
}

/// The fields of a key that a caller may set.
const SETTABLE: [&str; 6] = [
    "display_name",
    "description",
    "permissions",
    "ip_allowlist",
    "labels",
    "expire_time",
];
/// The fields that only the server sets.
const OUTPUT_ONLY: [&str; 10] = [
    "name",
    "key_id",
    "owner",
    "token_hint",
    "state",
    "create_time",
    "update_time",
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
    } = read_fields(key, workspace, |_| true)?;
    Ok(NewKey {
        display_name: display_name.unwrap_or_default(),
        description: description.unwrap_or_default(),
        permissions: permissions.filter(|_| chosen),
        ip_allowlist: ip_allowlist.unwrap_or_default(),
        labels: labels.unwrap_or_default(),
        expire_time: expire_time.flatten(),
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
            ..
        } = &key;
        let populated = [
            !display_name.is_empty(),
            !description.is_empty(),
            !permissions.is_empty(),
            !ip_allowlist.is_empty(),
            !labels.is_empty(),
            expire_time.is_some(),
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
    let mut violations = Violations::default();
    for path in &paths {
        match path.as_str() {
            "*" => violations.add("update_mask", "'*' must stand alone"),
            known if SETTABLE.contains(&known) => {}
            known if OUTPUT_ONLY.contains(&known) => {
                violations.add("update_mask", format!("{known} is set by the server only"));
            }
            unknown => violations.add("update_mask", format!("{unknown:?} is no field of a key")),
        }
    }
    violations.finish(())?;
    read_fields(key, workspace, |place| {
        paths.iter().any(|path| path == SETTABLE[place])
    })
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
        ip_allowlist,
        labels,
        create_time: _,
        update_time: _,
        expire_time,
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

fn read_labels(
    labels: std::collections::BTreeMap<String, String>,
    violations: &mut Violations,
) -> Labels {
    if labels.len() > text::MAX_LABELS {
        violations.add(
            "key.labels",
            format!("must have at most {} entries", text::MAX_LABELS),
        );
        return Labels::default();
    }
    for (name, value) in &labels {
        if let Err(why) = text::check_label(name, value) {
            violations.add("key.labels", why);
        }
    }
    labels.into_iter().collect()
}

/// Shows a key as it is at `now`.
pub(super) fn show_key(record: &KeyRecord, now: Timestamp) -> v1::Key {
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
        create_time,
        update_time,
        expire_time,
    } = key;
    let state = match key.state(now) {
        State::Active => v1::key::State::Active,
        State::Disabled => v1::key::State::Disabled,
        State::Expired => v1::key::State::Expired,
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
        ip_allowlist: ip_allowlist
            .entries()
            .iter()
            .map(ToString::to_string)
            .collect(),
        labels: labels
            .iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect(),
        create_time: Some(show_time(*create_time)),
        update_time: Some(show_time(*update_time)),
        expire_time: expire_time.map(show_time),
        secrets: secrets
            .iter()
            .map(|secret| v1::SecretInfo {
                id: secret.id.to_string(),
                create_time: Some(show_time(secret.create_time)),
            })
            .collect(),
        etag: revision.to_string(),
        revision: revision.to_string(),
    }
}

/// Shows a key and its new secret, this once.
pub(super) fn show_issued(issued: &Issued, now: Timestamp) -> v1::IssuedKey {
    let Issued { record, secret } = issued;
    v1::IssuedKey {
        key: Some(show_key(record, now)),
        token: secret.token(&record.key.token_prefix).expose().to_owned(),
        secret: secret.expose().to_owned(),
    }
}

/// Shows a workspace.
pub(super) fn show_workspace(record: &WorkspaceRecord) -> v1::Workspace {
    let WorkspaceRecord {
        workspace,
        revision,
    } = record;
    let Workspace {
        id,
        display_name,
        token_prefix,
        create_time,
        update_time,
    } = workspace;
    v1::Workspace {
        name: of_workspace(id),
        display_name: display_name.clone(),
        token_prefix: token_prefix.as_str().to_owned(),
        create_time: Some(show_time(*create_time)),
        update_time: Some(show_time(*update_time)),
        etag: revision.to_string(),
        revision: revision.to_string(),
    }
}

fn show_time(time: Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: time.seconds(),
        nanos: time.nanos().cast_signed(),
    }
}

/// A list position as page tokens carry it.
pub(super) fn write_position(position: ListPosition) -> Vec<u8> {
    let ListPosition { create_time, id } = position;
    [
        &create_time.seconds().to_be_bytes()[..],
        &create_time.nanos().to_be_bytes(),
        &id.bits().to_be_bytes(),
    ]
    .concat()
}

/// Reads what [`write_position`] wrote.
pub(super) fn read_position(bytes: &[u8]) -> Option<ListPosition> {
    let (seconds, rest) = bytes.split_first_chunk()?;
    let (nanos, id) = rest.split_first_chunk()?;
    let create_time =
        Timestamp::new(i64::from_be_bytes(*seconds), i32::from_be_bytes(*nanos)).ok()?;
    Some(ListPosition {
        create_time,
        id: KeyId::from_bits(u128::from_be_bytes(id.try_into().ok()?)),
    })
}

#[cfg(test)]
mod tests;

//! Stored bytes ⇄ domain types. An adapter: the only place that sees the messages of `portcullis.store.v1`.
//!
//! Stored bytes are not trusted: whatever does not decode to a valid record of the id it stands under is refused here.

pub(super) mod change;
pub(super) mod done;
pub(super) mod events;
pub(super) mod rows;
mod settings;
pub(super) mod writes;

use prost::Message as _;

use super::{RecordId, Stored, WorkspaceRecord};
use crate::{
    domain::{
        Invalid,
        id::{KeyId, Revision, TokenPrefix, WorkspaceId},
        key::{Key, KeyRecord},
        permission::PermissionSet,
        secret::{Secret, Verifier},
        setting,
        source::IpAllowlist,
        text::{self, TextMap},
        time::Timestamp,
        workspace::{ArchiveLimit, Workspace},
    },
    proto::stored,
};

/// The layout that this version writes. Version 1 lacks fields that version 2 has, and what it has means the same.
const SCHEMA: u32 = 2;

fn is_known(schema: u32) -> bool {
    (1..=SCHEMA).contains(&schema)
}

/// Encodes a key's record.
pub(super) fn encode_key(record: &KeyRecord) -> Vec<u8> {
    let KeyRecord {
        key,
        secrets,
        revision,
    } = record;
    let Key {
        id,
        workspace,
        display_name,
        description,
        owner,
        token_prefix,
        disabled,
        permissions,
        ip_allowlist,
        labels,
        settings,
        create_time,
        update_time,
        expire_time,
        archive_time,
    } = key;
    encode(
        *revision,
        stored::record::Kind::Key(stored::Key {
            key_id: id.bits().to_be_bytes().to_vec(),
            workspace: workspace.as_str().to_owned(),
            display_name: display_name.to_string(),
            description: description.to_string(),
            owner: owner.to_string(),
            disabled: *disabled,
            permissions: permissions.iter().map(str::to_owned).collect(),
            ip_allowlist: ip_allowlist
                .entries()
                .iter()
                .map(ToString::to_string)
                .collect(),
            labels: encode_map(labels),
            settings: encode_map(settings),
            create_time: Some(encode_time(*create_time)),
            update_time: Some(encode_time(*update_time)),
            expire_time: expire_time.map(encode_time),
            archive_time: archive_time.map(encode_time),
            secrets: secrets
                .iter()
                .map(
                    |Secret {
                         id,
                         verifier,
                         screen,
                         create_time,
                         expire_time,
                     }| stored::Secret {
                        id: *id,
                        phc: verifier.to_phc(),
                        screen: *screen,
                        create_time: Some(encode_time(*create_time)),
                        expire_time: expire_time.map(encode_time),
                    },
                )
                .collect(),
            token_prefix: token_prefix.as_str().to_owned(),
        }),
    )
}

/// Encodes a workspace's record.
pub(super) fn encode_workspace(record: &WorkspaceRecord) -> Vec<u8> {
    let Workspace {
        id,
        display_name,
        token_prefix,
        permissions,
        settings,
        archive_limit,
        create_time,
        update_time,
    } = &record.workspace;
    encode(
        record.revision,
        stored::record::Kind::Workspace(stored::Workspace {
            id: id.as_str().to_owned(),
            display_name: display_name.clone(),
            token_prefix: token_prefix.as_str().to_owned(),
            create_time: Some(encode_time(*create_time)),
            update_time: Some(encode_time(*update_time)),
            permissions: permissions.iter().map(str::to_owned).collect(),
            settings: settings.iter().map(settings::encode).collect(),
            archive_limit: archive_limit.get().into(),
        }),
    )
}

fn encode(revision: Revision, kind: stored::record::Kind) -> Vec<u8> {
    stored::Record {
        schema: SCHEMA,
        epoch: revision.epoch,
        number: revision.number,
        kind: Some(kind),
    }
    .encode_to_vec()
}

/// Encodes the end of a workspace.
pub(super) fn encode_tombstone(revision: Revision) -> Vec<u8> {
    encode(
        revision,
        stored::record::Kind::Tombstone(stored::Tombstone {}),
    )
}

/// Decodes what stands under an id. Nothing may be newer than the store's `head`.
pub(super) fn decode(id: &RecordId, bytes: &[u8], head: Revision) -> Stored {
    decode_record(id, bytes, head)
        .unwrap_or_else(|Invalid(why)| Stored::Unreadable(why.into_owned()))
}

fn decode_record(id: &RecordId, bytes: &[u8], head: Revision) -> Result<Stored, Invalid> {
    let record = stored::Record::decode(bytes).map_err(|_| Invalid::new("not a record"))?;
    if !is_known(record.schema) {
        return Err(Invalid::owned(format!(
            "schema {} is not known to this version",
            record.schema
        )));
    }
    let revision = Revision {
        epoch: record.epoch,
        number: record.number,
    };
    if revision.epoch == 0 || revision.number == 0 {
        return Err(Invalid::new("without a revision"));
    }
    if revision > head {
        return Err(Invalid::owned(format!(
            "revision {revision} is ahead of the store's {head}"
        )));
    }
    match (id, record.kind) {
        (RecordId::Key(id), Some(stored::record::Kind::Key(key))) => {
            Ok(Stored::Key(Box::new(decode_key(*id, key, revision)?)))
        }
        (RecordId::Workspace(id), Some(stored::record::Kind::Workspace(workspace))) => Ok(
            Stored::Workspace(decode_workspace(id, workspace, revision)?),
        ),
        (RecordId::Workspace(_), Some(stored::record::Kind::Tombstone(stored::Tombstone {}))) => {
            Ok(Stored::Retired(revision))
        }
        (RecordId::Unknown(_), _) => Err(Invalid::new("under an unknown id")),
        _ => Err(Invalid::new("of another kind than its id")),
    }
}

fn decode_key(id: KeyId, message: stored::Key, revision: Revision) -> Result<KeyRecord, Invalid> {
    let stored::Key {
        key_id,
        workspace,
        display_name,
        description,
        owner,
        disabled,
        permissions,
        ip_allowlist,
        labels,
        create_time,
        update_time,
        expire_time,
        secrets,
        token_prefix,
        archive_time,
        settings,
    } = message;
    if key_id != id.bits().to_be_bytes() {
        return Err(Invalid::new("the record of another key"));
    }
    let key = Key {
        id,
        workspace: WorkspaceId::parse(&workspace)?,
        display_name: display_name.into(),
        description: description.into(),
        owner: owner.into(),
        token_prefix: TokenPrefix::parse(&token_prefix)?,
        disabled,
        permissions: PermissionSet::new(permissions),
        ip_allowlist: decode_allowlist(&ip_allowlist)?,
        labels: decode_map(labels),
        settings: decode_settings(settings)?,
        create_time: decode_time(create_time)?,
        update_time: decode_time(update_time)?,
        expire_time: expire_time
            .map(|time| decode_time(Some(time)))
            .transpose()?,
        archive_time: archive_time
            .map(|time| decode_time(Some(time)))
            .transpose()?,
    };
    let secrets = secrets
        .into_iter()
        .map(|secret| {
            Ok(Secret {
                id: secret.id,
                verifier: Verifier::from_phc(&secret.phc)?,
                screen: secret.screen,
                create_time: decode_time(secret.create_time)?,
                expire_time: secret
                    .expire_time
                    .map(|time| decode_time(Some(time)))
                    .transpose()?,
            })
        })
        .collect::<Result<Vec<_>, Invalid>>()?;
    Ok(KeyRecord {
        key,
        secrets,
        revision,
    })
}

fn decode_allowlist(entries: &[String]) -> Result<IpAllowlist, Invalid> {
    let list = IpAllowlist::parse(entries).map_err(|invalid| invalid.reason)?;
    // A stored list that reads as "any source" was not written by us, and must not open the key to everyone.
    if list.entries().is_empty() && !entries.is_empty() {
        return Err(Invalid::new("an IP allowlist that admits everyone"));
    }
    Ok(list)
}

/// A value with a line end would be a header of its own to whoever passes it on. It was not written by us.
fn decode_settings(pairs: Vec<stored::Label>) -> Result<TextMap, Invalid> {
    for stored::Label { name, value } in &pairs {
        if !text::is_dotted_name(name, setting::MAX_NAME) {
            return Err(Invalid::new("a setting's name is malformed"));
        }
        text::check_line(value, setting::MAX_VALUE)
            .map_err(|Invalid(why)| Invalid::owned(format!("a setting's value {why}")))?;
    }
    Ok(decode_map(pairs))
}

fn encode_map(map: &TextMap) -> Vec<stored::Label> {
    map.iter()
        .map(|(name, value)| stored::Label {
            name: name.to_owned(),
            value: value.to_owned(),
        })
        .collect()
}

fn decode_map(pairs: Vec<stored::Label>) -> TextMap {
    pairs
        .into_iter()
        .map(|stored::Label { name, value }| (name, value))
        .collect()
}

fn decode_workspace(
    id: &WorkspaceId,
    message: stored::Workspace,
    revision: Revision,
) -> Result<WorkspaceRecord, Invalid> {
    let stored::Workspace {
        id: own_id,
        display_name,
        token_prefix,
        create_time,
        update_time,
        permissions,
        settings,
        archive_limit,
    } = message;
    if own_id != id.as_str() {
        return Err(Invalid::new("the record of another workspace"));
    }
    let workspace = Workspace {
        id: id.clone(),
        display_name,
        token_prefix: TokenPrefix::parse(&token_prefix)?,
        permissions: PermissionSet::new(permissions),
        settings: settings::decode(settings)?,
        archive_limit: ArchiveLimit::new(archive_limit.into())?,
        create_time: decode_time(create_time)?,
        update_time: decode_time(update_time)?,
    };
    Ok(WorkspaceRecord {
        workspace,
        revision,
    })
}

fn encode_time(time: Timestamp) -> stored::Time {
    stored::Time {
        seconds: time.seconds(),
        nanos: time.nanos(),
    }
}

fn decode_time(time: Option<stored::Time>) -> Result<Timestamp, Invalid> {
    let time = time.ok_or(Invalid::new("a time is missing"))?;
    let nanos = i32::try_from(time.nanos).map_err(|_| Invalid::new("a time is out of range"))?;
    Timestamp::new(time.seconds, nanos)
}

#[cfg(test)]
mod tests;

//! Audit events ⇄ stored bytes, and their digest.

use prost::Message as _;
use sha2::{Digest as _, Sha256};

use super::{SCHEMA, decode_time, encode_time, is_known};
use crate::{
    domain::{
        Invalid,
        event::{Action, Entity, Event, FieldChange},
        id::Revision,
    },
    proto::stored,
    store::{EventRecord, FoundEvent},
};

/// The digest of an event: SHA-256 of its encoding in the layout of `schema`, without the digest itself. It depends on
/// nothing but what is told here, so whoever has an event has its digest.
#[must_use]
pub fn event_digest(schema: u32, revision: Revision, event: &Event) -> [u8; 32] {
    // The message has no map, so its encoding is canonical: fields in the order of their tags.
    Sha256::digest(message(schema, revision, event).encode_to_vec()).into()
}

/// True if this version knows the layout of `schema`, and so what its digests are over.
#[must_use]
pub fn knows_event_schema(schema: u32) -> bool {
    is_known(schema)
}

/// Encodes an event with its digest.
pub(in crate::store) fn encode_event(revision: Revision, event: &Event) -> Vec<u8> {
    let digest = event_digest(SCHEMA, revision, event);
    encode(SCHEMA, revision, event, digest)
}

fn encode(schema: u32, revision: Revision, event: &Event, digest: [u8; 32]) -> Vec<u8> {
    stored::Event {
        digest: digest.to_vec(),
        ..message(schema, revision, event)
    }
    .encode_to_vec()
}

fn message(schema: u32, revision: Revision, event: &Event) -> stored::Event {
    let Event {
        time,
        actor,
        team,
        action,
        method,
        entity,
        resource,
        changes,
        source_address,
        request_id,
    } = event;
    stored::Event {
        schema,
        epoch: revision.epoch,
        number: revision.number,
        time: Some(encode_time(*time)),
        actor: actor.clone(),
        team: team.clone(),
        action: action.name().to_owned(),
        method: method.clone().into_owned(),
        entity: entity.name().to_owned(),
        resource: resource.clone(),
        changes: changes
            .iter()
            .map(|change| stored::FieldChange {
                field: change.field.clone(),
                before: change.before.clone(),
                after: change.after.clone(),
            })
            .collect(),
        source_address: source_address.clone(),
        digest: Vec::new(),
        request_id: request_id.clone(),
    }
}

/// Decodes what stands in the place of the event of `at`.
pub(in crate::store) fn decode_event(at: Revision, bytes: &[u8]) -> FoundEvent {
    match decode(at, bytes) {
        Ok(record) => FoundEvent::Event(Box::new(record)),
        Err(Invalid(why)) => FoundEvent::Damaged {
            at,
            why: why.into_owned(),
        },
    }
}

fn decode(at: Revision, bytes: &[u8]) -> Result<EventRecord, Invalid> {
    let message = stored::Event::decode(bytes).map_err(|_| Invalid::new("not an event"))?;
    let stored::Event {
        schema,
        epoch,
        number,
        time,
        actor,
        team,
        action,
        method,
        entity,
        resource,
        changes,
        source_address,
        digest,
        request_id,
    } = message;
    if !is_known(schema) {
        return Err(Invalid::owned(format!(
            "schema {schema} is not known to this version"
        )));
    }
    let revision = Revision { epoch, number };
    if revision != at {
        return Err(Invalid::owned(format!("the event of {revision}")));
    }
    let event = Event {
        time: decode_time(time)?,
        actor,
        team,
        action: known(Action::ALL, Action::name, &action)?,
        method: method.into(),
        entity: known(Entity::ALL, Entity::name, &entity)?,
        resource,
        changes: changes
            .into_iter()
            .map(|change| FieldChange {
                field: change.field,
                before: change.before,
                after: change.after,
            })
            .collect(),
        source_address,
        request_id,
    };
    let digest = digest
        .try_into()
        .map_err(|_| Invalid::new("without a digest"))?;
    if digest != event_digest(schema, revision, &event) {
        return Err(Invalid::new("its content is not what its digest says"));
    }
    // What does not come back as it was holds something that the digest does not cover.
    if encode(schema, revision, &event, digest) != bytes {
        return Err(Invalid::new("not encoded as any version does"));
    }
    Ok(EventRecord {
        schema,
        revision,
        event,
        digest,
    })
}

/// The one of `all` that is called `name`.
fn known<T: Copy>(all: [T; 3], called: fn(T) -> &'static str, name: &str) -> Result<T, Invalid> {
    all.into_iter()
        .find(|one| called(*one) == name)
        .ok_or(Invalid::new("of an unknown kind"))
}

#[cfg(test)]
mod tests;

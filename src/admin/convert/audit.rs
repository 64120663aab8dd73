//! Audit events ⇄ messages.

use super::{Failure, show_time, v1};
use crate::{
    admin::audit::{
        Parent,
        export::Form,
        line::hex,
        verify::{Broken, Verdict},
    },
    domain::{
        chain::ChainHead,
        event::{Action, Entity, Event},
        id::Revision,
        name::parse_workspace,
        order::OrderBy,
    },
    store::{Direction, EventRecord},
};

/// Reads whose events are asked for.
pub(in crate::admin) fn read_parent(parent: &str) -> Result<Parent, Failure> {
    if parent == "workspaces/-" {
        return Ok(Parent::Any);
    }
    match parse_workspace(parent) {
        Ok(id) => Ok(Parent::Workspace(id)),
        Err(_) => Err(Failure::invalid(
            "parent",
            "must be of the form workspaces/{workspace}, or workspaces/- for all",
        )),
    }
}

/// Reads in which order events are asked for; newest first if not said.
pub(in crate::admin) fn read_event_order(order_by: &str) -> Result<Direction, Failure> {
    let order = OrderBy::parse(order_by, &[("time", ())])
        .map_err(|why| Failure::invalid("order_by", why))?;
    Ok(match order {
        Some(order) if !order.descending => Direction::OldestFirst,
        Some(_) | None => Direction::NewestFirst,
    })
}

/// Reads the form of an export; JSON Lines if not said.
pub(in crate::admin) fn read_export_form(format: i32) -> Result<Form, Failure> {
    use v1::export_events_request::Format;

    match Format::try_from(format) {
        Ok(Format::Unspecified | Format::JsonLines) => Ok(Form::JsonLines),
        Ok(Format::Csv) => Ok(Form::Csv),
        Err(_) => Err(Failure::invalid(
            "format",
            "is no format that this version knows",
        )),
    }
}

/// Reads a head that was kept; `None`: there is none.
pub(in crate::admin) fn read_anchor(anchor: &str) -> Result<Option<ChainHead>, Failure> {
    if anchor.is_empty() {
        return Ok(None);
    }
    ChainHead::parse(anchor)
        .map(Some)
        .map_err(|why| Failure::invalid("anchor", why))
}

/// A revision as page tokens carry it.
pub(in crate::admin) fn write_revision(revision: Revision) -> Vec<u8> {
    let Revision { epoch, number } = revision;
    [&epoch.to_be_bytes()[..], &number.to_be_bytes()].concat()
}

/// Reads what [`write_revision`] wrote.
pub(in crate::admin) fn read_revision(bytes: &[u8]) -> Result<Revision, Failure> {
    let read = bytes.split_first_chunk().and_then(|(epoch, number)| {
        Some(Revision {
            epoch: u32::from_be_bytes(*epoch),
            number: u64::from_be_bytes(number.try_into().ok()?),
        })
    });
    read.ok_or_else(|| Failure::invalid("page_token", "holds no place in the events"))
}

/// Shows an event.
pub(in crate::admin) fn show_event(record: &EventRecord) -> v1::Event {
    let EventRecord {
        schema: _,
        revision,
        event,
        digest,
    } = record;
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
    let action = match action {
        Action::Create => v1::event::Action::Create,
        Action::Update => v1::event::Action::Update,
        Action::Delete => v1::event::Action::Delete,
    };
    let entity = match entity {
        Entity::Key => v1::event::Entity::Key,
        Entity::Workspace => v1::event::Entity::Workspace,
        Entity::Store => v1::event::Entity::Store,
    };
    v1::Event {
        revision: revision.to_string(),
        time: Some(show_time(*time)),
        actor: actor.clone(),
        team: team.clone(),
        action: action.into(),
        method: method.clone().into_owned(),
        entity: entity.into(),
        resource: resource.clone(),
        changes: changes
            .iter()
            .map(|change| v1::FieldChange {
                field: change.field.clone(),
                before: change.before.clone(),
                after: change.after.clone(),
            })
            .collect(),
        source_address: source_address.clone(),
        request_id: request_id.clone(),
        digest: hex(digest),
    }
}

/// Shows what a verification found.
pub(in crate::admin) fn show_verdict(verdict: &Verdict) -> v1::VerifyEventsResponse {
    let Verdict {
        events,
        head,
        broken,
    } = verdict;
    v1::VerifyEventsResponse {
        intact: broken.is_none(),
        event_count: i64::try_from(*events).unwrap_or(i64::MAX),
        head: head.to_string(),
        broken_link: broken.as_ref().map(|Broken { at, why }| v1::BrokenLink {
            revision: at.to_string(),
            reason: why.clone(),
        }),
    }
}

//! Reading the audit log.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::{
    Answered,
    core::Core,
    layout::{revision_of_id, stream_id},
    link::{LONG, Link},
    standing::nonsense,
};
use crate::{
    domain::id::Revision,
    store::{Direction, FoundEvent, codec::events::decode_event},
};

/// Events that are read at once.
const A_PAGE: usize = 512;
/// Portions on their way.
const PORTIONS: usize = 4;

type Entries = Vec<(String, Vec<(String, Vec<u8>)>)>;

pub(super) async fn events(
    core: Arc<Core>,
    after: Option<Revision>,
    direction: Direction,
) -> Answered<mpsc::Receiver<Answered<Vec<FoundEvent>>>> {
    // As of now: what is committed from here on is not told.
    let head = core.own_standing().await?.head;
    let (sender, portions) = mpsc::channel(PORTIONS);
    tokio::spawn(async move {
        if let Err(error) = read(&core, head, after, direction, &sender).await {
            // A reader that went away wants no error either.
            let _ = sender.send(Err(error)).await;
        }
    });
    Ok(portions)
}

async fn read(
    core: &Core,
    head: Revision,
    after: Option<Revision>,
    direction: Direction,
    portions: &mpsc::Sender<Answered<Vec<FoundEvent>>>,
) -> Answered<()> {
    let link = Link::new(core.dialer.clone(), None);
    let mut last = after;
    loop {
        let mut page = redis::cmd(match direction {
            Direction::OldestFirst => "XRANGE",
            Direction::NewestFirst => "XREVRANGE",
        });
        page.arg(core.layout.audit());
        match (direction, last) {
            // Nothing is past the ends.
            (Direction::OldestFirst, Some(last)) if last >= head => return Ok(()),
            (Direction::NewestFirst, Some(last)) if last == Revision::default() => return Ok(()),
            (Direction::OldestFirst, None) => page.arg("-").arg(stream_id(head)),
            (Direction::OldestFirst, Some(last)) => page
                .arg(format!("({}", stream_id(last)))
                .arg(stream_id(head)),
            (Direction::NewestFirst, Some(last)) if last <= head => {
                page.arg(format!("({}", stream_id(last))).arg("-")
            }
            (Direction::NewestFirst, _) => page.arg(stream_id(head)).arg("-"),
        };
        page.arg("COUNT").arg(A_PAGE);
        let entries: Entries = link.command(&page, LONG).await?;
        let is_last = entries.len() < A_PAGE;
        let events = entries
            .into_iter()
            .map(|(id, fields)| {
                let at = revision_of_id(&id).ok_or(nonsense("the id of an event"))?;
                last = Some(at);
                Ok(event(at, &fields))
            })
            .collect::<Answered<Vec<_>>>()?;
        if portions.send(Ok(events)).await.is_err() || is_last {
            return Ok(());
        }
    }
}

fn event(at: Revision, fields: &[(String, Vec<u8>)]) -> FoundEvent {
    match fields {
        [(name, event)] if name == "e" => decode_event(at, event),
        _ => FoundEvent::Damaged {
            at,
            why: "not one field with an event".to_owned(),
        },
    }
}

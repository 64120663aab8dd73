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
    store::{Direction, FoundEvent, codec::events::decode_event, shared::Standing},
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
    let standing = core.own_standing().await?;
    let (sender, portions) = mpsc::channel(PORTIONS);
    tokio::spawn(async move {
        if let Err(error) = read(&core, &standing, after, direction, &sender).await {
            // A reader that went away wants no error either.
            let _ = sender.send(Err(error)).await;
        }
    });
    Ok(portions)
}

async fn read(
    core: &Core,
    standing: &Standing,
    after: Option<Revision>,
    direction: Direction,
    portions: &mpsc::Sender<Answered<Vec<FoundEvent>>>,
) -> Answered<()> {
    let link = Link::new(core.dialer.clone(), None);
    let head = standing.head;
    let mut last = after;
    let from_head = direction == Direction::NewestFirst && after.is_none_or(|after| after > head);
    let mut chain = Chain {
        standing,
        direction,
        last: from_head.then(|| head.next()),
    };
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
        let mut events = Vec::with_capacity(entries.len());
        for (id, fields) in entries {
            let at = revision_of_id(&id).ok_or(nonsense("the id of an event"))?;
            last = Some(at);
            events.extend(chain.missing_before(at));
            events.push(event(at, &fields));
        }
        if is_last && direction == Direction::OldestFirst && chain.last.is_some() {
            events.extend(chain.missing_before(head.next()));
        }
        if portions.send(Ok(events)).await.is_err() || is_last {
            return Ok(());
        }
    }
}

/// Every revision has its event, so one that is missing between two others was taken away. What is missing before the
/// oldest may have been exported.
struct Chain<'a> {
    standing: &'a Standing,
    direction: Direction,
    last: Option<Revision>,
}

impl Chain<'_> {
    /// What is told in the place of an event that should come before the one of `at`; of several, the first.
    fn missing_before(&mut self, at: Revision) -> Option<FoundEvent> {
        let last = self.last.replace(at)?;
        let opened_after = |epoch: u32| self.standing.opened_after.get(&epoch).copied();
        let due = match self.direction {
            Direction::OldestFirst if opened_after(last.epoch + 1) == Some(last) => Revision {
                epoch: last.epoch + 1,
                number: 1,
            },
            Direction::OldestFirst => last.next(),
            Direction::NewestFirst if last.number == 1 => opened_after(last.epoch)?,
            Direction::NewestFirst => Revision {
                number: last.number - 1,
                ..last
            },
        };
        (at != due).then(|| FoundEvent::Damaged {
            at: due,
            why: "it is missing".to_owned(),
        })
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

//! Who changed what: the events are listed, exported and verified, each caller's own share of them.

pub mod export;
pub mod line;
pub mod offline;
pub mod verify;

mod sight;
mod walk;
mod words;

use std::time::{Duration, Instant};

pub use self::words::Words;
use self::{
    export::{Export, Form},
    sight::Sight,
    verify::{Broken, Verdict, Verifier},
    walk::Walk,
};
use super::{Failure, caller::Caller, mutation::Management};
use crate::{
    domain::{
        chain::ChainHead,
        event::{Event, filter::EventFilter},
        grant::Act,
        id::{Revision, WorkspaceId},
        time::Timestamp,
    },
    store::{Direction, EventRecord, FoundEvent},
};

/// Whose events are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parent {
    /// Those of a workspace and of its keys. It may be deleted by now, or never have been.
    Workspace(WorkspaceId),
    /// All that the caller may see.
    Any,
}

/// Which events are asked for.
#[derive(Debug, Clone)]
pub struct Asked {
    filter: EventFilter,
    words: Words,
}

impl Asked {
    /// Reads a filter and a query. Relative times count from `now`.
    ///
    /// # Errors
    /// If one of them is malformed: each one's field, and why.
    pub fn read(filter: &str, query: &str, now: Timestamp) -> Result<Self, Failure> {
        match (EventFilter::parse(filter, now), Words::parse(query)) {
            (Ok(filter), Ok(words)) => Ok(Self { filter, words }),
            (filter, words) => {
                let refused = [("filter", filter.err()), ("query", words.err())];
                let named = refused
                    .into_iter()
                    .filter_map(|(field, why)| Some((field.to_owned(), why?.to_string())));
                Err(Failure::Invalid(named.collect()))
            }
        }
    }

    fn wants(&self, event: &Event) -> bool {
        self.filter.matches(event) && self.words.are_in(event)
    }
}

/// A page that is asked for.
#[derive(Debug, Clone)]
pub struct PageAsked {
    /// Which events.
    pub asked: Asked,
    /// In which order.
    pub direction: Direction,
    /// Where it begins: behind this one; `None`: at the start.
    pub after: Option<Revision>,
    /// The most events.
    pub limit: usize,
}

/// A page of events.
#[derive(Debug, Clone, Default)]
pub struct EventsPage {
    /// The events; there may be none although there are more pages.
    pub events: Vec<EventRecord>,
    /// The last event that was looked at; `None`: there is no other page.
    pub next: Option<Revision>,
}

/// The most events that are looked at for one page.
const MOST_LOOKED_AT: usize = 20_000;
/// A page is full with this many bytes of text, however few its events are: clients refuse large answers, by default those
/// beyond 4 MiB, and one event can tell of a thousand addresses.
const MOST_BYTES: usize = 1 << 20;
/// No more events are read for a page after this long.
const LONGEST: Duration = Duration::from_secs(1);

impl Management {
    /// Lists events. `page` is asked for once the caller is known to be allowed to see some.
    ///
    /// # Errors
    /// If the caller may not, the page is malformed, the store cannot be read, or the page would begin with an event that
    /// cannot be read.
    pub async fn list_events(
        &self,
        caller: Caller,
        parent: Parent,
        page: impl FnOnce() -> Result<PageAsked, Failure>,
    ) -> Result<EventsPage, Failure> {
        Sight::admit(&caller, &parent)?;
        let PageAsked {
            asked,
            direction,
            after,
            limit,
        } = page()?;
        let mut walk = Walk::new(self.store.clone(), after, direction);
        let mut looker = Looker {
            sight: Sight::new(caller, parent, self.keyring.clone()),
            asked,
            limit,
            page: EventsPage::default(),
            looked_at: 0,
            bytes: 0,
        };
        let begun = Instant::now();
        loop {
            let step = walk.step().await?;
            if step.is_empty() {
                looker.page.next = None;
                return Ok(looker.page);
            }
            let (back, full) = off_the_runtime(move || {
                let full = looker.look(step);
                (looker, full)
            })
            .await?;
            looker = back;
            if full? {
                return Ok(looker.page);
            }
            if walk.is_over() {
                looker.page.next = None;
                return Ok(looker.page);
            }
            if looker.looked_at >= MOST_LOOKED_AT || begun.elapsed() >= LONGEST {
                return Ok(looker.page);
            }
        }
    }

    /// Begins an export of what is committed by now, oldest first. `asked` is asked for once the caller is known to be
    /// allowed to see some.
    ///
    /// # Errors
    /// If the caller may not, or what it asks for is malformed.
    pub fn export_events(
        &self,
        caller: Caller,
        parent: Parent,
        asked: impl FnOnce() -> Result<(Asked, Form), Failure>,
    ) -> Result<Export, Failure> {
        Sight::admit(&caller, &parent)?;
        let (asked, form) = asked()?;
        let share = self.exports.take(&caller.principal)?;
        Ok(Export::new(self, share, caller, parent, asked, form))
    }

    /// Verifies the chain of all events, against a head that was kept elsewhere if there is one. `anchor` is asked for once
    /// the caller is known to be allowed to.
    ///
    /// # Errors
    /// If the caller may not, the anchor is malformed or lies ahead of the last event, or the store cannot be read.
    pub async fn verify_events(
        &self,
        caller: &Caller,
        anchor: impl FnOnce() -> Result<Option<ChainHead>, Failure>,
    ) -> Result<Verdict, Failure> {
        caller.require_everywhere(Act::AuditRead)?;
        let anchor = anchor()?;
        // Read before the events: all that is in force has its event.
        let due = self.keyring.applied();
        let mut walk = Walk::new(self.store.clone(), None, Direction::OldestFirst);
        let mut verifier = Verifier::new(anchor);
        loop {
            let step = walk.step().await?;
            if step.is_empty() {
                break;
            }
            let (back, found) = off_the_runtime(move || {
                let found = step.into_iter().try_for_each(|event| match event {
                    FoundEvent::Event(record) => verifier.link(record.revision, &record.digest),
                    FoundEvent::Damaged { at, why } => Err(Broken { at, why }),
                });
                (verifier, found)
            })
            .await?;
            verifier = back;
            if let Err(broken) = found {
                return Ok(verifier.broken(broken));
            }
        }
        let last = verifier.head().revision;
        if last < due {
            let why = format!("no event follows {last}, but the store stands at {due}");
            let at = if last == ChainHead::START.revision {
                due
            } else {
                last.next()
            };
            return Ok(verifier.broken(Broken { at, why }));
        }
        verifier
            .finish()
            .map_err(|ahead| Failure::RevisionAhead(ahead.revision))
    }
}

/// Gathers a page.
struct Looker {
    sight: Sight,
    asked: Asked,
    limit: usize,
    page: EventsPage,
    looked_at: usize,
    /// What the events of the page hold.
    bytes: usize,
}

impl Looker {
    /// Takes what belongs on the page, and answers whether the page ends within this step.
    ///
    /// An event that cannot be read ends it: who may see that event is written in it. What came before it is a page, and the
    /// next one begins with the error.
    fn look(&mut self, step: Vec<FoundEvent>) -> Result<bool, Failure> {
        for found in step {
            if self.page.events.len() == self.limit || self.bytes >= MOST_BYTES {
                return Ok(true);
            }
            let record = match found {
                FoundEvent::Event(record) => *record,
                FoundEvent::Damaged { at, why } if self.page.next.is_none() => {
                    return Err(unreadable(at, &why));
                }
                FoundEvent::Damaged { .. } => return Ok(true),
            };
            self.looked_at += 1;
            self.page.next = Some(record.revision);
            if self.sight.sees(&record.event) && self.asked.wants(&record.event) {
                self.bytes += size(&record.event);
                self.page.events.push(record);
            }
        }
        Ok(false)
    }
}

/// The bytes of an event's texts, about: of those that can be many.
fn size(event: &Event) -> usize {
    let changes = event.changes.iter();
    changes
        .map(|change| change.field.len() + change.before.len() + change.after.len())
        .sum()
}

/// An event that is not what was written.
fn unreadable(at: Revision, why: &str) -> Failure {
    tracing::error!(revision = %at, why, "an audit event cannot be read");
    Failure::Unreadable(format!("the event {at}"))
}

/// Runs what takes longer than a task may keep a thread of the runtime.
///
/// It waits for nothing: the readers of the store run on the same threads, and whoever waited for one there could wait
/// forever.
async fn off_the_runtime<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| Failure::Internal("reading events panicked"))
}

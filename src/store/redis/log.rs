//! The log of changes: reading it, following it, and finding one's own commit in it.

use std::{sync::Arc, time::Duration};

use redis::Value;
use tokio::{
    sync::{mpsc, watch},
    time::timeout,
};

use super::{
    Answered,
    core::Core,
    layout::{revision_of_id, stream_id},
    link::{Failure, Link, PAGE, SHORT},
    scripts::LOG,
    standing::{absent, nonsense, parts, revision, text},
};
use crate::{
    domain::id::Revision,
    store::{
        Change, StoreError,
        codec::change::{Logged, decode_change},
    },
};

/// Changes that are read at once.
const A_PAGE: usize = 512;
/// The first and the last pause between two attempts to read.
const PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

/// Why the log could not be read.
#[derive(Debug)]
pub(super) enum Unread {
    /// It may be read later.
    Failure(Failure),
    /// What stands there is no log, or not this store's.
    Broken(StoreError),
}

impl From<Unread> for StoreError {
    fn from(unread: Unread) -> Self {
        match unread {
            Unread::Failure(failure) => failure.into(),
            Unread::Broken(error) => error,
        }
    }
}

/// A part of the log, and where the store stood then.
pub(super) struct Page {
    /// The store that it is of.
    pub(super) store: String,
    pub(super) head: Revision,
    /// Every change after it should be in the log.
    pub(super) floor: Revision,
    pub(super) changes: Vec<Logged>,
}

type Entries = Vec<(String, Vec<(String, Vec<u8>)>)>;

async fn range(
    link: &Link,
    core: &Core,
    start: String,
    end: String,
    limit: Duration,
) -> Result<Page, Unread> {
    let keys = [core.layout.ctl(), core.layout.log()];
    let args = [start, end, A_PAGE.to_string()].map(String::into_bytes);
    let answer = link.script(LOG, &keys, &args, limit).await;
    page(answer.map_err(Unread::Failure)?).map_err(Unread::Broken)
}

fn page(answer: Value) -> Answered<Page> {
    let (word, rest) = parts(answer)?;
    if word == "absent" {
        return Err(absent());
    }
    let [store, head, floor, entries] =
        <[Value; 4]>::try_from(rest).map_err(|_| nonsense("the log"))?;
    let entries: Entries = redis::from_redis_value(entries).map_err(|_| nonsense("the log"))?;
    let changes = entries
        .into_iter()
        .map(|(id, fields)| {
            let broken = |why: &str| {
                StoreError::Failed(format!("the log's entry {id} cannot be read: {why}"))
            };
            let at = revision_of_id(&id).ok_or(broken("its id is no revision"))?;
            let [(name, change)] = &fields[..] else {
                return Err(broken("it is not one field"));
            };
            if name != "c" {
                return Err(broken("it is another field"));
            }
            decode_change(at, change).map_err(|invalid| broken(&invalid.to_string()))
        })
        .collect::<Answered<_>>()?;
    Ok(Page {
        store: text(store)?,
        head: revision(&text(head)?)?,
        floor: revision(&text(floor)?)?,
        changes,
    })
}

/// The changes after a revision, a page of them.
pub(super) async fn after(link: &Link, core: &Core, from: Revision) -> Result<Page, Unread> {
    let start = format!("({}", stream_id(from));
    range(link, core, start, "+".to_owned(), PAGE).await
}

/// What stands in the log where a commit of ours should.
pub(super) enum Place {
    /// That commit.
    Ours,
    /// Somebody else's. Where the store stands.
    Others(Revision),
    /// Nothing yet.
    Empty,
}

/// Looks for the commit with this mark at a revision.
///
/// # Errors
/// `Some`: it may be found out later. `None`: it cannot be told.
pub(super) async fn look(
    core: &Core,
    store: &str,
    at: Revision,
    commit: [u8; 16],
) -> Result<Place, Option<Failure>> {
    let id = stream_id(at);
    let page = match range(&core.commands, core, id.clone(), id, SHORT).await {
        Ok(page) if page.store == store => page,
        Err(Unread::Failure(failure @ (Failure::NotSent(_) | Failure::Lost(_)))) => {
            return Err(Some(failure));
        }
        Ok(_) | Err(_) => return Err(None),
    };
    match page.changes.first() {
        Some(own) if own.commit == commit && own.writer == core.incarnation => Ok(Place::Ours),
        Some(_) => Ok(Place::Others(page.head)),
        None if page.head < at && page.head.epoch == at.epoch => Ok(Place::Empty),
        None => Err(None),
    }
}

/// Follows the log from a revision on.
pub(super) async fn follow(
    core: &Arc<Core>,
    open: watch::Receiver<()>,
    from: Revision,
) -> Answered<mpsc::UnboundedReceiver<Change>> {
    let wakes = core.signals.wake.subscribe();
    let page = after(&core.reader, core, from).await?;
    core.check_store(&page.store)?;
    let (sender, changes) = mpsc::unbounded_channel();
    let mut follower = Follower {
        core: core.clone(),
        store: page.store.clone(),
        at: from,
        sender,
    };
    if let Err(End) = follower.pass_on(page) {
        return Err(StoreError::Gap(from));
    }
    // Otherwise nobody subscribes before the first command.
    let core = core.clone();
    tokio::spawn(async move {
        let closed = follower.sender.clone();
        let mut open = open;
        tokio::select! {
            () = run(follower, wakes) => {}
            () = closed.closed() => {}
            // The store is gone.
            _ = open.changed() => {}
        }
        drop(core);
    });
    Ok(changes)
}

struct Follower {
    core: Arc<Core>,
    store: String,
    /// Everything up to it was passed on.
    at: Revision,
    sender: mpsc::UnboundedSender<Change>,
}

/// The follower cannot go on: a change may be missing.
struct End;

impl Follower {
    /// Passes changes on, each of which must come right after the one before. True if there may be more.
    fn pass_on(&mut self, page: Page) -> Result<bool, End> {
        if page.store != self.store {
            tracing::error!("another store's log stands in the place of the one that was followed");
            return Err(End);
        }
        let is_full = page.changes.len() == A_PAGE;
        for logged in page.changes {
            if logged.after != self.at {
                tracing::error!(
                    at = %self.at, after = %logged.after, found = %logged.revision,
                    "a change is missing in the log"
                );
                return Err(End);
            }
            self.at = logged.revision;
            self.core.passed_on(logged.writer.clone(), logged.revision);
            self.sender.send(logged.into()).map_err(|_| End)?;
        }
        if !is_full && self.at != page.head {
            tracing::error!(at = %self.at, head = %page.head, "the log does not lead to the head");
            return Err(End);
        }
        Ok(is_full)
    }
}

async fn run(mut follower: Follower, mut wakes: watch::Receiver<u64>) {
    // What came since the first page was read.
    let mut more = true;
    let mut pause = PAUSES.0;
    loop {
        if !more && wakes.changed().await.is_err() {
            return;
        }
        wakes.mark_unchanged();
        let core = follower.core.clone();
        match after(&core.reader, &core, follower.at).await {
            Ok(page) => match follower.pass_on(page) {
                Ok(is_full) => {
                    more = is_full;
                    pause = PAUSES.0;
                }
                Err(End) => return,
            },
            Err(Unread::Failure(Failure::Refused { code, why })) if code == "WRONGTYPE" => {
                tracing::error!(error = %why, "something else stands in the log's place");
                return;
            }
            Err(Unread::Failure(failure)) => {
                tracing::debug!(failure = ?failure, "the log cannot be read now");
                more = true;
                // A sign of life ends the pause.
                let _ = timeout(pause, wakes.changed()).await;
                pause = (pause * 2).min(PAUSES.1);
            }
            Err(Unread::Broken(error)) => {
                tracing::error!(error = %error, "the log cannot be followed");
                return;
            }
        }
    }
}

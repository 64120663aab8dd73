//! Reading all records: bucket by bucket, while others go on writing, and then what they wrote meanwhile.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::{
    Answered,
    core::Core,
    layout::{bucket_of, split_value},
    link::{LONG, Link, SHORT},
    log,
    standing::{absent, found, nonsense, parts, revision},
};
use crate::{
    domain::id::Revision,
    store::{
        Portion, RecordId, StoreError, Stored,
        codec::{self, change::of_revision, rows::decode_row},
    },
};

/// Buckets that are read at once.
const AT_ONCE: usize = 8;
/// Records of each that are asked for at once.
const ASKED: usize = 1_000;
/// Portions on their way.
const PORTIONS: usize = 4;

type Portions = mpsc::Sender<Result<Portion, StoreError>>;

pub(super) async fn load(core: Arc<Core>) -> Answered<mpsc::Receiver<Answered<Portion>>> {
    // A connection of its own: its answers are long.
    let link = Link::new(core.dialer.clone(), None);
    let keys = [core.layout.ctl(), core.layout.members()];
    let none = [b"0".to_vec()];
    let answer = link
        .script(super::scripts::ROLL, &keys, &none, SHORT)
        .await?;
    let (word, rest) = parts(answer)?;
    if word == "absent" {
        return Err(absent());
    }
    let standing = found(rest.into_iter().next().ok_or(nonsense("a standing"))?)?;
    core.check_store(&standing.standing.history.store)?;
    let (sender, portions) = mpsc::channel(PORTIONS);
    let loading = Loading {
        link,
        core,
        store: standing.standing.history.store,
        start: standing.standing.head,
        buckets: standing.buckets,
        portions: sender,
    };
    tokio::spawn(async move {
        // A channel that just ends says that not all have come; so does an error.
        if let Err(Stop::Error(error)) = loading.run().await {
            // A reader that went away wants no error either.
            let _ = loading.portions.send(Err(error)).await;
        }
    });
    Ok(portions)
}

struct Loading {
    link: Link,
    core: Arc<Core>,
    store: String,
    /// Where the store stood before the first record was read.
    start: Revision,
    buckets: u32,
    portions: Portions,
}

/// Why reading ended early.
enum Stop {
    Error(StoreError),
    /// Nobody listens any more.
    Unheard,
}

impl<E: Into<StoreError>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Error(error.into())
    }
}

type Scanned = (String, Vec<(Vec<u8>, Vec<u8>)>);

impl Loading {
    async fn run(&self) -> Result<(), Stop> {
        let all: Vec<u32> = (0..self.buckets).collect();
        for some in all.chunks(AT_ONCE) {
            let mut open: Vec<(u32, String)> = some
                .iter()
                .map(|bucket| (*bucket, "0".to_owned()))
                .collect();
            while !open.is_empty() {
                open = self.scan(open).await?;
            }
        }
        self.replay().await
    }

    /// Reads on in these buckets, and answers those that are not through, with their cursors.
    async fn scan(&self, open: Vec<(u32, String)>) -> Result<Vec<(u32, String)>, Stop> {
        let mut read = redis::pipe();
        for (bucket, cursor) in &open {
            read.cmd("HSCAN")
                .arg(self.core.layout.bucket(*bucket))
                .arg(cursor)
                .arg("COUNT")
                .arg(ASKED);
        }
        // Behind the records: none of them may be of a later revision.
        read.cmd("HMGET")
            .arg(self.core.layout.ctl())
            .arg(&["store", "head"]);
        let mut answers: Vec<redis::Value> = self.link.pipeline(&read, LONG).await?;
        let ctl = answers.pop().ok_or(nonsense("an answer"))?;
        let ctl = redis::from_redis_value(ctl).map_err(|_| nonsense("an answer"))?;
        let (Some(store), Some(head)): (Option<String>, Option<String>) = ctl else {
            return Err(absent().into());
        };
        self.check_store(&store)?;
        let head = revision(&head)?;
        let mut still_open = Vec::new();
        let mut records = Vec::new();
        for ((bucket, _), answer) in open.into_iter().zip(answers) {
            let (cursor, rows): Scanned =
                redis::from_redis_value(answer).map_err(|_| nonsense("a bucket"))?;
            let decode = |(row, value): (Vec<u8>, Vec<u8>)| self.decode(bucket, &row, &value, head);
            records.extend(rows.into_iter().map(decode));
            if cursor != "0" {
                still_open.push((bucket, cursor));
            }
        }
        self.send(Portion::Records(records)).await?;
        Ok(still_open)
    }

    fn decode(&self, bucket: u32, row: &[u8], value: &[u8], head: Revision) -> (RecordId, Stored) {
        if bucket != bucket_of(row, self.buckets) {
            // Not under its own id: what stands in the right bucket counts.
            let why = format!("it stands in bucket {bucket}, which is not its own");
            return (RecordId::Unknown(row.into()), Stored::Unreadable(why));
        }
        let id = decode_row(row);
        let stored = decode_value(&id, value, head);
        (id, stored)
    }

    /// Reads what was written since the start, and completes the records as of the head.
    async fn replay(&self) -> Result<(), Stop> {
        let mut at = self.start;
        loop {
            let page = log::after(&self.link, &self.core, at).await?;
            self.check_store(&page.store)?;
            if page.head < at {
                return Err(StoreError::Failed("it has lost changes".to_owned()).into());
            }
            let is_last = page.changes.last().map_or(at, |last| last.revision) >= page.head;
            let is_stuck = page.changes.is_empty() && !is_last;
            let mut records = Vec::new();
            for logged in page.changes {
                if logged.after != at {
                    return Err(StoreError::Gap(at).into());
                }
                at = logged.revision;
                records.extend(logged.records);
            }
            if is_stuck || page.floor > at {
                return Err(StoreError::Gap(at).into());
            }
            self.send(Portion::Records(records)).await?;
            if is_last {
                return self.send(Portion::Complete(at)).await;
            }
        }
    }

    fn check_store(&self, found: &str) -> Answered<()> {
        if found == self.store {
            return Ok(());
        }
        Err(StoreError::Failed(
            "another store took its place while it was read".to_owned(),
        ))
    }

    async fn send(&self, portion: Portion) -> Result<(), Stop> {
        self.portions
            .send(Ok(portion))
            .await
            .map_err(|_| Stop::Unheard)
    }
}

/// What stands in a bucket: the revision in text, then the record, which must be of that one.
fn decode_value(id: &RecordId, value: &[u8], head: Revision) -> Stored {
    let unreadable = |why: &str| Stored::Unreadable(why.to_owned());
    let Some((prefix, record)) = split_value(value) else {
        return unreadable("without a revision before it");
    };
    match Revision::parse(prefix) {
        Some(revision) => of_revision(codec::decode(id, record, head), revision),
        None => unreadable("without a revision before it"),
    }
}

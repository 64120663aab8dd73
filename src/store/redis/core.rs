//! What a store on Redis is made of, and what its members say.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use redis::Value;
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep},
};

use super::{
    Answered,
    layout::{Layout, stream_id},
    link::{Dialer, Heard, Link, SHORT},
    scripts::{LEAVE, OPEN_EPOCH, REMOVE, RENEW, ROLL, Script},
    standing::{self, Found, absent, found, nonsense, parts},
};
use crate::{
    domain::{
        event::{Action, Entity, Event},
        id::Revision,
        time::Timestamp,
    },
    store::{
        StoreError, codec,
        shared::{History, Report, Roll, SharedError, Standing},
    },
};

/// Changes that the log keeps, about.
const KEPT: u64 = 65_536;
/// The first and the last pause between two attempts to connect.
const PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

/// What all tasks of a store share.
pub(super) struct Core {
    pub(super) layout: Layout,
    pub(super) dialer: Arc<Dialer>,
    /// Short commands, and what is published.
    pub(super) commands: Link,
    /// The log: a page of it may be long, and must not keep a renewal waiting.
    pub(super) reader: Link,
    pub(super) signals: Arc<Signals>,
    /// Where the store stood when this process wrote last. One commit at a time.
    pub(super) head: tokio::sync::Mutex<Option<Revision>>,
    pub(super) kept: AtomicU64,
    name: String,
    pub(super) incarnation: String,
    durability: &'static str,
    buckets: AtomicU32,
    /// The server's clock in milliseconds, and when it was told.
    told_time: Mutex<Option<(u64, Instant)>>,
    /// Who waits for which of the changes that were passed on here: the first and the last of each.
    waiting: Mutex<BTreeMap<String, (Revision, Revision)>>,
}

/// Who is to be woken by what.
pub(super) struct Signals {
    hints: Vec<u8>,
    adopted: Mutex<Option<History>>,
    /// Ticks when there may be more in the log.
    pub(super) wake: watch::Sender<u64>,
    /// Ticks when somebody acknowledged something.
    acknowledged: watch::Sender<u64>,
    /// Ticks when the server may have become another.
    pub(super) turned: watch::Sender<u64>,
    /// The subscription is gone.
    lost: Notify,
}

impl Signals {
    fn hear(&self, heard: Heard) {
        match heard {
            // Whatever was published before was missed.
            Heard::Connected => {
                self.wake();
                tick(&self.acknowledged);
                tick(&self.turned);
            }
            Heard::Disconnected => self.lost.notify_one(),
            Heard::Message(channel, message) if channel == self.hints => {
                if self.is_of_this_store(&message) {
                    self.wake();
                }
            }
            // There is but one other channel.
            Heard::Message(..) => tick(&self.acknowledged),
        }
    }

    pub(super) fn wake(&self) {
        tick(&self.wake);
    }

    /// A hint names the store, an epoch and a number.
    fn is_of_this_store(&self, message: &[u8]) -> bool {
        let Ok(message) = std::str::from_utf8(message) else {
            return false;
        };
        let words: Vec<&str> = message.split(' ').collect();
        let [store, epoch, number] = words[..] else {
            return false;
        };
        let adopted = lock(&self.adopted);
        adopted.as_ref().is_some_and(|own| own.store == store)
            && Revision::parse(&format!("{epoch}.{number}")).is_some()
    }
}

pub(super) fn tick(sender: &watch::Sender<u64>) {
    sender.send_modify(|ticks| *ticks = ticks.wrapping_add(1));
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Who a process is, for the others.
pub(super) struct Own {
    pub(super) name: String,
    pub(super) incarnation: String,
    pub(super) durability: &'static str,
}

impl Core {
    pub(super) fn new(layout: Layout, dialer: Arc<Dialer>, own: Own) -> Self {
        let signals = Arc::new(Signals {
            hints: layout.hints().into_bytes(),
            adopted: Mutex::default(),
            wake: watch::Sender::new(0),
            acknowledged: watch::Sender::new(0),
            turned: watch::Sender::new(0),
            lost: Notify::new(),
        });
        let channels = vec![layout.hints(), layout.look(&own.incarnation)];
        let heard = signals.clone();
        let listener = Arc::new(move |message| heard.hear(message));
        Self {
            commands: Link::new(dialer.clone(), Some((channels, listener))),
            reader: Link::new(dialer.clone(), None),
            layout,
            dialer,
            signals,
            head: tokio::sync::Mutex::default(),
            kept: AtomicU64::new(KEPT),
            name: own.name,
            incarnation: own.incarnation,
            durability: own.durability,
            buckets: AtomicU32::new(1),
            told_time: Mutex::default(),
            waiting: Mutex::default(),
        }
    }

    /// Connects again whenever the subscription is lost: an idle process would hear of nothing until it sends something.
    pub(super) async fn keep_connected(self: Arc<Self>, mut open: watch::Receiver<()>) {
        let keep = async {
            loop {
                self.signals.lost.notified().await;
                let mut pause = PAUSES.0;
                while let Err(failure) = self.commands.ensure(SHORT).await {
                    tracing::debug!(failure = ?failure, "Redis cannot be reached");
                    sleep(pause).await;
                    pause = (pause * 2).min(PAUSES.1);
                }
            }
        };
        tokio::select! {
            () = keep => {}
            // The sender is gone with the store.
            _ = open.changed() => {}
        }
    }

    pub(super) fn keep_in_log(&self, changes: u64) {
        self.kept.store(changes, Ordering::Relaxed);
    }

    pub(super) fn own(&self) -> (&str, &str) {
        (&self.name, &self.incarnation)
    }

    pub(super) fn durability(&self) -> &'static str {
        self.durability
    }

    pub(super) fn buckets(&self) -> u32 {
        self.buckets.load(Ordering::Relaxed)
    }

    pub(super) fn adopt(&self, history: History) {
        *lock(&self.signals.adopted) = Some(history);
        self.signals.wake();
    }

    pub(super) fn adopted(&self) -> Option<History> {
        lock(&self.signals.adopted).clone()
    }

    pub(super) fn acknowledgements(&self) -> watch::Receiver<u64> {
        self.signals.acknowledged.subscribe()
    }

    /// The adopted history as scripts take it. Without one it matches none.
    pub(super) fn history_args(&self) -> Vec<Vec<u8>> {
        let own = self.adopted();
        own.map_or(vec![Vec::new(); 3], |own| {
            vec![
                own.store.into_bytes(),
                own.epoch.to_string().into_bytes(),
                own.server.into_bytes(),
            ]
        })
    }

    pub(super) fn hint(store: &str, revision: Revision) -> Vec<u8> {
        format!("{store} {} {}", revision.epoch, revision.number).into_bytes()
    }

    pub(super) async fn standing(&self) -> Answered<Standing> {
        Ok(self.read_roll(false).await?.standing)
    }

    /// Where the adopted store stands, in whatever epoch; if none was adopted, whichever is there.
    pub(super) async fn own_standing(&self) -> Answered<Standing> {
        let standing = self.standing().await?;
        self.check_store(&standing.history.store)?;
        Ok(standing)
    }

    /// Refuses what is of another store than the adopted one.
    pub(super) fn check_store(&self, found: &str) -> Answered<()> {
        match self.adopted() {
            Some(own) if own.store != found => Err(StoreError::Failed(
                "another store stands in its place".to_owned(),
            )),
            _ => Ok(()),
        }
    }

    pub(super) async fn roll(&self) -> Answered<Roll> {
        self.read_roll(true).await
    }

    async fn read_roll(&self, with_members: bool) -> Answered<Roll> {
        let keys = [self.layout.ctl(), self.layout.members()];
        let wanted = u8::from(with_members).to_string().into_bytes();
        let answer = self.commands.script(ROLL, &keys, &[wanted], SHORT).await?;
        let (word, rest) = parts(answer)?;
        if word == "absent" {
            return Err(absent());
        }
        let [standing, members] =
            <[Value; 2]>::try_from(rest).map_err(|_| nonsense("the members"))?;
        standing::roll(self.note(standing)?, members)
    }

    /// Reads a standing, and remembers what of it never changes.
    pub(super) fn note(&self, value: Value) -> Answered<Standing> {
        let Found { standing, buckets } = found(value)?;
        self.buckets.store(buckets, Ordering::Relaxed);
        let millis = u64::try_from(standing.time.unix_nanos() / 1_000_000).unwrap_or(0);
        *lock(&self.told_time) = Some((millis, Instant::now()));
        Ok(standing)
    }

    /// What the server's clock shows after so long, in milliseconds; `None`: it never told.
    pub(super) fn server_millis_in(&self, span: Duration) -> Option<u64> {
        let (millis, told) = (*lock(&self.told_time))?;
        let later = told.elapsed() + span;
        Some(millis + u64::try_from(later.as_millis()).ok()?)
    }

    /// Runs a script that works in the adopted history alone; answers its first word and the rest.
    async fn within(
        &self,
        script: Script,
        keys: &[String],
        args: Vec<Vec<u8>>,
    ) -> Result<(String, Vec<Value>), SharedError> {
        let answer = self.commands.script(script, keys, &args, SHORT).await;
        let (word, rest) = parts(answer.map_err(StoreError::from)?)?;
        match &*word {
            "absent" => Err(absent().into()),
            "history" => {
                let standing = rest.into_iter().next().ok_or(nonsense("a standing"))?;
                Err(SharedError::OtherHistory(Box::new(self.note(standing)?)))
            }
            "refused" => Err(refused(rest).into()),
            _ => Ok((word, rest)),
        }
    }

    pub(super) async fn renew(&self, report: Report) -> Result<Standing, SharedError> {
        let told = self.told_by(report.applied);
        let mut args = self.history_args();
        args.extend([
            self.incarnation.clone().into_bytes(),
            report.applied.to_string().into_bytes(),
            u8::from(report.settled).to_string().into_bytes(),
            report.renewals.to_string().into_bytes(),
            self.name.clone().into_bytes(),
        ]);
        let channels = told.iter().map(|writer| self.layout.look(writer));
        args.extend(channels.map(String::into_bytes));
        let keys = [self.layout.ctl(), self.layout.members()];
        let (_, rest) = self.within(RENEW, &keys, args).await?;
        self.forget_told(report.applied);
        // A change of this process may have waited for this last acknowledgement, of which nobody sends a message.
        tick(&self.signals.acknowledged);
        let standing = rest.into_iter().next().ok_or(nonsense("a standing"))?;
        let standing = self.note(standing)?;
        // A hint may have been lost.
        if standing.head != report.applied {
            self.signals.wake();
        }
        Ok(standing)
    }

    pub(super) async fn remove(
        &self,
        incarnation: &str,
        renewals: u64,
    ) -> Result<bool, SharedError> {
        let mut args = self.history_args();
        args.push(incarnation.as_bytes().to_vec());
        args.push(renewals.to_string().into_bytes());
        let keys = [self.layout.ctl(), self.layout.members()];
        let (_, rest) = self.within(REMOVE, &keys, args).await?;
        let is_out = rest.into_iter().next().ok_or(nonsense("an answer"))?;
        Ok(standing::text(is_out)? == "1")
    }

    pub(super) async fn leave(&self) -> Result<(), SharedError> {
        let mut args = self.history_args();
        args.push(self.incarnation.clone().into_bytes());
        let keys = [self.layout.ctl(), self.layout.members()];
        self.within(LEAVE, &keys, args).await?;
        Ok(())
    }

    pub(super) async fn open_epoch(
        &self,
        found: &Standing,
        now: Timestamp,
    ) -> Result<(), SharedError> {
        let History {
            store,
            epoch,
            server,
        } = &found.history;
        let next = epoch.checked_add(1).ok_or(nonsense("the store's epoch"))?;
        let revision = Revision {
            epoch: next,
            number: 1,
        };
        let commit = random()?;
        let change =
            codec::change::encode_change(found.head, revision, &self.incarnation, commit, &[]);
        let event = codec::events::encode_event(revision, &opening(store, now));
        let args = vec![
            store.clone().into_bytes(),
            epoch.to_string().into_bytes(),
            server.clone().into_bytes(),
            found.server.clone().into_bytes(),
            found.head.to_string().into_bytes(),
            next.to_string().into_bytes(),
            revision.to_string().into_bytes(),
            stream_id(revision).into_bytes(),
            change,
            event,
            self.kept.load(Ordering::Relaxed).to_string().into_bytes(),
            self.layout.hints().into_bytes(),
            Self::hint(store, revision),
        ];
        let layout = &self.layout;
        let keys = [layout.ctl(), layout.log(), layout.audit(), layout.members()];
        let (word, rest) = self.within(OPEN_EPOCH, &keys, args).await?;
        match &*word {
            "opened" | "moved" => Ok(()),
            "behind" => {
                let member = rest.into_iter().next().ok_or(nonsense("an answer"))?;
                let member = standing::text(member)?;
                let head = found.head;
                Err(StoreError::Failed(format!(
                    "it has lost changes: it stands at {head}, and replica {member} had applied later ones"
                ))
                .into())
            }
            _ => Err(nonsense("an answer").into()),
        }
    }

    pub(super) async fn fullness(&self) -> Answered<Option<u64>> {
        let mut ask = redis::cmd("INFO");
        ask.arg("memory");
        let info: String = self.commands.command(&ask, SHORT).await?;
        let said = |name: &str| {
            let mut lines = info.lines().filter_map(|line| line.trim().split_once(':'));
            let found = lines.find(|(found, _)| *found == name);
            found.and_then(|(_, value)| value.parse::<u64>().ok())
        };
        match (said("used_memory"), said("maxmemory")) {
            (Some(_), Some(0)) => Ok(None),
            (Some(used), Some(most)) => Ok(Some(used.saturating_mul(1_000) / most)),
            _ => Err(nonsense("what is said of its memory")),
        }
    }

    /// Notes that a change of this writer was passed on.
    pub(super) fn passed_on(&self, writer: String, revision: Revision) {
        if writer != self.incarnation {
            let mut waiting = lock(&self.waiting);
            waiting.entry(writer).or_insert((revision, revision)).1 = revision;
        }
    }

    /// Who is to be told that everything up to `applied` is in force here.
    fn told_by(&self, applied: Revision) -> Vec<String> {
        let waiting = lock(&self.waiting);
        let due = waiting.iter().filter(|(_, (first, _))| *first <= applied);
        due.map(|(writer, _)| writer.clone()).collect()
    }

    /// They were told. Who waits for something later, too, is told again.
    fn forget_told(&self, applied: Revision) {
        lock(&self.waiting).retain(|_, (first, last)| {
            *first = (*first).max(applied.next());
            *last > applied
        });
    }
}

fn refused(rest: Vec<Value>) -> StoreError {
    let why = rest.into_iter().next().map(standing::text);
    match why {
        Some(Ok(why)) => StoreError::Failed(format!("Redis refuses: {why}")),
        _ => nonsense("an answer"),
    }
}

/// 16 random bytes.
pub(super) fn random() -> Answered<[u8; 16]> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| StoreError::Failed(error.to_string()))?;
    Ok(bytes)
}

/// The first event of an epoch.
fn opening(store: &str, now: Timestamp) -> Event {
    Event {
        time: now,
        actor: "portcullis".to_owned(),
        team: String::new(),
        action: Action::Update,
        method: "OpenEpoch".into(),
        entity: Entity::Store,
        resource: store.to_owned(),
        changes: Vec::new(),
        source_address: String::new(),
        request_id: String::new(),
    }
}

#[cfg(test)]
mod tests;

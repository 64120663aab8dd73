//! A shared store in memory, whose faults the tests choose.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

use crate::{
    domain::{id::Revision, time::Timestamp},
    gate::clock::{Boottime, Clock, Now},
    store::{
        Batch, Change, CommitError, Direction, Done, FoundEvent, MutationId, Portion, RecordId,
        Store, StoreError, Stored,
        shared::{History, Member, Report, Roll, SharedError, SharedStore, Standing},
    },
};

fn at(nanos: u64) -> Timestamp {
    Timestamp::from_unix_nanos(nanos)
}

/// A clock that goes with the runtime's.
pub struct RuntimeClock(pub Instant);

impl Clock for RuntimeClock {
    fn now(&self) -> Now {
        let nanos = u64::try_from(self.0.elapsed().as_nanos()).unwrap() + 1;
        Now {
            boottime: Boottime(nanos),
            wall: at(nanos),
        }
    }

    fn follow(&self, _: Timestamp, _: Boottime) {}
}

/// The server: what all replicas see.
pub struct Server {
    state: Mutex<State>,
    /// Ticks with each change.
    changes: watch::Sender<u64>,
    /// Ticks with each restart.
    turned: watch::Sender<u64>,
    started: Instant,
}

pub struct State {
    pub standing: Standing,
    pub records: BTreeMap<RecordId, Stored>,
    pub log: Vec<Change>,
    pub members: BTreeMap<String, Member>,
    /// Nothing is answered.
    pub is_down: bool,
    pub epochs_opened: usize,
    pub removed: usize,
    pub fullness: Option<u64>,
    /// A change is made just before the next renewal.
    pub is_raced: bool,
}

pub const LEASE: Duration = Duration::from_secs(15);

impl Server {
    pub fn new() -> Arc<Self> {
        let server = "server-1".to_owned();
        let start = Revision {
            epoch: 1,
            number: 0,
        };
        let standing = Standing {
            history: History {
                store: "0123456789abcdef0123456789abcdef".into(),
                epoch: 1,
                server: server.clone(),
            },
            server,
            head: start,
            floor: start,
            opened_after: BTreeMap::new(),
            settled: true,
            lease: LEASE,
            time: at(1),
        };
        Arc::new(Self {
            state: Mutex::new(State {
                standing,
                records: BTreeMap::new(),
                log: Vec::new(),
                members: BTreeMap::new(),
                is_down: false,
                epochs_opened: 0,
                removed: 0,
                fullness: None,
                is_raced: false,
            }),
            changes: watch::Sender::new(0),
            turned: watch::Sender::new(0),
            started: Instant::now(),
        })
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Commits records, as somebody who is no replica.
    pub fn write(&self, records: Vec<(RecordId, Stored)>) -> Revision {
        let mut state = self.state();
        let after = state.standing.head;
        let revision = after.next();
        state.append(after, revision, records);
        drop(state);
        self.changes.send_modify(|ticks| *ticks += 1);
        revision
    }

    /// The revision of the next write.
    pub fn next(&self) -> Revision {
        self.state().standing.head.next()
    }

    /// Another process on the same data.
    pub fn restart(&self) {
        let mut state = self.state();
        state.standing.server.push('+');
        drop(state);
        self.turned.send_modify(|turns| *turns += 1);
    }

    fn now(&self) -> Timestamp {
        at(u64::try_from(self.started.elapsed().as_nanos()).unwrap() + 1)
    }
}

impl State {
    fn append(&mut self, after: Revision, revision: Revision, records: Vec<(RecordId, Stored)>) {
        for (id, stored) in &records {
            match stored {
                Stored::Gone => drop(self.records.remove(id)),
                stored => drop(self.records.insert(id.clone(), stored.clone())),
            }
        }
        self.log.push(Change {
            after,
            revision,
            records,
        });
        self.standing.head = revision;
    }

    /// Forgets the log up to the head.
    pub fn trim(&mut self) {
        self.log.clear();
        self.standing.floor = self.standing.head;
    }
}

/// A replica's way to the server.
pub struct Link {
    pub server: Arc<Server>,
    name: String,
    incarnation: String,
    adopted: Mutex<Option<History>>,
    /// Changes do not arrive here.
    pub is_deaf: watch::Sender<bool>,
    /// Nothing is answered here.
    pub is_cut: AtomicBool,
    told: watch::Sender<u64>,
}

impl Link {
    pub fn new(server: &Arc<Server>, name: &str, incarnation: &str) -> Arc<Self> {
        Arc::new(Self {
            server: server.clone(),
            name: name.into(),
            incarnation: incarnation.into(),
            adopted: Mutex::default(),
            is_deaf: watch::Sender::new(false),
            is_cut: AtomicBool::new(false),
            told: watch::Sender::new(0),
        })
    }

    async fn reached(&self) {
        if self.server.state().is_down || self.is_cut.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
    }

    /// Runs `act` if the server is in the history that was adopted.
    async fn within<R>(&self, act: impl FnOnce(&mut State) -> R) -> Result<R, SharedError> {
        self.reached().await;
        let mut state = self.server.state();
        state.standing.time = self.server.now();
        let adopted = self.adopted.lock().unwrap().clone();
        if adopted.as_ref() != Some(&state.standing.history)
            || state.standing.server != state.standing.history.server
        {
            return Err(SharedError::OtherHistory(Box::new(state.standing.clone())));
        }
        Ok(act(&mut state))
    }
}

#[async_trait]
impl Store for Link {
    async fn load(&self) -> Result<mpsc::Receiver<Result<Portion, StoreError>>, StoreError> {
        self.reached().await;
        let state = self.server.state();
        let (sender, portions) = mpsc::channel(2);
        let records = state.records.clone().into_iter().collect();
        let _ = sender.try_send(Ok(Portion::Records(records)));
        let _ = sender.try_send(Ok(Portion::Complete(state.standing.head)));
        Ok(portions)
    }

    async fn head(&self) -> Result<Revision, StoreError> {
        Ok(self.server.state().standing.head)
    }

    async fn commit(&self, _: Batch) -> Result<Revision, CommitError> {
        Err(CommitError::NotWritten(StoreError::Failed(
            "read only".into(),
        )))
    }

    async fn follow(&self, from: Revision) -> Result<mpsc::UnboundedReceiver<Change>, StoreError> {
        let (sender, changes) = mpsc::unbounded_channel();
        let (server, mut deaf) = (self.server.clone(), self.is_deaf.subscribe());
        let mut ticks = server.changes.subscribe();
        tokio::spawn(async move {
            let mut at = from;
            loop {
                let _ = deaf.wait_for(|&deaf| !deaf).await;
                let next: Vec<Change> = {
                    let state = server.state();
                    if state.standing.floor > at {
                        return;
                    }
                    state
                        .log
                        .iter()
                        .filter(|c| c.revision > at)
                        .cloned()
                        .collect()
                };
                for change in next {
                    at = change.revision;
                    if sender.send(change).is_err() {
                        return;
                    }
                }
                tokio::select! {
                    _ = ticks.changed() => {}
                    () = tokio::time::sleep(Duration::from_millis(20)) => {}
                    () = sender.closed() => return,
                }
            }
        });
        Ok(changes)
    }

    async fn done(&self, _: MutationId, _: Timestamp) -> Result<Option<Done>, StoreError> {
        Ok(None)
    }

    async fn events(
        &self,
        _: Option<Revision>,
        _: Direction,
    ) -> Result<mpsc::Receiver<Result<Vec<FoundEvent>, StoreError>>, StoreError> {
        Err(StoreError::Failed("it has none".into()))
    }

    fn durability(&self) -> &'static str {
        "memory"
    }
}

#[async_trait]
impl SharedStore for Link {
    fn own(&self) -> (&str, &str) {
        (&self.name, &self.incarnation)
    }

    async fn standing(&self) -> Result<Standing, StoreError> {
        self.reached().await;
        let mut state = self.server.state();
        state.standing.time = self.server.now();
        Ok(state.standing.clone())
    }

    fn adopt(&self, history: History) {
        *self.adopted.lock().unwrap() = Some(history);
    }

    async fn renew(&self, report: Report) -> Result<Standing, SharedError> {
        if std::mem::take(&mut self.server.state().is_raced) {
            self.server.write(Vec::new());
        }
        let now = self.server.now();
        let standing = self
            .within(|state| {
                let member = Member {
                    name: self.name.clone(),
                    incarnation: self.incarnation.clone(),
                    applied: report.applied,
                    renewals: report.renewals,
                    renewed: now,
                };
                state.members.insert(self.incarnation.clone(), member);
                if report.settled {
                    state.standing.settled = true;
                }
                state.standing.clone()
            })
            .await?;
        // The answer takes its time.
        tokio::time::sleep(Duration::from_millis(1)).await;
        Ok(standing)
    }

    async fn roll(&self) -> Result<Roll, StoreError> {
        self.reached().await;
        let state = self.server.state();
        Ok(Roll {
            standing: state.standing.clone(),
            members: state.members.values().cloned().collect(),
        })
    }

    async fn remove(&self, incarnation: &str, renewals: u64) -> Result<bool, SharedError> {
        self.within(|state| {
            let found = state.members.get(incarnation).map(|m| m.renewals);
            if found == Some(renewals) {
                state.members.remove(incarnation);
                state.removed += 1;
            }
            found == Some(renewals)
        })
        .await
    }

    async fn leave(&self) -> Result<(), SharedError> {
        self.within(|state| drop(state.members.remove(&self.incarnation)))
            .await
    }

    async fn open_epoch(&self, found: &Standing, _: Timestamp) -> Result<(), SharedError> {
        self.reached().await;
        let mut state = self.server.state();
        let now = &state.standing;
        if (&now.history, &now.server, now.head) != (&found.history, &found.server, found.head) {
            return Err(SharedError::OtherHistory(Box::new(now.clone())));
        }
        let after = now.head;
        let opened = Revision {
            epoch: after.epoch + 1,
            number: 1,
        };
        state.standing.history.epoch += 1;
        state.standing.history.server = found.server.clone();
        state.standing.opened_after.insert(opened.epoch, after);
        state.standing.settled = false;
        state.members.clear();
        state.append(after, opened, Vec::new());
        state.epochs_opened += 1;
        Ok(())
    }

    async fn fullness(&self) -> Result<Option<u64>, StoreError> {
        self.reached().await;
        Ok(self.server.state().fullness)
    }

    fn turns(&self) -> watch::Receiver<u64> {
        self.server.turned.subscribe()
    }

    fn acknowledgements(&self) -> watch::Receiver<u64> {
        self.told.subscribe()
    }
}

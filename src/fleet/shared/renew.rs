//! Keeps this replica's lease: renews it, extends it once what the store answered is applied, and finds its way when the
//! store's history changes.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Notify, oneshot, watch},
    time::Instant,
};

use super::{
    JoinError, Parts, boot,
    history::{Lost, Verdict, judge},
    spans::{longest_lease, renewal_interval},
};
use crate::{
    domain::id::Revision,
    gate::clock::Boottime,
    store::{
        StoreError,
        shared::{History, Report, SharedError, Standing},
    },
};

/// How soon a renewal that failed is tried again.
const RETRY: Duration = Duration::from_millis(200);
/// How long a renewal may take.
const LIMIT: Duration = Duration::from_secs(1);
/// The least time between renewals that callers ask for.
const ASKED: Duration = Duration::from_millis(50);
/// How long the first lease may be waited for.
const FIRST: Duration = Duration::from_secs(10);

/// Asks for a renewal, and for where the store stood then.
pub(super) struct Handle {
    wanted: Arc<Notify>,
    begun: Arc<AtomicU64>,
    heads: watch::Receiver<(u64, Revision)>,
}

impl Handle {
    /// The store's head, of a renewal that begins after this call. `None`: there are no renewals any more.
    pub(super) async fn now(&self) -> Option<Revision> {
        let mut heads = self.heads.clone();
        let begun = self.begun.load(Ordering::SeqCst);
        self.wanted.notify_one();
        let later = heads.wait_for(|&(number, _)| number > begun).await;
        later.ok().map(|head| head.1)
    }
}

/// The one task that extends the lease.
pub(super) struct Renewer {
    parts: Arc<Parts>,
    applied: watch::Receiver<Revision>,
    /// Renewals whose answer is not applied yet: when each was begun, and the head that it answered.
    pending: VecDeque<(Boottime, Revision)>,
    /// The history that was adopted.
    history: History,
    /// Since when the store's present epoch is known here.
    epoch_since: Instant,
    /// Acknowledgements count in it.
    settled: bool,
    state: State,
    wanted: Arc<Notify>,
    begun: Arc<AtomicU64>,
    heads: watch::Sender<(u64, Revision)>,
}

/// What was logged last, so that each turn is logged once.
#[derive(PartialEq, Eq)]
enum State {
    Well,
    Failing,
    Lost(Lost),
}

impl Renewer {
    /// Renews for a replica that has adopted the history in which the store stood as `standing`.
    pub(super) fn new(
        parts: Arc<Parts>,
        applied: watch::Receiver<Revision>,
        standing: Standing,
    ) -> (Self, Handle) {
        let (heads, told) = watch::channel((0, standing.head));
        let renewer = Self {
            parts,
            applied,
            pending: VecDeque::new(),
            history: standing.history,
            epoch_since: Instant::now(),
            settled: standing.settled,
            state: State::Well,
            wanted: Arc::default(),
            begun: Arc::default(),
            heads,
        };
        let handle = Handle {
            wanted: renewer.wanted.clone(),
            begun: renewer.begun.clone(),
            heads: told,
        };
        (renewer, handle)
    }

    /// Gets the first lease.
    pub(super) async fn first(&mut self) -> Result<(), JoinError> {
        let end = Instant::now() + FIRST;
        loop {
            if !self.renew().await && Instant::now() > end {
                let why = match &self.state {
                    State::Lost(lost) => return Err(lost.clone().into()),
                    State::Failing | State::Well => "it does not renew this replica's lease",
                };
                return Err(StoreError::Failed(why.to_owned()).into());
            }
            // The changes since the records were read may be on their way.
            let reached = tokio::time::timeout(RETRY, self.applied.changed()).await;
            if matches!(reached, Ok(Err(_))) {
                return Err(StoreError::Failed("its changes cannot be followed".to_owned()).into());
            }
            self.extend();
            if !self.parts.lease.is_fenced() {
                return Ok(());
            }
        }
    }

    /// Renews until told to stop.
    pub(super) async fn run(mut self, mut stop: oneshot::Receiver<()>) {
        let interval = renewal_interval(self.parts.length);
        let mut tick = Instant::now() + interval;
        let mut asked = None;
        let mut last_asked = Instant::now();
        let wanted = self.wanted.clone();
        let mut turns = self.parts.store.turns();
        // What was applied while the first lease was waited for is not acknowledged yet.
        self.applied.mark_changed();
        loop {
            let next = asked.map_or(tick, |asked: Instant| asked.min(tick));
            tokio::select! {
                biased;
                _ = &mut stop => return,
                changed = self.applied.changed() => if changed.is_err() {
                    // Nothing is applied any more, so nothing may be answered any more.
                    self.parts.lease.fence();
                    tracing::error!("changes are not applied any more; this replica is fenced");
                    return;
                },
                () = wanted.notified(), if asked.is_none() => {
                    asked = Some((last_asked + ASKED).max(Instant::now()));
                    continue;
                }
                // A store that tells of nothing any more is asked all the same.
                Ok(()) = turns.changed() => {}
                () = tokio::time::sleep_until(next) => {}
            }
            let now = Instant::now();
            if asked.is_some() {
                (asked, last_asked) = (None, now);
            }
            self.extend();
            let renewed = self.renew().await;
            if !renewed {
                tick = Instant::now() + RETRY.min(interval);
            } else if now >= tick {
                tick = now + interval;
            }
        }
    }

    /// Renews once. False if the lease was not renewed.
    async fn renew(&mut self) -> bool {
        let number = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
        // Before the renewal is sent: whoever commits a change after it was executed counts our lease from later than this.
        let begun = self.parts.clock.now().boottime;
        let report = Report {
            applied: *self.applied.borrow_and_update(),
            renewals: number,
            settled: !self.settled && self.epoch_since.elapsed() > longest_lease(self.parts.length),
        };
        let renewed = tokio::time::timeout(LIMIT, self.parts.store.renew(report)).await;
        let timed_out = || StoreError::Failed("it did not answer in time".to_owned());
        match renewed.unwrap_or_else(|_| Err(timed_out().into())) {
            Ok(standing) => self.accept(number, begun, report.applied, &standing),
            Err(SharedError::OtherHistory(standing)) => {
                self.parts.troubles.fetch_add(1, Ordering::SeqCst);
                self.find_way(&standing).await;
                false
            }
            Err(SharedError::Store(error)) => {
                self.parts.troubles.fetch_add(1, Ordering::SeqCst);
                self.turn(State::Failing, || {
                    tracing::warn!(error = %error, "the lease could not be renewed; it runs out unless the store is back in time");
                });
                false
            }
        }
    }

    fn accept(
        &mut self,
        number: u64,
        begun: Boottime,
        applied: Revision,
        standing: &Standing,
    ) -> bool {
        // The same history can only have grown, unless somebody put its data back.
        if let Verdict::Lost(lost) = judge(&self.parts.id, applied, standing) {
            self.lose(lost);
            return false;
        }
        if standing.lease != self.parts.length {
            self.turn(State::Failing, || {
                tracing::error!(
                    "the length of leases in the store was changed; restart this replica"
                );
            });
            return false;
        }
        let clock = &self.parts.clock;
        // The server read its clock before the answer came.
        clock.follow(standing.time, clock.now().boottime);
        self.settled = standing.settled;
        self.parts.hear(standing.head);
        self.pending.push_back((begun, standing.head));
        self.extend();
        self.heads.send_replace((number, standing.head));
        self.turn(State::Well, || {
            tracing::info!("the lease is renewed again");
        });
        true
    }

    /// Extends the lease by what was renewed and is applied by now.
    fn extend(&mut self) {
        let applied = *self.applied.borrow();
        while let Some(&(begun, head)) = self.pending.front()
            && applied >= head
        {
            self.pending.pop_front();
            let length = u64::try_from(self.parts.length.as_nanos()).unwrap_or(0);
            self.parts.lease.extend(Boottime(begun.0 + length));
        }
    }

    /// The store is in another history. What was renewed in the one before extends nothing any more.
    async fn find_way(&mut self, standing: &Standing) {
        self.pending.clear();
        // An epoch is opened once, on one server. The same one on another was opened on data that lacked the first opening.
        let found = &standing.history;
        if found.epoch == self.history.epoch && found.server != self.history.server {
            self.lose(Lost::Behind {
                found: standing.head,
                known: self.parts.heard(),
            });
            return;
        }
        // Whatever was heard of was there before this one was found.
        match judge(&self.parts.id, self.parts.heard(), standing) {
            Verdict::GoesOn(history) => {
                tracing::warn!(epoch = history.epoch, "the store's next epoch is adopted");
                self.epoch_since = Instant::now();
                self.settled = standing.settled;
                self.history = history.clone();
                self.parts.store.adopt(history);
                // At the next try, which is soon.
            }
            Verdict::Restarted => {
                let opened = boot::open_epoch(&*self.parts.store, standing, &*self.parts.clock);
                if let Ok(Err(error)) = tokio::time::timeout(LIMIT, opened).await {
                    tracing::warn!(error = %error, "the store's next epoch could not be opened");
                }
            }
            Verdict::Lost(lost) => self.lose(lost),
        }
    }

    fn lose(&mut self, lost: Lost) {
        let message = lost.to_string();
        self.turn(State::Lost(lost), || {
            tracing::error!(
                why = message,
                "the store is not the one that this replica knows; its lease runs out and is not renewed"
            );
        });
    }

    /// Logs that things took a turn, once.
    fn turn(&mut self, state: State, log: impl FnOnce()) {
        if self.state != state {
            self.state = state;
            log();
        }
    }
}

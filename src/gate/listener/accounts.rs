//! The calls of each connection that are not finished: how old they are, and how many.
//!
//! A call that is decided is not finished: its answer is there until the peer takes it. A peer that keeps its windows shut
//! gathers answers for nothing, and none of them would ever time out by itself.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Interval, MissedTickBehavior, interval},
};

use crate::gate::wire::{Cut, HeldBytes, Share, Wire};

/// How often the peers are looked through.
const LOOK: Duration = Duration::from_secs(1);
/// Looks in a period. A call is begun in one, and its peer is cut at the end of the second one after it: a call may take 20
/// to 30 s from its first header to the last byte of its answer. Decisions take microseconds and wait for nothing longer
/// than half a second; the body of a request has a limit of its own.
const LOOKS_IN_PERIOD: u32 = 10;
const PERIODS: usize = 3;
/// The calls that last, such as watches of health, have no age.
const LASTING: usize = PERIODS;

/// Unfinished calls of a thread from which on a peer may have no more than [`FAIR`]. With what the libraries keep, each
/// costs some 16 KiB.
const CROWD: usize = 8_192;
/// Calls that last which a connection may have, and all of a thread: anybody who can connect may watch health.
const LASTING_FOR_ONE: u32 = 16;
const MOST_LASTING: usize = 1_024;
/// More than a connection can begin in its turn, so that whoever has more open leaves some waiting.
const FAIR: u32 = 512;

/// The connections of one gate thread.
pub(super) struct Accounts {
    thread: Arc<Thread>,
    wire: Wire,
    held: HeldBytes,
    all: Vec<Weak<Account>>,
    looks: Interval,
    looked: u32,
}

/// Its numbers. Only the thread itself writes them, so that plain loads and stores do; what they count is kept in atomics
/// because the types of the way cannot know.
#[derive(Debug, Default)]
struct Thread {
    /// Which of the counters calls that begin now count in.
    period: AtomicUsize,
    /// Unfinished calls that do not last.
    open: AtomicUsize,
    lasting: AtomicUsize,
}

/// What one connection has of us.
#[derive(Debug)]
pub(super) struct Account {
    thread: Arc<Thread>,
    wire: Wire,
    share: Share,
    /// Unfinished calls by the period they were begun in, and those that last.
    open: [AtomicU32; PERIODS + 1],
    cut: AtomicBool,
    go: Notify,
}

/// A call that is not finished until this is dropped.
#[derive(Debug)]
pub(super) struct Unfinished {
    account: Arc<Account>,
    period: usize,
}

impl Accounts {
    /// Nobody yet. Needs the thread's runtime.
    pub(super) fn new(wire: Wire, held: HeldBytes) -> Self {
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            thread: Arc::default(),
            wire,
            held,
            all: Vec::new(),
            looks,
            looked: 0,
        }
    }

    /// A new connection.
    pub(super) fn join(&mut self) -> Arc<Account> {
        let account = Arc::new(Account {
            thread: self.thread.clone(),
            wire: self.wire.clone(),
            share: self.held.share(),
            open: Default::default(),
            cut: AtomicBool::new(false),
            go: Notify::new(),
        });
        self.all.push(Arc::downgrade(&account));
        account
    }

    /// The listener's connections.
    pub(super) fn wire(&self) -> Wire {
        self.wire.clone()
    }

    /// Looks through the peers when it is time, and never if there are none.
    pub(super) async fn look(&mut self) {
        if self.all.is_empty() {
            std::future::pending::<()>().await;
        }
        self.looks.tick().await;
        self.all.retain(|peer| peer.strong_count() > 0);
        self.looked += 1;
        if self.looked.is_multiple_of(LOOKS_IN_PERIOD) {
            self.begin_period();
        }
    }

    fn begin_period(&self) {
        // What was begun in it two periods ago is still counted there.
        let next = (self.thread.period.load(Ordering::Relaxed) + 1) % PERIODS;
        for peer in self.all.iter().filter_map(Weak::upgrade) {
            if peer.open[next].load(Ordering::Relaxed) > 0 {
                peer.cut(Cut::Unanswered);
            }
        }
        self.thread.period.store(next, Ordering::Relaxed);
    }
}

impl Account {
    /// Bytes held for it.
    pub(super) const fn share(&self) -> &Share {
        &self.share
    }

    /// A call with one answer.
    pub(super) fn begin(self: &Arc<Self>) -> Unfinished {
        let period = self.thread.period.load(Ordering::Relaxed);
        let begun = self.begin_in(period, &self.thread.open);
        if self.thread.open.load(Ordering::Relaxed) > CROWD && self.unfinished() > FAIR {
            self.cut(Cut::Crowded);
        }
        begun
    }

    /// A call that may last as long as the connection, if there are not too many.
    pub(super) fn begin_lasting(self: &Arc<Self>) -> Option<Unfinished> {
        let own = self.open[LASTING].load(Ordering::Relaxed);
        let all = self.thread.lasting.load(Ordering::Relaxed);
        (own < LASTING_FOR_ONE && all < MOST_LASTING)
            .then(|| self.begin_in(LASTING, &self.thread.lasting))
    }

    fn begin_in(self: &Arc<Self>, period: usize, all: &AtomicUsize) -> Unfinished {
        let own = &self.open[period];
        own.store(own.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        all.store(all.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        Unfinished {
            account: self.clone(),
            period,
        }
    }

    /// How many of its calls that do not last are not finished.
    pub(super) fn unfinished(&self) -> u32 {
        let open = self.open[..LASTING].iter();
        open.map(|it| it.load(Ordering::Relaxed)).sum()
    }

    fn cut(&self, cut: Cut) {
        if !self.cut.swap(true, Ordering::Relaxed) {
            self.wire.count(cut);
            self.go.notify_one();
        }
    }

    /// Returns when the connection has to be closed.
    pub(super) async fn must_go(&self) {
        self.go.notified().await;
    }
}

impl Unfinished {
    /// Bytes held for its peer.
    pub(super) fn share(&self) -> &Share {
        self.account.share()
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        let Account { thread, open, .. } = &*self.account;
        let count = &open[self.period];
        count.store(
            count.load(Ordering::Relaxed).saturating_sub(1),
            Ordering::Relaxed,
        );
        let all = match self.period {
            LASTING => &thread.lasting,
            _ => &thread.open,
        };
        all.store(
            all.load(Ordering::Relaxed).saturating_sub(1),
            Ordering::Relaxed,
        );
    }
}

#[cfg(test)]
mod tests;

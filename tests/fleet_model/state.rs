//! What the world of the model is made of. Small and `Copy`, since millions of it are looked at.
//!
//! There is one record, the key: it opens calls or it does not. All times are what is left of them, on their holder's own clock,
//! so that the world comes back to where it was and the search ends.

pub const SLOTS: usize = 3;
/// Incarnations of one slot.
pub const LIVES: usize = 2;

/// Epoch and number. 0 is before everything.
pub type Revision = u8;

pub const fn revision(epoch: u8, number: u8) -> Revision {
    epoch << 4 | number
}

pub const fn epoch_of(revision: Revision) -> u8 {
    revision >> 4
}

/// How long a lease lasts, in units of its holder's clock.
pub const LEASE: u8 = 2;
/// Units that a slow and a fast clock count in one tick: a drift of a third, where the fleet reckons with a tenth.
pub const SLOW: u8 = 1;
pub const FAST: u8 = 2;
/// After so many units of any clock no lease is left that began before: (1 + ρ) / (1 − ρ) of it.
pub const LONGEST_LEASE: u8 = LEASE * FAST / SLOW;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Allow,
    Deny,
    /// The first entry of an epoch. It changes no record.
    Opening,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Entry {
    pub revision: Revision,
    pub after: Revision,
    pub kind: Kind,
}

/// The key's record. One of revision 0 is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Record {
    pub revision: Revision,
    pub denied: bool,
}

impl Record {
    pub fn newer(self, other: Self) -> Self {
        if other.revision > self.revision {
            other
        } else {
            self
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct History {
    /// 0: there is no store.
    pub store: u8,
    pub epoch: u8,
    pub server: u8,
}

const MOST_ENTRIES: usize = 6;

/// What Redis keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Data {
    pub history: History,
    /// The epoch for which acknowledgements count.
    pub settled: u8,
    log: [Option<Entry>; MOST_ENTRIES],
    len: u8,
    /// How many entries of the log are gone.
    trimmed: u8,
    /// What each incarnation has acknowledged.
    pub members: [[Option<Revision>; LIVES]; SLOTS],
}

impl Data {
    pub fn new(store: u8, server: u8, kinds: &[Kind]) -> Self {
        let mut data = Self {
            history: History {
                store,
                epoch: 1,
                server,
            },
            settled: 1,
            log: [None; MOST_ENTRIES],
            len: 0,
            trimmed: 0,
            members: [[None; LIVES]; SLOTS],
        };
        for &kind in kinds {
            data.append(kind);
        }
        data
    }

    pub fn entries(&self) -> impl DoubleEndedIterator<Item = Entry> + '_ {
        self.log.iter().flatten().copied()
    }

    pub fn head(&self) -> Revision {
        self.entries().next_back().map_or(0, |last| last.revision)
    }

    /// Every change after it is in the log.
    pub fn floor(&self) -> Revision {
        let kept = self.entries().nth(usize::from(self.trimmed));
        kept.map_or(0, |oldest| oldest.after)
    }

    pub fn record(&self) -> Record {
        let last = self.entries().rfind(|entry| entry.kind != Kind::Opening);
        last.map_or(
            Record {
                revision: 0,
                denied: true,
            },
            |entry| Record {
                revision: entry.revision,
                denied: entry.kind == Kind::Deny,
            },
        )
    }

    /// Where the epoch before `epoch` ended.
    pub fn opened_after(&self, epoch: u8) -> Revision {
        let opening = self
            .entries()
            .find(|entry| entry.kind == Kind::Opening && epoch_of(entry.revision) == epoch);
        opening.map_or(0, |opening| opening.after)
    }

    pub fn append(&mut self, kind: Kind) -> Revision {
        let after = self.head();
        let next = if epoch_of(after) == self.history.epoch {
            after + 1
        } else {
            revision(self.history.epoch, 1)
        };
        self.log[usize::from(self.len)] = Some(Entry {
            revision: next,
            after,
            kind,
        });
        self.len += 1;
        next
    }

    /// Keeps the last `kept` entries.
    pub fn trim(&mut self, kept: u8) {
        self.trimmed = self.len.saturating_sub(kept);
    }

    pub fn open_epoch(&mut self, server: u8) {
        self.history.epoch += 1;
        self.history.server = server;
        self.members = [[None; LIVES]; SLOTS];
        self.append(Kind::Opening);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Not started, or crashed.
    Off,
    /// `head` was noted, and `scanned` is what was read since.
    Booting {
        head: Revision,
        scanned: Option<Record>,
    },
    Running,
    Leaving,
    Left,
}

/// A renewal under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Renewal {
    /// Since t was read.
    pub age: u8,
    pub stage: RenewalStage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RenewalStage {
    Sent { applied: Revision },
    Answered { head: Revision },
}

/// A renewal whose sender has given it up, but that may still reach Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stray {
    pub slot: usize,
    pub life: usize,
    pub applied: Revision,
    pub history: History,
}

/// How a member's silence is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Watch {
    pub of: Option<(usize, usize)>,
    pub left: u8,
    /// Its counter has moved since.
    pub renewed: bool,
    /// Found silent: for the mutant that does not look again.
    pub judged: bool,
}

/// A Check between two of its steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Check {
    /// An ALLOW on an older state breaks the guarantee.
    pub floor: Revision,
    pub stage: CheckStage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CheckStage {
    /// The deadline was loaded; so much was left of it.
    Loaded { left: u8 },
    /// The clock was read, and the lease holds.
    Held,
    /// Variant: the clock was read first; a deadline beyond it has been there since.
    ClockRead { beyond: bool },
    /// Mutant: the record was read first.
    Read(Record),
    /// Mutant: and the lease holds.
    ReadAndHeld(Record),
}

/// A call that changes the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Call {
    pub kind: Kind,
    /// The last revision that was answered to anybody when the call was made.
    pub heard: Revision,
    /// The revision to settle, and which state a Check may not decide on after the answer.
    pub committed: Option<(Revision, Revision)>,
    /// Until every lease that may have been held has ended.
    pub left: u8,
    pub acknowledged: bool,
    /// Mutant: who was a member before the commit.
    pub asked: [[bool; LIVES]; SLOTS],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Resync {
    pub head: Revision,
    pub scanned: Option<Record>,
}

/// One process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Replica {
    pub phase: Phase,
    /// Only writes: it never gets a renewal through, so it is no member and answers no Check.
    pub is_mute: bool,
    pub life: usize,
    pub history: History,
    /// The highest revision that it was told of. Outlives a crash.
    pub known: Revision,
    /// The newest record that it had in force. Outlives a crash; nothing is decided on it.
    pub peak: Revision,
    pub record: Record,
    pub applied: Revision,
    pub fetched: Option<Entry>,
    pub resync: Option<Resync>,
    pub lease: u8,
    pub renewal: Option<Renewal>,
    /// It has renewed before.
    pub has_joined: bool,
    /// Until no lease of the histories before is left.
    pub unsettled: u8,
    pub watch: Option<Watch>,
    pub check: Option<Check>,
    pub call: Option<Call>,
}

/// What may still happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Budget {
    pub denials: u8,
    pub grants: u8,
    pub lost_answers: u8,
    pub strays: u8,
    pub crashes: u8,
    pub resyncs: u8,
    pub leaves: u8,
    pub restarts: u8,
    /// A restart with the data of an earlier moment.
    pub older: u8,
    /// A restart as another store.
    pub others: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct World {
    /// The server process that runs.
    pub server: u8,
    pub data: Data,
    pub backup: Option<Data>,
    pub replicas: [Replica; SLOTS],
    /// Units of each clock in a tick.
    pub rates: [u8; SLOTS],
    /// No Check that begins from now on may allow on an older state.
    pub due: Revision,
    /// The last revision that a call answered.
    pub answered: Revision,
    /// Redis lost acknowledged writes when this was due: that is beyond the guarantee, but for those who knew them.
    pub excused: Revision,
    /// A commit whose caller heard nothing.
    pub unheard: Option<(Revision, Kind)>,
    pub stray: Option<Stray>,
    pub left: Budget,
    pub is_broken: bool,
}

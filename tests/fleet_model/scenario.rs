//! What is looked at: who is there, what may happen, and how the fleet is broken for a test.

use super::state::{Budget, FAST, Kind, SLOTS, SLOW};

/// Who is in a slot at first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Nobody; somebody may start there if crashes are allowed at all.
    Nobody,
    /// A process that is to boot.
    Joins,
    /// Writes, and does nothing else.
    Writes,
    /// Has all records, and has never renewed.
    Answers,
    /// Answers and writes.
    Both,
    /// The same, once it has booted.
    JoinsAndWrites,
}

#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    pub name: &'static str,
    pub roles: [Role; SLOTS],
    pub rates: &'static [[u8; SLOTS]],
    /// What happened before.
    pub log: &'static [Kind],
    /// Entries of the log that are kept.
    pub kept: u8,
    /// Which slots watch for silent members.
    pub reapers: &'static [usize],
    /// Slots that Checks are sent to.
    pub checked: &'static [usize],
    pub budget: Budget,
    /// What must happen somewhere, lest the search prove nothing.
    pub sights: &'static [Sight],
}

/// Something that happened on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sight {
    OkByAcknowledgements,
    OkByLeaseEnd,
    OkInLaterEpoch,
    OkByAcknowledgementsInLaterEpoch,
    OkForRepetition,
    OkForNothingToDo,
    Conflict,
    LeaseExtended,
    LeaseInLaterEpoch,
    Removed,
    RemovalRefused,
    CameBack,
    StrayArrived,
    Booted,
    BootCaughtUp,
    GapFound,
    Resynced,
    Left,
    EpochOpened,
    EpochAdopted,
    StayedFenced,
    Settled,
    CheckDenied,
    CheckFenced,
    CheckAllowed,
}

/// How the fleet differs from the one that is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// Not at all.
    Correct,
    /// The clock is read before the lease. As good: both come before the record.
    ClockBeforeLease,
    LeaseFromReply,
    RecordBeforeLease,
    AcknowledgedBeforeApplied,
    HeadIgnored,
    MembersBeforeCommit,
    WaitFromCall,
    WaitWithoutDrift,
    AnswerUnsettled,
    RemovalUnconditional,
    RemovalEarly,
    SilenceFromBeforeTheRoll,
    CounterFromTheTable,
    RemovedIsNotEnteredAgain,
    AcknowledgedByName,
    RepetitionUnsettled,
    NothingToDoUnsettled,
    NothingToDoUnasked,
    BootWithoutLog,
    ResyncWithoutLog,
    ResyncSwappedInBehind,
    LeftBeforeFenced,
    RenewedAfterFenced,
    AcknowledgementsAfterOpening,
    SettledWithoutDrift,
    SettledByAJoiner,
    AdoptedSilently,
    /// Neither counts its writer a commit as known that was not applied, nor does the barrier ask where its epoch ended.
    CommitForgotten,
}

use Role::{Answers, Both, Joins, JoinsAndWrites, Nobody, Writes};

const NONE: Budget = Budget {
    denials: 0,
    grants: 0,
    lost_answers: 0,
    strays: 0,
    crashes: 0,
    resyncs: 0,
    leaves: 0,
    restarts: 0,
    older: 0,
    others: 0,
};

const OPEN: &[Kind] = &[Kind::Allow];
const DRIFTING: &[[u8; SLOTS]] = &[[FAST, SLOW, FAST]];
const EITHER_WAY: &[[u8; SLOTS]] = &[[FAST, SLOW, FAST], [SLOW, FAST, SLOW]];

/// One writer, one replica that is slow, silent, missed, and comes back.
pub const BARRIER: Scenario = Scenario {
    name: "barrier",
    roles: [Writes, Answers, Nobody],
    rates: EITHER_WAY,
    log: OPEN,
    kept: 6,
    reapers: &[0],
    checked: &[1],
    budget: Budget {
        denials: 1,
        strays: 1,
        ..NONE
    },
    sights: &[
        Sight::OkByAcknowledgements,
        Sight::OkByLeaseEnd,
        Sight::LeaseExtended,
        Sight::Removed,
        Sight::RemovalRefused,
        Sight::CameBack,
        Sight::StrayArrived,
        Sight::CheckDenied,
        Sight::CheckFenced,
    ],
};

/// Two watch the same replica.
pub const REAPERS: Scenario = Scenario {
    name: "reapers",
    roles: [Writes, Answers, Writes],
    rates: DRIFTING,
    reapers: &[0, 2],
    budget: Budget { denials: 1, ..NONE },
    sights: &[Sight::Removed, Sight::RemovalRefused, Sight::CameBack],
    ..BARRIER
};

/// Two replicas, one of which writes.
pub const PEERS: Scenario = Scenario {
    name: "peers",
    roles: [Both, Answers, Nobody],
    rates: DRIFTING,
    reapers: &[],
    budget: Budget { denials: 1, ..NONE },
    sights: &[
        Sight::OkByAcknowledgements,
        Sight::OkByLeaseEnd,
        Sight::CheckDenied,
    ],
    ..BARRIER
};

/// Two writers whose callers lose answers and call again.
pub const WRITERS: Scenario = Scenario {
    name: "writers",
    roles: [Writes, Answers, Writes],
    rates: DRIFTING,
    reapers: &[],
    budget: Budget {
        denials: 2,
        lost_answers: 1,
        ..NONE
    },
    sights: &[
        Sight::OkForRepetition,
        Sight::OkForNothingToDo,
        Sight::CheckDenied,
    ],
    ..BARRIER
};

/// A writer whose own keyring is behind.
pub const STALE_WRITER: Scenario = Scenario {
    name: "stale writer",
    roles: [Writes, Both, Nobody],
    rates: DRIFTING,
    log: &[Kind::Allow, Kind::Deny],
    reapers: &[],
    budget: Budget {
        denials: 1,
        grants: 1,
        ..NONE
    },
    sights: &[
        Sight::OkForNothingToDo,
        Sight::OkByLeaseEnd,
        Sight::Conflict,
        Sight::CheckDenied,
    ],
    ..BARRIER
};

/// A replica crashes, starts anew, loses its place in the log, and leaves.
pub const LIFE: Scenario = Scenario {
    name: "life",
    roles: [Writes, Answers, Nobody],
    rates: DRIFTING,
    kept: 1,
    reapers: &[],
    budget: Budget {
        denials: 1,
        crashes: 1,
        resyncs: 1,
        leaves: 1,
        strays: 1,
        ..NONE
    },
    sights: &[
        Sight::Booted,
        Sight::BootCaughtUp,
        Sight::Resynced,
        Sight::Left,
        Sight::StrayArrived,
        Sight::OkByAcknowledgements,
    ],
    ..BARRIER
};

/// More is written than the log keeps.
pub const GAPS: Scenario = Scenario {
    name: "gaps",
    log: OPEN,
    budget: Budget {
        denials: 2,
        grants: 1,
        resyncs: 1,
        ..NONE
    },
    sights: &[
        Sight::GapFound,
        Sight::Resynced,
        Sight::OkByAcknowledgements,
        Sight::CheckAllowed,
    ],
    ..LIFE
};

/// Another process of the same name starts while the first still runs.
pub const OVERLAP: Scenario = Scenario {
    name: "overlap",
    roles: [Writes, Answers, Joins],
    rates: DRIFTING,
    reapers: &[],
    checked: &[2],
    budget: Budget { denials: 1, ..NONE },
    sights: &[
        Sight::Booted,
        Sight::BootCaughtUp,
        Sight::OkByAcknowledgements,
    ],
    ..BARRIER
};

/// Redis restarts with its data, before or after a writer joins that knows nothing of what was before.
pub const EPOCHS: Scenario = Scenario {
    name: "epochs",
    roles: [JoinsAndWrites, Answers, Nobody],
    rates: DRIFTING,
    reapers: &[],
    budget: Budget {
        denials: 1,
        restarts: 1,
        ..NONE
    },
    sights: &[
        Sight::Booted,
        Sight::EpochOpened,
        Sight::EpochAdopted,
        Sight::LeaseInLaterEpoch,
        Sight::Settled,
        Sight::OkInLaterEpoch,
        Sight::OkByAcknowledgementsInLaterEpoch,
    ],
    ..BARRIER
};

/// Redis loses acknowledged writes.
pub const LOSSES: Scenario = Scenario {
    name: "losses",
    roles: [Writes, Answers, Writes],
    rates: DRIFTING,
    reapers: &[],
    budget: Budget {
        denials: 1,
        older: 1,
        ..NONE
    },
    sights: &[
        Sight::StayedFenced,
        Sight::EpochOpened,
        Sight::EpochAdopted,
        Sight::OkByAcknowledgements,
    ],
    ..BARRIER
};

/// Redis comes back as another store.
pub const REPLACED: Scenario = Scenario {
    name: "replaced",
    roles: [Writes, Answers, Nobody],
    budget: Budget {
        denials: 1,
        others: 1,
        ..NONE
    },
    sights: &[
        Sight::StayedFenced,
        Sight::OkByAcknowledgements,
        Sight::OkByLeaseEnd,
    ],
    ..LOSSES
};

// The same with more of everything, for `PORTCULLIS_MODEL=deep`.

pub const BARRIER_DEEP: Scenario = Scenario {
    budget: Budget {
        denials: 2,
        grants: 1,
        strays: 2,
        ..NONE
    },
    ..BARRIER
};

pub const REAPERS_DEEP: Scenario = Scenario {
    rates: EITHER_WAY,
    budget: Budget {
        denials: 2,
        strays: 1,
        ..NONE
    },
    ..REAPERS
};

pub const PEERS_DEEP: Scenario = Scenario {
    rates: EITHER_WAY,
    checked: &[0, 1],
    reapers: &[0],
    ..PEERS
};

pub const WRITERS_DEEP: Scenario = Scenario {
    budget: Budget {
        denials: 2,
        grants: 1,
        lost_answers: 1,
        ..NONE
    },
    ..WRITERS
};

pub const LIFE_DEEP: Scenario = Scenario {
    budget: Budget {
        denials: 2,
        grants: 1,
        crashes: 1,
        resyncs: 1,
        leaves: 1,
        strays: 1,
        ..NONE
    },
    ..LIFE
};

pub const EPOCHS_DEEP: Scenario = Scenario {
    roles: [Writes, Answers, Joins],
    ..EPOCHS
};

pub const LOSSES_DEEP: Scenario = Scenario {
    roles: [Writes, Answers, Answers],
    ..LOSSES
};

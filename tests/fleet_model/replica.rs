//! Who follows the log, renews, comes and goes.

use crate::{
    model::{Fleet, goes_on, longest_lease},
    scenario::{Sight, Variant},
    state::{
        CheckStage, History, Kind, LEASE, LIVES, LONGEST_LEASE, Phase, Record, Renewal,
        RenewalStage, Replica, Resync, Revision, Stray, World,
    },
};

impl Fleet {
    /// Reads the next entry of the log. That needs no hint: one may come at any time, as may none.
    pub fn fetch(&self, world: &mut World, slot: usize) -> Option<()> {
        let replica = &mut world.replicas[slot];
        let rests = replica.phase == Phase::Running && replica.fetched.is_none();
        if !rests || world.data.history.store != replica.history.store {
            return None;
        }
        let next = world
            .data
            .entries()
            .find(|entry| entry.revision > replica.applied)?;
        if world.data.floor() > replica.applied || next.after != replica.applied {
            self.saw(Sight::GapFound);
            return None;
        }
        replica.fetched = Some(next);
        Some(())
    }

    /// Puts it in force: the record, then `applied`.
    pub fn apply(world: &mut World, slot: usize) -> Option<()> {
        let replica = &mut world.replicas[slot];
        let entry = replica.fetched.take()?;
        if entry.after != replica.applied {
            // A resync has gone past it.
            return Some(());
        }
        replica.applied = entry.revision;
        if entry.kind != Kind::Opening {
            replica.put(Record {
                revision: entry.revision,
                denied: entry.kind == Kind::Deny,
            });
        }
        replica.know();
        Some(())
    }

    /// Reads t, then sends.
    pub fn send_renewal(&self, world: &mut World, slot: usize) -> Option<()> {
        let replica = &mut world.replicas[slot];
        if replica.phase != Phase::Running || replica.renewal.is_some() {
            return None;
        }
        let mut applied = replica.applied;
        if self.is(Variant::AcknowledgedBeforeApplied)
            && let Some(entry) = replica.fetched
        {
            applied = entry.revision;
        }
        replica.renewal = Some(Renewal {
            age: 0,
            stage: RenewalStage::Sent { applied },
        });
        Some(())
    }

    pub fn renewal_arrives(&self, world: &mut World, slot: usize) -> Option<()> {
        let replica = world.replicas[slot];
        let renewal = replica.renewal?;
        let RenewalStage::Sent { applied } = renewal.stage else {
            return None;
        };
        if !Self::takes(world, replica.history) {
            world.replicas[slot].renewal = None;
            return Some(());
        }
        self.enter(world, (slot, replica.life), applied, replica.has_joined);
        if replica.unsettled == 0 && world.data.settled != replica.history.epoch {
            world.data.settled = replica.history.epoch;
            self.saw(Sight::Settled);
        }
        let head = world.data.head();
        let replica = &mut world.replicas[slot];
        replica.has_joined = true;
        replica.renewal = if self.is_checked(slot) {
            Some(Renewal {
                stage: RenewalStage::Answered { head },
                ..renewal
            })
        } else {
            replica.known = replica.known.max(head);
            None
        };
        Some(())
    }

    /// The renewal script's write.
    fn enter(
        &self,
        world: &mut World,
        (slot, life): (usize, usize),
        applied: Revision,
        has_joined: bool,
    ) {
        let (row, column) = self.entry(slot, life);
        let entry = &mut world.data.members[row][column];
        let comes_back = has_joined && entry.is_none() && world.data.history.epoch == 1;
        if comes_back {
            self.saw(Sight::CameBack);
            if self.is(Variant::RemovedIsNotEnteredAgain) {
                return;
            }
        }
        *entry = Some(applied);
        // Whoever watches sees another count, unless it began again at the one that was seen.
        let moved = !(comes_back && self.is(Variant::CounterFromTheTable));
        for watcher in &mut world.replicas {
            if let Some(watch) = &mut watcher.watch
                && watch.of == Some((row, column))
            {
                watch.renewed = moved;
            }
        }
    }

    /// Once everything up to the head answered is in force, the lease runs until t + L.
    pub fn take_reply(&self, world: &mut World, slot: usize) -> Option<()> {
        let replica = &mut world.replicas[slot];
        let may_extend = replica.phase == Phase::Running || self.is(Variant::RenewedAfterFenced);
        let renewal = replica.renewal?;
        let RenewalStage::Answered { head } = renewal.stage else {
            return None;
        };
        let has_caught_up = replica.applied >= head || self.is(Variant::HeadIgnored);
        if !may_extend || !has_caught_up {
            return None;
        }
        replica.renewal = None;
        replica.known = replica.known.max(head);
        let left = if self.is(Variant::LeaseFromReply) {
            LEASE
        } else {
            LEASE - renewal.age
        };
        if left > replica.lease {
            replica.lease = left;
            self.saw(Sight::LeaseExtended);
            if replica.history.epoch > 1 {
                self.saw(Sight::LeaseInLaterEpoch);
            }
            if let Some(check) = &mut replica.check
                && let CheckStage::ClockRead { beyond } = &mut check.stage
            {
                *beyond = true;
            }
        }
        Some(())
    }

    /// A renewal that takes too long is given up. It may still arrive; and if it has, its reply is lost.
    pub fn give_up_renewal(world: &mut World, slot: usize) -> Option<()> {
        let replica = &mut world.replicas[slot];
        let renewal = replica.renewal?;
        match renewal.stage {
            RenewalStage::Sent { applied } if world.stray.is_none() => {
                world.left.strays = world.left.strays.checked_sub(1)?;
                world.stray = Some(Stray {
                    slot,
                    life: replica.life,
                    applied,
                    history: replica.history,
                });
            }
            RenewalStage::Sent { .. } => return None,
            RenewalStage::Answered { .. } => {}
        }
        replica.renewal = None;
        Some(())
    }

    pub fn stray_arrives(&self, world: &mut World) -> Option<()> {
        let stray = world.stray.take()?;
        if Self::takes(world, stray.history) {
            self.saw(Sight::StrayArrived);
            self.enter(world, (stray.slot, stray.life), stray.applied, true);
        }
        Some(())
    }

    /// Looks where the store stands. One that was restarted gets its epoch; one that does not go on from what is known here is
    /// nothing to decide on.
    pub fn look_at_history(&self, world: &mut World, slot: usize) -> Option<()> {
        let replica = world.replicas[slot];
        let data = world.data;
        if replica.phase != Phase::Running || Self::takes(world, replica.history) {
            return None;
        }
        if self.is(Variant::AdoptedSilently) {
            let replica = &mut world.replicas[slot];
            replica.begin_history(data.history, 0);
            replica.history.server = world.server;
            world.data.history.server = world.server;
            let replica = &mut world.replicas[slot];
            replica.applied = data.head();
            replica.record = data.record();
            replica.fetched = None;
            return Some(());
        }
        let known = if self.is(Variant::CommitForgotten) {
            replica.applied
        } else {
            replica.known
        };
        if !goes_on(replica.history.store, known, &data) {
            self.saw(Sight::StayedFenced);
            return None;
        }
        if data.history.server != world.server {
            let head = data.head();
            let mut members = data.members.iter().flatten().flatten();
            if members.any(|&applied| applied > head) {
                return None;
            }
            world.data.open_epoch(world.server);
            self.saw(Sight::EpochOpened);
            return Some(());
        }
        self.saw(Sight::EpochAdopted);
        let unsettled = longest_lease(self.is(Variant::SettledWithoutDrift));
        world.replicas[slot].begin_history(data.history, unsettled);
        Some(())
    }

    /// Begins to read all records again: it must if the log is trimmed behind it, and may at any time.
    pub fn begin_resync(world: &mut World, slot: usize) -> Option<()> {
        let replica = &mut world.replicas[slot];
        let rests = replica.phase == Phase::Running && replica.resync.is_none();
        if !rests || world.data.history != replica.history {
            return None;
        }
        if world.data.floor() <= replica.applied {
            world.left.resyncs = world.left.resyncs.checked_sub(1)?;
        }
        replica.resync = Some(Resync {
            head: world.data.head(),
            scanned: None,
        });
        Some(())
    }

    pub fn scan_again(world: &mut World, slot: usize) -> Option<()> {
        let resync = world.replicas[slot].resync.as_mut()?;
        if resync.scanned.is_some() {
            return None;
        }
        resync.scanned = Some(world.data.record());
        Some(())
    }

    pub fn end_resync(&self, world: &mut World, slot: usize) -> Option<()> {
        let data = world.data;
        let replica = &mut world.replicas[slot];
        let resync = replica.resync?;
        let scanned = resync.scanned?;
        replica.resync = None;
        let is_whole = data.floor() <= resync.head && data.history == replica.history;
        if !is_whole || data.head() < replica.applied {
            return Some(());
        }
        self.saw(Sight::Resynced);
        match self.variant {
            Variant::ResyncSwappedInBehind => {
                replica.record = scanned;
                replica.applied = resync.head;
            }
            Variant::ResyncWithoutLog => {
                replica.put(scanned);
                replica.applied = data.head();
            }
            _ => {
                replica.put(scanned.newer(data.record()));
                replica.applied = data.head();
            }
        }
        replica.know();
        Some(())
    }

    pub fn crash(world: &mut World, slot: usize) -> Option<()> {
        let replica = &mut world.replicas[slot];
        if replica.phase == Phase::Off || replica.life + 1 == LIVES {
            return None;
        }
        world.left.crashes = world.left.crashes.checked_sub(1)?;
        let nothing = Record {
            revision: 0,
            denied: true,
        };
        *replica = Replica {
            phase: Phase::Off,
            life: replica.life + 1,
            record: nothing,
            applied: 0,
            fetched: None,
            resync: None,
            lease: 0,
            renewal: None,
            has_joined: false,
            unsettled: 0,
            watch: None,
            check: None,
            call: None,
            ..*replica
        };
        Some(())
    }

    /// Finds the right history and notes its head.
    pub fn begin_boot(&self, world: &mut World, slot: usize) -> Option<()> {
        let history = world.data.history;
        let head = world.data.head();
        let replica = &mut world.replicas[slot];
        let is_right = history.server == world.server
            && goes_on(replica.history.store, replica.known, &world.data);
        if replica.phase != Phase::Off || !is_right {
            return None;
        }
        // It knows of this epoch only now, and there may be leases of the one before.
        let is_settled = world.data.settled == history.epoch;
        let unsettled = if is_settled || self.is(Variant::SettledByAJoiner) {
            0
        } else {
            LONGEST_LEASE
        };
        replica.begin_history(history, unsettled);
        replica.phase = Phase::Booting {
            head,
            scanned: None,
        };
        Some(())
    }

    /// Reads the records, at some instant.
    pub fn scan(world: &mut World, slot: usize) -> Option<()> {
        let replica = &mut world.replicas[slot];
        let Phase::Booting {
            head,
            scanned: None,
        } = replica.phase
        else {
            return None;
        };
        replica.phase = Phase::Booting {
            head,
            scanned: Some(world.data.record()),
        };
        Some(())
    }

    /// Replays the log from the noted head to the head there is now.
    pub fn end_boot(&self, world: &mut World, slot: usize) -> Option<()> {
        let data = world.data;
        let replica = &mut world.replicas[slot];
        let Phase::Booting {
            head,
            scanned: Some(scanned),
        } = replica.phase
        else {
            return None;
        };
        if data.floor() > head || data.history != replica.history {
            replica.phase = Phase::Off;
            return Some(());
        }
        self.saw(Sight::Booted);
        if scanned.revision < data.record().revision {
            self.saw(Sight::BootCaughtUp);
        }
        replica.phase = Phase::Running;
        replica.applied = data.head();
        replica.put(if self.is(Variant::BootWithoutLog) {
            scanned
        } else {
            scanned.newer(data.record())
        });
        replica.know();
        Some(())
    }

    /// Ends the lease, and the renewing with it: what is still answered lengthens nothing.
    pub fn fence(&self, world: &mut World, slot: usize) -> Option<()> {
        let replica = &mut world.replicas[slot];
        if self.is(Variant::LeftBeforeFenced) {
            if replica.phase != Phase::Leaving {
                return None;
            }
            replica.phase = Phase::Left;
        } else {
            if replica.phase != Phase::Running {
                return None;
            }
            world.left.leaves = world.left.leaves.checked_sub(1)?;
            replica.phase = Phase::Leaving;
        }
        replica.lease = 0;
        if !self.is(Variant::RenewedAfterFenced) {
            replica.renewal = None;
        }
        Some(())
    }

    /// Takes itself out of the members.
    pub fn deregister(&self, world: &mut World, slot: usize) -> Option<()> {
        let replica = world.replicas[slot];
        let early = self.is(Variant::LeftBeforeFenced);
        let due = if early {
            Phase::Running
        } else {
            Phase::Leaving
        };
        if replica.phase != due || !Self::takes(world, replica.history) {
            return None;
        }
        if early {
            world.left.leaves = world.left.leaves.checked_sub(1)?;
            world.replicas[slot].renewal = None;
        }
        let (row, column) = self.entry(slot, replica.life);
        world.data.members[row][column] = None;
        world.replicas[slot].phase = if early { Phase::Leaving } else { Phase::Left };
        self.saw(Sight::Left);
        Some(())
    }
}

impl Replica {
    fn know(&mut self) {
        self.known = self.known.max(self.applied);
    }

    /// Puts a record in force, forward only.
    fn put(&mut self, record: Record) {
        self.record = self.record.newer(record);
        self.peak = self.peak.max(self.record.revision);
    }

    /// Takes a history for its own. A lease that is held may run out.
    fn begin_history(&mut self, history: History, unsettled: u8) {
        self.history = history;
        self.unsettled = unsettled;
        if let Some(Renewal {
            stage: RenewalStage::Sent { .. },
            ..
        }) = self.renewal
        {
            self.renewal = None;
        }
    }
}

//! Who changes the key, and who watches for the silent.

use crate::{
    model::{Fleet, goes_on, longest_lease},
    scenario::{Sight, Variant},
    state::{Call, Kind, LIVES, Phase, Revision, SLOTS, Watch, World, epoch_of},
};

/// What a call came to at the store.
enum Committed {
    /// As a new revision.
    New(Revision),
    /// The key was as wanted, as of this revision.
    Already(Revision),
}

impl Fleet {
    pub fn call(&self, world: &mut World, slot: usize, kind: Kind) -> Option<()> {
        let left = match kind {
            Kind::Allow => &mut world.left.grants,
            Kind::Deny | Kind::Opening => &mut world.left.denials,
        };
        let replica = &mut world.replicas[slot];
        let is_free = replica.phase == Phase::Running && replica.call.is_none();
        if !is_free {
            return None;
        }
        *left = left.checked_sub(1)?;
        let mut asked = [[false; LIVES]; SLOTS];
        if self.is(Variant::MembersBeforeCommit) {
            asked = world.data.members.map(|it| it.map(|entry| entry.is_some()));
        }
        replica.call = Some(Call {
            kind,
            heard: world.answered,
            committed: None,
            left: self.wait(),
            acknowledged: false,
            asked,
        });
        Some(())
    }

    fn wait(&self) -> u8 {
        longest_lease(self.is(Variant::WaitWithoutDrift))
    }

    pub fn commit(&self, world: &mut World, slot: usize) -> Option<()> {
        let call = world.replicas[slot].call?;
        if call.committed.is_some() {
            return None;
        }
        let (revision, floor) = match self.write(world, slot, call.kind)? {
            Committed::New(revision) => (revision, revision),
            Committed::Already(revision) => {
                self.saw(Sight::OkForNothingToDo);
                if self.is(Variant::NothingToDoUnsettled) {
                    world.replicas[slot].call = None;
                    Self::promise(world, call.kind, revision, revision.max(call.heard + 1));
                    return Some(());
                }
                // Whatever was answered before the call comes before it.
                (revision, revision.max(call.heard + 1))
            }
        };
        let replica = &mut world.replicas[slot];
        replica.known = replica.known.max(revision);
        let left = if self.is(Variant::WaitFromCall) {
            call.left
        } else {
            self.wait()
        };
        replica.call = Some(Call {
            committed: Some((revision, floor)),
            left,
            ..call
        });
        Some(())
    }

    /// The commit is executed, and its caller never hears of it.
    pub fn commit_unheard(&self, world: &mut World, slot: usize) -> Option<()> {
        let call = world.replicas[slot].call?;
        if call.committed.is_some() || world.unheard.is_some() {
            return None;
        }
        world.left.lost_answers = world.left.lost_answers.checked_sub(1)?;
        let Committed::New(revision) = self.write(world, slot, call.kind)? else {
            return None;
        };
        world.replicas[slot].call = None;
        world.unheard = Some((revision, call.kind));
        Some(())
    }

    /// Its caller repeats the call, here or elsewhere.
    pub fn repeat(&self, world: &mut World, slot: usize) -> Option<()> {
        let (revision, kind) = world.unheard?;
        let replica = &mut world.replicas[slot];
        if replica.call.is_some() || !Self::takes(world, world.replicas[slot].history) {
            return None;
        }
        world.unheard = None;
        self.saw(Sight::OkForRepetition);
        if self.is(Variant::RepetitionUnsettled) {
            Self::promise(world, kind, revision, revision);
            return Some(());
        }
        world.replicas[slot].call = Some(Call {
            kind,
            heard: 0,
            committed: Some((revision, revision)),
            left: self.wait(),
            acknowledged: false,
            asked: [[false; LIVES]; SLOTS],
        });
        Some(())
    }

    /// The commit script, with what the writer read before.
    fn write(&self, world: &mut World, slot: usize, kind: Kind) -> Option<Committed> {
        let replica = &mut world.replicas[slot];
        let takes = world.data.history == replica.history && replica.history.server == world.server;
        if replica.is_mute {
            // It follows as fast as it decides.
            replica.record = world.data.record();
        }
        let read = replica.record;
        let is_wanted = read.denied == (kind == Kind::Deny);
        if is_wanted && self.is(Variant::NothingToDoUnasked) {
            return Some(Committed::Already(read.revision));
        }
        if !takes {
            return None;
        }
        if read != world.data.record() {
            self.saw(Sight::Conflict);
            return None;
        }
        if is_wanted {
            return Some(Committed::Already(read.revision));
        }
        let revision = world.data.append(kind);
        world.data.trim(self.scenario.kept);
        Some(Committed::New(revision))
    }

    /// Reads the members, in a command of its own.
    pub fn read_roll(&self, world: &mut World, slot: usize) -> Option<()> {
        let replica = world.replicas[slot];
        let call = replica.call?;
        let (revision, floor) = call.committed?;
        let data = &world.data;
        let history = data.history;
        let settled =
            data.settled == history.epoch || self.is(Variant::AcknowledgementsAfterOpening);
        let holds =
            self.is(Variant::CommitForgotten) || goes_on(replica.history.store, revision, data);
        // Whether the writer has adopted this history makes no difference to who has acknowledged in it.
        let is_live = history.server == world.server;
        if call.acknowledged || !is_live || !settled || !holds {
            return None;
        }
        let asked_before = self.is(Variant::MembersBeforeCommit);
        let waits = data.members.iter().zip(call.asked).any(|(lives, asked)| {
            let mut lives = lives.iter().zip(asked);
            lives.any(|(entry, asked)| {
                entry.is_some_and(|applied| applied < revision) && (asked || !asked_before)
            })
        });
        if waits {
            return None;
        }
        world.replicas[slot].call = Some(Call {
            acknowledged: true,
            left: 0,
            ..call
        });
        // Who counts acknowledgements after a loss says that the change is in force nonetheless.
        world.excused = world.excused.min(floor - 1);
        Some(())
    }

    pub fn answer(&self, world: &mut World, slot: usize) -> Option<()> {
        let call = world.replicas[slot].call?;
        let (revision, floor) = call.committed?;
        let is_later = world.data.history.epoch > 1;
        if call.acknowledged {
            self.saw(Sight::OkByAcknowledgements);
            if is_later && epoch_of(revision) > 1 {
                self.saw(Sight::OkByAcknowledgementsInLaterEpoch);
            }
        } else if call.left == 0 {
            self.saw(Sight::OkByLeaseEnd);
        } else if !self.is(Variant::AnswerUnsettled) {
            return None;
        }
        if is_later {
            self.saw(Sight::OkInLaterEpoch);
        }
        world.replicas[slot].call = None;
        Self::promise(world, call.kind, revision, floor);
        Some(())
    }

    /// Says OK.
    fn promise(world: &mut World, kind: Kind, revision: Revision, floor: Revision) {
        world.answered = world.answered.max(revision);
        if kind == Kind::Deny {
            world.due = world.due.max(floor);
        }
    }

    /// Mutant: the clock is read, and then the members.
    pub fn begin_watch(&self, world: &mut World, slot: usize) -> Option<()> {
        let replica = &mut world.replicas[slot];
        if replica.watch.is_some() {
            return None;
        }
        replica.watch = Some(Watch {
            of: None,
            left: self.silence(),
            renewed: false,
            judged: false,
        });
        Some(())
    }

    fn silence(&self) -> u8 {
        longest_lease(self.is(Variant::RemovalEarly))
    }

    /// Sees a member's counter, then the clock.
    pub fn see_member(&self, world: &mut World, slot: usize, of: (usize, usize)) -> Option<()> {
        world.data.members[of.0][of.1]?;
        let replica = &mut world.replicas[slot];
        let left = match replica.watch {
            None => self.silence(),
            Some(watch) if watch.of.is_none() => watch.left,
            Some(_) => return None,
        };
        replica.watch = Some(Watch {
            of: Some(of),
            left,
            renewed: false,
            judged: false,
        });
        Some(())
    }

    /// Mutant: its counter is looked at once more, but not when it is removed.
    pub fn judge(world: &mut World, slot: usize) -> Option<()> {
        let watch = world.replicas[slot].watch.as_mut()?;
        (watch.left == 0 && !watch.renewed && !watch.judged).then(|| watch.judged = true)
    }

    pub fn remove(&self, world: &mut World, slot: usize) -> Option<()> {
        let replica = world.replicas[slot];
        let watch = replica.watch?;
        let (of, life) = watch.of?;
        if watch.left > 0 || !Self::takes(world, replica.history) {
            return None;
        }
        world.replicas[slot].watch = None;
        let unconditional = self.is(Variant::RemovalUnconditional) && watch.judged;
        if watch.renewed && !unconditional {
            self.saw(Sight::RemovalRefused);
        } else {
            self.saw(Sight::Removed);
            world.data.members[of][life] = None;
        }
        Some(())
    }
}

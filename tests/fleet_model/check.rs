//! Who asks whether the key opens a call. A Check may pause between any two of its steps.

use crate::{
    model::Fleet,
    scenario::{Sight, Variant},
    state::{Check, CheckStage, Phase, Record, World},
};

impl Fleet {
    /// Begins a Check. As long as nothing was promised it cannot break anything, so it is not begun.
    pub fn begin_check(&self, world: &mut World, slot: usize) -> Option<()> {
        let floor = world.due;
        let replica = &mut world.replicas[slot];
        let runs = matches!(replica.phase, Phase::Running | Phase::Leaving | Phase::Left);
        if !runs || floor == 0 || replica.check.is_some() {
            return None;
        }
        let left = replica.lease;
        let stage = match self.variant {
            Variant::RecordBeforeLease => CheckStage::Read(replica.record),
            Variant::ClockBeforeLease => CheckStage::ClockRead { beyond: left > 0 },
            _ if left == 0 => {
                self.saw(Sight::CheckFenced);
                return None;
            }
            _ => CheckStage::Loaded { left },
        };
        replica.check = Some(Check { floor, stage });
        Some(())
    }

    /// Reads what is still missing of lease and clock.
    pub fn hold_lease(&self, world: &mut World, slot: usize) -> Option<()> {
        let replica = &mut world.replicas[slot];
        let check = replica.check?;
        let stage = match check.stage {
            CheckStage::Loaded { left } => (left > 0).then_some(CheckStage::Held),
            CheckStage::ClockRead { beyond } => beyond.then_some(CheckStage::Held),
            CheckStage::Read(record) => {
                (replica.lease > 0).then_some(CheckStage::ReadAndHeld(record))
            }
            CheckStage::Held | CheckStage::ReadAndHeld(_) => return None,
        };
        if stage.is_none() {
            self.saw(Sight::CheckFenced);
        }
        replica.check = stage.map(|stage| Check { stage, ..check });
        Some(())
    }

    pub fn decide(&self, world: &mut World, slot: usize) -> Option<()> {
        let replica = &mut world.replicas[slot];
        let check = replica.check?;
        let record = match check.stage {
            CheckStage::Held => replica.record,
            CheckStage::ReadAndHeld(record) => record,
            _ => return None,
        };
        replica.check = None;
        self.saw(if record.denied {
            Sight::CheckDenied
        } else {
            Sight::CheckAllowed
        });
        // What Redis lost is still owed by those who knew it.
        let is_owed = check.floor > world.excused || world.replicas[slot].peak >= check.floor;
        world.is_broken = is_owed && is_older(record, check.floor);
        Some(())
    }
}

fn is_older(record: Record, floor: u8) -> bool {
    !record.denied && record.revision < floor
}

//! The fleet as a state machine: every step that some process, Redis or time can take from a world.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use stateright::{Model, Property};

use crate::{
    scenario::{Role, Scenario, Sight, Variant},
    state::{
        CheckStage, Data, History, Kind, LEASE, LONGEST_LEASE, Phase, Record, RenewalStage,
        Replica, SLOTS, World, revision,
    },
};

/// A step. The number is the slot of the process that takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Tick,
    // Who changes the key
    Call(usize, Kind),
    Commit(usize),
    CommitUnheard(usize),
    Repeat(usize),
    ReadRoll(usize),
    Answer(usize),
    // Who follows
    Fetch(usize),
    Apply(usize),
    SendRenewal(usize),
    RenewalArrives(usize),
    TakeReply(usize),
    GiveUpRenewal(usize),
    StrayArrives,
    LookAtHistory(usize),
    BeginResync(usize),
    ScanAgain(usize),
    EndResync(usize),
    // Who comes and goes
    Crash(usize),
    BeginBoot(usize),
    Scan(usize),
    EndBoot(usize),
    Fence(usize),
    Deregister(usize),
    // Who watches
    BeginWatch(usize),
    SeeMember(usize, usize, usize),
    Judge(usize),
    Remove(usize),
    // Who asks
    BeginCheck(usize),
    HoldLease(usize),
    Decide(usize),
    // Redis
    BackUp,
    Restart,
    RestartOlder,
    RestartAsOther,
}

pub struct Fleet {
    pub scenario: Scenario,
    pub variant: Variant,
    steps: Vec<Step>,
    /// Kept beside the worlds: in them they would multiply.
    sights: Arc<AtomicU32>,
}

impl Fleet {
    pub fn new(scenario: Scenario, variant: Variant) -> Self {
        Self {
            steps: steps(&scenario, variant),
            scenario,
            variant,
            sights: Arc::default(),
        }
    }

    pub fn sights(&self) -> Arc<AtomicU32> {
        self.sights.clone()
    }

    pub fn is(&self, variant: Variant) -> bool {
        self.variant == variant
    }

    pub fn saw(&self, sight: Sight) {
        self.sights.fetch_or(1 << sight as u32, Ordering::Relaxed);
    }

    /// Where an incarnation stands in the table.
    pub fn entry(&self, slot: usize, life: usize) -> (usize, usize) {
        match self.variant {
            // Slots 1 and 2 bear one name.
            Variant::AcknowledgedByName => (slot.min(1), 0),
            _ => (slot, life),
        }
    }

    /// Whether the scripts do anything for a process that has adopted `history`.
    pub fn takes(world: &World, history: History) -> bool {
        world.data.history == history && history.server == world.server
    }

    fn take(&self, world: &mut World, step: Step) -> Option<()> {
        match step {
            Step::Tick => self.tick(world),
            Step::Call(slot, kind) => self.call(world, slot, kind)?,
            Step::Commit(slot) => self.commit(world, slot)?,
            Step::CommitUnheard(slot) => self.commit_unheard(world, slot)?,
            Step::Repeat(slot) => self.repeat(world, slot)?,
            Step::ReadRoll(slot) => self.read_roll(world, slot)?,
            Step::Answer(slot) => self.answer(world, slot)?,
            Step::Fetch(slot) => self.fetch(world, slot)?,
            Step::Apply(slot) => Self::apply(world, slot)?,
            Step::SendRenewal(slot) => self.send_renewal(world, slot)?,
            Step::RenewalArrives(slot) => self.renewal_arrives(world, slot)?,
            Step::TakeReply(slot) => self.take_reply(world, slot)?,
            Step::GiveUpRenewal(slot) => Self::give_up_renewal(world, slot)?,
            Step::StrayArrives => self.stray_arrives(world)?,
            Step::LookAtHistory(slot) => self.look_at_history(world, slot)?,
            Step::BeginResync(slot) => Self::begin_resync(world, slot)?,
            Step::ScanAgain(slot) => Self::scan_again(world, slot)?,
            Step::EndResync(slot) => self.end_resync(world, slot)?,
            Step::Crash(slot) => Self::crash(world, slot)?,
            Step::BeginBoot(slot) => self.begin_boot(world, slot)?,
            Step::Scan(slot) => Self::scan(world, slot)?,
            Step::EndBoot(slot) => self.end_boot(world, slot)?,
            Step::Fence(slot) => self.fence(world, slot)?,
            Step::Deregister(slot) => self.deregister(world, slot)?,
            Step::BeginWatch(slot) => self.begin_watch(world, slot)?,
            Step::SeeMember(slot, of, life) => self.see_member(world, slot, (of, life))?,
            Step::Judge(slot) => Self::judge(world, slot)?,
            Step::Remove(slot) => self.remove(world, slot)?,
            Step::BeginCheck(slot) => self.begin_check(world, slot)?,
            Step::HoldLease(slot) => self.hold_lease(world, slot)?,
            Step::Decide(slot) => self.decide(world, slot)?,
            Step::BackUp => back_up(world)?,
            Step::Restart => restart(world)?,
            Step::RestartOlder => restart_older(world)?,
            Step::RestartAsOther => restart_as_other(world)?,
        }
        Some(())
    }

    /// A lease matters to Checks alone: where none is sent to, it is left out.
    pub fn is_checked(&self, slot: usize) -> bool {
        self.scenario.checked.contains(&slot)
    }

    /// Each clock goes on at its own rate.
    fn tick(&self, world: &mut World) {
        let rates = world.rates;
        let settled = world.data.settled;
        for (slot, replica) in world.replicas.iter_mut().enumerate() {
            let rate = rates[slot];
            let pass = |left: &mut u8| *left = left.saturating_sub(rate);
            pass(&mut replica.lease);
            pass(&mut replica.unsettled);
            if settled == replica.history.epoch {
                // Somebody has said it: nobody needs to.
                replica.unsettled = 0;
            }
            if let Some(call) = &mut replica.call {
                pass(&mut call.left);
            }
            if let Some(watch) = &mut replica.watch {
                pass(&mut watch.left);
            }
            if let Some(check) = &mut replica.check
                && let CheckStage::Loaded { left } = &mut check.stage
            {
                pass(left);
            }
            if let Some(renewal) = &mut replica.renewal
                && self.is_checked(slot)
            {
                renewal.age = LEASE.min(renewal.age + rate);
                let is_answered = matches!(renewal.stage, RenewalStage::Answered { .. });
                // It lengthens nothing any more.
                if is_answered && renewal.age == LEASE && !self.is(Variant::LeaseFromReply) {
                    replica.renewal = None;
                }
            }
        }
    }

    fn first_world(&self, rates: [u8; SLOTS]) -> World {
        let data = Data::new(1, 1, self.scenario.log);
        let replicas = self.scenario.roles.map(|role| replica(role, &data));
        World {
            server: 1,
            data,
            backup: None,
            replicas,
            rates,
            due: 0,
            answered: data.head(),
            excused: 0,
            unheard: None,
            stray: None,
            left: self.scenario.budget,
            is_broken: false,
        }
    }
}

impl Model for Fleet {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        let rates = self.scenario.rates.iter();
        rates.map(|&rates| self.first_world(rates)).collect()
    }

    fn actions(&self, _: &World, steps: &mut Vec<Step>) {
        steps.extend_from_slice(&self.steps);
    }

    fn next_state(&self, world: &World, step: Step) -> Option<World> {
        if world.is_broken {
            return None;
        }
        let mut next = *world;
        self.take(&mut next, step)?;
        (next != *world).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![Property::always(GUARANTEE, |_, world: &World| {
            !world.is_broken
        })]
    }
}

/// If a tightening call answered OK at t, no Check that begins after t allows on an older state.
pub const GUARANTEE: &str = "no ALLOW on a state older than what was answered";

/// How long to wait until no lease is left that began before; a mutant forgets that clocks drift.
pub fn longest_lease(shortened: bool) -> u8 {
    if shortened { LEASE } else { LONGEST_LEASE }
}

fn replica(role: Role, data: &Data) -> Replica {
    let runs = !matches!(role, Role::Nobody | Role::Joins | Role::JoinsAndWrites);
    let nothing = Record {
        revision: 0,
        denied: true,
    };
    Replica {
        phase: if runs { Phase::Running } else { Phase::Off },
        is_mute: role == Role::Writes,
        life: 0,
        history: data.history,
        known: if runs { data.head() } else { 0 },
        peak: if runs { data.head() } else { 0 },
        record: if runs { data.record() } else { nothing },
        applied: if runs { data.head() } else { 0 },
        fetched: None,
        resync: None,
        lease: 0,
        renewal: None,
        has_joined: false,
        unsettled: 0,
        watch: None,
        check: None,
        call: None,
    }
}

fn back_up(world: &mut World) -> Option<()> {
    (world.left.older > 0 && world.backup.is_none()).then(|| world.backup = Some(world.data))
}

fn restart(world: &mut World) -> Option<()> {
    world.left.restarts = world.left.restarts.checked_sub(1)?;
    world.server += 1;
    Some(())
}

fn restart_older(world: &mut World) -> Option<()> {
    world.left.older = world.left.older.checked_sub(1)?;
    world.data = world.backup.take()?;
    lose(world);
    Some(())
}

fn restart_as_other(world: &mut World) -> Option<()> {
    world.left.others = world.left.others.checked_sub(1)?;
    world.data = Data::new(2, world.server + 1, &[Kind::Allow]);
    lose(world);
    Some(())
}

fn lose(world: &mut World) {
    world.server += 1;
    let committed = world.replicas.iter().filter_map(|it| it.call?.committed);
    let lost = committed.map(|(_, floor)| floor).max().unwrap_or(0);
    world.excused = world.due.max(lost);
}

/// Every step that the scenario has room for. Whether it can be taken is the step's own affair.
fn steps(scenario: &Scenario, variant: Variant) -> Vec<Step> {
    let budget = scenario.budget;
    let mut steps = vec![Step::Tick];
    let mut add = |wanted: bool, more: &[Step]| {
        if wanted {
            steps.extend_from_slice(more);
        }
    };
    for (slot, role) in scenario.roles.into_iter().enumerate() {
        let joins = matches!(role, Role::Joins | Role::JoinsAndWrites);
        let writes = matches!(role, Role::Writes | Role::Both | Role::JoinsAndWrites);
        let answers = joins || matches!(role, Role::Answers | Role::Both);
        add(
            writes,
            &[
                Step::Call(slot, Kind::Deny),
                Step::Commit(slot),
                Step::ReadRoll(slot),
                Step::Answer(slot),
            ],
        );
        add(
            writes && budget.grants > 0,
            &[Step::Call(slot, Kind::Allow)],
        );
        add(
            writes && budget.lost_answers > 0,
            &[Step::CommitUnheard(slot), Step::Repeat(slot)],
        );
        add(
            answers,
            &[
                Step::Fetch(slot),
                Step::Apply(slot),
                Step::SendRenewal(slot),
                Step::RenewalArrives(slot),
                Step::TakeReply(slot),
            ],
        );
        add(answers && budget.strays > 0, &[Step::GiveUpRenewal(slot)]);
        let breaks = budget.restarts + budget.older + budget.others > 0;
        add(breaks && (answers || writes), &[Step::LookAtHistory(slot)]);
        add(
            answers && (budget.resyncs > 0 || breaks),
            &[
                Step::BeginResync(slot),
                Step::ScanAgain(slot),
                Step::EndResync(slot),
            ],
        );
        add(answers && budget.crashes > 0, &[Step::Crash(slot)]);
        add(
            answers && (budget.crashes > 0 || joins),
            &[Step::BeginBoot(slot), Step::Scan(slot), Step::EndBoot(slot)],
        );
        add(
            answers && budget.leaves > 0,
            &[Step::Fence(slot), Step::Deregister(slot)],
        );
        if scenario.reapers.contains(&slot) {
            add(
                variant == Variant::SilenceFromBeforeTheRoll,
                &[Step::BeginWatch(slot)],
            );
            add(
                variant == Variant::RemovalUnconditional,
                &[Step::Judge(slot)],
            );
            add(true, &[Step::SeeMember(slot, 1, 0), Step::Remove(slot)]);
        }
        if scenario.checked.contains(&slot) {
            add(
                true,
                &[
                    Step::BeginCheck(slot),
                    Step::HoldLease(slot),
                    Step::Decide(slot),
                ],
            );
        }
    }
    add(budget.strays > 0, &[Step::StrayArrives]);
    add(budget.restarts > 0, &[Step::Restart]);
    add(budget.older > 0, &[Step::BackUp, Step::RestartOlder]);
    add(budget.others > 0, &[Step::RestartAsOther]);
    steps
}

/// Where a store goes on from what `known` says, as `fleet::shared::history::judge` has it.
pub fn goes_on(store: u8, known: u8, data: &Data) -> bool {
    let epoch = crate::state::epoch_of(known);
    let shared = if epoch >= data.history.epoch {
        data.head()
    } else {
        data.opened_after(epoch + 1)
    };
    data.history.store == store && (known < revision(1, 0) || shared >= known)
}

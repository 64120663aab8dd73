//! Apply order and check order, in every order that memory lets threads see them.
//!
//! Loom needs atomics of its own, so the few lines that matter are repeated here, each under the name of what it stands for.
//! The record itself is a relaxed atomic, which promises less than the map that it stands for: all order comes from what is
//! around it.
//!
//! That the clock is read after the lease and not before is not among the reversals: both come before the record, and either
//! order keeps the guarantee, as the model of the fleet has it.

use loom::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

/// The state before a tightening change, and after it.
const OLD: u64 = 1;
const NEW: u64 = 2;
/// What the clock says, unless a test moves it.
const NOW: u64 = 10;
/// A deadline that lies ahead.
const AHEAD: u64 = 20;

const BROKEN: &str = "allowed on an older state";

/// What the threads of a replica share.
struct Replica {
    /// `gate::keyring`: the key's entry in the map.
    record: AtomicU64,
    /// `gate::keyring`: `Shared::applied`.
    applied: AtomicU64,
    /// `gate::lease::Lease`.
    deadline: AtomicU64,
    /// `gate::clock`.
    clock: AtomicU64,
    /// The replica's entry in the members' table: what it acknowledged, and 0 if it is no member.
    member: AtomicU64,
}

/// How a test is broken.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    Right,
    /// Apply: `applied` before the record.
    AppliedFirst,
    /// Apply: the lease before the record.
    LeaseFirst,
    /// Apply: the acknowledgement before the record.
    AcknowledgedFirst,
    /// Check: the record before the lease.
    RecordFirst,
    /// Check: a clock that was read before the Check began.
    ClockFirst,
    /// Leave: out of the members before the lease is fenced.
    DeregisteredFirst,
    /// Leave: fenced only while a renewal is still under way.
    FencedOnce,
}

impl Replica {
    fn new(deadline: u64) -> Arc<Self> {
        Arc::new(Self {
            record: AtomicU64::new(OLD),
            applied: AtomicU64::new(OLD),
            deadline: AtomicU64::new(deadline),
            clock: AtomicU64::new(NOW),
            member: AtomicU64::new(OLD),
        })
    }

    /// `KeyringWriter::apply`: `place`, then `announce`.
    fn apply(&self, order: Order) {
        if order == Order::AppliedFirst {
            self.applied.store(NEW, Ordering::Release);
        }
        self.record.store(NEW, Ordering::Relaxed);
        self.applied.store(NEW, Ordering::Release);
    }

    /// The renewing, when it has seen `applied`: the renewal acknowledges it, and extends the lease if it reaches the head.
    fn renew(&self, order: Order) {
        let applied = self.applied.load(Ordering::Acquire);
        if applied >= NEW || order == Order::AcknowledgedFirst {
            self.member.store(NEW, Ordering::Release);
        }
        if applied >= NEW || order == Order::LeaseFirst {
            self.extend();
        }
    }

    /// `Lease::extend`.
    fn extend(&self) {
        self.deadline.fetch_max(AHEAD, Ordering::SeqCst);
    }

    /// `Lease::fence`.
    fn fence(&self) {
        self.deadline.store(0, Ordering::SeqCst);
    }

    /// `Checker::check`: `hold_lease`, then `look`. It begins when the change is in force everywhere, so it must not allow on the
    /// old state.
    fn check(&self, order: Order, clock_before: u64) {
        let read_first = self.record.load(Ordering::Relaxed);
        // `hold_lease`.
        let deadline = self.deadline.load(Ordering::SeqCst);
        let now = if order == Order::ClockFirst {
            clock_before
        } else {
            self.clock.load(Ordering::Acquire)
        };
        if now >= deadline {
            return;
        }
        // `look`.
        let record = if order == Order::RecordFirst {
            read_first
        } else {
            self.record.load(Ordering::Relaxed)
        };
        assert!(record == NEW, "{BROKEN}");
    }
}

/// The change was answered when this replica's lease had run out. It comes back: whoever finds its lease good finds the change.
fn comes_back(order: Order) {
    loom::model(move || {
        let replica = Replica::new(0);
        let follower = replica.clone();
        let follower = thread::spawn(move || follower.apply(order));
        let renewer = replica.clone();
        let renewer = thread::spawn(move || renewer.renew(order));
        replica.check(order, NOW);
        follower.join().expect("it applies");
        renewer.join().expect("it renews");
    });
}

/// The lease holds throughout, and the change is answered once the replica has acknowledged it.
fn acknowledges(order: Order) {
    loom::model(move || {
        let replica = Replica::new(AHEAD);
        let follower = replica.clone();
        let follower = thread::spawn(move || follower.apply(order));
        let renewer = replica.clone();
        let renewer = thread::spawn(move || renewer.renew(order));
        if replica.member.load(Ordering::Acquire) >= NEW {
            replica.check(order, NOW);
        }
        follower.join().expect("it applies");
        renewer.join().expect("it renews");
    });
}

/// The replica hears nothing, and the change is answered once its lease must have run out.
fn is_cut_off(order: Order) {
    loom::model(move || {
        let replica = Replica::new(AHEAD);
        let time = replica.clone();
        let time = thread::spawn(move || time.clock.store(AHEAD, Ordering::Release));
        let clock_before = replica.clock.load(Ordering::Acquire);
        if replica.clock.load(Ordering::Acquire) >= AHEAD {
            replica.check(order, clock_before);
        }
        time.join().expect("it passes");
    });
}

/// The replica leaves while a renewal is under way, and the change is answered once it is no member.
fn leaves(order: Order) {
    loom::model(move || {
        let replica = Replica::new(AHEAD);
        let renewer = replica.clone();
        let renewer = thread::spawn(move || renewer.extend());
        let leaver = replica.clone();
        let leaver = thread::spawn(move || {
            if order == Order::DeregisteredFirst {
                leaver.member.store(0, Ordering::Release);
            }
            // `Member::leave`.
            leaver.fence();
            renewer.join().expect("it ends");
            if order != Order::FencedOnce {
                leaver.fence();
            }
            leaver.member.store(0, Ordering::Release);
        });
        if replica.member.load(Ordering::Acquire) == 0 {
            replica.check(order, NOW);
        }
        leaver.join().expect("it leaves");
    });
}

#[test]
fn a_lease_that_came_back_finds_the_change_in_force() {
    comes_back(Order::Right);
}

#[test]
fn what_is_acknowledged_is_in_force() {
    acknowledges(Order::Right);
}

#[test]
fn nothing_is_allowed_once_every_lease_has_ended() {
    is_cut_off(Order::Right);
}

#[test]
fn who_has_left_allows_nothing() {
    leaves(Order::Right);
}

#[test]
#[should_panic(expected = "allowed on an older state")]
fn a_lease_extended_before_the_record_is_caught() {
    comes_back(Order::LeaseFirst);
}

#[test]
#[should_panic(expected = "allowed on an older state")]
fn applied_before_the_record_is_caught_at_the_lease() {
    comes_back(Order::AppliedFirst);
}

#[test]
#[should_panic(expected = "allowed on an older state")]
fn a_record_read_before_the_lease_is_caught() {
    comes_back(Order::RecordFirst);
}

#[test]
#[should_panic(expected = "allowed on an older state")]
fn applied_before_the_record_is_caught_at_the_acknowledgement() {
    acknowledges(Order::AppliedFirst);
}

#[test]
#[should_panic(expected = "allowed on an older state")]
fn an_acknowledgement_before_the_record_is_caught() {
    acknowledges(Order::AcknowledgedFirst);
}

#[test]
#[should_panic(expected = "allowed on an older state")]
fn a_clock_read_before_the_check_is_caught() {
    is_cut_off(Order::ClockFirst);
}

#[test]
#[should_panic(expected = "allowed on an older state")]
fn deregistering_before_fencing_is_caught() {
    leaves(Order::DeregisteredFirst);
}

#[test]
#[should_panic(expected = "allowed on an older state")]
fn a_renewal_that_ends_after_the_fence_is_caught() {
    leaves(Order::FencedOnce);
}

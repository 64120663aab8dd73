use super::{holds, is_caught, scenario::*};

macro_rules! holds {
    ($($name:ident: $scenario:ident, $deep:ident;)*) => {$(
        #[test]
        fn $name() {
            holds($scenario, $deep, Variant::Correct);
        }
    )*};
}

holds! {
    the_guarantee_holds_at_the_barrier: BARRIER, BARRIER_DEEP;
    the_guarantee_holds_with_two_that_watch: REAPERS, REAPERS_DEEP;
    the_guarantee_holds_among_peers: PEERS, PEERS_DEEP;
    the_guarantee_holds_with_two_writers: WRITERS, WRITERS_DEEP;
    the_guarantee_holds_with_a_stale_writer: STALE_WRITER, STALE_WRITER;
    the_guarantee_holds_through_a_replicas_life: LIFE, LIFE_DEEP;
    the_guarantee_holds_with_gaps_in_the_log: GAPS, GAPS;
    the_guarantee_holds_with_one_that_joins: OVERLAP, OVERLAP;
    the_guarantee_holds_across_epochs: EPOCHS, EPOCHS_DEEP;
    the_guarantee_holds_for_who_knew_what_redis_lost: LOSSES, LOSSES_DEEP;
    the_guarantee_holds_when_the_store_is_replaced: REPLACED, REPLACED;
}

#[test]
fn the_clock_may_be_read_before_the_lease() {
    holds(BARRIER, BARRIER, Variant::ClockBeforeLease);
}

macro_rules! caught {
    ($($name:ident: $scenario:ident, $variant:ident;)*) => {$(
        #[test]
        fn $name() {
            is_caught($scenario, Variant::$variant);
        }
    )*};
}

// What the replica does.
caught! {
    a_lease_counted_from_the_reply_is_caught: BARRIER, LeaseFromReply;
    a_record_read_before_the_lease_is_caught: BARRIER, RecordBeforeLease;
    an_acknowledgement_before_it_is_applied_is_caught: BARRIER, AcknowledgedBeforeApplied;
    a_lease_that_ignores_the_head_is_caught: BARRIER, HeadIgnored;
    a_boot_without_the_log_is_caught: LIFE, BootWithoutLog;
    a_resync_without_the_log_is_caught: LIFE, ResyncWithoutLog;
    a_resync_swapped_in_behind_is_caught: LIFE, ResyncSwappedInBehind;
    leaving_before_fencing_is_caught: LIFE, LeftBeforeFenced;
    a_renewal_that_ends_after_the_fence_is_caught: LIFE, RenewedAfterFenced;
}

// What the writer does.
caught! {
    members_read_before_the_commit_are_caught: BARRIER, MembersBeforeCommit;
    a_wait_counted_from_the_call_is_caught: BARRIER, WaitFromCall;
    a_wait_without_drift_is_caught: BARRIER, WaitWithoutDrift;
    an_answer_without_a_wait_is_caught: BARRIER, AnswerUnsettled;
    a_predecessors_acknowledgement_is_caught: OVERLAP, AcknowledgedByName;
    a_repetition_without_a_barrier_is_caught: WRITERS, RepetitionUnsettled;
    nothing_to_do_without_a_barrier_is_caught: WRITERS, NothingToDoUnsettled;
    nothing_to_do_that_the_store_was_not_asked_about_is_caught: STALE_WRITER, NothingToDoUnasked;
}

// Who is missed.
caught! {
    a_removal_without_a_condition_is_caught: BARRIER, RemovalUnconditional;
    a_removal_without_drift_is_caught: BARRIER, RemovalEarly;
    a_silence_counted_from_before_the_roll_is_caught: BARRIER, SilenceFromBeforeTheRoll;
    a_count_that_begins_again_is_caught: REAPERS, CounterFromTheTable;
    a_removed_one_that_is_not_entered_again_is_caught: BARRIER, RemovedIsNotEnteredAgain;
}

// What Redis does.
caught! {
    acknowledgements_right_after_an_opening_are_caught: EPOCHS, AcknowledgementsAfterOpening;
    one_that_joins_and_settles_at_once_is_caught: EPOCHS, SettledByAJoiner;
    settling_without_drift_is_caught: EPOCHS, SettledWithoutDrift;
    another_store_adopted_silently_is_caught: REPLACED, AdoptedSilently;
    lost_changes_adopted_silently_are_caught: LOSSES, AdoptedSilently;
    a_commit_that_is_forgotten_is_caught: LOSSES, CommitForgotten;
}

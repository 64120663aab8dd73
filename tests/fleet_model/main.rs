//! The fleet's protocol, looked at in every order that its steps can come in.
//!
//! `PORTCULLIS_MODEL=deep` looks further: with more of what can happen, for minutes.

mod check;
mod model;
mod replica;
mod scenario;
mod state;
mod writer;

use std::{sync::atomic::Ordering, time::Instant};

use stateright::{Checker, HasDiscoveries, Model};

use crate::{
    model::{Fleet, GUARANTEE},
    scenario::{Scenario, Variant},
};

/// Looks at every world that can be reached, and asserts that none breaks the guarantee.
#[track_caller]
fn holds(scenario: Scenario, deep: Scenario, variant: Variant) {
    let is_deep = std::env::var("PORTCULLIS_MODEL").is_ok_and(|it| it == "deep");
    let scenario = if is_deep { deep } else { scenario };
    let fleet = Fleet::new(scenario, variant);
    let sights = fleet.sights();
    let began = Instant::now();
    let checker = fleet.checker().spawn_bfs().join();
    println!(
        "{}, {variant:?}: {} worlds, {} steps, {:.1} s",
        scenario.name,
        checker.unique_state_count(),
        checker.state_count(),
        began.elapsed().as_secs_f64()
    );
    checker.assert_properties();
    let seen = sights.load(Ordering::Relaxed);
    for &sight in scenario.sights {
        assert!(
            seen & 1 << sight as u32 != 0,
            "{}: {sight:?} never happens",
            scenario.name
        );
    }
}

/// Asserts that the search finds how a fleet that is broken in this way breaks the guarantee.
#[track_caller]
fn is_caught(scenario: Scenario, variant: Variant) {
    let fleet = Fleet::new(scenario, variant);
    let checker = fleet
        .checker()
        .finish_when(HasDiscoveries::Any)
        .spawn_bfs()
        .join();
    let found = checker.discovery(GUARANTEE);
    println!(
        "{}, {variant:?}: {} worlds, {:?}",
        scenario.name,
        checker.unique_state_count(),
        found.as_ref().map(|path| path.clone().into_actions())
    );
    assert!(
        found.is_some(),
        "{variant:?} in {} is not caught",
        scenario.name
    );
}

mod tests;

//! What a member does beside: it looks for others that are gone, and notes how far it has come itself. Neither may hold up
//! a renewal, which is what others wait for.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior},
};

use super::{
    Parts,
    mark::Mark,
    silence::Silence,
    spans::{longest_lease, renewal_interval},
};
use crate::domain::id::Revision;

/// How long the store may take for an answer.
const LIMIT: Duration = Duration::from_secs(1);
/// How often it is noted how far this replica has come, at the most.
const NOTE_EVERY: Duration = Duration::from_secs(1);
/// How often the server's memory is looked at.
const MEMORY_EVERY: Duration = Duration::from_secs(30);
/// From so many thousandths of it on operators are warned.
const ALARM: u64 = 700;

/// Looks until it is told to stop.
pub(super) async fn look(parts: Arc<Parts>, mut stop: watch::Receiver<bool>) {
    let mut ticks = tokio::time::interval(renewal_interval(parts.length));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut silence = Silence::default();
    let mut looked = None;
    loop {
        tokio::select! {
            _ = stop.wait_for(|&stop| stop) => return,
            _ = ticks.tick() => {}
        }
        look_for_silent(&parts, &mut silence).await;
        if looked.is_none_or(|at: Instant| at.elapsed() >= MEMORY_EVERY) {
            looked = Some(Instant::now());
            look_at_memory(&parts).await;
        }
    }
}

/// Notes how far this replica has come, every second in which it has come further, and when it is told to stop.
pub(super) async fn note(
    parts: Arc<Parts>,
    mut applied: watch::Receiver<Revision>,
    mut mark: Mark,
    mut stop: watch::Receiver<bool>,
) {
    loop {
        let at = *applied.borrow_and_update();
        if let Err(error) = mark.note(&parts.id, at).await {
            tracing::warn!(error = %error, "how far this replica has come could not be noted");
        }
        if *stop.borrow_and_update() && *applied.borrow() == at {
            return;
        }
        let more = async {
            tokio::time::sleep(NOTE_EVERY).await;
            applied.changed().await.is_ok()
        };
        tokio::select! {
            told = stop.wait_for(|&stop| stop) => if told.is_err() { return },
            more = more => if !more { return },
        }
    }
}

/// Takes out the members that have been silent for longer than any lease can last.
async fn look_for_silent(parts: &Parts, silence: &mut Silence) {
    // While this replica cannot renew, nobody can, perhaps, and a silence means nothing.
    let troubles = || parts.troubles.load(Ordering::SeqCst);
    let before = silence.troubles;
    silence.troubles = troubles();
    if before != silence.troubles {
        silence.forget();
    }
    let Ok(Ok(roll)) = tokio::time::timeout(LIMIT, parts.store.roll()).await else {
        silence.forget();
        return;
    };
    // The clock is read after the members: a silence is never counted longer than it is.
    let silent = silence.look(&roll.members, Instant::now(), longest_lease(parts.length));
    if silence.troubles != troubles() {
        return;
    }
    for (incarnation, renewals) in silent {
        let removed = parts.store.remove(&incarnation, renewals);
        if let Ok(Ok(true)) = tokio::time::timeout(LIMIT, removed).await {
            let is_it = |member: &&crate::store::shared::Member| member.incarnation == incarnation;
            let name = roll.members.iter().find(is_it).map(|member| &*member.name);
            tracing::warn!(
                replica = name.unwrap_or_default(),
                "a replica has been silent for longer than any lease; nobody waits for it any more"
            );
        }
    }
}

/// Warns before the server's memory is full: then nothing can be created or enabled any more, though revoking goes on.
async fn look_at_memory(parts: &Parts) {
    let Ok(Ok(fullness)) = tokio::time::timeout(LIMIT, parts.store.fullness()).await else {
        return;
    };
    let before = parts
        .fullness
        .swap(fullness.unwrap_or(0), Ordering::Relaxed);
    let Some(now) = fullness else { return };
    if now >= ALARM && before < ALARM {
        tracing::warn!(
            used_percent = now / 10,
            "the store's memory is filling up; when it is full no key can be created or enabled. Raise Redis's maxmemory"
        );
    }
}

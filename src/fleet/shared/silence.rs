//! Which members have been silent for so long that they hold no lease any more.

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;

use crate::store::shared::Member;

/// Since when each member has not renewed, as this replica saw it.
#[derive(Default)]
pub(super) struct Silence {
    /// By incarnation: its renewals, and when they were first seen to be so many.
    seen: HashMap<String, (u64, Instant)>,
    /// How many renewals of its own had failed at the last look.
    pub(super) troubles: u64,
}

impl Silence {
    /// Takes a look at the members, and answers those, with their renewals, that have not renewed for longer than `limit`.
    pub(super) fn look(
        &mut self,
        members: &[Member],
        now: Instant,
        limit: Duration,
    ) -> Vec<(String, u64)> {
        let mut silent = Vec::new();
        let mut seen = HashMap::with_capacity(members.len());
        for member in members {
            let since = match self.seen.get(&member.incarnation) {
                Some(&(renewals, since)) if renewals == member.renewals => since,
                _ => now,
            };
            if now.duration_since(since) > limit {
                silent.push((member.incarnation.clone(), member.renewals));
            }
            seen.insert(member.incarnation.clone(), (member.renewals, since));
        }
        self.seen = seen;
        silent
    }

    /// Begins anew. While the store is not to be had nobody can renew, so a silence during it means nothing.
    pub(super) fn forget(&mut self) {
        self.seen.clear();
    }
}

#[cfg(test)]
mod tests;

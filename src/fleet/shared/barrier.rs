//! When a change is in force on every replica.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    Parts,
    history::{Verdict, judge},
    spans::longest_lease,
};
use crate::{
    domain::id::Revision,
    fleet::{NotFleetWide, Settled, SettledBy},
    store::shared::{Member, Roll},
};

/// How often the members are looked at while a change is waited for. Whoever acknowledges tells the writer, so this is for
/// what is lost on the way, and for calls that wait for another writer's change.
const LOOK: Duration = Duration::from_millis(50);
/// How long one look may take.
const LOOK_LIMIT: Duration = Duration::from_secs(1);

pub(super) struct Barrier {
    parts: Arc<Parts>,
    /// Until when acknowledgements do not count: this replica was not among the members, so others may be missing, too.
    distrusted_until: Mutex<Option<Instant>>,
}

/// What one look at the members tells of a change.
enum Look {
    /// So many have acknowledged it, and there is nobody else.
    Settled(usize),
    /// These have not, by name.
    Waiting(Vec<String>),
    /// The store does not hold it any more.
    Lost,
}

impl Barrier {
    pub(super) const fn new(parts: Arc<Parts>) -> Self {
        Self {
            parts,
            distrusted_until: Mutex::new(None),
        }
    }

    /// Waits for everyone who may hold a lease.
    ///
    /// The members are read after the change was committed, which is before this is called. Whoever is not among them holds no
    /// lease, or renews later and then gets one only with the change applied.
    pub(super) async fn settle(
        &self,
        revision: Revision,
        until: Option<Instant>,
    ) -> Result<Settled, NotFleetWide> {
        // Every lease that does without the change was renewed before it was committed, and so before now.
        let lease_end = Instant::now() + longest_lease(self.parts.length);
        let end = until.map_or(lease_end, |until| until.min(lease_end));
        let mut told = self.parts.store.acknowledgements();
        let mut waiting_for = Vec::new();
        loop {
            told.mark_unchanged();
            let limit = end.min(Instant::now() + LOOK_LIMIT);
            // A store that is not to be had changes nothing: leases end by themselves.
            if let Ok(Ok(roll)) = tokio::time::timeout_at(limit, self.parts.store.roll()).await {
                match self.judge(revision, &roll) {
                    Look::Settled(count) => {
                        return Ok(Settled {
                            revision,
                            by: SettledBy::Acknowledgements(count),
                        });
                    }
                    Look::Waiting(names) => waiting_for = names,
                    Look::Lost => {
                        return Err(NotFleetWide {
                            revision,
                            waiting_for: vec!["a store that holds the change".to_owned()],
                        });
                    }
                }
            }
            let now = Instant::now();
            if now >= lease_end {
                return Ok(Settled {
                    revision,
                    by: SettledBy::LeaseEnd,
                });
            }
            if now >= end {
                if waiting_for.is_empty() {
                    waiting_for.push("the store, which does not answer".to_owned());
                }
                return Err(NotFleetWide {
                    revision,
                    waiting_for,
                });
            }
            let look = end.min(now + LOOK);
            // A store that tells nothing any more is looked at all the same.
            let _ = tokio::time::timeout_at(look, told.changed()).await;
        }
    }

    fn judge(&self, revision: Revision, Roll { standing, members }: &Roll) -> Look {
        match judge(&self.parts.id, revision, standing) {
            // Not what is asked for: a caller may ask for a revision that nobody ever wrote.
            Verdict::GoesOn(_) => self.parts.hear(standing.head),
            Verdict::Lost(_) => return Look::Lost,
            // Its members are those of before, and nobody may have a lease extended until the epoch is opened.
            Verdict::Restarted => return Look::Waiting(vec!["the store's next epoch".to_owned()]),
        }
        // Right after an epoch was opened there may be leases of before whose holders are not among the members.
        if !standing.settled {
            return Look::Waiting(vec!["leases of before the store's restart".to_owned()]);
        }
        let is_own = |member: &Member| member.incarnation == self.parts.store.own().1;
        let mut distrusted_until = self
            .distrusted_until
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if !members.iter().any(is_own) {
            *distrusted_until = Some(Instant::now() + longest_lease(self.parts.length));
        }
        if distrusted_until.is_some_and(|until| Instant::now() < until) {
            return Look::Waiting(vec![
                "replicas that may be missing among the members".to_owned(),
            ]);
        }
        let late = members.iter().filter(|member| member.applied < revision);
        let late: Vec<String> = late.map(|member| member.name.clone()).collect();
        if late.is_empty() {
            Look::Settled(members.len())
        } else {
            Look::Waiting(late)
        }
    }
}

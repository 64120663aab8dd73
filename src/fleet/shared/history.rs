//! Whether a store that stands otherwise than it was left is still the one that this replica knows.

use crate::{
    domain::id::Revision,
    store::shared::{History, Standing},
};

/// What a replica makes of where its store stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It goes on from what is known here, in this history.
    GoesOn(History),
    /// It goes on, but its server was restarted, and nobody has opened the next epoch.
    Restarted,
    /// It does not hold what is known here: nothing may be decided on what it says.
    Lost(Lost),
}

/// Why a store is not the one that is known here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    /// It is another store.
    #[error(
        "it is another store: {found}, where {known} is known; name that one's address, or take an empty data directory"
    )]
    Other {
        /// Its id.
        found: String,
        /// The id of the store that is known here.
        known: String,
    },
    /// It lacks what was acknowledged.
    #[error(
        "it has lost changes: it stands at {found}, and revision {known} was in force here; put its data back as they were at \
         {known} or later"
    )]
    Behind {
        /// The last revision that it shares with what is known here, at most.
        found: Revision,
        /// The revision that is known here.
        known: Revision,
    },
}

/// Judges where the store `store` stands, when everything up to `known` was in force here.
pub(super) fn judge(store: &str, known: Revision, found: &Standing) -> Verdict {
    if found.history.store != store {
        return Verdict::Lost(Lost::Other {
            found: found.history.store.clone(),
            known: store.to_owned(),
        });
    }
    if let Some(shared) = end_of_shared(known, found)
        && shared < known
    {
        return Verdict::Lost(Lost::Behind {
            found: shared,
            known,
        });
    }
    if found.server == found.history.server {
        Verdict::GoesOn(found.history.clone())
    } else {
        Verdict::Restarted
    }
}

/// The last revision of the epoch of `known` that the store's history holds; `None`: a replica that knows nothing loses nothing.
fn end_of_shared(known: Revision, found: &Standing) -> Option<Revision> {
    if known == Revision::default() {
        return None;
    }
    if known.epoch >= found.history.epoch {
        return Some(found.head);
    }
    // An epoch that nobody noted the end of shares nothing.
    let after = found.opened_after.get(&(known.epoch + 1)).copied();
    Some(
        after
            .filter(|after| after.epoch == known.epoch)
            .unwrap_or_default(),
    )
}

/// How many changes lie between a revision and the head.
pub(super) fn distance(from: Revision, standing: &Standing) -> u64 {
    let mut changes = 0;
    let mut at = from;
    while at.epoch < standing.head.epoch {
        let end = standing.opened_after.get(&(at.epoch + 1));
        changes += end.map_or(0, |end| end.number.saturating_sub(at.number));
        at = Revision {
            epoch: at.epoch + 1,
            number: 0,
        };
    }
    changes + standing.head.number.saturating_sub(at.number)
}

#[cfg(test)]
mod tests;

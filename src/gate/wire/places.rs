//! How many connections there may be.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The places of one listener.
#[derive(Debug)]
pub(super) struct Places {
    taken: AtomicU64,
    most: u64,
}

/// The place of one connection, free again when this is dropped.
#[derive(Debug)]
pub struct Place(Arc<Places>);

impl Places {
    pub(super) fn new(most: u64, share: u64) -> Self {
        // No limit is as good as a large one.
        let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        Self {
            taken: AtomicU64::new(0),
            most: most.min((files / 64).saturating_mul(share)).max(1),
        }
    }

    pub(super) fn take(places: &Arc<Self>) -> Option<Place> {
        let taken = places
            .taken
            .try_update(Ordering::Relaxed, Ordering::Relaxed, |taken| {
                (taken < places.most).then_some(taken + 1)
            });
        taken.is_ok().then(|| Place(places.clone()))
    }

    pub(super) fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Lets this process open as many files as it ever may. The usual 1,024 are for programs that use `select`; each connection
/// is one.
pub fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    // Where it cannot be raised, there are as many places as the limit leaves.
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(error = %error, "the limit on open files could not be raised");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_free_again_when_its_connection_is_gone() {
        let places = Arc::new(Places::new(2, 64));
        let first = Places::take(&places).expect("a place");
        let _second = Places::take(&places).expect("a place");
        assert!(Places::take(&places).is_none(), "the third is refused");
        assert_eq!(places.taken(), 2, "and takes none");
        drop(first);
        assert!(Places::take(&places).is_some());
    }
}

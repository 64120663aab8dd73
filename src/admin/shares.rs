//! Bounds on what one call may cost others: so many at once in the process, and so many for each caller.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use super::Failure;

/// So many calls of a kind may be open at once.
pub(super) struct Shares {
    what: &'static str,
    most: usize,
    each: usize,
    taken: Mutex<HashMap<String, usize>>,
}

/// One of them, until it is dropped.
pub(super) struct Share {
    of: Arc<Shares>,
    caller: String,
}

impl Shares {
    /// At most `most` in the process, and `each` for a caller.
    pub(super) fn new(what: &'static str, most: usize, each: usize) -> Arc<Self> {
        Arc::new(Self {
            what,
            most,
            each,
            taken: Mutex::default(),
        })
    }

    /// Takes one for a caller.
    ///
    /// # Errors
    /// [`Failure::Limit`] if there are too many.
    pub(super) fn take(self: &Arc<Self>, caller: &str) -> Result<Share, Failure> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let own = taken.get(caller).copied().unwrap_or_default();
        if own >= self.each || taken.values().sum::<usize>() >= self.most {
            return Err(Failure::Limit(self.what));
        }
        taken.insert(caller.to_owned(), own + 1);
        Ok(Share {
            of: self.clone(),
            caller: caller.to_owned(),
        })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut taken = self.of.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = taken.get_mut(&self.caller) {
            *own -= 1;
            if *own == 0 {
                taken.remove(&self.caller);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_has_its_share_and_no_more_and_gives_it_back() {
        let shares = Shares::new("too many", 3, 2);
        let one = shares.take("a").unwrap();
        let _two = shares.take("a").unwrap();
        assert!(shares.take("a").is_err(), "its own share is used up");
        let _three = shares.take("b").unwrap();
        assert!(shares.take("c").is_err(), "all are used up");
        drop(one);
        let _four = shares.take("c").unwrap();
        assert!(shares.take("a").is_err());
        assert_eq!(shares.taken.lock().unwrap().len(), 3);
    }
}

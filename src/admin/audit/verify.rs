//! Verifies a chain of events, whether they come from the store or from a file.

use crate::domain::{
    chain::{Chain, ChainHead},
    id::Revision,
};

/// What a verification found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// How many events were verified: those before the broken link, or all.
    pub events: u64,
    /// The chain's head behind them.
    pub head: ChainHead,
    /// The first broken link, if there is one.
    pub broken: Option<Broken>,
}

/// Where a chain is broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// The first event that does not fit, or that is missing at the end.
    pub at: Revision,
    /// What is wrong.
    pub why: String,
}

/// The anchor lies ahead of the last event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ahead {
    /// Where the anchor lies.
    pub revision: Revision,
}

/// A verification on its way from the first event to the last.
#[derive(Debug)]
pub struct Verifier {
    chain: Chain,
    events: u64,
    /// The head that was kept elsewhere, until the chain has reached it.
    anchor: Option<ChainHead>,
}

impl Verifier {
    /// Begins before the first event.
    #[must_use]
    pub fn new(anchor: Option<ChainHead>) -> Self {
        Self {
            chain: Chain::new(),
            events: 0,
            // The place before the first event is reached already.
            anchor: anchor.filter(|anchor| *anchor != ChainHead::START),
        }
    }

    /// Takes the next event, whose digest was found to be its own. After a broken link nothing more may come.
    ///
    /// # Errors
    /// If it is not the next one, or the chain is another than the anchor's.
    pub fn link(&mut self, revision: Revision, digest: &[u8; 32]) -> Result<(), Broken> {
        let mut chain = self.chain.clone();
        chain.link(revision, digest).map_err(|broken| Broken {
            at: revision,
            why: broken.to_string(),
        })?;
        if let Some(anchor) = self.anchor
            && anchor.revision <= revision
        {
            if anchor.revision < revision {
                return Err(Broken {
                    at: anchor.revision,
                    why: format!(
                        "the anchor is of revision {}, which has no event",
                        anchor.revision
                    ),
                });
            }
            if anchor != chain.head() {
                return Err(Broken {
                    at: revision,
                    why: "the chain leads to another hash than the anchor's: an event up to here is not the one that was \
                          anchored"
                        .to_owned(),
                });
            }
            self.anchor = None;
        }
        self.chain = chain;
        self.events += 1;
        Ok(())
    }

    /// Where the chain stands.
    #[must_use]
    pub const fn head(&self) -> ChainHead {
        self.chain.head()
    }

    /// How many events were verified.
    #[must_use]
    pub const fn events(&self) -> u64 {
        self.events
    }

    /// Ends with a broken link.
    #[must_use]
    pub fn broken(self, broken: Broken) -> Verdict {
        Verdict {
            events: self.events,
            head: self.chain.head(),
            broken: Some(broken),
        }
    }

    /// Ends behind the last event.
    ///
    /// # Errors
    /// If the anchor lies ahead of it.
    pub fn finish(self) -> Result<Verdict, Ahead> {
        match self.anchor {
            Some(ChainHead { revision, .. }) if revision > self.chain.head().revision => {
                Err(Ahead { revision })
            }
            // Only one before the first event is left, and no chain has it.
            Some(anchor) => {
                let broken = Broken {
                    at: anchor.revision,
                    why: "the anchor's hash is not the one that every chain begins with".to_owned(),
                };
                Ok(self.broken(broken))
            }
            None => Ok(Verdict {
                events: self.events,
                head: self.chain.head(),
                broken: None,
            }),
        }
    }
}

#[cfg(test)]
mod tests;

//! Verifies an export without Portcullis' store, in constant memory.

use std::io::{self, BufRead, Read as _};

use super::{
    line::{Line, read_json},
    verify::{Ahead, Broken, Verifier},
};
use crate::domain::{
    chain::{BrokenLink, Chain, ChainHead},
    id::Revision,
};

/// The longest line, in bytes: far longer than any event that can be recorded.
const MAX_LINE: u64 = 64 << 20;

/// What is found in an export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileVerdict {
    /// It holds all events up to a head, each is what its digest says, and the chain leads through the anchor, if there was
    /// one. Without an anchor that was kept elsewhere it proves no more than that the file does not contradict itself.
    Whole {
        /// How many events there are.
        events: u64,
        /// The chain's head behind the last.
        head: ChainHead,
    },
    /// Each event is what its digest says, but some are not there, as in an export with a filter, a query or of one
    /// workspace. The chain cannot be verified, nor an anchor: events may have been changed, along with their digests, or
    /// taken out.
    Part {
        /// How many events there are.
        events: u64,
        /// The first that is missing.
        missing: Revision,
    },
    /// All was well up to the last event, but the anchor lies ahead of it.
    EndsBeforeAnchor {
        /// How many events there are.
        events: u64,
        /// The chain's head behind the last.
        head: ChainHead,
    },
    /// Something is wrong.
    Broken {
        /// The first line that is, counted from 1; 0: the anchor itself.
        line: u64,
        /// How many events were well before it.
        events: u64,
        /// The revision, if it could be read.
        at: Option<Revision>,
        /// What is wrong.
        why: String,
    },
}

/// Reads an export in JSON Lines from its beginning to its end, and verifies it.
///
/// # Errors
/// If it cannot be read.
pub fn verify_file(mut input: impl BufRead, anchor: Option<ChainHead>) -> io::Result<FileVerdict> {
    let mut reader = Reader {
        verifier: Verifier::new(anchor),
        part: None,
        events: 0,
    };
    let mut bytes = Vec::new();
    let mut number = 0;
    loop {
        number += 1;
        bytes.clear();
        let read = (&mut input).take(MAX_LINE).read_until(b'\n', &mut bytes)?;
        if read == 0 {
            return Ok(reader.finish());
        }
        if let Err((at, why)) = reader.line(&bytes) {
            return Ok(FileVerdict::Broken {
                line: number,
                events: reader.events,
                at,
                why,
            });
        }
    }
}

struct Reader {
    verifier: Verifier,
    /// From the first gap on: what is missing, and the last event that was there.
    part: Option<Part>,
    events: u64,
}

struct Part {
    missing: Revision,
    last: Revision,
}

type Wrong = (Option<Revision>, String);

impl Reader {
    fn line(&mut self, bytes: &[u8]) -> Result<(), Wrong> {
        let unknown = |why: &str| (None, why.to_owned());
        let Some(line) = bytes.strip_suffix(b"\n") else {
            return Err(unknown("the file ends within this line"));
        };
        let line = std::str::from_utf8(line).map_err(|_| unknown("is no text"))?;
        let Line { record, chain } = read_json(line).map_err(|why| unknown(&why.0))?;
        let revision = record.revision;
        let wrong = |why: String| (Some(revision), why);
        if let Some(chain) = chain
            && chain.revision != revision
        {
            return Err(wrong("its chain is of another revision".to_owned()));
        }
        if let Some(part) = &mut self.part {
            if revision <= part.last {
                return Err(wrong(format!("follows {}, and is not after it", part.last)));
            }
            part.last = revision;
        } else if let Some(missing) = missing_before(self.verifier.head(), revision) {
            self.part = Some(Part {
                missing,
                last: revision,
            });
        } else {
            let linked = self.verifier.link(revision, &record.digest);
            linked.map_err(|Broken { at, why }| (Some(at), why))?;
            if chain.is_some_and(|chain| chain != self.verifier.head()) {
                return Err(wrong(
                    "the chain is not what the events before it and its own digest make".to_owned(),
                ));
            }
        }
        self.events += 1;
        Ok(())
    }

    fn finish(self) -> FileVerdict {
        let Self {
            verifier,
            part,
            events,
        } = self;
        let head = verifier.head();
        let missing = match part {
            Some(part) => Some(part.missing),
            // Every store has a first event.
            None if events == 0 => Some(FIRST),
            None => None,
        };
        if let Some(missing) = missing {
            return FileVerdict::Part { events, missing };
        }
        match verifier.finish() {
            Err(Ahead { .. }) => FileVerdict::EndsBeforeAnchor { events, head },
            Ok(verdict) => match verdict.broken {
                None => FileVerdict::Whole { events, head },
                Some(Broken { at, why }) => FileVerdict::Broken {
                    line: 0,
                    events,
                    at: Some(at),
                    why,
                },
            },
        }
    }
}

const FIRST: Revision = Revision {
    epoch: 1,
    number: 1,
};

/// The event that is due where one of `revision` comes, if that is a later one.
fn missing_before(head: ChainHead, revision: Revision) -> Option<Revision> {
    // Whether a link is due depends on the revisions alone.
    match Chain::after(head).link(revision, &[0; 32]) {
        Err(BrokenLink::Missing { due, .. }) => Some(due),
        Err(BrokenLink::Repeated { .. }) | Ok(()) => None,
    }
}

#[cfg(test)]
mod tests;

//! What stands where, and how revisions are written there.

use crate::domain::id::Revision;

/// The names of a store's keys and channels. They share a hash tag.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    prefix: String,
}

impl Layout {
    pub(super) fn new(namespace: &str) -> Self {
        Self {
            prefix: format!("{{{namespace}:0}}:"),
        }
    }

    /// A hash: the store's id, epoch, head and so on.
    pub(super) fn ctl(&self) -> String {
        self.name("ctl")
    }

    /// A stream of changes; its ids are revisions.
    pub(super) fn log(&self) -> String {
        self.name("log")
    }

    /// A stream of events with the same ids.
    pub(super) fn audit(&self) -> String {
        self.name("audit")
    }

    /// A hash: a workspace to the last change of one of its keys.
    pub(super) fn quiet(&self) -> String {
        self.name("quiet")
    }

    /// A hash: an incarnation to what it reported.
    pub(super) fn members(&self) -> String {
        self.name("members")
    }

    /// A hash: rows to records.
    pub(super) fn bucket(&self, number: u32) -> String {
        self.name(&format!("rec:{number}"))
    }

    /// A text: what is known of a mutation.
    pub(super) fn done(&self, mutation: &[u8; 32]) -> String {
        use std::fmt::Write as _;
        let mut name = self.name("done:");
        for byte in mutation {
            // Writing to a text cannot fail.
            let _ = write!(name, "{byte:02x}");
        }
        name
    }

    /// The channel on which commits are told.
    pub(super) fn hints(&self) -> String {
        self.name("hints")
    }

    /// The channel on which one process is told to look at the members.
    pub(super) fn look(&self, incarnation: &str) -> String {
        self.name(&format!("look:{incarnation}"))
    }

    fn name(&self, rest: &str) -> String {
        format!("{}{rest}", self.prefix)
    }
}

/// The bucket that a row stands in.
pub(super) fn bucket_of(row: &[u8], buckets: u32) -> u32 {
    crc32fast::hash(row) % buckets.max(1)
}

/// The id of a revision's entry in a stream.
pub(super) fn stream_id(revision: Revision) -> String {
    format!("{}-{}", revision.epoch, revision.number)
}

/// The revision whose entry has this id; `None` if it is no revision's.
pub(super) fn revision_of_id(id: &str) -> Option<Revision> {
    let (epoch, number) = id.split_once('-')?;
    let revision = Revision {
        epoch: epoch.parse().ok()?,
        number: number.parse().ok()?,
    };
    revision.is_plausible().then_some(revision)
}

/// A record as it stands in its bucket: behind its revision in text, which scripts compare.
pub(super) fn with_revision(revision: Revision, record: &[u8]) -> Vec<u8> {
    let mut value = format!("{revision} ").into_bytes();
    value.extend_from_slice(record);
    value
}

/// A stored text, and what it begins with.
pub(super) fn split_value(value: &[u8]) -> Option<(&str, &[u8])> {
    let end = value.iter().position(|byte| *byte == b' ')?;
    let prefix = std::str::from_utf8(&value[..end]).ok()?;
    Some((prefix, &value[end + 1..]))
}

#[cfg(test)]
mod tests;

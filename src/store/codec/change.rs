//! Changes in a shared store's log ⇄ stored bytes.

use prost::Message as _;

use super::{
    SCHEMA, decode,
    rows::{decode_row, encode_row},
};
use crate::{
    domain::{Invalid, id::Revision},
    proto::stored,
    store::{Change, RecordId, Stored},
};

/// A change as it stands in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::store) struct Logged {
    /// The revision before it.
    pub(in crate::store) after: Revision,
    /// Its revision.
    pub(in crate::store) revision: Revision,
    /// The incarnation of the process that wrote it.
    pub(in crate::store) writer: String,
    /// By which the writer knows its own commit again.
    pub(in crate::store) commit: [u8; 16],
    /// What was written.
    pub(in crate::store) records: Vec<(RecordId, Stored)>,
}

impl From<Logged> for Change {
    fn from(logged: Logged) -> Self {
        Self {
            after: logged.after,
            revision: logged.revision,
            records: logged.records,
        }
    }
}

/// Encodes a change. Of each record the bytes that are stored; `None`: there is none any more.
pub(in crate::store) fn encode_change(
    after: Revision,
    revision: Revision,
    writer: &str,
    commit: [u8; 16],
    records: &[(RecordId, Option<Vec<u8>>)],
) -> Vec<u8> {
    stored::Change {
        schema: SCHEMA,
        epoch: revision.epoch,
        number: revision.number,
        after_epoch: after.epoch,
        after_number: after.number,
        writer: writer.to_owned(),
        commit: commit.to_vec(),
        records: records
            .iter()
            .map(|(id, record)| stored::Written {
                row: encode_row(id),
                record: record.clone(),
            })
            .collect(),
    }
    .encode_to_vec()
}

/// Decodes what stands in the log at a revision. A record in it that cannot be read is [`Stored::Unreadable`].
///
/// # Errors
/// If it is not known which records changed, or it is not that revision's.
pub(in crate::store) fn decode_change(at: Revision, bytes: &[u8]) -> Result<Logged, Invalid> {
    let stored::Change {
        schema,
        epoch,
        number,
        after_epoch,
        after_number,
        writer,
        commit,
        records,
    } = stored::Change::decode(bytes).map_err(|_| Invalid::new("not a change"))?;
    if schema != SCHEMA {
        return Err(Invalid::owned(format!(
            "schema {schema} is not known to this version"
        )));
    }
    let revision = Revision { epoch, number };
    if revision != at {
        return Err(Invalid::owned(format!("the change of {revision}")));
    }
    let after = Revision {
        epoch: after_epoch,
        number: after_number,
    };
    if after >= revision {
        return Err(Invalid::owned(format!("it comes after {after}")));
    }
    if !is_incarnation(&writer) {
        return Err(Invalid::new("without a writer"));
    }
    let commit = commit
        .try_into()
        .map_err(|_| Invalid::new("without the mark of its commit"))?;
    let records = records
        .into_iter()
        .map(|stored::Written { row, record }| {
            let id = decode_row(&row);
            let stored = match record {
                None => Stored::Gone,
                Some(record) => of_revision(decode(&id, &record, revision), revision),
            };
            (id, stored)
        })
        .collect();
    Ok(Logged {
        after,
        revision,
        writer,
        commit,
        records,
    })
}

/// 32 hexadecimal digits.
pub(in crate::store) fn is_incarnation(text: &str) -> bool {
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    text.len() == 32 && text.bytes().all(is_digit)
}

/// What is read in a place that names the record's revision, too, must be of that one.
pub(in crate::store) fn of_revision(stored: Stored, revision: Revision) -> Stored {
    let own = match &stored {
        Stored::Key(record) => record.revision,
        Stored::Workspace(record) => record.revision,
        Stored::Retired(own) => *own,
        Stored::Unreadable(_) | Stored::Gone => return stored,
    };
    if own == revision {
        stored
    } else {
        Stored::Unreadable(format!("of revision {own} in the place of {revision}"))
    }
}

#[cfg(test)]
mod tests;

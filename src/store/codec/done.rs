//! What is kept of a mutation ⇄ stored bytes.

use prost::Message as _;

use super::{SCHEMA, decode, decode_time, encode_time};
use crate::{
    domain::{
        Invalid,
        id::{KeyId, Revision, WorkspaceId},
        time::Timestamp,
    },
    proto::stored,
    store::{Done, RecordId, Stored},
};

/// Encodes what is kept of a mutation; `record` is the first that it wrote, encoded.
pub(in crate::store) fn encode_done(
    fingerprint: [u8; 32],
    revision: Revision,
    time: Timestamp,
    record: Option<Vec<u8>>,
) -> Vec<u8> {
    stored::Done {
        schema: SCHEMA,
        fingerprint: fingerprint.to_vec(),
        epoch: revision.epoch,
        number: revision.number,
        time: Some(encode_time(time)),
        record,
    }
    .encode_to_vec()
}

/// Decodes what is kept of a mutation, and when it was made. A record in it that cannot be read is
/// [`Stored::Unreadable`].
///
/// # Errors
/// If it is not known what was done, nor when.
pub(in crate::store) fn decode_done(
    bytes: &[u8],
    head: Revision,
) -> Result<(Done, Timestamp), Invalid> {
    let stored::Done {
        schema,
        fingerprint,
        epoch,
        number,
        time,
        record,
    } = stored::Done::decode(bytes).map_err(|_| Invalid::new("not a mutation"))?;
    if schema != SCHEMA {
        return Err(Invalid::owned(format!(
            "schema {schema} is not known to this version"
        )));
    }
    let revision = Revision { epoch, number };
    if revision.epoch == 0 || revision.number == 0 || revision > head {
        return Err(Invalid::owned(format!(
            "{revision} is no revision up to {head}"
        )));
    }
    let fingerprint = fingerprint
        .try_into()
        .map_err(|_| Invalid::new("without a fingerprint"))?;
    let result = record.map_or(Stored::Gone, |record| decode_result(&record, revision));
    let done = Done {
        fingerprint,
        revision,
        result,
    };
    Ok((done, decode_time(time)?))
}

/// Decodes a record under the id that it claims, since nothing else tells.
fn decode_result(bytes: &[u8], revision: Revision) -> Stored {
    let stored = match claimed_id(bytes) {
        Ok(id) => decode(&id, bytes, revision),
        Err(Invalid(why)) => Stored::Unreadable(why.into_owned()),
    };
    match &stored {
        Stored::Key(record) if record.revision == revision => stored,
        Stored::Workspace(record) if record.revision == revision => stored,
        Stored::Retired(own) if *own == revision => stored,
        Stored::Unreadable(_) => stored,
        _ => Stored::Unreadable("of another revision than its mutation".to_owned()),
    }
}

fn claimed_id(bytes: &[u8]) -> Result<RecordId, Invalid> {
    let record = stored::Record::decode(bytes).map_err(|_| Invalid::new("not a record"))?;
    match record.kind {
        Some(stored::record::Kind::Key(key)) => {
            let bits = key
                .key_id
                .try_into()
                .map_err(|_| Invalid::new("a key without an id"))?;
            Ok(RecordId::Key(KeyId::from_bits(u128::from_be_bytes(bits))))
        }
        Some(stored::record::Kind::Workspace(workspace)) => {
            Ok(RecordId::Workspace(WorkspaceId::parse(&workspace.id)?))
        }
        // A tombstone says nothing but that it is one, so any workspace's id does.
        Some(stored::record::Kind::Tombstone(stored::Tombstone {})) => {
            Ok(RecordId::Workspace(WorkspaceId::system()))
        }
        None => Err(Invalid::new("a record of no kind")),
    }
}

#[cfg(test)]
mod tests;

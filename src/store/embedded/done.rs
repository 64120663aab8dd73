//! The mutations that were made, so that none is made twice.

use redb::{ReadableTable, WriteTransaction};

use super::tables::{DONE, DONE_TIMES, failed};
use crate::{
    domain::{Invalid, id::Revision, time::Timestamp},
    store::{Done, Mutation, MutationId, StoreError, codec::done as codec, known_since},
};

/// Expired mutations that a new one takes away. More than one, so that a backlog shrinks; few, so that no commit is slow.
pub(super) const PRUNED: usize = 8;
/// Seconds for which an expired mutation is left where it is: a batch that was decided just before it expired may come after
/// one that was decided just later.
const GRACE: i64 = 3_600;

/// What a mutation did, if it was made within [`RETENTION`] before `now`.
pub(super) fn find(
    known: &impl ReadableTable<&'static [u8; 32], &'static [u8]>,
    id: MutationId,
    now: Timestamp,
    head: Revision,
) -> Result<Option<Done>, StoreError> {
    let Some(bytes) = known.get(&id.0).map_err(failed)? else {
        return Ok(None);
    };
    let (done, time) = codec::decode_done(bytes.value(), head).map_err(|Invalid(why)| {
        StoreError::Failed(format!("what is kept of a mutation cannot be read: {why}"))
    })?;
    let oldest = known_since(now);
    Ok(((time.seconds(), time.nanos()) >= oldest).then_some(done))
}

/// What a mutation did.
pub(super) struct Outcome {
    /// The revision that it made, or that it found.
    pub(super) revision: Revision,
    /// Where the store then stood. Of a mutation that only found something it is later than `revision`.
    pub(super) head: Revision,
    /// When.
    pub(super) time: Timestamp,
    /// The record that it answers.
    pub(super) record: Option<Vec<u8>>,
}

/// Keeps what a mutation did, and drops a few that have expired.
pub(super) fn write(
    transaction: &WriteTransaction,
    mutation: Mutation,
    Outcome {
        revision,
        head,
        time,
        record,
    }: Outcome,
) -> Result<(), StoreError> {
    let Mutation { id, fingerprint } = mutation;
    let mut known = transaction.open_table(DONE).map_err(failed)?;
    let mut times = transaction.open_table(DONE_TIMES).map_err(failed)?;
    let bytes = codec::encode_done(fingerprint, revision, time, record);
    let expired = known.insert(&id.0, &*bytes).map_err(failed)?;
    let expired = expired
        // One that cannot be read was not written over.
        .and_then(|bytes| codec::decode_done(bytes.value(), head).ok())
        .map(|(_, time)| time);
    if let Some(time) = expired {
        let row = (time.seconds(), time.nanos(), &id.0);
        times.remove(row).map_err(failed)?;
    }
    let row = (time.seconds(), time.nanos(), &id.0);
    times.insert(row, ()).map_err(failed)?;

    let (seconds, nanos) = known_since(time);
    let seconds = seconds - GRACE;
    for _ in 0..PRUNED {
        let oldest = times.first().map_err(failed)?;
        let Some((at, of)) = oldest.map(|(row, _)| {
            let (seconds, nanos, id) = row.value();
            ((seconds, nanos), *id)
        }) else {
            break;
        };
        if at >= (seconds, nanos) {
            break;
        }
        times.remove((at.0, at.1, &of)).map_err(failed)?;
        known.remove(&of).map_err(failed)?;
    }
    Ok(())
}

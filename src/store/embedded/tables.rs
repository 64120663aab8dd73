//! What stands in the file: its tables.

use redb::{Database, ReadableTable, TableDefinition};

use crate::{domain::id::Revision, store::StoreError};

/// A kind byte and the id, to an encoded record.
pub(super) const RECORDS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("records");
/// (epoch, number) to an encoded event.
pub(super) const EVENTS: TableDefinition<(u32, u64), &[u8]> = TableDefinition::new("events");
/// A mutation's id to what is kept of it, encoded.
pub(super) const DONE: TableDefinition<&[u8; 32], &[u8]> = TableDefinition::new("done");
/// The mutations by their time (seconds, nanoseconds), so that the oldest can be found. One row for each in `DONE`.
pub(super) const DONE_TIMES: TableDefinition<(i64, u32, &[u8; 32]), ()> =
    TableDefinition::new("done_times");
pub(super) const META: TableDefinition<&str, (u32, u64)> = TableDefinition::new("meta");
/// `META`: (epoch, number) of the last revision.
pub(super) const META_HEAD: &str = "head";
/// `META`: (schema, 0).
const META_SCHEMA: &str = "schema";

/// The layout of these tables that this version writes. Version 1 had no mutations; it is taken on as it is.
const SCHEMA: u32 = 2;

/// Where a store stands that was never written to, in the epoch of a store that has had one history only.
pub(super) const START: Revision = Revision {
    epoch: 1,
    number: 0,
};

/// Makes the tables of a new store, checks those of an old one, adds what an older version's lack, and answers where it
/// stands.
pub(super) fn prepare(database: &Database) -> Result<Revision, StoreError> {
    let transaction = database.begin_write().map_err(failed)?;
    let head = {
        let mut meta = transaction.open_table(META).map_err(failed)?;
        let found = meta
            .get(META_SCHEMA)
            .map_err(failed)?
            .map(|schema| schema.value().0);
        match found {
            None | Some(1) => drop(meta.insert(META_SCHEMA, (SCHEMA, 0)).map_err(failed)?),
            Some(SCHEMA) => {}
            Some(found) => {
                return Err(StoreError::Schema {
                    found,
                    known: SCHEMA,
                });
            }
        }
        transaction.open_table(RECORDS).map_err(failed)?;
        transaction.open_table(DONE).map_err(failed)?;
        transaction.open_table(DONE_TIMES).map_err(failed)?;
        let events = transaction.open_table(EVENTS).map_err(failed)?;
        let head = head(&meta)?;
        check_head(head, &events)?;
        head
    };
    transaction.commit().map_err(failed)?;
    Ok(head)
}

/// Every revision left its event, so the head is the last one's. A head behind it was not written by us, and going on
/// from there would write other changes under the same revisions.
fn check_head(
    head: Revision,
    events: &impl ReadableTable<(u32, u64), &'static [u8]>,
) -> Result<(), StoreError> {
    let last = events.last().map_err(failed)?.map_or(START, |(key, _)| {
        let (epoch, number) = key.value();
        Revision { epoch, number }
    });
    if !head.is_plausible() {
        return Err(StoreError::Failed(format!(
            "it claims to stand at revision {head}, which no store reaches"
        )));
    }
    if last == head {
        return Ok(());
    }
    Err(StoreError::Failed(format!(
        "it stands at revision {head}, but its last event is of {last}; it was changed by something else, or is damaged"
    )))
}

/// The last revision.
pub(super) fn head(
    meta: &impl ReadableTable<&'static str, (u32, u64)>,
) -> Result<Revision, StoreError> {
    let head = meta.get(META_HEAD).map_err(failed)?;
    Ok(head.map_or(START, |head| {
        let (epoch, number) = head.value();
        Revision { epoch, number }
    }))
}

/// What the database says when it fails.
pub(super) fn failed(error: impl Into<redb::Error>) -> StoreError {
    StoreError::Failed(error.into().to_string())
}

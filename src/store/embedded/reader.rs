//! Reading much: in portions, on a thread of its own, as of one transaction.

use std::{
    ops::Bound,
    panic::{self, AssertUnwindSafe},
};

use redb::{ReadOnlyTable, ReadableTable as _};
use tokio::sync::mpsc;

use super::tables::failed;
use crate::{
    domain::id::Revision,
    store::{
        Direction, FoundEvent, Portion, StoreError,
        codec::{self, rows::decode_row},
    },
};

/// Records a portion of a snapshot.
const RECORDS_A_PORTION: usize = 1_024;
/// Events a portion, at most.
const EVENTS_A_PORTION: usize = 512;
/// Bytes of events after which a portion is full, however few they are. An event can tell of a thousand addresses.
const BYTES_A_PORTION: usize = 1 << 20;
/// Portions on their way.
const PORTIONS: usize = 4;

pub(super) type Portions<P> = mpsc::Sender<Result<P, StoreError>>;

/// Runs `read` on a thread of its own, and passes on what it sends; an error comes last.
pub(super) fn stream<P: Send + 'static>(
    read: impl FnOnce(&Portions<P>) -> Result<(), StoreError> + Send + 'static,
) -> mpsc::Receiver<Result<P, StoreError>> {
    let (sender, portions) = mpsc::channel(PORTIONS);
    tokio::task::spawn_blocking(move || {
        // A channel that just ends says "complete".
        if let Err(error) = caught(|| read(&sender)) {
            // A reader that went away wants no error either.
            let _ = sender.blocking_send(Err(error));
        }
    });
    portions
}

/// Runs `read`, and answers an error if it panics: a damaged file can make the database do that.
pub(super) fn caught<T>(read: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    panic::catch_unwind(AssertUnwindSafe(read))
        .unwrap_or_else(|_| Err(StoreError::Failed("reading it panicked".to_owned())))
}

/// Sends all records, until the reader goes away.
pub(super) fn records(
    records: &ReadOnlyTable<&'static [u8], &'static [u8]>,
    head: Revision,
    portions: &Portions<Portion>,
) -> Result<(), StoreError> {
    let mut portion = Vec::with_capacity(RECORDS_A_PORTION);
    for row in records.iter().map_err(failed)? {
        let (key, bytes) = row.map_err(failed)?;
        let id = decode_row(key.value());
        let stored = codec::decode(&id, bytes.value(), head);
        portion.push((id, stored));
        if portion.len() == RECORDS_A_PORTION {
            let full = std::mem::replace(&mut portion, Vec::with_capacity(RECORDS_A_PORTION));
            if portions.blocking_send(Ok(Portion::Records(full))).is_err() {
                return Ok(());
            }
        }
    }
    // The reader may be gone.
    let _ = portions.blocking_send(Ok(Portion::Records(portion)));
    let _ = portions.blocking_send(Ok(Portion::Complete(head)));
    Ok(())
}

/// Sends the events past `after`, until the reader goes away.
pub(super) fn events(
    events: &ReadOnlyTable<(u32, u64), &'static [u8]>,
    after: Option<Revision>,
    direction: Direction,
    portions: &Portions<Vec<FoundEvent>>,
) -> Result<(), StoreError> {
    let end = after.map_or(Bound::Unbounded, |after| {
        Bound::Excluded((after.epoch, after.number))
    });
    let mut rows = match direction {
        Direction::OldestFirst => events.range::<(u32, u64)>((end, Bound::Unbounded)),
        Direction::NewestFirst => events.range::<(u32, u64)>((Bound::Unbounded, end)),
    }
    .map_err(failed)?;
    let mut portion = Vec::new();
    let mut bytes = 0;
    loop {
        let row = match direction {
            Direction::OldestFirst => rows.next(),
            Direction::NewestFirst => rows.next_back(),
        };
        let Some(row) = row else { break };
        let (key, event) = row.map_err(failed)?;
        let (epoch, number) = key.value();
        let event = event.value();
        bytes += event.len();
        portion.push(codec::events::decode_event(
            Revision { epoch, number },
            event,
        ));
        if portion.len() == EVENTS_A_PORTION || bytes >= BYTES_A_PORTION {
            bytes = 0;
            if portions
                .blocking_send(Ok(std::mem::take(&mut portion)))
                .is_err()
            {
                return Ok(());
            }
        }
    }
    let _ = portions.blocking_send(Ok(portion));
    Ok(())
}

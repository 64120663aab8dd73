//! What administration lists and searches: the keys of each workspace in the order of their creation. No Check looks here.
//!
//! A row holds what filters, orders and queries ask of a key, and the texts that only people read. Rows stand in chunks, each
//! sorted and each after the one before it, so that a scan reads memory in order, may stop and go on at any position, and a
//! change moves little.

mod interner;
mod row;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

pub(super) use interner::{Interner, Token};
pub use row::ListPosition;
pub(super) use row::{Letters, Moment, NewRow, Row};

use crate::{
    domain::{
        id::{KeyId, WorkspaceId},
        permission::PermissionSet,
        text::TextMap,
        time::Timestamp,
    },
    store::WorkspaceRecord,
};

/// The rows of a chunk. A chunk is also what a scan reads at one go.
pub(super) const CHUNK: usize = 128;

#[derive(Default)]
pub(super) struct Directory {
    pub(super) workspaces: BTreeMap<WorkspaceId, WorkspaceRecord>,
    /// The ids of these, of the ones that cannot be read, and of those that were deleted: none is used again.
    pub(super) taken: BTreeSet<WorkspaceId>,
    keys: BTreeMap<WorkspaceId, Listing>,
}

/// The keys of one workspace.
#[derive(Default)]
pub(super) struct Listing {
    /// None is empty.
    chunks: Vec<Vec<Row>>,
    /// Where keys stand, or stood, that came before all was settled; in no order.
    unsettled: Vec<ListPosition>,
    /// When the archived ones were archived.
    archived: BTreeMap<KeyId, Timestamp>,
    pub(super) owners: Interner<Arc<str>>,
    pub(super) permissions: Interner<PermissionSet>,
    pub(super) labels: Interner<Arc<TextMap>>,
}

impl Directory {
    pub(super) fn listing(&self, workspace: &WorkspaceId) -> Option<&Listing> {
        self.keys.get(workspace)
    }

    /// Notes that there is a key, to be listed once all is settled.
    pub(super) fn note(&mut self, workspace: &WorkspaceId, position: ListPosition) {
        self.listing_mut(workspace).unsettled.push(position);
    }

    /// Lists a key, in place of what is listed at its position.
    pub(super) fn put(&mut self, workspace: &WorkspaceId, row: NewRow) {
        self.listing_mut(workspace).put(row);
    }

    /// Lists a key no more.
    pub(super) fn remove(&mut self, workspace: &WorkspaceId, position: ListPosition) {
        let Some(listing) = self.keys.get_mut(workspace) else {
            return;
        };
        listing.remove(position);
        if listing.chunks.is_empty() && listing.unsettled.is_empty() {
            self.keys.remove(workspace);
        }
    }

    /// Lists all keys noted so far that there still are, and from now on whatever comes at once. To put a million keys in
    /// order once takes a fraction of the time that it takes to insert each, and their texts then lie in memory in the order
    /// in which they are read.
    pub(super) fn settle(&mut self, row_of: impl Fn(&WorkspaceId, ListPosition) -> Option<NewRow>) {
        for (workspace, listing) in &mut self.keys {
            let mut positions = std::mem::take(&mut listing.unsettled);
            positions.sort_unstable();
            positions.dedup();
            let rows = positions.into_iter();
            for row in rows.filter_map(|position| row_of(workspace, position)) {
                listing.put(row);
            }
            listing.chunks.shrink_to_fit();
        }
        self.keys.retain(|_, listing| !listing.chunks.is_empty());
    }

    fn listing_mut(&mut self, workspace: &WorkspaceId) -> &mut Listing {
        self.keys.entry(workspace.clone()).or_default()
    }
}

impl Listing {
    /// The archived ones, first the ones archived first.
    pub(super) fn archived(&self) -> Vec<KeyId> {
        let mut archived: Vec<_> = self.archived.iter().map(|(id, time)| (time, id)).collect();
        archived.sort_unstable();
        archived.into_iter().map(|(_, id)| *id).collect()
    }

    /// Up to [`CHUNK`] rows after a position, or from the start; none: that was all.
    pub(super) fn rows_after(&self, after: Option<ListPosition>) -> &[Row] {
        let Some(after) = after else {
            return self.chunks.first().map_or(&[], Vec::as_slice);
        };
        let at = self.chunk_of(after).unwrap_or(0);
        let Some(chunk) = self.chunks.get(at) else {
            return &[];
        };
        let rest = &chunk[chunk.partition_point(|row| row.position <= after)..];
        if rest.is_empty() {
            self.chunks.get(at + 1).map_or(&[], Vec::as_slice)
        } else {
            rest
        }
    }

    fn put(&mut self, new: NewRow) {
        let id = new.position().id();
        match new.archive_time {
            Some(time) => self.archived.insert(id, time),
            None => self.archived.remove(&id),
        };
        let row = new.into_row(&mut self.owners, &mut self.permissions, &mut self.labels);
        let at = self.chunk_of(row.position).unwrap_or(0);
        let chunk = self
            .chunks
            .get_mut(at)
            .map_or(&mut [][..], Vec::as_mut_slice);
        match chunk.binary_search_by_key(&row.position, |row| row.position) {
            Ok(place) => {
                let old = std::mem::replace(&mut chunk[place], row);
                self.release(&old);
            }
            Err(_) => self.insert(at, row),
        }
    }

    /// Inserts a row that is not there, into this chunk or one beside it.
    fn insert(&mut self, at: usize, row: Row) {
        let last = self.chunks.len().saturating_sub(1);
        match self.chunks.get_mut(at) {
            None => self.chunks.push(new_chunk([row])),
            Some(chunk) if chunk.len() < CHUNK => {
                let place = chunk.partition_point(|other| other.position < row.position);
                chunk.insert(place, row);
            }
            // Keys are created in order, so what comes last begins a chunk and leaves the one before it full.
            Some(chunk)
                if at == last && chunk.last().is_some_and(|end| end.position < row.position) =>
            {
                self.chunks.push(new_chunk([row]));
            }
            Some(chunk) => {
                let mut upper = new_chunk(chunk.drain(CHUNK / 2..));
                let belongs_above = upper
                    .first()
                    .is_some_and(|first| first.position < row.position);
                let half = if belongs_above { &mut upper } else { chunk };
                let place = half.partition_point(|other| other.position < row.position);
                half.insert(place, row);
                self.chunks.insert(at + 1, upper);
            }
        }
    }

    fn remove(&mut self, position: ListPosition) {
        self.archived.remove(&position.id());
        let Some(at) = self.chunk_of(position) else {
            return;
        };
        let Ok(place) = self.chunks[at].binary_search_by_key(&position, |row| row.position) else {
            return;
        };
        let row = self.chunks[at].remove(place);
        self.release(&row);
        // Small neighbours become one, so that deletions leave no long rows of nearly empty chunks.
        let length = |at: usize| self.chunks.get(at).map(Vec::len);
        let joined = |lower: usize| {
            length(lower)
                .zip(length(lower + 1))
                .is_some_and(|(one, other)| one + other <= CHUNK / 2)
        };
        let lower = [Some(at), at.checked_sub(1)]
            .into_iter()
            .flatten()
            .find(|&lower| joined(lower));
        if self.chunks[at].is_empty() {
            self.chunks.remove(at);
        } else if let Some(lower) = lower {
            let upper = self.chunks.remove(lower + 1);
            self.chunks[lower].extend(upper);
        }
    }

    fn release(&mut self, row: &Row) {
        self.owners.release(row.owner);
        self.permissions.release(row.permissions);
        self.labels.release(row.labels);
    }

    /// The chunk in which a position is, or would be; `None`: there is none.
    fn chunk_of(&self, position: ListPosition) -> Option<usize> {
        let begins_by_then = |chunk: &Vec<Row>| {
            chunk
                .first()
                .is_some_and(|first| first.position <= position)
        };
        let after = self.chunks.partition_point(begins_by_then);
        (!self.chunks.is_empty()).then(|| after.saturating_sub(1))
    }
}

/// A chunk never grows beyond its first allocation.
fn new_chunk(rows: impl IntoIterator<Item = Row>) -> Vec<Row> {
    let mut chunk = Vec::with_capacity(CHUNK);
    chunk.extend(rows);
    chunk
}

#[cfg(test)]
mod tests;

//! Pages of the keys that somebody looks for.

use std::{
    cmp::Reverse,
    time::{Duration, Instant},
};

use super::{
    Found, Keyring, ListPosition,
    directory::{Listing, Moment, Row},
    key_filter::{KeyFilter, RowFilter},
    query::{KeyQuery, Ranker},
};
use crate::domain::{id::WorkspaceId, key::KeyRecord, order::OrderBy};

/// What keys to find, and in what order.
#[derive(Debug, Clone)]
pub struct Search {
    /// Those that pass.
    pub filter: KeyFilter,
    /// Those that it finds; `None`: all.
    pub query: Option<KeyQuery>,
    /// `None`: as well as they fit the query, or, without one, oldest first.
    pub order: Option<OrderBy<KeyOrder>>,
    /// Archived keys, too.
    pub show_archived: bool,
    /// Those of this owner; `None`: all.
    pub owner: Option<String>,
}

impl Search {
    /// True if it ends as soon as a page is full, without a look at all keys: nothing is sought, and the order is the one in
    /// which keys stand.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        // In order or not, a query that nothing fits reads every key.
        self.filter.is_everything()
            && self.query.is_none()
            && self.owner.is_none()
            && self.is_in_order()
    }

    /// True if keys are sought in the order in which they stand, so that the first ones found are the page.
    fn is_in_order(&self) -> bool {
        match self.order {
            None => self.query.is_none(),
            Some(order) => order.field == KeyOrder::CreateTime && !order.descending,
        }
    }
}

/// By what keys can be sorted. Equal ones come oldest first, and those without the time last, in either direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyOrder {
    /// When they were created.
    CreateTime,
    /// When they were last changed.
    UpdateTime,
    /// When they stop working.
    ExpireTime,
    /// Their display names, by code point.
    DisplayName,
}

impl KeyOrder {
    /// The names, for [`OrderBy::parse`].
    pub const FIELDS: &'static [(&'static str, Self)] = &[
        ("create_time", Self::CreateTime),
        ("update_time", Self::UpdateTime),
        ("expire_time", Self::ExpireTime),
        ("display_name", Self::DisplayName),
    ];
}

/// A page of keys.
#[derive(Debug, Default)]
pub struct Page {
    /// The keys, each as it is when the page is put together.
    pub keys: Vec<KeyRecord>,
    /// Where the next page begins; `None`: there is none.
    pub next: Option<Cursor>,
}

/// After which key a page begins: what the search sorts by, as it was then, and the key's position. It stays good when that
/// key changes or goes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor {
    rank: Rank,
    position: ListPosition,
}

/// What a search sorts by, least first. Within one search all are of one kind.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// By position alone.
    Position,
    /// A time or a fit, turned so that the least comes first.
    Number(u128),
    Text(Box<str>),
    TextDown(Reverse<Box<str>>),
}

/// [`Rank`] of a row at hand, to be compared without a copy of its text.
#[derive(Clone, Copy)]
enum RowRank<'r> {
    Position,
    Number(u128),
    Text(&'r str),
    TextDown(&'r str),
}

/// Rows that a search reads before it lets others have the directory.
const MOST_ROWS: usize = 2_048;

/// Rows after which a search looks at the clock, and the longest that it then goes on: how long a row takes is up to who
/// wrote the filter.
const TIMED_ROWS: usize = 16;
const LONGEST_HOLD: Duration = Duration::from_micros(500);

/// Candidates that a search keeps beyond those that it needs before it looks which to drop.
const PRUNE: usize = 512;

impl Keyring {
    /// Finds up to `limit` keys of a workspace after `after`. Takes milliseconds where there are many keys, so it belongs
    /// on a thread that may be blocked.
    ///
    /// From page to page, a key that does not change is there once if it is among those sought, whatever happens to others.
    #[must_use]
    pub fn search(
        &self,
        workspace: &WorkspaceId,
        search: &Search,
        after: Option<&Cursor>,
        limit: usize,
    ) -> Page {
        self.search_until(workspace, search, after, limit, || false)
            .unwrap_or_default()
    }

    /// The same, but `None` if `stop` says so meanwhile. It is asked after every few rows.
    pub fn search_until(
        &self,
        workspace: &WorkspaceId,
        search: &Search,
        after: Option<&Cursor>,
        limit: usize,
        stop: impl Fn() -> bool,
    ) -> Option<Page> {
        let mut scan = Scan::new(search, after, limit);
        // The writer that puts revocations in force needs the directory, too. So it is held for a few rows at a time, for
        // well below a millisecond, and never for the whole search.
        while scan.step(self.directory().listing(workspace)) {
            if stop() {
                return None;
            }
        }
        let (found, more) = scan.finish();
        let next = found.last().cloned().filter(|_| more);
        // A key that went between the two looks is simply not listed; the page is shorter, and not the last.
        let keys = found
            .into_iter()
            .filter_map(|cursor| match self.record(cursor.position.id()) {
                Found::Record(record) => Some(*record),
                Found::Unreadable | Found::Nothing => None,
            })
            .collect();
        Some(Page { keys, next })
    }
}

/// A search under way.
struct Scan<'a> {
    search: &'a Search,
    filter: RowFilter<'a>,
    ranker: Option<Ranker<'a>>,
    after: Option<&'a Cursor>,
    /// Rows after `after`, among them the first so many of all that were read, in no order.
    best: Vec<Cursor>,
    /// One more than asked tells whether there is another page.
    wanted: usize,
    /// So many come before it that it is on no page of this search, nor is what comes after it.
    beyond: Option<Cursor>,
    /// How far the rows are read.
    read: Option<ListPosition>,
}

impl<'a> Scan<'a> {
    fn new(search: &'a Search, after: Option<&'a Cursor>, limit: usize) -> Self {
        let mut scan = Self {
            search,
            filter: search.filter.on_rows(),
            ranker: search.query.as_ref().map(Ranker::new),
            after,
            best: Vec::new(),
            wanted: limit + 1,
            beyond: None,
            read: None,
        };
        if search.is_in_order() {
            scan.read = after.map(|cursor| cursor.position);
        }
        scan
    }

    /// Reads on a little; false: that was all.
    fn step(&mut self, listing: Option<&Listing>) -> bool {
        let Some(listing) = listing else {
            return false;
        };
        let owner = match self
            .search
            .owner
            .as_deref()
            .map(|owner| listing.owners.find(owner))
        {
            // Nothing is theirs now, and what comes later need not be on this page.
            Some(None) => return false,
            Some(owner) => owner,
            None => None,
        };
        self.filter.begin(listing);
        let begun = Instant::now();
        let mut rows_read = 0;
        while rows_read < MOST_ROWS {
            let rows = listing.rows_after(self.read);
            if rows.is_empty() {
                return false;
            }
            for row in rows {
                rows_read += 1;
                if rows_read % TIMED_ROWS == 0 && begun.elapsed() >= LONGEST_HOLD {
                    // This row is the first of the next step.
                    return true;
                }
                self.read = Some(row.position);
                if owner.is_some_and(|owner| row.owner != owner) {
                    continue;
                }
                self.look(listing, row);
                if self.search.is_in_order() && self.best.len() == self.wanted {
                    return false;
                }
            }
            // To fit long texts takes far longer than to filter.
            if self.ranker.is_some() {
                break;
            }
        }
        true
    }

    fn look(&mut self, listing: &Listing, row: &Row) {
        if row.archived && !self.search.show_archived || !self.filter.passes(listing, row) {
            return;
        }
        let fit = match self.ranker.as_mut().map(|ranker| ranker.rank(row)) {
            Some(None) => return,
            Some(fit) => fit,
            None => None,
        };
        let rank = rank(self.search.order, row, fit);
        let place = (rank, row.position);
        if self.after.is_some_and(|after| !is_after(place, after)) {
            return;
        }
        if self
            .beyond
            .as_ref()
            .is_some_and(|beyond| is_after(place, beyond))
        {
            return;
        }
        self.best.push(to_cursor(place));
        // Rarely, so that a row costs little also where each is better than all before.
        if self.best.len() == self.wanted + PRUNE {
            let (_, last, _) = self.best.select_nth_unstable(self.wanted - 1);
            self.beyond = Some(last.clone());
            self.best.truncate(self.wanted);
        }
    }

    /// What was found, in order, and whether there is more.
    fn finish(self) -> (Vec<Cursor>, bool) {
        let mut found = self.best;
        found.sort_unstable();
        let more = found.len() >= self.wanted;
        found.truncate(self.wanted - 1);
        (found, more)
    }
}

fn rank(order: Option<OrderBy<KeyOrder>>, row: &Row, fit: Option<u32>) -> RowRank<'_> {
    let Some(OrderBy { field, descending }) = order else {
        // The best fit first.
        return fit.map_or(RowRank::Position, |fit| RowRank::Number((!fit).into()));
    };
    let moment = match field {
        KeyOrder::CreateTime => row.position.create_time,
        KeyOrder::UpdateTime => row.update_time,
        KeyOrder::ExpireTime => row.expire_time,
        KeyOrder::DisplayName if descending => return RowRank::TextDown(row.display_name()),
        KeyOrder::DisplayName => return RowRank::Text(row.display_name()),
    };
    RowRank::Number(match moment {
        Moment::NONE => u128::MAX,
        // Below the one above: a moment has 96 bits.
        moment if descending => moment.bits() ^ ((1 << 96) - 1),
        moment => moment.bits(),
    })
}

fn is_after((rank, position): (RowRank<'_>, ListPosition), cursor: &Cursor) -> bool {
    let order = match (rank, &cursor.rank) {
        (RowRank::Number(row), Rank::Number(cursor)) => row.cmp(cursor),
        (RowRank::Text(row), Rank::Text(cursor)) => row.cmp(cursor),
        (RowRank::TextDown(row), Rank::TextDown(Reverse(cursor))) => (**cursor).cmp(row),
        // The same search has the same kind of rank; a cursor that somebody made up begins wherever it may.
        _ => std::cmp::Ordering::Equal,
    };
    order.then(position.cmp(&cursor.position)).is_gt()
}

fn to_cursor((rank, position): (RowRank<'_>, ListPosition)) -> Cursor {
    let rank = match rank {
        RowRank::Position => Rank::Position,
        RowRank::Number(number) => Rank::Number(number),
        RowRank::Text(text) => Rank::Text(text.into()),
        RowRank::TextDown(text) => Rank::TextDown(Reverse(text.into())),
    };
    Cursor { rank, position }
}

impl Cursor {
    /// The cursor as page tokens carry it.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.position.to_bytes().to_vec();
        match &self.rank {
            Rank::Position => bytes.push(0),
            Rank::Number(number) => {
                bytes.push(1);
                bytes.extend(number.to_be_bytes());
            }
            Rank::Text(text) => {
                bytes.push(2);
                bytes.extend(text.as_bytes());
            }
            Rank::TextDown(Reverse(text)) => {
                bytes.push(3);
                bytes.extend(text.as_bytes());
            }
        }
        bytes
    }

    /// Reads what [`to_bytes`](Self::to_bytes) wrote; `None` for anything else.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (position, rest) = bytes.split_first_chunk()?;
        let (kind, rest) = rest.split_first()?;
        let text = || Some(std::str::from_utf8(rest).ok()?.into());
        let rank = match kind {
            0 if rest.is_empty() => Rank::Position,
            1 => Rank::Number(u128::from_be_bytes(rest.try_into().ok()?)),
            2 => Rank::Text(text()?),
            3 => Rank::TextDown(Reverse(text()?)),
            _ => return None,
        };
        Some(Self {
            rank,
            position: ListPosition::from_bytes(*position),
        })
    }
}

#[cfg(test)]
mod tests;

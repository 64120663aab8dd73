use proptest::prelude::*;

use super::*;
use crate::{
    domain::key::Key,
    gate::testing::{at, key},
};

fn positions(listing: &Listing) -> Vec<ListPosition> {
    let mut all = Vec::new();
    loop {
        let rows = listing.rows_after(all.last().copied());
        if rows.is_empty() {
            return all;
        }
        assert!(rows.len() <= CHUNK);
        all.extend(rows.iter().map(|row| row.position));
    }
}

fn key_at(time: u64) -> Key {
    Key {
        create_time: at(time),
        ..key()
    }
}

proptest! {
    #[test]
    fn rows_stand_in_order_whatever_comes_and_goes(
        steps in prop::collection::vec((0..1_000u64, prop::bool::weighted(0.4)), 0..2_000),
    ) {
        let mut directory = Directory::default();
        let workspace = WorkspaceId::default_workspace();
        let mut model = std::collections::BTreeMap::new();
        for (time, is_removal) in steps {
            if is_removal {
                // One nearby, if any.
                let near = model.range(time..).next().map(|(time, _)| *time);
                if let Some(position) = near.and_then(|time| model.remove(&time)) {
                    directory.remove(&workspace, position);
                }
            } else {
                let key = model.get(&time).map_or_else(|| key_at(time), |position: &ListPosition| Key {
                    id: position.id(),
                    ..key_at(time)
                });
                directory.put(&workspace, NewRow::of(&key, None));
                model.insert(time, ListPosition::new(key.create_time, key.id));
            }
        }
        let empty = Listing::default();
        let listing = directory.listing(&workspace).unwrap_or(&empty);
        prop_assert!(listing.chunks.iter().all(|chunk| (1..=CHUNK).contains(&chunk.len())));
        prop_assert_eq!(positions(listing), model.values().copied().collect::<Vec<_>>());
        for position in model.values() {
            prop_assert_eq!(ListPosition::from_bytes(position.to_bytes()), *position);
        }
        let in_use = |listing: &Listing| [listing.owners.len(), listing.permissions.len(), listing.labels.len()];
        prop_assert_eq!(in_use(listing), [usize::from(!model.is_empty()); 3]);
        for position in model.into_values() {
            directory.remove(&workspace, position);
        }
        // Nothing is kept of what is gone.
        prop_assert!(directory.listing(&workspace).is_none());
    }

    #[test]
    fn a_moment_is_ordered_like_its_time(a: (i64, u32), b: (i64, u32)) {
        let time = |(seconds, nanos): (i64, u32)| {
            let seconds = seconds.rem_euclid(315_537_897_600) - 62_135_596_800;
            Timestamp::new(seconds, (nanos % 1_000_000_000).cast_signed()).unwrap()
        };
        let (a, b) = (time(a), time(b));
        prop_assert_eq!(Moment::from(a).cmp(&Moment::from(b)), a.cmp(&b));
        prop_assert_eq!(Moment::from(a).bits().cmp(&Moment::from(b).bits()), a.cmp(&b));
        prop_assert!(Moment::from(a) < Moment::NONE);
    }
}

#[test]
fn keys_that_come_in_order_fill_their_chunks() {
    let workspace = WorkspaceId::default_workspace();
    let mut directory = Directory::default();
    let keys: Vec<Key> = (0..500).map(key_at).collect();
    for key in keys.iter().rev().chain(&keys) {
        directory.note(&workspace, ListPosition::new(key.create_time, key.id));
    }
    directory.settle(|_, position| {
        let key = keys.iter().find(|key| key.id == position.id());
        key.map(|key| NewRow::of(key, None))
    });
    for time in 500..1_000 {
        directory.put(&workspace, NewRow::of(&key_at(time), None));
    }
    let listing = directory.listing(&workspace).expect("it has keys");
    let lengths: Vec<usize> = listing.chunks.iter().map(Vec::len).collect();
    assert_eq!(lengths, [128, 128, 128, 128, 128, 128, 128, 104]);
}

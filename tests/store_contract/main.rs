//! What any store guarantees, as checks on the trait alone. Each store runs all of them, and stores with one fault each
//! show that the checks would notice.

mod checks;
mod faulty;
#[path = "../support/mod.rs"]
mod support;

use std::sync::Arc;

use portcullis::{
    domain::id::Revision,
    store::{Store, embedded::EmbeddedStore},
};

/// A place for one store: empty at first.
trait Site: Send + Sync {
    /// Opens the store there, once the one before is dropped.
    fn open(&self) -> Opened;
}

struct Opened {
    store: Arc<dyn Store>,
    /// The encoded events of all revisions, in order.
    events: Box<dyn Fn() -> Events + Send + Sync>,
}

type Events = Vec<(Revision, Vec<u8>)>;

/// The embedded store in a directory of its own.
struct Embedded(tempfile::TempDir);

impl Embedded {
    fn site() -> Arc<dyn Site> {
        Arc::new(Self(tempfile::tempdir().expect("a directory")))
    }
}

impl Site for Embedded {
    fn open(&self) -> Opened {
        let store = EmbeddedStore::open(self.0.path()).expect("the store opens");
        let store = Arc::new(store);
        let events = {
            let store = store.clone();
            Box::new(move || store.events().expect("the events can be read"))
        };
        Opened { store, events }
    }
}

/// Runs every check on a kind of store.
macro_rules! contract {
    ($($check:ident)*) => {
        mod embedded {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $check() {
                    super::checks::$check(super::Embedded::site()).await;
                }
            )*
        }
    };
}

contract! {
    a_new_store_is_empty
    what_is_committed_is_loaded
    revisions_are_dense_from_one
    a_stale_read_set_writes_nothing
    a_batch_is_one_revision_all_or_nothing
    a_deleted_record_is_gone
    every_revision_has_its_event
    no_event_holds_a_secret
    of_concurrent_commits_one_wins
    a_snapshot_is_of_one_revision
    followers_hear_everything_once_in_order
    a_follower_starts_where_it_asked_or_not_at_all
    a_store_lasts
}

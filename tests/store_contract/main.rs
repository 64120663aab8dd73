//! What any store guarantees, as checks on the trait alone. Each store runs all of them, and stores with one fault each
//! show that the checks would notice.

mod checks;
mod faulty;
mod guards;
mod log;
#[path = "../support/mod.rs"]
mod support;

use std::sync::Arc;

use async_trait::async_trait;
use portcullis::{
    config::DEFAULT_LEASE,
    domain::id::Revision,
    store::{
        Store,
        embedded::{EmbeddedStore, FILE_NAME},
        redis::RedisStore,
        shared::SharedStore as _,
    },
};
use redb::{Database, ReadableDatabase as _, TableDefinition};

use self::support::{Missing, RedisServer, redis_settings};

const EVENTS: TableDefinition<(u32, u64), &[u8]> = TableDefinition::new("events");

/// A place for one store: empty at first.
#[async_trait]
trait Site: Send + Sync {
    /// Opens the store there, once the one before is dropped.
    async fn open(&self) -> Arc<dyn Store>;

    /// What stands in the place of an event, while no store is open.
    fn event(&self, at: Revision) -> Vec<u8>;

    /// Puts something else there behind the store's back, while no store is open.
    fn put_event(&self, at: Revision, bytes: &[u8]);
}

/// The embedded store in a directory of its own.
struct Embedded(tempfile::TempDir);

impl Embedded {
    fn site() -> Arc<dyn Site> {
        Arc::new(Self(tempfile::tempdir().expect("a directory")))
    }

    fn database(&self) -> Database {
        Database::open(self.0.path().join(FILE_NAME)).expect("no store is open")
    }
}

#[async_trait]
impl Site for Embedded {
    async fn open(&self) -> Arc<dyn Store> {
        Arc::new(EmbeddedStore::open(self.0.path()).expect("the store opens"))
    }

    fn event(&self, at: Revision) -> Vec<u8> {
        let transaction = self.database().begin_read().expect("a transaction");
        let events = transaction.open_table(EVENTS).expect("the events");
        let event = events.get((at.epoch, at.number)).expect("a look");
        event.expect("the event").value().to_vec()
    }

    fn put_event(&self, at: Revision, bytes: &[u8]) {
        let transaction = self.database().begin_write().expect("a transaction");
        let mut events = transaction.open_table(EVENTS).expect("the events");
        let put = events.insert((at.epoch, at.number), bytes);
        drop(put.expect("an edit"));
        drop(events);
        transaction.commit().expect("a commit");
    }
}

/// A namespace of a Redis of its own.
struct Redis(RedisServer);

impl Redis {
    async fn site() -> Result<Arc<dyn Site>, Missing> {
        let server = RedisServer::start(&[])?;
        let settings = redis_settings(&server);
        let made = RedisStore::make(&settings, "maker", DEFAULT_LEASE).await;
        let (_, is_new) = made.expect("a store can be made");
        assert!(is_new);
        Ok(Arc::new(Self(server)))
    }

    /// The events by their ids.
    fn audit(&self) -> Vec<Entry> {
        let all = self.0.cli(&["XRANGE", AUDIT, "-", "+"]);
        ::redis::from_redis_value(all).expect("a stream")
    }
}

/// A stream's: its id, and its fields.
type Entry = (String, Vec<(String, Vec<u8>)>);

/// The key of the audit log.
const AUDIT: &str = "{portcullis:0}:audit";

#[async_trait]
impl Site for Redis {
    async fn open(&self) -> Arc<dyn Store> {
        let store = RedisStore::connect(&redis_settings(&self.0), "replica").await;
        let store = store.expect("the store opens");
        let standing = store.standing().await.expect("it stands somewhere");
        store.adopt(standing.history);
        Arc::new(store)
    }

    fn event(&self, at: Revision) -> Vec<u8> {
        let id = format!("{}-{}", at.epoch, at.number);
        let mut all = self.audit().into_iter();
        let (_, fields) = all.find(|(found, _)| *found == id).expect("the event");
        fields.into_iter().next().expect("a field").1
    }

    fn put_event(&self, at: Revision, bytes: &[u8]) {
        let changed = format!("{}-{}", at.epoch, at.number);
        let all = self.audit();
        // An entry of a stream cannot be changed.
        self.0.cli(&["DEL", AUDIT]);
        for (id, fields) in all {
            let (name, value) = &fields[0];
            let value = if id == changed { bytes } else { value };
            let words: [&[u8]; 5] = [
                b"XADD",
                AUDIT.as_bytes(),
                id.as_bytes(),
                name.as_bytes(),
                value,
            ];
            self.0.cli(&words);
        }
    }
}

/// Runs every check on each kind of store.
macro_rules! contract {
    ($($group:ident: $($check:ident)*;)*) => {
        mod embedded {
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $check() {
                    super::$group::$check(super::Embedded::site()).await;
                }
            )*)*
        }

        mod redis {
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $check() {
                    if let Ok(site) = super::Redis::site().await {
                        super::$group::$check(site).await;
                    }
                }
            )*)*
        }
    };
}

contract! {
    checks:
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
        a_store_lasts;
    guards:
        a_repeated_mutation_is_answered_as_it_was_and_writes_nothing
        a_mutation_that_was_refused_is_not_known
        a_mutation_that_found_all_as_wanted_is_known_without_a_revision
        of_concurrent_repeats_one_is_written
        a_mutation_is_known_for_a_day_and_no_longer
        a_repeat_is_known_before_anything_else_is_judged
        a_workspace_was_quiet_or_nothing_is_written
        of_concurrent_changes_to_a_quiet_workspace_one_wins
        a_retired_workspace_id_is_never_used_again;
    log:
        events_are_told_from_either_end_without_gaps
        events_are_as_of_one_revision
        a_damaged_event_is_reported_and_the_others_are_told;
}

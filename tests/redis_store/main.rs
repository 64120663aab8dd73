//! What the store on Redis guarantees beside what every store does: against a server that restarts, is emptied, stops, runs
//! out of memory, or holds what nobody of ours wrote.

mod contents;
mod history;
mod limits;
mod lost;
mod members;
mod proxy;
mod start;
#[path = "../support/mod.rs"]
mod support;
mod together;

use std::time::Duration;

use portcullis::{
    config::{DEFAULT_LEASE, RedisAddress, RedisSettings},
    domain::id::Revision,
    store::{
        Change, CommitError, Store as _,
        redis::RedisStore,
        shared::{Report, SharedStore as _, Standing},
    },
};
use redis::Value;
use tokio::sync::mpsc::UnboundedReceiver;

use self::support::{
    Missing, PATIENCE, RedisServer,
    records::{batch, put},
    redis_settings,
};

/// A server with one store on it.
struct Site {
    server: RedisServer,
    settings: RedisSettings,
}

impl Site {
    async fn new(lines: &[&str]) -> Result<Self, Missing> {
        let server = RedisServer::start(lines)?;
        let site = Self {
            settings: redis_settings(&server),
            server,
        };
        let (_, is_new) = RedisStore::make(&site.settings, "maker", DEFAULT_LEASE)
            .await
            .expect("a store can be made");
        assert!(is_new);
        Ok(site)
    }

    /// Opens the store in the history that it is in.
    async fn open(&self, name: &str) -> RedisStore {
        open(&self.settings, name).await
    }

    /// Opens the store by way of a proxy on this port.
    async fn open_by(&self, port: u16) -> RedisStore {
        let settings = RedisSettings {
            address: RedisAddress::Tcp("127.0.0.1".to_owned(), port),
            ..self.settings.clone()
        };
        open(&settings, "by proxy").await
    }

    /// All that stands in the server, as one number.
    fn digest(&self) -> Value {
        self.server.cli(&["DEBUG", "DIGEST"])
    }

    /// A key of the store.
    fn key(name: &str) -> String {
        format!("{{portcullis:0}}:{name}")
    }

    /// The buckets: key, row and value of each record.
    fn rows(&self) -> Vec<(String, Vec<u8>, Vec<u8>)> {
        let keys = self.server.cli(&["KEYS", "{portcullis:0}:rec:*"]);
        let keys: Vec<String> = redis::from_redis_value(keys).expect("keys");
        let mut rows = Vec::new();
        for key in keys {
            let all = self.server.cli(&["HGETALL", &key]);
            let all: Vec<(Vec<u8>, Vec<u8>)> = redis::from_redis_value(all).expect("a hash");
            rows.extend(
                all.into_iter()
                    .map(|(row, value)| (key.clone(), row, value)),
            );
        }
        rows
    }
}

async fn open(settings: &RedisSettings, name: &str) -> RedisStore {
    let store = RedisStore::connect(settings, name)
        .await
        .expect("the store opens");
    let standing = store.standing().await.expect("it stands somewhere");
    store.adopt(standing.history);
    store
}

fn revision(number: u64) -> Revision {
    Revision { epoch: 1, number }
}

/// Writes one key.
async fn write(store: &RedisStore, number: u64, name: &str) -> Result<Revision, CommitError> {
    let one = batch(vec![], vec![put(number, name)], name);
    store.commit(one).await
}

/// The next change that a follower hears of.
async fn next(changes: &mut UnboundedReceiver<Change>) -> Option<Change> {
    let change = tokio::time::timeout(PATIENCE, changes.recv()).await;
    change.expect("a change, or the end")
}

/// A member's first report.
fn report(applied: Revision) -> Report {
    nth_report(applied, 1)
}

fn nth_report(applied: Revision, renewals: u64) -> Report {
    Report {
        applied,
        renewals,
        settled: false,
    }
}

async fn standing(store: &RedisStore) -> Standing {
    store.standing().await.expect("it stands somewhere")
}

/// Asks again until it holds.
async fn eventually<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let asked = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let reached = tokio::time::timeout(PATIENCE, asked).await;
    assert!(reached.is_ok(), "waited {PATIENCE:?} in vain: {what}");
}

#[track_caller]
fn assert_not_written(outcome: &Result<Revision, CommitError>, what: &str) {
    assert!(
        matches!(outcome, Err(CommitError::NotWritten(_))),
        "{what}: {outcome:?}"
    );
}

/// The other tests stand on this: what was acknowledged is there after `kill -9`, on the same port.
#[test]
fn the_server_of_these_tests_keeps_what_it_acknowledged() {
    let Ok(mut server) = RedisServer::start(&["maxmemory-policy noeviction"]) else {
        return;
    };
    let port = server.port();
    server.cli(&["SET", "key", "value"]);
    server.restart();
    assert_eq!(server.port(), port);
    assert_eq!(
        server.cli(&["GET", "key"]),
        Value::BulkString(b"value".to_vec())
    );
}

//! Members without a gate: each follows the store and acknowledges what it was told, as a replica does, but puts nothing in
//! force. They share this process, its threads, and nothing else.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use portcullis::{
    config::{Password, RedisAddress, RedisDurability, RedisSettings},
    domain::id::Revision,
    store::{
        Store as _,
        redis::RedisStore,
        shared::{Report, SharedStore as _},
    },
};
use tokio::{
    task::JoinSet,
    time::{interval, sleep},
};

use crate::harness::PASSWORD;

/// How many connect at once.
const AT_ONCE: usize = 20;
/// How soon a renewal that failed is tried again.
const RETRY: Duration = Duration::from_millis(200);

/// A crowd of members. Dropped, they fall silent.
pub struct Simulated {
    names: Vec<String>,
    counts: Arc<Counts>,
    _tasks: JoinSet<()>,
}

#[derive(Default)]
struct Counts {
    changes: AtomicU64,
    renewals: AtomicU64,
}

impl Simulated {
    /// Starts so many, which are all members when this returns.
    pub async fn start(port: u16, count: usize) -> Self {
        let settings = RedisSettings {
            address: RedisAddress::Tcp("127.0.0.1".to_owned(), port),
            user: Some("portcullis".to_owned()),
            password: Some(Password::new(PASSWORD.to_owned())),
            database: 0,
            namespace: "portcullis".to_owned(),
            durability: RedisDurability::Verify,
        };
        let names: Vec<String> = (1..=count).map(|number| format!("s{number}")).collect();
        let counts = Arc::new(Counts::default());
        let mut tasks = JoinSet::new();
        for some in names.chunks(AT_ONCE) {
            let entered = some.iter().map(|name| Member::enter(&settings, name));
            for member in join_all(entered).await {
                tasks.spawn(member.run(counts.clone()));
            }
        }
        Self {
            names,
            counts,
            _tasks: tasks,
        }
    }

    /// Who they are.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// How often they renewed for each change that they were told: 1, and what the lease takes beside.
    #[expect(clippy::cast_precision_loss, reason = "it is printed")]
    pub fn renewals_a_change(&self) -> f64 {
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed) as f64;
        count(&self.counts.renewals) / count(&self.counts.changes)
    }
}

/// One of them.
struct Member {
    store: RedisStore,
    applied: Revision,
    renewals: u64,
    lease: Duration,
}

impl Member {
    async fn enter(settings: &RedisSettings, name: &str) -> Self {
        let store = RedisStore::connect(settings, name).await;
        let store = store.expect("the store is there");
        let standing = store.standing().await.expect("it stands somewhere");
        store.adopt(standing.history);
        let mut member = Self {
            store,
            applied: standing.head,
            renewals: 0,
            lease: standing.lease,
        };
        member.renew().await;
        member
    }

    /// Until the task is dropped.
    async fn run(mut self, counts: Arc<Counts>) {
        let followed = self.store.follow(self.applied).await;
        let mut changes = followed.expect("the log is there");
        let mut due = interval(self.lease / 5);
        loop {
            tokio::select! {
                change = changes.recv() => {
                    let mut change = Some(change.expect("no change is missed"));
                    // Several at once are acknowledged at once.
                    while let Some(told) = change {
                        assert_eq!(told.after, self.applied, "no change is missed");
                        self.applied = told.revision;
                        counts.changes.fetch_add(1, Ordering::Relaxed);
                        change = changes.try_recv().ok();
                    }
                }
                _ = due.tick() => {}
            }
            self.renew().await;
            counts.renewals.fetch_add(1, Ordering::Relaxed);
        }
    }

    async fn renew(&mut self) {
        loop {
            self.renewals += 1;
            let report = Report {
                applied: self.applied,
                renewals: self.renewals,
                settled: false,
            };
            if self.store.renew(report).await.is_ok() {
                return;
            }
            // As a replica does.
            sleep(RETRY).await;
        }
    }
}

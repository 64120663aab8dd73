//! What a Check costs a member of a fleet, beside the same Check on the embedded store.

use std::{
    hint::black_box,
    path::Path,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use portcullis::{
    config::DEFAULT_LEASE,
    domain::{
        decision::Reason,
        event::{Action, Entity, Event},
        id::{TokenPrefix, WorkspaceId},
        time::Timestamp,
        workspace::Workspace,
    },
    fleet::Fleet,
    gate::{
        checker::{Checker, Parts, Question},
        clock::{Boottime, SystemClock},
        keyring::{Keyring, KeyringWriter},
        lease::Lease,
        metrics::CheckMetrics,
        verify::VerifyPool,
    },
    store::{Batch, Store, Write, embedded::EmbeddedStore, redis::RedisStore},
};
use tokio::runtime::{Handle, Runtime};

use crate::{
    measuring::{
        Plan, Series, compare,
        fill::fill,
        gate::{Issued, question},
    },
    support::{RedisServer, redis_settings},
};

/// Keys that are there beside the one asked for.
const OTHERS: u64 = 5_000;

/// A keyring that is kept at its store's state, and a gate that decides on it.
struct Kept {
    lease: Arc<Lease>,
    checker: Checker,
    /// Renews the lease, where it has an end.
    _fleet: Arc<Fleet>,
}

/// Prints both, and beside them a second keyring of the embedded store: its distance to the first is chance.
pub fn compare_stores(runtime: &Runtime, is_real: bool) {
    let Ok(redis) = RedisServer::start(&[]) else {
        panic!("there is no redis-server");
    };
    let directory = tempfile::tempdir().expect("a directory");
    let issued = Issued::new();
    let (embedded, shared) = runtime.block_on(stores(directory.path(), &redis, &issued));
    let [first, second] =
        [(); 2].map(|()| runtime.block_on(Kept::alone(&embedded, runtime.handle())));
    let mark = directory.path().join("redis.mark");
    let member = runtime.block_on(Kept::among(shared, &mark, runtime.handle()));
    assert_eq!(first.lease.deadline(), Boottime(u64::MAX));
    assert!(
        member.lease.deadline() < Boottime(u64::MAX),
        "it runs out, unless it is renewed"
    );

    let token = issued.token();
    let held = ["sms.send".to_owned()];
    let asked = question(token.expose(), &held);
    let mut plan = Plan::from_args();
    if is_real {
        plan.rounds = 41;
    }
    compare(
        &plan,
        "Checker::check, a warm key",
        1,
        vec![
            checks("embedded store", &first, &asked, runtime),
            checks("embedded store, again", &second, &asked, runtime),
            checks("member of a fleet", &member, &asked, runtime),
        ],
    );
}

/// Asks it over and over; its lease is renewed meanwhile, by other threads.
fn checks<'a>(
    name: &str,
    kept: &'a Kept,
    asked: &'a Question<'a>,
    runtime: &Runtime,
) -> Series<'a> {
    let proved = runtime.block_on(kept.checker.check(asked));
    assert_eq!(proved.expect("a decision").reason, Reason::Ok);
    Series::of(name, || {
        let check = pin!(kept.checker.check(black_box(asked)));
        let answer = check.poll(&mut Context::from_waker(Waker::noop()));
        assert!(
            matches!(black_box(answer), Poll::Ready(Ok(answer)) if answer.reason == Reason::Ok)
        );
    })
}

/// Both, with the same key and as many others.
async fn stores(
    directory: &Path,
    redis: &RedisServer,
    issued: &Issued,
) -> (EmbeddedStore, RedisStore) {
    let embedded = EmbeddedStore::open(directory).expect("the directory is empty");
    let settings = redis_settings(redis);
    let made = RedisStore::make(&settings, "measured", DEFAULT_LEASE).await;
    let (shared, _) = made.expect("a store can be made");
    for store in [&embedded as &dyn Store, &shared] {
        let workspace = Workspace::new(
            WorkspaceId::default_workspace(),
            TokenPrefix::default(),
            Timestamp::from_unix_nanos(1),
        );
        let batch = Batch {
            reads: Vec::new(),
            quiet: None,
            mutation: None,
            writes: vec![
                Write::Workspace(workspace),
                Write::Key(Box::new(issued.key.clone()), vec![issued.sealed.clone()]),
            ],
            event: Event {
                time: Timestamp::from_unix_nanos(1),
                actor: "local:0".to_owned(),
                team: String::new(),
                action: Action::Create,
                method: "Fill".into(),
                entity: Entity::Store,
                resource: "store".to_owned(),
                changes: Vec::new(),
                source_address: String::new(),
                request_id: String::new(),
            },
        };
        store.commit(batch).await.expect("the store takes it");
        fill(store, OTHERS, OTHERS).await;
    }
    (embedded, shared)
}

impl Kept {
    async fn alone(store: &EmbeddedStore, pool: &Handle) -> Self {
        let (writer, lease) = (KeyringWriter::new(), Arc::new(Lease::unlimited()));
        let (keyring, clock) = (writer.reader(), Arc::new(SystemClock::new()));
        let fleet = Fleet::alone(store, "measured".to_owned(), writer, lease.clone()).await;
        let fleet = Arc::new(fleet.expect("the store can be read"));
        Self::new(fleet, keyring, lease, clock, pool)
    }

    async fn among(store: RedisStore, mark: &Path, pool: &Handle) -> Self {
        let (writer, lease) = (KeyringWriter::new(), Arc::new(Lease::none()));
        let (keyring, clock) = (writer.reader(), Arc::new(SystemClock::new()));
        let (store, mark) = (Arc::new(store), mark.to_owned());
        let fleet = Fleet::among(store, writer, lease.clone(), clock.clone(), mark).await;
        let fleet = Arc::new(fleet.expect("it joins"));
        Self::new(fleet, keyring, lease, clock, pool)
    }

    fn new(
        fleet: Arc<Fleet>,
        keyring: Keyring,
        lease: Arc<Lease>,
        clock: Arc<SystemClock>,
        pool: &Handle,
    ) -> Self {
        let parts = Parts {
            keyring,
            lease: lease.clone(),
            clock,
            verify: Arc::new(VerifyPool::new(pool.clone()).expect("there is randomness")),
            catch_up: fleet.clone(),
        };
        Self {
            lease,
            checker: Checker::new(Arc::new(parts), CheckMetrics::default().recorder()),
            _fleet: fleet,
        }
    }
}

//! The race of the other files would notice: it is run on a fleet that leaves the wait for the others out, and finds the key
//! open after its revocation was committed.
//!
//! The three replicas of this fleet are in the test's own process, as that takes no other binary. Replies reach one of them
//! late, so that it does not depend on luck who wins.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use portcullis::{
    config::{Password, RedisAddress, RedisDurability, RedisSettings},
    domain::{
        decision::Reason,
        id::{KeyId, Revision, TokenPrefix},
        key::Key,
        secret::Secret,
    },
    fleet::{Fleet as Membership, SettledBy},
    gate::{
        checker::{Checker, Credential, Parts, Question},
        clock::SystemClock,
        keyring::KeyringWriter,
        lease::Lease,
        metrics::CheckMetrics,
        verify::VerifyPool,
    },
    store::{RecordId, Store as _, Write, redis::RedisStore},
};
use tempfile::TempDir;
use tokio::runtime::Handle;

use crate::{
    harness::{Fleet, LONG, PASSWORD},
    proxy::Proxy,
    race::{Probe, Race, Seen, late, race},
    support::records,
};

/// By how much replies to the third replica come late.
const DELAY: Duration = Duration::from_millis(150);

/// One replica, without listeners.
struct Replica {
    name: String,
    store: Arc<RedisStore>,
    fleet: Arc<Membership>,
    checker: Checker,
    _dir: TempDir,
}

impl Replica {
    async fn join(name: &str, port: u16) -> Self {
        let settings = RedisSettings {
            address: RedisAddress::Tcp("127.0.0.1".into(), port),
            user: Some("portcullis".into()),
            password: Some(Password::new(PASSWORD.into())),
            database: 0,
            namespace: "portcullis".into(),
            durability: RedisDurability::Verify,
        };
        let store = RedisStore::connect(&settings, name).await;
        let store = Arc::new(store.expect("the store is there"));
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (writer, lease) = (KeyringWriter::new(), Arc::new(Lease::none()));
        let clock = Arc::new(SystemClock::new());
        let keyring = writer.reader();
        let mark = dir.path().join("redis.mark");
        let joined =
            Membership::among(store.clone(), writer, lease.clone(), clock.clone(), mark).await;
        let fleet = Arc::new(joined.unwrap_or_else(|error| panic!("{name}: {error}")));
        let parts = Parts {
            keyring,
            lease,
            clock,
            verify: Arc::new(VerifyPool::new(Handle::current()).expect("randomness")),
            catch_up: fleet.clone(),
        };
        Self {
            name: name.to_owned(),
            store,
            fleet,
            checker: Checker::new(Arc::new(parts), CheckMetrics::default().recorder()),
            _dir: dir,
        }
    }

    fn probe(&self, token: &str) -> Probe {
        let (checker, token) = (self.checker.clone(), token.to_owned());
        Probe::new(&self.name, move || {
            let (checker, token) = (checker.clone(), token.clone());
            async move {
                // An answer from memory is there at once: the other tasks want their turn.
                tokio::task::yield_now().await;
                let question = Question {
                    credential: Credential(&token),
                    workspace: "default",
                    permissions: &[],
                    source: None,
                    settings: &BTreeMap::new(),
                    labels: &[],
                    min_revision: None,
                };
                match checker.check(&question).await {
                    Ok(answer) if answer.reason == Reason::Ok => Seen::Open,
                    Ok(_) => Seen::Shut("denied"),
                    Err(undecided) => Seen::Failed(undecided.to_string()),
                }
            }
        })
    }

    /// Writes a key.
    async fn put(&self, read: Option<Revision>, key: &Key, secret: &Secret) -> Revision {
        let write = Write::Key(Box::new(key.clone()), vec![secret.clone()]);
        let batch = records::batch(vec![(RecordId::Key(key.id), read)], vec![write], "");
        self.store.commit(batch).await.expect("it is committed")
    }
}

/// Disables a key through the first replica while all are asked; `settled` says whether it is waited for the others.
async fn disable(replicas: &[Replica], settled: bool) -> Race<Option<SettledBy>> {
    let key = Key {
        id: KeyId::from_random(&mut |buffer: &mut [u8]| {
            getrandom::fill(buffer).expect("randomness");
        }),
        ..records::key(0, "raced")
    };
    let (generated, secret) = records::issue(&key, 1);
    let token = generated.token(&TokenPrefix::default()).expose().to_owned();
    let made = replicas[0].put(None, &key, &secret).await;
    let probes: Vec<_> = replicas
        .iter()
        .map(|replica| replica.probe(&token))
        .collect();
    race(probes, async {
        let disabled = Key {
            disabled: true,
            ..key
        };
        let revision = replicas[0].put(Some(made), &disabled, &secret).await;
        if !settled {
            return None;
        }
        let settled = replicas[0].fleet.settle(revision, None).await;
        Some(settled.expect("it is in force everywhere").by)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_that_does_not_wait_for_the_others_is_found_out() {
    let Ok(fleet) = Fleet::made(LONG) else {
        return;
    };
    let proxy = Proxy::before(fleet.redis.port()).await;
    let replicas = [
        Replica::join("near 1", fleet.redis.port()).await,
        Replica::join("near 2", fleet.redis.port()).await,
        Replica::join("far", proxy.port()).await,
    ];
    proxy.delay_replies(DELAY);
    for _ in 0..5 {
        let waited = disable(&replicas, true).await;
        assert_eq!(waited.answer, Some(SettledBy::Acknowledgements(3)));
        let took = waited.took;
        assert!(
            took >= DELAY,
            "the far one cannot know of it after {took:?}"
        );
        waited.shut_for("denied");

        let hasty = disable(&replicas, false).await;
        let late = late(hasty.acknowledged, &hasty.sightings);
        let noticed = late.iter().any(|sighting| sighting.replica == "far");
        assert!(noticed, "nothing was noticed: {hasty:?}");
    }
    for replica in &replicas {
        replica.fleet.leave().await;
    }
}

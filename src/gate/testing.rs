//! Keys and parts for the tests of the gate.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use async_trait::async_trait;

use super::{
    catch_up::{CatchUp, NotReached},
    checker::{Checker, Parts},
    clock::{Boottime, Clock, Now},
    keyring::KeyringWriter,
    lease::Lease,
    metrics::CheckMetrics,
    verify::VerifyPool,
};
use crate::{
    domain::{
        id::{KeyId, Revision, TokenPrefix, WorkspaceId},
        key::{Key, KeyRecord},
        permission::PermissionSet,
        secret::{GeneratedSecret, Secret},
        source::IpAllowlist,
        text::TextMap,
        time::Timestamp,
        workspace::Workspace,
    },
    store::{Change, RecordId, Stored, WorkspaceRecord},
};

pub fn random(buffer: &mut [u8]) {
    getrandom::fill(buffer).unwrap();
}

pub fn at(nanos: u64) -> Timestamp {
    Timestamp::from_unix_nanos(nanos)
}

/// An ACTIVE key of the default workspace that may do everything.
pub fn key() -> Key {
    Key {
        id: KeyId::from_random(&mut random),
        workspace: WorkspaceId::default_workspace(),
        display_name: "a key".into(),
        description: "".into(),
        owner: "local:0".into(),
        token_prefix: TokenPrefix::default(),
        disabled: false,
        permissions: PermissionSet::any(),
        ip_allowlist: IpAllowlist::default(),
        labels: TextMap::default(),
        settings: TextMap::default(),
        create_time: at(1),
        update_time: at(1),
        expire_time: None,
        archive_time: None,
    }
}

/// A secret for a key, and what is kept of it.
pub fn issue(key: &Key) -> (GeneratedSecret, Secret) {
    let secret = GeneratedSecret::from_random(key.id, &mut random);
    let sealed = Secret::seal(1, &secret, at(1), &mut random);
    (secret, sealed)
}

pub fn token(secret: &GeneratedSecret) -> String {
    secret.token(&TokenPrefix::default()).expose().to_owned()
}

/// A clock that stands where the test puts it: nanoseconds, the same for both readings.
#[derive(Default)]
pub struct ManualClock(pub AtomicU64);

impl Clock for ManualClock {
    fn now(&self) -> Now {
        let nanos = self.0.load(Ordering::SeqCst);
        Now {
            boottime: Boottime(nanos),
            wall: at(nanos),
        }
    }

    fn follow(&self, _: Timestamp, _: Boottime) {}
}

/// A replica that nothing brings further along.
pub struct StaysBehind;

#[async_trait]
impl CatchUp for StaysBehind {
    async fn reach(&self, _: Revision) -> Result<(), NotReached> {
        Err(NotReached::Behind)
    }
}

/// A gate without listeners.
pub struct Gate {
    pub keyring: KeyringWriter,
    pub lease: Arc<Lease>,
    pub clock: Arc<ManualClock>,
    pub verify: Arc<VerifyPool>,
    pub checker: Checker<ManualClock>,
    pub metrics: CheckMetrics,
    revision: Revision,
}

impl Gate {
    /// An empty one. Must be called within a runtime.
    pub fn new() -> Self {
        Self::with_catch_up(Arc::new(StaysBehind))
    }

    /// An empty one that gets further along by `catch_up`.
    pub fn with_catch_up(catch_up: Arc<dyn CatchUp>) -> Self {
        let keyring = KeyringWriter::new();
        let lease = Arc::new(Lease::unlimited());
        let clock = Arc::new(ManualClock::default());
        let verify = Arc::new(VerifyPool::new(tokio::runtime::Handle::current()).unwrap());
        let metrics = CheckMetrics::default();
        let parts = Parts {
            keyring: keyring.reader(),
            lease: lease.clone(),
            clock: clock.clone(),
            verify: verify.clone(),
            catch_up,
        };
        let checker = Checker::new(Arc::new(parts), metrics.recorder());
        let mut gate = Self {
            keyring,
            lease,
            clock,
            verify,
            checker,
            metrics,
            revision: Revision {
                epoch: 1,
                number: 0,
            },
        };
        for id in ["default", "system", "acme"] {
            let id = WorkspaceId::parse(id).unwrap();
            gate.put_workspace(Workspace::new(id, TokenPrefix::default(), at(1)));
        }
        gate
    }

    /// A workspace in force.
    pub fn put_workspace(&mut self, workspace: Workspace) {
        let record = WorkspaceRecord {
            revision: self.revision.next(),
            workspace,
        };
        self.apply(
            RecordId::Workspace(record.workspace.id.clone()),
            Stored::Workspace(record),
        );
    }

    /// Applies one record as the next revision.
    pub fn apply(&mut self, id: RecordId, stored: Stored) {
        self.apply_all(vec![(id, stored)]);
    }

    /// Applies records as the next revision, in their order.
    pub fn apply_all(&mut self, records: Vec<(RecordId, Stored)>) {
        self.revision = self.next_revision();
        self.keyring.apply(Change {
            after: self.revision,
            revision: self.revision,
            records,
        });
    }

    /// The revision of the next change.
    pub fn next_revision(&self) -> Revision {
        self.revision.next()
    }

    pub fn put(&mut self, key: Key, secrets: Vec<Secret>) {
        let record = KeyRecord {
            revision: self.revision.next(),
            secrets,
            key,
        };
        self.apply(RecordId::Key(record.key.id), Stored::Key(Box::new(record)));
    }

    /// A new key in force, and its token.
    pub fn put_new(&mut self, key: Key) -> String {
        let (secret, sealed) = issue(&key);
        self.put(key, vec![sealed]);
        token(&secret)
    }
}

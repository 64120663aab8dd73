//! A gate without listeners, with keys that are as large as most.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use portcullis::{
    domain::{
        credential::NativeToken,
        id::{KeyId, Revision, TokenPrefix, WorkspaceId},
        key::{Key, KeyRecord},
        permission::PermissionSet,
        secret::{GeneratedSecret, Secret},
        source::IpAllowlist,
        text::TextMap,
        time::Timestamp,
        workspace::Workspace,
    },
    gate::{
        catch_up::{CatchUp, NotReached},
        checker::{Answer, Checker, Credential, Parts, Question},
        clock::SystemClock,
        keyring::KeyringWriter,
        lease::Lease,
        metrics::CheckMetrics,
        verify::VerifyPool,
    },
    store::{RecordId, Stored, WorkspaceRecord},
};
use tokio::runtime::Runtime;

/// The parts of a gate, and the runtimes that `serve` would have.
pub struct Gate {
    pub writer: KeyringWriter,
    pub verify: Arc<VerifyPool>,
    pub checker: Checker,
    /// One thread, as each thread of the gate has it.
    runtime: Runtime,
    /// Where argon2 runs.
    _pool: Runtime,
}

/// Nothing asks for a revision that is not in force.
struct NeverAsked;

#[async_trait::async_trait]
impl CatchUp for NeverAsked {
    async fn reach(&self, _: Revision) -> Result<(), NotReached> {
        Err(NotReached::Behind)
    }
}

/// A key that was just made.
pub struct Issued {
    pub key: Key,
    pub secret: GeneratedSecret,
    pub sealed: Secret,
}

impl Gate {
    /// An empty one.
    pub fn new() -> Self {
        let pool = Runtime::new().expect("threads can be started");
        let mut writer = KeyringWriter::new();
        let workspace = Workspace::new(
            WorkspaceId::default_workspace(),
            TokenPrefix::default(),
            Timestamp::from_unix_nanos(1),
        );
        let record = WorkspaceRecord {
            revision: Revision {
                epoch: 1,
                number: 1,
            },
            workspace,
        };
        writer.place(
            RecordId::Workspace(WorkspaceId::default_workspace()),
            Stored::Workspace(record),
        );
        let verify = Arc::new(VerifyPool::new(pool.handle().clone()).expect("there is randomness"));
        let parts = Parts {
            keyring: writer.reader(),
            lease: Arc::new(Lease::unlimited()),
            clock: Arc::new(SystemClock::new()),
            verify: verify.clone(),
            catch_up: Arc::new(NeverAsked),
        };
        Self {
            writer,
            verify,
            checker: Checker::new(Arc::new(parts), CheckMetrics::default().recorder()),
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime can be made"),
            _pool: pool,
        }
    }

    /// Puts a key in force.
    pub fn put(&mut self, issued: &Issued) {
        self.put_with(issued, issued.sealed.clone());
    }

    /// Puts a key in force with another record of its secret, which makes it one that was never proved.
    pub fn put_with(&mut self, issued: &Issued, sealed: Secret) {
        let id = issued.key.id;
        let record = KeyRecord {
            key: issued.key.clone(),
            secrets: vec![sealed],
            revision: Revision {
                epoch: 1,
                number: 1,
            },
        };
        self.writer
            .place(RecordId::Key(id), Stored::Key(Box::new(record)));
    }

    /// Asks and waits, also for argon2.
    pub fn check(&self, question: &Question<'_>) -> Answer {
        self.runtime
            .block_on(self.checker.check(question))
            .expect("nothing is overloaded")
    }
}

impl Issued {
    /// A key of the default workspace with three permissions, a label and an expiry.
    pub fn new() -> Self {
        let id = random_id();
        let key = Key {
            id,
            workspace: WorkspaceId::default_workspace(),
            display_name: "billing worker, eu-west".into(),
            description: "".into(),
            owner: "workspaces/system/keys/0123456789abcdefghijkl".into(),
            token_prefix: TokenPrefix::default(),
            disabled: false,
            permissions: PermissionSet::new(["otp.send", "sms.read", "sms.send"]),
            ip_allowlist: IpAllowlist::default(),
            labels: [("team", "payments")].into_iter().collect::<TextMap>(),
            settings: TextMap::default(),
            create_time: Timestamp::from_unix_nanos(1),
            update_time: Timestamp::from_unix_nanos(1),
            expire_time: Some(Timestamp::new(253_000_000_000, 0).expect("year 9987")),
            archive_time: None,
        };
        let secret = GeneratedSecret::from_random(id, &mut fill_random);
        let sealed = seal(&secret);
        Self {
            key,
            secret,
            sealed,
        }
    }

    /// Its token.
    pub fn token(&self) -> NativeToken {
        self.secret.token(&self.key.token_prefix)
    }

    /// A well-formed token for this key with another secret: what someone who knows the key's id can make up.
    pub fn wrong_token(&self) -> NativeToken {
        GeneratedSecret::from_random(self.key.id, &mut fill_random).token(&self.key.token_prefix)
    }
}

static NO_SETTINGS: BTreeMap<String, String> = BTreeMap::new();

/// A question for one permission, from a known source.
pub fn question<'a>(credential: &'a str, permissions: &'a [String]) -> Question<'a> {
    Question {
        credential: Credential(credential),
        workspace: "default",
        permissions,
        source: Some(IpAddr::from([10, 0, 99, 7])),
        settings: &NO_SETTINGS,
        labels: &[],
        min_revision: None,
    }
}

/// Puts a secret at rest.
pub fn seal(secret: &GeneratedSecret) -> Secret {
    Secret::seal(1, secret, Timestamp::from_unix_nanos(1), &mut fill_random)
}

pub fn random_id() -> KeyId {
    let mut bits = [0; 16];
    fill_random(&mut bits);
    KeyId::from_bits(u128::from_be_bytes(bits))
}

pub fn fill_random(buffer: &mut [u8]) {
    getrandom::fill(buffer).expect("the system has randomness");
}

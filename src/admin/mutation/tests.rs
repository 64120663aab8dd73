use std::path::Path;

use tonic::{Code, Request, Status};

use super::*;
use crate::{
    admin::{
        bootstrap::{DataDirectory, initialise},
        key_changes::{KeyEdit, Target},
        keys::NewKey,
        workspaces::NewWorkspace,
    },
    domain::{
        id::{TokenPrefix, WorkspaceId},
        key::{Key, Labels},
        name::KeyName,
        permission::PermissionSet,
        source::IpAllowlist,
    },
    gate::{
        checker::{Checker, Parts},
        keyring::{Found, KeyringWriter},
        lease::Lease,
        metrics::CheckMetrics,
        verify::VerifyPool,
    },
    store::{
        Change, Direction, Done, FoundEvent, MutationId, Snapshot, StoreError,
        embedded::EmbeddedStore,
    },
};

/// A store in which something else happens between a decision and its commit, once.
struct Racing {
    inner: EmbeddedStore,
    first: Mutex<Option<Batch>>,
}

#[tonic::async_trait]
impl Store for Racing {
    async fn load(&self) -> Result<Snapshot, StoreError> {
        self.inner.load().await
    }

    async fn commit(&self, batch: Batch) -> Result<Revision, CommitError> {
        let first = self.first.lock().unwrap().take();
        if let Some(first) = first {
            self.inner
                .commit(first)
                .await
                .expect("the other change is made");
        }
        self.inner.commit(batch).await
    }

    async fn follow(
        &self,
        from: Revision,
    ) -> Result<tokio::sync::mpsc::UnboundedReceiver<Change>, StoreError> {
        self.inner.follow(from).await
    }

    async fn done(&self, id: MutationId, now: Timestamp) -> Result<Option<Done>, StoreError> {
        self.inner.done(id, now).await
    }

    async fn events(
        &self,
        after: Option<Revision>,
        direction: Direction,
    ) -> Result<tokio::sync::mpsc::Receiver<Result<Vec<FoundEvent>, StoreError>>, StoreError> {
        self.inner.events(after, direction).await
    }

    fn durability(&self) -> &'static str {
        self.inner.durability()
    }
}

/// Management of a new store, with its root.
struct Scene {
    store: Arc<Racing>,
    management: Management,
    checker: Checker,
    root: Caller,
    _directory: tempfile::TempDir,
}

impl Scene {
    async fn new() -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let directory = DataDirectory::open(&scratch.path().join("data")).unwrap();
        let store = Arc::new(Racing {
            inner: EmbeddedStore::open(directory.path()).unwrap(),
            first: Mutex::default(),
        });
        let clock = Arc::new(SystemClock::new());
        initialise(&*store, &directory, None, clock.now().wall)
            .await
            .unwrap();
        let writer = KeyringWriter::new();
        let keyring = writer.reader();
        let lease = Arc::new(Lease::unlimited());
        let fleet = Fleet::join(&*store, "test".into(), writer, lease.clone())
            .await
            .unwrap();
        let parts = Parts {
            keyring: keyring.clone(),
            lease,
            clock: clock.clone(),
            verify: Arc::new(VerifyPool::new(tokio::runtime::Handle::current()).unwrap()),
        };
        let checker = Checker::new(Arc::new(parts), CheckMetrics::default().recorder());
        let root = caller(&checker, &read_token(&directory.root_token_file())).await;
        Self {
            management: Management::new(store.clone(), keyring, Arc::new(fleet), clock),
            store,
            checker,
            root: root.unwrap(),
            _directory: scratch,
        }
    }

    /// A key made by root.
    async fn create(&self, workspace: &WorkspaceId, permissions: PermissionSet) -> (Key, String) {
        let issued = self
            .management
            .create_key(&self.root, workspace, || Ok(new_key(permissions)))
            .await
            .map_err(Status::from)
            .unwrap();
        let token = issued.secret.token(&issued.record.key.token_prefix);
        (issued.record.key, token.expose().to_owned())
    }

    /// Writes `after` between the next decision and its commit; `None`: the key goes.
    fn before_the_next_commit(&self, key: &Key, after: Option<Key>) {
        let Found::Record(record) = self.management.keyring.record(key.id) else {
            panic!("{} is there", key.id);
        };
        let batch = Batch {
            reads: vec![(RecordId::Key(key.id), Some(record.revision))],
            quiet: None,
            mutation: None,
            writes: vec![match after {
                Some(after) => Write::Key(Box::new(after), record.secrets),
                None => Write::DeleteKey(key.name()),
            }],
            event: Event {
                time: self.management.now(),
                actor: "another".into(),
                team: String::new(),
                action: Action::Update,
                method: "UpdateKey".into(),
                entity: Entity::Key,
                resource: key.name().to_string(),
                changes: Vec::new(),
                source_address: String::new(),
                request_id: String::new(),
            },
        };
        *self.store.first.lock().unwrap() = Some(batch);
    }
}

fn read_token(file: &Path) -> String {
    std::fs::read_to_string(file).unwrap().trim().to_owned()
}

async fn caller(checker: &Checker, token: &str) -> Result<Caller, Status> {
    let mut request = Request::new(());
    let value = format!("Bearer {token}").parse().unwrap();
    request.metadata_mut().insert("authorization", value);
    Caller::of(&request, checker).await.map_err(Status::from)
}

fn new_key(permissions: PermissionSet) -> NewKey {
    NewKey {
        display_name: "new".into(),
        description: String::new(),
        permissions: Some(permissions),
        ip_allowlist: IpAllowlist::default(),
        labels: Labels::default(),
        expire_time: None,
    }
}

/// Every call that changes something.
const CALLS: [&str; 7] = [
    "CreateKey",
    "UpdateKey",
    "EnableKey",
    "DisableKey",
    "ResetSecret",
    "DeleteKey",
    "CreateWorkspace",
];

async fn call(
    scene: &Scene,
    caller: &Caller,
    method: &str,
    active: &KeyName,
    disabled: &KeyName,
) -> Result<(), Status> {
    let management = &scene.management;
    let target = |name| Target { name, etag: "" };
    let result = match method {
        "CreateKey" => management
            .create_key(caller, &WorkspaceId::default_workspace(), || {
                Ok(new_key(PermissionSet::any()))
            })
            .await
            .map(drop),
        "UpdateKey" => {
            let edit = KeyEdit {
                display_name: Some("changed".into()),
                ..KeyEdit::default()
            };
            management
                .update_key(caller, target(active), || Ok(edit))
                .await
                .map(drop)
        }
        "EnableKey" => management
            .enable_key(caller, target(disabled))
            .await
            .map(drop),
        "DisableKey" => management
            .disable_key(caller, target(active))
            .await
            .map(drop),
        "ResetSecret" => management
            .reset_secret(caller, target(active))
            .await
            .map(drop),
        "DeleteKey" => management.delete_key(caller, target(active), true).await,
        "CreateWorkspace" => management
            .create_workspace(caller, &WorkspaceId::parse("mine").unwrap(), || {
                Ok(NewWorkspace {
                    display_name: String::new(),
                    token_prefix: TokenPrefix::default(),
                })
            })
            .await
            .map(drop),
        other => unreachable!("{other} is no call"),
    };
    result.map_err(Status::from)
}

/// A key as someone else leaves it in the race; `None`: deleted.
type Fate = (&'static str, fn(&Key) -> Option<Key>);

/// A credential that is disabled, narrowed, ended or deleted between authentication and commit changes nothing.
#[tokio::test]
async fn a_caller_that_lost_its_authority_meanwhile_changes_nothing() {
    let fates: [Fate; 4] = [
        ("disabled", |key| {
            Some(Key {
                disabled: true,
                ..key.clone()
            })
        }),
        ("narrowed", |key| {
            Some(Key {
                permissions: PermissionSet::new(["*:keys.read"]),
                ..key.clone()
            })
        }),
        ("limited to an address", |key| {
            Some(Key {
                ip_allowlist: IpAllowlist::parse(&["192.0.2.1"]).unwrap(),
                ..key.clone()
            })
        }),
        ("deleted", |_| None),
    ];
    let scene = Scene::new().await;
    let default = WorkspaceId::default_workspace();
    let (active, _) = scene.create(&default, PermissionSet::any()).await;
    let (disabled, _) = scene.create(&default, PermissionSet::any()).await;
    let (active, disabled) = (active.name(), disabled.name());
    let target = Target {
        name: &disabled,
        etag: "",
    };
    scene
        .management
        .disable_key(&scene.root, target)
        .await
        .map_err(Status::from)
        .unwrap();

    for (fate, after) in fates {
        for method in CALLS {
            let what = format!("{method} by a credential that is {fate}");
            let may = PermissionSet::new(["*:keys.write", "*:workspaces.write"]);
            let (key, token) = scene.create(&WorkspaceId::system(), may).await;
            let caller = caller(&scene.checker, &token).await.unwrap();
            let before = scene.management.keyring.applied();
            scene.before_the_next_commit(&key, after(&key));
            let refused = call(&scene, &caller, method, &active, &disabled)
                .await
                .expect_err(&what);
            assert_eq!(refused.code(), Code::Aborted, "{what}: {refused:?}");
            let head = scene.store.load().await.unwrap().revision;
            assert_eq!(head, before.next(), "{what}: only the other change is made");
        }
    }

    // Without the race each of them is made.
    for method in CALLS {
        let may = PermissionSet::new(["*:keys.write", "*:workspaces.write"]);
        let (_, token) = scene.create(&WorkspaceId::system(), may).await;
        let caller = caller(&scene.checker, &token).await.unwrap();
        let before = scene.management.keyring.applied();
        call(&scene, &caller, method, &active, &disabled)
            .await
            .unwrap();
        let head = scene.store.load().await.unwrap().revision;
        assert_eq!(head, before.next(), "{method}");
    }
}

/// What was decided on the target is decided again if the target is another by then.
#[tokio::test]
async fn a_target_that_changed_meanwhile_is_decided_on_again() {
    let scene = Scene::new().await;
    let default = WorkspaceId::default_workspace();
    let (key, _) = scene.create(&default, PermissionSet::new(["a"])).await;
    let other = Key {
        description: "by another".into(),
        ..key.clone()
    };
    scene.before_the_next_commit(&key, Some(other));
    let edit = KeyEdit {
        display_name: Some("by us".into()),
        ..KeyEdit::default()
    };
    let name = key.name();
    let target = Target {
        name: &name,
        etag: "",
    };
    let record = scene
        .management
        .update_key(&scene.root, target, || Ok(edit))
        .await
        .map_err(Status::from)
        .unwrap();
    assert_eq!(&*record.key.display_name, "by us");
    assert_eq!(&*record.key.description, "by another");
}

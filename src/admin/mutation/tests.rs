pub(in crate::admin) mod fleet;

use std::{path::Path, sync::Mutex, time::Duration};

use tokio::sync::watch;
use tonic::{Code, Request, Status};

use super::*;
use crate::{
    admin::{
        audit::{Asked, Parent, export::Form},
        bootstrap::{DataDirectory, initialise},
        caller::Caller,
        key_changes::{KeyEdit, Target},
        keys::NewKey,
        workspaces::{WorkspaceEdit, WorkspaceTarget},
    },
    domain::{
        key::Key, name::KeyName, permission::PermissionSet, source::IpAllowlist, text::TextMap,
    },
    gate::{
        checker::{Checker, Parts},
        clock::SystemClock,
        keyring::{Found, KeyringWriter},
        lease::Lease,
        metrics::CheckMetrics,
        verify::VerifyPool,
    },
    store::{
        Change, Direction, Done, FoundEvent, MutationId, Portion, StoreError,
        embedded::EmbeddedStore,
    },
};

/// A store in which something else happens between a decision and its commit, once, and which can be held up.
struct Racing {
    inner: EmbeddedStore,
    first: Mutex<Option<Batch>>,
    /// While it is true no change arrives at the replica.
    hold_changes: watch::Sender<bool>,
    /// While it is true no commit begins.
    hold_commits: watch::Sender<bool>,
}

#[tonic::async_trait]
impl Store for Racing {
    async fn load(
        &self,
    ) -> Result<tokio::sync::mpsc::Receiver<Result<Portion, StoreError>>, StoreError> {
        self.inner.load().await
    }

    async fn head(&self) -> Result<Revision, StoreError> {
        self.inner.head().await
    }

    async fn commit(&self, batch: Batch) -> Result<Revision, CommitError> {
        let mut held = self.hold_commits.subscribe();
        held.wait_for(|held| !held).await.unwrap();
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
        let mut changes = self.inner.follow(from).await?;
        let (sender, delivered) = tokio::sync::mpsc::unbounded_channel();
        let mut held = self.hold_changes.subscribe();
        tokio::spawn(async move {
            while let Some(change) = changes.recv().await {
                if held.wait_for(|held| !held).await.is_err() || sender.send(change).is_err() {
                    return;
                }
            }
        });
        Ok(delivered)
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
pub(in crate::admin) struct Scene {
    store: Arc<Racing>,
    pub(in crate::admin) management: Arc<Management>,
    pub(in crate::admin) checker: Checker,
    root: Caller,
    pub(in crate::admin) root_token_file: std::path::PathBuf,
    _directory: tempfile::TempDir,
}

impl Scene {
    pub(in crate::admin) async fn new() -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let directory = DataDirectory::open(&scratch.path().join("data")).unwrap();
        let store = Arc::new(Racing {
            inner: EmbeddedStore::open(directory.path()).unwrap(),
            first: Mutex::default(),
            hold_changes: watch::Sender::new(false),
            hold_commits: watch::Sender::new(false),
        });
        let clock = Arc::new(SystemClock::new());
        initialise(&*store, &directory, None, clock.now().wall)
            .await
            .unwrap();
        let writer = KeyringWriter::new();
        let keyring = writer.reader();
        let lease = Arc::new(Lease::unlimited());
        let fleet = Fleet::alone(&*store, "test".into(), writer, lease.clone())
            .await
            .unwrap();
        let fleet = Arc::new(fleet);
        let parts = Parts {
            keyring: keyring.clone(),
            lease,
            clock: clock.clone(),
            verify: Arc::new(VerifyPool::new(tokio::runtime::Handle::current()).unwrap()),
            catch_up: fleet.clone(),
        };
        let checker = Checker::new(Arc::new(parts), CheckMetrics::default().recorder());
        let root = caller(&checker, &read_token(&directory.root_token_file())).await;
        Self {
            management: Arc::new(Management::new(store.clone(), keyring, fleet, clock)),
            root_token_file: directory.root_token_file(),
            store,
            checker,
            root: root.unwrap(),
            _directory: scratch,
        }
    }

    /// A call of root's.
    pub(in crate::admin) fn root(&self, method: &'static str) -> Call {
        Call::new(self.root.clone(), method, String::new(), &[])
    }

    /// A key made by root.
    async fn create(&self, workspace: &WorkspaceId, permissions: PermissionSet) -> (Key, String) {
        let issued = self
            .management
            .create_key(&self.root("CreateKey"), workspace, || {
                Ok(new_key(permissions))
            })
            .await
            .map_err(Status::from)
            .unwrap();
        let (issued, _) = issued.with_laggards();
        let key = issued.view.record.key;
        let token = issued.secret.unwrap().token(&key.token_prefix);
        (key, token.expose().to_owned())
    }

    /// Writes `after` between the next decision and its commit; `None`: the key goes.
    fn before_the_next_commit(&self, key: &Key, after: Option<Key>) {
        *self.store.first.lock().unwrap() = Some(self.by_another(key, after));
    }

    /// A change that another makes to the key as it is known here.
    fn by_another(&self, key: &Key, after: Option<Key>) -> Batch {
        let Found::Record(record) = self.management.keyring.record(key.id) else {
            panic!("{} is there", key.id);
        };
        Batch {
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
        }
    }
}

pub(in crate::admin) fn read_token(file: &Path) -> String {
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
        labels: TextMap::default(),
        settings: TextMap::default(),
        expire_time: None,
    }
}

/// Every call that changes something, in an order in which each finds something to change.
const CALLS: [&str; 11] = [
    "CreateKey",
    "UpdateKey",
    "EnableKey",
    "DisableKey",
    "ResetSecret",
    "EndOverlap",
    "ArchiveKey",
    "DeleteKey",
    "CreateWorkspace",
    "UpdateWorkspace",
    "DeleteWorkspace",
];

async fn call(
    scene: &Scene,
    caller: &Caller,
    method: &'static str,
    targets: &Targets,
    answer_by: Option<tokio::time::Instant>,
) -> Result<(), Status> {
    let management = &scene.management;
    let call = Call::new(caller.clone(), method, String::new(), &[]);
    let call = &call.to_answer_by(answer_by);
    let target = |name| Target { name, etag: "" };
    let active = target(&targets.active);
    let mine = WorkspaceId::parse("mine").unwrap();
    let there = |id| WorkspaceTarget { id, etag: "" };
    let result = match method {
        "CreateKey" => management
            .create_key(call, &WorkspaceId::default_workspace(), || {
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
                .update_key(call, active, || Ok(edit))
                .await
                .map(drop)
        }
        "EnableKey" => management
            .enable_key(call, target(&targets.disabled))
            .await
            .map(drop),
        "DisableKey" => management.disable_key(call, active).await.map(drop),
        "ResetSecret" => management
            .reset_secret(call, active, || Ok(Duration::ZERO))
            .await
            .and_then(|made| made.everywhere().map_err(Failure::from))
            .map(drop),
        "EndOverlap" => management
            .end_overlap(call, target(&targets.overlapping))
            .await
            .map(drop),
        "ArchiveKey" => management.archive_key(call, active).await.map(drop),
        "DeleteKey" => management.delete_key(call, active, true).await,
        "CreateWorkspace" => management
            .create_workspace(call, &mine, || Ok(WorkspaceEdit::default()))
            .await
            .map(drop),
        "UpdateWorkspace" => {
            let edit = WorkspaceEdit {
                display_name: Some("changed".into()),
                ..WorkspaceEdit::default()
            };
            management
                .update_workspace(call, there(&mine), || Ok(edit))
                .await
                .map(drop)
        }
        "DeleteWorkspace" => management.delete_workspace(call, there(&mine)).await,
        other => unreachable!("{other} is no call"),
    };
    result.map_err(Status::from)
}

/// What the calls are about.
struct Targets {
    active: KeyName,
    disabled: KeyName,
    overlapping: KeyName,
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
    let (overlapping, _) = scene.create(&default, PermissionSet::any()).await;
    let targets = Targets {
        active: active.name(),
        disabled: disabled.name(),
        overlapping: overlapping.name(),
    };
    let target = |name| Target { name, etag: "" };
    let management = &scene.management;
    management
        .disable_key(&scene.root("DisableKey"), target(&targets.disabled))
        .await
        .map_err(Status::from)
        .unwrap();
    let hour = || Ok(Duration::from_hours(1));
    let made = management
        .reset_secret(
            &scene.root("ResetSecret"),
            target(&targets.overlapping),
            hour,
        )
        .await;
    made.map_err(Status::from).unwrap().with_laggards();
    let mine = WorkspaceId::parse("mine").unwrap();

    for (fate, after) in fates {
        for method in CALLS {
            let what = format!("{method} by a credential that is {fate}");
            if method == "UpdateWorkspace" && management.keyring.workspace(&mine).is_none() {
                call(&scene, &scene.root, "CreateWorkspace", &targets, None)
                    .await
                    .unwrap();
            }
            if method == "CreateWorkspace" && management.keyring.workspace(&mine).is_some() {
                continue;
            }
            let may = PermissionSet::new(["*:keys.write", "*:workspaces.write"]);
            let (key, token) = scene.create(&WorkspaceId::system(), may).await;
            let caller = caller(&scene.checker, &token).await.unwrap();
            let before = scene.management.keyring.applied();
            scene.before_the_next_commit(&key, after(&key));
            let refused = call(&scene, &caller, method, &targets, None)
                .await
                .expect_err(&what);
            assert_eq!(refused.code(), Code::Aborted, "{what}: {refused:?}");
            let head = scene.store.head().await.unwrap();
            assert_eq!(head, before.next(), "{what}: only the other change is made");
        }
    }
    call(&scene, &scene.root, "DeleteWorkspace", &targets, None)
        .await
        .unwrap();
}

/// Without the race each of them is made.
#[tokio::test]
async fn a_credential_in_force_changes_what_it_may() {
    let scene = Scene::new().await;
    let default = WorkspaceId::default_workspace();
    let (active, _) = scene.create(&default, PermissionSet::any()).await;
    let (disabled, _) = scene.create(&default, PermissionSet::any()).await;
    let targets = Targets {
        active: active.name(),
        disabled: disabled.name(),
        overlapping: disabled.name(),
    };
    let target = |name| Target { name, etag: "" };
    let name = &targets.disabled;
    let hour = || Ok(Duration::from_hours(1));
    let management = &scene.management;
    management
        .disable_key(&scene.root("DisableKey"), target(name))
        .await
        .map_err(Status::from)
        .unwrap();
    let made = management
        .reset_secret(&scene.root("ResetSecret"), target(name), hour)
        .await;
    made.map_err(Status::from).unwrap().with_laggards();
    for method in CALLS {
        let may = PermissionSet::new(["*:keys.write", "*:workspaces.write"]);
        let (_, token) = scene.create(&WorkspaceId::system(), may).await;
        let caller = caller(&scene.checker, &token).await.unwrap();
        let before = scene.management.keyring.applied();
        call(&scene, &caller, method, &targets, None).await.unwrap();
        let head = scene.store.head().await.unwrap();
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
    let view = scene
        .management
        .update_key(&scene.root("UpdateKey"), target, || Ok(edit))
        .await
        .map_err(Status::from)
        .unwrap();
    assert_eq!(&*view.record.key.display_name, "by us");
    assert_eq!(&*view.record.key.description, "by another");
}

/// However slow their clients are: a caller has two exports open, and no more, until one ends.
#[tokio::test]
async fn a_caller_has_only_so_many_exports_open() {
    let scene = Scene::new().await;
    let (_, token) = scene
        .create(&WorkspaceId::system(), PermissionSet::new(["*:audit.read"]))
        .await;
    let other = caller(&scene.checker, &token).await.unwrap();
    let open = |by: &Caller| {
        let now = scene.management.now();
        let asked = || Ok((Asked::read("", "", now)?, Form::JsonLines));
        scene
            .management
            .export_events(by.clone(), Parent::Any, asked)
    };
    let first = open(&scene.root).map_err(Status::from).unwrap();
    let _second = open(&scene.root).map_err(Status::from).unwrap();
    let refused = open(&scene.root).map(drop).map_err(Status::from);
    assert_eq!(refused.unwrap_err().code(), Code::ResourceExhausted);
    assert!(open(&other).is_ok(), "another has a share of its own");
    drop(first);
    assert!(open(&scene.root).is_ok());
}

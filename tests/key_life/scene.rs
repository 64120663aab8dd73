//! The real thing in a process: management and Check on a store in memory, at a time that the test sets.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use portcullis::{
    admin::{
        Failure,
        call::Call as RealCall,
        caller::Caller,
        key_changes::{KeyEdit, Target},
        keys::{Issued, KeyView, NewKey},
        mutation::Management,
        workspaces::{WorkspaceEdit, WorkspaceTarget},
    },
    domain::{
        event::{Action, Entity, Event},
        id::{KeyId, TokenPrefix},
        key::{Key as RealKey, KeyRecord},
        name::KeyName,
        permission::PermissionSet,
        secret::{GeneratedSecret, Secret as RealSecret},
        setting::{Declaration, Declarations, Kind},
        source::IpAllowlist,
        text::TextMap,
        time::Timestamp,
        workspace::{Access, ArchiveLimit, Workspace as RealWorkspace},
    },
    fleet::Fleet,
    gate::{
        checker::{Answer, Checker, Credential, Parts, Question},
        clock::{Boottime, Clock, Now},
        keyring::{Keyring, KeyringWriter},
        lease::Lease,
        metrics::CheckMetrics,
        verify::VerifyPool,
    },
    store::{
        Batch, Direction, EventRecord, FoundEvent, Store, WorkspaceRecord, Write,
        embedded::EmbeddedStore,
    },
};
use redb::backends::InMemoryBackend;
use tonic::{Request, transport::server::TcpConnectInfo};

use crate::{
    calls::{
        Call, End, FIRST_SETTINGS, Fields, Minute, Names, Op, Pairs, SYSTEM, Setting, Takes,
        WorkspaceFields, id,
    },
    model::{Ask, Key, Secret, Workspace, label},
};

/// Tells the time that the test sets.
pub struct ManualClock(AtomicU64);

impl ManualClock {
    pub fn set(&self, now: Minute) {
        self.0.store(now, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Now {
        Now {
            boottime: Boottime(1),
            wall: at(self.0.load(Ordering::SeqCst)),
        }
    }

    fn follow(&self, _: Timestamp, _: Boottime) {}
}

/// The scene's first moment, in seconds.
const START: u64 = 2_000_000_000;

/// A minute of the scene.
pub fn at(minute: Minute) -> Timestamp {
    Timestamp::from_unix_nanos((START + minute * 60) * 1_000_000_000)
}

/// Which minute of the scene a time is.
pub fn minute(time: Timestamp) -> Minute {
    (u64::try_from(time.seconds()).expect("after 1970") - START) / 60
}

/// What a store begins with: a credential of each kind, sealed once for all scenes.
pub struct Beginning {
    pub keys: Vec<Key>,
    pub tokens: Vec<String>,
    sealed: Vec<RealSecret>,
    pub workspaces: Vec<Workspace>,
}

pub static BEGINNING: LazyLock<Beginning> = LazyLock::new(|| {
    // The first is the one root in force.
    let credentials: [(Names, Names, Option<Minute>, Pairs); 9] = [
        (&["*"], &[], None, &[]),
        (&["acme:keys.write"], &[], None, &[("team", "red")]),
        (&["acme:keys.own"], &[], None, &[("team", "blue")]),
        (&["acme:keys.own", "default:keys.own"], &[], None, &[]),
        (&["*:keys.read"], &[], None, &[]),
        (
            &["acme:keys.own", "system:keys.read", "system:keys.write"],
            &[],
            None,
            &[],
        ),
        (
            &["acme:workspaces.write", "other:workspaces.write"],
            &[],
            None,
            &[],
        ),
        (&["*"], &["10.0.0.0/8"], None, &[]),
        (&["*"], &[], Some(3_000), &[]),
    ];
    let mut beginning = Beginning {
        keys: Vec::new(),
        tokens: Vec::new(),
        sealed: Vec::new(),
        workspaces: ["acme", "default", SYSTEM]
            .map(|id| Workspace {
                revision: 1,
                ..Workspace::new(id, "", 0)
            })
            .into(),
    };
    beginning.workspaces[0].settings = FIRST_SETTINGS;
    beginning.workspaces[0].limit = 2;
    let fill = &mut |buffer: &mut [u8]| getrandom::fill(buffer).expect("randomness");
    for (permissions, sources, expire, labels) in credentials {
        let key_id = KeyId::from_random(fill);
        let secret = GeneratedSecret::from_random(key_id, fill);
        let token = secret.token(&TokenPrefix::default());
        beginning.tokens.push(token.expose().to_owned());
        beginning
            .sealed
            .push(RealSecret::seal(1, &secret, at(0), fill));
        beginning.keys.push(Key {
            name: KeyName {
                workspace: id(SYSTEM),
                id: key_id,
            },
            display_name: "",
            owner: "portcullis".to_owned(),
            prefix: "pc",
            disabled: false,
            permissions,
            sources,
            labels,
            settings: &[],
            create: 0,
            update: 0,
            expire,
            archive: None,
            secrets: vec![Secret {
                id: 1,
                create: 0,
                end: None,
            }],
            revision: 1,
        });
    }
    beginning
});

/// What a call was answered.
pub enum RealReply {
    Key(Box<KeyView>, Option<String>),
    Workspace(WorkspaceRecord),
    Nothing,
}

/// A store with everything that stands on it.
pub struct Scene {
    pub clock: Arc<ManualClock>,
    pub keyring: Keyring,
    pub management: Management,
    store: Arc<EmbeddedStore>,
    checker: Checker<ManualClock>,
}

impl Scene {
    pub async fn new(verify: Arc<VerifyPool>) -> Self {
        let store = EmbeddedStore::open_backend(InMemoryBackend::new()).expect("a store");
        let store = Arc::new(store);
        store.commit(first_batch()).await.expect("the beginning");
        let clock = Arc::new(ManualClock(AtomicU64::new(0)));
        let writer = KeyringWriter::new();
        let keyring = writer.reader();
        let lease = Arc::new(Lease::unlimited());
        let fleet = Fleet::alone(&*store, "test".into(), writer, lease.clone())
            .await
            .expect("a fleet");
        let fleet = Arc::new(fleet);
        let parts = Parts {
            keyring: keyring.clone(),
            lease,
            clock: clock.clone(),
            verify,
            catch_up: fleet.clone(),
        };
        Self {
            management: Management::new(store.clone(), keyring.clone(), fleet, clock.clone()),
            checker: Checker::new(Arc::new(parts), CheckMetrics::default().recorder()),
            clock,
            keyring,
            store,
        }
    }

    /// Makes a call with this token.
    pub async fn call(&self, call: &Call, token: &str) -> Result<RealReply, Failure> {
        let caller = self.caller(token, call.source).await?;
        let body = call.body();
        let real = &RealCall::new(
            caller,
            call.op.method(),
            call.request_id.to_owned(),
            body.as_bytes(),
        );
        let management = &self.management;
        let key = |view: KeyView| RealReply::Key(Box::new(view), None);
        match &call.op {
            Op::CreateKey(workspace, fields) => {
                let new = || Ok(new_key(fields));
                let made = management.create_key(real, &id(workspace), new).await?;
                Ok(shown(made.everywhere()?))
            }
            Op::UpdateKey(name, etag, fields) => {
                let edit = || Ok(key_edit(fields));
                let target = Target { name, etag };
                management.update_key(real, target, edit).await.map(key)
            }
            Op::EnableKey(name, etag) => {
                let target = Target { name, etag };
                let made = management.enable_key(real, target).await?;
                Ok(key(made.everywhere()?))
            }
            Op::DisableKey(name, etag) => {
                let target = Target { name, etag };
                management.disable_key(real, target).await.map(key)
            }
            Op::ResetSecret(name, etag, overlap) => {
                let overlap = || Ok(Duration::from_secs(overlap * 60));
                let target = Target { name, etag };
                let made = management.reset_secret(real, target, overlap).await?;
                Ok(shown(made.everywhere()?))
            }
            Op::EndOverlap(name, etag) => {
                let target = Target { name, etag };
                management.end_overlap(real, target).await.map(key)
            }
            Op::ArchiveKey(name, etag) => {
                let target = Target { name, etag };
                management.archive_key(real, target).await.map(key)
            }
            Op::DeleteKey(name, etag, force) => {
                let target = Target { name, etag };
                management.delete_key(real, target, *force).await?;
                Ok(RealReply::Nothing)
            }
            Op::CreateWorkspace(workspace, fields) => {
                let new = || Ok(workspace_edit(fields));
                let made = management
                    .create_workspace(real, &id(workspace), new)
                    .await?;
                Ok(RealReply::Workspace(made))
            }
            Op::UpdateWorkspace(workspace, etag, fields) => {
                let edit = || Ok(workspace_edit(fields));
                let id = &id(workspace);
                let target = WorkspaceTarget { id, etag };
                let changed = management.update_workspace(real, target, edit).await?;
                Ok(RealReply::Workspace(changed))
            }
            Op::DeleteWorkspace(workspace, etag) => {
                let id = &id(workspace);
                let target = WorkspaceTarget { id, etag };
                management.delete_workspace(real, target).await?;
                Ok(RealReply::Nothing)
            }
        }
    }

    /// Who calls with this token.
    pub async fn caller(&self, token: &str, source: Option<&str>) -> Result<Caller, Failure> {
        let mut request = Request::new(());
        let value = format!("Bearer {token}").parse().expect("a header");
        request.metadata_mut().insert("authorization", value);
        if let Some(source) = source {
            request.extensions_mut().insert(TcpConnectInfo {
                local_addr: None,
                remote_addr: Some(SocketAddr::new(source.parse().expect("an address"), 1)),
            });
        }
        Caller::of(&request, &self.checker).await
    }

    /// Asks Check.
    pub async fn ask(&self, token: &str, ask: &Ask) -> Answer {
        let permissions: Vec<String> = ask.permissions.iter().map(ToString::to_string).collect();
        let settings: BTreeMap<String, String> = ask
            .settings
            .iter()
            .map(|&(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let source = ask
            .source
            .map(|source| -> IpAddr { source.parse().expect("an address") });
        let question = Question {
            credential: Credential(token),
            workspace: ask.workspace,
            permissions: &permissions,
            source,
            settings: &settings,
            labels: &["a".to_owned(), "team".to_owned()],
            min_revision: None,
        };
        self.checker.check(&question).await.expect("a decision")
    }

    /// All events, the one of the beginning left out.
    pub async fn events(&self) -> Vec<EventRecord> {
        let mut portions = self
            .store
            .events(None, Direction::OldestFirst)
            .await
            .expect("events");
        let mut events = Vec::new();
        while let Some(portion) = portions.recv().await {
            for found in portion.expect("events") {
                match found {
                    FoundEvent::Event(event) => events.push(*event),
                    FoundEvent::Damaged { at, why } => panic!("the event of {at}: {why}"),
                }
            }
        }
        events
    }
}

fn first_batch() -> Batch {
    let beginning = &*BEGINNING;
    let keys = beginning.keys.iter().zip(&beginning.sealed);
    let workspaces = beginning.workspaces.iter();
    Batch {
        reads: Vec::new(),
        quiet: None,
        mutation: None,
        writes: keys
            .map(|(key, sealed)| Write::Key(Box::new(real_key(key)), vec![sealed.clone()]))
            .chain(workspaces.map(|workspace| Write::Workspace(real_workspace(workspace))))
            .collect(),
        event: Event {
            time: at(0),
            actor: "portcullis".to_owned(),
            team: String::new(),
            action: Action::Create,
            method: "Initialise".into(),
            entity: Entity::Store,
            resource: beginning.keys[0].name.to_string(),
            changes: Vec::new(),
            source_address: String::new(),
            request_id: String::new(),
        },
    }
}

fn shown(issued: Issued) -> RealReply {
    let prefix = &issued.view.record.key.token_prefix;
    let token = issued
        .secret
        .map(|secret| secret.token(prefix).expose().to_owned());
    RealReply::Key(Box::new(issued.view), token)
}

// --------------------------------------------------------------------------------------------- the model's words, in ours

fn allowlist(entries: Names) -> IpAllowlist {
    IpAllowlist::parse(entries).expect("good entries")
}

fn text_map(pairs: Pairs) -> TextMap {
    pairs.iter().copied().collect()
}

fn permission_set(names: Names) -> PermissionSet {
    PermissionSet::new(names.iter().copied())
}

fn new_key(fields: &Fields) -> NewKey {
    NewKey {
        display_name: fields.display_name.unwrap_or_default().to_owned(),
        description: String::new(),
        permissions: fields.permissions.map(permission_set),
        ip_allowlist: allowlist(fields.sources.unwrap_or_default()),
        labels: text_map(fields.labels.unwrap_or_default()),
        settings: text_map(fields.settings.unwrap_or_default()),
        expire_time: fields.expire.and_then(End::minute).map(at),
    }
}

fn key_edit(fields: &Fields) -> KeyEdit {
    KeyEdit {
        display_name: fields.display_name.map(ToOwned::to_owned),
        description: None,
        permissions: fields.permissions.map(permission_set),
        ip_allowlist: fields.sources.map(allowlist),
        labels: fields.labels.map(text_map),
        settings: fields.settings.map(text_map),
        expire_time: fields.expire.map(|end| end.minute().map(at)),
    }
}

fn workspace_edit(fields: &WorkspaceFields) -> WorkspaceEdit {
    let limit = |limit: u16| ArchiveLimit::new(limit.into()).expect("a good limit");
    WorkspaceEdit {
        display_name: fields.display_name.map(ToOwned::to_owned),
        token_prefix: fields.prefix.map(prefix),
        permissions: fields.permissions.map(permission_set),
        settings: fields.settings.map(declarations),
        archive_limit: fields.limit.map(limit),
    }
}

fn prefix(text: &str) -> TokenPrefix {
    TokenPrefix::parse(text).expect("a good prefix")
}

fn declarations(settings: &[Setting]) -> Declarations {
    let names = |names: Names| names.iter().map(|&name| name.into()).collect();
    let declaration = |setting: &Setting| Declaration {
        name: setting.name.into(),
        description: "".into(),
        kind: match setting.takes {
            Takes::Text(max_length) => Kind::Text {
                max_length,
                allowed: Box::default(),
            },
            Takes::Allowed(max_length, values) => Kind::Text {
                max_length,
                allowed: names(values),
            },
            Takes::Enum(values) => Kind::Enum(names(values)),
        },
        default: setting.default.map(Into::into),
        header: setting.header.map(Into::into),
    };
    Declarations::new(settings.iter().map(declaration).collect()).expect("good declarations")
}

/// The key as a record has it.
pub fn real_key(key: &Key) -> RealKey {
    RealKey {
        id: key.name.id,
        workspace: key.name.workspace.clone(),
        display_name: key.display_name.into(),
        description: "".into(),
        owner: (&*key.owner).into(),
        token_prefix: prefix(key.prefix),
        disabled: key.disabled,
        permissions: permission_set(key.permissions),
        ip_allowlist: allowlist(key.sources),
        labels: text_map(key.labels),
        settings: text_map(key.settings),
        create_time: at(key.create),
        update_time: at(key.update),
        expire_time: key.expire.map(at),
        archive_time: key.archive.map(at),
    }
}

/// The workspace as a record has it.
pub fn real_workspace(workspace: &Workspace) -> RealWorkspace {
    RealWorkspace {
        id: id(workspace.id),
        display_name: workspace.display_name.to_owned(),
        token_prefix: prefix(workspace.prefix),
        permissions: permission_set(workspace.permissions),
        settings: declarations(workspace.settings),
        archive_limit: ArchiveLimit::new(workspace.limit.into()).expect("a good limit"),
        create_time: at(workspace.create),
        update_time: at(workspace.update),
    }
}

/// Says where a record is not what the model says.
pub fn differs(record: &KeyRecord, key: &Key) -> Option<String> {
    let expected = real_key(key);
    if record.key != expected {
        return Some(format!("{:?} where {expected:?} is due", record.key));
    }
    let secrets: Vec<_> = record
        .secrets
        .iter()
        .map(|secret| (secret.id, secret.create_time, secret.expire_time))
        .collect();
    let expected: Vec<_> = key
        .secrets
        .iter()
        .map(|secret| (secret.id, at(secret.create), secret.end.map(at)))
        .collect();
    if secrets != expected {
        return Some(format!(
            "the secrets {secrets:?} where {expected:?} are due"
        ));
    }
    (record.revision.number != key.revision)
        .then(|| format!("revision {} where {} is due", record.revision, key.revision))
}

/// The same of an answered key, which says how much of its workspace it may do.
pub fn view_differs(view: &KeyView, key: &Key, home: Option<&Workspace>) -> Option<String> {
    let full = home.is_some_and(|home| home.gives_all(key));
    let expected = if full { Access::Full } else { Access::Partial };
    if view.access != expected {
        return Some(format!("{:?} where {expected:?} is due", view.access));
    }
    differs(&view.record, key)
}

/// Says where an answer of Check names another key than it should.
pub fn names_another(answer: &Answer, key: Option<&Key>) -> Option<String> {
    let named = answer.key.as_ref();
    let labels = |key: &Key| {
        let of = |name: &str| Some((name.to_owned(), label(key, name)?.to_owned()));
        ["a", "team"].into_iter().filter_map(of).collect::<Vec<_>>()
    };
    let same = match (named, key) {
        (None, None) => true,
        (Some(named), Some(key)) => {
            named.name == key.name.to_string()
                && named.owner == key.owner
                && named.expire_time == key.expire.map(at)
                && named.labels == labels(key)
        }
        _ => false,
    };
    (!same).then(|| format!("{named:?} is named where it should be {key:?}"))
}

/// The name of a failure, and of the field if one is at fault.
pub fn refusal(failure: &Failure) -> String {
    match failure {
        Failure::Invalid(fields) => {
            let field = fields.first().map_or("", |(field, _)| field);
            let field = field.split('[').next().unwrap_or_default();
            format!("Invalid {field}")
        }
        other => {
            let text = format!("{other:?}");
            let end = text.find(|c: char| !c.is_alphanumeric());
            text[..end.unwrap_or(text.len())].to_owned()
        }
    }
}

//! There is always a root in force: the last one cannot be taken away, in no way and by nobody, nor can two take each
//! other's away at the same time.

mod support;

use portcullis::proto::v1::{
    CreateKeyRequest, DeleteKeyRequest, DisableKeyRequest, EnableKeyRequest, ErrorReason,
    GetKeyRequest, GetWorkspaceRequest, Key, ListKeysRequest, ResetSecretRequest, Workspace,
    key::State,
};
use prost_types::Timestamp;
use support::{
    Clients, Server, Setup, Token, assert_refused, key, key_named, reason_of, update, wait_until,
};
use tonic::{Code, Response, Status};

/// How a root can cease to be one in force.
#[derive(Clone, Copy, Debug)]
enum Way {
    Disable,
    Narrow,
    Clear,
    Expire,
    Limit,
    Delete,
}

const WAYS: [Way; 6] = [
    Way::Disable,
    Way::Narrow,
    Way::Clear,
    Way::Expire,
    Way::Limit,
    Way::Delete,
];

impl Way {
    async fn take(self, admin: &Clients, name: &str) -> Result<Response<()>, Status> {
        let mut keys = admin.keys.clone();
        let name = name.to_owned();
        let named = Key {
            name: name.clone(),
            ..key()
        };
        let (change, field) = match self {
            Self::Disable => {
                let request = DisableKeyRequest {
                    name,
                    etag: String::new(),
                    ..DisableKeyRequest::default()
                };
                return keys.disable_key(request).await.map(|_| Response::new(()));
            }
            Self::Delete => {
                let request = DeleteKeyRequest {
                    name,
                    force: true,
                    etag: String::new(),
                    ..DeleteKeyRequest::default()
                };
                return keys.delete_key(request).await.map(|_| Response::new(()));
            }
            Self::Narrow => {
                let permissions = vec!["*:keys.read".into(), "*:keys.write".into()];
                let key = Key {
                    permissions,
                    ..named
                };
                (key, "permissions")
            }
            Self::Clear => (named, "permissions"),
            Self::Expire => {
                let key = Key {
                    expire_time: Some(in_2100()),
                    ..named
                };
                (key, "expire_time")
            }
            Self::Limit => {
                let key = Key {
                    ip_allowlist: vec!["127.0.0.0/8".into()],
                    ..named
                };
                (key, "ip_allowlist")
            }
        };
        keys.update_key(update(change, &[field]))
            .await
            .map(|_| Response::new(()))
    }
}

fn in_2100() -> Timestamp {
    Timestamp {
        seconds: 4_102_444_800,
        nanos: 0,
    }
}

fn socket(server: &Server) -> Clients {
    Clients::of(&server.admin_socket(), &Token::none())
}

/// Creates a key in `system`; answers its name.
async fn create(admin: &Clients, key: Key) -> String {
    let request = CreateKeyRequest {
        parent: "workspaces/system".into(),
        key: Some(key),
        ..CreateKeyRequest::default()
    };
    let issued = admin.keys.clone().create_key(request).await;
    issued
        .expect("a good key")
        .into_inner()
        .key
        .expect("a key")
        .name
}

async fn create_root(admin: &Clients) -> String {
    create(admin, key_named("root", &["*"])).await
}

async fn system_keys(admin: &Clients) -> Vec<Key> {
    let request = ListKeysRequest {
        parent: "workspaces/system".into(),
        page_size: 1_000,
        page_token: String::new(),
        ..ListKeysRequest::default()
    };
    let page = admin.keys.clone().list_keys(request).await;
    page.expect("a page").into_inner().keys
}

/// Told by the contract's words alone.
async fn roots(admin: &Clients) -> Vec<String> {
    let in_force = |key: &Key| {
        key.state() == State::Active
            && key.permissions == ["*"]
            && key.expire_time.is_none()
            && key.ip_allowlist.is_empty()
    };
    let keys = system_keys(admin).await;
    keys.into_iter()
        .filter(in_force)
        .map(|key| key.name)
        .collect()
}

async fn first_root(admin: &Clients) -> String {
    let [root] = <[String; 1]>::try_from(roots(admin).await).expect("one root");
    root
}

async fn get(admin: &Clients, name: &str) -> Key {
    let request = GetKeyRequest { name: name.into() };
    let key = admin.keys.clone().get_key(request).await;
    key.expect("the key is there").into_inner()
}

async fn system_workspace(admin: &Clients) -> Workspace {
    let request = GetWorkspaceRequest {
        name: "workspaces/system".into(),
    };
    let workspace = admin.workspaces.clone().get_workspace(request).await;
    workspace.expect("the workspace is there").into_inner()
}

async fn assert_last(admin: &Clients, root: &str, what: &str) {
    let before = get(admin, root).await;
    for way in WAYS {
        assert_refused(
            &format!("{what}: {way:?}"),
            way.take(admin, root).await,
            Code::FailedPrecondition,
            ErrorReason::LastRoot,
            &[],
        );
    }
    assert_eq!(get(admin, root).await, before, "{what}: nothing changed");
}

#[tokio::test]
async fn the_last_root_stays_as_it_is() {
    let server = Server::start();
    let local = socket(&server);
    let root = first_root(&local).await;
    for (what, admin) in [
        ("by itself", Clients::root(&server)),
        ("by the socket", local.clone()),
    ] {
        assert_last(&admin, &root, what).await;
        let refused = Way::Disable.take(&admin, &root).await.expect_err("refused");
        assert!(
            refused.message().contains(&root) && refused.message().contains("create another"),
            "{refused:?}"
        );
    }

    // What leaves it in force is allowed, and so is any change of a key that is none.
    let mut keys = local.keys.clone();
    let change = Key {
        name: root.clone(),
        display_name: "the root".into(),
        permissions: vec!["*".into()],
        ip_allowlist: vec!["0.0.0.0/0".into(), "::/0".into()],
        ..key()
    };
    let mask = [
        "display_name",
        "permissions",
        "ip_allowlist",
        "expire_time",
        "labels",
    ];
    keys.update_key(update(change, &mask))
        .await
        .expect("it stays a root in force");
    let reset = ResetSecretRequest {
        name: root.clone(),
        etag: String::new(),
        ..ResetSecretRequest::default()
    };
    keys.reset_secret(reset).await.expect("a new secret");
    let request = DeleteKeyRequest {
        name: root.clone(),
        force: false,
        etag: String::new(),
        ..DeleteKeyRequest::default()
    };
    assert_refused(
        "without force",
        keys.delete_key(request).await,
        Code::FailedPrecondition,
        ErrorReason::KeyActive,
        &[],
    );
    let narrow = create(&local, key_named("narrow", &["*:keys.read"])).await;
    let ordinary = local.create("ordinary", &["*"]).await.key.expect("a key");
    for name in [narrow, ordinary.name] {
        Way::Disable.take(&local, &name).await.expect("no root");
        Way::Delete.take(&local, &name).await.expect("no root");
    }
    assert_eq!(roots(&local).await, [root]);
}

#[tokio::test]
async fn what_is_no_root_in_force_does_not_count() {
    let server = Server::start();
    let local = socket(&server);
    let root = first_root(&local).await;
    for way in WAYS {
        let second = create_root(&local).await;
        way.take(&local, &second).await.expect("there are two");
        assert_last(&local, &root, &format!("beside one after {way:?}")).await;
    }
    // A key of another workspace with `*` is none either, nor is one that was born with an end.
    local.create("ordinary", &["*"]).await;
    let ends = Key {
        expire_time: Some(in_2100()),
        ..key_named("ends", &["*"])
    };
    create(&local, ends).await;
    assert_last(&local, &root, "beside others").await;
}

#[tokio::test]
async fn with_another_root_in_force_each_way_is_open() {
    let server = Server::start();
    let local = socket(&server);
    let mut root = first_root(&local).await;
    for way in WAYS {
        let before = system_workspace(&local).await;
        let next = create_root(&local).await;
        way.take(&local, &root)
            .await
            .unwrap_or_else(|status| panic!("{way:?}: {status:?}"));
        assert_eq!(roots(&local).await, std::slice::from_ref(&next), "{way:?}");
        assert_last(&local, &next, &format!("after {way:?}")).await;

        let after = system_workspace(&local).await;
        assert_ne!(before.update_time, after.update_time, "{way:?}");
        let unchanged = Workspace {
            update_time: before.update_time,
            etag: before.etag.clone(),
            revision: before.revision.clone(),
            ..after
        };
        assert_eq!(before, unchanged, "{way:?}: its content stays");
        root = next;
    }

    // One that comes back counts again.
    let disabled = create_root(&local).await;
    Way::Disable.take(&local, &disabled).await.expect("two");
    assert_last(&local, &root, "beside a disabled one").await;
    let request = EnableKeyRequest {
        name: disabled,
        etag: String::new(),
        ..EnableKeyRequest::default()
    };
    local.keys.clone().enable_key(request).await.expect("back");
    Way::Disable
        .take(&local, &root)
        .await
        .expect("two in force again");
}

/// The other root is found wherever it stands in the list.
#[tokio::test]
async fn a_root_is_found_behind_many_keys() {
    let server = Server::start();
    let local = socket(&server);
    let root = first_root(&local).await;
    for n in 0..120 {
        create(&local, key_named(&format!("{n}"), &["*:keys.read"])).await;
    }
    assert_last(&local, &root, "before many others").await;
    create_root(&local).await;
    Way::Delete.take(&local, &root).await.expect("there is one");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_roots_do_not_take_each_other_away() {
    let server = Server::start();
    let (one, two) = (socket(&server), socket(&server));
    let mut survivor = first_root(&one).await;
    for first in WAYS {
        for second in WAYS {
            let other = create_root(&one).await;
            let (a, b) = tokio::join!(first.take(&one, &survivor), second.take(&two, &other));
            let left = roots(&one).await;
            let what = format!("{first:?} and {second:?}: {a:?}, {b:?}");
            let ((Ok(_), Err(refused)) | (Err(refused), Ok(_))) = (&a, &b) else {
                panic!("{what}: one of two is to be refused; left: {left:?}");
            };
            assert_eq!(reason_of(refused), ErrorReason::LastRoot, "{what}");
            let stays = if a.is_err() { survivor } else { other };
            assert_eq!(left, std::slice::from_ref(&stays), "{what}");
            survivor = stays;
        }
    }
}

#[tokio::test]
async fn a_root_token_that_opens_nothing_is_not_advertised() {
    let dir = tempfile::tempdir().expect("a directory");
    let setup = || Setup::new().data_dir(dir.path().join("data"));
    let server = setup().start();
    let line = |server: &Server| {
        let file = server.root_token_file();
        format!("root token: {}", file.display())
    };
    wait_until("the token's line", || {
        server
            .stdout()
            .contains(&format!("{}      next", line(&server)))
    });
    server.stop();

    let server = setup().start();
    wait_until("the token is good still", || {
        server
            .stdout()
            .contains(&format!("{}      next", line(&server)))
    });
    assert!(
        !server.stderr().contains("opens nothing"),
        "{}",
        server.stderr()
    );
    let local = socket(&server);
    let request = ResetSecretRequest {
        name: first_root(&local).await,
        etag: String::new(),
        ..ResetSecretRequest::default()
    };
    local.keys.clone().reset_secret(request).await.expect("new");
    let token = server.root_token();
    server.stop();

    let server = setup().start();
    wait_until("the token's line says so", || {
        server
            .stdout()
            .contains(&format!("{} (no longer valid)", line(&server)))
    });
    wait_until("a warning", || server.stderr().contains("opens nothing"));
    assert!(!server.stderr().contains(&token), "it is not printed");
}

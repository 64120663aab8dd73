//! Masks, pages, etags, names, and whose they are.

use portcullis::proto::v1::{
    CreateKeyRequest, CreateWorkspaceRequest, DeleteKeyRequest, DisableKeyRequest,
    EnableKeyRequest, ErrorReason, GetKeyRequest, GetWorkspaceRequest, Key, ListKeysRequest,
    ListKeysResponse, ListWorkspacesRequest, ResetSecretRequest,
};
use tonic::{Code, Response, Status};

use crate::support::{Clients, Server, Token, assert_refused, clients, key, key_named, update};

const DEFAULT: &str = "workspaces/default";
/// A few more than the largest page.
const KEYS: usize = 1005;

async fn workspace(admin: &Clients, id: &str) {
    let create = CreateWorkspaceRequest {
        workspace_id: id.into(),
        workspace: None,
        ..CreateWorkspaceRequest::default()
    };
    admin
        .workspaces
        .clone()
        .create_workspace(create)
        .await
        .expect("a workspace");
}

async fn page(
    admin: &Clients,
    parent: &str,
    size: i32,
    token: &str,
) -> Result<Response<ListKeysResponse>, Status> {
    let request = ListKeysRequest {
        parent: parent.into(),
        page_size: size,
        page_token: token.into(),
        ..ListKeysRequest::default()
    };
    admin.keys.clone().list_keys(request).await
}

#[tokio::test]
async fn a_mask_names_what_can_be_changed_and_nothing_else() {
    let server = Server::start();
    let (admin, _) = clients(&server);
    let made = admin
        .create("first", &["sms.send"])
        .await
        .key
        .expect("a key");
    for (what, mask) in [
        ("row 77: unknown path", &["colour"][..]),
        (
            "row 77: unknown beside a known one",
            &["display_name", "colour"],
        ),
        ("row 77: a path from the request", &["key.display_name"]),
        ("row 77: a path into a field", &["expire_time.seconds"]),
        ("row 77: empty path", &[""]),
        ("row 77: JSON's name", &["displayName"]),
        ("row 78: * and a path", &["*", "display_name"]),
        ("row 79: state", &["state"]),
        ("row 79: owner", &["owner"]),
        ("row 79: create_time", &["display_name", "create_time"]),
        ("row 79: secrets", &["secrets"]),
        ("row 79: revision", &["revision"]),
        ("row 79: name, which never changes", &["name"]),
        ("row 79: key_id", &["key_id"]),
    ] {
        let change = Key {
            name: made.name.clone(),
            etag: made.etag.clone(),
            ..key_named("changed", &[])
        };
        let updated = admin.keys.clone().update_key(update(change, mask)).await;
        assert_refused(
            what,
            updated,
            Code::InvalidArgument,
            ErrorReason::InvalidField,
            &["update_mask"],
        );
    }
    let change = Key {
        name: made.name.clone(),
        ..key_named("changed", &[])
    };
    let updated = admin
        .keys
        .clone()
        .update_key(update(change.clone(), &["*"]))
        .await;
    assert_refused(
        "* without an etag",
        updated,
        Code::InvalidArgument,
        ErrorReason::InvalidField,
        &["key.etag"],
    );
    let get = GetKeyRequest {
        name: made.name.clone(),
    };
    let now = admin
        .keys
        .clone()
        .get_key(get)
        .await
        .expect("a key")
        .into_inner();
    assert_eq!(now, made, "nothing was changed by what was refused");

    // Cleared by name, and all by `*` with the etag; the populated ones without a mask.
    let mut cleared = update(
        Key {
            name: made.name.clone(),
            ..key()
        },
        &["display_name", "permissions"],
    );
    let now = admin
        .keys
        .clone()
        .update_key(cleared.clone())
        .await
        .expect("cleared")
        .into_inner();
    assert_eq!(
        (now.display_name.as_str(), now.permissions.len()),
        ("", 0),
        "named and empty is cleared"
    );
    let whole = update(
        Key {
            etag: now.etag,
            description: "all".into(),
            ..change
        },
        &["*"],
    );
    let now = admin
        .keys
        .clone()
        .update_key(whole)
        .await
        .expect("replaced")
        .into_inner();
    assert_eq!(
        (now.display_name.as_str(), now.description.as_str()),
        ("changed", "all")
    );
    cleared.update_mask = None;
    cleared.key = Some(Key {
        name: made.name,
        description: "only".into(),
        ..key()
    });
    let now = admin
        .keys
        .clone()
        .update_key(cleared)
        .await
        .expect("changed")
        .into_inner();
    assert_eq!(
        (now.display_name.as_str(), now.description.as_str()),
        ("changed", "only"),
        "no mask: the populated"
    );
}

#[tokio::test]
async fn a_page_token_is_good_for_its_own_list_only() {
    let server = Server::start();
    let (admin, _) = clients(&server);
    workspace(&admin, "other").await;
    for n in 0..5 {
        admin.create(&format!("key {n}"), &[]).await;
        let create = CreateKeyRequest {
            parent: "workspaces/other".into(),
            key: Some(key()),
            ..CreateKeyRequest::default()
        };
        admin.keys.clone().create_key(create).await.expect("a key");
    }
    let token = page(&admin, DEFAULT, 2, "")
        .await
        .expect("a page")
        .into_inner()
        .next_page_token;
    let theirs = page(&admin, "workspaces/other", 2, "")
        .await
        .expect("a page")
        .into_inner()
        .next_page_token;

    // One bit at each place; where the text is no base64 any more, that is refused as well.
    for at in 0..token.len() {
        let mut flipped = token.clone().into_bytes();
        flipped[at] ^= 1;
        let flipped = String::from_utf8(flipped).expect("a bit of ASCII is ASCII");
        let what = format!("row 80: flipped at {at}: {flipped}");
        refuses_token(&what, page(&admin, DEFAULT, 2, &flipped).await);
    }
    refuses_token(
        "row 80: cut",
        page(&admin, DEFAULT, 2, &token[..token.len() - 1]).await,
    );
    refuses_token(
        "row 80: longer",
        page(&admin, DEFAULT, 2, &format!("{token}A")).await,
    );
    refuses_token("row 80: no token", page(&admin, DEFAULT, 2, "next").await);
    refuses_token(
        "row 81: another workspace's",
        page(&admin, DEFAULT, 2, &theirs).await,
    );
    refuses_token(
        "row 81: the other way",
        page(&admin, "workspaces/other", 2, &token).await,
    );
    let workspaces = ListWorkspacesRequest {
        page_size: 2,
        page_token: token.clone(),
    };
    refuses_token(
        "row 81: another call's",
        admin.workspaces.clone().list_workspaces(workspaces).await,
    );
    assert!(
        page(&admin, DEFAULT, 3, &token).await.is_ok(),
        "another page size is no other list"
    );
}

#[track_caller]
fn refuses_token<T: std::fmt::Debug>(what: &str, result: Result<Response<T>, Status>) {
    assert_refused(
        what,
        result,
        Code::InvalidArgument,
        ErrorReason::InvalidField,
        &["page_token"],
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_are_bounded_and_lose_nothing() {
    let server = Server::start();
    let (admin, _) = clients(&server);
    for size in [-1, i32::MIN] {
        let refused = page(&admin, DEFAULT, size, "").await;
        let reason = ErrorReason::InvalidField;
        assert_refused(
            "row 83: page_size -1",
            refused,
            Code::InvalidArgument,
            reason,
            &["page_size"],
        );
    }
    let workspaces = ListWorkspacesRequest {
        page_size: -1,
        page_token: String::new(),
    };
    let refused = admin.workspaces.clone().list_workspaces(workspaces).await;
    let reason = ErrorReason::InvalidField;
    assert_refused(
        "row 83: of workspaces",
        refused,
        Code::InvalidArgument,
        reason,
        &["page_size"],
    );

    let made: Vec<_> = (0..16)
        .map(|lane| {
            let admin = admin.clone();
            tokio::spawn(async move {
                let mut names = Vec::new();
                for n in (lane..KEYS).step_by(16) {
                    names.push(
                        admin
                            .create(&format!("key {n}"), &[])
                            .await
                            .key
                            .expect("a key")
                            .name,
                    );
                }
                names
            })
        })
        .collect();
    let mut names = Vec::new();
    for lane in made {
        names.extend(lane.await.expect("a lane of keys"));
    }

    let first = page(&admin, DEFAULT, 1_000_000_000, "")
        .await
        .expect("row 84: page_size 10^9")
        .into_inner();
    assert_eq!(first.keys.len(), 1000, "row 84: coerced");
    let rest = page(&admin, DEFAULT, 1_000_000_000, &first.next_page_token)
        .await
        .expect("a page")
        .into_inner();
    assert_eq!((rest.keys.len(), rest.next_page_token.as_str()), (5, ""));
    assert_eq!(
        page(&admin, DEFAULT, 0, "")
            .await
            .expect("a page")
            .into_inner()
            .keys
            .len(),
        50,
        "the default"
    );

    let listed: Vec<Key> = first.keys.into_iter().chain(rest.keys).collect();
    let time = |key: &Key| key.create_time.map(|time| (time.seconds, time.nanos));
    assert!(listed.is_sorted_by_key(time), "oldest first");
    let mut listed: Vec<String> = listed.into_iter().map(|key| key.name).collect();
    listed.sort();
    names.sort();
    assert_eq!(listed, names, "every key once");
}

#[tokio::test]
async fn a_stale_etag_aborts_every_change() {
    let server = Server::start();
    let (admin, _) = clients(&server);
    let made = admin.create("first", &[]).await.key.expect("a key");
    let (name, stale) = (made.name.clone(), made.etag);
    let change = update(
        Key {
            name: name.clone(),
            ..key_named("second", &[])
        },
        &["display_name"],
    );
    let now = admin
        .keys
        .clone()
        .update_key(change)
        .await
        .expect("a change")
        .into_inner();
    assert_ne!(now.etag, stale);

    for (what, etag) in [
        ("row 87: stale", stale),
        ("row 87: no etag at all", "\"x\"".to_owned()),
    ] {
        let mut keys = admin.keys.clone();
        let change = Key {
            name: name.clone(),
            etag: etag.clone(),
            ..key_named("late", &[])
        };
        aborted(
            what,
            keys.update_key(update(change, &["display_name"])).await,
        );
        let (name, etag) = (name.clone(), etag.clone());
        aborted(
            what,
            keys.disable_key(DisableKeyRequest {
                name: name.clone(),
                etag: etag.clone(),
                ..DisableKeyRequest::default()
            })
            .await,
        );
        aborted(
            what,
            keys.enable_key(EnableKeyRequest {
                name: name.clone(),
                etag: etag.clone(),
                ..EnableKeyRequest::default()
            })
            .await,
        );
        aborted(
            what,
            keys.reset_secret(ResetSecretRequest {
                name: name.clone(),
                etag: etag.clone(),
                ..ResetSecretRequest::default()
            })
            .await,
        );
        aborted(
            what,
            keys.delete_key(DeleteKeyRequest {
                name,
                force: true,
                etag,
                ..DeleteKeyRequest::default()
            })
            .await,
        );
    }
    let get = GetKeyRequest { name };
    let after = admin
        .keys
        .clone()
        .get_key(get)
        .await
        .expect("a key")
        .into_inner();
    assert_eq!(after, now, "row 87: nothing was changed");
}

#[track_caller]
fn aborted<T: std::fmt::Debug>(what: &str, result: Result<Response<T>, Status>) {
    assert_refused(what, result, Code::Aborted, ErrorReason::EtagMismatch, &[]);
}

#[tokio::test]
async fn a_foreign_workspace_is_closed_whether_or_not_it_is_there() {
    let server = Server::start();
    let (admin, _) = clients(&server);
    workspace(&admin, "ours").await;
    workspace(&admin, "theirs").await;
    let create = |parent: &str, permissions: &[&str]| CreateKeyRequest {
        parent: parent.into(),
        key: Some(key_named("key", permissions)),
        ..CreateKeyRequest::default()
    };
    let theirs = admin
        .keys
        .clone()
        .create_key(create("workspaces/theirs", &[]))
        .await
        .expect("a key")
        .into_inner();
    let theirs = theirs.key.expect("a key").name;
    let limited = create("workspaces/system", &["ours:keys.read", "ours:keys.write"]);
    let limited = admin
        .keys
        .clone()
        .create_key(limited)
        .await
        .expect("an admin key")
        .into_inner();
    let limited_name = limited.key.expect("a key").name;
    let limited = Clients::of(server.admin(), &Token::bearer(&limited.token));

    let mut keys = limited.keys.clone();
    keys.create_key(create("workspaces/ours", &[]))
        .await
        .expect("a key of one's own workspace");
    for parent in [
        "workspaces/theirs",
        "workspaces/nowhere",
        "workspaces/system",
        "workspaces/default",
    ] {
        let what = format!("row 89: {parent}");
        denied(&what, page(&limited, parent, 0, "").await);
        denied(&what, keys.create_key(create(parent, &[])).await);
        let get = GetWorkspaceRequest {
            name: parent.into(),
        };
        denied(&what, limited.workspaces.clone().get_workspace(get).await);
    }
    let nobody = theirs.replace("theirs", "nowhere");
    let unknown = format!("{}0", &theirs[..theirs.len() - 1]);
    for name in [theirs, nobody, unknown, limited_name] {
        let what = format!("row 89: {name}");
        let etag = String::new();
        denied(
            &what,
            keys.get_key(GetKeyRequest { name: name.clone() }).await,
        );
        denied(
            &what,
            keys.update_key(update(
                Key {
                    name: name.clone(),
                    ..key()
                },
                &["display_name"],
            ))
            .await,
        );
        denied(
            &what,
            keys.disable_key(DisableKeyRequest {
                name: name.clone(),
                etag: etag.clone(),
                ..DisableKeyRequest::default()
            })
            .await,
        );
        denied(
            &what,
            keys.enable_key(EnableKeyRequest {
                name: name.clone(),
                etag: etag.clone(),
                ..EnableKeyRequest::default()
            })
            .await,
        );
        denied(
            &what,
            keys.reset_secret(ResetSecretRequest {
                name: name.clone(),
                etag: etag.clone(),
                ..ResetSecretRequest::default()
            })
            .await,
        );
        denied(
            &what,
            keys.delete_key(DeleteKeyRequest {
                name,
                force: true,
                etag,
                ..DeleteKeyRequest::default()
            })
            .await,
        );
    }
    workspace(&admin, "later").await;
    let created = CreateWorkspaceRequest {
        workspace_id: "mine".into(),
        workspace: None,
        ..CreateWorkspaceRequest::default()
    };
    denied(
        "row 89: workspaces.write",
        limited.workspaces.clone().create_workspace(created).await,
    );
    let listed = limited
        .workspaces
        .clone()
        .list_workspaces(ListWorkspacesRequest::default())
        .await;
    let listed: Vec<String> = listed
        .expect("a list")
        .into_inner()
        .workspaces
        .into_iter()
        .map(|workspace| workspace.name)
        .collect();
    assert_eq!(
        listed,
        ["workspaces/ours"],
        "row 89: the list holds one's own"
    );
}

#[track_caller]
fn denied<T: std::fmt::Debug>(what: &str, result: Result<Response<T>, Status>) {
    assert_refused(
        what,
        result,
        Code::PermissionDenied,
        ErrorReason::CallerNotPermitted,
        &[],
    );
}

#[tokio::test]
async fn a_name_that_names_nothing_is_named_as_the_fault() {
    let server = Server::start();
    let (admin, _) = clients(&server);
    let good = admin.create("first", &[]).await.key.expect("a key").name;
    let id = good.rsplit('/').next().expect("a key id");
    let mut keys = admin.keys.clone();
    for name in [
        String::new(),
        id.to_owned(),
        "workspaces".into(),
        "workspaces/default".into(),
        "workspaces/default/keys".into(),
        "workspaces/default/keys/".into(),
        format!("/{good}"),
        format!("{good}/"),
        format!("{good}/secrets/1"),
        format!("{good} "),
        good.replace("keys", "key"),
        good.replace("default", ""),
        good.replace("default", "Default"),
        good.replace("default", "-"),
        good.replace("default", ".."),
        good.replace('/', "%2F"),
        format!("workspaces/default/keys/{}", &id[1..]),
        format!("workspaces/default/keys/{id}0"),
        format!("workspaces/default/keys/!{}", &id[1..]),
        format!("workspaces/default/keys/{}", "z".repeat(22)),
        "workspaces/default/keys/\0".into(),
        format!("workspaces/default/keys/{}", "k".repeat(1 << 20)),
    ] {
        let what = format!("row 90: {:?}", name.get(..60).unwrap_or(&name));
        let etag = String::new();
        malformed(
            &what,
            keys.get_key(GetKeyRequest { name: name.clone() }).await,
            "name",
        );
        let change = update(
            Key {
                name: name.clone(),
                ..key()
            },
            &["display_name"],
        );
        malformed(&what, keys.update_key(change).await, "key.name");
        let disable = DisableKeyRequest {
            name: name.clone(),
            etag: etag.clone(),
            ..DisableKeyRequest::default()
        };
        malformed(&what, keys.disable_key(disable).await, "name");
        malformed(
            &what,
            keys.enable_key(EnableKeyRequest {
                name: name.clone(),
                etag: etag.clone(),
                ..EnableKeyRequest::default()
            })
            .await,
            "name",
        );
        let reset = ResetSecretRequest {
            name: name.clone(),
            etag: etag.clone(),
            ..ResetSecretRequest::default()
        };
        malformed(&what, keys.reset_secret(reset).await, "name");
        malformed(
            &what,
            keys.delete_key(DeleteKeyRequest {
                name,
                force: true,
                etag,
                ..DeleteKeyRequest::default()
            })
            .await,
            "name",
        );
    }
    for parent in [
        "",
        "default",
        "workspaces/",
        "workspaces/default/",
        "workspaces//keys",
        "workspaces/A",
        &good,
    ] {
        let what = format!("row 90: parent {parent:?}");
        malformed(&what, page(&admin, parent, 0, "").await, "parent");
        let create = CreateKeyRequest {
            parent: parent.into(),
            key: Some(key()),
            ..CreateKeyRequest::default()
        };
        malformed(&what, keys.create_key(create).await, "parent");
        let get = GetWorkspaceRequest {
            name: parent.into(),
        };
        malformed(
            &what,
            admin.workspaces.clone().get_workspace(get).await,
            "name",
        );
    }
    assert!(keys.get_key(GetKeyRequest { name: good }).await.is_ok());
}

#[track_caller]
fn malformed<T: std::fmt::Debug>(what: &str, result: Result<Response<T>, Status>, field: &str) {
    assert_refused(
        what,
        result,
        Code::InvalidArgument,
        ErrorReason::InvalidField,
        &[field],
    );
}

//! Who may do what over gRPC: nobody gets, gives or lays hands on more than they hold; `check` is a permission like any
//! other; and a call has one credential or none.

mod support;

use portcullis::proto::v1::{
    BatchCheckRequest, CheckRequest, CreateKeyRequest, CreateWorkspaceRequest, DeleteKeyRequest,
    DisableKeyRequest, EnableKeyRequest, ErrorReason, GetKeyRequest, IssuedKey, Key,
    ListKeysRequest, ListReplicasRequest, ListWorkspacesRequest, ResetSecretRequest,
    check_response::Reason,
};
use support::{
    Address, Clients, Random, Server, Token, assert_refused, check, clients, key, key_named,
    reason_of, update,
};
use tonic::{
    Code, Request, Response, Status,
    metadata::{Ascii, MetadataValue},
};

const SYSTEM: &str = "workspaces/system";

/// Creates a key of `system` with exactly these permissions.
async fn issue(clients: &Clients, permissions: &[&str]) -> Result<IssuedKey, Status> {
    let request = CreateKeyRequest {
        parent: SYSTEM.into(),
        key: Some(key_named("", permissions)),
        ..CreateKeyRequest::default()
    };
    let issued = clients.keys.clone().create_key(request).await?;
    Ok(issued.into_inner())
}

async fn get(admin: &Clients, name: &str) -> Key {
    let request = GetKeyRequest { name: name.into() };
    let found = admin.keys.clone().get_key(request).await;
    found.expect("the key is there").into_inner()
}

async fn disable(admin: &Clients, name: &str) -> Result<Key, Status> {
    let request = DisableKeyRequest {
        name: name.into(),
        etag: String::new(),
        ..DisableKeyRequest::default()
    };
    let disabled = admin.keys.clone().disable_key(request).await?;
    Ok(disabled.into_inner())
}

/// A caller whose credential holds `permissions`.
async fn caller(server: &Server, root: &Clients, permissions: &[&str]) -> Clients {
    let issued = issue(root, permissions).await.expect("root may");
    let caller = Clients::of(server.admin(), &Token::bearer(&issued.token));
    // Once it was proved, its calls never wait for argon2, which may be too busy on a loaded machine.
    let list = ListWorkspacesRequest::default();
    while let Err(status) = caller
        .workspaces
        .clone()
        .list_workspaces(list.clone())
        .await
    {
        assert_eq!(reason_of(&status), ErrorReason::Overloaded, "{status:?}");
    }
    caller
}

async fn create_workspace(root: &Clients, id: &str) {
    let request = CreateWorkspaceRequest {
        workspace_id: id.into(),
        workspace: None,
        ..CreateWorkspaceRequest::default()
    };
    root.workspaces
        .clone()
        .create_workspace(request)
        .await
        .expect("a workspace");
}

// ------------------------------------------------------------------------------------------------------- the table

/// What keys of `system` hold in this test.
const TARGETS: [&[&str]; 10] = [
    &[],
    &["system:keys.write"],
    &["system:keys.read", "system:keys.write"],
    &["acme:keys.write"],
    &["default:keys.write"],
    &["*:keys.write"],
    &["*:keys.read", "*:keys.write"],
    &["default:check", "system:keys.write"],
    &["*:fleet.read"],
    &["*"],
];

/// What a caller holds, whether it may write in `system` at all, and which of the [`TARGETS`] it holds all of.
const ROLES: [(&[&str], bool, &[usize]); 9] = [
    (&["*"], true, &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
    (&["*:keys.write"], true, &[0, 1, 3, 4, 5]),
    (
        &["*:keys.read", "*:keys.write"],
        true,
        &[0, 1, 2, 3, 4, 5, 6],
    ),
    (&["system:keys.write"], true, &[0, 1]),
    (&["default:check", "system:keys.write"], true, &[0, 1, 7]),
    (&["acme:keys.write", "system:keys.write"], true, &[0, 1, 3]),
    (&["acme:keys.write", "default:keys.write"], false, &[]),
    (
        &["*:keys.read", "*:workspaces.write", "*:check"],
        false,
        &[],
    ),
    (&[], false, &[]),
];

/// The calls that give a set of permissions.
const GIVING: [&str; 4] = ["create", "update", "update without a mask", "update by *"];
/// The calls that touch a key which has it.
const TOUCHING: [&str; 10] = [
    "rename",
    "take all permissions away",
    "limit to an address",
    "change nothing",
    "disable",
    "disable the disabled",
    "enable the disabled",
    "enable the enabled",
    "reset",
    "delete",
];

/// Gives `permissions` to a new key, or to the one named, which has none.
async fn give(
    caller: &Clients,
    call: &str,
    empty: &Key,
    permissions: &[&str],
) -> Result<Response<()>, Status> {
    let mut keys = caller.keys.clone();
    let changed = Key {
        name: empty.name.clone(),
        etag: empty.etag.clone(),
        ..key_named("", permissions)
    };
    match call {
        "create" => issue(caller, permissions).await.map(drop)?,
        "update" => drop(keys.update_key(update(changed, &["permissions"])).await?),
        "update without a mask" => drop(keys.update_key(update(changed, &[])).await?),
        "update by *" => drop(keys.update_key(update(changed, &["*"])).await?),
        other => unreachable!("{other} is no call"),
    }
    Ok(Response::new(()))
}

/// Lays hands on the key.
async fn touch(caller: &Clients, call: &str, name: &str) -> Result<Response<()>, Status> {
    let mut keys = caller.keys.clone();
    let (name, etag) = (name.to_owned(), String::new());
    let changed = Key {
        name: name.clone(),
        display_name: "touched".into(),
        ip_allowlist: vec!["192.0.2.1".into()],
        ..key()
    };
    match call {
        "rename" => drop(keys.update_key(update(changed, &["display_name"])).await?),
        "take all permissions away" => {
            drop(keys.update_key(update(changed, &["permissions"])).await?);
        }
        "limit to an address" => {
            drop(keys.update_key(update(changed, &["ip_allowlist"])).await?);
        }
        "change nothing" => drop(keys.update_key(update(changed, &["description"])).await?),
        "disable" | "disable the disabled" => {
            drop(
                keys.disable_key(DisableKeyRequest {
                    name,
                    etag,
                    ..DisableKeyRequest::default()
                })
                .await?,
            );
        }
        "enable the disabled" | "enable the enabled" => {
            drop(
                keys.enable_key(EnableKeyRequest {
                    name,
                    etag,
                    ..EnableKeyRequest::default()
                })
                .await?,
            );
        }
        "reset" => drop(
            keys.reset_secret(ResetSecretRequest {
                name,
                etag,
                ..ResetSecretRequest::default()
            })
            .await?,
        ),
        "delete" => {
            let force = true;
            drop(
                keys.delete_key(DeleteKeyRequest {
                    name,
                    force,
                    etag,
                    ..DeleteKeyRequest::default()
                })
                .await?,
            );
        }
        other => unreachable!("{other} is no call"),
    }
    Ok(Response::new(()))
}

#[tokio::test]
async fn a_system_key_is_touched_only_by_who_holds_all_that_it_holds() {
    let server = Server::start();
    let (root, _) = clients(&server);
    create_workspace(&root, "acme").await;
    // Side by side, since commits that come together share their wait for the disk.
    let roles = ROLES.map(async |(held, may_write, covered)| {
        let caller = caller(&server, &root, held).await;
        for (index, permissions) in TARGETS.into_iter().enumerate() {
            let verdict = match (may_write, covered.contains(&index)) {
                (false, _) => Some(ErrorReason::CallerNotPermitted),
                (true, false) => Some(ErrorReason::GrantExceedsCaller),
                (true, true) => None,
            };
            // One key serves for all calls that must not change it.
            let mut target = None;
            for call in TOUCHING {
                let what = format!("{held:?}: {call} a key with {permissions:?}");
                let wants_disabled = call.ends_with("the disabled");
                if verdict.is_none() || target.is_none() || wants_disabled {
                    let issued = issue(&root, permissions).await.expect("root may");
                    let mut made = issued.key.expect("a key");
                    if wants_disabled {
                        made = disable(&root, &made.name).await.expect("root may");
                    }
                    target = Some(made);
                }
                let before = target.clone().expect("a target");
                let result = touch(&caller, call, &before.name).await;
                match verdict {
                    None => drop(result.unwrap_or_else(|status| panic!("{what}: {status:?}"))),
                    Some(reason) => {
                        assert_refused(&what, result, Code::PermissionDenied, reason, &[]);
                        assert_eq!(get(&root, &before.name).await, before, "{what}");
                    }
                }
            }
            let empty = issue(&root, &[]).await.expect("root may");
            let mut empty = empty.key.expect("a key");
            for call in GIVING {
                // Without a mask an empty set means "as it is", which is no gift.
                if permissions.is_empty() && call == "update without a mask" {
                    continue;
                }
                let what = format!("{held:?}: {call} a key to have {permissions:?}");
                let result = give(&caller, call, &empty, permissions).await;
                let after = get(&root, &empty.name).await;
                if let Some(reason) = verdict {
                    assert_refused(&what, result, Code::PermissionDenied, reason, &[]);
                    assert_eq!(after, empty, "{what}");
                    continue;
                }
                result.unwrap_or_else(|status| panic!("{what}: {status:?}"));
                if call != "create" {
                    assert_eq!(after.permissions, *permissions, "{what}");
                }
                let emptied = key_with(&empty.name, &[]);
                let emptied = root
                    .keys
                    .clone()
                    .update_key(update(emptied, &["permissions"]))
                    .await;
                empty = emptied.expect("root may").into_inner();
            }
        }
    });
    futures_util::future::join_all(roles).await;
}

fn key_with(name: &str, permissions: &[&str]) -> Key {
    Key {
        name: name.into(),
        ..key_named("", permissions)
    }
}

/// A key of `system` is not to be had by the name of another workspace, where the rule does not hold.
#[tokio::test]
async fn a_system_key_has_no_second_name() {
    let server = Server::start();
    let (root, _) = clients(&server);
    create_workspace(&root, "acme").await;
    let caller = caller(&server, &root, &["acme:keys.write", "acme:keys.read"]).await;
    let target = issue(&root, &["*"]).await.expect("root may");
    let before = target.key.expect("a key");
    let other_name = before.name.replace("system", "acme");
    for call in TOUCHING {
        let result = touch(&caller, call, &other_name).await;
        let reason = ErrorReason::ResourceNotFound;
        assert_refused(call, result, Code::NotFound, reason, &[]);
    }
    let found = caller
        .keys
        .clone()
        .get_key(GetKeyRequest { name: other_name })
        .await;
    let reason = ErrorReason::ResourceNotFound;
    assert_refused("get", found, Code::NotFound, reason, &[]);
    assert_eq!(get(&root, &before.name).await, before);
}

// ---------------------------------------------------------------------------------------------------- the property

/// True if who holds `held` has every one of `asked`. Told by nothing but the contract.
fn covers(held: &[&str], asked: &[String]) -> bool {
    asked.iter().all(|asked| {
        held.iter().any(|&held| {
            held == "*"
                || held == asked
                || held
                    .strip_prefix("*:")
                    .is_some_and(|act| asked.ends_with(&format!(":{act}")))
        })
    })
}

async fn system_keys(root: &Clients) -> Vec<Key> {
    let request = ListKeysRequest {
        parent: SYSTEM.into(),
        page_size: 1_000,
        page_token: String::new(),
        ..ListKeysRequest::default()
    };
    let listed = root.keys.clone().list_keys(request).await;
    listed.expect("root may").into_inner().keys
}

/// Whatever is done from a narrow credential, and from all that it makes or gets hold of on the way: none of them ever
/// holds more than the first, and no key that holds more is changed.
#[tokio::test]
async fn from_a_narrow_credential_no_wider_one_is_reached() {
    const START: &[&str] = &[
        "system:keys.write",
        "system:keys.read",
        "acme:keys.write",
        "*:check",
    ];
    const NAMES: [&str; 10] = [
        "system:keys.write",
        "system:keys.read",
        "acme:keys.write",
        "acme:check",
        "*:check",
        "*",
        "*:keys.write",
        "default:keys.read",
        "system:workspaces.write",
        "*:fleet.read",
    ];
    const STEPS: usize = 150;
    let (mut random, seed) = Random::seeded();
    let server = Server::start();
    let (root, _) = clients(&server);
    create_workspace(&root, "acme").await;
    for permissions in TARGETS {
        issue(&root, permissions).await.expect("root may");
    }
    let start = issue(&root, START).await.expect("root may");
    let mut tokens = vec![start.token];
    let mut start_name = start.key.expect("a key").name;
    let mut reached = vec![start_name.clone()];
    let out_of_reach = |keys: &[Key]| -> Vec<Key> {
        keys.iter()
            .filter(|key| !covers(START, &key.permissions))
            .cloned()
            .collect()
    };
    let mut keys = system_keys(&root).await;
    let untouchable = out_of_reach(&keys);
    assert!(untouchable.len() >= 5);
    let (mut done, mut refused) = (0, 0);

    for step in 0..STEPS {
        let mut pick = |count: usize| {
            usize::try_from(random.below(u64::try_from(count).expect("small"))).expect("small")
        };
        let token = &tokens[pick(tokens.len())];
        let caller = Clients::of(server.admin(), &Token::bearer(token));
        let target = keys[pick(keys.len())].clone();
        let call = TOUCHING[pick(TOUCHING.len())];
        let permissions: Vec<&str> = (0..pick(4)).map(|_| NAMES[pick(NAMES.len())]).collect();
        let issued = match pick(4) {
            0 => issue(&caller, &permissions).await.map(Some),
            1 => {
                let request = ResetSecretRequest {
                    name: target.name.clone(),
                    etag: String::new(),
                    ..ResetSecretRequest::default()
                };
                let reset = caller.keys.clone().reset_secret(request).await;
                reset.map(|issued| Some(issued.into_inner()))
            }
            2 => give(&caller, GIVING[1 + pick(3)], &target, &permissions)
                .await
                .map(|_| None),
            _ => touch(&caller, call, &target.name).await.map(|_| None),
        };
        match issued {
            Ok(issued) => {
                done += 1;
                if let Some(IssuedKey {
                    key: Some(key),
                    token,
                    ..
                }) = issued
                {
                    tokens.push(token);
                    reached.push(key.name);
                }
            }
            Err(_) => refused += 1,
        }
        keys = system_keys(&root).await;
        let what = format!("step {step} of PORTCULLIS_TEST_SEED={seed}");
        assert_eq!(out_of_reach(&keys), untouchable, "{what}");
        for key in keys.iter().filter(|key| reached.contains(&key.name)) {
            assert!(covers(START, &key.permissions), "{what}: {key:?}");
        }
        // A walk that has locked itself out begins again.
        let first = Clients::of(server.admin(), &Token::bearer(&tokens[0]));
        let own = GetKeyRequest {
            name: start_name.clone(),
        };
        if first.keys.clone().get_key(own).await.is_err() {
            let again = issue(&root, START).await.expect("root may");
            tokens = vec![again.token];
            start_name = again.key.expect("a key").name;
            reached.push(start_name.clone());
            keys = system_keys(&root).await;
        }
    }
    assert!(
        done > STEPS / 20 && refused > STEPS / 20,
        "{done} calls were made and {refused} refused: this shows little; PORTCULLIS_TEST_SEED={seed}"
    );
}

// ----------------------------------------------------------------------------------------- check, on the admin side

#[tokio::test]
async fn the_admin_listener_answers_check_to_who_holds_check_there() {
    let server = Server::start();
    let (root, gate) = clients(&server);
    create_workspace(&root, "acme").await;
    let token = root.create("asked about", &[]).await.token;
    let ask = |workspace: &str| CheckRequest {
        workspace: workspace.into(),
        ..check(&token)
    };
    // Who may ask about `default`, and who about `acme`.
    let roles: [(&[&str], bool, bool); 7] = [
        (&["*"], true, true),
        (&["*:check"], true, true),
        (&["default:check"], true, false),
        (&["acme:check"], false, true),
        (&["system:check"], false, false),
        (
            &[
                "*:keys.read",
                "*:keys.write",
                "*:workspaces.write",
                "*:fleet.read",
            ],
            false,
            false,
        ),
        (&[], false, false),
    ];
    for (held, default, acme) in roles {
        let caller = caller(&server, &root, held).await;
        for (workspace, may, reason) in [
            ("", default, Reason::Ok),
            ("default", default, Reason::Ok),
            ("acme", acme, Reason::InvalidCredential),
        ] {
            let what = format!("{held:?} asks about {workspace:?}");
            let single = caller.check.clone().check(ask(workspace)).await;
            // A batch stands or falls with what its caller may not ask, also at its end.
            let mut checks = vec![ask("default"), ask("default"), ask(workspace)];
            if !default {
                checks = vec![ask(workspace)];
            }
            let batch = BatchCheckRequest { checks };
            let batch = caller.check.clone().batch_check(batch).await;
            if may {
                let answer = single.unwrap_or_else(|status| panic!("{what}: {status:?}"));
                assert_eq!(answer.into_inner().reason(), reason, "{what}");
                let results = batch.expect(&what).into_inner().results;
                let last = results.last().expect("an answer");
                assert_eq!(last.reason(), reason, "{what}, in a batch");
            } else {
                let refusal = ErrorReason::CallerNotPermitted;
                assert_refused(&what, single, Code::PermissionDenied, refusal, &[]);
                assert_refused(&what, batch, Code::PermissionDenied, refusal, &[]);
            }
        }
    }
    // Here a credential is needed; on the gate, which is not reachable for strangers, none is.
    let nobody = Clients::of(server.admin(), &Token::none());
    let missing = ErrorReason::CredentialMissing;
    let single = nobody.check.clone().check(ask("")).await;
    assert_refused("nobody", single, Code::Unauthenticated, missing, &[]);
    let batch = BatchCheckRequest {
        checks: vec![ask("")],
    };
    let batch = nobody.check.clone().batch_check(batch).await;
    assert_refused("nobody", batch, Code::Unauthenticated, missing, &[]);
    assert_eq!(gate.ask(ask("")).await.reason(), Reason::Ok);
}

// ----------------------------------------------------------------------------------------------- one credential

type Value = MetadataValue<Ascii>;

fn value(bytes: &[u8]) -> Value {
    Value::try_from(bytes).expect("a header's value")
}

fn with<T>(message: T, values: &[Value]) -> Request<T> {
    let mut request = Request::new(message);
    for value in values {
        request
            .metadata_mut()
            .append("authorization", value.clone());
    }
    request
}

/// One call of every service that asks who calls, with these `authorization` headers.
async fn every_service(
    at: &Address,
    values: &[Value],
) -> Vec<(&'static str, Result<Response<()>, Status>)> {
    let clients = Clients::of(at, &Token::none());
    let list_keys = ListKeysRequest {
        parent: "workspaces/default".into(),
        ..ListKeysRequest::default()
    };
    let Clients {
        mut keys,
        mut workspaces,
        mut fleet,
        mut check,
        ..
    } = clients;
    vec![
        (
            "keys",
            keys.list_keys(with(list_keys, values))
                .await
                .map(|_| Response::new(())),
        ),
        (
            "workspaces",
            workspaces
                .list_workspaces(with(ListWorkspacesRequest::default(), values))
                .await
                .map(|_| Response::new(())),
        ),
        (
            "fleet",
            fleet
                .list_replicas(with(ListReplicasRequest::default(), values))
                .await
                .map(|_| Response::new(())),
        ),
        (
            "check",
            check
                .check(with(CheckRequest::default(), values))
                .await
                .map(|_| Response::new(())),
        ),
    ]
}

#[tokio::test]
async fn a_call_has_one_credential_in_ascii() {
    let server = Server::start();
    let (root, _) = clients(&server);
    let token = server.root_token();
    let good = || value(format!("Bearer {token}").as_bytes());
    let ordinary = root.create("of a workspace", &["*"]).await.token;
    let gone = issue(&root, &["*"]).await.expect("root may");
    disable(&root, &gone.key.expect("a key").name)
        .await
        .expect("root may");
    let bytes = |parts: &[&[u8]]| value(&parts.concat());
    let bad: [(&str, Vec<Value>); 14] = [
        ("twice the same", vec![good(), good()]),
        ("a good and a bad one", vec![good(), value(b"Bearer x")]),
        ("a bad and a good one", vec![value(b"Bearer x"), good()]),
        ("a good and an empty one", vec![good(), value(b"")]),
        ("an empty and a good one", vec![value(b""), good()]),
        ("three", vec![good(), good(), good()]),
        (
            "two in one",
            vec![value(format!("Bearer {token}, Bearer {token}").as_bytes())],
        ),
        (
            "not ASCII behind",
            vec![bytes(&[b"Bearer ", token.as_bytes(), b"\xff"])],
        ),
        (
            "not ASCII before",
            vec![bytes(&[b"\xffBearer ", token.as_bytes()])],
        ),
        ("UTF-8", vec![bytes(&["Bearer \u{fc}".as_bytes()])]),
        ("empty", vec![value(b"")]),
        ("no token", vec![value(b"Bearer garbage")]),
        (
            "a key of another workspace",
            vec![value(format!("Bearer {ordinary}").as_bytes())],
        ),
        (
            "a disabled one",
            vec![value(format!("Bearer {}", gone.token).as_bytes())],
        ),
    ];
    // The socket opens to who comes without a credential, never to who comes with a bad one.
    for at in [server.admin(), &server.admin_socket()] {
        for (what, values) in &bad {
            for (service, result) in every_service(at, values).await {
                let what = format!("{at}: {service}: {what}");
                let reason = ErrorReason::CredentialInvalid;
                assert_refused(&what, result, Code::Unauthenticated, reason, &[]);
            }
        }
        for (service, result) in every_service(at, &[good()]).await {
            assert!(result.is_ok(), "{at}: {service}: {result:?}");
        }
    }
    for (service, result) in every_service(server.admin(), &[]).await {
        let reason = ErrorReason::CredentialMissing;
        assert_refused(service, result, Code::Unauthenticated, reason, &[]);
    }
    for (service, result) in every_service(&server.admin_socket(), &[]).await {
        assert!(result.is_ok(), "the socket: {service}: {result:?}");
    }
}

#[tokio::test]
async fn on_the_socket_a_credential_counts_and_without_one_the_operator() {
    let server = Server::start();
    let (root, _) = clients(&server);
    let socket = server.admin_socket();
    let uid = rustix::process::getuid().as_raw();
    let operator = Clients::of(&socket, &Token::none());
    let made = operator.create("by the operator", &[]).await;
    assert_eq!(made.key.expect("a key").owner, format!("local:{uid}"));

    let held = ["default:keys.write", "default:keys.read"];
    let issued = issue(&root, &held).await.expect("root may");
    let name = issued.key.expect("a key").name;
    let narrow = Clients::of(&socket, &Token::bearer(&issued.token));
    let made = narrow.create("by the credential", &[]).await;
    assert_eq!(made.key.expect("a key").owner, name);
    let more = issue(&narrow, &[]).await.expect_err("not in system");
    assert_eq!(reason_of(&more), ErrorReason::CallerNotPermitted);
    let replicas = narrow
        .fleet
        .clone()
        .list_replicas(ListReplicasRequest {})
        .await;
    let reason = ErrorReason::CallerNotPermitted;
    assert_refused("the fleet", replicas, Code::PermissionDenied, reason, &[]);

    // A credential that is bound to an address has none here.
    let bound = Key {
        name: name.clone(),
        ip_allowlist: vec!["127.0.0.1".into()],
        ..key()
    };
    root.keys
        .clone()
        .update_key(update(bound, &["ip_allowlist"]))
        .await
        .expect("root may");
    let over_tcp = Clients::of(server.admin(), &Token::bearer(&issued.token));
    over_tcp.create("from its address", &[]).await;
    let request = || CreateKeyRequest {
        parent: "workspaces/default".into(),
        key: Some(key()),
        ..CreateKeyRequest::default()
    };
    let refused = narrow.keys.clone().create_key(request()).await;
    let reason = ErrorReason::CredentialInvalid;
    let code = Code::Unauthenticated;
    assert_refused("from no address", refused, code, reason, &[]);

    disable(&operator, &name).await.expect("the operator may");
    for clients in [&narrow, &over_tcp] {
        let refused = clients.keys.clone().create_key(request()).await;
        assert_refused("disabled", refused, code, reason, &[]);
    }
}

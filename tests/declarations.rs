//! Workspaces over gRPC: what they declare binds their keys, from the revision on that says so; and their end.

mod support;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use portcullis::proto::v1::{
    CheckRequest, ErrorReason, GetKeyRequest, GetWorkspaceRequest, Key, SettingDeclaration,
    Workspace,
    check_response::Reason,
    key::Access,
    setting_declaration::{EnumType, IntegerType, StringType, Type},
};
use support::{
    Answer, Clients, Mutation, Server, Setup, assert_refused, check, clients, key, key_named,
    reason_of, update,
};
use tokio::sync::Barrier;
use tonic::{Code, Response, Status};
use tonic_types::StatusExt as _;

const ACME: &str = "workspaces/acme";

fn texts(values: &[&str]) -> Vec<String> {
    values.iter().map(ToString::to_string).collect()
}

fn declaring(permissions: &[&str]) -> Workspace {
    Workspace {
        name: ACME.into(),
        permissions: texts(permissions),
        ..Workspace::default()
    }
}

fn permissions(names: &[&str]) -> Mutation {
    Mutation::update_workspace(declaring(names), &["permissions"])
}

fn settings(settings: &[SettingDeclaration]) -> Mutation {
    let workspace = Workspace {
        name: ACME.into(),
        settings: settings.to_vec(),
        ..Workspace::default()
    };
    Mutation::update_workspace(workspace, &["settings"])
}

fn new_key(permissions: &[&str]) -> Mutation {
    Mutation::create(ACME, key_named("key", permissions))
}

fn permit(name: &str, permissions: &[&str]) -> Mutation {
    let key = Key {
        name: name.into(),
        ..key_named("", permissions)
    };
    Mutation::UpdateKey(update(key, &["permissions"]))
}

async fn get(admin: &Clients, name: &str) -> Key {
    let request = GetKeyRequest { name: name.into() };
    let found = admin.keys.clone().get_key(request).await;
    found.expect("the key is there").into_inner()
}

async fn find_workspace(admin: &Clients, name: &str) -> Result<Response<Workspace>, Status> {
    let request = GetWorkspaceRequest { name: name.into() };
    admin.workspaces.clone().get_workspace(request).await
}

/// A server with a workspace `acme`.
async fn scene(workspace: Workspace) -> (Server, Clients, Clients) {
    let server = Server::start();
    let (admin, gate) = clients(&server);
    Mutation::create_workspace("acme", workspace)
        .done(&admin)
        .await;
    (server, admin, gate)
}

async fn issue(admin: &Clients, key: Key) -> (String, String) {
    match Mutation::create(ACME, key).done(admin).await {
        Answer::Issued(issued) => (issued.key.expect("a key").name, issued.token),
        other => panic!("{other:?}"),
    }
}

fn in_acme(token: &str) -> CheckRequest {
    CheckRequest {
        workspace: "acme".into(),
        ..check(token)
    }
}

/// Asserts that a declaration cannot go because of what this key holds.
async fn in_use(what: &str, admin: &Clients, gate: &Clients, call: Mutation, holds: (&str, &str)) {
    let before = gate.revision().await;
    let status = call.send(admin).await.expect_err(what);
    assert_eq!(
        status.code(),
        Code::FailedPrecondition,
        "{what}: {status:?}"
    );
    assert_eq!(
        reason_of(&status),
        ErrorReason::DeclarationInUse,
        "{what}: {status:?}"
    );
    let info = status.get_details_error_info().expect("an ErrorInfo");
    let told = |name: &str| info.metadata.get(name).map(String::as_str);
    assert_eq!(told("resource"), Some(holds.0), "{what}: {status:?}");
    assert_eq!(told("field"), Some(holds.1), "{what}: {status:?}");
    assert_eq!(gate.revision().await, before, "{what}");
}

// --------------------------------------------------------------------------------------------------------- permissions

#[tokio::test]
async fn where_permissions_are_declared_keys_choose_from_them() {
    let (_server, admin, gate) = scene(declaring(&["sms.send", "otp.send"])).await;
    let before = gate.revision().await;
    for permissions in [&["sms.sent"][..], &["sms.send", "otp.verify"], &["*", "x"]] {
        let status = new_key(permissions).send(&admin).await;
        let status = status.expect_err("not declared");
        assert_eq!(reason_of(&status), ErrorReason::InvalidField);
        let told = status.message();
        let unknown = permissions.last().expect("one");
        assert!(told.contains(unknown), "the unknown one: {told}");
        assert!(told.contains("otp.send, sms.send"), "what there is: {told}");
    }
    assert_refused(
        "no choice",
        new_key(&[]).send(&admin).await,
        Code::InvalidArgument,
        ErrorReason::InvalidField,
        &["key.permissions"],
    );
    assert_eq!(gate.revision().await, before);

    let chosen = new_key(&["sms.send"]).done(&admin).await.key();
    new_key(&["*"]).done(&admin).await;
    new_key(&["otp.send", "sms.send"]).done(&admin).await;
    assert_refused(
        "an edit",
        permit(&chosen.name, &["otp.verify"]).send(&admin).await,
        Code::InvalidArgument,
        ErrorReason::InvalidField,
        &["key.permissions"],
    );
    // To choose is for new keys: clearing the list later means none.
    let cleared = permit(&chosen.name, &[]).done(&admin).await.key();
    assert!(cleared.permissions.is_empty());
}

#[tokio::test]
async fn a_permission_that_is_held_cannot_be_undeclared() {
    let (_server, admin, gate) = scene(Workspace::default()).await;
    let held = "permissions otp.send";
    let created = new_key(&["otp.send", "sms.send"]).done(&admin).await.key();
    let name = created.name.as_str();
    let none = || permissions(&["sms.send"]);
    in_use("declared first", &admin, &gate, none(), (name, held)).await;
    // `*` is no name that could be missing, and a key of another workspace is no key of this one.
    new_key(&["*"]).done(&admin).await;
    admin.create("elsewhere", &["otp.send"]).await;

    permissions(&["otp.send", "sms.send"]).done(&admin).await;
    in_use("narrowed", &admin, &gate, none(), (name, held)).await;
    Mutation::disable(name).done(&admin).await;
    in_use("disabled", &admin, &gate, none(), (name, held)).await;

    permit(name, &["sms.send"]).done(&admin).await;
    none().done(&admin).await;
    assert_refused(
        "undeclared, and so refused",
        permit(name, &["otp.send"]).send(&admin).await,
        Code::InvalidArgument,
        ErrorReason::InvalidField,
        &["key.permissions"],
    );

    // An archived key is never used again, so what it held binds nobody.
    permissions(&["otp.send", "sms.send"]).done(&admin).await;
    let (archived, token) = issue(&admin, key_named("", &["otp.send"])).await;
    assert!(gate.ask(in_acme(&token)).await.allowed);
    in_use("held again", &admin, &gate, none(), (&archived, held)).await;
    Mutation::archive(&archived).done(&admin).await;
    none().done(&admin).await;

    // With none declared names are free again.
    permissions(&[]).done(&admin).await;
    new_key(&["anything"]).done(&admin).await;
    assert_eq!(
        new_key(&[]).done(&admin).await.key().permissions,
        ["*"],
        "and who chooses none gets all"
    );
}

#[tokio::test]
async fn access_tells_whether_a_key_may_do_all_there_is() {
    let (_server, admin, _) = scene(Workspace::default()).await;
    let all = new_key(&["*"]).done(&admin).await.key();
    let both = new_key(&["a", "b"]).done(&admin).await.key();
    let one = new_key(&["a"]).done(&admin).await.key();
    let none = permit(&new_key(&["a"]).done(&admin).await.key().name, &[])
        .done(&admin)
        .await
        .key();
    let access = async |keys: [&Key; 4]| {
        let mut found = Vec::new();
        for key in keys {
            found.push(get(&admin, &key.name).await.access());
        }
        found
    };
    let keys = [&all, &both, &one, &none];
    let (full, partial) = (Access::Full, Access::Partial);
    // Nobody holds all of what is not counted.
    assert_eq!(access(keys).await, [full, partial, partial, partial]);
    permissions(&["a", "b"]).done(&admin).await;
    assert_eq!(access(keys).await, [full, full, partial, partial]);
    permissions(&["a", "b", "c"]).done(&admin).await;
    assert_eq!(access(keys).await, [full, partial, partial, partial]);
    let made = new_key(&["a", "b", "c"]).done(&admin).await.key();
    assert_eq!(made.access(), full, "told with the key, too");
    let less = permit(&made.name, &["a", "c"]).done(&admin).await.key();
    assert_eq!(less.access(), partial);
    let revisions = [&all, &both, &one, &none].map(|key| key.revision.clone());
    for (key, revision) in keys.iter().zip(revisions) {
        let now = get(&admin, &key.name).await.revision;
        assert_eq!(now, revision, "no key was written for it");
    }
}

/// Never both: a permission undeclared, and a key that holds it. Whichever is committed first, the other sees it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_permission_is_never_undeclared_beside_a_new_key_that_holds_it() {
    const ROUNDS: usize = 250;
    const CREATES: usize = 4;
    let (server, admin, _) = scene(declaring(&["a", "b"])).await;
    let callers: Vec<Clients> = (0..=CREATES).map(|_| Clients::root(&server)).collect();
    let (mut undeclared, mut held) = (0, 0);
    for round in 0..ROUNDS {
        let start = Arc::new(Barrier::new(CREATES + 1));
        let calls: Vec<_> = callers
            .iter()
            .enumerate()
            .map(|(number, caller)| {
                let call = if number == 0 {
                    permissions(&["a"])
                } else {
                    new_key(&["b"])
                };
                let (caller, start) = (caller.clone(), start.clone());
                tokio::spawn(async move {
                    start.wait().await;
                    // So that the update comes before, among and after the others.
                    for _ in 0..(round * (number + 1)) % 7 {
                        tokio::task::yield_now().await;
                    }
                    call.send(&caller).await.map(Response::into_inner)
                })
            })
            .collect();
        let mut answers = Vec::new();
        for call in calls {
            answers.push(call.await.expect("a call"));
        }
        let mut created = Vec::new();
        for answer in answers.drain(1..) {
            match answer {
                Ok(answer) => created.push(answer.key().name),
                Err(status) => {
                    let reason = reason_of(&status);
                    assert_eq!(reason, ErrorReason::InvalidField, "{status:?}");
                }
            }
        }
        match answers.remove(0) {
            Ok(_) => {
                assert_eq!(created, [""; 0], "round {round}: undeclared, and yet held");
                undeclared += 1;
            }
            Err(status) => {
                let reason = reason_of(&status);
                assert_eq!(reason, ErrorReason::DeclarationInUse, "{status:?}");
                assert!(!created.is_empty(), "round {round}: by nobody");
                held += 1;
            }
        }
        for name in created {
            Mutation::delete(&name).done(&admin).await;
        }
        permissions(&["a", "b"]).done(&admin).await;
    }
    assert!(
        undeclared > 0 && held > 0,
        "one side always won: {undeclared} to {held}"
    );
}

// ------------------------------------------------------------------------------------------------------------ settings

fn sender(default: &str, allowed: &[&str]) -> SettingDeclaration {
    SettingDeclaration {
        name: "sender".into(),
        default_value: default.into(),
        r#type: Some(Type::StringType(StringType {
            max_length: 20,
            allowed: texts(allowed),
        })),
        ..SettingDeclaration::default()
    }
}

fn mode(values: &[&str]) -> SettingDeclaration {
    SettingDeclaration {
        name: "mode".into(),
        r#type: Some(Type::EnumType(EnumType {
            values: texts(values),
        })),
        ..SettingDeclaration::default()
    }
}

fn map<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, String> {
    pairs
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
}

#[tokio::test]
async fn a_value_that_is_held_cannot_be_undeclared() {
    let (_server, admin, gate) = scene(Workspace::default()).await;
    let full = [sender("Acme", &[]), mode(&["OFF", "ON", "FULL"])];
    settings(&full).done(&admin).await;
    let holding = |pairs| Key {
        settings: pairs,
        ..key()
    };
    let (name, token) = issue(&admin, holding(map([("mode", "FULL"), ("sender", "Bank")]))).await;
    let set = |pairs| {
        let key = Key {
            name: name.clone(),
            settings: pairs,
            ..key()
        };
        Mutation::UpdateKey(update(key, &["settings"]))
    };
    let number = SettingDeclaration {
        r#type: Some(Type::IntegerType(IntegerType::default())),
        ..mode(&[])
    };
    for (what, narrowed, field) in [
        ("gone", vec![sender("Acme", &[])], "settings.mode"),
        (
            "a name less",
            vec![full[0].clone(), mode(&["OFF", "ON"])],
            "settings.mode",
        ),
        (
            "another type",
            vec![full[0].clone(), number],
            "settings.mode",
        ),
        (
            "a list that was none",
            vec![sender("Acme", &["Acme"]), full[1].clone()],
            "settings.sender",
        ),
        ("all of it", vec![], "settings.mode"),
    ] {
        in_use(what, &admin, &gate, settings(&narrowed), (&name, field)).await;
    }
    let answer = gate.ask(in_acme(&token)).await;
    assert_eq!(answer.settings, map([("mode", "FULL"), ("sender", "Bank")]));

    // What the key does not stand against is no matter of it: narrower, but not for what is held.
    settings(&[sender("Bank", &["Bank"]), mode(&["FULL"])])
        .done(&admin)
        .await;
    settings(&full).done(&admin).await;
    set(map([("sender", "Bank")])).done(&admin).await;
    settings(&full[..1]).done(&admin).await;
    assert_refused(
        "undeclared, and so refused",
        set(map([("mode", "ON")])).send(&admin).await,
        Code::InvalidArgument,
        ErrorReason::InvalidField,
        &["key.settings[\"mode\"]"],
    );
    in_use(
        "the other",
        &admin,
        &gate,
        settings(&[]),
        (&name, "settings.sender"),
    )
    .await;
    Mutation::archive(&name).done(&admin).await;
    settings(&[]).done(&admin).await;
}

#[tokio::test]
async fn a_change_of_a_workspace_holds_at_the_gate_when_it_is_answered() {
    let (_server, admin, gate) = scene(Workspace::default()).await;
    settings(&[sender("Acme", &[])]).done(&admin).await;
    let (_, first) = issue(&admin, key()).await;
    let own = Key {
        settings: map([("sender", "Bank")]),
        ..key()
    };
    let (_, second) = issue(&admin, own).await;
    let shown = async |token: &str, asked: BTreeMap<String, String>| {
        let request = CheckRequest {
            settings: asked,
            ..in_acme(token)
        };
        let answer = gate.ask(request).await;
        (answer.reason(), answer.settings)
    };
    let ok = |sender: &str| (Reason::Ok, map([("sender", sender)]));
    assert_eq!(shown(&first, map([])).await, ok("Acme"));
    assert_eq!(shown(&second, map([])).await, ok("Bank"));
    assert_eq!(shown(&second, map([("sender", "Mine")])).await, ok("Mine"));

    for round in 0..20 {
        let default = format!("Acme {round}");
        settings(&[sender(&default, &[])]).done(&admin).await;
        assert_eq!(shown(&first, map([])).await, ok(&default));
        assert_eq!(shown(&second, map([])).await, ok("Bank"));
    }
    settings(&[sender("Bank", &["Bank", "Shop"])])
        .done(&admin)
        .await;
    let refused = (Reason::InvalidSetting, map([]));
    for token in [&first, &second] {
        assert_eq!(shown(token, map([("sender", "Mine")])).await, refused);
        assert_eq!(shown(token, map([("sender", "Shop")])).await, ok("Shop"));
        assert_eq!(shown(token, map([("mode", "ON")])).await, refused);
    }
}

// -------------------------------------------------------------------------------------------------------- token prefix

#[tokio::test]
async fn a_token_prefix_is_that_of_the_tokens_issued_from_then_on() {
    let (_server, admin, gate) = scene(Workspace {
        token_prefix: "old".into(),
        ..Workspace::default()
    })
    .await;
    let (name, before) = issue(&admin, key()).await;
    assert!(before.starts_with("old_"), "the prefix");
    let hint = get(&admin, &name).await.token_hint;
    assert!(hint.starts_with("old_"), "{hint}");
    let change = Workspace {
        name: ACME.into(),
        token_prefix: "new".into(),
        ..Workspace::default()
    };
    Mutation::update_workspace(change, &["token_prefix"])
        .done(&admin)
        .await;
    let (_, after) = issue(&admin, key()).await;
    assert!(after.starts_with("new_"), "the prefix");
    assert!(gate.ask(in_acme(&before)).await.allowed);
    assert!(gate.ask(in_acme(&after)).await.allowed);
    assert_eq!(
        get(&admin, &name).await.token_hint,
        hint,
        "its token is what it was"
    );

    // A reset issues a token: what scanners look for is what the workspace says now.
    let Answer::Issued(reset) = Mutation::reset(&name, 3_600).done(&admin).await else {
        panic!("no token")
    };
    assert!(reset.token.starts_with("new_"), "the prefix");
    let hint = reset.key.expect("a key").token_hint;
    assert!(hint.starts_with("new_"), "{hint}");
    for token in [&before, &reset.token] {
        assert!(gate.ask(in_acme(token)).await.allowed);
    }
}

// --------------------------------------------------------------------------------------------------------- end of a workspace

#[tokio::test]
async fn a_workspace_goes_when_it_is_empty_and_its_id_is_never_used_again() {
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let data = scratch.path().join("data");
    let server = Setup::new().data_dir(&data).start();
    let (admin, gate) = clients(&server);
    Mutation::create_workspace("acme", Workspace::default())
        .done(&admin)
        .await;
    let delete = Mutation::delete_workspace(ACME);
    let (name, token) = issue(&admin, key()).await;
    assert!(gate.ask(in_acme(&token)).await.allowed);
    let not_empty = async |what: &str| {
        let before = gate.revision().await;
        assert_refused(
            what,
            delete.send(&admin).await,
            Code::FailedPrecondition,
            ErrorReason::WorkspaceNotEmpty,
            &[],
        );
        assert_eq!(gate.revision().await, before, "{what}");
    };
    not_empty("an ACTIVE key").await;
    Mutation::disable(&name).done(&admin).await;
    not_empty("a disabled key").await;
    Mutation::archive(&name).done(&admin).await;
    not_empty("an archived key").await;
    Mutation::delete(&name).done(&admin).await;
    delete.done(&admin).await;

    let gone = async |what: &str, admin: &Clients, gate: &Clients| {
        let before = gate.revision().await;
        let mut took = Vec::new();
        for _ in 0..5 {
            let started = Instant::now();
            assert_refused(
                what,
                Mutation::create_workspace("acme", Workspace::default())
                    .send(admin)
                    .await,
                Code::AlreadyExists,
                ErrorReason::ResourceExists,
                &[],
            );
            took.push(started.elapsed());
        }
        // Far from the second that a call waits for a change it has not seen; a loaded machine may be slow, but not each time.
        let quickest = took.iter().min().expect("five");
        assert!(*quickest < Duration::from_millis(500), "{what}: {took:?}");
        for call in [
            delete.clone(),
            permissions(&["a"]),
            new_key(&[]),
            Mutation::rename(&name, "x"),
            Mutation::delete(&name),
        ] {
            assert_refused(
                what,
                call.send(admin).await,
                Code::NotFound,
                ErrorReason::ResourceNotFound,
                &[],
            );
        }
        assert_refused(
            what,
            find_workspace(admin, ACME).await,
            Code::NotFound,
            ErrorReason::ResourceNotFound,
            &[],
        );
        let answer = gate.ask(in_acme(&token)).await;
        assert_eq!(answer.reason(), Reason::InvalidCredential);
        assert_eq!(gate.revision().await, before, "{what}");
    };
    gone("deleted", &admin, &gate).await;
    assert!(server.stop().status.success());
    let server = Setup::new().data_dir(&data).start();
    let (admin, gate) = clients(&server);
    gone("after a restart", &admin, &gate).await;
    // Nothing of it counts as unreadable.
    assert_eq!(
        server
            .metric("portcullis_unreadable_records", "")
            .unwrap_or(0.0)
            .to_bits(),
        0.0_f64.to_bits()
    );
}

#[tokio::test]
async fn the_reserved_workspaces_stay() {
    let server = Server::start();
    let (admin, gate) = clients(&server);
    let before = gate.revision().await;
    let named = |name: &str| Workspace {
        name: name.into(),
        display_name: "mine".into(),
        ..Workspace::default()
    };
    for call in [
        Mutation::delete_workspace("workspaces/system"),
        Mutation::delete_workspace("workspaces/default"),
        Mutation::update_workspace(named("workspaces/system"), &["display_name"]),
        Mutation::update_workspace(named("workspaces/system"), &[]),
    ] {
        assert_refused(
            &format!("{call:?}"),
            call.send(&admin).await,
            Code::FailedPrecondition,
            ErrorReason::WorkspaceReserved,
            &[],
        );
    }
    assert_eq!(gate.revision().await, before);
    Mutation::update_workspace(named("workspaces/default"), &["display_name"])
        .done(&admin)
        .await;
}

/// Never both: a workspace that is gone, and a new key in it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workspace_never_goes_beside_a_new_key_in_it() {
    const ROUNDS: usize = 100;
    const CREATES: usize = 3;
    let server = Server::start();
    let (admin, gate) = clients(&server);
    let callers: Vec<Clients> = (0..=CREATES).map(|_| Clients::root(&server)).collect();
    let (mut gone, mut kept) = (0, 0);
    for round in 0..ROUNDS {
        let id = format!("w{round}");
        let name = format!("workspaces/{id}");
        Mutation::create_workspace(&id, Workspace::default())
            .done(&admin)
            .await;
        let start = Arc::new(Barrier::new(CREATES + 1));
        let calls: Vec<_> = callers
            .iter()
            .enumerate()
            .map(|(number, caller)| {
                let call = if number == 0 {
                    Mutation::delete_workspace(&name)
                } else {
                    Mutation::create(&name, key())
                };
                let (caller, start) = (caller.clone(), start.clone());
                tokio::spawn(async move {
                    start.wait().await;
                    for _ in 0..(round * (number + 1)) % 5 {
                        tokio::task::yield_now().await;
                    }
                    call.send(&caller).await.map(Response::into_inner)
                })
            })
            .collect();
        let mut answers = Vec::new();
        for call in calls {
            answers.push(call.await.expect("a call"));
        }
        let mut tokens = Vec::new();
        for answer in answers.drain(1..) {
            match answer {
                Ok(Answer::Issued(issued)) => tokens.push(issued.token),
                Ok(other) => panic!("{other:?}"),
                Err(status) => {
                    let reason = reason_of(&status);
                    assert_eq!(reason, ErrorReason::ResourceNotFound, "{status:?}");
                }
            }
        }
        match answers.remove(0) {
            Ok(_) => {
                assert!(
                    tokens.is_empty(),
                    "round {round}: gone, and yet it has a key"
                );
                gone += 1;
            }
            Err(status) => {
                let reason = reason_of(&status);
                assert_eq!(reason, ErrorReason::WorkspaceNotEmpty, "{status:?}");
                kept += 1;
                for token in tokens {
                    let request = CheckRequest {
                        workspace: id.clone(),
                        ..check(&token)
                    };
                    assert!(gate.ask(request).await.allowed, "round {round}");
                }
            }
        }
    }
    assert!(
        gone > 0 && kept > 0,
        "one side always won: {gone} to {kept}"
    );
}

//! The calls that lead a key through its life, and those on workspaces: masks, etags, names, spans, and whose they are.

use portcullis::proto::v1::{
    CreateKeyRequest, DeleteWorkspaceRequest, ErrorReason, GetKeyRequest, GetWorkspaceRequest, Key,
    ResetSecretRequest, UpdateWorkspaceRequest, Workspace, check_response::Reason,
};
use prost::Message as _;
use prost_types::{Duration, Timestamp};
use tonic::Code;

use crate::{
    credential::{argon2_runs, denies},
    support::{
        Clients, Mutation, Server, Token, assert_refused, check, check_request, clients, key,
        key_named,
    },
    unchanged,
};

const DAY: i64 = 24 * 60 * 60;

async fn get(admin: &Clients, name: &str) -> Key {
    let request = GetKeyRequest { name: name.into() };
    let found = admin.keys.clone().get_key(request).await;
    found.expect("the key is there").into_inner()
}

async fn get_workspace(admin: &Clients, name: &str) -> Workspace {
    let request = GetWorkspaceRequest { name: name.into() };
    let found = admin.workspaces.clone().get_workspace(request).await;
    found.expect("the workspace is there").into_inner()
}

/// Not one byte tells a key that was archived or deleted from one that never was, and no verify does by its time.
#[tokio::test]
async fn an_archived_key_answers_as_one_that_never_was() {
    let server = Server::start();
    let (admin, gate) = clients(&server);
    let unknown = {
        let elsewhere = Server::start();
        Clients::root(&elsewhere)
            .create("elsewhere", &[])
            .await
            .token
    };
    let mut gone = Vec::new();
    for (what, used) in [
        ("row 24: archived, warm", true),
        ("row 24: archived, cold", false),
        ("row 24: archived, disabled", true),
        ("row 24: archived, both secrets of an overlap", true),
        ("row 24: deleted", true),
    ] {
        let issued = admin.create(what, &["sms.send"]).await;
        let name = issued.key.expect("a key").name;
        let mut tokens = vec![issued.token];
        if what.ends_with("disabled") {
            Mutation::disable(&name).done(&admin).await;
        }
        if what.ends_with("overlap") {
            let reset = ResetSecretRequest {
                name: name.clone(),
                overlap: Some(Duration {
                    seconds: DAY,
                    nanos: 0,
                }),
                ..ResetSecretRequest::default()
            };
            let reset = admin.keys.clone().reset_secret(reset).await;
            tokens.push(reset.expect("a reset").into_inner().token);
        }
        for token in &tokens {
            let answer = gate.ask(check(token)).await;
            if used && what.ends_with("warm") {
                assert!(answer.allowed, "{what}: it was good: {answer:?}");
            }
        }
        let end = if what.ends_with("deleted") {
            Mutation::delete(&name)
        } else {
            Mutation::archive(&name)
        };
        end.done(&admin).await;
        gone.extend(tokens.into_iter().map(|token| (what, token)));
    }
    let runs = argon2_runs(&server);
    for (what, token) in &gone {
        denies(&gate, what, check(token), Reason::InvalidCredential).await;
        for permissions in [&[][..], &["sms.send"], &["otp.send"]] {
            let asked = |token: &str| check_request(token, permissions);
            assert_eq!(
                gate.ask(asked(token)).await.encode_to_vec(),
                gate.ask(asked(&unknown)).await.encode_to_vec(),
                "{what}: the same bytes as unknown"
            );
        }
    }
    assert_eq!(
        argon2_runs(&server).to_bits(),
        runs.to_bits(),
        "row 24: argon2 ran"
    );
}

#[tokio::test]
async fn an_overlap_is_a_span_of_at_most_30_days() {
    let server = Server::start();
    let (admin, gate) = clients(&server);
    let issued = admin.create("first", &[]).await;
    let made = issued.key.expect("a key");
    let reset = async |seconds, nanos| {
        let request = ResetSecretRequest {
            name: made.name.clone(),
            overlap: Some(Duration { seconds, nanos }),
            ..ResetSecretRequest::default()
        };
        admin.keys.clone().reset_secret(request).await
    };
    for (what, seconds, nanos) in [
        ("row 74: the end of the number", i64::MAX, 999_999_999),
        ("row 74: milliseconds for seconds", 30 * DAY * 1_000, 0),
        ("row 74: the start of the number", i64::MIN, 0),
        ("row 74: the start of both numbers", i64::MIN, i32::MIN),
        ("row 75: -1 s", -1, 0),
        ("row 75: -1 ns", 0, -1),
        ("row 75: both negative", -1, -999_999_999),
        ("row 75: 30 days and 1 ns", 30 * DAY, 1),
        ("row 75: 30 days and 1 s", 30 * DAY + 1, 0),
        ("row 75: nanos 10^9", 0, 1_000_000_000),
        ("row 75: nanos at their end", 1, i32::MAX),
        ("row 75: signs that differ", 1, -1),
        ("row 75: signs that differ, the other way", -1, 1),
    ] {
        let before = gate.revision().await;
        assert_refused(
            what,
            reset(seconds, nanos).await,
            Code::InvalidArgument,
            ErrorReason::InvalidField,
            &["overlap"],
        );
        unchanged(what, &gate, &before).await;
        assert_eq!(get(&admin, &made.name).await, made, "{what}");
        assert!(
            gate.ask(check(&issued.token)).await.allowed,
            "{what}: the secret is what it was"
        );
    }
    for (what, seconds, nanos, live) in [
        ("row 75: 30 days", 30 * DAY, 0, 2),
        ("row 75: nothing", 0, 0, 1),
        ("row 75: nearly a second", 29 * DAY, 999_999_999, 2),
    ] {
        let key = reset(seconds, nanos).await.expect(what).into_inner().key;
        assert_eq!(key.expect("a key").secrets.len(), live, "{what}");
    }
}

#[tokio::test]
async fn a_mask_of_a_workspace_names_what_can_be_changed_and_nothing_else() {
    let server = Server::start();
    let (admin, gate) = clients(&server);
    let made = get_workspace(&admin, "workspaces/default").await;
    let other = Workspace {
        display_name: "changed".into(),
        token_prefix: "other".into(),
        permissions: vec!["sms.send".into()],
        archive_limit: 7,
        ..made.clone()
    };
    let before = gate.revision().await;
    for (what, mask) in [
        ("row 77: unknown path", &["colour"][..]),
        ("row 77: beside a known one", &["display_name", "colour"]),
        ("row 77: from the request", &["workspace.display_name"]),
        ("row 77: into a field", &["settings.mode"]),
        ("row 77: an element", &["permissions[0]"]),
        ("row 77: empty path", &[""]),
        ("row 77: JSON's name", &["archiveLimit"]),
        ("row 78: * and a path", &["*", "permissions"]),
        ("row 78: a path and *", &["permissions", "*"]),
        ("row 78: * twice", &["*", "*"]),
        ("row 79: name, which never changes", &["name"]),
        ("row 79: create_time", &["create_time"]),
        ("row 79: update_time", &["display_name", "update_time"]),
        ("row 79: etag", &["etag"]),
        ("row 79: revision", &["revision"]),
    ] {
        let update = Mutation::update_workspace(other.clone(), mask);
        assert_refused(
            what,
            update.send(&admin).await,
            Code::InvalidArgument,
            ErrorReason::InvalidField,
            &["update_mask"],
        );
        unchanged(what, &gate, &before).await;
    }
    let what = "row 78: * without an etag";
    let bare = Workspace {
        etag: String::new(),
        ..other.clone()
    };
    assert_refused(
        what,
        Mutation::update_workspace(bare, &["*"]).send(&admin).await,
        Code::InvalidArgument,
        ErrorReason::InvalidField,
        &["workspace.etag"],
    );
    unchanged(what, &gate, &before).await;
    assert_eq!(get_workspace(&admin, &made.name).await, made);

    // Of a key, what came with archiving and settings.
    let first = admin.create("first", &[]).await.key.expect("a key");
    let before = gate.revision().await;
    for (what, path) in [
        ("row 77: an element of settings", "settings.mode"),
        ("row 77: an element of labels", "labels.team"),
        ("row 79: archive_time", "archive_time"),
        ("row 79: access", "access"),
        ("row 79: token_hint", "token_hint"),
        ("row 79: etag", "etag"),
    ] {
        let change = Key {
            archive_time: Some(Timestamp {
                seconds: 1,
                nanos: 0,
            }),
            ..first.clone()
        };
        let update = Mutation::UpdateKey(crate::support::update(change, &[path]));
        assert_refused(
            what,
            update.send(&admin).await,
            Code::InvalidArgument,
            ErrorReason::InvalidField,
            &["update_mask"],
        );
        unchanged(what, &gate, &before).await;
    }
    // Without a mask only what can be set is looked at, and what a new key says of itself beyond that is not believed.
    let said = Key {
        archive_time: Some(Timestamp {
            seconds: 1,
            nanos: 0,
        }),
        owner: "nobody".into(),
        key_id: "x".into(),
        state: portcullis::proto::v1::key::State::Archived.into(),
        access: portcullis::proto::v1::key::Access::Full.into(),
        ..key_named("second", &["sms.send"])
    };
    let issued = admin.create_key(said).await;
    let shown = issued.key.expect("a key");
    assert_eq!(shown.archive_time, None, "row 79: on create");
    assert_eq!(shown.owner, first.owner, "row 79: on create");
    assert_eq!(
        (shown.state(), shown.access()),
        (
            portcullis::proto::v1::key::State::Active,
            portcullis::proto::v1::key::Access::Partial
        ),
        "row 79: on create"
    );
    assert!(gate.ask(check(&issued.token)).await.allowed);
}

/// The calls on a key that came with its whole life, and those on a workspace.
fn newer_calls(key: &str, workspace: &str) -> [Mutation; 4] {
    let change = Workspace {
        name: workspace.into(),
        display_name: "changed".into(),
        ..Workspace::default()
    };
    [
        Mutation::end_overlap(key),
        Mutation::archive(key),
        Mutation::update_workspace(change, &["display_name"]),
        Mutation::delete_workspace(workspace),
    ]
}

#[tokio::test]
async fn a_stale_etag_aborts_the_newer_calls_too() {
    let server = Server::start();
    let (admin, gate) = clients(&server);
    Mutation::create_workspace("acme", Workspace::default())
        .done(&admin)
        .await;
    let made = admin.create("first", &[]).await.key.expect("a key");
    Mutation::reset(&made.name, DAY).done(&admin).await;
    let stale_workspace = get_workspace(&admin, "workspaces/acme").await.etag;
    let change = Workspace {
        name: "workspaces/acme".into(),
        archive_limit: 3,
        ..Workspace::default()
    };
    Mutation::update_workspace(change, &[]).done(&admin).await;
    let now = (
        get(&admin, &made.name).await,
        get_workspace(&admin, "workspaces/acme").await,
    );
    let before = gate.revision().await;
    for etag in [
        &made.etag,
        &stale_workspace,
        "1.0",
        "\"x\"",
        &"e".repeat(1 << 20),
    ] {
        for call in newer_calls(&made.name, "workspaces/acme") {
            let what = format!("row 87: {}", etag.get(..20).unwrap_or(etag));
            assert_refused(
                &what,
                call.with_etag(etag).send(&admin).await,
                Code::Aborted,
                ErrorReason::EtagMismatch,
                &[],
            );
            unchanged(&what, &gate, &before).await;
        }
    }
    let after = (
        get(&admin, &made.name).await,
        get_workspace(&admin, "workspaces/acme").await,
    );
    assert_eq!(after, now, "row 87: nothing was changed");
    for (call, etag) in newer_calls(&made.name, "workspaces/acme").into_iter().zip([
        Some(&now.0.etag),
        None,
        Some(&now.1.etag),
        None,
    ]) {
        if let Some(etag) = etag {
            call.with_etag(etag).done(&admin).await;
        }
    }
}

#[tokio::test]
async fn the_newer_calls_are_closed_to_strangers_whether_or_not_it_is_there() {
    let server = Server::start();
    let (admin, gate) = clients(&server);
    for id in ["ours", "theirs"] {
        Mutation::create_workspace(id, Workspace::default())
            .done(&admin)
            .await;
    }
    let of = async |permissions: &[&str]| {
        let create = CreateKeyRequest {
            parent: "workspaces/system".into(),
            key: Some(key_named("", permissions)),
            ..CreateKeyRequest::default()
        };
        let issued = admin.keys.clone().create_key(create).await;
        let issued = issued.expect("root may").into_inner();
        Clients::of(server.admin(), &Token::bearer(&issued.token))
    };
    let theirs = Mutation::create("workspaces/theirs", key());
    let theirs = theirs.done(&admin).await.key().name;
    let nobody = theirs.replace("theirs", "nowhere");
    let unknown = format!("{}0", &theirs[..theirs.len() - 1]);
    let writer = of(&["ours:keys.read", "ours:keys.write", "ours:audit.read"]).await;
    let tenant = of(&["ours:workspaces.write", "ours:keys.read"]).await;
    let before = gate.revision().await;
    for (who, workspaces) in [
        (
            &writer,
            &["theirs", "nowhere", "system", "default", "ours"][..],
        ),
        (&tenant, &["theirs", "nowhere", "system", "default"]),
    ] {
        for workspace in workspaces {
            let workspace = format!("workspaces/{workspace}");
            for name in [&theirs, &nobody, &unknown] {
                for call in newer_calls(name, &workspace) {
                    let what = format!("row 89: {workspace}: {call:?}");
                    assert_refused(
                        &what,
                        call.send(who).await,
                        Code::PermissionDenied,
                        ErrorReason::CallerNotPermitted,
                        &[],
                    );
                    unchanged(&what, &gate, &before).await;
                }
            }
            // Who may not is told nothing of what the call should look like, either.
            let malformed = Workspace {
                name: workspace.clone(),
                archive_limit: -1,
                ..Workspace::default()
            };
            let id = workspace.trim_start_matches("workspaces/");
            for call in [
                Mutation::update_workspace(malformed.clone(), &["colour"]),
                Mutation::create_workspace(id, malformed).with_id("not an id"),
                Mutation::delete_workspace(&workspace).with_id("not an id"),
            ] {
                assert_refused(
                    "row 89: malformed",
                    call.send(who).await,
                    Code::PermissionDenied,
                    ErrorReason::CallerNotPermitted,
                    &[],
                );
            }
        }
    }
    unchanged("row 89", &gate, &before).await;
    // What is one's own is open.
    let [_, _, update, delete] = newer_calls(&theirs, "workspaces/ours");
    update.done(&tenant).await;
    delete.done(&tenant).await;
}

#[tokio::test]
async fn a_name_that_names_nothing_is_the_newer_calls_fault_too() {
    let server = Server::start();
    let (admin, gate) = clients(&server);
    let good = admin.create("first", &[]).await.key.expect("a key").name;
    let id = good.rsplit('/').next().expect("a key id");
    let before = gate.revision().await;
    for name in [
        String::new(),
        id.to_owned(),
        "workspaces/default".into(),
        "workspaces/default/keys/".into(),
        format!("/{good}"),
        format!("{good}/secrets/1"),
        format!("{good}\n"),
        good.replace("default", "-"),
        good.replace("default", "DEFAULT"),
        good.replace("keys", "events"),
        format!("workspaces/default/keys/{}", "z".repeat(22)),
        format!("workspaces/default/keys/{}", "k".repeat(1 << 20)),
    ] {
        let what = format!("row 90: {:?}", name.get(..60).unwrap_or(&name));
        for call in [Mutation::end_overlap(&name), Mutation::archive(&name)] {
            assert_refused(
                &what,
                call.send(&admin).await,
                Code::InvalidArgument,
                ErrorReason::InvalidField,
                &["name"],
            );
        }
    }
    for name in [
        "",
        "default",
        "workspaces/",
        "workspaces/default/",
        "workspaces/-",
        "workspaces/Default",
        "workspaces/default\0",
        &format!("workspaces/{}", "w".repeat(64)),
        &format!("workspaces/{}", "w".repeat(1 << 20)),
        &good,
    ] {
        let what = format!("row 90: {:?}", name.get(..60).unwrap_or(name));
        let update = UpdateWorkspaceRequest {
            workspace: Some(Workspace {
                name: name.into(),
                ..Workspace::default()
            }),
            ..UpdateWorkspaceRequest::default()
        };
        let delete = DeleteWorkspaceRequest {
            name: name.into(),
            ..DeleteWorkspaceRequest::default()
        };
        for (call, field) in [
            (Mutation::UpdateWorkspace(update), "workspace.name"),
            (Mutation::DeleteWorkspace(delete), "name"),
        ] {
            assert_refused(
                &what,
                call.send(&admin).await,
                Code::InvalidArgument,
                ErrorReason::InvalidField,
                &[field],
            );
        }
    }
    let nothing = Mutation::UpdateWorkspace(UpdateWorkspaceRequest::default());
    assert_refused(
        "row 90: no workspace",
        nothing.send(&admin).await,
        Code::InvalidArgument,
        ErrorReason::InvalidField,
        &["workspace.name"],
    );
    unchanged("row 90", &gate, &before).await;
}

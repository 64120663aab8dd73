//! Request ids: what names a call once names no other.

use portcullis::proto::v1::{CreateKeyRequest, ErrorReason, Key, ResetSecretRequest, Workspace};
use prost_types::Duration;
use tonic::Code;

use crate::{
    support::{Clients, Mutation, Server, Token, assert_refused, clients, key_named},
    unchanged,
};

/// Every call, made once under an id of its own, with another body of the same call.
fn calls(key: &str) -> [(Mutation, Mutation); 11] {
    let workspace = |display_name: &str| Workspace {
        name: "workspaces/acme".into(),
        display_name: display_name.into(),
        ..Workspace::default()
    };
    let create = |name: &str| Mutation::create("workspaces/default", key_named(name, &[]));
    let new_workspace = |name| Mutation::create_workspace("acme", workspace(name));
    let change = |name| Mutation::update_workspace(workspace(name), &["display_name"]);
    [
        (create("one"), create("two")),
        (Mutation::rename(key, "one"), Mutation::rename(key, "two")),
        (
            Mutation::disable(key),
            Mutation::disable(key).with_etag("1.1"),
        ),
        (
            Mutation::enable(key),
            Mutation::enable(key).with_etag("1.1"),
        ),
        (Mutation::reset(key, 60), Mutation::reset(key, 61)),
        (
            Mutation::end_overlap(key),
            Mutation::end_overlap(key).with_etag("1.1"),
        ),
        (
            Mutation::archive(key),
            Mutation::archive(key).with_etag("1.1"),
        ),
        (
            Mutation::delete(key),
            Mutation::delete(key).with_etag("1.1"),
        ),
        (new_workspace("one"), new_workspace("two")),
        (change("three"), change("four")),
        (
            Mutation::delete_workspace("workspaces/acme"),
            Mutation::delete_workspace("workspaces/acme").with_etag("1.1"),
        ),
    ]
}

#[tokio::test]
async fn an_id_that_was_used_is_refused_to_another_call_and_another_body() {
    let server = Server::start();
    let (admin, gate) = clients(&server);
    let key = admin.create("first", &[]).await.key.expect("a key").name;
    let calls = calls(&key);
    let id = |number: usize| format!("call-{number}");
    for (number, (call, _)) in calls.iter().enumerate() {
        call.clone().with_id(&id(number)).done(&admin).await;
    }
    // Key and workspace are gone by now: an id that was used is told before that is.
    let before = gate.revision().await;
    for (number, (_, other)) in calls.iter().enumerate() {
        reused(
            "row 88: another body",
            other.clone().with_id(&id(number)),
            &admin,
        )
        .await;
        for (second, (call, _)) in calls.iter().enumerate() {
            if second != number {
                reused(
                    "row 88: another call",
                    call.clone().with_id(&id(number)),
                    &admin,
                )
                .await;
            }
        }
    }
    unchanged("row 88", &gate, &before).await;
}

async fn reused(what: &str, call: Mutation, admin: &Clients) {
    let what = format!("{what}: {call:?}");
    assert_refused(
        &what,
        call.send(admin).await,
        Code::AlreadyExists,
        ErrorReason::RequestIdReused,
        &[],
    );
}

/// Bodies that say the same in other bytes are the same; what differs in one place only is another.
#[tokio::test]
async fn a_body_is_another_wherever_it_differs() {
    let server = Server::start();
    let (admin, gate) = clients(&server);
    let made = admin.create("first", &[]).await.key.expect("a key");
    let reset = |overlap: Option<Duration>, etag: &str| {
        Mutation::ResetSecret(ResetSecretRequest {
            name: made.name.clone(),
            overlap,
            etag: etag.into(),
            request_id: "reset".into(),
        })
    };
    let span = |nanos| Some(Duration { seconds: 60, nanos });
    reset(span(0), "").done(&admin).await;
    let before = gate.revision().await;
    for other in [
        reset(span(1), ""),
        reset(None, ""),
        reset(Some(Duration::default()), ""),
        reset(span(0), &made.etag),
    ] {
        reused("row 88: one field", other, &admin).await;
    }
    let create = |key: Key| {
        Mutation::CreateKey(CreateKeyRequest {
            parent: "workspaces/default".into(),
            key: Some(key),
            request_id: "create".into(),
        })
    };
    let labelled = |pairs: &[(&str, &str)]| Key {
        labels: pairs
            .iter()
            .map(|&(name, value)| (name.to_owned(), value.to_owned()))
            .collect(),
        ..key_named("labelled", &[])
    };
    unchanged("row 88", &gate, &before).await;
    create(labelled(&[("a", "1"), ("b", "2")]))
        .done(&admin)
        .await;
    let before = gate.revision().await;
    create(labelled(&[("b", "2"), ("a", "1")]))
        .done(&admin)
        .await;
    unchanged(
        "row 88: the order of a map is no difference",
        &gate,
        &before,
    )
    .await;
    for other in [
        labelled(&[("a", "2"), ("b", "1")]),
        labelled(&[("a", "1")]),
        labelled(&[]),
        Key::default(),
    ] {
        reused("row 88: one field", create(other), &admin).await;
    }
    unchanged("row 88", &gate, &before).await;
}

/// Nobody stops or reads another's call by guessing its id.
#[tokio::test]
async fn an_id_belongs_to_its_caller() {
    let server = Server::start();
    let (admin, gate) = clients(&server);
    let second = CreateKeyRequest {
        parent: "workspaces/system".into(),
        key: Some(key_named("", &["*:keys.read", "*:keys.write"])),
        ..CreateKeyRequest::default()
    };
    let second = admin.keys.clone().create_key(second).await;
    let second = second.expect("an admin key").into_inner().token;
    let second = Clients::of(server.admin(), &Token::bearer(&second));
    let local = Clients::of(&server.admin_socket(), &Token::none());
    let create = Mutation::create("workspaces/default", key_named("same", &[])).with_id("mine");
    let mut names = Vec::new();
    for caller in [&admin, &second, &local] {
        names.push(create.done(caller).await.key().name);
    }
    let before = gate.revision().await;
    for (caller, name) in [&admin, &second, &local].into_iter().zip(&names) {
        let again = create.done(caller).await.key().name;
        assert_eq!(again, *name, "row 88: to each their own");
    }
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 3, "row 88: three callers, three keys");
    unchanged("row 88", &gate, &before).await;
}

#[tokio::test]
async fn an_id_is_a_short_plain_text() {
    let server = Server::start();
    let (admin, gate) = clients(&server);
    let key = admin.create("first", &[]).await.key.expect("a key").name;
    let before = gate.revision().await;
    for id in [
        " ",
        "a b",
        "a/b",
        "a\n",
        "\0",
        "ü",
        "a\u{202e}b",
        "\u{1b}[31m",
        "{6ba7b810-9dad-11d1-80b4-00c04fd430c8}",
        &"i".repeat(65),
        &"i".repeat(1 << 20),
    ] {
        for (call, _) in calls(&key) {
            let what = format!("row 88: {:?}: {call:?}", id.get(..20).unwrap_or(id));
            assert_refused(
                &what,
                call.with_id(id).send(&admin).await,
                Code::InvalidArgument,
                ErrorReason::InvalidField,
                &["request_id"],
            );
        }
        unchanged("row 88: malformed", &gate, &before).await;
    }
    let good = "A-Za-z0-9._-6ba7b810-9dad-11d1-80b4-00c04fd430c8".to_owned();
    let longest = format!("{good}{}", "9".repeat(64 - good.len()));
    for (id, name) in [(good, "one"), (longest, "two"), ("x".to_owned(), "three")] {
        Mutation::rename(&key, name).with_id(&id).done(&admin).await;
    }
}

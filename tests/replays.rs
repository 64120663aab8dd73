//! Calls that come again under their request id: they change nothing, and answer as the first did, but never a secret.

mod support;

use portcullis::proto::v1::{
    DeleteKeyRequest, ErrorReason, GetKeyRequest, Key, Workspace, key::State,
};
use support::{
    Answer, Clients, Mutation, Server, Setup, assert_refused, check, clients, key, key_named,
    reason_of,
};
use tonic::Code;

/// The number of a revision: how many changes, and events, its store has seen.
fn number(revision: &str) -> u64 {
    let (_, number) = revision.split_once('.').expect("an epoch and a number");
    number.parse().expect("a number")
}

async fn get(admin: &Clients, name: &str) -> Key {
    let request = GetKeyRequest { name: name.into() };
    let found = admin.keys.clone().get_key(request).await;
    found.expect("the key is there").into_inner()
}

/// What a call answers when it comes again.
fn without_secret(first: &Answer) -> Answer {
    match first.clone() {
        Answer::Issued(mut issued) => {
            assert!(!issued.token.is_empty() && !issued.secret.is_empty());
            assert!(!issued.replayed);
            issued.token.clear();
            issued.secret.clear();
            issued.replayed = true;
            Answer::Issued(issued)
        }
        other => other,
    }
}

/// A call that was made, and what it answered.
struct Made {
    call: Mutation,
    answer: Answer,
}

impl Made {
    /// Makes a call, which is one change, and makes it again.
    async fn first(call: Mutation, admin: &Clients, gate: &Clients) -> Self {
        let before = number(&gate.revision().await);
        let answer = call.done(admin).await;
        assert_eq!(
            number(&gate.revision().await),
            before + 1,
            "{call:?}: one change"
        );
        let made = Self { call, answer };
        made.again("at once", admin, gate).await;
        made
    }

    /// Asserts that it answers as it did, and changes nothing.
    async fn again(&self, when: &str, admin: &Clients, gate: &Clients) {
        let Self { call, answer } = self;
        let before = gate.revision().await;
        let again = call.done(admin).await;
        assert_eq!(again, without_secret(answer), "{when}: {call:?}");
        assert_eq!(gate.revision().await, before, "{when}: {call:?}");
    }
}

/// Every call there is, each a change, each under an id of its own. Key and workspace are gone in the end.
async fn make_all(admin: &Clients, gate: &Clients) -> Vec<Made> {
    let mut all = Vec::new();
    let mut make = async |call: Mutation| {
        let id = format!("call-{}", all.len());
        let made = Made::first(call.with_id(&id), admin, gate).await;
        let answer = made.answer.clone();
        all.push(made);
        answer
    };
    let workspace = |archive_limit| Workspace {
        name: "workspaces/acme".into(),
        archive_limit,
        ..Workspace::default()
    };
    make(Mutation::create_workspace("acme", workspace(3))).await;
    make(Mutation::update_workspace(workspace(4), &["archive_limit"])).await;
    let key = key_named("first", &["*"]);
    let created = make(Mutation::create("workspaces/acme", key)).await;
    let name = created.key().name;
    make(Mutation::rename(&name, "second")).await;
    make(Mutation::disable(&name)).await;
    make(Mutation::enable(&name)).await;
    make(Mutation::reset(&name, 3_600)).await;
    make(Mutation::end_overlap(&name)).await;
    let etag = make(Mutation::reset(&name, 0)).await.key().etag;
    // Under an etag that is over when the call comes again: it was not when it was made.
    make(Mutation::rename(&name, "third").with_etag(&etag)).await;
    make(Mutation::archive(&name)).await;
    make(Mutation::delete(&name)).await;
    make(Mutation::delete_workspace("workspaces/acme")).await;
    all
}

#[tokio::test]
async fn every_call_answers_again_as_it_did_whatever_has_happened_since() {
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let data = scratch.path().join("data");
    let server = Setup::new().data_dir(&data).start();
    let (admin, gate) = clients(&server);
    let all = make_all(&admin, &gate).await;
    for made in &all {
        made.again("in the end", &admin, &gate).await;
    }
    let revision = gate.revision().await;
    assert!(server.stop().status.success());

    for when in ["after a restart", "after a kill"] {
        let server = Setup::new().data_dir(&data).start();
        let (admin, gate) = clients(&server);
        assert_eq!(gate.revision().await, revision, "{when}");
        for made in &all {
            made.again(when, &admin, &gate).await;
        }
        server.kill();
    }
}

/// A repeated call is judged as any other: who may not any more learns nothing of what it did.
#[tokio::test]
async fn a_repeated_call_is_for_who_still_may() {
    let server = Server::start();
    let (admin, gate) = clients(&server);
    let second = Mutation::create(
        "workspaces/system",
        key_named("", &["default:keys.read", "default:keys.write"]),
    );
    let Answer::Issued(second) = second.done(&admin).await else {
        panic!("no key")
    };
    let caller = Clients::of(server.admin(), &support::Token::bearer(&second.token));
    let create = Mutation::create("workspaces/default", key()).with_id("mine");
    let made = Made::first(create, &caller, &gate).await;
    let narrowed = Key {
        name: second.key.expect("a key").name,
        ..key_named("", &["default:keys.read"])
    };
    Mutation::UpdateKey(support::update(narrowed, &["permissions"]))
        .done(&admin)
        .await;
    assert_refused(
        "narrowed",
        made.call.send(&caller).await,
        Code::PermissionDenied,
        ErrorReason::CallerNotPermitted,
        &[],
    );
}

#[tokio::test]
async fn a_delete_that_comes_again_is_ok_only_under_its_id() {
    let server = Server::start();
    let (admin, gate) = clients(&server);
    Mutation::create_workspace("acme", Workspace::default())
        .done(&admin)
        .await;
    let name = Mutation::create("workspaces/acme", key())
        .done(&admin)
        .await
        .key()
        .name;
    let workspace = Mutation::delete_workspace("workspaces/acme");
    for delete in [Mutation::delete(&name), workspace] {
        let named = delete
            .clone()
            .with_id(&format!("delete-{}", number(&gate.revision().await)));
        let made = Made::first(named, &admin, &gate).await;
        for other in [delete.clone(), delete.clone().with_id("another")] {
            assert_refused(
                &format!("{other:?}"),
                other.send(&admin).await,
                Code::NotFound,
                ErrorReason::ResourceNotFound,
                &[],
            );
        }
        made.again("after others", &admin, &gate).await;
    }
}

/// An id counts for what was done under it. A call that failed did nothing, so it may be made, or mended, under the same.
#[tokio::test]
async fn a_refused_call_leaves_its_id_free() {
    let server = Server::start();
    let (admin, gate) = clients(&server);
    let made = admin.create("first", &[]).await.key.expect("a key");
    let id = "once";
    let delete = |force| {
        Mutation::DeleteKey(DeleteKeyRequest {
            name: made.name.clone(),
            force,
            request_id: id.into(),
            ..DeleteKeyRequest::default()
        })
    };
    let before = gate.revision().await;
    for (call, reason) in [
        (delete(false), ErrorReason::KeyActive),
        (
            Mutation::rename(&made.name, "\u{202e}").with_id(id),
            ErrorReason::InvalidField,
        ),
        (
            Mutation::disable(&made.name).with_etag("1.1").with_id(id),
            ErrorReason::EtagMismatch,
        ),
        (
            Mutation::create("workspaces/nowhere", key()).with_id(id),
            ErrorReason::ResourceNotFound,
        ),
        (
            Mutation::create_workspace("default", Workspace::default()).with_id(id),
            ErrorReason::ResourceExists,
        ),
        (
            Mutation::delete_workspace("workspaces/default").with_id(id),
            ErrorReason::WorkspaceReserved,
        ),
    ] {
        let status = call.send(&admin).await.expect_err("refused");
        assert_eq!(reason_of(&status), reason, "{call:?}");
    }
    assert_eq!(gate.revision().await, before);
    Made::first(delete(true), &admin, &gate).await;
}

/// What changes nothing is no change under an id, either: no revision, and so no event.
#[tokio::test]
async fn a_call_that_changes_nothing_writes_nothing_under_its_id() {
    let server = Server::start();
    let (admin, gate) = clients(&server);
    let made = admin.create("first", &["sms.send"]).await;
    let key = made.key.expect("a key");
    let workspace = Workspace {
        name: "workspaces/default".into(),
        archive_limit: 10,
        ..Workspace::default()
    };
    let before = gate.revision().await;
    for (number, call) in [
        Mutation::enable(&key.name),
        Mutation::end_overlap(&key.name),
        Mutation::rename(&key.name, "first"),
        Mutation::rename(&key.name, "first").with_etag(&key.etag),
        Mutation::update_workspace(workspace, &["archive_limit"]),
    ]
    .into_iter()
    .enumerate()
    {
        let call = call.with_id(&format!("nothing-{number}"));
        let first = call.done(&admin).await;
        assert_eq!(call.done(&admin).await, first, "{call:?}");
        assert_eq!(gate.revision().await, before, "{call:?}");
    }
    assert_eq!(get(&admin, &key.name).await, key);
    Mutation::disable(&key.name).done(&admin).await;
    let before = gate.revision().await;
    let again = Mutation::disable(&key.name).with_id("nothing");
    for _ in 0..2 {
        assert_eq!(again.done(&admin).await.key().state(), State::Disabled);
    }
    assert_eq!(gate.revision().await, before);
}

/// A client that lost the answer to its enable, which changed nothing, asks again after somebody has disabled the key: the
/// key must stay disabled.
#[tokio::test]
async fn a_call_that_changed_nothing_changes_nothing_when_it_comes_again_later() {
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let data = scratch.path().join("data");
    let server = Setup::new().data_dir(&data).start();
    let (admin, _) = clients(&server);
    let made = admin.create("first", &["sms.send"]).await;
    let name = made.key.expect("a key").name;
    let enable = Mutation::enable(&name).with_id("late");
    let first = enable.done(&admin).await;
    Mutation::disable(&name).done(&admin).await;
    assert_eq!(enable.done(&admin).await, first);
    assert_eq!(get(&admin, &name).await.state(), State::Disabled);
    assert_refused(
        "another call under the id",
        Mutation::disable(&name).with_id("late").send(&admin).await,
        Code::AlreadyExists,
        ErrorReason::RequestIdReused,
        &[],
    );
    assert!(server.stop().status.success());

    let server = Setup::new().data_dir(&data).start();
    let (admin, _) = clients(&server);
    assert_eq!(enable.done(&admin).await, first);
    assert_eq!(get(&admin, &name).await.state(), State::Disabled);
}

/// Of many that come at once one is made, and all answer the same but for the secret, which one of them shows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_comes_many_times_at_once_is_made_once() {
    const AT_ONCE: usize = 8;
    let server = Server::start();
    let (admin, gate) = clients(&server);
    for round in 0..20 {
        let before = number(&gate.revision().await);
        let call = Mutation::create("workspaces/default", key()).with_id(&format!("r{round}"));
        let calls: Vec<_> = (0..AT_ONCE)
            .map(|_| {
                let (admin, call) = (admin.clone(), call.clone());
                tokio::spawn(async move { call.done(&admin).await })
            })
            .collect();
        let mut tokens = Vec::new();
        let mut keys = Vec::new();
        for call in calls {
            let Answer::Issued(issued) = call.await.expect("a call") else {
                panic!("no key")
            };
            assert_eq!(issued.replayed, issued.token.is_empty());
            assert_eq!(issued.replayed, issued.secret.is_empty());
            tokens.extend(Some(issued.token).filter(|token| !token.is_empty()));
            keys.push(issued.key.expect("a key"));
        }
        assert_eq!(number(&gate.revision().await), before + 1, "round {round}");
        keys.dedup();
        assert_eq!((tokens.len(), keys.len()), (1, 1), "round {round}");
        assert!(gate.ask(check(&tokens[0])).await.allowed);
    }
}

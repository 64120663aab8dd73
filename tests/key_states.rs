//! A key's later life over gRPC: archived keys and what is kept of them, and secrets that overlap.

mod support;

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use portcullis::proto::v1::{
    DeleteKeyRequest, ErrorReason, GetKeyRequest, IssuedKey, Key, ResetSecretRequest, Workspace,
    check_response::Reason, key::State,
};
use prost_types::Timestamp;
use support::{
    Answer, Clients, Mutation, Server, Setup, assert_refused, check, clients, key, key_named,
    reason_of, update,
};
use tokio::sync::Barrier;
use tonic::{Code, Status};

/// As many archived keys as a workspace keeps unless it says otherwise.
const KEPT: usize = 10;
const HOUR: i64 = 3_600;

async fn find(admin: &Clients, name: &str) -> Result<Key, Status> {
    let request = GetKeyRequest { name: name.into() };
    let found = admin.keys.clone().get_key(request).await?;
    Ok(found.into_inner())
}

async fn get(admin: &Clients, name: &str) -> Key {
    find(admin, name).await.expect("the key is there")
}

async fn reset(admin: &Clients, name: &str, overlap: i64) -> IssuedKey {
    match Mutation::reset(name, overlap).done(admin).await {
        Answer::Issued(issued) => issued,
        other => panic!("{other:?}"),
    }
}

/// The number of a revision: how many changes its store has seen.
fn number(revision: &str) -> u64 {
    let (_, number) = revision.split_once('.').expect("an epoch and a number");
    number.parse().expect("a number")
}

fn nanos(time: &Timestamp) -> i128 {
    i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanos)
}

fn wall() -> i128 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    i128::try_from(now.expect("after 1970").as_nanos()).expect("before year 10^22")
}

/// Which of these keys can still be read.
async fn remaining<'a>(admin: &Clients, names: &'a [String]) -> Vec<&'a str> {
    let mut there = Vec::new();
    for name in names {
        match find(admin, name).await {
            Ok(_) => there.push(name.as_str()),
            Err(status) => assert_eq!(reason_of(&status), ErrorReason::ResourceNotFound),
        }
    }
    there
}

async fn archived(admin: &Clients, count: usize) -> Vec<String> {
    let mut names = Vec::new();
    for number in 0..count {
        let name = admin.create(&format!("key {number}"), &[]).await;
        let name = name.key.expect("a key").name;
        Mutation::archive(&name).done(admin).await;
        names.push(name);
    }
    names
}

// ------------------------------------------------------------------------------------------------------- archived keys

#[tokio::test]
async fn an_archived_key_opens_nothing_and_can_only_be_deleted() {
    let server = Server::start();
    let (admin, gate) = clients(&server);
    let issued = admin.create("first", &["sms.send"]).await;
    let made = issued.key.expect("a key");
    let second = reset(&admin, &made.name, HOUR).await;
    assert!(gate.ask(check(&issued.token)).await.allowed);
    assert!(gate.ask(check(&second.token)).await.allowed);

    let shown = Mutation::archive(&made.name).done(&admin).await.key();
    assert_eq!(shown.state(), State::Archived);
    assert!(shown.archive_time.is_some());
    assert_eq!(shown.archive_time, shown.update_time);
    assert_eq!(shown.secrets, [], "nothing is kept that could prove it");
    assert_eq!(get(&admin, &made.name).await, shown);
    for token in [&issued.token, &second.token] {
        let answer = gate.ask(check(token)).await;
        assert_eq!(answer.reason(), Reason::InvalidCredential);
        assert_eq!(answer.key, None);
    }

    let before = gate.revision().await;
    let bare = |name: &str| Key {
        name: name.into(),
        ..key()
    };
    for call in [
        Mutation::rename(&made.name, "second"),
        // Nor is a change that changes nothing, or one without a field, taken for one of a living key.
        Mutation::rename(&made.name, &made.display_name),
        Mutation::UpdateKey(update(bare(&made.name), &[])),
        Mutation::enable(&made.name),
        Mutation::disable(&made.name),
        Mutation::reset(&made.name, 0),
        Mutation::reset(&made.name, HOUR),
        Mutation::end_overlap(&made.name),
    ] {
        for call in [call.clone(), call.with_etag(&shown.etag)] {
            assert_refused(
                &format!("{call:?}"),
                call.send(&admin).await,
                Code::FailedPrecondition,
                ErrorReason::KeyArchived,
                &[],
            );
        }
    }
    // Archived again it stays as it is; under an etag that is over it is not even looked at.
    let again = Mutation::archive(&made.name);
    assert_eq!(again.done(&admin).await, Answer::Key(shown.clone()));
    let again_here = again.clone().with_etag(&shown.etag);
    assert_eq!(again_here.done(&admin).await, Answer::Key(shown.clone()));
    assert_refused(
        "an etag from before",
        again.with_etag(&made.etag).send(&admin).await,
        Code::Aborted,
        ErrorReason::EtagMismatch,
        &[],
    );
    assert_eq!(gate.revision().await, before, "nothing was written");
    assert_eq!(get(&admin, &made.name).await, shown);

    let delete = DeleteKeyRequest {
        name: made.name.clone(),
        ..DeleteKeyRequest::default()
    };
    let deleted = admin.keys.clone().delete_key(delete).await;
    deleted.expect("it is not ACTIVE, so it needs no force");
    assert!(find(&admin, &made.name).await.is_err());
}

#[tokio::test]
async fn a_key_is_archived_from_every_state_and_stays_so_after_a_restart() {
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let data = scratch.path().join("data");
    let server = Setup::new().data_dir(&data).start();
    let (admin, gate) = clients(&server);
    let disabled = admin.create("disabled", &[]).await;
    let disabled_name = disabled.key.expect("a key").name;
    Mutation::disable(&disabled_name).done(&admin).await;
    let expired = loop {
        // On a slow machine the end may be past before it is read.
        let soon = SystemTime::now() + Duration::from_millis(300);
        let ending = Key {
            expire_time: Some(Timestamp::from(soon)),
            ..key()
        };
        let create = Mutation::create("workspaces/default", ending);
        if let Ok(answer) = create.send(&admin).await {
            break answer.into_inner().key().name;
        }
    };
    while get(&admin, &expired).await.state() != State::Expired {
        tokio::task::yield_now().await;
    }
    let mut shown = Vec::new();
    for name in [&disabled_name, &expired] {
        let key = Mutation::archive(name).done(&admin).await.key();
        assert_eq!(key.state(), State::Archived);
        shown.push(key);
    }
    assert_eq!(
        gate.ask(check(&disabled.token)).await.reason(),
        Reason::InvalidCredential
    );
    assert!(server.stop().status.success());

    let server = Setup::new().data_dir(&data).start();
    let (admin, gate) = clients(&server);
    for key in shown {
        assert_eq!(get(&admin, &key.name).await, key);
    }
    assert_eq!(
        gate.ask(check(&disabled.token)).await.reason(),
        Reason::InvalidCredential
    );
}

#[tokio::test]
async fn the_oldest_archived_key_goes_in_the_revision_that_archives_one_too_many() {
    let server = Server::start();
    let (admin, gate) = clients(&server);
    let mut names = archived(&admin, KEPT).await;
    assert_eq!(remaining(&admin, &names).await, names);

    let issued = admin.create("one more", &[]).await.key.expect("a key");
    let before = number(&gate.revision().await);
    let shown = Mutation::archive(&issued.name).done(&admin).await.key();
    names.push(issued.name);
    assert_eq!(number(&shown.revision), before + 1);
    assert_eq!(number(&gate.revision().await), before + 1, "one change");
    assert_eq!(remaining(&admin, &names).await, names[1..]);
    assert_refused(
        "the oldest",
        admin
            .keys
            .clone()
            .get_key(GetKeyRequest {
                name: names[0].clone(),
            })
            .await,
        Code::NotFound,
        ErrorReason::ResourceNotFound,
        &[],
    );

    // A call that archives nothing drops nothing; a place that becomes free is used.
    Mutation::archive(&names[1]).done(&admin).await;
    Mutation::delete(&names[5]).done(&admin).await;
    let more = archived(&admin, 1).await;
    names.remove(5);
    names.extend(more);
    assert_eq!(remaining(&admin, &names).await, names[1..]);

    // A lower limit is kept at once, a higher one brings nobody back; other workspaces have their own.
    let limit = |archive_limit| {
        let workspace = Workspace {
            name: "workspaces/default".into(),
            archive_limit,
            ..Workspace::default()
        };
        Mutation::update_workspace(workspace, &["archive_limit"])
    };
    let before = number(&gate.revision().await);
    limit(3).done(&admin).await;
    assert_eq!(number(&gate.revision().await), before + 1, "one change");
    let last = &names[names.len() - 3..];
    assert_eq!(remaining(&admin, &names).await, last);
    limit(1_000).done(&admin).await;
    assert_eq!(remaining(&admin, &names).await, last);
    names.extend(archived(&admin, KEPT).await);
    assert_eq!(
        remaining(&admin, &names).await,
        names[names.len() - KEPT - 3..]
    );
    // 0 stands for the default.
    limit(0).done(&admin).await;
    assert_eq!(remaining(&admin, &names).await, names[names.len() - KEPT..]);
}

/// Two that are archived at once would each leave room for themselves alone, were they not told of each other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn however_many_are_archived_at_once_no_more_are_kept() {
    const AT_ONCE: usize = 20;
    const ROUNDS: usize = 5;
    let server = Server::start();
    let (admin, _) = clients(&server);
    let mut names = Vec::new();
    for round in 0..ROUNDS {
        let mut fresh = Vec::new();
        for number in 0..AT_ONCE {
            let issued = admin.create(&format!("{round}.{number}"), &[]).await;
            fresh.push(issued.key.expect("a key").name);
        }
        let start = Arc::new(Barrier::new(AT_ONCE));
        let calls: Vec<_> = fresh
            .iter()
            .map(|name| {
                let (admin, call) = (Clients::root(&server), Mutation::archive(name));
                let start = start.clone();
                tokio::spawn(async move {
                    start.wait().await;
                    call.done(&admin).await.key()
                })
            })
            .collect();
        for call in calls {
            call.await.expect("a call");
        }
        // Nearly simultaneous ones may count as archived in either order, but those of earlier rounds were first.
        let kept = remaining(&admin, &fresh).await.len();
        assert_eq!(kept, KEPT, "round {round}");
        assert!(remaining(&admin, &names).await.is_empty(), "round {round}");
        names.extend(fresh);
    }
}

// ------------------------------------------------------------------------------------------------------------ overlaps

#[tokio::test]
async fn in_an_overlap_both_secrets_pass_and_a_further_reset_ends_the_older() {
    let server = Server::start();
    let (admin, gate) = clients(&server);
    let passes = async |tokens: &[&str]| {
        let mut passing = Vec::new();
        for token in tokens {
            let answer = gate.ask(check(token)).await;
            if !answer.allowed {
                assert_eq!(answer.reason(), Reason::InvalidCredential);
            }
            passing.push(answer.allowed);
        }
        passing
    };
    let issued = admin.create("first", &[]).await;
    let name = issued.key.expect("a key").name;
    let one = issued.token;

    let second = reset(&admin, &name, HOUR).await;
    let (two, shown) = (second.token, second.key.expect("a key"));
    assert_ne!(one, two);
    assert_eq!(passes(&[&one, &two]).await, [true, true]);
    let [old, new] = shown.secrets.as_slice() else {
        panic!("two secrets are live: {shown:?}")
    };
    assert_ne!(old.id, new.id);
    let end = old.expire_time.as_ref().expect("the old one has an end");
    let reset_at = shown.update_time.as_ref().expect("a time");
    assert_eq!(
        nanos(end) - nanos(reset_at),
        i128::from(HOUR) * 1_000_000_000
    );
    assert_eq!(new.expire_time, None, "the new one has none");
    assert_eq!(get(&admin, &name).await, shown);

    // The further reset ends the first at once, though its overlap had not ended.
    let third = reset(&admin, &name, 2 * HOUR).await;
    let three = third.token;
    assert_eq!(passes(&[&one, &two, &three]).await, [false, true, true]);
    assert_eq!(third.key.expect("a key").secrets.len(), 2);

    // Cut early; a second time there is nothing to cut.
    let cut = Mutation::end_overlap(&name).done(&admin).await.key();
    assert_eq!(cut.secrets.len(), 1);
    assert_eq!(passes(&[&one, &two, &three]).await, [false, false, true]);
    let before = gate.revision().await;
    let again = Mutation::end_overlap(&name).done(&admin).await;
    assert_eq!(again, Answer::Key(cut));
    assert_eq!(gate.revision().await, before);

    // Without an overlap every older one ends at once.
    let four = reset(&admin, &name, HOUR).await.token;
    let five = reset(&admin, &name, 0).await;
    assert_eq!(five.key.expect("a key").secrets.len(), 1);
    assert_eq!(
        passes(&[&one, &two, &three, &four, &five.token]).await,
        [false, false, false, false, true]
    );

    // A disabled key's secrets overlap as well: it is the key that is closed.
    let six = reset(&admin, &name, HOUR).await.token;
    Mutation::disable(&name).done(&admin).await;
    for token in [&five.token, &six] {
        assert_eq!(
            gate.ask(check(token)).await.reason(),
            Reason::KeyDisabled,
            "both are proved"
        );
    }
    let seven = reset(&admin, &name, HOUR).await.token;
    Mutation::enable(&name).done(&admin).await;
    assert_eq!(
        passes(&[&five.token, &six, &seven]).await,
        [false, true, true]
    );
}

#[tokio::test]
async fn an_overlap_never_outlives_the_key() {
    let server = Server::start();
    let (admin, _) = clients(&server);
    let end = Timestamp::from(SystemTime::now() + Duration::from_hours(1));
    let ending = Key {
        expire_time: Some(end),
        ..key()
    };
    let name = admin.create_key(ending).await.key.expect("a key").name;
    let ends = |key: Option<Key>| -> Vec<Option<Timestamp>> {
        let secrets = key.expect("a key").secrets;
        secrets
            .into_iter()
            .map(|secret| secret.expire_time)
            .collect()
    };
    let long = reset(&admin, &name, 30 * 24 * HOUR).await;
    assert_eq!(ends(long.key), [Some(end), None]);
    let short = reset(&admin, &name, 60).await;
    let shown = ends(short.key);
    assert_eq!(shown.len(), 2);
    let first = shown[0].as_ref().expect("an end");
    assert!(nanos(first) < nanos(&end), "{first:?}");
}

#[tokio::test]
async fn an_overlap_ends_by_itself() {
    let server = Server::start();
    let (admin, gate) = clients(&server);
    let issued = admin.create("first", &[]).await;
    let name = issued.key.expect("a key").name;
    assert!(gate.ask(check(&issued.token)).await.allowed);
    let request = ResetSecretRequest {
        name: name.clone(),
        overlap: Some(prost_types::Duration {
            seconds: 0,
            nanos: 400_000_000,
        }),
        ..ResetSecretRequest::default()
    };
    let second = admin.keys.clone().reset_secret(request).await;
    let second = second.expect("a reset").into_inner();
    let shown = second.key.expect("a key");
    let end = nanos(&shown.update_time.expect("a time")) + 400_000_000;
    loop {
        let before = wall();
        let answer = gate.ask(check(&issued.token)).await;
        if !answer.allowed {
            assert_eq!(answer.reason(), Reason::InvalidCredential);
            assert!(wall() >= end, "refused before its time");
            break;
        }
        assert!(before < end, "it passed {} ns after its end", before - end);
    }
    assert!(gate.ask(check(&second.token)).await.allowed);
    assert_eq!(get(&admin, &name).await.secrets.len(), 1, "one is live");
    // What has ended is not kept by a later reset's overlap.
    let third = reset(&admin, &name, HOUR).await;
    assert_eq!(third.key.expect("a key").secrets.len(), 2);
    for (token, passes) in [
        (&issued.token, false),
        (&second.token, true),
        (&third.token, true),
    ] {
        assert_eq!(gate.ask(check(token)).await.allowed, passes);
    }
}

/// Both halves of an overlap are there after a restart, and the ended one is not.
#[tokio::test]
async fn an_overlap_outlives_a_restart() {
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let data = scratch.path().join("data");
    let server = Setup::new().data_dir(&data).start();
    let (admin, _) = clients(&server);
    let one = admin.create_key(key_named("first", &["sms.send"])).await;
    let name = one.key.expect("a key").name;
    let two = reset(&admin, &name, HOUR).await;
    let three = reset(&admin, &name, HOUR).await;
    let shown = get(&admin, &name).await;
    assert!(server.stop().status.success());

    let server = Setup::new().data_dir(&data).start();
    let (admin, gate) = clients(&server);
    assert_eq!(get(&admin, &name).await, shown);
    for (token, passes) in [(one.token, false), (two.token, true), (three.token, true)] {
        assert_eq!(gate.ask(check(&token)).await.allowed, passes);
    }
}

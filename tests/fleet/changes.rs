//! What holds for disabling holds for every change that shuts something: 50 of each, raced on every replica.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use futures_util::{StreamExt as _, future::join_all, stream};
use portcullis::proto::v1::{
    CheckRequest, GetWorkspaceRequest, IssuedKey, Key, SettingDeclaration, Workspace,
    setting_declaration::{StringType, Type},
};
use tonic::Code;

use crate::{
    harness::{Fleet, LONG, Replica, barriers},
    race::{Probe, Seen, race},
    support::{Answer, Mutation, check, check_request, key_named, update},
};

const ROUNDS: usize = 50;

/// Three replicas, which must know of each change by acknowledgements alone.
async fn fleet() -> Option<(Fleet, Vec<Replica>)> {
    let fleet = Fleet::made(LONG).ok()?;
    let replicas = fleet.start_all(3).await;
    Some((fleet, replicas))
}

fn name_of(issued: &IssuedKey) -> String {
    issued
        .key
        .as_ref()
        .expect("an issued key is shown")
        .name
        .clone()
}

/// Makes a change through a replica while all of them are asked; what they answer after its OK must be this.
#[track_caller]
fn raced<'a>(
    replicas: &'a [Replica],
    round: usize,
    request: &CheckRequest,
    change: &'a Mutation,
    due: &'a str,
) -> impl Future<Output = Answer> + use<'a> {
    let probes: Vec<_> = replicas
        .iter()
        .map(|replica| replica.probe(request.clone()))
        .collect();
    async move {
        race(probes, change.done(&replicas[round % replicas.len()].root))
            .await
            .shut_for(due)
    }
}

/// Keys of `default`, each like that one, and the change of each raced.
async fn changed_keys(
    like: Key,
    ask: CheckRequest,
    due: &str,
    change: impl Fn(String) -> Mutation,
) {
    let Some((_fleet, replicas)) = fleet().await else {
        return;
    };
    for round in 0..ROUNDS {
        let issued = replicas[(round + 1) % 3]
            .root
            .create_key(like.clone())
            .await;
        let before = barriers(&replicas);
        let request = CheckRequest {
            credential: issued.token.clone(),
            ..ask.clone()
        };
        raced(&replicas, round, &request, &change(name_of(&issued)), due).await;
        barriers(&replicas).only_acknowledged_since(before, 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_archived_key_is_shut_everywhere() {
    changed_keys(Key::default(), check(""), "INVALID_CREDENTIAL", |name| {
        Mutation::archive(&name)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_key_is_shut_everywhere() {
    changed_keys(Key::default(), check(""), "INVALID_CREDENTIAL", |name| {
        Mutation::delete(&name)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edited_allowlist_shuts_everywhere() {
    let like = Key {
        ip_allowlist: vec!["10.0.0.0/8".into()],
        ..Key::default()
    };
    let ask = CheckRequest {
        source_address: "10.1.2.3".into(),
        ..CheckRequest::default()
    };
    changed_keys(like, ask, "SOURCE_DENIED", |name| {
        let narrowed = Key {
            name,
            ip_allowlist: vec!["192.0.2.0/24".into()],
            ..Key::default()
        };
        Mutation::UpdateKey(update(narrowed, &["ip_allowlist"]))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_withdrawn_permission_shuts_everywhere() {
    let like = key_named("sender", &["sms.send", "sms.read"]);
    changed_keys(
        like,
        check_request("", &["sms.send"]),
        "PERMISSION_DENIED",
        |name| {
            let narrowed = Key {
                name,
                permissions: vec!["sms.read".into()],
                ..Key::default()
            };
            Mutation::UpdateKey(update(narrowed, &["permissions"]))
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_secret_is_shut_everywhere_and_the_new_one_open() {
    let Some((_fleet, replicas)) = fleet().await else {
        return;
    };
    let mut issued = replicas[0].root.create("reset", &[]).await;
    let before = barriers(&replicas);
    for round in 0..ROUNDS {
        let reset = Mutation::reset(&name_of(&issued), 0);
        let old = check(&issued.token);
        let Answer::Issued(new) = raced(&replicas, round, &old, &reset, "INVALID_CREDENTIAL").await
        else {
            panic!("a reset issues a key");
        };
        for replica in &replicas {
            let seen = replica.seen(check(&new.token)).await;
            assert_eq!(seen, Seen::Open, "the new secret on {}", replica.name);
        }
        issued = new;
    }
    barriers(&replicas).only_acknowledged_since(before, ROUNDS as u64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expiry_brought_near_shuts_everywhere_when_it_has_come() {
    let Some((_fleet, replicas)) = fleet().await else {
        return;
    };
    let like = Key {
        expire_time: Some((SystemTime::now() + Duration::from_hours(24)).into()),
        ..Key::default()
    };
    let issued: Vec<_> = stream::iter(0..ROUNDS)
        .then(|_| replicas[0].root.create_key(like.clone()))
        .collect()
        .await;
    // Each secret is proved once beforehand: thirty at once would be more than a replica takes on.
    for issued in &issued {
        for replica in &replicas {
            replica.until(&check(&issued.token), &Seen::Open).await;
        }
    }
    let before = barriers(&replicas);
    // Ten at a time: each waits for its own expiry.
    for (group, issued) in issued.chunks(10).enumerate() {
        let races = issued.iter().map(|issued| {
            let probes: Vec<_> = replicas
                .iter()
                .map(|replica| replica.probe(check(&issued.token)))
                .collect();
            let near = Duration::from_millis(1_500);
            let root = &replicas[group % 3].root;
            race(probes, async move {
                let (expiry, passed) =
                    (SystemTime::now() + near, tokio::time::Instant::now() + near);
                let nearer = Key {
                    name: name_of(issued),
                    expire_time: Some(expiry.into()),
                    ..Key::default()
                };
                Mutation::UpdateKey(update(nearer, &["expire_time"]))
                    .done(root)
                    .await;
                // What is promised is of the time after it.
                tokio::time::sleep_until(passed).await;
            })
        });
        for outcome in join_all(races).await {
            outcome.shut_for("KEY_EXPIRED");
        }
    }
    barriers(&replicas).only_acknowledged_since(before, ROUNDS as u64);
}

/// A workspace that declares `sender`, one of these.
fn declaring(name: &str, allowed: &[&str]) -> Workspace {
    let sender = SettingDeclaration {
        name: "sender".into(),
        r#type: Some(Type::StringType(StringType {
            allowed: allowed.iter().map(ToString::to_string).collect(),
            ..StringType::default()
        })),
        ..SettingDeclaration::default()
    };
    Workspace {
        name: name.into(),
        settings: vec![sender],
        ..Workspace::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edited_workspace_shuts_everywhere() {
    let Some((_fleet, replicas)) = fleet().await else {
        return;
    };
    let wide = declaring("workspaces/acme", &["Acme", "Other"]);
    Mutation::create_workspace("acme", declaring("", &["Acme", "Other"]))
        .done(&replicas[0].root)
        .await;
    let Answer::Issued(issued) = Mutation::create("workspaces/acme", Key::default())
        .done(&replicas[0].root)
        .await
    else {
        panic!("a key is issued");
    };
    let request = CheckRequest {
        workspace: "acme".into(),
        settings: BTreeMap::from([("sender".into(), "Other".into())]),
        ..check(&issued.token)
    };
    let narrow = declaring("workspaces/acme", &["Acme"]);
    let before = barriers(&replicas);
    for round in 0..ROUNDS {
        let tighten = Mutation::update_workspace(narrow.clone(), &["settings"]);
        raced(&replicas, round, &request, &tighten, "INVALID_SETTING").await;
        let loosen = Mutation::update_workspace(wide.clone(), &["settings"]);
        loosen.done(&replicas[(round + 1) % 3].root).await;
    }
    barriers(&replicas).only_acknowledged_since(before, 2 * ROUNDS as u64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_workspace_is_gone_everywhere() {
    let Some((_fleet, replicas)) = fleet().await else {
        return;
    };
    for round in 0..ROUNDS {
        let (id, name) = (format!("w{round}"), format!("workspaces/w{round}"));
        let root = &replicas[round % 3].root;
        Mutation::create_workspace(&id, Workspace::default())
            .done(root)
            .await;
        let Answer::Issued(issued) = Mutation::create(&name, Key::default()).done(root).await
        else {
            panic!("a key is issued");
        };
        let request = CheckRequest {
            workspace: id.clone(),
            ..check(&issued.token)
        };
        let before = barriers(&replicas);
        // The key goes first: a workspace that has one stays.
        raced(
            &replicas,
            round,
            &request,
            &Mutation::delete(&name_of(&issued)),
            "INVALID_CREDENTIAL",
        )
        .await;
        let probes = replicas.iter().map(|replica| found(replica, &name));
        race(probes, Mutation::delete_workspace(&name).done(root))
            .await
            .shut_for("NOT_FOUND");
        barriers(&replicas).only_acknowledged_since(before, 2);
        let create = Mutation::create(&name, Key::default());
        for replica in &replicas {
            let status = create
                .send(&replica.root)
                .await
                .expect_err("no key is made in a workspace that is gone");
            assert_eq!(
                status.code(),
                Code::NotFound,
                "{}: {status:?}",
                replica.name
            );
        }
    }
}

/// Whether the workspace is to be had from a replica.
fn found(replica: &Replica, name: &str) -> Probe {
    let workspaces = replica.root.workspaces.clone();
    let request = GetWorkspaceRequest { name: name.into() };
    Probe::new(&replica.name, move || {
        let (mut workspaces, request) = (workspaces.clone(), request.clone());
        async move {
            match workspaces.get_workspace(request).await {
                Ok(_) => Seen::Open,
                Err(status) if status.code() == Code::NotFound => Seen::Shut("NOT_FOUND"),
                Err(status) => Seen::Failed(format!("{status:?}")),
            }
        }
    })
}

//! What a workspace says, and how long a secret is good: one guarantee each, where the model shows that they go together.

use std::collections::BTreeMap;

use super::*;
use crate::{
    domain::{
        id::TokenPrefix,
        key::KeyRecord,
        setting::{Declaration, Declarations, Kind},
        workspace::Workspace,
    },
    store::WorkspaceRecord,
};

fn declaration(name: &str, default: &str) -> Declaration {
    Declaration {
        name: name.into(),
        description: "".into(),
        kind: Kind::Text {
            max_length: 20,
            allowed: [].into(),
        },
        default: Some(default)
            .filter(|text| !text.is_empty())
            .map(Into::into),
        header: None,
    }
}

/// The `default` workspace with these settings.
fn declaring(all: Vec<Declaration>) -> Workspace {
    let id = WorkspaceId::default_workspace();
    Workspace {
        settings: Declarations::new(all).unwrap(),
        ..Workspace::new(id, TokenPrefix::default(), at(1))
    }
}

fn settings<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, String> {
    pairs
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
}

async fn answer(gate: &Gate, question: &Question<'_>) -> Answer {
    gate.checker.check(question).await.unwrap()
}

#[tokio::test]
async fn a_permission_that_is_not_declared_is_held_by_nobody() {
    let mut gate = Gate::new();
    let token = gate.put_new(key());
    let reason = async |gate: &Gate, permissions: &[&str]| {
        let permissions: Vec<String> = permissions.iter().map(|&name| name.into()).collect();
        let asked = Question {
            permissions: &permissions,
            ..question(&token)
        };
        answer(gate, &asked).await.reason
    };
    let both = ["sms.send", "otp.send"];
    assert_eq!(reason(&gate, &both).await, Reason::Ok, "names are free");
    gate.put_workspace(Workspace {
        permissions: crate::domain::permission::PermissionSet::new(["sms.send"]),
        ..declaring(Vec::new())
    });
    for (asked, decided) in [
        (&["sms.send"][..], Reason::Ok),
        (&["otp.send"], Reason::PermissionDenied),
        (&both, Reason::PermissionDenied),
        (&["*"], Reason::Ok),
        (&[], Reason::Ok),
    ] {
        assert_eq!(reason(&gate, asked).await, decided, "{asked:?}");
    }
}

/// The answer is that to a key that never was, and argon2 has no part in it: not even the time tells of it.
#[tokio::test]
async fn an_archived_key_is_an_unknown_key() {
    let mut gate = Gate::new();
    let stranger = token(&issue(&key()).0);
    let (warm, cold) = (key(), key());
    let (warm_secret, warm_sealed) = issue(&warm);
    let (cold_secret, cold_sealed) = issue(&cold);
    gate.put(warm.clone(), vec![warm_sealed.clone()]);
    gate.put(cold.clone(), vec![cold_sealed.clone()]);
    let warm_token = token(&warm_secret);
    assert_eq!(reason(&gate, &question(&warm_token)).await, Ok(Reason::Ok));
    assert_eq!(gate.verify.runs(), 1);

    // With its secrets still there, which is more than any archived key has.
    for (mut key, sealed) in [(warm, warm_sealed), (cold, cold_sealed)] {
        key.archive_time = Some(at(5));
        // What else would be told of it.
        key.disabled = true;
        gate.put(key, vec![sealed]);
    }
    let unknown = answer(&gate, &question(&stranger)).await;
    assert_eq!(unknown.reason, Reason::InvalidCredential);
    for credential in [warm_token, token(&cold_secret)] {
        assert_eq!(answer(&gate, &question(&credential)).await, unknown);
    }
    assert_eq!(gate.verify.runs(), 1);
}

#[tokio::test]
async fn an_archived_admin_credential_authenticates_nobody() {
    let mut gate = Gate::new();
    let mut root = key();
    root.workspace = WorkspaceId::system();
    let (secret, sealed) = issue(&root);
    gate.put(root.clone(), vec![sealed.clone()]);
    let token = token(&secret);
    let found = async |gate: &Gate| gate.checker.authenticate(Credential(&token), None).await;
    assert!(found(&gate).await.unwrap().is_some());
    root.archive_time = Some(at(5));
    gate.put(root, vec![sealed]);
    assert!(found(&gate).await.unwrap().is_none());
}

#[tokio::test]
async fn an_overlap_ends_at_its_end_and_costs_nothing_after() {
    let mut gate = Gate::new();
    let key = key();
    let (old, mut kept) = issue(&key);
    let (new, mut sealed) = issue(&key);
    kept.expire_time = Some(at(100));
    sealed.id = 2;
    let (old, new) = (token(&old), token(&new));
    let cold = key.id;
    gate.put(key.clone(), vec![kept.clone(), sealed.clone()]);
    let at_time = |gate: &Gate, now| gate.clock.0.store(now, Ordering::SeqCst);

    // Never seen before its end, so no memo answers: what is over is over without a verify.
    at_time(&gate, 100);
    assert_eq!(
        reason(&gate, &question(&old)).await,
        Ok(Reason::InvalidCredential)
    );
    assert_eq!(gate.verify.runs(), 0);

    for (now, expected) in [
        (99, Reason::Ok),
        (100, Reason::InvalidCredential),
        (1_000_000, Reason::InvalidCredential),
        // Time does not run backwards at a gate; but if it did, the end would be looked at again.
        (0, Reason::Ok),
    ] {
        at_time(&gate, now);
        assert_eq!(reason(&gate, &question(&old)).await, Ok(expected), "{now}");
        assert_eq!(
            reason(&gate, &question(&new)).await,
            Ok(Reason::Ok),
            "{now}"
        );
    }
    assert_eq!(gate.verify.runs(), 2);

    // Cut short: the end comes into force although the secret is remembered.
    kept.expire_time = Some(at(10));
    gate.put(key.clone(), vec![kept, sealed.clone()]);
    at_time(&gate, 10);
    assert_eq!(
        reason(&gate, &question(&old)).await,
        Ok(Reason::InvalidCredential)
    );
    gate.put(key, vec![sealed]);
    at_time(&gate, 9);
    assert_eq!(
        reason(&gate, &question(&old)).await,
        Ok(Reason::InvalidCredential)
    );
    assert_eq!(reason(&gate, &question(&new)).await, Ok(Reason::Ok));
    assert_eq!(
        reason(&gate, &question(&guess(cold))).await,
        Ok(Reason::InvalidCredential)
    );
    assert_eq!(gate.verify.runs(), 2, "the new one's memo is kept");
}

#[tokio::test]
async fn a_value_of_the_request_goes_before_the_keys_and_that_before_the_default() {
    let mut gate = Gate::new();
    gate.put_workspace(declaring(vec![
        declaration("both", "default"),
        declaration("none", ""),
        declaration("only", "default"),
        declaration("own", "default"),
    ]));
    let mut key = key();
    key.permissions = crate::domain::permission::PermissionSet::new(["sms.send"]);
    key.settings = [("both", "key"), ("own", "key")].into_iter().collect();
    let token = gate.put_new(key);
    let asked = settings([("both", "request")]);
    let ok = answer(
        &gate,
        &Question {
            settings: &asked,
            ..question(&token)
        },
    )
    .await;
    assert_eq!(ok.reason, Reason::Ok);
    let effective: BTreeMap<_, _> = ok
        .settings
        .into_iter()
        .map(|one| (one.name, one.value))
        .collect();
    let wanted = [("both", "request"), ("only", "default"), ("own", "key")];
    assert_eq!(effective, settings(wanted));

    // Judged last, and nothing is told with a denial.
    let unheld = ["otp.send".to_owned()];
    for (asked, permissions, wanted) in [
        (settings([("nobody", "x")]), NOTHING, Reason::InvalidSetting),
        (settings([("own", "\r\n")]), NOTHING, Reason::InvalidSetting),
        (settings([("own", "")]), NOTHING, Reason::InvalidSetting),
        (
            settings([("own", "\r\n")]),
            &unheld,
            Reason::PermissionDenied,
        ),
        (
            settings([("own", "good")]),
            &unheld,
            Reason::PermissionDenied,
        ),
    ] {
        let denied = answer(
            &gate,
            &Question {
                settings: &asked,
                permissions,
                ..question(&token)
            },
        )
        .await;
        assert_eq!(denied.reason, wanted, "{asked:?}");
        assert_eq!(denied.settings, [], "{asked:?}");
        assert!(denied.key.is_some(), "the secret was proved");
    }
}

#[tokio::test]
async fn a_workspace_that_is_gone_takes_its_keys_along_and_an_unreadable_one_decides_nothing() {
    let mut gate = Gate::new();
    let (first, second) = (gate.put_new(key()), gate.put_new(key()));
    let record = || RecordId::Workspace(WorkspaceId::default_workspace());
    let both = async |gate: &Gate, wanted: Result<Reason, Undecided>| {
        for token in [&first, &second] {
            assert_eq!(reason(gate, &question(token)).await, wanted);
        }
    };
    both(&gate, Ok(Reason::Ok)).await;
    gate.apply(record(), Stored::Unreadable("garbage".into()));
    both(&gate, Err(Undecided::Unreadable)).await;
    let retired = Stored::Retired(gate.next_revision());
    gate.apply(record(), retired);
    both(&gate, Ok(Reason::InvalidCredential)).await;
    let unknown = answer(&gate, &question("pc_nobody")).await;
    assert_eq!(answer(&gate, &question(&first)).await, unknown);
    gate.put_workspace(declaring(Vec::new()));
    both(&gate, Ok(Reason::Ok)).await;
    assert_eq!(gate.verify.runs(), 2);
}

/// After the wait for argon2 the workspace is looked at again, too.
#[tokio::test(start_paused = true)]
async fn a_workspace_that_goes_during_the_first_verify_allows_nothing() {
    let mut gate = Gate::new();
    let token = gate.put_new(key());
    let asked = question(&token);
    let checker = gate.checker.clone();
    let held = gate.verify.hold_all_permits();
    let mut check = std::pin::pin!(checker.check(&asked));
    assert!(futures_util::poll!(check.as_mut()).is_pending());
    let retired = Stored::Retired(gate.next_revision());
    let record = RecordId::Workspace(WorkspaceId::default_workspace());
    gate.apply(record, retired);
    drop(held);
    assert_eq!(check.await.unwrap().reason, Reason::InvalidCredential);
    assert_eq!(gate.verify.runs(), 1);
}

/// The overlap's end is looked at again, too: it may come during the wait.
#[tokio::test(start_paused = true)]
async fn an_overlap_that_ends_during_the_first_verify_allows_nothing() {
    let mut gate = Gate::new();
    let key = key();
    let (old, mut kept) = issue(&key);
    kept.expire_time = Some(at(100));
    let (_, mut sealed) = issue(&key);
    sealed.id = 2;
    gate.put(key, vec![kept, sealed]);
    let token = token(&old);
    let asked = question(&token);
    let checker = gate.checker.clone();
    let held = gate.verify.hold_all_permits();
    let mut check = std::pin::pin!(checker.check(&asked));
    assert!(futures_util::poll!(check.as_mut()).is_pending());
    gate.clock.0.store(100, Ordering::SeqCst);
    drop(held);
    assert_eq!(check.await.unwrap().reason, Reason::InvalidCredential);
    assert_eq!(gate.verify.runs(), 1);
}

/// Whatever an answer's revision is, the workspace's rules it was decided by are at least that new, for each of its keys.
///
/// As for keys: a change of many records, the workspace's last, so that a revision that is announced before its records are
/// in place is seen by somebody.
#[test]
fn an_answer_of_a_revision_is_decided_by_the_rules_of_that_revision() {
    const CHANGES: usize = 1_000;
    const RECORDS: usize = 64;
    /// From this change on `old` is no setting any more.
    const REMOVED: usize = 500;
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _entered = runtime.enter();
    let mut gate = Gate::new();
    let mut fillers: Vec<Key> = (0..RECORDS).map(|_| key()).collect();
    let tokens = [gate.put_new(key()), gate.put_new(key())];
    let workspace_of = |number: u64, change: usize| {
        let mut all = vec![declaration("number", &number.to_string())];
        if change < REMOVED {
            all.push(declaration("old", ""));
        }
        declaring(all)
    };
    gate.put_workspace(workspace_of(gate.next_revision().number, 0));
    for token in &tokens {
        let warmed = runtime.block_on(reason(&gate, &question(token)));
        assert_eq!(warmed, Ok(Reason::Ok));
    }
    let start = gate.next_revision().number;
    let removed = start + REMOVED as u64;
    let last = start + CHANGES as u64 - 1;

    let checker = gate.checker.clone();
    let handle = runtime.handle().clone();
    let reader = std::thread::spawn(move || {
        let asked = settings([("old", "x")]);
        let (mut with_old, mut without) = (0u64, 0u64);
        loop {
            for token in &tokens {
                let plain = question(token);
                let answer = handle.block_on(checker.check(&plain)).unwrap();
                let revision = answer.revision.number;
                let decided_by: u64 = answer.settings[0].value.parse().unwrap();
                assert!(
                    decided_by >= revision,
                    "an answer of {revision} shows the rules of {decided_by}"
                );
                let plain = Question {
                    settings: &asked,
                    ..plain
                };
                let answer = handle.block_on(checker.check(&plain)).unwrap();
                match answer.reason {
                    Reason::Ok => {
                        assert!(answer.revision.number < removed, "{answer:?}");
                        with_old += 1;
                    }
                    Reason::InvalidSetting => without += 1,
                    other => panic!("{other:?}"),
                }
                if answer.revision.number == last {
                    return (with_old, without);
                }
            }
        }
    });
    for change in 0..CHANGES {
        let revision = gate.next_revision();
        let mut records: Vec<_> = fillers
            .iter_mut()
            .map(|key| {
                key.disabled = !key.disabled;
                let record = KeyRecord {
                    key: key.clone(),
                    secrets: Vec::new(),
                    revision,
                };
                (RecordId::Key(key.id), Stored::Key(Box::new(record)))
            })
            .collect();
        let workspace = workspace_of(revision.number, change);
        records.push((
            RecordId::Workspace(workspace.id.clone()),
            Stored::Workspace(WorkspaceRecord {
                workspace,
                revision,
            }),
        ));
        gate.apply_all(records);
        if reader.is_finished() {
            break;
        }
    }
    let (with_old, without) = reader.join().expect("no answer is of older rules");
    assert!(with_old > 0 && without > 0, "{with_old}, {without}");
}

mod model;
mod rules;

use std::{collections::BTreeMap, sync::atomic::Ordering};

use super::*;
use crate::{
    domain::{
        base62::encode_u32,
        credential::crc,
        id::{KeyId, WorkspaceId},
        secret::GeneratedSecret,
        source::{IpAllowlist, parse_source},
        text::TextMap,
    },
    gate::testing::{Gate, at, issue, key, random, token},
    store::{RecordId, Stored},
};

const NOTHING: &[String] = &[];
static NO_SETTINGS: BTreeMap<String, String> = BTreeMap::new();

fn question(credential: &str) -> Question<'_> {
    Question {
        credential: Credential(credential),
        workspace: "default",
        permissions: NOTHING,
        source: None,
        settings: &NO_SETTINGS,
        labels: NOTHING,
        min_revision: None,
    }
}

async fn reason(gate: &Gate, question: &Question<'_>) -> Result<Reason, Undecided> {
    gate.checker
        .check(question)
        .await
        .map(|answer| answer.reason)
}

/// The id of one key with the secret of another, checksum right.
fn combine((id, _): &(KeyId, String), (_, token): &(KeyId, String)) -> String {
    let digits: [u8; 43] = token.rsplit('_').next().unwrap().as_bytes()[..43]
        .try_into()
        .unwrap();
    let crc = encode_u32(crc(&id.to_text(), &digits));
    format!(
        "pc_{id}_{}{}",
        std::str::from_utf8(&digits).unwrap(),
        std::str::from_utf8(&crc).unwrap()
    )
}

#[tokio::test]
async fn only_who_proved_the_secret_learns_of_the_key() {
    let mut gate = Gate::new();
    let mut disabled = key();
    disabled.disabled = true;
    disabled.labels = [("team", "payments"), ("tier", "gold")]
        .into_iter()
        .collect::<TextMap>();
    let other = gate.put_new(key());
    let (id, good) = {
        let id = disabled.id;
        (id, gate.put_new(disabled))
    };
    let labels = ["team".to_owned(), "absent".to_owned()];
    let asked = Question {
        labels: &labels,
        ..question(&good)
    };
    let answer = gate.checker.check(&asked).await.unwrap();
    let shown = answer.key.unwrap();
    assert_eq!(
        (answer.reason, shown.name),
        (Reason::KeyDisabled, format!("workspaces/default/keys/{id}"))
    );
    assert_eq!(shown.labels, [("team".to_owned(), "payments".to_owned())]);

    let wrong = combine(&(id, good), &(id, other));
    let answer = gate
        .checker
        .check(&Question {
            labels: &labels,
            ..question(&wrong)
        })
        .await
        .unwrap();
    let unknown = gate.checker.check(&question("pc_nobody")).await.unwrap();
    assert_eq!(
        answer, unknown,
        "wrong secret and unknown key are one answer"
    );
}

/// The work of 100,000 guesses with a valid checksum, against a known key whose secret was never seen.
#[tokio::test]
async fn guesses_against_a_cold_key_cost_no_argon2() {
    let mut gate = Gate::new();
    let target = key();
    let id = target.id;
    let good = gate.put_new(target);
    for _ in 0..100_000 {
        let guess = guess(id);
        assert_eq!(
            reason(&gate, &question(&guess)).await,
            Ok(Reason::InvalidCredential)
        );
    }
    assert_eq!(gate.verify.runs(), 0);
    // The counter itself works: the right secret takes one run, and only the first time.
    for _ in 0..3 {
        assert_eq!(reason(&gate, &question(&good)).await, Ok(Reason::Ok));
    }
    assert_eq!(gate.verify.runs(), 1);
    // Against a proved key guesses cost none either.
    for _ in 0..1_000 {
        assert_eq!(
            reason(&gate, &question(&guess(id))).await,
            Ok(Reason::InvalidCredential)
        );
    }
    assert_eq!(gate.verify.runs(), 1);
}

/// Another secret for the key, of the right form.
fn guess(id: KeyId) -> String {
    token(&GeneratedSecret::from_random(id, &mut random))
}

#[tokio::test]
async fn a_reset_secret_is_refused_at_once_and_so_is_its_memo() {
    let mut gate = Gate::new();
    let key = key();
    let old = gate.put_new(key.clone());
    assert_eq!(reason(&gate, &question(&old)).await, Ok(Reason::Ok));
    let (secret, sealed) = issue(&key);
    gate.put(key, vec![sealed]);
    assert_eq!(
        reason(&gate, &question(&old)).await,
        Ok(Reason::InvalidCredential)
    );
    assert_eq!(
        reason(&gate, &question(&token(&secret))).await,
        Ok(Reason::Ok)
    );
}

#[tokio::test]
async fn an_edit_keeps_the_memo_and_takes_effect() {
    let mut gate = Gate::new();
    let mut key = key();
    let (secret, sealed) = issue(&key);
    gate.put(key.clone(), vec![sealed.clone()]);
    let token = token(&secret);
    assert_eq!(reason(&gate, &question(&token)).await, Ok(Reason::Ok));
    key.disabled = true;
    gate.put(key, vec![sealed]);
    assert_eq!(
        reason(&gate, &question(&token)).await,
        Ok(Reason::KeyDisabled)
    );
    assert_eq!(gate.verify.runs(), 1);
}

/// After the wait for argon2 the decision starts again: the key that was disabled meanwhile is refused.
///
/// The verify is held back until the key is disabled, and the clock stands still, so nothing here is a race.
#[tokio::test(start_paused = true)]
async fn a_key_disabled_during_the_first_verify_is_not_allowed() {
    let mut gate = Gate::new();
    let mut key = key();
    let (secret, sealed) = issue(&key);
    gate.put(key.clone(), vec![sealed.clone()]);
    let token = token(&secret);
    let asked = question(&token);
    let checker = gate.checker.clone();
    let held = gate.verify.hold_all_permits();
    let mut check = std::pin::pin!(checker.check(&asked));
    assert!(futures_util::poll!(check.as_mut()).is_pending());
    assert_eq!(gate.verify.waiting(), 1);
    key.disabled = true;
    gate.put(key, vec![sealed]);
    drop(held);
    assert_eq!(check.await.unwrap().reason, Reason::KeyDisabled);
    assert_eq!(gate.verify.runs(), 1);
}

/// The lease, too, is looked at again after the wait for argon2.
#[tokio::test(start_paused = true)]
async fn a_lease_that_ends_during_the_first_verify_allows_nothing() {
    let mut gate = Gate::new();
    let mut root = key();
    root.workspace = WorkspaceId::system();
    let (token, root) = (gate.put_new(key()), gate.put_new(root));
    let checker = gate.checker.clone();
    let held = gate.verify.hold_all_permits();
    let asked = question(&token);
    let mut check = std::pin::pin!(checker.check(&asked));
    let mut authenticate = std::pin::pin!(checker.authenticate(Credential(&root), None));
    assert!(futures_util::poll!(check.as_mut()).is_pending());
    assert!(futures_util::poll!(authenticate.as_mut()).is_pending());
    assert_eq!(gate.verify.waiting(), 2);
    gate.lease.fence();
    drop(held);
    assert_eq!(check.await, Err(Undecided::Fenced));
    assert_eq!(authenticate.await.map(drop), Err(Undecided::Fenced));
    assert_eq!(gate.verify.runs(), 2, "the secrets were right");
}

#[tokio::test]
async fn past_the_lease_nothing_is_decided() {
    let mut gate = Gate::new();
    let token = gate.put_new(key());
    assert_eq!(reason(&gate, &question(&token)).await, Ok(Reason::Ok));
    gate.lease.fence();
    assert_eq!(
        reason(&gate, &question(&token)).await,
        Err(Undecided::Fenced)
    );
    assert_eq!(
        reason(&gate, &question("garbage")).await,
        Err(Undecided::Fenced)
    );
}

#[tokio::test]
async fn an_unreadable_record_is_never_decided_on() {
    let mut gate = Gate::new();
    let key = key();
    let id = key.id;
    let token = gate.put_new(key);
    assert_eq!(reason(&gate, &question(&token)).await, Ok(Reason::Ok));
    gate.apply(RecordId::Key(id), Stored::Unreadable("garbage".into()));
    assert_eq!(
        reason(&gate, &question(&token)).await,
        Err(Undecided::Unreadable)
    );
    assert_eq!(
        gate.metrics.totals().outcomes.last(),
        Some(&("UNDECIDED", 1))
    );
}

#[tokio::test]
async fn system_keys_authenticate_callers_and_never_open_the_gate() {
    let mut gate = Gate::new();
    let mut root = key();
    root.workspace = WorkspaceId::system();
    let mut listed = root.clone();
    listed.id = key().id;
    listed.ip_allowlist = IpAllowlist::parse(&["10.0.0.0/8"]).unwrap();
    let token = gate.put_new(root);
    let limited = gate.put_new(listed);
    for workspace in ["system", "default"] {
        let asked = Question {
            workspace,
            ..question(&token)
        };
        assert_eq!(reason(&gate, &asked).await, Ok(Reason::InvalidCredential));
    }
    let source = |text| Some(parse_source(text).unwrap());
    let by = async |token: &str, source| {
        gate.checker
            .authenticate(Credential(token), source)
            .await
            .unwrap()
            .is_some()
    };
    assert!(by(&token, None).await);
    assert!(by(&limited, source("10.1.2.3")).await);
    assert!(!by(&limited, source("11.1.2.3")).await && !by(&limited, None).await);
    gate.clock.0.store(1, Ordering::SeqCst);
    let ordinary = gate.put_new(key());
    assert!(
        gate.checker
            .authenticate(Credential(&ordinary), None)
            .await
            .unwrap()
            .is_none()
    );
}

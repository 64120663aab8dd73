//! What is answered while a change is committed but not in force.

use std::collections::HashMap;

use tokio::time::Instant;
use tonic_types::StatusExt as _;

use super::*;
use crate::{
    admin::{failure::reset_not_fleet_wide, keys::KeyView},
    domain::{decision::Reason, event::Event, id::KeyId},
    gate::checker::{Answer, Credential, Question},
    status::{carries_issued_key, take_issued_key},
};

const SECOND: Duration = Duration::from_secs(1);

impl Scene {
    /// From now on no change arrives here.
    pub(in crate::admin) fn hold_changes(&self) {
        self.store.hold_changes.send_replace(true);
    }

    /// What was held back arrives.
    pub(in crate::admin) async fn release_changes(&self) {
        self.store.hold_changes.send_replace(false);
        let head = self.store.head().await.unwrap();
        let mut applied = self.management.keyring.watch();
        applied.wait_for(|&applied| applied >= head).await.unwrap();
    }

    /// A call of root's that is to be answered within this time.
    fn within(&self, method: &'static str, time: Duration) -> Call {
        self.root(method).to_answer_by(Some(Instant::now() + time))
    }

    fn with_id(&self, method: &'static str, id: &str, time: Duration) -> Call {
        let call = Call::new(self.root.clone(), method, id.into(), &[]);
        call.to_answer_by(Some(Instant::now() + time))
    }

    /// Waits for changes to be in force everywhere that have ended so far, however they did.
    fn barriers(&self) -> u64 {
        self.management.barriers().iter().map(|(_, n)| n).sum()
    }

    pub(in crate::admin) async fn new_key(&self) -> Key {
        let default = WorkspaceId::default_workspace();
        self.create(&default, PermissionSet::any()).await.0
    }

    pub(in crate::admin) async fn disable(
        &self,
        call: &Call,
        key: &Key,
    ) -> Result<KeyView, Status> {
        let name = key.name();
        let target = Target {
            name: &name,
            etag: "",
        };
        let disabled = self.management.disable_key(call, target).await;
        disabled.map_err(Status::from)
    }

    async fn delete(&self, call: &Call, name: &KeyName) -> Result<(), Status> {
        let target = Target { name, etag: "" };
        let deleted = self.management.delete_key(call, target, true).await;
        deleted.map_err(Status::from)
    }

    pub(in crate::admin) async fn check(&self, token: &str) -> Answer {
        let question = Question {
            credential: Credential(token),
            workspace: "default",
            permissions: &[],
            source: None,
            settings: &BTreeMap::new(),
            labels: &[],
            min_revision: None,
        };
        self.checker.check(&question).await.unwrap()
    }
}

#[track_caller]
fn metadata(status: &Status, code: Code, reason: &str) -> HashMap<String, String> {
    let info = status.get_details_error_info().expect("an ErrorInfo");
    assert_eq!((status.code(), &*info.reason), (code, reason), "{status:?}");
    info.metadata
}

#[track_caller]
pub(in crate::admin) fn not_fleet_wide(status: &Status) -> HashMap<String, String> {
    metadata(status, Code::Unavailable, "COMMITTED_NOT_FLEET_WIDE")
}

/// OK would mean everywhere.
#[tokio::test(start_paused = true)]
async fn what_takes_away_and_is_not_in_force_everywhere_is_told_before_the_deadline() {
    let scene = Scene::new().await;
    let (active, disabled) = (scene.new_key().await, scene.new_key().await);
    let overlapping = scene.new_key().await;
    let targets = Targets {
        active: active.name(),
        disabled: disabled.name(),
        overlapping: overlapping.name(),
    };
    scene
        .disable(&scene.root("DisableKey"), &disabled)
        .await
        .unwrap();
    let overlap = || Ok(Duration::from_hours(1));
    let target = Target {
        name: &targets.overlapping,
        etag: "",
    };
    let reset = scene.root("ResetSecret");
    let made = scene.management.reset_secret(&reset, target, overlap).await;
    made.map_err(Status::from)
        .unwrap()
        .everywhere()
        .map_err(|_| "not everywhere")
        .unwrap();
    for method in CALLS {
        let before = scene.store.head().await.unwrap();
        let call_within = 7 * SECOND;
        scene.hold_changes();
        let begun = Instant::now();
        let answer = call(
            &scene,
            &scene.root,
            method,
            &targets,
            Some(begun + call_within),
        )
        .await;
        let took = begun.elapsed();
        if let "CreateKey" | "EnableKey" | "CreateWorkspace" = method {
            answer.expect(method);
            // A timer ticks in milliseconds.
            assert!(
                took >= SECOND && took < SECOND + SECOND / 100,
                "{method}: {took:?}"
            );
        } else {
            let status = answer.expect_err(method);
            let metadata = not_fleet_wide(&status);
            assert_eq!(metadata["revision"], before.next().to_string(), "{method}");
            assert_eq!(metadata["waiting_for"], "test", "{method}");
            assert_eq!(metadata["waiting_for_count"], "1", "{method}");
            assert!(
                took >= call_within && took < call_within + SECOND / 100,
                "{method}: {took:?}"
            );
        }
        assert_eq!(scene.store.head().await.unwrap(), before.next(), "{method}");
        scene.release_changes().await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_only_gives_names_who_lags_and_keeps_the_deadline_too() {
    let scene = Scene::new().await;
    let key = scene.new_key().await;
    scene
        .disable(&scene.root("DisableKey"), &key)
        .await
        .unwrap();
    let default = WorkspaceId::default_workspace();
    let management = &scene.management;
    let new = || Ok(new_key(PermissionSet::any()));
    for (deadline, waits) in [(30 * SECOND, SECOND), (SECOND / 2, SECOND / 2)] {
        scene.hold_changes();
        let begun = Instant::now();
        let call = scene.within("CreateKey", deadline);
        let made = management.create_key(&call, &default, new).await;
        let (issued, laggards) = made.map_err(Status::from).unwrap().with_laggards();
        assert_eq!(laggards, ["test"]);
        let took = begun.elapsed();
        assert!(took >= waits && took < waits + SECOND / 100, "{took:?}");
        scene.release_changes().await;
        let token = issued.secret.unwrap();
        let token = token.token(&issued.view.record.key.token_prefix);
        let answer = scene.check(token.expose()).await;
        assert_eq!(answer.reason, Reason::Ok);
    }

    let name = key.name();
    let target = Target {
        name: &name,
        etag: "",
    };
    scene.hold_changes();
    let enable = scene.with_id("EnableKey", "e", 30 * SECOND);
    for what in ["the call", "its replay"] {
        let begun = Instant::now();
        let made = management.enable_key(&enable, target).await;
        let (view, laggards) = made.map_err(Status::from).unwrap().with_laggards();
        assert!(!view.record.key.disabled, "{what}");
        assert_eq!(laggards, ["test"], "{what}");
        assert!(begun.elapsed() < SECOND + SECOND / 100, "{what}");
    }
    scene.release_changes().await;
    let made = management.enable_key(&enable, target).await;
    let (_, laggards) = made.map_err(Status::from).unwrap().with_laggards();
    assert!(laggards.is_empty(), "{laggards:?}");
}

#[tokio::test(start_paused = true)]
async fn a_replay_waits_until_what_it_did_is_in_force_everywhere() {
    let scene = Scene::new().await;
    let key = scene.new_key().await;
    scene.hold_changes();
    let call = scene.with_id("DisableKey", "d", 2 * SECOND);
    let first = scene.disable(&call, &key).await.unwrap_err();
    let again = scene.with_id("DisableKey", "d", 2 * SECOND);
    let begun = Instant::now();
    let second = scene.disable(&again, &key).await.unwrap_err();
    assert!(begun.elapsed() >= 2 * SECOND);
    assert_eq!(not_fleet_wide(&first), not_fleet_wide(&second));
    scene.release_changes().await;
    let again = scene.with_id("DisableKey", "d", 2 * SECOND);
    scene.disable(&again, &key).await.expect("it is everywhere");
}

/// They may be the answer to a call whose first answer was lost.
#[tokio::test]
async fn what_changes_nothing_runs_the_barrier_too() {
    let scene = Scene::new().await;
    let key = scene.new_key().await;
    let disable = scene.root("DisableKey");
    scene.disable(&disable, &key).await.unwrap();
    let before = scene.barriers();
    scene.disable(&disable, &key).await.unwrap();
    assert_eq!(scene.barriers(), before + 1, "a no-op");

    let delete = Call::new(scene.root.clone(), "DeleteKey", "x".into(), &[]);
    let name = key.name();
    scene.delete(&delete, &name).await.unwrap();
    let before = scene.barriers();
    scene.delete(&delete, &name).await.unwrap();
    assert_eq!(scene.barriers(), before + 1, "a replay");
    let refused = scene.delete(&scene.root("DeleteKey"), &name).await;
    metadata(&refused.unwrap_err(), Code::NotFound, "RESOURCE_NOT_FOUND");
    assert_eq!(scene.barriers(), before + 2, "a repeated delete");

    let edit = || Ok(WorkspaceEdit::default());
    let default = WorkspaceId::default_workspace();
    let target = WorkspaceTarget {
        id: &default,
        etag: "",
    };
    let call = scene.root("UpdateWorkspace");
    let kept = scene.management.update_workspace(&call, target, edit).await;
    kept.map_err(Status::from).unwrap();
    assert_eq!(scene.barriers(), before + 3, "a workspace as it is");
}

/// This replica may have come further than others.
#[tokio::test(start_paused = true)]
async fn what_is_so_here_and_not_yet_elsewhere_is_not_answered_as_done() {
    let scene = Scene::new().await;
    let key = scene.new_key().await;
    let management = &scene.management;
    let seen = scene.store.head().await.unwrap();
    // Nowhere yet.
    let later = seen.next();
    let call = scene.within("DeleteKey", SECOND);
    let refused = management.gone(&call, "a key".into(), later).await;
    not_fleet_wide(&refused.into());
    let call = scene.within("EnableKey", SECOND);
    let refused = management.gone(&call, "a key".into(), later).await;
    metadata(&refused.into(), Code::NotFound, "RESOURCE_NOT_FOUND");

    let reads = vec![(RecordId::Key(key.id), Some(later))];
    let call = scene.within("DisableKey", SECOND);
    let now = management.now();
    let kept = management.keep(&call, reads, &mut None, seen, now).await;
    let Ok(Outcome::Done(made)) = kept else {
        panic!("there is nothing newer");
    };
    let short = made.everywhere().expect_err("it is nowhere yet");
    not_fleet_wide(&Failure::from(short).into());
}

/// The old secret is dead, and the new one is shown only now.
#[tokio::test(start_paused = true)]
async fn a_reset_that_is_not_in_force_everywhere_shows_its_secret_all_the_same() {
    let scene = Scene::new().await;
    let default = WorkspaceId::default_workspace();
    let large = |at: usize| (format!("l{at}"), "v".repeat(256));
    let labels: Vec<_> = (0..64).map(large).collect();
    let addresses: Vec<_> = (0..1_000)
        .map(|at| format!("192.0.{}.{}", at / 250, at % 250))
        .collect();
    let new = NewKey {
        description: "d".repeat(1_024),
        labels: labels
            .iter()
            .map(|(name, value)| (&**name, &**value))
            .collect(),
        ip_allowlist: IpAllowlist::parse(&addresses).unwrap(),
        ..new_key(PermissionSet::any())
    };
    let create = scene.root("CreateKey");
    let made = scene
        .management
        .create_key(&create, &default, || Ok(new))
        .await;
    let (issued, _) = made.map_err(Status::from).unwrap().with_laggards();
    let key = issued.view.record.key;
    let name = key.name();
    let target = Target {
        name: &name,
        etag: "",
    };
    let old = issued.secret.unwrap().token(&key.token_prefix);

    scene.hold_changes();
    let now = scene.management.now();
    let reset = scene.with_id("ResetSecret", "r", SECOND);
    let nothing_kept = || Ok(Duration::ZERO);
    let made = scene
        .management
        .reset_secret(&reset, target, nothing_kept)
        .await;
    let mut short = made
        .map_err(Status::from)
        .unwrap()
        .everywhere()
        .err()
        .expect("it is not everywhere");
    let names = (0..500).map(|at| format!("replica-{at}.eu-west.example"));
    short.pending.waiting_for.extend(names);
    let mut status = reset_not_fleet_wide(short, now);
    let metadata = not_fleet_wide(&status);
    assert_eq!(metadata["waiting_for_count"], "501");
    assert!(metadata["waiting_for"].starts_with("test,replica-0."));
    let travels = status.details().len() * 4 / 3 + status.message().len();
    assert!(travels < 4_096, "{travels} bytes in a header");

    let shown = take_issued_key(&mut status).expect("the new secret");
    let shown_key = shown.key.unwrap();
    assert_eq!(shown_key.name, name.to_string());
    assert_eq!(shown_key.description, "");
    assert!(!shown.replayed && shown.token.ends_with(&shown.secret));
    for text in [status.message(), &format!("{metadata:?}")] {
        assert!(!text.contains(&shown.secret), "{text}");
    }

    let reset = scene.with_id("ResetSecret", "r", SECOND);
    let made = scene
        .management
        .reset_secret(&reset, target, nothing_kept)
        .await;
    let short = made.map_err(Status::from).unwrap().everywhere().err();
    let replayed = reset_not_fleet_wide(short.expect("still not"), now);
    not_fleet_wide(&replayed);
    assert!(!carries_issued_key(&replayed), "it was shown before");

    scene.release_changes().await;
    let source = |token: String| {
        let checker = scene.checker.clone();
        async move {
            let question = Question {
                credential: Credential(&token),
                workspace: "default",
                permissions: &[],
                source: "192.0.2.1".parse().ok(),
                settings: &BTreeMap::new(),
                labels: &[],
                min_revision: None,
            };
            checker.check(&question).await.unwrap().reason
        }
    };
    assert_eq!(source(shown.token).await, Reason::Ok);
    let dead = source(old.expose().to_owned()).await;
    assert_eq!(dead, Reason::InvalidCredential);
}

/// A caller that goes away takes back nothing.
#[tokio::test]
async fn a_call_that_is_dropped_while_it_commits_is_made_and_told() {
    let scene = Scene::new().await;
    let key = scene.new_key().await;
    let before = (scene.store.head().await.unwrap(), scene.barriers());
    scene.store.hold_commits.send_replace(true);
    let call = scene.root("DisableKey");
    let dropped = tokio::time::timeout(SECOND / 100, scene.disable(&call, &key)).await;
    assert!(dropped.is_err(), "it is held up");
    scene.store.hold_commits.send_replace(false);
    let made = async {
        while scene.barriers() == before.1 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(30 * SECOND, made)
        .await
        .expect("what became of it is told");
    assert_eq!(scene.store.head().await.unwrap(), before.0.next());
    assert_eq!(scene.management.mutations()["DisableKey"], 1);
}

/// On a store that others change, too, what this replica finds may be old news.
#[tokio::test(start_paused = true)]
async fn a_call_does_not_end_on_what_others_have_changed_meanwhile() {
    let scene = Arc::new(Scene::new().await);
    let key = scene.new_key().await;
    let disabled = scene.disable(&scene.root("DisableKey"), &key).await;
    let disabled = disabled.unwrap().record.key;
    let enabled = Key {
        disabled: false,
        ..disabled.clone()
    };
    // Another replica enables it, and this one has not heard of that.
    scene.hold_changes();
    let change = scene.by_another(&disabled, Some(enabled));
    let by_another = scene.store.inner.commit(change).await.unwrap();

    for (call, waits) in [
        (scene.within("DisableKey", 3 * SECOND), 3 * SECOND),
        (scene.root("DisableKey"), 10 * SECOND),
    ] {
        let begun = Instant::now();
        let refused = scene.disable(&call, &disabled).await.unwrap_err();
        metadata(&refused, Code::Aborted, "CONFLICT");
        let took = begun.elapsed();
        assert!(took >= waits && took <= waits + SECOND, "{took:?}");
    }

    let waiting = tokio::spawn({
        let (scene, key) = (scene.clone(), disabled.clone());
        async move { scene.disable(&scene.root("DisableKey"), &key).await }
    });
    tokio::time::sleep(SECOND / 2).await;
    assert!(!waiting.is_finished(), "it is not disabled");
    scene.release_changes().await;
    let view = waiting.await.unwrap().unwrap();
    assert!(view.record.key.disabled);
    assert!(view.record.revision > by_another, "it is disabled anew");
}

#[tokio::test(start_paused = true)]
async fn a_key_that_others_have_just_created_is_not_gone() {
    let scene = Arc::new(Scene::new().await);
    let made_here = scene.new_key().await;
    let unheard_of = Key {
        id: KeyId::from_random(&mut |buffer| getrandom::fill(buffer).unwrap()),
        ..made_here.clone()
    };
    scene.hold_changes();
    let create = Batch {
        reads: vec![(RecordId::Key(unheard_of.id), None)],
        quiet: None,
        mutation: None,
        writes: vec![Write::Key(Box::new(unheard_of.clone()), Vec::new())],
        event: Event {
            action: Action::Create,
            method: "CreateKey".into(),
            resource: unheard_of.name().to_string(),
            ..scene.by_another(&made_here, None).event
        },
    };
    scene.store.inner.commit(create).await.unwrap();
    let name = unheard_of.name();
    let waiting = tokio::spawn({
        let scene = scene.clone();
        async move { scene.delete(&scene.root("DeleteKey"), &name).await }
    });
    tokio::time::sleep(SECOND / 2).await;
    assert!(!waiting.is_finished(), "it is not gone");
    scene.release_changes().await;
    waiting.await.unwrap().expect("it is deleted now");
    let gone = scene.management.keyring.record(unheard_of.id);
    assert!(matches!(gone, Found::Nothing));
}

#[test]
fn a_change_that_was_not_taken_says_so() {
    let failure = Failure::NotWritten(StoreError::Failed("its disk is full".into()));
    let status = Status::from(failure);
    metadata(&status, Code::Unavailable, "STORE_FAILED");
    assert!(status.message().contains("nothing was written"), "{status}");
    assert!(!status.message().contains("disk"), "{status}");
}

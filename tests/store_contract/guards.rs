//! The checks on what a batch may ask for beside its read set: to be made once, to find a workspace quiet, and to end a
//! workspace for good.

use std::{slice, sync::Arc};

use portcullis::{
    domain::{
        id::{Revision, WorkspaceId},
        key::{Key, KeyRecord},
        time::Timestamp,
    },
    store::{Batch, CommitError, Done, Mutation, RETENTION, RecordId, Store, Stored, Write},
};

use super::{
    Site,
    checks::{conflicts, revision, taken},
    support::records::{
        at, batch, delete, event, events, id, issue, key, key_id, load, mutation, put, workspace,
    },
};

/// Asserts that a batch was known for one that had been made, and answers what that did.
#[track_caller]
fn repeated(outcome: Result<Revision, CommitError>) -> Done {
    match outcome {
        Err(CommitError::Repeated(done)) => *done,
        Err(error) => panic!("a repeated batch failed instead: {error}"),
        Ok(revision) => panic!("a repeated batch was taken as {revision}"),
    }
}

fn once(mutation: Mutation, writes: Vec<Write>) -> Batch {
    Batch {
        mutation: Some(mutation),
        ..batch(vec![], writes, "")
    }
}

fn later(nanos: u64) -> Timestamp {
    at(1_700_000_000_000_000_001 + nanos)
}

/// All that stands in a store.
async fn all(store: &dyn Store) -> impl PartialEq + std::fmt::Debug + use<> {
    (load(store).await, events(store).await)
}

/// What a batch's first record is, written at a revision.
type WrittenAt<'a> = &'a (dyn Fn(Revision) -> Stored + Sync);

pub async fn a_repeated_mutation_is_answered_as_it_was_and_writes_nothing(site: Arc<dyn Site>) {
    let mut store = site.open().await;
    let acme = workspace("acme", "Acme");
    let full = key(1, "one");
    let secrets = vec![issue(&full, 1).1];
    let mutations: [(Vec<Write>, WrittenAt<'_>); 4] = [
        (
            vec![
                Write::Key(Box::new(full.clone()), secrets.clone()),
                put(2, "two"),
            ],
            &|revision| {
                Stored::Key(Box::new(KeyRecord {
                    key: full.clone(),
                    secrets: secrets.clone(),
                    revision,
                }))
            },
        ),
        (
            vec![Write::Workspace(acme.clone()), put(1, "")],
            &|revision| {
                Stored::Workspace(portcullis::store::WorkspaceRecord {
                    workspace: acme.clone(),
                    revision,
                })
            },
        ),
        (vec![delete(2), put(3, "")], &|_| Stored::Gone),
        (
            vec![Write::DeleteWorkspace(acme.id.clone()), put(3, "")],
            &Stored::Retired,
        ),
    ];
    let known = |done: Option<Done>| done.expect("the store knows what it did");
    let mut due = Vec::new();
    for (number, (writes, result)) in (1..).zip(mutations) {
        let mutation = mutation(number, 7);
        let before = store.done(mutation.id, later(0)).await;
        assert_eq!(before.expect("an answer"), None, "it was not made yet");
        let at = taken(store.commit(once(mutation, writes)).await);
        assert_eq!(at, revision(number));
        due.push(Done {
            fingerprint: [7; 32],
            revision: at,
            result: result(at),
        });
    }
    // Whatever comes after, the answer is what it was.
    taken(
        store
            .commit(batch(vec![], vec![put(1, "changed")], ""))
            .await,
    );
    let before = all(&*store).await;
    for _ in 0..2 {
        for (number, due) in (1..).zip(&due) {
            for fingerprint in [7, 8] {
                let again = once(mutation(number, fingerprint), vec![put(9, "again")]);
                assert_eq!(repeated(store.commit(again).await), *due);
            }
            let done = store.done(mutation(number, 8).id, later(0)).await;
            assert_eq!(known(done.expect("an answer")), *due);
        }
        let now = all(&*store).await;
        assert_eq!(now, before, "no record, no revision, no event");
        drop(store);
        store = site.open().await;
    }
}

pub async fn a_mutation_that_was_refused_is_not_known(site: Arc<dyn Site>) {
    let store = site.open().await;
    let stale = Batch {
        reads: vec![(id(1), Some(revision(1)))],
        ..once(mutation(1, 7), vec![put(1, "")])
    };
    conflicts(store.commit(stale).await, &id(1));
    let done = store.done(mutation(1, 7).id, later(0)).await;
    assert_eq!(done.expect("an answer"), None);
    let again = once(mutation(1, 7), vec![put(1, "")]);
    assert_eq!(taken(store.commit(again).await), revision(1));
}

/// A call that found everything as it wants it: its repetition changes nothing, whatever others did meanwhile.
pub async fn a_mutation_that_found_all_as_wanted_is_known_without_a_revision(site: Arc<dyn Site>) {
    let mut store = site.open().await;
    taken(store.commit(batch(vec![], vec![put(1, "one")], "")).await);
    taken(store.commit(batch(vec![], vec![put(2, "two")], "")).await);
    let before = all(&*store).await;
    let found = |number| Batch {
        reads: vec![(id(1), Some(revision(number)))],
        ..once(mutation(1, 7), vec![])
    };
    conflicts(store.commit(found(2)).await, &id(1));
    let mut changes = store.follow(revision(2)).await.expect("a follower");
    assert_eq!(taken(store.commit(found(1)).await), revision(1));
    assert_eq!(all(&*store).await, before, "no record, no event");

    taken(store.commit(batch(vec![], vec![put(1, "other")], "")).await);
    let next = changes.recv().await.expect("a change");
    assert_eq!(
        next.revision,
        revision(3),
        "followers heard of nothing else"
    );
    for _ in 0..2 {
        let after = all(&*store).await;
        let done = repeated(
            store
                .commit(once(mutation(1, 7), vec![put(1, "again")]))
                .await,
        );
        assert_eq!(done.revision, revision(1));
        let Stored::Key(record) = &done.result else {
            panic!("{:?} is not what was found", done.result);
        };
        assert_eq!(&*record.key.display_name, "one");
        assert_eq!(all(&*store).await, after);
        drop(store);
        store = site.open().await;
    }
}

pub async fn of_concurrent_repeats_one_is_written(site: Arc<dyn Site>) {
    const AT_ONCE: u64 = 32;
    let store = site.open().await;
    for round in 1..=10 {
        let mut commits = tokio::task::JoinSet::new();
        for contender in 0..AT_ONCE {
            let store = store.clone();
            commits.spawn(async move {
                let write = put(10 + contender, &round.to_string());
                store.commit(once(mutation(round, 7), vec![write])).await
            });
        }
        let (won, lost): (Vec<_>, Vec<_>) = commits
            .join_all()
            .await
            .into_iter()
            .partition(Result::is_ok);
        assert_eq!(won.len(), 1, "not one winner");
        let won = taken(won.into_iter().next().expect("a winner"));
        assert_eq!(won, revision(round));
        for outcome in lost {
            assert_eq!(repeated(outcome).revision, won);
        }
    }
    assert_eq!(events(&*store).await.len(), 10);
}

pub async fn a_mutation_is_known_for_a_day_and_no_longer(site: Arc<dyn Site>) {
    let store = site.open().await;
    let day = u64::try_from(RETENTION.as_nanos()).expect("a day");
    assert_eq!(day, 24 * 3_600 * 1_000_000_000);
    let made_at = |nanos| Batch {
        event: portcullis::domain::event::Event {
            time: later(nanos),
            ..event("")
        },
        ..once(mutation(1, 7), vec![put(1, "")])
    };
    // Now, and when it was made anew after a day.
    let mut begin = 0;
    for first in [revision(1), revision(2)] {
        assert_eq!(taken(store.commit(made_at(begin)).await), first);
        for age in [0, 1, day - 1, day] {
            let done = repeated(store.commit(made_at(begin + age)).await);
            assert_eq!(done.revision, first, "at {age} ns");
            let found = store.done(mutation(1, 7).id, later(begin + age)).await;
            assert_eq!(found.expect("an answer"), Some(done), "at {age} ns");
        }
        // A clock that was set back forgets nothing.
        let before = Timestamp::from_unix_nanos(0);
        let found = store.done(mutation(1, 7).id, before).await;
        assert!(found.expect("an answer").is_some());

        begin += day + 1;
        let found = store.done(mutation(1, 7).id, later(begin)).await;
        assert_eq!(found.expect("an answer"), None, "after a day");
    }
    // Others that come and go take nothing away from those that are still known.
    taken(store.commit(made_at(begin)).await);
    for number in 2..=40 {
        let batch = Batch {
            mutation: Some(mutation(number, 7)),
            ..made_at(begin + number * day / 40)
        };
        taken(store.commit(batch).await);
    }
    for number in 1..=40 {
        let found = store.done(mutation(number, 7).id, later(begin + day)).await;
        assert!(found.expect("an answer").is_some(), "{number}");
    }
}

pub async fn a_repeat_is_known_before_anything_else_is_judged(site: Arc<dyn Site>) {
    let store = site.open().await;
    let acme = workspace("acme", "Acme");
    let acme_id = RecordId::Workspace(acme.id.clone());
    let end = || Batch {
        reads: vec![(acme_id.clone(), Some(revision(1))), (id(1), None)],
        quiet: Some((WorkspaceId::default_workspace(), revision(1))),
        ..once(
            mutation(1, 7),
            vec![Write::DeleteWorkspace(acme.id.clone()), put(1, "")],
        )
    };
    taken(
        store
            .commit(batch(vec![], vec![Write::Workspace(acme.clone())], ""))
            .await,
    );
    assert_eq!(taken(store.commit(end()).await), revision(2));
    // Each of the three would refuse it by now.
    assert_eq!(repeated(store.commit(end()).await).revision, revision(2));
    for alone in [
        Batch {
            quiet: None,
            writes: vec![],
            ..end()
        },
        Batch {
            reads: vec![],
            writes: vec![],
            ..end()
        },
        Batch {
            reads: vec![],
            quiet: None,
            ..end()
        },
    ] {
        let another = Batch {
            mutation: Some(mutation(2, 7)),
            ..alone.clone()
        };
        let refused = store.commit(another).await;
        assert!(
            matches!(refused, Err(CommitError::Conflict(_))),
            "{refused:?}"
        );
        assert_eq!(repeated(store.commit(alone).await).revision, revision(2));
    }
}

fn in_workspace(workspace: &WorkspaceId, number: u64) -> Write {
    let key = Key {
        workspace: workspace.clone(),
        ..key(number, "")
    };
    Write::Key(Box::new(key), vec![])
}

pub async fn a_workspace_was_quiet_or_nothing_is_written(site: Arc<dyn Site>) {
    let mut store = site.open().await;
    let [acme, other] = ["acme", "other"].map(|id| workspace(id, ""));
    let acme_id = RecordId::Workspace(acme.id.clone());
    let gone = Write::DeleteKey(portcullis::domain::name::KeyName {
        workspace: acme.id.clone(),
        id: key_id(1),
    });
    let quiet_since = |since| Batch {
        quiet: Some((acme.id.clone(), since)),
        ..batch(vec![], vec![Write::Workspace(acme.clone())], "")
    };
    let mut head = revision(0);
    for (write, disturbs) in [
        (in_workspace(&acme.id, 1), true),
        (in_workspace(&acme.id, 1), true),
        (in_workspace(&other.id, 2), false),
        (Write::Workspace(acme.clone()), false),
        (Write::Workspace(other.clone()), false),
        (put(3, ""), false),
        (gone, true),
        (Write::DeleteWorkspace(other.id.clone()), false),
    ] {
        // What was decided on before the change, alone and amid others.
        let before = head;
        let several = vec![put(4, ""), write, in_workspace(&other.id, 5)];
        head = taken(store.commit(batch(vec![], several, "")).await);
        if disturbs {
            let all_before = all(&*store).await;
            conflicts(store.commit(quiet_since(before)).await, &acme_id);
            assert_eq!(all(&*store).await, all_before, "nothing is written");
            head = taken(store.commit(quiet_since(head)).await);
        } else {
            head = taken(store.commit(quiet_since(before)).await);
        }
        // A key that is written by a guarded batch counts, too.
        let key = Batch {
            writes: vec![in_workspace(&acme.id, 6)],
            ..quiet_since(head)
        };
        let before = head;
        head = taken(store.commit(key).await);
        conflicts(store.commit(quiet_since(before)).await, &acme_id);
    }
    // Who loads a store that is opened again can decide on what it loaded.
    drop(store);
    store = site.open().await;
    let (loaded, _) = load(&*store).await;
    assert_eq!(loaded, head);
    taken(store.commit(quiet_since(loaded)).await);
    // But not on what it knew before the last change.
    let before = Revision {
        number: loaded.number - 1,
        ..loaded
    };
    conflicts(store.commit(quiet_since(before)).await, &acme_id);
}

pub async fn of_concurrent_changes_to_a_quiet_workspace_one_wins(site: Arc<dyn Site>) {
    const AT_ONCE: u64 = 32;
    let store = site.open().await;
    let acme = workspace("acme", "").id;
    let mut head = revision(0);
    for round in 1..=10 {
        let mut commits = tokio::task::JoinSet::new();
        for contender in 0..AT_ONCE {
            let (store, acme) = (store.clone(), acme.clone());
            commits.spawn(async move {
                // Each writes a record of its own, so that no read set would tell.
                let batch = Batch {
                    quiet: Some((acme.clone(), head)),
                    ..batch(vec![], vec![in_workspace(&acme, contender)], "")
                };
                store.commit(batch).await
            });
        }
        let mut winners = Vec::new();
        for outcome in commits.join_all().await {
            match outcome {
                Ok(revision) => winners.push(revision),
                refused => conflicts(refused, &RecordId::Workspace(acme.clone())),
            }
        }
        assert_eq!(winners, [revision(round)], "one winner");
        head = winners[0];
    }
}

pub async fn a_retired_workspace_id_is_never_used_again(site: Arc<dyn Site>) {
    let mut store = site.open().await;
    let acme = workspace("acme", "Acme");
    let acme_id = RecordId::Workspace(acme.id.clone());
    let create = |expected: Option<Revision>| {
        let reads = vec![(acme_id.clone(), expected)];
        batch(reads, vec![Write::Workspace(acme.clone())], "")
    };
    taken(store.commit(create(None)).await);
    let mut changes = store.follow(revision(1)).await.expect("a follower");
    let end = vec![Write::DeleteWorkspace(acme.id.clone())];
    let end = batch(vec![(acme_id.clone(), Some(revision(1)))], end, "");
    assert_eq!(taken(store.commit(end.clone()).await), revision(2));

    let told = changes.recv().await.expect("a change");
    let retired = (acme_id.clone(), Stored::Retired(revision(2)));
    assert_eq!(told.records, slice::from_ref(&retired));
    for _ in 0..2 {
        let (head, records) = load(&*store).await;
        assert_eq!(head, revision(2));
        let records: Vec<_> = records.into_iter().collect();
        assert_eq!(records, slice::from_ref(&retired));
        conflicts(store.commit(end.clone()).await, &acme_id);
        // Neither for who knows nothing of it, nor for who knows, nor for who does not ask.
        for expected in [None, Some(revision(1)), Some(revision(2))] {
            conflicts(store.commit(create(expected)).await, &acme_id);
        }
        let blind = vec![put(1, ""), Write::Workspace(acme.clone())];
        conflicts(store.commit(batch(vec![], blind, "")).await, &acme_id);
        let again = vec![Write::DeleteWorkspace(acme.id.clone())];
        conflicts(store.commit(batch(vec![], again, "")).await, &acme_id);
        drop(store);
        store = site.open().await;
    }
    // A decision on its being gone can be made.
    let on_it = vec![(acme_id.clone(), Some(revision(2)))];
    taken(store.commit(batch(on_it, vec![put(1, "")], "")).await);
}

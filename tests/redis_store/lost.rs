//! A commit whose answer is lost is made once, and what is answered is true.

use std::time::{Duration, Instant};

use portcullis::store::{Batch, CommitError, Store as _, StoreError};

use super::{
    Site, next,
    proxy::{Cut, Proxy},
    revision,
    support::records::{batch, events, id, load, mutation, put},
    write,
};

/// A store by way of a proxy, with its scripts loaded and one revision.
async fn by_proxy() -> Option<(Site, Proxy, portcullis::store::redis::RedisStore)> {
    let site = Site::new(&[]).await.ok()?;
    let proxy = Proxy::to(site.server.port()).await;
    let store = site.open_by(proxy.port).await;
    assert_eq!(
        write(&store, 1, "first").await.expect("written"),
        revision(1)
    );
    Some((site, proxy, store))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_whose_answer_is_lost_is_made_once_and_acknowledged() {
    let Some((site, proxy, store)) = by_proxy().await else {
        return;
    };
    let direct = site.open("direct").await;
    for (round, cut) in (0..).zip([Cut::Answer, Cut::Call, Cut::Between]) {
        // With a read set that it changes itself, a mutation that is known by then, and with neither.
        for (kind, number) in [(0, 2 + round * 3), (1, 3 + round * 3), (2, 4 + round * 3)] {
            proxy.cut_next(cut);
            let read = (id(1), Some(revision(number - 1)));
            let one = Batch {
                reads: if kind == 0 { vec![read] } else { vec![] },
                mutation: (kind == 1).then(|| mutation(number, 7)),
                ..batch(vec![], vec![put(1, &number.to_string())], "")
            };
            let outcome = store.commit(one).await;
            assert_eq!(outcome.expect("acknowledged"), revision(number), "{cut:?}");
            assert!(proxy.has_cut());
            assert_eq!(direct.head().await.expect("a head"), revision(number));
            assert_eq!(events(&direct).await.len() as u64, number, "once");
        }
    }
}

/// The call lay somewhere while it was sent again: when it comes, it is too late.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_comes_late_writes_nothing_twice() {
    let Some((site, proxy, store)) = by_proxy().await else {
        return;
    };
    let mut changes = store.follow(revision(1)).await.expect("a follower");
    proxy.cut_next(Cut::Late);
    assert_eq!(write(&store, 2, "two").await.expect("written"), revision(2));
    let before = site.digest();
    proxy.let_go();
    assert_eq!(
        write(&store, 3, "three").await.expect("written"),
        revision(3)
    );
    assert_ne!(site.digest(), before);
    assert_eq!(events(&store).await.len(), 3);
    for number in [2, 3] {
        let change = next(&mut changes).await.expect("a change");
        assert_eq!(change.revision, revision(number));
    }
}

/// Its caller was told that it failed, looked, found nothing, and went on from there: what lay somewhere on the way all that
/// time must not be done then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_comes_after_its_caller_was_told_that_it_failed_writes_nothing() {
    /// For how much longer than its caller waits a batch may be written, and some more.
    const LATEST: std::time::Duration = std::time::Duration::from_millis(700);
    let Some((site, proxy, store)) = by_proxy().await else {
        return;
    };
    proxy.cut_next(Cut::LateAlone);
    let failed = write(&store, 2, "two").await;
    assert!(matches!(failed, Err(CommitError::Failed(_))), "{failed:?}");
    assert!(proxy.has_cut());
    let before = site.digest();
    // The limit is one of time.
    tokio::time::sleep(LATEST).await;
    proxy.let_go_and_run().await;
    assert_eq!(site.digest(), before);
}

/// Somebody else was faster while it was not known what became of the commit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_another_one_overtook_is_made_behind_it() {
    let Some((site, proxy, store)) = by_proxy().await else {
        return;
    };
    let direct = site.open("direct").await;
    for round in 0..10 {
        proxy.cut_next(if round % 2 == 0 {
            Cut::Call
        } else {
            Cut::Answer
        });
        let (own, others) = tokio::join!(write(&store, 2, "own"), write(&direct, 3, "other"));
        let (own, others) = (own.expect("written"), others.expect("written"));
        assert_ne!(own, others);
        let due = [revision(2 + 2 * round), revision(3 + 2 * round)];
        assert!(
            due.contains(&own) && due.contains(&others),
            "{own} {others}"
        );
    }
    let (head, records) = load(&direct).await;
    assert_eq!((head, records.len()), (revision(21), 3));
    assert_eq!(events(&direct).await.len(), 21);
}

/// A repetition is not taken for one's own first try.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeat_whose_answer_is_lost_is_still_a_repeat() {
    let Some((_site, proxy, store)) = by_proxy().await else {
        return;
    };
    let once = || Batch {
        mutation: Some(mutation(1, 7)),
        ..batch(vec![], vec![put(2, "")], "")
    };
    let first = store.commit(once()).await.expect("written");
    proxy.cut_next(Cut::Answer);
    match store.commit(once()).await {
        Err(CommitError::Repeated(done)) => assert_eq!(done.revision, first),
        outcome => panic!("{outcome:?}"),
    }
    assert!(proxy.has_cut());
    assert_eq!(store.head().await.expect("a head"), first);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_never_sent_is_not_written_and_what_cannot_be_told_is_not_claimed() {
    let Some((site, proxy, store)) = by_proxy().await else {
        return;
    };
    proxy.close();
    // The first may find out only by sending on a connection that is gone.
    let _ = write(&store, 2, "").await;
    let began = Instant::now();
    let outcome = write(&store, 2, "").await;
    super::assert_not_written(&outcome, "nobody answers");
    assert!(began.elapsed() < Duration::from_secs(6), "in bounded time");
    proxy.open();
    super::eventually("it is connected again", || async {
        store.head().await.is_ok()
    })
    .await;
    // What is committed after a failure is looked up first, by a script as well.
    let two = write(&store, 2, "two").await;
    assert_eq!(two.expect("written"), revision(2));

    // The call is under way when the way to the server is closed for good.
    // Once more it is lost between a look at what became of it and the next try.
    for cut in [Cut::End, Cut::CallThenEnd] {
        proxy.cut_next(cut);
        let outcome = write(&store, 3, "three").await;
        assert!(
            matches!(outcome, Err(CommitError::Failed(StoreError::Failed(_)))),
            "{cut:?}: {outcome:?}"
        );
        assert!(proxy.has_cut());
        proxy.open();
        super::eventually("it is connected again", || async {
            store.head().await.is_ok()
        })
        .await;
        let direct = site.open("direct").await;
        let head = direct.head().await.expect("a head");
        let next = write(&store, 4, "four").await;
        assert_eq!(next.expect("written"), head.next());
    }
    assert_eq!(store.head().await.expect("a head"), revision(4));
}

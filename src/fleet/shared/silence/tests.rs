use super::*;
use crate::domain::{id::Revision, time::Timestamp};

const LIMIT: Duration = Duration::from_secs(18);

fn member(incarnation: &str, renewals: u64) -> Member {
    Member {
        name: "name".into(),
        incarnation: incarnation.into(),
        applied: Revision::default(),
        renewals,
        renewed: Timestamp::from_unix_nanos(0),
    }
}

#[tokio::test(start_paused = true)]
async fn a_member_that_renews_is_never_silent() {
    let mut silence = Silence::default();
    for renewals in 0..10 {
        tokio::time::advance(LIMIT * 2).await;
        let silent = silence.look(&[member("a", renewals)], Instant::now(), LIMIT);
        assert!(silent.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_member_is_silent_only_past_the_limit() {
    let mut silence = Silence::default();
    let both = [member("a", 3), member("b", 1)];
    assert!(silence.look(&both, Instant::now(), LIMIT).is_empty());
    tokio::time::advance(LIMIT).await;
    assert!(silence.look(&both, Instant::now(), LIMIT).is_empty());
    tokio::time::advance(Duration::from_millis(1)).await;
    let later = [member("a", 3), member("b", 2)];
    let silent = silence.look(&later, Instant::now(), LIMIT);
    assert_eq!(silent, [("a".to_owned(), 3)]);
}

/// Else the first one back from an outage would take everyone out.
#[tokio::test(start_paused = true)]
async fn what_was_silent_during_an_outage_counts_from_its_end() {
    let mut silence = Silence::default();
    let all = [member("a", 3)];
    assert!(silence.look(&all, Instant::now(), LIMIT).is_empty());
    tokio::time::advance(LIMIT * 2).await;
    silence.forget();
    assert!(silence.look(&all, Instant::now(), LIMIT).is_empty());
    tokio::time::advance(LIMIT).await;
    assert!(silence.look(&all, Instant::now(), LIMIT).is_empty());
}

/// A name that comes back is another incarnation, and begins anew.
#[tokio::test(start_paused = true)]
async fn one_that_was_gone_begins_anew() {
    let mut silence = Silence::default();
    assert!(
        silence
            .look(&[member("a", 3)], Instant::now(), LIMIT)
            .is_empty()
    );
    tokio::time::advance(LIMIT * 2).await;
    assert!(silence.look(&[], Instant::now(), LIMIT).is_empty());
    assert!(
        silence
            .look(&[member("a", 3)], Instant::now(), LIMIT)
            .is_empty()
    );
}

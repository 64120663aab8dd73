//! A change raced by questions: what may be seen of it, and when not any more.

use std::{
    fmt,
    future::Future,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use futures_util::future::BoxFuture;
use tokio::{sync::mpsc, task::JoinSet, time::timeout};

use crate::support::PATIENCE;

/// How many questions every replica is asked after the change was acknowledged.
const AFTER: u32 = 2;

/// What a question was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// What the change shuts is open.
    Open,
    /// It is shut, for this reason.
    Shut(&'static str),
    /// The replica says that it cannot decide, for this reason.
    Undecided(&'static str),
    /// There was no answer.
    Failed(String),
}

/// An answer, and when its question was sent.
#[derive(Clone, Debug)]
pub struct Sighting {
    pub replica: String,
    pub sent: Instant,
    pub seen: Seen,
}

/// A question that can be asked over and over, and whom it is asked.
#[derive(Clone)]
pub struct Probe {
    replica: String,
    /// The change waits until it was seen open here.
    awaited: bool,
    ask: Arc<dyn Fn() -> BoxFuture<'static, Seen> + Send + Sync>,
}

impl Probe {
    pub fn new<F>(replica: &str, ask: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Seen> + Send + 'static,
    {
        Self {
            replica: replica.to_owned(),
            awaited: true,
            ask: Arc::new(move || Box::pin(ask())),
        }
    }

    /// One that may never see it open.
    pub fn without_waiting(self) -> Self {
        Self {
            awaited: false,
            ..self
        }
    }

    /// Asks once.
    pub async fn ask(&self) -> Seen {
        (self.ask)().await
    }
}

/// How a race went.
pub struct Race<T> {
    /// What the change was answered.
    pub answer: T,
    /// How long that took.
    pub took: Duration,
    /// When the answer was there.
    pub acknowledged: Instant,
    pub sightings: Vec<Sighting>,
}

impl<T> fmt::Debug for Race<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} sightings in {:?}", self.sightings.len(), self.took)
    }
}

/// What an acknowledged change forbids: questions sent after it that found open what it shut.
pub fn late(acknowledged: Instant, sightings: &[Sighting]) -> Vec<&Sighting> {
    sightings
        .iter()
        .filter(|sighting| sighting.sent > acknowledged && sighting.seen == Seen::Open)
        .collect()
}

/// Makes a change while every probe asks without a pause. The change is made once each that is waited for has seen it open,
/// and each asks twice more after the answer.
///
/// # Panics
///
/// When a probe never sees it open, or does not come to an end.
pub async fn race<T>(
    probes: impl IntoIterator<Item = Probe>,
    change: impl Future<Output = T>,
) -> Race<T> {
    let (opened, mut open) = mpsc::unbounded_channel();
    let end = Arc::new(OnceLock::new());
    let mut racers = JoinSet::new();
    let mut awaited = 0;
    for probe in probes {
        awaited += u32::from(probe.awaited);
        racers.spawn(ask_until(probe, opened.clone(), Arc::clone(&end)));
    }
    drop(opened);
    for _ in 0..awaited {
        timeout(PATIENCE, open.recv())
            .await
            .expect("it is open everywhere before the change")
            .expect("no racer gives up");
    }
    let began = Instant::now();
    let answer = change.await;
    let acknowledged = Instant::now();
    end.set(acknowledged).expect("it is set once");
    let mut sightings = Vec::new();
    while let Some(seen) = timeout(PATIENCE, racers.join_next())
        .await
        .expect("every replica goes on answering")
    {
        sightings.extend(seen.expect("no racer panics"));
    }
    Race {
        answer,
        took: acknowledged - began,
        acknowledged,
        sightings,
    }
}

async fn ask_until(
    probe: Probe,
    opened: mpsc::UnboundedSender<()>,
    end: Arc<OnceLock<Instant>>,
) -> Vec<Sighting> {
    let mut sightings = Vec::new();
    let (mut told, mut after) = (false, 0);
    while after < AFTER {
        // The end is looked up after the clock was read, so that what counts as asked after it was.
        let sent = Instant::now();
        let late = end.get().is_some_and(|end| sent > *end);
        let seen = probe.ask().await;
        if seen == Seen::Open && !told && probe.awaited {
            told = true;
            let _ = opened.send(());
        }
        after += u32::from(late);
        sightings.push(Sighting {
            replica: probe.replica.clone(),
            sent,
            seen,
        });
    }
    sightings
}

impl<T> Race<T> {
    /// Asserts that nobody who asked after the answer found it open, that every question was decided, and that what was
    /// found shut was so for this reason.
    ///
    /// # Panics
    ///
    /// When it is not so.
    #[track_caller]
    pub fn shut_for(self, reason: &str) -> T {
        let late = late(self.acknowledged, &self.sightings);
        assert!(
            late.is_empty(),
            "open after OK: {late:?}, acknowledged at {:?}",
            self.acknowledged
        );
        for sighting in &self.sightings {
            match &sighting.seen {
                Seen::Open => {}
                Seen::Shut(given) => assert_eq!(*given, reason, "{sighting:?}"),
                Seen::Undecided(_) | Seen::Failed(_) => panic!("a failed question: {sighting:?}"),
            }
        }
        self.answer
    }
}

/// The judge itself: what it must let pass and what not.
#[test]
fn only_an_opening_asked_for_after_the_answer_is_late() {
    let acknowledged = Instant::now();
    let before = acknowledged
        .checked_sub(Duration::from_millis(1))
        .expect("the machine is up");
    let after = acknowledged + Duration::from_millis(1);
    let sighting = |sent, seen| Sighting {
        replica: "r1".into(),
        sent,
        seen,
    };
    let fine = [
        sighting(before, Seen::Open),
        // Sent in the same instant is not sent after it.
        sighting(acknowledged, Seen::Open),
        sighting(after, Seen::Shut("KEY_DISABLED")),
        sighting(after, Seen::Undecided("REPLICA_FENCED")),
    ];
    assert!(late(acknowledged, &fine).is_empty());
    let wrong = [sighting(before, Seen::Open), sighting(after, Seen::Open)];
    assert_eq!(late(acknowledged, &wrong).len(), 1);
}

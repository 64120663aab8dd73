//! Stores with one fault each, which the checks must notice.

use std::{collections::HashSet, sync::Arc};

use async_trait::async_trait;
use portcullis::{
    domain::{event::FieldChange, id::Revision, time::Timestamp},
    store::{
        Batch, Change, CommitError, Direction, Done, EventRecord, FoundEvent, MutationId, Portion,
        RETENTION, RecordId, Store, StoreError, Stored, Write,
    },
};
use tokio::sync::{Mutex, mpsc};

use super::{
    Embedded, Site,
    checks::*,
    guards::*,
    log::*,
    support::{
        self,
        records::{at, id, load},
    },
};

/// What is wrong with a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    IgnoresTheReadSet,
    IgnoresTheReadSetOfNothing,
    MakesARevisionOfNothing,
    NamesAnotherRecord,
    WritesOneByOne,
    WritesOnConflict,
    KeepsWhatIsDeleted,
    SkipsRevisions,
    TellsSecrets,
    LosesAnEvent,
    AltersAnEvent,
    FollowsFromAnywhere,
    TellsTwice,
    SkipsAChange,
    TellsBeforeItWrites,
    ForgetsARecord,
    MixesRevisions,
    StartsAnew,
    StoresAnotherEvent,
    ForgetsMutations,
    ForgetsMutationsAtOnce,
    KnowsMutationsForEver,
    AnswersRepeatsWithTheRecordAsItIsNow,
    KnowsWhatItRefused,
    WritesRepeats,
    JudgesTheReadSetFirst,
    IgnoresTheQuietGuard,
    NoWorkspaceIsQuiet,
    TakesDeletedKeysForQuiet,
    RevivesWorkspaces,
    ForgetsTombstones,
    TellsEventsInclusively,
    TellsEventsOneWay,
    TellsEventsOfOnePortion,
    TellsEventsTwice,
    TellsEventsAsTheyCome,
    HidesDamagedEvents,
    BelievesDamagedEvents,
}

/// A store with one fault, around a good one.
struct Faulty {
    inner: Arc<dyn Store>,
    fault: Fault,
    /// Those who are told too early.
    early: Mutex<Vec<mpsc::UnboundedSender<Change>>>,
}

#[async_trait]
impl Store for Faulty {
    async fn load(&self) -> Result<mpsc::Receiver<Result<Portion, StoreError>>, StoreError> {
        if !matches!(
            self.fault,
            Fault::ForgetsARecord | Fault::MixesRevisions | Fault::ForgetsTombstones
        ) {
            return self.inner.load().await;
        }
        let (head, records) = load(&*self.inner).await;
        let mut records: Vec<_> = records.into_iter().collect();
        if self.fault == Fault::ForgetsARecord {
            records.pop();
        } else if self.fault == Fault::ForgetsTombstones {
            records.retain(|(_, stored)| !matches!(stored, Stored::Retired(_)));
        } else {
            let half = records.len() / 2;
            // The second half is read later than the first: once something has changed.
            let mut later = load(&*self.inner).await;
            while later.0 == head {
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
                later = load(&*self.inner).await;
            }
            let (_, later) = later;
            for (id, stored) in &mut records[half..] {
                *stored = later.get(id).cloned().unwrap_or(Stored::Gone);
            }
        }
        let (sender, portions) = mpsc::channel(2);
        for portion in [Portion::Records(records), Portion::Complete(head)] {
            sender.send(Ok(portion)).await.expect("there is room");
        }
        Ok(portions)
    }

    async fn head(&self) -> Result<Revision, StoreError> {
        self.inner.head().await
    }

    async fn commit(&self, mut batch: Batch) -> Result<Revision, CommitError> {
        match self.fault {
            Fault::IgnoresTheReadSet => batch.reads.clear(),
            Fault::IgnoresTheReadSetOfNothing if batch.writes.is_empty() => {
                batch.reads = vec![(batch.reads[0].0.clone(), Some(revision(1)))];
            }
            Fault::MakesARevisionOfNothing if batch.writes.is_empty() => {
                batch.writes = vec![support::records::put(9, "")];
            }
            Fault::KeepsWhatIsDeleted => {
                for write in &mut batch.writes {
                    if matches!(write, Write::DeleteKey(_)) {
                        // Something has to be written in its place, else the batch would be one that writes nothing.
                        *write = support::records::put(99, "");
                    }
                }
            }
            Fault::TellsSecrets => {
                if let Some(Write::Key(_, secrets)) = batch.writes.first()
                    && let Some(secret) = secrets.first()
                {
                    batch.event.changes.push(FieldChange {
                        field: "secrets".into(),
                        before: String::new(),
                        after: secret.verifier.to_phc(),
                    });
                }
            }
            Fault::SkipsRevisions => {
                let another = vec![support::records::delete(99)];
                let nothing = support::records::batch(vec![], another, "");
                self.inner.commit(nothing).await?;
            }
            Fault::WritesOneByOne => {
                while batch.writes.len() > 1 {
                    let writes = vec![batch.writes.remove(0)];
                    let reads = std::mem::take(&mut batch.reads);
                    let one = Batch {
                        reads,
                        quiet: None,
                        mutation: None,
                        writes,
                        event: batch.event.clone(),
                    };
                    self.inner.commit(one).await?;
                }
            }
            Fault::TellsBeforeItWrites => {
                let (head, _) = load(&*self.inner).await;
                let change = Change {
                    after: head,
                    revision: head.next(),
                    records: vec![],
                };
                for follower in &*self.early.lock().await {
                    let _ = follower.send(change.clone());
                }
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
            Fault::ForgetsMutations => batch.mutation = None,
            // The store's clock stands.
            Fault::KnowsMutationsForEver => batch.event.time = at(1_700_000_000_000_000_001),
            Fault::JudgesTheReadSetFirst => {
                let (_, records) = load(&*self.inner).await;
                for (id, expected) in &batch.reads {
                    if records.get(id).map(revision_of) != *expected {
                        return Err(CommitError::Conflict(id.clone()));
                    }
                }
            }
            Fault::IgnoresTheQuietGuard => batch.quiet = None,
            Fault::NoWorkspaceIsQuiet => {
                let (head, _) = load(&*self.inner).await;
                if let Some((workspace, since)) = &batch.quiet
                    && *since < head
                {
                    let id = RecordId::Workspace(workspace.clone());
                    return Err(CommitError::Conflict(id));
                }
            }
            Fault::TakesDeletedKeysForQuiet => {
                for write in &mut batch.writes {
                    if let Write::DeleteKey(name) = write {
                        name.workspace = support::records::workspace("elsewhere", "").id;
                    }
                }
            }
            _ => {}
        }
        let writes = batch.writes.clone();
        let mutation = batch.mutation;
        match self.inner.commit(batch).await {
            Err(conflict @ CommitError::Conflict(_)) if self.fault == Fault::KnowsWhatItRefused => {
                let mut refused = support::records::batch(vec![], vec![], "");
                refused.mutation = mutation;
                self.inner.commit(refused).await?;
                Err(conflict)
            }
            Err(CommitError::Repeated(mut done))
                if self.fault == Fault::AnswersRepeatsWithTheRecordAsItIsNow =>
            {
                let (_, records) = load(&*self.inner).await;
                if let Stored::Key(record) = &done.result {
                    let now = records.get(&RecordId::Key(record.key.id));
                    done.result = now.cloned().unwrap_or(Stored::Gone);
                }
                Err(CommitError::Repeated(done))
            }
            Err(repeated @ CommitError::Repeated(_)) if self.fault == Fault::WritesRepeats => {
                let anyway = support::records::batch(vec![], writes, "");
                self.inner.commit(anyway).await?;
                Err(repeated)
            }
            // To all appearances.
            Err(CommitError::Conflict(RecordId::Workspace(_)))
                if self.fault == Fault::RevivesWorkspaces =>
            {
                Ok(load(&*self.inner).await.0)
            }
            Err(CommitError::Conflict(_)) if self.fault == Fault::NamesAnotherRecord => {
                Err(CommitError::Conflict(id(77)))
            }
            Err(conflict @ CommitError::Conflict(_)) if self.fault == Fault::WritesOnConflict => {
                let anyway = support::records::batch(vec![], writes, "");
                self.inner.commit(anyway).await?;
                Err(conflict)
            }
            outcome => outcome,
        }
    }

    async fn follow(&self, from: Revision) -> Result<mpsc::UnboundedReceiver<Change>, StoreError> {
        let (sender, faulty) = mpsc::unbounded_channel();
        if self.fault == Fault::TellsBeforeItWrites {
            self.early.lock().await.push(sender);
            return Ok(faulty);
        }
        let from = match self.fault {
            Fault::FollowsFromAnywhere => load(&*self.inner).await.0,
            _ => from,
        };
        let mut good = self.inner.follow(from).await?;
        let fault = self.fault;
        tokio::spawn(async move {
            while let Some(change) = good.recv().await {
                if fault == Fault::SkipsAChange && change.revision == revision(5) {
                    continue;
                }
                if fault == Fault::TellsTwice {
                    let _ = sender.send(change.clone());
                }
                let _ = sender.send(change);
            }
        });
        Ok(faulty)
    }

    async fn done(&self, id: MutationId, now: Timestamp) -> Result<Option<Done>, StoreError> {
        match self.fault {
            // A day has passed before it began.
            Fault::ForgetsMutationsAtOnce => self.inner.done(id, later(now, 1)).await,
            Fault::KnowsMutationsForEver => self.inner.done(id, at(0)).await,
            _ => self.inner.done(id, now).await,
        }
    }

    async fn events(
        &self,
        after: Option<Revision>,
        direction: Direction,
    ) -> Result<mpsc::Receiver<Result<Vec<FoundEvent>, StoreError>>, StoreError> {
        let after = match (self.fault, after, direction) {
            (Fault::TellsEventsInclusively, Some(after), Direction::OldestFirst) => {
                Some(Revision {
                    number: after.number.saturating_sub(1),
                    ..after
                })
            }
            _ => after,
        };
        let direction = match self.fault {
            Fault::TellsEventsOneWay => Direction::OldestFirst,
            _ => direction,
        };
        let (sender, faulty) = mpsc::channel(1);
        let (inner, fault) = (self.inner.clone(), self.fault);
        let (head, _) = load(&*inner).await;
        let good = match fault {
            Fault::TellsEventsAsTheyCome => None,
            _ => Some(inner.events(after, direction).await?),
        };
        tokio::spawn(async move {
            let mut good = if let Some(good) = good {
                good
            } else {
                // It looks only when something has come.
                while load(&*inner).await.0 == head {
                    tokio::task::yield_now().await;
                }
                let late = inner.events(after, direction).await;
                late.expect("the events")
            };
            let mut last = None;
            while let Some(portion) = good.recv().await {
                let portion = portion.map(|portion| alter(fault, portion, &mut last));
                if sender.send(portion).await.is_err() || fault == Fault::TellsEventsOfOnePortion {
                    break;
                }
            }
        });
        Ok(faulty)
    }

    fn durability(&self) -> &'static str {
        self.inner.durability()
    }
}

/// A time so many nanoseconds and a day later.
fn later(time: Timestamp, nanos: i32) -> Timestamp {
    let day = RETENTION.as_secs().cast_signed();
    let own = i32::try_from(time.nanos()).expect("it fits");
    Timestamp::new(time.seconds() + day, own + nanos).expect("a time")
}

/// What a store with a fault makes of a portion of events.
fn alter(
    fault: Fault,
    portion: Vec<FoundEvent>,
    last: &mut Option<EventRecord>,
) -> Vec<FoundEvent> {
    let mut altered = Vec::new();
    for found in portion {
        match (fault, found) {
            (Fault::LosesAnEvent, FoundEvent::Event(event)) if event.revision.number == 2 => {}
            (Fault::AltersAnEvent, FoundEvent::Event(mut event)) => {
                event.event.changes[0].after = "New".into();
                altered.push(FoundEvent::Event(event));
            }
            (Fault::TellsEventsTwice, found) => altered.extend([found.clone(), found]),
            (Fault::HidesDamagedEvents, FoundEvent::Damaged { .. }) => {}
            (Fault::BelievesDamagedEvents, FoundEvent::Damaged { at, .. }) => {
                let event = last.clone().expect("an event came before");
                let event = EventRecord {
                    revision: at,
                    ..event
                };
                altered.push(FoundEvent::Event(Box::new(event)));
            }
            (_, found) => {
                if let FoundEvent::Event(event) = &found {
                    *last = Some((**event).clone());
                }
                altered.push(found);
            }
        }
    }
    altered
}

struct FaultySite {
    inner: Mutex<Arc<dyn Site>>,
    fault: Fault,
}

impl FaultySite {
    fn inner(&self) -> tokio::sync::MutexGuard<'_, Arc<dyn Site>> {
        self.inner.try_lock().expect("one uses it at a time")
    }
}

#[async_trait]
impl Site for FaultySite {
    async fn open(&self) -> Arc<dyn Store> {
        let mut inner = self.inner();
        if self.fault == Fault::StartsAnew {
            *inner = Embedded::site();
        }
        Arc::new(Faulty {
            inner: inner.open().await,
            fault: self.fault,
            early: Mutex::default(),
        })
    }

    fn event(&self, at: Revision) -> Vec<u8> {
        let event = self.inner().event(at);
        match self.fault {
            Fault::StoresAnotherEvent => event[1..].to_vec(),
            _ => event,
        }
    }

    fn put_event(&self, at: Revision, bytes: &[u8]) {
        self.inner().put_event(at, bytes);
    }
}

/// Runs a check on a store with a fault; true if it passed.
async fn passes<C>(check: impl FnOnce(Arc<dyn Site>) -> C, fault: Fault) -> bool
where
    C: Future<Output = ()> + Send + 'static,
{
    let site = FaultySite {
        inner: Mutex::new(Embedded::site()),
        fault,
    };
    match tokio::spawn(check(Arc::new(site))).await {
        Ok(()) => true,
        Err(error) => {
            assert!(error.is_panic(), "{error}");
            false
        }
    }
}

/// For each check the faults that it has to notice. One that has none would pass on anything.
#[tokio::test]
async fn each_check_notices_what_it_is_there_for() {
    let mut noticed = HashSet::new();
    macro_rules! notices {
        ($($check:ident: $($fault:ident)*;)*) => { $(
            assert!(passes($check, Fault::None).await, "{}", stringify!($check));
            $(
                assert!(
                    !passes($check, Fault::$fault).await,
                    "{} passes on a store that {:?}", stringify!($check), Fault::$fault,
                );
                noticed.insert(stringify!($fault));
            )*
        )* };
    }
    notices! {
        what_is_committed_is_loaded: ForgetsARecord WritesOneByOne;
        revisions_are_dense_from_one: SkipsRevisions;
        a_stale_read_set_writes_nothing: IgnoresTheReadSet NamesAnotherRecord WritesOnConflict;
        a_batch_is_one_revision_all_or_nothing: WritesOneByOne LosesAnEvent ForgetsARecord;
        a_deleted_record_is_gone: KeepsWhatIsDeleted;
        every_revision_has_its_event: LosesAnEvent AltersAnEvent SkipsRevisions StoresAnotherEvent;
        no_event_holds_a_secret: TellsSecrets;
        of_concurrent_commits_one_wins: IgnoresTheReadSet WritesOnConflict;
        a_snapshot_is_of_one_revision: MixesRevisions;
        followers_hear_everything_once_in_order: TellsTwice SkipsAChange TellsBeforeItWrites KeepsWhatIsDeleted;
        a_follower_starts_where_it_asked_or_not_at_all: FollowsFromAnywhere;
        a_store_lasts: StartsAnew ForgetsARecord;
        a_repeated_mutation_is_answered_as_it_was_and_writes_nothing:
            ForgetsMutations AnswersRepeatsWithTheRecordAsItIsNow WritesRepeats StartsAnew;
        a_mutation_that_was_refused_is_not_known: KnowsWhatItRefused;
        a_mutation_that_found_all_as_wanted_is_known_without_a_revision:
            ForgetsMutations IgnoresTheReadSetOfNothing MakesARevisionOfNothing;
        of_concurrent_repeats_one_is_written: ForgetsMutations WritesRepeats;
        a_mutation_is_known_for_a_day_and_no_longer: ForgetsMutationsAtOnce KnowsMutationsForEver;
        a_repeat_is_known_before_anything_else_is_judged: JudgesTheReadSetFirst NoWorkspaceIsQuiet;
        a_workspace_was_quiet_or_nothing_is_written:
            IgnoresTheQuietGuard NoWorkspaceIsQuiet TakesDeletedKeysForQuiet;
        of_concurrent_changes_to_a_quiet_workspace_one_wins: IgnoresTheQuietGuard;
        a_retired_workspace_id_is_never_used_again: RevivesWorkspaces ForgetsTombstones;
        events_are_told_from_either_end_without_gaps:
            LosesAnEvent TellsEventsInclusively TellsEventsOneWay TellsEventsOfOnePortion TellsEventsTwice;
        events_are_as_of_one_revision: TellsEventsAsTheyCome;
        a_damaged_event_is_reported_and_the_others_are_told: HidesDamagedEvents BelievesDamagedEvents;
    }
    assert_eq!(noticed.len(), 38, "every fault is noticed by some check");
}

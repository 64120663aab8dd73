//! Stores with one fault each, which the checks must notice.

use std::{collections::HashSet, sync::Arc};

use async_trait::async_trait;
use portcullis::{
    domain::{event::FieldChange, id::Revision},
    store::{Batch, Change, CommitError, Snapshot, Store, StoreError, Stored, Write},
};
use tokio::sync::{Mutex, mpsc};

use super::{
    Embedded, Opened, Site,
    checks::*,
    support::{
        self,
        records::{id, load},
    },
};

/// What is wrong with a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    IgnoresTheReadSet,
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
    async fn load(&self) -> Result<Snapshot, StoreError> {
        let mut snapshot = self.inner.load().await?;
        if !matches!(self.fault, Fault::ForgetsARecord | Fault::MixesRevisions) {
            return Ok(snapshot);
        }
        let mut records = Vec::new();
        while let Some(portion) = snapshot.portions.recv().await {
            records.extend(portion?);
        }
        if self.fault == Fault::ForgetsARecord {
            records.pop();
        } else {
            let half = records.len() / 2;
            // The second half is read later than the first: once something has changed.
            let mut later = load(&*self.inner).await;
            while later.0 == snapshot.revision {
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
                later = load(&*self.inner).await;
            }
            let (_, later) = later;
            for (id, stored) in &mut records[half..] {
                *stored = later.get(id).cloned().unwrap_or(Stored::Gone);
            }
        }
        let (sender, portions) = mpsc::channel(1);
        sender.send(Ok(records)).await.expect("there is room");
        Ok(Snapshot {
            portions,
            ..snapshot
        })
    }

    async fn commit(&self, mut batch: Batch) -> Result<Revision, CommitError> {
        match self.fault {
            Fault::IgnoresTheReadSet => batch.reads.clear(),
            Fault::KeepsWhatIsDeleted => {
                batch
                    .writes
                    .retain(|write| !matches!(write, Write::DeleteKey(_)));
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
                let nothing = support::records::batch(vec![], vec![], "");
                self.inner.commit(nothing).await?;
            }
            Fault::WritesOneByOne => {
                while batch.writes.len() > 1 {
                    let writes = vec![batch.writes.remove(0)];
                    let reads = std::mem::take(&mut batch.reads);
                    let one = Batch {
                        reads,
                        writes,
                        event: batch.event.clone(),
                    };
                    self.inner.commit(one).await?;
                }
            }
            Fault::TellsBeforeItWrites => {
                let (head, _) = load(&*self.inner).await;
                let change = Change {
                    revision: head.next(),
                    records: vec![],
                };
                for follower in &*self.early.lock().await {
                    let _ = follower.send(change.clone());
                }
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
            _ => {}
        }
        let writes = batch.writes.clone();
        match self.inner.commit(batch).await {
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

    fn durability(&self) -> &'static str {
        self.inner.durability()
    }
}

struct FaultySite {
    inner: Mutex<Arc<dyn Site>>,
    fault: Fault,
}

impl Site for FaultySite {
    fn open(&self) -> Opened {
        let mut inner = self.inner.try_lock().expect("one opens it at a time");
        if self.fault == Fault::StartsAnew {
            *inner = Embedded::site();
        }
        let fault = self.fault;
        let Opened { store, events } = inner.open();
        let store = Faulty {
            inner: store,
            fault,
            early: Mutex::default(),
        };
        let events = move || {
            let mut events = events();
            match fault {
                Fault::LosesAnEvent => drop(events.pop()),
                Fault::AltersAnEvent => {
                    for (_, event) in &mut events {
                        let changed = event.windows(3).rposition(|part| part == b"new");
                        event[changed.expect("what the event tells")] = b'N';
                    }
                }
                _ => {}
            }
            events
        };
        Opened {
            store: Arc::new(store),
            events: Box::new(events),
        }
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
        every_revision_has_its_event: LosesAnEvent AltersAnEvent SkipsRevisions;
        no_event_holds_a_secret: TellsSecrets;
        of_concurrent_commits_one_wins: IgnoresTheReadSet WritesOnConflict;
        a_snapshot_is_of_one_revision: MixesRevisions;
        followers_hear_everything_once_in_order: TellsTwice SkipsAChange TellsBeforeItWrites KeepsWhatIsDeleted;
        a_follower_starts_where_it_asked_or_not_at_all: FollowsFromAnywhere;
        a_store_lasts: StartsAnew ForgetsARecord;
    }
    assert_eq!(noticed.len(), 16, "every fault is noticed by some check");
}

use async_trait::async_trait;
use tokio::sync::mpsc;

use super::*;
use crate::{
    domain::time::Timestamp,
    store::{Batch, CommitError, Direction, Done, FoundEvent, MutationId, Portion},
};

/// A store that says what the test wants it to say.
struct Scripted(std::sync::Mutex<Option<mpsc::UnboundedReceiver<Change>>>);

#[async_trait]
impl Store for Scripted {
    async fn load(&self) -> Result<mpsc::Receiver<Result<Portion, StoreError>>, StoreError> {
        let (sender, portions) = mpsc::channel(1);
        let complete = Portion::Complete(self.head().await?);
        sender.send(Ok(complete)).await.unwrap();
        Ok(portions)
    }

    async fn head(&self) -> Result<Revision, StoreError> {
        Ok(Revision {
            epoch: 1,
            number: 5,
        })
    }

    async fn commit(&self, _: Batch) -> Result<Revision, CommitError> {
        Err(CommitError::Failed(StoreError::Failed("scripted".into())))
    }

    async fn follow(&self, _: Revision) -> Result<mpsc::UnboundedReceiver<Change>, StoreError> {
        Ok(self.0.lock().unwrap().take().unwrap())
    }

    async fn done(&self, _: MutationId, _: Timestamp) -> Result<Option<Done>, StoreError> {
        Ok(None)
    }

    async fn events(
        &self,
        _: Option<Revision>,
        _: Direction,
    ) -> Result<mpsc::Receiver<Result<Vec<FoundEvent>, StoreError>>, StoreError> {
        Err(StoreError::Failed("scripted".into()))
    }

    fn durability(&self) -> &'static str {
        "none"
    }
}

async fn followed() -> (
    mpsc::UnboundedSender<Change>,
    crate::gate::keyring::Keyring,
    Arc<Lease>,
) {
    let (changes, receiver) = mpsc::unbounded_channel();
    let store = Scripted(std::sync::Mutex::new(Some(receiver)));
    let keyring = KeyringWriter::new();
    let (reader, lease) = (keyring.reader(), Arc::new(Lease::unlimited()));
    boot_and_follow(&store, keyring, lease.clone())
        .await
        .unwrap();
    (changes, reader, lease)
}

fn change(number: u64) -> Change {
    let at = |number| Revision { epoch: 1, number };
    Change {
        after: at(number - 1),
        revision: at(number),
        records: Vec::new(),
    }
}

#[tokio::test]
async fn changes_in_order_are_applied() {
    let (changes, keyring, lease) = followed().await;
    changes.send(change(6)).unwrap();
    changes.send(change(7)).unwrap();
    keyring
        .watch()
        .wait_for(|applied| applied.number == 7)
        .await
        .unwrap();
    assert!(!lease.is_fenced());
}

#[tokio::test]
async fn a_missing_change_fences_the_replica() {
    let (changes, keyring, lease) = followed().await;
    let mut applied = keyring.watch();
    changes.send(change(7)).unwrap();
    // The follower goes, and the keyring's writing half with it.
    while applied.changed().await.is_ok() {}
    assert_eq!(keyring.applied().number, 5);
    assert!(lease.is_fenced());
}

#[tokio::test]
async fn the_end_of_the_changes_fences_the_replica() {
    let (changes, keyring, lease) = followed().await;
    let mut applied = keyring.watch();
    drop(changes);
    while applied.changed().await.is_ok() {}
    assert!(lease.is_fenced());
}

//! The store of a single process: redb in the data directory.
//!
//! One thread owns all writing. It takes the batches that have queued up, checks and writes each as a revision of its
//! own, and makes them durable together with one fsync; then followers hear of them, then the callers.

mod done;
mod quiet;
mod reader;
mod tables;
mod writer;

use std::{
    fs::{self, File},
    io,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use async_trait::async_trait;
use redb::{Builder, Database, DatabaseError, ReadableDatabase as _, StorageBackend};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinError,
};

use self::{
    tables::{DONE, EVENTS, META, RECORDS, failed},
    writer::{Request, Shared},
};
use super::{
    Batch, Change, CommitError, Direction, Done, FoundEvent, MutationId, Portion, Store, StoreError,
};
use crate::domain::{id::Revision, time::Timestamp};

/// The file in the data directory.
pub const FILE_NAME: &str = "store.redb";
/// What the file is called while it is made.
const HALF_MADE_NAME: &str = "store.redb.new";

/// Bytes of the file that are kept in memory. Every record is in the keyring already, so this is for the writer alone: the
/// upper pages of the trees, and what a group of batches touches. redb's own choice would keep the whole file, once read.
const CACHE: usize = 32 << 20;

/// A store in one file.
pub struct EmbeddedStore {
    database: Arc<Database>,
    queue: Option<mpsc::Sender<Request>>,
    shared: Arc<Mutex<Shared>>,
    writer: Option<thread::JoinHandle<()>>,
}

impl EmbeddedStore {
    /// Opens the store in a directory, and makes it if there is none. The directory must be there.
    ///
    /// # Errors
    /// If another process has it open, a later version wrote it, or the file cannot be read or written.
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        let path = directory.join(FILE_NAME);
        let unusable = |error: io::Error| StoreError::Failed(error.to_string());
        if !path.try_exists().map_err(unusable)? {
            make(directory, &path)?;
        }
        // A synced file whose name is lost is lost as well. At every start, since an earlier one may have ended before.
        File::open(directory)
            .and_then(|directory| directory.sync_all())
            .map_err(unusable)?;
        let database = builder().create(&path).map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => StoreError::InUse(path.display().to_string()),
            error => failed(error),
        })?;
        Self::start(database)
    }

    /// Opens the store on a backend of the caller's, such as one that loses what was not synced.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_backend(backend: impl StorageBackend) -> Result<Self, StoreError> {
        Self::start(builder().create_with_backend(backend).map_err(failed)?)
    }

    fn start(database: Database) -> Result<Self, StoreError> {
        let database = Arc::new(database);
        let head = tables::prepare(&database)?;
        let shared = Arc::new(Mutex::new(Shared {
            head,
            followers: Vec::new(),
        }));
        let (queue, writer) = writer::start(database.clone(), shared.clone(), head)?;
        Ok(Self {
            database,
            queue: Some(queue),
            shared,
            writer: Some(writer),
        })
    }
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE);
    builder
}

/// Makes an empty store under another name first: one that was interrupted half made would never open again.
fn make(directory: &Path, path: &Path) -> Result<(), StoreError> {
    let unusable = |error: io::Error| StoreError::Failed(error.to_string());
    let half_made = directory.join(HALF_MADE_NAME);
    match fs::remove_file(&half_made) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(unusable(error)),
        _ => {}
    }
    let database = builder().create(&half_made).map_err(failed)?;
    tables::prepare(&database)?;
    drop(database);
    // What closing wrote last is synced, too, before the file gets its name.
    File::open(&half_made)
        .and_then(|file| file.sync_all())
        .and_then(|()| fs::rename(&half_made, path))
        .map_err(unusable)
}

/// Waits for the writer, so that the file is closed when the store is gone.
impl Drop for EmbeddedStore {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(writer) = self.writer.take() {
            // A writer that panicked has said so already, and its callers got errors.
            let _ = writer.join();
        }
    }
}

#[async_trait]
impl Store for EmbeddedStore {
    async fn load(&self) -> Result<mpsc::Receiver<Result<Portion, StoreError>>, StoreError> {
        let (revision, records) = reader::caught(|| {
            let transaction = self.database.begin_read().map_err(failed)?;
            let meta = transaction.open_table(META).map_err(failed)?;
            let records = transaction.open_table(RECORDS).map_err(failed)?;
            Ok((tables::head(&meta)?, records))
        })?;
        Ok(reader::stream(move |portions| {
            reader::records(&records, revision, portions)
        }))
    }

    async fn head(&self) -> Result<Revision, StoreError> {
        Ok(self
            .shared
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .head)
    }

    async fn commit(&self, batch: Batch) -> Result<Revision, CommitError> {
        let stopped = || StoreError::Failed("its writer has stopped".to_owned());
        let (answer, answered) = oneshot::channel();
        let queue = self.queue.as_ref().ok_or_else(stopped)?;
        queue
            .send(Request { batch, answer })
            .await
            .map_err(|_| stopped())?;
        answered.await.map_err(|_| stopped())?
    }

    async fn follow(&self, from: Revision) -> Result<mpsc::UnboundedReceiver<Change>, StoreError> {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        // Changes are not kept, so a follower starts where the store stands or not at all.
        if shared.head != from {
            return Err(StoreError::Gap(from));
        }
        let (sender, changes) = mpsc::unbounded_channel();
        shared.followers.push(sender);
        Ok(changes)
    }

    async fn done(&self, id: MutationId, now: Timestamp) -> Result<Option<Done>, StoreError> {
        let (head, known) = reader::caught(|| {
            let transaction = self.database.begin_read().map_err(failed)?;
            let meta = transaction.open_table(META).map_err(failed)?;
            let known = transaction.open_table(DONE).map_err(failed)?;
            Ok((tables::head(&meta)?, known))
        })?;
        // It may have to go to the disk.
        let look = move || reader::caught(|| done::find(&known, id, now, head));
        let failed = |error: JoinError| StoreError::Failed(error.to_string());
        tokio::task::spawn_blocking(look).await.map_err(failed)?
    }

    async fn events(
        &self,
        after: Option<Revision>,
        direction: Direction,
    ) -> Result<mpsc::Receiver<Result<Vec<FoundEvent>, StoreError>>, StoreError> {
        let events = reader::caught(|| {
            let transaction = self.database.begin_read().map_err(failed)?;
            transaction.open_table(EVENTS).map_err(failed)
        })?;
        Ok(reader::stream(move |portions| {
            reader::events(&events, after, direction, portions)
        }))
    }

    fn durability(&self) -> &'static str {
        "fsync"
    }
}

#[cfg(test)]
mod tests;

//! Committing: a batch is encoded for the revision after the head, and the script takes it only there.

use std::{sync::atomic::Ordering, time::Duration};

use redis::Value;
use tokio::time::Instant;

use super::{
    Answered,
    core::{Core, random, tick},
    layout::{bucket_of, split_value, stream_id, with_revision},
    link::{Failure, SHORT},
    log::{self, Place},
    scripts::{COMMIT, KNOWN, Script, TIGHTEN},
    standing::{absent, bytes, nonsense, parts, revision, text},
};
use crate::{
    domain::{
        event::Action,
        id::{Revision, WorkspaceId},
        time::Timestamp,
    },
    store::{
        Batch, CommitError, Done, MutationId, RETENTION, RecordId, StoreError,
        codec::{
            self,
            change::encode_change,
            rows::encode_row,
            writes::{encode_write, key_workspace, written_workspace},
        },
        known_since,
    },
};

/// How often a batch is encoded anew because others were faster.
const TRIES: usize = 100;
/// How long a batch is tried, with its reply lost.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long one attempt may take.
const ATTEMPT: Duration = Duration::from_millis(1_500);
/// The pause before a lost reply is looked into again.
/// For how much longer than its caller waits a batch may be written: clocks are read at different times. What comes later than
/// that, out of some buffer on the way, is refused: its caller was told that it failed, and others have gone on from there.
const LATEST: Duration = Duration::from_millis(500);
/// The pause before a lost reply is looked into again.
const PAUSE: Duration = Duration::from_millis(20);
/// Seconds for which Redis keeps what is known of a mutation: an hour longer than it counts, for clocks that differ.
const KEPT_SECONDS: u64 = RETENTION.as_secs() + 3_600;

/// A batch on its way: what of it does not depend on the revision.
struct Pending<'a> {
    core: &'a Core,
    batch: &'a Batch,
    store: String,
    history: Vec<Vec<u8>>,
    /// By which its entry in the log is known again. Of each attempt at another revision the same.
    commit: [u8; 16],
    script: Script,
    deadline: Instant,
}

/// An answer of the script.
enum Verdict {
    Committed(Revision),
    Remembered,
    Refused(CommitError),
    Moved(Revision),
    /// It came after the time that it was to be written by.
    Late,
}

impl Core {
    pub(super) async fn commit(&self, batch: Batch) -> Result<Revision, CommitError> {
        let Some(history) = self.adopted() else {
            return Err(not_written("no history of the store was adopted yet"));
        };
        let mut remembered = self.head.lock().await;
        let pending = Pending {
            core: self,
            store: history.store,
            history: self.history_args(),
            commit: random()?,
            script: script_for(&batch),
            batch: &batch,
            deadline: Instant::now() + PATIENCE,
        };
        let head = match *remembered {
            Some(head) if head.epoch == history.epoch => head,
            _ => self.standing().await.map_err(CommitError::NotWritten)?.head,
        };
        *remembered = None;
        let outcome = pending.run(head).await?;
        if !batch.writes.is_empty() {
            *remembered = Some(outcome);
        }
        Ok(outcome)
    }

    pub(super) async fn done(&self, id: MutationId, now: Timestamp) -> Answered<Option<Done>> {
        let keys = [self.layout.ctl(), self.layout.done(&id.0)];
        let answer = self.commands.script(KNOWN, &keys, &[], SHORT).await?;
        let (word, rest) = parts(answer)?;
        if word == "absent" {
            return Err(absent());
        }
        let mut rest = rest.into_iter();
        let (Some(store), Some(head)) = (rest.next(), rest.next()) else {
            return Err(nonsense("an answer"));
        };
        let (store, head) = (text(store)?, text(head)?);
        self.check_store(&store)?;
        // An array from a script ends before the first nil.
        let known = match rest.next() {
            None | Some(Value::Nil) => return Ok(None),
            Some(known) => bytes(known)?,
        };
        let (done, time) = decode_known(&known, revision(&head)?)?;
        let counts = (time.seconds(), time.nanos()) >= known_since(now);
        Ok(counts.then_some(done))
    }
}

fn not_written(why: &str) -> CommitError {
    CommitError::NotWritten(StoreError::Failed(why.to_owned()))
}

/// What takes something away from a key or a workspace is written even when the server's memory is full.
fn script_for(batch: &Batch) -> Script {
    let opens = batch.event.action == Action::Create || batch.event.method == "EnableKey";
    if opens { COMMIT } else { TIGHTEN }
}

/// What is known of a mutation, and when it was made.
fn decode_known(known: &[u8], head: Revision) -> Answered<(Done, Timestamp)> {
    let unreadable =
        |why: &str| StoreError::Failed(format!("what is kept of a mutation cannot be read: {why}"));
    let (prefix, encoded) = split_value(known).ok_or(unreadable("it names no time"))?;
    let (done, time) = codec::done::decode_done(encoded, head)
        .map_err(|invalid| unreadable(&invalid.to_string()))?;
    // The script goes by the one, and this by the other.
    if prefix != format!("{}.{}", time.seconds(), time.nanos()) {
        return Err(unreadable("it names two times"));
    }
    Ok((done, time))
}

impl Pending<'_> {
    async fn run(&self, mut head: Revision) -> Result<Revision, CommitError> {
        // The revision that an attempt without a reply may have been written as.
        let mut uncertain = None;
        let mut tries = 0;
        loop {
            let (keys, args) = self.encode(head).await?;
            let limit = self.left().min(ATTEMPT);
            let answer = self
                .core
                .commands
                .script(self.script, &keys, &args, limit)
                .await;
            let verdict = match answer {
                Ok(answer) => self.verdict(answer, head.next())?,
                Err(failure) if failure.is_before_anything() && uncertain.is_none() => {
                    return Err(CommitError::NotWritten(failure.into()));
                }
                Err(failure @ Failure::Refused { .. }) => return Err(failed(failure)),
                // It was sent, and has no answer; or an attempt before has none.
                Err(failure) => {
                    let sent = *uncertain.get_or_insert(head.next());
                    match self.look_for(sent).await {
                        Some(Place::Ours) => return Ok(sent),
                        Some(Place::Others(now)) => {
                            // It came too late, if it ever comes.
                            uncertain = None;
                            head = now;
                        }
                        // It may still come. Sent again it is written once at most: both are for the same revision.
                        Some(Place::Empty) => {}
                        None => return Err(failed(failure)),
                    }
                    if self.left().is_zero() {
                        return Err(failed(failure));
                    }
                    continue;
                }
            };
            // An answer may be to the state that the lost attempt has made.
            if let (Some(sent), Verdict::Refused(_) | Verdict::Moved(_)) = (uncertain, &verdict) {
                match (self.look_for(sent).await, &verdict) {
                    (Some(Place::Ours), _) => return Ok(sent),
                    (None, _) => return Err(CommitError::Failed(lost())),
                    // Another server answers, perhaps, than the one that the attempt was sent to.
                    (Some(_), Verdict::Refused(CommitError::NotWritten(why))) => {
                        return Err(CommitError::Failed(why.clone()));
                    }
                    (Some(_), _) => uncertain = None,
                }
            }
            match verdict {
                Verdict::Committed(revision) => return Ok(revision),
                Verdict::Remembered => return self.found(),
                Verdict::Refused(refused) => return Err(refused),
                Verdict::Moved(now) => head = now,
                // The server's clock was set, or the way is slow; what it shows is known now.
                Verdict::Late => {}
            }
            if self.batch.writes.is_empty() {
                self.found()?;
            }
            tries += 1;
            if tries == TRIES || self.left().is_zero() {
                return Err(not_written("other replicas write all the time; try again"));
            }
        }
    }

    /// What a batch that writes nothing answers: the revision of the first record that it read.
    fn found(&self) -> Result<Revision, CommitError> {
        let first = self.batch.reads.first();
        first.and_then(|(_, read)| *read).ok_or_else(|| {
            let why = "a batch that writes nothing must have read something".to_owned();
            CommitError::Failed(StoreError::Failed(why))
        })
    }

    fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// What stands at the revision that an attempt without a reply was for; `None`: it cannot be found out.
    async fn look_for(&self, sent: Revision) -> Option<Place> {
        while !self.left().is_zero() {
            let look = log::look(self.core, &self.store, sent, self.commit);
            match look.await {
                Ok(place) => return Some(place),
                Err(Some(_)) => tokio::time::sleep(PAUSE).await,
                Err(None) => return None,
            }
        }
        None
    }

    fn verdict(&self, answer: Value, next: Revision) -> Result<Verdict, CommitError> {
        let (word, rest) = parts(answer)?;
        let mut rest = rest.into_iter();
        let mut next_part = || rest.next().ok_or(nonsense("an answer"));
        Ok(match &*word {
            "committed" => Verdict::Committed(next),
            "remembered" => Verdict::Remembered,
            "moved" => Verdict::Moved(revision(&text(next_part()?)?)?),
            "repeated" => {
                let known = bytes(next_part()?)?;
                let head = revision(&text(next_part()?)?)?;
                let (done, _) = decode_known(&known, head)?;
                Verdict::Refused(CommitError::Repeated(Box::new(done)))
            }
            "conflict" => {
                let kind = text(next_part()?)?;
                let place: usize = text(next_part()?)?
                    .parse()
                    .map_err(|_| nonsense("a place"))?;
                let id = self.conflicting(&kind, place.wrapping_sub(1));
                Verdict::Refused(CommitError::Conflict(id.ok_or(nonsense("a conflict"))?))
            }
            "late" => {
                self.core.note(next_part()?)?;
                Verdict::Late
            }
            "history" => {
                tick(&self.core.signals.turned);
                let standing = self.core.note(next_part()?)?;
                let why = format!(
                    "Redis was restarted or replaced: it is in another history, at {}",
                    standing.head
                );
                Verdict::Refused(not_written(&why))
            }
            "absent" => Verdict::Refused(CommitError::NotWritten(absent())),
            "refused" => {
                let why = text(next_part()?)?;
                Verdict::Refused(not_written(&format!("Redis refuses: {why}")))
            }
            _ => return Err(nonsense("an answer").into()),
        })
    }

    /// The record on whose account the batch was refused.
    fn conflicting(&self, kind: &str, place: usize) -> Option<RecordId> {
        match kind {
            "read" => self.batch.reads.get(place).map(|(id, _)| id.clone()),
            "quiet" => {
                let (workspace, _) = self.batch.quiet.as_ref()?;
                Some(RecordId::Workspace(workspace.clone()))
            }
            "retired" => {
                let mut written = self.batch.writes.iter().filter_map(written_workspace);
                written.nth(place).cloned().map(RecordId::Workspace)
            }
            _ => None,
        }
    }

    /// The script's keys and arguments for the revision after `head`.
    async fn encode(&self, head: Revision) -> Result<(Vec<String>, Vec<Vec<u8>>), CommitError> {
        let Batch {
            reads,
            quiet,
            mutation,
            writes,
            event,
        } = self.batch;
        let layout = &self.core.layout;
        let next = head.next();
        let mut buckets = Buckets::new(self.core.buckets());
        let mut first = None;
        let mut records = Vec::with_capacity(writes.len());
        for write in writes {
            let (id, _, record) = encode_write(write.clone(), next);
            if records.is_empty() {
                first.clone_from(&record);
            }
            records.push((id, record));
        }
        let is_change = !writes.is_empty();
        let revision_done = if is_change {
            Some(next)
        } else {
            match reads.first() {
                Some((id, Some(read))) if mutation.is_some() => {
                    first = self.read_record(id, *read).await?;
                    // Else it is another than the batch was decided on, and the script finds that out.
                    first.is_some().then_some(*read)
                }
                _ => None,
            }
        };
        let known_then = match (mutation, revision_done) {
            (Some(mutation), Some(revision)) => {
                let time = event.time;
                let done = codec::done::encode_done(mutation.fingerprint, revision, time, first);
                let mut known = format!("{}.{} ", time.seconds(), time.nanos()).into_bytes();
                known.extend_from_slice(&done);
                known
            }
            _ => Vec::new(),
        };
        let change = if is_change {
            encode_change(head, next, &self.core.incarnation, self.commit, &records)
        } else {
            Vec::new()
        };
        let (seconds, nanos) = known_since(event.time);

        let mut args = self.history.clone();
        let kept = self.core.kept.load(Ordering::Relaxed);
        let word = |word: &dyn ToString| word.to_string().into_bytes();
        let Some(latest) = self.core.server_millis_in(self.left() + LATEST) else {
            return Err(not_written("the server's clock is not known yet"));
        };
        args.extend([
            word(&latest),
            word(&buckets.count),
            word(&head),
            word(&next),
            word(&stream_id(next)),
            change,
            codec::events::encode_event(next, event),
            word(&kept),
            word(&layout.hints()),
            Core::hint(&self.store, next),
            word(&u8::from(mutation.is_some())),
            known_then,
            word(&seconds),
            word(&nanos),
            word(&KEPT_SECONDS),
        ]);
        args.push(word(&reads.len()));
        for (id, read) in reads {
            let row = encode_row(id);
            args.push(word(&buckets.place(&row)));
            args.push(row);
            args.push(read.map(|read| word(&read)).unwrap_or_default());
        }
        args.push(word(&usize::from(quiet.is_some())));
        if let Some((workspace, since)) = quiet {
            args.push(word(workspace));
            args.push(word(since));
        }
        let workspaces: Vec<&WorkspaceId> = writes.iter().filter_map(written_workspace).collect();
        args.push(word(&workspaces.len()));
        for workspace in workspaces {
            let row = encode_row(&RecordId::Workspace(workspace.clone()));
            args.push(word(&buckets.place(&row)));
            args.push(row);
        }
        args.push(word(&records.len()));
        for (id, record) in records {
            let row = encode_row(&id);
            args.push(word(&buckets.place(&row)));
            args.push(row);
            let value = record.map(|record| with_revision(next, &record));
            args.push(value.unwrap_or_default());
        }
        let mut noisy: Vec<&WorkspaceId> = writes.iter().filter_map(key_workspace).collect();
        noisy.sort_unstable();
        noisy.dedup();
        args.push(word(&noisy.len()));
        args.extend(noisy.into_iter().map(|workspace| word(workspace)));

        let done = mutation.map_or([0; 32], |mutation| mutation.id.0);
        let mut keys = vec![
            layout.ctl(),
            layout.log(),
            layout.audit(),
            layout.quiet(),
            layout.done(&done),
        ];
        keys.extend(buckets.used.iter().map(|bucket| layout.bucket(*bucket)));
        Ok((keys, args))
    }

    /// A record as it is stored, if it is of this revision.
    async fn read_record(
        &self,
        id: &RecordId,
        due: Revision,
    ) -> Result<Option<Vec<u8>>, CommitError> {
        let row = encode_row(id);
        let bucket = bucket_of(&row, self.core.buckets());
        let mut get = redis::cmd("HGET");
        get.arg(self.core.layout.bucket(bucket)).arg(row);
        let found: Result<Option<Vec<u8>>, Failure> = self.core.commands.command(&get, SHORT).await;
        let found = found.map_err(|failure| CommitError::NotWritten(failure.into()))?;
        Ok(found.and_then(|value| {
            let (prefix, record) = split_value(&value)?;
            (Revision::parse(prefix) == Some(due)).then(|| record.to_vec())
        }))
    }
}

/// The buckets that a batch touches, in the order of their keys.
struct Buckets {
    count: u32,
    used: Vec<u32>,
    places: std::collections::BTreeMap<u32, usize>,
}

impl Buckets {
    fn new(count: u32) -> Self {
        Self {
            count,
            used: Vec::new(),
            places: std::collections::BTreeMap::new(),
        }
    }

    /// The place of a row's bucket among the keys, from 1.
    fn place(&mut self, row: &[u8]) -> usize {
        let bucket = bucket_of(row, self.count);
        *self.places.entry(bucket).or_insert_with(|| {
            self.used.push(bucket);
            self.used.len()
        })
    }
}

fn failed(failure: Failure) -> CommitError {
    CommitError::Failed(failure.into())
}

fn lost() -> StoreError {
    StoreError::Failed("Redis did not answer, and does not tell what it wrote".to_owned())
}

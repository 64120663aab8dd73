//! Exports: events as the bytes of a file, in pieces, in constant memory.

use std::collections::VecDeque;

use super::{
    Asked, Parent,
    line::{write_csv, write_csv_header, write_json},
    off_the_runtime,
    sight::Sight,
    unreadable,
    walk::Walk,
};
use crate::{
    admin::{Failure, caller::Caller, mutation::Management, shares::Share},
    domain::{
        chain::{Chain, ChainHead},
        grant::Act,
        id::Revision,
        key::State,
        time::Timestamp,
    },
    gate::{
        clock::Clock,
        keyring::{Found, Keyring},
    },
    store::{Direction, EventRecord, FoundEvent, RecordId},
};

/// A piece ends with the first line that makes it so long.
const PIECE: usize = 32 << 10;

/// The form of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// One JSON object a line. What verifies.
    JsonLines,
    /// For spreadsheets.
    Csv,
}

/// An export on its way. It reads on only when it is asked for the next piece, so a client that takes its time holds
/// nothing but the pieces of one step; dropping it ends it.
pub struct Export {
    /// However slow its client is, there are only so many.
    _share: Share,
    walk: Walk,
    clock: std::sync::Arc<dyn Clock>,
    keyring: Keyring,
    /// `None` once it has ended, and while a step is made of it.
    writer: Option<Box<Writer>>,
    ready: VecDeque<Vec<u8>>,
    /// What ends it, behind the pieces that are ready.
    failed: Option<Failure>,
}

impl Export {
    pub(super) fn new(
        management: &Management,
        share: Share,
        caller: Caller,
        parent: Parent,
        asked: Asked,
        form: Form,
    ) -> Self {
        let keyring = management.keyring.clone();
        let mut ready = VecDeque::new();
        if form == Form::Csv {
            let mut header = Vec::new();
            write_csv_header(&mut header);
            ready.push_back(header);
        }
        let writer = Writer {
            // A link depends on every event before it, and their contents could be guessed by trying.
            shows_chain: caller.may_everywhere(Act::AuditRead),
            chain: Chain::new(),
            // Or it would not end while others make changes faster than it is taken.
            end: keyring.applied(),
            sight: Sight::new(caller, parent, keyring.clone()),
            asked,
            form,
        };
        Self {
            _share: share,
            walk: Walk::new(management.store.clone(), None, Direction::OldestFirst),
            clock: management.clock.clone(),
            keyring,
            writer: Some(Box::new(writer)),
            ready,
            failed: None,
        }
    }

    /// The next whole lines; `None`: that was all. An error is the last.
    pub async fn next(&mut self) -> Option<Result<Vec<u8>, Failure>> {
        loop {
            if let Some(piece) = self.ready.pop_front() {
                return Some(Ok(piece));
            }
            if let Some(failure) = self.failed.take() {
                return Some(Err(failure));
            }
            let writer = self.writer.take()?;
            if let Err(failure) = self.step(writer).await {
                self.failed = Some(failure);
            }
        }
    }

    async fn step(&mut self, writer: Box<Writer>) -> Result<(), Failure> {
        check_still_there(writer.sight.caller(), &self.keyring, self.clock.now().wall)?;
        let step = self.walk.step().await?;
        if step.is_empty() {
            return writer.finish();
        }
        let over = self.walk.is_over();
        let (writer, pieces, result) = off_the_runtime(move || {
            let mut writer = writer;
            let mut pieces = VecDeque::new();
            let result = writer.write(step, &mut pieces);
            (writer, pieces, result)
        })
        .await?;
        self.ready = pieces;
        match result? {
            End::Reached => Ok(()),
            End::Ahead if over => writer.finish(),
            End::Ahead => {
                self.writer = Some(writer);
                Ok(())
            }
        }
    }
}

/// Goes on only while the caller's key is as it was when it was judged, and in force. It costs a look at the keyring, so it
/// is asked before each step: an export that lasts hours ends soon after its caller's key was disabled. Whether this
/// replica's records are still good is not asked again, as little as for the rest of any other answer on its way.
fn check_still_there(caller: &Caller, keyring: &Keyring, now: Timestamp) -> Result<(), Failure> {
    let Some((RecordId::Key(id), revision)) = &caller.read else {
        return Ok(());
    };
    match keyring.record(*id) {
        Found::Record(record) if record.revision != *revision => Err(Failure::Conflict),
        Found::Record(record) if record.key.state(now) == State::Active => Ok(()),
        Found::Record(_) | Found::Unreadable | Found::Nothing => Err(Failure::CredentialInvalid),
    }
}

enum End {
    Reached,
    Ahead,
}

struct Writer {
    shows_chain: bool,
    chain: Chain,
    /// The last event that belongs to the export.
    end: Revision,
    sight: Sight,
    asked: Asked,
    form: Form,
}

impl Writer {
    /// Writes the lines of a step, up to the end or to the first event that is not what it should be.
    fn write(
        &mut self,
        step: Vec<FoundEvent>,
        pieces: &mut VecDeque<Vec<u8>>,
    ) -> Result<End, Failure> {
        let mut piece = Vec::new();
        let mut result = Ok(End::Ahead);
        for found in step {
            match self.take(found, &mut piece) {
                Ok(End::Ahead) => {}
                ended => {
                    result = ended;
                    break;
                }
            }
            if piece.len() >= PIECE {
                pieces.push_back(std::mem::take(&mut piece));
            }
        }
        if !piece.is_empty() {
            pieces.push_back(piece);
        }
        result
    }

    fn take(&mut self, found: FoundEvent, piece: &mut Vec<u8>) -> Result<End, Failure> {
        let record = match found {
            FoundEvent::Event(record) => *record,
            FoundEvent::Damaged { at, .. } if at > self.end => {
                return self.finish().map(|()| End::Reached);
            }
            FoundEvent::Damaged { at, why } => return Err(unreadable(at, &why)),
        };
        if record.revision > self.end {
            // What lies between is missed by `finish`.
            return self.finish().map(|()| End::Reached);
        }
        // Whoever exports a part relies on getting all of that part.
        self.chain
            .link(record.revision, &record.digest)
            .map_err(|broken| unreadable(record.revision, &broken.to_string()))?;
        if self.sight.sees(&record.event) && self.asked.wants(&record.event) {
            self.line(piece, &record);
        }
        Ok(End::Ahead)
    }

    fn line(&self, piece: &mut Vec<u8>, record: &EventRecord) {
        let chain: Option<ChainHead> = self.shows_chain.then(|| self.chain.head());
        match self.form {
            Form::JsonLines => write_json(piece, record, chain),
            Form::Csv => write_csv(piece, record, chain),
        }
    }

    /// Goes on only if all events were there.
    fn finish(&self) -> Result<(), Failure> {
        let last = self.chain.head().revision;
        if last < self.end {
            return Err(unreadable(
                self.end,
                &format!("no event stands between {last} and it"),
            ));
        }
        Ok(())
    }
}

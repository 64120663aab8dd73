//! `portcullis audit verify --file`: without a server.

use std::{
    fs::File,
    io::{self, BufReader, Read, Write},
    path::Path,
    time::{Duration, Instant},
};

use crate::{
    admin::audit::offline::{FileVerdict, verify_file},
    cli::{
        console::{Console, clean},
        failure::Failure,
    },
    domain::chain::ChainHead,
    proto::v1::{BrokenLink, VerifyEventsResponse},
};

/// What is read at once.
const BUFFER: usize = 1 << 20;

/// Verifies an export in JSON Lines, and tells what a server would.
pub(super) fn verify(
    path: &Path,
    anchor: Option<ChainHead>,
    console: &mut Console<'_>,
) -> Result<VerifyEventsResponse, Failure> {
    let shown = clean(&path.display().to_string());
    let unreadable = |error: io::Error| Failure::Failed(format!("{shown} cannot be read: {error}"));
    let file = File::open(path).map_err(unreadable)?;
    let total = file.metadata().map_err(unreadable)?.len();
    let err_terminal = console.err_terminal;
    let watched = Watched {
        file,
        total,
        read: 0,
        next: None,
        err: err_terminal.then_some(&mut *console.err),
    };
    let verdict = verify_file(BufReader::with_capacity(BUFFER, watched), anchor);
    if err_terminal {
        console.notice("");
    }
    Ok(told(verdict.map_err(unreadable)?, anchor))
}

fn told(verdict: FileVerdict, anchor: Option<ChainHead>) -> VerifyEventsResponse {
    let broken = |events: u64, head: Option<ChainHead>, revision: String, reason: String| {
        VerifyEventsResponse {
            intact: false,
            event_count: count(events),
            head: head.map(|head| head.to_string()).unwrap_or_default(),
            broken_link: Some(BrokenLink { revision, reason }),
        }
    };
    match verdict {
        FileVerdict::Whole { events, head } => VerifyEventsResponse {
            intact: true,
            event_count: count(events),
            head: head.to_string(),
            broken_link: None,
        },
        FileVerdict::Part { events, missing } => broken(
            events,
            None,
            missing.to_string(),
            "it is not in the file; an export of some events only, or of one workspace, cannot be verified".into(),
        ),
        FileVerdict::EndsBeforeAnchor { events, head } => broken(
            events,
            Some(head),
            anchor.map_or_else(String::new, |anchor| anchor.revision.to_string()),
            "the file ends before the anchor".into(),
        ),
        FileVerdict::Broken {
            line,
            events,
            at,
            why,
        } => {
            let at = at.map_or_else(|| "unknown".to_owned(), |at| at.to_string());
            let place = match line {
                0 => String::new(),
                line => format!("line {line}: "),
            };
            broken(events, None, at, place + &why)
        }
    }
}

fn count(events: u64) -> i64 {
    i64::try_from(events).unwrap_or(i64::MAX)
}

/// A file that tells, if there is somebody to tell, how much of it was read.
struct Watched<'a> {
    file: File,
    total: u64,
    read: u64,
    next: Option<Instant>,
    err: Option<&'a mut dyn Write>,
}

impl Read for Watched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        const EVERY: Duration = Duration::from_millis(200);
        let count = self.file.read(buffer)?;
        self.read = self.read.saturating_add(count as u64);
        if let Some(err) = &mut self.err {
            let now = Instant::now();
            // The end is told in any case.
            if count == 0 || self.next.is_none_or(|next| now >= next) {
                self.next = Some(now + EVERY);
                let percent = (u128::from(self.read) * 100)
                    .checked_div(u128::from(self.total))
                    .unwrap_or(100);
                // Progress that cannot be shown must not stop the verification.
                let _ = write!(err, "\rverified {percent} %  ").and_then(|()| err.flush());
            }
        }
        Ok(count)
    }
}

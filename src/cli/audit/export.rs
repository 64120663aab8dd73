//! `portcullis audit export`.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use clap::{Args, ValueEnum};
use tonic::Status;

use super::select::{Selected, Selection};
use crate::{
    cli::{
        Outcome,
        client::{Client, ClientFlags},
        console::{Console, clean},
        durable_file::DurableFile,
        failure::Failure,
    },
    proto::v1::{ExportEventsRequest, export_events_request::Format},
};

const EXAMPLES: &str = "\
An export of all events, without any of the flags that select some, can be verified later without a server: audit verify --file.

Examples:
  portcullis audit export --out audit.jsonl
  portcullis audit export --since 2026-01-01 --until 2026-03-31 --format csv > first-quarter.csv";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct ExportArgs {
    #[command(flatten)]
    selection: Selection,
    /// One JSON object a line, or RFC 4180
    #[arg(long, value_enum, default_value_t = Form::Jsonl)]
    format: Form,
    /// The file to write, which only you may read; one that is there is replaced once the export is whole, and left as
    /// it is if it fails [default: stdout]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    Jsonl,
    Csv,
}

pub(super) async fn run(
    args: &ExportArgs,
    flags: &ClientFlags,
    console: &mut Console<'_>,
) -> Result<Outcome, Failure> {
    let Selected {
        parent,
        filter,
        query,
    } = args.selection.select(&console.now)?;
    let format = match args.format {
        Form::Jsonl => Format::JsonLines,
        Form::Csv => Format::Csv,
    };
    let request = ExportEventsRequest {
        parent,
        filter,
        query,
        format: format.into(),
    };
    let mut sink = Sink::open(args.out.as_deref())?;
    let mut progress = Progress::new(&sink, args.format, console);
    let client = Client::connect(flags, console).await?;
    let patience = flags.long_timeout();
    // No deadline for the whole: an export takes as long as it takes. Each piece has one.
    let mut client = client.audits_within(None);
    let pieces = within(patience, client.export_events(request)).await;
    let mut pieces = pieces?.into_inner();
    let done = loop {
        match within(patience, pieces.message()).await {
            Ok(Some(piece)) => {
                let written = sink.write(&piece.data, console);
                if let Err(failure) = written {
                    break Err(failure);
                }
                progress.add(&piece.data, console);
            }
            Ok(None) => break Ok(()),
            Err(failure) => break Err(failure),
        }
    };
    progress.end(console);
    done?;
    sink.finish(console)?;
    Ok(Outcome::Done)
}

/// The answer, unless it takes longer than that.
async fn within<T>(
    patience: Duration,
    answer: impl Future<Output = Result<T, Status>>,
) -> Result<T, Failure> {
    match tokio::time::timeout(patience, answer).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(Failure::Failed(
            "no answer in time, and the export is not whole; give it longer with --timeout".into(),
        )),
    }
}

/// Where an export goes.
enum Sink {
    File(PathBuf, Box<DurableFile>),
    Stdout,
}

impl Sink {
    fn open(path: Option<&Path>) -> Result<Self, Failure> {
        let Some(path) = path.filter(|path| path.as_os_str() != "-") else {
            return Ok(Self::Stdout);
        };
        let file = DurableFile::create(path).map_err(|error| unwritable(path, &error))?;
        Ok(Self::File(path.to_owned(), Box::new(file)))
    }

    fn write(&mut self, bytes: &[u8], console: &mut Console<'_>) -> Result<(), Failure> {
        match self {
            Self::File(path, file) => file
                .write_all(bytes)
                .map_err(|error| unwritable(path, &error)),
            // A file has to hold the very bytes; a terminal must not act on any.
            Self::Stdout if console.out_terminal => {
                for line in String::from_utf8_lossy(bytes).lines() {
                    writeln!(console.out, "{}", clean(line))?;
                }
                Ok(console.out.flush()?)
            }
            Self::Stdout => Ok(console.out.write_all(bytes)?),
        }
    }

    fn finish(self, console: &mut Console<'_>) -> Result<(), Failure> {
        match self {
            Self::File(path, file) => file.keep().map_err(|error| unwritable(&path, &error)),
            Self::Stdout => Ok(console.out.flush()?),
        }
    }
}

fn unwritable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::Failed(format!(
        "{} cannot be written: {error}",
        clean(&path.display().to_string())
    ))
}

/// Tells on stderr how much there is so far.
struct Progress {
    shown: bool,
    counts_events: bool,
    events: u64,
    bytes: u64,
    next: Option<Instant>,
}

impl Progress {
    /// Shown if somebody is there to see it, and not in the middle of the export itself.
    fn new(sink: &Sink, form: Form, console: &Console<'_>) -> Self {
        let shown = match sink {
            Sink::File(..) => console.err_terminal,
            Sink::Stdout => console.err_terminal && !console.out_terminal,
        };
        Self {
            shown,
            // A CSV field may have line feeds.
            counts_events: form == Form::Jsonl,
            events: 0,
            bytes: 0,
            next: None,
        }
    }

    fn add(&mut self, piece: &[u8], console: &mut Console<'_>) {
        const EVERY: Duration = Duration::from_millis(200);
        if !self.shown {
            return;
        }
        self.bytes = self.bytes.saturating_add(piece.len() as u64);
        if self.counts_events {
            let line_feeds = piece.split(|&byte| byte == b'\n').count() - 1;
            self.events = self.events.saturating_add(line_feeds as u64);
        }
        let now = Instant::now();
        if self.next.is_none_or(|next| now >= next) {
            self.next = Some(now + EVERY);
            self.show(console);
        }
    }

    /// Shows the last figures and leaves the line.
    fn end(&self, console: &mut Console<'_>) {
        if self.shown {
            self.show(console);
            console.notice("");
        }
    }

    fn show(&self, console: &mut Console<'_>) {
        let size = size(self.bytes);
        let line = if self.counts_events {
            format!("{} events, {size}", self.events)
        } else {
            size
        };
        // Progress that cannot be shown must not stop the export.
        let _ = write!(console.err, "\rexported {line}  ").and_then(|()| console.err.flush());
    }
}

/// Bytes for people, with one decimal.
fn size(bytes: u64) -> String {
    for (unit, name) in [(1_u64 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")] {
        if bytes >= unit {
            let tenths = u128::from(bytes) * 10 / u128::from(unit);
            return format!("{}.{} {name}", tenths / 10, tenths % 10);
        }
    }
    format!("{bytes} B")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_has_one_decimal() {
        for (bytes, text) in [
            (0, "0 B"),
            (1_023, "1023 B"),
            (1_536, "1.5 KiB"),
            (5 << 20, "5.0 MiB"),
            (u64::MAX, "17179869183.9 GiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }
}

//! How long a full store takes to answer its first Check, and how much memory and disk a key costs then.
//!
//! `cargo bench --bench boot`, or with `-- --keys N`. Each measurement is a process of its own, so that its memory is;
//! they take turns, and the control reads the same rows with nothing but redb.

use std::{
    env, fs,
    hint::black_box,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{self, Command, Stdio},
    sync::Arc,
    time::Instant,
};

use portcullis::{
    fleet::Fleet,
    gate::{
        keyring::{Keyring, KeyringWriter},
        lease::Lease,
    },
    store::{
        Store as _,
        embedded::{EmbeddedStore, FILE_NAME},
    },
};
use redb::{ReadableDatabase as _, ReadableTable as _};
use support::{fill::fill, median, process::resident};
use tokio::runtime::Runtime;

#[expect(dead_code, reason = "nothing is done often here")]
mod support;

// The server's own, since it decides much of the memory.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Keys a commit.
const BATCH: u64 = 20_000;

/// What a process measured: how long until it was done, and its memory then.
struct Measured {
    seconds: f64,
    resident: u64,
}

/// What there is to measure. Each reads the whole store from a file that the kernel has in its cache.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// The rows, with redb alone: the control.
    Scan,
    /// The records as the store hands them out, each dropped at once.
    Load,
    /// The keyring, in force: what `serve` does before it is ready.
    Ready,
    /// `portcullis serve`, seen from outside, until it prints that it is ready.
    Serve,
}

impl Way {
    const ALL: [Self; 4] = [Self::Scan, Self::Load, Self::Ready, Self::Serve];

    const fn name(self) -> &'static str {
        match self {
            Self::Scan => "redb scan",
            Self::Load => "load",
            Self::Ready => "ready",
            Self::Serve => "serve",
        }
    }
}

fn main() {
    let arguments: Vec<String> = env::args().collect();
    let value = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        Some(arguments.get(at + 1).expect("the option has a value"))
    };
    if let Some(name) = value("--measure") {
        let directory = Path::new(value("--directory").expect("where to read"));
        return measure_here(name, directory);
    }
    let is_real = arguments.iter().any(|argument| argument == "--bench");
    let keys = value("--keys").map_or(if is_real { 1_000_000 } else { 1_000 }, |keys| {
        keys.parse().expect("a number of keys")
    });
    let rounds = if is_real { 5 } else { 1 };

    let directory = tempfile::tempdir().expect("there is a place for temporary files");
    let runtime = Runtime::new().expect("threads can be started");
    let started = Instant::now();
    runtime.block_on(async {
        let store = EmbeddedStore::open(directory.path()).expect("the directory is empty");
        fill(&store, keys, BATCH).await;
    });
    let size = fs::metadata(directory.path().join(FILE_NAME))
        .expect("the store is a file")
        .len();
    println!(
        "{keys} keys, written in {:.1} s; {} bytes on disk a key",
        started.elapsed().as_secs_f64(),
        size / keys
    );

    let mut measured: [Vec<Measured>; 4] = Default::default();
    for round in 0..rounds {
        for turn in 0..Way::ALL.len() {
            let at = (round + turn) % Way::ALL.len();
            measured[at].push(match Way::ALL[at] {
                Way::Serve => measure_serve(directory.path()),
                way => measure_in_child(way, directory.path()),
            });
        }
    }
    print_table(keys, &measured);
}

#[expect(
    clippy::cast_precision_loss,
    reason = "far fewer than 2^52 keys and bytes"
)]
fn print_table(keys: u64, measured: &[Vec<Measured>; 4]) {
    println!(
        "\n| | s (least – most) | keys/s | ÷ redb scan | RSS a key, bytes |\n|---|---|---|---|---|"
    );
    for (way, runs) in Way::ALL.iter().zip(measured) {
        let seconds: Vec<f64> = runs.iter().map(|run| run.seconds).collect();
        let ratios = runs
            .iter()
            .zip(&measured[0])
            .map(|(run, control)| run.seconds / control.seconds)
            .collect();
        let (least, most) = seconds
            .iter()
            .fold((f64::MAX, 0.0_f64), |(least, most), &s| {
                (least.min(s), most.max(s))
            });
        let middle = median(seconds);
        println!(
            "| {} | {middle:.2} ({least:.2} – {most:.2}) | {:.0} | {:.2} | {:.0} |",
            way.name(),
            keys as f64 / middle,
            median(ratios),
            median(runs.iter().map(|run| run.resident as f64).collect()) / keys as f64,
        );
    }
}

/// The child's part: measures itself and prints what it found.
fn measure_here(name: &str, directory: &Path) {
    let runtime = Runtime::new().expect("threads can be started");
    let way = Way::ALL.into_iter().find(|way| way.name() == name);
    let started = Instant::now();
    // What was read is held until the memory is looked at.
    match way.expect("the parent knows the ways") {
        Way::Scan => report(started, scan(directory)),
        Way::Load => report(started, runtime.block_on(load(directory))),
        Way::Ready | Way::Serve => report(started, runtime.block_on(join(directory))),
    }
}

fn report(started: Instant, _held: impl Sized) {
    let seconds = started.elapsed().as_secs_f64();
    println!("{seconds} {}", resident(process::id()));
}

fn scan(directory: &Path) -> redb::Database {
    const RECORDS: redb::TableDefinition<&[u8], &[u8]> = redb::TableDefinition::new("records");
    let database = redb::Database::open(directory.join(FILE_NAME)).expect("the store is there");
    let transaction = database.begin_read().expect("it can be read");
    let table = transaction.open_table(RECORDS).expect("it has records");
    let bytes: usize = table
        .iter()
        .expect("they can be read")
        .map(|row| row.map_or(0, |(id, record)| id.value().len() + record.value().len()))
        .sum();
    black_box(bytes);
    database
}

async fn load(directory: &Path) -> EmbeddedStore {
    let store = EmbeddedStore::open(directory).expect("the store is there");
    let mut portions = store.load().await.expect("it can be read");
    while let Some(portion) = portions.recv().await {
        black_box(portion.expect("it can be read"));
    }
    store
}

async fn join(directory: &Path) -> (EmbeddedStore, Keyring, Fleet) {
    let store = EmbeddedStore::open(directory).expect("the store is there");
    let writer = KeyringWriter::new();
    let keyring = writer.reader();
    let lease = Arc::new(Lease::unlimited());
    let fleet = Fleet::alone(&store, "bench".to_owned(), writer, lease)
        .await
        .expect("the store can be read");
    (store, keyring, fleet)
}

fn measure_in_child(way: Way, directory: &Path) -> Measured {
    let output = Command::new(env::current_exe().expect("this program has a path"))
        .args(["--measure", way.name(), "--directory"])
        .arg(directory)
        .output()
        .expect("it runs again");
    let printed = String::from_utf8_lossy(&output.stdout);
    let (seconds, resident) = printed
        .trim()
        .split_once(' ')
        .unwrap_or_else(|| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    Measured {
        seconds: seconds.parse().expect("a number of seconds"),
        resident: resident.parse().expect("a number of bytes"),
    }
}

fn measure_serve(directory: &Path) -> Measured {
    let started = Instant::now();
    let mut server = Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .args([
            "serve",
            "--gate",
            "127.0.0.1:0",
            "--admin",
            "127.0.0.1:0",
            "--ops",
            "127.0.0.1:0",
        ])
        .arg("--data-dir")
        .arg(directory)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the server starts");
    let output = server.stdout.take().expect("it is piped");
    let ready = BufReader::new(output)
        .lines()
        .map_while(Result::ok)
        .any(|line| line.starts_with("portcullis ready"));
    let measured = Measured {
        seconds: started.elapsed().as_secs_f64(),
        resident: resident(server.id()),
    };
    // It has nothing to lose: nothing was written.
    server.kill().expect("it runs");
    server.wait().expect("it ends");
    assert!(ready, "the server did not start");
    measured
}

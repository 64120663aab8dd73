//! How long a replica takes from an empty keyring to its first answer, beside the mere reading of the same records from the
//! same Redis, and what a key costs in both places.
//!
//! `cargo bench --bench redis_boot`, or with `-- --keys N --rounds N`. Each measurement is a process of its own, so that its
//! memory is; they take turns. Redis shares the machine, and its cores, with them. Needs a redis-server of 7.0 or later, on the
//! `PATH` or named by `PORTCULLIS_REDIS_SERVER`.

use std::{
    env,
    hint::black_box,
    path::Path,
    process::{self, Command},
    sync::Arc,
    time::Instant,
};

use black_box_support::{RedisServer, redis_settings};
use portcullis::{
    config::{DEFAULT_LEASE, RedisAddress, RedisDurability, RedisSettings},
    fleet::Fleet,
    gate::{
        clock::SystemClock,
        keyring::{Keyring, KeyringWriter},
        lease::Lease,
    },
    store::{Portion, Store as _, redis::RedisStore, shared::SharedStore as _},
};
use redis::{AsyncConnectionConfig, Client, Value, aio::MultiplexedConnection};
use support::{fill::fill, median, process::resident};
use tokio::runtime::Runtime;

#[path = "../tests/support/mod.rs"]
mod black_box_support;
#[expect(dead_code, reason = "nothing is done often here")]
mod support;

// The server's own, since it decides much of the memory.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Keys a commit.
const BATCH: u64 = 5_000;
/// Buckets that are read at once, and records of each that are asked for at once: as the store does it.
const AT_ONCE: usize = 8;
const ASKED: usize = 1_000;

/// What a process measured: how long until it was done, and its memory then.
struct Measured {
    seconds: f64,
    resident: u64,
}

/// What there is to measure.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// HSCAN over all buckets, with nothing but a client of Redis: the control.
    Drain,
    /// The records as the store hands them out, each dropped at once.
    Load,
    /// The keyring, in force, and the lease held: what `serve` does before it is ready.
    Ready,
}

impl Way {
    const ALL: [Self; 3] = [Self::Drain, Self::Load, Self::Ready];

    const fn name(self) -> &'static str {
        match self {
            Self::Drain => "HSCAN",
            Self::Load => "load",
            Self::Ready => "ready",
        }
    }
}

fn main() {
    let arguments: Vec<String> = env::args().collect();
    let value = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        Some(arguments.get(at + 1).expect("the option has a value"))
    };
    let number = |name: &str| value(name).map(|text| text.parse::<u64>().expect("a number"));
    let is_real = arguments.iter().any(|argument| argument == "--bench");
    let keys = number("--keys").unwrap_or(if is_real { 1_000_000 } else { 1_000 });
    let rounds = number("--rounds").unwrap_or(if is_real { 5 } else { 1 });
    if let Some(name) = value("--measure") {
        let port = number("--port").expect("where Redis is");
        let port = u16::try_from(port).expect("a port");
        return measure_here(name, port, keys);
    }

    // What it writes anew now and then would meet one measurement and not the next.
    let Ok(redis) = RedisServer::start(&["auto-aof-rewrite-percentage 0"]) else {
        panic!("there is no redis-server");
    };
    let runtime = Runtime::new().expect("threads can be started");
    let started = Instant::now();
    let grown = runtime.block_on(fill_redis(&redis, keys));
    println!(
        "{keys} keys, written in {:.1} s; {} bytes in Redis a key",
        started.elapsed().as_secs_f64(),
        grown / keys
    );

    let mut measured: [Vec<Measured>; 3] = Default::default();
    for round in 0..usize::try_from(rounds).expect("it fits") {
        for turn in 0..Way::ALL.len() {
            let at = (round + turn) % Way::ALL.len();
            measured[at].push(measure_in_child(Way::ALL[at], redis.port(), keys));
        }
    }
    print_table(keys, &measured);
}

/// Makes a store and writes it; answers by how much Redis's memory has grown.
async fn fill_redis(redis: &RedisServer, keys: u64) -> u64 {
    let settings = redis_settings(redis);
    let made = RedisStore::make(&settings, "filler", DEFAULT_LEASE).await;
    let (store, _) = made.expect("a store can be made");
    let before = used_memory(redis);
    // The log is another matter than the records.
    let store = store.keep_in_log(1);
    fill(&store, keys, BATCH).await;
    drop(store);
    used_memory(redis).saturating_sub(before)
}

fn used_memory(redis: &RedisServer) -> u64 {
    let info: String = redis::cmd("INFO")
        .arg("memory")
        .query(&mut redis.connection())
        .expect("it says so");
    let used = info
        .lines()
        .find_map(|line| line.strip_prefix("used_memory:"));
    used.and_then(|used| used.trim().parse().ok())
        .expect("a size")
}

#[expect(
    clippy::cast_precision_loss,
    reason = "far fewer than 2^52 keys and bytes"
)]
fn print_table(keys: u64, measured: &[Vec<Measured>; 3]) {
    println!(
        "\n| | s (least – most) | keys/s | HSCAN ÷ it (least – most) | RSS a key, bytes |\n|---|---|---|---|---|"
    );
    let span = |values: &[f64]| {
        let least = values.iter().copied().fold(f64::MAX, f64::min);
        let most = values.iter().copied().fold(0.0, f64::max);
        format!("{:.2} ({least:.2} – {most:.2})", median(values.to_vec()))
    };
    for (way, runs) in Way::ALL.iter().zip(measured) {
        let seconds: Vec<f64> = runs.iter().map(|run| run.seconds).collect();
        let ratios: Vec<f64> = runs
            .iter()
            .zip(&measured[0])
            .map(|(run, control)| control.seconds / run.seconds)
            .collect();
        println!(
            "| {} | {} | {:.0} | {} | {:.0} |",
            way.name(),
            span(&seconds),
            keys as f64 / median(seconds.clone()),
            span(&ratios),
            median(runs.iter().map(|run| run.resident as f64).collect()) / keys as f64,
        );
    }
}

fn measure_in_child(way: Way, port: u16, keys: u64) -> Measured {
    let output = Command::new(env::current_exe().expect("this program has a path"))
        .args(["--measure", way.name()])
        .args(["--port", &port.to_string()])
        .args(["--keys", &keys.to_string()])
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

/// The child's part: measures itself and prints what it found.
fn measure_here(name: &str, port: u16, keys: u64) {
    let runtime = Runtime::new().expect("threads can be started");
    let way = Way::ALL.into_iter().find(|way| way.name() == name);
    runtime.block_on(async {
        let started = Instant::now();
        match way.expect("the parent knows the ways") {
            Way::Drain => {
                let records = drain(port).await;
                report(started);
                assert!(records >= keys, "all were read");
            }
            Way::Load => {
                let records = load(port).await;
                report(started);
                assert!(records >= keys, "all were read");
            }
            Way::Ready => {
                let directory = tempfile::tempdir().expect("a place for its note");
                let (keyring, fleet) = join(port, directory.path()).await;
                report(started);
                assert_eq!(keyring.len() as u64, keys, "all are in force");
                // Or the next one would find it among the members.
                fleet.leave().await;
            }
        }
    });
}

fn report(started: Instant) {
    let seconds = started.elapsed().as_secs_f64();
    println!("{seconds} {}", resident(process::id()));
}

/// Reads every bucket as the store does, but looks at nothing but the cursors; answers how many records there were.
async fn drain(port: u16) -> u64 {
    let mut connection = connect(port).await;
    let buckets: Vec<String> = redis::cmd("KEYS")
        .arg("{portcullis:0}:rec:*")
        .query_async(&mut connection)
        .await
        .expect("their names");
    let mut records = 0;
    for some in buckets.chunks(AT_ONCE) {
        let mut open: Vec<(&str, Vec<u8>)> = some
            .iter()
            .map(|bucket| (bucket.as_str(), b"0".to_vec()))
            .collect();
        while !open.is_empty() {
            let mut read = redis::pipe();
            for (bucket, cursor) in &open {
                read.cmd("HSCAN")
                    .arg(bucket)
                    .arg(cursor)
                    .arg("COUNT")
                    .arg(ASKED);
            }
            let answers: Vec<Value> = read.query_async(&mut connection).await.expect("answers");
            let mut still_open = Vec::new();
            for ((bucket, _), answer) in open.into_iter().zip(answers) {
                let Value::Array(parts) = black_box(answer) else {
                    panic!("an answer of two parts");
                };
                let [Value::BulkString(cursor), Value::Array(rows)] = &parts[..] else {
                    panic!("a cursor and rows");
                };
                records += rows.len() as u64 / 2;
                if cursor != b"0" {
                    still_open.push((bucket, cursor.clone()));
                }
            }
            open = still_open;
        }
    }
    records
}

async fn connect(port: u16) -> MultiplexedConnection {
    let client = Client::open(format!("redis://127.0.0.1:{port}/?protocol=resp3"));
    let config = AsyncConnectionConfig::new().set_response_timeout(None);
    client
        .expect("an address")
        .get_multiplexed_async_connection_with_config(&config)
        .await
        .expect("a connection")
}

async fn open(port: u16) -> RedisStore {
    let settings = RedisSettings {
        address: RedisAddress::Tcp("127.0.0.1".to_owned(), port),
        user: None,
        password: None,
        database: 0,
        namespace: "portcullis".to_owned(),
        durability: RedisDurability::Verify,
    };
    let store = RedisStore::connect(&settings, "measured").await;
    store.expect("the store is there")
}

async fn load(port: u16) -> u64 {
    let store = open(port).await;
    let standing = store.standing().await.expect("it stands somewhere");
    store.adopt(standing.history);
    let mut portions = store.load().await.expect("it can be read");
    let mut records = 0;
    while let Some(portion) = portions.recv().await {
        if let Portion::Records(some) = black_box(portion.expect("it can be read")) {
            records += some.len() as u64;
        }
    }
    records
}

async fn join(port: u16, directory: &Path) -> (Keyring, Fleet) {
    let writer = KeyringWriter::new();
    let keyring = writer.reader();
    let lease = Arc::new(Lease::none());
    let fleet = Fleet::among(
        Arc::new(open(port).await),
        writer,
        lease.clone(),
        Arc::new(SystemClock::new()),
        directory.join("redis.mark"),
    )
    .await
    .expect("it joins");
    assert!(!lease.is_fenced(), "the lease is held");
    (keyring, fleet)
}

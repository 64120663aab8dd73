//! The foreign programs that some suites drive. `tests/run` installs them and says where they are.

use std::{
    ffi::{OsStr, OsString},
    io::Write as _,
    path::{Path, PathBuf},
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

/// Envoy, of the version that `tests/run` pins.
///
/// # Errors
///
/// When it is not installed.
#[track_caller]
pub fn envoy() -> Result<PathBuf, Missing> {
    tool("PORTCULLIS_ENVOY")
}

/// buf, which generates code from the protos.
///
/// # Errors
///
/// When it is not installed.
#[track_caller]
pub fn buf() -> Result<PathBuf, Missing> {
    tool("PORTCULLIS_BUF")
}

/// Go, the one on the `PATH`. `tests/run` fetches what the modules here need.
///
/// # Errors
///
/// When there is none.
#[track_caller]
pub fn go() -> Result<OsString, Missing> {
    match Command::new("go").arg("version").output() {
        Ok(output) if output.status.success() => Ok("go".into()),
        Ok(output) => Err(not_run("go", &String::from_utf8_lossy(&output.stderr))),
        Err(error) => Err(not_run("go", &error.to_string())),
    }
}

/// systemd-analyze, which can judge a unit that is not installed: where `tests/run` says, or the one on the `PATH`.
///
/// # Errors
///
/// When there is none.
#[track_caller]
pub fn systemd_analyze() -> Result<PathBuf, Missing> {
    if std::env::var_os("PORTCULLIS_SYSTEMD_ANALYZE").is_some() {
        return tool("PORTCULLIS_SYSTEMD_ANALYZE");
    }
    let path = PathBuf::from("systemd-analyze");
    match Command::new(&path).arg("--version").output() {
        Ok(output) if output.status.success() => Ok(path),
        Ok(output) => Err(not_run(
            "systemd-analyze",
            &String::from_utf8_lossy(&output.stderr),
        )),
        Err(error) => Err(not_run(
            "systemd-analyze",
            &format!("{error}; tests/run finds it"),
        )),
    }
}

/// redis-server, 7.0 or later: where `tests/run` says, or the one on the `PATH`.
///
/// # Errors
///
/// When there is none, or an older one.
#[track_caller]
pub fn redis_server() -> Result<OsString, Missing> {
    redis("PORTCULLIS_REDIS_SERVER", "redis-server", "v=")
}

/// redis-cli, which belongs to it.
///
/// # Errors
///
/// When there is none, or an older one.
#[track_caller]
pub fn redis_cli() -> Result<OsString, Missing> {
    redis("PORTCULLIS_REDIS_CLI", "redis-cli", "redis-cli ")
}

#[track_caller]
fn redis(variable: &str, program: &str, before_version: &str) -> Result<OsString, Missing> {
    let path: OsString = match std::env::var_os(variable) {
        Some(_) => tool(variable)?.into(),
        None => program.into(),
    };
    let said = match Command::new(&path).arg("--version").output() {
        Ok(output) => String::from_utf8_lossy(&output.stdout).into_owned(),
        Err(error) => {
            let path = Path::new(&path).display();
            let why = format!("{path}: {error}; tests/run installs it");
            return Err(not_run(program, &why));
        }
    };
    let major = said
        .split_once(before_version)
        .and_then(|(_, version)| version.split('.').next())
        .and_then(|major| major.parse::<u32>().ok());
    if major.is_some_and(|major| major >= 7) {
        return Ok(path);
    }
    let why = format!("7.0 or later is needed, there is {}", said.trim());
    Err(not_run(program, &why))
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

//! The console blocks of the README and of the examples' walk-throughs, run as they are written, each document's in order
//! in one shell: what a newcomer pastes must work.
//!
//! In a block tagged `console`, a line that begins with `$ ` is a command (it goes on over the next lines while bash
//! finds it unfinished, with or without a `> ` in front); the lines below it are what it prints. There `…` stands for
//! anything, and white space for any white space. A command without output shown must succeed; what one with output
//! shown must do is print that. Blocks with another tag, and the command `tests/run`, are not run.
//!
//! The ports are the documents' own, so all of it happens in a network namespace that has nothing but a loopback. The
//! command `cargo run --release` is run as written, too; but `cargo` is found on the PATH as a few lines of shell that
//! start the binary under test in the background, and return once it is ready. So is `redis-server`, which then runs the
//! real one, and ends with the document.

mod support;

use std::{
    ffi::OsStr,
    fmt::Write as _,
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::Path,
    process::{Command, Stdio},
};

/// A command of a document and what it is shown to print.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Step {
    line: usize,
    command: String,
    expected: String,
}

/// The steps of every console block, in order.
fn steps(markdown: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut lines = markdown.lines().enumerate().peekable();
    while let Some((_, line)) = lines.next() {
        if line.trim_end() != "```console" {
            // Skip a block of another kind as a whole: it may show a fence of its own.
            if line.starts_with("```") {
                for (_, line) in lines.by_ref() {
                    if line.trim_end() == "```" {
                        break;
                    }
                }
            }
            continue;
        }
        while let Some((number, line)) = lines.next() {
            if line.trim_end() == "```" {
                break;
            }
            let Some(command) = line.strip_prefix("$ ") else {
                let step: &mut Step = steps
                    .last_mut()
                    .unwrap_or_else(|| panic!("line {}: output of what?", number + 1));
                let _ = writeln!(step.expected, "{line}");
                continue;
            };
            let mut command = command.to_owned();
            while unfinished(&command) {
                let Some((_, more)) = lines.next_if(|(_, line)| line.trim_end() != "```") else {
                    break;
                };
                let _ = write!(command, "\n{}", more.strip_prefix("> ").unwrap_or(more));
            }
            steps.push(Step {
                line: number + 1,
                command,
                expected: String::new(),
            });
        }
    }
    steps.retain(|step| step.command.split_whitespace().next() != Some("tests/run"));
    steps
}

/// Whether bash would go on reading.
fn unfinished(command: &str) -> bool {
    if command.ends_with('\\') {
        return true;
    }
    let output = Command::new("bash")
        .args(["-n", "-c", command])
        .stdin(Stdio::null())
        .output()
        .expect("bash can be run");
    let said = String::from_utf8_lossy(&output.stderr);
    [
        "unexpected end of file",
        "unexpected EOF",
        "delimited by end-of-file",
    ]
    .iter()
    .any(|it| said.contains(it))
}

/// Whether `found` reads as `expected`, where `…` stands for anything.
fn reads_as(found: &str, expected: &str) -> bool {
    let plain = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let (found, expected) = (plain(found), plain(expected));
    // The gap takes the blanks beside it along: `{ … }` also stands for `{}`.
    let parts: Vec<&str> = expected.split('…').map(str::trim).collect();
    let [first, between @ .., last] = parts.as_slice() else {
        return found == expected;
    };
    let Some(mut rest) = found.strip_prefix(first) else {
        return false;
    };
    for part in between {
        let Some(at) = rest.find(part) else {
            return false;
        };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

/// Stands in for cargo, git-clone-fresh: builds nothing, since the binary under test is built.
const CARGO: &str = r#"#!/usr/bin/env bash
# What the README calls `cargo`: the binary under test in its place.
set -u
if [[ "${1-}" == build ]]; then exit 0; fi
if [[ "${1-} ${2-}" != "run --release" ]]; then echo "cargo: not in the README's first minute: $*" >&2; exit 64; fi
shift 2
[[ "${1-}" == -- ]] && shift
if [[ $# -gt 0 && "$1" != serve && "$1" != -* ]]; then exec "$PORTCULLIS_BINARY" "$@"; fi
# A server, which a newcomer would leave running in another terminal.
log=$(mktemp "$PORTCULLIS_SCRATCH/server.XXXXXX")
"$PORTCULLIS_BINARY" "$@" >"$log" 2>"$log.err" &
server=$!
echo $server >>"$PORTCULLIS_SCRATCH/servers"
for _ in $(seq 600); do
    if grep -q '^root token:' "$log"; then cat "$log"; exit 0; fi
    kill -0 $server 2>/dev/null || break
    sleep 0.05
done
cat "$log" "$log.err"
exit 1
"#;

/// Stands in for redis-server: runs the real one, not as a daemon but as a process that is known and ended.
const REDIS: &str = r#"#!/usr/bin/env bash
set -u
dir=$(mktemp -d "$PORTCULLIS_SCRATCH/redis.XXXXXX")
"$PORTCULLIS_REDIS_PROGRAM" "$@" --daemonize no --dir "$dir" >"$dir/log" 2>&1 &
server=$!
echo $server >>"$PORTCULLIS_SCRATCH/servers"
for _ in $(seq 600); do
    if grep -q 'Ready to accept connections' "$dir/log"; then exit 0; fi
    kill -0 $server 2>/dev/null || break
    sleep 0.05
done
cat "$dir/log"
exit 1
"#;

/// How a step went.
#[derive(Debug)]
struct Ran {
    code: i32,
    output: String,
}

/// Runs the steps in one shell in a new directory; answers how each went.
fn run(
    steps: &[Step],
    grpcurl: Option<&Path>,
    redis: Option<&OsStr>,
) -> Result<Vec<Ran>, support::Missing> {
    let mut shell = support::unshare("bash".as_ref())?;
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let (tools, home) = (
        scratch.path().join("tools"),
        scratch.path().join("portcullis"),
    );
    fs::create_dir(&tools).expect("a directory");
    fs::create_dir_all(home.join("target/release")).expect("a directory");
    let binary = Path::new(env!("CARGO_BIN_EXE_portcullis"));
    for (name, text) in [("cargo", CARGO), ("redis-server", REDIS)] {
        let tool = tools.join(name);
        fs::write(&tool, text).expect("a file");
        fs::set_permissions(&tool, fs::Permissions::from_mode(0o755)).expect("its mode");
    }
    for link in [
        tools.join("portcullis"),
        home.join("target/release/portcullis"),
    ] {
        symlink(binary, link).expect("a link");
    }
    symlink(
        concat!(env!("CARGO_MANIFEST_DIR"), "/deploy"),
        home.join("deploy"),
    )
    .expect("a link");
    if let Some(grpcurl) = grpcurl {
        symlink(grpcurl, tools.join("grpcurl")).expect("a link");
    }

    let mut script = String::from(
        "trap '[[ ! -e $PORTCULLIS_SCRATCH/servers ]] || kill -9 $(cat \"$PORTCULLIS_SCRATCH/servers\")' EXIT\n",
    );
    for (n, step) in steps.iter().enumerate() {
        let at = |what: &str| scratch.path().join(format!("{n}.{what}"));
        fs::write(at("command"), &step.command).expect("a file");
        // In the shell itself and not in a child, so that variables stay.
        let _ = writeln!(
            script,
            "eval \"$(cat '{}')\" >'{}' 2>&1 </dev/null",
            at("command").display(),
            at("output").display()
        );
        let _ = writeln!(script, "echo $? >'{}'", at("code").display());
    }
    let path = std::env::var("PATH").unwrap_or_default();
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PORTCULLIS_") {
            shell.env_remove(name);
        }
    }
    let output = shell
        .args(["--norc", "-c", &script])
        .current_dir(&home)
        .env("PATH", format!("{}:{path}", tools.display()))
        .env("HOME", scratch.path())
        .env("PORTCULLIS_BINARY", binary)
        .env("PORTCULLIS_SCRATCH", scratch.path())
        .env("PORTCULLIS_REDIS_PROGRAM", redis.unwrap_or_default())
        .stdin(Stdio::null())
        .output()
        .expect("a shell can be run");
    let read = |name: String| fs::read_to_string(scratch.path().join(name)).ok();
    let ran: Vec<Ran> = (0..steps.len())
        .map_while(|n| {
            let code = read(format!("{n}.code"))?.trim().parse().ok()?;
            Some(Ran {
                code,
                output: read(format!("{n}.output"))?,
            })
        })
        .collect();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(ran.len(), steps.len(), "the shell ended early: {said}");
    Ok(ran)
}

/// What differs from what the document shows.
fn differences(steps: &[Step], ran: &[Ran]) -> Vec<String> {
    steps
        .iter()
        .zip(ran)
        .filter(|(step, ran)| {
            let shown = !step.expected.trim().is_empty();
            if shown { !reads_as(&ran.output, &step.expected) } else { ran.code != 0 }
        })
        .map(|(step, ran)| {
            let Step { line, command, expected } = step;
            let Ran { code, output } = ran;
            format!("line {line}: $ {command}\nprinted (exit code {code}):\n{output}\nshown:\n{expected}")
        })
        .collect()
}

/// Runs a document of the repository; panics with whatever is not as it shows.
#[track_caller]
fn paste(document: &Path) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(document);
    let markdown = fs::read_to_string(path).expect("the document can be read");
    let steps = steps(&markdown);
    assert!(
        steps
            .iter()
            .any(|step| step.command == "cargo run --release"),
        "{}: starts the server in a console block: {steps:?}",
        document.display()
    );
    let uses_grpcurl = steps.iter().any(|step| step.command.contains("grpcurl"));
    let grpcurl = if uses_grpcurl {
        let Ok(grpcurl) = support::grpcurl() else {
            return;
        };
        Some(grpcurl)
    } else {
        None
    };
    let uses_redis = steps
        .iter()
        .any(|step| step.command.starts_with("redis-server"));
    let redis = if uses_redis {
        let Ok(redis) = support::redis_server() else {
            return;
        };
        Some(redis)
    } else {
        None
    };
    let Ok(ran) = run(&steps, grpcurl.as_deref(), redis.as_deref()) else {
        return;
    };
    let differences = differences(&steps, &ran);
    assert!(
        differences.is_empty(),
        "{}\n{}",
        document.display(),
        differences.join("\n\n")
    );
}

#[test]
fn the_readme_can_be_pasted() {
    paste("README.md".as_ref());
}

#[test]
fn every_example_can_be_pasted() {
    let examples = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/examples");
    let mut count = 0;
    for example in fs::read_dir(examples).expect("there are examples") {
        let name = example.expect("it can be read").file_name();
        paste(&Path::new("deploy/examples").join(name).join("README.md"));
        count += 1;
    }
    assert!(count > 0, "there is an example");
}

#[test]
fn blocks_are_read_as_they_are_written() {
    let markdown = "\
```sh
$ not this one
```
```console
$ A=1
$ echo \"$A\" \\
>   two
1 two
$ cat <<END
text
END
text
$ tests/run
$ echo 'one
two'
one
two
```
```
```console
```
";
    let found: Vec<_> = steps(markdown)
        .into_iter()
        .map(|step| (step.line, step.command, step.expected))
        .collect();
    let due = [
        (5, "A=1", ""),
        (6, "echo \"$A\" \\\n  two", "1 two\n"),
        (9, "cat <<END\ntext\nEND", "text\n"),
        (14, "echo 'one\ntwo'", "one\ntwo\n"),
    ];
    assert_eq!(
        found,
        due.map(|(line, command, expected)| (line, command.to_owned(), expected.to_owned()))
    );
}

#[test]
fn a_gap_stands_for_anything_and_nothing_else_does() {
    for (found, expected, reads) in [
        ("{\n  \"a\": 1,\n  \"b\": 2\n}\n", "{ \"a\": 1, … }", true),
        ("{\n  \"a\": 1\n}\n", "{ \"a\": 1, … }", false),
        ("{\n  \"a\": 1\n}\n", "{ \"a\": 1 … }", true),
        ("pc_abc_def", "pc_…_…", true),
        ("pc_abc", "pc_…_…", false),
        ("x pc_abc_def", "pc_…_…", false),
        ("pc_abc_def", "pc_…", true),
        ("anything\nat all", "…", true),
        ("same", "same", true),
        ("same or not", "same", false),
    ] {
        assert_eq!(
            reads_as(found, expected),
            reads,
            "{found:?} as {expected:?}"
        );
    }
}

#[test]
fn a_readme_that_is_wrong_is_found_out() {
    let markdown = "\
```console
$ GREETING=hello
$ echo \"$GREETING\"
hello
$ echo \"$GREETING\"
goodbye
$ false
$ false
…
```
";
    let steps = steps(markdown);
    let Ok(ran) = run(&steps, None, None) else {
        return;
    };
    let found = differences(&steps, &ran);
    let lines: Vec<_> = found.iter().filter_map(|it| it.split(':').next()).collect();
    assert_eq!(lines, ["line 5", "line 7"], "{found:?}");
}

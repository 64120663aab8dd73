mod admins;
mod audits;
mod checks;
mod fake;
mod fleets;
mod keys;
mod lives;
mod looks;
mod offline;
mod workspaces;

use std::path::Path;

use clap::CommandFactory as _;
use tempfile::TempDir;
use tonic::Status;
use tonic_types::{ErrorDetails, StatusExt as _};

use super::*;
use fake::Fake;

pub(super) const KEY_ID: &str = "0123456789abcdefghijkl";

/// A well-formed token of [`KEY_ID`].
pub(super) fn token() -> String {
    use crate::domain::{base62, credential};
    let digits = [b'q'; credential::SECRET_DIGITS];
    let checksum = base62::encode_u32(credential::crc(KEY_ID.as_bytes(), &digits));
    format!(
        "pc_{KEY_ID}_{}{}",
        String::from_utf8_lossy(&digits),
        String::from_utf8_lossy(&checksum)
    )
}

/// What a command did.
struct Ran {
    status: u8,
    out: String,
    err: String,
}

/// The world a command runs in.
struct World {
    data_dir: TempDir,
    fake: Fake,
    env: Vec<(&'static str, String)>,
    /// What a person types; without it there is no terminal.
    answers: Option<&'static str>,
    out_terminal: bool,
    err_terminal: bool,
}

impl World {
    /// With a server on the admin socket.
    fn new() -> Self {
        let world = Self::without_server();
        world.fake.on_admin_socket(world.data_dir.path());
        world
    }

    fn without_server() -> Self {
        Self {
            data_dir: TempDir::new().unwrap(),
            fake: Fake::new(),
            env: Vec::new(),
            answers: None,
            out_terminal: false,
            err_terminal: false,
        }
    }

    fn data_dir(&self) -> &Path {
        self.data_dir.path()
    }

    async fn run(&self, arguments: &[&str]) -> Ran {
        let data_dir = format!("--data-dir={}", self.data_dir().display());
        let arguments = ["portcullis"]
            .iter()
            .chain(arguments)
            .copied()
            .chain([data_dir.as_str()]);
        let cli = match Cli::try_parse_from(arguments) {
            Ok(cli) => cli,
            Err(error) => {
                return Ran {
                    status: 2,
                    out: String::new(),
                    err: error.to_string(),
                };
            }
        };
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut console = Console {
            out: &mut out,
            err: &mut err,
            stdin: &mut self.answers.unwrap_or_default().as_bytes(),
            terminal: self.answers.is_some(),
            out_terminal: self.out_terminal,
            err_terminal: self.err_terminal,
            env: &|name| {
                self.env
                    .iter()
                    .find(|(known, _)| *known == name)
                    .map(|(_, value)| value.into())
            },
            now: "2026-06-01T12:00:00+02:00[Europe/Berlin]".parse().unwrap(),
            command_name: "portcullis",
        };
        let Some(Command::Call(command)) = cli.command else {
            panic!("not a command that talks to a server")
        };
        let result = call(command, &mut console).await;
        let text = |bytes| String::from_utf8(bytes).unwrap();
        match result {
            Ok(Outcome::Done) => Ran {
                status: 0,
                out: text(out),
                err: text(err),
            },
            Ok(Outcome::Denied) => Ran {
                status: 3,
                out: text(out),
                err: text(err),
            },
            Ok(Outcome::Broken) => Ran {
                status: 1,
                out: text(out),
                err: text(err),
            },
            Err(failure) => Ran {
                status: failure.exit_status(),
                out: text(out),
                err: format!("{}{failure}", text(err)),
            },
        }
    }

    fn calls(&self) -> Vec<String> {
        std::mem::take(&mut self.fake.lock().calls)
    }
}

#[test]
fn the_command_line_is_well_formed() {
    Cli::command().debug_assert();
}

#[test]
fn every_shell_gets_completions_of_every_command() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let cli = Cli::try_parse_from(["portcullis", "completions", shell]).unwrap();
        let Some(Command::Completions(args)) = cli.command else {
            panic!("not completions")
        };
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut console = Console {
            out: &mut out,
            err: &mut err,
            stdin: &mut io::empty(),
            terminal: false,
            out_terminal: false,
            err_terminal: false,
            env: &|_| None,
            now: "2026-06-01T12:00:00+02:00[Europe/Berlin]".parse().unwrap(),
            command_name: "target/debug/portcullis",
        };
        completions::run(&args, &mut console).unwrap();
        let script = String::from_utf8(out).unwrap();
        for word in ["portcullis", "end-overlap", "audit", "export", "overlap"] {
            assert!(script.contains(word), "{shell}: no {word}");
        }
    }
    assert!(Cli::try_parse_from(["portcullis", "completions", "sh"]).is_err());
}

#[test]
fn no_command_is_serve() {
    assert!(
        Cli::try_parse_from(["portcullis"])
            .unwrap()
            .command
            .is_none()
    );
}

#[test]
fn the_help_of_serve_names_every_variable() {
    let help = Cli::try_parse_from(["portcullis", "serve", "--help"])
        .unwrap_err()
        .to_string();
    for setting in Setting::ALL {
        assert!(
            help.contains(&setting.variable()),
            "{} is not in\n{help}",
            setting.variable()
        );
        assert!(
            help.contains(&format!("--{}", setting.name())),
            "--{} is not in\n{help}",
            setting.name()
        );
    }
}

#[tokio::test]
async fn the_root_token_goes_to_loopback_and_needs_no_asking() {
    let world = World::without_server();
    fs::write(world.data_dir().join("root.token"), "pc_root_secret\n").unwrap();
    let address = world.fake.on_tcp().await.to_string();
    assert_eq!(
        world
            .run(&["key", "get", KEY_ID, "--server", &address])
            .await
            .status,
        0
    );
    assert!(world.calls()[0].starts_with("Bearer pc_root_secret "));
}

#[tokio::test]
async fn the_admin_socket_is_found_and_gets_no_token_unasked() {
    let world = World::new();
    fs::write(world.data_dir().join("root.token"), "pc_stale_secret\n").unwrap();
    assert_eq!(world.run(&["key", "get", KEY_ID]).await.status, 0);
    assert!(world.calls()[0].starts_with("- "));
}

#[tokio::test]
async fn the_variable_beats_the_token_file() {
    let mut world = World::new();
    let file = world.data_dir().join("token");
    fs::write(&file, "pc_file").unwrap();
    let arguments = ["key", "get", KEY_ID, "--token-file", file.to_str().unwrap()];
    world.run(&arguments).await;
    assert!(world.calls()[0].starts_with("Bearer pc_file "));
    world.env.push(("PORTCULLIS_TOKEN", "pc_variable".into()));
    world.run(&arguments).await;
    assert!(world.calls()[0].starts_with("Bearer pc_variable "));
    world.env[0].1 = "two words".into();
    let ran = world.run(&arguments).await;
    assert!(
        ran.err.contains("PORTCULLIS_TOKEN holds no token") && !ran.err.contains("two words"),
        "{}",
        ran.err
    );
    assert!(world.calls().is_empty());
}

#[tokio::test]
async fn a_token_may_be_given_as_an_authorization_value() {
    let mut world = World::new();
    for value in ["Bearer pc_variable", "bearer  pc_variable\n"] {
        world.env = vec![("PORTCULLIS_TOKEN", value.into())];
        world.run(&["key", "get", KEY_ID]).await;
        assert!(world.calls()[0].starts_with("Bearer pc_variable "));
    }
    world.env = vec![("PORTCULLIS_TOKEN", "Bearer ".into())];
    let ran = world.run(&["key", "get", KEY_ID]).await;
    assert!(ran.err.contains("holds no token"), "{}", ran.err);
}

#[tokio::test]
async fn an_empty_variable_counts_as_unset() {
    let mut world = World::new();
    for name in ["PORTCULLIS_TOKEN_FILE", "PORTCULLIS_SERVER"] {
        world.env.push((name, String::new()));
    }
    let ran = world.run(&["key", "get", KEY_ID]).await;
    assert_eq!(ran.status, 0, "{}", ran.err);
    assert!(world.calls()[0].starts_with("- "));
}

/// A script that failed to get its token must not go on with more power than that token has.
#[tokio::test]
async fn an_empty_token_is_not_taken_for_none() {
    let mut world = World::new();
    world.env = vec![("PORTCULLIS_TOKEN", String::new())];
    let ran = world.run(&["key", "get", KEY_ID]).await;
    assert_eq!(ran.status, 1);
    assert!(
        ran.err.contains("PORTCULLIS_TOKEN holds no token"),
        "{}",
        ran.err
    );
    assert!(world.calls().is_empty());
}

#[tokio::test]
async fn a_server_and_a_token_file_may_be_named_by_variables() {
    let mut world = World::without_server();
    let file = world.data_dir().join("token");
    fs::write(&file, "pc_file").unwrap();
    let address = world.fake.on_tcp().await.to_string();
    world.env = vec![
        ("PORTCULLIS_SERVER", address),
        ("PORTCULLIS_TOKEN_FILE", file.display().to_string()),
    ];
    let ran = world.run(&["key", "get", KEY_ID]).await;
    assert_eq!(ran.status, 0, "{}", ran.err);
    assert!(world.calls()[0].starts_with("Bearer pc_file "));
}

#[tokio::test]
async fn a_timeout_is_whole_seconds() {
    let world = World::without_server();
    for timeout in ["0.5", "0", "-1", "soon", "86401"] {
        let ran = world.run(&["key", "list", "--timeout", timeout]).await;
        assert_eq!(ran.status, 2);
        assert!(ran.err.contains("whole seconds, 1 to 86400"), "{}", ran.err);
    }
}

#[tokio::test]
async fn without_a_server_the_failure_says_what_was_tried_and_what_to_do() {
    let world = World::without_server();
    let ran = world.run(&["key", "list", "--server", "127.0.0.1:1"]).await;
    assert_eq!(ran.status, 1);
    assert!(
        ran.err.contains("127.0.0.1:1") && ran.err.contains("refused"),
        "{}",
        ran.err
    );
    assert!(
        ran.err.contains("portcullis serve") && ran.out.is_empty(),
        "{}",
        ran.err
    );
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_given_up() {
    let world = World::without_server();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let ran = world
        .run(&["key", "list", "--server", &address, "--timeout", "1"])
        .await;
    assert_eq!(ran.status, 1);
    assert!(ran.err.contains("no answer in time"), "{}", ran.err);
}

#[tokio::test]
async fn a_server_that_is_none_of_ours_is_named_as_such() {
    use tokio::io::AsyncWriteExt as _;
    let world = World::without_server();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    let ran = world.run(&["key", "list", "--server", &address]).await;
    assert_eq!(ran.status, 1);
    assert!(ran.err.contains("the connection failed"), "{}", ran.err);
}

#[tokio::test]
async fn a_refusal_shows_message_reason_and_fields_but_no_escapes() {
    let world = World::new();
    let mut details = ErrorDetails::with_error_info("INVALID_FIELD", "portcullis.dev", []);
    details.add_bad_request_violation("key.display_name", "must not contain \u{1b}[2J");
    let status = Status::with_error_details(
        tonic::Code::InvalidArgument,
        "the request is\u{7} malformed",
        details,
    );
    world.fake.lock().refuse = Some(status);
    let ran = world.run(&["key", "get", KEY_ID]).await;
    assert_eq!(ran.status, 1);
    assert_eq!(
        ran.err,
        "error: the request is\u{fffd} malformed [INVALID_FIELD]\n  key.display_name: must not contain \u{fffd}[2J\n"
    );
}

#[tokio::test]
async fn a_field_that_the_message_names_is_not_named_twice() {
    let world = World::new();
    let mut details = ErrorDetails::with_error_info("INVALID_FIELD", "portcullis.dev", []);
    details.add_bad_request_violation("key.name", "must be short");
    let status = Status::with_error_details(
        tonic::Code::InvalidArgument,
        "key.name: must be short",
        details,
    );
    world.fake.lock().refuse = Some(status);
    let ran = world.run(&["key", "get", KEY_ID]).await;
    assert_eq!(ran.err, "error: key.name: must be short [INVALID_FIELD]\n");
}

#[tokio::test]
async fn a_refusal_without_details_is_shown_too() {
    let world = World::new();
    world.fake.lock().refuse = Some(Status::unimplemented(""));
    let ran = world.run(&["key", "get", KEY_ID]).await;
    assert!(
        ran.err.contains("[Unimplemented]") && ran.err.contains("--server"),
        "{}",
        ran.err
    );
}

#[tokio::test]
async fn each_refusal_comes_with_advice() {
    let world = World::new();
    for (reason, metadata, says) in [
        ("REQUEST_ID_REUSED", &[][..], "take a new one"),
        ("KEY_ARCHIVED", &[], "only be deleted"),
        (
            "WORKSPACE_NOT_EMPTY",
            &[("resource", "workspaces/acme")],
            "`key list --archived -w acme`",
        ),
        ("WORKSPACE_RESERVED", &[], "Portcullis itself"),
        (
            "DECLARATION_IN_USE",
            &[
                ("resource", "workspaces/acme/keys/a\u{1b}"),
                ("field", "permissions: sms.send"),
            ],
            "workspaces/acme/keys/a\u{fffd} holds permissions: sms.send",
        ),
        ("LAST_ROOT", &[], "another root"),
        ("GRANT_EXCEEDS_CALLER", &[], "--expires no later"),
        ("CALLER_NOT_PERMITTED", &[], "unless --workspace"),
        ("REVISION_AHEAD", &[], "another store"),
    ] {
        let metadata = metadata.iter().map(|(name, value)| (*name, *value));
        let metadata: std::collections::HashMap<_, _> = metadata
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let details = ErrorDetails::with_error_info(reason, "portcullis.dev", metadata);
        let status = Status::with_error_details(tonic::Code::FailedPrecondition, "no", details);
        world.fake.lock().refuse = Some(status);
        let ran = world.run(&["key", "get", KEY_ID]).await;
        assert_eq!(ran.status, 1);
        assert!(
            ran.err.contains(&format!("[{reason}]\nhint: ")) && ran.err.contains(says),
            "{reason}: {}",
            ran.err
        );
    }
}

#[tokio::test]
async fn a_hint_about_the_workspace_is_for_who_named_none() {
    let world = World::new();
    let refuse = |resource: String| {
        let metadata = [("resource".to_owned(), resource)];
        let details =
            ErrorDetails::with_error_info("RESOURCE_NOT_FOUND", "portcullis.dev", metadata);
        let status = Status::with_error_details(tonic::Code::NotFound, "not there", details);
        world.fake.lock().refuse = Some(status);
    };
    let name = format!("workspaces/acme/keys/{KEY_ID}");
    refuse(name.clone());
    for (arguments, hinted) in [
        (&["get", KEY_ID][..], true),
        (&["delete", &token(), "--yes"], true),
        (&["get", KEY_ID, "-w", "acme"], false),
        (&["enable", &name], false),
    ] {
        let ran = world.run(&[&["key"], arguments].concat()).await;
        assert_eq!(
            ran.err.contains("unless --workspace"),
            hinted,
            "{}",
            ran.err
        );
    }
    refuse("workspaces/acme".to_owned());
    let ran = world.run(&["key", "list", "-w", "acme"]).await;
    assert!(
        ran.err.contains("`workspace list`") && ran.err.contains("`workspace create`"),
        "{}",
        ran.err
    );
}

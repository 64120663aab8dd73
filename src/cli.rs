//! The command line: `portcullis serve`, and a client of the management and Check API.
//!
//! Answers go to stdout, everything else to stderr. Exit status: 0 done (`check`: allowed), 1 an error (`audit verify`:
//! or a broken chain), 2 a wrong command line or a question that nobody could be asked, 3 `check`: denied.

mod admin;
mod audit;
mod bind;
mod change_flags;
mod check;
mod client;
mod completions;
mod config_check;
mod confirm;
mod console;
mod durable_file;
mod expires;
mod failure;
mod fleet;
mod fleet_store;
mod init;
mod key;
mod key_ref;
mod output;
mod page;
mod root;
pub mod serve;
mod values;
mod workspace;

use std::{
    ffi::OsString,
    fs,
    io::{self, BufWriter, IsTerminal as _, Write as _},
    process::ExitCode,
};

use clap::{
    Parser, Subcommand,
    error::{ContextKind, ContextValue, ErrorKind},
};
use jiff::Zoned;

use crate::config::{InitFlags, ServeFlags, Setting, Settings};
use console::{Console, clean};
use failure::Failure;

const EXIT_STATUS: &str = "\
Exit status:
  0  done; check: allowed
  1  an error; audit verify: or a broken chain
  2  a wrong command line, or a question that nobody could be asked
  3  check: denied

A variable that is set but empty counts as unset (an empty PORTCULLIS_ROOT_TOKEN or PORTCULLIS_TOKEN is refused).";

/// Portcullis answers whether an API key opens a call, and manages the keys.
///
/// Without a command it serves, with the defaults that `serve --help` lists.
#[derive(Debug, Parser)]
#[command(name = "portcullis", version, after_help = EXIT_STATUS)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serves Check, management and the probes
    Serve(Box<ServeFlags>),
    /// Makes the store of a fleet in its Redis, once, and a root credential for it
    #[command(after_help = init::HELP)]
    Init(Box<InitFlags>),
    #[command(flatten)]
    Call(CallCommand),
    /// Looks at the settings
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Prints a script that completes this program's commands in a shell
    Completions(completions::CompletionsArgs),
}

/// What talks to a server.
#[derive(Debug, Subcommand)]
enum CallCommand {
    /// Creates and runs keys
    Key(Box<key::KeyArgs>),
    /// Creates and runs workspaces
    Workspace(Box<workspace::WorkspaceArgs>),
    /// Shows, exports and verifies who changed what
    Audit(Box<audit::AuditArgs>),
    /// Shows the replicas, and waits for them
    Fleet(Box<fleet::FleetArgs>),
    /// Makes admin credentials
    Admin(Box<admin::AdminArgs>),
    /// Gets back in when the root token is lost
    Root(Box<root::RootArgs>),
    /// Asks whether a key opens a call; exits 0 if it does, 3 if it does not, 1 if that is not known
    Check(Box<check::CheckArgs>),
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Prints the settings that `serve` would run with and where each comes from, or every fault in them
    Check(Box<ServeFlags>),
}

/// How a command ended that met no error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Done,
    Denied,
    /// The chain of events is broken.
    Broken,
}

/// Runs the command line of this process.
#[must_use]
pub fn run() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let cli = match parse(&arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Help goes to stdout and is no error. If it cannot be written there is nobody left to tell.
            let _ = if error.use_stderr() {
                // clap repeats the word it did not expect, which may be a token in the wrong place.
                io::stderr().write_all(key_ref::without_secrets(&error.to_string()).as_bytes())
            } else {
                error.print()
            };
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let command_name = arguments.first().map_or_else(
        || "portcullis".into(),
        |name| clean(&name.to_string_lossy()),
    );
    let mut answers = io::stdin().lock();
    // A question is asked only where it can be seen and answered.
    let terminal = io::stdin().is_terminal() && io::stderr().is_terminal();
    // Not locked: `serve` writes to stdout too.
    let mut out = BufWriter::new(io::stdout());
    let mut console = Console {
        out: &mut out,
        err: &mut io::stderr(),
        stdin: &mut answers,
        terminal,
        out_terminal: io::stdout().is_terminal(),
        err_terminal: io::stderr().is_terminal(),
        env: &|name| std::env::var_os(name),
        now: Zoned::now(),
        command_name: &command_name,
    };
    let result = dispatch(cli, &mut console);
    let result = console.out.flush().map_err(Failure::from).and(result);
    match result {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::Denied) => ExitCode::from(3),
        Ok(Outcome::Broken) => ExitCode::from(1),
        Err(failure) => {
            // As above: if stderr is gone, the exit status still tells.
            let _ = console.err.write_all(failure.to_string().as_bytes());
            ExitCode::from(failure.exit_status())
        }
    }
}

/// Reads the command line.
fn parse(arguments: &[OsString]) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(arguments).map_err(|mut error| {
        if let Some(flag) = flag_of_serve(arguments)
            && error.kind() == ErrorKind::UnknownArgument
        {
            let tip = format!("say `serve --{flag} …`: the settings are flags of `serve`");
            let tip = ContextValue::StyledStrs(vec![tip.into()]);
            error.insert(ContextKind::Suggested, tip);
        }
        error
    })
}

/// The flag of `serve` that stands where a command belongs.
fn flag_of_serve(arguments: &[OsString]) -> Option<&str> {
    let flag = arguments.get(1)?.to_str()?.strip_prefix("--")?;
    let flag = flag.split_once('=').map_or(flag, |(flag, _)| flag);
    (flag == "config" || Setting::from_name(flag).is_some()).then_some(flag)
}

fn dispatch(cli: Cli, console: &mut Console<'_>) -> Result<Outcome, Failure> {
    match cli
        .command
        .unwrap_or_else(|| Command::Serve(Box::default()))
    {
        Command::Serve(flags) => {
            let settings =
                Settings::resolve(&flags, console.env, &|path| fs::read_to_string(path))?;
            serve::serve(&settings, console.command_name)
                .map_err(|error| Failure::Failed(error.to_string()))?;
            Ok(Outcome::Done)
        }
        Command::Init(flags) => runtime()?.block_on(init::run(*flags, console)),
        Command::Config(ConfigCommand::Check(flags)) => config_check::run(&flags, console),
        Command::Completions(args) => completions::run(&args, console),
        Command::Call(command) => runtime()?.block_on(call(command, console)),
    }
}

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Failed(format!("cannot start the client: {error}")))
}

async fn call(command: CallCommand, console: &mut Console<'_>) -> Result<Outcome, Failure> {
    match command {
        CallCommand::Key(args) => key::run(*args, console).await,
        CallCommand::Workspace(args) => workspace::run(*args, console).await,
        CallCommand::Audit(args) => audit::run(*args, console).await,
        CallCommand::Fleet(args) => fleet::run(*args, console).await,
        CallCommand::Admin(args) => admin::run(*args, console).await,
        CallCommand::Root(args) => root::run(*args, console).await,
        CallCommand::Check(args) => check::run(*args, console).await,
    }
}

#[cfg(test)]
mod tests;

//! The command line.

mod bind;
pub mod serve;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::{ServeFlags, Settings};

#[derive(Parser)]
#[command(name = "portcullis", version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Serves (also without any command).
    Serve(ServeFlags),
}

/// Runs the command that the arguments name.
#[must_use]
pub fn run() -> ExitCode {
    let Command::Serve(flags) = Arguments::parse()
        .command
        .unwrap_or_else(|| Command::Serve(ServeFlags::default()));
    let settings = Settings::resolve(&flags, &|name| std::env::var_os(name), &|path| {
        std::fs::read_to_string(path)
    });
    let command = std::env::args()
        .next()
        .unwrap_or_else(|| "portcullis".to_owned());
    let ended = settings
        .map_err(|faults| faults.to_string())
        .and_then(|settings| serve::serve(&settings, &command).map_err(|error| error.to_string()));
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("portcullis: {error}");
            ExitCode::FAILURE
        }
    }
}

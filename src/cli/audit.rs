//! `portcullis audit`.

mod export;
mod list;
mod offline;
mod select;
mod verify;

use clap::{Args, Subcommand};

use super::{Outcome, client::ClientFlags, console::Console, failure::Failure};

pub(super) use list::{follow, summary};

#[derive(Debug, Args)]
pub(super) struct AuditArgs {
    #[command(flatten)]
    client: ClientFlags,
    #[command(subcommand)]
    command: AuditCommand,
}

#[derive(Debug, Subcommand)]
enum AuditCommand {
    /// Lists who changed what, newest first
    List(list::ListArgs),
    /// Writes events to a file or to stdout, oldest first
    Export(export::ExportArgs),
    /// Verifies the chain of all events; exits 0 if it is intact, 1 if it is broken
    Verify(verify::VerifyArgs),
    /// Verifies the chain and prints its head alone, to be kept elsewhere
    Head,
}

pub(super) async fn run(args: AuditArgs, console: &mut Console<'_>) -> Result<Outcome, Failure> {
    match args.command {
        AuditCommand::List(list) => list::run(&list, &args.client, console).await,
        AuditCommand::Export(export) => export::run(&export, &args.client, console).await,
        AuditCommand::Verify(verify) => verify::run(verify, &args.client, console).await,
        AuditCommand::Head => verify::head(&args.client, console).await,
    }
}

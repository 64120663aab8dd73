//! `portcullis fleet`.

use clap::{Args, Subcommand};

use super::{
    Outcome,
    client::{Client, ClientFlags},
    console::{Console, clean},
    failure::Failure,
    output::{Format, json, rows},
};
use crate::{
    domain::id::Revision,
    proto::v1::{AwaitRevisionRequest, ListReplicasRequest, Replica},
};

const COLUMNS: &str = "\
APPLIED is the revision that the replica decides on, LAG how many revisions it is behind. LEASE LEFT is how long it may go
on answering without hearing from the store; without a lease it answers UNAVAILABLE. DURABILITY is what a change survives
once it is acknowledged.";

const AWAIT_HELP: &str = "\
Exit status: 0 every replica decides on that state or a later one, 1 not in time (or an error), 2 a wrong command line.

Every call that changes something answers the revision of the change.";

#[derive(Debug, Args)]
pub(super) struct FleetArgs {
    #[command(flatten)]
    client: ClientFlags,
    #[command(subcommand)]
    command: FleetCommand,
}

#[derive(Debug, Subcommand)]
enum FleetCommand {
    /// Lists the replicas and how far each has come
    #[command(after_help = COLUMNS)]
    Status,
    /// Waits until every replica decides on the state at a revision; --timeout says how long
    #[command(after_help = AWAIT_HELP)]
    Await {
        /// A revision, as any change of a key answers it
        #[arg(value_parser = parse_revision)]
        revision: Revision,
    },
}

pub(super) async fn run(args: FleetArgs, console: &mut Console<'_>) -> Result<Outcome, Failure> {
    let client = Client::connect(&args.client, console).await?;
    let format = args.client.output;
    match args.command {
        FleetCommand::Status => {
            let request = ListReplicasRequest {};
            let answer = client.fleets().list_replicas(request).await?.into_inner();
            match format {
                Format::Json => json(console.out, "ListReplicasResponse", &answer)?,
                Format::Table => status(&answer.replicas, console)?,
            }
        }
        FleetCommand::Await { revision } => {
            let request = AwaitRevisionRequest {
                revision: revision.to_string(),
            };
            let mut fleet = client.fleets_within(args.client.fleet_timeout());
            let answer = fleet.await_revision(request).await?.into_inner();
            match format {
                Format::Json => json(console.out, "AwaitRevisionResponse", &answer)?,
                Format::Table => writeln!(
                    console.out,
                    "revision {} is in force on every replica",
                    clean(&answer.revision)
                )?,
            }
        }
    }
    Ok(Outcome::Done)
}

fn status(replicas: &[Replica], console: &mut Console<'_>) -> Result<(), Failure> {
    const HEADER: [&str; 6] = [
        "NAME",
        "INCARNATION",
        "APPLIED",
        "LAG",
        "LEASE LEFT",
        "DURABILITY",
    ];
    let mut table = vec![HEADER.map(str::to_owned)];
    table.extend(replicas.iter().map(row));
    rows(console.out, &table)
}

fn row(replica: &Replica) -> [String; 6] {
    /// Enough to tell a few replicas apart.
    const SHOWN: usize = 8;
    [
        replica.name.clone(),
        replica.incarnation.chars().take(SHOWN).collect(),
        replica.applied_revision.clone(),
        replica.lag.to_string(),
        lease_left(replica.lease_left.as_ref()),
        replica.store_durability.clone(),
    ]
}

fn lease_left(left: Option<&prost_types::Duration>) -> String {
    match left {
        None => "no end".to_owned(),
        Some(left) if left.seconds <= 0 && left.nanos <= 0 => "none".to_owned(),
        Some(left) => format!("{}.{}s", left.seconds, left.nanos / 100_000_000),
    }
}

/// Reads a revision.
fn parse_revision(text: &str) -> Result<Revision, String> {
    Revision::parse(text).ok_or_else(|| "write a revision as it was answered, such as 1.42".into())
}

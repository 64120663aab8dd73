//! `portcullis key`.

mod change;
mod create;
mod list;
mod log;
pub(super) mod show;
mod update;

use clap::{Args, Subcommand};

use super::{
    Outcome,
    change_flags::ChangeFlags,
    client::{Client, ClientFlags},
    console::Console,
    failure::Failure,
    key_ref::{self, Guarded},
};
use crate::{
    domain::name::KeyName,
    proto::v1::{GetKeyRequest, Key},
};

pub(super) use change::breakage;

const NAMING: &str = "\
KEY is a key id, workspaces/{workspace}/keys/{key id}, or a token, of which only the key id leaves this program.";

#[derive(Debug, Args)]
#[command(after_help = NAMING)]
pub(super) struct KeyArgs {
    /// The workspace that owns the key [default: default]
    #[arg(long, short, global = true, value_name = "W")]
    workspace: Option<String>,
    #[command(flatten)]
    client: ClientFlags,
    #[command(subcommand)]
    command: KeyCommand,
}

#[derive(Debug, Subcommand)]
enum KeyCommand {
    /// Creates a key and shows its token, this once
    Create(create::CreateArgs),
    /// Shows a key
    #[command(after_help = NAMING)]
    Get(KeyArg),
    /// Lists the keys of a workspace, or finds some of them; oldest first unless asked otherwise
    List(list::ListArgs),
    /// Changes a key
    Update(update::UpdateArgs),
    /// Makes a disabled key good again
    #[command(after_help = NAMING)]
    Enable(ChangeArgs),
    /// Disables a key: once this is done every Check refuses it
    #[command(after_help = NAMING)]
    Disable(change::AskedArgs),
    /// Replaces a key's secret and shows the new token, this once; the old one is refused at once, or after --overlap
    #[command(after_help = NAMING)]
    Reset(change::ResetArgs),
    /// Ends the overlap of a reset: once this is done only the newest secret is good
    #[command(after_help = NAMING)]
    EndOverlap(change::AskedArgs),
    /// Archives a key for good: every Check refuses it, and it can only be deleted
    #[command(after_help = NAMING)]
    Archive(change::AskedArgs),
    /// Deletes a key for good
    #[command(after_help = NAMING)]
    Delete(change::DeleteArgs),
    /// Shows who changed a key and how, newest first
    #[command(after_help = NAMING)]
    Log(log::LogArgs),
}

#[derive(Debug, Args)]
struct KeyArg {
    /// The key
    key: Guarded,
}

#[derive(Debug, Args)]
struct ChangeArgs {
    /// The key
    key: Guarded,
    #[command(flatten)]
    change: ChangeFlags,
}

/// What every key command needs.
struct Call<'a, 'b> {
    workspace: Option<&'a str>,
    client: &'a ClientFlags,
    console: &'a mut Console<'b>,
}

pub(super) async fn run(args: KeyArgs, console: &mut Console<'_>) -> Result<Outcome, Failure> {
    let call = Call {
        workspace: args.workspace.as_deref(),
        client: &args.client,
        console,
    };
    let named_bare = args.workspace.is_none() && args.command.names_bare_key();
    let result = match args.command {
        KeyCommand::Create(args) => create::run(args, call).await,
        KeyCommand::Get(args) => get(&args, call).await,
        KeyCommand::List(args) => list::run(&args, call).await,
        KeyCommand::Update(args) => update::run(args, call).await,
        KeyCommand::Enable(args) => change::enable(&args, call).await,
        KeyCommand::Disable(args) => change::disable(&args, call).await,
        KeyCommand::Reset(args) => change::reset(&args, call).await,
        KeyCommand::EndOverlap(args) => change::end_overlap(&args, call).await,
        KeyCommand::Archive(args) => change::archive(&args, call).await,
        KeyCommand::Delete(args) => change::delete(&args, call).await,
        KeyCommand::Log(args) => log::run(&args, call).await,
    };
    result.map_err(|failure| {
        if named_bare {
            failure.about_bare_key()
        } else {
            failure
        }
    })?;
    Ok(Outcome::Done)
}

impl KeyCommand {
    /// True if it is about keys, or a key, that are named without their workspace.
    fn names_bare_key(&self) -> bool {
        let key = match self {
            Self::Create(_) | Self::List(_) => return true,
            Self::Get(args) => &args.key,
            Self::Enable(args) => &args.key,
            Self::Update(args) => &args.key,
            Self::Disable(args) | Self::EndOverlap(args) | Self::Archive(args) => &args.key,
            Self::Log(args) => &args.key,
            Self::Reset(args) => &args.asked.key,
            Self::Delete(args) => &args.asked.key,
        };
        !key_ref::names_workspace(&key.0)
    }
}

impl Call<'_, '_> {
    /// The name of the key that the person means.
    fn name(&self, key: &Guarded) -> Result<KeyName, Failure> {
        key_ref::parse(&key.0, self.workspace).map_err(Failure::Usage)
    }

    async fn connect(&mut self) -> Result<Client, Failure> {
        Client::connect(self.client, self.console).await
    }
}

async fn get(args: &KeyArg, mut call: Call<'_, '_>) -> Result<(), Failure> {
    let name = call.name(&args.key)?;
    let client = call.connect().await?;
    let key = read(&client, &name).await?;
    show::key(&key, call.client.output, call.console)
}

async fn read(client: &Client, name: &KeyName) -> Result<Key, Failure> {
    Ok(client
        .keys()
        .get_key(GetKeyRequest {
            name: name.to_string(),
        })
        .await?
        .into_inner())
}

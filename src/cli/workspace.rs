//! `portcullis workspace`.

mod edit;
mod file;
mod show;

use std::num::NonZeroUsize;

use clap::{Args, Subcommand};

use super::{
    Outcome,
    change_flags::{ChangeFlags, RequestId},
    client::{Client, ClientFlags},
    confirm,
    console::Console,
    failure::Failure,
    key_ref::bare_workspace,
    output::{Format, few, shorten, time},
    page::{Listing, parse_limit, turn},
};
use crate::{
    domain::{id::WorkspaceId, name::of_workspace},
    proto::v1::{
        CreateWorkspaceRequest, DeleteWorkspaceRequest, GetWorkspaceRequest, ListWorkspacesRequest,
        UpdateWorkspaceRequest, Workspace,
    },
};

const FILE: &str = "\
FILE holds a workspace as `workspace get ID --output json` prints it. Settings are declared in it:
  {
    \"permissions\": [\"sms.send\", \"otp.send\"],
    \"settings\": [
      {\"name\": \"default_sender\", \"stringType\": {\"allowed\": [\"Acme\"]}, \"header\": \"x-sender\"},
      {\"name\": \"auto_replace\", \"enumType\": {\"values\": [\"OFF\", \"ON\"]}, \"defaultValue\": \"OFF\"}
    ]
  }";

#[derive(Debug, Args)]
pub(super) struct WorkspaceArgs {
    #[command(flatten)]
    client: ClientFlags,
    #[command(subcommand)]
    command: WorkspaceCommand,
}

#[derive(Debug, Subcommand)]
enum WorkspaceCommand {
    /// Creates a workspace
    #[command(after_help = FILE)]
    Create(CreateArgs),
    /// Shows a workspace and what it declares
    Get {
        /// Its id, or workspaces/ID
        id: String,
    },
    /// Lists the workspaces that you may see
    List {
        /// The most to list [default: all]
        #[arg(long, value_name = "N", value_parser = parse_limit, allow_negative_numbers = true)]
        limit: Option<NonZeroUsize>,
    },
    /// Changes a workspace, for all its keys at once
    #[command(after_help = FILE)]
    Update(UpdateArgs),
    /// Deletes a workspace that has no keys, archived ones included; its id can never be used again
    Delete(DeleteArgs),
}

#[derive(Debug, Args)]
struct CreateArgs {
    /// Its id: a lower-case letter, then up to 62 lower-case letters, digits and '-'
    id: String,
    #[command(flatten)]
    fields: edit::Fields,
    #[command(flatten)]
    request: RequestId,
}

#[derive(Debug, Args)]
struct UpdateArgs {
    /// Its id, or workspaces/ID
    id: String,
    #[command(flatten)]
    fields: edit::Fields,
    /// Empties a field: without permissions keys may hold any; may be repeated, and hold several between commas
    #[arg(long, value_name = "FIELD", value_delimiter = ',', value_enum)]
    clear: Vec<edit::Field>,
    #[command(flatten)]
    change: ChangeFlags,
}

#[derive(Debug, Args)]
struct DeleteArgs {
    /// Its id, or workspaces/ID
    id: String,
    /// Does not ask
    #[arg(long, short)]
    yes: bool,
    #[command(flatten)]
    change: ChangeFlags,
}

pub(super) async fn run(
    args: WorkspaceArgs,
    console: &mut Console<'_>,
) -> Result<Outcome, Failure> {
    let client = &args.client;
    match args.command {
        WorkspaceCommand::Create(args) => create(args, client, console).await?,
        WorkspaceCommand::Get { id } => {
            let id = parse_id(&id)?;
            let connected = Client::connect(client, console).await?;
            let workspace = read(&connected, &id).await?;
            show::workspace(&workspace, client.output, console)?;
        }
        WorkspaceCommand::List { limit } => list(client, limit, console).await?,
        WorkspaceCommand::Update(args) => update(args, client, console).await?,
        WorkspaceCommand::Delete(args) => delete(&args, client, console).await?,
    }
    Ok(Outcome::Done)
}

/// Reads the argument ID.
fn parse_id(text: &str) -> Result<WorkspaceId, Failure> {
    WorkspaceId::parse(bare_workspace(text)).map_err(|why| Failure::Usage(format!("ID {why}")))
}

async fn read(client: &Client, id: &WorkspaceId) -> Result<Workspace, Failure> {
    let request = GetWorkspaceRequest {
        name: of_workspace(id),
    };
    let response = client.workspaces().get_workspace(request).await?;
    Ok(response.into_inner())
}

async fn create(
    args: CreateArgs,
    flags: &ClientFlags,
    console: &mut Console<'_>,
) -> Result<(), Failure> {
    let id = parse_id(&args.id)?;
    let edit = edit::Edit::read(args.fields, &[], console)?;
    let request = CreateWorkspaceRequest {
        workspace_id: id.to_string(),
        // The file may be of another workspace, which the new one is to be like.
        workspace: Some(edit.settable()),
        request_id: args.request.to_proto(),
    };
    let client = Client::connect(flags, console).await?;
    let response = client.workspaces().create_workspace(request).await?;
    show::workspace(&response.into_inner(), flags.output, console)
}

async fn update(
    args: UpdateArgs,
    flags: &ClientFlags,
    console: &mut Console<'_>,
) -> Result<(), Failure> {
    let id = parse_id(&args.id)?;
    let edit = edit::Edit::read(args.fields, &args.clear, console)?;
    let update_mask = edit.mask()?;
    let mut workspace = edit.for_update(&id)?;
    // The file's etag, if it has one, is that of what the person edited.
    workspace.etag = args.change.etag_after_reading(workspace.etag);
    let request = UpdateWorkspaceRequest {
        workspace: Some(workspace),
        update_mask: Some(update_mask),
        request_id: args.change.request_id(),
    };
    let client = Client::connect(flags, console).await?;
    let response = client.workspaces().update_workspace(request).await?;
    show::workspace(&response.into_inner(), flags.output, console)
}

async fn delete(
    args: &DeleteArgs,
    flags: &ClientFlags,
    console: &mut Console<'_>,
) -> Result<(), Failure> {
    let id = parse_id(&args.id)?;
    let (client, etag) = if args.yes {
        (Client::connect(flags, console).await?, args.change.etag())
    } else {
        confirm::require_terminal(console, "--yes")?;
        let client = Client::connect(flags, console).await?;
        let workspace = read(&client, &id).await?;
        show::summary(&workspace, console)?;
        confirm::ask(
            console,
            "It cannot be brought back, and its id can never be used again.\nDelete it?",
        )?;
        (client, args.change.etag_after_asking(workspace.etag))
    };
    let request = DeleteWorkspaceRequest {
        name: of_workspace(&id),
        etag,
        request_id: args.change.request_id(),
    };
    client.workspaces().delete_workspace(request).await?;
    match flags.output {
        Format::Json => writeln!(console.out, "{{}}")?,
        Format::Table => writeln!(console.out, "{} is deleted", of_workspace(&id))?,
    }
    Ok(())
}

async fn list(
    flags: &ClientFlags,
    limit: Option<NonZeroUsize>,
    console: &mut Console<'_>,
) -> Result<(), Failure> {
    let mut client = Client::connect(flags, console).await?.workspaces();
    let header = [
        "WORKSPACE",
        "NAME",
        "PREFIX",
        "PERMISSIONS",
        "SETTINGS",
        "CREATED",
    ];
    let mut request = ListWorkspacesRequest::default();
    let mut listing = Listing::begin(flags.output, ("workspaces", "Workspace"), header, limit)?;
    let zone = console.zone().clone();
    while let Some(page_size) = listing.wanted() {
        request.page_size = page_size;
        let page = client.list_workspaces(request.clone()).await?.into_inner();
        listing.page(console, &page.workspaces, |workspace| {
            [
                bare_workspace(&workspace.name).to_owned(),
                shorten(&workspace.display_name, 40),
                workspace.token_prefix.clone(),
                few(&workspace.permissions, "any"),
                show::setting_names(workspace),
                time(workspace.create_time.as_ref(), &zone, "-"),
            ]
        })?;
        if !turn(&mut request.page_token, page.next_page_token)? {
            break;
        }
    }
    listing.end(!request.page_token.is_empty(), console)
}

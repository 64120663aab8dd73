//! `portcullis workspace`.

use std::num::NonZeroUsize;

use clap::{Args, Subcommand};

use super::{
    Outcome,
    client::{Client, ClientFlags},
    console::Console,
    failure::Failure,
    key_ref::bare_workspace,
    output::{Format, json, rows, shorten, time},
    page::{Listing, parse_limit},
};
use crate::{
    domain::{
        id::{TokenPrefix, WorkspaceId},
        name,
    },
    proto::v1::{CreateWorkspaceRequest, GetWorkspaceRequest, ListWorkspacesRequest, Workspace},
};

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
    Create {
        /// Its id: a lower-case letter, then up to 62 lower-case letters, digits and '-'
        id: String,
        /// A name for people
        #[arg(long, default_value = "", hide_default_value = true)]
        name: String,
        /// What its tokens begin with: a lower-case letter, then up to 15 lower-case letters and digits [default: pc]
        #[arg(
            long,
            value_name = "PREFIX",
            default_value = "",
            hide_default_value = true
        )]
        token_prefix: String,
    },
    /// Shows a workspace
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
}

pub(super) async fn run(
    args: WorkspaceArgs,
    console: &mut Console<'_>,
) -> Result<Outcome, Failure> {
    let format = args.client.output;
    match args.command {
        WorkspaceCommand::Create {
            id,
            name,
            token_prefix,
        } => {
            let id = parse_id(&id)?;
            if !token_prefix.is_empty() {
                TokenPrefix::parse(&token_prefix)
                    .map_err(|why| Failure::Usage(format!("--token-prefix {why}")))?;
            }
            let workspace = Workspace {
                display_name: name,
                token_prefix,
                ..Workspace::default()
            };
            let request = CreateWorkspaceRequest {
                workspace_id: id.to_string(),
                workspace: Some(workspace),
                request_id: String::new(),
            };
            let client = Client::connect(&args.client, console).await?;
            let workspace = client
                .workspaces()
                .create_workspace(request)
                .await?
                .into_inner();
            show(&workspace, format, console)?;
        }
        WorkspaceCommand::Get { id } => {
            let id = parse_id(&id)?;
            let request = GetWorkspaceRequest {
                name: name::of_workspace(&id),
            };
            let client = Client::connect(&args.client, console).await?;
            let workspace = client
                .workspaces()
                .get_workspace(request)
                .await?
                .into_inner();
            show(&workspace, format, console)?;
        }
        WorkspaceCommand::List { limit } => list(&args.client, limit, console).await?,
    }
    Ok(Outcome::Done)
}

/// Reads the argument ID.
fn parse_id(text: &str) -> Result<WorkspaceId, Failure> {
    WorkspaceId::parse(bare_workspace(text)).map_err(|why| Failure::Usage(format!("ID {why}")))
}

async fn list(
    flags: &ClientFlags,
    limit: Option<NonZeroUsize>,
    console: &mut Console<'_>,
) -> Result<(), Failure> {
    let mut client = Client::connect(flags, console).await?.workspaces();
    let header = ["WORKSPACE", "NAME", "PREFIX", "CREATED"];
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
                time(workspace.create_time.as_ref(), &zone, "-"),
            ]
        })?;
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    listing.end(!request.page_token.is_empty(), console)
}

fn show(workspace: &Workspace, format: Format, console: &mut Console<'_>) -> Result<(), Failure> {
    if format == Format::Json {
        return json(console.out, "Workspace", workspace);
    }
    let zone = console.zone().clone();
    let table = [
        ["name", &workspace.name],
        ["display name", &workspace.display_name],
        ["token prefix", &workspace.token_prefix],
        ["created", &time(workspace.create_time.as_ref(), &zone, "-")],
        ["etag", &workspace.etag],
    ];
    rows(console.out, &table.map(|row| row.map(str::to_owned)))
}

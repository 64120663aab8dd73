//! `portcullis root`.

use std::{
    io::{self, Write as _},
    path::Path,
};

use clap::{Args, Subcommand};
use tonic::Status;

use super::{
    Outcome,
    client::{Client, ClientFlags},
    confirm,
    console::{Console, clean},
    durable_file::DurableFile,
    failure::Failure,
    key::{breakage, show},
    key_ref::{self, Guarded},
    output::{Format, json},
    page::turn,
};
use crate::{
    admin::bootstrap::ROOT_TOKEN_FILE,
    domain::{
        id::{SYSTEM_WORKSPACE, WorkspaceId},
        name::{KeyName, of_workspace},
        permission::ANY,
    },
    proto::v1::{
        CreateKeyRequest, IssuedKey, Key, ListKeysRequest, ResetSecretRequest, key::State,
    },
    status::take_issued_key,
};

const HELP: &str = "\
It works over the admin socket alone, as the user that the server runs as or as root of the machine, and needs no token.
A root is a key of the workspace system that is ACTIVE, holds exactly '*', never expires and may be used from anywhere.
If there is one its secret is replaced; if there is none a new root is created; if there are several, name one.";

#[derive(Debug, Args)]
pub(super) struct RootArgs {
    #[command(flatten)]
    client: ClientFlags,
    #[command(subcommand)]
    command: RootCommand,
}

#[derive(Debug, Subcommand)]
enum RootCommand {
    /// Gives a root a new token and writes it to root.token in the data directory; the old token is refused at once
    #[command(after_help = HELP)]
    Reset {
        /// The root, if there are several
        key: Option<Guarded>,
        /// Does not ask
        #[arg(long, short)]
        yes: bool,
    },
}

pub(super) async fn run(args: RootArgs, console: &mut Console<'_>) -> Result<Outcome, Failure> {
    let RootCommand::Reset { key, yes } = args.command;
    let directory = args.client.admin_socket_directory(console)?;
    let named = key
        .map(|key| key_ref::parse(&key.0, Some(SYSTEM_WORKSPACE)))
        .transpose();
    let named = named.map_err(Failure::Usage)?;
    if !yes {
        confirm::require_terminal(console, "--yes")?;
    }
    let client = Client::connect(&args.client, console).await?;
    let roots = roots_in_force(&client).await?;
    let (issued, unsettled) = match choose(named.as_ref(), roots)? {
        Some(root) => reset(&root, yes, &client, console).await?,
        None => (create(yes, &client, console).await?, None),
    };
    hand_over(
        &issued,
        &directory.join(ROOT_TOKEN_FILE),
        args.client.output,
        console,
    )?;
    show::laggards(&issued.lagging_replicas, console);
    match unsettled {
        Some(status) => Err(status.into()),
        None => Ok(Outcome::Done),
    }
}

/// The keys that could manage everything from anywhere and for ever: the server keeps the last of them in force.
async fn roots_in_force(client: &Client) -> Result<Vec<Key>, Failure> {
    const PAGE: i32 = 1_000;
    let mut request = ListKeysRequest {
        parent: of_workspace(&WorkspaceId::system()),
        page_size: PAGE,
        ..ListKeysRequest::default()
    };
    let mut roots = Vec::new();
    loop {
        let page = client.keys().list_keys(request.clone()).await?.into_inner();
        roots.extend(page.keys.into_iter().filter(is_root_in_force));
        if !turn(&mut request.page_token, page.next_page_token)? {
            return Ok(roots);
        }
    }
}

fn is_root_in_force(key: &Key) -> bool {
    key.state() == State::Active
        && key.permissions == [ANY]
        && key.ip_allowlist.is_empty()
        && key.expire_time.is_none()
}

/// The root to reset; `None` if there is none and one is to be made.
fn choose(named: Option<&KeyName>, roots: Vec<Key>) -> Result<Option<Key>, Failure> {
    let list = |roots: &[Key]| {
        let lines = roots
            .iter()
            .map(|root| format!("\n  {}  {}", clean(&root.key_id), clean(&root.display_name)));
        lines.collect::<String>()
    };
    let Some(named) = named else {
        return match roots.len() {
            0 | 1 => Ok(roots.into_iter().next()),
            several => Err(Failure::Usage(format!(
                "there are {several} roots; name the one to reset, as KEY:{}",
                list(&roots)
            ))),
        };
    };
    let name = named.to_string();
    if let Some(root) = roots.iter().find(|root| root.name == name) {
        return Ok(Some(root.clone()));
    }
    Err(Failure::Failed(if roots.is_empty() {
        format!("{name} is no root in force, and there is no other; leave KEY out to create one")
    } else {
        format!("{name} is no root in force; these are:{}", list(&roots))
    }))
}

/// The new token, and the error that it came with if the old one may still open something.
async fn reset(
    root: &Key,
    yes: bool,
    client: &Client,
    console: &mut Console<'_>,
) -> Result<(IssuedKey, Option<Status>), Failure> {
    if !yes {
        show::summary(root, console)?;
        let question = format!("{}\nReplace its secret?", breakage(root));
        confirm::ask(console, &question)?;
    }
    let request = ResetSecretRequest {
        name: root.name.clone(),
        // What was looked at is what is reset: were it narrowed meanwhile, its token would be no root's.
        etag: root.etag.clone(),
        ..ResetSecretRequest::default()
    };
    match client.keys().reset_secret(request).await {
        Ok(response) => Ok((response.into_inner(), None)),
        // It is shown only now, whatever else is wrong.
        Err(mut status) => match take_issued_key(&mut status) {
            Some(issued) => Ok((issued, Some(status))),
            None => Err(status.into()),
        },
    }
}

async fn create(
    yes: bool,
    client: &Client,
    console: &mut Console<'_>,
) -> Result<IssuedKey, Failure> {
    if !yes {
        let question = "There is no root in force.\nCreate a new one?";
        confirm::ask(console, question)?;
    }
    let key = Key {
        display_name: "root".into(),
        description: "Made with `root reset`. Holds every permission.".into(),
        permissions: vec![ANY.to_owned()],
        ..Key::default()
    };
    let request = CreateKeyRequest {
        parent: of_workspace(&WorkspaceId::system()),
        key: Some(key),
        ..CreateKeyRequest::default()
    };
    Ok(client.keys().create_key(request).await?.into_inner())
}

/// Writes the token to its file and says where. It is shown only if it would be lost otherwise.
fn hand_over(
    issued: &IssuedKey,
    path: &Path,
    format: Format,
    console: &mut Console<'_>,
) -> Result<(), Failure> {
    let shown_path = clean(&path.display().to_string());
    if let Err(error) = write_token(path, &issued.token) {
        console.notice(&format!(
            "warning: {shown_path} cannot be written ({error}); the token is shown below, this once"
        ));
        return show::issued(issued, format, console);
    }
    let key = issued.key.clone().unwrap_or_default();
    match format {
        Format::Json => {
            json(console.out, "Key", &key)?;
            console.notice(&format!("the token of this root is in {shown_path}"));
        }
        Format::Table => writeln!(
            console.out,
            "the new token of {} is in {shown_path}",
            clean(&key.name)
        )?,
    }
    Ok(())
}

fn write_token(path: &Path, token: &str) -> io::Result<()> {
    let mut file = DurableFile::create(path)?;
    file.write_all(token.as_bytes())?;
    file.write_all(b"\n")?;
    file.keep()
}

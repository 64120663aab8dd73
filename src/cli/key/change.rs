//! `portcullis key enable`, `disable`, `reset` and `delete`.

use clap::Args;

use super::{Call, KeyArg, read, show};
use crate::{
    cli::{
        client::Client,
        confirm,
        console::clean,
        failure::Failure,
        key_ref::Guarded,
        output::{Format, json},
    },
    domain::name::KeyName,
    proto::v1::{
        DeleteKeyRequest, DisableKeyRequest, EnableKeyRequest, Key, ResetSecretRequest, key::State,
    },
};

#[derive(Debug, Args)]
pub(super) struct AskedArgs {
    /// The key
    pub(super) key: Guarded,
    /// Does not ask
    #[arg(long, short)]
    yes: bool,
}

#[derive(Debug, Args)]
pub(super) struct DeleteArgs {
    #[command(flatten)]
    pub(super) asked: AskedArgs,
    /// Deletes the key even if it is ACTIVE
    #[arg(long)]
    force: bool,
}

pub(super) async fn enable(args: &KeyArg, mut call: Call<'_, '_>) -> Result<(), Failure> {
    let name = call.name(&args.key)?;
    let client = call.connect().await?;
    let request = EnableKeyRequest {
        name: name.to_string(),
        etag: String::new(),
        request_id: String::new(),
    };
    let key = client
        .keys()
        .enable_key(request)
        .await?
        .into_inner()
        .key
        .unwrap_or_default();
    changed(&key, &mut call)
}

pub(super) async fn disable(args: &AskedArgs, mut call: Call<'_, '_>) -> Result<(), Failure> {
    let prepared = Prepared::new(args, &mut call, "--yes", |key| {
        Ok(format!(
            "{} `key enable` makes it good again.\nDisable it?",
            breakage(key)
        ))
    });
    let Prepared { name, client, .. } = prepared.await?;
    // No etag: whatever else was changed meanwhile, the key is to stop working.
    let request = DisableKeyRequest {
        name: name.to_string(),
        etag: String::new(),
        request_id: String::new(),
    };
    let key = client.keys().disable_key(request).await?.into_inner();
    changed(&key, &mut call)
}

pub(super) async fn reset(args: &AskedArgs, mut call: Call<'_, '_>) -> Result<(), Failure> {
    let prepared = Prepared::new(args, &mut call, "--yes", |key| {
        Ok(format!(
            "{} The new token is shown this once.\nReplace its secret?",
            breakage(key)
        ))
    });
    let Prepared { name, client, etag } = prepared.await?;
    let request = ResetSecretRequest {
        name: name.to_string(),
        etag,
        ..ResetSecretRequest::default()
    };
    let issued = client.keys().reset_secret(request).await?.into_inner();
    show::issued(&issued, call.client.output, call.console)
}

pub(super) async fn delete(args: &DeleteArgs, mut call: Call<'_, '_>) -> Result<(), Failure> {
    let flags = if args.force {
        "--yes"
    } else {
        "--yes, and --force too if the key is ACTIVE"
    };
    let prepared = Prepared::new(&args.asked, &mut call, flags, |key| {
        let active = match key.state() {
            State::Active if !args.force => {
                return Err(Failure::Failed(
                    "the key is ACTIVE; disable it first, or pass --force".into(),
                ));
            }
            State::Active => "It is ACTIVE. ",
            State::Disabled | State::Expired | State::Archived | State::Unspecified => "",
        };
        Ok(format!(
            "{active}{} It cannot be brought back.\nDelete it?",
            breakage(key)
        ))
    });
    let Prepared { name, client, etag } = prepared.await?;
    let request = DeleteKeyRequest {
        name: name.to_string(),
        force: args.force,
        etag,
        request_id: String::new(),
    };
    client.keys().delete_key(request).await?;
    match call.client.output {
        Format::Json => writeln!(call.console.out, "{{}}")?,
        Format::Table => writeln!(call.console.out, "{name} is deleted")?,
    }
    Ok(())
}

/// A change that may be made: it was asked about, or need not be.
struct Prepared {
    name: KeyName,
    client: Client,
    /// Of the key as it was shown, so that what was not seen is not agreed to. Empty if nothing was shown.
    etag: String,
}

impl Prepared {
    /// `flags`: what to say where nobody can be asked.
    async fn new(
        args: &AskedArgs,
        call: &mut Call<'_, '_>,
        flags: &str,
        question: impl FnOnce(&Key) -> Result<String, Failure>,
    ) -> Result<Self, Failure> {
        let name = call.name(&args.key)?;
        if args.yes {
            return Ok(Self {
                name,
                client: call.connect().await?,
                etag: String::new(),
            });
        }
        confirm::require_terminal(call.console, flags)?;
        let client = call.connect().await?;
        let key = read(&client, &name).await?;
        show::summary(&key, call.console)?;
        confirm::ask(call.console, &question(&key)?)?;
        Ok(Self {
            name,
            client,
            etag: key.etag,
        })
    }
}

/// What a person does to others by taking this key away.
fn breakage(key: &Key) -> &'static str {
    if key.name.starts_with("workspaces/system/") {
        return "It is an admin credential: whoever manages Portcullis with it is refused at once.";
    }
    match key.state() {
        State::Disabled | State::Expired | State::Archived => "No call gets through with it now.",
        State::Active | State::Unspecified => "Every caller that uses it is refused at once.",
    }
}

fn changed(key: &Key, call: &mut Call<'_, '_>) -> Result<(), Failure> {
    match call.client.output {
        Format::Json => json(call.console.out, "Key", key),
        Format::Table => Ok(writeln!(
            call.console.out,
            "{} is {}",
            clean(&key.name),
            key.state().as_str_name()
        )?),
    }
}

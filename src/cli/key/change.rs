//! `portcullis key enable`, `disable`, `reset`, `end-overlap`, `archive` and `delete`.

use std::time::Duration;

use clap::Args;

use super::{Call, ChangeArgs, read, show};
use crate::{
    cli::{
        change_flags::ChangeFlags,
        client::Client,
        confirm,
        console::clean,
        failure::Failure,
        key_ref::Guarded,
        output::{Format, json},
        values::parse_overlap,
    },
    domain::name::KeyName,
    proto::v1::{
        ArchiveKeyRequest, DeleteKeyRequest, DisableKeyRequest, EnableKeyRequest,
        EnableKeyResponse, EndOverlapRequest, Key, ResetSecretRequest, key::State,
    },
    status::take_issued_key,
};

#[derive(Debug, Args)]
pub(super) struct AskedArgs {
    /// The key
    pub(super) key: Guarded,
    /// Does not ask
    #[arg(long, short)]
    yes: bool,
    #[command(flatten)]
    change: ChangeFlags,
}

#[derive(Debug, Args)]
pub(super) struct ResetArgs {
    #[command(flatten)]
    pub(super) asked: AskedArgs,
    /// How long the old secret stays good beside the new one, at most 30d, in seconds, minutes, hours, days or weeks
    /// (90s, 30m, 24h, 7d, 2w) [default: it ends at once]
    #[arg(long, value_name = "SPAN", value_parser = parse_overlap, allow_hyphen_values = true)]
    overlap: Option<Duration>,
}

#[derive(Debug, Args)]
pub(super) struct DeleteArgs {
    #[command(flatten)]
    pub(super) asked: AskedArgs,
    /// Deletes the key even if it is ACTIVE
    #[arg(long)]
    force: bool,
}

pub(super) async fn enable(args: &ChangeArgs, mut call: Call<'_, '_>) -> Result<(), Failure> {
    let name = call.name(&args.key)?;
    let client = call.connect().await?;
    let request = EnableKeyRequest {
        name: name.to_string(),
        etag: args.change.etag(),
        request_id: args.change.request_id(),
    };
    let EnableKeyResponse {
        key,
        lagging_replicas,
    } = client.keys().enable_key(request).await?.into_inner();
    changed(&key.unwrap_or_default(), &mut call)?;
    show::laggards(&lagging_replicas, call.console);
    Ok(())
}

pub(super) async fn disable(args: &AskedArgs, mut call: Call<'_, '_>) -> Result<(), Failure> {
    let prepared = Prepared::new(args, &mut call, "--yes", |key| {
        Ok(format!(
            "{} `key enable` makes it good again.\nDisable it?",
            breakage(key)
        ))
    });
    let Prepared { name, client, .. } = prepared.await?;
    let request = DisableKeyRequest {
        name: name.to_string(),
        // Not that of the key as it was shown: whatever else was changed meanwhile, the key is to stop working.
        etag: args.change.etag(),
        request_id: args.change.request_id(),
    };
    let key = client.keys().disable_key(request).await?.into_inner();
    changed(&key, &mut call)
}

pub(super) async fn reset(args: &ResetArgs, mut call: Call<'_, '_>) -> Result<(), Failure> {
    let overlap = args.overlap.filter(|overlap| !overlap.is_zero());
    let prepared = Prepared::new(&args.asked, &mut call, "--yes", |key| {
        Ok(format!(
            "{} The new token is shown this once.\nReplace its secret?",
            breakage_of_reset(key, overlap)
        ))
    });
    let Prepared { name, client, etag } = prepared.await?;
    let request = ResetSecretRequest {
        name: name.to_string(),
        // At most thirty days.
        overlap: args.overlap.map(|overlap| prost_types::Duration {
            seconds: i64::try_from(overlap.as_secs()).unwrap_or(i64::MAX),
            nanos: 0,
        }),
        etag,
        request_id: args.asked.change.request_id(),
    };
    match client.keys().reset_secret(request).await {
        Ok(response) => show::issued(&response.into_inner(), call.client.output, call.console),
        Err(mut status) => {
            // It is shown only now, whatever else is wrong.
            if let Some(issued) = take_issued_key(&mut status) {
                show::issued_in_error(&issued, call.client.output, call.console)?;
            }
            Err(status.into())
        }
    }
}

pub(super) async fn end_overlap(args: &AskedArgs, mut call: Call<'_, '_>) -> Result<(), Failure> {
    let prepared = Prepared::new(args, &mut call, "--yes", |key| {
        let consequence = if key.secrets.len() > 1 {
            "Every caller that still uses the older secret is refused at once."
        } else {
            "No two secrets overlap; nothing will change."
        };
        Ok(format!("{consequence}\nEnd the overlap?"))
    });
    let Prepared { name, client, etag } = prepared.await?;
    let request = EndOverlapRequest {
        name: name.to_string(),
        etag,
        request_id: args.change.request_id(),
    };
    let key = client.keys().end_overlap(request).await?.into_inner();
    match call.client.output {
        Format::Json => json(call.console.out, "Key", &key),
        Format::Table => Ok(writeln!(
            call.console.out,
            "only the newest secret of {} is good",
            clean(&key.name)
        )?),
    }
}

pub(super) async fn archive(args: &AskedArgs, mut call: Call<'_, '_>) -> Result<(), Failure> {
    let prepared = Prepared::new(args, &mut call, "--yes", |key| {
        Ok(format!(
            "{} Its secrets are dropped; it can be neither changed nor enabled again. If the workspace then has more \
             archived keys than it keeps, the ones archived first are deleted.\nArchive it?",
            breakage(key)
        ))
    });
    let Prepared { name, client, etag } = prepared.await?;
    let request = ArchiveKeyRequest {
        name: name.to_string(),
        etag,
        request_id: args.change.request_id(),
    };
    let key = client.keys().archive_key(request).await?.into_inner();
    changed(&key, &mut call)
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
        request_id: args.asked.change.request_id(),
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
    /// The one given, else that of the key as it was shown, so that what was not seen is not agreed to. Empty if nothing
    /// was shown.
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
                etag: args.change.etag(),
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
            etag: args.change.etag_after_asking(key.etag),
        })
    }
}

/// What a person does to others by taking this key away.
pub(in crate::cli) fn breakage(key: &Key) -> &'static str {
    if key.name.starts_with("workspaces/system/") {
        return "It is an admin credential: whoever manages Portcullis with it is refused at once.";
    }
    match key.state() {
        State::Disabled | State::Expired | State::Archived => "No call gets through with it now.",
        State::Active | State::Unspecified => "Every caller that uses it is refused at once.",
    }
}

fn breakage_of_reset(key: &Key, overlap: Option<Duration>) -> String {
    let Some(overlap) = overlap else {
        return breakage(key).to_owned();
    };
    let ends = if key.secrets.len() > 1 {
        " One that an earlier overlap kept alive is refused at once."
    } else {
        ""
    };
    format!(
        "The secret that it has now stays good for {} beside the new one.{ends}",
        in_words(overlap)
    )
}

/// The span in its largest whole unit.
fn in_words(span: Duration) -> String {
    let seconds = span.as_secs();
    let (unit, name) = [(86_400, "days"), (3_600, "hours"), (60, "minutes")]
        .into_iter()
        .find(|(unit, _)| seconds.is_multiple_of(*unit))
        .unwrap_or((1, "seconds"));
    match seconds / unit {
        1 => format!("1 {}", name.trim_end_matches('s')),
        count => format!("{count} {name}"),
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

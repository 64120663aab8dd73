//! `portcullis check`.

use std::net::IpAddr;

use clap::Args;

use super::{
    Outcome,
    client::{Client, ClientFlags},
    console::Console,
    failure::Failure,
    key_ref::{Guarded, without_scheme, workspace_id},
    output::{Format, json, rows, time, zone_name},
    values::{parse_item, parse_setting},
};
use crate::{
    domain::{id::Revision, permission::check_name},
    proto::v1::{CheckRequest, CheckResponse, check_response::Reason},
};

const EXAMPLES: &str = "\
Exit status: 0 allowed, 3 denied, 1 an error (nothing was decided), 2 a wrong command line.

Examples:
  portcullis check pc_4fZ..._... --permission sms.send
  portcullis check - --source 192.0.2.7 --workspace acme < token.txt
  portcullis check pc_4fZ..._... --label team --setting default_sender=Acme --output json";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct CheckArgs {
    /// A token, or the value of an Authorization header; `-` reads it from stdin, away from the process list
    token: Guarded,
    /// A permission that the call needs; may be repeated, and hold several between commas
    #[arg(long, short, value_name = "P", value_delimiter = ',', value_parser = parse_permission)]
    permission: Vec<String>,
    /// The address that the request comes from
    #[arg(long, value_name = "IP")]
    source: Option<IpAddr>,
    /// The workspace whose keys are accepted [default: default]
    #[arg(long, short, value_name = "W")]
    workspace: Option<String>,
    /// A label of the key to show; may be repeated, and hold several between commas
    #[arg(long, value_name = "L", value_delimiter = ',')]
    label: Vec<String>,
    /// The request's own value for a setting of the workspace; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_setting)]
    setting: Vec<(String, String)>,
    /// A revision, as any change and any check answers it, that the decision must take into account; a replica that is
    /// behind it and does not catch up decides nothing
    #[arg(long, value_name = "REVISION", value_parser = parse_revision)]
    min_revision: Option<String>,
    #[command(flatten)]
    client: ClientFlags,
}

pub(super) async fn run(
    mut args: CheckArgs,
    console: &mut Console<'_>,
) -> Result<Outcome, Failure> {
    let token = &mut args.token.0;
    if token.as_str() == "-" {
        token.clear();
        console.stdin.read_line(token).map_err(|error| {
            Failure::Failed(format!("the token cannot be read from stdin: {error}"))
        })?;
    }
    if without_scheme(token).is_empty() {
        return Err(Failure::Usage("no token: it is empty".into()));
    }
    let workspace = args
        .workspace
        .as_deref()
        .map(|workspace| workspace_id(Some(workspace)))
        .transpose();
    let workspace = workspace.map_err(Failure::Usage)?;
    let request = CheckRequest {
        credential: token.trim_end_matches(['\r', '\n']).to_owned(),
        permissions: args.permission,
        source_address: args
            .source
            .map(|address| address.to_string())
            .unwrap_or_default(),
        workspace: workspace.map(|id| id.to_string()).unwrap_or_default(),
        settings: args.setting.into_iter().collect(),
        min_revision: args.min_revision.unwrap_or_default(),
        labels: args.label,
    };
    let client = Client::connect(&args.client, console).await?;
    let response = client.checks().check(request).await?.into_inner();
    match args.client.output {
        Format::Json => json(console.out, "CheckResponse", &response)?,
        Format::Table => show(&response, console)?,
    }
    Ok(if response.allowed {
        Outcome::Done
    } else {
        Outcome::Denied
    })
}

/// Reads one of several permissions between commas.
fn parse_permission(text: &str) -> Result<String, String> {
    let name = parse_item(text)?;
    check_name(&name).map_err(|why| why.to_string())?;
    Ok(name)
}

/// Reads a revision.
fn parse_revision(text: &str) -> Result<String, String> {
    match Revision::parse(text) {
        Some(_) => Ok(text.to_owned()),
        None => Err("a revision looks like 1.42; changes and checks answer theirs".into()),
    }
}

fn show(response: &CheckResponse, console: &mut Console<'_>) -> Result<(), Failure> {
    let verdict = if response.allowed {
        "ALLOWED"
    } else {
        "DENIED"
    };
    let reason = format!(
        "{} ({})",
        response.reason().as_str_name(),
        words(response.reason())
    );
    let mut table = vec![[verdict.to_owned(), reason]];
    if let Some(key) = &response.key {
        let zone = console.zone();
        let mut row = |name: &str, value: String| table.push([name.to_owned(), value]);
        row("key", key.name.clone());
        row("owner", key.owner.clone());
        let expires = time(key.expire_time.as_ref(), zone, "never");
        let place = key
            .expire_time
            .as_ref()
            .map_or_else(String::new, |_| format!(" ({})", zone_name(zone)));
        row("expires", expires + &place);
        for (name, value) in &key.labels {
            row(&format!("label {name}"), value.clone());
        }
    }
    for (name, value) in &response.settings {
        table.push([format!("setting {name}"), value.replace('\n', "\u{fffd}")]);
    }
    table.push(["revision".to_owned(), response.revision.clone()]);
    rows(console.out, &table)
}

const fn words(reason: Reason) -> &'static str {
    match reason {
        Reason::Unspecified => "the server gave no reason",
        Reason::Ok => "the key opens the call",
        Reason::InvalidCredential => {
            "no key's token: malformed, unknown, archived, of another workspace, or with a wrong secret"
        }
        Reason::KeyDisabled => "the key is disabled",
        Reason::KeyExpired => "the key has expired",
        Reason::SourceDenied => {
            "the source address is unknown or not among those the key is used from"
        }
        Reason::PermissionDenied => "the key lacks a permission",
        Reason::InvalidSetting => {
            "a --setting is not declared by the workspace, or its value not valid for it"
        }
        Reason::InvalidRequest => "the request is malformed",
        Reason::Undecided => "no decision was made",
    }
}

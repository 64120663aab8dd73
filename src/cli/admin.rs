//! `portcullis admin`.

use clap::{
    Args, Subcommand,
    builder::{PossibleValuesParser, TypedValueParser},
};

use super::{
    Outcome,
    change_flags::RequestId,
    client::{Client, ClientFlags},
    console::Console,
    expires,
    failure::Failure,
    key::show,
    key_ref::bare_workspace,
    output::{Format, rows},
    values::{parse_ip, parse_label},
};
use crate::{
    domain::{
        id::WorkspaceId,
        name::of_workspace,
        role::{Role, RoleScope},
    },
    proto::v1::{CreateKeyRequest, Key},
};

const EXAMPLES: &str = "\
An admin credential is a key of the workspace system: `key list -w system` lists them all, and the other `key` commands
change them.

Examples:
  portcullis admin create --role operator --name night-shift --expires 90d
  portcullis admin create --role developer --workspace acme --name ci --label team=platform
  portcullis admin create --role checker --workspace acme --name edge-gateway --ip 192.0.2.0/24";

#[derive(Debug, Args)]
pub(super) struct AdminArgs {
    #[command(flatten)]
    client: ClientFlags,
    #[command(subcommand)]
    command: AdminCommand,
}

#[derive(Debug, Subcommand)]
enum AdminCommand {
    /// Prints the roles and what each may do
    Roles {
        #[command(flatten)]
        scope: ScopeArg,
    },
    /// Creates an admin credential with a role's permissions and shows its token, this once
    Create(CreateArgs),
}

#[derive(Debug, Args)]
struct ScopeArg {
    /// The workspace that the role is for, or '*' for all, present and future
    #[arg(long, short, value_name = "W", default_value = "*", value_parser = parse_scope)]
    workspace: RoleScope,
}

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
struct CreateArgs {
    /// What the credential may do; `admin roles` tells what each comes to
    #[arg(long, value_parser = role_parser())]
    role: Role,
    #[command(flatten)]
    scope: ScopeArg,
    /// A name for people
    #[arg(long)]
    name: String,
    /// When it stops working, as in `key create` [default: never]
    #[arg(long, value_name = "WHEN", allow_hyphen_values = true)]
    expires: Option<String>,
    /// Where it may be used from, an address or CIDR block; may be repeated, and hold several between commas
    /// [default: anywhere]
    #[arg(long, value_name = "IP", value_delimiter = ',', value_parser = parse_ip)]
    ip: Vec<String>,
    /// A label; may be repeated. The audit log shows the label team with every change made with the credential
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_label)]
    label: Vec<(String, String)>,
    #[command(flatten)]
    request: RequestId,
}

pub(super) async fn run(args: AdminArgs, console: &mut Console<'_>) -> Result<Outcome, Failure> {
    match args.command {
        AdminCommand::Roles { scope } => roles(&scope.workspace, args.client.output, console)?,
        AdminCommand::Create(create) => create_credential(create, &args.client, console).await?,
    }
    Ok(Outcome::Done)
}

fn roles(scope: &RoleScope, format: Format, console: &mut Console<'_>) -> Result<(), Failure> {
    if format == Format::Json {
        let roles = Role::ALL.map(|role| {
            serde_json::json!({
                "role": role.name(),
                "description": role.describe(),
                "permissions": role.permissions(scope),
            })
        });
        let roles = serde_json::json!({ "roles": roles });
        return Ok(writeln!(console.out, "{roles:#}")?);
    }
    let mut table = vec![["ROLE", "WHAT IT DOES", "PERMISSIONS"].map(str::to_owned)];
    for role in Role::ALL {
        table.push([
            role.name().to_owned(),
            role.describe().to_owned(),
            role.permissions(scope).join("\n"),
        ]);
    }
    rows(console.out, &table)
}

async fn create_credential(
    args: CreateArgs,
    flags: &ClientFlags,
    console: &mut Console<'_>,
) -> Result<(), Failure> {
    if args.name.is_empty() {
        return Err(Failure::Usage(
            "--name is empty; say who or what the credential is for".into(),
        ));
    }
    args.request.allow_expiry(args.expires.as_deref())?;
    let expiry = args
        .expires
        .map(|text| expires::parse(&text, &console.now))
        .transpose();
    let expiry = expiry.map_err(Failure::Usage)?.flatten();
    if let Some(note) = expiry.as_ref().and_then(|expiry| expiry.note.as_ref()) {
        console.notice(&format!("note: {note}"));
    }
    let key = Key {
        display_name: args.name,
        description: format!("Made with the role {}.", args.role.name()),
        permissions: args.role.permissions(&args.scope.workspace),
        ip_allowlist: args.ip,
        labels: args.label.into_iter().collect(),
        expire_time: expiry.map(|expiry| expiry.to_proto()),
        ..Key::default()
    };
    let request = CreateKeyRequest {
        parent: of_workspace(&WorkspaceId::system()),
        key: Some(key),
        request_id: args.request.to_proto(),
    };
    let client = Client::connect(flags, console).await?;
    let issued = client.keys().create_key(request).await?.into_inner();
    show::issued(&issued, flags.output, console)
}

/// Reads `--role`. The names are in --help and in completions.
fn role_parser() -> impl TypedValueParser<Value = Role> {
    PossibleValuesParser::new(Role::ALL.map(Role::name)).map(|name| {
        // The parser before this one takes no other names; and if it did, the least role is what they would come to.
        Role::from_name(&name).unwrap_or(Role::Checker)
    })
}

/// Reads `--workspace` as a role's scope.
fn parse_scope(text: &str) -> Result<RoleScope, String> {
    RoleScope::parse(bare_workspace(text)).map_err(|why| why.to_string())
}

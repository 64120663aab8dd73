//! `portcullis key create`.

use clap::Args;

use super::{Call, show};
use crate::{
    cli::{
        change_flags::RequestId,
        expires,
        failure::Failure,
        key_ref::workspace_id,
        values::{parse_ip, parse_item, parse_label, parse_setting},
    },
    domain::name,
    proto::v1::{CreateKeyRequest, Key},
};

const EXAMPLES: &str = "\
Examples:
  portcullis key create --name billing --permission sms.send,sms.read --expires 30d
  portcullis key create --name partner --ip 192.0.2.0/24,2001:db8::/32 --label team=partners --expires 2026-12-31
  portcullis key create --name ci --output json | jq -r .token";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct CreateArgs {
    /// A name for people
    #[arg(long, default_value = "", hide_default_value = true)]
    name: String,
    /// What the key is for
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true
    )]
    description: String,
    /// What the key may do; may be repeated, and hold several between commas [default: * (everything); in the
    /// workspace system: none; where the workspace declares its permissions you must choose]
    #[arg(long, short, value_name = "P", value_delimiter = ',', value_parser = parse_item)]
    permission: Vec<String>,
    /// Where the key may be used from, an address or CIDR block; repeats as --permission [default: anywhere]
    #[arg(long, value_name = "IP", value_delimiter = ',', value_parser = parse_ip)]
    ip: Vec<String>,
    /// A label; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_label)]
    label: Vec<(String, String)>,
    /// A value for a setting that the workspace declares; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_setting)]
    setting: Vec<(String, String)>,
    /// When the key stops working: a time with its zone (2026-12-31T18:00:00Z), a day (2026-12-31: the end of that
    /// day in this system's time zone), a span from now in seconds, minutes, hours, days or weeks (30s, 90m, 12h,
    /// 30d, 2w), or never [default: never]
    #[arg(long, value_name = "WHEN", allow_hyphen_values = true)]
    expires: Option<String>,
    #[command(flatten)]
    request: RequestId,
}

pub(super) async fn run(args: CreateArgs, mut call: Call<'_, '_>) -> Result<(), Failure> {
    let workspace = workspace_id(call.workspace).map_err(Failure::Usage)?;
    args.request.allow_expiry(args.expires.as_deref())?;
    let expiry = args
        .expires
        .map(|text| expires::parse(&text, &call.console.now))
        .transpose();
    let expiry = expiry.map_err(Failure::Usage)?.flatten();
    if let Some(note) = expiry.as_ref().and_then(|expiry| expiry.note.as_ref()) {
        call.console.notice(&format!("note: {note}"));
    }
    let key = Key {
        display_name: args.name,
        description: args.description,
        permissions: args.permission,
        ip_allowlist: args.ip,
        settings: args.setting.into_iter().collect(),
        labels: args.label.into_iter().collect(),
        expire_time: expiry.map(|expiry| expiry.to_proto()),
        ..Key::default()
    };
    let request = CreateKeyRequest {
        parent: name::of_workspace(&workspace),
        key: Some(key),
        request_id: args.request.to_proto(),
    };
    let client = call.connect().await?;
    let issued = client.keys().create_key(request).await?.into_inner();
    if issued
        .key
        .as_ref()
        .is_some_and(|key| key.permissions.is_empty())
    {
        call.console
            .notice("note: the key has no permission; give it some with `key update --permission`");
    }
    show::issued(&issued, call.client.output, call.console)
}

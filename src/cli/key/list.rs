//! `portcullis key list`.

use std::num::NonZeroUsize;

use clap::Args;

use super::Call;
use crate::{
    cli::{
        failure::Failure,
        key_ref::{question, workspace_id},
        output::{few, shorten, time},
        page::{Listing, parse_limit, turn},
    },
    domain::name,
    proto::v1::{Key, ListKeysRequest},
};

const EXAMPLES: &str = "\
Examples:
  portcullis key list --filter 'expire_time < \"+7d\"' --order-by expire_time
  portcullis key list --filter 'state = ACTIVE AND secret_create_time < \"-90d\"'
  portcullis key list --filter 'labels.team = \"a\" OR labels.team = \"b\"' --query billing";

#[expect(
    clippy::doc_markdown,
    reason = "clap prints the docs of the fields as they stand"
)]
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct ListArgs {
    /// Which keys: comparisons joined by AND, OR, NOT and parentheses, of state, owner, display_name, description,
    /// key_id, permission, labels.{name}, create_time, update_time, expire_time and secret_create_time
    #[arg(long, value_name = "FILTER", allow_hyphen_values = true)]
    filter: Option<String>,
    /// Words to look for in display name, description and key id; the best matches come first
    #[arg(long, value_name = "WORDS")]
    query: Option<String>,
    /// The order: create_time, update_time, expire_time or display_name, each also with ' desc' behind it
    #[arg(long, value_name = "FIELD")]
    order_by: Option<String>,
    /// Lists archived keys, too
    #[arg(long)]
    archived: bool,
    /// The most to list [default: all]
    #[arg(long, value_name = "N", value_parser = parse_limit, allow_negative_numbers = true)]
    limit: Option<NonZeroUsize>,
}

pub(super) async fn run(args: &ListArgs, mut call: Call<'_, '_>) -> Result<(), Failure> {
    let workspace = workspace_id(call.workspace).map_err(Failure::Usage)?;
    let filter = question("--filter", args.filter.as_deref())?;
    let query = question("--query", args.query.as_deref())?;
    let mut client = call.connect().await?.keys();
    let header = [
        "KEY ID",
        "NAME",
        "STATE",
        "PERMISSIONS",
        "EXPIRES",
        "CREATED",
    ];
    let mut request = ListKeysRequest {
        parent: name::of_workspace(&workspace),
        filter,
        query,
        order_by: args.order_by.clone().unwrap_or_default(),
        show_archived: args.archived,
        ..ListKeysRequest::default()
    };
    let zone = call.console.zone().clone();
    let mut listing = Listing::begin(call.client.output, ("keys", "Key"), header, args.limit)?;
    while let Some(page_size) = listing.wanted() {
        request.page_size = page_size;
        let page = client.list_keys(request.clone()).await?.into_inner();
        listing.page(call.console, &page.keys, |key: &Key| {
            [
                key.key_id.clone(),
                shorten(&key.display_name, 40),
                key.state().as_str_name().to_owned(),
                few(&key.permissions, "none"),
                time(key.expire_time.as_ref(), &zone, "never"),
                time(key.create_time.as_ref(), &zone, "-"),
            ]
        })?;
        if !turn(&mut request.page_token, page.next_page_token)? {
            break;
        }
    }
    listing.end(!request.page_token.is_empty(), call.console)
}

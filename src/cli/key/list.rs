//! `portcullis key list`.

use std::num::NonZeroUsize;

use clap::Args;

use super::Call;
use crate::{
    cli::{
        failure::Failure,
        key_ref::workspace_id,
        output::{shorten, time},
        page::{Listing, parse_limit},
    },
    domain::name,
    proto::v1::{Key, ListKeysRequest},
};

#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// The most to list [default: all]
    #[arg(long, value_name = "N", value_parser = parse_limit, allow_negative_numbers = true)]
    limit: Option<NonZeroUsize>,
}

pub(super) async fn run(args: &ListArgs, mut call: Call<'_, '_>) -> Result<(), Failure> {
    let workspace = workspace_id(call.workspace).map_err(Failure::Usage)?;
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
        ..ListKeysRequest::default()
    };
    let zone = call.console.zone().clone();
    let mut listing = Listing::begin(call.client.output, ("keys", "Key"), header, args.limit)?;
    while let Some(page_size) = listing.wanted() {
        request.page_size = page_size;
        let page = client.list_keys(request.clone()).await?.into_inner();
        listing.page(call.console, &page.keys, |key| {
            [
                key.key_id.clone(),
                shorten(&key.display_name, 40),
                key.state().as_str_name().to_owned(),
                permissions(key),
                time(key.expire_time.as_ref(), &zone, "never"),
                time(key.create_time.as_ref(), &zone, "-"),
            ]
        })?;
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    listing.end(!request.page_token.is_empty(), call.console)
}

/// The first few, and how many more there are.
fn permissions(key: &Key) -> String {
    const SHOWN: usize = 3;
    match key.permissions.as_slice() {
        [] => "none".to_owned(),
        few if few.len() <= SHOWN => few.join(","),
        many => format!("{},+{}", many[..SHOWN].join(","), many.len() - SHOWN),
    }
}

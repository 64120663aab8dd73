//! `portcullis audit list`.

use std::num::NonZeroUsize;

use clap::Args;

use super::select::{Selected, Selection};
use crate::{
    cli::{
        Outcome,
        client::{Client, ClientFlags, Service},
        console::Console,
        failure::Failure,
        output::{Format, shorten, time},
        page::{Listing, parse_limit, turn},
    },
    proto::v1::{Event, ListEventsRequest, audit_service_client::AuditServiceClient},
};

const EXAMPLES: &str = "\
Examples:
  portcullis audit list --team payments --team billing --since 7d
  portcullis audit list -w acme --action delete --limit 20
  portcullis audit list --filter 'method = \"ResetSecret\" AND NOT actor = \"portcullis\"' --output json";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct ListArgs {
    #[command(flatten)]
    selection: Selection,
    /// The order: 'time desc', or 'time' for the oldest first [default: time desc]
    #[arg(long, value_name = "FIELD")]
    order_by: Option<String>,
    /// The most to list [default: all]
    #[arg(long, value_name = "N", value_parser = parse_limit, allow_negative_numbers = true)]
    limit: Option<NonZeroUsize>,
}

pub(super) async fn run(
    args: &ListArgs,
    flags: &ClientFlags,
    console: &mut Console<'_>,
) -> Result<Outcome, Failure> {
    let Selected {
        parent,
        filter,
        query,
    } = args.selection.select(&console.now)?;
    let request = ListEventsRequest {
        parent,
        filter,
        query,
        order_by: args.order_by.clone().unwrap_or_default(),
        ..ListEventsRequest::default()
    };
    let client = Client::connect(flags, console).await?.audits();
    let zone = console.zone().clone();
    let header = ["TIME", "REVISION", "METHOD", "RESOURCE", "ACTOR", "CHANGES"];
    let row = |event: &Event| {
        [
            time(event.time.as_ref(), &zone, "-"),
            event.revision.clone(),
            event.method.clone(),
            event.resource.clone(),
            event.actor.clone(),
            summary(event),
        ]
    };
    follow(
        client,
        request,
        (flags.output, args.limit),
        (header, row),
        console,
    )
    .await?;
    Ok(Outcome::Done)
}

/// Writes the events that the request asks for, page by page, at most `limit` of them.
pub(in crate::cli) async fn follow<const N: usize>(
    mut client: AuditServiceClient<Service>,
    mut request: ListEventsRequest,
    (format, limit): (Format, Option<NonZeroUsize>),
    (header, row): ([&'static str; N], impl Fn(&Event) -> [String; N]),
    console: &mut Console<'_>,
) -> Result<(), Failure> {
    let mut listing = Listing::begin(format, ("events", "Event"), header, limit)?;
    while let Some(page_size) = listing.wanted() {
        request.page_size = page_size;
        let page = client.list_events(request.clone()).await?.into_inner();
        listing.page(console, &page.events, &row)?;
        if !turn(&mut request.page_token, page.next_page_token)? {
            break;
        }
    }
    listing.end(!request.page_token.is_empty(), console)
}

/// What changed, on one line. The whole of it is in the JSON.
pub(in crate::cli) fn summary(event: &Event) -> String {
    const LONGEST_VALUE: usize = 40;
    const LONGEST: usize = 160;
    let value = |text: &str| match text {
        "" => "-".to_owned(),
        text => shorten(text, LONGEST_VALUE),
    };
    let changes: Vec<_> = event
        .changes
        .iter()
        .map(|change| match change.before.as_str() {
            "" => format!("{}: {}", change.field, value(&change.after)),
            before => format!(
                "{}: {} → {}",
                change.field,
                value(before),
                value(&change.after)
            ),
        })
        .collect();
    match changes.as_slice() {
        [] => "-".to_owned(),
        changes => shorten(&changes.join("; ").replace('\n', " "), LONGEST),
    }
}

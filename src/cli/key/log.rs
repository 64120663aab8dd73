//! `portcullis key log`.

use std::num::NonZeroUsize;

use clap::Args;

use super::Call;
use crate::{
    cli::{
        audit::{follow, summary},
        failure::Failure,
        key_ref::Guarded,
        output::time,
        page::parse_limit,
    },
    domain::name::of_workspace,
    proto::v1::ListEventsRequest,
};

#[derive(Debug, Args)]
pub(super) struct LogArgs {
    /// The key
    pub(super) key: Guarded,
    /// The most changes to show [default: all]
    #[arg(long, value_name = "N", value_parser = parse_limit, allow_negative_numbers = true)]
    limit: Option<NonZeroUsize>,
}

pub(super) async fn run(args: &LogArgs, mut call: Call<'_, '_>) -> Result<(), Failure> {
    let name = call.name(&args.key)?;
    let request = ListEventsRequest {
        parent: of_workspace(&name.workspace),
        // A key's name has no character that a filter gives a meaning to.
        filter: format!("resource = \"{name}\""),
        ..ListEventsRequest::default()
    };
    let client = call.connect().await?.audits();
    let zone = call.console.zone().clone();
    let header = ["TIME", "REVISION", "METHOD", "ACTOR", "CHANGES"];
    let row = |event: &_| {
        let crate::proto::v1::Event {
            time: at,
            revision,
            method,
            actor,
            ..
        } = event;
        [
            time(at.as_ref(), &zone, "-"),
            revision.clone(),
            method.clone(),
            actor.clone(),
            summary(event),
        ]
    };
    let format = call.client.output;
    follow(
        client,
        request,
        (format, args.limit),
        (header, row),
        call.console,
    )
    .await
}

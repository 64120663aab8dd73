//! `portcullis audit verify` and `head`.

use std::path::PathBuf;

use clap::Args;

use super::offline;
use crate::{
    cli::{
        Outcome,
        client::{Client, ClientFlags},
        console::{Console, clean},
        failure::Failure,
        output::{Format, json, rows},
    },
    domain::chain::ChainHead,
    proto::v1::{VerifyEventsRequest, VerifyEventsResponse},
};

const EXAMPLES: &str = "\
Exit status: 0 intact, 1 broken (or an error), 2 a wrong command line.

Only a head that was kept where nobody could change it proves that nothing before it was changed.

Examples:
  portcullis audit head > /elsewhere/head
  portcullis audit verify --anchor \"$(cat /elsewhere/head)\"
  portcullis audit verify --file audit.jsonl --anchor \"$(cat /elsewhere/head)\"";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct VerifyArgs {
    /// A head that was kept, {revision}:{64 hexadecimal digits}: the chain must lead to it
    #[arg(long, value_name = "HEAD", value_parser = parse_anchor)]
    anchor: Option<ChainHead>,
    /// Verifies this file, an export of all events in JSON Lines, and needs no server
    #[arg(long, value_name = "EXPORT.jsonl")]
    file: Option<PathBuf>,
}

pub(super) async fn run(
    args: VerifyArgs,
    flags: &ClientFlags,
    console: &mut Console<'_>,
) -> Result<Outcome, Failure> {
    let anchored = args.anchor.is_some();
    let verified = match &args.file {
        Some(path) => offline::verify(path, args.anchor, console)?,
        None => verify(args.anchor, flags, console).await?,
    };
    match flags.output {
        Format::Json => json(console.out, "VerifyEventsResponse", &verified)?,
        Format::Table => show(&verified, anchored, console)?,
    }
    if !verified.intact {
        return Ok(Outcome::Broken);
    }
    if !anchored {
        console.out.flush()?;
        console.notice(
            "note: without --anchor only what contradicts itself is found; keep the head elsewhere and name it next time",
        );
    }
    Ok(Outcome::Done)
}

/// Prints the head, and nothing if the chain is broken: such a head is not worth keeping.
pub(super) async fn head(
    flags: &ClientFlags,
    console: &mut Console<'_>,
) -> Result<Outcome, Failure> {
    let verified = verify(None, flags, console).await?;
    if !verified.intact {
        return Err(Failure::Failed(format!(
            "the chain is broken, so there is no head to keep: {}",
            broken_link(&verified)
        )));
    }
    match flags.output {
        Format::Json => {
            let head = serde_json::json!({ "head": clean(&verified.head) });
            writeln!(console.out, "{head}")?;
        }
        Format::Table => writeln!(console.out, "{}", clean(&verified.head))?,
    }
    Ok(Outcome::Done)
}

async fn verify(
    anchor: Option<ChainHead>,
    flags: &ClientFlags,
    console: &mut Console<'_>,
) -> Result<VerifyEventsResponse, Failure> {
    let client = Client::connect(flags, console).await?;
    let mut client = client.audits_within(Some(flags.long_timeout()));
    let anchor = anchor.map(|anchor| anchor.to_string());
    let request = VerifyEventsRequest {
        anchor: anchor.unwrap_or_default(),
    };
    Ok(client.verify_events(request).await?.into_inner())
}

fn show(
    verified: &VerifyEventsResponse,
    anchored: bool,
    console: &mut Console<'_>,
) -> Result<(), Failure> {
    let verdict = if !verified.intact {
        ["BROKEN".to_owned(), broken_link(verified)]
    } else if anchored {
        [
            "INTACT".to_owned(),
            "nothing is missing or changed up to the anchor".to_owned(),
        ]
    } else {
        ["INTACT".to_owned(), "nothing contradicts itself".to_owned()]
    };
    let table = [
        verdict,
        ["events".to_owned(), verified.event_count.to_string()],
        ["head".to_owned(), verified.head.clone()],
    ];
    // Of a file that is broken there is none.
    let shown = if verified.head.is_empty() { 2 } else { 3 };
    rows(console.out, &table[..shown])
}

/// The link in words.
fn broken_link(verified: &VerifyEventsResponse) -> String {
    let link = verified.broken_link.clone().unwrap_or_default();
    format!(
        "revision {}: {}",
        clean(&link.revision),
        clean(&link.reason)
    )
}

/// Reads `--anchor`. White space around it comes with the file it was kept in.
fn parse_anchor(text: &str) -> Result<ChainHead, String> {
    ChainHead::parse(text.trim()).map_err(|why| {
        format!(
            "{why}; write a head as `audit head` prints it, {{revision}}:{{64 hexadecimal digits}}"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_anchor_is_a_head_as_it_was_printed() {
        let head = format!("1.7:{}", "0a".repeat(32));
        let parsed = parse_anchor(&format!(" {head}\n")).unwrap();
        assert_eq!(parsed.to_string(), head);
        for text in [
            "",
            "1.7",
            &head[..head.len() - 1],
            &head[3..],
            &format!("{head}0"),
        ] {
            assert!(parse_anchor(text).is_err(), "{text}");
        }
    }
}

//! `portcullis audit verify` and `head`.

use clap::Args;

use crate::{
    cli::{
        Outcome,
        client::{Client, ClientFlags},
        console::{Console, clean},
        failure::Failure,
        output::{Format, json, rows},
    },
    proto::v1::{VerifyEventsRequest, VerifyEventsResponse},
};

const EXAMPLES: &str = "\
Exit status: 0 intact, 1 broken (or an error), 2 a wrong command line.

Only a head that was kept where nobody could change it proves that nothing before it was changed.

Examples:
  portcullis audit head > /elsewhere/head
  portcullis audit verify --anchor \"$(cat /elsewhere/head)\"";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct VerifyArgs {
    /// A head that was kept, {revision}:{64 hexadecimal digits}: the chain must lead to it
    #[arg(long, value_name = "HEAD", value_parser = parse_anchor)]
    anchor: Option<String>,
}

pub(super) async fn run(
    args: VerifyArgs,
    flags: &ClientFlags,
    console: &mut Console<'_>,
) -> Result<Outcome, Failure> {
    let anchored = args.anchor.is_some();
    let verified = verify(args.anchor.unwrap_or_default(), flags, console).await?;
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
    let verified = verify(String::new(), flags, console).await?;
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
    anchor: String,
    flags: &ClientFlags,
    console: &mut Console<'_>,
) -> Result<VerifyEventsResponse, Failure> {
    let client = Client::connect(flags, console).await?;
    let mut client = client.audits_within(Some(flags.long_timeout()));
    let request = VerifyEventsRequest { anchor };
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
    rows(console.out, &table)
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
fn parse_anchor(text: &str) -> Result<String, String> {
    const DIGITS: usize = 64;
    let anchor = text.trim();
    let well_formed = anchor.rsplit_once(':').is_some_and(|(revision, hash)| {
        !revision.is_empty()
            && hash.len() == DIGITS
            && hash.bytes().all(|byte| byte.is_ascii_hexdigit())
    });
    if well_formed {
        return Ok(anchor.to_owned());
    }
    Err("write a head as `audit head` prints it, {revision}:{64 hexadecimal digits}".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_anchor_is_a_head_as_it_was_printed() {
        let head = format!("1.7:{}", "0a".repeat(32));
        assert_eq!(parse_anchor(&format!(" {head}\n")), Ok(head.clone()));
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

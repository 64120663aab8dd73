//! Which events a command is about: flags for what is asked most, put together with a filter.

use clap::{Args, ValueEnum};
use jiff::{Timestamp, ToSpan as _, Zoned, civil::Date};

use crate::{
    cli::{
        expires::{is_bare_date, span},
        failure::Failure,
        key_ref::{question, workspace_id},
    },
    domain::name::of_workspace,
};

const HOW: &str = "write a time as 2026-12-31T18:00:00Z, a day as 2026-12-31, or how long ago as 30d, 12h, 90m or 30s";

#[expect(
    clippy::doc_markdown,
    reason = "clap prints the docs of the fields as they stand"
)]
#[derive(Debug, Args)]
pub(super) struct Selection {
    /// The workspace, its keys included [default: all that you may see]
    #[arg(long, short, value_name = "W")]
    workspace: Option<String>,
    /// Which events: comparisons joined by AND, OR, NOT and parentheses, of team, actor, method, resource, request_id,
    /// source_address, action, entity and time
    #[arg(long, value_name = "FILTER", allow_hyphen_values = true)]
    filter: Option<String>,
    /// Words that an event must hold, anywhere
    #[arg(long, value_name = "WORDS")]
    query: Option<String>,
    /// Changes made by this team; may be repeated: by any of them
    #[arg(long, value_name = "TEAM")]
    team: Vec<String>,
    /// Changes of this kind; an archived key counts as deleted; may be repeated: of any of them
    #[arg(long, value_enum, ignore_case = true)]
    action: Vec<Action>,
    /// Changes made by this key's name, local:{uid} or portcullis; may be repeated: by any of them
    #[arg(long, value_name = "WHO")]
    actor: Vec<String>,
    /// Changes at this time or later: a time with its zone, a day (its beginning, here), or how long ago (12h, 30d)
    #[arg(long, value_name = "WHEN", allow_hyphen_values = true)]
    since: Option<String>,
    /// Changes before this time; a day counts whole
    #[arg(long, value_name = "WHEN", allow_hyphen_values = true)]
    until: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Action {
    Create,
    Update,
    Delete,
}

impl Action {
    const fn name(self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
        }
    }
}

/// What [`Selection`] comes to, as the API carries it.
#[derive(Debug)]
pub(super) struct Selected {
    pub(super) parent: String,
    pub(super) filter: String,
    pub(super) query: String,
}

impl Selection {
    pub(super) fn select(&self, now: &Zoned) -> Result<Selected, Failure> {
        let parent = match self.workspace.as_deref() {
            None | Some("-" | "workspaces/-") => "workspaces/-".to_owned(),
            named => of_workspace(&workspace_id(named).map_err(Failure::Usage)?),
        };
        Ok(Selected {
            parent,
            filter: self.filter(now)?,
            query: question("--query", self.query.as_deref())?,
        })
    }

    fn filter(&self, now: &Zoned) -> Result<String, Failure> {
        let own = question("--filter", self.filter.as_deref())?;
        let teams = self.team.iter().map(|team| quote("--team", team));
        let teams = teams.collect::<Result<Vec<_>, _>>()?;
        let actors = self.actor.iter().map(|actor| quote("--actor", actor));
        let actors = actors.collect::<Result<Vec<_>, _>>()?;
        let actions = self.action.iter().map(|action| action.name().to_owned());
        let since = bound(Edge::Since, self.since.as_deref(), now).map_err(Failure::Usage)?;
        let until = bound(Edge::Until, self.until.as_deref(), now).map_err(Failure::Usage)?;
        if let (Some(since), Some(until)) = (since, until)
            && since >= until
        {
            return Err(Failure::Usage(format!(
                "--since ({since}) is not before --until ({until}): there is nothing in between"
            )));
        }
        let mut parts: Vec<String> = [
            any_of("team", teams),
            any_of("action", actions),
            any_of("actor", actors),
            since.map(|at| format!("time >= \"{at}\"")),
            until.map(|at| format!("time < \"{at}\"")),
        ]
        .into_iter()
        .flatten()
        .collect();
        if !own.trim().is_empty() {
            if parts.is_empty() {
                return Ok(own);
            }
            // Else its parentheses could reach around the others'.
            if !stands_alone(&own) {
                return Err(Failure::Usage(
                    "--filter: a parenthesis or a quote is not closed, or closed too often".into(),
                ));
            }
            parts.push(format!("({own})"));
        }
        Ok(parts.join(" AND "))
    }
}

/// A comparison with any of the values.
fn any_of(field: &str, values: impl IntoIterator<Item = String>) -> Option<String> {
    let comparisons: Vec<_> = values
        .into_iter()
        .map(|value| format!("{field} = {value}"))
        .collect();
    match comparisons.as_slice() {
        [] => None,
        [one] => Some(one.clone()),
        several => Some(format!("({})", several.join(" OR "))),
    }
}

/// The text as a filter's value that means just this text.
fn quote(flag: &str, text: &str) -> Result<String, Failure> {
    let mut quoted = String::from("\"");
    for c in question(flag, Some(text))?.chars() {
        if matches!(c, '"' | '\'' | '\\' | '*') {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    quoted.push('"');
    Ok(quoted)
}

/// True if each parenthesis and quote that the filter opens is closed in it, and none besides.
fn stands_alone(filter: &str) -> bool {
    let mut depth = 0_usize;
    let mut quote = None;
    let mut chars = filter.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(_), '\\') => {
                chars.next();
            }
            (Some(open), _) => {
                if c == open {
                    quote = None;
                }
            }
            (None, '"' | '\'') => quote = Some(c),
            (None, '(') => depth += 1,
            (None, ')') => match depth.checked_sub(1) {
                Some(less) => depth = less,
                None => return false,
            },
            (None, _) => {}
        }
    }
    depth == 0 && quote.is_none()
}

/// Which end of the time that is asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Edge {
    Since,
    Until,
}

impl Edge {
    const fn flag(self) -> &'static str {
        match self {
            Self::Since => "--since",
            Self::Until => "--until",
        }
    }
}

/// Reads `--since`, which is within, or `--until`, which is not.
fn bound(edge: Edge, text: Option<&str>, now: &Zoned) -> Result<Option<Timestamp>, String> {
    let Some(text) = text else { return Ok(None) };
    let flag = edge.flag();
    let text = text.trim();
    let too_far = || format!("{flag} {text:?} is too far from now");
    let at = if is_bare_date(text) {
        let day: Date = text
            .parse()
            .map_err(|_| format!("{flag} {text:?} is no day of the calendar; {HOW}"))?;
        let day = match edge {
            Edge::Since => day,
            Edge::Until => day.checked_add(1.day()).map_err(|_| too_far())?,
        };
        day.to_zoned(now.time_zone().clone())
            .and_then(|day| day.start_of_day())
            .map_err(|_| too_far())?
            .timestamp()
    } else if let Some(ago) = span(text.strip_prefix('-').unwrap_or(text)) {
        ago.and_then(|ago| now.checked_sub(ago).ok())
            .ok_or_else(too_far)?
            .timestamp()
    } else if let Ok(at) = text.parse::<Timestamp>() {
        at
    } else if text.parse::<jiff::civil::DateTime>().is_ok() {
        return Err(format!(
            "{flag} {text:?} lacks a zone; end it in Z, or in an offset such as +02:00"
        ));
    } else {
        return Err(format!("{flag} {text:?} is no time; {HOW}"));
    };
    Ok(Some(at))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        selection: Selection,
    }

    fn select(arguments: &[&str]) -> Result<Selected, String> {
        let now = "2026-06-01T12:00:00+02:00[Europe/Berlin]".parse().unwrap();
        let arguments = ["test"].iter().chain(arguments);
        let flags = Flags::try_parse_from(arguments).map_err(|error| error.to_string())?;
        flags
            .selection
            .select(&now)
            .map_err(|failure| failure.to_string())
    }

    #[test]
    fn flags_come_to_one_filter() {
        for (arguments, filter) in [
            (&[][..], ""),
            (&["--filter", "a = b OR c = d"], "a = b OR c = d"),
            (&["--team", "a"], r#"team = "a""#),
            (&["--team", ""], r#"team = """#),
            (
                &["--team", "a", "--team", "b"],
                r#"(team = "a" OR team = "b")"#,
            ),
            (
                &["--action", "create", "--action", "DELETE"],
                "(action = CREATE OR action = DELETE)",
            ),
            (
                &["--team", "a", "--actor", "local:0", "--filter", "x = y"],
                r#"team = "a" AND actor = "local:0" AND (x = y)"#,
            ),
        ] {
            assert_eq!(select(arguments).unwrap().filter, filter, "{arguments:?}");
        }
    }

    #[test]
    fn a_value_cannot_become_another_condition() {
        for (team, quoted) in [
            (r#"a" OR team = "b"#, r#"team = "a\" OR team = \"b""#),
            (r"a\", r#"team = "a\\""#),
            ("it's", r#"team = "it\'s""#),
            ("a*", r#"team = "a\*""#),
        ] {
            assert_eq!(select(&["--team", team]).unwrap().filter, quoted);
        }
        for filter in [
            "a = b) OR (c = d",
            "(a = b",
            "a = b)",
            "a = \"b",
            "a = 'b\\'",
            "a = \")\" )",
        ] {
            let error = select(&["--team", "a", "--filter", filter]).unwrap_err();
            assert!(error.contains("--filter"), "{filter}: {error}");
        }
        for filter in ["a = \")\"", "(a = 'it\\'s (')", "a = \"'\" AND (b = c)"] {
            assert!(
                select(&["--team", "a", "--filter", filter]).is_ok(),
                "{filter}"
            );
        }
    }

    #[test]
    fn times_are_read_here_and_sent_in_utc() {
        for (arguments, filter) in [
            (
                &["--since", "2026-05-01"][..],
                r#"time >= "2026-04-30T22:00:00Z""#,
            ),
            (
                &["--until", "2026-05-01"],
                r#"time < "2026-05-01T22:00:00Z""#,
            ),
            (
                &["--since", "2026-05-01", "--until", "2026-05-01"],
                r#"time >= "2026-04-30T22:00:00Z" AND time < "2026-05-01T22:00:00Z""#,
            ),
            (&["--since", "24h"], r#"time >= "2026-05-31T10:00:00Z""#),
            (&["--since", "-7d"], r#"time >= "2026-05-25T10:00:00Z""#),
            (
                &["--until", "2026-05-01T09:30:00.5+02:00"],
                r#"time < "2026-05-01T07:30:00.5Z""#,
            ),
        ] {
            assert_eq!(select(arguments).unwrap().filter, filter, "{arguments:?}");
        }
        for (arguments, says) in [
            (&["--since", "soon"][..], "--since \"soon\" is no time"),
            (&["--until", "2026-02-30"], "no day"),
            (&["--until", "2026-05-01T09:30:00"], "lacks a zone"),
            (&["--since", "99999999999d"], "too far"),
            (&["--until", "9999-12-31"], "too far"),
            (&["--since", "1h", "--until", "2h"], "nothing in between"),
        ] {
            let error = select(arguments).unwrap_err();
            assert!(error.contains(says), "{arguments:?}: {error}");
        }
    }

    #[test]
    fn without_a_workspace_it_is_all_that_one_may_see() {
        for (arguments, parent) in [
            (&[][..], "workspaces/-"),
            (&["-w", "-"], "workspaces/-"),
            (&["-w", "acme"], "workspaces/acme"),
            (&["--workspace", "workspaces/acme"], "workspaces/acme"),
        ] {
            assert_eq!(select(arguments).unwrap().parent, parent);
        }
        assert!(select(&["-w", "Acme"]).is_err());
    }
}

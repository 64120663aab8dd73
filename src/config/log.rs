//! What is logged.

use std::{fmt, str::FromStr};

use tracing_subscriber::{EnvFilter, filter::LevelFilter};

use super::{Setting, layers::Layers};

/// The log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSettings {
    /// How lines look. Default `text`; `PORTCULLIS_LOG_FORMAT`.
    pub format: LogFormat,
    /// Which lines are written, in the syntax of tracing's `EnvFilter`. Default `info`; `PORTCULLIS_LOG`.
    pub filter: String,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err("is no log format; write text or json".into()),
        }
    }
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "text",
            Self::Json => "json",
        })
    }
}

pub(super) fn read(layers: &mut Layers<'_>) -> Option<LogSettings> {
    let format = layers.read(Setting::LogFormat, "text", LogFormat::from_str);
    let filter = layers.read(Setting::Log, "info", parse_filter);
    Some(LogSettings {
        format: format?,
        filter: filter?,
    })
}

fn parse_filter(text: &str) -> Result<String, String> {
    const HOW: &str = "write a level (off, error, warn, info, debug, trace), or target=level pairs between commas";
    if text.trim().is_empty() {
        return Err(format!("is empty; {HOW}"));
    }
    for directive in text.split(',').map(str::trim) {
        // EnvFilter takes a misspelt level for a target and then drops every other line.
        let bare = !directive.contains(['=', '[']);
        if bare && directive.parse::<LevelFilter>().is_err() {
            return Err(format!("has {directive:?}, which is no level; {HOW}"));
        }
    }
    match EnvFilter::builder().parse(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(format!("is no log filter ({error}); {HOW}")),
    }
}

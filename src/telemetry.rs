//! Logs: one line an event on standard error, as text or JSON. Tokens, secrets and bodies never appear in them.

use std::{
    io::IsTerminal as _,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use tracing_subscriber::{EnvFilter, filter::ParseError};

use crate::config::{LogFormat, LogSettings};

/// Starts logging for the process. Later calls change nothing.
///
/// # Errors
/// If the filter cannot be parsed.
pub fn start(settings: &LogSettings) -> Result<(), ParseError> {
    let filter = EnvFilter::try_new(quietened(&settings.filter))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    // An error means that logging was started before, as tests in one process do.
    let _ = match settings.format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    Ok(())
}

/// The filter, with nothing but errors of the HTTP/2 library unless it says otherwise: that warns of each peer that breaks the
/// protocol, as often as one likes to connect. What we cut is counted, and told now and then.
fn quietened(filter: &str) -> String {
    let is_off = filter
        .split(',')
        .any(|part| part.trim().eq_ignore_ascii_case("off"));
    if is_off {
        filter.to_owned()
    } else {
        // What is said of a target later counts.
        format!("h2=error,{filter}")
    }
}

/// A flood of events must not become a flood of log lines.
const SILENCE: Duration = Duration::from_secs(10);

/// Tells of the first of many events, and again only after a while.
#[derive(Debug, Default)]
pub struct Seldom(Mutex<(Option<Instant>, u64)>);

impl Seldom {
    /// Takes note of an event. If it is due to be told of, this is how many there were since the last that was.
    pub fn due(&self) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (told, untold) = &mut *state;
        if told.is_some_and(|told| told.elapsed() < SILENCE) {
            *untold += 1;
            return None;
        }
        *told = Some(Instant::now());
        Some(std::mem::take(untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_do_not_fill_the_log_unless_it_is_asked_for() {
        let says = |filter: &str| EnvFilter::new(quietened(filter)).to_string();
        assert!(says("info").contains("h2=error") && says("info").contains("info"));
        assert!(says("info,h2=debug").contains("h2=debug"));
        assert!(!says("info,h2=debug").contains("h2=error"));
        assert_eq!(says("off"), "off");
    }

    #[test]
    fn many_events_are_told_once() {
        let seldom = Seldom::default();
        let told: Vec<_> = (0..1_000).filter_map(|_| seldom.due()).collect();
        assert_eq!(told, [0]);
    }
}

//! The world of a command: its streams, its environment and its clock. Tests make their own.

use std::{
    ffi::OsString,
    io::{BufRead, Write},
};

use jiff::{Zoned, tz::TimeZone};

pub(super) struct Console<'a> {
    /// Answers, and nothing else.
    pub(super) out: &'a mut dyn Write,
    /// Notices, questions, errors.
    pub(super) err: &'a mut dyn Write,
    pub(super) stdin: &'a mut dyn BufRead,
    /// Whether a person can be asked.
    pub(super) terminal: bool,
    /// Whether `out` is a terminal.
    pub(super) out_terminal: bool,
    /// Whether `err` is a terminal.
    pub(super) err_terminal: bool,
    pub(super) env: &'a dyn Fn(&str) -> Option<OsString>,
    /// The time, in the system's zone.
    pub(super) now: Zoned,
    /// How the program was called, to print commands that can be typed.
    pub(super) command_name: &'a str,
}

impl Console<'_> {
    /// The zone that times are shown in.
    pub(super) fn zone(&self) -> &TimeZone {
        self.now.time_zone()
    }

    /// The value of an environment variable. An empty one counts as unset.
    pub(super) fn variable(&self, name: &str) -> Option<OsString> {
        (self.env)(name).filter(|value| !value.is_empty())
    }

    /// Tells the person something that is no part of the answer.
    pub(super) fn notice(&mut self, text: &str) {
        // A lost notice must not stop the command that it is about.
        let _ = writeln!(self.err, "{text}");
    }
}

/// Replaces the characters that a terminal acts on: controls, and those that change the direction of writing.
///
/// What a server sends is not trusted with the terminal: it may hold names that someone else chose.
pub(super) fn clean(text: &str) -> String {
    text.replace(acts_on_terminal, "\u{fffd}")
}

/// True for the characters that [`clean`] replaces.
pub(super) fn acts_on_terminal(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

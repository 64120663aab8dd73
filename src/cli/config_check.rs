//! `portcullis config check`.

use std::fs;

use super::{Outcome, console::Console, failure::Failure, output::rows};
use crate::config::{ServeFlags, Settings};

/// Prints the settings and their sources. Looks at no store and opens no port.
pub(super) fn run(flags: &ServeFlags, console: &mut Console<'_>) -> Result<Outcome, Failure> {
    let explained = Settings::explain(flags, console.env, &|path| fs::read_to_string(path))?;
    let mut table = vec![["SETTING", "VALUE", "FROM"].map(str::to_owned)];
    for row in explained.rows {
        table.push([row.name.to_owned(), row.value, row.origin.to_string()]);
    }
    rows(console.out, &table)?;
    Ok(Outcome::Done)
}

//! Writes a list page by page, so that a long one needs neither time nor memory before its first line.

use std::num::NonZeroUsize;

use prost::Message;

use super::{
    console::Console,
    failure::Failure,
    output::{Format, Json, rows},
};

/// The most resources in a page.
const PAGE: usize = 1_000;
/// How many lines of short pages are put together, so that their columns are aligned.
const TOGETHER: usize = 100;

/// Reads `--limit`.
pub(super) fn parse_limit(text: &str) -> Result<NonZeroUsize, String> {
    text.parse()
        .map_err(|_| "write a whole number, 1 or more".into())
}

/// Turns to the page after the one that `asked` asked for. False if that was the last: an empty or a short page is not.
pub(super) fn turn(asked: &mut String, next: String) -> Result<bool, Failure> {
    if !next.is_empty() && next == *asked {
        // It would be asked for the same page for ever.
        return Err(Failure::Failed(
            "the server answers the same page over and over; the list is not complete".into(),
        ));
    }
    *asked = next;
    Ok(!asked.is_empty())
}

/// A list being written.
pub(super) struct Listing<const N: usize> {
    format: Json,
    as_json: bool,
    message: &'static str,
    /// What stands before the first page, until it is written.
    field: Option<&'static str>,
    /// What stands above the table, until it is written, then the rows that are not written yet.
    header: Option<[&'static str; N]>,
    pending: Vec<[String; N]>,
    written: usize,
    limit: usize,
}

impl<const N: usize> Listing<N> {
    /// Begins a list of at most `limit` messages named `message`; in JSON it is the object's field `field`.
    pub(super) fn begin(
        format: Format,
        (field, message): (&'static str, &'static str),
        header: [&'static str; N],
        limit: Option<NonZeroUsize>,
    ) -> Result<Self, Failure> {
        let as_json = format == Format::Json;
        let limit = limit.map_or(usize::MAX, NonZeroUsize::get);
        Ok(Self {
            format: Json::new()?,
            as_json,
            message,
            field: Some(field),
            header: Some(header),
            pending: Vec::new(),
            written: 0,
            limit,
        })
    }

    /// How many more to ask for; `None` once the limit is reached.
    pub(super) fn wanted(&self) -> Option<i32> {
        let left = self.limit.saturating_sub(self.written).min(PAGE);
        // It is at most `PAGE`.
        i32::try_from(left).ok().filter(|&left| left > 0)
    }

    /// Writes a page.
    pub(super) fn page<M: Message>(
        &mut self,
        console: &mut Console<'_>,
        page: &[M],
        row: impl Fn(&M) -> [String; N],
    ) -> Result<(), Failure> {
        let page = &page[..page.len().min(self.limit - self.written)];
        if self.as_json {
            // Not before there is a page: an error must leave nothing on stdout.
            if let Some(field) = self.field.take() {
                write!(console.out, "{{\"{field}\":[")?;
            }
            for message in page {
                let comma = if self.written == 0 { "" } else { "," };
                write!(
                    console.out,
                    "{comma}\n{}",
                    self.format.line(self.message, message)?
                )?;
                self.written += 1;
            }
        } else {
            self.pending.extend(page.iter().map(row));
            self.written += page.len();
            if self.pending.len() >= TOGETHER {
                self.write_pending(console)?;
            }
        }
        Ok(console.out.flush()?)
    }

    fn write_pending(&mut self, console: &mut Console<'_>) -> Result<(), Failure> {
        let header = self.header.take().map(|header| header.map(str::to_owned));
        let table: Vec<_> = header.into_iter().chain(self.pending.drain(..)).collect();
        rows(console.out, &table)
    }

    /// Ends the list. `more`: the limit cut it before its last page.
    pub(super) fn end(mut self, more: bool, console: &mut Console<'_>) -> Result<(), Failure> {
        if self.as_json {
            writeln!(console.out, "\n]}}")?;
        } else {
            self.write_pending(console)?;
        }
        if more {
            // After the list, also where both streams are the same.
            console.out.flush()?;
            console.notice(&format!(
                "note: there may be more than the {} that --limit asked for",
                self.limit
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_followed_to_its_end_and_no_further() {
        let mut asked = String::new();
        assert_eq!(turn(&mut asked, "a".into()).ok(), Some(true));
        assert_eq!(turn(&mut asked, "b".into()).ok(), Some(true));
        let again = turn(&mut asked, "b".into()).unwrap_err().to_string();
        assert!(again.contains("over and over"), "{again}");
        assert_eq!(turn(&mut asked, String::new()).ok(), Some(false));
    }
}

//! What people type to find a key.

use nucleo_matcher::{Config, Matcher, Utf32Str, Utf32String, chars};

use super::{
    directory::{Letters, Row},
    key_filter::id_range,
};
use crate::domain::{Invalid, base62, id::KeyId};

/// Words to find keys by. A key is found if every word is
/// - in its display name or its description, letters in order with gaps allowed, in any case; or
/// - the beginning of its id (from 3 characters on) or somewhere in it (from 4 on), as it is written: ids are random, so
///   less, or gaps, would find any key.
///
/// The beginning of an id counts most, then the display name, the description, the rest of the id; among equals of these,
/// how well a word fits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyQuery {
    words: Vec<Word>,
}

/// The longest query, in characters.
pub const MAX_QUERY: usize = 256;
/// The most different words of a query: each costs a look at every text.
pub const MAX_WORDS: usize = 16;
const MIN_ID_PREFIX: usize = 3;
const MIN_ID_PART: usize = 4;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Word {
    /// In lower case.
    needle: Utf32String,
    letters: Letters,
    /// It has no accents, so accents make no difference.
    is_plain: bool,
    /// The ids that begin so.
    ids: Option<(KeyId, KeyId)>,
    /// What may be in the middle of an id.
    id_part: Option<Box<str>>,
}

impl KeyQuery {
    /// Reads words; `None`: there is none.
    ///
    /// # Errors
    /// If the text has more than 256 characters or 16 different words.
    pub fn parse(text: &str) -> Result<Option<Self>, Invalid> {
        // Bytes first, so that a megabyte is refused without counting its characters.
        if text.len() > MAX_QUERY * 4 || text.chars().count() > MAX_QUERY {
            return Err(Invalid::new("must have at most 256 characters"));
        }
        let mut texts: Vec<&str> = text.split_whitespace().collect();
        texts.sort_unstable();
        texts.dedup();
        if texts.len() > MAX_WORDS {
            return Err(Invalid::new("must have at most 16 different words"));
        }
        let words: Vec<Word> = texts.into_iter().map(Word::of).collect();
        Ok((!words.is_empty()).then_some(Self { words }))
    }
}

impl Word {
    fn of(text: &str) -> Self {
        let lower: String = chars::graphemes(text).map(chars::to_lower_case).collect();
        let is_id = text.len() <= base62::WIDTH_U128 && base62::is_base62(text.as_bytes());
        Self {
            letters: Letters::asked(&lower),
            is_plain: lower.chars().all(|c| c == chars::normalize(c)),
            needle: lower.as_str().into(),
            ids: id_range(text).filter(|_| is_id && text.len() >= MIN_ID_PREFIX),
            id_part: (is_id && text.len() >= MIN_ID_PART).then(|| text.into()),
        }
    }
}

/// Judges rows by a query. Holds the memory that this takes.
pub(super) struct Ranker<'q> {
    query: &'q KeyQuery,
    matcher: Matcher,
    buffer: Vec<char>,
}

/// More than any word's fit within its place.
const STEP: u32 = 1 << 16;

impl<'q> Ranker<'q> {
    pub(super) fn new(query: &'q KeyQuery) -> Self {
        Self {
            query,
            matcher: Matcher::new(Config::DEFAULT),
            buffer: Vec::new(),
        }
    }

    /// How well the row fits, the more the better; `None`: it does not.
    pub(super) fn rank(&mut self, row: &Row) -> Option<u32> {
        let words = &self.query.words;
        // Most rows end here.
        let may_fit = |word: &Word| {
            word.letters.are_among(row.letters) || word.ids.is_some() || word.id_part.is_some()
        };
        if !words.iter().all(may_fit) {
            return None;
        }
        let query = self.query;
        query.words.iter().try_fold(0, |sum: u32, word| {
            Some(sum.saturating_add(self.rank_word(word, row)?))
        })
    }

    fn rank_word(&mut self, word: &Word, row: &Row) -> Option<u32> {
        let id = row.position.id();
        if word
            .ids
            .is_some_and(|(least, most)| (least..=most).contains(&id))
        {
            return Some(4 * STEP);
        }
        if word.letters.are_among(row.letters) {
            let Self {
                matcher, buffer, ..
            } = self;
            matcher.config.normalize = word.is_plain;
            let needle = word.needle.slice(..);
            let name = Utf32Str::new(row.display_name(), buffer);
            if let Some(fit) = matcher.fuzzy_match(name, needle) {
                return Some(3 * STEP + u32::from(fit));
            }
            // A description may be long, and the best of all fits takes the product of both lengths; a good one, their sum.
            let description = Utf32Str::new(row.description(), buffer);
            if let Some(fit) = matcher.fuzzy_match_greedy(description, needle) {
                return Some(2 * STEP + u32::from(fit));
            }
        }
        let part = word.id_part.as_deref()?;
        let text = id.to_text();
        let is_part = text
            .windows(part.len())
            .any(|window| window == part.as_bytes());
        is_part.then_some(STEP)
    }
}

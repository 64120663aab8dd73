//! Templates of paths.

use std::fmt;

use super::path;
use crate::domain::Invalid;

/// The longest template, in characters.
pub const MAX_TEMPLATE: usize = 1_024;
/// The most `{…}` of a template. The matcher takes 26 at most, and panics at more.
pub const MAX_PARAMETERS: usize = 16;
const MAX_NAME: usize = 32;

/// A template of paths, such as `/v1/messages/{id}`. A path without braces is one of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    text: Box<str>,
    segments: Box<[Segment]>,
}

/// What stands between two slashes. Names say nothing to a matcher, so they are not kept.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    Literal(Box<str>),
    /// `{name}`: one segment.
    One,
    /// `{*name}`: one segment or more.
    Rest,
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// If it is none, or one that no path which is looked at would be of.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        if text.len() > MAX_TEMPLATE {
            return Err(Invalid::new("must have at most 1,024 characters"));
        }
        let Some(rest) = text.strip_prefix('/') else {
            return Err(Invalid::new("must begin with '/'"));
        };
        let mut segments = Vec::new();
        for segment in rest.split('/').filter(|_| !rest.is_empty()) {
            if segments.contains(&Segment::Rest) {
                return Err(Invalid::new("must have {*name} as its end alone"));
            }
            segments.push(Segment::parse(segment)?);
        }
        let parameters = segments
            .iter()
            .filter(|segment| !matches!(segment, Segment::Literal(_)))
            .count();
        if parameters > MAX_PARAMETERS {
            return Err(Invalid::new("must have at most 16 {names}"));
        }
        Ok(Self {
            text: text.into(),
            segments: segments.into(),
        })
    }

    /// The template without names, as the matcher reads it: equal for templates of the same paths.
    pub(super) fn shape(&self) -> String {
        if self.segments.is_empty() {
            return "/".into();
        }
        let texts = self.segments.iter().flat_map(|segment| {
            let text = match segment {
                Segment::Literal(text) => text,
                Segment::One => "{a}",
                Segment::Rest => "{*a}",
            };
            ["/", text]
        });
        texts.collect()
    }

    /// True if, behind the same beginning, one goes on with `{name}` and the other with `{*rest}`. The matcher keeps only one of
    /// these at a place.
    pub(super) fn rivals(&self, other: &Self) -> bool {
        let mut pairs = self.segments.iter().zip(&other.segments);
        let differ = pairs.find(|(one, other)| one != other);
        matches!(
            differ,
            Some((Segment::One, Segment::Rest) | (Segment::Rest, Segment::One))
        )
    }
}

impl Segment {
    fn parse(text: &str) -> Result<Self, Invalid> {
        let inner = text
            .strip_prefix('{')
            .and_then(|text| text.strip_suffix('}'));
        if let Some(inner) = inner {
            let (segment, name) = match inner.strip_prefix('*') {
                Some(name) => (Self::Rest, name),
                None => (Self::One, inner),
            };
            let well_formed = (1..=MAX_NAME).contains(&name.len())
                && name
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
            return if well_formed {
                Ok(segment)
            } else {
                Err(Invalid::new(
                    "must have up to 32 letters, digits and '_' between braces, and an '*' before them if they stand for all \
                     that follows",
                ))
            };
        }
        match text {
            "" => Err(Invalid::new(
                "must have something between any two slashes, and no slash at its end",
            )),
            "." | ".." => Err(Invalid::new("must have no segment . or ..")),
            _ if text.contains(['{', '}']) => Err(Invalid::new(
                "must have braces only around a whole segment, such as /{id}",
            )),
            _ if text.bytes().all(path::is_literal) => Ok(Self::Literal(text.into())),
            _ => Err(Invalid::new(
                "must have between its slashes only letters, digits and -._~:@!$&'()*+,= as they are, or a {name}; \
                 paths with other characters are of a {name} only",
            )),
        }
    }
}

/// As it was written.
impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

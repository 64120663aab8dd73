//! Which paths have one meaning only.
//!
//! Between us and what answers a request there may be proxies and frameworks that decode a path, once or twice, merge its
//! slashes, walk its dots, cut it at a `;` or a NUL, or trim it. A path that one of them may take for another is not judged at
//! all: it could pass by the route of what it looks like and be answered as what it is taken for.

use std::fmt;

/// The longest path, its query included, in bytes.
pub const MAX_PATH: usize = 32 << 10;

/// Why some upstream may read a path in another way than we do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AmbiguousPath {
    /// More than [`MAX_PATH`].
    TooLong,
    /// It does not begin with `/`.
    NotRooted,
    /// A space, a control character or a `#`, in the query, too: some end the path there, or the whole request.
    BadCharacter,
    /// Two slashes in a row, which some take for one.
    EmptySegment,
    /// `.` or `..`.
    DotSegment,
    /// A character that must not stand in a path as it is.
    NotLiteral,
    /// A `%` without two digits.
    BadEscape,
    /// An escape for what can be written as it is, or for what parts a path. Some decode twice, some not at all.
    NeedlessEscape,
    /// Escapes for what is no text.
    NotText,
    /// It begins or ends with a blank, which some trim.
    Blank,
}

/// The path without its query, if it has one meaning only.
///
/// One slash at its end is left out. Most upstreams answer `/admin/` as `/admin`, or send the caller from one to the other, so
/// that what asks for the one must ask for the other.
pub(super) fn unambiguous(path_and_query: &str) -> Result<&str, AmbiguousPath> {
    if path_and_query.len() > MAX_PATH {
        return Err(AmbiguousPath::TooLong);
    }
    let ends_something = |byte: u8| byte <= b' ' || byte == b'\x7f' || byte == b'#';
    if path_and_query.bytes().any(ends_something) {
        return Err(AmbiguousPath::BadCharacter);
    }
    let path = path_and_query
        .split_once('?')
        .map_or(path_and_query, |(path, _query)| path);
    let Some(segments) = path.strip_prefix('/') else {
        return Err(AmbiguousPath::NotRooted);
    };
    if segments.is_empty() {
        return Ok("/");
    }
    let trimmed = segments.strip_suffix('/').unwrap_or(segments);
    trimmed.split('/').try_for_each(check_segment)?;
    Ok(path.strip_suffix('/').unwrap_or(path))
}

/// True for what stands in a segment as it is: the `pchar` of RFC 3986 but for `%`, and for `;`, which some cut a segment at.
pub(super) fn is_literal(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,=:@".contains(&byte)
}

/// True for the ASCII that can only be written by an escape, and that no one takes for anything but itself.
fn must_be_escaped(byte: u8) -> bool {
    b" \"<>[]^`{|}".contains(&byte)
}

fn check_segment(segment: &str) -> Result<(), AmbiguousPath> {
    match segment {
        "" => return Err(AmbiguousPath::EmptySegment),
        "." | ".." => return Err(AmbiguousPath::DotSegment),
        _ if segment.bytes().all(is_literal) => return Ok(()),
        _ => {}
    }
    let decoded = decode(segment.as_bytes())?;
    let text = std::str::from_utf8(&decoded).map_err(|_| AmbiguousPath::NotText)?;
    if text.chars().any(char::is_control) {
        return Err(AmbiguousPath::NeedlessEscape);
    }
    if text.trim() != text {
        return Err(AmbiguousPath::Blank);
    }
    Ok(())
}

fn decode(mut rest: &[u8]) -> Result<Vec<u8>, AmbiguousPath> {
    let mut decoded = Vec::with_capacity(rest.len());
    while let [first, after @ ..] = rest {
        rest = after;
        if *first != b'%' {
            if !is_literal(*first) {
                return Err(AmbiguousPath::NotLiteral);
            }
            decoded.push(*first);
            continue;
        }
        let [high, low, after @ ..] = rest else {
            return Err(AmbiguousPath::BadEscape);
        };
        let (Some(high), Some(low)) = (digit(*high), digit(*low)) else {
            return Err(AmbiguousPath::BadEscape);
        };
        let byte = high << 4 | low;
        if byte.is_ascii() && !must_be_escaped(byte) {
            return Err(AmbiguousPath::NeedlessEscape);
        }
        decoded.push(byte);
        rest = after;
    }
    Ok(decoded)
}

const fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

impl fmt::Display for AmbiguousPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLong => "it has more than 32 KiB",
            Self::NotRooted => "it does not begin with '/'",
            Self::BadCharacter => "it has a space, a control character or a '#'",
            Self::EmptySegment => "it has two slashes in a row",
            Self::DotSegment => "it has a segment . or ..",
            Self::NotLiteral => "it has a character that must be escaped",
            Self::BadEscape => "it has a % without two hexadecimal digits",
            Self::NeedlessEscape => "it has an escape for what needs none or parts a path",
            Self::NotText => "it has escapes for what is no text",
            Self::Blank => "a segment begins or ends with a blank",
        })
    }
}

impl std::error::Error for AmbiguousPath {}

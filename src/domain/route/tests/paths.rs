//! Which paths are looked at.

use super::*;
use AmbiguousPath::{
    BadCharacter, BadEscape, Blank, DotSegment, EmptySegment, NeedlessEscape, NotLiteral,
    NotRooted, NotText, TooLong,
};

/// Every route there may be, so that nothing but the path itself is judged.
fn open() -> RouteTable {
    table(&["/", "/{*any}"])
}

#[test]
fn a_path_with_one_meaning_is_looked_at() {
    for path in [
        "/",
        "/?",
        "/a",
        "/a/",
        "/a/b.c/...",
        "/.well-known/x",
        "/a..b",
        "/~me/-_.!$&'()*+,=:@",
        "/*",
        "/a?b?c",
        "/a?b=//../;\\%zz%00{\"é",
        "/a%20b",
        "/%22%3C%3E%5B%5D%5E%60%7B%7C%7D",
        "/%5b%5B",
        "/%C3%A9%c3%a9",
        "/%F0%9F%9A%80",
        "/x%EF%BF%BF",
        &format!("/{}", "a".repeat(MAX_PATH - 1)),
    ] {
        assert_ne!(asked(&open(), "GET", path), "", "{path}");
    }
}

/// The numbers are those of the project's list of bad inputs.
#[test]
fn a_path_that_may_be_taken_for_another_is_refused() {
    for (row, path, why) in [
        ("36", "//admin", EmptySegment),
        ("36", "//", EmptySegment),
        ("36", "///", EmptySegment),
        ("36", "/a//", EmptySegment),
        ("36", "/a//b", EmptySegment),
        ("36", "//?x", EmptySegment),
        ("37", "/a/../b", DotSegment),
        ("37", "/..", DotSegment),
        ("37", "/../", DotSegment),
        ("37", "/a/./b", DotSegment),
        ("37", "/.?x", DotSegment),
        ("38", "/%2e%2e/b", NeedlessEscape),
        ("38", "/a/%2E%2e", NeedlessEscape),
        ("38", "/.%2e/b", NeedlessEscape),
        ("38", "/%2e", NeedlessEscape),
        ("39", "/a%2Fb", NeedlessEscape),
        ("39", "/a%2fb", NeedlessEscape),
        ("39", "/%2F", NeedlessEscape),
        ("39", "/..%2Fb", NeedlessEscape),
        ("40", "/a%5Cb", NeedlessEscape),
        ("40", "/a%5c..%5cb", NeedlessEscape),
        ("40", "/a\\b", NotLiteral),
        ("40", "/..\\b", NotLiteral),
        ("40", "\\a", NotRooted),
        ("41", "/a%00", NeedlessEscape),
        ("41", "/a\0", BadCharacter),
        ("41", "/a%00.png", NeedlessEscape),
        ("41", "/a%0a", NeedlessEscape),
        ("41", "/a%0D%0Ab", NeedlessEscape),
        ("41", "/a%7f", NeedlessEscape),
        ("41", "/%C2%85", NeedlessEscape),
        ("42", "/%zz", BadEscape),
        ("42", "/%", BadEscape),
        ("42", "/%2", BadEscape),
        ("42", "/a%2/b", BadEscape),
        ("42", "/%u002e", BadEscape),
        ("42", "/%%2e", BadEscape),
        ("42", "/% 2", BadCharacter),
        ("42", "/%+2", BadEscape),
        ("43", "http://h/a", NotRooted),
        ("43", "h:443", NotRooted),
        ("43", "*", NotRooted),
        ("44", "", NotRooted),
        ("44", "?x", NotRooted),
        // Twice encoded, it is once decoded what it must not be.
        ("twice", "/%252e%252e/b", NeedlessEscape),
        ("twice", "/%25", NeedlessEscape),
        // Letters that need no escape.
        ("needless", "/%61dmin", NeedlessEscape),
        ("needless", "/a%2Db", NeedlessEscape),
        ("needless", "/%7Eme", NeedlessEscape),
        ("needless", "/a%40b", NeedlessEscape),
        ("needless", "/a%2Cb", NeedlessEscape),
        // What parts or ends a path.
        ("ends", "/admin;x", NotLiteral),
        ("ends", "/admin;/x", NotLiteral),
        ("ends", "/..;/admin", NotLiteral),
        ("ends", "/admin%3Bx", NeedlessEscape),
        ("ends", "/admin%3Fx", NeedlessEscape),
        ("ends", "/admin%23x", NeedlessEscape),
        ("ends", "/admin#x", BadCharacter),
        ("ends", "/admin?x#y", BadCharacter),
        ("ends", "/admin x", BadCharacter),
        ("ends", "/admin?x y", BadCharacter),
        ("ends", "/admin?x\r\ny", BadCharacter),
        ("ends", "/admin\t", BadCharacter),
        ("ends", "/a\u{7f}", BadCharacter),
        // What is trimmed.
        ("blank", "/admin%20", Blank),
        ("blank", "/%20admin", Blank),
        ("blank", "/..%20/x", Blank),
        ("blank", "/%20", Blank),
        ("blank", "/%C2%A0admin", Blank),
        // What must be escaped, and is not.
        ("raw", "/é", NotLiteral),
        ("raw", "/a\"b", NotLiteral),
        ("raw", "/<a>", NotLiteral),
        ("raw", "/a[0]", NotLiteral),
        ("raw", "/a|b", NotLiteral),
        ("raw", "/{id}", NotLiteral),
        ("raw", "/a^b`", NotLiteral),
        // What is no text: overlong, cut off, surrogates, alone.
        ("text", "/%C0%AE%C0%AE", NotText),
        ("text", "/%c0%af", NotText),
        ("text", "/%E0%80%AF", NotText),
        ("text", "/%F0%80%80%AF", NotText),
        ("text", "/%C3", NotText),
        ("text", "/%C3/%A9", NotText),
        ("text", "/%C3a", NotText),
        ("text", "/%ED%A0%80", NotText),
        ("text", "/%80", NotText),
        ("text", "/%FF", NotText),
        ("text", "/%F5%80%80%80", NotText),
        ("45", &format!("/{}", "a".repeat(MAX_PATH)), TooLong),
        ("45", &format!("/?{}", "a".repeat(MAX_PATH)), TooLong),
    ] {
        assert_eq!(open().find("GET", path), Err(why), "row {row}: {path:?}");
    }
}

#[test]
fn every_octet_has_at_most_one_spelling() {
    for byte in u8::MIN..=u8::MAX {
        let raw = char::from(byte)
            .is_ascii()
            .then(|| format!("/x{}y", char::from(byte)));
        let escapes = [format!("/x%{byte:02x}y"), format!("/x%{byte:02X}y")];
        let looked_at = |path: &String| open().find("GET", path).is_ok();
        let raw_is = raw.as_ref().is_some_and(looked_at);
        let escaped_is = escapes.iter().any(looked_at);
        match byte {
            // One parts segments, the other ends the path.
            b'/' | b'?' => assert!(raw_is && !escaped_is),
            _ => assert!(!(raw_is && escaped_is), "{byte:#x} has two spellings"),
        }
    }
}

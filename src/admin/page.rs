//! Page sizes and page tokens.
//!
//! A token says where the next page begins. It is bound to the other arguments by a checksum, which is there against
//! mistakes: a token grants nothing, since every page is authorized like the first.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest as _, Sha256};

use super::Failure;

const DEFAULT_SIZE: usize = 50;
const MAX_SIZE: usize = 1_000;
const CHECKSUM: usize = 8;

/// The number of items for a page: 0 is 50, more than 1,000 is 1,000.
pub(super) fn read_size(page_size: i32) -> Result<usize, Failure> {
    match usize::try_from(page_size) {
        Ok(0) => Ok(DEFAULT_SIZE),
        Ok(size) => Ok(size.min(MAX_SIZE)),
        Err(_) => Err(Failure::invalid("page_size", "must not be negative")),
    }
}

/// The token of the page that begins after `cursor`, for this call with these arguments.
pub(super) fn write_token(call: &str, arguments: &str, cursor: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode([cursor, &checksum(call, arguments, cursor)].concat())
}

/// Where the page begins; `None`: at the start.
pub(super) fn read_token(
    call: &str,
    arguments: &str,
    token: &str,
) -> Result<Option<Vec<u8>>, Failure> {
    if token.is_empty() {
        return Ok(None);
    }
    let refused = || {
        Failure::invalid(
            "page_token",
            "is not a token that this call answered for these arguments",
        )
    };
    let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| refused())?;
    match bytes.split_last_chunk::<CHECKSUM>() {
        Some((cursor, sum)) if *sum == checksum(call, arguments, cursor) => {
            Ok(Some(cursor.to_vec()))
        }
        _ => Err(refused()),
    }
}

fn checksum(call: &str, arguments: &str, cursor: &[u8]) -> [u8; CHECKSUM] {
    let digest = [call.as_bytes(), &[0], arguments.as_bytes(), &[0], cursor].concat();
    *Sha256::digest(digest)
        .first_chunk()
        .expect("a digest is longer than 8 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_for_its_own_call_and_arguments_only() {
        let token = write_token("ListKeys", "workspaces/a", b"cursor");
        let reads =
            |call, arguments, token: &str| read_token(call, arguments, token).ok().flatten();
        assert_eq!(
            reads("ListKeys", "workspaces/a", &token),
            Some(b"cursor".to_vec())
        );
        assert_eq!(reads("ListKeys", "workspaces/b", &token), None);
        assert_eq!(reads("ListWorkspaces", "workspaces/a", &token), None);
        for place in 0..token.len() {
            let mut flipped = token.clone().into_bytes();
            flipped[place] = if flipped[place] == b'A' { b'B' } else { b'A' };
            let flipped = String::from_utf8(flipped).unwrap();
            assert!(
                read_token("ListKeys", "workspaces/a", &flipped).is_err(),
                "{flipped}"
            );
        }
    }

    #[test]
    fn sizes_are_bounded() {
        for (asked, given) in [
            (0, 50),
            (1, 1),
            (1_000, 1_000),
            (1_001, 1_000),
            (i32::MAX, 1_000),
        ] {
            assert_eq!(read_size(asked).unwrap(), given);
        }
        assert!(read_size(-1).is_err());
    }
}

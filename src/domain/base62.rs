//! Fixed-width base62, digits first, then upper case, then lower case.

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// The value of each byte, or `NOT_A_DIGIT`.
const VALUES: [u8; 256] = {
    let mut values = [NOT_A_DIGIT; 256];
    let mut i = 0;
    while i < 62 {
        #[expect(clippy::cast_possible_truncation, reason = "i is below 62")]
        let value = i as u8;
        values[ALPHABET[i] as usize] = value;
        i += 1;
    }
    values
};

const NOT_A_DIGIT: u8 = 0xff;

/// The width of 128 bits.
pub const WIDTH_U128: usize = 22;
/// The width of 32 bits.
pub const WIDTH_U32: usize = 6;

/// True if every byte is a base62 digit.
#[must_use]
pub fn is_base62(text: &[u8]) -> bool {
    // Without a branch a byte: the text is of a fixed length, nearly always right, and on the path of every Check.
    text.iter()
        .fold(0, |seen, &byte| seen | VALUES[byte as usize])
        < 0x80
}

/// The digit for a value.
///
/// # Panics
/// If `value` is 62 or more.
#[must_use]
pub const fn digit(value: u8) -> u8 {
    ALPHABET[value as usize]
}

/// 22 digits, most significant first.
#[must_use]
pub fn encode_u128(value: u128) -> [u8; WIDTH_U128] {
    let mut text = [ALPHABET[0]; WIDTH_U128];
    let (head, rest) = (value / (CHUNK * CHUNK), value % (CHUNK * CHUNK));
    let (head_place, places) = text.split_at_mut(WIDTH_U128 - 2 * CHUNK_DIGITS);
    let (middle_place, tail_place) = places.split_at_mut(CHUNK_DIGITS);
    encode_chunk(head, head_place);
    encode_chunk(rest / CHUNK, middle_place);
    encode_chunk(rest % CHUNK, tail_place);
    text
}

/// 6 digits, most significant first.
#[must_use]
pub fn encode_u32(value: u32) -> [u8; WIDTH_U32] {
    let mut text = [ALPHABET[0]; WIDTH_U32];
    encode_chunk(u128::from(value), &mut text);
    text
}

/// 62^10 fits 64 bits, so that only what splits and joins the chunks is 128 bits wide.
const CHUNK_DIGITS: usize = 10;
const CHUNK: u128 = 62u128.pow(10);

/// Writes a value below [`CHUNK`].
fn encode_chunk(value: u128, places: &mut [u8]) {
    #[expect(clippy::cast_possible_truncation, reason = "a chunk is below 62^10")]
    let mut value = value as u64;
    for place in places.iter_mut().rev() {
        *place = ALPHABET[(value % 62) as usize];
        value /= 62;
    }
}

/// The number that 22 digits stand for; `None` if they are none, or more than 128 bits.
#[must_use]
pub fn decode_u128(text: &[u8; WIDTH_U128]) -> Option<u128> {
    let (head, rest) = text.split_at(WIDTH_U128 - 2 * CHUNK_DIGITS);
    let (middle, tail) = rest.split_at(CHUNK_DIGITS);
    let (head, middle, tail) = (
        decode_chunk(head)?,
        decode_chunk(middle)?,
        decode_chunk(tail)?,
    );
    u128::from(head)
        .checked_mul(CHUNK * CHUNK)?
        .checked_add(u128::from(middle) * CHUNK + u128::from(tail))
}

fn decode_chunk(digits: &[u8]) -> Option<u64> {
    let mut value = 0u64;
    let mut seen = 0u8;
    for &byte in digits {
        let digit = VALUES[byte as usize];
        seen |= digit;
        value = value.wrapping_mul(62).wrapping_add(u64::from(digit));
    }
    (seen < 0x80).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_number_survives_the_round_trip(value: u128) {
            prop_assert_eq!(decode_u128(&encode_u128(value)), Some(value));
        }
    }

    #[test]
    fn the_ends_of_the_range_hold() {
        assert_eq!(decode_u128(&encode_u128(0)), Some(0));
        assert_eq!(decode_u128(&encode_u128(u128::MAX)), Some(u128::MAX));
        assert_eq!(&encode_u32(u32::MAX), b"4gfFC3");
    }

    #[test]
    fn more_than_128_bits_is_no_number() {
        assert_eq!(decode_u128(b"zzzzzzzzzzzzzzzzzzzzzz"), None);
        let mut above = encode_u128(u128::MAX);
        above[21] += 1;
        assert_eq!(decode_u128(&above), None);
    }

    #[test]
    fn a_foreign_byte_is_no_digit() {
        for byte in [b'_', b'-', b' ', 0, 0xff, b'!'] {
            let mut text = encode_u128(7);
            text[3] = byte;
            assert_eq!(decode_u128(&text), None);
            assert!(!is_base62(&text));
        }
    }
}

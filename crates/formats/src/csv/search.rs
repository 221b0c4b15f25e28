//! Finds the end of an unquoted field.

use memchr::memchr3;

/// How far the search goes word by word before it uses vectors.
const NEAR_BYTES: usize = 32;
const WORD_BYTES: usize = 8;

/// Whether a byte ends an unquoted field.
#[inline]
pub(super) fn ends_field(byte: u8, delimiter: u8) -> bool {
    byte == delimiter || byte == b'\n' || byte == b'\r'
}

/// The index of the first byte that ends an unquoted field. Most fields are too short for a vector search to pay off.
#[inline]
pub(super) fn field_end(text: &[u8], delimiter: u8) -> Option<usize> {
    let (words, _) = text[..text.len().min(NEAR_BYTES)].as_chunks::<WORD_BYTES>();
    for (index, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let found = bytes_equal_to(word, delimiter) | bytes_equal_to(word, b'\n') | bytes_equal_to(word, b'\r');
        if found != 0 {
            return Some(index * WORD_BYTES + found.trailing_zeros() as usize / 8);
        }
    }
    let searched = words.len() * WORD_BYTES;
    let rest = &text[searched..];
    let end = match rest.len() < WORD_BYTES {
        true => rest.iter().position(|byte| ends_field(*byte, delimiter)),
        false => memchr3(delimiter, b'\n', b'\r', rest),
    };
    end.map(|index| searched + index)
}

/// A word with the highest bit of each byte set that equals `byte`.
///
/// Above the lowest such byte, other bits may be set too: a borrow goes from byte to byte (Hacker's Delight, 6-1).
#[inline]
fn bytes_equal_to(word: u64, byte: u8) -> u64 {
    const LOW: u64 = u64::from_le_bytes([1; WORD_BYTES]);
    const HIGH: u64 = LOW << 7;
    let differences = word ^ (LOW * u64::from(byte));
    differences.wrapping_sub(LOW) & !differences & HIGH
}

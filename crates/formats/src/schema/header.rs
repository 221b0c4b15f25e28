//! Turns a header into column names that every engine and Glue accept: at most 63 bytes, unique regardless of letter case.
//!
//! Names depend on the header alone, so the same header has the same names in the database, in Glue and in the next file.
//! SQL keywords and quotes are allowed, because every engine quotes identifiers.

use std::collections::{HashMap, HashSet};

use icu_normalizer::ComposingNormalizerBorrowed;
use sha2::{Digest, Sha256};

/// The longest name in bytes, which is PostgreSQL's limit. MySQL allows 64 characters.
const MAX_NAME_BYTES: usize = 63;
/// The number of hex digits that distinguish long names after truncation.
const HASH_DIGITS: usize = 8;

/// The column names for the raw fields of a header, in order.
///
/// - White space and control characters around a name are removed.
/// - Other control characters become `_`, and so do characters above U+FFFF, which MySQL does not allow in names.
/// - A long name is truncated and ends with a hash of the whole name.
/// - An empty name becomes `col_N`, where N is its position from 1.
/// - Of names that are equal or differ only in letter case, the first is kept and the others end with `_2`, `_3` and so on. A
///   name that the file uses is never given to another column.
pub fn column_names(header: &[Vec<u8>]) -> Vec<String> {
    let cleaned: Vec<String> = header.iter().map(|field| clean(field)).collect();
    let mut used = HashSet::with_capacity(cleaned.len());
    let is_first: Vec<bool> = cleaned.iter().map(|name| !name.is_empty() && used.insert(fold(name))).collect();
    let mut next_suffix = HashMap::new();
    let mut names = Vec::with_capacity(cleaned.len());
    for (index, (name, is_first)) in cleaned.into_iter().zip(is_first).enumerate() {
        names.push(match (is_first, name.is_empty()) {
            (true, _) => name,
            (false, true) => unused(&format!("col_{}", index + 1), &mut used, &mut next_suffix),
            (false, false) => unused(&name, &mut used, &mut next_suffix),
        });
    }
    names
}

/// The name itself if it is unused, or else with the first unused number after it.
fn unused(name: &str, used: &mut HashSet<String>, next_suffix: &mut HashMap<String, u32>) -> String {
    let folded = fold(name);
    if used.insert(folded.clone()) {
        return name.to_owned();
    }
    let number = next_suffix.entry(folded).or_insert(2);
    loop {
        let suffix = format!("_{number}");
        *number += 1;
        let candidate = format!("{}{suffix}", truncate(name, MAX_NAME_BYTES - suffix.len()));
        if used.insert(fold(&candidate)) {
            return candidate;
        }
    }
}

/// A field as a name, which may be empty.
fn clean(field: &[u8]) -> String {
    let text = String::from_utf8_lossy(field);
    let trimmed = text
        .trim_matches(|character: char| character.is_whitespace() || character.is_control() || character == '\u{feff}');
    let name: String = trimmed.chars().map(|character| if is_allowed(character) { character } else { '_' }).collect();
    if name.len() <= MAX_NAME_BYTES {
        return name;
    }
    format!("{}_{:08x}", truncate(&name, MAX_NAME_BYTES - HASH_DIGITS - 1), short_hash(trimmed))
}

/// The first 32 bits of SHA-256 over the text's length and the text. Columns of existing tables have names with this hash.
fn short_hash(text: &str) -> u32 {
    let mut hasher = Sha256::new();
    hasher.update((text.len() as u64).to_be_bytes());
    hasher.update(text);
    let [a, b, c, d, ..]: [u8; 32] = hasher.finalize().into();
    u32::from_be_bytes([a, b, c, d])
}

fn is_allowed(character: char) -> bool {
    !character.is_control() && character <= '\u{ffff}'
}

/// The start of a name, at most `max_bytes` long, without white space at its end.
fn truncate(name: &str, max_bytes: usize) -> &str {
    name[..name.floor_char_boundary(max_bytes)].trim_end()
}

/// A key that is equal for names that some engine may treat as the same. Coarser than lower case: `İ` and `i`, `ẞ` and
/// `ss`, `ς` and `σ` are equal.
fn fold(name: &str) -> String {
    let lowercase = name.to_lowercase();
    lowercase
        .to_uppercase()
        .to_lowercase()
        .chars()
        .map(|c| if c == 'ς' { 'σ' } else { c })
        .filter(|c| *c != '\u{307}')
        .collect()
}

/// A key that is equal for names that people write in different ways: letter case, spaces, hyphens, dots and underscores
/// between words, characters without width, and whether a letter and its accent are one character do not matter. `None` for a name
/// without a letter or digit.
pub fn loose_name(name: &str) -> Option<String> {
    let composed = ComposingNormalizerBorrowed::new_nfc().normalize(name);
    let visible: String = composed.chars().filter(|character| !has_no_width(*character)).collect();
    let mut key = String::with_capacity(visible.len());
    for character in fold(visible.trim()).chars() {
        match is_separator(character) {
            true if key.ends_with('_') => {}
            true => key.push('_'),
            false => key.push(character),
        }
    }
    key.contains(|character: char| character.is_alphanumeric()).then_some(key)
}

fn is_separator(character: char) -> bool {
    character.is_whitespace() || matches!(character, '-' | '_' | '.' | '\u{2010}'..='\u{2015}' | '\u{2212}')
}

/// Zero-width spaces and joiners, marks of the text direction, soft hyphens, and byte order marks.
fn has_no_width(character: char) -> bool {
    matches!(character, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    fn names(header: &[&str]) -> Vec<String> {
        let raw: Vec<Vec<u8>> = header.iter().map(|name| name.as_bytes().to_vec()).collect();
        column_names(&raw)
    }

    #[rstest]
    #[case::plain(&["id", "Name", "größe"], &["id", "Name", "größe"])]
    #[case::white_space(&[" id ", "\tname\u{a0}", "two words"], &["id", "name", "two words"])]
    #[case::empty(&["", "a", "  ", "\u{feff}"], &["col_1", "a", "col_3", "col_4"])]
    #[case::duplicate(&["a", "a", "a"], &["a", "a_2", "a_3"])]
    #[case::letter_case(&["a", "A"], &["a", "A_2"])]
    #[case::suffixed_name_is_used_by_the_file(&["a", "A", "a_2", "a"], &["a", "A_3", "a_2", "a_4"])]
    #[case::names_of_the_file_come_first(&["", "COL_1", "col_1"], &["col_1_2", "COL_1", "col_1_3"])]
    #[case::control(&["a\u{0}b\nc", "\u{1}x\u{7f}"], &["a_b_c", "x"])]
    #[case::beyond_the_basic_plane(&["🦀", "a🦀b"], &["_", "a_b"])]
    #[case::injection(&["`; drop table x; --", "a'b\"c\\"], &["`; drop table x; --", "a'b\"c\\"])]
    #[case::turkish(&["İ", "i", "ı"], &["İ", "i_2", "ı_3"])]
    #[case::greek(&["ΟΔΟΣ", "οδοσ"], &["ΟΔΟΣ", "οδοσ_2"])]
    #[case::kelvin(&["\u{212a}", "k"], &["\u{212a}", "k_2"])]
    fn header_becomes_names(#[case] header: &[&str], #[case] expected: &[&str]) {
        assert_eq!(names(header), expected);
    }

    #[test]
    fn long_names_are_truncated_and_stay_different() {
        let (left, right) = ("é".repeat(40) + "left", "é".repeat(40) + "right");
        let truncated = names(&[&left, &right, &left, &"x".repeat(63)]);
        assert!(truncated.iter().all(|name| name.len() <= MAX_NAME_BYTES), "{truncated:?}");
        assert!(truncated[0].starts_with(&"é".repeat(27)) && truncated[0] != truncated[1]);
        assert_eq!(truncated[3], "x".repeat(63));
        assert_eq!(truncated[2], format!("{}_2", truncated[0][..61].trim_end()));
    }

    #[test]
    fn many_equal_names_are_numbered_fast() {
        let header = vec![b"a".to_vec(); 4_096];
        assert_eq!(column_names(&header)[4_095], "a_4096");
    }

    proptest! {
        #[test]
        fn names_are_unique_short_and_stable(
            header in proptest::collection::vec(prop_oneof!["[aAiİıςσΣßẞ_ 0-2]{0,3}", "\\PC{0,90}", "(col_|a_)[0-9]"], 0..30),
        ) {
            let raw: Vec<Vec<u8>> = header.iter().map(|name| name.as_bytes().to_vec()).collect();
            let given = column_names(&raw);
            prop_assert_eq!(given.len(), raw.len());
            let distinct: HashSet<String> = given.iter().map(|name| name.to_lowercase()).collect();
            prop_assert_eq!(distinct.len(), given.len(), "{:?}", given);
            for name in &given {
                prop_assert!(!name.is_empty() && name.len() <= MAX_NAME_BYTES && name.trim() == name, "{:?}", name);
            }
            // A replay derives the names again from the names of the load.
            let again: Vec<Vec<u8>> = given.iter().map(|name| name.clone().into_bytes()).collect();
            prop_assert_eq!(column_names(&again), given);
        }
    }
}

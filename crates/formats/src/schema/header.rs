//! A file's header as column names that every engine and Glue can hold: clean, at most 63 bytes, unique in any letter case.
//!
//! Names depend on the header alone, so the same header gives the same names in the database, in Glue and in the next file.
//! What a name means to SQL is nobody's business here: every engine quotes it.

use std::collections::{HashMap, HashSet};

use sha2::{Digest, Sha256};

/// The longest name in bytes, which is PostgreSQL's; MySQL takes 64 characters.
const MAX_NAME_BYTES: usize = 63;
/// Hex digits that keep two long names apart once they are cut.
const HASH_DIGITS: usize = 8;

/// The column names for a header's raw fields, in order.
///
/// Blanks and control characters around a name go; inside, control characters and what no identifier of MySQL may hold
/// (beyond U+FFFF) become `_`. A long name is cut and ends in a hash of the whole. A name that is empty becomes `col_N`, N
/// being its place from 1. Of names that differ in letter case at most, the first stays and the others end in `_2`, `_3` and
/// so on; a name the file itself uses is never given to another column.
pub fn column_names(header: &[Vec<u8>]) -> Vec<String> {
    let cleaned: Vec<String> = header.iter().map(|field| clean(field)).collect();
    let mut taken = HashSet::with_capacity(cleaned.len());
    let is_first: Vec<bool> = cleaned.iter().map(|name| !name.is_empty() && taken.insert(fold(name))).collect();
    let mut next_suffix = HashMap::new();
    let mut names = Vec::with_capacity(cleaned.len());
    for (index, (name, is_first)) in cleaned.into_iter().zip(is_first).enumerate() {
        names.push(match (is_first, name.is_empty()) {
            (true, _) => name,
            (false, true) => unused(&format!("col_{}", index + 1), &mut taken, &mut next_suffix),
            (false, false) => unused(&name, &mut taken, &mut next_suffix),
        });
    }
    names
}

/// The name itself if no column has it, else the name with the first free number behind it.
fn unused(name: &str, taken: &mut HashSet<String>, next_suffix: &mut HashMap<String, u32>) -> String {
    let folded = fold(name);
    if taken.insert(folded.clone()) {
        return name.to_owned();
    }
    let number = next_suffix.entry(folded).or_insert(2);
    loop {
        let suffix = format!("_{number}");
        *number += 1;
        let candidate = format!("{}{suffix}", cut(name, MAX_NAME_BYTES - suffix.len()));
        if taken.insert(fold(&candidate)) {
            return candidate;
        }
    }
}

/// One field as a name, empty when nothing is left of it.
fn clean(field: &[u8]) -> String {
    let text = String::from_utf8_lossy(field);
    let trimmed = text
        .trim_matches(|character: char| character.is_whitespace() || character.is_control() || character == '\u{feff}');
    let name: String = trimmed.chars().map(|character| if is_holdable(character) { character } else { '_' }).collect();
    if name.len() <= MAX_NAME_BYTES {
        return name;
    }
    format!("{}_{:08x}", cut(&name, MAX_NAME_BYTES - HASH_DIGITS - 1), short_hash(trimmed))
}

/// The first 32 bits of SHA-256 over the text's length and the text: names of tables that exist already depend on it.
fn short_hash(text: &str) -> u32 {
    let mut hasher = Sha256::new();
    hasher.update((text.len() as u64).to_be_bytes());
    hasher.update(text);
    let [a, b, c, d, ..]: [u8; 32] = hasher.finalize().into();
    u32::from_be_bytes([a, b, c, d])
}

fn is_holdable(character: char) -> bool {
    !character.is_control() && character <= '\u{ffff}'
}

/// The front of a name, at most `max_bytes` long, cut between characters and never after a blank.
fn cut(name: &str, max_bytes: usize) -> &str {
    name[..name.floor_char_boundary(max_bytes)].trim_end()
}

/// What two names share when some engine may take them for the same one. Coarser than lowercase: `İ` and `i`, `ẞ` and `ss`,
/// `ς` and `σ` count as one letter.
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
    #[case::blanks(&[" id ", "\tname\u{a0}", "two words"], &["id", "name", "two words"])]
    #[case::empty(&["", "a", "  ", "\u{feff}"], &["col_1", "a", "col_3", "col_4"])]
    #[case::duplicate(&["a", "a", "a"], &["a", "a_2", "a_3"])]
    #[case::letter_case(&["a", "A"], &["a", "A_2"])]
    #[case::suffix_is_a_real_name(&["a", "A", "a_2", "a"], &["a", "A_3", "a_2", "a_4"])]
    #[case::real_names_go_before_made_ones(&["", "COL_1", "col_1"], &["col_1_2", "COL_1", "col_1_3"])]
    #[case::control(&["a\u{0}b\nc", "\u{1}x\u{7f}"], &["a_b_c", "x"])]
    #[case::beyond_the_basic_plane(&["🦀", "a🦀b"], &["_", "a_b"])]
    #[case::injection(&["`; drop table x; --", "a'b\"c\\"], &["`; drop table x; --", "a'b\"c\\"])]
    #[case::turkish(&["İ", "i", "ı"], &["İ", "i_2", "ı_3"])]
    #[case::greek(&["ΟΔΟΣ", "οδοσ"], &["ΟΔΟΣ", "οδοσ_2"])]
    #[case::kelvin(&["\u{212a}", "k"], &["\u{212a}", "k_2"])]
    fn a_header_becomes_names(#[case] header: &[&str], #[case] expected: &[&str]) {
        assert_eq!(names(header), expected);
    }

    #[test]
    fn long_names_are_cut_and_never_merged() {
        let (left, right) = ("é".repeat(40) + "left", "é".repeat(40) + "right");
        let cut = names(&[&left, &right, &left, &"x".repeat(63)]);
        assert!(cut.iter().all(|name| name.len() <= MAX_NAME_BYTES), "{cut:?}");
        assert!(cut[0].starts_with(&"é".repeat(27)) && cut[0] != cut[1]);
        assert_eq!(cut[3], "x".repeat(63));
        assert_eq!(cut[2], format!("{}_2", cut[0][..61].trim_end()));
    }

    #[test]
    fn as_many_equal_names_as_there_may_be_are_named_in_no_time() {
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
            // What a load has named comes through a replay's header unchanged.
            let again: Vec<Vec<u8>> = given.iter().map(|name| name.clone().into_bytes()).collect();
            prop_assert_eq!(column_names(&again), given);
        }
    }
}

//! `NaN`, `Infinity` and `-Infinity` as values, which JSON does not have, but Python and other writers write by default.
//!
//! They are looked for only in a record that is not valid JSON. In a copy of the record each of them is replaced with an
//! empty string and spaces of the same length. So the copy can be parsed, and positions stay the same.

use std::ops::Range;

use memchr::memchr2;

/// A value that is not a finite number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NonFinite {
    /// `NaN`, the usual mark of a missing number.
    NaN,
    /// `Infinity`.
    Infinity,
    /// `-Infinity`.
    NegativeInfinity,
}

impl NonFinite {
    /// The value as it is in the file.
    pub(super) fn spelling(self) -> &'static str {
        match self {
            Self::NaN => "NaN",
            Self::Infinity => "Infinity",
            Self::NegativeInfinity => "-Infinity",
        }
    }
}

/// A record whose numbers that are not finite are replaced.
#[derive(Debug, Default)]
pub(super) struct Replaced {
    /// The record, as long as before.
    pub(super) text: String,
    /// Where the numbers were, in ascending order.
    places: Vec<(usize, NonFinite)>,
}

/// Every value that is not a finite number.
const ALL: [NonFinite; 3] = [NonFinite::NegativeInfinity, NonFinite::Infinity, NonFinite::NaN];

impl Replaced {
    /// Replaces the numbers of a record; `None` if it has none.
    #[cold]
    pub(super) fn of(record: &str) -> Option<Self> {
        let mut text = record.as_bytes().to_vec();
        let mut places = Vec::new();
        for (range, number) in find(record.as_bytes()) {
            text[range.clone()].fill(b' ');
            text[range.start..range.start + 2].fill(b'"');
            places.push((range.start, number));
        }
        if places.is_empty() {
            return None;
        }
        // Only ASCII was replaced with ASCII.
        Some(Self { text: String::from_utf8(text).ok()?, places })
    }

    /// The first number in these bytes, and where it starts.
    pub(super) fn first_in(&self, bytes: Range<usize>) -> Option<(usize, NonFinite)> {
        let index = self.places.partition_point(|(start, _)| *start < bytes.start);
        self.places.get(index).copied().filter(|(start, _)| *start < bytes.end)
    }
}

/// The numbers where a value may be: after a colon, or in an array.
fn find(record: &[u8]) -> Vec<(Range<usize>, NonFinite)> {
    let mut found = Vec::new();
    // The open brackets, and the last byte that is not white space.
    let (mut open, mut before) = (Vec::new(), 0);
    let mut at = 0;
    while at < record.len() {
        let byte = record[at];
        let is_value = before == b':' || before == b'[' || (before == b',' && open.last() == Some(&b'['));
        match byte {
            b' ' | b'\t' | b'\n' | b'\r' => {
                at += 1;
                continue;
            }
            b'"' => at = string_end(record, at + 1),
            b'N' | b'I' | b'-' if is_value => match spelled_at(&record[at..]) {
                Some((length, number)) => {
                    found.push((at..at + length, number));
                    at += length;
                }
                None => at += 1,
            },
            b'{' | b'[' => {
                open.push(byte);
                at += 1;
            }
            b'}' | b']' => {
                open.pop();
                at += 1;
            }
            _ => at += 1,
        }
        before = byte;
    }
    found
}

/// The offset after a string, of which the content starts at `at`.
fn string_end(record: &[u8], mut at: usize) -> usize {
    while let Some(index) = memchr2(b'"', b'\\', &record[at.min(record.len())..]) {
        if record[at + index] == b'"' {
            return at + index + 1;
        }
        at += index + 2;
    }
    record.len()
}

/// The length of the number that a text starts with. White space, a comma, a bracket or the end follows it.
fn spelled_at(text: &[u8]) -> Option<(usize, NonFinite)> {
    let number = ALL.into_iter().find(|number| text.starts_with(number.spelling().as_bytes()))?;
    let length = number.spelling().len();
    match text.get(length) {
        None | Some(b' ' | b'\t' | b'\n' | b'\r' | b',' | b'}' | b']') => Some((length, number)),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("{\"a\":NaN}", Some("{\"a\":\"\" }"))]
    #[case("{\"a\": -Infinity ,\"b\":[Infinity,\nNaN]}", Some("{\"a\": \"\"        ,\"b\":[\"\"      ,\n\"\" ]}"))]
    #[case::in_strings("{\"NaN\":\"NaN, \\\":NaN\",\"b\":1}", None)]
    #[case::key("{NaN:1}", None)]
    #[case::key_after_a_comma("{\"a\":1,NaN:2}", None)]
    #[case::longer_words("{\"a\":NaNs,\"b\":Infinit,\"c\":-NaN,\"d\":nan,\"e\":-1}", None)]
    #[case::no_value("{\"a\":1 NaN}", None)]
    #[case::open_string("{\"a\":\"NaN\\", None)]
    fn numbers_are_replaced_only_as_values(#[case] record: &str, #[case] expected: Option<&str>) {
        assert_eq!(Replaced::of(record).map(|replaced| replaced.text).as_deref(), expected);
    }

    #[test]
    fn numbers_are_found_by_their_place() {
        let replaced = Replaced::of("[NaN, Infinity]").unwrap();
        assert_eq!(replaced.first_in(0..15), Some((1, NonFinite::NaN)));
        assert_eq!(replaced.first_in(2..15), Some((6, NonFinite::Infinity)));
        assert_eq!((replaced.first_in(2..6), replaced.first_in(7..15)), (None, None));
    }
}

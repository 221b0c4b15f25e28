//! Checks whether a text is JSON, and whether a server that stores parsed JSON keeps its whole meaning.
//!
//! No text can exhaust the stack. The check of the meaning recurses to a bounded depth; the check of validity skips values
//! without recursion.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::number::Number;

/// The most levels of objects and arrays, which is MySQL's limit.
/// <https://dev.mysql.com/doc/refman/8.4/en/json.html>
pub const MAX_DEPTH: usize = 100;

/// Whether a text is one JSON value (RFC 8259), scalars included.
pub fn is_json(text: &[u8]) -> bool {
    std::str::from_utf8(text).is_ok_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok())
}

/// The text, if it is exactly one object or array.
pub(super) fn parse_nested(text: &[u8]) -> Option<&str> {
    let is_nested = matches!(text.first(), Some(b'{' | b'[')) && is_json(text);
    if is_nested { std::str::from_utf8(text).ok() } else { None }
}

/// Whether a server keeps the meaning of a JSON text if it stores numbers as 64-bit integers or floats, and one value per key.
pub fn keeps_meaning(text: &[u8]) -> bool {
    let is_kept = |number: &Number<'_>| {
        number.integer().is_some()
            || number.decimal(20, 0).is_some_and(|whole| u64::try_from(whole).is_ok())
            || number.fits_double()
    };
    std::str::from_utf8(text).is_ok_and(|text| keeps(text.trim_ascii(), 0, &is_kept))
}

/// Whether a server keeps the meaning of a JSON text if it stores every digit of a number, and one value per key.
pub fn keeps_keys(text: &[u8]) -> bool {
    std::str::from_utf8(text).is_ok_and(|text| keeps(text.trim_ascii(), 0, &|_| true))
}

/// Whether all numbers are kept and no key is repeated. The text starts with the first byte of a value.
fn keeps(text: &str, depth: usize, is_kept: &impl Fn(&Number<'_>) -> bool) -> bool {
    if depth >= MAX_DEPTH {
        return false;
    }
    match text.as_bytes().first() {
        Some(b'{') => serde_json::from_str::<Members<'_>>(text)
            .is_ok_and(|members| members.0.values().all(|value| keeps(value.get(), depth + 1, is_kept))),
        Some(b'[') => serde_json::from_str::<Vec<&RawValue>>(text)
            .is_ok_and(|values| values.into_iter().all(|value| keeps(value.get(), depth + 1, is_kept))),
        // `-0` is a JSON number, but `Number::scan` rejects it: a server would drop its sign.
        Some(b'-' | b'0'..=b'9') => Number::scan(text.as_bytes()).is_some_and(|number| is_kept(&number)),
        Some(_) => true,
        None => false,
    }
}

/// The members of an object without repeated keys.
struct Members<'a>(HashMap<Cow<'a, str>, &'a RawValue>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Distinct;

        impl<'de> Visitor<'de> for Distinct {
            type Value = Members<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = HashMap::new();
                while let Some((key, value)) = map.next_entry::<Cow<'de, str>, &'de RawValue>()? {
                    if members.insert(key, value).is_some() {
                        return Err(serde::de::Error::custom("a key is repeated"));
                    }
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(Distinct)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_objects_and_arrays_are_nested() {
        for text in ["{}", "[]", "{\"a\": [1e400, null]}", "[\n1]"] {
            assert_eq!(parse_nested(text.as_bytes()), Some(text));
        }
        for text in ["", "1", "\"{}\"", "{", "[1,]", "[NaN]", "{} {}", " {}", "{'a':1}", "[\"\\x\"]", "NULL"] {
            assert_eq!(parse_nested(text.as_bytes()), None, "{text}");
        }
        assert_eq!(parse_nested(b"[\"\xff\"]"), None);
    }

    #[test]
    fn deep_nesting_does_not_exhaust_the_stack() {
        let deep = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(parse_nested(deep(MAX_DEPTH).as_bytes()).is_some());
        assert!(keeps_meaning(deep(MAX_DEPTH).as_bytes()));
        assert!(!keeps_meaning(deep(MAX_DEPTH + 1).as_bytes()));
        assert!(is_json(deep(1_000_000).as_bytes()));
        // Each level scans the rest of the text once, so a deeper text would only be slower.
        assert!(!keeps_meaning(deep(100_000).as_bytes()));
    }
}

//! Arrays of JSON as PostgreSQL writes them: `[1, null, "a b"]` becomes `{1,NULL,"a b"}`.
//!
//! Text that is not a JSON array stays as it is: it may be in PostgreSQL's own form. The two forms cannot be confused, because
//! bounds such as `[0:1]={1,2}` are not JSON.

use serde_json::value::RawValue;

use crate::destination::check::{Rejection, double, single};

/// The most dimensions of an array.
const MAX_DIMENSIONS: usize = 6;

/// The elements of an array column, as far as they need a check here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::destination) enum Element {
    /// `json` and `jsonb`: each element is a document.
    Document,
    /// 32-bit floats.
    Real,
    /// 64-bit floats.
    Double,
    /// Times, which the server rounds to a microsecond.
    Time,
    /// Types that the server checks.
    Other,
}

impl Element {
    /// Returns the elements of an array type with this name in `pg_catalog`.
    pub(super) fn of(array: &str) -> Self {
        match array {
            "_json" | "_jsonb" => Self::Document,
            "_float4" => Self::Real,
            "_float8" => Self::Double,
            "_timestamp" | "_timestamptz" | "_time" | "_timetz" | "_interval" => Self::Time,
            _ => Self::Other,
        }
    }
}

/// Writes a JSON array in PostgreSQL's form. Returns `false`, and writes nothing, for other text.
pub(super) fn write(element: Element, bytes: &[u8], out: &mut Vec<u8>) -> Result<bool, Rejection> {
    if !bytes.trim_ascii_start().starts_with(b"[") {
        return Ok(false);
    }
    // Raw values keep the digits of numbers and the text of documents.
    let Ok(items) = serde_json::from_slice::<Vec<&RawValue>>(bytes) else { return Ok(false) };
    write_items(element, &items, 1, out)?;
    Ok(true)
}

fn write_items(element: Element, items: &[&RawValue], dimension: usize, out: &mut Vec<u8>) -> Result<(), Rejection> {
    if dimension > MAX_DIMENSIONS {
        return Err("has more dimensions than an array can have");
    }
    out.push(b'{');
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write_item(element, item.get(), dimension, out)?;
    }
    out.push(b'}');
    Ok(())
}

fn write_item(element: Element, item: &str, dimension: usize, out: &mut Vec<u8>) -> Result<(), Rejection> {
    const NOT_JSON: Rejection = "is not a JSON array";
    match item.as_bytes() {
        [b'n', ..] => out.extend_from_slice(b"NULL"),
        _ if element == Element::Document => write_quoted(item, out),
        [b'[', ..] => {
            let items: Vec<&RawValue> = serde_json::from_str(item).map_err(|_| NOT_JSON)?;
            write_items(element, &items, dimension + 1, out)?;
        }
        [b'"', ..] => {
            let text: String = serde_json::from_str(item).map_err(|_| NOT_JSON)?;
            check(element, &text)?;
            write_quoted(&text, out);
        }
        [b'-' | b'0'..=b'9', ..] => {
            check(element, item)?;
            write_quoted(item, out);
        }
        // A boolean or an object.
        _ => write_quoted(item, out),
    }
    Ok(())
}

/// Refuses an element that the server would round.
fn check(element: Element, text: &str) -> Result<(), Rejection> {
    match element {
        Element::Real => single(text.as_bytes()).map(drop),
        Element::Double => double(text.as_bytes()).map(drop),
        Element::Time if crate::destination::check::has_long_fraction(text.as_bytes()) => {
            Err("has an element with a finer fraction of a second than the column")
        }
        Element::Time | Element::Document | Element::Other => Ok(()),
    }
}

/// Writes an element in double quotes, in which quotes and backslashes have a backslash before them.
fn write_quoted(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for byte in text.bytes() {
        if matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(byte);
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn written(array: &str, json: &str) -> Result<Option<String>, Rejection> {
        let mut out = Vec::new();
        let is_json = write(Element::of(array), json.as_bytes(), &mut out)?;
        assert!(is_json || out.is_empty());
        Ok(is_json.then(|| String::from_utf8(out).unwrap()))
    }

    #[rstest]
    #[case("_int4", "[1, 2,null]", Some("{\"1\",\"2\",NULL}"))]
    #[case("_text", "[]", Some("{}"))]
    #[case("_text", " [\"a \\\"b\\\"\", \"\\\\\", \"\", \"NULL\"]", Some("{\"a \\\"b\\\"\",\"\\\\\",\"\",\"NULL\"}"))]
    #[case("_int4", "[[1],[2]]", Some("{{\"1\"},{\"2\"}}"))]
    #[case("_bool", "[true,false]", Some("{\"true\",\"false\"}"))]
    #[case("_jsonb", "[{\"a\": 1}, [2], null]", Some("{\"{\\\"a\\\": 1}\",\"[2]\",NULL}"))]
    #[case("_numeric", "[123456789012345678901234567890.10]", Some("{\"123456789012345678901234567890.10\"}"))]
    #[case("_text", "[{\"a\": 1.50}]", Some("{\"{\\\"a\\\": 1.50}\"}"))]
    #[case("_int4", "{1,2}", None)]
    #[case("_int4", "[0:1]={1,2}", None)]
    #[case("_int4", "[1", None)]
    #[case("_int4", "1", None)]
    fn json_array_is_written(#[case] array: &str, #[case] json: &str, #[case] expected: Option<&str>) {
        assert_eq!(written(array, json).unwrap().as_deref(), expected);
    }

    #[test]
    fn element_that_the_server_would_round_is_refused() {
        assert!(written("_float4", "[0.1, 16777217]").is_err());
        assert!(written("_float8", "[0.1]").is_ok());
        assert!(written("_int4", "[[[[[[1]]]]]]").is_ok() && written("_int4", "[[[[[[[1]]]]]]]").is_err());
        assert!(written("_timestamp", "[\"2024-01-01 00:00:00.1234567\"]").is_err());
        assert!(written("_timestamp", "[\"2024-01-01 00:00:00.123456\"]").is_ok());
    }
}

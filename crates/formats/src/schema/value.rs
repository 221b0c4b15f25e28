//! Parses a field as a value of a type, strictly, and writes it back. A round trip returns the same value.
//!
//! Each type accepts few spellings: a field with spaces, a plus sign or leading zeros is text. A column whose type is
//! known accepts more of them, see [`spelling`]. NULL has no text here, because its spelling depends on the engine.

pub mod json;
pub(super) mod number;
pub mod spelling;
pub(super) mod time;

use super::ColumnType;
use number::Number;

/// A value of a column.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value<'a> {
    /// The field is missing, or is a null token in a column that is not text.
    Null,
    /// `true` or `false`.
    Boolean(bool),
    /// A signed 64-bit integer.
    Integer(i64),
    /// `unscaled` divided by ten to the power of `scale`, which is the scale of the column.
    Decimal {
        /// All digits without the point.
        unscaled: i128,
        /// The number of digits after the point.
        scale: u8,
    },
    /// A finite 64-bit float.
    Double(f64),
    /// A date.
    Date {
        /// Days since 1970-01-01.
        days: i32,
    },
    /// Date and time of day without a time zone.
    DateTime {
        /// Microseconds since 1970-01-01 00:00:00 in the same time zone.
        micros: i64,
    },
    /// Date and time of day in UTC.
    Instant {
        /// Microseconds since 1970-01-01T00:00:00Z.
        micros: i64,
    },
    /// An object or array, as JSON.
    Json(&'a str),
    /// Any text.
    Text(&'a str),
    /// Any bytes.
    Binary(&'a [u8]),
}

/// The null tokens that are words. Letter case does not matter.
pub const NULL_WORDS: [&str; 8] = ["NULL", "NA", "N/A", "NaN", "None", "nil", "#N/A", "<NA>"];

const MAX_NULL_TOKEN_BYTES: usize = 4;

/// Whether a field is one of the null tokens: [`NULL_WORDS`], `\N`, or empty. No value of any type but text is one.
#[inline]
pub fn is_null_token(field: &[u8]) -> bool {
    // Length and first byte rule out nearly every value.
    if field.len() > MAX_NULL_TOKEN_BYTES {
        return false;
    }
    match field.first() {
        None => true,
        Some(b'N' | b'n' | b'#' | b'<' | b'\\') => is_null_word(field),
        Some(_) => false,
    }
}

#[cold]
fn is_null_word(field: &[u8]) -> bool {
    field == b"\\N" || NULL_WORDS.iter().any(|word| field.eq_ignore_ascii_case(word.as_bytes()))
}

/// Whether a null token is spelled as most programs do. Text columns of the fallback keep the other spellings.
pub(super) fn is_usual_null_token(token: &[u8]) -> bool {
    matches!(token, b"" | b"NULL" | b"NA" | b"N/A" | b"NaN" | b"\\N")
}

/// Whether a boolean is in lower, upper or title case.
pub(super) fn is_usual_boolean(boolean: &[u8]) -> bool {
    matches!(boolean, b"true" | b"True" | b"TRUE" | b"false" | b"False" | b"FALSE")
}

/// Parses a field as a value of a type; `None` if it is not one.
///
/// A missing field is [`Value::Null`] in every type. A null token ([`is_null_token`]) is `Null` in every type except text and
/// bytes. So a quoted empty field (`""`) is an empty string in a text column and NULL in all others.
pub fn parse(column_type: ColumnType, field: Option<&[u8]>) -> Option<Value<'_>> {
    let Some(text) = field else {
        return Some(Value::Null);
    };
    let value = match column_type {
        ColumnType::Boolean => parse_boolean(text).map(Value::Boolean),
        ColumnType::Integer => parse_integer(text).map(Value::Integer),
        ColumnType::Decimal { precision, scale } => Number::scan_any(text)
            .and_then(|number| number.decimal(precision, scale))
            .map(|unscaled| Value::Decimal { unscaled, scale }),
        ColumnType::Double => Number::scan_any(text).and_then(|number| number.double()).map(Value::Double),
        ColumnType::Date => time::parse_date(text).map(|days| Value::Date { days }),
        ColumnType::DateTime => time::parse_date_time(text).map(|micros| Value::DateTime { micros }),
        ColumnType::Instant => time::parse_instant(text).map(|micros| Value::Instant { micros }),
        ColumnType::Json => json::parse_nested(text).map(Value::Json),
        ColumnType::Text => return std::str::from_utf8(text).ok().map(Value::Text),
        ColumnType::Binary => return Some(Value::Binary(text)),
    };
    value.or_else(|| is_null_token(text).then_some(Value::Null))
}

fn parse_integer(text: &[u8]) -> Option<i64> {
    match number::short_integer(text) {
        Some((value, _)) => Some(value),
        None => Number::scan(text).and_then(|number| number.integer()),
    }
}

/// `true` and `false` in any letter case.
pub(crate) fn parse_boolean(text: &[u8]) -> Option<bool> {
    match text.len() {
        4 if text.eq_ignore_ascii_case(b"true") => Some(true),
        5 if text.eq_ignore_ascii_case(b"false") => Some(false),
        _ => None,
    }
}

/// Writes a value as MySQL and MariaDB accept it, without quotes and escapes.
///
/// Booleans are `1` and `0`. Decimals have exactly their scale. An instant is its date and time in UTC without an offset.
/// Fractions of a second have six digits or none. [`Value::Null`] writes nothing, because its text depends on the statement.
pub fn write_canonical(value: &Value<'_>, out: &mut Vec<u8>) {
    match *value {
        Value::Null => {}
        Value::Boolean(value) => out.push(if value { b'1' } else { b'0' }),
        Value::Integer(value) => write_unscaled(value.into(), 0, out),
        Value::Decimal { unscaled, scale } => write_unscaled(unscaled, scale, out),
        Value::Double(value) => write_double(value, out),
        Value::Date { days } => time::write_date(days, out),
        Value::DateTime { micros } | Value::Instant { micros } => time::write_date_time(micros, out),
        Value::Json(text) | Value::Text(text) => out.extend_from_slice(text.as_bytes()),
        Value::Binary(bytes) => out.extend_from_slice(bytes),
    }
}

/// Writes the text that [`parse`] returns as the same value. [`Value::Null`] writes nothing.
pub fn write_text(value: &Value<'_>, out: &mut Vec<u8>) {
    match *value {
        Value::Boolean(value) => out.extend_from_slice(if value { b"true" } else { b"false" }),
        Value::Instant { micros } => {
            time::write_date_time(micros, out);
            out.push(b'Z');
        }
        Value::Null
        | Value::Integer(_)
        | Value::Decimal { .. }
        | Value::Double(_)
        | Value::Date { .. }
        | Value::DateTime { .. }
        | Value::Json(_)
        | Value::Text(_)
        | Value::Binary(_) => write_canonical(value, out),
    }
}

/// Writes the shortest digits that parse to the same float, with an exponent if they would be long without one.
fn write_double(value: f64, out: &mut Vec<u8>) {
    let mut buffer = zmij::Buffer::new();
    let text = buffer.format(value);
    // `-0` is not accepted as a number, so negative zero is `-0.0`.
    let short = if value == 0.0 && value.is_sign_negative() { None } else { text.strip_suffix(".0") };
    out.extend_from_slice(short.unwrap_or(text).as_bytes());
}

fn write_unscaled(unscaled: i128, scale: u8, out: &mut Vec<u8>) {
    if unscaled < 0 {
        out.push(b'-');
    }
    // A 128-bit number has at most 39 digits. A scale needs at most 38 digits and a leading zero.
    let mut digits = [b'0'; 64];
    let mut start = digits.len();
    let mut rest = unscaled.unsigned_abs();
    while rest > u128::from(u64::MAX) {
        start -= 1;
        digits[start] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    let mut rest = rest as u64;
    while rest > 0 {
        start -= 1;
        digits[start] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    let point = digits.len() - usize::from(scale).min(digits.len() - 1);
    start = start.min(point - 1);
    out.extend_from_slice(&digits[start..point]);
    if point < digits.len() {
        out.push(b'.');
        out.extend_from_slice(&digits[point..]);
    }
}

#[cfg(test)]
mod tests;

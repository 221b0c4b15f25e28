//! Checks of a value before it is sent that every engine's `check` uses: exact digits, times and lengths.
//!
//! A rejected value is never part of the error.

use crate::error::{Error, ErrorKind, Position, Result};
use spillway_formats::schema::ColumnType;
use spillway_formats::schema::value::{Value, parse};

use super::column::TableColumn;

/// Why a value is rejected, as the rest of a sentence that begins with "the value".
pub(super) type Rejection = &'static str;

/// A merge key without a value.
const NO_KEY: Rejection = "is missing, but the column is part of the merge key";
/// A NOT NULL column without a value.
const NO_VALUE: Rejection = "is missing, but the column is NOT NULL";

/// The error for a rejected value.
fn value_rejected<S>(column: &TableColumn<S>, position: Position, reason: Rejection) -> Error {
    let message = format!("the value {reason}; the column's type is {}", column.type_text);
    Error::new(ErrorKind::DataRefused, message).at(position).in_column(&column.name)
}

/// Rejects NULL where the column needs a value, and adds the position to a rejection.
pub(super) fn conclude<S, E>(
    column: &TableColumn<S>,
    position: Position,
    checked: Result<E, Rejection>,
    is_null: impl Fn(&E) -> bool,
) -> Result<E> {
    match checked {
        Ok(value) if column.in_merge_key && is_null(&value) => Err(value_rejected(column, position, NO_KEY)),
        Ok(value) if !column.nullable && is_null(&value) => Err(value_rejected(column, position, NO_VALUE)),
        Ok(value) => Ok(value),
        Err(reason) => Err(value_rejected(column, position, reason)),
    }
}

/// Writes a number with an exponent as plain digits. Returns `false`, and writes nothing, for a number without an
/// exponent.
pub(super) fn expand_exponent(bytes: &[u8], out: &mut Vec<u8>) -> Result<bool, Rejection> {
    if !bytes.iter().any(|byte| matches!(byte, b'e' | b'E')) {
        return Ok(false);
    }
    let Some(Value::Double(value)) = parse(ColumnType::Double, Some(bytes)) else {
        return Err("is not a number that can be stored exactly");
    };
    out.extend_from_slice(value.to_string().as_bytes());
    Ok(true)
}

/// Counts the significant digits before and after the point, without leading and trailing zeros.
///
/// Returns `None` for anything but `-?(0|[1-9][0-9]*)(.[0-9]+)?`, and for a negative zero, whose sign would be lost.
pub(super) fn digit_counts(text: &[u8]) -> Option<(u64, u64)> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let point = memchr::memchr(b'.', digits);
    let (whole, fraction) = point.map_or((digits, None), |at| (&digits[..at], Some(&digits[at + 1..])));
    let all_digits = |part: &[u8]| !part.is_empty() && part.iter().all(u8::is_ascii_digit);
    let leading_zero = whole.len() > 1 && whole.starts_with(b"0");
    if !all_digits(whole) || leading_zero || !fraction.is_none_or(all_digits) {
        return None;
    }
    let fraction = fraction.unwrap_or_default();
    let significant = fraction.iter().rposition(|byte| *byte != b'0').map_or(0, |last| last + 1);
    let whole_digits = if whole == b"0" { 0 } else { whole.len() };
    if digits.len() < text.len() && whole_digits == 0 && significant == 0 {
        return None;
    }
    Some((whole_digits as u64, significant as u64))
}

/// Returns a date and time, an instant in UTC, or the midnight of a date, in microseconds since 1970-01-01.
pub(super) fn moment(bytes: &[u8]) -> Result<i64, Rejection> {
    if let Some(Value::DateTime { micros }) = parse(ColumnType::DateTime, Some(bytes)) {
        return Ok(micros);
    }
    if let Some(Value::Instant { micros }) = parse(ColumnType::Instant, Some(bytes)) {
        return Ok(micros);
    }
    match parse(ColumnType::Date, Some(bytes)) {
        Some(Value::Date { days }) => Ok(i64::from(days) * 86_400_000_000),
        _ => Err("is not a date and time"),
    }
}

/// Checks that a column with so many decimals of a second stores the whole fraction.
pub(super) fn fraction(micros: i64, digits: u32) -> Result<(), Rejection> {
    let unit = 10i64.pow(6u32.saturating_sub(digits));
    if micros % unit == 0 { Ok(()) } else { Err("has a finer fraction of a second than the column") }
}

/// Whether a text has more than `max` characters.
pub(super) fn has_more_characters(bytes: &[u8], max: u64) -> bool {
    // A value never has more characters than bytes, so only longer values are counted.
    bytes.len() as u64 > max && bytes.iter().filter(|byte| (**byte & 0xc0) != 0x80).count() as u64 > max
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_significant_digits_count() {
        for (text, expected) in [
            ("0", Some((0, 0))),
            ("12.500", Some((2, 1))),
            ("-0.01", Some((0, 2))),
            ("-0.00", None),
            ("01", None),
            (".5", None),
            ("1.", None),
        ] {
            assert_eq!(digit_counts(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn length_is_in_characters() {
        assert!(!has_more_characters("äöü".as_bytes(), 3));
        assert!(has_more_characters("äöüß".as_bytes(), 3));
    }
}

//! Value checks that every engine shares: digits, floats, times and lengths.
//!
//! Each engine checks a value by the storage of its column before the value is sent. The error never contains the
//! value. A value is parsed strictly first. Only if that fails, its other spellings are tried
//! ([`spillway_formats::schema::value::spelling`]).

use std::io::Write;

use crate::error::{Error, ErrorKind, Position, Result};
use spillway_formats::schema::ColumnType;
use spillway_formats::schema::value::spelling::{self, DayOrder};
use spillway_formats::schema::value::{Value, is_null_token, parse};

use super::column::{NullFill, TableColumn};

/// Why a value is rejected, as the rest of a sentence that begins with "the value".
pub(super) type Rejection = &'static str;

/// The rejection of a merge key without a value.
const NO_KEY: Rejection = "is missing, but the column is part of the merge key";
/// The rejection of NULL in a NOT NULL column.
const NO_VALUE: Rejection = "is missing, but the column is NOT NULL";
/// The rejection of NULL in a NOT NULL column with a default, which also has a value in another row.
const NO_DEFAULT: Rejection = "is missing, but the column is NOT NULL; its default applies only if the column has no value in any row of the file";

/// The rejection of a time with more decimals of a second than its column stores.
pub(super) const LONG_FRACTION: Rejection = "has a finer fraction of a second than the column";

/// Checks one field of a row. Returns how the engine encodes it; the default is NULL.
///
/// # Errors
/// [`ErrorKind::DataRefused`] with position and column when `encode` rejects the value, or when the column requires a
/// value and has none.
#[inline]
pub(super) fn check_field<'a, S, E: Default + PartialEq>(
    column: &TableColumn<S>,
    field: Option<&'a [u8]>,
    position: Position,
    encode: impl FnOnce(&'a [u8]) -> Result<E, Rejection>,
) -> Result<E> {
    let rejected = |reason| value_rejected(column, position, reason);
    let value = match field {
        Some(bytes) => encode(bytes).map_err(|reason| {
            let error = rejected(reason).because_of_type();
            if reason.starts_with("is not ") && may_mean_null(bytes) {
                error.continued(NULL_VALUES_ADVICE)
            } else {
                error
            }
        })?,
        None => E::default(),
    };
    let is_null = value == E::default();
    if is_null && column.in_merge_key {
        return Err(rejected(NO_KEY));
    }
    if is_null && !column.nullable && column.null_fill == NullFill::Nothing {
        return Err(rejected(if column.has_default { NO_DEFAULT } else { NO_VALUE }));
    }
    Ok(value)
}

/// The advice for a text that may mean a missing value.
const NULL_VALUES_ADVICE: &str = "if it means NULL, set NULL_VALUES to it and to the other texts that mean NULL";

/// Whether a text is one of those with which people and programs write that a value is missing.
#[cold]
fn may_mean_null(bytes: &[u8]) -> bool {
    const WORDS: [&str; 12] = [
        "missing",
        "unknown",
        "undefined",
        "empty",
        "void",
        "not available",
        "tbd",
        "#null!",
        "#value!",
        "#ref!",
        "#div/0!",
        "no data",
    ];
    let text = bytes.trim_ascii();
    let inner = text.strip_prefix(b"(").or(text.strip_prefix(b"[")).or(text.strip_prefix(b"<")).unwrap_or(text);
    let inner = inner.strip_suffix(b")").or(inner.strip_suffix(b"]")).or(inner.strip_suffix(b">")).unwrap_or(inner);
    let is_mark = (1..=5).contains(&text.len()) && text.iter().all(u8::is_ascii_punctuation);
    is_mark
        || WORDS.iter().any(|word| inner.eq_ignore_ascii_case(word.as_bytes()))
        || (inner.len() < text.len() && is_null_token(inner))
}

/// The error for a rejected value.
fn value_rejected<S>(column: &TableColumn<S>, position: Position, reason: Rejection) -> Error {
    let message = format!("the value {reason}; the column's type is {}", column.type_text);
    Error::new(ErrorKind::DataRefused, message).at(position).in_column(&column.name).of_one_record()
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

/// Where the plain digits of a number are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Digits {
    /// The field itself.
    Field,
    /// The scratch buffer, because the field spells the number in another way.
    Scratch,
}

/// Checks that a number fits into this many digits, `scale` of them after the decimal point. Returns where its plain
/// digits are.
pub(super) fn check_decimal(
    bytes: &[u8],
    (precision, scale): (u64, u64),
    scratch: &mut Vec<u8>,
) -> Result<Digits, Rejection> {
    let (counts, digits) = match digit_counts(bytes) {
        Some(counts) => (counts, Digits::Field),
        None => {
            scratch.clear();
            let is_number = spelling::plain_number(bytes, scratch);
            let counts = if is_number { digit_counts(scratch) } else { None };
            (counts.ok_or_else(|| not_a_number(bytes))?, Digits::Scratch)
        }
    };
    let (whole, fraction) = counts;
    if fraction > scale {
        return Err("has more digits after the decimal point than the column");
    }
    if whole > precision.saturating_sub(scale) {
        return Err("has more digits before the decimal point than the column");
    }
    Ok(digits)
}

/// Returns the reason why a text is rejected in a column of decimal numbers.
#[cold]
fn not_a_number(bytes: &[u8]) -> Rejection {
    let text = bytes.trim_ascii();
    let has_digit = text.iter().any(u8::is_ascii_digit);
    let is_part = |byte: &u8| byte.is_ascii_digit() || b"+-., ".contains(byte);
    match text {
        _ if !has_digit => "is not a decimal number",
        _ if text.iter().all(is_part) && (text.contains(&b',') || text.contains(&b' ')) => {
            "has a comma or a space; decimal and thousands in the table settings say what they mean"
        }
        [b'0', b'0'..=b'9', ..] if text.iter().all(u8::is_ascii_digit) => "has leading zeros, which a number loses",
        _ => "is not a decimal number; decimal, thousands and remove in the table settings read other spellings",
    }
}

/// Returns the reason why a text is rejected in an integer column.
pub(super) fn not_an_integer(bytes: &[u8]) -> Rejection {
    let is_part = |byte: &u8| byte.is_ascii_digit() || b"+-., ".contains(byte);
    match bytes.trim_ascii() {
        text if spelling::may_be_thousands(text) => {
            "may be a whole number or a number of thousands; write it without the point, or set thousands in the table settings"
        }
        [b'0', b'0'..=b'9', ..] if bytes.trim_ascii().iter().all(u8::is_ascii_digit) => {
            "has leading zeros, which a number loses"
        }
        text if text.iter().all(is_part) && (text.contains(&b',') || text.contains(&b' ')) => {
            "has a comma or a space; decimal and thousands in the table settings say what they mean"
        }
        _ => "is not an integer",
    }
}

/// Returns a number that a 64-bit float stores exactly.
pub(super) fn double(bytes: &[u8]) -> Result<f64, Rejection> {
    match parse(ColumnType::Double, Some(bytes)) {
        Some(Value::Double(value)) => Ok(value),
        _ => spelling::double(bytes).ok_or_else(|| not_a_float(bytes)),
    }
}

/// Returns the reason why a text is rejected in a column of floats.
#[cold]
fn not_a_float(bytes: &[u8]) -> Rejection {
    let text = std::str::from_utf8(bytes).unwrap_or_default().trim();
    let is_number = text.bytes().any(|byte| byte.is_ascii_digit());
    match text.parse::<f64>() {
        Ok(value) if is_number && value.is_infinite() => "is out of the range of a float",
        _ => "is not a number that a float stores exactly",
    }
}

/// Returns a number that a 32-bit float stores exactly.
pub(super) fn single(bytes: &[u8]) -> Result<f64, Rejection> {
    if let Some(Value::Double(value)) = parse(ColumnType::Double, Some(bytes)) {
        // The shortest text of the 32-bit float must be the same number as the file's text.
        if shortest_number(value as f32) == Some(value) {
            return Ok(value);
        }
    }
    match (spelling::single(bytes), spelling::double(bytes)) {
        (Some(value), _) => {
            // With its shortest text, which a column with a number of digits may require.
            let shortest = shortest_number(value).filter(|shortest| *shortest as f32 == value);
            Ok(shortest.unwrap_or(value.into()))
        }
        (None, Some(value)) if value.abs() > f32::MAX.into() => Err("is out of the range of a 32-bit float"),
        (None, Some(value)) if value as f32 == 0.0 => Err("is too close to zero for a 32-bit float"),
        (None, Some(_)) => Err("has more digits than a 32-bit float stores"),
        (None, None) => Err(not_a_float(bytes)),
    }
}

/// Returns the number that the shortest text of a 32-bit float means.
fn shortest_number(value: f32) -> Option<f64> {
    // A sign, nine digits, a point, and an exponent of two digits with its sign. A buffer avoids an allocation per value.
    let mut text = [0; 16];
    let mut rest = &mut text[..];
    write!(rest, "{value:e}").ok()?;
    let unused = rest.len();
    std::str::from_utf8(&text[..text.len() - unused]).ok()?.parse().ok()
}

/// Returns a date in days since 1970-01-01. The order is that of dates that end with their year.
pub(super) fn date(bytes: &[u8], order: Option<DayOrder>) -> Result<i32, Rejection> {
    match parse(ColumnType::Date, Some(bytes)) {
        Some(Value::Date { days }) => Ok(days),
        _ => unusual_date(bytes, order),
    }
}

#[cold]
fn unusual_date(bytes: &[u8], order: Option<DayOrder>) -> Result<i32, Rejection> {
    spelling::date(bytes).or_else(|| spelling::ordered_date(bytes, order?)).ok_or_else(|| not_a_date(bytes))
}

/// Returns the reason why a text is rejected in a column of dates.
fn not_a_date(bytes: &[u8]) -> Rejection {
    match spelling::ordered_date(bytes, DayOrder::DayFirst)
        .or_else(|| spelling::ordered_date(bytes, DayOrder::MonthFirst))
    {
        Some(_) => {
            "may begin with the day or the month, and the file does not prove which; set its format in the table settings"
        }
        None => "is not a date (YYYY-MM-DD)",
    }
}

/// Returns a date and time in microseconds since 1970-01-01.
///
/// An instant is converted to UTC, and a date to its midnight. The column stores this many decimals of a second. The order is
/// that of dates that end with their year.
pub(super) fn date_time(bytes: &[u8], fraction_digits: u32, order: Option<DayOrder>) -> Result<i64, Rejection> {
    let micros = if let Some(Value::DateTime { micros }) = parse(ColumnType::DateTime, Some(bytes)) {
        micros
    } else if let Some(Value::Instant { micros }) = parse(ColumnType::Instant, Some(bytes)) {
        micros
    } else if let Some(Value::Date { days }) = parse(ColumnType::Date, Some(bytes)) {
        i64::from(days) * 86_400_000_000
    } else {
        unusual_date_time(bytes, order)?
    };
    check_fraction(micros, fraction_digits)?;
    Ok(micros)
}

#[cold]
fn unusual_date_time(bytes: &[u8], order: Option<DayOrder>) -> Result<i64, Rejection> {
    spelling::date_time(bytes)
        .or_else(|| spelling::ordered_date_time(bytes, order?))
        .ok_or_else(|| if has_long_fraction(bytes) { LONG_FRACTION } else { "is not a date and time" })
}

/// Whether a digit other than zero follows a point after six other digits.
pub(super) fn has_long_fraction(bytes: &[u8]) -> bool {
    let is_long = |part: &[u8]| part.iter().take_while(|byte| byte.is_ascii_digit()).skip(6).any(|byte| *byte != b'0');
    memchr::memchr2_iter(b'.', b',', bytes).any(|at| is_long(&bytes[at + 1..]))
}

/// Checks that a column with this many decimals of a second stores the whole fraction.
pub(super) fn check_fraction(micros: i64, fraction_digits: u32) -> Result<(), Rejection> {
    let unit = 10i64.pow(6u32.saturating_sub(fraction_digits));
    if micros % unit == 0 { Ok(()) } else { Err(LONG_FRACTION) }
}

/// Checks that bytes of the file are text, for a column that does not store bytes.
pub(super) fn check_utf8(bytes: &[u8]) -> Result<(), Rejection> {
    match std::str::from_utf8(bytes) {
        Ok(_) => Ok(()),
        Err(_) => Err("is binary and not UTF-8 text, and the column does not store bytes"),
    }
}

/// Checks a text against its column's limit in characters. A CHAR column removes trailing spaces.
pub(super) fn check_characters(bytes: &[u8], max: u64, trims_spaces: bool) -> Result<(), Rejection> {
    if has_more_characters(bytes, max) {
        return Err("has more characters than the column");
    }
    if trims_spaces && bytes.last() == Some(&b' ') {
        return Err("ends with a space, which a CHAR column does not preserve");
    }
    Ok(())
}

/// Whether a text has more than `max` characters.
fn has_more_characters(bytes: &[u8], max: u64) -> bool {
    // A text never has more characters than bytes, so only the characters of longer texts are counted.
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
    fn text_for_a_missing_value_names_the_setting() {
        for text in ["-", "--", "?", "n/a ", "(null)", "Unknown", "#DIV/0!", "."] {
            assert_eq!(may_mean_null(text.as_bytes()), text != "n/a ", "{text}");
        }
        for text in ["", "x", "1,5", "-5", "nullify", "------"] {
            assert!(!may_mean_null(text.as_bytes()), "{text}");
        }
        let column = super::super::column::nullable_column("INT", ());
        let refused = |text: &'static str| {
            let checked =
                check_field(&column, Some(text.as_bytes()), Position::default(), |_| Err::<u8, _>("is not an integer"));
            checked.unwrap_err().to_string()
        };
        assert!(refused("-").contains("set NULL_VALUES"), "{}", refused("-"));
        assert!(!refused("x").contains("NULL_VALUES"));
    }

    #[test]
    fn length_is_in_characters() {
        assert!(!has_more_characters("äöü".as_bytes(), 3));
        assert!(has_more_characters("äöüß".as_bytes(), 3));
    }
}

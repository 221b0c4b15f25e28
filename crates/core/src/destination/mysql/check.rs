//! Checks a value against the type of its column before it is sent.
//!
//! A value that passes is stored as it is written: not clamped, rounded, truncated, padded or guessed. Two conversions
//! are exact and allowed: a date in a column of dates and times is its midnight, and `true` and `false` in an integer
//! column are 1 and 0.

use crate::destination::check::{
    Rejection, conclude, digit_counts, expand_exponent, fraction, has_more_characters, moment,
};
use crate::error::{Position, Result};
use spillway_formats::schema::ColumnType;
use spillway_formats::schema::value::json;
use spillway_formats::schema::value::{Value, is_null_token, parse, write_canonical};

use super::column::{Storage, TableColumn};

/// The range of TIMESTAMP in microseconds: 1970-01-01 00:00:01 to 2038-01-19 03:14:07.999999.
const TIMESTAMP_MICROS: std::ops::RangeInclusive<i64> = 1_000_000..=2_147_483_647_999_999;

/// A value that passed the check.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Encoded<'a> {
    /// NULL.
    Null,
    /// The field's own bytes, as text.
    Bytes(&'a [u8]),
    /// The text in the scratch buffer.
    Scratch,
}

/// Checks one field of a row. `scratch` receives the text of [`Encoded::Scratch`].
pub(super) fn check<'a>(
    column: &TableColumn,
    field: Option<&'a [u8]>,
    scratch: &mut Vec<u8>,
    position: Position,
) -> Result<Encoded<'a>> {
    let checked = match field {
        None => Ok(Encoded::Null),
        Some(bytes) => check_bytes(column, bytes, scratch),
    };
    conclude(column, position, checked, |value| matches!(value, Encoded::Null))
}

fn check_bytes<'a>(column: &TableColumn, bytes: &'a [u8], scratch: &mut Vec<u8>) -> Result<Encoded<'a>, Rejection> {
    match &column.storage {
        Storage::Characters { max, trims_spaces } => characters(*max, *trims_spaces, bytes),
        Storage::Text { max_bytes } => {
            if max_bytes.is_some_and(|max| bytes.len() as u64 > max) {
                Err("is too long")
            } else {
                Ok(Encoded::Bytes(bytes))
            }
        }
        Storage::Bytes { max, fixed } => match bytes.len() as u64 {
            length if length > *max => Err("is too long"),
            length if *fixed && length < *max => Err("is shorter than the column and would be padded with zeros"),
            _ => Ok(Encoded::Bytes(bytes)),
        },
        Storage::Enum(words) => match std::str::from_utf8(bytes) {
            Ok(text) if words.iter().any(|word| word == text) => Ok(Encoded::Bytes(bytes)),
            _ => Err("is not a value of the ENUM"),
        },
        Storage::Set(words) => set(words, bytes),
        Storage::Json { .. } if !json::is_json(bytes) => Err("is not JSON"),
        Storage::Json { is_parsed: true } if !json::keeps_meaning(bytes) => {
            Err("has a number or a repeated key that the server would not preserve, or is nested too deeply")
        }
        Storage::Json { .. } | Storage::ServerChecked => Ok(Encoded::Bytes(bytes)),
        Storage::Integer { .. }
        | Storage::Decimal { .. }
        | Storage::Float { .. }
        | Storage::Date
        | Storage::DateTime { .. }
        | Storage::Timestamp { .. }
        | Storage::Time { .. }
        | Storage::Year
        | Storage::Bits { .. } => typed(column, bytes, scratch),
    }
}

/// Checks a number, date or time. A null token is NULL where the file uses null tokens.
fn typed<'a>(column: &TableColumn, bytes: &'a [u8], scratch: &mut Vec<u8>) -> Result<Encoded<'a>, Rejection> {
    if column.null_tokens && is_null_token(bytes) {
        return Ok(Encoded::Null);
    }
    scratch.clear();
    match &column.storage {
        Storage::Integer { min, max } => integer(*min, *max, bytes, scratch),
        Storage::Bits { count } => integer(0, u64::MAX >> (64 - count), bytes, scratch),
        Storage::Decimal { precision, scale, unsigned } => decimal((*precision, *scale), *unsigned, bytes, scratch),
        Storage::Float { single, digits, unsigned } => float(*single, *digits, *unsigned, bytes, scratch),
        Storage::Date => match parse(ColumnType::Date, Some(bytes)) {
            Some(value @ Value::Date { .. }) => Ok(written(value, scratch)),
            _ => Err("is not a date (YYYY-MM-DD)"),
        },
        Storage::DateTime { fraction_digits } => {
            let micros = moment(bytes)?;
            fraction(micros, *fraction_digits)?;
            Ok(written(Value::DateTime { micros }, scratch))
        }
        Storage::Timestamp { fraction_digits } => {
            let micros = moment(bytes)?;
            fraction(micros, *fraction_digits)?;
            if !TIMESTAMP_MICROS.contains(&micros) {
                return Err("is out of the range of TIMESTAMP (1970 to 2038)");
            }
            Ok(written(Value::DateTime { micros }, scratch))
        }
        Storage::Time { fraction_digits } => time(*fraction_digits, bytes),
        Storage::Year => year(bytes),
        Storage::Characters { .. }
        | Storage::Text { .. }
        | Storage::Bytes { .. }
        | Storage::Enum(_)
        | Storage::Set(_)
        | Storage::Json { .. }
        | Storage::ServerChecked => Ok(Encoded::Bytes(bytes)),
    }
}

fn year(bytes: &[u8]) -> Result<Encoded<'_>, Rejection> {
    match parse(ColumnType::Integer, Some(bytes)) {
        Some(Value::Integer(1901..=2155)) => Ok(Encoded::Bytes(bytes)),
        _ if bytes == b"0000" => Ok(Encoded::Bytes(bytes)),
        _ => Err("is not a year from 1901 to 2155"),
    }
}

fn written<'a>(value: Value<'_>, scratch: &mut Vec<u8>) -> Encoded<'a> {
    write_canonical(&value, scratch);
    Encoded::Scratch
}

fn integer<'a>(min: i64, max: u64, bytes: &'a [u8], scratch: &mut Vec<u8>) -> Result<Encoded<'a>, Rejection> {
    if let Some(Value::Integer(number)) = parse(ColumnType::Integer, Some(bytes)) {
        let fits = number >= min && u64::try_from(number).map_or(true, |number| number <= max);
        return if fits { Ok(Encoded::Bytes(bytes)) } else { Err("is out of range") };
    }
    if let Some(value @ Value::Boolean(_)) = parse(ColumnType::Boolean, Some(bytes)) {
        return Ok(written(value, scratch));
    }
    // More than 63 bits: only an unsigned 64-bit column has room for it.
    match parse(ColumnType::Decimal { precision: 38, scale: 0 }, Some(bytes)) {
        Some(Value::Decimal { unscaled, .. }) if bytes.contains(&b'.') || unscaled < 0 => {
            Err("is not an integer in range")
        }
        Some(Value::Decimal { unscaled, .. }) if unscaled <= i128::from(max) => Ok(Encoded::Bytes(bytes)),
        Some(Value::Decimal { .. }) => Err("is out of range"),
        _ => Err("is not an integer"),
    }
}

fn decimal<'a>(
    (precision, scale): (u64, u64),
    unsigned: bool,
    bytes: &'a [u8],
    scratch: &mut Vec<u8>,
) -> Result<Encoded<'a>, Rejection> {
    let is_expanded = expand_exponent(bytes, scratch)?;
    let text = if is_expanded { scratch.as_slice() } else { bytes };
    let (whole, fraction) = digit_counts(text).ok_or("is not a decimal number")?;
    if unsigned && text.starts_with(b"-") {
        return Err("is negative, and the column is UNSIGNED");
    }
    if fraction > scale {
        return Err("has more digits after the decimal point than the column");
    }
    if whole > precision.saturating_sub(scale) {
        return Err("has more digits before the decimal point than the column");
    }
    Ok(if is_expanded { Encoded::Scratch } else { Encoded::Bytes(bytes) })
}

fn float<'a>(
    single: bool,
    digits: Option<(u64, u64)>,
    unsigned: bool,
    bytes: &'a [u8],
    scratch: &mut Vec<u8>,
) -> Result<Encoded<'a>, Rejection> {
    let Some(Value::Double(value)) = parse(ColumnType::Double, Some(bytes)) else {
        return Err("is not a number that a float stores exactly");
    };
    if unsigned && value.is_sign_negative() {
        return Err("is negative, and the column is UNSIGNED");
    }
    // The shortest text of the 32-bit float must be the same number as the file's text.
    if single && (value as f32).to_string().parse::<f64>() != Ok(value) {
        return Err("has more digits than a 32-bit FLOAT stores");
    }
    if let Some((precision, scale)) = digits {
        let (whole, fraction) = digit_counts(value.to_string().as_bytes()).ok_or("is not a number in range")?;
        if fraction > scale || whole > precision.saturating_sub(scale) {
            return Err("has more digits than the column");
        }
    }
    Ok(written(Value::Double(value), scratch))
}

/// Checks `-?H{2,3}:MM:SS(.f+)?` up to 837:59:59, which leaves a fraction below the type's limit of 838:59:59.
///
/// Shorter forms are rejected, because MySQL guesses what they mean.
fn time(fraction_digits: u32, bytes: &[u8]) -> Result<Encoded<'_>, Rejection> {
    const REASON: Rejection = "is not a time (HH:MM:SS) that the column can store";
    let text = std::str::from_utf8(bytes).map_err(|_| REASON)?;
    let (clock, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let clock = clock.strip_prefix('-').unwrap_or(clock);
    let parts: Vec<&str> = clock.split(':').collect();
    let &[hours, minutes, seconds] = parts.as_slice() else { return Err(REASON) };
    let number = |part: &str, lengths: std::ops::RangeInclusive<usize>, max: u32| {
        lengths.contains(&part.len())
            && part.bytes().all(|byte| byte.is_ascii_digit())
            && part.parse::<u32>().is_ok_and(|number| number <= max)
    };
    let fraction_fits = !fraction.is_empty()
        && fraction.bytes().all(|byte| byte.is_ascii_digit())
        && fraction.trim_end_matches('0').len() <= fraction_digits as usize;
    if !fraction_fits || !number(hours, 2..=3, 837) || !number(minutes, 2..=2, 59) || !number(seconds, 2..=2, 59) {
        return Err(REASON);
    }
    Ok(Encoded::Bytes(bytes))
}

fn characters(max: u64, trims_spaces: bool, bytes: &[u8]) -> Result<Encoded<'_>, Rejection> {
    if has_more_characters(bytes, max) {
        return Err("has more characters than the column");
    }
    if trims_spaces && bytes.last() == Some(&b' ') {
        return Err("ends with a space, which a CHAR column does not preserve");
    }
    Ok(Encoded::Bytes(bytes))
}

/// Checks that a list has the SET's order and no repeats, because the server stores it that way.
fn set<'a>(words: &[String], bytes: &'a [u8]) -> Result<Encoded<'a>, Rejection> {
    const REASON: Rejection = "is not a list of the SET's values in the order of the column";
    if bytes.is_empty() {
        return Ok(Encoded::Bytes(bytes));
    }
    let text = std::str::from_utf8(bytes).map_err(|_| REASON)?;
    let mut rest = words.iter();
    let in_order = text.split(',').all(|word| rest.any(|known| known == word));
    if in_order { Ok(Encoded::Bytes(bytes)) } else { Err(REASON) }
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;

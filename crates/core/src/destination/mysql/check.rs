//! Checks a value against the type of its column before it is sent.
//!
//! The value that passes is stored: not clamped, rounded, truncated, padded or guessed. Three conversions are exact and
//! allowed: a date in a column of dates and times becomes its midnight, an instant becomes its time in UTC, and `true`
//! and `false` in an integer column become 1 and 0.

use crate::destination::check::{
    Digits, LONG_FRACTION, Rejection, check_characters, check_decimal, check_field, check_utf8, date, date_time,
    digit_counts, double, not_an_integer, single,
};
use crate::error::{Position, Result};
use spillway_formats::schema::ColumnType;
use spillway_formats::schema::value::{Value, is_null_token, json, parse, spelling, write_canonical};

use super::column::{Storage, TableColumn, ValueClass, is_sent_in_hex};
use super::wkt;

/// The range of TIMESTAMP in microseconds: 1970-01-01 00:00:01 to 2038-01-19 03:14:07.999999.
const TIMESTAMP_MICROS: std::ops::RangeInclusive<i64> = 1_000_000..=2_147_483_647_999_999;

/// A value that passed the check.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) enum Encoded<'a> {
    /// NULL.
    #[default]
    Null,
    /// The field's own bytes, as text.
    Bytes(&'a [u8]),
    /// The text in the scratch buffer.
    Scratch,
}

/// Checks one field of a row. `scratch` receives the text of [`Encoded::Scratch`].
#[inline]
pub(super) fn check<'a>(
    column: &TableColumn,
    field: Option<&'a [u8]>,
    scratch: &mut Vec<u8>,
    position: Position,
) -> Result<Encoded<'a>> {
    check_field(column, field, position, |bytes| {
        let can_be_null = column.null_tokens && column.storage.class() == ValueClass::Scalar;
        if can_be_null && is_null_token(bytes) {
            return Ok(Encoded::Null);
        }
        if column.is_binary && !is_sent_in_hex(column) {
            check_utf8(bytes)?;
        }
        check_value(column, bytes, scratch)
    })
}

/// Checks a value that is not NULL.
#[inline]
fn check_value<'a>(column: &TableColumn, bytes: &'a [u8], scratch: &mut Vec<u8>) -> Result<Encoded<'a>, Rejection> {
    scratch.clear();
    let order = column.day_order;
    match &column.storage {
        Storage::Integer { min, max } => return integer((*min, *max), bytes, scratch),
        Storage::Flag { min, max } => return flag((*min, *max), bytes, scratch),
        Storage::Bits { count } => return integer((0, u64::MAX >> (64 - count)), bytes, scratch),
        Storage::Decimal { precision, scale, unsigned } => {
            return decimal((*precision, *scale), *unsigned, bytes, scratch);
        }
        Storage::Float { single, digits, unsigned } => return float((*single, *unsigned), *digits, bytes, scratch),
        Storage::Date => return Ok(canonical(Value::Date { days: date(bytes, order)? }, scratch)),
        Storage::DateTime { fraction_digits } => {
            return Ok(canonical(Value::DateTime { micros: date_time(bytes, *fraction_digits, order)? }, scratch));
        }
        Storage::Timestamp { fraction_digits } => {
            let micros = date_time(bytes, *fraction_digits, order)?;
            if !TIMESTAMP_MICROS.contains(&micros) {
                return Err("is out of the range of TIMESTAMP (1970 to 2038)");
            }
            return Ok(canonical(Value::DateTime { micros }, scratch));
        }
        Storage::Time { fraction_digits } => return time(bytes, *fraction_digits, scratch),
        Storage::Year => return year(bytes, scratch),
        Storage::Characters { max, trims_spaces } => check_characters(bytes, *max, *trims_spaces)?,
        Storage::Text { max_bytes } => check_size(bytes, 0, max_bytes.unwrap_or(u64::MAX))?,
        Storage::Bytes { max, fixed } => check_size(bytes, if *fixed { *max } else { 0 }, *max)?,
        Storage::Enum(members) => check_enum(members, bytes)?,
        Storage::Set(members) => check_set(members, bytes)?,
        Storage::Json { is_parsed } => check_json(*is_parsed, bytes)?,
        Storage::Uuid => return Ok(uuid(bytes, scratch)),
        Storage::Geometry => return wkt::write(bytes, scratch).map(|()| Encoded::Scratch),
        Storage::ServerChecked => {}
    }
    Ok(Encoded::Bytes(bytes))
}

/// Writes a value in its canonical text.
fn canonical<'a>(value: Value<'_>, scratch: &mut Vec<u8>) -> Encoded<'a> {
    write_canonical(&value, scratch);
    Encoded::Scratch
}

/// Minimum and maximum of an integer column.
type Range = (i64, u64);

fn integer<'a>(range: Range, bytes: &'a [u8], scratch: &mut Vec<u8>) -> Result<Encoded<'a>, Rejection> {
    if let Some(fits) = fits(range, bytes) {
        return if fits { Ok(Encoded::Bytes(bytes)) } else { Err("is out of range") };
    }
    if let Some(value @ Value::Boolean(_)) = parse(ColumnType::Boolean, Some(bytes)) {
        return Ok(canonical(value, scratch));
    }
    let is_whole = spelling::whole_number(bytes, scratch);
    match if is_whole { fits(range, scratch) } else { None } {
        Some(true) => Ok(Encoded::Scratch),
        Some(false) => Err("is out of range"),
        None => Err(not_an_integer(bytes)),
    }
}

/// Whether a whole number in plain digits is in range. `None` for other texts.
fn fits((min, max): Range, digits: &[u8]) -> Option<bool> {
    if let Some(Value::Integer(number)) = parse(ColumnType::Integer, Some(digits)) {
        return Some(number >= min && u64::try_from(number).map_or(true, |number| number <= max));
    }
    // More than 63 bits fit only into an unsigned 64-bit column.
    match parse(ColumnType::Decimal { precision: 38, scale: 0 }, Some(digits)) {
        Some(Value::Decimal { .. }) if digits.contains(&b'.') => None,
        Some(Value::Decimal { unscaled, .. }) => Some(unscaled >= i128::from(min) && unscaled <= i128::from(max)),
        _ => None,
    }
}

/// Checks a value of a boolean column, which is an integer column to the server.
fn flag<'a>(range: Range, bytes: &'a [u8], scratch: &mut Vec<u8>) -> Result<Encoded<'a>, Rejection> {
    let rejection = match integer(range, bytes, scratch) {
        Ok(encoded) => return Ok(encoded),
        Err(rejection) => rejection,
    };
    scratch.clear();
    spelling::boolean(bytes).map(|value| canonical(Value::Boolean(value), scratch)).ok_or(rejection)
}

fn decimal<'a>(
    size: (u64, u64),
    unsigned: bool,
    bytes: &'a [u8],
    scratch: &mut Vec<u8>,
) -> Result<Encoded<'a>, Rejection> {
    let (encoded, is_negative) = match check_decimal(bytes, size, scratch)? {
        Digits::Field => (Encoded::Bytes(bytes), bytes.starts_with(b"-")),
        Digits::Scratch => (Encoded::Scratch, scratch.starts_with(b"-")),
    };
    if unsigned && is_negative {
        return Err("is negative, and the column is UNSIGNED");
    }
    Ok(encoded)
}

fn float<'a>(
    (is_single, unsigned): (bool, bool),
    digits: Option<(u64, u64)>,
    bytes: &[u8],
    scratch: &mut Vec<u8>,
) -> Result<Encoded<'a>, Rejection> {
    let value = if is_single { single(bytes)? } else { double(bytes)? };
    if unsigned && value.is_sign_negative() {
        return Err("is negative, and the column is UNSIGNED");
    }
    if let Some((precision, scale)) = digits {
        let (whole, fraction) = digit_counts(value.to_string().as_bytes()).ok_or("has more digits than the column")?;
        if fraction > scale || whole > precision.saturating_sub(scale) {
            return Err("has more digits than the column");
        }
    }
    Ok(canonical(Value::Double(value), scratch))
}

/// Checks `-?H{1,3}:MM:SS(.f+)?` up to 838:59:59. MySQL stores no fraction of that last second.
///
/// Shorter forms are rejected, because MySQL guesses what they mean.
fn time<'a>(bytes: &'a [u8], fraction_digits: u32, scratch: &mut Vec<u8>) -> Result<Encoded<'a>, Rejection> {
    const REASON: Rejection = "is not a time (HH:MM:SS)";
    const RANGE: Rejection = "is out of the range of TIME (-838:59:59 to 838:59:59)";
    let bytes = bytes.trim_ascii();
    let text = std::str::from_utf8(bytes).map_err(|_| REASON)?;
    let (clock, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let parts: Vec<&str> = clock.strip_prefix('-').unwrap_or(clock).split(':').collect();
    let &[hours, minutes, seconds] = parts.as_slice() else { return Err(REASON) };
    let is_number = |part: &str, lengths: std::ops::RangeInclusive<usize>, max: u32| {
        lengths.contains(&part.len())
            && part.bytes().all(|byte| byte.is_ascii_digit())
            && part.parse::<u32>().is_ok_and(|number| number <= max)
    };
    let is_clock = is_number(hours, 1..=3, 999) && is_number(minutes, 2..=2, 59) && is_number(seconds, 2..=2, 59);
    let (digits, significant) = (fraction_digits as usize, fraction.trim_end_matches('0'));
    let is_fraction = !fraction.is_empty() && fraction.bytes().all(|byte| byte.is_ascii_digit());
    if !is_clock || !is_fraction {
        return Err(REASON);
    }
    let is_last_second = (hours, minutes, seconds) == ("838", "59", "59");
    if !is_number(hours, 1..=3, 838) || (is_last_second && !significant.is_empty()) {
        return Err(RANGE);
    }
    if significant.len() > digits {
        return Err(LONG_FRACTION);
    }
    if fraction.len() <= digits {
        return Ok(Encoded::Bytes(bytes));
    }
    // The server warns about digits that the column does not store, even about zeros.
    scratch.extend_from_slice(clock.as_bytes());
    if !significant.is_empty() {
        scratch.push(b'.');
        scratch.extend_from_slice(significant.as_bytes());
    }
    Ok(Encoded::Scratch)
}

fn year<'a>(bytes: &'a [u8], scratch: &mut Vec<u8>) -> Result<Encoded<'a>, Rejection> {
    let is_year = |digits: &[u8]| matches!(parse(ColumnType::Integer, Some(digits)), Some(Value::Integer(1901..=2155)));
    if is_year(bytes) || bytes == b"0000" {
        return Ok(Encoded::Bytes(bytes));
    }
    match spelling::whole_number(bytes, scratch) && is_year(scratch) {
        true => Ok(Encoded::Scratch),
        false => Err("is not a year from 1901 to 2155"),
    }
}

/// Writes a UUID in the usual five groups. The server checks other texts.
fn uuid<'a>(bytes: &'a [u8], scratch: &mut Vec<u8>) -> Encoded<'a> {
    let Some(uuid) = spelling::uuid(bytes).filter(|_| bytes.len() != 36) else { return Encoded::Bytes(bytes) };
    for (index, byte) in uuid.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            scratch.push(b'-');
        }
        scratch.extend_from_slice(format!("{byte:02x}").as_bytes());
    }
    Encoded::Scratch
}

/// Checks a size in bytes.
fn check_size(bytes: &[u8], min: u64, max: u64) -> Result<(), Rejection> {
    match bytes.len() as u64 {
        length if length > max => Err("is too long"),
        length if length < min => Err("is shorter than the column and would be padded with zeros"),
        _ => Ok(()),
    }
}

fn check_enum(members: &[String], bytes: &[u8]) -> Result<(), Rejection> {
    match members.iter().any(|member| member.as_bytes() == bytes) {
        true => Ok(()),
        false => Err("is not a value of the ENUM"),
    }
}

/// Checks that a list has the SET's order and no repeats, because the server stores it that way.
fn check_set(members: &[String], bytes: &[u8]) -> Result<(), Rejection> {
    const REASON: Rejection = "is not a list of the SET's values in the order of the column";
    if bytes.is_empty() {
        return Ok(());
    }
    let text = std::str::from_utf8(bytes).map_err(|_| REASON)?;
    let mut rest = members.iter();
    let in_order = text.split(',').all(|value| rest.any(|member| member == value));
    if in_order { Ok(()) } else { Err(REASON) }
}

fn check_json(is_parsed: bool, bytes: &[u8]) -> Result<(), Rejection> {
    if !json::is_json(bytes) {
        return Err("is not JSON");
    }
    if is_parsed && !json::keeps_meaning(bytes) {
        return Err("has a number or a repeated key that the server would not preserve, or is nested too deeply");
    }
    Ok(())
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;

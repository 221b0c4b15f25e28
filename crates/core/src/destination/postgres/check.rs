//! A value against its column's real type, before it is sent.
//!
//! What passes is stored as written: no rounding, cutting or guessing. What does not is refused with the record and the
//! column, never with the value. A day is taken by a column of date and time as its midnight, an instant by a column without a
//! time zone as its time in UTC, and `true` and `false` by a column of whole numbers as 1 and 0; apart from these a
//! value must be of the column's own kind.

use crate::destination::value_check::{
    NO_KEY, NO_VALUE, Rejection, digit_counts, expand_exponent, fraction, has_more_characters, moment, value_rejected,
};
use crate::error::{Position, Result};
use crate::schema::ColumnType;
use crate::schema::value::{Value, is_null_token, json, parse};

use super::column::{Storage, TargetColumn};

/// A value that may be sent.
#[derive(Debug, PartialEq)]
pub(super) enum Encoded<'a> {
    /// NULL.
    Null,
    /// A truth value.
    Boolean(bool),
    /// A whole number that fits the column.
    Integer(i64),
    /// A decimal number in plain digits that fits the column.
    Decimal(&'a [u8]),
    /// A float; one that 32 bits keep, for a column of 32.
    Double(f64),
    /// Days since 1970-01-01.
    Date(i32),
    /// Microseconds since midnight.
    Time(i64),
    /// Microseconds since 1970-01-01 00:00:00, in UTC.
    Moment(i64),
    /// An identifier's 16 bytes.
    Uuid([u8; 16]),
    /// These bytes, as text.
    Text(&'a [u8]),
}

/// Checks one field for one column. `scratch` holds the digits of a decimal that the file writes with an exponent.
pub(super) fn check<'a>(
    column: &TargetColumn,
    field: Option<&'a [u8]>,
    scratch: &'a mut Vec<u8>,
    position: Position,
) -> Result<Encoded<'a>> {
    let checked = match field {
        None => Ok(Encoded::Null),
        Some(bytes) => check_bytes(column, bytes, scratch),
    };
    match checked {
        Ok(Encoded::Null) if column.in_merge_key => Err(value_rejected(column, position, NO_KEY)),
        Ok(Encoded::Null) if !column.nullable => Err(value_rejected(column, position, NO_VALUE)),
        Ok(checked) => Ok(checked),
        Err(reason) => Err(value_rejected(column, position, reason)),
    }
}

fn check_bytes<'a>(column: &TargetColumn, bytes: &'a [u8], scratch: &'a mut Vec<u8>) -> Result<Encoded<'a>, Rejection> {
    match column.storage {
        Storage::Characters { max, loses_blanks } => {
            if max.is_some_and(|max| has_more_characters(bytes, max)) {
                return Err("has more characters than the column");
            }
            if loses_blanks && bytes.last() == Some(&b' ') {
                return Err("ends with a blank, which a char column does not keep");
            }
            text(bytes)
        }
        Storage::Json | Storage::Jsonb if !json::is_json(bytes) => Err("is no JSON"),
        Storage::Jsonb if !json::keeps_keys(bytes) => {
            Err("has a repeated key, of which jsonb would keep one, or is nested too deeply")
        }
        Storage::Json | Storage::Jsonb | Storage::Enum | Storage::ServerParsed => text(bytes),
        Storage::Span if has_long_fraction(bytes) => Err("has a finer fraction of a second than the column"),
        Storage::Span => text(bytes),
        Storage::Unsupported(reason) => Err(reason),
        Storage::Boolean
        | Storage::Integer { .. }
        | Storage::Numeric { .. }
        | Storage::Real
        | Storage::Double
        | Storage::Date
        | Storage::Time { .. }
        | Storage::Timestamp { .. }
        | Storage::Instant { .. }
        | Storage::Uuid
            if column.null_tokens && is_null_token(bytes) =>
        {
            Ok(Encoded::Null)
        }
        Storage::Boolean => boolean(bytes),
        Storage::Integer { bytes: width } => integer(width, bytes),
        Storage::Numeric { size } => decimal(size, bytes, scratch),
        Storage::Real => real(bytes),
        Storage::Double => match parse(ColumnType::Double, Some(bytes)) {
            Some(Value::Double(value)) => Ok(Encoded::Double(value)),
            _ => Err("is no number that a float keeps exactly"),
        },
        Storage::Date => match parse(ColumnType::Date, Some(bytes)) {
            Some(Value::Date { days }) => Ok(Encoded::Date(days)),
            _ => Err("is no date (YYYY-MM-DD)"),
        },
        Storage::Time { fraction_digits } => time(fraction_digits, bytes),
        Storage::Timestamp { fraction_digits } | Storage::Instant { fraction_digits } => {
            let micros = moment(bytes)?;
            fraction(micros, fraction_digits)?;
            Ok(Encoded::Moment(micros))
        }
        Storage::Uuid => uuid(bytes),
    }
}

/// PostgreSQL's texts end at a NUL, so that none may hold one.
fn text(bytes: &[u8]) -> Result<Encoded<'_>, Rejection> {
    match memchr::memchr(0, bytes) {
        Some(_) => Err("holds a NUL character, which PostgreSQL cannot store in text"),
        None => Ok(Encoded::Text(bytes)),
    }
}

/// Whether more than six digits stand behind a point.
fn has_long_fraction(bytes: &[u8]) -> bool {
    let is_long = |part: &[u8]| part.iter().take_while(|byte| byte.is_ascii_digit()).count() > 6;
    memchr::memchr2_iter(b'.', b',', bytes).any(|at| is_long(&bytes[at + 1..]))
}

fn boolean(bytes: &[u8]) -> Result<Encoded<'_>, Rejection> {
    match parse(ColumnType::Boolean, Some(bytes)) {
        Some(Value::Boolean(value)) => Ok(Encoded::Boolean(value)),
        // The way back of what a column of whole numbers takes.
        _ if bytes == b"1" => Ok(Encoded::Boolean(true)),
        _ if bytes == b"0" => Ok(Encoded::Boolean(false)),
        _ => Err("is neither true nor false"),
    }
}

fn integer(width: u8, bytes: &[u8]) -> Result<Encoded<'_>, Rejection> {
    let unused_bits = 64 - 8 * u32::from(width);
    match parse(ColumnType::Integer, Some(bytes)) {
        Some(Value::Integer(number)) if (number << unused_bits) >> unused_bits == number => {
            Ok(Encoded::Integer(number))
        }
        Some(Value::Integer(_)) => Err("is out of range"),
        _ => match parse(ColumnType::Boolean, Some(bytes)) {
            Some(Value::Boolean(value)) => Ok(Encoded::Integer(value.into())),
            _ => Err("is no whole number in range"),
        },
    }
}

fn decimal<'a>(size: Option<(u64, u64)>, bytes: &'a [u8], scratch: &'a mut Vec<u8>) -> Result<Encoded<'a>, Rejection> {
    scratch.clear();
    let digits = if expand_exponent(bytes, scratch)? { scratch.as_slice() } else { bytes };
    let (whole, fraction) = digit_counts(digits).ok_or("is no decimal number")?;
    // What a numeric without a size holds.
    let (precision, scale) = size.unwrap_or((131_072 + 16_383, 16_383));
    if fraction > scale {
        return Err("has more digits behind the point than the column");
    }
    if whole > precision - scale {
        return Err("has more digits before the point than the column");
    }
    Ok(Encoded::Decimal(digits))
}

fn real(bytes: &[u8]) -> Result<Encoded<'_>, Rejection> {
    let Some(Value::Double(value)) = parse(ColumnType::Double, Some(bytes)) else {
        return Err("is no number that a float keeps exactly");
    };
    // The shortest text of the 32-bit float must mean the same number as the file's text.
    if (value as f32).to_string().parse::<f64>() != Ok(value) {
        return Err("needs more digits than a real has");
    }
    Ok(Encoded::Double(value))
}

/// `HH:MM[:SS[.f+]]` of one day, as a date's time of day is written.
fn time(fraction_digits: u32, bytes: &[u8]) -> Result<Encoded<'_>, Rejection> {
    const REASON: Rejection = "is no time of day (HH:MM:SS)";
    let mut day = b"1970-01-01 ".to_vec();
    day.extend_from_slice(bytes);
    let Some(Value::DateTime { micros }) = parse(ColumnType::DateTime, Some(&day)) else { return Err(REASON) };
    fraction(micros, fraction_digits)?;
    Ok(Encoded::Time(micros))
}

/// 32 hex digits in the usual five groups; their letter case is not kept.
fn uuid(bytes: &[u8]) -> Result<Encoded<'_>, Rejection> {
    const REASON: Rejection = "is no UUID of 32 hex digits in five groups";
    let mut digits = [0u8; 16];
    if bytes.len() != 36 {
        return Err(REASON);
    }
    let mut place = 0;
    for (index, byte) in bytes.iter().enumerate() {
        if matches!(index, 8 | 13 | 18 | 23) {
            if *byte != b'-' {
                return Err(REASON);
            }
            continue;
        }
        let digit = char::from(*byte).to_digit(16).ok_or(REASON)?;
        digits[place / 2] = digits[place / 2] << 4 | digit as u8;
        place += 1;
    }
    Ok(Encoded::Uuid(digits))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::super::column::column_of;
    use super::*;
    use crate::error::ErrorKind;

    fn takes(name: &str, modifier: i32, value: &str) -> bool {
        check(&column_of(name, modifier), Some(value.as_bytes()), &mut Vec::new(), Position::default()).is_ok()
    }

    #[rstest]
    #[case("bool", -1, &["true", "FALSE", "1", "0"], &["yes", "2", "t"])]
    #[case("int2", -1, &["-32768", "32767", "true"], &["32768", "1.0", "007", "+1", "1e2", "-0"])]
    #[case("int4", -1, &["-2147483648", "2147483647"], &["2147483648", "abc"])]
    #[case("int8", -1, &["9223372036854775807"], &["9223372036854775808", "-9223372036854775809"])]
    #[case("numeric", ((5 << 16) | 2) + 4, &["999.99", "-999.99", "1.500", "0", "1.5e2"], &["1000", "0.001", "1,5", "01", "-0.00"])]
    #[case("numeric", -1, &["123456789012345678901234567890123456789012345.5"], &["x", "Infinity"])]
    #[case("float8", -1, &["0.1", "1e300"], &["1e400", "0.10000000000000000001"])]
    #[case("float4", -1, &["0.5", "16777216", "0.1"], &["16777217", "0.123456789", "1e39"])]
    #[case("date", -1, &["2024-02-29"], &["2023-02-29", "0000-00-00", "2024-01-01 00:00:00", "infinity"])]
    #[case("time", 3, &["10:11:12", "10:11", "23:59:59.125"], &["24:00:00", "10:11:12.1234", "-01:00:00"])]
    #[case("timestamp", 3, &["2024-01-02 03:04:05.123", "2024-01-02", "2024-01-02T03:04:05Z"], &["2024-01-02 03:04:05.1234"])]
    #[case("timestamptz", -1, &["2024-01-02 03:04:05.123456"], &["now", "2024-13-01T00:00:00Z"])]
    #[case("varchar", 7, &["äöü", "ab "], &["äöüß", "a\0b"])]
    #[case("bpchar", 7, &["äöü", "a"], &["ab ", "abcd"])]
    #[case("text", -1, &["\\N", "NULL", ""], &["a\0"])]
    #[case("uuid", -1, &["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"], &["a0eebc99", "{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a1}"])]
    #[case("json", -1, &["{\"a\": 1, \"a\": 1e400}"], &["{", "NULL"])]
    #[case("jsonb", -1, &["[1e400, 123456789012345678901234567890.10]"], &["[{\"a\": 1, \"a\": 2}]", "{"])]
    #[case("interval", -1, &["1 day", "P1DT0.123456S"], &["0.1234567 s"])]
    #[case("interval", 3, &[], &["1 day"])]
    #[case("money", -1, &[], &["1.00"])]
    fn values_are_taken_or_refused(
        #[case] name: &str,
        #[case] modifier: i32,
        #[case] good: &[&str],
        #[case] bad: &[&str],
    ) {
        for value in good {
            assert!(takes(name, modifier, value), "{name} {value:?}");
        }
        for value in bad {
            assert!(!takes(name, modifier, value), "{name} {value:?}");
        }
    }

    #[test]
    fn a_refusal_names_record_and_column_and_never_the_value() {
        let position = Position { record: 7, line: 8, byte: 90 };
        let error = check(&column_of("int4", -1), Some(b"top secret"), &mut Vec::new(), position).unwrap_err();
        assert_eq!(
            (error.kind(), error.position(), error.column()),
            (ErrorKind::DataRefused, Some(position), Some("c"))
        );
        assert!(!error.to_string().contains("secret"), "{error}");
    }

    #[test]
    fn a_null_token_is_a_word_where_the_file_writes_nulls_apart() {
        for name in ["int4", "date", "numeric", "float8", "float4", "timestamp", "bool", "uuid", "time"] {
            let mut column = column_of(name, -1);
            column.null_tokens = false;
            for token in ["", "NULL", "NaN"] {
                let mut scratch = Vec::new();
                let checked = check(&column, Some(token.as_bytes()), &mut scratch, Position::default());
                assert_eq!(checked.unwrap_err().kind(), ErrorKind::DataRefused, "{name} {token:?}");
            }
            assert_eq!(check(&column, None, &mut Vec::new(), Position::default()).unwrap(), Encoded::Null);
        }
    }

    #[test]
    fn a_missing_value_needs_a_column_that_takes_null() {
        let mut column = column_of("int4", -1);
        let null = |column: &TargetColumn| check(column, Some(b"NA"), &mut Vec::new(), Position::default()).is_ok();
        assert!(null(&column));
        column.nullable = false;
        assert!(!null(&column));
    }
}

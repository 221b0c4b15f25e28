//! Checks a value against the type of its column before it is sent.
//!
//! The value that passes is stored: not rounded, truncated or guessed. Three conversions are exact and
//! allowed: a date in a column of dates and times becomes its midnight, an instant in a column without a time zone
//! becomes its time in UTC, and `true` and `false` in an integer column become 1 and 0.

use crate::destination::check::{
    Digits, LONG_FRACTION, Rejection, check_characters, check_decimal, check_field, check_fraction, check_utf8, date,
    date_time, double, has_long_fraction, not_an_integer, single,
};
use crate::error::{Position, Result};
use spillway_formats::schema::ColumnType;
use spillway_formats::schema::value::{Value, is_null_token, json, parse, spelling};

use super::array;
use super::column::{Storage, TableColumn};

/// The limits of a numeric without a size: digits before and after the decimal point.
const MAX_WHOLE_DIGITS: u64 = 131_072;
const MAX_SCALE: u64 = 16_383;

/// A value that passed the check.
///
/// Each payload starts at a multiple of its size, and none is larger than a slice. Then the compiler keeps the value in
/// registers. With the 16 bytes of a UUID in place a load needs a third more processor time.
#[derive(Debug, Default, PartialEq)]
pub(in crate::destination) enum Encoded<'a> {
    /// NULL.
    #[default]
    Null,
    /// A boolean.
    Boolean(bool),
    /// An integer in the range of the column.
    Integer(i64),
    /// A decimal in plain digits, in the range of the column.
    Decimal(&'a [u8]),
    /// A float. For a 32-bit column it is one that 32 bits store exactly.
    Double(f64),
    /// Days since 1970-01-01.
    Date(i32),
    /// Microseconds since midnight.
    Time(i64),
    /// Microseconds since 1970-01-01 00:00:00, in UTC.
    DateTime(i64),
    /// The 16 bytes of a UUID.
    Uuid(&'a [u8]),
    /// The field's own bytes, as text.
    Text(&'a [u8]),
    /// The field's own bytes, which need not be text.
    Bytes(&'a [u8]),
}

/// Checks one field of a row. `scratch` receives the plain digits of a number that the file spells in another way, and the
/// bytes of a UUID.
#[inline]
pub(super) fn check<'a>(
    column: &TableColumn,
    field: Option<&'a [u8]>,
    scratch: &'a mut Vec<u8>,
    position: Position,
) -> Result<Encoded<'a>> {
    check_field(column, field, position, |bytes| {
        if column.null_tokens && column.storage.has_null_tokens() && is_null_token(bytes) {
            return Ok(Encoded::Null);
        }
        match (column.is_binary, column.storage) {
            (true, Storage::Bytea) => return Ok(Encoded::Bytes(bytes)),
            (true, _) => check_utf8(bytes)?,
            (false, _) => {}
        }
        check_value(column, bytes, scratch)
    })
}

/// Checks a value that is not NULL.
#[inline]
pub(in crate::destination) fn check_value<'a>(
    column: &TableColumn,
    bytes: &'a [u8],
    scratch: &'a mut Vec<u8>,
) -> Result<Encoded<'a>, Rejection> {
    match column.storage {
        Storage::Boolean => boolean(bytes),
        Storage::Integer { bytes: width } => integer(width, bytes, scratch),
        Storage::Numeric { size } => decimal(size, bytes, scratch),
        Storage::Real => single(bytes).map(Encoded::Double),
        Storage::Double => double(bytes).map(Encoded::Double),
        Storage::Date => date(bytes, column.day_order).map(Encoded::Date),
        Storage::Time { fraction_digits } => time(fraction_digits, bytes),
        Storage::Timestamp { fraction_digits } | Storage::Instant { fraction_digits } => {
            date_time(bytes, fraction_digits, column.day_order).map(Encoded::DateTime)
        }
        Storage::Characters { max, trims_spaces } => {
            check_characters(bytes, max.unwrap_or(u64::MAX), trims_spaces)?;
            text(bytes)
        }
        Storage::Uuid => uuid(bytes, scratch),
        Storage::Json | Storage::Jsonb if !json::is_json(bytes) => Err("is not JSON"),
        Storage::Jsonb if !json::keeps_keys(bytes) => {
            Err("has a repeated key, of which jsonb would store only one, or is nested too deeply")
        }
        Storage::Bytea => {
            text(bytes).map_err(|_| "contains a NUL character, which the text of bytea has only as \\x00 or \\000")
        }
        Storage::Json | Storage::Jsonb | Storage::Enum | Storage::ServerParsed => text(bytes),
        Storage::Array { element } => {
            scratch.clear();
            if array::write(element, bytes, scratch)? { text(scratch) } else { text(bytes) }
        }
        Storage::Span if has_long_fraction(bytes) => Err(LONG_FRACTION),
        Storage::Span => text(bytes),
        Storage::Unsupported(reason) => Err(reason),
    }
}

/// Rejects text with a NUL character, which PostgreSQL cannot store.
fn text(bytes: &[u8]) -> Result<Encoded<'_>, Rejection> {
    match memchr::memchr(0, bytes) {
        Some(_) => Err("contains a NUL character, which PostgreSQL cannot store in text"),
        None => Ok(Encoded::Text(bytes)),
    }
}

fn boolean(bytes: &[u8]) -> Result<Encoded<'_>, Rejection> {
    match parse(ColumnType::Boolean, Some(bytes)) {
        Some(Value::Boolean(value)) => Ok(Encoded::Boolean(value)),
        // Also 1 and 0, the reverse of the conversion for integer columns.
        _ => spelling::boolean(bytes).map(Encoded::Boolean).ok_or("is not true or false"),
    }
}

fn integer<'a>(width: u8, bytes: &'a [u8], scratch: &mut Vec<u8>) -> Result<Encoded<'a>, Rejection> {
    let unused_bits = 64 - 8 * u32::from(width);
    let in_range = |number: i64| match (number << unused_bits) >> unused_bits == number {
        true => Ok(Encoded::Integer(number)),
        false => Err("is out of range"),
    };
    if let Some(Value::Integer(number)) = parse(ColumnType::Integer, Some(bytes)) {
        return in_range(number);
    }
    if let Some(Value::Boolean(value)) = parse(ColumnType::Boolean, Some(bytes)) {
        return Ok(Encoded::Integer(value.into()));
    }
    scratch.clear();
    let is_whole = spelling::whole_number(bytes, scratch);
    match if is_whole { parse(ColumnType::Integer, Some(scratch)) } else { None } {
        Some(Value::Integer(number)) => in_range(number),
        _ if is_whole => Err("is out of range"),
        _ => Err(not_an_integer(bytes)),
    }
}

fn decimal<'a>(size: Option<(u64, u64)>, bytes: &'a [u8], scratch: &'a mut Vec<u8>) -> Result<Encoded<'a>, Rejection> {
    let size = size.unwrap_or((MAX_WHOLE_DIGITS + MAX_SCALE, MAX_SCALE));
    Ok(Encoded::Decimal(match check_decimal(bytes, size, scratch)? {
        Digits::Field => bytes,
        Digits::Scratch => scratch.as_slice(),
    }))
}

fn uuid<'a>(bytes: &[u8], scratch: &'a mut Vec<u8>) -> Result<Encoded<'a>, Rejection> {
    let uuid = spelling::uuid(bytes).ok_or("is not a UUID of 32 hex digits, in five groups or without hyphens")?;
    scratch.clear();
    scratch.extend_from_slice(&uuid);
    Ok(Encoded::Uuid(scratch))
}

/// Checks a time of day: `H:MM[:SS[.f+]]`.
fn time(fraction_digits: u32, bytes: &[u8]) -> Result<Encoded<'_>, Rejection> {
    let micros = spelling::time_of_day(bytes)
        .ok_or_else(|| if has_long_fraction(bytes) { LONG_FRACTION } else { "is not a time of day (HH:MM:SS)" })?;
    check_fraction(micros, fraction_digits)?;
    Ok(Encoded::Time(micros))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::super::column::column_of;
    use super::super::encoding;
    use super::*;
    use crate::destination::documented_spellings::{accepted, rejected};
    use crate::error::ErrorKind;
    use spillway_formats::schema::value::spelling::DayOrder;

    fn is_accepted(name: &str, modifier: i32, value: &str) -> bool {
        check(&column_of(name, modifier), Some(value.as_bytes()), &mut Vec::new(), Position::default()).is_ok()
    }

    #[rstest]
    #[case("bool", -1, &["true", "FALSE", "1", "0", "t", "F", "yes", "n", "ON", "1.0", "none"], &["2", "maybe"])]
    #[case("int2", -1, &["-32768", "32767", "true", "1.0", "+1", "1e2", "nil", "-0"], &["32768", "1.5", "1.000", "007", "t", "4e4"])]
    #[case("int4", -1, &["-2147483648", "2147483647", "tRUE"], &["2147483648", "abc", "2147483648.0"])]
    #[case("int8", -1, &["9223372036854775807", "9223372036854775807.0"], &["9223372036854775808", "-9223372036854775809"])]
    #[case("numeric", ((5 << 16) | 2) + 4, &["999.99", "-999.99", "1.500", "0", "1.5e2", ".5", "5.", "+5", "007.5", "-0.00"],
        &["1000", "0.001", "1,5", "01", "1e3"])]
    #[case("numeric", -1, &["123456789012345678901234567890123456789012345.5", "1e300"], &["x", "Infinity"])]
    #[case("float8", -1, &["0.1", "1e300", ".5", "0.10000000000000001"], &["1e400", "0.10000000000000000001"])]
    #[case("float4", -1, &["0.5", "16777216", "0.1", "0.100000001", "0.10000000149011612"], &["16777217", "0.123456789", "1e39"])]
    #[case("date", -1, &["2024-02-29", "20240229", "2024/2/9", "2024-01-01 00:00:00"],
        &["2023-02-29", "0000-00-00", "2024-01-01 00:00:01", "infinity", "01/02/2024"])]
    #[case("time", 3, &["10:11:12", "10:11", "23:59:59.125", "8:05:00"], &["24:00:00", "10:11:12.1234", "-01:00:00"])]
    #[case("timestamp", 3, &["2024-01-02 03:04:05.123", "2024-01-02", "2024-01-02T03:04:05Z"], &["2024-01-02 03:04:05.1234"])]
    #[case("timestamptz", -1, &["2024-01-02 03:04:05.123456", "2024-01-02 03:04:05.250000000+00", "2024-01-02 03:04:05 -0700"], &["now", "2024-13-01T00:00:00Z"])]
    #[case("varchar", 7, &["äöü", "ab "], &["äöüß", "a\0b"])]
    #[case("bpchar", 7, &["äöü", "a"], &["ab ", "abcd"])]
    #[case("text", -1, &["\\N", "NULL", ""], &["a\0"])]
    #[case("uuid", -1, &["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "{A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11}",
        "a0eebc999c0b4ef8bb6d6bb9bd380a11"], &["a0eebc99", "{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a1}"])]
    #[case("json", -1, &["{\"a\": 1, \"a\": 1e400}"], &["{", "NULL"])]
    #[case("jsonb", -1, &["[1e400, 123456789012345678901234567890.10]"], &["[{\"a\": 1, \"a\": 2}]", "{"])]
    #[case("interval", -1, &["1 day", "P1DT0.123456S", "25:10:00", "00:00:01.000000000", "NULL"], &["0.1234567 s", "0.0000001"])]
    #[case("interval", -1, &["838:59:59", "-838:59:59.5", "839:00:00"], &["838:59:59.0000001"])]
    #[case("interval", 3, &[], &["1 day"])]
    #[case("money", -1, &[], &["1.00"])]
    fn value_is_accepted_or_rejected(
        #[case] name: &str,
        #[case] modifier: i32,
        #[case] good: &[&str],
        #[case] bad: &[&str],
    ) {
        for value in good {
            assert!(is_accepted(name, modifier, value), "{name} {value:?}");
        }
        for value in bad {
            assert!(!is_accepted(name, modifier, value), "{name} {value:?}");
        }
    }

    /// The type of a documented kind of column, with its modifier.
    fn type_of(column: &str) -> (&'static str, i32) {
        match column {
            "whole number" => ("int4", -1),
            "decimal" => ("numeric", ((9 << 16) | 4) + 4),
            "float" => ("float8", -1),
            "date" => ("date", -1),
            "date and time" => ("timestamp", -1),
            "time" => ("time", -1),
            "duration" => ("interval", -1),
            "boolean" => ("bool", -1),
            "UUID" => ("uuid", -1),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn documented_spellings_are_accepted() {
        for row in accepted() {
            let (name, modifier) = type_of(row.column);
            let expected = match row.stored {
                "true" => "t".to_owned(),
                "false" => "f".to_owned(),
                // The server accepts a UUID without hyphens.
                stored if name == "uuid" => stored.replace('-', ""),
                stored => stored.to_owned(),
            };
            for text in row.spellings {
                let (mut scratch, mut sent) = (Vec::new(), Vec::new());
                let column = column_of(name, modifier);
                let value = check(&column, Some(text.as_bytes()), &mut scratch, Position::default());
                encoding::text(&value.unwrap(), &mut sent);
                assert_eq!(String::from_utf8_lossy(&sent), expected, "{} {text}", row.column);
            }
        }
    }

    #[test]
    fn documented_ambiguous_spellings_are_rejected() {
        for row in rejected() {
            let (name, modifier) = type_of(row.column);
            for text in row.spellings {
                assert!(!is_accepted(name, modifier, text), "{} {text}", row.column);
            }
        }
    }

    #[test]
    fn bytes_need_a_bytea_column_or_utf8() {
        let is_accepted = |name: &str, value: &[u8]| {
            let mut column = column_of(name, -1);
            column.is_binary = true;
            check(&column, Some(value), &mut Vec::new(), Position::default()).is_ok()
        };
        assert!(is_accepted("bytea", b"\\x41") && is_accepted("bytea", b"\xff\0") && is_accepted("bytea", b""));
        for name in ["text", "varchar", "inet", "json"] {
            assert!(!is_accepted(name, b"\xff"), "{name}");
        }
        assert!(is_accepted("text", b"\\x41") && !is_accepted("text", b"a\0"));
    }

    #[rstest]
    #[case("bytea", "a\0", "contains a NUL character, which the text of bytea has only as \\x00 or \\000")]
    #[case("text", "a\0", "contains a NUL character, which PostgreSQL cannot store in text")]
    #[case("time", "10:00:00.1234567", "has a finer fraction of a second than the column")]
    #[case("timestamp", "2024-01-02 10:00:00.1234567", "has a finer fraction of a second than the column")]
    #[case("interval", "10:00:00.1234567", "has a finer fraction of a second than the column")]
    #[case("float8", "1e400", "is out of the range of a float")]
    #[case("float4", "1e39", "is out of the range of a 32-bit float")]
    fn reason_is_the_one_that_applies(#[case] name: &str, #[case] text: &str, #[case] reason: &str) {
        let mut scratch = Vec::new();
        let checked = check(&column_of(name, -1), Some(text.as_bytes()), &mut scratch, Position::default());
        let message = checked.unwrap_err().to_string();
        assert!(message.contains(&format!("the value {reason};")), "{message}");
    }

    #[test]
    fn date_that_ends_with_its_year_needs_a_proved_order() {
        let days = |value: &str, day_order| {
            let column = TableColumn { day_order, ..column_of("date", -1) };
            let mut scratch = Vec::new();
            let checked = check(&column, Some(value.as_bytes()), &mut scratch, Position::default()).ok();
            checked.map(|encoded| if let Encoded::Date(days) = encoded { days } else { panic!("{value}") })
        };
        let january_2 = days("2024-01-02", None);
        assert!(january_2.is_some());
        assert_eq!(days("02/01/2024", Some(DayOrder::DayFirst)), january_2);
        assert_eq!(days("01/02/2024", Some(DayOrder::MonthFirst)), january_2);
        assert_eq!((days("02/01/2024", None), days("13/01/2024", Some(DayOrder::MonthFirst))), (None, None));
        for name in ["timestamp", "timestamptz"] {
            let column = TableColumn { day_order: Some(DayOrder::DayFirst), ..column_of(name, -1) };
            let mut scratch = Vec::new();
            let checked = check(&column, Some(b"02.01.1970 00:00:01"), &mut scratch, Position::default());
            assert_eq!(checked.unwrap(), Encoded::DateTime(86_401_000_000));
        }
    }

    #[test]
    fn rejection_names_record_and_column_without_value() {
        let position = Position { record: 7, line: 8, byte: 90 };
        let error = check(&column_of("int4", -1), Some(b"top secret"), &mut Vec::new(), position).unwrap_err();
        assert_eq!(
            (error.kind(), error.position(), error.column()),
            (ErrorKind::DataRefused, Some(position), Some("c"))
        );
        assert!(!error.to_string().contains("secret"), "{error}");
    }

    #[test]
    fn null_token_is_text_where_file_has_real_nulls() {
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
    fn missing_value_needs_nullable_column() {
        let mut column = column_of("int4", -1);
        let null = |column: &TableColumn| check(column, Some(b"NA"), &mut Vec::new(), Position::default()).is_ok();
        assert!(null(&column));
        column.nullable = false;
        assert!(!null(&column));
    }
}

//! Values of a user's Parquet file as fields: the text that reads as the same value, or JSON for what is nested.
//!
//! Nothing is rounded, cut or guessed: a value that its column's usual type does not hold (a NaN, a nanosecond, the year
//! 10000) is written out, and the column turns out to be text.

use std::io::Write;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, Date32Type, Date64Type, Decimal128Type, Decimal256Type, Float16Type, Float32Type, Float64Type,
    Int8Type, Int16Type, Int32Type, Int64Type, Time32MillisecondType, Time32SecondType, Time64MicrosecondType,
    Time64NanosecondType, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, StructArray};
use arrow_schema::{DataType, TimeUnit};

use crate::FieldKind;
use crate::schema::ColumnType;
use crate::schema::value::{Value, write_text};

/// Why a value cannot be a field.
pub(super) type Unreadable = &'static str;

const NANOS_PER_SECOND: i128 = 1_000_000_000;
const NANOS_PER_DAY: i128 = 86_400 * NANOS_PER_SECOND;
/// Digits a decimal column may have, in all and behind the point.
const DECIMAL_DIGITS: u8 = 38;
const DECIMAL_SCALE: u8 = 30;

/// The type of a column, or `None` for what is not supported.
pub(super) fn column_type(data_type: &DataType) -> Option<ColumnType> {
    Some(match data_type {
        DataType::Boolean => ColumnType::Boolean,
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => ColumnType::Integer,
        DataType::UInt8 | DataType::UInt16 | DataType::UInt32 => ColumnType::Integer,
        DataType::UInt64 => ColumnType::Decimal { precision: 20, scale: 0 },
        DataType::Float16 | DataType::Float32 | DataType::Float64 => ColumnType::Double,
        DataType::Decimal128(precision, scale) | DataType::Decimal256(precision, scale) => decimal(*precision, *scale),
        DataType::Date32 | DataType::Date64 => ColumnType::Date,
        DataType::Timestamp(_, None) => ColumnType::DateTime,
        DataType::Timestamp(_, Some(_)) => ColumnType::Instant,
        DataType::List(_) | DataType::Struct(_) | DataType::Map(_, _) => ColumnType::Json,
        DataType::Utf8View
        | DataType::BinaryView
        | DataType::FixedSizeBinary(_)
        | DataType::Time32(_)
        | DataType::Time64(_)
        | DataType::Null => ColumnType::Text,
        _ => return None,
    })
}

fn decimal(precision: u8, scale: i8) -> ColumnType {
    // A negative scale stands for zeros in front of the point; a zero there counts as a digit.
    let digits = i16::from(precision) - i16::from(scale.min(0));
    let scale = scale.max(0) as u8;
    match u8::try_from(digits.max(i16::from(scale) + 1)) {
        Ok(precision) if precision <= DECIMAL_DIGITS && scale <= DECIMAL_SCALE => {
            ColumnType::Decimal { precision, scale }
        }
        _ => ColumnType::Text,
    }
}

/// Writes a value; `None` when it is missing. The array has a type that [`column_type`] knows.
pub(super) fn write(array: &dyn Array, row: usize, out: &mut Vec<u8>) -> Result<Option<FieldKind>, Unreadable> {
    if array.is_null(row) {
        return Ok(None);
    }
    match array.data_type() {
        DataType::Boolean => write_text(&Value::Boolean(array.as_boolean().value(row)), out),
        DataType::Int8 => integer(of::<Int8Type>(array, row), out),
        DataType::Int16 => integer(of::<Int16Type>(array, row), out),
        DataType::Int32 => integer(of::<Int32Type>(array, row), out),
        DataType::Int64 => integer(of::<Int64Type>(array, row), out),
        DataType::UInt8 => integer(of::<UInt8Type>(array, row), out),
        DataType::UInt16 => integer(of::<UInt16Type>(array, row), out),
        DataType::UInt32 => integer(of::<UInt32Type>(array, row), out),
        DataType::UInt64 => plain(of::<UInt64Type>(array, row), out),
        DataType::Float16 => return Ok(Some(single(of::<Float16Type>(array, row).to_f32(), out))),
        DataType::Float32 => return Ok(Some(single(of::<Float32Type>(array, row), out))),
        DataType::Float64 => return Ok(Some(double(of::<Float64Type>(array, row), out))),
        DataType::Decimal128(_, scale) => pointed(&of::<Decimal128Type>(array, row).to_string(), *scale, out),
        DataType::Decimal256(_, scale) => pointed(&of::<Decimal256Type>(array, row).to_string(), *scale, out),
        DataType::Date32 => date(of::<Date32Type>(array, row).into(), out),
        DataType::Date64 => moment(i128::from(of::<Date64Type>(array, row)) * 1_000_000, true, out),
        DataType::Timestamp(unit, zone) => {
            let nanos = match unit {
                TimeUnit::Second => i128::from(of::<TimestampSecondType>(array, row)) * NANOS_PER_SECOND,
                TimeUnit::Millisecond => i128::from(of::<TimestampMillisecondType>(array, row)) * 1_000_000,
                TimeUnit::Microsecond => i128::from(of::<TimestampMicrosecondType>(array, row)) * 1_000,
                TimeUnit::Nanosecond => of::<TimestampNanosecondType>(array, row).into(),
            };
            moment(nanos, false, out);
            if zone.is_some() {
                out.push(b'Z');
            }
        }
        DataType::Time32(_) | DataType::Time64(_) => {
            let nanos = time_of_day(array, row);
            if !(0..NANOS_PER_DAY).contains(&nanos) {
                return Err("is no time of day");
            }
            clock(nanos, out);
            return Ok(Some(FieldKind::String));
        }
        DataType::Utf8View | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            out.extend_from_slice(text(array, row)?.as_bytes());
            return Ok(Some(FieldKind::String));
        }
        DataType::List(_) | DataType::Struct(_) | DataType::Map(_, _) => {
            json(array, row, out)?;
            return Ok(Some(FieldKind::Nested));
        }
        _ => return Err("has a type that is not supported"),
    }
    Ok(Some(FieldKind::Plain))
}

fn of<T: ArrowPrimitiveType>(array: &dyn Array, row: usize) -> T::Native {
    array.as_primitive::<T>().value(row)
}

fn integer(value: impl Into<i64>, out: &mut Vec<u8>) {
    write_text(&Value::Integer(value.into()), out);
}

fn plain(value: impl std::fmt::Display, out: &mut Vec<u8>) {
    write!(out, "{value}").expect("a vector takes everything");
}

/// The shortest digits that give the same float of 32 bits back.
fn single(value: f32, out: &mut Vec<u8>) -> FieldKind {
    if !value.is_finite() {
        return not_finite(value.into(), out);
    }
    let mut buffer = zmij::Buffer::new();
    let text = buffer.format(value);
    let short = if value == 0.0 && value.is_sign_negative() { None } else { text.strip_suffix(".0") };
    out.extend_from_slice(short.unwrap_or(text).as_bytes());
    FieldKind::Plain
}

fn double(value: f64, out: &mut Vec<u8>) -> FieldKind {
    if !value.is_finite() {
        return not_finite(value, out);
    }
    write_text(&Value::Double(value), out);
    FieldKind::Plain
}

/// A word, which no column of numbers takes for NULL.
fn not_finite(value: f64, out: &mut Vec<u8>) -> FieldKind {
    let word = match value {
        f64::INFINITY => "Infinity",
        f64::NEG_INFINITY => "-Infinity",
        _ => "NaN",
    };
    out.extend_from_slice(word.as_bytes());
    FieldKind::String
}

/// Digits with a point `scale` places before their end, or with as many zeros behind them.
fn pointed(unscaled: &str, scale: i8, out: &mut Vec<u8>) {
    let (sign, digits) = unscaled.strip_prefix('-').map_or(("", unscaled), |digits| ("-", digits));
    out.extend_from_slice(sign.as_bytes());
    let behind = usize::from(scale.max(0) as u8);
    if digits.len() <= behind {
        out.extend_from_slice(b"0.");
        out.resize(out.len() + behind - digits.len(), b'0');
        out.extend_from_slice(digits.as_bytes());
        return;
    }
    let (whole, fraction) = digits.split_at(digits.len() - behind);
    out.extend_from_slice(whole.as_bytes());
    if !fraction.is_empty() {
        out.push(b'.');
        out.extend_from_slice(fraction.as_bytes());
    }
    if scale < 0 && digits != "0" {
        out.resize(out.len() + usize::from(scale.unsigned_abs()), b'0');
    }
}

/// Date and time of day. Of a day that should have no time of day it is left out.
fn moment(nanos: i128, is_day: bool, out: &mut Vec<u8>) {
    date(nanos.div_euclid(NANOS_PER_DAY) as i64, out);
    let nanos = nanos.rem_euclid(NANOS_PER_DAY);
    if !is_day || nanos != 0 {
        out.push(b' ');
        clock(nanos, out);
    }
}

/// `YYYY-MM-DD` in the Gregorian calendar, with a sign and more digits for years that need them.
/// <https://howardhinnant.github.io/date_algorithms.html#civil_from_days>
fn date(days: i64, out: &mut Vec<u8>) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    match year {
        0..=9999 => plain(format_args!("{year:04}-{month:02}-{day:02}"), out),
        _ => plain(format_args!("{year:+05}-{month:02}-{day:02}"), out),
    }
}

/// `HH:MM:SS`, with six or nine digits of a fraction where there is one.
fn clock(nanos: i128, out: &mut Vec<u8>) {
    let (seconds, fraction) = (nanos / NANOS_PER_SECOND, nanos % NANOS_PER_SECOND);
    plain(format_args!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60), out);
    match fraction {
        0 => {}
        micros if micros % 1000 == 0 => plain(format_args!(".{:06}", micros / 1000), out),
        nanos => plain(format_args!(".{nanos:09}"), out),
    }
}

fn time_of_day(array: &dyn Array, row: usize) -> i128 {
    match array.data_type() {
        DataType::Time32(TimeUnit::Second) => i128::from(of::<Time32SecondType>(array, row)) * NANOS_PER_SECOND,
        DataType::Time32(_) => i128::from(of::<Time32MillisecondType>(array, row)) * 1_000_000,
        DataType::Time64(TimeUnit::Microsecond) => i128::from(of::<Time64MicrosecondType>(array, row)) * 1_000,
        _ => of::<Time64NanosecondType>(array, row).into(),
    }
}

/// Text, also where the file only says that it is bytes.
fn text(array: &dyn Array, row: usize) -> Result<&str, Unreadable> {
    let bytes = match array.data_type() {
        DataType::Utf8View => return Ok(array.as_string_view().value(row)),
        DataType::BinaryView => array.as_binary_view().value(row),
        _ => array.as_fixed_size_binary().value(row),
    };
    std::str::from_utf8(bytes).map_err(|_| "is bytes that are no text in UTF-8; store text, or leave the column out")
}

/// A timestamp of 96 bits, from its microseconds and from its nanoseconds, which wrap around beyond 2262.
pub(super) fn write_int96(
    micros: &dyn Array,
    nanos: &dyn Array,
    row: usize,
    out: &mut Vec<u8>,
) -> Result<Option<FieldKind>, Unreadable> {
    if micros.is_null(row) {
        return Ok(None);
    }
    let (micros, nanos) = (of::<TimestampMicrosecondType>(micros, row), of::<TimestampNanosecondType>(nanos, row));
    let fraction = nanos.wrapping_sub(micros.wrapping_mul(1_000));
    if !(0..1_000).contains(&fraction) {
        return Err("is no moment");
    }
    moment(i128::from(micros) * 1_000 + i128::from(fraction), false, out);
    Ok(Some(FieldKind::Plain))
}

/// A UUID in its usual form.
pub(super) fn write_uuid(array: &dyn Array, row: usize, out: &mut Vec<u8>) -> Option<FieldKind> {
    if array.is_null(row) {
        return None;
    }
    for (index, byte) in array.as_fixed_size_binary().value(row).iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            out.push(b'-');
        }
        plain(format_args!("{byte:02x}"), out);
    }
    Some(FieldKind::String)
}

/// A value as JSON: missing ones are `null`, moments, days and times are strings, so are floats that are no number.
fn json(array: &dyn Array, row: usize, out: &mut Vec<u8>) -> Result<(), Unreadable> {
    if array.is_null(row) {
        out.extend_from_slice(b"null");
        return Ok(());
    }
    match array.data_type() {
        DataType::List(_) => {
            let values = array.as_list::<i32>().value(row);
            out.push(b'[');
            for index in 0..values.len() {
                comma(index, out);
                json(&values, index, out)?;
            }
            out.push(b']');
        }
        DataType::Struct(_) => object(array.as_struct(), row, out)?,
        DataType::Map(_, _) => {
            let entries = array.as_map().value(row);
            let (keys, values) = (entries.column(0), entries.column(1));
            let mut key = Vec::new();
            out.push(b'{');
            for index in 0..entries.len() {
                comma(index, out);
                key.clear();
                write(keys, index, &mut key)?.ok_or("is a map with a missing key")?;
                string(&key, out)?;
                out.push(b':');
                json(values, index, out)?;
            }
            out.push(b'}');
        }
        DataType::Timestamp(_, _) | DataType::Date32 | DataType::Date64 => {
            out.push(b'"');
            write(array, row, out)?;
            out.push(b'"');
        }
        _ => {
            let start = out.len();
            if write(array, row, out)? == Some(FieldKind::String) {
                let text = out.split_off(start);
                string(&text, out)?;
            }
        }
    }
    Ok(())
}

fn object(array: &StructArray, row: usize, out: &mut Vec<u8>) -> Result<(), Unreadable> {
    out.push(b'{');
    for (index, (field, column)) in array.fields().iter().zip(array.columns()).enumerate() {
        comma(index, out);
        string(field.name().as_bytes(), out)?;
        out.push(b':');
        json(column, row, out)?;
    }
    out.push(b'}');
    Ok(())
}

fn comma(index: usize, out: &mut Vec<u8>) {
    if index > 0 {
        out.push(b',');
    }
}

fn string(text: &[u8], out: &mut Vec<u8>) -> Result<(), Unreadable> {
    let text = std::str::from_utf8(text).map_err(|_| "is no text in UTF-8")?;
    serde_json::to_writer(out, text).map_err(|_| "cannot be written as JSON")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn decimals_keep_every_digit() {
        for (unscaled, scale, expected) in [
            ("0", 0, "0"),
            ("5", 3, "0.005"),
            ("-5", 1, "-0.5"),
            ("12345", 2, "123.45"),
            ("-120", 0, "-120"),
            ("7", -2, "700"),
            ("0", -2, "0"),
            ("0", 2, "0.00"),
        ] {
            assert_eq!(written(|out| pointed(unscaled, scale, out)), expected);
        }
        assert_eq!(decimal(2, 2), ColumnType::Decimal { precision: 3, scale: 2 });
        assert_eq!(decimal(36, -2), ColumnType::Decimal { precision: 38, scale: 0 });
        assert_eq!(
            (decimal(37, -2), decimal(39, 0), decimal(38, 31)),
            (ColumnType::Text, ColumnType::Text, ColumnType::Text)
        );
    }

    #[test]
    fn moments_are_exact_whatever_the_year() {
        for (nanos, expected) in [
            (0, "1970-01-01 00:00:00"),
            (-1, "1969-12-31 23:59:59.999999999"),
            (1_500_000, "1970-01-01 00:00:00.001500"),
            (951_782_400 * NANOS_PER_SECOND, "2000-02-29 00:00:00"),
            (253_402_300_799 * NANOS_PER_SECOND, "9999-12-31 23:59:59"),
            (253_402_300_800 * NANOS_PER_SECOND, "+10000-01-01 00:00:00"),
            (-62_167_219_201 * NANOS_PER_SECOND, "-0001-12-31 23:59:59"),
        ] {
            assert_eq!(written(|out| moment(nanos, false, out)), expected);
        }
        assert_eq!(written(|out| moment(NANOS_PER_DAY, true, out)), "1970-01-02");
    }

    #[test]
    fn floats_of_32_bits_keep_their_own_digits() {
        for (value, expected) in [(0.1, "0.1"), (16_777_216.0, "16777216"), (-0.0, "-0.0"), (f32::NAN, "NaN")] {
            assert_eq!(
                written(|out| {
                    single(value, out);
                }),
                expected
            );
        }
    }
}

//! Converts the values of a user's Parquet file to fields: text that parses to the same value, or JSON for nested values.
//!
//! A value is never rounded or truncated. If a value does not fit the usual type of its column (a NaN, a nanosecond, the
//! year 10000), it is written in full, and type inference chooses text for the column.

mod json;
mod text;

use arrow_array::Array;
use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, Date32Type, Date64Type, Decimal128Type, Decimal256Type, Float16Type, Float32Type, Float64Type,
    Int8Type, Int16Type, Int32Type, Int64Type, IntervalDayTime, IntervalDayTimeType, IntervalYearMonthType,
    Time32MillisecondType, Time32SecondType, Time64MicrosecondType, Time64NanosecondType, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type, UInt32Type,
    UInt64Type,
};
use arrow_schema::{DataType, TimeUnit};

use crate::FieldKind;
use crate::schema::ColumnType;
use crate::schema::value::{Value, write_text};
use text::NANOS_PER_SECOND;

/// Why a value cannot be a field: the end of a sentence that starts with "the value".
pub(super) type Unreadable = &'static str;

/// The value alone is longer than the record may be.
const TOO_LONG: Unreadable = "is longer than MAX_RECORD_BYTES";

/// The most digits of a decimal column.
const MAX_DECIMAL_DIGITS: u8 = 38;
/// The most digits of a decimal column after the point.
const MAX_DECIMAL_SCALE: u8 = 30;

/// The type of a column, or `None` if it is not supported.
pub(super) fn column_type(data_type: &DataType) -> Option<ColumnType> {
    Some(match data_type {
        DataType::Boolean => ColumnType::Boolean,
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => ColumnType::Integer,
        DataType::UInt8 | DataType::UInt16 | DataType::UInt32 => ColumnType::Integer,
        DataType::UInt64 => ColumnType::Decimal { precision: 20, scale: 0 },
        DataType::Float16 | DataType::Float32 | DataType::Float64 => ColumnType::Double,
        DataType::Decimal128(precision, scale) | DataType::Decimal256(precision, scale) => {
            decimal_type(*precision, *scale)
        }
        DataType::Date32 | DataType::Date64 => ColumnType::Date,
        DataType::Timestamp(_, None) => ColumnType::DateTime,
        DataType::Timestamp(_, Some(_)) => ColumnType::Instant,
        DataType::List(_) | DataType::Struct(_) | DataType::Map(_, _) => ColumnType::Json,
        DataType::BinaryView | DataType::FixedSizeBinary(_) => ColumnType::Binary,
        DataType::Utf8View | DataType::Time32(_) | DataType::Time64(_) | DataType::Null => ColumnType::Text,
        _ => return None,
    })
}

/// The type of a decimal column; text if it has too many digits.
fn decimal_type(precision: u8, scale: i8) -> ColumnType {
    // A negative scale means zeros before the point. If there are only zeros before the point, one of them counts.
    let digits = i16::from(precision) - i16::from(scale.min(0));
    let scale = scale.max(0) as u8;
    match u8::try_from(digits.max(i16::from(scale) + 1)) {
        Ok(precision) if precision <= MAX_DECIMAL_DIGITS && scale <= MAX_DECIMAL_SCALE => {
            ColumnType::Decimal { precision, scale }
        }
        _ => ColumnType::Text,
    }
}

/// Writes a value of at most `max_bytes` and returns its kind; `None` if it is missing. The type of the array is supported by
/// [`column_type`].
///
/// The length is checked before a string is copied, and after each element of a nested value: a few stored bytes can be a
/// value that is larger than the memory.
pub(super) fn write_within(
    array: &dyn Array,
    row: usize,
    (out, max_bytes): (&mut Vec<u8>, usize),
) -> Result<Option<FieldKind>, Unreadable> {
    match array.data_type() {
        DataType::Utf8View | DataType::BinaryView | DataType::FixedSizeBinary(_) if !array.is_null(row) => {
            let value = bytes(array, row);
            if value.len() > max_bytes {
                return Err(TOO_LONG);
            }
            out.extend_from_slice(value);
            Ok(Some(FieldKind::String))
        }
        DataType::List(_) | DataType::Struct(_) | DataType::Map(_, _) if !array.is_null(row) => {
            json::write_within(array, None, row, (out, max_bytes))?;
            Ok(Some(FieldKind::Nested))
        }
        _ => write(array, row, out),
    }
}

/// Writes a value that is not nested and returns its kind; `None` if it is missing. Bytes must be UTF-8.
fn write(array: &dyn Array, row: usize, out: &mut Vec<u8>) -> Result<Option<FieldKind>, Unreadable> {
    if is_missing(array, row) {
        return Ok(None);
    }
    match array.data_type() {
        DataType::Boolean => write_text(&Value::Boolean(array.as_boolean().value(row)), out),
        DataType::Int8 => write_integer(value::<Int8Type>(array, row), out),
        DataType::Int16 => write_integer(value::<Int16Type>(array, row), out),
        DataType::Int32 => write_integer(value::<Int32Type>(array, row), out),
        DataType::Int64 => write_integer(value::<Int64Type>(array, row), out),
        DataType::UInt8 => write_integer(value::<UInt8Type>(array, row), out),
        DataType::UInt16 => write_integer(value::<UInt16Type>(array, row), out),
        DataType::UInt32 => write_integer(value::<UInt32Type>(array, row), out),
        DataType::UInt64 => text::display(value::<UInt64Type>(array, row), out),
        DataType::Float16 => return Ok(Some(text::float32(value::<Float16Type>(array, row).to_f32(), out))),
        DataType::Float32 => return Ok(Some(text::float32(value::<Float32Type>(array, row), out))),
        DataType::Float64 => return Ok(Some(text::float64(value::<Float64Type>(array, row), out))),
        DataType::Decimal128(_, scale) => text::decimal(&value::<Decimal128Type>(array, row).to_string(), *scale, out),
        DataType::Decimal256(_, scale) => text::decimal(&value::<Decimal256Type>(array, row).to_string(), *scale, out),
        DataType::Date32 => text::date(value::<Date32Type>(array, row).into(), out),
        DataType::Date64 => {
            text::date_unless_midnight(i128::from(value::<Date64Type>(array, row)) * 1_000_000, out);
        }
        DataType::Timestamp(unit, zone) => write_timestamp(array, row, (*unit, zone.is_some()), out),
        DataType::Time32(_) | DataType::Time64(_) => {
            write_time(array, row, out);
            return Ok(Some(FieldKind::String));
        }
        DataType::Utf8View => {
            out.extend_from_slice(bytes(array, row));
            return Ok(Some(FieldKind::String));
        }
        DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            out.extend_from_slice(utf8(bytes(array, row))?);
            return Ok(Some(FieldKind::String));
        }
        _ => return Err("has a type that is not supported"),
    }
    Ok(Some(FieldKind::Plain))
}

/// Writes a timestamp of 96 bits, given in microseconds and in nanoseconds. The nanoseconds wrap around after 2262.
pub(super) fn write_int96(
    micros: &dyn Array,
    nanos: &dyn Array,
    row: usize,
    out: &mut Vec<u8>,
) -> Result<Option<FieldKind>, Unreadable> {
    if micros.is_null(row) {
        return Ok(None);
    }
    let micros = value::<TimestampMicrosecondType>(micros, row);
    let nanos = value::<TimestampNanosecondType>(nanos, row);
    // Both wrap around at 64 bits, so the difference is exact.
    let fraction = nanos.wrapping_sub(micros.wrapping_mul(1_000));
    if !(0..1_000).contains(&fraction) {
        return Err("is not a valid timestamp");
    }
    text::date_time(i128::from(micros) * 1_000 + i128::from(fraction), out);
    Ok(Some(FieldKind::Plain))
}

/// Writes a nested value with timestamps of 96 bits, given in microseconds and in nanoseconds.
pub(super) fn write_nested_int96(
    micros: &dyn Array,
    nanos: &dyn Array,
    row: usize,
    (out, max_bytes): (&mut Vec<u8>, usize),
) -> Result<Option<FieldKind>, Unreadable> {
    if micros.is_null(row) {
        return Ok(None);
    }
    json::write_within(micros, Some(nanos), row, (out, max_bytes))?;
    Ok(Some(FieldKind::Nested))
}

/// Writes an interval of 96 bits in ISO 8601: its days and milliseconds, and its months. All are unsigned in Parquet.
pub(super) fn write_interval(
    days: &dyn Array,
    months: &dyn Array,
    row: usize,
    out: &mut Vec<u8>,
) -> Result<Option<FieldKind>, Unreadable> {
    if days.is_null(row) {
        return Ok(None);
    }
    let (months, IntervalDayTime { days, milliseconds }) =
        (value::<IntervalYearMonthType>(months, row), value::<IntervalDayTimeType>(days, row));
    let (months, days, milliseconds) = (months as u32, days as u32, milliseconds as u32);
    let (seconds, fraction) = (milliseconds / 1_000, milliseconds % 1_000);
    text::display(format_args!("P{months}M{days}DT{seconds}"), out);
    if fraction > 0 {
        text::display(format_args!(".{fraction:03}"), out);
    }
    out.push(b'S');
    Ok(Some(FieldKind::String))
}

/// Writes a UUID as lowercase hex digits in five groups.
pub(super) fn write_uuid(array: &dyn Array, row: usize, out: &mut Vec<u8>) -> Option<FieldKind> {
    if array.is_null(row) {
        return None;
    }
    for (index, byte) in array.as_fixed_size_binary().value(row).iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            out.push(b'-');
        }
        text::display(format_args!("{byte:02x}"), out);
    }
    Some(FieldKind::String)
}

fn value<T: ArrowPrimitiveType>(array: &dyn Array, row: usize) -> T::Native {
    array.as_primitive::<T>().value(row)
}

fn write_integer(value: impl Into<i64>, out: &mut Vec<u8>) {
    write_text(&Value::Integer(value.into()), out);
}

/// Writes a timestamp; one with a time zone is in UTC and ends with `Z`.
fn write_timestamp(array: &dyn Array, row: usize, (unit, has_zone): (TimeUnit, bool), out: &mut Vec<u8>) {
    let nanos = match unit {
        TimeUnit::Second => i128::from(value::<TimestampSecondType>(array, row)) * NANOS_PER_SECOND,
        TimeUnit::Millisecond => i128::from(value::<TimestampMillisecondType>(array, row)) * 1_000_000,
        TimeUnit::Microsecond => i128::from(value::<TimestampMicrosecondType>(array, row)) * 1_000,
        TimeUnit::Nanosecond => value::<TimestampNanosecondType>(array, row).into(),
    };
    text::date_time(nanos, out);
    if has_zone {
        out.push(b'Z');
    }
}

/// Writes a time of day. Some writers store durations in this type, which may be longer than a day or negative.
fn write_time(array: &dyn Array, row: usize, out: &mut Vec<u8>) {
    let nanos = match array.data_type() {
        DataType::Time32(TimeUnit::Second) => i128::from(value::<Time32SecondType>(array, row)) * NANOS_PER_SECOND,
        DataType::Time32(_) => i128::from(value::<Time32MillisecondType>(array, row)) * 1_000_000,
        DataType::Time64(TimeUnit::Microsecond) => i128::from(value::<Time64MicrosecondType>(array, row)) * 1_000,
        _ => value::<Time64NanosecondType>(array, row).into(),
    };
    if nanos < 0 {
        out.push(b'-');
    }
    text::time(nanos.abs(), out);
}

/// Whether a value is missing. An array of the type null has no mask of missing values.
fn is_missing(array: &dyn Array, row: usize) -> bool {
    array.is_null(row) || array.data_type() == &DataType::Null
}

/// The bytes of a string or of bytes.
fn bytes(array: &dyn Array, row: usize) -> &[u8] {
    match array.data_type() {
        DataType::Utf8View => array.as_string_view().value(row).as_bytes(),
        DataType::BinaryView => array.as_binary_view().value(row),
        _ => array.as_fixed_size_binary().value(row),
    }
}

/// The same bytes, if they are UTF-8.
pub(super) fn utf8(bytes: &[u8]) -> Result<&[u8], Unreadable> {
    match std::str::from_utf8(bytes) {
        Ok(_) => Ok(bytes),
        Err(_) => Err("is not UTF-8 text; write the column as text, or leave it out"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimal_with_too_many_digits_is_text() {
        assert_eq!(decimal_type(2, 2), ColumnType::Decimal { precision: 3, scale: 2 });
        assert_eq!(decimal_type(36, -2), ColumnType::Decimal { precision: 38, scale: 0 });
        assert_eq!(
            (decimal_type(37, -2), decimal_type(39, 0), decimal_type(38, 31)),
            (ColumnType::Text, ColumnType::Text, ColumnType::Text)
        );
    }
}

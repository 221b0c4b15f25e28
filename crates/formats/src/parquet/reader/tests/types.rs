//! The values of each type.

use arrow_array::builder::{
    ArrayBuilder, BinaryBuilder, Int32Builder, ListBuilder, MapBuilder, StringBuilder, StringDictionaryBuilder,
};
use arrow_array::types::{Decimal256Type, DecimalType, Int32Type};
use arrow_array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Date32Array, Date64Array, Decimal128Array, Decimal256Array,
    Float32Array, Float64Array, Int8Array, Int64Array, LargeBinaryArray, LargeStringArray, NullArray, StringArray,
    Time32MillisecondArray, Time64NanosecondArray, TimestampMicrosecondArray, TimestampMillisecondArray,
    TimestampNanosecondArray, TimestampSecondArray, UInt64Array,
};
use arrow_schema::{DataType, Field, FieldRef};
use parquet::data_type::{ByteArray, ByteArrayType, FixedLenByteArray, FixedLenByteArrayType, Int96, Int96Type};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

use super::*;

fn one(array: impl Array + 'static) -> (ColumnType, Vec<String>) {
    let (columns, rows) = read(&written(vec![("c", Arc::new(array))], WriterProperties::default())).unwrap();
    (columns[0].1, rows.into_iter().map(|mut row| row.remove(0)).collect())
}

#[track_caller]
fn check(array: impl Array + 'static, expected_type: ColumnType, expected: &[&str]) {
    let (column_type, values) = one(array);
    assert_eq!(values, expected);
    assert_eq!(column_type, expected_type);
}

#[test]
fn numbers_are_exact() {
    use ColumnType::{Boolean, Double, Integer, Text};
    let decimal = |precision, scale| ColumnType::Decimal { precision, scale };
    check(BooleanArray::from(vec![Some(true), None, Some(false)]), Boolean, &["true", "-", "false"]);
    check(Int8Array::from(vec![-128, 127]), Integer, &["-128", "127"]);
    check(Int64Array::from(vec![i64::MIN, i64::MAX]), Integer, &["-9223372036854775808", "9223372036854775807"]);
    check(UInt64Array::from(vec![0, u64::MAX]), decimal(20, 0), &["0", "18446744073709551615"]);
    check(Float32Array::from(vec![0.1, 16_777_216.0, -0.0]), Double, &["0.1", "16777216", "-0.0"]);
    check(Float64Array::from(vec![0.1, 1e300, 5e-324]), Double, &["0.1", "1e+300", "5e-324"]);
    check(Float64Array::from(vec![1.5, f64::NAN, f64::NEG_INFINITY]), Text, &["1.5", "NaN", "-Infinity"]);
    let money = Decimal128Array::from(vec![Some(12_345), None, Some(-5)]).with_precision_and_scale(12, 2).unwrap();
    check(money, decimal(12, 2), &["123.45", "-", "-0.05"]);
    let fractions = Decimal128Array::from(vec![5]).with_precision_and_scale(2, 2).unwrap();
    check(fractions, decimal(3, 2), &["0.05"]);
    let huge = Decimal256Array::from(vec![Decimal256Type::MAX_FOR_EACH_PRECISION[50]]);
    let nines = format!("{}.{}", "9".repeat(48), "9".repeat(2));
    check(huge.with_precision_and_scale(50, 2).unwrap(), Text, &[&nines]);
}

#[test]
fn dates_and_times_are_exact() {
    use ColumnType::{Date, DateTime, Instant, Text};
    check(Date32Array::from(vec![0, 19_782]), Date, &["1970-01-01", "2024-02-29"]);
    check(Date32Array::from(vec![0, 3_000_000]), Text, &["1970-01-01", "+10183-09-21"]);
    check(Date64Array::from(vec![86_400_000]), Date, &["1970-01-02"]);
    check(TimestampSecondArray::from(vec![1]), DateTime, &["1970-01-01 00:00:01"]);
    check(TimestampMillisecondArray::from(vec![1]), DateTime, &["1970-01-01 00:00:00.001000"]);
    check(TimestampMicrosecondArray::from(vec![-1]), DateTime, &["1969-12-31 23:59:59.999999"]);
    check(TimestampNanosecondArray::from(vec![1_000]), DateTime, &["1970-01-01 00:00:00.000001"]);
    check(
        TimestampNanosecondArray::from(vec![1_000, 1]),
        Text,
        &["1970-01-01 00:00:00.000001", "1970-01-01 00:00:00.000000001"],
    );
    check(TimestampMillisecondArray::from(vec![0]).with_timezone("UTC"), Instant, &["1970-01-01 00:00:00Z"]);
    check(TimestampSecondArray::from(vec![0]).with_timezone("+02:00"), Instant, &["1970-01-01 00:00:00Z"]);
    check(Time32MillisecondArray::from(vec![3_723_004]), Text, &["01:02:03.004000"]);
    check(Time64NanosecondArray::from(vec![86_399_999_999_999]), Text, &["23:59:59.999999999"]);
    // Durations of fastparquet.
    check(
        Time64NanosecondArray::from(vec![90_600_000_000_000, -1_000, 360_000_000_000_000]),
        Text,
        &["25:10:00", "-00:00:00.000001", "100:00:00"],
    );
}

#[test]
fn strings_are_never_interpreted() {
    use ColumnType::Text;
    check(StringArray::from(vec![Some("007"), None, Some(""), Some("NULL")]), Text, &["007", "-", "", "NULL"]);
    check(LargeStringArray::from(vec!["2024-01-01", "🦀\0"]), Text, &["2024-01-01", "🦀\0"]);
    let mut dictionary = StringDictionaryBuilder::<Int32Type>::new();
    ["x", "y", "x"].iter().for_each(|value| dictionary.append_value(value));
    dictionary.append_null();
    check(dictionary.finish(), Text, &["x", "y", "x", "-"]);
}

#[test]
fn bytes_are_text_only_if_every_value_is() {
    use ColumnType::{Binary, Text};
    check(BinaryArray::from(vec![&b"abc"[..], b"\\x41", b""]), Text, &["abc", "\\x41", ""]);
    check(BinaryArray::from(vec![Some(&b"ok"[..]), Some(b"\xff"), None]), Binary, &["ok", "0xff", "-"]);
    check(LargeBinaryArray::from(vec![&b"a\0"[..]]), Binary, &["a\0"]);
    let mut fixed = FixedSizeBinaryBuilder::new(2);
    [b"ab", b"\xfe\xff"].iter().for_each(|value| fixed.append_value(value).unwrap());
    check(fixed.finish(), Binary, &["ab", "0xfeff"]);
    let mut list = ListBuilder::new(BinaryBuilder::new());
    list.append_value([Some(b"a"), None]);
    check(list.finish(), ColumnType::Json, &[r#"["a",null]"#]);
    let mut list = ListBuilder::new(BinaryBuilder::new());
    list.append_value([Some(b"\xff")]);
    assert_invalid(&written(vec![("c", Arc::new(list.finish()))], WriterProperties::default()), "is not UTF-8 text");
}

/// pandas writes a column with only missing values with the type null.
#[test]
fn column_of_the_type_null_has_no_values() {
    check(NullArray::new(2), ColumnType::Text, &["-", "-"]);
    let fields: Vec<(FieldRef, ArrayRef)> =
        vec![(Arc::new(Field::new("n", DataType::Null, true)), Arc::new(NullArray::new(1)))];
    check(arrow_array::StructArray::from(fields), ColumnType::Json, &[r#"{"n":null}"#]);
}

/// DuckDB writes its intervals in this type.
#[test]
fn interval_is_text_with_all_of_its_parts() {
    let schema = Arc::new(
        parse_message_type("message m { optional fixed_len_byte_array(12) c (INTERVAL); required int32 n; }").unwrap(),
    );
    let mut writer = SerializedFileWriter::new(Vec::new(), schema, Arc::default()).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let interval = |parts: [u32; 3]| FixedLenByteArray::from(parts.map(u32::to_le_bytes).concat());
    let values = [interval([1, 2, 3_004]), interval([0, 0, 0]), interval([u32::MAX, 31, 60_000])];
    let mut column = group.next_column().unwrap().unwrap();
    column.typed::<FixedLenByteArrayType>().write_batch(&values, Some(&[1, 0, 1, 1]), None).unwrap();
    column.close().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    column.typed::<parquet::data_type::Int32Type>().write_batch(&[1, 2, 3, 4], None, None).unwrap();
    column.close().unwrap();
    group.close().unwrap();
    let (columns, rows) = read(&writer.into_inner().unwrap()).unwrap();
    assert_eq!(columns[0].1, ColumnType::Text);
    let intervals: Vec<&str> = rows.iter().map(|row| row[0].as_str()).collect();
    assert_eq!(intervals, ["P1M2DT3.004S", "-", "P0M0DT0S", "P4294967295M31DT60S"]);
    assert_eq!(rows[3][1], "4");
}

#[test]
fn enum_is_text_and_must_be_utf8() {
    let written = |value: &[u8]| {
        let schema = Arc::new(parse_message_type("message m { required binary kind (ENUM); }").unwrap());
        let mut writer = SerializedFileWriter::new(Vec::new(), schema, Arc::default()).unwrap();
        let mut group = writer.next_row_group().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<ByteArrayType>().write_batch(&[ByteArray::from(value.to_vec())], None, None).unwrap();
        column.close().unwrap();
        group.close().unwrap();
        writer.into_inner().unwrap()
    };
    let (columns, rows) = read(&written(b"NEW")).unwrap();
    assert_eq!((columns[0].1, rows[0][0].as_str()), (ColumnType::Text, "NEW"));
    assert_invalid(&written(b"\xff"), "is not UTF-8 text");
}

#[test]
fn nested_values_become_json() {
    let mut list = ListBuilder::new(StringBuilder::new());
    list.append_value([Some("a\"b"), None]);
    list.append_null();
    list.append_value([] as [Option<&str>; 0]);
    check(list.finish(), ColumnType::Json, &[r#"["a\"b",null]"#, "-", "[]"]);

    let mut map = MapBuilder::new(None, StringBuilder::new(), Int32Builder::new());
    map.keys().append_value("k");
    map.values().append_value(-1);
    map.append(true).unwrap();
    assert_eq!(map.len(), 1);
    check(map.finish(), ColumnType::Json, &[r#"{"k":-1}"#]);

    let fields: Vec<(FieldRef, ArrayRef)> = vec![
        (Arc::new(Field::new("at", DataType::Date32, true)), Arc::new(Date32Array::from(vec![Some(0), None]))),
        (Arc::new(Field::new("n\"", DataType::Float64, true)), Arc::new(Float64Array::from(vec![1.5, f64::NAN]))),
    ];
    let expected = [r#"{"at":"1970-01-01","n\"":1.5}"#, r#"{"at":null,"n\"":"NaN"}"#];
    check(arrow_array::StructArray::from(fields), ColumnType::Json, &expected);
}

/// Types that the Arrow writer does not write: timestamps of 96 bits, UUIDs and JSON.
#[test]
fn parquet_only_types_are_read() {
    let schema = "message m { required int96 at; required int96 fine; required fixed_len_byte_array(16) id (UUID); required binary doc (JSON); }";
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let mut writer = SerializedFileWriter::new(Vec::new(), schema, Arc::default()).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let int96 = |julian_day: u32, nanos: u64| {
        let mut value = Int96::new();
        value.set_data(nanos as u32, (nanos >> 32) as u32, julian_day);
        value
    };
    let mut column = group.next_column().unwrap().unwrap();
    let coarse = [int96(2_440_588, 1_000), int96(5_373_484, 86_399_000_000_000)];
    column.typed::<Int96Type>().write_batch(&coarse, None, None).unwrap();
    column.close().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    let fine = [int96(2_440_588, 1), int96(5_373_484, 86_399_999_999_999)];
    column.typed::<Int96Type>().write_batch(&fine, None, None).unwrap();
    column.close().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    let ids: Vec<FixedLenByteArray> = [[0x12; 16], [0xff; 16]].map(|id| ByteArray::from(id.to_vec()).into()).to_vec();
    column.typed::<FixedLenByteArrayType>().write_batch(&ids, None, None).unwrap();
    column.close().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    let docs = ["{ \"a\": 1 }", "[]"].map(ByteArray::from);
    column.typed::<ByteArrayType>().write_batch(&docs, None, None).unwrap();
    column.close().unwrap();
    group.close().unwrap();
    let (columns, rows) = read(&writer.into_inner().unwrap()).unwrap();
    let types: Vec<ColumnType> = columns.iter().map(|(_, column_type)| *column_type).collect();
    assert_eq!(types, [ColumnType::DateTime, ColumnType::Text, ColumnType::Text, ColumnType::Json]);
    let ones = "12121212-1212-1212-1212-121212121212";
    let expected = [
        ["1970-01-01 00:00:00.000001", "1970-01-01 00:00:00.000000001", ones, "{ \"a\": 1 }"],
        ["9999-12-31 23:59:59", "9999-12-31 23:59:59.999999999", "ffffffff-ffff-ffff-ffff-ffffffffffff", "[]"],
    ];
    assert_eq!(rows, expected);
}

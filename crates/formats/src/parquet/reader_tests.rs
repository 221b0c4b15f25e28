//! Every type as it comes out, files of every codec and layout, and files that are broken in every way.

use std::sync::Arc;

use arrow_array::builder::{
    ArrayBuilder, FixedSizeBinaryBuilder, Int32Builder, ListBuilder, MapBuilder, StringBuilder, StringDictionaryBuilder,
};
use arrow_array::types::{Decimal256Type, DecimalType, Int32Type};
use arrow_array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Date32Array, Date64Array, Decimal128Array, Decimal256Array,
    Float32Array, Float64Array, Int8Array, Int64Array, LargeStringArray, StringArray, Time32MillisecondArray,
    Time64NanosecondArray, TimestampMicrosecondArray, TimestampMillisecondArray, TimestampNanosecondArray,
    TimestampSecondArray, UInt64Array,
};
use arrow_schema::Field;
use parquet::arrow::ArrowWriter;
use parquet::basic::{GzipLevel, ZstdLevel};
use parquet::data_type::{
    ByteArray, ByteArrayType, FixedLenByteArray, FixedLenByteArrayType, Int64Type, Int96, Int96Type,
};
use parquet::file::metadata::ParquetMetaDataWriter;
use parquet::file::properties::{WriterProperties, WriterVersion};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use proptest::prelude::*;

use super::*;
use crate::schema::infer::Inference;
use crate::schema::value::Value;

const LIMITS: ParquetLimits = ParquetLimits { max_record_bytes: 1 << 20, max_columns: 100 };

/// What a file gives: per column its name and the type that the road chooses, and the rows as they are shown below.
type Read = (Vec<(String, ColumnType)>, Vec<Vec<String>>);

fn read_within(file: &[u8], limits: ParquetLimits) -> Result<Read> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let bytes = Bytes::copy_from_slice(file);
        let read = move |range: Range<u64>| {
            let bytes = bytes.clone();
            async move { Ok::<_, std::io::Error>(bytes.slice(range.start as usize..range.end as usize)) }
        };
        let mut reader = ParquetReader::open(file.len() as u64, read, limits).await?;
        let mut inference = Inference::declared(reader.columns().map(|(name, kind)| (name.to_owned(), kind)));
        let (mut batches, mut rows) = (Vec::new(), Vec::new());
        while let Some(batch) = reader.next().await? {
            inference.observe(&batch);
            for row in 0..batch.rows() {
                rows.push((0..batch.width()).map(|column| shown(&batch, row, column)).collect());
                assert_eq!(batch.position(row).record, rows.len() as u64);
            }
            batches.push(batch);
        }
        let schema = inference.finish();
        // The promise of the road: in every column every value is of the column's type.
        for (index, column) in schema.columns.iter().enumerate() {
            for batch in &batches {
                for row in 0..batch.rows() {
                    let field = batch.field(row, index);
                    let value = parse(column.column_type, field);
                    assert!(value.is_some_and(|value| field.is_none() || value != Value::Null), "{}", column.name);
                }
            }
        }
        let columns = schema.columns.into_iter().map(|column| (column.name, column.column_type)).collect();
        Ok((columns, rows))
    })
}

fn read(file: &[u8]) -> Result<Read> {
    read_within(file, LIMITS)
}

fn shown(batch: &Batch, row: usize, column: usize) -> String {
    batch.field(row, column).map_or("-".to_owned(), |field| String::from_utf8(field.to_vec()).unwrap())
}

fn written(columns: Vec<(&str, ArrayRef)>, properties: WriterProperties) -> Vec<u8> {
    let batch =
        RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true))).unwrap();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.into_inner().unwrap()
}

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
fn days_times_and_moments_are_exact() {
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
}

#[test]
fn text_is_text_whatever_it_looks_like() {
    use ColumnType::Text;
    check(StringArray::from(vec![Some("007"), None, Some(""), Some("NULL")]), Text, &["007", "-", "", "NULL"]);
    check(LargeStringArray::from(vec!["2024-01-01", "🦀\0"]), Text, &["2024-01-01", "🦀\0"]);
    check(BinaryArray::from(vec![&b"abc"[..]]), Text, &["abc"]);
    let mut dictionary = StringDictionaryBuilder::<Int32Type>::new();
    ["x", "y", "x"].iter().for_each(|value| dictionary.append_value(value));
    dictionary.append_null();
    check(dictionary.finish(), Text, &["x", "y", "x", "-"]);
    let file =
        written(vec![("c", Arc::new(BinaryArray::from(vec![&b"ok"[..], b"\xff"])))], WriterProperties::default());
    let error = read(&file).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().ends_with("(record 2, column c)"), "{error}");
}

#[test]
fn what_is_nested_becomes_json() {
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

/// What Arrow does not write: old timestamps, UUIDs, JSON.
#[test]
fn types_of_parquet_alone_are_known() {
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
    let moments = [int96(2_440_588, 1_000), int96(5_373_484, 86_399_000_000_000)];
    column.typed::<Int96Type>().write_batch(&moments, None, None).unwrap();
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

/// A file with something of everything.
fn mixed(rows: usize, properties: WriterProperties) -> Vec<u8> {
    let numbers: Int64Array = (0..rows as i64).map(|row| (row % 7 != 0).then_some(row * 1_000_003)).collect();
    let words: StringArray = (0..rows).map(|row| (row % 5 != 0).then(|| format!("word {}", row % 50))).collect();
    let unique: StringArray = (0..rows).map(|row| Some(format!("{row:08}-ä\n\"{}", row * row))).collect();
    let floats: Float64Array = (0..rows).map(|row| Some(row as f64 / 8.0)).collect();
    let mut tags = ListBuilder::new(StringBuilder::new());
    for row in 0..rows {
        tags.append_value((0..row % 4).map(|tag| Some(format!("t{tag}"))));
    }
    let mut fixed = FixedSizeBinaryBuilder::new(4);
    (0..rows).for_each(|row| fixed.append_value(format!("{:04}", row % 1000)).unwrap());
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("id", Arc::new(numbers)),
        ("word", Arc::new(words)),
        ("unique", Arc::new(unique)),
        ("float", Arc::new(floats)),
        ("tags", Arc::new(tags.finish())),
        ("fixed", Arc::new(fixed.finish())),
    ];
    written(columns, properties)
}

#[test]
fn every_codec_version_and_layout_gives_the_same_rows() {
    let expected = read(&mixed(5_000, WriterProperties::default())).unwrap();
    assert_eq!(expected.1.len(), 5_000);
    assert_eq!(expected.1[7][..3], ["-", "word 7", "00000007-ä\n\"49"]);
    for codec in [
        Compression::UNCOMPRESSED,
        Compression::SNAPPY,
        Compression::GZIP(GzipLevel::default()),
        Compression::ZSTD(ZstdLevel::default()),
        Compression::LZ4,
        Compression::LZ4_RAW,
    ] {
        for version in [WriterVersion::PARQUET_1_0, WriterVersion::PARQUET_2_0] {
            let properties = WriterProperties::builder()
                .set_compression(codec)
                .set_writer_version(version)
                .set_dictionary_enabled(version == WriterVersion::PARQUET_1_0)
                .set_max_row_group_row_count(Some(999))
                .set_data_page_row_count_limit(100)
                .build();
            assert!(read(&mixed(5_000, properties)).unwrap() == expected, "{codec} {version:?}");
        }
    }
}

#[test]
fn a_file_without_rows_has_columns_and_no_more() {
    let (columns, rows) = read(&mixed(0, WriterProperties::default())).unwrap();
    assert_eq!((columns.len(), rows.len()), (6, 0));
}

#[test]
fn limits_hold() {
    let file = mixed(100, WriterProperties::default());
    let error = read_within(&file, ParquetLimits { max_columns: 5, ..LIMITS }).unwrap_err();
    assert!(error.to_string().contains("more than 5 columns"), "{error}");
    let error = read_within(&file, ParquetLimits { max_record_bytes: 30, ..LIMITS }).unwrap_err();
    assert!(error.to_string().contains("longer than 30 bytes"), "{error}");
}

/// A long text that is there once and repeated in every row comes in small batches.
#[test]
fn a_repeated_long_text_takes_little_memory() {
    let long = "x".repeat(1_000_000);
    let mut dictionary = StringDictionaryBuilder::<Int32Type>::new();
    (0..500).for_each(|_| dictionary.append_value(&long));
    let file = written(vec![("c", Arc::new(dictionary.finish()))], WriterProperties::default());
    assert!(file.len() < 10_000_000, "{}", file.len());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let bytes = Bytes::from(file);
        let size_bytes = bytes.len() as u64;
        let read = move |range: Range<u64>| {
            let part = bytes.slice(range.start as usize..range.end as usize);
            async move { Ok::<_, std::io::Error>(part) }
        };
        let mut reader = ParquetReader::open(size_bytes, read, LIMITS).await.unwrap();
        let mut rows = 0;
        while let Some(batch) = reader.next().await.unwrap() {
            assert!(batch.memory_bytes() < 4_000_000, "{}", batch.memory_bytes());
            rows += batch.rows();
        }
        assert_eq!(rows, 500);
    });
}

#[track_caller]
fn refused(file: &[u8], words: &str) {
    let error = read(file).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    assert!(error.to_string().contains(words), "{error}");
}

#[test]
fn broken_files_are_refused() {
    let file = mixed(300, WriterProperties::default());
    refused(b"", "too short");
    refused(b"PAR1", "too short");
    refused(b"PAR1PAR1PAR1", "longer than it can be");
    refused(b"PAR1\0\0\0\0PAR1", "a header is cut");
    refused(b"id,name\n1,hello world\n", "does not end as Parquet does");
    refused(&[&file[..file.len() - 1], b"E"].concat(), "encrypted");
    let mut long_footer = file.clone();
    let place = file.len() - 8;
    long_footer[place..place + 4].copy_from_slice(&u32::MAX.to_le_bytes());
    refused(&long_footer, "longer than it can be");
    long_footer[place..place + 4].copy_from_slice(&(file.len() as u32 - 11).to_le_bytes());
    refused(&long_footer, "longer than it can be");
    // The front is lost: the footer is whole, and its column chunks lie beyond the file.
    refused(&[b"PAR1", &file[file.len() / 2..]].concat(), "");
    for cut in (0..file.len()).step_by(97) {
        assert_eq!(read(&file[..cut]).unwrap_err().kind(), ErrorKind::Invalid, "cut at {cut}");
    }
}

/// Two columns of 6 rows. The footer says 0 rows.
const FOOTER_WITHOUT_ROWS: &[u8] = include_bytes!("testdata/footer_without_rows.parquet");

/// Where that file declares how many rows or values there are, each as a zigzag number of one byte.
mod declared_at {
    pub(super) const FOOTER: usize = 0xe4;
    pub(super) const GROUP: usize = 0x18b;
    pub(super) const ID: usize = 0xfb;
    pub(super) const NAME: usize = 0x152;
    pub(super) const ID_PAGE: usize = 0x32;
    pub(super) const NAME_PAGE: usize = 0x98;
    pub(super) const COLUMNS: [usize; 2] = [ID, NAME];
    pub(super) const ROWS: [usize; 4] = [FOOTER, GROUP, ID, NAME];
    pub(super) const ALL: [usize; 6] = [FOOTER, GROUP, ID, NAME, ID_PAGE, NAME_PAGE];
}

/// That file with 6 in the footer, and another number at some places.
fn declaring(count: u8, places: &[usize]) -> Vec<u8> {
    let mut file = FOOTER_WITHOUT_ROWS.to_vec();
    for place in declared_at::ALL {
        assert_eq!(file[place], if place == declared_at::FOOTER { 0 } else { 12 });
        file[place] = if places.contains(&place) { count * 2 } else { 12 };
    }
    file
}

#[test]
fn every_declared_count_must_agree() {
    use declared_at::{ALL, COLUMNS, FOOTER, GROUP, ID, ID_PAGE, NAME, NAME_PAGE, ROWS};
    let (_, rows) = read(&declaring(6, &ALL)).unwrap();
    assert_eq!(rows, [["1", "a"], ["2", "b"], ["3", "c"], ["4", "d"], ["5", "e"], ["6", "f"]]);
    refused(FOOTER_WITHOUT_ROWS, "the footer declares 0 rows, but its row groups declare 6");
    for (count, places, words) in [
        (1, &[FOOTER][..], "the footer declares 1 rows, but its row groups declare 6"),
        (7, &[FOOTER], "the footer declares 7 rows, but its row groups declare 6"),
        (5, &[GROUP], "the footer declares 6 rows, but its row groups declare 5"),
        (0, &[FOOTER, GROUP], "row group 1 declares 0 rows, but 6 values of the column (column id)"),
        (7, &[FOOTER, GROUP], "row group 1 declares 7 rows, but 6 values of the column (column id)"),
        (5, &[ID], "row group 1 declares 6 rows, but 5 values of the column (column id)"),
        (0, &[NAME], "row group 1 declares 6 rows, but 0 values of the column (column name)"),
        (5, &COLUMNS, "row group 1 declares 6 rows, but 5 values of the column (column id)"),
        (0, &ROWS, "row group 1 declares 0 values, but the pages declare 6"),
        (5, &ROWS, "row group 1 declares 5 values, but the pages declare 6 (column id)"),
        (7, &ROWS, "row group 1 declares 7 values, but the pages declare 6 (column id)"),
        (5, &[ID_PAGE], "row group 1 declares 6 values, but the pages declare 5 (column id)"),
        (0, &[NAME_PAGE], "row group 1 declares 6 values, but the pages declare 0 (column name)"),
        (9, &ALL, ""),
    ] {
        refused(&declaring(count, places), words);
    }
}

/// A file whose row groups declare other numbers of rows, which the footer adds up.
fn with_group_rows(file: &[u8], rows: &[i64]) -> Vec<u8> {
    let tail = file.len() - 8;
    let length = u32::from_le_bytes(file[tail..tail + 4].try_into().unwrap()) as usize;
    let metadata = ParquetMetaDataReader::decode_metadata(&file[tail - length..tail]).unwrap();
    let mut builder = metadata.into_builder();
    let groups = builder.take_row_groups();
    assert_eq!(groups.len(), rows.len());
    let groups = groups.into_iter().zip(rows).map(|(group, rows)| {
        let group = group.into_builder().set_num_rows(*rows);
        group.build().unwrap()
    });
    let metadata = builder.set_row_groups(groups.collect()).build();
    let mut out = file[..tail - length].to_vec();
    ParquetMetaDataWriter::new(&mut out, &metadata).finish().unwrap();
    out
}

/// Five rows in groups of three and two. Each row is a list of two values, so that no column's values are its rows.
fn lists(version: WriterVersion) -> Vec<u8> {
    let mut tags = ListBuilder::new(StringBuilder::new());
    (0..5).for_each(|row| tags.append_value([Some(format!("a{row}")), Some(format!("b{row}"))]));
    let properties =
        WriterProperties::builder().set_writer_version(version).set_max_row_group_row_count(Some(3)).build();
    written(vec![("tags", Arc::new(tags.finish()))], properties)
}

#[test]
fn the_rows_of_each_row_group_are_counted() {
    let old = lists(WriterVersion::PARQUET_1_0);
    let new = lists(WriterVersion::PARQUET_2_0);
    for file in [&old, &new] {
        assert_eq!(read(&with_group_rows(file, &[3, 2])).unwrap().1.len(), 5);
        refused(&with_group_rows(file, &[3, 0]), "row group 2 declares 0 rows, but 4 values of the column");
        refused(&with_group_rows(file, &[7, 2]), "row group 1 declares 7 rows, but 6 values of the column");
    }
    // Pages of version 1 do not say how many rows they have: the rows that are read do.
    for (rows, words) in [
        ([2, 2], "row group 1 declares 2 rows, but 3 are read"),
        ([2, 3], "row group 1 declares 2 rows, but 3 are read"),
        ([3, 1], "row group 2 declares 1 rows, but 2 are read"),
        ([4, 2], "row group 1 declares 4 rows, but 3 are read"),
        ([3, 3], "row group 2 declares 3 rows, but 2 are read"),
    ] {
        refused(&with_group_rows(&old, &rows), words);
    }
    refused(&with_group_rows(&new, &[2, 3]), "row group 1 declares 2 rows, but the pages declare 3");
    refused(&with_group_rows(&new, &[3, 3]), "row group 2 declares 3 rows, but the pages declare 2");
}

#[test]
fn row_groups_without_rows_are_read_over() {
    let schema = Arc::new(parse_message_type("message m { required int64 id; }").unwrap());
    let mut writer = SerializedFileWriter::new(Vec::new(), schema, Arc::default()).unwrap();
    for values in [&[][..], &[1, 2, 3], &[], &[4, 5], &[]] {
        let mut group = writer.next_row_group().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<Int64Type>().write_batch(values, None, None).unwrap();
        column.close().unwrap();
        group.close().unwrap();
    }
    let (_, rows) = read(&writer.into_inner().unwrap()).unwrap();
    assert_eq!(rows, [["1"], ["2"], ["3"], ["4"], ["5"]]);
}

fn corrupted() -> impl Strategy<Value = Vec<u8>> {
    let bases = [
        (WriterVersion::PARQUET_1_0, Compression::UNCOMPRESSED, true),
        (WriterVersion::PARQUET_2_0, Compression::UNCOMPRESSED, false),
        (WriterVersion::PARQUET_2_0, Compression::SNAPPY, true),
        (WriterVersion::PARQUET_1_0, Compression::ZSTD(ZstdLevel::default()), false),
    ];
    let files = bases.map(|(version, codec, dictionary)| {
        let properties = WriterProperties::builder()
            .set_writer_version(version)
            .set_compression(codec)
            .set_dictionary_enabled(dictionary)
            .set_data_page_row_count_limit(20)
            .build();
        mixed(60, properties)
    });
    let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6);
    (prop::sample::select(files.to_vec()), changes, any::<bool>()).prop_map(|(mut file, changes, in_footer)| {
        for (place, byte) in changes {
            // Half of the files are hit in the footer, where most is declared.
            let first = if in_footer { file.len() - file.len() / 3 } else { 0 };
            let place = first + place.index(file.len() - first);
            file[place] = byte;
        }
        file
    })
}

proptest! {
    /// Whatever the bytes, the file is read or broken; nothing panics, and nothing else is said of it.
    #[test]
    fn corrupt_files_are_read_or_refused(file in corrupted()) {
        if let Err(error) = read(&file) {
            prop_assert_eq!(error.kind(), ErrorKind::Invalid, "{}", error);
        }
    }

    #[test]
    fn any_bytes_between_the_magic_are_refused(inside in prop::collection::vec(any::<u8>(), 0..300), length in 0..300u32) {
        let file = [b"PAR1", &inside[..], &length.to_le_bytes(), b"PAR1"].concat();
        prop_assert_eq!(read(&file).unwrap_err().kind(), ErrorKind::Invalid);
    }
}

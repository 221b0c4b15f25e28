use std::future::ready;
use std::ops::Range;

use bytes::Bytes;
use futures_util::TryStreamExt;
use proptest::prelude::*;

use super::*;
use crate::schema::value::{parse, write_text};
use crate::{Batch, ErrorKind, Position};

type Row = Vec<Option<String>>;

fn columns(types: &[ColumnType]) -> Vec<FallbackColumn> {
    let column = |(place, column_type): (usize, &ColumnType)| FallbackColumn {
        name: format!("c{place}"),
        file_type: *column_type,
        stored_type: *column_type,
        place,
    };
    types.iter().enumerate().map(column).collect()
}

fn batch(rows: &[Row], first_record: u64) -> Batch {
    let mut batch = Batch::new(rows.first().map_or(0, Vec::len));
    for (index, row) in rows.iter().enumerate() {
        row.iter().for_each(|field| batch.push_field(field.as_deref().map(str::as_bytes)));
        batch.end_row(Position { record: first_record + index as u64, line: 0, byte: 0 });
    }
    batch
}

fn encoded(columns: &[FallbackColumn], rows: &[Row], rows_per_batch: usize) -> Vec<u8> {
    let mut encoder = ParquetEncoder::new(columns).unwrap();
    let mut bytes = Vec::new();
    for (index, rows) in rows.chunks(rows_per_batch).enumerate() {
        encoder.write(&batch(rows, (index * rows_per_batch) as u64 + 1)).unwrap();
        bytes.extend(encoder.take_bytes());
    }
    bytes.extend(encoder.finish().unwrap());
    bytes
}

async fn decoded(columns: &[FallbackColumn], bytes: Vec<u8>) -> crate::Result<Vec<Row>> {
    let bytes = Bytes::from(bytes);
    let size_bytes = bytes.len() as u64;
    let read =
        move |range: Range<u64>| ready(Ok::<_, std::io::Error>(bytes.slice(range.start as usize..range.end as usize)));
    let batches: Vec<Batch> = decode(columns, size_bytes, read).try_collect().await?;
    let mut rows = Vec::new();
    for batch in &batches {
        for row in 0..batch.rows() {
            assert_eq!(batch.position(row).record, rows.len() as u64 + 1);
            let text = |column| batch.field(row, column).map(|field| String::from_utf8(field.to_vec()).unwrap());
            rows.push((0..batch.width()).map(text).collect());
        }
    }
    Ok(rows)
}

fn round_trip(columns: &[FallbackColumn], rows: &[Row], rows_per_batch: usize) -> Vec<Row> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(decoded(columns, encoded(columns, rows, rows_per_batch))).unwrap()
}

/// The text that a field has after a round trip.
fn canonical(column_type: ColumnType, field: Option<&str>) -> Option<String> {
    let value = parse(column_type, field.map(str::as_bytes)).unwrap();
    let mut text = Vec::new();
    write_text(&value, &mut text);
    (value != crate::schema::value::Value::Null).then(|| String::from_utf8(text).unwrap())
}

const ALL_TYPES: [ColumnType; 11] = [
    ColumnType::Boolean,
    ColumnType::Integer,
    ColumnType::Decimal { precision: 12, scale: 2 },
    ColumnType::Decimal { precision: 38, scale: 30 },
    ColumnType::Double,
    ColumnType::Date,
    ColumnType::DateTime,
    ColumnType::Instant,
    ColumnType::Json,
    ColumnType::Text,
    ColumnType::Binary,
];

/// Fields that are values of the type.
fn field(column_type: ColumnType) -> BoxedStrategy<String> {
    let decimal = |whole: &str, scale: u8| {
        proptest::string::string_regex(&format!("-?[1-9][0-9]{{0,{whole}}}\\.[0-9]{{1,{scale}}}")).unwrap().boxed()
    };
    match column_type {
        ColumnType::Boolean => prop::sample::select(vec!["true", "false", "TRUE", "False"]).prop_map_into().boxed(),
        ColumnType::Integer => any::<i64>().prop_map(|value| value.to_string()).boxed(),
        ColumnType::Decimal { precision, scale } => decimal(&(precision - scale - 1).to_string(), scale),
        ColumnType::Double => any::<f64>()
            .prop_filter("finite", |value| value.is_finite())
            .prop_map(|value| {
                let mut text = Vec::new();
                write_text(&crate::schema::value::Value::Double(value), &mut text);
                String::from_utf8(text).unwrap()
            })
            .boxed(),
        ColumnType::Date => {
            proptest::string::string_regex("[1-9][0-9]{3}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])").unwrap().boxed()
        }
        ColumnType::DateTime => (field(ColumnType::Date), 0..24u8, 0..60u8, 0..1_000_000u32)
            .prop_map(|(date, hour, minute, micros)| format!("{date} {hour:02}:{minute:02}:07.{micros:06}"))
            .boxed(),
        ColumnType::Instant => field(ColumnType::DateTime).prop_map(|text| format!("{text}Z")).boxed(),
        ColumnType::Json => any::<Vec<String>>()
            .prop_map(|values| format!("{{\n \"v\": {} }}", serde_json::to_string(&values).unwrap()))
            .boxed(),
        ColumnType::Text | ColumnType::Binary => prop_oneof![
            any::<String>(),
            prop::sample::select(vec!["", "NULL", "\\N", "\"", "\\", "a\nb", "\r\n", ",", "\\\"", "\u{0}"])
                .prop_map_into()
        ]
        .boxed(),
    }
}

fn row() -> impl Strategy<Value = Row> {
    ALL_TYPES.map(|column_type| prop::option::weighted(0.8, field(column_type))).to_vec()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_type_and_null_survives_a_round_trip(rows in prop::collection::vec(row(), 0..40), rows_per_batch in 1..9usize) {
        let expected: Vec<Row> = rows
            .iter()
            .map(|row| row.iter().zip(ALL_TYPES).map(|(field, kind)| canonical(kind, field.as_deref())).collect())
            .collect();
        prop_assert_eq!(round_trip(&columns(&ALL_TYPES), &rows, rows_per_batch), expected);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_bytes_survive_a_round_trip(values in prop::collection::vec(prop::option::of(any::<Vec<u8>>()), 0..20)) {
        let columns = columns(&[ColumnType::Binary]);
        let mut batch = Batch::new(1);
        for (index, value) in values.iter().enumerate() {
            batch.push_field(value.as_deref());
            batch.end_row(Position { record: index as u64 + 1, line: 0, byte: 0 });
        }
        let mut encoder = ParquetEncoder::new(&columns).unwrap();
        encoder.write(&batch).unwrap();
        let bytes = Bytes::from(encoder.finish().unwrap());
        let size_bytes = bytes.len() as u64;
        let read =
            move |range: Range<u64>| ready(Ok::<_, std::io::Error>(bytes.slice(range.start as usize..range.end as usize)));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let batches: Vec<Batch> = runtime.block_on(decode(&columns, size_bytes, read).try_collect()).unwrap();
        let restored: Vec<Option<Vec<u8>>> = batches
            .iter()
            .flat_map(|batch| (0..batch.rows()).map(|row| batch.field(row, 0).map(<[u8]>::to_vec)))
            .collect();
        prop_assert_eq!(restored, values);
    }
}

#[test]
fn missing_and_empty_text_stay_different() {
    let rows = vec![vec![Some(String::new())], vec![None], vec![Some("NA".to_owned())]];
    assert_eq!(round_trip(&columns(&[ColumnType::Text]), &rows, 2), rows);
}

#[test]
fn value_of_another_type_is_an_error_with_its_position() {
    let columns = columns(&[ColumnType::Integer]);
    let mut encoder = ParquetEncoder::new(&columns).unwrap();
    let error = encoder.write(&batch(&[vec![Some("1".into())], vec![Some("secret".into())]], 7)).unwrap_err();
    assert_eq!((error.kind(), error.position().unwrap().record, error.column()), (ErrorKind::Internal, 8, Some("c0")));
    assert!(!error.to_string().contains("secret"));
}

#[test]
fn memory_is_bounded_while_a_large_file_is_written() {
    let columns = columns(&[ColumnType::Integer, ColumnType::Text]);
    let mut encoder = ParquetEncoder::new(&columns).unwrap();
    let noise: String = (0..1 << 20).map(|_| fastrand::alphanumeric()).collect();
    let mut pieces = 0;
    for start in (0..4_000u64).step_by(100) {
        // About two megabytes per batch, which do not compress.
        let text = |_| {
            let start = fastrand::usize(..noise.len() - 20_000);
            noise[start..start + 20_000].to_owned()
        };
        let rows: Vec<Row> = (start..start + 100).map(|id| vec![Some(id.to_string()), Some(text(id))]).collect();
        encoder.write(&batch(&rows, start + 1)).unwrap();
        let piece = encoder.take_bytes();
        pieces += usize::from(!piece.is_empty());
        assert!(encoder.writer_memory() < 80 << 20);
    }
    assert!(pieces >= 2, "row groups end before the file does: {pieces}");
}

#[tokio::test]
async fn long_texts_are_returned_in_several_batches() {
    let columns = columns(&[ColumnType::Text]);
    let rows: Vec<Row> = (0..6).map(|_| vec![Some("x".repeat(700_000))]).collect();
    let bytes = Bytes::from(encoded(&columns, &rows, 6));
    let size_bytes = bytes.len() as u64;
    let read =
        move |range: Range<u64>| ready(Ok::<_, std::io::Error>(bytes.slice(range.start as usize..range.end as usize)));
    let batches: Vec<Batch> = decode(&columns, size_bytes, read).try_collect().await.unwrap();
    assert_eq!(batches.iter().map(Batch::rows).collect::<Vec<_>>(), [2, 2, 2]);
}

#[tokio::test]
async fn error_of_a_read_is_returned_unchanged() {
    let columns = columns(&[ColumnType::Text]);
    let read = |_| ready(Err(std::io::Error::other("gone")));
    let error = decode(&columns, 1_000, read).try_collect::<Vec<_>>().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Read);
    assert_eq!(error.into_source().unwrap().downcast::<std::io::Error>().unwrap().to_string(), "gone");
}

#[tokio::test]
async fn another_file_is_an_error() {
    let text = columns(&[ColumnType::Text]);
    let good = encoded(&text, &[vec![Some("abc".into())]], 1);
    let truncated = good[..good.len() - 3].to_vec();
    let mut corrupt = good.clone();
    corrupt[8..20].fill(0xff);
    for (bytes, columns) in [
        (b"id,name\n1,x\n".to_vec(), text.clone()),
        (Vec::new(), text.clone()),
        (truncated, text.clone()),
        (corrupt, text.clone()),
        (good.clone(), columns(&[ColumnType::Integer])),
        (good, columns(&[ColumnType::Text, ColumnType::Text])),
    ] {
        assert_eq!(decoded(&columns, bytes).await.unwrap_err().kind(), ErrorKind::Internal);
    }
}

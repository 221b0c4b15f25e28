//! Reads files that the tests write: every type, codec and layout, wrong counts, and corrupt bytes. Also files of other writers.

mod corrupt;
mod counts;
mod layouts;
mod pyarrow;
mod types;
mod writers;

use std::sync::Arc;

use arrow_array::builder::{FixedSizeBinaryBuilder, ListBuilder, StringBuilder};
use arrow_array::{ArrayRef, Float64Array, Int64Array, StringArray};
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;

use super::*;
use crate::schema::infer::Inference;

const LIMITS: ParquetLimits = ParquetLimits { max_record_bytes: 1 << 20, max_columns: 100, max_memory_bytes: 1 << 30 };

/// The names and the inferred types of the columns, and the fields of each row as [`shown`] writes them.
type Content = (Vec<(String, ColumnType)>, Vec<Vec<String>>);

fn read_within(file: &[u8], limits: ParquetLimits) -> Result<Content> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let bytes = Bytes::copy_from_slice(file);
        let read = move |range: Range<u64>| {
            let bytes = bytes.clone();
            async move { Ok::<_, std::io::Error>(bytes.slice(range.start as usize..range.end as usize)) }
        };
        let mut reader = ParquetReader::open(file.len() as u64, read, limits).await?;
        let mut inference = Inference::declared(reader.columns().map(|(name, kind)| (name.to_owned(), Some(kind))));
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
        // Every value must have the type of its column.
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

fn read(file: &[u8]) -> Result<Content> {
    read_within(file, LIMITS)
}

/// The text of a field, or its bytes in hex after `0x` if it is not UTF-8; `-` if it is missing.
fn shown(batch: &Batch, row: usize, column: usize) -> String {
    let Some(field) = batch.field(row, column) else { return "-".to_owned() };
    match std::str::from_utf8(field) {
        Ok(text) => text.to_owned(),
        Err(_) => field.iter().fold("0x".to_owned(), |hex, byte| format!("{hex}{byte:02x}")),
    }
}

fn written(columns: Vec<(&str, ArrayRef)>, properties: WriterProperties) -> Vec<u8> {
    let batch =
        RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true))).unwrap();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.into_inner().unwrap()
}

/// A file with columns of several types, with missing values, lists and a dictionary.
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

#[track_caller]
fn assert_invalid(file: &[u8], words: &str) {
    let error = read(file).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    assert!(error.to_string().contains(words), "{error}");
}

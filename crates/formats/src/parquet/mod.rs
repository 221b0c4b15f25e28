//! Parquet: fallback objects, written and read, and the files of users, read by [`ParquetReader`].
//!
//! Fallback objects are compressed with Snappy and keep the type of each column: integers, doubles, booleans, dates,
//! decimals, bytes, and timestamps in microseconds. Athena, Redshift Spectrum and Spark read them as such. A missing value and an
//! empty string stay different. Writing and reading hold at most one row group, and its size is bounded.

mod cells;
mod checked_ranges;
mod columns;
mod counts;
mod decode;
mod encode;
mod failure;
mod footer;
mod hive_type;
mod pages;
mod ranges;
mod reader;
mod thrift;

use std::sync::Arc;

use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};

use crate::schema::ColumnType;
use crate::schema::fallback::FallbackColumn;

pub use decode::decode;
pub use encode::ParquetEncoder;
pub use reader::{ParquetLimits, ParquetReader};

/// The most bytes that Arrow decodes at a time, estimated from the average row.
const DECODED_BYTES: u64 = 4 << 20;
/// The most rows that Arrow decodes at a time.
const DECODED_ROWS: usize = 1024;

/// How Arrow holds text and bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ByteArrays {
    /// Each value is copied, for writing.
    Owned,
    /// A value points into its page, for reading. So a repeated long text is in memory only once.
    Views,
}

/// The Arrow schema of a fallback object.
fn arrow_schema(columns: &[FallbackColumn], byte_arrays: ByteArrays) -> SchemaRef {
    let (text_type, binary_type) = match byte_arrays {
        ByteArrays::Owned => (DataType::Utf8, DataType::Binary),
        ByteArrays::Views => (DataType::Utf8View, DataType::BinaryView),
    };
    let field = |column: &FallbackColumn| {
        let data_type = match column.stored_type {
            ColumnType::Boolean => DataType::Boolean,
            ColumnType::Integer => DataType::Int64,
            ColumnType::Decimal { precision, scale } => DataType::Decimal128(precision, scale as i8),
            ColumnType::Double => DataType::Float64,
            ColumnType::Date => DataType::Date32,
            ColumnType::DateTime => DataType::Timestamp(TimeUnit::Microsecond, None),
            ColumnType::Instant => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            ColumnType::Json | ColumnType::Text => text_type.clone(),
            ColumnType::Binary => binary_type.clone(),
        };
        Field::new(&column.name, data_type, true)
    };
    Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()))
}

/// The number of rows to decode at a time, from the row group with the longest average row.
fn decoded_rows(metadata: &ParquetMetaData) -> usize {
    let row_bytes = |group: &RowGroupMetaData| {
        u64::try_from(group.total_byte_size()).unwrap_or(0) / u64::try_from(group.num_rows()).unwrap_or(1).max(1)
    };
    let longest = metadata.row_groups().iter().map(row_bytes).max().unwrap_or(0).max(1);
    usize::try_from(DECODED_BYTES / longest).unwrap_or(DECODED_ROWS).clamp(1, DECODED_ROWS)
}

#[cfg(test)]
mod tests;

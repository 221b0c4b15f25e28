//! Parquet, written and read: fallback objects, and the files that users bring ([`ParquetReader`]).
//!
//! Fallback objects are typed, snappy-compressed, exact: integers, doubles, booleans, dates, timestamps in microseconds and decimals are themselves, so that Athena, Redshift
//! Spectrum and Spark read them as such; a missing value and an empty string stay apart. Both directions hold a row
//! group at most, and a row group is bounded by bytes.

mod cells;
mod counts;
mod decode;
mod encode;
mod footer;
mod ranges;
mod reader;

use std::sync::Arc;

use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};

use crate::schema::ColumnType;
use crate::schema::fallback::FallbackColumn;

pub use decode::decode;
pub use encode::ParquetEncoder;
pub use reader::{ParquetLimits, ParquetReader};

/// The Arrow schema of a fallback object. Text is `text_type`, which differs between writing and reading.
fn arrow_schema(columns: &[FallbackColumn], text_type: &DataType) -> SchemaRef {
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
        };
        Field::new(&column.name, data_type, true)
    };
    Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()))
}

#[cfg(test)]
mod tests;

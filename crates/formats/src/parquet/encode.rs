//! Writes batches of fields as the Parquet of a fallback object.

use std::sync::Arc;

use arrow_array::builder::{
    BinaryBuilder, BooleanBuilder, Date32Builder, Decimal128Builder, Float64Builder, Int64Builder, StringBuilder,
    TimestampMicrosecondBuilder,
};
use arrow_array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow_schema::SchemaRef;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::Compression;
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;

use super::{ByteArrays, arrow_schema};
use crate::schema::ColumnType;
use crate::schema::fallback::FallbackColumn;
use crate::schema::value::Value;
use crate::{Batch, Error, ErrorKind, Result};

/// A row group ends when its fields have this many bytes. A reader holds as much in memory.
const ROW_GROUP_FIELD_BYTES: usize = 32 << 20;
/// A row group also ends when the writer uses this much memory. Many columns cost more than their bytes.
const ROW_GROUP_MEMORY_BYTES: usize = 64 << 20;

/// Encodes batches. Taking the finished bytes after each batch keeps memory bounded.
pub struct ParquetEncoder {
    columns: Vec<FallbackColumn>,
    schema: SchemaRef,
    writer: ArrowWriter<Vec<u8>>,
    /// The bytes of the fields in the open row group.
    open_field_bytes: usize,
}

impl ParquetEncoder {
    /// An encoder for a file with these columns, in the order of the file.
    pub fn new(columns: &[FallbackColumn]) -> Result<Self> {
        let schema = arrow_schema(columns, ByteArrays::Owned);
        let properties = WriterProperties::builder()
            .set_compression(Compression::SNAPPY)
            .set_created_by(format!("spillway version {}", env!("CARGO_PKG_VERSION")))
            .build();
        let options = ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
        let writer =
            ArrowWriter::try_new_with_options(Vec::new(), Arc::clone(&schema), options).map_err(encode_error)?;
        Ok(Self { columns: columns.to_vec(), schema, writer, open_field_bytes: 0 })
    }

    /// Encodes the rows of a batch.
    ///
    /// # Errors
    /// When a field is not a value of its column's type, with its position.
    pub fn write(&mut self, batch: &Batch) -> Result<()> {
        let arrays = self.columns.iter().enumerate().map(|(index, column)| array(batch, index, column));
        let arrays = arrays.collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(batch.rows()));
        let record_batch = RecordBatch::try_new_with_options(Arc::clone(&self.schema), arrays, &options)
            .map_err(|error| encode_error(error.into()))?;
        self.writer.write(&record_batch).map_err(encode_error)?;
        self.open_field_bytes += batch.size_bytes();
        let is_full =
            self.open_field_bytes >= ROW_GROUP_FIELD_BYTES || self.writer.memory_size() >= ROW_GROUP_MEMORY_BYTES;
        if is_full {
            self.writer.flush().map_err(encode_error)?;
            self.open_field_bytes = 0;
        }
        Ok(())
    }

    /// The bytes that were finished since the last call.
    pub fn take_bytes(&mut self) -> Vec<u8> {
        std::mem::take(self.writer.inner_mut())
    }

    #[cfg(test)]
    pub(super) fn writer_memory(&self) -> usize {
        self.writer.memory_size()
    }

    /// Ends the file and returns the rest of its bytes.
    pub fn finish(self) -> Result<Vec<u8>> {
        self.writer.into_inner().map_err(encode_error)
    }
}

/// A column of a batch as an Arrow array.
fn array(batch: &Batch, index: usize, column: &FallbackColumn) -> Result<ArrayRef> {
    let rows = batch.rows();
    // The builders have no common trait; the arms differ only in the builder and the variant.
    macro_rules! build {
        ($builder:expr, $pattern:pat => $value:expr) => {{
            let mut builder = $builder;
            for row in 0..rows {
                match column.store(batch.field(row, index)) {
                    Some(Value::Null) => builder.append_null(),
                    Some($pattern) => builder.append_value($value),
                    _ => return Err(wrong_type(batch, row, column)),
                }
            }
            Arc::new(builder.finish())
        }};
    }
    let array: ArrayRef = match column.stored_type {
        ColumnType::Boolean => build!(BooleanBuilder::with_capacity(rows), Value::Boolean(value) => value),
        ColumnType::Integer => build!(Int64Builder::with_capacity(rows), Value::Integer(value) => value),
        ColumnType::Decimal { precision, scale } => {
            let builder = Decimal128Builder::with_capacity(rows)
                .with_precision_and_scale(precision, scale as i8)
                .map_err(|error| encode_error(error.into()))?;
            build!(builder, Value::Decimal { unscaled, .. } => unscaled)
        }
        ColumnType::Double => build!(Float64Builder::with_capacity(rows), Value::Double(value) => value),
        ColumnType::Date => build!(Date32Builder::with_capacity(rows), Value::Date { days } => days),
        ColumnType::DateTime => {
            build!(TimestampMicrosecondBuilder::with_capacity(rows), Value::DateTime { micros } => micros)
        }
        ColumnType::Instant => {
            let builder = TimestampMicrosecondBuilder::with_capacity(rows).with_timezone("UTC");
            build!(builder, Value::Instant { micros } => micros)
        }
        ColumnType::Json | ColumnType::Text => {
            build!(StringBuilder::new(), Value::Json(value) | Value::Text(value) => value)
        }
        ColumnType::Binary => build!(BinaryBuilder::new(), Value::Binary(value) => value),
    };
    Ok(array)
}

fn wrong_type(batch: &Batch, row: usize, column: &FallbackColumn) -> Error {
    Error::new(ErrorKind::Internal, "a value does not have the type that was inferred from the whole file")
        .at(batch.position(row))
        .in_column(&column.name)
}

fn encode_error(error: ParquetError) -> Error {
    Error::new(ErrorKind::Internal, "cannot encode rows as Parquet").with_source(error)
}

//! Batches of text fields into Parquet.

use std::sync::Arc;

use arrow_array::builder::{
    BooleanBuilder, Date32Builder, Decimal128Builder, Float64Builder, Int64Builder, StringBuilder,
    TimestampMicrosecondBuilder,
};
use arrow_array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow_schema::{DataType, SchemaRef};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::Compression;
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;

use super::arrow_schema;
use crate::schema::ColumnType;
use crate::schema::fallback::FallbackColumn;
use crate::schema::value::Value;
use crate::{Batch, Error, ErrorKind, Result};

/// A row group ends when this many bytes of fields are in it: what a reader must hold decompressed.
const ROW_GROUP_FIELD_BYTES: usize = 32 << 20;
/// Or when the writer itself holds this much: many columns cost more than their bytes.
const ROW_GROUP_MEMORY_BYTES: usize = 64 << 20;

/// Encodes batches; the bytes that are finished can be taken at any time, so that memory stays flat.
pub struct ParquetEncoder {
    columns: Vec<FallbackColumn>,
    schema: SchemaRef,
    writer: ArrowWriter<Vec<u8>>,
    open_field_bytes: usize,
}

impl ParquetEncoder {
    /// An encoder for a file with these columns, in file order.
    pub fn new(columns: &[FallbackColumn]) -> Result<Self> {
        let schema = arrow_schema(columns, &DataType::Utf8);
        let properties = WriterProperties::builder()
            .set_compression(Compression::SNAPPY)
            .set_created_by(format!("spillway version {}", env!("CARGO_PKG_VERSION")))
            .build();
        let options = ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
        let writer =
            ArrowWriter::try_new_with_options(Vec::new(), Arc::clone(&schema), options).map_err(not_encoded)?;
        Ok(Self { columns: columns.to_vec(), schema, writer, open_field_bytes: 0 })
    }

    /// Encodes some rows. A field that is not what its column's type says is an error with its position.
    pub fn write(&mut self, batch: &Batch) -> Result<()> {
        let arrays = self.columns.iter().enumerate().map(|(index, column)| array(batch, index, column));
        let arrays = arrays.collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(batch.rows()));
        let record_batch = RecordBatch::try_new_with_options(Arc::clone(&self.schema), arrays, &options)
            .map_err(|error| not_encoded(error.into()))?;
        self.writer.write(&record_batch).map_err(not_encoded)?;
        self.open_field_bytes += batch.size_bytes();
        let is_full =
            self.open_field_bytes >= ROW_GROUP_FIELD_BYTES || self.writer.memory_size() >= ROW_GROUP_MEMORY_BYTES;
        if is_full {
            self.writer.flush().map_err(not_encoded)?;
            self.open_field_bytes = 0;
        }
        Ok(())
    }

    /// The bytes that were finished since the last call, in file order.
    pub fn take_bytes(&mut self) -> Vec<u8> {
        std::mem::take(self.writer.inner_mut())
    }

    #[cfg(test)]
    pub(super) fn writer_memory(&self) -> usize {
        self.writer.memory_size()
    }

    /// The rest of the file.
    pub fn finish(self) -> Result<Vec<u8>> {
        self.writer.into_inner().map_err(not_encoded)
    }
}

/// One column of a batch, typed.
fn array(batch: &Batch, index: usize, column: &FallbackColumn) -> Result<ArrayRef> {
    let rows = batch.rows();
    // Collecting options into a builder per type; each arm differs only in the variant it takes.
    macro_rules! typed {
        ($builder:expr, $pattern:pat => $value:expr) => {{
            let mut builder = $builder;
            for row in 0..rows {
                match column.store(batch.field(row, index)) {
                    Some(Value::Null) => builder.append_null(),
                    Some($pattern) => builder.append_value($value),
                    _ => return Err(not_of_its_type(batch, row, column)),
                }
            }
            Arc::new(builder.finish())
        }};
    }
    let array: ArrayRef = match column.stored_type {
        ColumnType::Boolean => typed!(BooleanBuilder::with_capacity(rows), Value::Boolean(value) => value),
        ColumnType::Integer => typed!(Int64Builder::with_capacity(rows), Value::Integer(value) => value),
        ColumnType::Decimal { precision, scale } => {
            let builder = Decimal128Builder::with_capacity(rows)
                .with_precision_and_scale(precision, scale as i8)
                .map_err(|error| not_encoded(error.into()))?;
            typed!(builder, Value::Decimal { unscaled, .. } => unscaled)
        }
        ColumnType::Double => typed!(Float64Builder::with_capacity(rows), Value::Double(value) => value),
        ColumnType::Date => typed!(Date32Builder::with_capacity(rows), Value::Date { days } => days),
        ColumnType::DateTime => {
            typed!(TimestampMicrosecondBuilder::with_capacity(rows), Value::DateTime { micros } => micros)
        }
        ColumnType::Instant => {
            let builder = TimestampMicrosecondBuilder::with_capacity(rows).with_timezone("UTC");
            typed!(builder, Value::Instant { micros } => micros)
        }
        ColumnType::Json | ColumnType::Text => {
            typed!(StringBuilder::new(), Value::Json(value) | Value::Text(value) => value)
        }
    };
    Ok(array)
}

fn not_of_its_type(batch: &Batch, row: usize, column: &FallbackColumn) -> Error {
    Error::new(ErrorKind::Internal, "a value is not of the type that was chosen from the whole file")
        .at(batch.position(row))
        .in_column(&column.name)
}

fn not_encoded(error: ParquetError) -> Error {
    Error::new(ErrorKind::Internal, "rows could not be encoded as parquet").with_source(error)
}

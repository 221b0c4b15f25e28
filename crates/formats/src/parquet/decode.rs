//! Parquet back into batches of text fields, read by byte ranges.

use std::future::Future;
use std::ops::Range;

use arrow_array::cast::AsArray;
use arrow_array::types::{Date32Type, Decimal128Type, Float64Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{
    Array, ArrayRef, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int64Array, RecordBatch,
    StringViewArray, TimestampMicrosecondArray,
};
use arrow_schema::{DataType, TimeUnit};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::{ParquetRecordBatchStream, ParquetRecordBatchStreamBuilder};
use parquet::errors::ParquetError;

use super::arrow_schema;
use super::ranges::Ranges;
use crate::error::BoxError;
use crate::schema::fallback::FallbackColumn;
use crate::schema::value::{Value, write_text};
use crate::{Batch, Error, ErrorKind, Position, Result};

/// A batch ends when it holds this many bytes or rows.
const BATCH_BYTES: usize = 1 << 20;
const BATCH_ROWS: usize = 1024;
/// What Arrow may hold decoded at once, by the average row.
const DECODED_BYTES: u64 = 4 << 20;

/// The rows of an object of `size_bytes` that [`super::ParquetEncoder`] wrote with the same columns, as text that parses
/// to the same values. `read` gives the bytes of a range; one call per row group. Positions count records only.
pub fn decode<Read, Answer, E>(
    columns: &[FallbackColumn],
    size_bytes: u64,
    read: Read,
) -> BoxStream<'static, Result<Batch>>
where
    Read: FnMut(Range<u64>) -> Answer + Send + 'static,
    Answer: Future<Output = Result<Bytes, E>> + Send + 'static,
    E: Into<BoxError> + 'static,
{
    let ranges = Ranges::new(size_bytes, read);
    let decoder = Decoder { columns: columns.to_vec(), stage: Stage::Closed(ranges), record: 0 };
    let batches = stream::try_unfold(decoder, |mut decoder| async move {
        let batch = decoder.next().await?;
        Ok(batch.map(|batch| (batch, decoder)))
    });
    Box::pin(batches)
}

/// Where a decoder stands.
enum Stage {
    Closed(Ranges),
    Open { rows: ParquetRecordBatchStream<Ranges>, decoded: Option<Decoded> },
    Done,
}

/// Some rows as Arrow has them, and how many of them were taken.
struct Decoded {
    cells: Vec<Cells>,
    rows: usize,
    next_row: usize,
}

struct Decoder {
    columns: Vec<FallbackColumn>,
    stage: Stage,
    record: u64,
}

impl Decoder {
    async fn next(&mut self) -> Result<Option<Batch>> {
        loop {
            match std::mem::replace(&mut self.stage, Stage::Done) {
                Stage::Closed(ranges) => {
                    self.stage = Stage::Open { rows: open(ranges, &self.columns).await?, decoded: None };
                }
                Stage::Open { rows, decoded: Some(mut decoded) } => {
                    let batch = self.take_batch(&mut decoded)?;
                    let rest = (decoded.next_row < decoded.rows).then_some(decoded);
                    self.stage = Stage::Open { rows, decoded: rest };
                    return Ok(Some(batch));
                }
                Stage::Open { mut rows, decoded: None } => {
                    let Some(record_batch) = rows.next().await else { return Ok(None) };
                    let record_batch = record_batch.map_err(not_decoded)?;
                    let decoded = (record_batch.num_rows() > 0).then(|| decoded(&record_batch)).transpose()?;
                    self.stage = Stage::Open { rows, decoded };
                }
                Stage::Done => return Ok(None),
            }
        }
    }

    /// The next rows of a decoded batch, as many as fit one of ours.
    fn take_batch(&mut self, decoded: &mut Decoded) -> Result<Batch> {
        let mut batch = Batch::new(self.columns.len());
        let mut text = Vec::new();
        while decoded.next_row < decoded.rows && batch.size_bytes() < BATCH_BYTES {
            self.record += 1;
            let position = Position { record: self.record, line: self.record, byte: 0 };
            for (column, cells) in self.columns.iter().zip(&decoded.cells) {
                match column.restore(cells.value(decoded.next_row)) {
                    Some(Value::Null) => batch.push_field(None),
                    Some(value) => {
                        text.clear();
                        write_text(&value, &mut text);
                        batch.push_field(Some(&text));
                    }
                    None => {
                        let error = Error::new(ErrorKind::Internal, "a stored value is not what the manifest says");
                        return Err(error.at(position).in_column(&column.name));
                    }
                }
            }
            batch.end_row(position);
            decoded.next_row += 1;
        }
        Ok(batch)
    }
}

/// Reads the footer and checks the file's columns against ours.
async fn open(ranges: Ranges, columns: &[FallbackColumn]) -> Result<ParquetRecordBatchStream<Ranges>> {
    // Views point into the pages, so that a long text which is repeated a thousand times is there once.
    let options = ArrowReaderOptions::new().with_schema(arrow_schema(columns, &DataType::Utf8View));
    let builder = ParquetRecordBatchStreamBuilder::new_with_options(ranges, options).await.map_err(not_decoded)?;
    let row_bytes = |group: &parquet::file::metadata::RowGroupMetaData| {
        u64::try_from(group.total_byte_size()).unwrap_or(0) / u64::try_from(group.num_rows()).unwrap_or(1).max(1)
    };
    let widest = builder.metadata().row_groups().iter().map(row_bytes).max().unwrap_or(0).max(1);
    let rows = usize::try_from(DECODED_BYTES / widest).unwrap_or(BATCH_ROWS).clamp(1, BATCH_ROWS);
    builder.with_batch_size(rows).build().map_err(not_decoded)
}

/// One column of some rows.
enum Cells {
    Boolean(BooleanArray),
    Integer(Int64Array),
    Decimal { unscaled: Decimal128Array, scale: u8 },
    Double(Float64Array),
    Date(Date32Array),
    DateTime(TimestampMicrosecondArray),
    Instant(TimestampMicrosecondArray),
    Text(StringViewArray),
}

impl Cells {
    /// The typed view of a column, or `None` for a type we never write.
    fn of(array: &ArrayRef) -> Option<Self> {
        let cells = match array.data_type() {
            DataType::Boolean => Self::Boolean(array.as_boolean().clone()),
            DataType::Int64 => Self::Integer(array.as_primitive::<Int64Type>().clone()),
            DataType::Decimal128(_, scale) => Self::Decimal {
                unscaled: array.as_primitive::<Decimal128Type>().clone(),
                scale: u8::try_from(*scale).ok()?,
            },
            DataType::Float64 => Self::Double(array.as_primitive::<Float64Type>().clone()),
            DataType::Date32 => Self::Date(array.as_primitive::<Date32Type>().clone()),
            DataType::Timestamp(TimeUnit::Microsecond, zone) => {
                let micros = array.as_primitive::<TimestampMicrosecondType>().clone();
                if zone.is_some() { Self::Instant(micros) } else { Self::DateTime(micros) }
            }
            DataType::Utf8View => Self::Text(array.as_string_view().clone()),
            _ => return None,
        };
        Some(cells)
    }

    fn value(&self, row: usize) -> Value<'_> {
        let array: &dyn Array = match self {
            Self::Boolean(array) => array,
            Self::Integer(array) => array,
            Self::Decimal { unscaled, .. } => unscaled,
            Self::Double(array) => array,
            Self::Date(array) => array,
            Self::DateTime(array) | Self::Instant(array) => array,
            Self::Text(array) => array,
        };
        if array.is_null(row) {
            return Value::Null;
        }
        match self {
            Self::Boolean(array) => Value::Boolean(array.value(row)),
            Self::Integer(array) => Value::Integer(array.value(row)),
            Self::Decimal { unscaled, scale } => Value::Decimal { unscaled: unscaled.value(row), scale: *scale },
            Self::Double(array) => Value::Double(array.value(row)),
            Self::Date(array) => Value::Date { days: array.value(row) },
            Self::DateTime(array) => Value::DateTime { micros: array.value(row) },
            Self::Instant(array) => Value::Instant { micros: array.value(row) },
            Self::Text(array) => Value::Text(array.value(row)),
        }
    }
}

fn decoded(record_batch: &RecordBatch) -> Result<Decoded> {
    let cells = record_batch.columns().iter().map(Cells::of).collect::<Option<Vec<_>>>();
    let cells =
        cells.ok_or_else(|| Error::new(ErrorKind::Internal, "a parquet column has a type that is never written"))?;
    Ok(Decoded { cells, rows: record_batch.num_rows(), next_row: 0 })
}

/// What went wrong: our own error from a read as it was, anything else as a file that is not the one we wrote.
fn not_decoded(error: ParquetError) -> Error {
    let broken = |source: BoxError| {
        Error::new(ErrorKind::Internal, "the fallback object is not the parquet that was written").with_source(source)
    };
    match error {
        ParquetError::External(source) => match source.downcast::<Error>() {
            Ok(ours) => *ours,
            Err(source) => broken(source),
        },
        other => broken(Box::new(other)),
    }
}

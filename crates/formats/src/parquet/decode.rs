//! Reads the Parquet of a fallback object as batches of fields.

use std::future::Future;
use std::ops::Range;

use arrow_array::cast::AsArray;
use arrow_array::types::{Date32Type, Decimal128Type, Float64Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{
    Array, ArrayRef, BinaryViewArray, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int64Array,
    RecordBatch, StringViewArray, TimestampMicrosecondArray,
};
use arrow_schema::{DataType, TimeUnit};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::{ParquetRecordBatchStream, ParquetRecordBatchStreamBuilder};
use parquet::errors::ParquetError;

use super::failure::unwrap_external;
use super::ranges::Ranges;
use super::{ByteArrays, arrow_schema, decoded_rows};
use crate::error::BoxError;
use crate::schema::fallback::FallbackColumn;
use crate::schema::value::{Value, write_text};
use crate::{Batch, Error, ErrorKind, Position, Result};

/// A batch ends when its fields have this many bytes.
const BATCH_BYTES: usize = 1 << 20;

/// Reads an object of `size_bytes` that [`super::ParquetEncoder`] wrote with the same columns.
///
/// Each field is text that parses to the value that was written. `read` returns the bytes of a range; it is called once per
/// row group. Positions count records only.
pub fn decode<Read, Fut, E>(
    columns: &[FallbackColumn],
    size_bytes: u64,
    read: Read,
) -> BoxStream<'static, Result<Batch>>
where
    Read: FnMut(Range<u64>) -> Fut + Send + 'static,
    Fut: Future<Output = Result<Bytes, E>> + Send + 'static,
    E: Into<BoxError> + 'static,
{
    let ranges = Ranges::new(size_bytes, read);
    let decoder = Decoder { columns: columns.to_vec(), state: State::Closed(ranges), record: 0 };
    let batches = stream::try_unfold(decoder, |mut decoder| async move {
        let batch = decoder.next().await?;
        Ok(batch.map(|batch| (batch, decoder)))
    });
    Box::pin(batches)
}

enum State {
    /// The footer has not been read.
    Closed(Ranges),
    Open {
        rows: ParquetRecordBatchStream<Ranges>,
        decoded: Option<Decoded>,
    },
    /// After the end or an error.
    Done,
}

/// Decoded rows, and how many of them were returned.
struct Decoded {
    cells: Vec<Cells>,
    rows: usize,
    next_row: usize,
}

struct Decoder {
    columns: Vec<FallbackColumn>,
    state: State,
    /// The number of records returned.
    record: u64,
}

impl Decoder {
    async fn next(&mut self) -> Result<Option<Batch>> {
        loop {
            match std::mem::replace(&mut self.state, State::Done) {
                State::Closed(ranges) => {
                    self.state = State::Open { rows: open(ranges, &self.columns).await?, decoded: None };
                }
                State::Open { rows, decoded: Some(mut decoded) } => {
                    let batch = self.next_batch(&mut decoded)?;
                    let rest = (decoded.next_row < decoded.rows).then_some(decoded);
                    self.state = State::Open { rows, decoded: rest };
                    return Ok(Some(batch));
                }
                State::Open { mut rows, decoded: None } => {
                    let Some(record_batch) = rows.next().await else { return Ok(None) };
                    let record_batch = record_batch.map_err(decode_error)?;
                    let decoded = (record_batch.num_rows() > 0).then(|| decoded(&record_batch)).transpose()?;
                    self.state = State::Open { rows, decoded };
                }
                State::Done => return Ok(None),
            }
        }
    }

    /// A batch of as many decoded rows as fit.
    fn next_batch(&mut self, decoded: &mut Decoded) -> Result<Batch> {
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
                        let error =
                            Error::new(ErrorKind::Internal, "a stored value does not have the type in the manifest");
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

/// Reads the footer, and checks that the file has these columns.
async fn open(ranges: Ranges, columns: &[FallbackColumn]) -> Result<ParquetRecordBatchStream<Ranges>> {
    let options = ArrowReaderOptions::new().with_schema(arrow_schema(columns, ByteArrays::Views));
    let builder = ParquetRecordBatchStreamBuilder::new_with_options(ranges, options).await.map_err(decode_error)?;
    let rows = decoded_rows(builder.metadata());
    builder.with_batch_size(rows).build().map_err(decode_error)
}

/// A column of decoded rows.
enum Cells {
    Boolean(BooleanArray),
    Integer(Int64Array),
    Decimal { unscaled: Decimal128Array, scale: u8 },
    Double(Float64Array),
    Date(Date32Array),
    DateTime(TimestampMicrosecondArray),
    Instant(TimestampMicrosecondArray),
    Text(StringViewArray),
    Binary(BinaryViewArray),
}

impl Cells {
    /// The cells of an array, or `None` for a type that the encoder never writes.
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
            DataType::BinaryView => Self::Binary(array.as_binary_view().clone()),
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
            Self::Binary(array) => array,
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
            Self::Binary(array) => Value::Binary(array.value(row)),
        }
    }
}

fn decoded(record_batch: &RecordBatch) -> Result<Decoded> {
    let cells = record_batch.columns().iter().map(Cells::of).collect::<Option<Vec<_>>>();
    let cells =
        cells.ok_or_else(|| Error::new(ErrorKind::Internal, "a column has a type that fallback objects never have"))?;
    Ok(Decoded { cells, rows: record_batch.num_rows(), next_row: 0 })
}

/// The error of this crate in `error`, or else an object that has changed since it was written.
fn decode_error(error: ParquetError) -> Error {
    unwrap_external(error, |source| {
        Error::new(ErrorKind::Internal, "the fallback object is not the Parquet that was written").with_source(source)
    })
}

//! Reads the Parquet files of users as batches of fields. The file declares the types of its columns.
//!
//! Declared sizes and counts are checked before memory is allocated for them. Memory is bounded by the largest row group
//! (compressed), its open pages, and one batch. The Parquet crate may panic on a corrupt page; the result is then an error
//! for an invalid file.

use std::future::Future;
use std::ops::Range;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use arrow_array::{Array, RecordBatch};
use bytes::Bytes;
use futures_util::FutureExt;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ArrowReaderMetadata;
use parquet::arrow::async_reader::{AsyncFileReader, ParquetRecordBatchStreamBuilder};
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};

use super::checked_ranges::CheckedRanges;
use super::columns::{Conversion, FileColumn, WideRead, arrow_metadata, file_columns, wide_columns};
use super::counts::{self, Chunks, CountedRows};
use super::failure::{catch_panic, decode_error, invalid, panicked};
use super::ranges::Ranges;
use super::{cells, decoded_rows, footer};
use crate::error::BoxError;
use crate::schema::ColumnType;
use crate::schema::value::{Value, parse};
use crate::{Batch, Error, ErrorKind, FieldKind, Position, Result};

/// Limits beyond which a file is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParquetLimits {
    /// The longest record in bytes, as the sum of its fields.
    pub max_record_bytes: usize,
    /// The most columns.
    pub max_columns: usize,
    /// The most memory in bytes for a row group: its stored bytes, its open pages and the values of its lists.
    pub max_memory_bytes: u64,
}

/// Reads one file, once.
pub struct ParquetReader {
    columns: Vec<FileColumn>,
    limits: ParquetLimits,
    /// `None` after the end of the file or an error.
    streams: Option<Streams>,
    decoded: Option<Decoded>,
    /// The number of records returned.
    record: u64,
}

/// The streams of rows that are read side by side.
struct Streams {
    all: CountedRows<CheckedRanges>,
    /// The values of 96 bits once more: 64 bits hold only a part of them.
    second: Option<CountedRows<CheckedRanges>>,
}

/// Decoded rows, and how many of them were returned.
struct Decoded {
    all: RecordBatch,
    second: Option<RecordBatch>,
    next_row: usize,
}

impl ParquetReader {
    /// Opens an object of `size_bytes`: reads its footer and checks it. `read` returns the bytes of a range.
    ///
    /// # Errors
    /// When the file is invalid, exceeds a limit, or has a column of a type that is not supported.
    pub async fn open<Read, Fut, E>(size_bytes: u64, read: Read, limits: ParquetLimits) -> Result<Self>
    where
        Read: FnMut(Range<u64>) -> Fut + Clone + Send + 'static,
        Fut: Future<Output = Result<Bytes, E>> + Send + 'static,
        E: Into<BoxError> + 'static,
    {
        let mut ranges = Ranges::new(size_bytes, read.clone());
        let metadata = read_metadata(&mut ranges).await?;
        let chunks = Arc::new(Chunks::of(&metadata)?);
        let arrow = catch_panic(|| arrow_metadata(&metadata, WideRead::First))?;
        let columns = file_columns(&arrow, limits.max_columns)?;
        let max_memory_bytes = limits.max_memory_bytes;
        let mut ranges = CheckedRanges::new(ranges, Arc::clone(&metadata), Arc::clone(&chunks), max_memory_bytes);
        // The Parquet crate skips row groups without rows, so their pages are checked here.
        for range in chunks.without_rows() {
            ranges.get_bytes(range).await.map_err(decode_error)?;
        }
        let all = CountedRows::new(catch_panic(|| stream(ranges, arrow).build())?, &metadata);
        let has_wide = !wide_columns(&metadata).is_empty();
        let second = if has_wide {
            let ranges = Ranges::new(size_bytes, read);
            let ranges = CheckedRanges::new(ranges, Arc::clone(&metadata), chunks, max_memory_bytes);
            Some(second_read(ranges, &metadata)?)
        } else {
            None
        };
        Ok(Self { columns, limits, streams: Some(Streams { all, second }), decoded: None, record: 0 })
    }

    /// The names of the columns as they are in the file, with their declared types.
    ///
    /// A value that does not fit its declared type, such as a NaN in a column of doubles, is returned as text.
    pub fn columns(&self) -> impl Iterator<Item = (&str, ColumnType)> {
        self.columns.iter().map(|column| (column.name.as_str(), column.column_type))
    }

    /// The names of the columns as they are in the file, with the Hive types in which Athena reads them in place.
    ///
    /// A column without a type cannot be read that way.
    pub fn hive_columns(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        self.columns.iter().map(|column| (column.name.as_str(), column.hive_type.as_deref()))
    }

    /// The next rows, or `None` after the last.
    pub async fn next(&mut self) -> Result<Option<Batch>> {
        loop {
            if let Some(decoded) = self.decoded.take() {
                return self.next_batch(decoded).map(Some);
            }
            // They are put back only if they can be read on.
            let Some(mut streams) = self.streams.take() else { return Ok(None) };
            match AssertUnwindSafe(streams.next()).catch_unwind().await {
                Ok(Ok(Some(decoded))) => {
                    self.decoded = (decoded.all.num_rows() > 0).then_some(decoded);
                    self.streams = Some(streams);
                }
                Ok(Ok(None)) => {}
                Ok(Err(error)) => return Err(error),
                Err(_) => return Err(panicked()),
            }
        }
    }

    /// A batch of as many decoded rows as fit.
    fn next_batch(&mut self, mut decoded: Decoded) -> Result<Batch> {
        let mut batch = Batch::new(self.columns.len());
        let mut text = Vec::new();
        while decoded.next_row < decoded.all.num_rows() && !batch.is_full() {
            self.record += 1;
            let position = Position { record: self.record, line: 0, byte: 0 };
            let bytes_before = batch.size_bytes();
            for (index, column) in self.columns.iter().enumerate() {
                text.clear();
                let bytes_left = self.limits.max_record_bytes.saturating_sub(batch.size_bytes() - bytes_before);
                push_value(&mut batch, &decoded, (index, column), (&mut text, bytes_left))
                    .map_err(|error| error.at(position).in_column(&column.name))?;
                if batch.size_bytes() - bytes_before > self.limits.max_record_bytes {
                    let message = format!("the record is longer than {} bytes", self.limits.max_record_bytes);
                    return Err(Error::new(ErrorKind::Invalid, message).at(position));
                }
            }
            batch.end_row(position);
            decoded.next_row += 1;
        }
        self.decoded = (decoded.next_row < decoded.all.num_rows()).then_some(decoded);
        Ok(batch)
    }
}

/// Adds the value of a column in the next decoded row to the open row of a batch. `text` is an empty buffer, for a value of
/// at most `max_bytes`.
fn push_value(
    batch: &mut Batch,
    decoded: &Decoded,
    (index, column): (usize, &FileColumn),
    (text, max_bytes): (&mut Vec<u8>, usize),
) -> Result<()> {
    let (array, row) = (decoded.all.column(index), decoded.next_row);
    let kind = match column.conversion {
        Conversion::Uuid => Ok(cells::write_uuid(array, row, text)),
        Conversion::Plain | Conversion::Json => cells::write_within(array, row, (text, max_bytes)),
        Conversion::Enum => {
            cells::write_within(array, row, (text, max_bytes)).and_then(|kind| cells::utf8(text).map(|_| kind))
        }
        Conversion::Int96(second) => {
            decoded.second(second).and_then(|second| cells::write_int96(array, second, row, text))
        }
        Conversion::NestedInt96(second) => {
            let second = decoded.second(second);
            second.and_then(|second| cells::write_nested_int96(array, second, row, (text, max_bytes)))
        }
        Conversion::Interval(second) => {
            decoded.second(second).and_then(|second| cells::write_interval(array, second, row, text))
        }
    };
    match kind {
        Ok(None) => batch.push_field(None),
        Ok(Some(_)) if column.conversion == Conversion::Json && is_nested(text) => {
            batch.push_kind(FieldKind::Nested, text);
        }
        Ok(Some(kind)) => batch.push_kind(kind, text),
        Err(reason) => return Err(Error::new(ErrorKind::Invalid, format!("the value {reason}"))),
    }
    Ok(())
}

/// Whether a text is a JSON object or array.
fn is_nested(text: &[u8]) -> bool {
    matches!(parse(ColumnType::Json, Some(text)), Some(Value::Json(_)))
}

impl Decoded {
    /// A column of the second read.
    fn second(&self, index: usize) -> Result<&dyn Array, cells::Unreadable> {
        self.second.as_ref().map(|batch| batch.column(index).as_ref()).ok_or("is not read")
    }
}

impl Streams {
    /// The next rows of both streams, or `None` after the last.
    async fn next(&mut self) -> Result<Option<Decoded>> {
        let Some(all) = self.all.next().await? else { return Ok(None) };
        let second = match &mut self.second {
            Some(second) => second.next().await?,
            None => None,
        };
        if self.second.is_some() && second.as_ref().is_none_or(|second| second.num_rows() != all.num_rows()) {
            return Err(invalid("its columns have different numbers of rows"));
        }
        Ok(Some(Decoded { all, second, next_row: 0 }))
    }
}

/// Reads the footer and checks everything that it declares.
async fn read_metadata(ranges: &mut Ranges) -> Result<Arc<ParquetMetaData>> {
    let footer = footer::read(ranges).await?;
    footer::check_schema(&footer).map_err(invalid)?;
    footer::check_encryption(&footer).map_err(invalid)?;
    let metadata = catch_panic(|| ParquetMetaDataReader::decode_metadata(&footer))?;
    footer::check_row_groups(&metadata)?;
    counts::check_footer(&metadata)?;
    Ok(Arc::new(metadata))
}

fn stream(ranges: CheckedRanges, arrow: ArrowReaderMetadata) -> ParquetRecordBatchStreamBuilder<CheckedRanges> {
    let rows = decoded_rows(arrow.metadata());
    ParquetRecordBatchStreamBuilder::new_with_metadata(ranges, arrow).with_batch_size(rows)
}

/// The second read of the columns whose values have 96 bits.
fn second_read(ranges: CheckedRanges, metadata: &Arc<ParquetMetaData>) -> Result<CountedRows<CheckedRanges>> {
    let rows = catch_panic(|| {
        let mask = ProjectionMask::roots(metadata.file_metadata().schema_descr(), wide_columns(metadata));
        let arrow = arrow_metadata(metadata, WideRead::Second)?;
        stream(ranges, arrow).with_projection(mask).build()
    })?;
    Ok(CountedRows::new(rows, metadata))
}

#[cfg(test)]
mod tests;

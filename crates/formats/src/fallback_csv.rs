//! Fallback objects as CSV (`FALLBACK_FORMAT=csv`), as OpenCSVSerDe reads it.
//!
//! One record has one field for every column of the catalog's table, in the table's order, each quoted, with a backslash
//! before a quote or a backslash; there is no header line. That SerDe has no NULL, so the first field, `spillway_nulls`,
//! names the columns that are NULL by their number in the table (the first column is 1), joined by `;`. Line breaks
//! within fields survive here and in replay, but Athena reads line by line and does not take them, nor types:
//! reasons why Parquet is the default.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use csv_async::{AsyncReader, AsyncReaderBuilder, AsyncWriterBuilder, ByteRecord, QuoteStyle, Terminator};
use futures_util::stream::{self, BoxStream};
use futures_util::{AsyncRead, Stream, StreamExt, TryStreamExt};

use crate::error::BoxError;
use crate::schema::fallback::FallbackColumn;
use crate::schema::value::Value;
use crate::{Batch, Error, ErrorKind, Position, Result};

const ESCAPE: u8 = b'\\';
/// A batch ends when it holds this many bytes or rows.
const BATCH_BYTES: usize = 1 << 20;
const BATCH_ROWS: usize = 1024;

/// Encodes batches; the bytes that are finished can be taken at any time, so that memory stays flat.
pub struct CsvEncoder {
    columns: Vec<FallbackColumn>,
    /// For each place of the table, from the second on, the file's column that goes there.
    permits: Vec<Option<usize>>,
    record: ByteRecord,
    bytes: Vec<u8>,
}

impl CsvEncoder {
    /// An encoder for a file with these columns, in file order.
    pub fn new(columns: &[FallbackColumn]) -> Self {
        let last_place = columns.iter().map(|column| column.place).max().unwrap_or(0);
        let permits = (1..=last_place).map(|place| columns.iter().position(|column| column.place == place)).collect();
        Self { columns: columns.to_vec(), permits, record: ByteRecord::new(), bytes: Vec::new() }
    }

    /// Encodes some rows. A field that is not what its column's type says is an error with its position.
    pub async fn write(&mut self, batch: &Batch) -> Result<()> {
        // The escape character is ours to double: the writer only puts it before quotes.
        let mut writer = AsyncWriterBuilder::new()
            .has_headers(false)
            .quote_style(QuoteStyle::Always)
            .double_quote(false)
            .escape(ESCAPE)
            .terminator(Terminator::Any(b'\n'))
            .create_writer(std::mem::take(&mut self.bytes));
        for row in 0..batch.rows() {
            self.fill_record(batch, row)?;
            writer.write_byte_record(&self.record).await.map_err(not_encoded)?;
        }
        self.bytes = writer.into_inner().await.map_err(|error| {
            Error::new(ErrorKind::Internal, "rows could not be encoded as csv").with_source(error.to_string())
        })?;
        Ok(())
    }

    /// The bytes that were finished since the last call, in file order.
    pub fn take_bytes(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }

    /// The rest of the file.
    pub fn finish(self) -> Vec<u8> {
        self.bytes
    }

    fn fill_record(&mut self, batch: &Batch, row: usize) -> Result<()> {
        let mut fields = Vec::with_capacity(self.permits.len());
        let mut nulls = Vec::new();
        for (index, source) in self.permits.iter().enumerate() {
            let field = match source {
                Some(column) => stored(&self.columns[*column], batch, row, *column)?,
                None => None,
            };
            if field.is_none() {
                // The first field is number 1, and `permits` begins with the second.
                nulls.push((index + 2).to_string());
            }
            fields.push(field.unwrap_or_default());
        }
        self.record.clear();
        self.record.push_field(nulls.join(";").as_bytes());
        let mut escaped = Vec::new();
        for field in fields {
            escaped.clear();
            for byte in field {
                if *byte == ESCAPE {
                    escaped.push(ESCAPE);
                }
                escaped.push(*byte);
            }
            self.record.push_field(&escaped);
        }
        Ok(())
    }
}

/// The field as it is stored, `None` for NULL.
fn stored<'a>(column: &FallbackColumn, batch: &'a Batch, row: usize, index: usize) -> Result<Option<&'a [u8]>> {
    let field = batch.field(row, index);
    match column.store(field) {
        Some(Value::Null) => Ok(None),
        Some(_) => Ok(field),
        None => {
            let error =
                Error::new(ErrorKind::Internal, "a value is not of the type that was chosen from the whole file");
            Err(error.at(batch.position(row)).in_column(&column.name))
        }
    }
}

/// The rows that [`CsvEncoder`] wrote with the same columns, in the file's own order of columns. Positions count records
/// only.
pub fn decode<Chunks, E>(columns: &[FallbackColumn], chunks: Chunks) -> BoxStream<'static, Result<Batch>>
where
    Chunks: Stream<Item = Result<Bytes, E>> + Send + 'static,
    E: Into<BoxError> + 'static,
{
    let reader = AsyncReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .double_quote(false)
        .escape(Some(ESCAPE))
        .terminator(Terminator::Any(b'\n'))
        .create_reader(ChunkReader { chunks: chunks.map_err(Error::read).boxed(), rest: Bytes::new() });
    let decoder = Decoder {
        permits: columns.iter().map(|column| column.place).collect(),
        reader,
        record: ByteRecord::new(),
        record_number: 0,
    };
    let batches = stream::try_unfold(decoder, |mut decoder| async move {
        let batch = decoder.next().await?;
        Ok((!batch.is_empty()).then_some((batch, decoder)))
    });
    Box::pin(batches)
}

struct Decoder {
    permits: Vec<usize>,
    reader: AsyncReader<ChunkReader>,
    record: ByteRecord,
    record_number: u64,
}

impl Decoder {
    /// The next rows; none at the end.
    async fn next(&mut self) -> Result<Batch> {
        let mut batch = Batch::new(self.permits.len());
        while batch.rows() < BATCH_ROWS && batch.size_bytes() < BATCH_BYTES {
            if !self.reader.read_byte_record(&mut self.record).await.map_err(not_read)? {
                break;
            }
            self.record_number += 1;
            let position = Position { record: self.record_number, line: self.record_number, byte: 0 };
            let nulls = nulls(&self.record).ok_or_else(|| not_ours(position))?;
            for place in &self.permits {
                let field = self.record.get(*place).ok_or_else(|| not_ours(position))?;
                batch.push_field((!nulls.contains(place)).then_some(field));
            }
            batch.end_row(position);
        }
        Ok(batch)
    }
}

/// The places of the columns that are NULL, from the first field.
fn nulls(record: &ByteRecord) -> Option<Vec<usize>> {
    let text = std::str::from_utf8(record.get(0)?).ok()?;
    if text.is_empty() {
        return Some(Vec::new());
    }
    text.split(';').map(|number| number.parse::<usize>().ok()?.checked_sub(1)).collect()
}

fn not_ours(position: Position) -> Error {
    Error::new(ErrorKind::Internal, "the fallback object is not the csv that was written").at(position)
}

/// Chunks of bytes as something to read from.
struct ChunkReader {
    chunks: BoxStream<'static, Result<Bytes>>,
    rest: Bytes,
}

impl AsyncRead for ChunkReader {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        while self.rest.is_empty() {
            match ready!(self.chunks.as_mut().poll_next(context)) {
                Some(Ok(chunk)) => self.rest = chunk,
                Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
                None => return Poll::Ready(Ok(0)),
            }
        }
        let length = self.rest.len().min(into.len());
        into[..length].copy_from_slice(&self.rest.split_to(length));
        Poll::Ready(Ok(length))
    }
}

fn not_encoded(error: csv_async::Error) -> Error {
    Error::new(ErrorKind::Internal, "rows could not be encoded as csv").with_source(error)
}

/// What went wrong: our own error from a read as it was, anything else as a file that is not the one we wrote.
fn not_read(error: csv_async::Error) -> Error {
    let broken = |source: BoxError| {
        Error::new(ErrorKind::Internal, "the fallback object is not the csv that was written").with_source(source)
    };
    if !error.is_io_error() {
        return broken(Box::new(error));
    }
    match error.into_kind() {
        csv_async::ErrorKind::Io(error) => error.downcast::<Error>().unwrap_or_else(|error| broken(Box::new(error))),
        _ => broken("neither its form nor its source is at fault".into()),
    }
}

#[cfg(test)]
mod tests;

//! Writes and reads fallback objects as CSV (`FALLBACK_FORMAT=csv`) in the dialect of OpenCSVSerDe.
//!
//! - A record has one field per column of the catalog's table, in the order of the table. There is no header.
//! - Every field is quoted, with a backslash before a quote or a backslash.
//! - OpenCSVSerDe has no NULL. So the first field, `spillway_nulls`, contains the numbers of the columns that are NULL, separated
//!   by `;`. The first column of the table is number 1.
//! - Bytes that are not text are pairs of hex digits, which Athena's `from_hex` reads.
//!
//! A replay restores line breaks within fields, but Athena reads line by line and splits such a record. Athena also reads every
//! column as a string. Therefore Parquet is the default.

use std::borrow::Cow;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use csv_async::{AsyncReader, AsyncReaderBuilder, AsyncWriterBuilder, ByteRecord, QuoteStyle, Terminator};
use futures_util::stream::{self, BoxStream};
use futures_util::{AsyncRead, Stream, StreamExt, TryStreamExt};

use crate::error::BoxError;
use crate::schema::ColumnType;
use crate::schema::fallback::FallbackColumn;
use crate::schema::value::Value;
use crate::{Batch, Error, ErrorKind, Position, Result};

const ESCAPE: u8 = b'\\';
/// A batch ends when its fields have this many bytes.
const BATCH_BYTES: usize = 1 << 20;
/// A batch also ends after this many rows.
const BATCH_ROWS: usize = 1024;

/// Encodes batches. Taking the finished bytes after each batch keeps memory bounded.
pub struct CsvEncoder {
    columns: Vec<FallbackColumn>,
    /// For each column of the table from the second on, the index of the file's column, if the file has it.
    sources: Vec<Option<usize>>,
    record: ByteRecord,
    bytes: Vec<u8>,
}

impl CsvEncoder {
    /// An encoder for a file with these columns, in the order of the file.
    pub fn new(columns: &[FallbackColumn]) -> Self {
        let last_place = columns.iter().map(|column| column.place).max().unwrap_or(0);
        let sources = (1..=last_place).map(|place| columns.iter().position(|column| column.place == place)).collect();
        Self { columns: columns.to_vec(), sources, record: ByteRecord::new(), bytes: Vec::new() }
    }

    /// Encodes the rows of a batch.
    ///
    /// # Errors
    /// When a field is not a value of its column's type, with its position.
    pub async fn write(&mut self, batch: &Batch) -> Result<()> {
        // The writer escapes quotes only. `fill_record` escapes backslashes.
        let mut writer = AsyncWriterBuilder::new()
            .has_headers(false)
            .quote_style(QuoteStyle::Always)
            .double_quote(false)
            .escape(ESCAPE)
            .terminator(Terminator::Any(b'\n'))
            .create_writer(std::mem::take(&mut self.bytes));
        for row in 0..batch.rows() {
            self.fill_record(batch, row)?;
            writer.write_byte_record(&self.record).await.map_err(encode_error)?;
        }
        self.bytes = writer.into_inner().await.map_err(|error| {
            Error::new(ErrorKind::Internal, "cannot encode rows as CSV").with_source(error.to_string())
        })?;
        Ok(())
    }

    /// The bytes that were finished since the last call.
    pub fn take_bytes(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }

    /// Ends the file and returns the rest of its bytes.
    pub fn finish(self) -> Vec<u8> {
        self.bytes
    }

    /// Sets the record to a row: first the numbers of the columns that are NULL, then the fields.
    fn fill_record(&mut self, batch: &Batch, row: usize) -> Result<()> {
        let mut fields = Vec::with_capacity(self.sources.len());
        let mut nulls = Vec::new();
        for (index, source) in self.sources.iter().enumerate() {
            let field = match source {
                Some(column) => stored(&self.columns[*column], batch, row, *column)?,
                None => None,
            };
            if field.is_none() {
                // Columns are numbered from 1, and `sources` starts with the second column.
                nulls.push((index + 2).to_string());
            }
            fields.push(field.unwrap_or_default());
        }
        self.record.clear();
        self.record.push_field(nulls.join(";").as_bytes());
        let mut escaped = Vec::new();
        for field in fields {
            escaped.clear();
            for byte in field.iter().copied() {
                if byte == ESCAPE {
                    escaped.push(ESCAPE);
                }
                escaped.push(byte);
            }
            self.record.push_field(&escaped);
        }
        Ok(())
    }
}

/// The field to store; `None` for NULL.
fn stored<'a>(column: &FallbackColumn, batch: &'a Batch, row: usize, index: usize) -> Result<Option<Cow<'a, [u8]>>> {
    let field = batch.field(row, index);
    match column.store(field) {
        Some(Value::Null) => Ok(None),
        Some(Value::Binary(bytes)) => Ok(Some(Cow::Owned(hex(bytes)))),
        Some(_) => Ok(field.map(Cow::Borrowed)),
        None => {
            let error =
                Error::new(ErrorKind::Internal, "a value does not have the type that was inferred from the whole file");
            Err(error.at(batch.position(row)).in_column(&column.name))
        }
    }
}

/// Two hex digits for each byte.
fn hex(bytes: &[u8]) -> Vec<u8> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes.iter().flat_map(|byte| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]).collect()
}

/// The bytes of which [`hex`] returns this text.
fn from_hex(text: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let (pairs, []) = text.as_chunks::<2>() else { return None };
    pairs.iter().map(|[high, low]| Some((digit(*high)? << 4) | digit(*low)?)).collect()
}

/// Reads the rows that [`CsvEncoder`] wrote with the same columns. Fields are in the order of `columns`.
///
/// Positions count records only.
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
    let decoder = Decoder { columns: columns.to_vec(), reader, record: ByteRecord::new(), record_number: 0 };
    let batches = stream::try_unfold(decoder, |mut decoder| async move {
        let batch = decoder.next().await?;
        Ok((!batch.is_empty()).then_some((batch, decoder)))
    });
    Box::pin(batches)
}

struct Decoder {
    columns: Vec<FallbackColumn>,
    reader: AsyncReader<ChunkReader>,
    record: ByteRecord,
    record_number: u64,
}

impl Decoder {
    /// The next rows; an empty batch after the last.
    async fn next(&mut self) -> Result<Batch> {
        let mut batch = Batch::new(self.columns.len());
        while batch.rows() < BATCH_ROWS && batch.size_bytes() < BATCH_BYTES {
            if !self.reader.read_byte_record(&mut self.record).await.map_err(read_error)? {
                break;
            }
            self.record_number += 1;
            let position = Position { record: self.record_number, line: self.record_number, byte: 0 };
            let nulls = nulls(&self.record).ok_or_else(|| changed(position))?;
            for column in &self.columns {
                let field = self.record.get(column.place).ok_or_else(|| changed(position))?;
                if nulls.contains(&column.place) {
                    batch.push_field(None);
                } else if column.file_type == ColumnType::Binary {
                    batch.push_field(Some(&from_hex(field).ok_or_else(|| changed(position))?));
                } else {
                    batch.push_field(Some(field));
                }
            }
            batch.end_row(position);
        }
        Ok(batch)
    }
}

/// The indexes of the columns that are NULL, from the first field; `None` if that field is invalid.
fn nulls(record: &ByteRecord) -> Option<Vec<usize>> {
    let text = std::str::from_utf8(record.get(0)?).ok()?;
    if text.is_empty() {
        return Some(Vec::new());
    }
    text.split(';').map(|number| number.parse::<usize>().ok()?.checked_sub(1)).collect()
}

fn changed(position: Position) -> Error {
    Error::new(ErrorKind::Internal, "the fallback object is not the CSV that was written").at(position)
}

/// Reads from a stream of chunks.
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

fn encode_error(error: csv_async::Error) -> Error {
    Error::new(ErrorKind::Internal, "cannot encode rows as CSV").with_source(error)
}

/// The error of this crate in `error`, or else an object that has changed since it was written.
fn read_error(error: csv_async::Error) -> Error {
    let changed = |source: BoxError| {
        Error::new(ErrorKind::Internal, "the fallback object is not the CSV that was written").with_source(source)
    };
    if !error.is_io_error() {
        return changed(Box::new(error));
    }
    match error.into_kind() {
        csv_async::ErrorKind::Io(error) => error.downcast::<Error>().unwrap_or_else(|error| changed(Box::new(error))),
        _ => changed("an error that is neither of the format nor of the source".into()),
    }
}

#[cfg(test)]
mod tests;

//! Reads fallback objects that earlier versions wrote as CSV, in the dialect of OpenCSVSerDe.
//!
//! - A record has one field per column of the catalog's table, in the order of the table. No header comes before them.
//! - Every field is quoted, with a backslash before a quote or a backslash.
//! - OpenCSVSerDe has no NULL. So the first field, `spillway_nulls`, contains the numbers of the columns that are NULL, separated
//!   by `;`. The first column of the table is number 1.
//! - Bytes that are not text are pairs of hex digits.
//!
//! Nothing is written as CSV any more: Athena reads line by line, and splits a record whose values contain line breaks.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use csv_async::{AsyncReader, AsyncReaderBuilder, ByteRecord, Terminator};
use futures_util::stream::{self, BoxStream};
use futures_util::{AsyncRead, Stream, StreamExt, TryStreamExt};

use crate::error::BoxError;
use crate::schema::ColumnType;
use crate::schema::fallback::FallbackColumn;
use crate::{Batch, Error, ErrorKind, Position, Result};

const ESCAPE: u8 = b'\\';
/// A batch ends when its fields have this many bytes.
const BATCH_BYTES: usize = 1 << 20;
/// A batch also ends after this many rows.
const BATCH_ROWS: usize = 1024;

/// The bytes that a text of hex digits spells.
fn from_hex(text: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let (pairs, []) = text.as_chunks::<2>() else { return None };
    pairs.iter().map(|[high, low]| Some((digit(*high)? << 4) | digit(*low)?)).collect()
}

/// Reads the rows that were written with the same columns. Fields are in the order of `columns`.
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

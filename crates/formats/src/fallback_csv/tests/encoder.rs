//! Writes CSV as earlier versions did.

use std::borrow::Cow;

use csv_async::{AsyncWriterBuilder, ByteRecord, QuoteStyle, Terminator};

use crate::fallback_csv::ESCAPE;
use crate::schema::fallback::FallbackColumn;
use crate::schema::value::Value;
use crate::{Batch, Error, ErrorKind, Result};

/// Encodes batches. Taking the finished bytes after each batch keeps memory bounded.
pub(super) struct CsvEncoder {
    columns: Vec<FallbackColumn>,
    /// For each column of the table from the second on, the index of the file's column, if the file has it.
    sources: Vec<Option<usize>>,
    record: ByteRecord,
    bytes: Vec<u8>,
}

impl CsvEncoder {
    /// An encoder for a file with these columns, in the order of the file.
    pub(super) fn new(columns: &[FallbackColumn]) -> Self {
        let last_place = columns.iter().map(|column| column.place).max().unwrap_or(0);
        let sources = (1..=last_place).map(|place| columns.iter().position(|column| column.place == place)).collect();
        Self { columns: columns.to_vec(), sources, record: ByteRecord::new(), bytes: Vec::new() }
    }

    /// Encodes the rows of a batch.
    ///
    /// # Errors
    /// When a field is not a value of its column's type, with its position.
    pub(super) async fn write(&mut self, batch: &Batch) -> Result<()> {
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
    pub(super) fn take_bytes(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }

    /// Ends the file and returns the rest of its bytes.
    pub(super) fn finish(self) -> Vec<u8> {
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

fn encode_error(error: csv_async::Error) -> Error {
    Error::new(ErrorKind::Internal, "cannot encode rows as CSV").with_source(error)
}

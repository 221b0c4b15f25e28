//! CSV (RFC 4180) as a push decoder: accepts bytes in any chunks, returns whole batches, and uses bounded memory.
//!
//! The RFC does not define every case. These rules decide the others:
//!
//! - A file is UTF-8 with or without a byte order mark, UTF-16 with one, or in the configured encoding. It is rejected at its
//!   first invalid byte.
//! - A quote opens a quoted field only as the first byte of the field. Elsewhere outside quotes it is data. Inside quotes it
//!   is doubled. After the closing quote, only a delimiter or a line end may follow.
//! - An unquoted empty field is missing. A quoted one is the empty string.
//! - A record ends with LF or CR LF; more CRs before the LF count as one. If the header ends with a lone CR, every record
//!   does. A lone CR or LF that breaks this rule outside quotes is rejected. The last record needs no line end.
//! - An empty line is skipped. In a file with one column this loses an empty value without an error, unless it is
//!   written as `""`.
//! - Every record has as many fields as the header. A delimiter at the end of a line opens one more field, in the header too.
//! - Positions count bytes of the file, and lines as an editor does. In a converted file they count bytes of the UTF-8 text.
//! - If no delimiter is configured, it is detected from the first records; see `delimiter`. A file is then rejected if
//!   another common delimiter would divide its header into more columns. With a configured delimiter it is rejected only
//!   if the header stays one column and contains another one. Quoted names, and files without a header, are not checked.
//! - If bad records may be rejected, two faults reject only the record: another number of fields than the header, and text
//!   after a closing quote. The latter record ends with its line. Every other fault rejects the file.
//! - Configured null values are missing in every column, text included, unless they are quoted.

mod cursor;
mod delimiter;
mod record;
mod rows;
mod search;

use std::collections::VecDeque;
use std::ops::Range;

use crate::extract::RecordFinder;
use crate::limits::ReadLimits;
use crate::reject::Reject;
use crate::text::{TextPiece, TextReader};
use crate::{Batch, Result};
use record::RecordReader;

const ENCODING_HINT: &str = "save the file as UTF-8, or as UTF-16 with a byte order mark, or set CSV_ENCODING";

/// How the text of a file is divided into records and fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CsvDialect {
    /// The delimiter between two fields: an ASCII byte other than the quote, CR and LF. `None` detects it.
    pub delimiter: Option<u8>,
    /// The quote character: an ASCII byte. `None` means that delimiters always separate fields.
    pub quote: Option<u8>,
    /// Whether the first record contains the column names. If not, the columns are `col_1`, `col_2` and so on.
    pub has_header: bool,
    /// The encoding of a file without a byte order mark; UTF-8 if `None`.
    pub encoding: Option<&'static encoding_rs::Encoding>,
    /// Unquoted fields that mean NULL in every column. `None` means the usual null tokens, which are not NULL in text columns.
    pub null_values: Option<Vec<Vec<u8>>>,
}

impl Default for CsvDialect {
    fn default() -> Self {
        Self { delimiter: Some(b','), quote: Some(b'"'), has_header: true, encoding: None, null_values: None }
    }
}

/// Decodes one file. After an error the decoder must not be used again.
#[derive(Debug)]
pub struct CsvDecoder {
    dialect: CsvDialect,
    text: TextReader,
    records: RecordReader,
}

impl CsvDecoder {
    /// A decoder for one file of a dialect.
    pub fn new(dialect: CsvDialect, limits: ReadLimits) -> Self {
        let text = TextReader::new(dialect.encoding);
        let records = RecordReader::new(&dialect, limits);
        Self { dialect, text, records }
    }

    /// Decodes the next bytes of the file. Take the batches after each call.
    ///
    /// The batches of one call use about twice the memory of the chunk, and more if fields are tiny.
    pub fn push(&mut self, chunk: &[u8]) -> Result<()> {
        self.read(chunk, false)
    }

    /// Ends the file. The last batch can be taken then.
    pub fn finish(&mut self) -> Result<()> {
        self.read(&[], true)?;
        self.records.finish()
    }

    fn read(&mut self, mut chunk: &[u8], is_last: bool) -> Result<()> {
        loop {
            match self.text.next(&mut chunk, is_last) {
                Ok(Some(TextPiece::Start { mark_bytes, is_converted })) => self.records.start(mark_bytes, is_converted),
                Ok(Some(TextPiece::Text(text))) => self.records.push(text)?,
                Ok(None) => return Ok(()),
                Err(invalid) => {
                    // An error in the text before the invalid byte comes first.
                    self.records.end_sample(false)?;
                    return Err(invalid.into_error(
                        self.records.cursor.offset,
                        self.records.cursor.record,
                        ENCODING_HINT,
                    ));
                }
            }
        }
    }

    /// The raw fields of the header, unquoted; `None` until it is read, and for an empty file.
    pub fn header(&self) -> Option<&[Vec<u8>]> {
        self.records.rows.header()
    }

    /// The dialect, with the delimiter and the encoding that were detected; complete after the end of the file.
    pub fn dialect(&self) -> CsvDialect {
        let (delimiter, encoding) = (Some(self.records.delimiter()), self.text.converted_from());
        CsvDialect { delimiter, encoding, ..self.dialect.clone() }
    }

    /// The next full batch, or the last one after the end of the file.
    pub fn take_batch(&mut self) -> Option<Batch> {
        self.records.rows.take_batch()
    }

    /// The records that were rejected since the last call.
    pub fn take_rejects(&mut self) -> Vec<Reject> {
        self.records.rejects.take()
    }

    /// Sets, before the first byte, the starts of the records to find. The header is found too.
    pub(crate) fn find_records(&mut self, starts: VecDeque<u64>) {
        self.records.finder = Some(RecordFinder::new(starts));
    }

    /// The records found since the last call, line ends included.
    pub(crate) fn take_found_records(&mut self) -> Vec<Range<u64>> {
        self.records.finder.as_mut().map(RecordFinder::take).unwrap_or_default()
    }

    /// The offset of the record that is being read or comes next.
    pub(crate) fn record_start(&self) -> u64 {
        self.records.cursor.record.byte
    }
}

#[cfg(test)]
mod tests;

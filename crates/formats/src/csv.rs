//! CSV (RFC 4180) as a push decoder: bytes go in as they come, whole batches come out, memory stays flat.
//!
//! What the RFC leaves open is decided so that no value is ever changed or lost without a word:
//! - A file is UTF-8 with or without a byte order mark, or UTF-16 with one, or what the settings say. Anything else is refused
//!   at its first bad byte.
//! - A quote opens a quoted field only as the field's first byte; anywhere else outside quotes it is data. Inside quotes it is
//!   doubled, and after the closing one only a delimiter or a line end may follow.
//! - An unquoted empty field is missing, a quoted one is the empty string.
//! - A record ends with LF or CR LF (more CRs before the LF count as one). In a file whose header ends with a lone CR, every
//!   record does. A lone CR or LF that breaks this outside quotes is refused. The last record needs no line end.
//! - A line with nothing on it is skipped, in a file of one column too; write `""` there for an empty value.
//! - Every record has as many fields as the header. A delimiter at a line's end opens one more field, in the header too.
//! - Positions count bytes of the file, or of its text in UTF-8 when it is in another encoding, and lines as an editor does.
//! - If no delimiter is set, the first records show it, or the file is refused; see `delimiter`. A header in which another common
//!   delimiter occurs more often than the one that was found is refused, and so is one that a set delimiter does not divide but
//!   another does. Quoted names do not count.
//! - Where bad records may be left out, those are that have another number of fields than the header, or go on after a closing
//!   quote; the latter end with their line. Everything else that is wrong still breaks the file.
//! - Null values, where some are given, say nothing in every column, text too, unless they are quoted.

mod delimiter;
mod record;
mod rows;

use std::collections::VecDeque;
use std::ops::Range;

use crate::reject::Reject;
use crate::text::{TextReader, TextSink};
use crate::{Batch, Result};
use record::RecordReader;

/// How far a file may go before it is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CsvLimits {
    /// The longest record in bytes, quotes and delimiters included. A header may have 1 MiB at most in any case.
    pub max_record_bytes: usize,
    /// The most columns.
    pub max_columns: usize,
    /// The most bad records that are left out and noted. With none, a bad record makes the file broken.
    pub max_rejects: u64,
}

/// How the text of a file is to be understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CsvDialect {
    /// What stands between two fields: an ASCII byte other than the quote, CR or LF. Without one it is found in the file.
    pub delimiter: Option<u8>,
    /// What stands around a field that holds marks: an ASCII byte. Without one, marks always divide.
    pub quote: Option<u8>,
    /// Whether the first record names the columns. If not, they are `col_1` and so on.
    pub has_header: bool,
    /// What a file without a byte order mark is encoded in; UTF-8 without one.
    pub encoding: Option<&'static encoding_rs::Encoding>,
    /// Unquoted fields that say nothing, in every column.
    pub null_values: Option<Vec<Vec<u8>>>,
}

impl Default for CsvDialect {
    fn default() -> Self {
        Self { delimiter: Some(b','), quote: Some(b'"'), has_header: true, encoding: None, null_values: None }
    }
}

/// Reads one file. After an error the file is broken and the decoder of no more use.
#[derive(Debug)]
pub struct CsvDecoder {
    dialect: CsvDialect,
    text: TextReader,
    records: RecordReader,
}

impl CsvDecoder {
    /// A decoder for one comma-separated file.
    pub fn new(limits: CsvLimits) -> Self {
        Self::with_dialect(CsvDialect::default(), limits)
    }

    /// A decoder for one file of another dialect.
    pub fn with_dialect(dialect: CsvDialect, limits: CsvLimits) -> Self {
        let text = TextReader::new(dialect.encoding);
        let records = RecordReader::new(&dialect, limits);
        Self { dialect, text, records }
    }

    /// Takes the next bytes of the file, cut anywhere. Take the batches out between calls: they hold about twice
    /// a chunk's bytes, more where fields are tiny.
    pub fn push(&mut self, chunk: &[u8]) -> Result<()> {
        self.text.push(chunk, &mut self.records)
    }

    /// Says that the file has ended. What is left can then be taken out.
    pub fn finish(&mut self) -> Result<()> {
        self.text.finish(&mut self.records)?;
        self.records.finish()
    }

    /// The header's fields as they stand in the file, unquoted, once they are read. An empty file never has one.
    pub fn header(&self) -> Option<&[Vec<u8>]> {
        self.records.header()
    }

    /// The dialect of this file, with what was found in it; to be asked once it has ended.
    pub fn dialect(&self) -> CsvDialect {
        let (delimiter, encoding) = (Some(self.records.delimiter()), self.text.converted_from());
        CsvDialect { delimiter, encoding, ..self.dialect.clone() }
    }

    /// The bad records that were left out since this was last asked.
    pub fn take_rejects(&mut self) -> Vec<Reject> {
        self.records.take_rejects()
    }

    /// Asks, before the first byte, where the header and the records that begin at these bytes end.
    pub fn watch(&mut self, starts: VecDeque<u64>) {
        self.records.watch(starts);
    }

    /// Where those of the watched records stand that have ended since this was last asked, line ends included.
    pub fn take_ended(&mut self) -> Vec<Range<u64>> {
        self.records.take_ended()
    }

    /// Where the record that is being read, or would come next, begins.
    pub fn record_start(&self) -> u64 {
        self.records.position().byte
    }

    /// The next batch of records, as soon as there are enough of them, or the last ones once the file has ended.
    pub fn take_batch(&mut self) -> Option<Batch> {
        self.records.take_batch()
    }
}

#[cfg(test)]
mod tests;

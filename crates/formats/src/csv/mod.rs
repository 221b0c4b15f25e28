//! CSV (RFC 4180) as a push decoder: accepts bytes in any chunks, returns whole batches, and uses bounded memory.
//!
//! The RFC does not define every case. These rules decide the others:
//!
//! - A file is UTF-8, with or without a byte order mark, or UTF-16. UTF-16 without a mark is detected if the first characters are
//!   Latin. A configured encoding applies to files without a mark. A file is rejected at its first invalid byte.
//! - A quote opens a quoted field only as the first byte of the field. Elsewhere outside quotes it is data. Inside quotes, two
//!   quotes mean one. After the closing quote, only a delimiter or a line end may follow.
//! - An unquoted empty field is missing. A quoted one is the empty string.
//! - A record ends with LF or CR LF; more CRs before the LF count as one. If the first line ends with a lone CR, every record
//!   must end with CR. The other line end outside quotes is an error. The last record needs no line end.
//! - An empty line is skipped. In a file with one column this loses an empty value without an error, unless it is
//!   written as `""`.
//! - Every record has as many fields as the header; [`ShortRecords`] can allow fewer. A delimiter at the end of a line opens one
//!   more field, also in the header. If every data record has one more field than the header, empty and unquoted, that field is
//!   dropped. [`ExtraFieldPlace`] can say that the first field is the one without a name.
//! - A record of delimiters only is a row of missing values, unless [`BlankRecords`] skips it.
//! - A record that repeats the header is a row, unless [`RepeatedHeaders`] skips it.
//! - A Ctrl-Z (0x1A) at the end of the file marks its end, as in DOS; see `end_mark`.
//! - A position is an offset in bytes and a line number, where CR CR LF ends one line. In a file that is converted to UTF-8, the offset is
//!   one in the converted text.
//! - A first line like `sep=;` names the delimiter and is not a record.
//! - Lines above the header that begin with `#` are comments or the header, depending on their number of fields; see `preamble`.
//!   A file in which such a line may be both is rejected. A configured comment character skips lines everywhere outside quotes.
//! - If no delimiter is configured, it is detected from the first records; see `delimiter`. The file is then rejected if another
//!   common delimiter divides the header into more columns, and the first records evenly. With a configured delimiter it is
//!   rejected only if the header stays one column. Quoted names, and files without a header, are not checked.
//! - Single quotes around the text fields reject the file, unless the quote is configured otherwise.
//! - A backslash is data, unless an escape is configured or detected. It is detected if the first records are broken without
//!   escapes, and all of them are valid with them; it then escapes quotes within quotes. A configured escape makes the next
//!   character literal, in and outside quotes, but an unquoted `\N` stays as it is.
//! - All decisions from the first 64 KiB are part of the [`CsvDialect`] for later passes. A later record that disagrees is an
//!   error.
//! - Lines at the end are skipped if a setting gives their number; see `footer`.
//! - If bad records may be rejected, two faults reject only the record: another number of fields than the header, and text
//!   after a closing quote. The latter record ends with its line. Every other fault rejects the file.
//! - Configured null values are missing in every column, text included, unless they are quoted.

mod cursor;
mod delimiter;
mod dialect;
mod division;
mod escape;
mod fault;
mod footer;
mod preamble;
mod reading;
mod record;
mod rows;
mod search;
mod sniff;
mod state;

use std::collections::VecDeque;
use std::ops::Range;

use crate::end_mark::EndMark;
use crate::extract::RecordFinder;
use crate::limits::ReadLimits;
use crate::reject::Reject;
use crate::text::{TextPiece, TextReader};
use crate::{Batch, Result};
pub use dialect::{
    Backslash, BlankRecords, CsvDialect, Detected, ExtraField, ExtraFieldPlace, RepeatedHeaders, ShortRecords,
};
use footer::Footer;
use record::RecordReader;

const ENCODING_HINT: &str = "save the file as UTF-8, or as UTF-16 with a byte order mark, or set CSV_ENCODING to its encoding, such as windows-1252";

/// Decodes one file. After an error the decoder must not be used again.
#[derive(Debug)]
pub struct CsvDecoder {
    text: TextReader,
    end_mark: EndMark,
    /// `None` if the file has no footer.
    footer: Option<Footer>,
    records: RecordReader,
}

impl CsvDecoder {
    /// A decoder for one file of a dialect.
    pub fn new(dialect: CsvDialect, limits: ReadLimits) -> Self {
        let text = TextReader::new(dialect.encoding);
        let footer_lines = dialect.skip_footer_lines;
        let footer = (footer_lines > 0).then(|| Footer::new(footer_lines, limits.max_record_bytes));
        Self { text, end_mark: EndMark::default(), footer, records: RecordReader::new(dialect, limits) }
    }

    /// Decodes the next bytes of the file. Take the batches after each call.
    ///
    /// The batches of one call use about twice the memory of the chunk, and more if fields are tiny.
    pub fn push(&mut self, chunk: &[u8]) -> Result<()> {
        self.read(chunk, false)
    }

    /// Ends the file. Take the last batches after this call.
    pub fn finish(&mut self) -> Result<()> {
        self.read(&[], true)?;
        let footer_bytes = match &mut self.footer {
            None => 0,
            Some(footer) => {
                let (text, footer_bytes) = footer.finish();
                self.records.push(&text)?;
                self.records.check_footer(footer_bytes)?
            }
        };
        self.records.finish()?;
        self.records.footer_ended(footer_bytes as u64);
        Ok(())
    }

    fn read(&mut self, mut chunk: &[u8], is_last: bool) -> Result<()> {
        loop {
            match self.text.next(&mut chunk, is_last) {
                Ok(Some(TextPiece::Start { mark_bytes, is_converted })) => self.records.start(mark_bytes, is_converted),
                Ok(Some(TextPiece::Text(text))) => {
                    let (held, text) = self.end_mark.split(text);
                    for text in [held.as_slice(), text].into_iter().filter(|text| !text.is_empty()) {
                        push_lines(&mut self.footer, &mut self.records, text)?;
                    }
                }
                Ok(None) => return Ok(()),
                Err(invalid) => {
                    // An error in the text before the invalid byte comes first.
                    self.records.end_sample(false)?;
                    let held_bytes = self.footer.as_ref().map_or(0, Footer::held_bytes) + self.end_mark.held_bytes();
                    return Err(invalid.into_error(
                        self.records.cursor.offset + held_bytes,
                        self.records.cursor.record,
                        ENCODING_HINT,
                    ));
                }
            }
        }
    }

    /// Whether the last lines of the file are skipped, or the file ends with a mark.
    pub(crate) fn has_footer(&self) -> bool {
        self.footer.is_some() || self.end_mark.held_bytes() > 0
    }

    /// The number of lines read so far, complete after the end of the file. Each additional CR before a CR LF counts as a line end.
    pub(crate) fn lines(&self) -> u64 {
        self.records.cursor.lines()
    }

    /// The fields of the header without quotes, before they become column names; empty texts without a header row. `None` until it
    /// is read, and for an empty file.
    pub fn header(&self) -> Option<&[Vec<u8>]> {
        self.records.rows.header()
    }

    /// The dialect with all detected details; complete after the end of the file.
    pub fn dialect(&self) -> CsvDialect {
        CsvDialect { encoding: self.text.encoding(), ..self.records.dialect.clone() }
    }

    /// The next full batch, or the last one after the end of the file.
    pub fn take_batch(&mut self) -> Option<Batch> {
        self.records.rows.take_batch()
    }

    /// The records that were rejected since the last call.
    pub fn take_rejects(&mut self) -> Vec<Reject> {
        self.records.rejects.take()
    }

    /// Sets, before the first byte, the starts of the records to find. The header, the skipped lines above it and those at the
    /// end are found too.
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

/// Reads the text that is above the footer.
fn push_lines(footer: &mut Option<Footer>, records: &mut RecordReader, text: &[u8]) -> Result<()> {
    let Some(footer) = footer else { return records.push(text) };
    let (text, held) = footer.push(text);
    records.push(&text)?;
    records.check_footer(held)
}

#[cfg(test)]
mod tests;

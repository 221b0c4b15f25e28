//! Faults of records and skipped lines: the parts of the record reader that few files need.

use memchr::{memchr, memchr2};

use super::cursor::LineEnd;
use super::footer::Unskippable;
use super::record::{MAX_HEADER_BYTES, RecordReader};
use super::state::State;
use crate::reject::RejectCode;
use crate::{Error, ErrorKind, Result};

impl RecordReader {
    /// Skips the rest of a bad record. It ends with its line, quoted or not.
    pub(super) fn skip_bad_record(&mut self, text: &[u8]) -> Result<usize> {
        let line_end = if self.cursor.line_end == LineEnd::Cr { b'\r' } else { b'\n' };
        let end = memchr(line_end, text);
        let skipped = end.unwrap_or(text.len());
        self.cursor.offset += skipped as u64;
        self.check_size()?;
        if end.is_none() {
            return Ok(skipped);
        }
        self.end_line(line_end, false)?;
        Ok(skipped + 1)
    }

    /// The state at the start of a line.
    pub(super) fn line_start(&self) -> State {
        if self.lines_to_skip > 0 { State::SkippedLine } else { State::RecordStart }
    }

    /// Starts an unquoted field or a comment.
    pub(super) fn start_special(&mut self, first: u8, at_record_start: bool) {
        self.state = match self.escape {
            _ if at_record_start && first == self.comment => State::SkippedLine,
            Some(_) => State::Escapable,
            None => State::Unquoted,
        };
    }

    /// Reads a line that contains no record, up to its end.
    pub(super) fn skip_line(&mut self, text: &[u8]) -> Result<usize> {
        let end = match self.cursor.line_end {
            LineEnd::Unknown => memchr2(b'\n', b'\r', text),
            LineEnd::Lf => memchr(b'\n', text),
            LineEnd::Cr => memchr(b'\r', text),
        };
        let skipped = end.unwrap_or(text.len());
        self.cursor.offset += skipped as u64;
        self.check_size()?;
        let Some(end) = end else { return Ok(skipped) };
        self.end_line(text[end], true)?;
        Ok(end + 1)
    }

    /// Counts skipped lines above the header, and reports them to the finder: a file of rejected records needs them.
    pub(super) fn skipped(&mut self, lines: u64) {
        if self.lines_to_skip == 0 {
            return;
        }
        self.lines_to_skip = self.lines_to_skip.saturating_sub(lines);
        self.state = self.line_start();
        if let Some(finder) = &mut self.finder {
            finder.record_ended(self.cursor.record.byte..self.cursor.offset, true);
        }
    }

    /// Returns the value, or the error for last lines that cannot be skipped. An error in the text above them comes first.
    pub(super) fn check_footer<T>(&mut self, skipped: Result<T, Unskippable>) -> Result<T> {
        match skipped {
            Ok(value) => Ok(value),
            Err(Unskippable(message)) => {
                self.end_sample(false)?;
                Err(self.invalid(message))
            }
        }
    }

    /// Ends the skipped lines at the end of the file. They belong to what the header needs to be read again.
    pub(super) fn footer_ended(&mut self, bytes: u64) {
        if let Some(finder) = self.finder.as_mut().filter(|_| bytes > 0) {
            finder.record_ended(self.cursor.offset..self.cursor.offset + bytes, true);
        }
    }

    #[cold]
    pub(super) fn reject(&mut self, code: RejectCode, error: &Error) -> Result<()> {
        self.rows.discard_record();
        self.rejects.add(code, error, self.cursor.record)
    }

    /// The error for a quote that is open at the end of the file.
    #[cold]
    pub(super) fn never_closed(&self) -> Error {
        let (field, hint) = (self.rows.open_field(), self.escape_hint());
        let cut = match self.dialect.skip_footer_lines {
            0 => "",
            _ => "; the last lines that CSV_SKIP_FOOTER_LINES skips may begin within it",
        };
        self.invalid(format!("the quote that opens field {field} is never closed{hint}{cut}"))
    }

    /// What to say about escapes in an error of the open record.
    pub(super) fn escape_hint(&self) -> &'static str {
        self.rows.escape_hint()
    }

    #[cold]
    pub(super) fn check_long_record(&self) -> Result<()> {
        let (what, limit) = match self.rows.header() {
            None if self.cursor.record.record == 0 => ("header", self.max_record_bytes.min(MAX_HEADER_BYTES)),
            None | Some(_) => ("record", self.max_record_bytes),
        };
        let is_empty_line = matches!(self.state, State::AfterCr { is_empty_line: true, .. });
        if self.cursor.record_bytes() <= limit as u64 || is_empty_line {
            return Ok(());
        }
        let what = if matches!(self.state, State::SkippedLine) { "line" } else { what };
        let mut message = format!("the {what} is longer than {limit} bytes");
        if matches!(self.state, State::Quoted | State::AfterEscapeInQuotes) {
            message += &format!("; the quote that opens field {} may never be closed", self.rows.open_field());
        }
        Err(self.invalid(message))
    }

    #[cold]
    pub(super) fn invalid(&self, message: impl Into<String>) -> Error {
        Error::new(ErrorKind::Invalid, message).at(self.cursor.record)
    }
}

//! Divides valid UTF-8 into records and fields: a state machine that runs over whole stretches of data at a time.
//!
//! The records and the first error of a file do not depend on its chunks: limits are checked at each delimiter, each
//! line end and the end of each chunk, in the order of the bytes.

use memchr::memchr;

use super::cursor::{Cursor, LineEnd};
use super::dialect::CsvDialect;
use super::division::Sample;
use super::rows::{FieldEnd, RecordEnd, Rows};
use super::search::{ends_field, field_end};
use super::state::{Complexity, Escape, NO_BYTE, State};
use super::{delimiter, sniff};
use crate::extract::RecordFinder;
use crate::limits::ReadLimits;
use crate::reject::{RejectCode, Rejects};
use crate::{Error, Result};

/// The longest header, even if the limit for records is higher.
pub(super) const MAX_HEADER_BYTES: usize = 1024 * 1024;

/// Divides text into records and collects them in batches.
#[derive(Debug)]
pub(super) struct RecordReader {
    /// The dialect; complete once the sample has ended.
    pub(super) dialect: CsvDialect,
    pub(super) delimiter: u8,
    pub(super) quote: u8,
    pub(super) complexity: Complexity,
    pub(super) escape: Option<Escape>,
    pub(super) comment: u8,
    /// The number of lines above the header that are still to be skipped.
    pub(super) lines_to_skip: u64,
    /// The first text, until the dialect is complete.
    sample: Option<Vec<u8>>,
    pub(super) max_record_bytes: usize,
    /// A record up to this length is within every limit.
    short_record_bytes: u64,
    pub(super) state: State,
    pub(super) cursor: Cursor,
    pub(super) rows: Rows,
    pub(super) rejects: Rejects,
    pub(super) finder: Option<RecordFinder>,
    /// The error to report when the open record ends, which is bad.
    pub(super) fault: Option<Error>,
}

impl RecordReader {
    pub(super) fn new(dialect: CsvDialect, limits: ReadLimits) -> Self {
        let mut reader = Self {
            delimiter: b',',
            quote: NO_BYTE,
            complexity: Complexity::Plain,
            escape: None,
            comment: NO_BYTE,
            lines_to_skip: 0,
            sample: dialect.is_incomplete().then(Vec::new),
            max_record_bytes: limits.max_record_bytes,
            short_record_bytes: limits.max_record_bytes.min(MAX_HEADER_BYTES) as u64,
            state: State::RecordStart,
            cursor: Cursor::new(u64::from(!dialect.has_header)),
            rows: Rows::new(&dialect, limits.max_columns),
            rejects: Rejects::new(limits.rejects),
            finder: None,
            fault: None,
            dialect,
        };
        reader.follow_dialect();
        reader
    }

    /// Takes over the dialect, before the first record.
    fn follow_dialect(&mut self) {
        let dialect = &self.dialect;
        self.delimiter = dialect.delimiter.unwrap_or(b',');
        self.quote = dialect.quote.unwrap_or(NO_BYTE);
        self.escape = dialect.escape();
        self.comment = dialect.comment.unwrap_or(NO_BYTE);
        if self.escape == Some(Escape::Detected) {
            // A file of rejected records might not show that backslashes are escapes.
            self.rejects.turn_off();
        }
        let is_plain = self.escape.is_none() && dialect.comment.is_none();
        self.complexity = if is_plain { Complexity::Plain } else { Complexity::Special };
        self.lines_to_skip = dialect.skip_lines.unwrap_or(0) as u64;
        self.state = self.line_start();
        self.rows.follow(dialect);
    }

    /// Starts the text, after a byte order mark of so many bytes.
    pub(super) fn start(&mut self, mark_bytes: u64, is_converted: bool) {
        self.cursor.skip_mark(mark_bytes);
        if is_converted {
            // A rejected record could not be copied out of the file by its offset in the text.
            self.rejects.turn_off();
        }
    }

    /// Reads valid UTF-8 that does not end within a character.
    pub(super) fn push(&mut self, text: &[u8]) -> Result<()> {
        let Some(sample) = &mut self.sample else { return self.read(text) };
        let missing = delimiter::SAMPLE_BYTES - sample.len();
        let (sampled, rest) = text.split_at(missing.min(text.len()));
        sample.extend_from_slice(sampled);
        if sample.len() < delimiter::SAMPLE_BYTES {
            return Ok(());
        }
        self.end_sample(false)?;
        self.read(rest)
    }

    /// Completes the dialect from the text so far, unless it is complete, and reads that text.
    pub(super) fn end_sample(&mut self, is_whole_file: bool) -> Result<()> {
        let Some(text) = self.sample.take() else { return Ok(()) };
        let sample = Sample { text: &text, is_whole_file, start: self.cursor.record };
        self.dialect = sniff::complete(sample, &self.dialect)?;
        self.follow_dialect();
        self.read(&text)
    }

    /// Ends the last record and the last batch.
    pub(super) fn finish(&mut self) -> Result<()> {
        self.end_sample(true)?;
        match self.state {
            State::RecordStart | State::SkippedLine | State::AfterCr { is_empty_line: true, .. } => {}
            State::AfterCr { is_empty_line: false, .. } | State::BadRecord => self.end_record()?,
            State::FieldStart => self.end_last_field(FieldEnd::Missing)?,
            State::Unquoted | State::Escapable => self.end_last_field(FieldEnd::Unquoted)?,
            State::NullToken => {
                self.append_null_token();
                self.end_last_field(FieldEnd::Unquoted)?;
            }
            State::AfterQuote => self.end_last_field(FieldEnd::Quoted)?,
            State::Quoted | State::AfterEscapeInQuotes => return Err(self.never_closed()),
            State::AfterEscape => return Err(self.ends_after_escape()),
        }
        self.state = State::RecordStart;
        self.rows.end_batch();
        Ok(())
    }

    fn read(&mut self, text: &[u8]) -> Result<()> {
        let mut rest = text;
        while let Some(first) = rest.first() {
            // Each of these returns the number of bytes that it has read.
            let read = match self.state {
                State::RecordStart | State::FieldStart => self.start_field(*first)?,
                State::Unquoted => self.read_unquoted(rest)?,
                State::Quoted => self.read_quoted(rest)?,
                State::AfterQuote => self.after_quote(*first)?,
                State::AfterCr { crs, is_empty_line } => self.after_cr(*first, crs, is_empty_line)?,
                State::BadRecord => self.skip_bad_record(rest)?,
                State::SkippedLine => self.skip_line(rest)?,
                State::Escapable => self.read_escapable(rest)?,
                State::AfterEscapeInQuotes => self.after_escape_in_quotes(*first)?,
                State::AfterEscape => self.after_escape(*first)?,
                State::NullToken => self.after_null_token(*first),
            };
            rest = &rest[read..];
        }
        self.check_size()
    }

    #[inline]
    fn start_field(&mut self, first: u8) -> Result<usize> {
        self.check_size()?;
        let at_record_start = matches!(self.state, State::RecordStart);
        if first == self.quote {
            self.cursor.offset += 1;
            self.state = State::Quoted;
        } else if first == self.delimiter {
            self.cursor.offset += 1;
            self.end_field(FieldEnd::Missing)?;
            self.state = State::FieldStart;
        } else if first == b'\n' || first == b'\r' {
            if !at_record_start {
                self.end_field(FieldEnd::Missing)?;
            }
            self.end_line(first, at_record_start)?;
        } else if self.complexity == Complexity::Plain {
            self.state = State::Unquoted;
            return Ok(0);
        } else {
            self.start_special(first, at_record_start);
            return Ok(0);
        }
        Ok(1)
    }

    /// Reads unquoted fields up to the next quoted field, empty field or line end.
    #[inline]
    fn read_unquoted(&mut self, text: &[u8]) -> Result<usize> {
        let mut read = 0;
        loop {
            let rest = &text[read..];
            let end = field_end(rest, self.delimiter);
            let part = &rest[..end.unwrap_or(rest.len())];
            self.rows.append(part);
            self.cursor.offset += part.len() as u64;
            read += part.len();
            if end.is_none() {
                return Ok(read);
            }
            self.check_size()?;
            self.end_field(FieldEnd::Unquoted)?;
            self.after_field(text[read])?;
            read += 1;
            match (self.state, text.get(read)) {
                (State::FieldStart, Some(next)) if *next != self.quote && !ends_field(*next, self.delimiter) => {
                    self.state = State::Unquoted
                }
                _ => return Ok(read),
            }
        }
    }

    fn read_quoted(&mut self, text: &[u8]) -> Result<usize> {
        if let Some(escape) = self.escape {
            return self.read_escaped_quoted(text, escape);
        }
        let end = memchr(self.quote, text);
        let part = &text[..end.unwrap_or(text.len())];
        self.rows.append(part);
        self.cursor.offset += part.len() as u64;
        self.cursor.count_lines(part);
        if end.is_none() {
            return Ok(part.len());
        }
        self.check_size()?;
        self.cursor.offset += 1;
        self.state = State::AfterQuote;
        Ok(part.len() + 1)
    }

    fn after_quote(&mut self, byte: u8) -> Result<usize> {
        self.check_size()?;
        if byte == self.quote {
            self.check_doubled_quote()?;
            self.rows.append(&[byte]);
            self.cursor.offset += 1;
            self.state = State::Quoted;
        } else if ends_field(byte, self.delimiter) {
            self.end_field(FieldEnd::Quoted)?;
            self.after_field(byte)?;
        } else {
            let field = self.rows.open_field();
            let what = "has text after its closing quote; double the quotes that belong to the value";
            let hint = self.escape_hint();
            let error = self.invalid(format!("field {field} {what}{hint}"));
            if !self.may_reject() {
                return Err(self.marked(error));
            }
            self.fault = Some(error);
            self.state = State::BadRecord;
            return Ok(0);
        }
        Ok(1)
    }

    /// Reads the delimiter or the first byte of the line end after a field.
    #[inline]
    pub(super) fn after_field(&mut self, byte: u8) -> Result<()> {
        if byte == self.delimiter {
            self.cursor.offset += 1;
            self.state = State::FieldStart;
            return Ok(());
        }
        self.end_line(byte, false)
    }

    /// Reads the first byte of a line end: LF, or CR with or without LF after it.
    pub(super) fn end_line(&mut self, byte: u8, is_empty_line: bool) -> Result<()> {
        match (byte, self.cursor.line_end) {
            (b'\n', LineEnd::Cr) => Err(self.invalid(
                "a newline is outside quotes, but the first line ends with a lone carriage return; use one kind of line end",
            )),
            (b'\n', LineEnd::Unknown | LineEnd::Lf) => {
                self.cursor.line_end = LineEnd::Lf;
                self.cursor.offset += 1;
                self.next_line(1, is_empty_line)
            }
            (_, LineEnd::Cr) => {
                self.cursor.offset += 1;
                self.next_line(1, is_empty_line)
            }
            (_, LineEnd::Unknown | LineEnd::Lf) => {
                self.cursor.offset += 1;
                self.state = State::AfterCr { crs: 1, is_empty_line };
                Ok(())
            }
        }
    }

    /// Decides by the next byte what the CRs before it were.
    fn after_cr(&mut self, byte: u8, crs: u64, is_empty_line: bool) -> Result<usize> {
        if !is_empty_line {
            self.check_size()?;
        }
        match (byte, self.cursor.line_end) {
            (b'\n', _) => {
                self.cursor.line_end = LineEnd::Lf;
                self.cursor.count_crs(crs);
                self.cursor.offset += 1;
                self.next_line(1, is_empty_line)?;
                Ok(1)
            }
            (b'\r', _) => {
                self.cursor.offset += 1;
                self.state = State::AfterCr { crs: crs + 1, is_empty_line };
                Ok(1)
            }
            (_, LineEnd::Unknown) => {
                self.cursor.set_lone_cr();
                self.next_line(crs, is_empty_line)?;
                Ok(0)
            }
            (_, LineEnd::Lf | LineEnd::Cr) => Err(self.invalid(
                "a carriage return outside quotes is not followed by a newline; quote the field that contains it",
            )),
        }
    }

    fn next_line(&mut self, lines: u64, is_empty_line: bool) -> Result<()> {
        self.state = State::RecordStart;
        if is_empty_line {
            self.skipped(lines);
        } else {
            self.end_record()?;
        }
        self.cursor.next_line(lines);
        Ok(())
    }

    #[inline]
    pub(super) fn end_field(&mut self, end: FieldEnd) -> Result<()> {
        self.rows.end_field(end).map_err(|error| error.at(self.cursor.record))
    }

    fn end_last_field(&mut self, end: FieldEnd) -> Result<()> {
        self.end_field(end)?;
        self.end_record()
    }

    fn end_record(&mut self) -> Result<()> {
        let start = self.cursor.record;
        let may_reject = self.may_reject();
        let ended = match self.fault.take() {
            Some(error) => Err((RejectCode::AfterQuote, error)),
            None => self.rows.end_record(start).map_err(|error| (RejectCode::FieldCount, error.at(start))),
        };
        match ended {
            Ok(RecordEnd::Complete) => {}
            Ok(RecordEnd::Blank) => return Ok(()),
            Err((code, error)) if may_reject => self.reject(code, &error)?,
            Err((_, error)) => return Err(self.marked(error)),
        }
        if let Some(finder) = &mut self.finder {
            finder.record_ended(start.byte..self.cursor.offset, start.record == 0);
        }
        self.cursor.record.record += 1;
        Ok(())
    }

    fn marked(&self, error: Error) -> Error {
        if self.rows.header().is_some() { self.rejects.marked(error) } else { error }
    }

    /// Whether a bad record may be rejected alone. The one that decides the number of fields may not.
    pub(super) fn may_reject(&self) -> bool {
        self.rejects.is_on() && self.rows.header().is_some()
    }

    #[inline]
    pub(super) fn check_size(&self) -> Result<()> {
        match self.cursor.record_bytes() <= self.short_record_bytes {
            true => Ok(()),
            false => self.check_long_record(),
        }
    }
}

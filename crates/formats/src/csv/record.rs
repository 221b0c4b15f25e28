//! Valid UTF-8 as fields and records: a small state machine that runs over whole stretches of data at a time.
//!
//! Whatever the chunks, the same file gives the same records and the same first error: limits are checked at each mark and
//! at each chunk's end, in the order of the bytes.

use std::collections::VecDeque;
use std::ops::Range;

use memchr::{memchr, memchr_iter, memchr3};

use super::rows::{FieldTerminator, Rows};
use super::{CsvDialect, CsvLimits, delimiter};
use crate::reject::{Reject, RejectCode};
use crate::rejected::RejectedRecords;
use crate::text::TextSink;
use crate::{Batch, Error, ErrorKind, Position, Result};

/// Stands for no quote at all: no byte of valid UTF-8.
const NO_QUOTE: u8 = 0xff;
/// A header beyond this is no header, whatever a record may have.
const MAX_HEADER_BYTES: usize = 1024 * 1024;
/// How far a mark is looked for word by word.
const NEAR_BYTES: usize = 32;
const WORD_BYTES: usize = 8;

/// Where in a record the next byte stands.
#[derive(Debug, Clone, Copy)]
enum State {
    /// At the start of a line; nothing of a record was seen.
    RecordStart,
    /// After a delimiter.
    FieldStart,
    /// In a field without quotes, after its first byte.
    Unquoted,
    /// Between quotes.
    Quoted,
    /// After a quote that closes the field, unless another one follows.
    AfterQuote,
    /// After as many CRs, which are a line's end if LF follows; `is_blank` when there was nothing on the line.
    AfterReturn { returns: u64, is_blank: bool },
    /// In what follows the trouble in a bad record, up to its line's end.
    LeftOver,
}

/// What ends the records of this file; known once one has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LineEnd {
    Unknown,
    LineFeed,
    Return,
}

/// Cuts text into records and collects them in batches.
#[derive(Debug)]
pub(super) struct RecordReader {
    delimiter: u8,
    quote: u8,
    /// The first text, as long as the delimiter is not known.
    sample: Option<Vec<u8>>,
    max_record_bytes: usize,
    /// What a record may have without another look: no limit is narrower.
    short_record_bytes: u64,
    state: State,
    line_end: LineEnd,
    /// Bytes read so far.
    offset: u64,
    line: u64,
    /// CRs between quotes before it is known whether they end lines.
    uncounted_returns: u64,
    /// The record that is being read.
    start: Position,
    rows: Rows,
    rejected: RejectedRecords,
    /// What is wrong with the record that is being read.
    trouble: Option<Error>,
}

impl TextSink for RecordReader {
    const ENCODING_HINT: &'static str =
        "save the file as UTF-8, or as UTF-16 with a byte order mark, or say what it is by CSV_ENCODING";

    fn push(&mut self, text: &[u8]) -> Result<()> {
        let Some(sample) = &mut self.sample else { return self.read(text) };
        let room = delimiter::SAMPLE_BYTES - sample.len();
        let (now, later) = text.split_at(room.min(text.len()));
        sample.extend_from_slice(now);
        if sample.len() < delimiter::SAMPLE_BYTES {
            return Ok(());
        }
        self.decide(false)?;
        self.read(later)
    }

    fn finalize(&mut self) -> Result<()> {
        self.decide(false)
    }

    fn skip_mark(&mut self, mark_bytes: u64) {
        self.offset += mark_bytes;
        self.start.byte = self.offset;
    }

    fn keep_every_record(&mut self) {
        self.rejected.keep_every_record();
    }

    fn offset(&self) -> u64 {
        self.offset
    }

    fn position(&self) -> Position {
        self.start
    }
}

impl RecordReader {
    pub(super) fn new(dialect: &CsvDialect, limits: CsvLimits) -> Self {
        Self {
            delimiter: dialect.delimiter.unwrap_or(b','),
            quote: dialect.quote.unwrap_or(NO_QUOTE),
            sample: dialect.delimiter.is_none().then(Vec::new),
            max_record_bytes: limits.max_record_bytes,
            short_record_bytes: limits.max_record_bytes.min(MAX_HEADER_BYTES) as u64,
            state: State::RecordStart,
            line_end: LineEnd::Unknown,
            offset: 0,
            line: 1,
            uncounted_returns: 0,
            start: Position { record: u64::from(!dialect.has_header), line: 1, byte: 0 },
            rows: Rows::new(dialect, limits.max_columns),
            rejected: RejectedRecords::new(limits.max_rejects),
            trouble: None,
        }
    }

    pub(super) fn header(&self) -> Option<&[Vec<u8>]> {
        self.rows.header()
    }

    pub(super) fn take_batch(&mut self) -> Option<Batch> {
        self.rows.take_batch()
    }

    /// The records that were left out since this was last asked.
    pub(super) fn take_rejects(&mut self) -> Vec<Reject> {
        self.rejected.take_rejects()
    }

    /// Asks where the header, and the records that begin at these bytes, end.
    pub(super) fn watch(&mut self, starts: VecDeque<u64>) {
        self.rejected.watch(starts);
    }

    /// Those of the watched records that have ended since this was last asked.
    pub(super) fn take_ended(&mut self) -> Vec<Range<u64>> {
        self.rejected.take_ended()
    }

    /// What the records that wait, and the one that is being read, take in memory.
    #[cfg(test)]
    pub(super) fn held_bytes(&self) -> usize {
        self.rows.held_bytes()
    }

    /// What divides the fields, once it is known.
    pub(super) fn delimiter(&self) -> u8 {
        self.delimiter
    }

    /// Finds the delimiter, if it is still to be found, from the text so far, which may be all there is, and reads that.
    pub(super) fn decide(&mut self, is_whole: bool) -> Result<()> {
        let Some(sample) = self.sample.take() else { return Ok(()) };
        self.delimiter = delimiter::find(&sample, is_whole, self.quote).map_err(|error| error.at(self.start))?;
        self.rows.set_delimiter(self.delimiter);
        self.read(&sample)
    }

    fn read(&mut self, text: &[u8]) -> Result<()> {
        let mut rest = text;
        while let Some(first) = rest.first() {
            let usage = match self.state {
                State::RecordStart | State::FieldStart => self.start_field(*first)?,
                State::Unquoted => self.read_unquoted(rest)?,
                State::Quoted => self.read_quoted(rest)?,
                State::AfterQuote => self.after_quote(*first)?,
                State::AfterReturn { returns, is_blank } => self.after_return(*first, returns, is_blank)?,
                State::LeftOver => self.skip_left_over(rest)?,
            };
            rest = &rest[usage..];
        }
        self.check_size()
    }

    /// Ends the last record, and with it the last batch.
    pub(super) fn finish(&mut self) -> Result<()> {
        self.decide(true)?;
        match self.state {
            State::RecordStart | State::AfterReturn { is_blank: true, .. } => {}
            State::AfterReturn { is_blank: false, .. } | State::LeftOver => self.end_record()?,
            State::FieldStart => self.end_last_field(FieldTerminator::Missing)?,
            State::Unquoted => self.end_last_field(FieldTerminator::Unquoted)?,
            State::AfterQuote => self.end_last_field(FieldTerminator::Quoted)?,
            State::Quoted => {
                return Err(
                    self.broken(format!("the quote that opens field {} is never closed", self.rows.open_field()))
                );
            }
        }
        self.state = State::RecordStart;
        self.rows.hand_on();
        Ok(())
    }

    /// Looks at a field's first byte; gives how many bytes were used, as all of these do.
    #[inline]
    fn start_field(&mut self, first: u8) -> Result<usize> {
        self.check_size()?;
        let at_record_start = matches!(self.state, State::RecordStart);
        if first == self.quote {
            self.offset += 1;
            self.state = State::Quoted;
        } else if first == self.delimiter {
            self.offset += 1;
            self.end_field(FieldTerminator::Missing)?;
            self.state = State::FieldStart;
        } else if first == b'\n' || first == b'\r' {
            if !at_record_start {
                self.end_field(FieldTerminator::Missing)?;
            }
            self.end_line(first, at_record_start)?;
        } else {
            self.state = State::Unquoted;
            return Ok(0);
        }
        Ok(1)
    }

    /// Reads fields without quotes, as long as one follows the other.
    #[inline]
    fn read_unquoted(&mut self, text: &[u8]) -> Result<usize> {
        let mut usage = 0;
        loop {
            let rest = &text[usage..];
            let end = self.find_mark(rest);
            let part = &rest[..end.unwrap_or(rest.len())];
            self.rows.append(part);
            self.offset += part.len() as u64;
            usage += part.len();
            if end.is_none() {
                return Ok(usage);
            }
            self.check_size()?;
            self.end_field(FieldTerminator::Unquoted)?;
            self.after_field(text[usage])?;
            usage += 1;
            match (self.state, text.get(usage)) {
                (State::FieldStart, Some(next)) if *next != self.quote && !self.is_mark(*next) => {
                    self.state = State::Unquoted
                }
                _ => return Ok(usage),
            }
        }
    }

    #[inline]
    fn is_mark(&self, byte: u8) -> bool {
        byte == self.delimiter || byte == b'\n' || byte == b'\r'
    }

    /// Finds what ends a field without quotes. Most fields are shorter than a vector search pays for.
    #[inline]
    fn find_mark(&self, text: &[u8]) -> Option<usize> {
        let (words, _) = text[..text.len().min(NEAR_BYTES)].as_chunks::<WORD_BYTES>();
        for (index, word) in words.iter().enumerate() {
            let word = u64::from_le_bytes(*word);
            let found = bytes_like(word, self.delimiter) | bytes_like(word, b'\n') | bytes_like(word, b'\r');
            if found != 0 {
                return Some(index * WORD_BYTES + found.trailing_zeros() as usize / 8);
            }
        }
        let seen = words.len() * WORD_BYTES;
        let rest = &text[seen..];
        let mark = match rest.len() < WORD_BYTES {
            true => rest.iter().position(|byte| self.is_mark(*byte)),
            false => memchr3(self.delimiter, b'\n', b'\r', rest),
        };
        mark.map(|index| seen + index)
    }

    fn read_quoted(&mut self, text: &[u8]) -> Result<usize> {
        let end = memchr(self.quote, text);
        let part = &text[..end.unwrap_or(text.len())];
        self.rows.append(part);
        self.offset += part.len() as u64;
        self.count_lines(part);
        if end.is_none() {
            return Ok(part.len());
        }
        self.check_size()?;
        self.offset += 1;
        self.state = State::AfterQuote;
        Ok(part.len() + 1)
    }

    fn after_quote(&mut self, byte: u8) -> Result<usize> {
        self.check_size()?;
        if byte == self.quote {
            self.rows.append(&[byte]);
            self.offset += 1;
            self.state = State::Quoted;
        } else if byte == self.delimiter || byte == b'\n' || byte == b'\r' {
            self.end_field(FieldTerminator::Quoted)?;
            self.after_field(byte)?;
        } else {
            let error = self.broken(format!(
                "field {} goes on after its closing quote; double the quotes that belong to the value",
                self.rows.open_field()
            ));
            if !self.may_reject() {
                return Err(error);
            }
            self.trouble = Some(error);
            self.state = State::LeftOver;
            return Ok(0);
        }
        Ok(1)
    }

    /// Skips the rest of a bad record: it ends with its line, whatever quotes stand there.
    fn skip_left_over(&mut self, text: &[u8]) -> Result<usize> {
        let line_end = if self.line_end == LineEnd::Return { b'\r' } else { b'\n' };
        let end = memchr(line_end, text);
        let skipped = end.unwrap_or(text.len());
        self.offset += skipped as u64;
        self.check_size()?;
        if end.is_none() {
            return Ok(skipped);
        }
        self.end_line(line_end, false)?;
        Ok(skipped + 1)
    }

    /// Goes over the delimiter or line end that has ended a field.
    #[inline]
    fn after_field(&mut self, mark: u8) -> Result<()> {
        if mark == self.delimiter {
            self.offset += 1;
            self.state = State::FieldStart;
            return Ok(());
        }
        self.end_line(mark, false)
    }

    /// Goes over the first byte of a line end: LF, or CR with or without LF behind it.
    fn end_line(&mut self, mark: u8, is_blank: bool) -> Result<()> {
        match (mark, self.line_end) {
            (b'\n', LineEnd::Return) => Err(self.broken(
                "a newline stands outside quotes, but the header ends with a lone carriage return; use one kind of line end",
            )),
            (b'\n', LineEnd::Unknown | LineEnd::LineFeed) => {
                self.line_end = LineEnd::LineFeed;
                self.offset += 1;
                self.next_line(1, is_blank)
            }
            (_, LineEnd::Return) => {
                self.offset += 1;
                self.next_line(1, is_blank)
            }
            (_, LineEnd::Unknown | LineEnd::LineFeed) => {
                self.offset += 1;
                self.state = State::AfterReturn { returns: 1, is_blank };
                Ok(())
            }
        }
    }

    /// Decides what the CRs before this byte were.
    fn after_return(&mut self, byte: u8, returns: u64, is_blank: bool) -> Result<usize> {
        if !is_blank {
            self.check_size()?;
        }
        match (byte, self.line_end) {
            (b'\n', _) => {
                self.line_end = LineEnd::LineFeed;
                self.offset += 1;
                self.next_line(1, is_blank)?;
                Ok(1)
            }
            (b'\r', _) => {
                self.offset += 1;
                self.state = State::AfterReturn { returns: returns + 1, is_blank };
                Ok(1)
            }
            (_, LineEnd::Unknown) => {
                self.line_end = LineEnd::Return;
                self.line += self.uncounted_returns;
                self.next_line(returns, is_blank)?;
                Ok(0)
            }
            (_, LineEnd::LineFeed | LineEnd::Return) => Err(self.broken(
                "a carriage return stands outside quotes without a newline behind it; quote the field it belongs to",
            )),
        }
    }

    /// Begins the next record behind a line end.
    fn next_line(&mut self, lines: u64, is_blank: bool) -> Result<()> {
        if !is_blank {
            self.end_record()?;
        }
        self.line += lines;
        self.start.line = self.line;
        self.start.byte = self.offset;
        self.state = State::RecordStart;
        Ok(())
    }

    #[inline]
    fn end_field(&mut self, ending: FieldTerminator) -> Result<()> {
        self.rows.end_field(ending).map_err(|error| error.at(self.start))
    }

    fn end_last_field(&mut self, ending: FieldTerminator) -> Result<()> {
        self.end_field(ending)?;
        self.end_record()
    }

    fn end_record(&mut self) -> Result<()> {
        let is_header = self.start.record == 0;
        let may_reject = self.may_reject();
        let ended = match self.trouble.take() {
            Some(error) => Err((RejectCode::AfterQuote, error)),
            None => self.rows.end_record(self.start).map_err(|error| (RejectCode::FieldCount, error.at(self.start))),
        };
        match ended {
            Ok(()) => {}
            Err((code, error)) if may_reject => self.reject(code, error)?,
            Err((_, error)) => return Err(error),
        }
        self.rejected.ended(self.start.byte..self.offset, is_header);
        self.start.record += 1;
        Ok(())
    }

    /// Whether a bad record may be left out: never the one that says how many fields there are.
    fn may_reject(&self) -> bool {
        self.rejected.may_reject() && self.rows.header().is_some()
    }

    #[cold]
    fn reject(&mut self, code: RejectCode, error: Error) -> Result<()> {
        self.rows.discard_record();
        self.rejected.reject(code, &error, self.start)
    }

    /// Counts the lines that a part of a quoted field begins.
    fn count_lines(&mut self, part: &[u8]) {
        self.line += memchr_iter(b'\n', part).count() as u64;
        match self.line_end {
            LineEnd::LineFeed => {}
            LineEnd::Return => self.line += memchr_iter(b'\r', part).count() as u64,
            LineEnd::Unknown => self.uncounted_returns += memchr_iter(b'\r', part).count() as u64,
        }
    }

    #[inline]
    fn check_size(&self) -> Result<()> {
        let size_bytes = self.offset - self.start.byte;
        if size_bytes <= self.short_record_bytes {
            return Ok(());
        }
        self.check_long()
    }

    #[cold]
    fn check_long(&self) -> Result<()> {
        let size_bytes = self.offset - self.start.byte;
        let (what, limit) = match self.rows.header() {
            None if self.start.record > 0 => ("record", self.max_record_bytes),
            None => ("header", self.max_record_bytes.min(MAX_HEADER_BYTES)),
            Some(_) => ("record", self.max_record_bytes),
        };
        if size_bytes <= limit as u64 || matches!(self.state, State::AfterReturn { is_blank: true, .. }) {
            return Ok(());
        }
        Err(self.broken(match self.state {
            State::Quoted => {
                format!(
                    "the {what} is longer than {limit} bytes; the quote that opens field {} may never be closed",
                    self.rows.open_field()
                )
            }
            State::RecordStart
            | State::FieldStart
            | State::Unquoted
            | State::AfterQuote
            | State::AfterReturn { .. }
            | State::LeftOver => format!("the {what} is longer than {limit} bytes"),
        }))
    }

    #[cold]
    fn broken(&self, message: impl Into<String>) -> Error {
        Error::new(ErrorKind::Invalid, message).at(self.start)
    }
}

/// The highest bit of each byte of a word that is like this one. Above the lowest such byte others may be marked too: a borrow
/// goes from byte to byte (Hacker's Delight, 6-1).
#[inline]
fn bytes_like(word: u64, byte: u8) -> u64 {
    const LOW: u64 = u64::from_le_bytes([1; WORD_BYTES]);
    const HIGH: u64 = LOW << 7;
    let differences = word ^ (LOW * u64::from(byte));
    differences.wrapping_sub(LOW) & !differences & HIGH
}

//! Valid UTF-8 as records: finds where each object begins and ends, in one pass whatever the chunks, and holds no more than
//! one of them.
//!
//! Only strings and brackets are looked at here; what is between them is judged when the record is whole.

use std::collections::VecDeque;
use std::ops::Range;

use memchr::{memchr, memchr_iter, memchr2};

use super::JsonLimits;
use super::record::Rows;
use crate::reject::{Reject, RejectCode};
use crate::rejected::RejectedRecords;
use crate::schema::value::json::MAX_DEPTH;
use crate::text::TextSink;
use crate::{Batch, Error, ErrorKind, Position, Result};

/// A buffer above this is given back once its record is read.
const KEPT_BYTES: usize = 1024 * 1024;

/// What may come next outside of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// An array's bracket or the first record.
    Start,
    /// A record, or the end of the file.
    BetweenRecords,
    /// The array's first record or its end.
    ArrayStart,
    /// A comma or the array's end.
    AfterElement,
    /// A record.
    AfterComma,
    /// Nothing.
    AfterArray,
}

/// Where within a record the next byte stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Inside {
    Structure,
    String,
    /// In a string, after a backslash.
    Escape,
}

/// The brackets that are open; a set bit is a square one, the innermost is the lowest.
#[derive(Debug, Clone, Copy, Default)]
struct Nesting {
    squares: u128,
    depth: usize,
}

/// Cuts text into records.
#[derive(Debug)]
pub(super) struct FrameReader {
    max_record_bytes: usize,
    place: Place,
    /// Set within a record.
    inside: Option<Inside>,
    nesting: Nesting,
    /// The beginning of the record that earlier chunks brought.
    held: Vec<u8>,
    /// Bytes read so far.
    offset: u64,
    /// The line of the next byte.
    line: u64,
    /// The record that is being read, or was read last.
    start: Position,
    rows: Rows,
    /// Set once the first record has shown that each ends on the line on which it begins.
    is_lines: bool,
    /// What is wrong with the line that is being gone over, where its record has shown to be bad.
    trouble: Option<Error>,
    rejected: RejectedRecords,
}

impl TextSink for FrameReader {
    const ENCODING_HINT: &'static str = "save the file as UTF-8, or as UTF-16 with a byte order mark";

    fn finalize(&mut self) -> Result<()> {
        Ok(())
    }

    fn push(&mut self, text: &[u8]) -> Result<()> {
        let mut rest = text;
        while !rest.is_empty() {
            let usage = match (&self.trouble, self.inside) {
                (Some(_), _) => self.skip_line(rest)?,
                (None, Some(inside)) => self.read_record(rest, inside)?,
                (None, None) => self.read_between(rest)?,
            };
            rest = &rest[usage..];
        }
        Ok(())
    }

    fn skip_mark(&mut self, mark_bytes: u64) {
        self.offset += mark_bytes;
    }

    fn keep_every_record(&mut self) {
        self.rejected.keep_every_record();
    }

    fn offset(&self) -> u64 {
        self.offset
    }

    fn position(&self) -> Position {
        match self.inside.is_some() || self.trouble.is_some() {
            true => self.start,
            false => Position { record: self.start.record + 1, line: self.line, byte: self.offset },
        }
    }
}

impl FrameReader {
    pub(super) fn new(limits: JsonLimits) -> Self {
        Self::of(limits, Rows::new(limits.max_columns))
    }

    pub(super) fn with_keys(keys: &[String], limits: JsonLimits) -> Self {
        Self::of(limits, Rows::with_keys(keys))
    }

    fn of(limits: JsonLimits, rows: Rows) -> Self {
        Self {
            max_record_bytes: limits.max_record_bytes,
            place: Place::Start,
            inside: None,
            nesting: Nesting::default(),
            held: Vec::new(),
            offset: 0,
            line: 1,
            start: Position::default(),
            rows,
            is_lines: false,
            trouble: None,
            rejected: RejectedRecords::new(limits.max_rejects),
        }
    }

    pub(super) fn take_rejects(&mut self) -> Vec<Reject> {
        self.rejected.take_rejects()
    }

    pub(super) fn watch(&mut self, starts: VecDeque<u64>) {
        self.rejected.watch(starts);
    }

    pub(super) fn take_ended(&mut self) -> Vec<Range<u64>> {
        self.rejected.take_ended()
    }

    pub(super) fn keys(&self) -> &[String] {
        self.rows.keys()
    }

    pub(super) fn take_batch(&mut self) -> Option<Batch> {
        self.rows.take_batch()
    }

    /// What the records that wait, and the one that is being read, take in memory.
    #[cfg(test)]
    pub(super) fn held_bytes(&self) -> usize {
        self.held.capacity() + self.rows.held_bytes()
    }

    /// Ends the file, and with it the last batch.
    pub(super) fn finish(&mut self) -> Result<()> {
        if self.inside.is_some() && self.ends_bad_records_with_lines() {
            self.trouble = Some(self.broken("the file ends within the record"));
        }
        if let Some(error) = self.trouble.take() {
            self.reject(error, self.offset)?;
        } else if self.inside.is_some() {
            let what = if self.inside == Some(Inside::Structure) { "an object or array" } else { "a string" };
            return Err(self.broken(format!("the file ends within the record: {what} is never closed")));
        }
        match self.place {
            Place::Start | Place::BetweenRecords | Place::AfterArray => {}
            Place::ArrayStart | Place::AfterElement | Place::AfterComma => {
                return Err(self.broken("the file ends before the array's closing bracket"));
            }
        }
        self.rows.hand_on();
        Ok(())
    }

    /// Goes over white space and one mark, or to a record's first byte; gives how many bytes were used.
    fn read_between(&mut self, text: &[u8]) -> Result<usize> {
        let blanks = text.iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r')).count();
        self.advance(&text[..blanks]);
        let Some(first) = text.get(blanks) else { return Ok(blanks) };
        if self.ends_bad_records_with_lines() && *first != b'{' {
            let error = self.broken("the record is no object");
            self.start = self.position();
            self.trouble = Some(error);
            return Ok(blanks);
        }
        self.place = match (self.place, first) {
            (Place::Start | Place::BetweenRecords, b'{') => self.begin_record(Place::BetweenRecords),
            (Place::ArrayStart | Place::AfterComma, b'{') => self.begin_record(Place::AfterElement),
            (Place::Start, b'[') => self.take_mark(Place::ArrayStart),
            (Place::AfterElement, b',') => self.take_mark(Place::AfterComma),
            (Place::ArrayStart | Place::AfterElement, b']') => self.take_mark(Place::AfterArray),
            (Place::AfterComma, b']') => return Err(self.broken("a comma stands before the array's closing bracket")),
            (Place::AfterElement, _) => return Err(self.broken("a comma or the array's closing bracket is missing")),
            (Place::AfterArray, _) => return Err(self.broken("something stands behind the array's closing bracket")),
            (Place::BetweenRecords, b',') => {
                return Err(self.broken("a comma stands between two records that are in no array"));
            }
            (Place::Start, _) => {
                return Err(self.broken("the file begins with neither an object nor an array of objects"));
            }
            (Place::BetweenRecords | Place::ArrayStart | Place::AfterComma, _) => {
                return Err(self.broken("the record is no object"));
            }
        };
        let used_mark = usize::from(self.inside.is_none());
        Ok(blanks + used_mark)
    }

    fn begin_record(&mut self, next: Place) -> Place {
        self.start = self.position();
        self.inside = Some(Inside::Structure);
        self.nesting = Nesting::default();
        next
    }

    fn take_mark(&mut self, next: Place) -> Place {
        self.offset += 1;
        next
    }

    /// Reads on within a record, to its end if it is there.
    fn read_record(&mut self, text: &[u8], inside: Inside) -> Result<usize> {
        let read = (self.offset - self.start.byte) as usize;
        let window = &text[..text.len().min(self.max_record_bytes - read)];
        if window.is_empty() {
            return Err(self.broken(format!("the record is longer than {} bytes", self.max_record_bytes)));
        }
        let by_line = self.ends_bad_records_with_lines();
        let line_end = if by_line { memchr(b'\n', window) } else { None };
        // A record of JSON lines ends before its line does.
        let window = &window[..line_end.unwrap_or(window.len())];
        let (usage, after) = match self.scan(window, inside) {
            Ok(scanned) => scanned,
            Err(error) if by_line => {
                self.trouble = Some(error);
                return Ok(0);
            }
            Err(error) => return Err(error),
        };
        self.inside = after;
        if after.is_some() {
            if line_end.is_some() {
                self.trouble = Some(self.broken("the line ends within the record"));
                return Ok(0);
            }
            self.held.extend_from_slice(&window[..usage]);
            self.advance(&window[..usage]);
            return Ok(usage);
        }
        let read = if self.held.is_empty() {
            self.rows.read(&window[..usage], self.start)
        } else {
            self.held.extend_from_slice(&window[..usage]);
            let read = self.rows.read(&self.held, self.start);
            self.held.clear();
            self.held.shrink_to(KEPT_BYTES);
            read
        };
        self.advance(&window[..usage]);
        match read {
            Ok(()) => self.rejected.ended(self.start.byte..self.offset, false),
            Err(error) if self.rejected.may_reject() => self.reject(error, self.offset)?,
            Err(error) => return Err(error),
        }
        if self.start.record == 1 {
            self.is_lines = self.place == Place::BetweenRecords && self.line == self.start.line;
        }
        Ok(usage)
    }

    /// Whether a bad record is left out together with the rest of its line.
    fn ends_bad_records_with_lines(&self) -> bool {
        self.is_lines && self.rejected.may_reject()
    }

    /// Goes over the rest of a bad record's line; the record ends with it.
    fn skip_line(&mut self, text: &[u8]) -> Result<usize> {
        let line_end = memchr(b'\n', text);
        let usage = line_end.map_or(text.len(), |at| at + 1);
        self.advance(&text[..usage]);
        if line_end.is_some()
            && let Some(error) = self.trouble.take()
        {
            self.reject(error, self.offset)?;
        } else if self.offset - self.start.byte > self.max_record_bytes as u64 {
            return Err(self.broken(format!("the record is longer than {} bytes", self.max_record_bytes)));
        }
        Ok(usage)
    }

    /// Leaves out the record that began at `start` and has ended.
    #[cold]
    fn reject(&mut self, error: Error, end: u64) -> Result<()> {
        self.inside = None;
        self.held.clear();
        self.rejected.ended(self.start.byte..end, false);
        self.rejected.reject(RejectCode::NotJson, &error.at(self.start), self.start)
    }

    /// Finds the record's end; gives how many bytes of it there are, and the state behind them unless it has ended.
    fn scan(&mut self, text: &[u8], mut inside: Inside) -> Result<(usize, Option<Inside>)> {
        let mut at = 0;
        while at < text.len() {
            match inside {
                Inside::Escape => {
                    at += 1;
                    inside = Inside::String;
                }
                Inside::String => {
                    let Some(index) = memchr2(b'"', b'\\', &text[at..]) else { return Ok((text.len(), Some(inside))) };
                    inside = if text[at + index] == b'"' { Inside::Structure } else { Inside::Escape };
                    at += index + 1;
                }
                Inside::Structure => {
                    let is_mark = |byte: &u8| matches!(byte, b'"' | b'{' | b'}' | b'[' | b']');
                    let Some(index) = text[at..].iter().position(is_mark) else {
                        return Ok((text.len(), Some(inside)));
                    };
                    at += index + 1;
                    match text[at - 1] {
                        b'"' => inside = Inside::String,
                        mark if self.nesting.pass(mark).is_none() => {
                            return Err(self.broken_at(&text[..at - 1], mark));
                        }
                        _ if self.nesting.depth == 0 => return Ok((at, None)),
                        _ => {}
                    }
                }
            }
        }
        Ok((at, Some(inside)))
    }

    /// Counts bytes and lines that were read.
    fn advance(&mut self, text: &[u8]) {
        self.offset += text.len() as u64;
        self.line += memchr_iter(b'\n', text).count() as u64;
    }

    /// The error for a bracket that may not stand behind `before`.
    #[cold]
    fn broken_at(&self, before: &[u8], mark: u8) -> Error {
        let line = self.line + memchr_iter(b'\n', before).count() as u64;
        let byte = self.offset + before.len() as u64;
        let what = match mark {
            b'{' | b'[' => format!("objects and arrays lie more than {MAX_DEPTH} deep in a value"),
            _ => "a bracket closes what another kind has opened".to_owned(),
        };
        self.broken(format!("{what} at line {line}, byte {byte}"))
    }

    #[cold]
    fn broken(&self, message: impl Into<String>) -> Error {
        Error::new(ErrorKind::Invalid, message).at(self.position())
    }
}

impl Nesting {
    /// Goes over a bracket, unless it opens too much or closes what it has not opened.
    #[inline]
    fn pass(&mut self, mark: u8) -> Option<()> {
        if matches!(mark, b'{' | b'[') {
            // The record itself is the first level.
            if self.depth > MAX_DEPTH {
                return None;
            }
            self.squares = (self.squares << 1) | u128::from(mark == b'[');
            self.depth += 1;
        } else {
            if (self.squares & 1 == 1) != (mark == b']') {
                return None;
            }
            self.squares >>= 1;
            self.depth -= 1;
        }
        Some(())
    }
}

//! Divides valid UTF-8 into records: finds the start and end of each object in one pass, and buffers at most one object.
//!
//! This reader looks at strings and brackets only. The rest is checked once the record is complete. With `JSON_RECORDS` the
//! records are in an array within a document, and [`Envelope`] reads the rest of it.

use memchr::{memchr, memchr_iter, memchr2};

use super::envelope::{Envelope, EnvelopeRead};
use super::nesting::Nesting;
use super::record::Rows;
use crate::extract::RecordFinder;
use crate::limits::ReadLimits;
use crate::reject::{RejectCode, Rejects};
use crate::schema::value::json::MAX_DEPTH;
use crate::{Error, ErrorKind, Position, Result};

/// A buffer larger than this is freed once its record is read.
const KEPT_BUFFER_BYTES: usize = 1024 * 1024;

/// What may come next outside of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// The document around the records.
    Envelope,
    /// The bracket of an array, or the first record.
    Start,
    /// A record, or the end of the file.
    BetweenRecords,
    /// The first record of the array, or its end.
    ArrayStart,
    /// A comma, or the end of the array.
    AfterElement,
    /// A record.
    AfterComma,
    /// Only the end of the file.
    AfterArray,
}

/// The part of a record that the next byte belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Inside {
    Structure,
    String,
    /// In a string, after a backslash.
    Escape,
}

/// Divides text into records.
#[derive(Debug)]
pub(super) struct FrameReader {
    max_record_bytes: usize,
    /// `None` if the records are not within a document.
    envelope: Option<Envelope>,
    place: Place,
    /// `None` outside of a record.
    inside: Option<Inside>,
    nesting: Nesting,
    /// The part of the open record in earlier chunks.
    buffer: Vec<u8>,
    /// Number of bytes read.
    offset: u64,
    /// The line of the next byte.
    line: u64,
    /// The position of the open record, or else of the last one.
    start: Position,
    pub(super) rows: Rows,
    /// Whether the first record ended on the line on which it started, and the second one starts on another.
    is_lines: bool,
    /// The fault of a bad record whose line is being skipped.
    fault: Option<Error>,
    pub(super) rejects: Rejects,
    pub(super) finder: Option<RecordFinder>,
}

impl FrameReader {
    pub(super) fn new(limits: ReadLimits) -> Self {
        Self::with_rows(limits, Rows::new(limits.max_columns))
    }

    pub(super) fn with_keys(keys: &[String], limits: ReadLimits) -> Self {
        Self::with_rows(limits, Rows::with_keys(keys))
    }

    fn with_rows(limits: ReadLimits, rows: Rows) -> Self {
        Self {
            max_record_bytes: limits.max_record_bytes,
            envelope: None,
            place: Place::Start,
            inside: None,
            nesting: Nesting::default(),
            buffer: Vec::new(),
            offset: 0,
            line: 1,
            start: Position::default(),
            rows,
            is_lines: false,
            fault: None,
            rejects: Rejects::new(limits.rejects),
            finder: None,
        }
    }

    /// Reads only the records within a document.
    pub(super) fn within(self, envelope: Envelope) -> Self {
        Self { envelope: Some(envelope), place: Place::Envelope, ..self }
    }

    /// Number of bytes read.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// The position of the record that is being read or comes next.
    pub(super) fn position(&self) -> Position {
        match self.inside.is_some() || self.fault.is_some() {
            true => self.start,
            false => Position { record: self.start.record + 1, line: self.line, byte: self.offset },
        }
    }

    /// The key of the only array of objects in the only record, if that record is in no array.
    pub(super) fn records_hint(&self) -> Option<&str> {
        let is_alone = self.start.record == 1 && self.place == Place::BetweenRecords;
        self.rows.array_key().filter(|_| is_alone)
    }

    /// Memory used by the batches and the open record.
    #[cfg(test)]
    pub(super) fn memory_bytes(&self) -> usize {
        let envelope = self.envelope.as_ref().map_or(0, Envelope::memory_bytes);
        envelope + self.buffer.capacity() + self.rows.memory_bytes()
    }

    /// Starts the text. `mark_bytes` is the length of its byte order mark.
    pub(super) fn start(&mut self, mark_bytes: u64, is_converted: bool) {
        self.offset += mark_bytes;
        if is_converted {
            // A rejected record could not be copied out of the file by its offset in the text.
            self.rejects.turn_off();
        }
    }

    /// Reads valid UTF-8 that does not end within a character.
    pub(super) fn push(&mut self, text: &[u8]) -> Result<()> {
        let mut rest = text;
        while !rest.is_empty() {
            // Each of these returns the number of bytes that it has read.
            let read = match (&self.fault, self.inside) {
                (Some(_), _) => self.skip_line(rest)?,
                (None, Some(inside)) => self.read_record(rest, inside)?,
                (None, None) if self.place == Place::Envelope => self.read_envelope(rest)?,
                (None, None) => self.read_between(rest)?,
            };
            rest = &rest[read..];
        }
        Ok(())
    }

    /// Ends the file and the last batch.
    ///
    /// # Errors
    /// When the file ends within a record or an array.
    pub(super) fn finish(&mut self) -> Result<()> {
        if self.fault.is_none() && self.inside.is_some() && self.bad_records_end_with_lines() {
            self.fault = Some(self.invalid("the file ends within the record"));
        }
        if let Some(error) = self.fault.take() {
            self.reject(error, self.offset)?;
        } else if self.inside.is_some() {
            let what = if self.inside == Some(Inside::Structure) { "an object or array" } else { "a string" };
            return Err(self.invalid(format!("the file ends within the record: {what} is never closed")));
        }
        match self.place {
            Place::Start | Place::BetweenRecords | Place::AfterArray => {}
            Place::Envelope => {
                let end = self.envelope.as_ref().map_or(Ok(()), Envelope::finish);
                end.map_err(|message| self.invalid(message))?;
            }
            Place::ArrayStart | Place::AfterElement | Place::AfterComma => {
                return Err(self.invalid("the file ends before the array's closing bracket"));
            }
        }
        self.rows.check_delta().map_err(|message| self.invalid(message))?;
        self.rows.end_batch();
        Ok(())
    }

    /// Reads what is around the array of records, up to its opening bracket.
    fn read_envelope(&mut self, text: &[u8]) -> Result<usize> {
        let read = self.envelope.as_mut().map_or(Ok(EnvelopeRead::All), |envelope| envelope.read(text));
        let (length, place) = match &read {
            Ok(EnvelopeRead::All) => (text.len(), Place::Envelope),
            Ok(EnvelopeRead::ArrayStart(length)) => (*length, Place::ArrayStart),
            Err(fault) => (fault.offset, Place::Envelope),
        };
        self.place = place;
        self.advance(&text[..length]);
        read.map(|_| length).map_err(|fault| self.invalid(fault.message))
    }

    /// Reads white space and one bracket or comma, or up to the first byte of a record.
    fn read_between(&mut self, text: &[u8]) -> Result<usize> {
        let spaces = text.iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r')).count();
        self.advance(&text[..spaces]);
        let Some(first) = text.get(spaces) else { return Ok(spaces) };
        if self.bad_records_end_with_lines() && *first != b'{' {
            let error = self.invalid(NOT_AN_OBJECT);
            self.start = self.position();
            self.fault = Some(error);
            return Ok(spaces);
        }
        self.place = self.next_place(*first).map_err(|message| self.invalid(message))?;
        if *first == b'{' {
            let start = self.position();
            let before = std::mem::replace(&mut self.start, start);
            if before.record == 1 && before.line == self.line {
                // Records follow each other on one line, as Firehose writes them. A bad one must not reject all others.
                self.is_lines = false;
            }
            self.inside = Some(Inside::Structure);
            self.nesting = Nesting::default();
            return Ok(spaces);
        }
        self.offset += 1;
        Ok(spaces + 1)
    }

    /// The place after a byte outside of a record, or the reason why the byte is invalid there.
    fn next_place(&self, byte: u8) -> Result<Place, &'static str> {
        match (self.place, byte) {
            (Place::Start | Place::BetweenRecords, b'{') => Ok(Place::BetweenRecords),
            (Place::ArrayStart | Place::AfterComma, b'{') => Ok(Place::AfterElement),
            (Place::Start, b'[') => Ok(Place::ArrayStart),
            (Place::AfterElement, b',') => Ok(Place::AfterComma),
            (Place::ArrayStart | Place::AfterElement, b']') if self.envelope.is_some() => Ok(Place::Envelope),
            (Place::ArrayStart | Place::AfterElement, b']') => Ok(Place::AfterArray),
            (Place::AfterComma, b']') => Err("a comma is before the array's closing bracket"),
            (Place::AfterElement, _) => Err("a comma or the array's closing bracket is missing"),
            (Place::AfterArray, _) => Err("the file continues after the array's closing bracket"),
            (Place::BetweenRecords, b',') => Err("a comma is between two records, but they are not in an array"),
            (Place::Start, _) => Err("the file starts with neither an object nor an array of objects"),
            (Place::Envelope | Place::BetweenRecords | Place::ArrayStart | Place::AfterComma, _) => Err(NOT_AN_OBJECT),
        }
    }

    /// Reads on within a record, to its end if the end is in the text.
    fn read_record(&mut self, text: &[u8], inside: Inside) -> Result<usize> {
        let before = (self.offset - self.start.byte) as usize;
        let window = &text[..text.len().min(self.max_record_bytes - before)];
        if window.is_empty() {
            return Err(self.too_long());
        }
        let by_line = self.bad_records_end_with_lines();
        let line_end = if by_line { memchr(b'\n', window) } else { None };
        // A record of JSON lines ends before its line does.
        let window = &window[..line_end.unwrap_or(window.len())];
        match self.scan(window, inside) {
            Ok((length, None)) => {
                self.end_record(&window[..length])?;
                Ok(length)
            }
            Ok((_, after)) if line_end.is_some() => {
                self.inside = after;
                self.fault = Some(self.invalid("the line ends within the record"));
                Ok(0)
            }
            Ok((length, after)) => {
                self.inside = after;
                self.buffer.extend_from_slice(&window[..length]);
                self.advance(&window[..length]);
                Ok(length)
            }
            Err(error) if by_line => {
                self.fault = Some(error);
                Ok(0)
            }
            Err(error) => Err(error),
        }
    }

    /// Ends the open record, of which `last` is the last part.
    fn end_record(&mut self, last: &[u8]) -> Result<()> {
        self.inside = None;
        let read = if self.buffer.is_empty() {
            self.rows.read(last, self.start)
        } else {
            self.buffer.extend_from_slice(last);
            let read = self.rows.read(&self.buffer, self.start);
            self.buffer.clear();
            self.buffer.shrink_to(KEPT_BUFFER_BYTES);
            read
        };
        self.advance(last);
        match read {
            Ok(()) => self.record_ended(self.offset),
            Err(error) if self.rejects.is_on() => self.reject(error, self.offset)?,
            Err(error) => return Err(self.rejects.marked(error)),
        }
        if self.start.record == 1 {
            self.is_lines = self.place == Place::BetweenRecords && self.line == self.start.line;
        }
        Ok(())
    }

    /// Whether a bad record is rejected together with the rest of its line.
    fn bad_records_end_with_lines(&self) -> bool {
        self.is_lines && self.rejects.is_on()
    }

    /// Skips the rest of a bad record's line. The record ends with the line.
    fn skip_line(&mut self, text: &[u8]) -> Result<usize> {
        let line_end = memchr(b'\n', text);
        let record = &text[..line_end.unwrap_or(text.len())];
        // The limit holds whether or not the line ends in this chunk.
        if self.offset + record.len() as u64 - self.start.byte > self.max_record_bytes as u64 {
            return Err(self.too_long());
        }
        let skipped = record.len() + usize::from(line_end.is_some());
        self.advance(&text[..skipped]);
        if line_end.is_some()
            && let Some(error) = self.fault.take()
        {
            self.reject(error, self.offset)?;
        }
        Ok(skipped)
    }

    /// Rejects the record that started at `start` and ends at `end`.
    #[cold]
    fn reject(&mut self, error: Error, end: u64) -> Result<()> {
        self.inside = None;
        self.buffer.clear();
        self.record_ended(end);
        self.rejects.add(RejectCode::NotJson, &error.at(self.start), self.start)
    }

    #[inline]
    fn record_ended(&mut self, end: u64) {
        if let Some(finder) = &mut self.finder {
            finder.record_ended(self.start.byte..end, false);
        }
    }

    /// Looks for the end of the record in `text`. Returns the length that belongs to the record, and the state for the next byte, or
    /// `None` if the record has ended.
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
                    let is_structural = |byte: &u8| matches!(byte, b'"' | b'{' | b'}' | b'[' | b']');
                    let Some(index) = text[at..].iter().position(is_structural) else {
                        return Ok((text.len(), Some(inside)));
                    };
                    at += index + 1;
                    match text[at - 1] {
                        b'"' => inside = Inside::String,
                        bracket if self.nesting.read(bracket).is_none() => {
                            return Err(self.wrong_bracket(&text[..at - 1], bracket));
                        }
                        _ if self.nesting.depth == 0 => return Ok((at, None)),
                        _ => {}
                    }
                }
            }
        }
        Ok((at, Some(inside)))
    }

    /// Counts the bytes and lines of text that was read.
    fn advance(&mut self, text: &[u8]) {
        self.offset += text.len() as u64;
        self.line += memchr_iter(b'\n', text).count() as u64;
    }

    /// The error for a bracket that must not come after `before`.
    #[cold]
    fn wrong_bracket(&self, before: &[u8], bracket: u8) -> Error {
        let line = self.line + memchr_iter(b'\n', before).count() as u64;
        let byte = self.offset + before.len() as u64;
        let what = match bracket {
            b'{' | b'[' => format!("objects and arrays are nested more than {MAX_DEPTH} deep in a value"),
            _ => "a closing bracket does not match the open one".to_owned(),
        };
        self.invalid(format!("{what} at line {line}, byte {byte}"))
    }

    #[cold]
    fn too_long(&self) -> Error {
        self.invalid(format!("the record is longer than {} bytes", self.max_record_bytes))
    }

    #[cold]
    fn invalid(&self, message: impl Into<String>) -> Error {
        Error::new(ErrorKind::Invalid, message).at(self.position())
    }
}

const NOT_AN_OBJECT: &str = "the record is not an object";

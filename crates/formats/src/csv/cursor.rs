//! The position in the text, and the kind of line end that counts lines.

use memchr::memchr_iter;

use crate::Position;

/// The line end of a file; known after the first line end outside quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LineEnd {
    Unknown,
    Lf,
    Cr,
}

/// The position of the next byte, and that of the open record.
#[derive(Debug)]
pub(super) struct Cursor {
    /// Number of bytes read.
    pub(super) offset: u64,
    /// The position of the open record.
    pub(super) record: Position,
    pub(super) line_end: LineEnd,
    line: u64,
    /// Number of additional CRs in line ends of the form CR CR LF, each of which is a line end to other programs.
    extra_crs: u64,
    /// CRs in quotes that were read while the line end was unknown.
    uncounted_crs: u64,
}

impl Cursor {
    /// A cursor at the start of a file whose first record has this number.
    pub(super) fn new(first_record: u64) -> Self {
        Self {
            offset: 0,
            record: Position { record: first_record, line: 1, byte: 0 },
            line_end: LineEnd::Unknown,
            line: 1,
            extra_crs: 0,
            uncounted_crs: 0,
        }
    }

    /// Skips the byte order mark.
    pub(super) fn skip_mark(&mut self, mark_bytes: u64) {
        self.offset += mark_bytes;
        self.record.byte = self.offset;
    }

    /// The number of lines so far, as other programs see them. A line end at the end of the text starts no further line.
    pub(super) fn lines(&self) -> u64 {
        let lines = if self.offset == self.record.byte { self.line - 1 } else { self.line };
        lines + self.extra_crs
    }

    /// Counts the CRs of a line end CR CR LF, which is one line end here.
    pub(super) fn count_crs(&mut self, crs: u64) {
        self.extra_crs += crs - 1;
    }

    /// The length of the open record so far.
    #[inline]
    pub(super) fn record_bytes(&self) -> u64 {
        self.offset - self.record.byte
    }

    /// Counts the line ends in a part of a quoted field.
    pub(super) fn count_lines(&mut self, part: &[u8]) {
        self.line += memchr_iter(b'\n', part).count() as u64;
        match self.line_end {
            LineEnd::Lf => {}
            LineEnd::Cr => self.line += memchr_iter(b'\r', part).count() as u64,
            LineEnd::Unknown => self.uncounted_crs += memchr_iter(b'\r', part).count() as u64,
        }
    }

    /// Sets the line end to a lone CR, so that the CRs before count as line ends too.
    pub(super) fn set_lone_cr(&mut self) {
        self.line_end = LineEnd::Cr;
        self.line += self.uncounted_crs;
    }

    /// Moves to the next record, which starts here, `lines` lines further.
    pub(super) fn next_line(&mut self, lines: u64) {
        self.line += lines;
        self.record.line = self.line;
        self.record.byte = self.offset;
    }
}

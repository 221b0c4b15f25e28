//! Holds back the last lines of a file (`CSV_SKIP_FOOTER_LINES`), which contain no records.
//!
//! Line ends within quotes count, too. If a quoted field reaches into the last lines, its quote stays open, and the
//! file is rejected. Memory is bounded by the longest record.

use std::collections::VecDeque;

use memchr::{memchr, memchr2};

use super::cursor::LineEnd;
use crate::numbers::counted;

/// Releases text once as many lines follow it as the footer has.
#[derive(Debug)]
pub(super) struct Footer {
    lines: usize,
    max_bytes: usize,
    line_end: LineEnd,
    /// The text that is not released: the last lines so far.
    held: Vec<u8>,
    /// The offset in `held` up to which line ends were found.
    searched: usize,
    is_line_start: bool,
    /// The offsets in `held` of the last lines, at most as many as the footer has.
    starts: VecDeque<usize>,
    /// Whether a line is above the last ones.
    has_more_lines: bool,
}

/// Why the last lines cannot be skipped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unskippable(pub(super) String);

impl Footer {
    /// A footer of so many lines, at least one. Together they have at most `max_bytes`.
    pub(super) fn new(lines: usize, max_bytes: usize) -> Self {
        Self {
            lines,
            max_bytes,
            line_end: LineEnd::Unknown,
            held: Vec::new(),
            searched: 0,
            is_line_start: true,
            starts: VecDeque::with_capacity(lines + 1),
            has_more_lines: false,
        }
    }

    /// Adds text, and returns the text that is above the last lines. The error comes after that text.
    pub(super) fn push(&mut self, text: &[u8]) -> (Vec<u8>, Result<(), Unskippable>) {
        self.held.extend_from_slice(text);
        let found = self.find_lines();
        let release = self.starts.front().copied().unwrap_or(0);
        let released = self.held.drain(..release).collect();
        self.searched -= release;
        self.starts.iter_mut().for_each(|start| *start -= release);
        let is_too_long = self.held.len() > self.max_bytes;
        (released, found.and_then(|()| if is_too_long { Err(self.too_long()) } else { Ok(()) }))
    }

    /// Ends the file. Returns the text that is still above the last lines, and the number of bytes of these lines.
    pub(super) fn finish(&mut self) -> (Vec<u8>, Result<usize, Unskippable>) {
        if self.line_end == LineEnd::Unknown {
            // No line feed follows the carriage returns at the end.
            self.line_end = LineEnd::Cr;
        }
        let (released, result) = self.push(&[]);
        let has_text = !self.held.is_empty();
        let checked = result.and_then(|()| match self.has_more_lines || !has_text {
            true => Ok(self.held.len()),
            false => Err(Unskippable(format!(
                "the file has no line above the {} that CSV_SKIP_FOOTER_LINES skips",
                counted(self.lines as u64, "line")
            ))),
        });
        (released, checked)
    }

    /// The number of bytes that are not released.
    pub(super) fn held_bytes(&self) -> u64 {
        self.held.len() as u64
    }

    #[cfg(test)]
    pub(super) fn memory_bytes(&self) -> usize {
        self.held.capacity()
    }

    fn find_lines(&mut self) -> Result<(), Unskippable> {
        while self.searched < self.held.len() {
            if std::mem::take(&mut self.is_line_start) {
                self.start_line()?;
            }
            match self.find_line_end() {
                Some(end) => (self.searched, self.is_line_start) = (end, true),
                None => return Ok(()),
            }
        }
        Ok(())
    }

    fn start_line(&mut self) -> Result<(), Unskippable> {
        if self.starts.len() == self.lines {
            self.has_more_lines = true;
            if self.starts.front().is_some_and(|first| self.searched - first > self.max_bytes) {
                return Err(self.too_long());
            }
            self.starts.pop_front();
        }
        self.starts.push_back(self.searched);
        Ok(())
    }

    /// The offset after the next line end. `None` if it is not in the text so far, all of which is then searched.
    fn find_line_end(&mut self) -> Option<usize> {
        let rest = &self.held[self.searched..];
        let found = match self.line_end {
            LineEnd::Lf => memchr(b'\n', rest),
            LineEnd::Cr => memchr(b'\r', rest),
            LineEnd::Unknown => memchr2(b'\n', b'\r', rest),
        };
        let Some(at) = found else {
            self.searched = self.held.len();
            return None;
        };
        if self.line_end == LineEnd::Unknown {
            let crs = rest[at..].iter().take_while(|byte| **byte == b'\r').count();
            let Some(next) = rest.get(at + crs) else {
                // The byte after the carriage returns decides.
                self.searched += at;
                return None;
            };
            self.line_end = if *next == b'\n' { LineEnd::Lf } else { LineEnd::Cr };
            if *next == b'\n' {
                return Some(self.searched + at + crs + 1);
            }
        }
        Some(self.searched + at + 1)
    }

    #[cold]
    fn too_long(&self) -> Unskippable {
        Unskippable(format!(
            "lines are too long to be held back as the last ones (CSV_SKIP_FOOTER_LINES={}): together they have more than {} bytes \
             (MAX_RECORD_BYTES)",
            self.lines, self.max_bytes
        ))
    }
}

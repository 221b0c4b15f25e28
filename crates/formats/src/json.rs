//! JSON (RFC 8259) as a push decoder: bytes go in as they come, whole batches come out, memory stays flat.
//!
//! A file is one array of objects, or objects one after the other: one a line (JSON lines), one over many lines, several
//! such. Each object is a record, each key a column, in order of first appearance. What is decided beyond the RFC:
//! - A file is UTF-8 with or without a byte order mark, or UTF-16 with one.
//! - A string is the text it means, a number and a truth value are as they are written, `null` is missing as an absent key
//!   is, an object or array is JSON, byte for byte as it stands (in UTF-8).
//! - A record has each key once: what a repeated one means differs from parser to parser, so it is refused.
//! - Objects and arrays lie at most [`json::MAX_DEPTH`](crate::schema::value::json::MAX_DEPTH) deep within a value.
//! - Positions count bytes of the file, or of its text in UTF-8 when it is UTF-16, and lines by their newlines.
//!
//! Where bad records may be left out, a file is read as JSON lines if its first record ends on the line on which it begins and is in
//! no array: a bad record then ends with its line. In all other files only a record whose end is certain can be left out.
//!
//! A key may appear late: each batch is as wide as there were keys by then, and in all rows before it the column is missing.
//! A decoder that is told the keys beforehand gives all rows in their width.

mod frame;
mod record;

use std::collections::VecDeque;
use std::ops::Range;

use crate::reject::Reject;
use crate::text::{TextReader, TextSink};
use crate::{Batch, Result};
use frame::FrameReader;

/// How far a file may go before it is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JsonLimits {
    /// The longest record in bytes, from its opening to its closing brace.
    pub max_record_bytes: usize,
    /// The most different keys.
    pub max_columns: usize,
    /// The most bad records that are left out one by one; one more is an error.
    pub max_rejects: u64,
}

/// Reads one file. After an error the file is broken and the decoder of no more use.
#[derive(Debug)]
pub struct JsonDecoder {
    text: TextReader,
    frames: FrameReader,
}

impl JsonDecoder {
    /// A decoder for one file whose keys are to be found out.
    pub fn new(limits: JsonLimits) -> Self {
        Self { text: TextReader::new(None), frames: FrameReader::new(limits) }
    }

    /// A decoder for one file of which another one has found the keys.
    pub fn with_keys(keys: &[String], limits: JsonLimits) -> Self {
        Self { text: TextReader::new(None), frames: FrameReader::with_keys(keys, limits) }
    }

    /// Takes the next bytes of the file, cut anywhere. Take the batches out between calls.
    pub fn push(&mut self, chunk: &[u8]) -> Result<()> {
        self.text.push(chunk, &mut self.frames)
    }

    /// Says that the file has ended. What is left can then be taken out.
    pub fn finish(&mut self) -> Result<()> {
        self.text.finish(&mut self.frames)?;
        self.frames.finish()
    }

    /// The keys so far as they stand in the file, in order of first appearance: all of them once the file has ended.
    pub fn keys(&self) -> &[String] {
        self.frames.keys()
    }

    /// Whether the places of records are places in the file: its text is not converted.
    pub fn is_plain(&self) -> bool {
        self.text.converted_from().is_none()
    }

    /// The bad records that were left out since this was last asked.
    pub fn take_rejects(&mut self) -> Vec<Reject> {
        self.frames.take_rejects()
    }

    /// Asks, before the first byte, where the records that begin at these bytes end.
    pub fn watch(&mut self, starts: VecDeque<u64>) {
        self.frames.watch(starts);
    }

    /// Where those of the watched records stand that have ended since this was last asked.
    pub fn take_ended(&mut self) -> Vec<Range<u64>> {
        self.frames.take_ended()
    }

    /// Where the record that is being read, or would come next, begins.
    pub fn record_start(&self) -> u64 {
        self.frames.position().byte
    }

    /// The next batch of records, as soon as there are enough of them, or the last ones once the file has ended.
    pub fn take_batch(&mut self) -> Option<Batch> {
        self.frames.take_batch()
    }
}

#[cfg(test)]
mod tests;

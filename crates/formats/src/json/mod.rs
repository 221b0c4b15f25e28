//! JSON (RFC 8259) as a push decoder: accepts bytes in any chunks, returns whole batches, and uses bounded memory.
//!
//! A file is one array of objects, or a sequence of objects: one per line (JSON lines), one over many lines, or several of
//! these. Each object is a record. Each key is a column, in order of first appearance. Rules beyond the RFC:
//!
//! - A file is UTF-8, with or without a byte order mark, or UTF-16. UTF-16 without a mark is detected if the first characters are
//!   Latin.
//! - A string is the text that it means. A number or boolean is as written. `null` is missing, like an absent key. An object
//!   or array is JSON as it is in the file, byte for byte (in UTF-8).
//! - `NaN` is missing too, as Python and other writers write it. `Infinity` and `-Infinity` are strings, because no number of a
//!   file is infinite. Any of the three within an object or array is invalid.
//! - A record has each key once. Parsers disagree on the meaning of a repeated key, so it is rejected.
//! - Objects and arrays are nested at most [`MAX_DEPTH`](crate::schema::value::json::MAX_DEPTH) deep within a value.
//! - Positions count bytes of the file, and lines by newlines. In a UTF-16 file they count bytes of the UTF-8 text.
//!
//! If bad records may be rejected, a file is read as JSON lines when its first record is in no array and ends on the line on
//! which it starts. A bad record then ends with its line. In other files only a record with a certain end can be rejected
//! alone.
//!
//! With [`JsonOptions::records_path`] the file is a document, and its records are the elements of one array within it. The
//! rest of the document is skipped.
//!
//! [`JsonOptions::values`] converts items of DynamoDB to plain records. [`JsonOptions::flatten_depth`] makes the members of
//! objects within a record columns of their own.
//!
//! A key may first appear late. Each batch is as wide as the number of keys known by then; the column is missing in all rows
//! before. A decoder that is given the keys returns all rows in full width.

mod changes;
mod columns;
mod dynamodb;
mod envelope;
mod flatten;
mod frame;
mod nesting;
mod non_finite;
mod path;
mod record;

use std::collections::VecDeque;
use std::ops::Range;

use crate::end_mark::EndMark;
use crate::extract::RecordFinder;
use crate::limits::ReadLimits;
use crate::reject::Reject;
use crate::text::{TextEncoding, TextPiece, TextReader};
use crate::{Batch, Result};
use envelope::Envelope;
use frame::FrameReader;
pub use path::RecordsPath;

const ENCODING_HINT: &str = "save the file as UTF-8, or as UTF-16 with a byte order mark";

/// How JSON files are read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct JsonOptions {
    /// The path to the array of records within a document. `None` if the records are not within one.
    pub records_path: Option<RecordsPath>,
    /// How values are written.
    pub values: JsonValues,
    /// The number of levels of objects within a record whose members are columns. With 0, objects stay JSON.
    pub flatten_depth: usize,
}

/// How the values of JSON files are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum JsonValues {
    /// As values of JSON.
    #[default]
    Plain,
    /// As items that DynamoDB exported: in an object `Item`, each with the name of its type.
    DynamoDb,
    /// As changes of rows: in an object `after` or `before`, with an operation `op`.
    Changes,
}

/// Decodes one file. After an error the decoder must not be used again.
#[derive(Debug)]
pub struct JsonDecoder {
    text: TextReader,
    end_mark: EndMark,
    frames: FrameReader,
}

impl JsonDecoder {
    /// A decoder for one file that finds out the keys.
    pub fn new(limits: ReadLimits) -> Self {
        Self::of(FrameReader::new(limits))
    }

    /// A decoder for one file whose keys are known from an earlier pass.
    pub fn with_keys(keys: &[String], limits: ReadLimits) -> Self {
        Self::of(FrameReader::with_keys(keys, limits))
    }

    fn of(frames: FrameReader) -> Self {
        Self { text: TextReader::new(TextEncoding::Utf8), end_mark: EndMark::default(), frames }
    }

    /// The same decoder with these options. Call it before the first byte.
    #[must_use]
    pub fn with_options(mut self, options: &JsonOptions) -> Self {
        self.frames.rows.follow(options);
        match &options.records_path {
            Some(path) => Self { frames: self.frames.within(Envelope::new(path.clone())), ..self },
            None => self,
        }
    }

    /// The same decoder, with the flattened columns of an earlier pass. Call it after `with_options`.
    #[must_use]
    pub fn with_joins(mut self, joins: &[Vec<usize>]) -> Self {
        self.frames.rows.set_joins(joins);
        self
    }

    /// For each key, where its name joins two keys of the file; empty without [`JsonOptions::flatten_depth`].
    pub fn joins(&self) -> &[Vec<usize>] {
        self.frames.rows.joins()
    }

    /// The key of the only array of objects, in a file that is one object; complete after the end of the file.
    ///
    /// Such a file may be a document around its records, which needs [`JsonOptions::records_path`].
    pub fn records_hint(&self) -> Option<&str> {
        self.frames.records_hint()
    }

    /// Decodes the next bytes of the file. Take the batches after each call.
    pub fn push(&mut self, chunk: &[u8]) -> Result<()> {
        self.read(chunk, false)
    }

    /// Ends the file. The last batch can be taken then.
    pub fn finish(&mut self) -> Result<()> {
        self.read(&[], true)?;
        self.frames.finish()
    }

    fn read(&mut self, mut chunk: &[u8], is_last: bool) -> Result<()> {
        loop {
            match self.text.next(&mut chunk, is_last) {
                Ok(Some(TextPiece::Start { mark_bytes, is_converted })) => self.frames.start(mark_bytes, is_converted),
                Ok(Some(TextPiece::Text(text))) => {
                    let (held, text) = self.end_mark.split(text);
                    self.frames.push(&held)?;
                    self.frames.push(text)?;
                }
                Ok(None) => return Ok(()),
                Err(invalid) => {
                    let offset = self.frames.offset() + self.end_mark.held_bytes();
                    return Err(invalid.into_error(offset, self.frames.position(), ENCODING_HINT));
                }
            }
        }
    }

    /// Whether the file ends with a mark that is not a record.
    pub(crate) fn has_end_mark(&self) -> bool {
        self.end_mark.held_bytes() > 0
    }

    /// The number of lines read so far. `last_byte` is the last byte of the text: a newline there starts no further line.
    pub(crate) fn lines(&self, last_byte: Option<u8>) -> u64 {
        let line = self.frames.position().line;
        if matches!(last_byte, None | Some(b'\n')) { line - 1 } else { line }
    }

    /// The keys so far as they are in the file, in order of first appearance; complete after the end of the file.
    pub fn keys(&self) -> &[String] {
        self.frames.rows.keys()
    }

    /// Whether a record so far has a number that is not finite, which JSON does not have.
    pub(crate) fn has_non_finite(&self) -> bool {
        self.frames.rows.has_non_finite()
    }

    /// Whether positions are offsets in the file, because the text is not converted.
    pub fn is_plain(&self) -> bool {
        !self.text.is_converted()
    }

    /// The next full batch, or the last one after the end of the file.
    pub fn take_batch(&mut self) -> Option<Batch> {
        self.frames.rows.take_batch()
    }

    /// The records that were rejected since the last call.
    pub fn take_rejects(&mut self) -> Vec<Reject> {
        self.frames.rejects.take()
    }

    /// Sets, before the first byte, the starts of the records to find.
    pub(crate) fn find_records(&mut self, starts: VecDeque<u64>) {
        self.frames.finder = Some(RecordFinder::new(starts));
    }

    /// The records found since the last call.
    pub(crate) fn take_found_records(&mut self) -> Vec<Range<u64>> {
        self.frames.finder.as_mut().map(RecordFinder::take).unwrap_or_default()
    }

    /// The offset of the record that is being read or comes next.
    pub(crate) fn record_start(&self) -> u64 {
        self.frames.position().byte
    }
}

#[cfg(test)]
mod tests;

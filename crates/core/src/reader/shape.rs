//! How a file looks to a program that reads it in place: Athena divides text into lines, and Parquet declares its columns.
//!
//! The first pass collects this as it reads the rows. Only the scan of the values costs time, and it is off unless it is needed.

use bytes::Bytes;
use spillway_formats::Batch;
use spillway_formats::decoder::{Decoder, Layout};
use spillway_formats::detect::Compression;

/// Whether a pass looks for characters in the values that other programs read differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ValueScan {
    /// It does not.
    Off,
    /// It looks for backslashes and carriage returns in CSV. JSON is scanned for the types of all values.
    On,
}

/// How a file looks to other programs.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct FileShape {
    /// The compression of the file as a whole.
    pub(crate) compression: Option<Compression>,
    pub(crate) contents: ShapeContents,
}

/// The contents of a file.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum ShapeContents {
    /// CSV or JSON.
    Text(TextShape),
    /// The columns of Parquet with their names in the file and their Hive types; `None` for a type that Hive does not have.
    Parquet(Vec<(String, Option<String>)>),
}

/// The shape of a CSV or JSON file; complete after the pass.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TextShape {
    value_scan: ValueScan,
    /// The layout; `None` before the end of the pass.
    pub(crate) layout: Option<Layout>,
    /// The names of the file's columns, before the rules of the table settings.
    pub(crate) names: Vec<String>,
    /// Number of lines.
    pub(crate) lines: u64,
    /// Number of data records, rejected ones included.
    pub(crate) records: u64,
    /// Number of rejected records among them.
    pub(crate) rejects: u64,
    /// The offset of the first record.
    pub(crate) first_byte: Option<u64>,
    /// Whether a value contains a backslash.
    pub(crate) has_backslash: bool,
    /// Whether a value contains a carriage return.
    pub(crate) has_carriage_return: bool,
    /// Whether lines at the end of the file are not records.
    pub(crate) has_footer: bool,
    /// Whether a value is a number that JSON does not have: NaN or Infinity.
    pub(crate) has_non_finite: bool,
    last_byte: Option<u8>,
}

impl FileShape {
    pub(super) fn of_text(compression: Option<Compression>, text: TextShape) -> Self {
        Self { compression, contents: ShapeContents::Text(text) }
    }

    pub(super) fn of_parquet(columns: Vec<(String, Option<String>)>) -> Self {
        Self { compression: None, contents: ShapeContents::Parquet(columns) }
    }
}

impl TextShape {
    pub(super) fn new(value_scan: ValueScan) -> Self {
        Self {
            value_scan,
            layout: None,
            names: Vec::new(),
            lines: 0,
            records: 0,
            rejects: 0,
            first_byte: None,
            has_backslash: false,
            has_carriage_return: false,
            has_footer: false,
            has_non_finite: false,
            last_byte: None,
        }
    }

    /// Adds the next decompressed bytes.
    pub(super) fn observe_piece(&mut self, piece: Option<&Bytes>) {
        if let Some(last) = piece.and_then(|piece| piece.last()) {
            self.last_byte = Some(*last);
        }
    }

    /// Adds the next rows, as the decoder has returned them.
    pub(super) fn observe_batch(&mut self, batch: &Batch) {
        if self.records == 0 && !batch.is_empty() {
            // If the first record is rejected, the offset of another one says nothing.
            self.first_byte = Some(batch.position(0)).filter(|first| first.record == 1).map(|first| first.byte);
        }
        self.records += batch.rows() as u64;
        if self.value_scan == ValueScan::On {
            self.has_backslash = self.has_backslash || batch.contains(b'\\');
            self.has_carriage_return = self.has_carriage_return || batch.contains(b'\r');
        }
    }

    /// Completes the shape at the end of the file.
    pub(super) fn end(self, decoder: &Decoder, names: Vec<String>, rejects: usize) -> Self {
        Self {
            layout: Some(decoder.layout()),
            names,
            lines: decoder.lines(self.last_byte),
            records: self.records + rejects as u64,
            rejects: rejects as u64,
            has_footer: decoder.has_footer(),
            has_non_finite: decoder.has_non_finite(),
            ..self
        }
    }
}

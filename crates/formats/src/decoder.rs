//! One file's decoder, whatever its format: decoded bytes go in, batches come out, and at the end it says how the columns
//! are called and how the file is laid out.
//!
//! A file is read in two passes. The first one's [`Layout`] is given to the second, which then reads the same rows
//! without finding anything out anew.

use std::collections::VecDeque;
use std::ops::Range;

use crate::compression::DecodedLimits;
use crate::csv::{CsvDecoder, CsvDialect, CsvLimits};
use crate::detect::{FileFormat, StreamFormat};
use crate::json::{JsonDecoder, JsonLimits};
use crate::reject::{Reject, RejectLimit};
use crate::schema::header::column_names;
use crate::{Batch, Result};

/// How files are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadOptions {
    /// The format.
    pub format: FileFormat,
    /// How CSV is read.
    pub csv: CsvDialect,
    /// How far a file may go.
    pub limits: ReadLimits,
}

/// Limits on what a file may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadLimits {
    /// The longest record in bytes, header included.
    pub max_record_bytes: usize,
    /// The most columns.
    pub max_columns: usize,
    /// Limits on what comes out of a compressed file.
    pub decoded: DecodedLimits,
    /// How many bad records may be left out.
    pub rejects: RejectLimit,
}

/// How a file is read, once it is known.
#[derive(Debug, Clone, PartialEq)]
pub enum Layout {
    /// CSV with these marks.
    Csv(CsvDialect),
    /// JSON.
    Json {
        /// Its keys, as they stand in the file.
        keys: Vec<String>,
        /// Whether the places of its records are places in the file.
        is_plain: bool,
    },
}

/// A decoder that is fed. Formats that are read by ranges are no members.
#[derive(Debug)]
pub enum Decoder {
    /// CSV.
    Csv(Box<CsvDecoder>),
    /// JSON.
    Json(Box<JsonDecoder>),
}

impl Decoder {
    /// For a first pass.
    pub fn new(format: StreamFormat, options: &ReadOptions) -> Self {
        match format {
            StreamFormat::Csv => Self::csv(options.csv.clone(), options),
            StreamFormat::TabSeparated => {
                let delimiter = options.csv.delimiter.or(Some(b'\t'));
                Self::csv(CsvDialect { delimiter, ..options.csv.clone() }, options)
            }
            StreamFormat::Json => Self::Json(Box::new(JsonDecoder::new(json_limits(options.limits)))),
        }
    }

    /// For a later pass.
    pub fn with_layout(layout: &Layout, options: &ReadOptions) -> Self {
        match layout {
            Layout::Csv(dialect) => Self::csv(dialect.clone(), options),
            Layout::Json { keys, .. } => {
                Self::Json(Box::new(JsonDecoder::with_keys(keys, json_limits(options.limits))))
            }
        }
    }

    fn csv(dialect: CsvDialect, options: &ReadOptions) -> Self {
        Self::Csv(Box::new(CsvDecoder::with_dialect(dialect, csv_limits(options.limits))))
    }

    /// Takes the next bytes, cut anywhere. Take the batches out between calls.
    pub fn push(&mut self, chunk: &[u8]) -> Result<()> {
        match self {
            Self::Csv(decoder) => decoder.push(chunk),
            Self::Json(decoder) => decoder.push(chunk),
        }
    }

    /// Says that the file has ended. What is left can then be taken out.
    pub fn finish(&mut self) -> Result<()> {
        match self {
            Self::Csv(decoder) => decoder.finish(),
            Self::Json(decoder) => decoder.finish(),
        }
    }

    /// The next batch, as soon as there is one.
    pub fn take_batch(&mut self) -> Option<Batch> {
        match self {
            Self::Csv(decoder) => decoder.take_batch(),
            Self::Json(decoder) => decoder.take_batch(),
        }
    }

    /// The bad records that were left out since this was last asked.
    pub fn take_rejects(&mut self) -> Vec<Reject> {
        match self {
            Self::Csv(decoder) => decoder.take_rejects(),
            Self::Json(decoder) => decoder.take_rejects(),
        }
    }

    /// Asks, before the first byte, where the header and the records that begin at these bytes end.
    pub fn watch(&mut self, starts: VecDeque<u64>) {
        match self {
            Self::Csv(decoder) => decoder.watch(starts),
            Self::Json(decoder) => decoder.watch(starts),
        }
    }

    /// Where those of the watched records stand that have ended since this was last asked.
    pub fn take_ended(&mut self) -> Vec<Range<u64>> {
        match self {
            Self::Csv(decoder) => decoder.take_ended(),
            Self::Json(decoder) => decoder.take_ended(),
        }
    }

    /// Where the record that is being read, or would come next, begins.
    pub fn record_start(&self) -> u64 {
        match self {
            Self::Csv(decoder) => decoder.record_start(),
            Self::Json(decoder) => decoder.record_start(),
        }
    }

    /// The columns' final names, as far as they are known: all of them with the first batch (CSV) or at the file's end (JSON),
    /// none for an empty file.
    pub fn column_names(&self) -> Vec<String> {
        match self {
            Self::Csv(decoder) => decoder.header().map(column_names).unwrap_or_default(),
            Self::Json(decoder) => {
                let keys: Vec<Vec<u8>> = decoder.keys().iter().map(|key| key.clone().into_bytes()).collect();
                column_names(&keys)
            }
        }
    }

    /// Whether the usual null tokens mean NULL in columns that are not text.
    pub fn has_null_tokens(&self) -> bool {
        match self {
            Self::Csv(decoder) => decoder.dialect().null_values.is_none(),
            Self::Json(_) => false,
        }
    }

    /// How the file is laid out, once it has ended.
    pub fn layout(&self) -> Layout {
        match self {
            Self::Csv(decoder) => Layout::Csv(decoder.dialect()),
            Self::Json(decoder) => Layout::Json { keys: decoder.keys().to_vec(), is_plain: decoder.is_plain() },
        }
    }
}

fn json_limits(limits: ReadLimits) -> JsonLimits {
    let ReadLimits { max_record_bytes, max_columns, rejects, .. } = limits;
    JsonLimits { max_record_bytes, max_columns, max_rejects: rejects.most_of_any() }
}

fn csv_limits(limits: ReadLimits) -> CsvLimits {
    let ReadLimits { max_record_bytes, max_columns, rejects, .. } = limits;
    CsvLimits { max_record_bytes, max_columns, max_rejects: rejects.most_of_any() }
}

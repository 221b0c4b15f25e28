//! One decoder for CSV and JSON, and the options and layouts of a read.
//!
//! A file is read in two passes. The first pass finds the [`Layout`]. The second pass uses it and returns the same rows.

use std::collections::VecDeque;
use std::ops::Range;

use crate::columns::ColumnRules;
use crate::csv::{CsvDecoder, CsvDialect};
use crate::detect::{FileFormat, StreamFormat};
use crate::json::{JsonDecoder, JsonOptions, JsonValues};
use crate::limits::ReadLimits;
use crate::reject::Reject;
use crate::schema::header::column_names;
use crate::{Batch, Result};

/// How files are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadOptions {
    /// The format, or how it is detected.
    pub format: FileFormat,
    /// The dialect of CSV files.
    pub csv: CsvDialect,
    /// How JSON files are read.
    pub json: JsonOptions,
    /// Rules for single columns. The reader of the batches applies them.
    pub columns: ColumnRules,
    /// The limits for each file.
    pub limits: ReadLimits,
}

/// How the records of a CSV or JSON file are found in its bytes.
#[derive(Debug, Clone, PartialEq)]
pub enum Layout {
    /// CSV of this dialect.
    Csv(CsvDialect),
    /// JSON.
    Json {
        /// The keys as they are in the file.
        keys: Vec<String>,
        /// For each key, where its name joins two keys of the file, see [`JsonDecoder::joins`].
        joins: Vec<Vec<usize>>,
        /// Whether positions are offsets in the file, because its text is not converted.
        is_plain: bool,
        /// The key that may lead to the records of a file that was read as one record, see [`JsonDecoder::records_hint`].
        records_hint: Option<String>,
    },
}

/// A decoder of a format that is read from the first byte to the last. Parquet is not one of them.
#[derive(Debug)]
pub enum Decoder {
    /// CSV.
    Csv(Box<CsvDecoder>),
    /// JSON.
    Json(Box<JsonDecoder>),
}

impl ReadOptions {
    /// Whether a file of this format is read as changes of rows.
    pub fn reads_changes(&self, format: StreamFormat) -> bool {
        format == StreamFormat::Json && self.json.values == JsonValues::Changes
    }
}

impl Layout {
    /// The format of a file with this layout.
    pub fn format(&self) -> StreamFormat {
        match self {
            Self::Csv(_) => StreamFormat::Csv,
            Self::Json { .. } => StreamFormat::Json,
        }
    }
}

impl Decoder {
    /// A decoder for the first pass.
    pub fn new(format: StreamFormat, options: &ReadOptions) -> Self {
        match format {
            StreamFormat::Csv => Self::csv(options.csv.clone(), options),
            StreamFormat::TabSeparated => {
                let delimiter = options.csv.delimiter.or(Some(b'\t'));
                Self::csv(CsvDialect { delimiter, ..options.csv.clone() }, options)
            }
            StreamFormat::Json => Self::json(JsonDecoder::new(options.limits), options),
        }
    }

    /// A decoder for a later pass.
    pub fn with_layout(layout: &Layout, options: &ReadOptions) -> Self {
        match layout {
            Layout::Csv(dialect) => Self::csv(dialect.clone(), options),
            Layout::Json { keys, joins, .. } => {
                let decoder = JsonDecoder::with_keys(keys, options.limits).with_options(&options.json);
                Self::Json(Box::new(decoder.with_joins(joins)))
            }
        }
    }

    fn csv(dialect: CsvDialect, options: &ReadOptions) -> Self {
        Self::Csv(Box::new(CsvDecoder::new(dialect, options.limits)))
    }

    fn json(decoder: JsonDecoder, options: &ReadOptions) -> Self {
        Self::Json(Box::new(decoder.with_options(&options.json)))
    }

    /// Decodes the next bytes, in any chunks. Take the batches after each call.
    pub fn push(&mut self, chunk: &[u8]) -> Result<()> {
        match self {
            Self::Csv(decoder) => decoder.push(chunk),
            Self::Json(decoder) => decoder.push(chunk),
        }
    }

    /// Ends the file. The last batch can be taken then.
    pub fn finish(&mut self) -> Result<()> {
        match self {
            Self::Csv(decoder) => decoder.finish(),
            Self::Json(decoder) => decoder.finish(),
        }
    }

    /// The next batch, if one is complete.
    pub fn take_batch(&mut self) -> Option<Batch> {
        match self {
            Self::Csv(decoder) => decoder.take_batch(),
            Self::Json(decoder) => decoder.take_batch(),
        }
    }

    /// The records that were rejected since the last call.
    pub fn take_rejects(&mut self) -> Vec<Reject> {
        match self {
            Self::Csv(decoder) => decoder.take_rejects(),
            Self::Json(decoder) => decoder.take_rejects(),
        }
    }

    /// Sets, before the first byte, the starts of the records to find. A CSV header is found too.
    pub(crate) fn find_records(&mut self, starts: VecDeque<u64>) {
        match self {
            Self::Csv(decoder) => decoder.find_records(starts),
            Self::Json(decoder) => decoder.find_records(starts),
        }
    }

    /// The records found since the last call.
    pub(crate) fn take_found_records(&mut self) -> Vec<Range<u64>> {
        match self {
            Self::Csv(decoder) => decoder.take_found_records(),
            Self::Json(decoder) => decoder.take_found_records(),
        }
    }

    /// The offset of the record that is being read or comes next.
    pub(crate) fn record_start(&self) -> u64 {
        match self {
            Self::Csv(decoder) => decoder.record_start(),
            Self::Json(decoder) => decoder.record_start(),
        }
    }

    /// Whether the last lines of the file are skipped, or the file ends with a mark.
    pub fn has_footer(&self) -> bool {
        match self {
            Self::Csv(decoder) => decoder.has_footer(),
            Self::Json(decoder) => decoder.has_end_mark(),
        }
    }

    /// Whether a record of JSON so far has a number that is not finite.
    pub fn has_non_finite(&self) -> bool {
        match self {
            Self::Csv(_) => false,
            Self::Json(decoder) => decoder.has_non_finite(),
        }
    }

    /// The final column names known so far: all with the first batch (CSV), or after the end of the file (JSON).
    pub fn column_names(&self) -> Vec<String> {
        match self {
            Self::Csv(decoder) => decoder.header().map(column_names).unwrap_or_default(),
            Self::Json(decoder) => {
                let keys: Vec<Vec<u8>> = decoder.keys().iter().map(|key| key.clone().into_bytes()).collect();
                column_names(&keys)
            }
        }
    }

    /// The number of columns known so far.
    pub fn known_columns(&self) -> usize {
        match self {
            Self::Csv(decoder) => decoder.header().map_or(0, <[Vec<u8>]>::len),
            Self::Json(decoder) => decoder.keys().len(),
        }
    }

    /// The number of lines of the text; complete after the end of the file. `last_byte` is the last byte of the text.
    pub fn lines(&self, last_byte: Option<u8>) -> u64 {
        match self {
            Self::Csv(decoder) => decoder.lines(),
            Self::Json(decoder) => decoder.lines(last_byte),
        }
    }

    /// Whether the usual null tokens mean NULL in columns that are not text.
    pub fn has_null_tokens(&self) -> bool {
        match self {
            Self::Csv(decoder) => decoder.dialect().null_values.is_none(),
            Self::Json(_) => false,
        }
    }

    /// Whether the file contains the names of its columns.
    pub fn has_names(&self) -> bool {
        match self {
            Self::Csv(decoder) => decoder.dialect().has_header,
            Self::Json(_) => true,
        }
    }

    /// The layout of the file; complete after its end.
    pub fn layout(&self) -> Layout {
        match self {
            Self::Csv(decoder) => Layout::Csv(decoder.dialect()),
            Self::Json(decoder) => Layout::Json {
                keys: decoder.keys().to_vec(),
                joins: decoder.joins().to_vec(),
                is_plain: decoder.is_plain(),
                records_hint: decoder.records_hint().map(str::to_owned),
            },
        }
    }
}

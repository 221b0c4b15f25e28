//! One file's decoder, whatever its format: decoded bytes go in, batches come out, and at the end it says how the columns
//! are called and how the file is laid out.
//!
//! A file is read in two passes. The first one's [`Layout`] is given to the second, which then reads the same rows
//! without finding anything out anew.

use super::Batch;
use super::csv::{CsvDecoder, CsvDialect, CsvLimits};
use super::detect::Format;
use crate::config::{CsvSettings, FileLimits, FileSettings};
use crate::error::Result;
use crate::schema::header::column_names;

/// How a file is read, once it is known.
#[derive(Debug, Clone, PartialEq)]
pub enum Layout {
    /// CSV with these marks.
    Csv(CsvDialect),
}

/// A decoder that is fed. Formats that are read by ranges are no members.
#[derive(Debug)]
pub enum Decoder {
    /// CSV.
    Csv(CsvDecoder),
}

impl Decoder {
    /// For a first pass.
    pub fn new(format: Format, settings: &FileSettings) -> Self {
        match format {
            Format::Csv => Self::csv(csv_dialect(&settings.csv), settings),
            Format::TabSeparated => {
                let dialect = csv_dialect(&settings.csv);
                Self::csv(CsvDialect { delimiter: dialect.delimiter.or(Some(b'\t')), ..dialect }, settings)
            }
        }
    }

    /// For a later pass.
    pub fn with_layout(layout: &Layout, settings: &FileSettings) -> Self {
        match layout {
            Layout::Csv(dialect) => Self::csv(dialect.clone(), settings),
        }
    }

    fn csv(dialect: CsvDialect, settings: &FileSettings) -> Self {
        Self::Csv(CsvDecoder::with_dialect(dialect, csv_limits(settings.limits)))
    }

    /// Takes the next bytes, cut anywhere. Take the batches out between calls.
    pub fn feed(&mut self, chunk: &[u8]) -> Result<()> {
        match self {
            Self::Csv(decoder) => decoder.feed(chunk),
        }
    }

    /// Says that the file has ended. What is left can then be taken out.
    pub fn finish(&mut self) -> Result<()> {
        match self {
            Self::Csv(decoder) => decoder.finish(),
        }
    }

    /// The next batch, as soon as there is one.
    pub fn take_batch(&mut self) -> Option<Batch> {
        match self {
            Self::Csv(decoder) => decoder.take_batch(),
        }
    }

    /// The columns' final names, as far as they are known: all of them with the first batch (CSV), none for an empty file.
    pub fn column_names(&self) -> Vec<String> {
        match self {
            Self::Csv(decoder) => decoder.header().map(column_names).unwrap_or_default(),
        }
    }

    /// Whether the usual null tokens mean NULL in columns that are not text.
    pub fn has_null_tokens(&self) -> bool {
        match self {
            Self::Csv(decoder) => decoder.dialect().null_values.is_none(),
        }
    }

    /// How the file is laid out, once it has ended.
    pub fn layout(&self) -> Layout {
        match self {
            Self::Csv(decoder) => Layout::Csv(decoder.dialect()),
        }
    }
}

fn csv_dialect(settings: &CsvSettings) -> CsvDialect {
    let tokens = settings.null_values.as_ref();
    CsvDialect {
        delimiter: settings.delimiter,
        quote: settings.quote,
        has_header: settings.has_header,
        encoding: settings.encoding,
        null_values: tokens.map(|tokens| tokens.iter().map(|token| token.clone().into_bytes()).collect()),
    }
}

fn csv_limits(limits: FileLimits) -> CsvLimits {
    CsvLimits { max_record_bytes: limits.max_record_bytes, max_columns: limits.max_columns }
}

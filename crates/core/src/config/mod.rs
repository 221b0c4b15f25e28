//! Settings: declared, read from the environment, checked. Nothing else reads the environment.
//!
//! A missing or invalid setting stops the process at start. The message contains the name, the value and the accepted
//! values. [`settings`] contains the declarations; `docs/settings.md` is generated from them.
//!
//! This is the top layer: it builds the settings of every other module, and no other module imports it.

#[cfg(test)]
mod boundary_tests;
#[cfg(test)]
mod declaration_tests;
#[cfg(test)]
mod docs;
mod environment;
mod programs;
mod read;
mod read_database;
pub mod setting;
pub mod settings;
#[cfg(test)]
mod template_tests;
#[cfg(test)]
mod tests;

use secrecy::SecretString;

pub use environment::Environment;
pub use programs::{IngestSettings, TaskSettings, TriggerSettings};

use crate::reject::RejectLimit;

/// What files are, as far as it is not seen from each of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileFormat {
    /// Each file is looked at.
    Auto,
    /// CSV.
    Csv,
    /// JSON.
    Json,
    /// Parquet.
    Parquet,
}

/// Limits on what a file may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileLimits {
    /// `BUFFER_MAX_BYTES`: objects up to this size, as stored, are read once and held in memory.
    pub buffer_max_bytes: u64,
    /// `MAX_RECORD_BYTES`: the longest record, header included.
    pub max_record_bytes: usize,
    /// `MAX_COLUMNS`.
    pub max_columns: usize,
    /// Limits on what comes out of a compressed file.
    pub decoded: DecodedLimits,
    /// `MAX_REJECTS`.
    pub rejects: RejectLimit,
}

/// Limits on what comes out of a compressed file, so that a small one cannot fill a disk or a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecodedLimits {
    /// `MAX_DECODED_BYTES`: the most bytes.
    pub max_bytes: u64,
    /// `MAX_DECODED_RATIO`: the most decoded bytes for each stored one, once there are many of them.
    pub max_ratio: u64,
}

/// How CSV is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CsvSettings {
    /// `CSV_DELIMITER`; without one it is found in each file.
    pub delimiter: Option<u8>,
    /// `CSV_QUOTE`; without one nothing is quoted.
    pub quote: Option<u8>,
    /// `CSV_HEADER`: whether the first record names the columns.
    pub has_header: bool,
    /// `CSV_ENCODING`, of files without a byte order mark; UTF-8 without one.
    pub encoding: Option<&'static encoding_rs::Encoding>,
    /// `NULL_VALUES`: fields that mean NULL in every column unless they are quoted, instead of the usual tokens.
    pub null_values: Option<Vec<String>>,
}

/// How files are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSettings {
    /// `FILE_FORMAT`.
    pub format: FileFormat,
    /// How CSV is read.
    pub csv: CsvSettings,
    /// How far a file may go.
    pub limits: FileLimits,
}

/// A password that is never printed, from plain text.
pub fn secret(text: impl Into<String>) -> SecretString {
    SecretString::from(text.into())
}

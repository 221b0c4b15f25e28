//! The settings of imports of exports.

use std::time::Duration;

use crate::exports::MessageFormat;
use crate::pipeline::PipelineConfig;

/// The settings of the function that imports exports.
#[derive(Debug, Clone)]
pub struct ImportSettings {
    /// The pipeline, for reading exports and loading deltas.
    pub pipeline: PipelineConfig,
    /// `S3_BUCKET`: the bucket with exports, deltas and registry.
    pub bucket: String,
    /// `EXPORT_PREFIX`: the prefix of the exports; empty for the whole bucket.
    pub prefix: String,
    /// `EXPORT_REGISTRY_PREFIX`: the prefix of locks and records.
    pub registry_prefix: String,
    /// `EXPORT_DELTA_PREFIX`: the prefix of the deltas.
    pub delta_prefix: String,
    /// `EXPORT_TARGET` and `EXPORT_STREAM`: where the changes go.
    pub target: ImportTarget,
    /// `EXPORT_MANIFEST` and `EXPORT_QUIET_SECONDS`: when the files of a version are complete.
    pub completion: Completion,
    /// `EXPORT_MAX_DELETES`: the most rows that an export may lack, in percent.
    pub max_deletes_percent: u8,
    /// `DIFF_MEMORY`: memory for the comparison, in bytes.
    pub diff_memory: u64,
    /// `PUBLISH_FORMAT`: the form of published records.
    pub publish_format: MessageFormat,
    /// `PUBLISH_MAX_RECORD_BYTES`: the largest published record, in bytes.
    pub publish_max_record_bytes: usize,
}

/// Where the changes go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImportTarget {
    /// Into the table in the database.
    Database,
    /// Into this Kinesis data stream.
    Stream(String),
    /// Into both, first into the database.
    Both(String),
}

/// How an import knows that all files of a version are there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Completion {
    /// A file of this name is written last.
    Manifest(String),
    /// No file was written for this time.
    Quiet(Duration),
}

impl ImportTarget {
    /// Whether changes are loaded into the database.
    pub(super) fn has_database(&self) -> bool {
        match self {
            Self::Database | Self::Both(_) => true,
            Self::Stream(_) => false,
        }
    }

    /// The stream, if changes are published.
    pub(super) fn stream(&self) -> Option<&str> {
        match self {
            Self::Database => None,
            Self::Stream(stream) | Self::Both(stream) => Some(stream),
        }
    }
}

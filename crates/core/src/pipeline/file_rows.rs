//! The rows of one file, with their schema and their number.
//!
//! They can be read any number of times: once for each try to load them, once for the lake, and once for the fallback.

use crate::batch::BatchStream;
use crate::destination::{ChangedTypes, RejectCounts, ValueRejects};
use crate::error::{Error, ErrorKind, Result};
use crate::pipeline::TableConfig;
use crate::reader::{FileReader, ScanResult};
use crate::row_objects::{self, Manifest};
use crate::store::Store;
use spillway_formats::reject::{Reject, RejectLimit};
use spillway_formats::schema::Schema;

/// The rows of a scanned file. It was scanned by this attempt, or by the one that wrote the fallback or lake object.
pub(crate) struct FileRows<'a> {
    pub(crate) schema: Schema,
    /// Number of good rows.
    pub(crate) rows: u64,
    /// Number of bad records of the file.
    pub(crate) rows_rejected: u64,
    /// SHA-256 of the source's stored bytes in hex.
    pub(crate) body_sha256: String,
    /// Decompressed size of the file. For rows of a row object, the stored size of the source, because the manifest has no other.
    pub(crate) decoded_bytes: u64,
    source: RowSource<'a>,
}

enum RowSource<'a> {
    File { reader: Box<FileReader>, scan: Box<ScanResult> },
    RowObject { store: &'a Store, manifest: &'a Manifest },
}

impl FileRows<'static> {
    /// The rows of the file itself.
    pub(crate) fn of_file(reader: FileReader, scan: ScanResult) -> Self {
        Self {
            schema: scan.schema.clone(),
            rows: scan.rows,
            rows_rejected: scan.rejects.len() as u64,
            body_sha256: scan.body_sha256.clone(),
            decoded_bytes: scan.decoded_bytes,
            source: RowSource::File { reader: Box::new(reader), scan: Box::new(scan) },
        }
    }
}

impl<'a> FileRows<'a> {
    /// The rows of the fallback or lake object of an earlier attempt.
    pub(crate) fn of_row_object(store: &'a Store, manifest: &'a Manifest) -> Self {
        Self {
            schema: manifest.schema.clone(),
            rows: manifest.rows,
            rows_rejected: manifest.rows_rejected,
            body_sha256: manifest.body_sha256.clone(),
            decoded_bytes: manifest.source.size_bytes,
            source: RowSource::RowObject { store, manifest },
        }
    }

    /// Reads all rows, from the first.
    pub(crate) async fn open(&self) -> Result<BatchStream<'_>> {
        match &self.source {
            RowSource::File { reader, scan } => reader.rows(&scan.layout).await,
            RowSource::RowObject { store, manifest } => row_objects::open_rows(store, manifest).await,
        }
    }

    /// The scanned file with its bad records. `None` for rows of a row object, whose rejects are already written.
    pub(crate) fn scanned_file(&self) -> Option<(&FileReader, &ScanResult)> {
        match &self.source {
            RowSource::File { reader, scan } => Some((reader, scan)),
            RowSource::RowObject { .. } => None,
        }
    }

    /// The most rows that may be rejected because the table refuses one of their values.
    ///
    /// Only rows that can be copied from the file one by one can be rejected.
    pub(crate) fn remaining_rejects(&self, limit: RejectLimit) -> u64 {
        match self.scanned_file() {
            Some((_, scan)) if scan.can_extract_records() => {
                limit.max_of(self.rows + self.rows_rejected).saturating_sub(self.rows_rejected)
            }
            Some(_) | None => 0,
        }
    }

    /// The list that collects rows with refused values; `None` if the limit allows no more bad records.
    pub(crate) fn value_rejects(&self, limit: RejectLimit) -> Option<ValueRejects> {
        let remaining = self.remaining_rejects(limit);
        (remaining > 0).then(|| ValueRejects::new(remaining))
    }

    /// Adds to the error of a refused value what the user must know about the limit of bad records, and about wider columns.
    ///
    /// `value_rejects` has the rows that were set aside before the error.
    pub(crate) fn explain_refusal(
        &self,
        config: &TableConfig,
        value_rejects: Option<&ValueRejects>,
        error: Error,
    ) -> Error {
        if error.kind() != ErrorKind::DataRefused || !error.is_of_one_record() {
            return error;
        }
        let limit = config.files.limits.rejects;
        let error = self.explain_kept_type(config, error);
        let Some(scan) = self.scanned_file().map(|(_, scan)| scan).filter(|scan| scan.can_extract_records()) else {
            return error.of_whole_file();
        };
        if !limit.is_on() {
            return error;
        }
        let records = self.rows + self.rows_rejected;
        let counts = RejectCounts { max: limit.max_of(records), records, unreadable: scan.rejects.len() as u64 };
        value_rejects.unwrap_or(&ValueRejects::new(0)).above_limit(error, counts)
    }

    /// Adds why `CHANGED_TYPES=widen` has not helped, if another record than that of the error decides the type of the column.
    fn explain_kept_type(&self, config: &TableConfig, error: Error) -> Error {
        if config.destination.changed_types != ChangedTypes::Widen || !error.needs_other_type() {
            return error;
        }
        let name = error.column().unwrap_or_default().to_lowercase();
        let Some(column) = self.schema.columns.iter().find(|column| column.name.to_lowercase() == name) else {
            return error;
        };
        let decided_by = column.type_reason.forced_by_record;
        let error = match decided_by.filter(|record| error.position().is_some_and(|at| at.record != *record)) {
            Some(_) => error.continued(&format!(
                "CHANGED_TYPES=widen needs a type for all values of the column, and {}",
                column.type_reason.reason
            )),
            None => error,
        };
        match column.has_nulls {
            true => error
                .continued("CHANGED_TYPES=widen keeps the type of a NOT NULL column if the file lacks a value for it"),
            false => error,
        }
    }

    /// The bad records of the scan, in file order.
    pub(crate) fn rejects(&self) -> &[Reject] {
        self.scanned_file().map_or(&[], |(_, scan)| &scan.rejects)
    }
}

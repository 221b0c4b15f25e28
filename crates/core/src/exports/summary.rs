//! The result of a comparison in numbers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::columns::SchemaChanges;
use crate::object::hash_parts;

/// One export.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportSummary {
    /// The file, as the user names it, or `s3://bucket/key`. For an export of several files, their folder.
    pub file: String,
    /// The version id of an object in a versioned bucket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version_id: Option<String>,
    /// The ETag of an object in S3, including its quotes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// Number of stored bytes.
    pub size_bytes: u64,
    /// Number of bytes after decompression.
    pub decoded_bytes: u64,
    /// SHA-256 of the stored bytes in hex.
    pub sha256: String,
    /// Number of rows.
    pub rows: u64,
    /// The names of the columns, in the order of the file.
    pub columns: Vec<String>,
}

impl ExportSummary {
    /// The summary of an export in several files: of the files so far, and another one.
    pub(super) fn and(self, other: Self) -> Self {
        let folder = self.file.rfind('/').map_or(self.file.len(), |slash| slash + 1);
        Self {
            file: self.file[..folder].to_owned(),
            version_id: None,
            etag: None,
            size_bytes: self.size_bytes + other.size_bytes,
            decoded_bytes: self.decoded_bytes + other.decoded_bytes,
            sha256: hash_parts(&["export", &self.sha256, &other.sha256]),
            rows: self.rows + other.rows,
            columns: self.columns,
        }
    }
}

/// The numbers of rows by their change.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeCounts {
    /// Rows that only the new export has.
    pub inserted: u64,
    /// Rows that both exports have, with different values in common columns.
    pub updated: u64,
    /// Rows that only the old export has.
    pub deleted: u64,
    /// Rows that both exports have, with equal values in all common columns.
    pub unchanged: u64,
    /// For each column of the new export with a changed value, the number of such updates.
    pub updated_by_column: BTreeMap<String, u64>,
}

impl ChangeCounts {
    /// Number of changes.
    pub fn changes(&self) -> u64 {
        self.inserted + self.updated + self.deleted
    }
}

/// The result of a comparison. As JSON, it is the first line of a delta.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// The older export; `None` if the new one is the first.
    pub old: Option<ExportSummary>,
    /// The newer export.
    pub new: ExportSummary,
    /// The key columns, as the new export names them.
    pub key: Vec<String>,
    /// The numbers of changes.
    #[serde(flatten)]
    pub counts: ChangeCounts,
    /// The columns that only one of the exports has.
    pub schema_changes: SchemaChanges,
}

impl Summary {
    /// Whether both exports have the same rows and the same columns.
    pub fn is_equal(&self) -> bool {
        self.counts.changes() == 0
            && self.schema_changes.added.is_empty()
            && self.schema_changes.removed.is_empty()
            && self.old.is_some()
    }
}

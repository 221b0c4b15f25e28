//! The manifest of a run: a JSON object next to its parts, written after them.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::destination::source::SourceColumn;

/// What a run has extracted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The identity of the run, which its objects name in their metadata.
    pub run: String,
    /// The database: the name of its secret, or its address.
    pub source: String,
    /// The table, or the text of the query.
    pub relation: String,
    /// The time in the folder's name.
    pub slot: Timestamp,
    /// The columns, in the order of the file.
    pub columns: Vec<SourceColumn>,
    /// The range of the cursor, if the run has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<ManifestCursor>,
    /// The parts, in order.
    pub parts: Vec<ManifestPart>,
    /// Number of rows.
    pub rows: u64,
    /// Size of the parts in bytes, as stored.
    pub bytes: u64,
    /// When the extract started, before its login.
    pub started_at: Timestamp,
    /// When the last part was sent.
    pub ended_at: Timestamp,
    /// The version of Spillway.
    pub tool_version: String,
}

/// The rows that a run with a cursor has extracted: above `after`, up to `up_to`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestCursor {
    /// The column.
    pub column: String,
    /// The value that the run before has reached.
    pub after: Option<String>,
    /// The value that this run has reached; that of the run before if there were no new rows.
    pub up_to: Option<String>,
    /// Number of rows of the source without a value, which no run extracts.
    pub rows_without_value: u64,
}

/// A part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestPart {
    /// Its key.
    pub key: String,
    /// Number of rows.
    pub rows: u64,
    /// Size in bytes, as stored.
    pub bytes: u64,
}

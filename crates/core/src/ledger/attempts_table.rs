//! The columns of the attempt history, and the indexes of ledger and history.

use super::table::{Column, create_table, definition};
use super::{Dialect, SqlType};

const NO_ROWS: &str = "NOT NULL DEFAULT 0";

/// The columns of the history. They have the names of the ledger's columns where they mean the same.
const COLUMNS: [Column; 19] = [
    // A hash of source, outcome, error kind and day.
    ("attempt_id", SqlType::Hash, "NOT NULL"),
    ("source_id", SqlType::Hash, "NOT NULL"),
    ("bucket", SqlType::Text(255), "NOT NULL"),
    ("object_key", SqlType::Text(1024), "NOT NULL"),
    ("version_id", SqlType::Text(1024), "NULL"),
    ("size_bytes", SqlType::Count, "NOT NULL"),
    ("target_table", SqlType::Text(64), "NOT NULL"),
    ("outcome", SqlType::Text(16), "NOT NULL"),
    ("error_kind", SqlType::Text(32), "NOT NULL"),
    ("attempts", SqlType::Integer, "NOT NULL DEFAULT 1"),
    ("first_started_at", SqlType::Time, "NOT NULL"),
    ("started_at", SqlType::Time, "NOT NULL"),
    ("ended_at", SqlType::Time, "NOT NULL"),
    ("worker", SqlType::Text(255), "NOT NULL"),
    ("tool_version", SqlType::Text(32), "NOT NULL"),
    ("rows_parsed", SqlType::Count, NO_ROWS),
    ("rows_stored", SqlType::Count, NO_ROWS),
    ("rows_rejected", SqlType::Count, NO_ROWS),
    ("reason", SqlType::LongText, "NOT NULL"),
];

/// An index for a question that people ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Index {
    /// By the key of the object.
    ObjectKey,
    /// By time.
    StartedAt,
    /// By state and time, in the ledger.
    State,
    /// By outcome and time, in the history.
    Outcome,
    /// By object version, in the history. In the ledger it is the primary key.
    SourceId,
}

/// The ledger's indexes, without those of its keys.
pub(super) const LEDGER_INDEXES: &[Index] = &[Index::ObjectKey, Index::StartedAt, Index::State];

/// The history's indexes, without its primary key.
pub(super) const ATTEMPT_INDEXES: &[Index] = &[Index::ObjectKey, Index::StartedAt, Index::Outcome, Index::SourceId];

/// Returns the statement that creates the history.
pub(super) fn create_attempts<D: Dialect>(table: &str) -> String {
    let columns: Vec<String> = COLUMNS.iter().map(definition::<D>).collect();
    create_table::<D>(table, &columns, "PRIMARY KEY (attempt_id)", ATTEMPT_INDEXES)
}

//! The report on one object, as it is returned, logged and printed.

use serde::{Deserialize, Serialize};

use crate::error::{Error, chain};
use crate::object::ObjectRef;

/// The outcome of one object. With any of them, the event must not be retried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// This attempt loaded the rows into the table.
    Loaded,
    /// The rows were in the table before, from an earlier attempt or, with `DEDUPE=content`, from the same bytes.
    AlreadyLoaded,
    /// The rows are stored nowhere, because a newer file has replaced the table.
    Superseded,
    /// The rows are in the fallback: S3 and Glue.
    FellBack,
    /// The file is invalid. It is under the failed prefix, together with the reason; no row is stored.
    Rejected,
    /// The object is not a file to load, or does not exist any more.
    Skipped,
    /// A Fargate task loads the object and reports its own outcome, or the Glue job loads it.
    HandedOver,
    /// The rows were loaded from the fallback into the table.
    Replayed,
}

impl Outcome {
    /// The name in logs, reports and the ledger.
    pub fn name(self) -> &'static str {
        match self {
            Self::Loaded => "loaded",
            Self::AlreadyLoaded => "already_loaded",
            Self::Superseded => "superseded",
            Self::FellBack => "fell_back",
            Self::Rejected => "rejected",
            Self::Skipped => "skipped",
            Self::HandedOver => "handed_over",
            Self::Replayed => "replayed",
        }
    }
}

/// Work that a request left undone without failing. A later request tries it again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NotDone {
    /// What was not done.
    pub what: String,
    /// Why.
    pub reason: String,
}

impl NotDone {
    pub(crate) fn new(what: impl Into<String>, error: &Error) -> Self {
        Self { what: what.into(), reason: format!("{}: {}", error.kind(), chain(error)) }
    }
}

/// The report on one object.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The object, as the event or the request named it.
    pub object: ObjectRef,
    /// The identity of its version, once S3 has returned it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_id: Option<String>,
    /// The outcome.
    pub outcome: Outcome,
    /// The table, if the key yields one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
    /// The load mode of a load or a replay, or `lake` if no row is in the database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_mode: Option<String>,
    /// The load mode of the earlier load, for a file that was loaded before with another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub earlier_load_mode: Option<String>,
    /// The file that has replaced the table since, for a file that was loaded before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaced_by: Option<String>,
    /// Rows read from the file.
    pub rows_parsed: u64,
    /// Rows of this object that are in the table or the fallback. A merge stores only the last of several rows with the
    /// same key.
    pub rows_stored: u64,
    /// Stored rows for which a merge or a mirror changed a row of the table.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub rows_updated: u64,
    /// Stored rows that were equal to a row of the table, in a merge or a mirror.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub rows_unchanged: u64,
    /// Rows of the table that were deleted: by a mirror because the file does not have them, or by changes.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub rows_deleted: u64,
    /// Updates and deletions of a file of changes whose row was not in the table. Such an update has inserted its row.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub rows_missing: u64,
    /// Records of the file that were rejected.
    #[serde(default)]
    pub rows_rejected: u64,
    /// The key of the rejected records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejects: Option<String>,
    /// The key of the object with the rows in the lake, if this attempt wrote or found it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lake: Option<String>,
    /// The Glue table over the raw zone, as `database.table`, if the file's folder is registered there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub catalog: Option<String>,
    /// Why Athena cannot read the file in its raw zone, or why its folder is not registered yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub catalog_problem: Option<String>,
    /// The object's size in bytes.
    pub size_bytes: u64,
    /// The duration of this attempt in milliseconds.
    pub elapsed_ms: u64,
    /// The cost in US dollars, if the size of the function or task is known; see `cost`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_usd: Option<f64>,
    /// The new key of the object, if it moved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub moved_to: Option<String>,
    /// How the table was changed for the file: created, columns added, types widened.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub table_changes: Vec<String>,
    /// The reason for the outcome, unless it is a plain load.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What the user may have meant with the file, if another setting would read it in another way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Whether an operator must act although no row is lost. The object has an outcome, so the run does not fail.
    #[serde(default)]
    pub needs_attention: bool,
}

impl Report {
    /// A report with an outcome and no counts.
    pub fn new(object: ObjectRef, outcome: Outcome) -> Self {
        Self {
            object,
            source_id: None,
            outcome,
            table: None,
            load_mode: None,
            earlier_load_mode: None,
            replaced_by: None,
            rows_parsed: 0,
            rows_stored: 0,
            rows_updated: 0,
            rows_unchanged: 0,
            rows_deleted: 0,
            rows_missing: 0,
            rows_rejected: 0,
            rejects: None,
            lake: None,
            catalog: None,
            catalog_problem: None,
            size_bytes: 0,
            elapsed_ms: 0,
            cost_usd: None,
            moved_to: None,
            table_changes: Vec::new(),
            reason: None,
            hint: None,
            needs_attention: false,
        }
    }

    /// Adds the reason for the outcome.
    #[must_use]
    pub fn because(mut self, reason: impl Into<String>) -> Self {
        self.reason = Some(reason.into());
        self
    }
}

/// Whether a count is omitted from a document.
pub(crate) fn is_zero<T: Default + PartialEq>(count: &T) -> bool {
    *count == T::default()
}

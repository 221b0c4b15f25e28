//! The ledger: a table with one row per source (object version). It decides whether a source is loaded.
//!
//! The row is written in the same transaction as the source's rows. Users query the table as the history of loads. A second
//! table, [`attempts`], has the attempts that did not load their file, and a third, [`syncs`], the watermarks of syncs. These
//! two never decide anything.
//!
//! A worker claims a source by locking its ledger row. At most one transaction holds that lock, and a source whose row
//! says `loaded` is never loaded again. [`SqlLedger`] contains the statements for all databases. A [`Dialect`] and a
//! [`LedgerConnection`] supply the differences. This module knows nothing about how rows are loaded; it only needs the
//! load's connection.

mod attempts;
mod attempts_table;
mod claim;
mod dialect;
mod history;
mod load_details;
mod runs;
mod sql;
mod statements;
mod succession;
mod syncs;
mod table;
mod table_changes;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::object::{ObjectRef, ObjectVersion, hash_parts};
use crate::report::Report;
use crate::table_name::TableName;

pub use attempts::{AttemptRecord, AttemptsMaintenance, AttemptsProbe, RunOutcome};
pub(crate) use attempts_table::Index;
pub(crate) use claim::CurrentSource;
pub(crate) use dialect::{Cell, Dialect, ExecuteResult, LedgerConnection, Row, SqlType, Value};
pub use history::{DoneVersion, HistoryEntry};
pub use load_details::LoadDetails;
pub use runs::{Run, RunCursor, RunFilter, RunPage, RunPlaces};
pub(crate) use sql::{Loaded, SqlLedger, entry};
pub use syncs::SyncState;
pub(crate) use table::{CheckedLedger, LedgerColumns};
pub(crate) use table_changes::{FailedAdditions, TableChangesColumn, reported};

/// Number of characters that columns named `worker` store.
pub(crate) const WORKER_CHARACTERS: usize = 255;

/// Number of characters that the columns `reason` store.
pub(crate) const REASON_CHARACTERS: usize = 8000;

/// The committed state of a source in the ledger. The ledger stores its name.
///
/// Inside the open transaction that claims the source, its row has the state `loading`, which is never committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LedgerState {
    /// The rows are in the table.
    Loaded,
    /// The same bytes were loaded before from another version of the same key, so these are not loaded.
    Duplicate,
    /// A newer file has replaced the table, so the rows of this one are not needed.
    Superseded,
    /// The rows are in the fallback.
    FellBack,
    /// The file is broken, its key yields no table, or it was parked. No row is stored.
    Rejected,
}

impl LedgerState {
    /// All states.
    const ALL: [Self; 5] = [Self::Loaded, Self::Duplicate, Self::Superseded, Self::FellBack, Self::Rejected];

    /// Returns the stored name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Loaded => "loaded",
            Self::Duplicate => "duplicate",
            Self::Superseded => "superseded",
            Self::FellBack => "fell_back",
            Self::Rejected => "rejected",
        }
    }

    /// Returns the state of a stored name.
    fn from_name(name: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|state| state.name() == name)
            .ok_or_else(|| Error::new(ErrorKind::Internal, format!("the ledger has an unknown state: {name}")))
    }

    /// Whether the source needs no load: its rows were loaded, or a newer file has replaced the table.
    pub fn needs_no_load(self) -> bool {
        match self {
            Self::Loaded | Self::Duplicate | Self::Superseded => true,
            Self::FellBack | Self::Rejected => false,
        }
    }
}

/// The part of a ledger row that the pipeline needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerEntry {
    /// The source's state.
    pub state: LedgerState,
    /// Rows of the file.
    pub rows_parsed: u64,
    /// Rows that were stored.
    pub rows_stored: u64,
    /// The key that the object was moved to.
    pub moved_to: Option<String>,
    /// The object.
    pub object: ObjectRef,
    /// When the outcome was written; `None` if this attempt wrote it.
    pub committed_at: Option<Timestamp>,
    /// The reason for an outcome other than a load.
    pub reason: Option<String>,
    /// The load mode of the load; `None` if it is unknown, or if nothing was loaded.
    pub load_mode: Option<String>,
    /// The file that has replaced the table since, with the time of its change, if the rows of this one are gone.
    pub replaced_by: Option<String>,
}

impl LedgerEntry {
    /// Returns why a source that [needs no load](LedgerState::needs_no_load) needs none: which file was loaded, and when.
    pub(crate) fn explanation(&self) -> String {
        match (self.state, &self.reason) {
            (LedgerState::Duplicate | LedgerState::Superseded, Some(reason)) => reason.clone(),
            (LedgerState::Superseded, None) => "a newer file has already replaced the table".to_owned(),
            (LedgerState::Duplicate, None) => "the same content was loaded before".to_owned(),
            (LedgerState::Loaded | LedgerState::FellBack | LedgerState::Rejected, _) => {
                let loaded = format!("it was loaded {}", from_and_when(&self.object, self.committed_at));
                match &self.replaced_by {
                    Some(file) => format!("{loaded}, but its rows are gone: {file} has replaced the table since"),
                    None => loaded,
                }
            }
        }
    }

    /// Returns the load mode of the earlier load, if it is not this one.
    pub(crate) fn other_load_mode(&self, load_mode: &str) -> Option<&str> {
        self.load_mode.as_deref().filter(|earlier| *earlier != load_mode)
    }
}

/// Returns where a file was loaded from, and when.
fn from_and_when(object: &ObjectRef, time: Option<Timestamp>) -> String {
    match time {
        Some(time) => format!("from {object} at {}", utc(time)),
        None => format!("from {object}"),
    }
}

/// Returns a time as people read it.
fn utc(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// The place of an object whose file has an outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObjectPlace<'a> {
    /// It has moved to this key.
    MovedTo(&'a str),
    /// It was deleted.
    Deleted,
    /// It stays at its key.
    Kept,
}

/// Row counts of a load.
///
/// Every parsed row belongs to one of four groups; in a file of changes, the fourth also has the deletions:
///
/// - inserted: `rows_stored` minus `rows_updated` and `rows_unchanged`
/// - updated: `rows_updated`
/// - unchanged: `rows_unchanged`
/// - superseded by a later row of the same file with the same merge key: `rows_parsed` minus `rows_stored`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RowCounts {
    /// Records of the file that were not rejected. In the ledger and in reports, `rows_parsed` also includes the
    /// rejected ones.
    pub rows_parsed: u64,
    /// Rows of the file that are in the table. A merge stores the last row of each key, every other load all rows.
    pub rows_stored: u64,
    /// Stored rows that changed an existing row of the table, in a merge or a mirror.
    pub rows_updated: u64,
    /// Stored rows that the table already had, in a merge or a mirror.
    pub rows_unchanged: u64,
    /// Rejected records of the file, in addition to `rows_parsed`.
    pub rows_rejected: u64,
    /// Rows of the table that were deleted: by a mirror because the file does not have them, or by changes.
    pub rows_deleted: u64,
    /// Updates and deletions of a file of changes whose row was not in the table. An update whose row is missing inserts it.
    pub rows_missing: u64,
}

impl RowCounts {
    /// Returns the counts of a load that has inserted every row.
    pub fn inserted(rows: u64) -> Self {
        Self { rows_parsed: rows, rows_stored: rows, ..Self::default() }
    }

    /// Copies the counts into a report, except `rows_parsed`, which also has the rejected records there.
    pub fn copy_to(&self, report: &mut Report) {
        report.rows_stored = self.rows_stored;
        report.rows_rejected = self.rows_rejected;
        report.rows_updated = self.rows_updated;
        report.rows_unchanged = self.rows_unchanged;
        report.rows_deleted = self.rows_deleted;
        report.rows_missing = self.rows_missing;
    }
}

/// An outcome without a load (a file that is empty, was rejected, or fell back), as the ledger stores it.
#[derive(Debug, Clone)]
pub struct LedgerOutcome {
    /// The state.
    pub state: LedgerState,
    /// SHA-256 of the body in hex, if the body was read to its end.
    pub body_sha256: Option<String>,
    /// Rows of the file; 0 if it was rejected.
    pub rows_parsed: u64,
    /// Rows in the fallback.
    pub rows_stored: u64,
    /// Rejected records, in addition to `rows_parsed`.
    pub rows_rejected: u64,
    /// The reason, without row values.
    pub reason: String,
}

/// Returns the name of a scope of a table, for the ledger's column `current_of`: the rows with these values in the scope's columns.
pub(crate) fn scope_name(table: &TableName, values: &[String]) -> String {
    let table: Vec<&str> = table.parts().collect();
    let values: Vec<&str> = values.iter().map(String::as_str).collect();
    hash_parts(&[&["scope"], &table[..], &[""], &values[..]].concat())
}

/// A worker's claim on a source, as the ledger stores it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Claim<'a> {
    pub(crate) source: &'a ObjectVersion,
    /// The table that the rows are loaded into.
    pub(crate) table: &'a TableName,
    /// Host, process and start time of the worker.
    pub(crate) worker: &'a str,
    /// When the attempt started.
    pub(crate) started_at: Timestamp,
    /// SHA-256 of the body in hex, if it is known.
    pub(crate) body_sha256: Option<&'a str>,
    /// A hash of bucket, key and body, which identifies the content; `None` if the body is not known yet, or if the
    /// same content may be loaded again.
    pub(crate) content_id: Option<&'a str>,
}

/// The result of a claim.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ClaimResult {
    /// The open transaction holds the claim.
    Claimed,
    /// The source needs no load, see [`LedgerState::needs_no_load`]. The transaction has ended.
    NotNeeded(Box<LedgerEntry>),
}

/// Returns at most this many characters of a text, because a column stores no more.
pub(crate) fn truncated(text: &str, characters: usize) -> &str {
    text.char_indices().nth(characters).map_or(text, |(end, _)| &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;
    #[test]
    fn text_is_truncated_between_characters() {
        assert_eq!(truncated("äöü", 2), "äö");
        assert_eq!(truncated("äö", 2), "äö");
    }

    #[test]
    fn scopes_of_one_table_differ_by_their_values() {
        let name = |table: TableName, values: &[&str]| {
            scope_name(&table, &values.iter().map(|value| (*value).to_owned()).collect::<Vec<_>>())
        };
        let names = [
            name("orders".into(), &["a"]),
            name("orders".into(), &["b"]),
            name("orders".into(), &["a", "b"]),
            name("orders".into(), &["ab"]),
            name(TableName::in_schema("orders", "a"), &[]),
            name("other".into(), &["a"]),
        ];
        for (index, name) in names.iter().enumerate() {
            assert_eq!(name.len(), 64);
            assert_eq!(names.iter().position(|other| other == name), Some(index));
        }
    }

    #[test]
    fn explanation_names_the_earlier_file_and_its_time() {
        let entry = |state, reason: Option<&str>| LedgerEntry {
            state,
            rows_parsed: 1,
            rows_stored: 1,
            moved_to: None,
            object: ObjectRef::of_local_file("laptop", "/data/a.csv"),
            committed_at: Some("2026-11-30T08:40:01.5Z".parse().unwrap()),
            reason: reason.map(str::to_owned),
            load_mode: None,
            replaced_by: None,
        };
        let loaded = entry(LedgerState::Loaded, None);
        assert_eq!(loaded.explanation(), "it was loaded from file://laptop/data/a.csv at 2026-11-30 08:40:01 UTC");
        assert_eq!(entry(LedgerState::Duplicate, Some("why")).explanation(), "why");
        for state in LedgerState::ALL {
            let text = entry(state, None).explanation();
            assert!(!text.contains("ledger") && !text.contains("duplicate"), "{text}");
        }
    }

    #[test]
    fn stored_name_returns_its_state_and_unknown_name_is_an_error() {
        for state in LedgerState::ALL {
            assert_eq!(LedgerState::from_name(state.name()).unwrap(), state);
        }
        assert!(LedgerState::from_name("half").is_err());
    }
}

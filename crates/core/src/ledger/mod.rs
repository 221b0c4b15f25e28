//! The ledger: one row per source, written in the transaction of its rows, and the load history that users query.
//!
//! The locked ledger row is the claim on a source: at most one transaction holds it, and a source whose row says
//! `loaded` is never loaded again. [`SqlLedger`] contains the statements once, over a [`Dialect`] and a
//! [`LedgerConnection`]. This module does not know how rows get into a table, so the ledger may live in another
//! database than the rows.

mod dialect;
mod sql;
mod table;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::object::ObjectVersion;
use crate::report::Report;

pub(crate) use dialect::{Cell, Dialect, Executed, LedgerConnection, Row, SqlType, Value};
pub(crate) use sql::SqlLedger;

/// A source's state in the ledger. The names are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LedgerState {
    /// The rows are in the table.
    Loaded,
    /// The same bytes are in the table under another source id of the same key.
    Duplicate,
    /// A newer file has replaced the table. Loaded in their turn, the rows would be gone by now.
    Superseded,
    /// The rows are in the fallback.
    FellBack,
    /// The file is broken; no row is stored.
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

    fn of_name(name: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|state| state.name() == name)
            .ok_or_else(|| Error::new(ErrorKind::Internal, format!("the ledger has an unknown state: {name}")))
    }

    /// Whether the rows are in the table, or were replaced there, so that nothing is left to load.
    pub fn is_in_target(self) -> bool {
        match self {
            Self::Loaded | Self::Duplicate | Self::Superseded => true,
            Self::FellBack | Self::Rejected => false,
        }
    }
}

/// The columns of a ledger row that decisions depend on.
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
}

/// Row counts of a load. Every parsed row is exactly one of: inserted (`rows_stored` less the next two), updated,
/// unchanged, or superseded by a later row of the same file (`rows_parsed` less `rows_stored`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RowCounts {
    /// Rows of the stream that were not rejected.
    pub rows_parsed: u64,
    /// Rows of the file that are in the table. Equal to `rows_parsed` except in a merge, which stores the last row of
    /// each key.
    pub rows_stored: u64,
    /// Stored rows that a merge has updated.
    pub rows_updated: u64,
    /// Stored rows that a merge has found unchanged.
    pub rows_unchanged: u64,
    /// Rejected records of the file, in addition to `rows_parsed`.
    pub rows_rejected: u64,
}

impl RowCounts {
    /// The counts of a load that has inserted every row.
    pub fn inserted(rows: u64) -> Self {
        Self { rows_parsed: rows, rows_stored: rows, ..Self::default() }
    }

    /// Copies the counts into a report.
    pub fn count_in(&self, report: &mut Report) {
        report.rows_stored = self.rows_stored;
        report.rows_rejected = self.rows_rejected;
        report.rows_updated = self.rows_updated;
        report.rows_unchanged = self.rows_unchanged;
    }
}

/// An outcome other than a load, to be written into the ledger.
#[derive(Debug, Clone)]
pub struct LedgerOutcome {
    /// The state.
    pub state: LedgerState,
    /// SHA-256 of the body in hex, where the body was read to its end.
    pub body_sha256: Option<String>,
    /// Rows of the file, as far as they were counted.
    pub rows_parsed: u64,
    /// Rows that were stored elsewhere (in the fallback).
    pub rows_stored: u64,
    /// Rejected records, in addition to `rows_parsed`.
    pub rows_rejected: u64,
    /// The reason, without row values.
    pub reason: String,
}

/// A worker's claim on a source, as the ledger stores it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Claim<'a> {
    pub(crate) source: &'a ObjectVersion,
    /// The table that the rows are loaded into.
    pub(crate) table: &'a str,
    /// Host, process and start time of the worker.
    pub(crate) worker: &'a str,
    /// When the attempt started.
    pub(crate) started_at: Timestamp,
    /// SHA-256 of the body in hex, where it is known.
    pub(crate) body_sha256: Option<&'a str>,
    /// The identity of the content, where it is known and `DEDUPE=content`.
    pub(crate) content_id: Option<&'a str>,
}

/// The result of a claim.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ClaimResult {
    /// The open transaction holds the claim.
    Claimed,
    /// Nothing is left to load, see [`LedgerState::is_in_target`]. The transaction is closed.
    AlreadyLoaded(LedgerEntry),
}

/// The source whose rows a replaced table contains, read from its ledger row.
#[derive(Debug)]
struct CurrentSource {
    source_id: String,
    key: String,
    /// S3's `LastModified`, in microseconds since 1970-01-01 UTC.
    modified_micros: Option<i64>,
}

impl CurrentSource {
    /// Whether this source is newer than another, so that its rows stay.
    ///
    /// The later `LastModified` is newer, then the greater key. Keys are compared here byte by byte, because a
    /// database's collation may find different keys equal.
    fn is_newer_than(&self, other: &ObjectVersion) -> bool {
        let other = (Some(other.last_modified.as_microsecond()), other.object.key.as_str());
        (self.modified_micros, self.key.as_str()) > other
    }
}

/// Returns the first characters of a text, as many as a column stores.
fn truncated(text: &str, characters: usize) -> &str {
    text.char_indices().nth(characters).map_or(text, |(end, _)| &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::ObjectRef;

    #[test]
    fn newer_source_has_later_time_then_greater_key() {
        let noon = "2026-11-20T12:00:00Z".parse().unwrap();
        let source = ObjectVersion::new(ObjectRef::new("bucket", "b"), "e".into(), 1, noon, None);
        let micros = noon.as_microsecond();
        let is_newer = |key: &str, modified_micros| {
            CurrentSource { source_id: String::new(), key: key.into(), modified_micros }.is_newer_than(&source)
        };
        assert!(is_newer("a", Some(micros + 1)) && !is_newer("c", Some(micros - 1)));
        assert!(is_newer("c", Some(micros)) && is_newer("ba", Some(micros)) && is_newer("\u{e4}", Some(micros)));
        assert!(!is_newer("b", Some(micros)) && !is_newer("a", Some(micros)) && !is_newer("Z", Some(micros)));
        assert!(!is_newer("c", None));
    }

    #[test]
    fn text_is_truncated_between_characters() {
        assert_eq!(truncated("äöü", 2), "äö");
        assert_eq!(truncated("äö", 2), "äö");
    }

    #[test]
    fn every_state_is_read_back_and_unknown_one_is_error() {
        for state in LedgerState::ALL {
            assert_eq!(LedgerState::of_name(state.name()).unwrap(), state);
        }
        assert!(LedgerState::of_name("half").is_err());
    }
}

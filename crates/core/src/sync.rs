//! Syncs: loads the files of a time window, table by table.
//!
//! A sync without a window begins at the watermark of the table, minus an overlap. The watermark is the start of the last sync, or the
//! time of the oldest file that this sync left, if that is earlier. It narrows the listing and decides nothing: the ledger says which
//! files are loaded. So a sync may stop at any moment, and two may run at once.
//!
//! This module finds the files and counts the results. [`crate::dispatch`] loads the files.

mod listing;
mod window;

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::destination::SyncState;
use crate::report::{Outcome, Report, is_zero};
use crate::table_name::TableName;

pub(crate) use listing::{Listing, SearchRoot, SearchRoots, files, roots, time_of};
pub use window::Window;

/// The parameters of a sync.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SyncRequest {
    /// The table; without it every table whose loaded files stay in place.
    pub table: Option<TableName>,
    /// The window; without it the sync begins at the watermark, and moves it.
    pub window: Option<Window>,
}

/// The result of a sync.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct SyncResult {
    /// The tables, in the order in which they were synced.
    pub tables: Vec<TableSync>,
    /// Number of requests to S3 that found the tables.
    pub s3_requests: u64,
    /// Number of reports that the response does not contain, because its size is limited.
    #[serde(skip_serializing_if = "is_zero")]
    pub reports_omitted: u64,
}

impl SyncResult {
    /// Number of files without an outcome.
    pub(crate) fn remaining(&self) -> u64 {
        self.tables.iter().filter_map(|table| table.remaining).sum()
    }

    /// Number of tables with such files, or whose files were not listed.
    pub(crate) fn incomplete(&self) -> u64 {
        self.tables.iter().filter(|table| !table.is_complete()).count() as u64
    }
}

/// The result of a sync for one table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TableSync {
    /// The table.
    pub table: String,
    /// The start of the window; `None` for all files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<Timestamp>,
    /// The end of the window, if the request names one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<Timestamp>,
    /// Number of files in the window.
    pub files: u64,
    /// Number of those files that the ledger showed to be done, so that they were not read.
    pub done: u64,
    /// Number of files in the same folders whose keys give no table, so that no sync loads them.
    #[serde(skip_serializing_if = "is_zero")]
    pub unmatched: u64,
    /// Number of files by outcome.
    pub outcomes: BTreeMap<&'static str, u64>,
    /// Number of files without an outcome; `None` if they were not listed.
    pub remaining: Option<u64>,
    /// The watermark after the sync.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub watermark: Option<Timestamp>,
    /// Number of requests to S3, for the listing and the loads.
    pub s3_requests: u64,
}

impl TableSync {
    /// The result for a table of which nothing is known yet.
    pub(crate) fn new(table: &TableName, window: Window, watermark: Option<Timestamp>) -> Self {
        Self {
            table: table.to_string(),
            from: window.from,
            to: window.to,
            files: 0,
            done: 0,
            unmatched: 0,
            outcomes: BTreeMap::new(),
            remaining: None,
            watermark,
            s3_requests: 0,
        }
    }

    /// The window.
    pub(crate) fn window(&self) -> Window {
        Window { from: self.from, to: self.to }
    }

    /// Counts the outcomes of `waiting` files. A file that was dispatched to Fargate counts as remaining too, because its task has not ended.
    pub(crate) fn count(&mut self, waiting: u64, reports: &[Report]) {
        let mut remaining = waiting;
        for report in reports {
            *self.outcomes.entry(report.outcome.name()).or_default() += 1;
            if report.outcome != Outcome::HandedOver {
                remaining = remaining.saturating_sub(1);
            }
        }
        self.remaining = Some(remaining);
    }

    /// Whether no file of the window remains.
    pub(crate) fn is_complete(&self) -> bool {
        self.remaining == Some(0)
    }
}

/// The window of a sync: that of the request, or else from the watermark minus the overlap, or everything.
///
/// Without an end, because a file can have a time in the future: its key may contain a local time.
pub(crate) fn window(request: &SyncRequest, watermark: Option<Timestamp>, overlap: Duration) -> Window {
    request.window.unwrap_or_else(|| Window { from: watermark.map(|time| before(time, overlap)), to: None })
}

/// The watermark after a sync: its start, or the time of the oldest remaining file if that is earlier.
///
/// Files older than this time are done. A file that fails again and again keeps the watermark at its own time, so it is listed
/// again by each sync.
pub(crate) fn next_watermark(started_at: Timestamp, oldest_remaining: Option<Timestamp>) -> Timestamp {
    oldest_remaining.map_or(started_at, |oldest| oldest.min(started_at))
}

/// The time now, as exact as the ledger stores it.
pub(crate) fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now)
}

/// Sorts tables by their last sync, the earliest first. So each table has its turn, also if another one has many files.
pub(crate) fn sort_by_last_sync<T>(tables: &mut [(TableName, T)], states: &[SyncState]) {
    tables.sort_by_key(|(table, _)| state_of(states, table).map(|state| state.started_at));
}

/// The state of a table's syncs, if it has been synced.
pub(crate) fn state_of<'a>(states: &'a [SyncState], table: &TableName) -> Option<&'a SyncState> {
    states.iter().find(|state| state.table == table.as_str())
}

fn before(time: Timestamp, overlap: Duration) -> Timestamp {
    let overlap = SignedDuration::try_from(overlap).unwrap_or(SignedDuration::MAX);
    time.checked_sub(overlap).unwrap_or(Timestamp::MIN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::ObjectRef;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn window_begins_an_overlap_before_the_watermark() {
        let request = SyncRequest::default();
        let hour = Duration::from_secs(3600);
        assert!(window(&request, None, hour).is_everything());
        let next = window(&request, Some(at("2026-11-20T08:00:00Z")), hour);
        assert_eq!(next, Window { from: Some(at("2026-11-20T07:00:00Z")), to: None });
        let early = window(&request, Some(Timestamp::MIN), Duration::MAX);
        assert_eq!(early.from, Some(Timestamp::MIN));
        let asked = Window { from: None, to: Some(at("2026-11-01T00:00:00Z")) };
        let request = SyncRequest { table: None, window: Some(asked) };
        assert_eq!(window(&request, Some(at("2026-11-20T08:00:00Z")), hour), asked);
    }

    #[test]
    fn watermark_stops_at_the_oldest_remaining_file() {
        let started_at = at("2026-11-20T08:00:00Z");
        assert_eq!(next_watermark(started_at, None), started_at);
        assert_eq!(next_watermark(started_at, Some(at("2026-11-18T00:00:00Z"))), at("2026-11-18T00:00:00Z"));
        // A key can contain a later time.
        assert_eq!(next_watermark(started_at, Some(at("2026-11-20T18:00:00Z"))), started_at);
    }

    #[test]
    fn file_without_an_outcome_remains() {
        let report = |outcome| Report::new(ObjectRef::new("b", "k"), outcome);
        let mut sync = TableSync::new(&"orders".into(), Window::default(), None);
        assert!(!sync.is_complete());
        sync.count(4, &[report(Outcome::Loaded), report(Outcome::FellBack), report(Outcome::HandedOver)]);
        assert_eq!((sync.remaining, sync.is_complete()), (Some(2), false));
        sync.count(2, &[report(Outcome::Rejected), report(Outcome::Skipped)]);
        assert!(sync.is_complete());
        assert_eq!(sync.outcomes["handed_over"], 1);
    }

    #[test]
    fn table_that_waits_longest_comes_first() {
        let state = |table: &str, started_at: &str| SyncState {
            bucket: "b".into(),
            table: table.into(),
            watermark: None,
            started_at: at(started_at),
            ended_at: at(started_at),
            files: 0,
            remaining: 0,
            worker: String::new(),
        };
        let states = [state("a", "2026-11-20T08:00:00Z"), state("b", "2026-11-20T07:00:00Z")];
        let mut tables = ["a", "b", "c"].map(|table| (TableName::from(table), ()));
        sort_by_last_sync(&mut tables, &states);
        assert_eq!(tables.map(|(table, ())| table.to_string()), ["c", "b", "a"]);
    }
}

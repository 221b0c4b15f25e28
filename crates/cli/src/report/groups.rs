//! Groups runs by table, and by reason.

use std::collections::{BTreeMap, BTreeSet};

use spillway_core::destination::{Run, RunOutcome};

/// Number of characters of a reason by which runs are grouped and shown.
const REASON_CHARACTERS: usize = 240;

/// Runs with the same outcome, table and reason.
pub(super) struct Reason {
    pub(super) outcome: RunOutcome,
    pub(super) table: String,
    pub(super) kind: String,
    /// The reason of the newest run.
    pub(super) reason: String,
    /// The key of the newest run.
    pub(super) key: String,
    /// Number of files, or of failed attempts.
    pub(super) count: u64,
    pub(super) rows: u64,
}

/// The runs that did not load their file, by outcome, table and kind of error; the most frequent first.
///
/// The reason itself names records and objects, so it differs between files of the same kind.
pub(super) fn reasons(runs: &[Run]) -> Vec<Reason> {
    let mut groups: BTreeMap<(usize, &str, String), Reason> = BTreeMap::new();
    for run in runs {
        let place = match run.outcome {
            RunOutcome::FellBack => 0,
            RunOutcome::Rejected => 1,
            RunOutcome::Failed => 2,
            RunOutcome::Loaded | RunOutcome::Duplicate | RunOutcome::Superseded => continue,
        };
        let kind = kind(run);
        let group = groups.entry((place, &run.table, kind.clone())).or_insert_with(|| Reason {
            outcome: run.outcome,
            table: run.table.clone(),
            kind,
            reason: run.reason.as_deref().unwrap_or_default().chars().take(REASON_CHARACTERS).collect(),
            key: run.key.clone(),
            count: 0,
            rows: 0,
        });
        group.count += run.attempts;
        group.rows += run.rows_stored;
    }
    let mut groups: Vec<Reason> = groups.into_values().collect();
    groups.sort_by_key(|group| std::cmp::Reverse(group.count));
    groups
}

/// The kind of the error. Ledger rows have it at the beginning of the reason, if at all.
fn kind(run: &Run) -> String {
    let of_reason = || {
        let (kind, _) = run.reason.as_deref()?.split_once(": ")?;
        let is_kind = kind.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
        is_kind.then(|| kind.to_owned())
    };
    run.error_kind.clone().or_else(of_reason).unwrap_or_default()
}

/// The sums of one table.
#[derive(Default)]
pub(super) struct TableSums<'a> {
    /// The load modes of the loads.
    pub(super) load_modes: BTreeSet<&'a str>,
    pub(super) loaded: u64,
    pub(super) fell_back: u64,
    pub(super) rejected: u64,
    pub(super) failed: u64,
    pub(super) rows: u64,
    /// The rows of loads by key.
    pub(super) by_key: ByKey,
    pub(super) rows_rejected: u64,
    pub(super) size_bytes: u64,
    pub(super) load_ms: u64,
    pub(super) cost_usd: f64,
}

/// The rows of loads that find the rows of the table by key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct ByKey {
    pub(super) loads: u64,
    pub(super) inserted: u64,
    pub(super) updated: u64,
    pub(super) unchanged: u64,
    pub(super) deleted: u64,
}

impl ByKey {
    fn add(&mut self, run: &Run) {
        if run.load.is_by_key() {
            self.loads += 1;
            self.inserted += run.load.rows_inserted(run.rows_stored);
            self.updated += run.load.rows_updated;
            self.unchanged += run.load.rows_unchanged;
            self.deleted += run.load.rows_deleted;
        }
    }
}

/// The sums by table, in the order of rows; and the table's name.
pub(super) fn tables(runs: &[Run]) -> Vec<(&str, TableSums<'_>)> {
    let mut tables: BTreeMap<&str, TableSums<'_>> = BTreeMap::new();
    for run in runs {
        let sums = tables.entry(&run.table).or_default();
        sums.cost_usd += run.cost_usd.unwrap_or(0.0);
        match run.outcome {
            RunOutcome::Loaded => {
                sums.loaded += 1;
                sums.load_modes.extend(run.load.load_mode.as_deref());
                sums.by_key.add(run);
                sums.rows += run.rows_stored;
                sums.rows_rejected += run.rows_rejected;
                sums.size_bytes += run.size_bytes;
                sums.load_ms += run.elapsed_ms.unwrap_or(0);
            }
            RunOutcome::FellBack => sums.fell_back += 1,
            RunOutcome::Rejected => sums.rejected += 1,
            RunOutcome::Failed => sums.failed += run.attempts,
            RunOutcome::Duplicate | RunOutcome::Superseded => {}
        }
    }
    let mut tables: Vec<_> = tables.into_iter().collect();
    tables.sort_by_key(|(_, sums)| std::cmp::Reverse(sums.rows));
    tables
}

/// The loads that took longest, the longest first.
pub(super) fn slowest(runs: &[Run], limit: usize) -> Vec<&Run> {
    let mut loads: Vec<&Run> =
        runs.iter().filter(|run| run.outcome == RunOutcome::Loaded && run.elapsed_ms.is_some()).collect();
    loads.sort_by_key(|run| std::cmp::Reverse(run.elapsed_ms));
    loads.truncate(limit);
    loads
}

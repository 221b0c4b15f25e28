//! The load mode of a run and its counts other than the stored rows, as lists show them.
//!
//! A ledger of an earlier version may lack the columns. A list shows nothing in their place, and creates no column.

use serde::{Deserialize, Serialize};

use super::statements::LISTED_CHANGES;
use super::table_changes::CHANGES_COLUMN;
use super::{LedgerConnection, Row, SqlLedger};
use crate::error::{Error, ErrorKind, Result};
use crate::report::{Report, is_zero};

/// The columns after `table_changes`, in the order of [`LoadDetails`].
const COLUMNS: [&str; 5] = ["load_mode", "rows_updated", "rows_unchanged", "rows_deleted", "rows_missing"];

/// The load mode of a run, and its counts other than the stored rows.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LoadDetails {
    /// The load mode, or `lake` if no row is in the database; `None` if nothing was loaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_mode: Option<String>,
    /// Stored rows that changed a row of the table.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub rows_updated: u64,
    /// Stored rows that the table already had.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub rows_unchanged: u64,
    /// Rows of the table that were deleted.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub rows_deleted: u64,
    /// Updates and deletions of a file of changes whose row was not in the table.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub rows_missing: u64,
}

impl LoadDetails {
    /// Returns the details of a report.
    pub fn of(report: &Report) -> Self {
        Self {
            load_mode: report.load_mode.clone(),
            rows_updated: report.rows_updated,
            rows_unchanged: report.rows_unchanged,
            rows_deleted: report.rows_deleted,
            rows_missing: report.rows_missing,
        }
    }

    /// Whether the load mode finds the rows of the table by key, so that its rows are inserted, updated or unchanged.
    pub fn is_by_key(&self) -> bool {
        matches!(self.load_mode.as_deref(), Some("merge" | "mirror" | "changes"))
    }

    /// Returns the number of inserted rows among the stored ones.
    pub fn rows_inserted(&self, rows_stored: u64) -> u64 {
        rows_stored.saturating_sub(self.rows_updated + self.rows_unchanged)
    }

    /// Reads the columns of [`ListedColumns`], the first of which has this index.
    pub(super) fn read(row: &Row, first: usize) -> Result<Self> {
        let count = |index| -> Result<u64> {
            let number = row.optional_integer(first + index)?.unwrap_or(0);
            u64::try_from(number).map_err(|_| Error::new(ErrorKind::Internal, "the ledger contains a negative count"))
        };
        Ok(Self {
            load_mode: row.optional_text(first)?,
            rows_updated: count(1)?,
            rows_unchanged: count(2)?,
            rows_deleted: count(3)?,
            rows_missing: count(4)?,
        })
    }
}

/// The columns of a list that the ledger has.
#[derive(Debug)]
pub(super) struct ListedColumns(Vec<String>);

impl ListedColumns {
    /// Every column.
    #[cfg(test)]
    pub(super) fn all() -> Self {
        Self([CHANGES_COLUMN.0].into_iter().chain(COLUMNS).map(str::to_owned).collect())
    }

    /// Returns a SELECT with the columns in place of `{listed}`, and with NULL in place of a missing one.
    pub(super) fn select(&self, template: &str) -> String {
        let has = |name: &str| self.0.iter().any(|found| found == name);
        let (changes, _, _) = CHANGES_COLUMN;
        let mut parts = vec![if has(changes) { LISTED_CHANGES } else { "NULL" }];
        parts.extend(COLUMNS.map(|name| if has(name) { name } else { "NULL" }));
        template.replace("{listed}", &parts.join(", "))
    }
}

impl SqlLedger<'_> {
    /// Returns the columns of a list that the ledger has; `None` without a ledger.
    pub(super) async fn listed_columns<C: LedgerConnection>(
        &self,
        connection: &mut C,
    ) -> Result<Option<ListedColumns>> {
        let (changes, _, _) = CHANGES_COLUMN;
        let wanted = [&[changes], &COLUMNS[..]].concat();
        Ok(connection.table_columns(self.table, &wanted).await?.map(ListedColumns))
    }
}

#[cfg(test)]
mod tests {
    use super::super::table_changes::LISTED_CHARACTERS;
    use super::*;

    #[test]
    fn missing_columns_are_null() {
        let of = |found: &[&str]| {
            let found = found.iter().map(|name| (*name).to_owned()).collect();
            ListedColumns(found).select("SELECT a, {listed} FROM t")
        };
        assert_eq!(of(&[]), "SELECT a, NULL, NULL, NULL, NULL, NULL, NULL FROM t");
        assert_eq!(
            of(&["rows_deleted", "load_mode"]),
            "SELECT a, NULL, load_mode, NULL, NULL, rows_deleted, NULL FROM t"
        );
        let select = of(&["table_changes"]);
        assert!(select.contains(&format!("LEFT(table_changes, {})", LISTED_CHARACTERS + 1)), "{select}");
    }

    #[test]
    fn only_modes_with_a_key_count_updates() {
        let of = |mode: Option<&str>| LoadDetails { load_mode: mode.map(str::to_owned), ..LoadDetails::default() };
        let by_key = ["merge", "mirror", "changes"].map(|mode| of(Some(mode)).is_by_key());
        assert_eq!(by_key, [true; 3]);
        assert!(![Some("append"), Some("replace"), Some("lake"), None].into_iter().any(|mode| of(mode).is_by_key()));
        let details = LoadDetails { rows_updated: 2, rows_unchanged: 3, ..LoadDetails::default() };
        assert_eq!((details.rows_inserted(9), details.rows_inserted(0)), (4, 0));
    }
}

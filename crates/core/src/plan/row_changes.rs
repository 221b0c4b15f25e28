//! What a plan knows, and does not know, of the rows that a load mode updates and deletes.

use serde::Serialize;

use crate::destination::LoadMode;
use crate::error::Result;
use crate::pipeline::TableConfig;
use crate::plan::Plan;

/// The rows that a mirror would delete, as far as the numbers of rows show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct DeletesPlan {
    /// The rows of the table; of a table with more than ten million rows, this number.
    pub table_rows: u64,
    /// The fewest rows that would be deleted.
    pub at_least: u64,
    /// The most rows that may be deleted, by `MIRROR_MAX_DELETES`.
    pub allowed: u64,
}

impl Plan {
    /// Adds the fewest rows that a mirror would delete from a table with so many rows.
    ///
    /// # Errors
    /// When these are too many, so that the load would fail.
    pub(super) fn add_deletes(&mut self, config: &TableConfig, table_rows: Option<u64>) -> Result<()> {
        let (LoadMode::Mirror(mirror), Some(table_rows)) = (&config.destination.load_mode, table_rows) else {
            return Ok(());
        };
        let in_file = self.rows_parsed - self.rows_rejected;
        if let Some(table) = &mut self.table {
            let (at_least, allowed) = (table_rows.saturating_sub(in_file), mirror.allowed_deletes(table_rows));
            table.deletes = Some(DeletesPlan { table_rows, at_least, allowed });
        }
        mirror.check_row_counts(&config.name, in_file, table_rows)
    }
}

/// What a load mode does with an existing table and a plan does not predict.
pub(super) fn not_checked(mode: &LoadMode) -> Vec<String> {
    let texts: &[&str] = match mode {
        LoadMode::Append | LoadMode::Replace => &[],
        LoadMode::Merge { .. } => &["which rows are new, updated or unchanged"],
        LoadMode::Mirror(mirror) if mirror.scope.is_empty() => &[
            "which rows are new, updated, unchanged or deleted (MIRROR_MAX_DELETES limits the deleted ones)",
            "whether the file has a key twice, which a mirror refuses",
        ],
        LoadMode::Mirror(_) => &[
            "which rows are new, updated, unchanged or deleted (MIRROR_MAX_DELETES limits the deleted ones)",
            "whether the columns of MIRROR_SCOPE have one value",
            "whether the file has a key twice, which a mirror refuses",
        ],
        LoadMode::Changes(_) => &["whether the rows to update and to delete are in the table"],
    };
    texts.iter().map(|text| (*text).to_owned()).collect()
}

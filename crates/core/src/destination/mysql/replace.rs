//! Deletes the rows that a file replaces, in the transaction of the file's rows and the ledger row.
//!
//! Every reader sees the old rows until COMMIT and the new rows after it. After a failure the old rows are still there.
//!
//! A rename of a new table would not do: DDL commits implicitly, so it cannot be part of the ledger's transaction. A
//! reader with an older snapshot would find the table changed or empty, and triggers, foreign keys and counters would
//! stay with the old table.

use super::column::TableColumn;
use super::connect::Connection;
use super::rejection;
use super::table::quoted;
use crate::destination::limits::copy_timeout;
use crate::error::Result;
use crate::failpoint::Failpoint;

/// Deletes all rows in the open transaction.
pub(super) async fn delete_rows(connection: &mut Connection, table: &str, columns: &[TableColumn]) -> Result<()> {
    let sql = "SELECT CAST(COALESCE(SUM(DATA_LENGTH + INDEX_LENGTH), 0) AS UNSIGNED) FROM information_schema.TABLES \
         WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = ?";
    let doing = "cannot delete the rows that the file replaces";
    let sizes: Vec<u64> = connection.rows(doing, sql, (table,)).await?;
    let limit = copy_timeout(sizes.first().copied().unwrap_or(0));
    let sql = format!("DELETE FROM {}", quoted(table));
    rejection::checked(connection.run_raw(limit, doing, sql.as_bytes()).await?, doing, columns, None)?;
    Failpoint::OldRowsDeleted.reached().await;
    Ok(())
}

//! Replacing a table's rows: they are deleted in the transaction that brings the file's rows and the ledger row.
//!
//! No rename. DDL commits implicitly, so a rename could not stand in the ledger's transaction, a reader whose snapshot is
//! older would find the new table changed or empty, and triggers, foreign keys and counters would be left behind. Deleted this
//! way, the old rows are there for every reader until COMMIT, the new ones from then on, and after any failure the old ones.

use super::column::TargetColumn;
use super::connect::Connection;
use super::rejection;
use super::table::quoted;
use crate::destination::limits::copy_timeout;
use crate::error::{Error, ErrorKind, Result};
use crate::failpoint::Failpoint;

/// Refuses a table whose rows' end would change other tables' rows.
pub(super) async fn refuse_cascades(connection: &mut Connection, table: &str) -> Result<()> {
    let sql = "SELECT CONSTRAINT_SCHEMA, TABLE_NAME, CONSTRAINT_NAME FROM information_schema.REFERENTIAL_CONSTRAINTS \
         WHERE UNIQUE_CONSTRAINT_SCHEMA = DATABASE() AND REFERENCED_TABLE_NAME = ? \
         AND DELETE_RULE NOT IN ('RESTRICT', 'NO ACTION')";
    let doing = "cannot read the foreign keys to the target table";
    let found: Vec<(String, String, String)> = connection.rows(doing, sql, (table,)).await?;
    let Some((schema, child, constraint)) = found.into_iter().next() else { return Ok(()) };
    let message = format!(
        "table {table} cannot be replaced: the foreign key {constraint} of table {schema}.{child} would change that table's \
         rows when the old ones are deleted; make it ON DELETE RESTRICT, or use another LOAD_MODE"
    );
    Err(Error::new(ErrorKind::TableMismatch, message))
}

/// Deletes all rows in the open transaction.
pub(super) async fn delete_rows(connection: &mut Connection, table: &str, columns: &[TargetColumn]) -> Result<()> {
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

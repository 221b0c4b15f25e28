//! Deletes the rows that a file replaces, in the transaction of the file's rows and the ledger row.
//!
//! Every reader sees the old rows until COMMIT and the new rows after it. After a failure the old rows are still there.
//!
//! Renaming a new table instead would not work. DDL commits implicitly, so it cannot be part of the ledger's
//! transaction. A reader with an older snapshot could find an empty table, and triggers, foreign keys and counters
//! would remain on the old table.

use super::column::TableColumn;
use super::connect::Connection;
use super::rejection::{SentRows, check_error};
use super::table::quoted_table;
use crate::destination::limits::{STATEMENT_TIMEOUT, copy_timeout};
use crate::error::Result;
use crate::table_name::TableName;

/// Makes MySQL read the sizes of tables each time.
const FRESH_SIZES: &[u8] = b"SET SESSION information_schema_stats_expiry = 0";

/// Deletes all rows in the open transaction.
pub(super) async fn delete_rows(connection: &mut Connection, table: &TableName, columns: &[TableColumn]) -> Result<()> {
    let context = "cannot delete the rows that the file replaces";
    let limit = copy_timeout(table_bytes(connection, context, table).await?);
    let sql = format!("DELETE FROM {}", quoted_table(table));
    let result = connection.run_raw(limit, context, sql.as_bytes()).await?;
    check_error(result, context, &SentRows { columns, count: 0, first_record: None })?;
    Ok(())
}

/// Returns the size of a table with its indexes, for the time limit of a statement that reads all its rows.
pub(super) async fn table_bytes(connection: &mut Connection, context: &str, table: &TableName) -> Result<u64> {
    let sql = "SELECT CAST(COALESCE(SUM(DATA_LENGTH + INDEX_LENGTH), 0) AS UNSIGNED) FROM information_schema.TABLES \
         WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ?";
    if !connection.facts.is_mariadb {
        // MySQL remembers the size for a day. A relative of MySQL without this setting may refuse the statement.
        let _best_effort = connection.run_raw(STATEMENT_TIMEOUT, context, FRESH_SIZES).await?;
    }
    let name = connection.schema_and_name(table);
    let sizes: Vec<u64> = connection.rows(context, sql, name).await?;
    Ok(sizes.first().copied().unwrap_or(0))
}

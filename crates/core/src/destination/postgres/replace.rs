//! Deletes the rows that a file replaces, in the transaction of the file's rows and the ledger row.
//!
//! Every reader sees the old rows until COMMIT and the new rows after it. After a failure the old rows are still there.
//!
//! TRUNCATE would not work: it blocks all readers until COMMIT, and readers with an older snapshot see an empty table.

use tokio_postgres::types::Type;

use super::column::TableColumn;
use super::connect::{Connection, last_count, value};
use super::rejection;
use super::table::quoted_table;
use crate::destination::limits::copy_timeout;
use crate::error::{Error, ErrorKind, Result};
use crate::table_name::TableName;

/// The size of the rows, and whether a BEFORE DELETE row trigger may keep some of them (`tgtype`: row 1, before 2,
/// delete 8).
const OLD_ROWS_SQL: &str = "\
    WITH RECURSIVE parts AS ( \
        SELECT CAST(CAST(CAST($1 AS text) AS regclass) AS oid) AS id \
      UNION ALL SELECT i.inhrelid FROM parts p JOIN pg_catalog.pg_inherits i ON i.inhparent = p.id) \
    SELECT CAST(COALESCE(sum(pg_catalog.pg_total_relation_size(id)), 0) AS bigint), \
        EXISTS (SELECT FROM pg_catalog.pg_trigger g WHERE g.tgrelid IN (SELECT id FROM parts) AND NOT g.tgisinternal \
                AND g.tgenabled <> 'D' AND g.tgtype & 11 = 11) \
    FROM parts";

const CONTEXT: &str = "cannot delete the rows that the file replaces";

/// The rows of a table before they are deleted.
pub(super) struct OldRows {
    /// Their size with their indexes.
    pub(super) bytes: u64,
    /// Whether a trigger may keep some of them.
    has_trigger: bool,
}

/// Returns the size of a table's rows, and whether a trigger may keep some of them.
pub(super) async fn old_rows(connection: &mut Connection, context: &str, table: &TableName) -> Result<OldRows> {
    let name = quoted_table(table);
    let (bytes, has_trigger): (i64, bool) =
        match connection.rows(context, OLD_ROWS_SQL, &[(&name, Type::TEXT)]).await?.first() {
            Some(row) => (value(row, 0)?, value(row, 1)?),
            None => (0, true),
        };
    Ok(OldRows { bytes: u64::try_from(bytes).unwrap_or(0), has_trigger })
}

/// Deletes all rows in the open transaction.
pub(super) async fn delete_rows(connection: &mut Connection, table: &TableName, columns: &[TableColumn]) -> Result<()> {
    let name = quoted_table(table);
    let OldRows { bytes, has_trigger } = old_rows(connection, CONTEXT, table).await?;
    let limit = copy_timeout(bytes);
    let result = connection.run_within(limit, CONTEXT, &format!("DELETE FROM {name}")).await?;
    result.map_err(|error| rejection::of_statement(CONTEXT, error, columns))?;
    if has_trigger {
        let result = connection.run_within(limit, CONTEXT, &format!("SELECT FROM {name} LIMIT 1")).await?;
        let remaining = result.map_err(|error| rejection::of_statement(CONTEXT, error, columns))?;
        if last_count(CONTEXT, &remaining)? > 0 {
            let message = format!("{CONTEXT}: a trigger of table {table} keeps some of them");
            return Err(Error::new(ErrorKind::DataRefused, message));
        }
    }
    Ok(())
}

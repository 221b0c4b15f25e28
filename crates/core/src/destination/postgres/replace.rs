//! Replacing a table's rows: they are deleted in the transaction that brings the file's rows and the ledger row.
//!
//! DELETE and not TRUNCATE, which would keep every reader out until COMMIT and show an empty table to those whose snapshot is
//! older. Deleted this way, the old rows are there for every reader until COMMIT, the new ones from then on, and after any
//! failure the old ones.

use tokio_postgres::types::Type;

use super::column::TargetColumn;
use super::connect::{Connection, last_count, value};
use super::rejection;
use super::table::quoted;
use crate::destination::limits::copy_timeout;
use crate::error::{Error, ErrorKind, Result};
use crate::failpoint::Failpoint;

/// How much there is to delete, and whether a trigger before each row may keep some (row 1, before 2, delete 8).
const OLD_ROWS_SQL: &str = "\
    WITH RECURSIVE parts AS ( \
        SELECT CAST(CAST(CAST($1 AS text) AS regclass) AS oid) AS id \
      UNION ALL SELECT i.inhrelid FROM parts p JOIN pg_catalog.pg_inherits i ON i.inhparent = p.id) \
    SELECT CAST(COALESCE(sum(pg_catalog.pg_total_relation_size(id)), 0) AS bigint), \
        EXISTS (SELECT FROM pg_catalog.pg_trigger g WHERE g.tgrelid IN (SELECT id FROM parts) AND NOT g.tgisinternal \
                AND g.tgenabled <> 'D' AND g.tgtype & 11 = 11) \
    FROM parts";

const DOING: &str = "cannot delete the rows that the file replaces";

/// Deletes all rows in the open transaction.
pub(super) async fn delete_rows(connection: &mut Connection, table: &str, columns: &[TargetColumn]) -> Result<()> {
    let name = quoted(table);
    let (size_bytes, has_trigger): (i64, bool) =
        match connection.rows(DOING, OLD_ROWS_SQL, &[(&name, Type::TEXT)]).await?.first() {
            Some(row) => (value(row, 0)?, value(row, 1)?),
            None => (0, true),
        };
    let limit = copy_timeout(u64::try_from(size_bytes).unwrap_or(0));
    let answer = connection.run_within(limit, DOING, &format!("DELETE FROM {name}")).await?;
    answer.map_err(|error| rejection::of_statement(DOING, error, columns))?;
    if has_trigger {
        let answer = connection.run_within(limit, DOING, &format!("SELECT FROM {name} LIMIT 1")).await?;
        let left = answer.map_err(|error| rejection::of_statement(DOING, error, columns))?;
        if last_count(DOING, &left)? > 0 {
            let message = format!("{DOING}: some are left, as a trigger of table {table} keeps them");
            return Err(Error::new(ErrorKind::DataRefused, message));
        }
    }
    Failpoint::OldRowsDeleted.reached().await;
    Ok(())
}

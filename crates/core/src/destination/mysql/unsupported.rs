//! Features of a table that keep it from being replaced, found before any row is sent.

use super::connect::Connection;
use crate::error::{Error, ErrorKind, Result};

/// Rejects a table if deleting its rows would change rows of other tables.
pub(super) async fn refuse_replace(connection: &mut Connection, table: &str) -> Result<()> {
    let sql = "SELECT CONSTRAINT_SCHEMA, TABLE_NAME, CONSTRAINT_NAME FROM information_schema.REFERENTIAL_CONSTRAINTS \
         WHERE UNIQUE_CONSTRAINT_SCHEMA = DATABASE() AND REFERENCED_TABLE_NAME = ? \
         AND DELETE_RULE NOT IN ('RESTRICT', 'NO ACTION')";
    let doing = "cannot read the foreign keys to the table";
    let found: Vec<(String, String, String)> = connection.rows(doing, sql, (table,)).await?;
    let Some((schema, child, constraint)) = found.into_iter().next() else { return Ok(()) };
    let message = format!(
        "table {table} cannot be replaced: the foreign key {constraint} of table {schema}.{child} would change that table's \
         rows when the old rows are deleted; change it to ON DELETE RESTRICT, or use another LOAD_MODE"
    );
    Err(Error::new(ErrorKind::TableMismatch, message))
}

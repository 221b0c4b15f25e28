//! Features of a table that prevent a replace, found before any row is sent.

use super::connect::Connection;
use crate::destination::table::cascading_foreign_key;
use crate::error::Result;

/// Rejects a table if deleting its rows would change rows of other tables.
pub(super) async fn reject_replace(connection: &mut Connection, table: &str) -> Result<()> {
    let sql = "SELECT CONSTRAINT_SCHEMA, TABLE_NAME, CONSTRAINT_NAME FROM information_schema.REFERENTIAL_CONSTRAINTS \
         WHERE UNIQUE_CONSTRAINT_SCHEMA = DATABASE() AND REFERENCED_TABLE_NAME = ? \
         AND DELETE_RULE NOT IN ('RESTRICT', 'NO ACTION')";
    let context = "cannot read the foreign keys to the table";
    let found: Vec<(String, String, String)> = connection.rows(context, sql, (table,)).await?;
    match found.into_iter().next() {
        Some((schema, child, constraint)) => {
            Err(cascading_foreign_key(table, &constraint, &format!("{schema}.{child}")))
        }
        None => Ok(()),
    }
}

//! Features of a table that prevent the deletion of its rows, found before any row is sent.

use super::connect::Connection;
use crate::destination::table::cascading_foreign_key;
use crate::error::Result;
use crate::table_name::TableName;

/// Rejects a table if deleting its rows would change other rows: of other tables, or of the table itself.
pub(super) async fn reject_deletes(connection: &mut Connection, table: &TableName) -> Result<()> {
    let sql = "SELECT CONSTRAINT_SCHEMA, TABLE_NAME, CONSTRAINT_NAME FROM information_schema.REFERENTIAL_CONSTRAINTS \
         WHERE UNIQUE_CONSTRAINT_SCHEMA = ? AND REFERENCED_TABLE_NAME = ? \
         AND DELETE_RULE NOT IN ('RESTRICT', 'NO ACTION')";
    let context = "cannot read the foreign keys to the table";
    let name = connection.schema_and_name(table);
    let found: Vec<(String, String, String)> = connection.rows(context, sql, name).await?;
    match found.into_iter().next() {
        Some((schema, child, constraint)) => {
            Err(cascading_foreign_key(table, &constraint, &format!("{schema}.{child}")))
        }
        None => Ok(()),
    }
}

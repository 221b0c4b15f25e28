//! The ledger's table: made where it is missing, and given the columns that ledgers of earlier versions lack.

use super::connect::Connection;
use super::failure::{failure, state};
use super::table::{is_made_by_another, quoted, relation};
use crate::destination::limits::Phase;
use crate::error::Result;

const DUPLICATE_COLUMN: &str = "42701";

/// Columns that ledgers of earlier versions lack.
const ADDED_COLUMNS: [(&str, &str); 5] = [
    ("load_mode", "text NULL"),
    ("rows_updated", "bigint NULL"),
    ("rows_unchanged", "bigint NULL"),
    // The table whose rows are this source's alone, which it has replaced last.
    ("current_of", "text NULL UNIQUE"),
    ("source_modified_at", "timestamptz NULL"),
];

/// Makes the ledger, or those of its columns that are missing. Must run outside of any transaction, and sends no DDL when
/// everything is in place.
pub(super) async fn ensure(connection: &mut Connection, table: &str) -> Result<()> {
    let asked = ADDED_COLUMNS.map(|(name, _)| name);
    let Some(columns) = relation(connection, table, &asked).await? else {
        let doing = "cannot make the ledger";
        return match connection.run_raw(doing, &create_statement(table)).await? {
            Ok(()) => Ok(()),
            Err(error) if is_made_by_another(&error) => Ok(()),
            Err(error) => Err(failure(Phase::Connected, doing, error)),
        };
    };
    let doing = "cannot add the ledger's new columns";
    for (name, definition) in ADDED_COLUMNS {
        if columns.iter().any(|column| column == name) {
            continue;
        }
        // Without IF NOT EXISTS, which may give a unique column that is there a second index.
        let sql = format!("ALTER TABLE {} ADD COLUMN {name} {definition}", quoted(table));
        match connection.run_raw(doing, &sql).await? {
            Ok(()) => {}
            // Another worker was first.
            Err(error) if state(&error) == Some(DUPLICATE_COLUMN) => {}
            Err(error) => return Err(failure(Phase::Connected, doing, error)),
        }
    }
    Ok(())
}

fn create_statement(table: &str) -> String {
    let added = ADDED_COLUMNS.map(|(name, definition)| format!("{name} {definition}")).join(", ");
    format!(
        "CREATE TABLE IF NOT EXISTS {} (\
         source_id text NOT NULL PRIMARY KEY, content_id text NULL UNIQUE, bucket text NOT NULL, object_key text NOT NULL, \
         version_id text NULL, etag text NOT NULL, size_bytes bigint NOT NULL, body_sha256 text NOT NULL, \
         target_table text NOT NULL, state text NOT NULL, rows_parsed bigint NOT NULL DEFAULT 0, \
         rows_stored bigint NOT NULL DEFAULT 0, rows_rejected bigint NOT NULL DEFAULT 0, attempt integer NOT NULL DEFAULT 1, \
         worker text NOT NULL, tool_version text NOT NULL, started_at timestamptz NOT NULL, \
         committed_at timestamptz NULL, moved_at timestamptz NULL, moved_to text NULL, reason text NULL, \
         cost_usd numeric(12,6) NULL, {added})",
        quoted(table)
    )
}

//! Staging tables for files that are too large for one transaction.
//!
//! Rows are committed to the staging table in chunks. Then one INSERT .. SELECT copies them into the table, in the
//! transaction of the ledger row. A staging table belongs to one attempt, and no other attempt reads it. Its name
//! contains the first 16 hex digits of the source id, so that the cleanup can find out whether its source is still
//! being loaded.

use std::time::Duration;

use tracing::debug;

use super::connect::Connection;
use super::ledger::MySqlDialect;
use super::rejection::{SentRows, check_error, check_stored};
use super::table::{quoted, quoted_table};
use crate::destination::column::column_list;
use crate::destination::limits::copy_timeout;
use crate::destination::staging_name;
use crate::error::{Result, chain};
use crate::ledger::LedgerConnection;
use crate::object::SourceId;
use crate::table_name::TableName;

/// Approximate size of a committed chunk.
pub(super) const CHUNK_BYTES: u64 = 64 * 1024 * 1024;

/// Creates an empty table with the columns, keys and checks of a table, but without its foreign keys and triggers.
///
/// The connection holds a lock with the name of the table until [`drop_table`], or until it ends. So no cleanup drops a table
/// that is in use, even if the loader has no lease (a local file) or has it in another bucket.
pub(super) async fn create(connection: &mut Connection, staging: &str, table: &TableName) -> Result<()> {
    if let Err(error) = connection.run("cannot lock the staging table", &format!("DO GET_LOCK('{staging}', 0)")).await {
        // A Galera cluster may not support such locks.
        debug!(error = %chain(&error), "only the lease protects the staging table from a cleanup");
    }
    let sql = format!("CREATE TABLE {} LIKE {}", quoted(staging), quoted_table(table));
    connection.run("cannot create the staging table", &sql).await
}

/// Copies all rows into the table, in the open transaction. The table fills in defaults and generated columns.
pub(super) async fn copy_from_staging(
    connection: &mut Connection,
    staging: &str,
    table: &TableName,
    rows: &SentRows<'_>,
    size_bytes: u64,
) -> Result<()> {
    let list = column_list::<MySqlDialect, _>(rows.columns);
    let sql = format!("INSERT INTO {} ({list}) SELECT {list} FROM {}", quoted_table(table), quoted(staging));
    let context = "cannot copy the staged rows";
    let result = connection.run_raw(copy_timeout(size_bytes), context, sql.as_bytes()).await?;
    let result = check_error(result, context, rows)?;
    check_stored(connection, result, rows).await
}

/// Drops a staging table and releases its lock.
pub(super) async fn drop_table(connection: &mut Connection, staging: &str) -> Result<()> {
    let sql = format!("DROP TABLE IF EXISTS {}", quoted(staging));
    connection.run("cannot drop the staging table", &sql).await?;
    if let Err(error) =
        connection.run("cannot unlock the staging table", &format!("DO RELEASE_LOCK('{staging}')")).await
    {
        debug!(error = %chain(&error), "the lock of the staging table ends with the connection");
    }
    Ok(())
}

/// Drops staging tables that are older than `older_than`, whose source is not in `live`, and which no connection has locked.
/// Returns their names.
pub(super) async fn drop_stale(
    connection: &mut Connection,
    older_than: Duration,
    live: &[SourceId],
) -> Result<Vec<String>> {
    let sql = "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE() \
         AND TABLE_NAME LIKE 'spillway\\_staging\\_%' AND CREATE_TIME <= NOW() - INTERVAL ? SECOND \
         ORDER BY TABLE_NAME";
    let names: Vec<String> = connection.rows("cannot list the staging tables", sql, (older_than.as_secs(),)).await?;
    let mut dropped = Vec::new();
    for name in names {
        let is_dead = staging_name::source_of(&name).is_some_and(|short| live.iter().all(|id| id.short() != short));
        if is_dead && !is_locked(connection, &name).await {
            drop_table(connection, &name).await?;
            dropped.push(name);
        }
    }
    Ok(dropped)
}

/// Whether a connection has locked a staging table. A server without such locks has locked none.
async fn is_locked(connection: &mut Connection, staging: &str) -> bool {
    let sql = "SELECT IS_FREE_LOCK(?) = 0";
    let found: Result<Vec<Option<bool>>> = connection.rows("cannot look for a lock", sql, (staging,)).await;
    matches!(found.as_deref(), Ok([Some(true)]))
}

//! Staging tables: where the rows of a file too large for one transaction wait, in committed chunks, until one
//! INSERT..SELECT moves them over together with the ledger's entry.
//!
//! A staging table belongs to one attempt; its name carries the source's first 16 hex digits, so that a sweep knows whose it
//! is. What a dead attempt leaves behind is never read again.

use std::time::Duration;

use super::column::TargetColumn;
use super::connect::Connection;
use super::rejection;
use super::table::quoted;
use crate::destination::limits::copy_timeout;
use crate::error::Result;
use crate::ledger::LedgerConnection;
use crate::object::SourceId;

/// About as many bytes go into one committed chunk.
pub(super) const CHUNK_BYTES: u64 = 64 * 1024 * 1024;

const PREFIX: &str = "spillway_staging_";

/// A name that no other attempt takes.
pub(super) fn name(id: &SourceId) -> String {
    format!("{PREFIX}{}_{:08x}", id.short(), fastrand::u32(..))
}

/// Makes an empty table like the target, with its keys and checks but without foreign keys and triggers.
pub(super) async fn create(connection: &mut Connection, staging: &str, destination: &str) -> Result<()> {
    let sql = format!("CREATE TABLE {} LIKE {}", quoted(staging), quoted(destination));
    connection.run("cannot make the staging table", &sql).await?;
    Ok(())
}

/// Copies all rows into the target, in the open transaction. Defaults and generated columns are the target's.
pub(super) async fn copy_from_staging(
    connection: &mut Connection,
    staging: &str,
    destination: &str,
    columns: &[TargetColumn],
    rows: u64,
    size_bytes: u64,
) -> Result<()> {
    if columns.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = columns.iter().map(|column| quoted(&column.name)).collect();
    let names = names.join(", ");
    let sql = format!("INSERT INTO {} ({names}) SELECT {names} FROM {}", quoted(destination), quoted(staging));
    let doing = "cannot move the staged rows over";
    let answer = connection.run_raw(copy_timeout(size_bytes), doing, sql.as_bytes()).await?;
    let outcome = rejection::checked(answer, doing, columns, Some(1))?;
    if outcome.affected_rows != rows || outcome.warnings > 0 {
        return Err(rejection::from_warnings(connection, columns, Some(1), outcome, rows).await);
    }
    Ok(())
}

/// Drops a staging table.
pub(super) async fn drop_table(connection: &mut Connection, staging: &str) -> Result<()> {
    let sql = format!("DROP TABLE IF EXISTS {}", quoted(staging));
    connection.run("cannot drop the staging table", &sql).await?;
    Ok(())
}

/// Drops staging tables that are older than `older_than` and whose source is not in `live`; answers their names.
pub(super) async fn drop_stale(
    connection: &mut Connection,
    older_than: Duration,
    live: &[SourceId],
) -> Result<Vec<String>> {
    let sql = "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE() \
         AND TABLE_NAME LIKE 'spillway\\_staging\\_%' AND CREATE_TIME <= NOW() - INTERVAL ? SECOND \
         ORDER BY TABLE_NAME";
    let names: Vec<String> = connection.rows("cannot look for staging tables", sql, (older_than.as_secs(),)).await?;
    let mut dropped = Vec::new();
    for name in names {
        let is_dead = owner(&name).is_some_and(|short| live.iter().all(|id| id.short() != short));
        if is_dead {
            drop_table(connection, &name).await?;
            dropped.push(name);
        }
    }
    Ok(dropped)
}

/// The 16 hex digits of the source whose staging table this is; `None` for a table that only looks like one.
fn owner(name: &str) -> Option<&str> {
    let (short, random) = name.strip_prefix(PREFIX)?.split_once('_')?;
    let is_hex = |text: &str, length: usize| {
        text.len() == length && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    };
    (is_hex(short, 16) && is_hex(random, 8)).then_some(short)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_names_have_an_owner() {
        assert_eq!(owner("spillway_staging_0123456789abcdef_00ff00ff"), Some("0123456789abcdef"));
        for name in ["spillway_staging_", "spillway_staging_x_1", "spillway_staging_0123456789abcdef_mine", "orders"] {
            assert_eq!(owner(name), None, "{name}");
        }
    }
}

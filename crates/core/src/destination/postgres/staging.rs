//! Drops staging tables that dead runs of the Glue job have left. Spillway itself creates none on PostgreSQL.
//!
//! PostgreSQL stores no time of creation, so the job writes it into the comment of its table (`glue/spillway_glue/database.py`).

use std::time::Duration;

use tokio_postgres::types::{ToSql, Type};

use super::connect::{Connection, value};
use super::table::quoted;
use crate::destination::staging_name::source_of;
use crate::error::Result;
use crate::ledger::LedgerConnection;
use crate::object::SourceId;

/// The staging tables that this user may drop, and whose comment has a time before the age. The pattern protects the cast.
const STALE: &str = r"SELECT named.name FROM (
        SELECT relname::text AS name, substring(obj_description(oid, 'pg_class')
            FROM '^created at (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ)$') AS created
        FROM pg_class WHERE relkind = 'r' AND relname LIKE 'spillway!_staging!_%' ESCAPE '!' AND pg_table_is_visible(oid)
            AND pg_has_role(relowner, 'USAGE')
    ) AS named
    WHERE CASE WHEN named.created IS NULL THEN false
        ELSE CAST(named.created AS timestamptz) <= now() - make_interval(secs => $1) END
    ORDER BY named.name";

/// Drops the staging tables that are older than `older_than` and whose source is not in `live`. Returns their names.
pub(super) async fn drop_stale(
    connection: &mut Connection,
    older_than: Duration,
    live: &[SourceId],
) -> Result<Vec<String>> {
    let seconds = older_than.as_secs_f64();
    let params: [(&(dyn ToSql + Sync), Type); 1] = [(&seconds, Type::FLOAT8)];
    let rows = connection.rows("cannot list the staging tables", STALE, &params).await?;
    let mut dropped = Vec::new();
    for row in rows {
        let name: String = value(&row, 0)?;
        if source_of(&name).is_some_and(|short| live.iter().all(|id| id.short() != short)) {
            let sql = format!("DROP TABLE IF EXISTS {}", quoted(&name));
            connection.run("cannot drop a staging table", &sql).await?;
            dropped.push(name);
        }
    }
    Ok(dropped)
}

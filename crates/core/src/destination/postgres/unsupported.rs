//! Features of a table that prevent a replace, a merge or a mirror, found before any row is sent.

use tokio_postgres::types::{ToSql, Type};

use super::connect::{Connection, value};
use super::table::quoted_table;
use crate::destination::table::cascading_foreign_key;
use crate::error::{Error, ErrorKind, Result};
use crate::table_name::TableName;

/// The first rule that rewrites the statements; whether other tables inherit from this one, apart from partitions; and
/// the first foreign key that changes rows of another table when rows are deleted here, with that table. If rows are also updated
/// (`2`), a foreign key of the table to itself counts too: a row that is deleted with another one could not be updated.
const FEATURES_SQL: &str = "\
    WITH RECURSIVE parts AS ( \
        SELECT CAST(CAST(CAST($1 AS text) AS regclass) AS oid) AS id \
      UNION ALL SELECT i.inhrelid FROM parts p JOIN pg_catalog.pg_inherits i ON i.inhparent = p.id) \
    SELECT (SELECT min(CAST(r.rulename AS text)) FROM pg_catalog.pg_rewrite r \
            WHERE r.ev_class = c.oid AND r.ev_enabled <> 'D' AND position(CAST(r.ev_type AS text) IN $2) > 0), \
        c.relkind = 'r' AND EXISTS (SELECT FROM pg_catalog.pg_inherits i WHERE i.inhparent = c.oid), \
        CAST(f.conname AS text), CAST(CAST(f.conrelid AS regclass) AS text) \
    FROM pg_catalog.pg_class c LEFT JOIN LATERAL ( \
        SELECT f.conname, f.conrelid FROM pg_catalog.pg_constraint f \
        WHERE f.contype = 'f' AND f.confdeltype IN ('c', 'n', 'd') AND f.confrelid IN (SELECT id FROM parts) \
            AND (position('2' IN $2) > 0 OR f.conrelid NOT IN (SELECT id FROM parts)) ORDER BY f.oid LIMIT 1) f ON true \
    WHERE c.oid = CAST(CAST($1 AS text) AS regclass)";

/// `pg_rewrite.ev_type` of DELETE, for a replace. COPY, which adds the new rows, ignores rules.
const DELETE: &str = "4";
/// `pg_rewrite.ev_type` of UPDATE and INSERT, for a merge.
const UPDATE_AND_INSERT: &str = "23";
/// `pg_rewrite.ev_type` of UPDATE, INSERT and DELETE, for a mirror or changes.
const ALL_CHANGES: &str = "234";

/// Rejects a table if deleting its rows would change rows of other tables, or if a rule rewrites the DELETE.
pub(super) async fn reject_replace(connection: &mut Connection, table: &TableName) -> Result<()> {
    let Some(found) = find(connection, table, DELETE).await? else { return Ok(()) };
    found.reject_cascade(table)?;
    reject_common(table, "replaced", found.rule, found.has_children)
}

/// Rejects a table if a rule rewrites the statements of a merge, or if its key does not apply to inherited rows.
pub(super) async fn reject_merge(connection: &mut Connection, table: &TableName) -> Result<()> {
    let Some(found) = find(connection, table, UPDATE_AND_INSERT).await? else { return Ok(()) };
    reject_common(table, "merged into", found.rule, found.has_children)
}

/// Rejects a table as [`reject_replace`] does, and if a rule rewrites the other statements of a mirror or of changes.
pub(super) async fn reject_deletes(connection: &mut Connection, table: &TableName) -> Result<()> {
    let Some(found) = find(connection, table, ALL_CHANGES).await? else { return Ok(()) };
    found.reject_cascade(table)?;
    reject_common(table, "changed by key", found.rule, found.has_children)
}

fn reject_common(table: &str, action: &str, rule: Option<String>, has_children: bool) -> Result<()> {
    let message = match rule {
        Some(rule) => format!(
            "table {table} cannot be {action}: its rule {rule} rewrites the statements; drop the rule, or use another LOAD_MODE"
        ),
        None if has_children => format!(
            "table {table} cannot be {action}: other tables inherit from it, and their rows would count as its own; use \
             partitions, or another LOAD_MODE"
        ),
        None => return Ok(()),
    };
    Err(Error::new(ErrorKind::TableMismatch, message))
}

struct UnsupportedFeatures {
    rule: Option<String>,
    has_children: bool,
    foreign_key: Option<(String, String)>,
}

impl UnsupportedFeatures {
    fn reject_cascade(&self, table: &str) -> Result<()> {
        match &self.foreign_key {
            Some((constraint, child)) => Err(cascading_foreign_key(table, constraint, child)),
            None => Ok(()),
        }
    }
}

async fn find(connection: &mut Connection, table: &TableName, events: &str) -> Result<Option<UnsupportedFeatures>> {
    let relation = quoted_table(table);
    let params: [(&(dyn ToSql + Sync), Type); 2] = [(&relation, Type::TEXT), (&events, Type::TEXT)];
    let context = "cannot read the table's rules and the foreign keys to it";
    let rows = connection.rows(context, FEATURES_SQL, &params).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let (constraint, child): (Option<String>, Option<String>) = (value(row, 2)?, value(row, 3)?);
    let (rule, has_children) = (value(row, 0)?, value(row, 1)?);
    Ok(Some(UnsupportedFeatures { rule, has_children, foreign_key: constraint.zip(child) }))
}

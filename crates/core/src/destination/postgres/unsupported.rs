//! What keeps a table from being replaced or merged into, found before anything is sent.

use tokio_postgres::types::{ToSql, Type};

use super::connect::{Connection, value};
use crate::error::{Error, ErrorKind, Result};

/// A rule that rewrites such statements, whether tables inherit from this one (partitions are another matter), and a foreign
/// key from outside by which a deleted row changes others, with its table.
const OBSTACLES_SQL: &str = "\
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
            AND f.conrelid NOT IN (SELECT id FROM parts) ORDER BY f.oid LIMIT 1) f ON true \
    WHERE c.oid = CAST(CAST($1 AS text) AS regclass)";

/// `pg_rewrite.ev_type` of the statements that replace: DELETE. Rows come by COPY, which knows no rules.
const DELETE: &str = "4";
/// The same of those that merge: UPDATE and INSERT.
const UPDATE_AND_INSERT: &str = "23";

/// Refuses a table that is to be replaced when other tables' rows would go or change with its own, or a rule keeps them.
pub(super) async fn refuse_replace(connection: &mut Connection, table: &str, relation: &str) -> Result<()> {
    let Some(found) = find(connection, relation, DELETE).await? else { return Ok(()) };
    if let Some((constraint, child)) = found.foreign_key {
        let message = format!(
            "table {table} cannot be replaced: the foreign key {constraint} of table {child} would change that table's rows \
             when the old ones are deleted; make it ON DELETE RESTRICT, or use another LOAD_MODE"
        );
        return Err(Error::new(ErrorKind::TableMismatch, message));
    }
    refuse_common(table, "replaced", found.rule, found.has_children)
}

/// Refuses a table that is to be merged into when a rule makes other statements of ours, or its key is not the whole table's.
pub(super) async fn refuse_merge(connection: &mut Connection, table: &str, relation: &str) -> Result<()> {
    let Some(found) = find(connection, relation, UPDATE_AND_INSERT).await? else { return Ok(()) };
    refuse_common(table, "merged into", found.rule, found.has_children)
}

fn refuse_common(table: &str, what: &str, rule: Option<String>, has_children: bool) -> Result<()> {
    let message = match rule {
        Some(rule) => format!(
            "table {table} cannot be {what}: its rule {rule} rewrites the statements; drop the rule, or use another LOAD_MODE"
        ),
        None if has_children => format!(
            "table {table} cannot be {what}: other tables inherit from it, and their rows would count as its own; use \
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

async fn find(connection: &mut Connection, relation: &str, events: &str) -> Result<Option<UnsupportedFeatures>> {
    let params: [(&(dyn ToSql + Sync), Type); 2] = [(&relation, Type::TEXT), (&events, Type::TEXT)];
    let doing = "cannot read the target table's rules and the foreign keys to it";
    let rows = connection.rows(doing, OBSTACLES_SQL, &params).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let (constraint, child): (Option<String>, Option<String>) = (value(row, 2)?, value(row, 3)?);
    let (rule, has_children) = (value(row, 0)?, value(row, 1)?);
    Ok(Some(UnsupportedFeatures { rule, has_children, foreign_key: constraint.zip(child) }))
}

//! Creates a missing table from the file's schema, or checks that an existing table can store the file.

use tokio_postgres::types::{ToSql, Type};

use super::codes::{DUPLICATE_OBJECT, DUPLICATE_TABLE, UNIQUE_VIOLATION};
use super::column::{Storage, TableColumn, describe};
use super::connect::{Connection, value};
use super::failure::{failure, state};
use super::key::MergeKey;
use super::unsupported;
use crate::destination::column::{Missing, fit, missing};
use crate::destination::failure::Phase;
use crate::destination::merge::{key_too_long, new_key};
use crate::destination::table::definitions;
use crate::destination::{DestinationOptions, FileSchema, LoadMode, ScanReason};
use crate::error::{Error, ErrorKind, Result};
use crate::ledger::LedgerConnection;
use crate::object::hash_parts;
use spillway_formats::schema::{Column, ColumnType, Schema};

/// Maximum size of an identifier in bytes. The server truncates longer ones without an error, and two of them may
/// become equal.
const MAX_NAME_BYTES: usize = 63;

/// Approximate maximum size of a key in an index: a third of a page.
const KEY_BYTES: u64 = 2600;

/// The kind of a relation, row-level security, partitions that may lose rows, and which of the asked columns it has.
const RELATION_SQL: &str = "\
    WITH RECURSIVE parts AS ( \
        SELECT c.oid AS id FROM pg_catalog.pg_class c WHERE c.oid = pg_catalog.to_regclass($1) AND c.relkind = 'p' \
      UNION ALL SELECT i.inhrelid FROM parts p JOIN pg_catalog.pg_inherits i ON i.inhparent = p.id) \
    SELECT CAST(c.relkind AS text), CAST(c.relpersistence AS text), pg_catalog.row_security_active(c.oid), \
        EXISTS (SELECT FROM parts p JOIN pg_catalog.pg_class d ON d.oid = p.id \
                WHERE d.relkind = 'f' OR d.relpersistence <> 'p'), \
        ARRAY(SELECT CAST(a.attname AS text) FROM pg_catalog.pg_attribute a \
              WHERE a.attrelid = c.oid AND a.attname = ANY ($2)) \
    FROM pg_catalog.pg_class c WHERE c.oid = pg_catalog.to_regclass($1)";

/// Returns an identifier in double quotes. Double quotes in it are doubled. A name that is too long is truncated and
/// ends with its hash.
pub(super) fn quoted(name: &str) -> String {
    if name.len() <= MAX_NAME_BYTES {
        return format!("\"{}\"", name.replace('"', "\"\""));
    }
    let hash = &hash_parts(&[name])[..8];
    let front = &name[..name.floor_char_boundary(MAX_NAME_BYTES - hash.len() - 1)];
    format!("\"{}_{hash}\"", front.replace('"', "\"\""))
}

/// Returns which of the asked columns a table has, and `None` when there is no such table.
///
/// # Errors
/// [`ErrorKind::TableMismatch`] when it is not a table, or may lose committed rows.
pub(super) async fn relation(connection: &mut Connection, table: &str, asked: &[&str]) -> Result<Option<Vec<String>>> {
    let name = quoted(table);
    let params: [(&(dyn ToSql + Sync), Type); 2] = [(&name, Type::TEXT), (&asked, Type::TEXT_ARRAY)];
    let rows = connection.rows("cannot look up the table", RELATION_SQL, &params).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let (kind, persistence): (String, String) = (value(row, 0)?, value(row, 1)?);
    let (has_row_security, has_unsafe_partition): (bool, bool) = (value(row, 2)?, value(row, 3)?);
    let reason = match (kind.as_str(), persistence.as_str()) {
        ("r" | "p", "p") if has_row_security => {
            "has row-level security that applies to this user; load it as its owner".into()
        }
        ("r" | "p", "p") if has_unsafe_partition => {
            "has a partition that is unlogged or foreign, which may lose rows".into()
        }
        ("r" | "p", "p") => return value(row, 4).map(Some),
        ("r" | "p", "u") => {
            format!("is unlogged and loses its rows in a crash; change it: ALTER TABLE {name} SET LOGGED")
        }
        ("r" | "p", _) => "is temporary".into(),
        ("v", _) => "is a view, and rows can only be loaded into a table".into(),
        ("m", _) => "is a materialized view, and rows can only be loaded into a table".into(),
        ("f", _) => "is a foreign table, and rows can only be loaded into a table of this database".into(),
        (_, _) => "is not a table".into(),
    };
    Err(Error::new(ErrorKind::TableMismatch, format!("{table} {reason}")))
}

/// Whether a CREATE failed because another worker has created the same object at the same moment.
///
/// IF NOT EXISTS does not prevent that: both sessions find no object, and one violates a unique index of the server's
/// catalog.
pub(super) fn is_created_by_another(error: &tokio_postgres::Error) -> bool {
    matches!(state(error), Some(UNIQUE_VIOLATION | DUPLICATE_TABLE | DUPLICATE_OBJECT))
}

/// The table, checked against a file's columns.
pub(super) type Prepared = crate::destination::table::Prepared<Storage, MergeKey>;

/// Checks the table, and creates it and its missing columns from a final schema. Runs outside of any transaction, and
/// sends no DDL when everything is in place.
///
/// A file without columns needs no table and gets none.
pub(super) async fn prepare(
    connection: &mut Connection,
    table: &str,
    schema: FileSchema<'_>,
    options: &DestinationOptions,
) -> Result<Prepared> {
    let found = relation(connection, table, &[]).await?;
    let columns = &schema.schema().columns;
    if columns.is_empty() {
        return Ok(Prepared::Ready { columns: Vec::new(), key: None });
    }
    let name = quoted(table);
    if found.is_none() {
        match schema {
            FileSchema::Provisional { .. } => return Ok(Prepared::NeedsScan(ScanReason::TableMissing)),
            FileSchema::Final { .. } => create(connection, table, columns, &options.load_mode).await?,
        }
    }
    let key = match &options.load_mode {
        LoadMode::Append => None,
        LoadMode::Replace => {
            unsupported::refuse_replace(connection, table, &name).await?;
            None
        }
        LoadMode::Merge { key } => {
            unsupported::refuse_merge(connection, table, &name).await?;
            Some(MergeKey::of_table(connection, table, &name, key).await?)
        }
    };
    let mut table_columns = describe(connection, &name).await?;
    match missing(table, &table_columns, schema, options.unknown_columns)? {
        Missing::Nothing => {}
        Missing::Add(columns) => {
            let doing = "cannot add the file's new columns to the table";
            connection.run(doing, &add_statement(&name, &columns)).await?;
            table_columns = describe(connection, &name).await?;
        }
        Missing::NeedsScan => return Ok(Prepared::NeedsScan(ScanReason::ColumnsMissing)),
    }
    let mut columns = fit(table, &table_columns, schema.schema())?;
    if let Some(key) = &key {
        key.mark(table, &mut columns)?;
    }
    Ok(Prepared::Ready { columns, key })
}

async fn create(connection: &mut Connection, table: &str, columns: &[Column], mode: &LoadMode) -> Result<()> {
    connection.create("cannot create the table", &create_statement(table, columns, mode)?).await
}

/// Creates a missing table in the open transaction. Returns its columns in the file's order, and `None` when another
/// worker has created it at the same moment.
///
/// Another worker that creates the same table waits for the end of this transaction, and this one for theirs, within
/// the lock timeout.
pub(super) async fn create_in_transaction(
    connection: &mut Connection,
    table: &str,
    schema: &Schema,
) -> Result<Option<Vec<TableColumn>>> {
    let doing = "cannot create the table in the transaction of its rows";
    let sql = create_statement(table, &schema.columns, &LoadMode::Append)?;
    match connection.run_raw(doing, &sql).await? {
        Ok(()) => {}
        Err(error) if is_created_by_another(&error) => return Ok(None),
        Err(error) => return Err(failure(Phase::Connected, doing, error)),
    }
    // Since the first look, another session may have created a view or another relation of this name.
    relation(connection, table, &[]).await?;
    let table_columns = describe(connection, &quoted(table)).await?;
    fit(table, &table_columns, schema).map(Some)
}

/// Returns one statement for all columns. It skips columns that another worker has added meanwhile.
fn add_statement(name: &str, missing: &[&Column]) -> String {
    let additions: Vec<String> =
        missing.iter().map(|column| format!("ADD COLUMN IF NOT EXISTS {}", definition(column))).collect();
    format!("ALTER TABLE {name} {}", additions.join(", "))
}

fn create_statement(table: &str, columns: &[Column], mode: &LoadMode) -> Result<String> {
    let key = match mode {
        LoadMode::Append | LoadMode::Replace => Vec::new(),
        LoadMode::Merge { key } => key_columns(table, columns, key)?,
    };
    let key_definition =
        |column: &Column| format!("{} {} NOT NULL", quoted(&column.name), type_sql(column.column_type));
    let definitions = definitions(columns, &key, quoted, definition, key_definition);
    Ok(format!("CREATE TABLE IF NOT EXISTS {} ({definitions})", quoted(table)))
}

/// Returns the columns of a new table's primary key, in the order of `MERGE_KEY`.
fn key_columns<'a>(table: &str, columns: &'a [Column], wanted: &[String]) -> Result<Vec<&'a str>> {
    let key = new_key(table, columns, wanted)?;
    let bytes = |column: &&Column| if column.column_type == ColumnType::Text { column.max_bytes } else { 20 };
    if key.iter().map(bytes).sum::<u64>() > KEY_BYTES {
        return Err(key_too_long(table, wanted));
    }
    Ok(key.into_iter().map(|column| column.name.as_str()).collect())
}

fn definition(column: &Column) -> String {
    format!("{} {} NULL", quoted(&column.name), type_sql(column.column_type))
}

/// The type of a column in a created table. Columns are nullable, because a later file may have missing values.
fn type_sql(column_type: ColumnType) -> String {
    match column_type.with_headroom() {
        ColumnType::Boolean => "boolean".into(),
        ColumnType::Integer => "bigint".into(),
        ColumnType::Decimal { precision, scale } => format!("numeric({precision},{scale})"),
        ColumnType::Double => "double precision".into(),
        ColumnType::Date => "date".into(),
        ColumnType::DateTime => "timestamp(6)".into(),
        ColumnType::Instant => "timestamptz(6)".into(),
        // jsonb would change the spelling of numbers and the order of keys, drop repeated keys, and reject \u0000.
        ColumnType::Json => "json".into(),
        ColumnType::Text => "text".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use spillway_formats::Batch;
    use spillway_formats::schema::infer::Inference;

    #[test]
    fn quotes_are_doubled_and_long_names_stay_distinct() {
        assert_eq!(quoted("a\"; DROP TABLE b; --"), "\"a\"\"; DROP TABLE b; --\"");
        let (left, right) = (quoted(&("é".repeat(40) + "l")), quoted(&("é".repeat(40) + "r")));
        assert!(left != right && left.len() <= MAX_NAME_BYTES + 2, "{left} {right}");
    }

    #[test]
    fn created_table_has_column_for_each_type() {
        let names = ["flag", "Id", "price", "number", "day", "at", "seen", "note"];
        let mut inference = Inference::new(names.map(str::to_owned).to_vec());
        let mut batch = Batch::new(names.len());
        for field in ["true", "1", "1.50", "1e300", "2024-01-02", "2024-01-02 03:04:05", "2024-01-02T03:04:05Z", "x"] {
            batch.push_field(Some(field.as_bytes()));
        }
        batch.end_row(crate::error::Position::default());
        inference.observe(&batch);
        let columns = inference.finish().columns;
        assert_eq!(
            create_statement("t", &columns, &LoadMode::Append).unwrap(),
            "CREATE TABLE IF NOT EXISTS \"t\" (\"flag\" boolean NULL, \"Id\" bigint NULL, \"price\" numeric(18,2) NULL, \
             \"number\" double precision NULL, \"day\" date NULL, \"at\" timestamp(6) NULL, \"seen\" timestamptz(6) NULL, \
             \"note\" text NULL)"
        );
        let merge = |key: &str| LoadMode::Merge { key: vec![key.into()] };
        let sql = create_statement("t", &columns[1..3], &merge("ID")).unwrap();
        let expected = "CREATE TABLE IF NOT EXISTS \"t\" (\"Id\" bigint NOT NULL, \"price\" numeric(18,2) NULL, \
                        PRIMARY KEY (\"Id\"))";
        assert_eq!(sql, expected);
        assert!(create_statement("t", &columns, &merge("missing")).is_err());
        let mut long = columns;
        long[7].max_bytes = KEY_BYTES;
        assert!(create_statement("t", &long, &merge("note")).is_ok());
        long[7].max_bytes += 1;
        assert!(create_statement("t", &long, &merge("note")).is_err());
    }
}

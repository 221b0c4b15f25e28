//! Tables of PostgreSQL: creates them, and reads and changes their definition.

use tokio_postgres::types::{ToSql, Type};

use super::codes::{DUPLICATE_COLUMN, DUPLICATE_OBJECT, DUPLICATE_TABLE, UNIQUE_VIOLATION};
use super::column::{Storage, TableColumn, describe, types};
use super::connect::{Connection, value};
use super::failure::{ServerError, failure, state};
use super::key::MergeKey;
use super::ledger::PostgresDialect;
use super::{unsupported, widen};
use crate::destination::LoadMode;
use crate::destination::changes::{created, note_in_transaction};
use crate::destination::column::{self, match_columns};
use crate::destination::engine::Request;
use crate::destination::failure::Phase;
use crate::destination::merge::{key_too_long, new_key};
use crate::destination::options::Contract;
use crate::destination::table::{
    Creation, TableConnection, columns_of_new_table, create_statement, failing_if_exists, nullable_definition,
};
use crate::destination::widen::{WiderColumn, WiderType};
use crate::error::{Error, ErrorKind, Result};
use crate::object::hash_parts;
use crate::table_name::TableName;
use spillway_formats::schema::{Column, ColumnType};

/// Maximum size of an identifier in bytes. The server truncates longer ones without an error, which can make two of
/// them equal.
const MAX_NAME_BYTES: usize = 63;

/// The columns that every table has, in lower case only. No other column may have these names.
const SYSTEM_COLUMNS: [&str; 6] = ["tableoid", "cmax", "xmax", "cmin", "xmin", "ctid"];

/// Approximate maximum size of a key in an index: a third of a page.
const KEY_BYTES: u64 = 2600;

/// The kind and persistence of a relation, whether it has row-level security or partitions that may lose rows, and
/// which of the wanted columns it has.
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

/// The schema of the search path that has a table with this name, and that the user may not use.
///
/// The server ignores such a schema, and everybody may read the catalog.
const HIDDEN_SQL: &str = "\
    SELECT CAST(n.nspname AS text) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
    WHERE CAST(c.relname AS text) = $1 AND c.relkind IN ('r', 'p') AND NOT pg_catalog.has_schema_privilege(n.oid, 'USAGE') \
        AND CAST(n.nspname AS text) = ANY (SELECT CASE trim(both ' \"' FROM p) WHEN '$user' THEN CAST(current_user AS text) \
                ELSE trim(both ' \"' FROM p) END \
            FROM unnest(string_to_array(current_setting('search_path'), ',')) p) LIMIT 1";

/// Returns an identifier in double quotes. Double quotes in it are doubled. The end of a name that is too long is
/// replaced with its hash.
pub(super) fn quoted(name: &str) -> String {
    if name.len() <= MAX_NAME_BYTES {
        return format!("\"{}\"", name.replace('"', "\"\""));
    }
    let hash = &hash_parts(&[name])[..8];
    let front = &name[..name.floor_char_boundary(MAX_NAME_BYTES - hash.len() - 1)];
    format!("\"{}_{hash}\"", front.replace('"', "\"\""))
}

/// Returns those of the wanted columns that a table has, and `None` when the table does not exist.
///
/// # Errors
/// [`ErrorKind::TableMismatch`] when it is not a table, or may lose committed rows.
pub(super) async fn relation(
    connection: &mut Connection,
    table: &TableName,
    wanted: &[&str],
) -> Result<Option<Vec<String>>> {
    let name = quoted_table(table);
    let params: [(&(dyn ToSql + Sync), Type); 2] = [(&name, Type::TEXT), (&wanted, Type::TEXT_ARRAY)];
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
/// IF NOT EXISTS does not prevent this error: both sessions find no object, and one of them violates a unique index of
/// the server's catalog.
pub(super) fn is_created_by_another(error: &tokio_postgres::Error) -> bool {
    matches!(state(error), Some(UNIQUE_VIOLATION | DUPLICATE_TABLE | DUPLICATE_OBJECT))
}

/// Returns the quoted name of a table, after that of its schema if it has one.
pub(super) fn quoted_table(table: &TableName) -> String {
    crate::destination::table::quoted_table::<PostgresDialect>(table)
}

impl TableConnection for Connection {
    type Storage = Storage;
    type Key = MergeKey;

    async fn has_table(&mut self, table: &TableName) -> Result<bool> {
        Ok(relation(self, table, &[]).await?.is_some())
    }

    async fn check_absent(&mut self, table: &TableName) -> Result<()> {
        // The server refuses to look into a schema that the name contains.
        if table.schema().is_some() {
            return Ok(());
        }
        let (context, name) = ("cannot look up the table", table.own_name());
        let rows = self.rows(context, HIDDEN_SQL, &[(&name, Type::TEXT)]).await?;
        match rows.first().map(|row| value::<String>(row, 0)).transpose()? {
            Some(schema) => Err(Error::new(ErrorKind::Privilege, context).with_source(ServerError::hidden_by(&schema))),
            None => Ok(()),
        }
    }

    async fn similar_table(&mut self, table: &TableName) -> Result<Option<String>> {
        let sql = "SELECT c.relname::text FROM pg_catalog.pg_class c \
             WHERE c.relnamespace = (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = COALESCE($1, current_schema())) \
             AND c.relkind IN ('r', 'p') AND lower(c.relname) = lower($2) AND c.relname <> $2 ORDER BY c.relname LIMIT 1";
        let (schema, name) = (table.schema(), table.own_name());
        let params: [(&(dyn ToSql + Sync), Type); 2] = [(&schema, Type::TEXT), (&name, Type::TEXT)];
        let rows = self.rows("cannot look for a table of a similar name", sql, &params).await?;
        rows.first().map(|row| value(row, 0)).transpose()
    }

    fn create_sql(&self, table: &TableName, columns: &[Column], mode: &LoadMode) -> Result<String> {
        create_table_statement(table, columns, mode)
    }

    fn add_sql(&self, table: &TableName, columns: &[&Column]) -> Result<Vec<String>> {
        add_statement(table, columns, "ADD COLUMN IF NOT EXISTS").map(|sql| vec![sql])
    }

    fn new_columns(&self, columns: &[Column], mode: &LoadMode) -> Vec<TableColumn> {
        new_columns(columns, mode)
    }

    async fn create_table(&mut self, table: &TableName, columns: &[Column], mode: &LoadMode) -> Result<Creation> {
        let context = "cannot create the table";
        let sql = failing_if_exists(&self.create_sql(table, columns, mode)?);
        match self.run_raw(context, &sql).await? {
            Ok(()) => Ok(Creation::Created),
            Err(error) if is_created_by_another(&error) => Ok(Creation::Exists),
            Err(error) => Err(failure(Phase::Connected, context, error)),
        }
    }

    async fn reject_unsupported(&mut self, table: &TableName, mode: &LoadMode) -> Result<()> {
        match mode {
            LoadMode::Append => Ok(()),
            LoadMode::Replace => unsupported::reject_replace(self, table).await,
            LoadMode::Merge { .. } => unsupported::reject_merge(self, table).await,
            LoadMode::Mirror(_) | LoadMode::Changes(_) => unsupported::reject_deletes(self, table).await,
        }
    }

    async fn read_key(&mut self, table: &TableName, wanted: &[String]) -> Result<MergeKey> {
        MergeKey::of_table(self, table, wanted).await
    }

    fn key_columns(key: &MergeKey) -> &[String] {
        &key.columns
    }

    async fn read_columns(&mut self, table: &TableName) -> Result<Vec<TableColumn>> {
        describe(self, table).await
    }

    async fn widen_columns(&mut self, table: &TableName, columns: &[WiderColumn<'_>]) -> Result<Vec<String>> {
        widen::widen(self, table, columns).await
    }

    async fn wider_types(&mut self, table: &TableName, columns: &[WiderColumn<'_>]) -> Result<Vec<WiderType<Storage>>> {
        widen::wider_types(self, table, columns).await
    }

    async fn change_type(&mut self, sql: &str) -> Result<()> {
        widen::change_type(self, sql).await
    }

    async fn add_columns<'a>(
        &mut self,
        table: &TableName,
        columns: &[&'a Column],
        added: &mut Vec<&'a Column>,
    ) -> Result<()> {
        if self.try_add(table, columns).await? == Creation::Created {
            added.extend(columns);
            return Ok(());
        }
        for column in columns {
            if self.try_add(table, &[*column]).await? == Creation::Created {
                added.push(*column);
            }
        }
        Ok(())
    }
}

impl Connection {
    /// Adds columns in one statement. Adds none if another worker has added one of them at the same moment.
    async fn try_add(&mut self, table: &TableName, columns: &[&Column]) -> Result<Creation> {
        let context = "cannot add the file's new columns to the table";
        match self.run_raw(context, &add_statement(table, columns, "ADD COLUMN")?).await? {
            Ok(()) => Ok(Creation::Created),
            Err(error) if state(&error) == Some(DUPLICATE_COLUMN) => Ok(Creation::Exists),
            Err(error) => Err(failure(Phase::Connected, context, error)),
        }
    }
}

/// Returns the statement that adds nullable columns, each with these words.
fn add_statement(table: &TableName, columns: &[&Column], add: &str) -> Result<String> {
    reject_system_columns(columns.iter().copied())?;
    let addition = |column: &&Column| format!("{add} {}", nullable_definition::<PostgresDialect>(column, type_sql));
    let additions: Vec<String> = columns.iter().map(addition).collect();
    Ok(format!("ALTER TABLE {} {}", quoted_table(table), additions.join(", ")))
}

/// Creates a missing table in the open transaction. Returns its columns in the file's order, and `None` when another
/// worker has created it at the same moment.
///
/// If two workers create the same table, each waits for the end of the other's transaction, within the lock timeout.
pub(super) async fn create_in_transaction(
    connection: &mut Connection,
    request: &Request<'_>,
) -> Result<Option<Vec<TableColumn>>> {
    let context = "cannot create the table in the transaction of its rows";
    let (table, schema) = (&request.file.table, request.schema.schema());
    let columns = columns_of_new_table(&schema.columns, request.options);
    let sql = failing_if_exists(&create_table_statement(table, &columns, &LoadMode::Append)?);
    match connection.run_raw(context, &sql).await? {
        Ok(()) => {}
        Err(error) if is_created_by_another(&error) => return Ok(None),
        Err(error) => return Err(failure(Phase::Connected, context, error)),
    }
    // The search path may begin with the schema of temporary tables.
    relation(connection, table, &[]).await?;
    note_in_transaction(request, created(&new_columns(&columns, &LoadMode::Append)));
    let similar = connection.similar_table(table).await?;
    request.file.table_changes.record_similar_table(table, similar.as_deref());
    let table_columns = describe(connection, table).await?;
    match_columns(table, &table_columns, schema, Contract::REFUSE).map(Some)
}

fn reject_system_columns<'a>(mut columns: impl Iterator<Item = &'a Column>) -> Result<()> {
    match columns.find(|column| SYSTEM_COLUMNS.contains(&column.name.as_str())) {
        Some(Column { name, .. }) => {
            let message = format!(
                "{name} is the name of a system column, which PostgreSQL allows for no other column; rename the column \
                 in the file"
            );
            Err(Error::new(ErrorKind::TableMismatch, message).in_column(name))
        }
        None => Ok(()),
    }
}

/// Fails if a column has another type than when the rows were encoded. Call it after COPY, whose lock keeps the types.
///
/// The binary format contains the bytes of a value without its type. So a server that has changed a type in between would read
/// them as another value.
pub(super) async fn check_types(connection: &mut Connection, table: &TableName, columns: &[TableColumn]) -> Result<()> {
    let found = types(connection, table).await?;
    let is_different = |column: &&TableColumn| {
        !found.iter().any(|(name, type_text)| *name == column.name && *type_text == column.type_text)
    };
    // The staged operations are text, and the table does not have them.
    match columns.iter().filter(|column| column.operation.is_none()).find(is_different) {
        None => Ok(()),
        Some(TableColumn { name, .. }) => {
            let message = format!("the type of column {name} of table {table} was changed while the rows were sent");
            Err(Error::new(ErrorKind::Conflict, message).in_column(name))
        }
    }
}

/// Returns the statement that creates a table for a file.
pub(in crate::destination) fn create_table_statement(
    table: &TableName,
    columns: &[Column],
    mode: &LoadMode,
) -> Result<String> {
    reject_system_columns(columns.iter())?;
    let key = new_key(table, columns, mode)?;
    let has_any_size = |column: &Column| matches!(column.column_type, ColumnType::Text | ColumnType::Binary);
    let size = |column: &&Column| if has_any_size(column) { column.max_bytes } else { 20 };
    if key.iter().map(size).sum::<u64>() > KEY_BYTES {
        return Err(key_too_long(table, &key));
    }
    Ok(create_statement::<PostgresDialect>(table, columns, &key, type_sql, type_sql))
}

/// Returns the columns of a table that is created for a file.
pub(in crate::destination) fn new_columns(columns: &[Column], mode: &LoadMode) -> Vec<TableColumn> {
    let key = new_key("", columns, mode).unwrap_or_default();
    column::new_columns(columns, &key, |column, _| (type_sql(column), new_storage(column.column_type)))
}

/// Returns the storage of a column in a created table.
fn new_storage(column_type: ColumnType) -> Storage {
    match column_type.with_headroom() {
        ColumnType::Boolean => Storage::Boolean,
        ColumnType::Integer => Storage::Integer { bytes: 8 },
        ColumnType::Decimal { precision, scale } => {
            Storage::Numeric { size: Some((u64::from(precision), u64::from(scale))) }
        }
        ColumnType::Double => Storage::Double,
        ColumnType::Date => Storage::Date,
        ColumnType::DateTime => Storage::Timestamp { fraction_digits: 6 },
        ColumnType::Instant => Storage::Instant { fraction_digits: 6 },
        ColumnType::Json => Storage::Json,
        ColumnType::Text => Storage::Characters { max: None, trims_spaces: false },
        ColumnType::Binary => Storage::Bytea,
    }
}

/// Returns the type of a column in a created table.
fn type_sql(column: &Column) -> String {
    match column.column_type.with_headroom() {
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
        ColumnType::Binary => "bytea".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use spillway_formats::Batch;
    use spillway_formats::schema::infer::Inference;

    #[test]
    fn name_of_a_system_column_is_rejected() {
        let columns = |name: &str| Inference::new(vec!["id".to_owned(), name.to_owned()]).finish().columns;
        for name in SYSTEM_COLUMNS {
            let error = create_table_statement(&"t".into(), &columns(name), &LoadMode::Append).unwrap_err();
            assert_eq!((error.kind(), error.column()), (ErrorKind::TableMismatch, Some(name)));
        }
        assert!(create_table_statement(&"t".into(), &columns("XMIN"), &LoadMode::Append).is_ok());
    }

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
            create_table_statement(&"t".into(), &columns, &LoadMode::Append).unwrap(),
            "CREATE TABLE IF NOT EXISTS \"t\" (\"flag\" boolean NULL, \"Id\" bigint NULL, \"price\" numeric(18,2) NULL, \
             \"number\" double precision NULL, \"day\" date NULL, \"at\" timestamp(6) NULL, \"seen\" timestamptz(6) NULL, \
             \"note\" text NULL)"
        );
        let merge = |key: &str| LoadMode::Merge { key: vec![key.into()] };
        let sql = create_table_statement(&"t".into(), &columns[1..3], &merge("ID")).unwrap();
        let expected = "CREATE TABLE IF NOT EXISTS \"t\" (\"Id\" bigint NOT NULL, \"price\" numeric(18,2) NULL, \
                        PRIMARY KEY (\"Id\"))";
        assert_eq!(sql, expected);
        assert!(create_table_statement(&"t".into(), &columns, &merge("missing")).is_err());
        let mut long = columns;
        long[7].max_bytes = KEY_BYTES;
        assert!(create_table_statement(&"t".into(), &long, &merge("note")).is_ok());
        long[7].max_bytes += 1;
        assert!(create_table_statement(&"t".into(), &long, &merge("note")).is_err());
    }
}

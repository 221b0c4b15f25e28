//! Creates a missing table from the file's schema, or checks that an existing table can store the file.

use crate::destination::column::{Missing, fit, missing};
use crate::destination::merge::{key_too_long, new_key};
use crate::destination::table::definitions;
use crate::destination::{DestinationOptions, FileSchema, LoadMode, ScanReason};
use crate::error::{Error, ErrorKind, Result};
use crate::ledger::LedgerConnection;
use spillway_formats::schema::{Column, ColumnType};

use super::column::{Storage, describe};
use super::connect::Connection;
use super::key::MergeKey;
use super::unsupported;

/// Text of at most this size gets a TEXT column, whose limit of 65,535 bytes leaves room for longer values in later
/// files.
const SHORT_TEXT_BYTES: u64 = 16_383;

/// Maximum size of a key in InnoDB. A character has up to four bytes.
const KEY_BYTES: u64 = 3072;
/// Sizes of a text column in a key: values of at most so many bytes, and the column's characters.
const KEY_CHARACTERS: [(u64, u64); 2] = [(127, 255), (768, 768)];

/// Options of created tables. The collation compares byte by byte, so different texts are never equal.
pub(super) const TABLE_OPTIONS: &str =
    "ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin";

/// Returns an identifier in backticks. Backticks in it are doubled.
pub(super) fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// Whether a table exists.
///
/// # Errors
/// [`ErrorKind::TableMismatch`] when it is not a base table, or its engine has no transactions.
pub(super) async fn exists(connection: &mut Connection, table: &str) -> Result<bool> {
    let sql = "SELECT t.TABLE_TYPE, t.ENGINE, e.TRANSACTIONS FROM information_schema.TABLES t \
         LEFT JOIN information_schema.ENGINES e ON e.ENGINE = t.ENGINE \
         WHERE t.TABLE_SCHEMA = DATABASE() AND t.TABLE_NAME = ?";
    let doing = "cannot look up the table";
    type Found = (String, Option<String>, Option<String>);
    let found: Vec<Found> = connection.rows(doing, sql, (table,)).await?;
    let Some((table_type, engine, transactions)) = found.into_iter().next() else { return Ok(false) };
    if table_type != "BASE TABLE" && table_type != "SYSTEM VERSIONED" {
        let what = table_type.to_lowercase();
        let message = format!("{table} is a {what}, and rows can only be loaded into a table");
        return Err(Error::new(ErrorKind::TableMismatch, message));
    }
    if transactions.as_deref() != Some("YES") {
        let engine = engine.unwrap_or_else(|| "unknown".into());
        let message = format!(
            "the engine of table {table} ({engine}) has no transactions; change it: ALTER TABLE {} ENGINE = InnoDB",
            quoted(table)
        );
        return Err(Error::new(ErrorKind::TableMismatch, message));
    }
    Ok(true)
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
    let table_exists = exists(connection, table).await?;
    let columns = &schema.schema().columns;
    if columns.is_empty() {
        return Ok(Prepared::Ready { columns: Vec::new(), key: None });
    }
    if !table_exists {
        match schema {
            FileSchema::Provisional { .. } => return Ok(Prepared::NeedsScan(ScanReason::TableMissing)),
            FileSchema::Final { .. } => {
                let sql = create_statement(table, columns, &options.load_mode, connection.facts.is_mariadb)?;
                connection.run("cannot create the table", &sql).await?;
            }
        }
    }
    let key = match &options.load_mode {
        LoadMode::Append => None,
        LoadMode::Replace => {
            unsupported::refuse_replace(connection, table).await?;
            None
        }
        LoadMode::Merge { key } => Some(MergeKey::of_table(connection, table, key).await?),
    };
    let mut table_columns = describe(connection, table).await?;
    match missing(table, &table_columns, schema, options.unknown_columns)? {
        Missing::Nothing => {}
        Missing::Add(columns) => {
            add(connection, table, &columns).await?;
            table_columns = describe(connection, table).await?;
        }
        Missing::NeedsScan => return Ok(Prepared::NeedsScan(ScanReason::ColumnsMissing)),
    }
    let mut columns = fit(table, &table_columns, schema.schema())?;
    if let Some(key) = &key {
        key.mark(table, &mut columns)?;
    }
    Ok(Prepared::Ready { columns, key })
}

/// Adds columns one by one. A column that another worker has added meanwhile does not affect the others.
async fn add(connection: &mut Connection, table: &str, missing: &[&Column]) -> Result<()> {
    let doing = "cannot add the file's new columns to the table";
    for column in missing {
        let sql = format!("ALTER TABLE {} ADD COLUMN {}", quoted(table), definition(column));
        connection.create(doing, &sql).await?;
    }
    Ok(())
}

fn create_statement(table: &str, columns: &[Column], mode: &LoadMode, is_mariadb: bool) -> Result<String> {
    let key = match mode {
        LoadMode::Append | LoadMode::Replace => Vec::new(),
        LoadMode::Merge { key } => key_columns(table, columns, key)?,
    };
    let definitions = definitions(columns, &key, quoted, definition, |column| key_definition(column, is_mariadb));
    Ok(format!("CREATE TABLE IF NOT EXISTS {} ({definitions}) {TABLE_OPTIONS}", quoted(table)))
}

/// Returns the columns of a new table's primary key, in the order of `MERGE_KEY`.
fn key_columns<'a>(table: &str, columns: &'a [Column], wanted: &[String]) -> Result<Vec<&'a str>> {
    let key = new_key(table, columns, wanted)?;
    let mut key_bytes = 0;
    for column in &key {
        key_bytes += match (column.column_type, key_characters(column)) {
            (ColumnType::Text, Some(characters)) => 4 * characters,
            (ColumnType::Text, None) => {
                let name = &column.name;
                let message = format!(
                    "column {name} has values that are too long for a primary key ({} bytes)",
                    column.max_bytes
                );
                return Err(Error::new(ErrorKind::TableMismatch, message).in_column(name));
            }
            (_, _) => 20,
        };
    }
    if key_bytes > KEY_BYTES {
        return Err(key_too_long(table, wanted));
    }
    Ok(key.into_iter().map(|column| column.name.as_str()).collect())
}

/// Returns the characters of a text column in a key, and `None` when its values are too long for a key.
fn key_characters(column: &Column) -> Option<u64> {
    KEY_CHARACTERS.iter().find(|(bytes, _)| column.max_bytes <= *bytes).map(|(_, characters)| *characters)
}

/// The definition of a primary key column. Its collation does not pad, so keys that differ only in trailing spaces are
/// different.
fn key_definition(column: &Column, is_mariadb: bool) -> String {
    let type_sql = match (column.column_type, key_characters(column)) {
        (ColumnType::Text, Some(characters)) => {
            let collation = if is_mariadb { "utf8mb4_nopad_bin" } else { "utf8mb4_0900_bin" };
            format!("VARCHAR({characters}) COLLATE {collation}")
        }
        (_, _) => type_sql(column),
    };
    format!("{} {type_sql} NOT NULL", quoted(&column.name))
}

fn definition(column: &Column) -> String {
    format!("{} {} NULL", quoted(&column.name), type_sql(column))
}

/// The type of a column in a created table. Columns are nullable, because a later file may have missing values.
fn type_sql(column: &Column) -> String {
    match column.column_type.with_headroom() {
        ColumnType::Boolean => "TINYINT(1)".into(),
        ColumnType::Integer => "BIGINT".into(),
        ColumnType::Decimal { precision, scale } => format!("DECIMAL({precision},{scale})"),
        ColumnType::Double => "DOUBLE".into(),
        ColumnType::Date => "DATE".into(),
        // Instants are stored as dates and times in UTC, because TIMESTAMP ends in 2038.
        ColumnType::DateTime | ColumnType::Instant => "DATETIME(6)".into(),
        ColumnType::Json => "JSON".into(),
        ColumnType::Text if column.max_bytes <= SHORT_TEXT_BYTES => "TEXT".into(),
        ColumnType::Text => "LONGTEXT".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use spillway_formats::schema::{Candidates, TypeReason};

    fn column(name: &str, column_type: ColumnType, max_bytes: u64) -> Column {
        let candidates = Candidates {
            boolean: false,
            integer: false,
            decimal: None,
            double: false,
            date: false,
            date_time: false,
            instant: false,
        };
        let type_reason = TypeReason { forced_by_record: None, reason: String::new() };
        Column {
            name: name.into(),
            column_type,
            has_nulls: false,
            null_tokens: true,
            max_bytes,
            candidates,
            type_reason,
        }
    }

    #[test]
    fn created_table_has_column_for_each_type() {
        let columns = [
            column("id", ColumnType::Integer, 3),
            column("a`b", ColumnType::Decimal { precision: 9, scale: 2 }, 3),
            column("at", ColumnType::Instant, 20),
            column("note", ColumnType::Text, 16_383),
            column("body", ColumnType::Text, 16_384),
            column("tags", ColumnType::Json, 9),
        ];
        let sql = create_statement("or`ders", &columns, &LoadMode::Append, true).unwrap();
        assert_eq!(
            sql,
            format!(
                "CREATE TABLE IF NOT EXISTS `or``ders` (`id` BIGINT NULL, `a``b` DECIMAL(18,2) NULL, \
                 `at` DATETIME(6) NULL, `note` TEXT NULL, `body` LONGTEXT NULL, `tags` JSON NULL) \
                 {TABLE_OPTIONS}"
            )
        );
    }

    #[test]
    fn created_table_has_merge_key() {
        let columns = [
            column("id", ColumnType::Integer, 3),
            column("Shop", ColumnType::Text, 127),
            column("note", ColumnType::Text, 3),
        ];
        let merge = |names: &[&str]| LoadMode::Merge { key: names.iter().map(|name| (*name).to_owned()).collect() };
        let sql = create_statement("orders", &columns, &merge(&["shop", "id"]), false).unwrap();
        assert_eq!(
            sql,
            format!(
                "CREATE TABLE IF NOT EXISTS `orders` (`id` BIGINT NOT NULL, `Shop` VARCHAR(255) COLLATE utf8mb4_0900_bin \
                 NOT NULL, `note` TEXT NULL, PRIMARY KEY (`Shop`, `id`)) {TABLE_OPTIONS}"
            )
        );
        for key in [&[][..], &["missing"]] {
            let error = create_statement("orders", &columns, &merge(key), true).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TableMismatch, "{key:?}: {error}");
        }
    }

    #[test]
    fn text_too_long_for_index_cannot_be_key() {
        let value_rejected = |columns: &[Column]| {
            let key = columns.iter().map(|column| column.name.clone()).collect();
            create_statement("t", columns, &LoadMode::Merge { key }, true).is_err()
        };
        assert!(!value_rejected(&[column("a", ColumnType::Text, 768)]));
        assert!(value_rejected(&[column("a", ColumnType::Text, 769)]));
        assert!(value_rejected(&[column("a", ColumnType::Text, 768), column("b", ColumnType::Text, 1)]));
    }
}

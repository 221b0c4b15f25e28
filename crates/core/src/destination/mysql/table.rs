//! Tables of MySQL and MariaDB: creates them, and reads and changes their definition.

use crate::destination::LoadMode;
use crate::destination::column::{self, KeyPart};
use crate::destination::failure::Phase;
use crate::destination::limits::{CHANGE_TIMEOUT, STATEMENT_TIMEOUT};
use crate::destination::merge::{key_too_long, new_key};
use crate::destination::table::{Creation, TableConnection, create_statement, failing_if_exists, nullable_definition};
use crate::destination::widen::{WiderColumn, WiderType};
use crate::error::{Error, ErrorKind, Result};
use crate::table_name::TableName;
use spillway_formats::schema::{Column, ColumnType};

use super::codes::{ER_DUP_FIELDNAME, ER_NO_SUCH_TABLE, ER_TABLE_EXISTS_ERROR};
use super::column::{Storage, TableColumn, describe, storage_of};
use super::connect::Connection;
use super::failure::{failure, server_code};
use super::key::MergeKey;
use super::ledger::MySqlDialect;
use super::{unsupported, widen};

/// Values of at most this size get a TEXT or BLOB column. Its limit of 65,535 bytes allows longer values in later files.
const SHORT_TEXT_BYTES: u64 = 16_383;

/// Maximum size of a key in InnoDB. A character has up to four bytes.
const KEY_BYTES: u64 = 3072;

/// The sizes of a text or binary column in a key: the maximum bytes of the file's values, and the characters or bytes of the
/// column.
const KEY_CHARACTERS: [(u64, u64); 2] = [(127, 255), (768, 768)];

/// Options of created tables. The collation compares bytes, so different texts are never equal.
pub(super) const TABLE_OPTIONS: &str =
    "ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin";

/// Returns an identifier in backticks. Backticks in it are doubled.
pub(super) fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// Returns the quoted name of a table, after that of its schema if it has one.
pub(super) fn quoted_table(table: &TableName) -> String {
    crate::destination::table::quoted_table::<MySqlDialect>(table)
}

impl TableConnection for Connection {
    type Storage = Storage;
    type Key = MergeKey;

    async fn has_table(&mut self, table: &TableName) -> Result<bool> {
        let sql = "SELECT t.TABLE_TYPE, t.ENGINE, e.TRANSACTIONS FROM information_schema.TABLES t \
             LEFT JOIN information_schema.ENGINES e ON e.ENGINE = t.ENGINE \
             WHERE t.TABLE_SCHEMA = ? AND t.TABLE_NAME = ?";
        type Found = (String, Option<String>, Option<String>);
        let name = self.schema_and_name(table);
        let found: Vec<Found> = self.rows("cannot look up the table", sql, name).await?;
        let Some((table_type, engine, transactions)) = found.into_iter().next() else { return Ok(false) };
        if table_type != "BASE TABLE" && table_type != "SYSTEM VERSIONED" {
            let message =
                format!("{table} is a {}, and rows can only be loaded into a table", table_type.to_lowercase());
            return Err(Error::new(ErrorKind::TableMismatch, message));
        }
        if transactions.as_deref() != Some("YES") {
            let engine = engine.unwrap_or_else(|| "unknown".into());
            let message = format!(
                "the engine of table {table} ({engine}) has no transactions; change it: ALTER TABLE {} ENGINE = InnoDB",
                quoted_table(table)
            );
            return Err(Error::new(ErrorKind::TableMismatch, message));
        }
        Ok(true)
    }

    /// information_schema shows only tables on which the user has a privilege, so the server is asked for the table itself.
    async fn check_absent(&mut self, table: &TableName) -> Result<()> {
        let context = "cannot look up the table";
        let sql = format!("SELECT 1 FROM {} LIMIT 0", quoted_table(table));
        match self.run_raw(STATEMENT_TIMEOUT, context, sql.as_bytes()).await? {
            // Another worker may have created it since.
            Ok(_) => Ok(()),
            Err(error) if server_code(&error) == Some(ER_NO_SUCH_TABLE) => Ok(()),
            Err(error) => Err(failure(Phase::Connected, context, error)),
        }
    }

    async fn similar_table(&mut self, table: &TableName) -> Result<Option<String>> {
        let sql = "SELECT TABLE_NAME FROM information_schema.TABLES \
             WHERE TABLE_SCHEMA = ? AND LOWER(TABLE_NAME) = LOWER(?) ORDER BY TABLE_NAME";
        let names: Vec<String> =
            self.rows("cannot look for a table of a similar name", sql, self.schema_and_name(table)).await?;
        // The collation decides whether the server tells such names apart.
        Ok(names.into_iter().find(|name| name != table.own_name()))
    }

    fn create_sql(&self, table: &TableName, columns: &[Column], mode: &LoadMode) -> Result<String> {
        create_table_statement(table, columns, mode, self.facts.is_mariadb)
    }

    fn add_sql(&self, table: &TableName, columns: &[&Column]) -> Result<Vec<String>> {
        // One statement for each column, so that one that another worker has added does not prevent the others.
        let statement = |column: &&Column| {
            let definition = nullable_definition::<MySqlDialect>(column, type_sql);
            format!("ALTER TABLE {} ADD COLUMN {definition}", quoted_table(table))
        };
        Ok(columns.iter().map(statement).collect())
    }

    fn new_columns(&self, columns: &[Column], mode: &LoadMode) -> Vec<TableColumn> {
        new_columns(columns, mode, self.facts.is_mariadb)
    }

    async fn create_table(&mut self, table: &TableName, columns: &[Column], mode: &LoadMode) -> Result<Creation> {
        let context = "cannot create the table";
        let sql = failing_if_exists(&self.create_sql(table, columns, mode)?);
        match self.run_raw(STATEMENT_TIMEOUT, context, sql.as_bytes()).await? {
            Ok(_) => Ok(Creation::Created),
            Err(error) if server_code(&error) == Some(ER_TABLE_EXISTS_ERROR) => Ok(Creation::Exists),
            Err(error) => Err(failure(Phase::Connected, context, error)),
        }
    }

    async fn reject_unsupported(&mut self, table: &TableName, mode: &LoadMode) -> Result<()> {
        match mode {
            LoadMode::Replace | LoadMode::Mirror(_) | LoadMode::Changes(_) => {
                unsupported::reject_deletes(self, table).await
            }
            LoadMode::Append | LoadMode::Merge { .. } => Ok(()),
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
        let context = "cannot add the file's new columns to the table";
        for (sql, column) in self.add_sql(table, columns)?.iter().zip(columns) {
            match self.run_raw(CHANGE_TIMEOUT, context, sql.as_bytes()).await? {
                Ok(_) => added.push(*column),
                Err(error) if server_code(&error) == Some(ER_DUP_FIELDNAME) => {}
                Err(error) => return Err(failure(Phase::Connected, context, error)),
            }
        }
        Ok(())
    }
}

/// Returns the statement that creates a table for a file.
pub(in crate::destination) fn create_table_statement(
    table: &TableName,
    columns: &[Column],
    mode: &LoadMode,
    is_mariadb: bool,
) -> Result<String> {
    let key = new_key(table, columns, mode)?;
    check_key_size(table, &key)?;
    let key_type_sql = |column: &Column| key_type_sql(column, is_mariadb);
    Ok(create_statement::<MySqlDialect>(table, columns, &key, type_sql, key_type_sql))
}

/// Returns the columns of a table that is created for a file.
pub(in crate::destination) fn new_columns(columns: &[Column], mode: &LoadMode, is_mariadb: bool) -> Vec<TableColumn> {
    let key = new_key("", columns, mode).unwrap_or_default();
    column::new_columns(columns, &key, |column, part| {
        let type_text = match part {
            KeyPart::Key => key_type_sql(column, is_mariadb),
            KeyPart::Other => type_sql(column),
        };
        let storage = match column.column_type {
            // MariaDB stores JSON as text.
            ColumnType::Json => Storage::Json { is_parsed: !is_mariadb },
            ColumnType::Boolean
            | ColumnType::Integer
            | ColumnType::Decimal { .. }
            | ColumnType::Double
            | ColumnType::Date
            | ColumnType::DateTime
            | ColumnType::Instant
            | ColumnType::Text
            | ColumnType::Binary => storage_of(&type_text),
        };
        (type_text, storage)
    })
}

fn check_key_size(table: &str, key: &[&Column]) -> Result<()> {
    let mut key_bytes = 0;
    for column in key {
        key_bytes += match (column.column_type, key_characters(column)) {
            (ColumnType::Text, Some(characters)) => 4 * characters,
            (ColumnType::Binary, Some(bytes)) => bytes,
            (ColumnType::Text | ColumnType::Binary, None) => {
                let Column { name, max_bytes, .. } = column;
                let message =
                    format!("column {name} has values that are too long for a primary key ({max_bytes} bytes)");
                return Err(Error::new(ErrorKind::TableMismatch, message).in_column(name));
            }
            (_, _) => 20,
        };
    }
    if key_bytes > KEY_BYTES { Err(key_too_long(table, key)) } else { Ok(()) }
}

/// Returns the characters or bytes of a column in a key, and `None` when its values are too long for a key.
fn key_characters(column: &Column) -> Option<u64> {
    KEY_CHARACTERS.iter().find(|(bytes, _)| column.max_bytes <= *bytes).map(|(_, characters)| *characters)
}

/// Returns the type of a primary key column. Its collation does not pad, so keys that differ only in trailing spaces
/// are different.
fn key_type_sql(column: &Column, is_mariadb: bool) -> String {
    match (column.column_type, key_characters(column)) {
        (ColumnType::Text, Some(characters)) => {
            let collation = if is_mariadb { "utf8mb4_nopad_bin" } else { "utf8mb4_0900_bin" };
            format!("VARCHAR({characters}) COLLATE {collation}")
        }
        (ColumnType::Binary, Some(bytes)) => format!("VARBINARY({bytes})"),
        (_, _) => type_sql(column),
    }
}

/// Returns the type of a column in a created table.
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
        ColumnType::Binary if column.max_bytes <= SHORT_TEXT_BYTES => "BLOB".into(),
        ColumnType::Binary => "LONGBLOB".into(),
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
            is_binary: column_type == ColumnType::Binary,
            has_other_spellings: false,
            day_order: None,
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
            column("raw", ColumnType::Binary, 16_383),
            column("file", ColumnType::Binary, 16_384),
        ];
        let sql = create_table_statement(&"or`ders".into(), &columns, &LoadMode::Append, true).unwrap();
        assert_eq!(
            sql,
            format!(
                "CREATE TABLE IF NOT EXISTS `or``ders` (`id` BIGINT NULL, `a``b` DECIMAL(18,2) NULL, \
                 `at` DATETIME(6) NULL, `note` TEXT NULL, `body` LONGTEXT NULL, `tags` JSON NULL, \
                 `raw` BLOB NULL, `file` LONGBLOB NULL) \
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
        let sql = create_table_statement(&"orders".into(), &columns, &merge(&["shop", "id"]), false).unwrap();
        assert_eq!(
            sql,
            format!(
                "CREATE TABLE IF NOT EXISTS `orders` (`id` BIGINT NOT NULL, `Shop` VARCHAR(255) COLLATE utf8mb4_0900_bin \
                 NOT NULL, `note` TEXT NULL, PRIMARY KEY (`Shop`, `id`)) {TABLE_OPTIONS}"
            )
        );
        for key in [&[][..], &["missing"]] {
            let error = create_table_statement(&"orders".into(), &columns, &merge(key), true).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TableMismatch, "{key:?}: {error}");
        }
    }

    #[test]
    fn text_too_long_for_index_cannot_be_key() {
        let is_rejected = |columns: &[Column]| {
            let key = columns.iter().map(|column| column.name.clone()).collect();
            create_table_statement(&"t".into(), columns, &LoadMode::Merge { key }, true).is_err()
        };
        assert!(!is_rejected(&[column("a", ColumnType::Text, 768)]));
        assert!(is_rejected(&[column("a", ColumnType::Text, 769)]));
        assert!(!is_rejected(&[column("a", ColumnType::Binary, 768)]));
        assert!(is_rejected(&[column("a", ColumnType::Binary, 769)]));
        assert!(is_rejected(&[column("a", ColumnType::Text, 768), column("b", ColumnType::Text, 1)]));
    }
}

//! The target table: made from the file's schema when it is missing, otherwise checked for whether it can take the file.

use crate::config::UnknownColumns;
use crate::error::{Error, ErrorKind, Result};
use crate::schema::{Column, ColumnType, Schema};
use crate::target::column::{fit, lacks, missing};
use crate::target::stage::Stage;

use super::column::{TargetColumn, describe};
use super::connect::Connection;
use super::failure::{failure, server_code};

/// Text up to this many bytes now gets a TEXT column, whose limit of 65,535 leaves room for longer values to come.
const SHORT_TEXT_BYTES: u64 = 16_383;

/// A duplicate column name: another worker added the column first.
const DUPLICATE_COLUMN: u16 = 1060;

/// The character set of the tables we make: every character, compared byte by byte, so that no two texts are "equal".
pub(super) const TABLE_OPTIONS: &str =
    "ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin";

/// An identifier in backticks, with backticks inside doubled.
pub(super) fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// Whether a table exists; an error when it is no base table or its engine has no transactions.
pub(super) async fn exists(connection: &mut Connection, table: &str) -> Result<bool> {
    let sql = "SELECT t.TABLE_TYPE, t.ENGINE, e.TRANSACTIONS FROM information_schema.TABLES t \
         LEFT JOIN information_schema.ENGINES e ON e.ENGINE = t.ENGINE \
         WHERE t.TABLE_SCHEMA = DATABASE() AND t.TABLE_NAME = ?";
    let doing = "cannot look the table up";
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

/// Makes the table where it is missing and answers its columns in the file's order. Runs outside of any transaction,
/// and sends no DDL when everything is in place.
///
/// A file without columns needs no table and gets none.
pub(super) async fn prepare(
    connection: &mut Connection,
    table: &str,
    schema: &Schema,
    unknown_columns: UnknownColumns,
) -> Result<Vec<TargetColumn>> {
    let table_exists = exists(connection, table).await?;
    if schema.columns.is_empty() {
        return Ok(Vec::new());
    }
    if !table_exists {
        connection.run("cannot make the target table", &create_statement(table, &schema.columns)).await?;
    }
    let mut columns = describe(connection, table).await?;
    let missing = missing(&columns, &schema.columns);
    if !missing.is_empty() {
        match unknown_columns {
            UnknownColumns::Refuse => return Err(lacks(table, &missing)),
            UnknownColumns::Add => add(connection, table, &missing).await?,
        }
        columns = describe(connection, table).await?;
    }
    fit(table, &columns, schema)
}

/// Adds columns one by one, so that one that another worker added meanwhile does not hinder the others.
async fn add(connection: &mut Connection, table: &str, missing: &[&Column]) -> Result<()> {
    let doing = "cannot add the file's new columns to the table";
    for column in missing {
        let sql = format!("ALTER TABLE {} ADD COLUMN {}", quoted(table), definition(column));
        match connection.run_raw(super::connect::STATEMENT_LIMIT, doing, sql.as_bytes()).await? {
            Ok(_) => {}
            Err(error) if server_code(&error) == Some(DUPLICATE_COLUMN) => {}
            Err(error) => return Err(failure(Stage::Connected, doing, error)),
        }
    }
    Ok(())
}

fn create_statement(table: &str, columns: &[Column]) -> String {
    let definitions: Vec<String> = columns.iter().map(definition).collect();
    format!("CREATE TABLE IF NOT EXISTS {} ({}) {TABLE_OPTIONS}", quoted(table), definitions.join(", "))
}

fn definition(column: &Column) -> String {
    format!("{} {} NULL", quoted(&column.name), type_sql(column))
}

/// The type a column gets in a table we make. Always nullable: the next file may have a gap.
fn type_sql(column: &Column) -> String {
    match column.column_type.with_headroom() {
        ColumnType::Boolean => "TINYINT(1)".into(),
        ColumnType::Integer => "BIGINT".into(),
        ColumnType::Decimal { precision, scale } => format!("DECIMAL({precision},{scale})"),
        ColumnType::Double => "DOUBLE".into(),
        ColumnType::Date => "DATE".into(),
        // An instant is kept as date and time in UTC: TIMESTAMP ends in 2038.
        ColumnType::DateTime | ColumnType::Instant => "DATETIME(6)".into(),
        ColumnType::Json => "JSON".into(),
        ColumnType::Text if column.max_bytes <= SHORT_TEXT_BYTES => "TEXT".into(),
        ColumnType::Text => "LONGTEXT".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{Evidence, Survives};

    fn column(name: &str, column_type: ColumnType, max_bytes: u64) -> Column {
        let survives = Survives {
            boolean: false,
            integer: false,
            decimal: None,
            double: false,
            date: false,
            date_time: false,
            instant: false,
        };
        let evidence = Evidence { forced_by_record: None, reason: String::new() };
        Column { name: name.into(), column_type, has_nulls: false, null_tokens: true, max_bytes, survives, evidence }
    }

    #[test]
    fn a_new_table_has_a_column_for_each_type() {
        let columns = [
            column("id", ColumnType::Integer, 3),
            column("a`b", ColumnType::Decimal { precision: 9, scale: 2 }, 3),
            column("at", ColumnType::Instant, 20),
            column("note", ColumnType::Text, 16_383),
            column("body", ColumnType::Text, 16_384),
            column("tags", ColumnType::Json, 9),
        ];
        let sql = create_statement("or`ders", &columns);
        assert_eq!(
            sql,
            format!(
                "CREATE TABLE IF NOT EXISTS `or``ders` (`id` BIGINT NULL, `a``b` DECIMAL(18,2) NULL, \
                 `at` DATETIME(6) NULL, `note` TEXT NULL, `body` LONGTEXT NULL, `tags` JSON NULL) \
                 {TABLE_OPTIONS}"
            )
        );
    }
}

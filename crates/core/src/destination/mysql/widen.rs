//! Wider types for columns whose type refuses values of a file.
//!
//! ALTER TABLE commits, and the new type depends on the old one. So a named lock keeps other workers from changing the type
//! between reading and changing it. Without it, a worker with outdated knowledge could make a column narrower again.

use super::column::{Storage, TableColumn, describe, storage_with};
use super::connect::Connection;
use super::table::{quoted, quoted_table};
use crate::destination::failure::Phase;
use crate::destination::limits::CHANGE_TIMEOUT;
use crate::destination::widen::{self as shared, WiderColumn, WiderType};
use crate::error::{Error, ErrorKind, Result};
use crate::object::hash_parts;
use crate::table_name::TableName;
use spillway_formats::schema::ColumnType;

use super::failure::failure;

/// How long a worker waits for another one that changes the same table, in seconds.
const LOCK_SECONDS: u32 = 10;

/// The digits of any integer column.
const INTEGER_DIGITS: u64 = 20;
/// The most digits of a DECIMAL, in all and after the point.
const DECIMAL_DIGITS: (u64, u64) = (65, 30);

/// Longer text gets a TEXT column.
const MAX_VARCHAR: u64 = 4096;

const CONTEXT: &str = "cannot change the column to a wider type";

/// Changes columns, see [`crate::destination::table::TableConnection::widen_columns`].
pub(super) async fn widen(
    connection: &mut Connection,
    table: &TableName,
    columns: &[WiderColumn<'_>],
) -> Result<Vec<String>> {
    let (schema, own_name) = connection.schema_and_name(table);
    let lock = format!("spillway_{}", &hash_parts(&[&schema, &own_name])[..40]);
    let locked: Vec<Option<i64>> =
        connection.rows(CONTEXT, "SELECT GET_LOCK(?, ?)", (lock.as_str(), LOCK_SECONDS)).await?;
    if locked != [Some(1)] {
        return Err(Error::new(ErrorKind::Conflict, format!("{CONTEXT}: another worker is changing table {table}")));
    }
    let changed = shared::widen_locked(connection, table, columns).await;
    // If this fails, the lock ends with the connection.
    let released: Result<Vec<Option<i64>>> = connection.rows(CONTEXT, "SELECT RELEASE_LOCK(?)", (lock.as_str(),)).await;
    let changed = changed?;
    released.map(|_| changed)
}

/// Finds the changes, see [`crate::destination::table::TableConnection::wider_types`].
pub(super) async fn wider_types(
    connection: &mut Connection,
    table: &TableName,
    columns: &[WiderColumn<'_>],
) -> Result<Vec<WiderType<Storage>>> {
    let current = describe(connection, table).await?;
    let sql = format!("SHOW CREATE TABLE {}", quoted_table(table));
    let definition: Vec<(String, String)> = connection.rows(CONTEXT, &sql, ()).await?;
    let definition = definition.into_iter().next().map(|(_, text)| text).unwrap_or_default();
    Ok(shared::wider_types(&current, columns, |column, wider| {
        let type_text = wider_type(column, wider)?;
        let attributes = attributes(&definition, column)?;
        let change = format!("MODIFY COLUMN {} {type_text}{attributes}", quoted(&column.name));
        Some(WiderType {
            column: column.name.clone(),
            old_type: column.type_text.clone(),
            storage: storage_with(&type_text, column.collation.as_deref()),
            sql: format!("ALTER TABLE {} {change}", quoted_table(table)),
            type_text,
        })
    }))
}

/// Runs one of the changes.
pub(super) async fn change_type(connection: &mut Connection, sql: &str) -> Result<()> {
    let result = connection.run_raw(CHANGE_TIMEOUT, CONTEXT, sql.as_bytes()).await?;
    result.map(|_| ()).map_err(|error| failure(Phase::Connected, CONTEXT, error))
}

/// Returns the rest of a column's definition after its type: NULL, default, comment and so on. `None` if the definition does
/// not have the expected form.
fn attributes<'a>(definition: &'a str, column: &TableColumn) -> Option<&'a str> {
    let start = format!("{} {}", quoted(&column.name), column.type_text);
    let line = definition.lines().map(str::trim_start).find_map(|line| line.strip_prefix(start.as_str()))?;
    let line = line.strip_suffix(',').unwrap_or(line);
    (line.is_empty() || line.starts_with(' ')).then_some(line)
}

/// Returns a type that holds every value of the column's type and of the file. `None` if no type does, or if the column's type
/// refuses no value of the file.
fn wider_type(column: &TableColumn, wider: &WiderColumn<'_>) -> Option<String> {
    match (&column.storage, wider.file.column_type) {
        (Storage::Integer { max, .. } | Storage::Flag { max, .. }, ColumnType::Integer) => match *max {
            max if max == i64::MAX as u64 => None,
            u64::MAX => Some(format!("DECIMAL({INTEGER_DIGITS},0)")),
            _ => Some("BIGINT".to_owned()),
        },
        (Storage::Integer { .. } | Storage::Flag { .. }, ColumnType::Decimal { precision, scale }) => {
            decimal((INTEGER_DIGITS, 0), (precision, scale))
        }
        (Storage::Decimal { precision, scale, .. }, ColumnType::Integer) => {
            decimal((precision - scale, *scale), (INTEGER_DIGITS as u8, 0))
        }
        (Storage::Decimal { precision, scale, .. }, ColumnType::Decimal { precision: digits, scale: fraction }) => {
            decimal((precision - scale, *scale), (digits, fraction))
        }
        (
            Storage::Integer { .. } | Storage::Flag { .. } | Storage::Decimal { .. },
            ColumnType::Text | ColumnType::Double,
        ) => Some(format!("{} CHARACTER SET utf8mb4 COLLATE utf8mb4_bin", text_type(wider.file.max_bytes))),
        (Storage::Characters { max, .. }, _) => match wider.file.max_bytes.next_power_of_two() {
            length if length <= MAX_VARCHAR => Some(format!("VARCHAR({})", length.max(*max))),
            _ => Some(text_type(wider.file.max_bytes).to_owned()),
        },
        // An earlier try may have made the column wide enough.
        (Storage::Text { max_bytes: Some(max) }, _) if *max < wider.file.max_bytes => Some("LONGTEXT".to_owned()),
        (Storage::Bytes { max, fixed: false }, ColumnType::Text | ColumnType::Binary)
            if *max < wider.file.max_bytes =>
        {
            Some("LONGBLOB".to_owned())
        }
        (_, _) => None,
    }
}

/// Returns a decimal with enough digits before and after the point for a type (digits before, digits after) and a file
/// (all digits, digits after).
fn decimal((whole, fraction): (u64, u64), (digits, scale): (u8, u8)) -> Option<String> {
    let whole = whole.max(u64::from(digits.saturating_sub(scale)));
    let fraction = fraction.max(u64::from(scale));
    let (max_digits, max_fraction) = DECIMAL_DIGITS;
    (whole + fraction <= max_digits && fraction <= max_fraction)
        .then(|| format!("DECIMAL({},{fraction})", whole + fraction))
}

/// Returns a text type for values of up to this many bytes, with space for longer ones.
fn text_type(max_bytes: u64) -> &'static str {
    if max_bytes <= 16_383 { "TEXT" } else { "LONGTEXT" }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::super::column::column_of;
    use super::*;
    use crate::destination::extra::json_column;

    fn wider(type_text: &str, column_type: ColumnType, max_bytes: u64) -> Option<String> {
        let mut file = json_column("c");
        (file.column_type, file.max_bytes, file.has_nulls) = (column_type, max_bytes, true);
        wider_type(&column_of(type_text), &WiderColumn { name: "c".into(), file: &file })
    }

    const DECIMAL: ColumnType = ColumnType::Decimal { precision: 7, scale: 3 };

    #[rstest]
    #[case("int(11)", ColumnType::Integer, Some("BIGINT"))]
    #[case("tinyint(1)", ColumnType::Integer, Some("BIGINT"))]
    #[case("int(10) unsigned", ColumnType::Integer, Some("BIGINT"))]
    #[case("bigint(20)", ColumnType::Integer, None)]
    #[case("bigint(20) unsigned", ColumnType::Integer, Some("DECIMAL(20,0)"))]
    #[case("int(11)", DECIMAL, Some("DECIMAL(23,3)"))]
    #[case("decimal(5,2)", DECIMAL, Some("DECIMAL(7,3)"))]
    #[case("decimal(5,2)", ColumnType::Integer, Some("DECIMAL(22,2)"))]
    #[case("decimal(65,30)", ColumnType::Decimal { precision: 38, scale: 0 }, None)]
    #[case("int(11)", ColumnType::Text, Some("TEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"))]
    #[case("decimal(5,2)", ColumnType::Double, Some("TEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"))]
    #[case("int(11)", ColumnType::Date, None)]
    #[case("varchar(10)", ColumnType::Text, Some("VARCHAR(128)"))]
    #[case("char(200)", ColumnType::Text, Some("VARCHAR(200)"))]
    #[case("text", ColumnType::Text, None)]
    #[case("tinytext", ColumnType::Text, None)]
    #[case("longtext", ColumnType::Text, None)]
    #[case("date", ColumnType::Text, None)]
    #[case("float", ColumnType::Text, None)]
    #[case("enum('a')", ColumnType::Text, None)]
    fn type_becomes_only_wider(#[case] type_text: &str, #[case] file: ColumnType, #[case] expected: Option<&str>) {
        assert_eq!(wider(type_text, file, 100).as_deref(), expected);
    }

    #[test]
    fn text_and_bytes_become_wider_only_for_longer_values() {
        assert_eq!(wider("text", ColumnType::Text, 65_536).as_deref(), Some("LONGTEXT"));
        assert_eq!(wider("tinytext", ColumnType::Text, 256).as_deref(), Some("LONGTEXT"));
        assert_eq!(wider("text", ColumnType::Text, 65_535), None);
        assert_eq!(wider("varbinary(9)", ColumnType::Binary, 10).as_deref(), Some("LONGBLOB"));
        assert_eq!(wider("varbinary(9)", ColumnType::Binary, 9), None);
    }

    #[test]
    fn attributes_follow_the_type() {
        let definition = "CREATE TABLE `t` (\n  `c2` int(11) DEFAULT 1,\n  `c` int(11) NOT NULL DEFAULT 5 COMMENT 'a, b',\n  \
                          PRIMARY KEY (`c`)\n) ENGINE=InnoDB";
        let column = column_of("int(11)");
        assert_eq!(attributes(definition, &column), Some(" NOT NULL DEFAULT 5 COMMENT 'a, b'"));
        assert_eq!(attributes(definition, &column_of("int(1)")), None);
        assert_eq!(attributes("", &column), None);
    }
}

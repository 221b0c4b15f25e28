//! Wider types for columns whose type refuses values of a file.
//!
//! The new type depends on the old one. So both statements run in one transaction that locks the table, and no other worker
//! can change the type in between.

use super::column::{Storage, TableColumn, describe};
use super::connect::Connection;
use super::table::{quoted, quoted_table};
use crate::destination::failure::Phase;
use crate::destination::limits::CHANGE_TIMEOUT;
use crate::destination::widen::{self as shared, WiderColumn, WiderType};
use crate::error::Result;
use crate::ledger::LedgerConnection;
use crate::table_name::TableName;
use spillway_formats::schema::ColumnType;

use super::failure::failure;

/// The digits of any integer column.
const INTEGER_DIGITS: u64 = 19;

/// The longest `varchar`.
const MAX_VARCHAR: u64 = 10_485_760;

/// The types that can become wider. A domain has another name, and would lose its checks.
const BUILT_IN: [&str; 6] = ["smallint", "integer", "bigint", "numeric", "character varying", "character"];

const CONTEXT: &str = "cannot change the column to a wider type";

/// Changes columns, see [`crate::destination::table::TableConnection::widen_columns`].
pub(super) async fn widen(
    connection: &mut Connection,
    table: &TableName,
    columns: &[WiderColumn<'_>],
) -> Result<Vec<String>> {
    let sql = format!("BEGIN; LOCK TABLE {} IN ACCESS EXCLUSIVE MODE", quoted_table(table));
    let changed = match connection.run(CONTEXT, &sql).await {
        Ok(()) => shared::widen_locked(connection, table, columns).await,
        Err(error) => Err(error),
    };
    match changed {
        Ok(changes) => {
            connection.run(CONTEXT, "COMMIT").await?;
            Ok(changes)
        }
        Err(error) => {
            connection.roll_back().await;
            Err(error)
        }
    }
}

/// Finds the changes, see [`crate::destination::table::TableConnection::wider_types`].
pub(super) async fn wider_types(
    connection: &mut Connection,
    table: &TableName,
    columns: &[WiderColumn<'_>],
) -> Result<Vec<WiderType<Storage>>> {
    let current = describe(connection, table).await?;
    Ok(shared::wider_types(&current, columns, |column, wider| {
        let (type_text, storage) = wider_type(column, wider)?;
        let (column, old_type) = (column.name.clone(), column.type_text.clone());
        let sql = format!("ALTER TABLE {} ALTER COLUMN {} TYPE {type_text}", quoted_table(table), quoted(&column));
        Some(WiderType { column, old_type, type_text, storage, sql })
    }))
}

/// Runs one of the changes.
pub(super) async fn change_type(connection: &mut Connection, sql: &str) -> Result<()> {
    let result = connection.run_within(CHANGE_TIMEOUT, CONTEXT, sql).await?;
    result.map(|_| ()).map_err(|error| failure(Phase::Connected, CONTEXT, error))
}

/// Returns a type that holds every value of the column's type and of the file. `None` if no type does, or if the column's type
/// refuses no value of the file.
fn wider_type(column: &TableColumn, wider: &WiderColumn<'_>) -> Option<(String, Storage)> {
    let type_name = column.type_text.split('(').next().unwrap_or_default();
    if !BUILT_IN.contains(&type_name) {
        return None;
    }
    match (column.storage, wider.file.column_type) {
        (Storage::Integer { bytes }, ColumnType::Integer) => {
            (bytes < 8).then(|| ("bigint".to_owned(), Storage::Integer { bytes: 8 }))
        }
        (Storage::Integer { .. }, ColumnType::Decimal { precision, scale }) => {
            Some(numeric((INTEGER_DIGITS, 0), (precision, scale)))
        }
        (Storage::Numeric { size: Some((precision, scale)) }, ColumnType::Integer) => {
            Some(numeric((precision - scale, scale), (INTEGER_DIGITS as u8, 0)))
        }
        (
            Storage::Numeric { size: Some((precision, scale)) },
            ColumnType::Decimal { precision: digits, scale: fraction },
        ) => Some(numeric((precision - scale, scale), (digits, fraction))),
        (Storage::Integer { .. } | Storage::Numeric { .. }, ColumnType::Text | ColumnType::Double) => {
            Some(characters(None))
        }
        (Storage::Characters { max: Some(max), .. }, _) => {
            let length = wider.file.max_bytes.next_power_of_two();
            Some(characters((length <= MAX_VARCHAR).then(|| length.max(max))))
        }
        (_, _) => None,
    }
}

/// Returns a numeric with enough digits before and after the point for a type (digits before, digits after) and a file
/// (all digits, digits after).
fn numeric((whole, fraction): (u64, u64), (digits, scale): (u8, u8)) -> (String, Storage) {
    let fraction = fraction.max(u64::from(scale));
    let precision = whole.max(u64::from(digits.saturating_sub(scale))) + fraction;
    (format!("numeric({precision},{fraction})"), Storage::Numeric { size: Some((precision, fraction)) })
}

/// Returns a text type with at most this many characters, if there is a limit.
fn characters(max: Option<u64>) -> (String, Storage) {
    let type_text = max.map_or_else(|| "text".to_owned(), |max| format!("character varying({max})"));
    (type_text, Storage::Characters { max, trims_spaces: false })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::super::column::column_of;
    use super::*;
    use crate::destination::extra::json_column;

    const DECIMAL: ColumnType = ColumnType::Decimal { precision: 7, scale: 3 };

    #[rstest]
    #[case("int4", -1, ColumnType::Integer, Some("bigint"))]
    #[case("int8", -1, ColumnType::Integer, None)]
    #[case("int2", -1, DECIMAL, Some("numeric(22,3)"))]
    #[case("numeric", ((5 << 16) | 2) + 4, DECIMAL, Some("numeric(7,3)"))]
    #[case("numeric", ((5 << 16) | 2) + 4, ColumnType::Integer, Some("numeric(21,2)"))]
    #[case("numeric", -1, ColumnType::Text, Some("text"))]
    #[case("int4", -1, ColumnType::Double, Some("text"))]
    #[case("int4", -1, ColumnType::Date, None)]
    #[case("varchar", 14, ColumnType::Text, Some("character varying(128)"))]
    #[case("bpchar", 204, ColumnType::Text, Some("character varying(200)"))]
    #[case("text", -1, ColumnType::Text, None)]
    #[case("date", -1, ColumnType::Text, None)]
    #[case("float8", -1, ColumnType::Text, None)]
    #[case("uuid", -1, ColumnType::Text, None)]
    fn type_becomes_only_wider(
        #[case] name: &str,
        #[case] modifier: i32,
        #[case] file: ColumnType,
        #[case] expected: Option<&str>,
    ) {
        let mut column = json_column("c");
        (column.column_type, column.max_bytes) = (file, 100);
        let wider = WiderColumn { name: "c".into(), file: &column };
        let mut in_table = column_of(name, modifier);
        in_table.type_text = "a_domain".into();
        assert_eq!(wider_type(&in_table, &wider), None);
        in_table.type_text = "numeric(5,2)".into();
        assert_eq!(wider_type(&in_table, &wider).map(|(type_text, _)| type_text).as_deref(), expected);
    }
}

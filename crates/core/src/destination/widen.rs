//! Wider types for columns whose type refuses values of a file.

use super::column::{NullFill, TableColumn, mismatch};
use super::table::TableConnection;
use crate::error::{Error, ErrorKind, Result};
use crate::table_name::TableName;
use spillway_formats::schema::Column;

/// A column of the table whose type refuses values of the file.
#[derive(Debug, Clone)]
pub(super) struct WiderColumn<'a> {
    /// Its name in the table.
    pub(super) name: String,
    /// The column of the file, with the type of all its values.
    pub(super) file: &'a Column,
}

/// A wider type for a column of the table.
#[derive(Debug, Clone)]
pub(super) struct WiderType<Storage> {
    /// The column's name.
    pub(super) column: String,
    /// Its type before.
    pub(super) old_type: String,
    /// The new type in SQL.
    pub(super) type_text: String,
    /// How the engine stores values of the new type.
    pub(super) storage: Storage,
    /// The statement that changes the column.
    pub(super) sql: String,
}

impl<Storage> WiderType<Storage> {
    /// Describes the change.
    pub(super) fn description(&self) -> String {
        format!("changed column {} from {} to {}", self.column, self.old_type, self.type_text)
    }
}

/// Changes columns while the caller holds a lock on the table's definition. Returns a description of each change.
pub(super) async fn widen_locked<C: TableConnection>(
    connection: &mut C,
    table: &TableName,
    columns: &[WiderColumn<'_>],
) -> Result<Vec<String>> {
    let mut changes = Vec::new();
    for wider in connection.wider_types(table, columns).await? {
        connection.change_type(&wider.sql).await.map_err(|error| cannot_widen(error, &wider.column))?;
        changes.push(wider.description());
    }
    Ok(changes)
}

/// Returns the changes to the table's current columns. `change` returns the wider type of one column, if it has one.
pub(super) fn wider_types<S>(
    current: &[TableColumn<S>],
    columns: &[WiderColumn<'_>],
    mut change: impl FnMut(&TableColumn<S>, &WiderColumn<'_>) -> Option<WiderType<S>>,
) -> Vec<WiderType<S>> {
    let mut found = Vec::new();
    for wider in columns {
        let Some(column) = current.iter().find(|column| column.name == wider.name) else { continue };
        if !refuses_null(column, wider) {
            found.extend(change(column, wider).filter(|new| !new.type_text.eq_ignore_ascii_case(&column.type_text)));
        }
    }
    found
}

/// Whether the column refuses a value of the file for another reason than its type.
fn refuses_null<S>(column: &TableColumn<S>, wider: &WiderColumn<'_>) -> bool {
    !column.nullable && column.null_fill == NullFill::Nothing && wider.file.has_nulls
}

/// The error for a column whose type cannot be changed.
///
/// A view, an index or a foreign key may depend on the type. That is not a bug of Spillway, whatever code the server returns.
fn cannot_widen(error: Error, column: &str) -> Error {
    match error.kind() {
        ErrorKind::Internal | ErrorKind::DataRefused | ErrorKind::TableMismatch => {
            let message = format!("column {column} cannot get a wider type (CHANGED_TYPES=widen); change it by hand");
            mismatch(column, message).with_source(error)
        }
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::destination::column::nullable_column;
    use crate::destination::extra::json_column;

    fn widened(nullable: bool, has_nulls: bool, new_type: &str) -> usize {
        let mut file = json_column("c");
        file.has_nulls = has_nulls;
        let mut column = nullable_column("INT", ());
        column.nullable = nullable;
        let wider = WiderColumn { name: column.name.clone(), file: &file };
        let change = |column: &TableColumn<()>, _: &WiderColumn<'_>| {
            let (name, old_type) = (column.name.clone(), column.type_text.clone());
            Some(WiderType { column: name, old_type, type_text: new_type.into(), storage: (), sql: String::new() })
        };
        wider_types(&[column], &[wider], change).len()
    }

    #[test]
    fn required_column_is_not_changed_for_a_missing_value() {
        assert_eq!(widened(false, true, "BIGINT"), 0);
        assert_eq!(widened(false, false, "BIGINT"), 1);
        assert_eq!(widened(true, true, "BIGINT"), 1);
    }

    #[test]
    fn column_that_has_the_type_is_not_changed() {
        assert_eq!(widened(true, false, "int"), 0);
    }
}

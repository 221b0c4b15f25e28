//! The table of a load, as every engine's `table` prepares it.

use super::ScanReason;
use super::column::TableColumn;
use spillway_formats::schema::Column;

/// The result of checking a table against a file's columns.
pub(super) enum Prepared<Storage, Key> {
    /// The table can store the file's rows.
    Ready {
        /// The table's columns in the file's order; none for a file without columns.
        columns: Vec<TableColumn<Storage>>,
        /// The key to merge by.
        key: Option<Key>,
    },
    /// The table or columns must be created from a final schema.
    NeedsScan(ScanReason),
}

/// Returns the column definitions of a CREATE TABLE, and its primary key where there is one.
pub(super) fn definitions(
    columns: &[Column],
    key: &[&str],
    quoted: impl Fn(&str) -> String,
    definition: impl Fn(&Column) -> String,
    key_definition: impl Fn(&Column) -> String,
) -> String {
    let mut definitions: Vec<String> = columns
        .iter()
        .map(|column| if key.contains(&column.name.as_str()) { key_definition(column) } else { definition(column) })
        .collect();
    if !key.is_empty() {
        let names: Vec<String> = key.iter().map(|name| quoted(name)).collect();
        definitions.push(format!("PRIMARY KEY ({})", names.join(", ")));
    }
    definitions.join(", ")
}

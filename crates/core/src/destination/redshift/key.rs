//! The merge key of a table.
//!
//! Redshift enforces no key. So `MERGE_KEY` may name any columns, and the transaction of a merge fails if several rows of the table have
//! one key, see [`super::merge`]. Without `MERGE_KEY`, the declared primary key is the merge key.

use super::column::{TableColumn, is_table};
use crate::destination::LoadMode;
use crate::destination::column::{find, mismatch};
use crate::error::{Error, ErrorKind, Result};
use crate::ledger::Row;
use crate::table_name::TableName;

/// Returns the query for the columns of a table's primary key.
pub(super) fn primary_key_query(table: &TableName) -> String {
    format!(
        "SELECT CAST(a.attname AS VARCHAR(256)) FROM pg_catalog.pg_constraint AS k \
         INNER JOIN pg_catalog.pg_class AS c ON c.oid = k.conrelid \
         INNER JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace \
         INNER JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = ANY (k.conkey) \
         WHERE k.contype = 'p' AND {} ORDER BY a.attnum",
        is_table(table)
    )
}

/// Whether a load in this mode needs the rows of [`primary_key_query`].
pub(super) fn needs_primary_key(mode: &LoadMode) -> bool {
    mode.key().is_some_and(<[String]>::is_empty)
}

/// Returns the names of the key's columns in an existing table; none in load modes without a key. `primary` has the rows of
/// [`primary_key_query`].
///
/// # Errors
/// [`ErrorKind::TableMismatch`] when the table has no such columns.
pub(super) fn key_columns(
    table: &TableName,
    mode: &LoadMode,
    columns: &[TableColumn],
    primary: &[Row],
) -> Result<Vec<String>> {
    let Some(wanted) = mode.key() else { return Ok(Vec::new()) };
    if !wanted.is_empty() {
        let named = |name: &String| match find(columns, name) {
            Some(column) => Ok(column.name.clone()),
            None => Err(mismatch(name, format!("table {table} has no column {name}, which MERGE_KEY names"))),
        };
        return wanted.iter().map(named).collect();
    }
    if primary.is_empty() {
        let message =
            format!("table {table} declares no primary key to merge by; name the columns of the key in MERGE_KEY");
        return Err(Error::new(ErrorKind::TableMismatch, message));
    }
    primary.iter().map(|row| row.text(0)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::column::Storage;
    use super::*;
    use crate::ledger::Cell;

    #[test]
    fn key_is_that_of_the_setting_or_the_declared_one() {
        let table = TableName::from("t");
        let columns = ["id", "shop"].map(|name| TableColumn::nullable(name, "bigint", Storage::Integer { bytes: 8 }));
        let key = |wanted: &[&str], primary: &[&str]| {
            let mode = LoadMode::Merge { key: wanted.iter().map(|name| (*name).to_owned()).collect() };
            let primary: Vec<Row> = primary.iter().map(|name| Row(vec![Cell::Text((*name).to_owned())])).collect();
            key_columns(&table, &mode, &columns, &primary)
        };
        assert_eq!(key(&["SHOP", "id"], &[]).unwrap(), ["shop", "id"]);
        assert_eq!(key(&[], &["id"]).unwrap(), ["id"]);
        for (wanted, word) in [(&[][..], "MERGE_KEY"), (&["day"], "no column day")] {
            let error = key(wanted, &[]).unwrap_err();
            assert!(error.kind() == ErrorKind::TableMismatch && error.to_string().contains(word), "{error}");
        }
        assert_eq!(key_columns(&table, &LoadMode::Append, &columns, &[]).unwrap(), Vec::<String>::new());
    }
}

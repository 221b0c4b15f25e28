//! Finds the column of an existing table for each column of a file: by name or, without a header, by position.
//!
//! Names are compared exactly, then in any letter case.

use super::column::{TableColumn, mismatch, position};
use crate::error::Result;
use spillway_formats::schema::Schema;

/// The column of the table for one column of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Match {
    /// Its index in the table.
    Column(usize),
    /// The table has no such column.
    Missing,
}

impl Match {
    fn of(index: Option<usize>) -> Self {
        index.map_or(Self::Missing, Self::Column)
    }
}

/// Returns the column of the table for each column of the file, in the order of the file.
///
/// # Errors
/// [`crate::error::ErrorKind::TableMismatch`] when a file without a header does not have as many fields as the table has
/// columns.
pub(super) fn matches<S>(table: &str, columns: &[TableColumn<S>], schema: &Schema) -> Result<Vec<Match>> {
    let by_name: Vec<Option<usize>> = schema.columns.iter().map(|column| position(columns, &column.name)).collect();
    // A table that was created for a file without a header has columns with these names.
    let has_positions = by_name.iter().take(schema.unnamed).all(Option::is_none);
    if schema.unnamed > 0 && has_positions {
        return by_position(table, columns, &by_name, schema.unnamed);
    }
    Ok(by_name.into_iter().map(Match::of).collect())
}

/// Assigns the first `unnamed` columns of the file to the table's columns in order. Generated columns are not counted, nor
/// are those that the file's other columns name.
fn by_position<S>(
    table: &str,
    columns: &[TableColumn<S>],
    by_name: &[Option<usize>],
    unnamed: usize,
) -> Result<Vec<Match>> {
    let named = &by_name[unnamed..];
    let is_free = |index: &usize| !columns[*index].generated && !named.contains(&Some(*index));
    let free: Vec<usize> = (0..columns.len()).filter(is_free).collect();
    if free.len() != unnamed {
        let message = format!(
            "the file has no header and {unnamed} fields in a record, but table {table} has {} columns to fill; both \
             numbers must be equal, or set CSV_HEADER=true for files with a header",
            free.len()
        );
        return Err(mismatch("col_1", message));
    }
    Ok(free.into_iter().map(Match::Column).chain(named.iter().copied().map(Match::of)).collect())
}

#[cfg(test)]
mod tests {
    use super::super::column::nullable_column;
    use super::*;
    use crate::error::ErrorKind;
    use spillway_formats::schema::infer::Inference;

    fn table(names: &[&str]) -> Vec<TableColumn<()>> {
        let column = |name: &&str| TableColumn { name: (*name).into(), ..nullable_column("int", ()) };
        names.iter().map(column).collect()
    }

    fn inference(names: &[&str]) -> Inference {
        Inference::new(names.iter().map(|name| (*name).to_owned()).collect())
    }

    /// The names of the table's columns, and `-` for a missing one.
    fn matched(columns: &[&str], schema: &Schema) -> Vec<String> {
        let columns = table(columns);
        let name = |found: Match| match found {
            Match::Column(index) => columns[index].name.clone(),
            Match::Missing => "-".to_owned(),
        };
        matches("t", &columns, schema).unwrap().into_iter().map(name).collect()
    }

    #[test]
    fn file_without_header_is_matched_by_position() {
        let file = || inference(&["col_1", "col_2"]).without_header();
        assert_eq!(matched(&["b", "a"], &file().finish()), ["b", "a"]);
        assert_eq!(matched(&["col_2", "col_1"], &file().finish()), ["col_1", "col_2"]);
        // A file with one more column than the file that created the table.
        assert_eq!(matched(&["COL_1"], &file().finish()), ["COL_1", "-"]);
        let mut with_key_column = file().finish();
        with_key_column.columns.extend(inference(&["source_key"]).finish().columns);
        assert_eq!(matched(&["a", "source_key", "b"], &with_key_column), ["a", "b", "source_key"]);
        assert_eq!(matched(&["a", "b"], &with_key_column), ["a", "b", "-"]);
        let mut columns = table(&["a", "total", "b"]);
        columns[1].generated = true;
        let found = matches("t", &columns, &file().finish()).unwrap();
        assert_eq!(found, [Match::Column(0), Match::Column(2)]);
    }

    #[test]
    fn file_without_header_needs_a_field_for_each_column() {
        let schema = inference(&["col_1", "col_2"]).without_header().finish();
        for columns in [&["a"][..], &["a", "b", "c"]] {
            let error = matches("t", &table(columns), &schema).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TableMismatch);
            assert!(error.message().contains("2 fields"), "{error}");
        }
    }
}

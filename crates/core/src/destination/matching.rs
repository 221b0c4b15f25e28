//! Finds the column of an existing table for each column of a file: by name or, without a header, by position.
//!
//! Names are compared exactly, then in any letter case, then as people write them: `Order ID` is `order_id`. Two columns
//! of a file never get the same column of the table, and a name that could mean two columns gets none.

use std::collections::HashMap;

use super::column::{TableColumn, mismatch, position};
use crate::error::Result;
use spillway_formats::numbers::counted;
use spillway_formats::schema::Schema;
use spillway_formats::schema::header::loose_name;

/// The column of the table for one column of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Match {
    /// Its index in the table.
    Column(usize),
    /// The table has no such column.
    Missing,
    /// More than one pair of names is possible. The text says which.
    Ambiguous(String),
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
    Ok(by_loose_name(table, columns, schema, &by_name))
}

/// Assigns the first `unnamed` columns of the file to the table's columns in order. Generated and invisible columns are not
/// counted, nor are those that the file's other columns name.
fn by_position<S>(
    table: &str,
    columns: &[TableColumn<S>],
    by_name: &[Option<usize>],
    unnamed: usize,
) -> Result<Vec<Match>> {
    let named = &by_name[unnamed..];
    let has_position = |column: &TableColumn<S>| !column.generated && !column.invisible;
    let is_free = |index: &usize| has_position(&columns[*index]) && !named.contains(&Some(*index));
    let free: Vec<usize> = (0..columns.len()).filter(is_free).collect();
    if free.len() != unnamed {
        let message = format!(
            "the file has no header and {} in a record, but table {table} has {} to fill; both \
             numbers must be equal, or set CSV_HEADER=true for files with a header",
            counted(unnamed as u64, "field"),
            counted(free.len() as u64, "column")
        );
        return Err(mismatch("col_1", message));
    }
    Ok(free.into_iter().map(Match::Column).chain(named.iter().copied().map(Match::of)).collect())
}

/// Compares the names that differ in more than letter case.
fn by_loose_name<S>(table: &str, columns: &[TableColumn<S>], schema: &Schema, by_name: &[Option<usize>]) -> Vec<Match> {
    let mut groups: HashMap<String, Group> = HashMap::new();
    for (index, column) in schema.columns.iter().enumerate().filter(|(index, _)| by_name[*index].is_none()) {
        if let Some(name) = loose_name(&column.name) {
            groups.entry(name).or_default().in_file.push(index);
        }
    }
    let mut found: Vec<Match> = by_name.iter().copied().map(Match::of).collect();
    if groups.is_empty() {
        return found;
    }
    for (index, column) in columns.iter().enumerate().filter(|(index, _)| !by_name.contains(&Some(*index))) {
        if let Some(group) = loose_name(&column.name).and_then(|name| groups.get_mut(&name)) {
            group.in_table.push(index);
        }
    }
    for Group { in_file, in_table } in groups.into_values() {
        let result = match (in_file.as_slice(), in_table.as_slice()) {
            (_, []) => continue,
            ([_], [index]) => Match::Column(*index),
            ([index], candidates) => {
                let names = names(candidates.iter().map(|index| columns[*index].name.as_str()));
                let name = &schema.columns[*index].name;
                Match::Ambiguous(format!("the file's column {name} may be any of the columns {names} of table {table}"))
            }
            (indexes, [candidate, ..]) => {
                let names = names(indexes.iter().map(|index| schema.columns[*index].name.as_str()));
                let name = &columns[*candidate].name;
                Match::Ambiguous(format!("any of the file's columns {names} may be column {name} of table {table}"))
            }
        };
        in_file.iter().for_each(|index| found[*index] = result.clone());
    }
    found
}

/// Columns whose names differ only in how people write them.
#[derive(Debug, Default)]
struct Group {
    in_file: Vec<usize>,
    in_table: Vec<usize>,
}

fn names<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.collect::<Vec<_>>().join(" and ")
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

    /// The names of the table's columns, `-` for a missing one, `?` for an ambiguous one.
    fn matched(columns: &[&str], schema: &Schema) -> Vec<String> {
        let columns = table(columns);
        let name = |found: Match| match found {
            Match::Column(index) => columns[index].name.clone(),
            Match::Missing => "-".to_owned(),
            Match::Ambiguous(_) => "?".to_owned(),
        };
        matches("t", &columns, schema).unwrap().into_iter().map(name).collect()
    }

    #[test]
    fn names_match_as_people_write_them() {
        for (name, expected) in [
            ("order_id", "order_id"),
            ("ORDER_ID", "order_id"),
            ("Order ID", "order_id"),
            ("order-id", "order_id"),
            ("order.id", "order_id"),
            ("Order\u{a0}Id", "order_id"),
            ("\u{200b}order_id\u{feff}", "order_id"),
            ("order  -  id", "order_id"),
            ("order\u{200d}_id", "order_id"),
            ("Re\u{301}gion", "r\u{e9}gion"),
            ("Region", "-"),
            ("orderid", "-"),
            ("order/id", "-"),
            ("order_id_", "-"),
            ("_", "-"),
        ] {
            assert_eq!(
                matched(&["id", "order_id", "r\u{e9}gion"], &inference(&[name]).finish()),
                [expected],
                "{name:?}"
            );
        }
    }

    #[test]
    fn each_column_is_used_once() {
        let cases: [(&[&str], &[&str], &[&str]); 8] = [
            (&["order_id", "order.id"], &["Order ID"], &["?"]),
            (&["order_id"], &["Order ID", "order-id"], &["?", "?"]),
            (&["order_id"], &["order_id", "Order ID"], &["order_id", "-"]),
            (&["order_id", "order.id"], &["order.id", "Order ID"], &["order.id", "order_id"]),
            (&["order_id", "Order ID"], &["order id", "ORDER_ID"], &["Order ID", "order_id"]),
            (&["r\u{e9}gion", "re\u{301}gion"], &["R\u{c9}GION"], &["r\u{e9}gion"]),
            (&["r\u{e9}gion"], &["re\u{301}gion", "r\u{e9}-gion"], &["r\u{e9}gion", "-"]),
            (&["-", "_"], &["."], &["-"]),
        ];
        for (columns, file, expected) in cases {
            assert_eq!(matched(columns, &inference(file).finish()), *expected, "{file:?} {columns:?}");
        }
    }

    #[test]
    fn ambiguous_names_are_in_the_message() {
        let found = matches("t", &table(&["order_id", "order.id"]), &inference(&["Order ID"]).finish()).unwrap();
        let expected = "the file's column Order ID may be any of the columns order_id and order.id of table t";
        assert_eq!(found, [Match::Ambiguous(expected.to_owned())]);
        let found = matches("t", &table(&["order_id"]), &inference(&["Order ID", "order-id"]).finish()).unwrap();
        let expected = "any of the file's columns Order ID and order-id may be column order_id of table t";
        assert_eq!(found, vec![Match::Ambiguous(expected.to_owned()); 2]);
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
        (columns[1].generated, columns[1].invisible) = (false, true);
        assert_eq!(matches("t", &columns, &file().finish()).unwrap(), found);
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

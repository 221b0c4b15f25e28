//! What a merge is on every engine: which unique index is its key, how staged rows are numbered, and that its counts add up.

use crate::destination::RowCounts;
use crate::error::{Error, ErrorKind, Result};
use crate::schema::{Column, ColumnType};

use super::column::{TargetColumn, find};

/// A unique index by which whole values are found, so that it can be the key of a merge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct UniqueIndex<Detail> {
    /// Its name.
    pub(super) name: String,
    /// It is the primary key's.
    pub(super) is_primary: bool,
    /// The names of its columns, as the table has them.
    pub(super) columns: Vec<String>,
    /// What else the engine knows of it.
    pub(super) detail: Detail,
}

/// The unique indexes over exactly the wanted columns, in any order; without wanted columns the primary key's. There is one
/// at least. `making_one` is the statement that makes one.
pub(super) fn key_indexes<D>(
    table: &str,
    wanted: &[String],
    indexes: Vec<UniqueIndex<D>>,
    making_one: impl FnOnce() -> String,
) -> Result<Vec<UniqueIndex<D>>> {
    if wanted.is_empty() {
        let primary = indexes.into_iter().find(|index| index.is_primary).ok_or_else(|| {
            let message = format!(
                "table {table} has no primary key to merge by; give it one, or name the columns of a unique index in MERGE_KEY"
            );
            Error::new(ErrorKind::TableMismatch, message)
        })?;
        return Ok(vec![primary]);
    }
    let has_all = |index: &UniqueIndex<D>, same: fn(&str, &str) -> bool| {
        index.columns.len() == wanted.len()
            && wanted.iter().all(|name| index.columns.iter().any(|column| same(name, column)))
    };
    let is_exact = indexes.iter().any(|index| has_all(index, str::eq));
    let same = if is_exact { str::eq } else { same_in_any_case };
    let mut fitting: Vec<_> = indexes.into_iter().filter(|index| has_all(index, same)).collect();
    if fitting.is_empty() {
        let message = format!(
            "table {table} has no unique index over exactly the columns of MERGE_KEY ({}); make one: {}",
            wanted.join(", "),
            making_one()
        );
        return Err(Error::new(ErrorKind::TableMismatch, message));
    }
    fitting.sort_by_key(|index| !index.is_primary);
    Ok(fitting)
}

fn same_in_any_case(left: &str, right: &str) -> bool {
    left.to_lowercase() == right.to_lowercase()
}

/// Marks the key's columns among the file's; the file must have them all.
pub(super) fn mark_key<S>(table: &str, key: &[String], columns: &mut [TargetColumn<S>]) -> Result<()> {
    for name in key {
        let Some(column) = columns.iter_mut().find(|column| column.name == *name) else {
            let message = format!("the file has no column {name}, by which rows are merged into table {table}");
            return Err(Error::new(ErrorKind::TableMismatch, message).in_column(name));
        };
        column.in_merge_key = true;
    }
    Ok(())
}

/// The columns of a new table's primary key, in the order of `MERGE_KEY`.
pub(super) fn new_key<'a>(table: &str, columns: &'a [Column], wanted: &[String]) -> Result<Vec<&'a Column>> {
    let value_rejected = |message: String| Error::new(ErrorKind::TableMismatch, message);
    if wanted.is_empty() {
        let message = format!("table {table} does not exist, and a new one has no key to merge by; set MERGE_KEY");
        return Err(value_rejected(message));
    }
    let mut key = Vec::with_capacity(wanted.len());
    for name in wanted {
        let column = columns.iter().find(|column| same_in_any_case(&column.name, name)).ok_or_else(|| {
            value_rejected(format!("the file has no column {name}, which MERGE_KEY names")).in_column(name)
        })?;
        if column.column_type == ColumnType::Json {
            return Err(
                value_rejected(format!("column {name} is JSON, by which no rows can be merged")).in_column(name)
            );
        }
        key.push(column);
    }
    Ok(key)
}

/// The error for a new table's primary key that no index can hold.
pub(super) fn key_too_long(table: &str, wanted: &[String]) -> Error {
    let message = format!(
        "the columns of MERGE_KEY ({}) are too long together for the primary key of a new table; make table {table} with a \
         unique index over them",
        wanted.join(", ")
    );
    Error::new(ErrorKind::TableMismatch, message)
}

/// A name for the column that numbers the staged rows, which no column of the file has.
pub(super) fn sequence_name<S>(columns: &[TargetColumn<S>]) -> String {
    let mut name = "spillway_sequence".to_owned();
    while find(columns, &name).is_some() {
        name.push('_');
    }
    name
}

/// What a merge has counted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counts {
    /// The rows that were staged.
    pub(super) staged: u64,
    /// The last row of each key among them.
    pub(super) latest: u64,
    /// Those of the latest whose key the table had.
    pub(super) known: u64,
    /// Rows of the table that were changed.
    pub(super) updated: u64,
    /// Rows that were added to it.
    pub(super) inserted: u64,
}

impl Counts {
    /// What became of the rows; an error when one is counted nowhere or twice.
    pub(super) fn add_up(self) -> Result<RowCounts> {
        let Self { staged, latest, known, updated, inserted } = self;
        if latest > staged || updated > known || known + inserted != latest {
            let message = format!(
                "the rows do not add up: of {staged} staged rows {latest} have a key of their own, {known} are known, \
                 {updated} were updated and {inserted} inserted"
            );
            return Err(Error::new(ErrorKind::Internal, message));
        }
        Ok(RowCounts {
            rows_parsed: staged,
            rows_stored: latest,
            rows_updated: updated,
            rows_unchanged: known - updated,
            rows_rejected: 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(name: &str, columns: &[&str]) -> UniqueIndex<()> {
        let columns = columns.iter().map(|column| (*column).to_owned()).collect();
        UniqueIndex { name: name.into(), is_primary: name == "PRIMARY", columns, detail: () }
    }

    #[test]
    fn a_key_is_the_primary_one_or_over_exactly_the_wanted_columns() {
        let all = || {
            let columns: [(&str, &[&str]); 6] = [
                ("pair", &["shop", "id"]),
                ("PRIMARY", &["id", "shop"]),
                ("more", &["id", "shop", "day"]),
                ("lower", &["code"]),
                ("upper", &["Code"]),
                ("single", &["id"]),
            ];
            columns.map(|(name, columns)| index(name, columns)).to_vec()
        };
        let chosen = |wanted: &[&str], indexes| {
            let wanted: Vec<String> = wanted.iter().map(|name| (*name).to_owned()).collect();
            key_indexes("t", &wanted, indexes, || "MAKE".into())
                .map(|indexes| indexes.into_iter().map(|index| index.name).collect::<Vec<_>>())
        };
        assert_eq!(chosen(&[], all()).unwrap(), ["PRIMARY"]);
        assert_eq!(chosen(&["Shop", "ID"], all()).unwrap(), ["PRIMARY", "pair"]);
        assert_eq!(chosen(&["Code"], all()).unwrap(), ["upper"]);
        assert_eq!(chosen(&["CODE"], all()).unwrap(), ["lower", "upper"]);
        for (wanted, indexes) in [(&["day"][..], all()), (&["id", "day"], all()), (&[], vec![index("single", &["id"])])]
        {
            let error = chosen(wanted, indexes).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TableMismatch, "{wanted:?}");
        }
    }

    #[test]
    fn a_row_that_is_counted_nowhere_or_twice_is_an_error() {
        let good = Counts { staged: 9, latest: 7, known: 4, updated: 3, inserted: 3 };
        let expected =
            RowCounts { rows_parsed: 9, rows_stored: 7, rows_updated: 3, rows_unchanged: 1, ..RowCounts::default() };
        assert_eq!(good.add_up().unwrap(), expected);
        for bad in [
            Counts { latest: 10, inserted: 6, ..good },
            Counts { updated: 5, ..good },
            Counts { inserted: 2, ..good },
            Counts { inserted: 4, ..good },
        ] {
            assert_eq!(bad.add_up().unwrap_err().kind(), ErrorKind::Internal, "{bad:?}");
        }
    }
}

//! The parts of a merge that every engine shares: the choice of the key, the number of a staged row, and the counts.

use crate::destination::{LoadMode, RowCounts};
use crate::error::{Error, ErrorKind, Result};
use crate::table_name::TableName;
use spillway_formats::schema::{Column, ColumnType};

use super::column::{TableColumn, find};

/// A unique index over whole column values, which can be a merge key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct UniqueIndex<Detail> {
    /// Its name.
    pub(super) name: String,
    /// The index belongs to the primary key.
    pub(super) is_primary: bool,
    /// The names of its columns, as the table spells them.
    pub(super) columns: Vec<String>,
    /// Details that only the engine knows.
    pub(super) detail: Detail,
}

/// Returns the unique indexes over exactly the wanted columns in any order, or the primary key where none are wanted.
///
/// The result is never empty. `create_statement` returns a statement that would create such an index, for the error.
pub(super) fn key_indexes<D>(
    table: &str,
    wanted: &[String],
    indexes: Vec<UniqueIndex<D>>,
    create_statement: impl FnOnce() -> String,
) -> Result<Vec<UniqueIndex<D>>> {
    if wanted.is_empty() {
        let primary = indexes.into_iter().find(|index| index.is_primary).ok_or_else(|| {
            let message = format!(
                "table {table} has no primary key to merge by; add one, or name the columns of a unique index in MERGE_KEY"
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
    let mut matching: Vec<_> = indexes.into_iter().filter(|index| has_all(index, same)).collect();
    if matching.is_empty() {
        let message = format!(
            "table {table} has no unique index over exactly the columns of MERGE_KEY ({}); create one: {}",
            wanted.join(", "),
            create_statement()
        );
        return Err(Error::new(ErrorKind::TableMismatch, message));
    }
    // The first index decides how keys are compared, and the primary key is the best choice.
    matching.sort_by_key(|index| !index.is_primary);
    Ok(matching)
}

fn same_in_any_case(left: &str, right: &str) -> bool {
    left.to_lowercase() == right.to_lowercase()
}

/// Marks the file's columns that are part of the key. The file must have all of them.
pub(super) fn mark_key<S>(table: &str, key: &[String], columns: &mut [TableColumn<S>]) -> Result<()> {
    for name in key {
        let Some(column) = columns.iter_mut().find(|column| column.name == *name) else {
            let message = format!("the file has no column {name}, which is part of the merge key of table {table}");
            return Err(Error::new(ErrorKind::TableMismatch, message).in_column(name));
        };
        column.in_merge_key = true;
    }
    Ok(())
}

/// Returns the columns of a new table's primary key in the order of `MERGE_KEY`, and none in load modes without a key.
pub(super) fn new_key<'a>(table: &str, columns: &'a [Column], mode: &LoadMode) -> Result<Vec<&'a Column>> {
    let Some(wanted) = mode.key() else { return Ok(Vec::new()) };
    let mismatch = |message: String| Error::new(ErrorKind::TableMismatch, message);
    if wanted.is_empty() {
        let message = format!("table {table} does not exist, and a new table has no key to merge by; set MERGE_KEY");
        return Err(mismatch(message));
    }
    let mut key = Vec::with_capacity(wanted.len());
    for name in wanted {
        let Some(column) = columns.iter().find(|column| same_in_any_case(&column.name, name)) else {
            let message = format!("the file has no column {name}, which MERGE_KEY names");
            return Err(mismatch(message).in_column(name));
        };
        if column.column_type == ColumnType::Json {
            let message = format!("column {name} is JSON, which cannot be part of a merge key");
            return Err(mismatch(message).in_column(name));
        }
        key.push(column);
    }
    Ok(key)
}

/// The error for a new table's primary key that is too long for an index.
pub(super) fn key_too_long(table: &str, key: &[&Column]) -> Error {
    let names: Vec<&str> = key.iter().map(|column| column.name.as_str()).collect();
    let message = format!(
        "the columns of MERGE_KEY ({}) are too long together for the primary key of a new table; create table {table} \
         with a unique index over them",
        names.join(", ")
    );
    Error::new(ErrorKind::TableMismatch, message)
}

/// The error for a new row whose key another transaction has inserted after the known keys were read.
pub(super) fn key_conflict() -> Error {
    Error::new(ErrorKind::Conflict, "another transaction inserted a row with the same key at the same time")
}

/// Returns a name for the column with the numbers of the staged rows. No column of the file has this name.
pub(super) fn sequence_name<S>(columns: &[TableColumn<S>]) -> String {
    let mut name = "spillway_sequence".to_owned();
    while find(columns, &name).is_some() {
        name.push('_');
    }
    name
}

/// The table that a merge changes, and the rows that are staged for it.
#[derive(Debug, Clone, Copy)]
pub(super) struct MergeTarget<'a, S> {
    pub(super) table: &'a TableName,
    /// The staged columns in the file's order, see [`MergeTarget::stored`].
    pub(super) columns: &'a [TableColumn<S>],
    /// Number of staged rows. Only a mirror has none.
    pub(super) staged: u64,
    /// Size of the file, for the time limits of the statements.
    pub(super) size_bytes: u64,
}

impl<'a, S> MergeTarget<'a, S> {
    /// The table's columns in the file's order: all but that of the operations.
    pub(super) fn stored(&self) -> impl Iterator<Item = &'a TableColumn<S>> + use<'a, S> {
        self.columns.iter().filter(|column| column.operation.is_none())
    }

    /// The columns that an update sets. A mirror also sets the key, whose equal values may be spelled differently.
    pub(super) fn updated(&self, is_mirror: bool) -> impl Iterator<Item = &'a TableColumn<S>> + use<'a, S> {
        self.stored().filter(move |column| is_mirror || !column.in_merge_key)
    }

    /// The staged column of the operations, in a file of changes.
    pub(super) fn operation(&self) -> Option<&'a TableColumn<S>> {
        self.columns.iter().find(|column| column.operation.is_some())
    }
}

/// The row counts of a merge or a mirror, as its statements return them.
#[derive(Debug, Clone, Copy)]
pub(super) struct MergeCounts {
    /// Staged rows.
    pub(super) staged: u64,
    /// Staged rows without a later row of the same key.
    pub(super) latest: u64,
    /// Latest rows whose key existed in the table.
    pub(super) known: u64,
    /// Rows of the table that were updated.
    pub(super) updated: u64,
    /// Rows that were inserted.
    pub(super) inserted: u64,
    /// Rows of the table that a mirror has deleted.
    pub(super) deleted: u64,
    /// What the deletions and updates of a file of changes have found.
    pub(super) changes: ChangeCounts,
}

/// What the deletions and updates of a file of changes have found. All are 0 in other load modes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct ChangeCounts {
    /// Latest rows that delete a row.
    pub(super) deletions: u64,
    /// Of these, rows whose key existed in the table.
    pub(super) deleted: u64,
    /// Latest rows that update a row whose key did not exist in the table. They are inserted.
    pub(super) updates_without_row: u64,
}

impl MergeCounts {
    /// Returns the counts of the load.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] when a row was counted twice or not at all.
    pub(super) fn total(self) -> Result<RowCounts> {
        let Self { staged, latest, known, updated, inserted, deleted, changes } = self;
        let ChangeCounts { deletions, deleted: deleted_by_key, updates_without_row } = changes;
        // The latest rows that are stored, and those of them whose key existed.
        let (stored, kept) = (latest.saturating_sub(deletions), known.saturating_sub(deleted_by_key));
        if latest > staged
            || deletions > latest
            || deleted_by_key > known.min(deletions)
            || updated > kept
            || kept + inserted != stored
        {
            let message = format!(
                "the row counts of the merge are inconsistent: {staged} rows staged, {latest} distinct keys, {known} \
                 keys known, {updated} rows updated, {inserted} rows inserted, {deletions} deletions, {deleted_by_key} rows deleted"
            );
            return Err(Error::new(ErrorKind::Internal, message));
        }
        Ok(RowCounts {
            rows_parsed: staged,
            rows_stored: stored,
            rows_updated: updated,
            rows_unchanged: kept - updated,
            rows_rejected: 0,
            rows_deleted: deleted + deleted_by_key,
            rows_missing: deletions - deleted_by_key + updates_without_row,
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
    fn key_is_primary_or_over_exactly_wanted_columns() {
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
            key_indexes("t", &wanted, indexes, || "CREATE".into())
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
    fn every_row_is_counted_once() {
        let changes = ChangeCounts::default();
        let good = MergeCounts { staged: 9, latest: 7, known: 4, updated: 3, inserted: 3, deleted: 2, changes };
        let expected = RowCounts {
            rows_parsed: 9,
            rows_stored: 7,
            rows_updated: 3,
            rows_unchanged: 1,
            rows_rejected: 0,
            rows_deleted: 2,
            rows_missing: 0,
        };
        assert_eq!(good.total().unwrap(), expected);
        let changes = ChangeCounts { deletions: 3, deleted: 1, updates_without_row: 1 };
        let mixed = MergeCounts { updated: 2, inserted: 1, deleted: 0, changes, ..good };
        let expected = RowCounts {
            rows_stored: 4,
            rows_updated: 2,
            rows_unchanged: 1,
            rows_deleted: 1,
            rows_missing: 3,
            ..expected
        };
        assert_eq!(mixed.total().unwrap(), expected);
        for bad in [
            MergeCounts { latest: 10, inserted: 6, ..good },
            MergeCounts { updated: 5, ..good },
            MergeCounts { inserted: 2, ..good },
            MergeCounts { inserted: 4, ..good },
            MergeCounts { inserted: 2, ..mixed },
            MergeCounts { changes: ChangeCounts { deleted: 4, ..changes }, ..mixed },
        ] {
            assert_eq!(bad.total().unwrap_err().kind(), ErrorKind::Internal, "{bad:?}");
        }
    }
}

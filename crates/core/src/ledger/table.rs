//! The columns of the ledger table, and the statements that create them.

use super::attempts_table::{Index, LEDGER_INDEXES};
use super::table_changes::CHANGES_COLUMN;
use super::{Dialect, SqlType};

/// A column: name, type, constraint.
pub(super) type Column = (&'static str, SqlType, &'static str);

const NO_ROWS: &str = "NOT NULL DEFAULT 0";

/// The columns that every ledger has.
const COLUMNS: [Column; 22] = [
    ("source_id", SqlType::Hash, "NOT NULL"),
    ("content_id", SqlType::Hash, "NULL"),
    ("bucket", SqlType::Text(255), "NOT NULL"),
    ("object_key", SqlType::Text(1024), "NOT NULL"),
    ("version_id", SqlType::Text(1024), "NULL"),
    ("etag", SqlType::Text(255), "NOT NULL"),
    ("size_bytes", SqlType::Count, "NOT NULL"),
    ("body_sha256", SqlType::Hash, "NOT NULL"),
    ("target_table", SqlType::Text(64), "NOT NULL"),
    ("state", SqlType::Text(16), "NOT NULL"),
    ("rows_parsed", SqlType::Count, NO_ROWS),
    ("rows_stored", SqlType::Count, NO_ROWS),
    ("rows_rejected", SqlType::Count, NO_ROWS),
    ("attempt", SqlType::Integer, "NOT NULL DEFAULT 1"),
    ("worker", SqlType::Text(255), "NOT NULL"),
    ("tool_version", SqlType::Text(32), "NOT NULL"),
    ("started_at", SqlType::Time, "NOT NULL"),
    ("committed_at", SqlType::Time, "NULL"),
    ("moved_at", SqlType::Time, "NULL"),
    ("moved_to", SqlType::Text(2048), "NULL"),
    ("reason", SqlType::LongText, "NULL"),
    ("cost_usd", SqlType::Dollars, "NULL"),
];

/// Columns that a ledger of an earlier version may lack.
const ADDED_COLUMNS: [Column; 5] = [
    ("load_mode", SqlType::Text(8), "NULL"),
    ("rows_updated", SqlType::Count, "NULL"),
    ("rows_unchanged", SqlType::Count, "NULL"),
    // The table whose rows this source was the last to replace, see `TableName::unique_text`.
    ("current_of", SqlType::Text(64), "NULL UNIQUE"),
    ("source_modified_at", SqlType::Time, "NULL"),
];

/// The column of the object with the source's rows in the lake. A ledger of an earlier version gets it with the first file for the
/// lake.
const LAKE_COLUMN: Column = ("lake_key", SqlType::Text(1024), "NULL");

/// The column of the rows that a mirror has deleted. A ledger of an earlier version gets it with the first mirrored file.
const DELETES_COLUMN: Column = ("rows_deleted", SqlType::Count, "NULL");

/// The column of the changes whose row was not in the table. A ledger of an earlier version gets it with the first file of changes.
const MISSING_COLUMN: Column = ("rows_missing", SqlType::Count, "NULL");

/// The columns that a load needs in an existing ledger, in addition to those of every load.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct LedgerColumns {
    /// Whether the load writes the key of its object in the lake.
    pub(crate) lake: bool,
    /// Whether the load writes the number of deleted rows.
    pub(crate) deletes: bool,
    /// Whether the load writes the number of changes whose row was not in the table.
    pub(crate) missing: bool,
}

impl LedgerColumns {
    /// The columns of every load.
    pub(crate) const COMMON: Self = Self { lake: false, deletes: false, missing: false };
    const ALL: Self = Self { lake: true, deletes: true, missing: true };

    fn added(self) -> impl Iterator<Item = &'static Column> {
        let lake = self.lake.then_some(&LAKE_COLUMN);
        let deletes = self.deletes.then_some(&DELETES_COLUMN);
        let missing = self.missing.then_some(&MISSING_COLUMN);
        ADDED_COLUMNS.iter().chain(lake).chain(deletes).chain(missing)
    }

    /// Whether `other` is a subset of these columns.
    fn include(self, other: Self) -> bool {
        let has = |column: bool, wanted: bool| column || !wanted;
        has(self.lake, other.lake) && has(self.deletes, other.deletes) && has(self.missing, other.missing)
    }

    /// Returns the names of the columns that an existing ledger may lack.
    pub(super) fn names(self) -> Vec<&'static str> {
        self.added().map(|(name, _, _)| *name).collect()
    }
}

/// The ledger that a connection has found or created, so that it is not looked for again with each file.
#[derive(Debug, Default)]
pub(crate) struct CheckedLedger(Option<(String, LedgerColumns)>);

impl CheckedLedger {
    /// Whether the connection knows that this ledger has these columns.
    pub(super) fn covers(&self, table: &str, columns: LedgerColumns) -> bool {
        self.0.as_ref().is_some_and(|(name, found)| name == table && found.include(columns))
    }

    /// Remembers a ledger that has these columns.
    pub(super) fn note(&mut self, table: &str, columns: LedgerColumns) {
        self.0 = Some((table.to_owned(), columns));
    }
}

/// Returns the statement that creates a ledger.
pub(super) fn create_statement<D: Dialect>(table: &str) -> String {
    let columns = COLUMNS.iter().chain(LedgerColumns::ALL.added()).chain([&CHANGES_COLUMN]);
    let columns: Vec<String> = columns.map(definition::<D>).collect();
    create_table::<D>(table, &columns, D::KEYS, LEDGER_INDEXES)
}

/// Returns the statements that create a table with its keys and indexes.
pub(super) fn create_table<D: Dialect>(table: &str, columns: &[String], keys: &str, indexes: &[Index]) -> String {
    let indexes = if D::HAS_INDEXES { indexes } else { &[] };
    let inline = indexes.iter().filter_map(|index| D::inline_index(*index));
    let parts: Vec<String> = columns.iter().cloned().chain([keys.to_owned()]).chain(inline).collect();
    let definition = format!("{} ({}) {}", D::quoted(table), parts.join(", "), D::TABLE_OPTIONS);
    let separate = indexes.iter().filter(|index| D::inline_index(**index).is_none());
    let separate: Vec<String> = separate.map(|index| D::add_index(table, *index)).collect();
    if separate.is_empty() {
        return format!("CREATE TABLE IF NOT EXISTS {definition}");
    }
    // If another worker has created the table in the meantime, the first statement fails and the others are not run.
    // They would wait for that worker's transaction.
    format!("CREATE TABLE {definition}; {}", separate.join("; "))
}

/// Returns one statement for each of these columns that is not in `found`.
///
/// The statements do not use IF NOT EXISTS: with it, PostgreSQL may add a second index to an existing unique column.
pub(super) fn add_statements<D: Dialect>(table: &str, columns: LedgerColumns, found: &[String]) -> Vec<String> {
    let missing = columns.added().filter(|(name, _, _)| found.iter().all(|column| column != name));
    missing.map(|column| add_column::<D>(table, column)).collect()
}

/// Returns the statement that adds a column.
pub(super) fn add_column<D: Dialect>(table: &str, column: &Column) -> String {
    format!("ALTER TABLE {} ADD COLUMN {}", D::quoted(table), definition::<D>(column))
}

pub(super) fn definition<D: Dialect>((name, column_type, constraint): &Column) -> String {
    format!("{name} {} {constraint}", D::type_sql(*column_type))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checked_ledger_covers_its_columns_and_fewer() {
        let mut checked = CheckedLedger::default();
        let (common, lake) = (LedgerColumns::COMMON, LedgerColumns { lake: true, ..LedgerColumns::COMMON });
        let deletes = LedgerColumns { deletes: true, ..LedgerColumns::COMMON };
        let changes = LedgerColumns { missing: true, ..deletes };
        assert!(!checked.covers("ledger", common));
        checked.note("ledger", common);
        assert!(checked.covers("ledger", common));
        assert!(!checked.covers("ledger", lake) && !checked.covers("ledger", deletes));
        assert!(!checked.covers("other", common));
        checked.note("ledger", lake);
        assert!(checked.covers("ledger", common) && checked.covers("ledger", lake));
        assert!(!checked.covers("ledger", deletes));
        checked.note("ledger", deletes);
        assert!(checked.covers("ledger", deletes) && !checked.covers("ledger", changes));
    }
}

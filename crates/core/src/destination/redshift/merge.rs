//! The statements that merge the rows of a staging table into a table by key. Does no I/O.
//!
//! - Of the staged rows with one key, the last one of the file is merged. The rows are numbered.
//! - Rows whose key is in the table update its row if a value differs. The others are inserted.
//! - Redshift enforces no key, so a guard fails if several rows of the table have the same key. A second one fails unless each
//!   staged row is in the table once.
//!
//! Redshift ignores spaces at the end of texts when it compares them, and a database can also ignore letter case. So texts count as
//! equal values only if they also have the same length and the same hash. Keys are compared by the database, and by length.

use super::column::{Storage, TableColumn, staged_value};
use super::literal::quoted;
use super::sql::{Statements, Step, quoted_table};
use crate::table_name::TableName;

/// A merge of a staging table into a table.
#[derive(Debug)]
pub(super) struct Merge<'a> {
    pub(super) table: &'a TableName,
    /// The columns that receive values. Those of the key are marked.
    pub(super) columns: &'a [TableColumn],
    /// The quoted name of the staging table.
    pub(super) staging: &'a str,
    /// The quoted name of the table with the numbers of the staged rows whose key is in the table.
    pub(super) matched: &'a str,
    /// The name of the staged column with the row numbers.
    pub(super) sequence: &'a str,
}

impl Merge<'_> {
    /// Returns the statements, without those of the staging table.
    pub(super) fn statements(&self) -> Statements {
        let mut statements = vec![
            (Step::Merge, self.delete_earlier_rows()),
            (Step::Stage, self.find_matches()),
            (Step::GuardKey, self.guard_key()),
        ];
        statements.extend(self.update().map(|sql| (Step::Merge, sql)));
        statements.push((Step::Insert, self.insert()));
        statements.push((Step::GuardMerge, self.guard_merge()));
        statements
    }

    /// Returns the tables of a query that has the columns of [`ROWS_STORED`], [`ROWS_UPDATED`] and [`ROWS_UNCHANGED`].
    pub(super) fn counted(&self) -> String {
        format!(
            "(SELECT COUNT(*) AS stored FROM {}) AS staged CROSS JOIN \
             (SELECT COUNT(*) AS known, COALESCE(SUM(differs), 0) AS updated FROM {}) AS found",
            self.staging, self.matched
        )
    }

    /// Deletes the staged rows with a later row of the same key.
    fn delete_earlier_rows(&self) -> String {
        let (staging, number) = (self.staging, quoted(self.sequence));
        let part = |column: &TableColumn| {
            let name = quoted(&column.name);
            match text(column) {
                Some(Text::Exact) => format!("{name}, OCTET_LENGTH({name})"),
                Some(Text::Padded) => format!("RTRIM({name})"),
                None => name,
            }
        };
        let key: Vec<String> = self.key().map(part).collect();
        format!(
            "DELETE FROM {staging} WHERE {number} IN (SELECT numbered.{number} FROM (SELECT {number}, \
             ROW_NUMBER() OVER (PARTITION BY {} ORDER BY {number} DESC) AS place FROM {staging}) AS numbered \
             WHERE numbered.place > 1)",
            key.join(", ")
        )
    }

    /// Creates the table of the staged rows whose key is in the table, with 1 for each row that has another value.
    fn find_matches(&self) -> String {
        let equal: Vec<String> = self.updated().map(is_equal).collect();
        let differs = match equal.is_empty() {
            true => "0".to_owned(),
            // A comparison with NULL is NULL, and not equal.
            false => format!("CASE WHEN {} THEN 0 ELSE 1 END", equal.join(" AND ")),
        };
        format!(
            "CREATE TEMPORARY TABLE {} AS SELECT s.{} AS staged_row, {differs} AS differs FROM {} AS s \
             INNER JOIN {} AS t ON {}",
            self.matched,
            quoted(self.sequence),
            self.staging,
            quoted_table(self.table),
            self.same_key()
        )
    }

    fn guard_key(&self) -> String {
        let matched = self.matched;
        format!(
            "SELECT 1 / CASE WHEN (SELECT COUNT(*) FROM {matched}) = (SELECT COUNT(DISTINCT staged_row) FROM {matched}) \
             THEN 1 ELSE 0 END"
        )
    }

    /// Updates the rows that differ; `None` if the file has no column other than the key.
    fn update(&self) -> Option<String> {
        let set = |column: &TableColumn| format!("{} = {}", quoted(&column.name), staged_value(column, "s."));
        let set: Vec<String> = self.updated().map(set).collect();
        if set.is_empty() {
            return None;
        }
        Some(format!(
            "UPDATE {} AS t SET {} FROM {} AS s INNER JOIN {} AS m ON m.staged_row = s.{} WHERE m.differs = 1 AND {}",
            quoted_table(self.table),
            set.join(", "),
            self.staging,
            self.matched,
            quoted(self.sequence),
            self.same_key()
        ))
    }

    fn insert(&self) -> String {
        let names: Vec<String> = self.columns.iter().map(|column| quoted(&column.name)).collect();
        let values: Vec<String> = self.columns.iter().map(|column| staged_value(column, "s.")).collect();
        format!(
            "INSERT INTO {} ({}) SELECT {} FROM {} AS s WHERE s.{} NOT IN (SELECT m.staged_row FROM {} AS m)",
            quoted_table(self.table),
            names.join(", "),
            values.join(", "),
            self.staging,
            quoted(self.sequence),
            self.matched
        )
    }

    fn guard_merge(&self) -> String {
        format!(
            "SELECT 1 / CASE WHEN (SELECT COUNT(*) FROM {0} AS s INNER JOIN {1} AS t ON {2}) = (SELECT COUNT(*) FROM {0}) \
             THEN 1 ELSE 0 END",
            self.staging,
            quoted_table(self.table),
            self.same_key()
        )
    }

    fn key(&self) -> impl Iterator<Item = &TableColumn> {
        self.columns.iter().filter(|column| column.in_merge_key)
    }

    fn updated(&self) -> impl Iterator<Item = &TableColumn> {
        self.columns.iter().filter(|column| !column.in_merge_key)
    }

    /// The condition that a row `t` of the table and a staged row `s` have the same key.
    fn same_key(&self) -> String {
        let same = |column: &TableColumn| {
            let name = quoted(&column.name);
            match text(column) {
                Some(Text::Exact) => format!("t.{name} = s.{name} AND OCTET_LENGTH(t.{name}) = OCTET_LENGTH(s.{name})"),
                Some(Text::Padded) => format!("t.{name} = RTRIM(s.{name})"),
                None => format!("t.{name} = {}", staged_value(column, "s.")),
            }
        };
        self.key().map(same).collect::<Vec<_>>().join(" AND ")
    }
}

/// The expressions for the counts of a merge, over the tables of [`Merge::counted`].
pub(super) const ROWS_STORED: &str = "staged.stored";
pub(super) const ROWS_UPDATED: &str = "found.updated";
pub(super) const ROWS_UNCHANGED: &str = "found.known - found.updated";

/// How texts of a column are compared.
enum Text {
    /// Spaces at the end count.
    Exact,
    /// Spaces at the end fill the column, as in `CHAR(n)`.
    Padded,
}

fn text(column: &TableColumn) -> Option<Text> {
    match column.storage {
        Storage::Characters { trims_spaces, .. } => Some(if trims_spaces { Text::Padded } else { Text::Exact }),
        _ => None,
    }
}

/// The condition that a row `t` of the table and a staged row `s` have the same value, or both NULL.
fn is_equal(column: &TableColumn) -> String {
    let name = quoted(&column.name);
    let (t, s) = (format!("t.{name}"), staged_value(column, "s."));
    let same = match text(column) {
        Some(Text::Exact) => format!("{t} = {s} AND OCTET_LENGTH({t}) = OCTET_LENGTH({s}) AND MD5({t}) = MD5({s})"),
        Some(Text::Padded) => format!("{t} = RTRIM({s}) AND MD5(RTRIM({t})) = MD5(RTRIM({s}))"),
        None => format!("{t} = {s}"),
    };
    format!("(({same}) OR ({t} IS NULL AND {s} IS NULL))")
}

//! Merges a file's rows into a table by key, in the transaction that holds the ledger row.
//!
//! Rows are staged in file order. Then rows with a known key update the table's rows, and the others are inserted.
//!
//! - Rows match by the merge key only. `ON DUPLICATE KEY UPDATE` would match by any unique index and could update
//!   another row than the file means. Here a violation of another unique index rejects the file.
//! - Of rows with the same key the last one of the file is stored. Staged rows are numbered in the order of sending, so
//!   batches and chunks do not change the result.
//! - Keys are equal if the unique index finds them equal, with the collation of the column.

use super::codes::ER_DUP_ENTRY;
use super::column::{Storage, TableColumn};
use super::connect::Connection;
use super::key::MergeKey;
use super::rejection;
use super::table::{TABLE_OPTIONS, quoted};
use crate::destination::RowCounts;
use crate::destination::limits::copy_timeout;
use crate::destination::merge::{Counts, sequence_name};
use crate::error::{Error, ErrorKind, Result};
use crate::ledger::LedgerConnection;

/// The lifetime of the staging table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    /// Until the connection ends.
    Session,
    /// Until it is dropped, for rows that are committed in chunks.
    UntilDropped,
}

/// A merge: its staging table, and two lists of row numbers that end with the connection.
#[derive(Debug)]
pub(super) struct Merge {
    key: MergeKey,
    /// The table with the file's rows, numbered.
    pub(super) staging: String,
    /// The column with the row numbers.
    sequence: String,
    /// The table with the number of the last row of each key.
    latest: String,
    /// The table with the numbers of the last rows whose key is known.
    known: String,
}

impl Merge {
    /// Creates the tables, outside of any transaction.
    pub(super) async fn prepare(
        connection: &mut Connection,
        key: MergeKey,
        columns: &[TableColumn],
        staging: String,
        keep: Keep,
    ) -> Result<Self> {
        let sequence = sequence_name(columns);
        let (latest, known) = (format!("{staging}_latest"), format!("{staging}_known"));
        let merge = Self { key, staging, sequence, latest, known };
        let doing = "cannot create the staging table";
        connection.run(doing, &merge.staging_statement(columns, keep)).await?;
        for list in [&merge.latest, &merge.known] {
            let sequence = quoted(&merge.sequence);
            let sql = format!(
                "CREATE TEMPORARY TABLE {} ({sequence} BIGINT UNSIGNED NOT NULL PRIMARY KEY) {TABLE_OPTIONS}",
                quoted(list)
            );
            connection.run(doing, &sql).await?;
        }
        Ok(merge)
    }

    /// The staging table has the types and collations of the table, but not its keys, defaults and checks. These apply
    /// when rows are merged.
    fn staging_statement(&self, columns: &[TableColumn], keep: Keep) -> String {
        let what = match keep {
            Keep::Session => "TEMPORARY TABLE",
            Keep::UntilDropped => "TABLE",
        };
        let mut definitions =
            vec![format!("{} BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY", quoted(&self.sequence))];
        definitions.extend(columns.iter().map(|column| {
            let is_text = !matches!(column.storage, Storage::Json { .. });
            let collation = column
                .collation
                .as_ref()
                .filter(|_| is_text)
                .map(|name| format!(" COLLATE {name}"))
                .unwrap_or_default();
            format!("{} {}{collation} NULL", quoted(&column.name), column.type_text)
        }));
        format!("CREATE {what} {} ({}) {TABLE_OPTIONS}", quoted(&self.staging), definitions.join(", "))
    }

    /// Merges the staged rows into the table, in the open transaction. Returns the final counts.
    ///
    /// The table's rows with a known key are locked before any row is changed. So a known row cannot be changed or
    /// deleted by another session, and if another session inserts a new key first, our INSERT fails.
    pub(super) async fn apply(
        &self,
        connection: &mut Connection,
        table: &str,
        columns: &[TableColumn],
        staged: RowCounts,
        size_bytes: u64,
    ) -> Result<RowCounts> {
        if staged.rows_parsed == 0 {
            return Ok(staged);
        }
        let run = Run { connection, merge: self, columns, size_bytes, rows: staged.rows_stored };
        self.apply_with(run, table).await.map(|counts| RowCounts { rows_parsed: staged.rows_parsed, ..counts })
    }

    async fn apply_with(&self, mut run: Run<'_>, table: &str) -> Result<RowCounts> {
        let columns = run.columns;
        let (latest, known, staging) = (quoted(&self.latest), quoted(&self.known), quoted(&self.staging));
        let (table, number) = (quoted(table), quoted(&self.sequence));
        let keys: Vec<String> = self.key.columns.iter().map(|name| quoted(name)).collect();
        let same_key = keys.iter().map(|name| format!("t.{name} = s.{name}")).collect::<Vec<_>>().join(" AND ");
        let names = columns.iter().map(|column| quoted(&column.name)).collect::<Vec<_>>();

        let sql = format!("INSERT INTO {latest} SELECT MAX({number}) FROM {staging} GROUP BY {}", keys.join(", "));
        let latest_rows = run.change("cannot find the last row of each key", &sql).await?;
        let sql = format!(
            "INSERT INTO {known} SELECT s.{number} FROM {latest} l STRAIGHT_JOIN {staging} s ON s.{number} = l.{number} \
             STRAIGHT_JOIN {table} t ON {same_key} FOR UPDATE"
        );
        let known_rows = run.change("cannot find the rows to update", &sql).await?;

        let values: Vec<&TableColumn> = columns.iter().filter(|column| !column.in_merge_key).collect();
        let mut rows_updated = 0;
        if known_rows > 0 && !values.is_empty() {
            let set = |column: &&TableColumn| format!("t.{0} = s.{0}", quoted(&column.name));
            let sql = format!(
                "UPDATE {known} k STRAIGHT_JOIN {staging} s ON s.{number} = k.{number} STRAIGHT_JOIN {table} t ON {same_key} \
                 SET {} WHERE NOT ({})",
                values.iter().map(set).collect::<Vec<_>>().join(", "),
                values.iter().map(|column| unchanged(column)).collect::<Vec<_>>().join(" AND ")
            );
            rows_updated = run.change("cannot update the rows", &sql).await?;
        }
        let sql = format!(
            "INSERT INTO {table} ({}) SELECT {} FROM {latest} l STRAIGHT_JOIN {staging} s ON s.{number} = l.{number} \
             LEFT JOIN {known} k ON k.{number} = l.{number} WHERE k.{number} IS NULL ORDER BY l.{number}",
            names.join(", "),
            names.iter().map(|name| format!("s.{name}")).collect::<Vec<_>>().join(", ")
        );
        let inserted = run.change("cannot insert the new rows", &sql).await?;
        Counts { staged: run.rows, latest: latest_rows, known: known_rows, updated: rows_updated, inserted }.add_up()
    }
}

/// The condition that both rows have the same bytes. A collation may find different texts equal.
fn unchanged(column: &TableColumn) -> String {
    let name = quoted(&column.name);
    match column.storage {
        Storage::Characters { .. }
        | Storage::Text { .. }
        | Storage::Enum(_)
        | Storage::Set(_)
        | Storage::Json { is_parsed: false } => {
            format!("CAST(t.{name} AS BINARY) <=> CAST(s.{name} AS BINARY)")
        }
        Storage::Integer { .. }
        | Storage::Decimal { .. }
        | Storage::Float { .. }
        | Storage::Date
        | Storage::DateTime { .. }
        | Storage::Timestamp { .. }
        | Storage::Time { .. }
        | Storage::Year
        | Storage::Bytes { .. }
        | Storage::Bits { .. }
        | Storage::Json { is_parsed: true }
        | Storage::ServerChecked => format!("t.{name} <=> s.{name}"),
    }
}

/// Runs the statements of one merge.
struct Run<'a> {
    connection: &'a mut Connection,
    merge: &'a Merge,
    columns: &'a [TableColumn],
    size_bytes: u64,
    /// Number of staged rows.
    rows: u64,
}

impl Run<'_> {
    /// Runs one statement. Returns the number of changed rows.
    async fn change(&mut self, doing: &str, sql: &str) -> Result<u64> {
        let answer = self.connection.run_raw(copy_timeout(self.size_bytes), doing, sql.as_bytes()).await?;
        if let Err(mysql_async::Error::Server(server)) = &answer
            && server.code == ER_DUP_ENTRY
            && self.merge.key.is_named_by(&server.message)
        {
            let message = "another transaction has inserted a row with the same key meanwhile";
            return Err(Error::new(ErrorKind::Conflict, message));
        }
        let outcome = rejection::checked(answer, doing, self.columns, None)?;
        if outcome.warnings > 0 {
            return Err(rejection::from_warnings(self.connection, self.columns, None, outcome, self.rows).await);
        }
        Ok(outcome.affected_rows)
    }
}

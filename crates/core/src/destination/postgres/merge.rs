//! Merges a file's rows into a table by key, in the transaction that holds the ledger row.
//!
//! Rows are staged in file order. Then rows with a known key update the table's rows, and the others are inserted.
//!
//! - Rows match by the merge key only. A violation of another unique index rejects the file. `ON CONFLICT DO UPDATE`
//!   would neither tell unchanged rows from updated ones nor accept a file that contains a key twice.
//! - Of rows with the same key the last one of the file is stored. Staged rows are numbered in the order of sending.
//! - DDL is part of a transaction here, so the staging tables are created in it and end with it.

use tokio_postgres::SimpleQueryMessage;

use super::column::TableColumn;
use super::connect::{Connection, last_count};
use super::key::MergeKey;
use super::rejection;
use super::table::quoted;
use crate::destination::RowCounts;
use crate::destination::limits::copy_timeout;
use crate::destination::merge::{Counts, sequence_name};
use crate::error::{Error, ErrorKind, Result};
use crate::ledger::LedgerConnection;

/// A merge: its two temporary tables, which end with the transaction.
#[derive(Debug)]
pub(super) struct Merge {
    key: MergeKey,
    /// The table with the file's rows, numbered. Its name is random, so it hides no other table.
    pub(super) staging: String,
    /// The column with the row numbers.
    sequence: String,
    /// The table with the numbers of the rows with a known key, and whether their values differ.
    known: String,
}

impl Merge {
    /// Creates the staging table in the open transaction.
    ///
    /// It has the types and collations of the table, but not its keys, defaults and checks. These apply when rows are
    /// merged.
    pub(super) async fn prepare(
        connection: &mut Connection,
        key: MergeKey,
        table: &str,
        columns: &[TableColumn],
    ) -> Result<Self> {
        let staging = format!("spillway_merge_{:016x}", fastrand::u64(..));
        let merge = Self { key, sequence: sequence_name(columns), known: format!("{staging}_known"), staging };
        let sql = format!(
            "CREATE TEMPORARY TABLE {0} ON COMMIT DROP AS SELECT {1} FROM {2} WITH NO DATA; \
             ALTER TABLE {0} ADD COLUMN {3} bigint GENERATED ALWAYS AS IDENTITY",
            temporary(&merge.staging),
            names(columns, "").join(", "),
            quoted(table),
            quoted(&merge.sequence)
        );
        connection.run("cannot create the staging table", &sql).await?;
        Ok(merge)
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
        let mut run = Run { connection, merge: self, columns, size_bytes };
        let superseded = run.change("cannot find the last row of each key", &self.superseded_statement()).await?;
        let latest = staged.rows_stored.saturating_sub(superseded);
        let (known, differing) = run.find_known(&self.known_statement(table, columns)).await?;
        let mut updated = 0;
        if differing > 0 {
            updated = run.change("cannot update the rows", &self.update_statement(table, columns)).await?;
            check_count(table, "updated", updated, differing)?;
        }
        let new = latest.saturating_sub(known);
        let mut inserted = 0;
        if new > 0 {
            inserted = run.change("cannot insert the new rows", &self.insert_statement(table, columns)).await?;
            check_count(table, "inserted", inserted, new)?;
        }
        let counts = Counts { staged: staged.rows_stored, latest, known, updated, inserted }.add_up()?;
        Ok(RowCounts { rows_parsed: staged.rows_parsed, ..counts })
    }

    /// Deletes staged rows with a later row of the same key. A new table has no statistics, so ANALYZE collects them
    /// for the planner.
    fn superseded_statement(&self) -> String {
        let (staging, number) = (temporary(&self.staging), quoted(&self.sequence));
        format!(
            "ANALYZE {staging} ({}, {number}); \
             DELETE FROM {staging} WHERE {number} IN (SELECT n.{number} FROM (SELECT s.{number}, \
             lead(s.{number}) OVER (PARTITION BY {} ORDER BY s.{number}) AS later FROM {staging} s) n \
             WHERE n.later IS NOT NULL)",
            self.key.names(),
            self.key.of_row("s")
        )
    }

    /// Locks the table's rows with a key of the file, as UPDATE does.
    ///
    /// The rows are locked in the order of their keys, so that two merges wait for each other and do not deadlock.
    /// Values are compared byte by byte, because a collation or a type may find different values equal, and not every
    /// type has an equality.
    fn known_statement(&self, table: &str, columns: &[TableColumn]) -> String {
        let values: Vec<&TableColumn> = columns.iter().filter(|column| !column.in_merge_key).collect();
        let row = |alias: &str| format!("CAST(ROW({}) AS record)", names(values.iter().copied(), alias).join(", "));
        let differs = match values.is_empty() {
            true => "false".to_owned(),
            false => format!("{} OPERATOR(pg_catalog.*<>) {}", row("t."), row("s.")),
        };
        format!(
            "CREATE TEMPORARY TABLE {0} ON COMMIT DROP AS SELECT s.{1}, {differs} AS differs \
             FROM {2} s JOIN {3} t ON {4} ORDER BY {5} FOR NO KEY UPDATE OF t; \
             ANALYZE {0}; \
             SELECT count(*) AS known, count(*) FILTER (WHERE differs) AS differing FROM {0}",
            temporary(&self.known),
            quoted(&self.sequence),
            temporary(&self.staging),
            quoted(table),
            self.key.is_same("t", "s"),
            self.key.of_row("t")
        )
    }

    fn update_statement(&self, table: &str, columns: &[TableColumn]) -> String {
        let values = columns.iter().filter(|column| !column.in_merge_key);
        let set: Vec<String> = values.map(|column| format!("{0} = s.{0}", quoted(&column.name))).collect();
        format!(
            "UPDATE {} t SET {} FROM {} k JOIN {} s ON s.{number} = k.{number} WHERE k.differs AND {}",
            quoted(table),
            set.join(", "),
            temporary(&self.known),
            temporary(&self.staging),
            self.key.is_same("t", "s"),
            number = quoted(&self.sequence)
        )
    }

    fn insert_statement(&self, table: &str, columns: &[TableColumn]) -> String {
        format!(
            "INSERT INTO {} ({}) SELECT {} FROM {} s \
             WHERE NOT EXISTS (SELECT FROM {} k WHERE k.{number} = s.{number}) ORDER BY s.{number}",
            quoted(table),
            names(columns, "").join(", "),
            names(columns, "s.").join(", "),
            temporary(&self.staging),
            temporary(&self.known),
            number = quoted(&self.sequence)
        )
    }
}

fn temporary(name: &str) -> String {
    format!("pg_temp.{}", quoted(name))
}

fn names<'a>(columns: impl IntoIterator<Item = &'a TableColumn>, row: &str) -> Vec<String> {
    columns.into_iter().map(|column| format!("{row}{}", quoted(&column.name))).collect()
}

/// Checks a row count. A trigger can skip rows, and only the count shows that.
fn check_count(table: &str, what: &str, rows: u64, expected: u64) -> Result<()> {
    if rows == expected {
        return Ok(());
    }
    let message = format!("the server {what} {rows} of {expected} rows: a trigger of table {table} skips rows");
    Err(Error::new(ErrorKind::DataRefused, message))
}

/// Runs the statements of one merge.
struct Run<'a> {
    connection: &'a mut Connection,
    merge: &'a Merge,
    columns: &'a [TableColumn],
    size_bytes: u64,
}

impl Run<'_> {
    /// Runs statements. Returns the number of rows that the last one has changed.
    async fn change(&mut self, doing: &str, sql: &str) -> Result<u64> {
        last_count(doing, &self.send(doing, sql).await?)
    }

    /// Finds the rows to update. Returns how many keys are known, and how many of these rows differ.
    async fn find_known(&mut self, sql: &str) -> Result<(u64, u64)> {
        let doing = "cannot find the rows to update";
        let messages = self.send(doing, sql).await?;
        let counts = messages.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => {
                let count = |name: &str| row.try_get(name).ok().flatten()?.parse::<u64>().ok();
                count("known").zip(count("differing"))
            }
            _ => None,
        });
        counts
            .ok_or_else(|| Error::new(ErrorKind::Internal, format!("{doing}: the server does not return a row count")))
    }

    async fn send(&mut self, doing: &str, sql: &str) -> Result<Vec<SimpleQueryMessage>> {
        let error = match self.connection.run_within(copy_timeout(self.size_bytes), doing, sql).await? {
            Ok(messages) => return Ok(messages),
            Err(error) => error,
        };
        if rejection::is_unique_violation(&error)
            && error.as_db_error().is_some_and(|answer| self.merge.key.is_named_by(answer))
        {
            let message = "another transaction has inserted a row with the same key meanwhile";
            return Err(Error::new(ErrorKind::Conflict, message));
        }
        Err(rejection::of_statement(doing, error, self.columns))
    }
}

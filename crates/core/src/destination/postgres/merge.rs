//! Merging by key: rows are staged in file order, then those whose key the table has update its rows, and the others are
//! inserted, all in the transaction that holds the ledger row.
//!
//! Rows meet by the merge key alone: a clash in another unique index refuses the file. `ON CONFLICT DO UPDATE` would not tell a row
//! that is the same from one that was changed, and takes no file in which a key comes twice. Of rows with the same key the last
//! one of the file counts: staged rows are numbered in the order in which they are sent. DDL is part of the transaction
//! here, so the staging tables are made in it and end with it, whatever its end.

use tokio_postgres::SimpleQueryMessage;

use super::column::TargetColumn;
use super::connect::{Connection, last_count};
use super::key::MergeKey;
use super::rejection;
use super::table::quoted;
use crate::destination::RowCounts;
use crate::destination::limits::copy_timeout;
use crate::destination::merge::{Counts, sequence_name};
use crate::error::{Error, ErrorKind, Result};
use crate::ledger::LedgerConnection;

/// A merge under way: its two tables, which last as long as the transaction.
#[derive(Debug)]
pub(super) struct Merge {
    key: MergeKey,
    /// Where the file's rows wait, numbered. Nobody else has a table of this name, so that it hides none.
    pub(super) staging: String,
    /// The column with the numbers.
    sequence: String,
    /// The numbers of the rows whose key the table has, and whether they change anything.
    known: String,
}

impl Merge {
    /// Makes the staging table in the open transaction: the file's columns with the target's types and collations, and none
    /// of its keys, defaults and checks. Those are the target's to apply when the rows get there.
    pub(super) async fn prepare(
        connection: &mut Connection,
        key: MergeKey,
        destination: &str,
        columns: &[TargetColumn],
    ) -> Result<Self> {
        let staging = format!("spillway_merge_{:016x}", fastrand::u64(..));
        let merge = Self { key, sequence: sequence_name(columns), known: format!("{staging}_known"), staging };
        let sql = format!(
            "CREATE TEMPORARY TABLE {0} ON COMMIT DROP AS SELECT {1} FROM {2} WITH NO DATA; \
             ALTER TABLE {0} ADD COLUMN {3} bigint GENERATED ALWAYS AS IDENTITY",
            temporary(&merge.staging),
            names(columns, "").join(", "),
            quoted(destination),
            quoted(&merge.sequence)
        );
        connection.run("cannot make the staging table", &sql).await?;
        Ok(merge)
    }

    /// Brings the staged rows into the target, in the open transaction, and says what became of each.
    ///
    /// The rows of the target with a key of the file's are locked before anything is changed. So each key is either known,
    /// and nobody else can change or delete its row, or new, and whoever else inserts it makes our insert fail.
    pub(super) async fn apply(
        &self,
        connection: &mut Connection,
        destination: &str,
        columns: &[TargetColumn],
        staged: RowCounts,
        size_bytes: u64,
    ) -> Result<RowCounts> {
        if staged.rows_parsed == 0 {
            return Ok(staged);
        }
        let mut run = Run { connection, merge: self, columns, size_bytes };
        let superseded = run.change("cannot find the last row of each key", &self.superseded_statement()).await?;
        let latest = staged.rows_stored.saturating_sub(superseded);
        let (known, differing) = run.find_known(&self.known_statement(destination, columns)).await?;
        let mut updated = 0;
        if differing > 0 {
            updated = run.change("cannot update the rows", &self.update_statement(destination, columns)).await?;
            all_went(destination, "updated", updated, differing)?;
        }
        let new = latest.saturating_sub(known);
        let mut inserted = 0;
        if new > 0 {
            inserted = run.change("cannot insert the new rows", &self.insert_statement(destination, columns)).await?;
            all_went(destination, "inserted", inserted, new)?;
        }
        let counts = Counts { staged: staged.rows_stored, latest, known, updated, inserted }.add_up()?;
        Ok(RowCounts { rows_parsed: staged.rows_parsed, ..counts })
    }

    /// Deletes the staged rows that a later one supersedes. Nobody has counted the values of a table that is new, so they are
    /// counted before the server plans what it does with them.
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

    /// Locks the target's rows with a key of the file's as an UPDATE would, in the order of the keys, so that two merges wait for
    /// each other and do not deadlock. Rows are compared byte for byte: a collation, or a type, may hold different values to
    /// be equal, and not every type has an equality.
    fn known_statement(&self, destination: &str, columns: &[TargetColumn]) -> String {
        let values: Vec<&TargetColumn> = columns.iter().filter(|column| !column.in_merge_key).collect();
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
            quoted(destination),
            self.key.is_same("t", "s"),
            self.key.of_row("t")
        )
    }

    fn update_statement(&self, destination: &str, columns: &[TargetColumn]) -> String {
        let values = columns.iter().filter(|column| !column.in_merge_key);
        let set: Vec<String> = values.map(|column| format!("{0} = s.{0}", quoted(&column.name))).collect();
        format!(
            "UPDATE {} t SET {} FROM {} k JOIN {} s ON s.{number} = k.{number} WHERE k.differs AND {}",
            quoted(destination),
            set.join(", "),
            temporary(&self.known),
            temporary(&self.staging),
            self.key.is_same("t", "s"),
            number = quoted(&self.sequence)
        )
    }

    fn insert_statement(&self, destination: &str, columns: &[TargetColumn]) -> String {
        format!(
            "INSERT INTO {} ({}) SELECT {} FROM {} s \
             WHERE NOT EXISTS (SELECT FROM {} k WHERE k.{number} = s.{number}) ORDER BY s.{number}",
            quoted(destination),
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

fn names<'a>(columns: impl IntoIterator<Item = &'a TargetColumn>, row: &str) -> Vec<String> {
    columns.into_iter().map(|column| format!("{row}{}", quoted(&column.name))).collect()
}

/// A trigger may keep a row from being changed, and nobody says so but the count.
fn all_went(destination: &str, what: &str, rows: u64, expected: u64) -> Result<()> {
    if rows == expected {
        return Ok(());
    }
    let message =
        format!("the server {what} {rows} of {expected} rows: a trigger of table {destination} turns rows away");
    Err(Error::new(ErrorKind::DataRefused, message))
}

/// The statements of one merge on their connection.
struct Run<'a> {
    connection: &'a mut Connection,
    merge: &'a Merge,
    columns: &'a [TargetColumn],
    size_bytes: u64,
}

impl Run<'_> {
    /// Runs statements; the rows that the last one has changed.
    async fn change(&mut self, doing: &str, sql: &str) -> Result<u64> {
        last_count(doing, &self.send(doing, sql).await?)
    }

    /// Finds the rows to update; how many are known, and how many of them differ.
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
        counts.ok_or_else(|| Error::new(ErrorKind::Internal, format!("{doing}: the server does not count its rows")))
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

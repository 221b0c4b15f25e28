//! Merges a file's rows into a table by key, in the transaction that holds the ledger row.
//!
//! Rows are staged in file order. Then rows with a known key update the table's rows, and the others are inserted. A mirror deletes
//! the table's other rows first, see [`super::mirror`].
//!
//! - Rows match by the merge key only. A violation of another unique index rejects the file. `ON CONFLICT DO UPDATE`
//!   would not distinguish unchanged from updated rows, and would reject a file that contains a key twice.
//! - Of rows with the same key, the last one of the file is stored. Staged rows are numbered in the order of sending.
//! - DDL is part of a transaction here, so the staging tables are created in it and end with it.

use std::time::Duration;

use tokio_postgres::SimpleQueryMessage;

use super::column::{Storage, TableColumn};
use super::connect::{Connection, last_count};
use super::key::MergeKey;
use super::ledger::PostgresDialect;
use super::mirror::MirrorPlan;
use super::rejection::{self, check_count};
use super::table::{quoted, quoted_table};
use crate::destination::RowCounts;
use crate::destination::column::quoted_list;
use crate::destination::failure::unexpected_response;
use crate::destination::limits::copy_timeout;
use crate::destination::merge::{ChangeCounts, MergeCounts, MergeTarget, key_conflict, sequence_name};
use crate::destination::operation::{DELETE, UPDATE};
use crate::error::Result;
use crate::ledger::LedgerConnection;
use crate::table_name::TableName;

/// A merge with its two temporary tables, which end with the transaction.
#[derive(Debug)]
pub(super) struct Merge {
    pub(super) key: MergeKey,
    /// The rules of a mirror.
    pub(super) mirror: Option<MirrorPlan>,
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
        (key, mirror): (MergeKey, Option<MirrorPlan>),
        table: &TableName,
        columns: &[TableColumn],
    ) -> Result<Self> {
        let staging = format!("spillway_merge_{:016x}", fastrand::u64(..));
        let (sequence, known) = (sequence_name(columns), format!("{staging}_known"));
        let merge = Self { key, mirror, sequence, known, staging };
        let in_table = columns.iter().filter(|column| column.operation.is_none());
        let operation = columns.iter().filter(|column| column.operation.is_some());
        let sql = format!(
            "CREATE TEMPORARY TABLE {0} ON COMMIT DROP AS SELECT {1} FROM {2} WITH NO DATA; \
             ALTER TABLE {0} {3}ADD COLUMN {4} bigint GENERATED ALWAYS AS IDENTITY",
            temporary(&merge.staging),
            quoted_list::<PostgresDialect>(in_table.map(|column| &column.name)),
            quoted_table(table),
            operation.map(|column| format!("ADD COLUMN {} text, ", quoted(&column.name))).collect::<String>(),
            quoted(&merge.sequence)
        );
        connection.run("cannot create the staging table", &sql).await?;
        Ok(merge)
    }

    /// Merges the staged rows into the table, in the open transaction.
    ///
    /// The table's rows with a known key are locked before any row is changed. So no other session can change or delete
    /// them, and if another session inserts a new key first, the INSERT of this merge fails.
    pub(super) async fn apply(
        &self,
        connection: &mut Connection,
        target: &MergeTarget<'_, Storage>,
    ) -> Result<RowCounts> {
        let (table, staged) = (target.table, target.staged);
        let mut session = MergeSession { connection, merge: self, target };
        let superseded = session.change("cannot find the last row of each key", &self.superseded_statement()).await?;
        let latest = staged.saturating_sub(superseded);
        if let Some(mirror) = &self.mirror {
            mirror.rules.check_distinct(staged, latest)?;
        }
        let (known, differing) = session.find_known(&self.known_statement(target)).await?;
        let deleted = match &self.mirror {
            Some(mirror) => mirror.delete_missing(&mut session, known).await?,
            None => 0,
        };
        let changes = match target.operation() {
            Some(operation) => session.delete_by_key(operation).await?,
            None => ChangeCounts::default(),
        };
        let mut updated = 0;
        if differing > 0 {
            updated = session.change("cannot update the rows", &self.update_statement(target)).await?;
            check_count(table, "updated", updated, differing)?;
        }
        let known_stored = known.saturating_sub(changes.deleted);
        let new = latest.saturating_sub(changes.deletions).saturating_sub(known_stored);
        let mut inserted = 0;
        if new > 0 {
            inserted = session.change("cannot insert the new rows", &self.insert_statement(target)).await?;
            check_count(table, "inserted", inserted, new)?;
        }
        MergeCounts { staged, latest, known, updated, inserted, deleted, changes }.total()
    }

    /// Returns statements that delete staged rows with a later row of the same key. A new table has no statistics, so
    /// ANALYZE collects them for the planner.
    fn superseded_statement(&self) -> String {
        let (staging, number) = (temporary(&self.staging), quoted(&self.sequence));
        format!(
            "ANALYZE {staging} ({}, {number}); \
             DELETE FROM {staging} WHERE {number} IN (SELECT n.{number} FROM (SELECT s.{number}, \
             lead(s.{number}) OVER (PARTITION BY {} ORDER BY s.{number}) AS later FROM {staging} s) n \
             WHERE n.later IS NOT NULL)",
            quoted_list::<PostgresDialect>(&self.key.columns),
            self.key.of_row("s")
        )
    }

    /// Returns statements that lock the table's rows with a key of the file, as UPDATE does, and count them.
    ///
    /// The rows are locked in the order of their keys, so that two merges of the same keys do not deadlock.
    /// Values are compared byte by byte, because a collation or a type may find different values equal, and not every
    /// type has an equality.
    fn known_statement(&self, target: &MergeTarget<'_, Storage>) -> String {
        let values: Vec<&TableColumn> = target.updated(self.mirror.is_some()).collect();
        let row = |alias: &str| format!("CAST(ROW({}) AS record)", names(values.iter().copied(), alias).join(", "));
        let differs = match values.is_empty() {
            true => "false".to_owned(),
            false => format!("{} OPERATOR(pg_catalog.*<>) {}", row("t."), row("s.")),
        };
        let differs = match target.operation() {
            Some(operation) => format!("s.{} <> '{DELETE}' AND {differs}", quoted(&operation.name)),
            None => differs,
        };
        format!(
            "CREATE TEMPORARY TABLE {0} ON COMMIT DROP AS SELECT s.{1}, {differs} AS differs \
             FROM {2} s JOIN {3} t ON {4} ORDER BY {5} FOR NO KEY UPDATE OF t; \
             ANALYZE {0}; \
             SELECT count(*) AS known, count(*) FILTER (WHERE differs) AS differing FROM {0}",
            temporary(&self.known),
            quoted(&self.sequence),
            temporary(&self.staging),
            quoted_table(target.table),
            self.key.is_same("t", "s"),
            self.key.of_row("t")
        )
    }

    fn update_statement(&self, target: &MergeTarget<'_, Storage>) -> String {
        let values = target.updated(self.mirror.is_some());
        let set: Vec<String> = values.map(|column| format!("{0} = s.{0}", quoted(&column.name))).collect();
        format!(
            "UPDATE {} t SET {} FROM {} k JOIN {} s ON s.{number} = k.{number} WHERE k.differs AND {}",
            quoted_table(target.table),
            set.join(", "),
            temporary(&self.known),
            temporary(&self.staging),
            self.key.is_same("t", "s"),
            number = quoted(&self.sequence)
        )
    }

    fn insert_statement(&self, target: &MergeTarget<'_, Storage>) -> String {
        let is_stored = match target.operation() {
            Some(operation) => format!("s.{} <> '{DELETE}' AND ", quoted(&operation.name)),
            None => String::new(),
        };
        format!(
            "INSERT INTO {} ({}) SELECT {} FROM {} s \
             WHERE {is_stored}NOT EXISTS (SELECT FROM {} k WHERE k.{number} = s.{number}) ORDER BY s.{number}",
            quoted_table(target.table),
            quoted_list::<PostgresDialect>(target.stored().map(|column| &column.name)),
            names(target.stored(), "s.").join(", "),
            temporary(&self.staging),
            temporary(&self.known),
            number = quoted(&self.sequence)
        )
    }
}

pub(super) fn temporary(name: &str) -> String {
    format!("pg_temp.{}", quoted(name))
}

fn names<'a>(columns: impl IntoIterator<Item = &'a TableColumn>, row: &str) -> Vec<String> {
    columns.into_iter().map(|column| format!("{row}{}", quoted(&column.name))).collect()
}

/// Runs the statements of one merge.
pub(super) struct MergeSession<'a> {
    pub(super) connection: &'a mut Connection,
    pub(super) merge: &'a Merge,
    pub(super) target: &'a MergeTarget<'a, Storage>,
}

impl MergeSession<'_> {
    /// Runs statements. Returns the number of rows that the last one has changed.
    async fn change(&mut self, context: &str, sql: &str) -> Result<u64> {
        last_count(context, &self.send(context, sql).await?)
    }

    /// Finds the rows to update. Returns the number of known keys, and the number of these rows that differ.
    async fn find_known(&mut self, sql: &str) -> Result<(u64, u64)> {
        self.two_counts("cannot find the rows to update", sql).await
    }

    /// Deletes the known rows that the file deletes, and counts what it has not found.
    async fn delete_by_key(&mut self, operation: &TableColumn) -> Result<ChangeCounts> {
        let merge = self.merge;
        let (number, operation) = (quoted(&merge.sequence), quoted(&operation.name));
        let (staging, known) = (temporary(&merge.staging), temporary(&merge.known));
        let sql = format!(
            "SELECT count(*) FILTER (WHERE s.{operation} = '{DELETE}'), \
             count(*) FILTER (WHERE s.{operation} = '{UPDATE}' AND k.{number} IS NULL) \
             FROM {staging} s LEFT JOIN {known} k ON k.{number} = s.{number}"
        );
        let context = "cannot count the changes of rows that do not exist";
        let (deletions, updates_without_row) = self.two_counts(context, &sql).await?;
        let mut deleted = 0;
        if deletions > 0 {
            let joined =
                format!("{known} k JOIN {staging} s ON s.{number} = k.{number} WHERE s.{operation} = '{DELETE}'");
            let context = "cannot delete the rows";
            let (expected, _) = self.two_counts(context, &format!("SELECT count(*), 0 FROM {joined}")).await?;
            let table = quoted_table(self.target.table);
            let same = merge.key.is_same("t", "s");
            deleted = self.change(context, &format!("DELETE FROM {table} t USING {joined} AND {same}")).await?;
            check_count(self.target.table, "deleted", deleted, expected)?;
        }
        Ok(ChangeCounts { deletions, deleted, updates_without_row })
    }

    async fn two_counts(&mut self, context: &str, sql: &str) -> Result<(u64, u64)> {
        let messages = self.send(context, sql).await?;
        let counts = messages.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => {
                let count = |index: usize| row.get(index)?.parse::<u64>().ok();
                count(0).zip(count(1))
            }
            _ => None,
        });
        counts.ok_or_else(|| unexpected_response(context))
    }

    async fn send(&mut self, context: &str, sql: &str) -> Result<Vec<SimpleQueryMessage>> {
        self.send_within(copy_timeout(self.target.size_bytes), context, sql).await
    }

    /// Runs statements within a time limit.
    pub(super) async fn send_within(
        &mut self,
        limit: Duration,
        context: &str,
        sql: &str,
    ) -> Result<Vec<SimpleQueryMessage>> {
        let error = match self.connection.run_within(limit, context, sql).await? {
            Ok(messages) => return Ok(messages),
            Err(error) => error,
        };
        if rejection::is_unique_violation(&error)
            && error.as_db_error().is_some_and(|violation| self.merge.key.is_named_by(violation))
        {
            return Err(key_conflict());
        }
        Err(rejection::of_statement(context, error, self.target.columns))
    }
}

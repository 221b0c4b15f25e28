//! Merges a file's rows into a table by key, in the transaction that holds the ledger row.
//!
//! Rows are staged in file order. Then rows with a known key update the table's rows, and the others are inserted. A mirror deletes
//! the table's other rows first, see [`super::mirror`].
//!
//! - Rows match by the merge key only. A violation of another unique index rejects the file. `ON DUPLICATE KEY UPDATE`
//!   would match by any unique index, and could update the wrong row.
//! - Of rows with the same key, the last one of the file is stored. Staged rows are numbered in the order of sending,
//!   so batches and chunks do not change the result.
//! - Keys are equal if the unique index finds them equal, with the collation of the column.

use std::time::Duration;

use super::codes::ER_DUP_ENTRY;
use super::column::{Storage, TableColumn, ValueClass};
use super::connect::Connection;
use super::key::MergeKey;
use super::ledger::MySqlDialect;
use super::mirror::MirrorPlan;
use super::rejection::{SentRows, check_error, from_warnings};
use super::table::{TABLE_OPTIONS, quoted, quoted_table};
use crate::destination::RowCounts;
use crate::destination::column::quoted_list;
use crate::destination::limits::copy_timeout;
use crate::destination::merge::{ChangeCounts, MergeCounts, MergeTarget, key_conflict, sequence_name};
use crate::destination::operation::{DELETE, UPDATE};
use crate::error::Result;
use crate::ledger::LedgerConnection;
use crate::table_name::TableName;

/// The lifetime of the staging table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StagingLifetime {
    /// Until the connection ends.
    Connection,
    /// Until the table is dropped, for rows that are committed in chunks.
    UntilDropped,
}

/// A merge with its staging table, and two temporary tables of row numbers.
#[derive(Debug)]
pub(super) struct Merge {
    pub(super) key: MergeKey,
    /// The rules of a mirror.
    pub(super) mirror: Option<MirrorPlan>,
    /// The table with the file's rows, numbered.
    pub(super) staging: String,
    /// The column with the row numbers.
    pub(super) sequence: String,
    /// The table with the number of the last row of each key.
    latest: String,
    /// The table with the numbers of the last rows whose key exists in the table.
    known: String,
}

impl Merge {
    /// Creates the tables, outside of any transaction.
    pub(super) async fn prepare(
        connection: &mut Connection,
        (key, mirror): (MergeKey, Option<MirrorPlan>),
        columns: &[TableColumn],
        staging: String,
        lifetime: StagingLifetime,
    ) -> Result<Self> {
        let sequence = sequence_name(columns);
        let (latest, known) = (format!("{staging}_latest"), format!("{staging}_known"));
        let merge = Self { key, mirror, staging, sequence, latest, known };
        let context = "cannot create the staging table";
        connection.run(context, &merge.staging_statement(columns, lifetime)).await?;
        for list in [&merge.latest, &merge.known] {
            let sequence = quoted(&merge.sequence);
            let sql = format!(
                "CREATE TEMPORARY TABLE {} ({sequence} BIGINT UNSIGNED NOT NULL PRIMARY KEY) {TABLE_OPTIONS}",
                quoted(list)
            );
            connection.run(context, &sql).await?;
        }
        if let Some(sql) = merge.mirror.as_ref().and_then(|mirror| mirror.scope_table_statement(columns)) {
            connection.run(context, &sql).await?;
        }
        Ok(merge)
    }

    /// Returns the statement that creates the staging table.
    ///
    /// The staging table has the types and collations of the table, but not its keys, defaults and checks. These apply
    /// when rows are merged.
    fn staging_statement(&self, columns: &[TableColumn], lifetime: StagingLifetime) -> String {
        let kind = match lifetime {
            StagingLifetime::Connection => "TEMPORARY TABLE",
            StagingLifetime::UntilDropped => "TABLE",
        };
        let mut definitions =
            vec![format!("{} BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY", quoted(&self.sequence))];
        definitions.extend(columns.iter().map(definition));
        if self.mirror.is_some() {
            // Each row of the table is looked up here.
            definitions.push(format!("KEY ({})", quoted_list::<MySqlDialect>(&self.key.columns)));
        }
        format!("CREATE {kind} {} ({}) {TABLE_OPTIONS}", quoted(&self.staging), definitions.join(", "))
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
        let mut session = MergeSession { connection, merge: self, target };
        let latest = session.change("cannot find the last row of each key", &self.latest_statement()).await?;
        if let Some(mirror) = &self.mirror {
            mirror.rules.check_distinct(target.staged, latest)?;
        }
        let known = session.change("cannot find the rows to update", &self.known_statement(target.table)).await?;
        let deleted = match &self.mirror {
            Some(mirror) => mirror.delete_missing(&mut session, known).await?,
            None => 0,
        };
        let changes = match target.operation() {
            Some(operation) => session.delete_by_key(operation).await?,
            None => ChangeCounts::default(),
        };
        let mut updated = 0;
        if known > changes.deleted
            && let Some(sql) = self.update_statement(target)
        {
            updated = session.change("cannot update the rows", &sql).await?;
        }
        let inserted = session.change("cannot insert the new rows", &self.insert_statement(target)).await?;
        MergeCounts { staged: target.staged, latest, known, updated, inserted, deleted, changes }.total()
    }

    fn latest_statement(&self) -> String {
        let number = quoted(&self.sequence);
        format!(
            "INSERT INTO {} SELECT MAX({number}) FROM {} GROUP BY {}",
            quoted(&self.latest),
            quoted(&self.staging),
            quoted_list::<MySqlDialect>(&self.key.columns)
        )
    }

    fn known_statement(&self, table: &TableName) -> String {
        format!(
            "INSERT INTO {} SELECT s.{number} FROM {} l STRAIGHT_JOIN {} s ON s.{number} = l.{number} \
             STRAIGHT_JOIN {} t ON {} FOR UPDATE",
            quoted(&self.known),
            quoted(&self.latest),
            quoted(&self.staging),
            quoted_table(table),
            self.is_same_key(),
            number = quoted(&self.sequence)
        )
    }

    /// Returns `None` for a table whose columns are all part of the key.
    fn update_statement(&self, target: &MergeTarget<'_, Storage>) -> Option<String> {
        let values: Vec<&TableColumn> = target.updated(self.mirror.is_some()).collect();
        if values.is_empty() {
            return None;
        }
        let set = |column: &&TableColumn| format!("t.{0} = s.{0}", quoted(&column.name));
        Some(format!(
            "UPDATE {} k STRAIGHT_JOIN {} s ON s.{number} = k.{number} STRAIGHT_JOIN {} t ON {} SET {} WHERE NOT ({})",
            quoted(&self.known),
            quoted(&self.staging),
            quoted_table(target.table),
            self.is_same_key(),
            values.iter().map(set).collect::<Vec<_>>().join(", "),
            values.iter().map(|column| is_unchanged(column)).collect::<Vec<_>>().join(" AND "),
            number = quoted(&self.sequence)
        ))
    }

    fn insert_statement(&self, target: &MergeTarget<'_, Storage>) -> String {
        let staged: Vec<String> = target.stored().map(|column| format!("s.{}", quoted(&column.name))).collect();
        let is_stored = match target.operation() {
            Some(operation) => format!(" AND s.{} <> '{DELETE}'", quoted(&operation.name)),
            None => String::new(),
        };
        format!(
            "INSERT INTO {} ({}) SELECT {} FROM {} l STRAIGHT_JOIN {} s ON s.{number} = l.{number} \
             LEFT JOIN {} k ON k.{number} = l.{number} WHERE k.{number} IS NULL{is_stored} ORDER BY l.{number}",
            quoted_table(target.table),
            quoted_list::<MySqlDialect>(target.stored().map(|column| &column.name)),
            staged.join(", "),
            quoted(&self.latest),
            quoted(&self.staging),
            quoted(&self.known),
            number = quoted(&self.sequence)
        )
    }

    /// Returns the condition that a row of the table and a staged row have the same key.
    pub(super) fn is_same_key(&self) -> String {
        let same = |name: &String| format!("t.{0} = s.{0}", quoted(name));
        self.key.columns.iter().map(same).collect::<Vec<_>>().join(" AND ")
    }
}

/// Returns the definition of a column in a table beside the loaded one: the same type and collation, and nullable.
pub(super) fn definition(column: &TableColumn) -> String {
    let is_text = !matches!(column.storage, Storage::Json { .. });
    let collation = column.collation.as_ref().filter(|_| is_text).map(|name| format!(" COLLATE {name}"));
    format!("{} {}{} NULL", quoted(&column.name), column.type_text, collation.unwrap_or_default())
}

/// Returns the condition that both rows have the same bytes in a column.
fn is_unchanged(column: &TableColumn) -> String {
    let name = quoted(&column.name);
    match column.storage.class() {
        ValueClass::Text => format!("CAST(t.{name} AS BINARY) <=> CAST(s.{name} AS BINARY)"),
        ValueClass::Scalar | ValueClass::Opaque => format!("t.{name} <=> s.{name}"),
    }
}

/// Runs the statements of one merge.
pub(super) struct MergeSession<'a> {
    pub(super) connection: &'a mut Connection,
    pub(super) merge: &'a Merge,
    pub(super) target: &'a MergeTarget<'a, Storage>,
}

impl MergeSession<'_> {
    /// Deletes the known rows that the file deletes, and counts what it has not found.
    async fn delete_by_key(&mut self, operation: &TableColumn) -> Result<ChangeCounts> {
        let Merge { staging, sequence, latest, known, .. } = self.merge;
        let (number, operation) = (quoted(sequence), quoted(&operation.name));
        let context = "cannot count the changes of rows that do not exist";
        let sql = format!(
            "SELECT CAST(COALESCE(SUM(s.{operation} = '{DELETE}'), 0) AS UNSIGNED), \
             CAST(COALESCE(SUM(s.{operation} = '{UPDATE}' AND k.{number} IS NULL), 0) AS UNSIGNED) \
             FROM {} l STRAIGHT_JOIN {} s ON s.{number} = l.{number} LEFT JOIN {} k ON k.{number} = l.{number}",
            quoted(latest),
            quoted(staging),
            quoted(known)
        );
        let limit = copy_timeout(self.target.size_bytes);
        let counted: Vec<(u64, u64)> = self.connection.rows_within(limit, context, &sql, ()).await?;
        let (deletions, updates_without_row) = counted.first().copied().unwrap_or_default();
        let mut deleted = 0;
        if deletions > 0 {
            let sql = format!(
                "DELETE t FROM {} k STRAIGHT_JOIN {} s ON s.{number} = k.{number} STRAIGHT_JOIN {} t ON {} \
                 WHERE s.{operation} = '{DELETE}'",
                quoted(known),
                quoted(staging),
                quoted_table(self.target.table),
                self.merge.is_same_key()
            );
            deleted = self.change("cannot delete the rows", &sql).await?;
        }
        Ok(ChangeCounts { deletions, deleted, updates_without_row })
    }

    /// Runs one statement. Returns the number of changed rows.
    async fn change(&mut self, context: &str, sql: &str) -> Result<u64> {
        self.change_within(copy_timeout(self.target.size_bytes), context, sql).await
    }

    /// Runs one statement within a time limit. Returns the number of changed rows.
    pub(super) async fn change_within(&mut self, limit: Duration, context: &str, sql: &str) -> Result<u64> {
        let MergeTarget { columns, staged, .. } = *self.target;
        let result = self.connection.run_raw(limit, context, sql.as_bytes()).await?;
        if let Err(mysql_async::Error::Server(server)) = &result
            && server.code == ER_DUP_ENTRY
            && self.merge.key.is_named_by(&server.message)
        {
            return Err(key_conflict());
        }
        let rows = SentRows { columns, count: staged, first_record: None };
        let result = check_error(result, context, &rows)?;
        if result.warnings > 0 {
            return Err(from_warnings(self.connection, result, &rows).await);
        }
        Ok(result.affected_rows)
    }
}

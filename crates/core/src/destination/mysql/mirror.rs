//! Deletes the table's rows that a mirrored file does not have, in the transaction of the merge.
//!
//! The staging table has an index over the key for this. Other temporary tables are used because MySQL does not allow a temporary table twice in a statement.

use std::time::Duration;

use super::column::TableColumn;
use super::connect::Connection;
use super::failure::failure;
use super::merge::{MergeSession, definition};
use super::replace::table_bytes;
use super::table::{TABLE_OPTIONS, quoted, quoted_table};
use crate::destination::Mirror;
use crate::destination::failure::Phase;
use crate::destination::limits::copy_timeout;
use crate::destination::mirror::{DELETE_CONTEXT, DeletingSession, Deletion};
use crate::error::{Error, ErrorKind, Result};
use crate::ledger::LedgerConnection;
use crate::table_name::TableName;

/// The rules of a mirror, for one file.
#[derive(Debug)]
pub(super) struct MirrorPlan {
    pub(super) rules: Mirror,
    /// The scope's columns, as the table spells them.
    scope: Vec<String>,
    /// The temporary table with the values of the scope, if there is one.
    scope_table: String,
}

impl MirrorPlan {
    /// Finds the scope's columns among those of the file.
    pub(super) fn new(rules: &Mirror, table: &TableName, columns: &[TableColumn], staging: &str) -> Result<Self> {
        let scope = rules.scope_columns(table, columns)?;
        Ok(Self { rules: rules.clone(), scope, scope_table: format!("{staging}_scope") })
    }

    /// Returns the statement that creates the table of the scope's values; `None` without a scope.
    pub(super) fn scope_table_statement(&self, columns: &[TableColumn]) -> Option<String> {
        let in_scope = columns.iter().filter(|column| self.scope.contains(&column.name));
        let definitions: Vec<String> = in_scope.map(definition).collect();
        (!definitions.is_empty()).then(|| {
            format!("CREATE TEMPORARY TABLE {} ({}) {TABLE_OPTIONS}", quoted(&self.scope_table), definitions.join(", "))
        })
    }

    /// Copies the scope's values from the staged rows. Returns them as text, in which equal values are the same; `None` without a
    /// scope.
    pub(super) async fn read_scope(
        &self,
        connection: &mut Connection,
        staging: &str,
        size_bytes: u64,
    ) -> Result<Option<Vec<String>>> {
        if self.scope.is_empty() {
            return Ok(None);
        }
        let context = "cannot find the scope of the file";
        let names: Vec<String> = self.scope.iter().map(|name| quoted(name)).collect();
        let (names, table) = (names.join(", "), quoted(&self.scope_table));
        let fill = format!("INSERT INTO {table} ({names}) SELECT DISTINCT {names} FROM {} LIMIT 2", quoted(staging));
        connection.run(context, &format!("DELETE FROM {table}")).await?;
        let filled = connection.run_raw(copy_timeout(size_bytes), context, fill.as_bytes()).await?;
        filled.map_err(|error| failure(Phase::Connected, context, error))?;
        // A collation may find different texts equal. Their weights are the same, apart from spaces at the end.
        let text = |name: &String| {
            format!(
                "IF(CONCAT({0}, '') LIKE '% ', ' ', COALESCE(HEX(WEIGHT_STRING({0})), CONCAT({0}, '')))",
                quoted(name)
            )
        };
        let select =
            format!("SELECT JSON_ARRAY({}) FROM {table}", self.scope.iter().map(text).collect::<Vec<_>>().join(", "));
        let rows: Vec<String> = connection.rows(context, &select, ()).await?;
        let parse = |row: &String| serde_json::from_str::<Vec<Option<String>>>(row);
        let found = rows.iter().map(parse).collect::<Result<Vec<_>, _>>();
        let found = found.map_err(|error| Error::new(ErrorKind::Internal, context).with_source(error))?;
        self.rules.scope_values(found).map(Some)
    }

    /// Deletes the rows of the table that the file does not have, see [`Mirror::delete_missing`].
    pub(super) async fn delete_missing(&self, session: &mut MergeSession<'_>, known: u64) -> Result<u64> {
        let (table, missing) = (session.target.table, self.missing(session));
        let table_bytes = table_bytes(session.connection, DELETE_CONTEXT, table).await?;
        let all = || format!("SELECT COUNT(*) FROM {} t{}", quoted_table(table), self.joined_scope());
        let deletion = Deletion {
            count_missing: format!("SELECT COUNT(*) {missing}"),
            count_scope: (!self.scope.is_empty()).then(all),
            delete: format!("DELETE t {missing}"),
            limit: copy_timeout(table_bytes.max(session.target.size_bytes)),
        };
        self.rules.delete_missing(session, table, &deletion, known).await
    }

    /// Returns FROM and WHERE of a statement on the table's rows, `t`, that the file does not have.
    fn missing(&self, session: &MergeSession<'_>) -> String {
        let merge = session.merge;
        format!(
            "FROM {} t{} LEFT JOIN {} s ON {} WHERE s.{} IS NULL",
            quoted_table(session.target.table),
            self.joined_scope(),
            quoted(&merge.staging),
            merge.is_same_key(),
            quoted(&merge.sequence)
        )
    }

    /// Returns the join with the values of the scope, which limits the table's rows, `t`, to the scope.
    fn joined_scope(&self) -> String {
        if self.scope.is_empty() {
            return String::new();
        }
        let same = |name: &String| format!("t.{0} = c.{0}", quoted(name));
        let same: Vec<String> = self.scope.iter().map(same).collect();
        format!(" JOIN {} c ON {}", quoted(&self.scope_table), same.join(" AND "))
    }
}

impl DeletingSession for MergeSession<'_> {
    async fn count(&mut self, limit: Duration, sql: &str) -> Result<u64> {
        let rows: Vec<u64> = self.connection.rows_within(limit, DELETE_CONTEXT, sql, ()).await?;
        rows.first().copied().ok_or_else(|| Error::new(ErrorKind::Internal, DELETE_CONTEXT))
    }

    async fn delete(&mut self, limit: Duration, sql: &str) -> Result<u64> {
        self.change_within(limit, DELETE_CONTEXT, sql).await
    }
}

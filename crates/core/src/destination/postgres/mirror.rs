//! Deletes the table's rows that a mirrored file does not have, in the transaction of the merge.

use std::time::Duration;

use tokio_postgres::SimpleQueryMessage;

use super::column::TableColumn;
use super::connect::{Connection, last_count};
use super::failure::failure;
use super::merge::{MergeSession, temporary};
use super::replace::old_rows;
use super::table::{quoted, quoted_table};
use crate::destination::Mirror;
use crate::destination::failure::{Phase, unexpected_response};
use crate::destination::limits::copy_timeout;
use crate::destination::mirror::{DELETE_CONTEXT, DeletingSession, Deletion};
use crate::error::{Error, ErrorKind, Result};
use crate::table_name::TableName;

/// The types that a scope's column can have: equal values have one text, apart from nondeterministic collations.
const SCOPE_TYPES: [&str; 7] = ["smallint", "integer", "bigint", "text", "character varying", "uuid", "date"];

/// The rules of a mirror, for one file.
#[derive(Debug)]
pub(super) struct MirrorPlan {
    pub(super) rules: Mirror,
    /// The scope's columns, as the table spells them.
    scope: Vec<String>,
}

impl MirrorPlan {
    /// Finds the scope's columns among those of the file.
    pub(super) fn new(rules: &Mirror, table: &TableName, columns: &[TableColumn]) -> Result<Self> {
        let scope = rules.scope_columns(table, columns)?;
        for column in columns.iter().filter(|column| scope.contains(&column.name)) {
            let type_name = column.type_text.split('(').next().unwrap_or_default();
            if !SCOPE_TYPES.contains(&type_name) {
                let message = format!(
                    "column {} of table {table} has the type {}, which MIRROR_SCOPE does not support; it supports {}",
                    column.name,
                    column.type_text,
                    SCOPE_TYPES.join(", ")
                );
                return Err(Error::new(ErrorKind::TableMismatch, message).in_column(&column.name));
            }
        }
        Ok(Self { rules: rules.clone(), scope })
    }

    /// Returns the scope's values of the staged rows as text; `None` without a scope.
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
        let text: Vec<String> = names.iter().map(|name| format!("CAST({name} AS text)")).collect();
        let sql = format!(
            "SELECT {} FROM (SELECT DISTINCT {} FROM {} LIMIT 2) AS scope",
            text.join(", "),
            names.join(", "),
            temporary(staging)
        );
        let messages = connection.run_within(copy_timeout(size_bytes), context, &sql).await?;
        let messages = messages.map_err(|error| failure(Phase::Connected, context, error))?;
        let row = |message: &SimpleQueryMessage| match message {
            SimpleQueryMessage::Row(row) => {
                Some((0..self.scope.len()).map(|index| row.get(index).map(str::to_owned)).collect())
            }
            _ => None,
        };
        self.rules.scope_values(messages.iter().filter_map(row).collect()).map(Some)
    }

    /// Deletes the rows of the table that the file does not have, see [`Mirror::delete_missing`].
    pub(super) async fn delete_missing(&self, session: &mut MergeSession<'_>, known: u64) -> Result<u64> {
        let (table, missing) = (session.target.table, self.missing(session));
        let table_bytes = old_rows(session.connection, DELETE_CONTEXT, table).await?.bytes;
        let all = || format!("SELECT count(*) FROM {} t WHERE {}true", quoted_table(table), self.in_scope(session));
        let deletion = Deletion {
            count_missing: format!("SELECT count(*) {missing}"),
            count_scope: (!self.scope.is_empty()).then(all),
            delete: format!("DELETE {missing}"),
            limit: copy_timeout(table_bytes.max(session.target.size_bytes)),
        };
        self.rules.delete_missing(session, table, &deletion, known).await
    }

    /// Returns FROM and WHERE of a statement on the table's rows, `t`, that the file does not have.
    fn missing(&self, session: &MergeSession<'_>) -> String {
        let (merge, staging) = (session.merge, temporary(&session.merge.staging));
        format!(
            "FROM {} t WHERE {}NOT EXISTS (SELECT FROM {staging} s WHERE {})",
            quoted_table(session.target.table),
            self.in_scope(session),
            merge.key.is_same("t", "s")
        )
    }

    /// Returns the conditions, each with AND after it, that limit the table's rows, `t`, to the scope.
    fn in_scope(&self, session: &MergeSession<'_>) -> String {
        let staging = temporary(&session.merge.staging);
        let same = |name: &String| {
            format!("t.{0} OPERATOR(pg_catalog.=) (SELECT c.{0} FROM {staging} c LIMIT 1) AND ", quoted(name))
        };
        self.scope.iter().map(same).collect()
    }
}

impl DeletingSession for MergeSession<'_> {
    async fn count(&mut self, limit: Duration, sql: &str) -> Result<u64> {
        let messages = self.send_within(limit, DELETE_CONTEXT, sql).await?;
        let count = messages.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0)?.parse().ok(),
            _ => None,
        });
        count.ok_or_else(|| unexpected_response(DELETE_CONTEXT))
    }

    async fn delete(&mut self, limit: Duration, sql: &str) -> Result<u64> {
        last_count(DELETE_CONTEXT, &self.send_within(limit, DELETE_CONTEXT, sql).await?)
    }
}

//! Deletes the table's rows that a mirrored file does not have, in the transaction of the merge.
//!
//! The rows are counted first, so that a file that would delete too many writes nothing.

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
use crate::destination::mirror::still_present;
use crate::error::{Error, ErrorKind, Result};
use crate::failpoint::Failpoint;
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
            let is_exact = SCOPE_TYPES.iter().any(|exact| column.type_text.starts_with(exact));
            if !is_exact {
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

    /// Deletes the rows of the table that the file does not have, if there are not too many. Returns their number.
    pub(super) async fn delete_missing(&self, session: &mut MergeSession<'_>, known: u64) -> Result<u64> {
        let context = "cannot delete the rows that the file does not have";
        let table = session.target.table;
        let table_bytes = old_rows(session.connection, context, table).await?.bytes;
        let limit = copy_timeout(table_bytes.max(session.target.size_bytes));
        let missing = self.missing(session);
        let count = format!("SELECT count(*) {missing}");
        let found = count_rows(session, limit, context, &count).await?;
        let total = match self.scope.is_empty() {
            true => found + known,
            // Known rows may have other values in the scope's columns.
            false => {
                let condition = self.in_scope(session);
                let all = format!("SELECT count(*) FROM {} t WHERE {condition}true", quoted_table(table));
                count_rows(session, limit, context, &all).await?
            }
        };
        self.rules.check_deletes(table, found, total)?;
        if found == 0 {
            return Ok(0);
        }
        let messages = session.send_within(limit, context, &format!("DELETE {missing}")).await?;
        let deleted = last_count(context, &messages)?;
        Failpoint::MissingRowsDeleted.reached().await;
        // Another session may have added rows after they were counted.
        self.rules.check_deletes(table, deleted, total.max(deleted))?;
        if deleted < found {
            let left = count_rows(session, limit, context, &count).await?;
            if left > 0 {
                return Err(still_present(table, left));
            }
        }
        Ok(deleted)
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

async fn count_rows(session: &mut MergeSession<'_>, limit: Duration, context: &str, sql: &str) -> Result<u64> {
    let messages = session.send_within(limit, context, sql).await?;
    let count = messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0)?.parse().ok(),
        _ => None,
    });
    count.ok_or_else(|| unexpected_response(context))
}

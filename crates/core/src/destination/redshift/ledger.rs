//! The SQL dialect of Redshift, and the ledger's single statements through the Data API.
//!
//! Each statement is a transaction of its own. The transactions that decide something are in [`super::sql`].

use std::borrow::Cow;
use std::time::Duration;

use super::client::{Client, Limit, Transaction};
use super::column::columns_query;
use super::failure::{is_missing_table, rolled_back};
use super::literal::{MARK, bind, quoted};
use super::sql::{LedgerTables, Step};
use crate::error::{Error, ErrorKind, Result};
use crate::ledger::{CheckedLedger, Dialect, ExecuteResult, Index, LedgerConnection, Row, SqlType, Value};

/// Limit for a query, which waits for no other transaction.
pub(super) const QUERY_LIMIT: Duration = Duration::from_secs(120);
/// Limit for a statement that changes rows, which waits for the loads before it.
pub(super) const CHANGE_LIMIT: Duration = Duration::from_secs(60);

/// The SQL of Redshift.
#[derive(Debug)]
pub(super) struct RedshiftDialect;

impl Dialect for RedshiftDialect {
    const BEGIN: &'static str = "BEGIN";
    // In whole seconds. SYSDATE is the start of the transaction.
    const NOW: &'static str = "GETDATE()";
    const OR_KEEP: &'static str = "";
    // Redshift does not enforce it.
    const KEYS: &'static str = "PRIMARY KEY (source_id)";
    const TABLE_OPTIONS: &'static str = "";
    const ERROR_ENDS_TRANSACTION: bool = true;
    const BEGIN_LOOK_UP: Option<&'static str> = None;
    const SHORT_LOCK_WAIT: &'static str = "";
    const LOCK_WAIT: &'static str = "";
    const HAS_INDEXES: bool = false;
    const INDEX_NAMES: &'static str = "";
    const DELETE_OLD_ATTEMPTS: &'static str = "DELETE FROM {attempts} WHERE started_at < ?";

    fn placeholder(number: usize) -> Cow<'static, str> {
        format!("{MARK}{number}{MARK}").into()
    }

    fn quoted(name: &str) -> String {
        quoted(name)
    }

    fn micros(column: &str) -> String {
        // EXTRACT returns whole seconds.
        format!(
            "CAST(EXTRACT(EPOCH FROM DATE_TRUNC('second', {column})) AS BIGINT) * 1000000 \
             + CAST(TO_CHAR({column}, 'US') AS BIGINT)"
        )
    }

    fn inline_index(_: Index) -> Option<String> {
        None
    }

    fn index_name(_: &str, _: Index) -> String {
        String::new()
    }

    fn add_index(_: &str, _: Index) -> String {
        String::new()
    }

    fn type_sql(column_type: SqlType) -> Cow<'static, str> {
        match column_type {
            SqlType::Hash => "VARCHAR(64)".into(),
            // A character has up to four bytes.
            SqlType::Text(characters) => format!("VARCHAR({})", 4 * u32::from(characters)).into(),
            SqlType::LongText => "VARCHAR(65535)".into(),
            SqlType::Count => "BIGINT".into(),
            SqlType::Integer => "INTEGER".into(),
            SqlType::Time => "TIMESTAMP".into(),
            SqlType::Dollars => "DECIMAL(12, 6)".into(),
        }
    }
}

/// Runs the ledger's statements one by one.
#[derive(Debug)]
pub(super) struct Session<'a> {
    client: &'a Client,
    tables: &'a LedgerTables,
    checked: CheckedLedger,
}

impl<'a> Session<'a> {
    pub(super) fn new(client: &'a Client, tables: &'a LedgerTables) -> Self {
        Self { client, tables, checked: CheckedLedger::default() }
    }

    /// Runs a statement after the lock. Returns the number of rows that it has changed.
    async fn change(&self, context: &str, sql: String) -> Result<ExecuteResult> {
        let (lock, steps) = (self.tables.lock(), [Step::Lock, Step::Ledger]);
        match self.client.transaction(&[lock.1, sql], &random(), Limit::Time(CHANGE_LIMIT)).await {
            Transaction::Committed(committed) => Ok(ExecuteResult::Rows(committed.rows.get(1).copied().unwrap_or(0))),
            Transaction::RolledBack(failed) => {
                let error = rolled_back(context, &failed, &steps);
                let is_missing = is_missing_table(&failed.message);
                if is_missing { Ok(ExecuteResult::NoTable(error)) } else { Err(error) }
            }
            Transaction::Refused(error) | Transaction::Unknown(error) => Err(error),
        }
    }
}

/// Returns a text that no other call has.
pub(super) fn random() -> String {
    format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..))
}

/// Runs queries in one transaction, and returns the rows of each.
pub(super) async fn queries(client: &Client, context: &str, sqls: &[String]) -> Result<Vec<Vec<Row>>> {
    match client.transaction(sqls, &random(), Limit::Time(QUERY_LIMIT)).await {
        Transaction::Committed(committed) => {
            let mut results = Vec::with_capacity(sqls.len());
            for statement in 0..sqls.len() {
                results.push(client.rows(&committed, statement).await?);
            }
            Ok(results)
        }
        Transaction::RolledBack(failed) => Err(rolled_back(context, &failed, &[])),
        Transaction::Refused(error) => Err(error),
        // A query waits only for a free place in the queue of the workgroup or cluster.
        Transaction::Unknown(error) if error.kind() == ErrorKind::Conflict => {
            Err(Error::new(ErrorKind::Capacity, format!("{context}: {}", error.message())))
        }
        Transaction::Unknown(error) => Err(error),
    }
}

impl LedgerConnection for Session<'_> {
    type Dialect = RedshiftDialect;
    type Transaction = ();

    fn checked_ledger(&mut self) -> &mut CheckedLedger {
        &mut self.checked
    }

    async fn run(&mut self, context: &str, sql: &str) -> Result<()> {
        self.change(context, sql.to_owned()).await?.rows().map(drop)
    }

    async fn create(&mut self, context: &str, sql: &str) -> Result<()> {
        self.run(context, sql).await
    }

    async fn execute(&mut self, context: &str, sql: &str, params: &[Value<'_>]) -> Result<ExecuteResult> {
        self.change(context, bind(sql, params)).await
    }

    async fn execute_last(&mut self, context: &str, sql: &str, params: &[Value<'_>]) -> Result<Option<()>> {
        Ok((self.execute(context, sql, params).await?.rows()? > 0).then_some(()))
    }

    async fn query(&mut self, context: &str, sql: &str, params: &[Value<'_>]) -> Result<Vec<Row>> {
        Ok(queries(self.client, context, &[bind(sql, params)]).await?.swap_remove(0))
    }

    async fn table_columns(&mut self, table: &str, wanted: &[&str]) -> Result<Option<Vec<String>>> {
        let rows = self.query("cannot read the columns of the ledger", &columns_query(&table.into()), &[]).await?;
        if rows.is_empty() {
            return Ok(None);
        }
        let names = rows.iter().map(|row| row.text(0)).collect::<Result<Vec<_>>>()?;
        Ok(Some(names.into_iter().filter(|name| wanted.contains(&name.as_str())).collect()))
    }

    async fn roll_back(&mut self) {}
}

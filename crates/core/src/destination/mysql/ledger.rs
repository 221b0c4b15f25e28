//! The SQL dialect of MySQL and MariaDB, and the ledger's statements on their connection.

use std::borrow::Cow;

use mysql_async::{Params, Value as MySqlValue};

use super::codes::{ER_DUP_ENTRY, ER_DUP_FIELDNAME, ER_DUP_KEYNAME, ER_NO_SUCH_TABLE};
use super::connect::{Connection, LOCK_WAIT};
use super::failure::{failure, server_code};
use super::table::{TABLE_OPTIONS, quoted};
use crate::destination::failure::{Phase, unexpected_response};
use crate::destination::limits::STATEMENT_TIMEOUT;
use crate::destination::table::TableConnection;
use crate::error::Result;
use crate::ledger::{Cell, CheckedLedger, Dialect, ExecuteResult, Index, LedgerConnection, Row, SqlType, Value};

/// The SQL of MySQL and MariaDB.
#[derive(Debug)]
pub(in crate::destination) struct MySqlDialect;

impl Dialect for MySqlDialect {
    const BEGIN: &'static str = "BEGIN";
    const NOW: &'static str = "UTC_TIMESTAMP(6)";
    // A plain INSERT would lock an existing row in shared mode, and two such claims deadlock. This one locks it
    // exclusively.
    const OR_KEEP: &'static str = "ON DUPLICATE KEY UPDATE source_id = source_id";
    const KEYS: &'static str = "PRIMARY KEY (source_id), UNIQUE KEY content (content_id)";
    const TABLE_OPTIONS: &'static str = TABLE_OPTIONS;
    const ERROR_ENDS_TRANSACTION: bool = false;
    const BEGIN_LOOK_UP: Option<&'static str> = None;
    const SHORT_LOCK_WAIT: &'static str = "SET SESSION lock_wait_timeout = 1, innodb_lock_wait_timeout = 1";
    const LOCK_WAIT: &'static str = LOCK_WAIT;
    const INDEX_NAMES: &'static str = "SELECT DISTINCT INDEX_NAME FROM information_schema.STATISTICS \
         WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = ?";
    const DELETE_OLD_ATTEMPTS: &'static str = "DELETE FROM {attempts} WHERE started_at < ? LIMIT 500";

    fn placeholder(_: usize) -> Cow<'static, str> {
        "?".into()
    }

    fn quoted(name: &str) -> String {
        quoted(name)
    }

    fn micros(column: &str) -> String {
        format!("TIMESTAMPDIFF(MICROSECOND, '1970-01-01', {column})")
    }

    fn inline_index(index: Index) -> Option<String> {
        Some(format!("KEY {}", index_definition(index)))
    }

    fn index_name(_: &str, index: Index) -> String {
        index_definition(index).split(' ').next().unwrap_or_default().to_owned()
    }

    // This needs only the privilege ALTER. CREATE INDEX needs another one.
    fn add_index(table: &str, index: Index) -> String {
        format!("ALTER TABLE {} ADD KEY {}", quoted(table), index_definition(index))
    }

    fn type_sql(column_type: SqlType) -> Cow<'static, str> {
        match column_type {
            SqlType::Hash => "CHAR(64) CHARACTER SET ascii COLLATE ascii_bin".into(),
            SqlType::Text(characters) => format!("VARCHAR({characters})").into(),
            SqlType::LongText => "TEXT".into(),
            SqlType::Count => "BIGINT UNSIGNED".into(),
            SqlType::Integer => "INT UNSIGNED".into(),
            SqlType::Time => "DATETIME(6)".into(),
            SqlType::Dollars => "DECIMAL(12,6)".into(),
        }
    }
}

/// The name and the columns of an index.
fn index_definition(index: Index) -> &'static str {
    match index {
        // A complete key of 1,024 characters is too large for an index.
        Index::ObjectKey => "object (object_key(255))",
        Index::StartedAt => "history (started_at)",
        Index::State => "state (state, started_at)",
        Index::Outcome => "outcome (outcome, started_at)",
        Index::SourceId => "source (source_id)",
    }
}

impl LedgerConnection for Connection {
    type Dialect = MySqlDialect;
    /// The response to COMMIT is sufficient.
    type Transaction = ();

    fn checked_ledger(&mut self) -> &mut CheckedLedger {
        &mut self.checked_ledger
    }

    async fn run(&mut self, context: &str, sql: &str) -> Result<()> {
        let result = self.run_raw(STATEMENT_TIMEOUT, context, sql.as_bytes()).await?;
        result.map(drop).map_err(|error| failure(Phase::Connected, context, error))
    }

    async fn create(&mut self, context: &str, sql: &str) -> Result<()> {
        match self.run_raw(STATEMENT_TIMEOUT, context, sql.as_bytes()).await? {
            Err(error) if matches!(server_code(&error), Some(ER_DUP_FIELDNAME | ER_DUP_KEYNAME)) => Ok(()),
            result => result.map(drop).map_err(|error| failure(Phase::Connected, context, error)),
        }
    }

    async fn execute(&mut self, context: &str, sql: &str, params: &[Value<'_>]) -> Result<ExecuteResult> {
        let error = match self.execute_raw(context, sql, positional(params)).await? {
            Ok(result) => return Ok(ExecuteResult::Rows(result.affected_rows)),
            Err(error) => error,
        };
        let code = server_code(&error);
        let error = failure(Phase::Connected, context, error);
        match code {
            Some(ER_DUP_ENTRY) => Ok(ExecuteResult::UniqueViolation(error)),
            Some(ER_NO_SUCH_TABLE) => Ok(ExecuteResult::NoTable(error)),
            Some(_) | None => Err(error),
        }
    }

    async fn execute_last(&mut self, context: &str, sql: &str, params: &[Value<'_>]) -> Result<Option<()>> {
        let result = self.execute_raw(context, sql, positional(params)).await?;
        let result = result.map_err(|error| failure(Phase::Connected, context, error))?;
        Ok((result.affected_rows == 1).then_some(()))
    }

    async fn query(&mut self, context: &str, sql: &str, params: &[Value<'_>]) -> Result<Vec<Row>> {
        let rows: Vec<mysql_async::Row> = self.rows(context, sql, positional(params)).await?;
        rows.iter().map(row).collect()
    }

    async fn table_columns(&mut self, table: &str, wanted: &[&str]) -> Result<Option<Vec<String>>> {
        if !self.has_table(&table.into()).await? {
            self.check_absent(&table.into()).await?;
            return Ok(None);
        }
        if wanted.is_empty() {
            return Ok(Some(Vec::new()));
        }
        let sql =
            "SELECT COLUMN_NAME FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = ?";
        let mut columns: Vec<String> = self.rows("cannot read the ledger's columns", sql, (table,)).await?;
        columns.retain(|column| wanted.contains(&column.as_str()));
        Ok(Some(columns))
    }

    async fn roll_back(&mut self) {
        self.end_transaction().await;
    }
}

fn positional(params: &[Value<'_>]) -> Params {
    let value = |param: &Value<'_>| match *param {
        Value::Text(text) => text.into(),
        Value::Count(count) => count.into(),
        Value::Time(time) => time.strftime("%Y-%m-%d %H:%M:%S%.6f").to_string().into(),
    };
    Params::Positional(params.iter().map(value).collect())
}

const READ_ROW: &str = "cannot read a row of the ledger";

fn row(row: &mysql_async::Row) -> Result<Row> {
    let cell = |index: usize| match row.as_ref(index) {
        Some(MySqlValue::NULL) => Ok(Cell::Null),
        Some(MySqlValue::Bytes(bytes)) => Ok(Cell::Text(String::from_utf8_lossy(bytes).into_owned())),
        Some(MySqlValue::Int(number)) => Ok(Cell::Integer(*number)),
        Some(MySqlValue::UInt(number)) => {
            i64::try_from(*number).map(Cell::Integer).map_err(|_| unexpected_response(READ_ROW))
        }
        Some(MySqlValue::Float(_) | MySqlValue::Double(_) | MySqlValue::Date(..) | MySqlValue::Time(..)) | None => {
            Err(unexpected_response(READ_ROW))
        }
    };
    (0..row.len()).map(cell).collect::<Result<_>>().map(Row)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_written_as_sql_literal() {
        let time = Value::Time("2026-11-20T13:05:06.000789Z".parse().unwrap());
        let Params::Positional(values) = positional(&[time]) else { panic!("not positional") };
        assert_eq!(values, [MySqlValue::Bytes(b"2026-11-20 13:05:06.000789".to_vec())]);
    }
}

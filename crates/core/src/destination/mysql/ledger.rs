//! The ledger's SQL dialect on MySQL and MariaDB, and its statements on our connection.

use std::borrow::Cow;

use mysql_async::{Params, Value as MySqlValue};

use super::codes::{ER_DUP_ENTRY, ER_DUP_FIELDNAME, ER_NO_SUCH_TABLE};
use super::connect::{Connection, STATEMENT_LIMIT};
use super::failure::{failure, server_code};
use super::table::{TABLE_OPTIONS, exists, quoted};
use crate::destination::failure::Phase;
use crate::error::{Error, ErrorKind, Result};
use crate::ledger::{Cell, Dialect, Executed, LedgerConnection, Row, SqlType, Value};

/// MySQL's and MariaDB's SQL.
#[derive(Debug)]
pub(in crate::destination) struct MySqlDialect;

impl Dialect for MySqlDialect {
    const BEGIN: &'static str = "BEGIN";
    const NOW: &'static str = "UTC_TIMESTAMP(6)";
    // A plain INSERT would take a shared lock on an existing row, and two claims with shared locks deadlock. This one
    // locks it exclusively.
    const OR_KEEP: &'static str = "ON DUPLICATE KEY UPDATE source_id = source_id";
    const MODIFIED_MICROS: &'static str = "TIMESTAMPDIFF(MICROSECOND, '1970-01-01', source_modified_at)";
    const KEYS: &'static str = "PRIMARY KEY (source_id), UNIQUE KEY content (content_id), KEY history (started_at)";
    const TABLE_OPTIONS: &'static str = TABLE_OPTIONS;
    const ERROR_ENDS_TRANSACTION: bool = false;
    const BEGIN_LOOK_UP: Option<&'static str> = None;

    fn placeholder(_: usize) -> Cow<'static, str> {
        "?".into()
    }

    fn quoted(name: &str) -> String {
        quoted(name)
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

impl LedgerConnection for Connection {
    type Dialect = MySqlDialect;
    /// An answer to COMMIT says everything.
    type Transaction = ();

    async fn run(&mut self, doing: &str, sql: &str) -> Result<()> {
        let answer = self.run_raw(STATEMENT_LIMIT, doing, sql.as_bytes()).await?;
        answer.map(drop).map_err(|error| failure(Phase::Connected, doing, error))
    }

    async fn create(&mut self, doing: &str, sql: &str) -> Result<()> {
        match self.run_raw(STATEMENT_LIMIT, doing, sql.as_bytes()).await? {
            Err(error) if server_code(&error) == Some(ER_DUP_FIELDNAME) => Ok(()),
            answer => answer.map(drop).map_err(|error| failure(Phase::Connected, doing, error)),
        }
    }

    async fn execute(&mut self, doing: &str, sql: &str, params: &[Value<'_>]) -> Result<Executed> {
        let error = match self.execute_raw(doing, sql, positional(params)).await? {
            Ok(outcome) => return Ok(Executed::Rows(outcome.affected_rows)),
            Err(error) => error,
        };
        let code = server_code(&error);
        let error = failure(Phase::Connected, doing, error);
        match code {
            Some(ER_DUP_ENTRY) => Ok(Executed::UniqueViolation(error)),
            Some(ER_NO_SUCH_TABLE) => Ok(Executed::NoTable(error)),
            Some(_) | None => Err(error),
        }
    }

    async fn execute_last(&mut self, doing: &str, sql: &str, params: &[Value<'_>]) -> Result<Option<()>> {
        let answer = self.execute_raw(doing, sql, positional(params)).await?;
        let outcome = answer.map_err(|error| failure(Phase::Connected, doing, error))?;
        Ok((outcome.affected_rows == 1).then_some(()))
    }

    async fn query(&mut self, doing: &str, sql: &str, params: &[Value<'_>]) -> Result<Vec<Row>> {
        let rows: Vec<mysql_async::Row> = self.rows(doing, sql, positional(params)).await?;
        rows.iter().map(row).collect()
    }

    async fn table_columns(&mut self, table: &str, asked: &[&str]) -> Result<Option<Vec<String>>> {
        if !exists(self, table).await? {
            return Ok(None);
        }
        if asked.is_empty() {
            return Ok(Some(Vec::new()));
        }
        let sql =
            "SELECT COLUMN_NAME FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = ?";
        let mut columns: Vec<String> = self.rows("cannot read the ledger's columns", sql, (table,)).await?;
        columns.retain(|column| asked.contains(&column.as_str()));
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

fn row(row: &mysql_async::Row) -> Result<Row> {
    let cell = |index: usize| match row.as_ref(index) {
        Some(MySqlValue::NULL) => Ok(Cell::Null),
        Some(MySqlValue::Bytes(bytes)) => Ok(Cell::Text(String::from_utf8_lossy(bytes).into_owned())),
        Some(MySqlValue::Int(number)) => Ok(Cell::Integer(*number)),
        Some(MySqlValue::UInt(number)) => i64::try_from(*number).map(Cell::Integer).map_err(|_| unexpected()),
        Some(MySqlValue::Float(_) | MySqlValue::Double(_) | MySqlValue::Date(..) | MySqlValue::Time(..)) | None => {
            Err(unexpected())
        }
    };
    (0..row.len()).map(cell).collect::<Result<_>>().map(Row)
}

fn unexpected() -> Error {
    Error::new(ErrorKind::Internal, "the server's answer does not have the expected form")
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

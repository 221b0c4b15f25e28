//! The SQL dialect of PostgreSQL, and the ledger's statements on its connection.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::time::SystemTime;

use bytes::BytesMut;
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};

use super::codes::{DUPLICATE_COLUMN, UNDEFINED_TABLE};
use super::connect::{Connection, LOCK_WAIT, value};
use super::failure::{failure, state};
use super::rejection::is_unique_violation;
use super::table::{is_created_by_another, quoted, relation};
use crate::destination::failure::{Phase, unexpected_response};
use crate::destination::table::TableConnection;
use crate::error::Result;
use crate::ledger::{Cell, CheckedLedger, Dialect, ExecuteResult, Index, LedgerConnection, Row, SqlType, Value};

/// The SQL of PostgreSQL.
#[derive(Debug)]
pub(in crate::destination) struct PostgresDialect;

impl Dialect for PostgresDialect {
    // The user's defaults may be different.
    const BEGIN: &'static str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE";
    const NOW: &'static str = "clock_timestamp()";
    const OR_KEEP: &'static str = "ON CONFLICT (source_id) DO NOTHING";
    const KEYS: &'static str = "PRIMARY KEY (source_id), UNIQUE (content_id)";
    const TABLE_OPTIONS: &'static str = "";
    const ERROR_ENDS_TRANSACTION: bool = true;
    const BEGIN_LOOK_UP: Option<&'static str> =
        Some("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SET LOCAL lock_timeout = '20ms'");
    const SHORT_LOCK_WAIT: &'static str = "SET lock_timeout = '1s'";
    const LOCK_WAIT: &'static str = LOCK_WAIT;
    const INDEX_NAMES: &'static str = "SELECT c.relname::text FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid \
         WHERE i.indrelid = to_regclass(quote_ident(?))";
    const DELETE_OLD_ATTEMPTS: &'static str = "DELETE FROM {attempts} WHERE ctid = \
         ANY(ARRAY(SELECT ctid FROM {attempts} WHERE started_at < ? LIMIT 500))";

    fn placeholder(number: usize) -> Cow<'static, str> {
        format!("${number}").into()
    }

    fn quoted(name: &str) -> String {
        quoted(name)
    }

    fn micros(column: &str) -> String {
        format!("CAST(round(extract(epoch FROM {column}) * 1000000) AS bigint)")
    }

    fn inline_index(_: Index) -> Option<String> {
        None
    }

    fn index_name(table: &str, index: Index) -> String {
        let name = format!("{table}_{}", index_parts(index).0);
        // The server cuts a longer name.
        name[..name.floor_char_boundary(NAME_BYTES)].to_owned()
    }

    fn add_index(table: &str, index: Index) -> String {
        let name = quoted(&Self::index_name(table, index));
        format!("CREATE INDEX IF NOT EXISTS {name} ON {} ({})", quoted(table), index_parts(index).1)
    }

    fn type_sql(column_type: SqlType) -> Cow<'static, str> {
        let name = match column_type {
            SqlType::Hash | SqlType::Text(_) | SqlType::LongText => "text",
            SqlType::Count => "bigint",
            SqlType::Integer => "integer",
            SqlType::Time => "timestamptz",
            SqlType::Dollars => "numeric(12,6)",
        };
        name.into()
    }
}

/// The longest name that the server stores, in bytes.
const NAME_BYTES: usize = 63;

/// The ending of an index's name, and its columns.
fn index_parts(index: Index) -> (&'static str, &'static str) {
    match index {
        Index::ObjectKey => ("object_key", "object_key"),
        Index::StartedAt => ("started_at", "started_at"),
        Index::State => ("state", "state, started_at"),
        Index::Outcome => ("outcome", "outcome, started_at"),
        Index::SourceId => ("source_id", "source_id"),
    }
}

impl LedgerConnection for Connection {
    type Dialect = PostgresDialect;
    /// The transaction's number. COMMIT queries its status.
    type Transaction = i64;

    fn checked_ledger(&mut self) -> &mut CheckedLedger {
        &mut self.checked_ledger
    }

    async fn run(&mut self, context: &str, sql: &str) -> Result<()> {
        self.run_raw(context, sql).await?.map_err(|error| failure(Phase::Connected, context, error))
    }

    async fn create(&mut self, context: &str, sql: &str) -> Result<()> {
        match self.run_raw(context, sql).await? {
            Err(error) if is_created_by_another(&error) || state(&error) == Some(DUPLICATE_COLUMN) => Ok(()),
            result => result.map_err(|error| failure(Phase::Connected, context, error)),
        }
    }

    async fn execute(&mut self, context: &str, sql: &str, params: &[Value<'_>]) -> Result<ExecuteResult> {
        let error = match self.execute_raw(context, sql, &typed(params)).await? {
            Ok(rows) => return Ok(ExecuteResult::Rows(rows)),
            Err(error) => error,
        };
        let (is_violation, has_no_table) = (is_unique_violation(&error), state(&error) == Some(UNDEFINED_TABLE));
        let error = failure(Phase::Connected, context, error);
        match (is_violation, has_no_table) {
            (true, _) => Ok(ExecuteResult::UniqueViolation(error)),
            (false, true) => Ok(ExecuteResult::NoTable(error)),
            (false, false) => Err(error),
        }
    }

    async fn execute_last(&mut self, context: &str, sql: &str, params: &[Value<'_>]) -> Result<Option<i64>> {
        let sql = format!("{sql} RETURNING txid_current()");
        let rows = self.rows(context, &sql, &typed(params)).await?;
        rows.first().map(|row| value(row, 0)).transpose()
    }

    async fn query(&mut self, context: &str, sql: &str, params: &[Value<'_>]) -> Result<Vec<Row>> {
        self.rows(context, sql, &typed(params)).await?.iter().map(row).collect()
    }

    async fn table_columns(&mut self, table: &str, wanted: &[&str]) -> Result<Option<Vec<String>>> {
        let found = relation(self, &table.into(), wanted).await?;
        if found.is_none() {
            self.check_absent(&table.into()).await?;
        }
        Ok(found)
    }

    async fn roll_back(&mut self) {
        self.end_transaction().await;
    }
}

/// Returns each parameter with its type, so that no round trip is needed to read the types.
fn typed<'a>(params: &'a [Value<'_>]) -> Vec<(&'a (dyn ToSql + Sync), Type)> {
    let with_type = |param: &'a Value<'_>| {
        let param_type = match param {
            Value::Text(_) => Type::TEXT,
            Value::Count(_) => Type::INT8,
            Value::Time(_) => Type::TIMESTAMPTZ,
        };
        (param as &(dyn ToSql + Sync), param_type)
    };
    params.iter().map(with_type).collect()
}

impl ToSql for Value<'_> {
    fn to_sql(&self, param_type: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn StdError + Sync + Send>> {
        match self {
            Self::Text(text) => text.to_sql(param_type, out),
            Self::Count(count) => i64::try_from(*count)?.to_sql(param_type, out),
            Self::Time(time) => SystemTime::from(*time).to_sql(param_type, out),
        }
    }

    fn accepts(param_type: &Type) -> bool {
        matches!(*param_type, Type::TEXT | Type::INT8 | Type::TIMESTAMPTZ)
    }

    to_sql_checked!();
}

fn row(row: &tokio_postgres::Row) -> Result<Row> {
    let cell = |(index, column): (usize, &tokio_postgres::Column)| match *column.type_() {
        Type::TEXT => Ok(value::<Option<String>>(row, index)?.map_or(Cell::Null, Cell::Text)),
        Type::INT4 => Ok(value::<Option<i32>>(row, index)?.map_or(Cell::Null, |number| Cell::Integer(number.into()))),
        Type::INT8 => Ok(value::<Option<i64>>(row, index)?.map_or(Cell::Null, Cell::Integer)),
        _ => Err(unexpected_response("cannot read a row of the ledger")),
    };
    row.columns().iter().enumerate().map(cell).collect::<Result<_>>().map(Row)
}

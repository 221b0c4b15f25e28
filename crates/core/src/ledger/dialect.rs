//! What the ledger needs from a database: its SQL dialect, and a connection that runs small statements.

use std::borrow::Cow;
use std::fmt::Debug;

use jiff::Timestamp;

use crate::error::{Error, ErrorKind, Result};

/// The parts of the ledger's statements that dialects write differently.
pub(crate) trait Dialect {
    /// Begins a transaction in which each statement sees everything that is committed by then.
    const BEGIN: &'static str;
    /// The current time in UTC with microseconds, which moves on within a transaction.
    const NOW: &'static str;
    /// Ends an INSERT that leaves an existing row with the same source id as it is, and then counts zero rows.
    const OR_KEEP: &'static str;
    /// `source_modified_at` in microseconds since 1970-01-01 UTC, as an integer.
    const MODIFIED_MICROS: &'static str;
    /// Keys and indexes of the ledger table, in its CREATE TABLE.
    const KEYS: &'static str;
    /// Options after the parenthesis of CREATE TABLE.
    const TABLE_OPTIONS: &'static str;
    /// An error ends the whole transaction, so a statement that may fail needs a savepoint.
    const ERROR_ENDS_TRANSACTION: bool;
    /// Begins the transaction of a look-up, on databases where a row that another transaction has inserted is
    /// invisible.
    ///
    /// An open claim is then found by inserting a row with the same key. The transaction must not wait for a lock
    /// longer than a moment.
    const BEGIN_LOOK_UP: Option<&'static str>;

    /// The placeholder of a parameter, counted from 1.
    fn placeholder(number: usize) -> Cow<'static, str>;

    /// A quoted identifier.
    fn quoted(name: &str) -> String;

    /// A column type.
    fn type_sql(column_type: SqlType) -> Cow<'static, str>;
}

/// The types of the ledger's columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SqlType {
    /// SHA-256 in hex, compared byte by byte.
    Hash,
    /// Text of at most this many characters.
    Text(u16),
    /// Text of at least 8,000 characters.
    LongText,
    /// A count of rows or bytes.
    Count,
    /// A small number.
    Integer,
    /// A moment in UTC with microseconds.
    Time,
    /// US dollars with six decimals.
    Dollars,
}

/// A parameter of a statement.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Value<'a> {
    /// Text or NULL.
    Text(Option<&'a str>),
    /// A count.
    Count(u64),
    /// A moment.
    Time(Timestamp),
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(Some(text))
    }
}

impl<'a> From<&'a String> for Value<'a> {
    fn from(text: &'a String) -> Self {
        Self::Text(Some(text))
    }
}

impl<'a> From<Option<&'a str>> for Value<'a> {
    fn from(text: Option<&'a str>) -> Self {
        Self::Text(text)
    }
}

impl From<u64> for Value<'_> {
    fn from(count: u64) -> Self {
        Self::Count(count)
    }
}

impl From<Timestamp> for Value<'_> {
    fn from(time: Timestamp) -> Self {
        Self::Time(time)
    }
}

/// A value of a result row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Cell {
    /// NULL.
    Null,
    /// Text.
    Text(String),
    /// A whole number.
    Integer(i64),
}

/// A row of a result, read by column index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row(pub(crate) Vec<Cell>);

impl Row {
    /// A text.
    pub(super) fn text(&self, index: usize) -> Result<String> {
        self.optional_text(index)?.ok_or_else(unexpected)
    }

    /// A text or NULL.
    pub(super) fn optional_text(&self, index: usize) -> Result<Option<String>> {
        match self.0.get(index) {
            Some(Cell::Text(text)) => Ok(Some(text.clone())),
            Some(Cell::Null) => Ok(None),
            Some(Cell::Integer(_)) | None => Err(unexpected()),
        }
    }

    /// A count.
    pub(super) fn count(&self, index: usize) -> Result<u64> {
        let number = self.optional_integer(index)?.ok_or_else(unexpected)?;
        u64::try_from(number).map_err(|_| Error::new(ErrorKind::Internal, "the ledger contains a negative count"))
    }

    /// A whole number or NULL.
    pub(super) fn optional_integer(&self, index: usize) -> Result<Option<i64>> {
        match self.0.get(index) {
            Some(Cell::Integer(number)) => Ok(Some(*number)),
            Some(Cell::Null) => Ok(None),
            Some(Cell::Text(_)) | None => Err(unexpected()),
        }
    }
}

fn unexpected() -> Error {
    Error::new(ErrorKind::Internal, "the ledger's answer does not have the expected columns")
}

/// The result of a statement that changes rows.
#[derive(Debug)]
pub(crate) enum Executed {
    /// It has changed, or found, this many rows.
    Rows(u64),
    /// It would have violated a unique constraint. It has changed nothing.
    UniqueViolation(Error),
    /// The table does not exist.
    NoTable(Error),
}

impl Executed {
    /// The number of rows, for statements that neither violate a constraint nor lack their table.
    pub(super) fn rows(self) -> Result<u64> {
        match self {
            Self::Rows(rows) => Ok(rows),
            Self::UniqueViolation(error) | Self::NoTable(error) => Err(error),
        }
    }
}

/// A connection that the ledger's statements run on.
///
/// `doing` says what failed, as in "cannot claim the source". Every error is an [`Error`] with a kind from the failure
/// table. A statement has a time limit, and after it the connection is lost.
pub(crate) trait LedgerConnection: Debug + Send {
    /// The dialect of the database.
    type Dialect: Dialect;

    /// What COMMIT needs to know of the transaction.
    type Transaction: Debug + Send;

    /// Runs statements without parameters.
    fn run(&mut self, doing: &str, sql: &str) -> impl Future<Output = Result<()>> + Send;

    /// Runs DDL. An object that another worker has created at the same moment is not an error.
    fn create(&mut self, doing: &str, sql: &str) -> impl Future<Output = Result<()>> + Send;

    /// Changes rows.
    fn execute(
        &mut self,
        doing: &str,
        sql: &str,
        params: &[Value<'_>],
    ) -> impl Future<Output = Result<Executed>> + Send;

    /// Changes one row, as the last statement before COMMIT. Returns `None` when no row was changed.
    fn execute_last(
        &mut self,
        doing: &str,
        sql: &str,
        params: &[Value<'_>],
    ) -> impl Future<Output = Result<Option<Self::Transaction>>> + Send;

    /// Reads rows.
    fn query(&mut self, doing: &str, sql: &str, params: &[Value<'_>]) -> impl Future<Output = Result<Vec<Row>>> + Send;

    /// Returns which of the asked columns a table has, and `None` when there is no such table.
    ///
    /// # Errors
    /// [`ErrorKind::TableMismatch`] when it is not a table with transactions.
    fn table_columns(
        &mut self,
        table: &str,
        asked: &[&str],
    ) -> impl Future<Output = Result<Option<Vec<String>>>> + Send;

    /// Rolls back, if the server still answers.
    fn roll_back(&mut self) -> impl Future<Output = ()> + Send;
}

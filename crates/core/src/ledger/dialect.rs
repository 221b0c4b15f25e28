//! What the ledger needs from a database: its SQL dialect, and a connection that runs small statements.

use std::borrow::Cow;
use std::fmt::Debug;

use jiff::Timestamp;

use super::attempts_table::Index;
use super::table::CheckedLedger;
use crate::error::{Error, ErrorKind, Result};

/// The parts of the ledger's statements that differ between databases.
pub(crate) trait Dialect {
    /// Begins a transaction in which each statement sees all rows that are committed before it starts.
    const BEGIN: &'static str;
    /// The current time in UTC with microseconds, and not the start of the transaction.
    const NOW: &'static str;
    /// The end of an INSERT that does not change an existing row with the same source id, but returns zero rows.
    const OR_KEEP: &'static str;
    /// The keys of the ledger table, in its CREATE TABLE.
    const KEYS: &'static str;
    /// Options after the parenthesis of CREATE TABLE.
    const TABLE_OPTIONS: &'static str;
    /// Whether an error ends the whole transaction, so that a statement that may fail needs a savepoint.
    const ERROR_ENDS_TRANSACTION: bool;
    /// Begins the transaction of a look-up, on databases where an uncommitted row of another transaction cannot be
    /// locked.
    ///
    /// The look-up then finds an open claim by inserting a row with the same key. The statement also limits the wait
    /// for a lock to milliseconds.
    const BEGIN_LOOK_UP: Option<&'static str>;

    /// Returns the placeholder of a parameter. The first one has number 1.
    fn placeholder(number: usize) -> Cow<'static, str>;

    /// Returns a quoted identifier.
    fn quoted(name: &str) -> String;

    /// Returns a time column in microseconds since 1970-01-01 UTC, as an integer.
    fn micros(column: &str) -> String;

    /// Makes the statements of a session wait at most a second for locks on tables.
    const SHORT_LOCK_WAIT: &'static str;
    /// Restores the wait for locks with which a session starts.
    const LOCK_WAIT: &'static str;
    /// Whether tables can have indexes. Without them, the other parts about indexes are not used.
    const HAS_INDEXES: bool = true;
    /// Returns the names of a table's indexes. The parameter is the table's name.
    const INDEX_NAMES: &'static str;
    /// Deletes up to [`super::attempts::BATCH_ROWS`] attempts that started before a time.
    const DELETE_OLD_ATTEMPTS: &'static str;

    /// Returns the part of CREATE TABLE that defines an index, on databases where it can contain one.
    fn inline_index(index: Index) -> Option<String>;

    /// Returns the name of a table's index, as the database stores it.
    fn index_name(table: &str, index: Index) -> String;

    /// Returns the statement that adds an index to a table.
    fn add_index(table: &str, index: Index) -> String;

    /// Returns the type of a column in SQL.
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
    /// A point in time in UTC with microseconds.
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
    /// A point in time.
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
    /// Returns a text.
    pub(crate) fn text(&self, index: usize) -> Result<String> {
        self.optional_text(index)?.ok_or_else(unexpected)
    }

    /// Returns a text or NULL.
    pub(crate) fn optional_text(&self, index: usize) -> Result<Option<String>> {
        match self.0.get(index) {
            Some(Cell::Text(text)) => Ok(Some(text.clone())),
            Some(Cell::Null) => Ok(None),
            Some(Cell::Integer(_)) | None => Err(unexpected()),
        }
    }

    /// Returns a count.
    pub(crate) fn count(&self, index: usize) -> Result<u64> {
        let number = self.optional_integer(index)?.ok_or_else(unexpected)?;
        u64::try_from(number).map_err(|_| Error::new(ErrorKind::Internal, "the ledger contains a negative count"))
    }

    /// Returns a whole number or NULL.
    pub(crate) fn optional_integer(&self, index: usize) -> Result<Option<i64>> {
        match self.0.get(index) {
            Some(Cell::Integer(number)) => Ok(Some(*number)),
            Some(Cell::Null) => Ok(None),
            Some(Cell::Text(_)) | None => Err(unexpected()),
        }
    }
}

fn unexpected() -> Error {
    Error::new(ErrorKind::Internal, "the ledger does not return the expected columns")
}

/// The result of a statement that changes rows.
#[derive(Debug)]
pub(crate) enum ExecuteResult {
    /// The number of changed rows.
    Rows(u64),
    /// The statement would have violated a unique constraint, so no row was changed.
    UniqueViolation(Error),
    /// The table does not exist.
    NoTable(Error),
}

impl ExecuteResult {
    /// Returns the number of rows. A missing table or a unique violation is an error.
    pub(crate) fn rows(self) -> Result<u64> {
        match self {
            Self::Rows(rows) => Ok(rows),
            Self::UniqueViolation(error) | Self::NoTable(error) => Err(error),
        }
    }
}

/// A connection that the ledger's statements run on.
///
/// `context` begins the error message and says what failed, as in "cannot claim the source". Every error has a kind
/// with an entry in the retry policy ([`crate::policy`]). A statement has a time limit, and the connection is lost when it is exceeded.
pub(crate) trait LedgerConnection: Debug + Send {
    /// The dialect of the database.
    type Dialect: Dialect;

    /// What is needed to find out, after a COMMIT without a response, whether the transaction was committed.
    type Transaction: Debug + Send;

    /// The ledger that this connection has checked.
    fn checked_ledger(&mut self) -> &mut CheckedLedger;

    /// Runs statements without parameters.
    fn run(&mut self, context: &str, sql: &str) -> impl Future<Output = Result<()>> + Send;

    /// Runs DDL. It is not an error if another worker has created the same object at the same moment.
    fn create(&mut self, context: &str, sql: &str) -> impl Future<Output = Result<()>> + Send;

    /// Changes rows.
    fn execute(
        &mut self,
        context: &str,
        sql: &str,
        params: &[Value<'_>],
    ) -> impl Future<Output = Result<ExecuteResult>> + Send;

    /// Changes one row in the last statement before COMMIT. Returns `None` when no row was changed.
    fn execute_last(
        &mut self,
        context: &str,
        sql: &str,
        params: &[Value<'_>],
    ) -> impl Future<Output = Result<Option<Self::Transaction>>> + Send;

    /// Reads rows.
    fn query(
        &mut self,
        context: &str,
        sql: &str,
        params: &[Value<'_>],
    ) -> impl Future<Output = Result<Vec<Row>>> + Send;

    /// Returns those of the wanted columns that a table has, and `None` when the table does not exist.
    ///
    /// # Errors
    /// [`ErrorKind::TableMismatch`] when it is not a table with transactions.
    fn table_columns(
        &mut self,
        table: &str,
        wanted: &[&str],
    ) -> impl Future<Output = Result<Option<Vec<String>>>> + Send;

    /// Rolls back, if the server still responds.
    fn roll_back(&mut self) -> impl Future<Output = ()> + Send;
}

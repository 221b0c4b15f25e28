//! Reads a table or a query of a database in one snapshot, as CSV records.
//!
//! [`SourceDatabase::open`] connects and begins a read-only transaction. Everything that is then read is of the same moment. A read
//! replica will do. NULL is a field without characters, and an empty text is `""`, as Spillway's reader expects them. Columns
//! and values that a load would not store unchanged are refused.

use serde::{Deserialize, Serialize};

use super::{Credentials, DestinationOptions, Engine, mysql, postgres};
use crate::error::{Error, ErrorKind, Result};
use crate::table_name::TableName;

/// What is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Relation {
    /// A table or a view.
    Table(TableName),
    /// A SELECT statement.
    Query(String),
}

impl Relation {
    /// The relation after FROM. `quoted` quotes the name of a table.
    pub(super) fn in_sql(&self, quoted: impl FnOnce(&TableName) -> String) -> String {
        match self {
            Self::Table(table) => quoted(table),
            // The line end is for a query that ends with a comment.
            Self::Query(query) => format!("({}\n) AS extracted", query.trim().trim_end_matches(';')),
        }
    }
}

/// A column of the result, as the manifest lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceColumn {
    /// The name.
    pub name: String,
    /// The type as the server names it.
    #[serde(rename = "type")]
    pub type_name: String,
}

/// The rows that are read: those whose value in the column is above `after`, and not above `up_to`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CursorRange {
    /// The name of the column.
    pub(crate) column: String,
    /// The value that the last run has reached.
    pub(crate) after: Option<String>,
    /// The largest value in the snapshot.
    pub(crate) up_to: String,
}

/// The largest value of a cursor column, as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CursorEnd {
    /// `None` if no row has a value above the last one.
    pub(crate) largest: Option<String>,
    /// Number of rows without a value, which no run reads.
    pub(crate) nulls: u64,
}

/// CSV records, each complete.
#[derive(Debug, Default)]
pub(crate) struct Records {
    /// The records, each with its line end.
    pub(crate) bytes: Vec<u8>,
    /// The end of each record in `bytes`.
    pub(crate) ends: Vec<usize>,
}

/// Size of the records that a sink gets at once.
pub(super) const RECORDS_BYTES: usize = 256 << 10;

impl Records {
    /// Ends the current record.
    pub(super) fn end_record(&mut self) {
        self.bytes.push(b'\n');
        self.ends.push(self.bytes.len());
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }
}

/// Receives records.
pub(crate) trait RecordSink: Send {
    /// Writes records.
    fn write(&mut self, records: &Records) -> impl Future<Output = Result<()>> + Send;
}

/// Collects records, and passes them on when there are enough.
pub(super) struct RecordBuffer<'a, S> {
    pub(super) records: Records,
    sink: &'a mut S,
}

impl<'a, S: RecordSink> RecordBuffer<'a, S> {
    pub(super) fn new(sink: &'a mut S) -> Self {
        Self { records: Records::default(), sink }
    }

    /// Whether the records must be passed on now.
    pub(super) fn is_full(&self) -> bool {
        self.records.bytes.len() >= RECORDS_BYTES
    }

    pub(super) async fn pass_on(&mut self) -> Result<()> {
        if !self.records.ends.is_empty() {
            self.sink.write(&self.records).await?;
            self.records.clear();
        }
        Ok(())
    }
}

/// A database with an open snapshot. Dropping it closes the connection.
#[derive(Debug)]
pub(crate) enum SourceDatabase {
    /// MySQL or MariaDB.
    MySql(mysql::source::Snapshot),
    /// PostgreSQL.
    Postgres(postgres::source::Snapshot),
}

impl SourceDatabase {
    /// Connects and begins the snapshot.
    ///
    /// # Errors
    /// When the server cannot be reached, or rejects the user.
    pub(crate) async fn open(credentials: &Credentials, options: &DestinationOptions) -> Result<Self> {
        Ok(match credentials.engine {
            Engine::MySql => Self::MySql(mysql::source::Snapshot::open(credentials, options).await?),
            Engine::Postgres => Self::Postgres(postgres::source::Snapshot::open(credentials, options).await?),
        })
    }

    /// Returns the columns of the result.
    ///
    /// # Errors
    /// When the relation cannot be read, or a column has a type whose values a load would not store unchanged.
    pub(crate) async fn describe(&mut self, relation: &Relation) -> Result<Vec<SourceColumn>> {
        let columns = match self {
            Self::MySql(snapshot) => snapshot.describe(relation).await,
            Self::Postgres(snapshot) => snapshot.describe(relation).await,
        }?;
        check_names(&columns)?;
        Ok(columns)
    }

    /// Returns the largest value of the described column, and the number of rows without one.
    ///
    /// # Errors
    /// When values of the column's type have no order that the next run could continue.
    pub(crate) async fn cursor_end(&mut self, column: &str, after: Option<&str>) -> Result<CursorEnd> {
        match self {
            Self::MySql(snapshot) => snapshot.cursor_end(column, after).await,
            Self::Postgres(snapshot) => snapshot.cursor_end(column, after).await,
        }
    }

    /// Reads the described relation, all rows or those of a range.
    ///
    /// # Errors
    /// When the connection is lost, or a value would not be stored unchanged by a load.
    pub(crate) async fn read(&mut self, range: Option<&CursorRange>, sink: &mut impl RecordSink) -> Result<()> {
        match self {
            Self::MySql(snapshot) => snapshot.read(range, sink).await,
            Self::Postgres(snapshot) => snapshot.read(range, sink).await,
        }
    }

    /// Ends the snapshot and closes the connection.
    pub(crate) async fn close(self) {
        match self {
            Self::MySql(snapshot) => snapshot.close().await,
            Self::Postgres(snapshot) => snapshot.close().await,
        }
    }
}

/// Refuses columns without a name, and two columns with the same name.
fn check_names(columns: &[SourceColumn]) -> Result<()> {
    let refused = |message: String| Err(Error::new(ErrorKind::TableMismatch, message));
    if columns.is_empty() {
        return refused("the result has no columns".to_owned());
    }
    for (index, column) in columns.iter().enumerate() {
        if column.name.trim().is_empty() || column.name == "?column?" {
            return refused(format!("column {} of the query has no name; add one with AS", index + 1));
        }
        if columns[..index].iter().any(|other| other.name.eq_ignore_ascii_case(&column.name)) {
            return refused(format!("two columns of the query are named {:?}; rename one with AS", column.name));
        }
    }
    Ok(())
}

/// The error for a column whose values a load would not store unchanged.
pub(super) fn unsupported_column(name: &str, type_name: &str, advice: &str) -> Error {
    let message = format!("the column {name:?} has the type {type_name}, which cannot be extracted; {advice}");
    Error::new(ErrorKind::TableMismatch, message)
}

/// The error for a value that a load would not store unchanged. `record` counts from one.
pub(super) fn unsupported_value(column: &str, record: u64, why: &str) -> Error {
    Error::new(
        ErrorKind::DataRefused,
        format!("row {record} of the result cannot be extracted: the column {column:?} {why}"),
    )
}

/// The error for NULL in the only column. Its record would be an empty line, which a load skips.
pub(super) fn null_alone(column: &str, record: u64) -> Error {
    unsupported_value(
        column,
        record,
        "is NULL and the only column, so its line would be empty; add a column in a query",
    )
}

/// The error for a cursor column that the result does not have.
pub(super) fn no_such_cursor(column: &str) -> Error {
    Error::new(ErrorKind::TableMismatch, format!("the result has no column {column:?}, which is the cursor"))
}

/// The error for a cursor column of another type.
pub(super) fn unsupported_cursor(column: &str, type_name: &str) -> Error {
    let message = format!(
        "the column {column:?} has the type {type_name} and cannot be the cursor; accepted are whole numbers, decimals, dates, \
         and dates with times"
    );
    Error::new(ErrorKind::TableMismatch, message)
}

/// Appends a field in quotes.
pub(crate) fn push_quoted(field: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for part in field.split_inclusive(|byte| *byte == b'"') {
        out.extend_from_slice(part);
        if part.ends_with(b"\"") {
            out.push(b'"');
        }
    }
    out.push(b'"');
}

/// Whether a text is a decimal number in plain digits.
pub(super) fn is_plain_number(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let is_digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    is_digits(whole) && is_digits(fraction)
}

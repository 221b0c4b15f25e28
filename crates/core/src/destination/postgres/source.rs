//! Reads a table or a query by COPY TO STDOUT, in a read-only transaction with one snapshot.
//!
//! The server writes CSV as Spillway reads it: NULL is nothing, and an empty text is `""`. A record may contain line ends, so the
//! quotes are counted.

use std::pin::pin;

use futures_util::TryStreamExt;
use tokio_postgres::SimpleQueryMessage;
use tokio_postgres::types::{Kind, Type};

use super::column::{Storage, storage};
use super::connect::Connection;
use super::failure::failure;
use super::table::quoted_table;
use crate::destination::failure::Phase;
use crate::destination::idle::Session;
use crate::destination::limits::STATEMENT_TIMEOUT;
use crate::destination::source::{
    CursorEnd, CursorRange, RecordBuffer, RecordSink, Relation, SourceColumn, is_plain_number, no_such_cursor,
    null_alone, unsupported_column, unsupported_cursor, unsupported_value,
};
use crate::destination::{Credentials, DestinationOptions};
use crate::error::{Error, ErrorKind, Result};

/// The transaction, and the spelling of values: floats with all digits, bytes in hex, intervals as PostgreSQL writes them.
const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY; SET LOCAL extra_float_digits = 3; \
                     SET LOCAL bytea_output = 'hex'; SET LOCAL intervalstyle = 'postgres'; \
                     SELECT set_config('tcp_user_timeout', '0', true) WHERE current_setting('tcp_user_timeout', true) IS NOT NULL";

/// Values of a column that a load refuses, or would store as NULL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ValueRule {
    /// Every value is stored unchanged.
    Any,
    /// NaN and infinity are not.
    Number,
    /// Infinity and years before 1000 or after 9999 are not.
    Date,
}

#[derive(Debug)]
struct ReadColumn {
    name: String,
    type_name: String,
    rule: ValueRule,
    /// The expression that reads the column.
    expression: String,
    is_cursor_type: bool,
}

/// An open snapshot.
#[derive(Debug)]
pub(crate) struct Snapshot {
    connection: Connection,
    /// The relation in SQL. Empty until it is described.
    from: String,
    columns: Vec<ReadColumn>,
}

impl Snapshot {
    pub(in crate::destination) async fn open(credentials: &Credentials, options: &DestinationOptions) -> Result<Self> {
        let mut connection = Connection::open_to_read(credentials, options).await?;
        let context = "cannot begin a snapshot";
        let begun = connection.run_within(STATEMENT_TIMEOUT, context, BEGIN).await?;
        begun.map_err(|error| failure(Phase::Connected, context, error))?;
        Ok(Self { connection, from: String::new(), columns: Vec::new() })
    }

    pub(in crate::destination) async fn describe(&mut self, relation: &Relation) -> Result<Vec<SourceColumn>> {
        self.from = relation.in_sql(quoted_table);
        let context = "cannot read the columns of the source";
        let prepared = self.connection.client()?.prepare(&format!("SELECT * FROM {}", self.from)).await;
        let statement = prepared.map_err(|error| failure_with_message(context, error))?;
        let columns = statement.columns().iter();
        self.columns = columns
            .map(|column| ReadColumn::new(column.name(), column.type_(), column.type_modifier()))
            .collect::<Result<_>>()?;
        let described =
            |column: &ReadColumn| SourceColumn { name: column.name.clone(), type_name: column.type_name.clone() };
        Ok(self.columns.iter().map(described).collect())
    }

    pub(in crate::destination) async fn cursor_end(&mut self, name: &str, after: Option<&str>) -> Result<CursorEnd> {
        let column = self.columns.iter().find(|column| column.name == name).ok_or_else(|| no_such_cursor(name))?;
        if !column.is_cursor_type {
            return Err(unsupported_cursor(name, &column.type_name));
        }
        let (cursor, is_date) = (exact(name), column.rule == ValueRule::Date);
        let condition = match after {
            Some(after) => format!(" WHERE {cursor} > {} OR {cursor} IS NULL", literal(after)),
            None => String::new(),
        };
        let sql = format!(
            "SELECT CAST(max({cursor}) AS text) AS largest, count(*) - count({cursor}) AS nulls FROM {}{condition}",
            self.from
        );
        let context = "cannot read the largest value of the cursor";
        let result = self.connection.client()?.simple_query(&sql).await;
        let messages = result.map_err(|error| failure(Phase::Connected, context, error))?;
        let row = messages.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        let get = |name| row.and_then(|row| row.try_get(name).ok().flatten());
        let largest = get("largest").map(str::to_owned);
        let nulls = get("nulls").and_then(|text| text.parse().ok()).unwrap_or_default();
        // After infinity, no later value would be extracted.
        if largest
            .as_deref()
            .is_some_and(|text| if is_date { !is_usual_date(text.as_bytes()) } else { !is_plain_number(text) })
        {
            let message =
                format!("the largest value of the cursor {name:?} is not finite, or not in the years 1000 to 9999");
            return Err(Error::new(ErrorKind::DataRefused, message));
        }
        Ok(CursorEnd { largest, nulls })
    }

    pub(in crate::destination) async fn read(
        &mut self,
        range: Option<&CursorRange>,
        sink: &mut impl RecordSink,
    ) -> Result<()> {
        let expressions: Vec<&str> = self.columns.iter().map(|column| column.expression.as_str()).collect();
        let (expressions, condition) = (expressions.join(", "), condition(range));
        let sql = format!("COPY (SELECT {expressions} FROM {}{condition}) TO STDOUT (FORMAT csv)", self.from);
        let context = "cannot read the rows";
        let failed = |error| failure(Phase::Connected, context, error);
        let mut rows = pin!(self.connection.client()?.copy_out(&sql).await.map_err(failed)?);
        let rules: Vec<ValueRule> = self.columns.iter().map(|column| column.rule).collect();
        let has_rules = rules.iter().any(|rule| *rule != ValueRule::Any);
        let mut buffer = RecordBuffer::new(sink);
        let (mut start, mut record, mut is_quoted) = (0, 0, false);
        while let Some(chunk) = rows.try_next().await.map_err(failed)? {
            // The server sends one record in each message, but does not promise it.
            buffer.records.bytes.extend_from_slice(&chunk);
            is_quoted ^= memchr::memchr_iter(b'"', &chunk).count() % 2 == 1;
            if is_quoted || !chunk.ends_with(b"\n") {
                continue;
            }
            record += 1;
            if self.columns.len() == 1 && buffer.records.bytes[start..] == *b"\n" {
                return Err(null_alone(&self.columns[0].name, record));
            }
            if has_rules && let Some(index) = refused(&rules, &buffer.records.bytes[start..]) {
                let why =
                    "has a value that a load would not store unchanged, such as NaN, infinity or a year before 1000";
                return Err(unsupported_value(&self.columns[index].name, record, why));
            }
            start = buffer.records.bytes.len();
            buffer.records.ends.push(start);
            if buffer.is_full() {
                buffer.pass_on().await?;
                start = 0;
            }
        }
        buffer.pass_on().await
    }

    pub(in crate::destination) async fn close(mut self) {
        self.connection.end_transaction().await;
        self.connection.close().await;
    }
}

impl ReadColumn {
    fn new(name: &str, column_type: &Type, modifier: i32) -> Result<Self> {
        let base = base_of(column_type);
        let type_name = column_type.name().to_owned();
        let (base_name, kind) = match (base.schema(), base.kind()) {
            (_, Kind::Enum(_)) => (base.name(), "e"),
            ("pg_catalog", _) => (base.name(), "b"),
            (_, _) => ("", "b"),
        };
        let storage = storage(base_name, kind, modifier);
        if matches!(storage, Storage::Unsupported(_)) || matches!(base.kind(), Kind::Pseudo) {
            return Err(unsupported_column(name, &type_name, "cast it to another type in a query, or leave it out"));
        }
        let rule = match storage {
            Storage::Numeric { .. } | Storage::Real | Storage::Double => ValueRule::Number,
            Storage::Date | Storage::Timestamp { .. } | Storage::Instant { .. } => ValueRule::Date,
            _ => ValueRule::Any,
        };
        let is_cursor_type =
            matches!(storage, Storage::Integer { .. } | Storage::Numeric { .. }) || rule == ValueRule::Date;
        // The server fills char(n) with spaces, which a load refuses because they are not stored.
        let expression = match storage {
            Storage::Characters { trims_spaces: true, .. } => format!("CAST({} AS text)", exact(name)),
            _ => exact(name),
        };
        Ok(Self { name: name.to_owned(), type_name, rule, expression, is_cursor_type })
    }
}

/// The quoted name of a column of the source. Names of new columns are also shortened, which must not happen here.
fn exact(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The type under all domains.
fn base_of(column_type: &Type) -> &Type {
    match column_type.kind() {
        Kind::Domain(base) => base_of(base),
        _ => column_type,
    }
}

/// The error for a statement with a query of the user. The server's message names what is wrong, and no values were read.
fn failure_with_message(context: &str, error: tokio_postgres::Error) -> Error {
    match error.as_db_error().map(|server| (server.code().code().to_owned(), server.message().to_owned())) {
        Some((state, message)) if state.starts_with("42") => {
            Error::new(ErrorKind::TableMismatch, format!("{context}: {message} (SQLSTATE {state})"))
        }
        Some(_) | None => failure(Phase::Connected, context, error),
    }
}

fn condition(range: Option<&CursorRange>) -> String {
    let Some(CursorRange { column, after, up_to }) = range else { return String::new() };
    let cursor = exact(column);
    let above = after.as_ref().map_or_else(String::new, |after| format!("{cursor} > {} AND ", literal(after)));
    format!(" WHERE {above}{cursor} <= {}", literal(up_to))
}

/// A value as a literal of unknown type, which the server reads as the type of the column.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// The first column whose rule the record breaks.
fn refused(rules: &[ValueRule], record: &[u8]) -> Option<usize> {
    let mut rest = record;
    for (index, rule) in rules.iter().enumerate() {
        let end = field_end(rest);
        let field = &rest[..end];
        let is_accepted = match rule {
            _ if field.is_empty() => true,
            ValueRule::Any => true,
            ValueRule::Number => !field.iter().any(|byte| matches!(byte, b'N' | b'I')),
            ValueRule::Date => is_usual_date(field),
        };
        if !is_accepted {
            return Some(index);
        }
        rest = rest.get(end + 1..).unwrap_or_default();
    }
    None
}

/// The end of the first field, at a comma or at the line end.
fn field_end(record: &[u8]) -> usize {
    let mut is_quoted = false;
    for at in memchr::memchr3_iter(b'"', b',', b'\n', record) {
        match record[at] {
            b'"' => is_quoted = !is_quoted,
            _ if is_quoted => {}
            _ => return at,
        }
    }
    record.len()
}

/// Whether a date, which may have a time, is in the years 1000 to 9999, as a load requires.
fn is_usual_date(field: &[u8]) -> bool {
    field.get(4) == Some(&b'-')
        && field[0] != b'0'
        && field[..4].iter().all(u8::is_ascii_digit)
        && !field.ends_with(b"BC")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_end_at_unquoted_commas() {
        use ValueRule::{Any, Date, Number};
        let rules = [Any, Number, Date];
        for (record, expected) in [
            ("\"a,\"\"b\n\",1.5,2024-01-15\n", None),
            (",,\n", None),
            ("NaN,NaN,2024-01-15\n", Some(1)),
            ("\"\",-Infinity,2024-01-15\n", Some(1)),
            ("a,1e300,infinity\n", Some(2)),
            ("a,1,12024-01-15 00:00:00\n", Some(2)),
            ("a,1,0044-03-15 BC\n", Some(2)),
        ] {
            assert_eq!(refused(&rules, record.as_bytes()), expected, "{record}");
        }
    }

    #[test]
    fn range_has_literals() {
        let range = CursorRange { column: "at\"".into(), after: Some("it's".into()), up_to: "7".into() };
        assert_eq!(condition(Some(&range)), " WHERE \"at\"\"\" > 'it''s' AND \"at\"\"\" <= '7'");
        assert_eq!(condition(None), "");
    }
}

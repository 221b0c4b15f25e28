//! Reads a table or a query as an unbuffered result of text, in a read-only transaction with one snapshot.
//!
//! The session's time zone is UTC. Text is written in quotes, so that NULL and an empty text differ.

use mysql_async::consts::{ColumnFlags, ColumnType};
use mysql_async::prelude::Queryable;
use mysql_async::{Column, Row, Value};

use super::connect::Connection;
use super::failure::failure;
use super::table::{quoted, quoted_table};
use crate::destination::failure::{Phase, unexpected_response};
use crate::destination::idle::Session;
use crate::destination::source::{
    CursorEnd, CursorRange, RecordBuffer, RecordSink, Relation, SourceColumn, is_plain_number, no_such_cursor,
    null_alone, push_quoted, unsupported_column, unsupported_cursor, unsupported_value,
};
use crate::destination::{Credentials, DestinationOptions};
use crate::error::{Error, Result};
use crate::ledger::LedgerConnection;

/// The server may wait this many seconds until S3 has received a part.
const SET_WRITE_TIMEOUT: &str = "SET SESSION net_write_timeout = 600";

/// In this isolation level, a transaction has one snapshot.
const SET_ISOLATION: &str = "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ";

const BEGIN: &str = "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY";

/// The number of the character set of bytes.
const BINARY: u16 = 63;

/// How the values of a column are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// Numbers, as the server writes them.
    Number,
    /// Dates, with or without a time. Zero dates and years before 1000 are refused, as by a load.
    Date,
    /// Times. A load refuses those from 838 hours on.
    Time,
    /// Text in quotes.
    Text,
    /// Bytes in quotes, if they are UTF-8.
    Bytes,
}

#[derive(Debug)]
struct ReadColumn {
    name: String,
    type_name: String,
    form: Form,
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
        for statement in [SET_WRITE_TIMEOUT, SET_ISOLATION, BEGIN] {
            connection.run(context, statement).await?;
        }
        Ok(Self { connection, from: String::new(), columns: Vec::new() })
    }

    pub(in crate::destination) async fn describe(&mut self, relation: &Relation) -> Result<Vec<SourceColumn>> {
        self.from = relation.in_sql(quoted_table);
        let context = "cannot read the columns of the source";
        let prepared = self.connection.conn()?.prep(format!("SELECT * FROM {}", self.from)).await;
        let statement = prepared.map_err(|error| failure(Phase::Connected, context, error))?;
        self.columns = statement.columns().iter().map(ReadColumn::new).collect::<Result<_>>()?;
        let _ = self.connection.conn()?.close(statement).await;
        let described =
            |column: &ReadColumn| SourceColumn { name: column.name.clone(), type_name: column.type_name.clone() };
        Ok(self.columns.iter().map(described).collect())
    }

    pub(in crate::destination) async fn cursor_end(&mut self, name: &str, after: Option<&str>) -> Result<CursorEnd> {
        let column = self.columns.iter().find(|column| column.name == name).ok_or_else(|| no_such_cursor(name))?;
        if !column.is_cursor_type {
            return Err(unsupported_cursor(name, &column.type_name));
        }
        let cursor = quoted(name);
        let condition = match after {
            Some(after) => format!(" WHERE {cursor} > {} OR {cursor} IS NULL", literal(after)),
            None => String::new(),
        };
        let sql =
            format!("SELECT CAST(MAX({cursor}) AS CHAR), COUNT(*) - COUNT({cursor}) FROM {}{condition}", self.from);
        let context = "cannot read the largest value of the cursor";
        let row: Option<(Option<String>, u64)> = self
            .connection
            .conn()?
            .query_first(sql)
            .await
            .map_err(|error| failure(Phase::Connected, context, error))?;
        let (largest, nulls) = row.ok_or_else(|| unexpected_response(context))?;
        Ok(CursorEnd { largest, nulls })
    }

    pub(in crate::destination) async fn read(
        &mut self,
        range: Option<&CursorRange>,
        sink: &mut impl RecordSink,
    ) -> Result<()> {
        let expressions: Vec<&str> = self.columns.iter().map(|column| column.expression.as_str()).collect();
        let sql = format!("SELECT {} FROM {}{}", expressions.join(", "), self.from, condition(range));
        let context = "cannot read the rows";
        let failed = |error| failure(Phase::Connected, context, error);
        let mut rows = self.connection.conn()?.query_iter(sql).await.map_err(failed)?;
        let (mut buffer, mut record) = (RecordBuffer::new(sink), 0);
        while let Some(row) = rows.next().await.map_err(failed)? {
            record += 1;
            write_record(&self.columns, record, row, &mut buffer.records.bytes)?;
            buffer.records.end_record();
            if buffer.is_full() {
                buffer.pass_on().await?;
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
    fn new(column: &Column) -> Result<Self> {
        use ColumnType::{
            MYSQL_TYPE_BIT, MYSQL_TYPE_BLOB, MYSQL_TYPE_DATE, MYSQL_TYPE_DATETIME, MYSQL_TYPE_DECIMAL,
            MYSQL_TYPE_DOUBLE, MYSQL_TYPE_ENUM, MYSQL_TYPE_FLOAT, MYSQL_TYPE_INT24, MYSQL_TYPE_JSON, MYSQL_TYPE_LONG,
            MYSQL_TYPE_LONG_BLOB, MYSQL_TYPE_LONGLONG, MYSQL_TYPE_MEDIUM_BLOB, MYSQL_TYPE_NEWDECIMAL, MYSQL_TYPE_SET,
            MYSQL_TYPE_SHORT, MYSQL_TYPE_STRING, MYSQL_TYPE_TIME, MYSQL_TYPE_TIMESTAMP, MYSQL_TYPE_TINY,
            MYSQL_TYPE_TINY_BLOB, MYSQL_TYPE_VAR_STRING, MYSQL_TYPE_VARCHAR, MYSQL_TYPE_YEAR,
        };
        let name = column.name_str().into_owned();
        let unquoted = quoted(&name);
        let is_binary = column.character_set() == BINARY;
        let (type_name, form, expression) = match column.column_type() {
            MYSQL_TYPE_TINY => ("tinyint", Form::Number, unquoted),
            MYSQL_TYPE_SHORT => ("smallint", Form::Number, unquoted),
            MYSQL_TYPE_INT24 => ("mediumint", Form::Number, unquoted),
            MYSQL_TYPE_LONG => ("int", Form::Number, unquoted),
            MYSQL_TYPE_LONGLONG => ("bigint", Form::Number, unquoted),
            MYSQL_TYPE_DECIMAL | MYSQL_TYPE_NEWDECIMAL => ("decimal", Form::Number, unquoted),
            MYSQL_TYPE_YEAR => ("year", Form::Number, unquoted),
            // The server writes a FLOAT with six digits, and a DOUBLE with all that it needs.
            MYSQL_TYPE_FLOAT => ("float", Form::Number, format!("{unquoted} + 0.0e0")),
            MYSQL_TYPE_DOUBLE => ("double", Form::Number, unquoted),
            MYSQL_TYPE_BIT => ("bit", Form::Number, format!("{unquoted} + 0")),
            MYSQL_TYPE_DATE => ("date", Form::Date, unquoted),
            MYSQL_TYPE_DATETIME => ("datetime", Form::Date, unquoted),
            MYSQL_TYPE_TIMESTAMP => ("timestamp", Form::Date, unquoted),
            MYSQL_TYPE_TIME => ("time", Form::Time, unquoted),
            MYSQL_TYPE_JSON => ("json", Form::Text, unquoted),
            MYSQL_TYPE_ENUM => ("enum", Form::Text, unquoted),
            MYSQL_TYPE_SET => ("set", Form::Text, unquoted),
            MYSQL_TYPE_STRING if column.flags().contains(ColumnFlags::ENUM_FLAG) => ("enum", Form::Text, unquoted),
            MYSQL_TYPE_STRING if column.flags().contains(ColumnFlags::SET_FLAG) => ("set", Form::Text, unquoted),
            MYSQL_TYPE_STRING if is_binary => ("binary", Form::Bytes, unquoted),
            MYSQL_TYPE_STRING => ("char", Form::Text, unquoted),
            MYSQL_TYPE_VARCHAR | MYSQL_TYPE_VAR_STRING if is_binary => ("varbinary", Form::Bytes, unquoted),
            MYSQL_TYPE_VARCHAR | MYSQL_TYPE_VAR_STRING => ("varchar", Form::Text, unquoted),
            MYSQL_TYPE_TINY_BLOB | MYSQL_TYPE_BLOB | MYSQL_TYPE_MEDIUM_BLOB | MYSQL_TYPE_LONG_BLOB if is_binary => {
                ("blob", Form::Bytes, unquoted)
            }
            MYSQL_TYPE_TINY_BLOB | MYSQL_TYPE_BLOB | MYSQL_TYPE_MEDIUM_BLOB | MYSQL_TYPE_LONG_BLOB => {
                ("text", Form::Text, unquoted)
            }
            ColumnType::MYSQL_TYPE_GEOMETRY => {
                return Err(unsupported_column(
                    &name,
                    "geometry",
                    "select ST_AsText of it in a query, or leave it out",
                ));
            }
            other => {
                return Err(unsupported_column(&name, &format!("{other:?}"), "leave it out in a query"));
            }
        };
        let is_whole_or_decimal = form == Form::Number && !matches!(type_name, "float" | "double" | "bit" | "year");
        let is_unsigned = is_whole_or_decimal && column.flags().contains(ColumnFlags::UNSIGNED_FLAG);
        let type_name = if is_unsigned { format!("{type_name} unsigned") } else { type_name.to_owned() };
        let is_cursor_type = is_whole_or_decimal || form == Form::Date;
        Ok(Self { name, type_name, form, expression, is_cursor_type })
    }
}

fn write_record(columns: &[ReadColumn], record: u64, row: Row, out: &mut Vec<u8>) -> Result<()> {
    for (index, (column, value)) in columns.iter().zip(row.unwrap()).enumerate() {
        if index > 0 {
            out.push(b',');
        }
        let text = match value {
            Value::NULL if columns.len() == 1 => return Err(null_alone(&column.name, record)),
            Value::NULL => continue,
            Value::Bytes(text) => text,
            other => other.as_sql(true).into_bytes(),
        };
        let refused = |why: &str| -> Error { unsupported_value(&column.name, record, why) };
        match column.form {
            Form::Number => out.extend_from_slice(&text),
            Form::Date if text.starts_with(b"0") || memchr::memmem::find(&text, b"-00").is_some() => {
                return Err(refused("has a date with a zero, such as 0000-00-00, or a year before 1000"));
            }
            Form::Time if text.starts_with(b"838:") || text.starts_with(b"-838:") => {
                return Err(refused("has a time of 838 hours, which a load refuses"));
            }
            Form::Date | Form::Time => out.extend_from_slice(&text),
            Form::Bytes if std::str::from_utf8(&text).is_err() => {
                return Err(refused(
                    "has bytes that are not UTF-8, which CSV cannot contain; select HEX of it in a query",
                ));
            }
            Form::Text | Form::Bytes => push_quoted(&text, out),
        }
    }
    Ok(())
}

fn condition(range: Option<&CursorRange>) -> String {
    let Some(CursorRange { column, after, up_to }) = range else { return String::new() };
    let cursor = quoted(column);
    let above = after.as_ref().map_or_else(String::new, |after| format!("{cursor} > {} AND ", literal(after)));
    format!(" WHERE {above}{cursor} <= {}", literal(up_to))
}

/// A number without quotes, because the server would compare a number with a text as floats. Dates are quoted.
fn literal(text: &str) -> String {
    match is_plain_number(text) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_a_range_have_no_quotes() {
        let range = |after: &str, up_to: &str| CursorRange {
            column: "n".into(),
            after: Some(after.into()),
            up_to: up_to.into(),
        };
        assert_eq!(
            condition(Some(&range("9007199254740993", "-1.50"))),
            " WHERE `n` > 9007199254740993 AND `n` <= -1.50"
        );
        assert_eq!(
            condition(Some(&range("2024-01-15", "x' OR 1\\"))),
            " WHERE `n` > '2024-01-15' AND `n` <= 'x'' OR 1\\\\'"
        );
    }
}

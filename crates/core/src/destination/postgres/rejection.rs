//! Converts the server's errors about sent rows into an error with record, column and constraint.
//!
//! Server messages contain row values. Only three parts of their text are used: the line number in the context of COPY,
//! the name of a column of the table, and the name of a constraint.

use tokio_postgres::error::DbError;

use super::codes::{UNIQUE_VIOLATION, kind_of, reason};
use super::column::TableColumn;
use super::failure::{failure, server_failure, state};
use crate::destination::codes::NOT_STORED;
use crate::destination::failure::Phase;
use crate::error::{Error, ErrorKind, Position, Result};
use spillway_formats::numbers::{counted, with_thousands};

/// Converts an error that the server returned for a COPY. `first_record` is the record of its first row, if its rows are
/// consecutive records.
pub(super) fn of_rows(
    context: &str,
    server: &DbError,
    table: &str,
    columns: &[TableColumn],
    first_record: Option<u64>,
) -> Error {
    let mut error = row_rejected(context, server, columns);
    // The server stores rows in groups. A row that exceeds a limit of the storage is found then, and the line is that of the last row read.
    let names_row = server.code() != &tokio_postgres::error::SqlState::PROGRAM_LIMIT_EXCEEDED;
    if let Some((line, rest)) = copy_line(server.where_().unwrap_or_default(), table).filter(|_| names_row) {
        if let Some(first_record) = first_record {
            error = error.at(Position { record: first_record + line.saturating_sub(1), line: 0, byte: 0 });
        }
        if let Some(column) = column(rest, columns).filter(|_| error.column().is_none()) {
            error = error.in_column(column);
        }
    }
    error
}

/// Converts an error of a statement whose rows are not in file order. The result names no record.
pub(super) fn of_statement(context: &str, error: tokio_postgres::Error, columns: &[TableColumn]) -> Error {
    match error.as_db_error() {
        Some(server) => row_rejected(context, server, columns),
        None => failure(Phase::Connected, context, error),
    }
}

/// Checks a row count. A trigger can skip rows, and only the count shows that.
pub(super) fn check_count(table: &str, action: &str, rows: u64, expected: u64) -> Result<()> {
    if rows == expected {
        return Ok(());
    }
    let message = format!(
        "the server {action} {} of {}: a trigger of table {table} skips rows",
        with_thousands(rows),
        counted(expected, "row")
    );
    Err(Error::new(ErrorKind::DataRefused, message))
}

/// Whether a unique constraint was violated.
pub(super) fn is_unique_violation(error: &tokio_postgres::Error) -> bool {
    state(error) == Some(UNIQUE_VIOLATION)
}

fn row_rejected(context: &str, server: &DbError, columns: &[TableColumn]) -> Error {
    let state = server.code().code();
    // An unknown code about sent rows is about the data: a trigger may raise any SQLSTATE.
    let kind = kind_of(state).unwrap_or(ErrorKind::DataRefused);
    if kind != ErrorKind::DataRefused {
        return server_failure(context, server);
    }
    let reason = reason(state).unwrap_or(NOT_STORED);
    let constraint = server.constraint().map(|name| format!(", constraint {name}")).unwrap_or_default();
    let error = Error::new(kind, format!("{context}: {reason} (SQLSTATE {state}{constraint})"));
    match server.column().and_then(|name| known_column(columns, name)) {
        Some(column) => error.in_column(column),
        None => error,
    }
}

/// Returns the line in "COPY orders, line 7, column c: …", and the text after the number.
///
/// The context is in the server's language. Values occur only after the number.
fn copy_line<'a>(context: &'a str, table: &str) -> Option<(u64, &'a str)> {
    let head = format!("COPY {table}, ");
    let rest = context.lines().find_map(|line| line.strip_prefix(head.as_str()))?;
    let start = rest.find(|character: char| character.is_ascii_digit())?;
    let digits = rest[start..].find(|character: char| !character.is_ascii_digit()).unwrap_or(rest.len() - start);
    let line = rest[start..start + digits].parse().ok().filter(|line| *line > 0)?;
    Some((line, &rest[start + digits..]))
}

/// Returns the column in ", column c: …", if it is one of `columns`.
fn column<'a>(rest: &str, columns: &'a [TableColumn]) -> Option<&'a str> {
    let rest = rest.strip_prefix(", column ")?;
    let is_named = |name: &&str| rest.strip_prefix(*name).is_some_and(|rest| rest.is_empty() || rest.starts_with(": "));
    columns.iter().map(|column| column.name.as_str()).find(is_named).or_else(|| {
        // "…, column c, null input"
        let name = rest.split_once(", ")?.0;
        known_column(columns, name)
    })
}

fn known_column<'a>(columns: &'a [TableColumn], name: &str) -> Option<&'a str> {
    columns.iter().map(|column| column.name.as_str()).find(|known| *known == name)
}

#[cfg(test)]
mod tests {
    use super::super::column::column_of;
    use super::*;

    #[test]
    fn context_gives_line_and_column_without_value() {
        let columns = [column_of("int4", -1)];
        for (context, line, expected) in [
            ("COPY orders, line 3, column c: \"top, secret\"", 3, Some("c")),
            ("COPY orders, Zeile 12", 12, None),
            ("PL/pgSQL function guard() line 2 at RAISE\nCOPY orders, line 7: \"1\tcolumn c\"", 7, None),
            ("COPY orders, line 1, column secret: \"x\"", 1, None),
        ] {
            let (found, rest) = copy_line(context, "orders").unwrap();
            assert_eq!((found, column(rest, &columns)), (line, expected), "{context}");
        }
        assert!(copy_line("COPY other, line 3", "orders").is_none());
        assert!(copy_line("", "orders").is_none());
    }
}

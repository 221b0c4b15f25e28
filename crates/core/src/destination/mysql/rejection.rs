//! Converts the server's errors and warnings about sent rows into one error with record and column.
//!
//! Server messages contain row values. Only two parts of a message are used: the row number at the end, and the name of
//! a column of the table.

use crate::destination::codes::NOT_STORED;
use crate::destination::failure::Phase;
use crate::error::{Error, ErrorKind, Position, Result};
use spillway_formats::numbers::{counted, with_thousands};

use super::codes::{kind_of, reason};
use super::column::TableColumn;
use super::connect::{Connection, StatementResult};
use super::failure::failure;

/// The rows that one statement sends, copies or changes.
#[derive(Debug, Clone, Copy)]
pub(super) struct SentRows<'a> {
    pub(super) columns: &'a [TableColumn],
    /// Number of rows.
    pub(super) count: u64,
    /// The record of the first row. `None` if the rows are not consecutive records, and then an error names no record.
    pub(super) first_record: Option<u64>,
}

/// Whether an error of a statement is about the values of its rows. An unknown error is, as far as Spillway can know.
pub(super) fn is_about_rows(error: &mysql_async::ServerError) -> bool {
    matches!(kind_of(error.code, &error.state), ErrorKind::DataRefused | ErrorKind::Internal)
}

/// Converts the server's error, if there is one.
pub(super) fn check_error(
    result: Result<StatementResult, mysql_async::Error>,
    context: &str,
    rows: &SentRows<'_>,
) -> Result<StatementResult> {
    result.map_err(|error| match error {
        mysql_async::Error::Server(server) if is_about_rows(&server) || reason(server.code).is_some() => {
            from_message(context, server.code, &server.message, rows)
        }
        error => failure(Phase::Connected, context, error),
    })
}

/// Checks that the last statement has stored every row without a warning.
pub(super) async fn check_stored(
    connection: &mut Connection,
    result: StatementResult,
    rows: &SentRows<'_>,
) -> Result<()> {
    if result.affected_rows == rows.count && result.warnings == 0 {
        return Ok(());
    }
    Err(from_warnings(connection, result, rows).await)
}

/// Reads the warnings of the last statement. Returns an error with the reason of the first real warning.
pub(super) async fn from_warnings(connection: &mut Connection, result: StatementResult, rows: &SentRows<'_>) -> Error {
    let StatementResult { affected_rows, warnings } = result;
    let counts = format!(
        "the server stored {} of {} with {}",
        with_thousands(affected_rows),
        counted(rows.count, "row"),
        counted(warnings.into(), "warning")
    );
    let warnings: Vec<(String, u16, String)> =
        match connection.rows("cannot read the warnings", "SHOW WARNINGS LIMIT 8", ()).await {
            Ok(warnings) => warnings,
            Err(error) => return Error::new(ErrorKind::DataRefused, counts).with_source(error),
        };
    let worst = warnings.iter().find(|(level, _, _)| level != "Note").or(warnings.first());
    match worst {
        Some((_, code, message)) => from_message(&counts, *code, message, rows),
        None => Error::new(ErrorKind::DataRefused, counts),
    }
}

/// The error for a server message about sent rows.
pub(super) fn from_message(context: &str, code: u16, message: &str, rows: &SentRows<'_>) -> Error {
    let kind = match kind_of(code, "") {
        // An unknown code about sent rows is about the data.
        ErrorKind::Internal => ErrorKind::DataRefused,
        kind => kind,
    };
    let reason = reason(code).unwrap_or(NOT_STORED);
    let mut error = Error::new(kind, format!("{context}: {reason} (server code {code})"));
    if let (Some(first_record), Some(row)) = (rows.first_record, row_number(message).filter(|row| *row > 0)) {
        error = error.at(Position { record: first_record + row - 1, line: 0, byte: 0 });
    }
    if let Some(column) = column_name(message, rows.columns) {
        error = error.in_column(column);
    }
    error
}

/// Returns the number in "… at row 7".
fn row_number(message: &str) -> Option<u64> {
    let (_, number) = message.rsplit_once(" at row ")?;
    number.parse().ok()
}

/// Returns the column in "… column 'c' at row 7" or "… column `db`.`table`.`c` at row 7", if it is one of `columns`.
fn column_name<'a>(message: &str, columns: &'a [TableColumn]) -> Option<&'a str> {
    let (_, rest) = message.rsplit_once("olumn ")?;
    let (quoted, _) = rest.rsplit_once(" at row ").unwrap_or((rest, ""));
    columns
        .iter()
        .map(|column| column.name.as_str())
        .find(|name| quoted.starts_with(&format!("'{name}'")) || quoted.ends_with(&format!("`{name}`")))
}

#[cfg(test)]
mod tests {
    use super::super::column::column_of;
    use super::*;

    fn row_rejected(code: u16, message: &str) -> Error {
        let columns = [column_of("int(11)")];
        from_message("x", code, message, &SentRows { columns: &columns, count: 9, first_record: Some(101) })
    }

    #[test]
    fn row_and_column_are_read_from_both_dialects() {
        for message in [
            "Out of range value for column 'c' at row 3",
            "Incorrect integer value: 'at row 9' for column `d`.`t`.`c` at row 3",
        ] {
            let error = row_rejected(1264, message);
            assert_eq!(error.position().map(|position| position.record), Some(103), "{message}");
            assert_eq!(error.column(), Some("c"), "{message}");
            assert_eq!(error.kind(), ErrorKind::DataRefused);
        }
    }

    #[test]
    fn error_that_is_not_about_rows_keeps_its_message() {
        let columns = [column_of("int(11)")];
        let rows = SentRows { columns: &columns, count: 9, first_record: None };
        for (code, kind) in [(1142, ErrorKind::Privilege), (1213, ErrorKind::Conflict), (1969, ErrorKind::Capacity)] {
            let server = mysql_async::ServerError { code, state: "HY000".into(), message: "the reason".into() };
            let error = check_error(Err(server.into()), "cannot update the rows", &rows).unwrap_err();
            let text = crate::error::chain(&error);
            assert_eq!(error.kind(), kind);
            assert!(text.contains("the reason") && !text.contains(NOT_STORED), "{text}");
        }
    }

    #[test]
    fn error_does_not_quote_value() {
        let error = row_rejected(1062, "Duplicate entry 'for column 'secret' at row x' for key 'PRIMARY'");
        assert_eq!((error.position(), error.column()), (None, None));
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}

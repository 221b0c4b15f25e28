//! Converts the server's warnings and errors about sent rows into one error with record and column.
//!
//! Server messages contain row values. Only two parts of their text are used: the row number at the end, and the name
//! of a column of the table.

use crate::destination::failure::Phase;
use crate::error::{Error, ErrorKind, Position, Result};

use super::codes::{kind_of, reason};
use super::column::TableColumn;
use super::connect::{Connection, Outcome};
use super::failure::failure;

/// Converts a server error about a statement's rows into an error with record and column.
///
/// Without `first_record` the statement's rows are not in file order, so the error names no record.
pub(super) fn checked(
    outcome: Result<Outcome, mysql_async::Error>,
    doing: &str,
    columns: &[TableColumn],
    first_record: Option<u64>,
) -> Result<Outcome> {
    match outcome {
        Ok(outcome) => Ok(outcome),
        Err(mysql_async::Error::Server(server)) => {
            Err(from_message(doing, server.code, &server.message, columns, first_record))
        }
        Err(error) => Err(failure(Phase::Connected, doing, error)),
    }
}

/// Reads the warnings of the last statement. Returns an error with the reason of the first real warning.
pub(super) async fn from_warnings(
    connection: &mut Connection,
    columns: &[TableColumn],
    first_record: Option<u64>,
    outcome: Outcome,
    sent_rows: u64,
) -> Error {
    let counts =
        format!("the server stored {} of {sent_rows} rows with {} warnings", outcome.affected_rows, outcome.warnings);
    let warnings: Vec<(String, u16, String)> =
        match connection.rows("cannot read the warnings", "SHOW WARNINGS LIMIT 8", ()).await {
            Ok(warnings) => warnings,
            Err(error) => return Error::new(ErrorKind::DataRefused, counts).with_source(error),
        };
    let worst = warnings.iter().find(|(level, _, _)| level != "Note").or(warnings.first());
    match worst {
        Some((_, code, message)) => from_message(&counts, *code, message, columns, first_record),
        None => Error::new(ErrorKind::DataRefused, counts),
    }
}

/// The error for a server message about sent rows.
fn from_message(what: &str, code: u16, message: &str, columns: &[TableColumn], first_record: Option<u64>) -> Error {
    let kind = match kind_of(code, "") {
        // An unknown code about sent rows is about the data.
        ErrorKind::Internal => ErrorKind::DataRefused,
        kind => kind,
    };
    let mut error = Error::new(kind, format!("{what}: {} (server code {code})", reason(code)));
    if let (Some(first_record), Some(row)) = (first_record, row_number(message).filter(|row| *row > 0)) {
        error = error.at(Position { record: first_record + row - 1, line: 0, byte: 0 });
    }
    if let Some(column) = column_name(message, columns) {
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

    fn value_rejected(code: u16, message: &str) -> Error {
        from_message("x", code, message, &[column_of("int(11)")], Some(101))
    }

    #[test]
    fn row_and_column_are_read_from_both_dialects() {
        for message in [
            "Out of range value for column 'c' at row 3",
            "Incorrect integer value: 'at row 9' for column `d`.`t`.`c` at row 3",
        ] {
            let error = value_rejected(1264, message);
            assert_eq!(error.position().map(|position| position.record), Some(103), "{message}");
            assert_eq!(error.column(), Some("c"), "{message}");
            assert_eq!(error.kind(), ErrorKind::DataRefused);
        }
    }

    #[test]
    fn error_does_not_quote_value() {
        let error = value_rejected(1062, "Duplicate entry 'for column 'secret' at row x' for key 'PRIMARY'");
        assert_eq!((error.position(), error.column()), (None, None));
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}

//! What the server holds against rows that were sent: warnings and errors turned into one error with record and column.
//!
//! Messages of the server contain row values. Of their text only two things are ever used: the row number at its end, and a
//! column name that is one of ours.

use crate::destination::limits::Phase;
use crate::error::{Error, ErrorKind, Position, Result};

use super::column::TargetColumn;
use super::connect::{Connection, Outcome};
use super::failure::{failure, kind_of};

/// The outcome of a statement with rows in it; an error of the server is told by code, record and column. Without a first
/// record the statement's rows are not the file's in their order, and no record is told.
pub(super) fn checked(
    outcome: Result<Outcome, mysql_async::Error>,
    doing: &str,
    columns: &[TargetColumn],
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

/// Reads the warnings of the statement before, and makes an error of the first that says why.
pub(super) async fn from_warnings(
    connection: &mut Connection,
    columns: &[TargetColumn],
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

/// The error for an error message of the server to rows that were sent.
fn from_message(what: &str, code: u16, message: &str, columns: &[TargetColumn], first_record: Option<u64>) -> Error {
    let kind = match kind_of(code, "") {
        // Sent with a warning, whatever we do not know is about the data.
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

fn reason(code: u16) -> &'static str {
    match code {
        1022 | 1062 | 1586 => "a row with the same unique key exists, in the table or in the file",
        1048 | 1263 => "a NOT NULL column has no value",
        1217 | 1451 => "a foreign key of another table names a row that would be deleted",
        1216 | 1452 => "a foreign key names a row that does not exist",
        3819 | 4025 => "a CHECK constraint of the table refuses a row",
        1264 | 1690 => "a value is out of the column's range",
        1406 => "a value is too long for its column",
        1292 | 1366 | 1411 | 1525 => "a value is not of its column's type, or has characters its character set lacks",
        1265 => "a value would be cut or rounded",
        1644 => "a trigger of the table refuses a row",
        1301 | 1153 => "a value is larger than max_allowed_packet",
        3140 | 3141 | 4038 => "a value is no JSON",
        _ => "a row was not taken as it is",
    }
}

/// The number in "… at row 7".
fn row_number(message: &str) -> Option<u64> {
    let (_, number) = message.rsplit_once(" at row ")?;
    number.parse().ok()
}

/// The column in "… column 'c' at row 7" or "… column `db`.`table`.`c` at row 7", when it is one of ours.
fn column_name<'a>(message: &str, columns: &'a [TargetColumn]) -> Option<&'a str> {
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
    fn row_and_column_come_from_both_dialects() {
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
    fn a_message_gives_no_value_away() {
        let error = value_rejected(1062, "Duplicate entry 'for column 'secret' at row x' for key 'PRIMARY'");
        assert_eq!((error.position(), error.column()), (None, None));
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}

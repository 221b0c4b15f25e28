//! What the server holds against rows that were sent, as one error with record, column and constraint.
//!
//! Messages of the server contain row values. Of its texts only these are ever used: the line number in the context of COPY,
//! a column's name when it is one of ours, and a constraint's name.

use tokio_postgres::error::DbError;

use super::column::TargetColumn;
use super::failure::{failure, kind_of, server_failure, state};
use crate::destination::limits::Phase;
use crate::error::{Error, ErrorKind, Position};

/// A row with the same unique key exists.
pub(super) const UNIQUE_VIOLATION: &str = "23505";

/// The error for an answer to a COPY whose first row is this record of the file.
pub(super) fn of_rows(
    doing: &str,
    answer: &DbError,
    table: &str,
    columns: &[TargetColumn],
    first_record: u64,
) -> Error {
    let mut error = value_rejected(doing, answer, columns);
    if let Some((line, rest)) = place(answer.where_().unwrap_or_default(), table) {
        error = error.at(Position { record: first_record + line.saturating_sub(1), line: 0, byte: 0 });
        if let Some(column) = column(rest, columns).filter(|_| error.column().is_none()) {
            error = error.in_column(column);
        }
    }
    error
}

/// The error of a statement whose rows are not the file's in their order, so that no record can be told.
pub(super) fn of_statement(doing: &str, error: tokio_postgres::Error, columns: &[TargetColumn]) -> Error {
    match error.as_db_error() {
        Some(answer) => value_rejected(doing, answer, columns),
        None => failure(Phase::Connected, doing, error),
    }
}

/// Whether a row with the same unique key exists.
pub(super) fn is_unique_violation(error: &tokio_postgres::Error) -> bool {
    state(error) == Some(UNIQUE_VIOLATION)
}

fn value_rejected(doing: &str, answer: &DbError, columns: &[TargetColumn]) -> Error {
    let state = answer.code().code();
    // In the middle of rows, whatever nobody knows is about the data: a trigger may raise what it likes.
    let kind = kind_of(state).unwrap_or(ErrorKind::DataRefused);
    if kind != ErrorKind::DataRefused {
        return server_failure(doing, answer);
    }
    let constraint = answer.constraint().map(|name| format!(", constraint {name}")).unwrap_or_default();
    let error = Error::new(kind, format!("{doing}: {} (SQLSTATE {state}{constraint})", reason(state)));
    match answer.column().and_then(|name| known(columns, name)) {
        Some(column) => error.in_column(column),
        None => error,
    }
}

fn reason(state: &str) -> &'static str {
    match state {
        "23505" => "a row with the same unique key exists, in the table or in the file",
        "23502" => "a column that must have a value has none",
        "23001" => "a foreign key of another table names a row that would be deleted",
        "23503" => "a foreign key names a row that does not exist, or that would be deleted",
        "23514" => "a check or the bounds of the partitions refuse a row",
        "23P01" => "an exclusion constraint refuses a row",
        "22003" => "a value is out of the column's range",
        "22001" => "a value is too long for its column",
        "22P05" | "22021" => "a value has characters that the database's encoding or type cannot hold",
        "22P02" | "22007" | "22008" | "22P03" => "a value is not of its column's type",
        "22030" | "22032" => "a value is no JSON that the column takes",
        "P0001" => "a trigger of the table refuses a row",
        _ => "a row was not taken as it is",
    }
}

/// The line in "COPY orders, line 7, column c: …", and what follows the number. The words are in the server's language;
/// a value stands behind the number only.
fn place<'a>(context: &'a str, table: &str) -> Option<(u64, &'a str)> {
    let head = format!("COPY {table}, ");
    let rest = context.lines().find_map(|line| line.strip_prefix(head.as_str()))?;
    let start = rest.find(|character: char| character.is_ascii_digit())?;
    let digits = rest[start..].find(|character: char| !character.is_ascii_digit()).unwrap_or(rest.len() - start);
    let line = rest[start..start + digits].parse().ok().filter(|line| *line > 0)?;
    Some((line, &rest[start + digits..]))
}

/// The column in ", column c: …", when it is one of ours.
fn column<'a>(rest: &str, columns: &'a [TargetColumn]) -> Option<&'a str> {
    let rest = rest.strip_prefix(", column ")?;
    let is_it = |name: &&str| rest.strip_prefix(*name).is_some_and(|rest| rest.is_empty() || rest.starts_with(": "));
    columns.iter().map(|column| column.name.as_str()).find(is_it).or_else(|| {
        // "…, column c, null input"
        let name = rest.split_once(", ")?.0;
        known(columns, name)
    })
}

fn known<'a>(columns: &'a [TargetColumn], name: &str) -> Option<&'a str> {
    columns.iter().map(|column| column.name.as_str()).find(|known| *known == name)
}

#[cfg(test)]
mod tests {
    use super::super::column::column_of;
    use super::*;

    #[test]
    fn line_and_column_come_from_the_context_and_a_value_does_not() {
        let columns = [column_of("int4", -1)];
        for (context, line, expected) in [
            ("COPY orders, line 3, column c: \"top, secret\"", 3, Some("c")),
            ("COPY orders, Zeile 12", 12, None),
            ("PL/pgSQL function guard() line 2 at RAISE\nCOPY orders, line 7: \"1\tcolumn c\"", 7, None),
            ("COPY orders, line 1, column secret: \"x\"", 1, None),
        ] {
            let (found, rest) = place(context, "orders").unwrap();
            assert_eq!((found, column(rest, &columns)), (line, expected), "{context}");
        }
        assert!(place("COPY other, line 3", "orders").is_none());
        assert!(place("", "orders").is_none());
    }
}

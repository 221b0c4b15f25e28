//! INSERT with many rows each, where the server does not allow LOAD DATA LOCAL.
//!
//! Statements stay below the server's `max_allowed_packet`. Strict mode makes most bad values errors here; the rest are
//! warnings, and none is accepted.

use std::time::Duration;

use super::column::{Storage, TargetColumn};
use super::connect::Connection;
use super::rejection;
use super::rows::{Form, write};
use super::table::quoted;
use crate::destination::rows::Rows;
use crate::error::{Error, ErrorKind, Result};

/// The largest statement that is built, whatever the server would take.
const STATEMENT_BYTES: usize = 4 * 1024 * 1024;
/// The longest time one statement may take.
const LIMIT: Duration = Duration::from_secs(120);
const DOING: &str = "cannot insert the rows";

/// Inserts rows into `table` until about `limit_bytes` were sent or the file ends. Answers how many, and whether it was
/// the end.
pub(super) async fn load(
    connection: &mut Connection,
    table: &str,
    columns: &[TargetColumn],
    rows: &mut Rows<'_, Storage>,
    limit_bytes: u64,
) -> Result<(u64, bool)> {
    let accepted_before = rows.accepted;
    let names: Vec<String> = columns.iter().map(|column| quoted(&column.name)).collect();
    let head = format!("INSERT INTO {} ({}) VALUES ", quoted(table), names.join(", ")).into_bytes();
    // The packet's header and a margin.
    let largest = connection.facts.max_allowed_packet.saturating_sub(1024);
    let mut statement = Statement { head, body: Vec::new(), rows: 0, first_record: 1 };
    let (mut row, mut scratch) = (Vec::new(), Vec::new());
    let mut sent_bytes = 0;
    while rows.advance().await? {
        row.clear();
        row.push(b'(');
        if !write::<Literal>(rows, &mut scratch, &mut row)? {
            continue;
        }
        row.push(b')');
        let record = rows.position().record;
        if statement.head.len() + row.len() > largest {
            let message = "the record is larger than the server's max_allowed_packet; raise it";
            return Err(Error::new(ErrorKind::DatabaseFull, message).at(rows.position()));
        }
        if statement.len() + row.len() + 1 > largest.min(STATEMENT_BYTES) {
            sent_bytes += statement.send(connection, columns).await?;
        }
        statement.push(&row, record);
        if rows.needs_flush() {
            sent_bytes += statement.send(connection, columns).await?;
            rows.sent().await;
        }
        if sent_bytes >= limit_bytes {
            statement.send(connection, columns).await?;
            return Ok((rows.accepted - accepted_before, false));
        }
    }
    statement.send(connection, columns).await?;
    rows.all_sent().await;
    Ok((rows.accepted - accepted_before, true))
}

/// An INSERT that is being filled.
struct Statement {
    head: Vec<u8>,
    body: Vec<u8>,
    rows: u64,
    first_record: u64,
}

impl Statement {
    fn len(&self) -> usize {
        self.head.len() + self.body.len()
    }

    fn push(&mut self, row: &[u8], record: u64) {
        if self.rows == 0 {
            self.first_record = record;
        } else {
            self.body.push(b',');
        }
        self.body.extend_from_slice(row);
        self.rows += 1;
    }

    /// Sends what was collected and starts anew; answers its bytes.
    async fn send(&mut self, connection: &mut Connection, columns: &[TargetColumn]) -> Result<u64> {
        if self.rows == 0 {
            return Ok(0);
        }
        let mut sql = self.head.clone();
        sql.append(&mut self.body);
        let (sent_rows, first_record) = (std::mem::take(&mut self.rows), self.first_record);
        let answer = connection.run_raw(LIMIT, DOING, sql.as_slice()).await?;
        let outcome = rejection::checked(answer, DOING, columns, Some(first_record))?;
        if outcome.affected_rows != sent_rows || outcome.warnings > 0 {
            return Err(rejection::from_warnings(connection, columns, Some(first_record), outcome, sent_rows).await);
        }
        Ok(sql.len() as u64)
    }
}

/// SQL literals. Every value that is no plain number is a string; our SQL mode keeps backslash escapes on.
struct Literal;

impl Form for Literal {
    const SEPARATOR: u8 = b',';

    fn null(out: &mut Vec<u8>) {
        out.extend_from_slice(b"NULL");
    }

    fn value(column: &TargetColumn, value: &[u8], out: &mut Vec<u8>) {
        if matches!(column.storage, Storage::Bits { .. } | Storage::Integer { .. }) {
            // Digits and a sign: the check let nothing else through.
            out.extend_from_slice(value);
            return;
        }
        out.push(b'\'');
        for &byte in value {
            match byte {
                b'\\' | b'\'' => out.extend_from_slice(&[b'\\', byte]),
                0 => out.extend_from_slice(b"\\0"),
                _ => out.push(byte),
            }
        }
        out.push(b'\'');
    }
}

#[cfg(test)]
mod tests {
    use super::super::column::column_of;
    use super::*;

    #[test]
    fn strings_cannot_end_early() {
        let mut out = Vec::new();
        Literal::value(&column_of("text"), b"'; DROP TABLE t; -- \\'\0", &mut out);
        assert_eq!(String::from_utf8_lossy(&out), "'\\'; DROP TABLE t; -- \\\\\\'\\0'");
    }

    #[test]
    fn whole_numbers_are_bare() {
        let mut out = Vec::new();
        Literal::value(&column_of("bit(3)"), b"7", &mut out);
        Literal::null(&mut out);
        assert_eq!(out, b"7NULL");
    }
}

//! Sends rows by INSERT with many rows per statement, for servers that do not allow LOAD DATA LOCAL.
//!
//! A statement is smaller than the server's `max_allowed_packet`. In strict mode most invalid values are errors, and
//! the others are warnings. Both fail the load.

use std::time::Duration;

use super::column::{Storage, TableColumn};
use super::connect::Connection;
use super::encoding::{Literal, write};
use super::ledger::MySqlDialect;
use super::rejection::{SentRows, check_error, check_stored};
use super::table::quoted_table;
use crate::destination::column::column_list;
use crate::destination::rows::{Rows, first_of_consecutive};
use crate::error::{Error, ErrorKind, Position, Result};
use crate::table_name::TableName;

/// Maximum size of a statement, even where the server allows more.
const STATEMENT_BYTES: usize = 4 * 1024 * 1024;
/// Time limit of one statement.
const INSERT_TIMEOUT: Duration = Duration::from_secs(120);
const CONTEXT: &str = "cannot insert the rows";

/// Inserts rows into `table` until about `limit_bytes` were sent or the file ends. Returns the number of rows, and
/// whether the file has ended.
pub(super) async fn load(
    connection: &mut Connection,
    table: &TableName,
    columns: &[TableColumn],
    rows: &mut Rows<'_, Storage>,
    limit_bytes: u64,
) -> Result<(u64, bool)> {
    let accepted_before = rows.accepted;
    // The rest is for the packet's header.
    let max_bytes = connection.facts.max_allowed_packet.saturating_sub(1024);
    let mut statement = Statement::new(table, columns);
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
        if statement.head.len() + row.len() > max_bytes {
            return Err(too_large(rows.position()));
        }
        if statement.len() + row.len() + 1 > max_bytes.min(STATEMENT_BYTES) {
            sent_bytes += statement.send(connection, columns).await?;
        }
        statement.push(&row, record);
        if rows.needs_flush() {
            sent_bytes += statement.send(connection, columns).await?;
            rows.sent().await?;
        }
        if sent_bytes >= limit_bytes {
            statement.send(connection, columns).await?;
            return Ok((rows.accepted - accepted_before, false));
        }
    }
    statement.send(connection, columns).await?;
    rows.all_sent().await?;
    Ok((rows.accepted - accepted_before, true))
}

fn too_large(position: Position) -> Error {
    let message = "the record is larger than the server's max_allowed_packet; increase this setting";
    Error::new(ErrorKind::DatabaseFull, message).at(position)
}

/// An INSERT to which rows are added.
struct Statement {
    head: Vec<u8>,
    body: Vec<u8>,
    rows: u64,
    first_record: u64,
    last_record: u64,
}

impl Statement {
    fn new(table: &TableName, columns: &[TableColumn]) -> Self {
        let list = column_list::<MySqlDialect, _>(columns);
        let head = format!("INSERT INTO {} ({list}) VALUES ", quoted_table(table)).into_bytes();
        Self { head, body: Vec::new(), rows: 0, first_record: 1, last_record: 1 }
    }

    fn len(&self) -> usize {
        self.head.len() + self.body.len()
    }

    fn push(&mut self, row: &[u8], record: u64) {
        if self.rows == 0 {
            self.first_record = record;
        } else {
            self.body.push(b',');
        }
        self.last_record = record;
        self.body.extend_from_slice(row);
        self.rows += 1;
    }

    /// Sends the collected rows and starts the next statement. Returns the number of bytes.
    async fn send(&mut self, connection: &mut Connection, columns: &[TableColumn]) -> Result<u64> {
        if self.rows == 0 {
            return Ok(0);
        }
        let mut sql = self.head.clone();
        sql.append(&mut self.body);
        let count = std::mem::take(&mut self.rows);
        let first_record = first_of_consecutive(self.first_record, self.last_record, count);
        let rows = SentRows { columns, count, first_record };
        let result = connection.run_raw(INSERT_TIMEOUT, CONTEXT, sql.as_slice()).await?;
        let result = check_error(result, CONTEXT, &rows)?;
        check_stored(connection, result, &rows).await?;
        Ok(sql.len() as u64)
    }
}

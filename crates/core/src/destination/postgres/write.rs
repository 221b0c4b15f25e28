//! Sends rows by COPY FROM STDIN.
//!
//! The server reports invalid rows only at the end of a COPY, so a large file is sent by several COPY statements in one
//! transaction. A COPY succeeds only if the server has stored every row, because a trigger may skip rows silently. When
//! the rows' own stream fails, the COPY is cancelled, and the caller rolls back.

use std::pin::Pin;

use bytes::Bytes;
use futures_util::SinkExt;
use tokio_postgres::CopyInSink;

use super::column::{Storage, TableColumn};
use super::connect::Connection;
use super::encoding::CopyFormat;
use super::failure::failure;
use super::ledger::PostgresDialect;
use super::rejection;
use super::table::quoted_table;
use crate::destination::column::column_list;
use crate::destination::failure::Phase;
use crate::destination::limits::{PIECE_TIMEOUT, STATEMENT_TIMEOUT, STORE_TIMEOUT};
use crate::destination::piece::{is_full, new_buffer, take_pieces};
use crate::destination::rows::{Rows, first_of_consecutive};
use crate::error::Result;
use crate::table_name::TableName;

/// Approximate size of one COPY. At most this much is sent after the server has rejected a row.
const COPY_BYTES: u64 = 64 * 1024 * 1024;

const CONTEXT: &str = "cannot load the rows";

/// Loads all rows into `table`. Returns the number of rows that the server has stored.
pub(super) async fn load(
    connection: &mut Connection,
    table: &TableName,
    columns: &[TableColumn],
    rows: &mut Rows<'_, Storage>,
) -> Result<u64> {
    let format = CopyFormat::of(columns);
    let sql = statement(table, columns, format);
    let mut scratch = Vec::new();
    let mut stored = 0;
    while rows.advance().await? {
        let result = tokio::time::timeout(STATEMENT_TIMEOUT, connection.client()?.copy_in(sql.as_str())).await;
        let sink = connection.check_timeout(STATEMENT_TIMEOUT, CONTEXT, result)?;
        let sink = sink.map_err(|error| failure(Phase::Connected, CONTEXT, error))?;
        let mut copy = Copy { connection, sink: Box::pin(sink), format, first_record: rows.position().record };
        let sent_rows = copy.send(rows, &mut scratch).await?;
        stored += copy.finish(table, columns, sent_rows, rows.position().record).await?;
    }
    rows.all_sent().await?;
    Ok(stored)
}

/// A running COPY. Dropping it cancels it.
struct Copy<'a> {
    connection: &'a mut Connection,
    sink: Pin<Box<CopyInSink<Bytes>>>,
    format: CopyFormat,
    first_record: u64,
}

impl Copy<'_> {
    /// Sends the current row and the following ones until the COPY is large enough. Returns the number of rows.
    async fn send(&mut self, rows: &mut Rows<'_, Storage>, scratch: &mut Vec<u8>) -> Result<u64> {
        let mut buffer = new_buffer();
        self.format.begin(&mut buffer);
        let (mut sent_rows, mut sent_bytes) = (0, 0);
        loop {
            sent_rows += u64::from(self.format.write(rows, scratch, &mut buffer)?);
            if is_full(&buffer) || rows.needs_flush() {
                sent_bytes += buffer.len() as u64;
                self.send_pieces(&mut buffer).await?;
                rows.sent().await?;
            }
            if sent_bytes >= COPY_BYTES || !rows.advance().await? {
                break;
            }
        }
        self.format.end(&mut buffer);
        self.send_pieces(&mut buffer).await?;
        Ok(sent_rows)
    }

    async fn send_pieces(&mut self, buffer: &mut Vec<u8>) -> Result<()> {
        for piece in take_pieces(buffer) {
            let result = tokio::time::timeout(PIECE_TIMEOUT, self.sink.send(piece)).await;
            let result = self.connection.check_timeout(PIECE_TIMEOUT, "cannot send the rows", result)?;
            result.map_err(|error| failure(Phase::Connected, CONTEXT, error))?;
        }
        Ok(())
    }

    /// Ends the COPY and compares the number of stored rows with the number of sent rows.
    async fn finish(
        mut self,
        table: &TableName,
        columns: &[TableColumn],
        sent_rows: u64,
        last_record: u64,
    ) -> Result<u64> {
        let first_record = first_of_consecutive(self.first_record, last_record, sent_rows);
        let result = tokio::time::timeout(STORE_TIMEOUT, self.sink.as_mut().finish()).await;
        match self.connection.check_timeout(STORE_TIMEOUT, CONTEXT, result)? {
            Ok(stored) => rejection::check_count(table, "stored", stored, sent_rows).map(|()| stored),
            Err(error) => match error.as_db_error() {
                Some(server) => Err(rejection::of_rows(CONTEXT, server, table.own_name(), columns, first_record)),
                None => Err(failure(Phase::Connected, CONTEXT, error)),
            },
        }
    }
}

fn statement(table: &TableName, columns: &[TableColumn], format: CopyFormat) -> String {
    let list = column_list::<PostgresDialect, _>(columns);
    format!("COPY {} ({list}) FROM STDIN (FORMAT {})", quoted_table(table), format.sql())
}

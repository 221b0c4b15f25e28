//! Sends rows by COPY FROM STDIN.
//!
//! The server reports invalid rows only at the end of a COPY, so a large file is sent by several, all in one
//! transaction. A COPY succeeds only if the server has stored every row, because a trigger may skip rows silently. When
//! the rows' own stream fails, the COPY is cancelled, and the caller rolls back.

use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::SinkExt;
use tokio_postgres::CopyInSink;

use super::column::{Storage, TableColumn};
use super::connect::{Connection, STATEMENT_LIMIT};
use super::encoding::RowFormat;
use super::failure::failure;
use super::rejection;
use super::table::quoted;
use crate::destination::failure::Phase;
use crate::destination::rows::Rows;
use crate::error::{Error, ErrorKind, Result};

/// Size of a piece that is sent to the server.
const PIECE_BYTES: usize = 256 * 1024;
/// Approximate size of one COPY. At most this much is sent after the server has rejected a row.
const COPY_BYTES: u64 = 64 * 1024 * 1024;
/// Limit for the server to accept the next piece.
const STALL_LIMIT: Duration = Duration::from_secs(60);
/// Limit for the server's answer after the last piece.
const ANSWER_LIMIT: Duration = Duration::from_secs(300);
const DOING: &str = "cannot load the rows";

/// Loads all rows into `table`. Returns how many the server has stored.
pub(super) async fn load(
    connection: &mut Connection,
    table: &str,
    columns: &[TableColumn],
    rows: &mut Rows<'_, Storage>,
) -> Result<u64> {
    let encoding = RowFormat::of(columns);
    let sql = statement(table, columns, encoding);
    let mut scratch = Vec::new();
    let mut stored = 0;
    while rows.advance().await? {
        let answer = tokio::time::timeout(STATEMENT_LIMIT, connection.client()?.copy_in(sql.as_str())).await;
        let sink = connection.answered(STATEMENT_LIMIT, DOING, answer)?;
        let sink = sink.map_err(|error| failure(Phase::Connected, DOING, error))?;
        let mut copy = Copy { connection, sink: Box::pin(sink), encoding, first_record: rows.position().record };
        let sent_rows = copy.send(rows, &mut scratch).await?;
        stored += copy.finish(table, columns, sent_rows).await?;
    }
    rows.all_sent().await;
    Ok(stored)
}

/// A running COPY. Dropping it cancels it.
struct Copy<'a> {
    connection: &'a mut Connection,
    sink: Pin<Box<CopyInSink<Bytes>>>,
    encoding: RowFormat,
    first_record: u64,
}

impl Copy<'_> {
    /// Sends the current row and the following ones until the COPY is large enough. Returns how many.
    async fn send(&mut self, rows: &mut Rows<'_, Storage>, scratch: &mut Vec<u8>) -> Result<u64> {
        let mut piece = Vec::with_capacity(PIECE_BYTES + PIECE_BYTES / 4);
        self.encoding.begin(&mut piece);
        let (mut sent_rows, mut sent_bytes) = (0, 0);
        loop {
            sent_rows += u64::from(self.encoding.write(rows, scratch, &mut piece)?);
            if piece.len() >= PIECE_BYTES || rows.needs_flush() {
                sent_bytes += piece.len() as u64;
                self.send_piece(&mut piece).await?;
                rows.sent().await;
            }
            if sent_bytes >= COPY_BYTES || !rows.advance().await? {
                break;
            }
        }
        self.encoding.end(&mut piece);
        self.send_piece(&mut piece).await?;
        Ok(sent_rows)
    }

    async fn send_piece(&mut self, piece: &mut Vec<u8>) -> Result<()> {
        let whole = Bytes::from(std::mem::replace(piece, Vec::with_capacity(PIECE_BYTES + PIECE_BYTES / 4)));
        let mut start = 0;
        while start < whole.len() {
            let end = whole.len().min(start + 4 * PIECE_BYTES);
            let doing = "the server does not accept the rows";
            let answer = tokio::time::timeout(STALL_LIMIT, self.sink.send(whole.slice(start..end))).await;
            let answer = self.connection.answered(STALL_LIMIT, doing, answer)?;
            answer.map_err(|error| failure(Phase::Connected, DOING, error))?;
            start = end;
        }
        Ok(())
    }

    /// Ends the COPY and compares the number of stored rows with the number of sent rows.
    async fn finish(mut self, table: &str, columns: &[TableColumn], sent_rows: u64) -> Result<u64> {
        let answer = tokio::time::timeout(ANSWER_LIMIT, self.sink.as_mut().finish()).await;
        match self.connection.answered(ANSWER_LIMIT, DOING, answer)? {
            Ok(stored) if stored == sent_rows => Ok(stored),
            Ok(stored) => {
                let message =
                    format!("the server stored {stored} of {sent_rows} rows: a trigger of table {table} skips rows");
                Err(Error::new(ErrorKind::DataRefused, message))
            }
            Err(error) => match error.as_db_error() {
                Some(answer) => Err(rejection::of_rows(DOING, answer, table, columns, self.first_record)),
                None => Err(failure(Phase::Connected, DOING, error)),
            },
        }
    }
}

fn statement(table: &str, columns: &[TableColumn], encoding: RowFormat) -> String {
    let names: Vec<String> = columns.iter().map(|column| quoted(&column.name)).collect();
    format!("COPY {} ({}) FROM STDIN (FORMAT {})", quoted(table), names.join(", "), encoding.sql())
}

//! Sends rows by LOAD DATA LOCAL INFILE from memory, through a short queue to the driver.
//!
//! The server turns invalid values into warnings and skips duplicates. So a load succeeds only if the server has stored
//! every row and has given no warning. When the rows' own stream fails, the stream to the server ends early, and the
//! caller rolls back.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::{Either, select};
use futures_util::stream::BoxStream;
use mysql_async::prelude::Queryable;
use tokio::sync::{mpsc, oneshot};

use super::codes::is_local_infile_off;
use super::column::{Storage, TableColumn};
use super::connect::Connection;
use super::encoding::{Tsv, write};
use super::failure::{failure, server_code};
use super::rejection;
use super::table::quoted;
use crate::destination::failure::{Phase, timed_out};
use crate::destination::rows::Rows;
use crate::error::{Error, ErrorKind, Result};

/// Size of a piece that is queued for the driver.
const PIECE_BYTES: usize = 256 * 1024;
/// Maximum number of queued pieces.
const QUEUE_PIECES: usize = 4;
/// Limit for the server to accept the next piece.
const STALL_LIMIT: Duration = Duration::from_secs(60);
/// Limit for the server's answer after the last piece.
const ANSWER_LIMIT: Duration = Duration::from_secs(300);
/// Limit for the server's answer to an abandoned load.
const ABANDON_LIMIT: Duration = Duration::from_secs(10);

/// The result of one LOAD DATA.
pub(super) enum LoadDataResult {
    /// The server has stored all rows that were sent. `at_end`: the file has ended.
    Stored { rows: u64, at_end: bool },
    /// The server does not allow LOCAL. No row was read.
    NotAllowed,
}

/// Loads rows into `table` until about `limit_bytes` were sent or the file ends.
pub(super) async fn load(
    connection: &mut Connection,
    table: &str,
    columns: &[TableColumn],
    rows: &mut Rows<'_, Storage>,
    limit_bytes: u64,
) -> Result<LoadDataResult> {
    let doing = "cannot load the rows";
    let accepted_before = rows.accepted;
    let sql = statement(table, columns);
    let (pieces, queue) = mpsc::channel::<Bytes>(QUEUE_PIECES);
    let (request, requested) = oneshot::channel::<()>();
    let conn = connection.conn()?;
    conn.set_infile_handler(async move {
        // The receiver is gone when the load was abandoned.
        let _ = request.send(());
        Ok(stream_of(queue))
    });
    let sending = async {
        if requested.await.is_err() {
            return Ok(false);
        }
        send(rows, pieces, limit_bytes).await
    };
    let (answer, sent) = drive(conn.query_drop(sql), sending).await?;
    match answer {
        Err(error) if server_code(&error).is_some_and(is_local_infile_off) && sent.is_none() => {
            return Ok(LoadDataResult::NotAllowed);
        }
        Err(error) => return Err(failure(Phase::Connected, doing, error)),
        Ok(()) => {}
    }
    let at_end =
        sent.transpose()?.ok_or_else(|| Error::new(ErrorKind::Internal, "LOAD DATA did not request any rows"))?;
    let sent_rows = rows.accepted - accepted_before;
    let outcome = connection.outcome()?;
    if outcome.affected_rows != sent_rows || outcome.warnings > 0 {
        let first_record = rows_first_record(rows, sent_rows);
        return Err(rejection::from_warnings(connection, columns, Some(first_record), outcome, sent_rows).await);
    }
    Ok(LoadDataResult::Stored { rows: sent_rows, at_end })
}

/// The queued pieces, as the driver reads them.
fn stream_of(queue: mpsc::Receiver<Bytes>) -> BoxStream<'static, std::io::Result<Bytes>> {
    let next = |mut queue: mpsc::Receiver<Bytes>| async { queue.recv().await.map(|piece| (Ok(piece), queue)) };
    futures_util::stream::unfold(queue, next).boxed()
}

/// Runs the statement while rows are sent. The rows' result is `None` when the statement ended first.
///
/// After an error of the rows this waits for the statement, so that the connection can still roll back. The outer error
/// is a stalled server, and then the connection must be closed.
async fn drive<A>(
    statement: impl Future<Output = A>,
    sending: impl Future<Output = Result<bool>>,
) -> Result<(A, Option<Result<bool>>)> {
    let doing = "cannot load the rows";
    let (statement, sending) = (pin!(statement), pin!(sending));
    match select(statement, sending).await {
        Either::Left((answer, _)) => Ok((answer, None)),
        Either::Right((Ok(at_end), statement)) => match tokio::time::timeout(ANSWER_LIMIT, statement).await {
            Ok(answer) => Ok((answer, Some(Ok(at_end)))),
            Err(_) => Err(timed_out(Phase::Connected, doing, ANSWER_LIMIT)),
        },
        Either::Right((Err(error), statement)) => {
            // The rows' own error is returned. The server's answer to a part of a file does not matter.
            let _ = tokio::time::timeout(ABANDON_LIMIT, statement).await;
            Err(error)
        }
    }
}

/// Writes rows into pieces until the limit or the end. Returns whether the file has ended.
async fn send(rows: &mut Rows<'_, Storage>, pieces: mpsc::Sender<Bytes>, limit_bytes: u64) -> Result<bool> {
    let mut piece = Vec::with_capacity(PIECE_BYTES + PIECE_BYTES / 4);
    let mut scratch = Vec::new();
    let mut sent_bytes = 0;
    while rows.advance().await? {
        if !write::<Tsv>(rows, &mut scratch, &mut piece)? {
            continue;
        }
        piece.push(b'\n');
        if piece.len() < PIECE_BYTES && !rows.needs_flush() {
            continue;
        }
        sent_bytes += piece.len() as u64;
        queue_piece(&pieces, &mut piece).await?;
        rows.sent().await;
        if sent_bytes >= limit_bytes {
            return Ok(false);
        }
    }
    queue_piece(&pieces, &mut piece).await?;
    rows.all_sent().await;
    Ok(true)
}

async fn queue_piece(pieces: &mpsc::Sender<Bytes>, piece: &mut Vec<u8>) -> Result<()> {
    let whole = Bytes::from(std::mem::replace(piece, Vec::with_capacity(PIECE_BYTES + PIECE_BYTES / 4)));
    let mut start = 0;
    while start < whole.len() {
        let end = whole.len().min(start + 4 * PIECE_BYTES);
        match tokio::time::timeout(STALL_LIMIT, pieces.send(whole.slice(start..end))).await {
            Ok(Ok(())) => start = end,
            // The statement has ended, and its own error says why.
            Ok(Err(_)) => std::future::pending::<()>().await,
            Err(_) => return Err(timed_out(Phase::Connected, "the server does not accept the rows", STALL_LIMIT)),
        }
    }
    Ok(())
}

/// Returns the record number of the first row of this LOAD DATA. A file's records are numbered without gaps.
fn rows_first_record(rows: &Rows<'_, Storage>, sent_rows: u64) -> u64 {
    if sent_rows == 0 { 1 } else { (rows.position().record + 1).saturating_sub(sent_rows) }
}

fn statement(table: &str, columns: &[TableColumn]) -> String {
    let mut names = Vec::with_capacity(columns.len());
    let mut settings = Vec::new();
    let has_bits = columns.iter().any(|column| matches!(column.storage, Storage::Bits { .. }));
    for (index, column) in columns.iter().enumerate() {
        let name = quoted(&column.name);
        if matches!(column.storage, Storage::Bits { .. }) {
            // A BIT column would store the bits of the digits' characters.
            names.push(format!("@v{index}"));
            settings.push(format!("{name} = CAST(@v{index} AS UNSIGNED)"));
        } else if column.auto_increment && has_bits {
            // With a SET clause MariaDB replaces a 0 in such a column, in spite of NO_AUTO_VALUE_ON_ZERO.
            names.push(format!("@v{index}"));
            settings.push(format!("{name} = @v{index}"));
        } else {
            names.push(name);
        }
    }
    let mut sql = format!(
        "LOAD DATA LOCAL INFILE 'spillway' INTO TABLE {} CHARACTER SET utf8mb4 \
         FIELDS TERMINATED BY '\\t' ENCLOSED BY '' ESCAPED BY '\\\\' LINES STARTING BY '' TERMINATED BY '\\n' ({})",
        quoted(table),
        names.join(", ")
    );
    if !settings.is_empty() {
        sql.push_str(" SET ");
        sql.push_str(&settings.join(", "));
    }
    sql
}

#[cfg(test)]
mod tests {
    use super::super::column::column_of;
    use super::*;

    #[test]
    fn bit_columns_use_a_variable() {
        let mut bits = column_of("bit(1)");
        bits.name = "b`d".into();
        let sql = statement("t", &[column_of("text"), bits]);
        assert!(sql.ends_with("(`c`, @v1) SET `b``d` = CAST(@v1 AS UNSIGNED)"), "{sql}");
    }
}

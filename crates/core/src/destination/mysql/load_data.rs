//! LOAD DATA LOCAL INFILE from memory: rows are written as they are read and handed to the driver through a short queue.
//!
//! The server turns what it does not like into warnings and skips duplicates, so a load counts only when it stored every
//! row that was sent and warned of nothing. When the rows themselves fail, the stream to the server ends early and cleanly; the
//! caller rolls back.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::{Either, select};
use mysql_async::prelude::Queryable;
use tokio::sync::{mpsc, oneshot};

use super::column::{Storage, TargetColumn};
use super::connect::Connection;
use super::failure::{failure, is_local_infile_off, server_code};
use super::rejection;
use super::rows::{Form, write};
use super::table::quoted;
use crate::destination::limits::{Phase, timed_out};
use crate::destination::rows::Rows;
use crate::error::{Error, ErrorKind, Result};

/// How much is written before it is handed over.
const PIECE_BYTES: usize = 256 * 1024;
/// How many pieces may wait.
const QUEUE_PIECES: usize = 4;
/// The longest time the server may take to accept the next piece.
const STALL_LIMIT: Duration = Duration::from_secs(60);
/// The longest time the server may take to answer once it has everything.
const ANSWER_LIMIT: Duration = Duration::from_secs(300);
/// The longest time an abandoned load may take to come to its end.
const ABANDON_LIMIT: Duration = Duration::from_secs(10);

/// How one LOAD DATA ended.
pub(super) enum LoadDataResult {
    /// The server has stored this many rows, all that were sent; whether the file is at its end.
    Stored { rows: u64, at_end: bool },
    /// The server does not allow LOCAL; no row was taken.
    NotAllowed,
}

/// Loads rows into `table` until about `limit_bytes` were sent or the file ends.
pub(super) async fn load(
    connection: &mut Connection,
    table: &str,
    columns: &[TargetColumn],
    rows: &mut Rows<'_, Storage>,
    limit_bytes: u64,
) -> Result<LoadDataResult> {
    let doing = "cannot load the rows";
    let accepted_before = rows.accepted;
    let sql = statement(table, columns);
    let (pieces, queue) = mpsc::channel::<Bytes>(QUEUE_PIECES);
    let (ask, asked) = oneshot::channel::<()>();
    let conn = connection.conn()?;
    conn.set_infile_handler(async move {
        // Nobody hears this when the load was given up already.
        let _ = ask.send(());
        let pieces = futures_util::stream::unfold(queue, |mut queue| async {
            queue.recv().await.map(|piece| (Ok(piece), queue))
        });
        Ok(pieces.boxed())
    });
    let sending = async {
        if asked.await.is_err() {
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
    let at_end = sent.transpose()?.ok_or_else(|| Error::new(ErrorKind::Internal, "LOAD DATA asked for no rows"))?;
    let sent_rows = rows.accepted - accepted_before;
    let outcome = connection.outcome()?;
    if outcome.affected_rows != sent_rows || outcome.warnings > 0 {
        let first_record = rows_first_record(rows, sent_rows);
        return Err(rejection::from_warnings(connection, columns, Some(first_record), outcome, sent_rows).await);
    }
    Ok(LoadDataResult::Stored { rows: sent_rows, at_end })
}

/// Runs the statement and the sending side by side. The sending's result is `None` when the statement ended first.
///
/// An error of the rows waits for the statement, so that the connection can still be used to roll back; a stalled
/// server is the outer error, and the connection must be closed.
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
            // The rows' own error is the one to tell, whatever the server says to half a file.
            let _ = tokio::time::timeout(ABANDON_LIMIT, statement).await;
            Err(error)
        }
    }
}

/// Writes rows into pieces until the limit or the end; whether it was the end.
async fn send(rows: &mut Rows<'_, Storage>, pieces: mpsc::Sender<Bytes>, limit_bytes: u64) -> Result<bool> {
    let mut piece = Vec::with_capacity(PIECE_BYTES + PIECE_BYTES / 4);
    let mut scratch = Vec::new();
    let mut sent_bytes = 0;
    while rows.advance().await? {
        if !write::<LoadData>(rows, &mut scratch, &mut piece)? {
            continue;
        }
        piece.push(b'\n');
        if piece.len() < PIECE_BYTES && !rows.needs_flush() {
            continue;
        }
        sent_bytes += piece.len() as u64;
        hand_over(&pieces, &mut piece).await?;
        rows.sent().await;
        if sent_bytes >= limit_bytes {
            return Ok(false);
        }
    }
    hand_over(&pieces, &mut piece).await?;
    rows.all_sent().await;
    Ok(true)
}

async fn hand_over(pieces: &mpsc::Sender<Bytes>, piece: &mut Vec<u8>) -> Result<()> {
    let whole = Bytes::from(std::mem::replace(piece, Vec::with_capacity(PIECE_BYTES + PIECE_BYTES / 4)));
    let mut start = 0;
    while start < whole.len() {
        let end = whole.len().min(start + 4 * PIECE_BYTES);
        match tokio::time::timeout(STALL_LIMIT, pieces.send(whole.slice(start..end))).await {
            Ok(Ok(())) => start = end,
            // The statement has ended and says why.
            Ok(Err(_)) => std::future::pending::<()>().await,
            Err(_) => return Err(timed_out(Phase::Connected, "the server does not take the rows", STALL_LIMIT)),
        }
    }
    Ok(())
}

/// The record number of the first row of this LOAD DATA: rows of a file are numbered without gaps.
fn rows_first_record(rows: &Rows<'_, Storage>, sent_rows: u64) -> u64 {
    if sent_rows == 0 { 1 } else { (rows.position().record + 1).saturating_sub(sent_rows) }
}

fn statement(table: &str, columns: &[TargetColumn]) -> String {
    let mut names = Vec::with_capacity(columns.len());
    let mut settings = Vec::new();
    let has_bits = columns.iter().any(|column| matches!(column.storage, Storage::Bits { .. }));
    for (index, column) in columns.iter().enumerate() {
        let name = quoted(&column.name);
        if matches!(column.storage, Storage::Bits { .. }) {
            // A BIT column would store the digit's own bits.
            names.push(format!("@v{index}"));
            settings.push(format!("{name} = CAST(@v{index} AS UNSIGNED)"));
        } else if column.auto_increment && has_bits {
            // With a SET clause MariaDB numbers a 0 in such a column anew, NO_AUTO_VALUE_ON_ZERO or not.
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

/// Tab-separated, escaped with backslashes, NULL as `\N`.
struct LoadData;

impl Form for LoadData {
    const SEPARATOR: u8 = b'\t';

    fn null(out: &mut Vec<u8>) {
        out.extend_from_slice(b"\\N");
    }

    fn value(_: &TargetColumn, value: &[u8], out: &mut Vec<u8>) {
        let mut rest = value;
        while let Some(at) = rest.iter().position(|byte| matches!(byte, b'\\' | b'\t' | b'\n' | b'\r' | 0)) {
            out.extend_from_slice(&rest[..at]);
            out.push(b'\\');
            out.push(match rest[at] {
                b'\t' => b't',
                b'\n' => b'n',
                b'\r' => b'r',
                0 => b'0',
                other => other,
            });
            rest = &rest[at + 1..];
        }
        out.extend_from_slice(rest);
    }
}

#[cfg(test)]
mod tests {
    use super::super::column::column_of;
    use super::*;

    #[test]
    fn values_are_escaped() {
        let mut out = Vec::new();
        LoadData::value(&column_of("text"), b"C:\\new\t\r\n\0\\.", &mut out);
        assert_eq!(String::from_utf8_lossy(&out), "C:\\\\new\\t\\r\\n\\0\\\\.");
    }

    #[test]
    fn bits_go_through_a_variable() {
        let mut bits = column_of("bit(1)");
        bits.name = "b`d".into();
        let sql = statement("t", &[column_of("text"), bits]);
        assert!(sql.ends_with("(`c`, @v1) SET `b``d` = CAST(@v1 AS UNSIGNED)"), "{sql}");
    }
}

//! Sends rows by LOAD DATA LOCAL INFILE from memory, through a short queue that the driver reads.
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
use super::column::{Storage, TableColumn, is_sent_in_hex};
use super::connect::Connection;
use super::encoding::{Tsv, write};
use super::failure::{failure, server_code};
use super::rejection::{SentRows, check_stored, from_message, is_about_rows};
use super::table::{quoted, quoted_table};
use crate::destination::failure::{Phase, timed_out};
use crate::destination::limits::{PIECE_TIMEOUT, STORE_TIMEOUT};
use crate::destination::piece::{is_full, new_buffer, take_pieces};
use crate::destination::rows::{Rows, first_of_consecutive};
use crate::error::{Error, ErrorKind, Result};
use crate::table_name::TableName;

/// Maximum number of queued pieces.
const QUEUE_PIECES: usize = 4;

/// Limit for the server to respond after the rows' own stream has failed.
const ABANDON_TIMEOUT: Duration = Duration::from_secs(10);

const CONTEXT: &str = "cannot load the rows";

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
    table: &TableName,
    columns: &[TableColumn],
    rows: &mut Rows<'_, Storage>,
    limit_bytes: u64,
) -> Result<LoadDataResult> {
    let (accepted_before, record_before) = (rows.accepted, rows.position().record);
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
    let (response, sent) = run_while_sending(conn.query_drop(sql), sending).await?;
    match response {
        Err(error) if server_code(&error).is_some_and(is_local_infile_off) && sent.is_none() => {
            return Ok(LoadDataResult::NotAllowed);
        }
        Err(mysql_async::Error::Server(server)) if is_about_rows(&server) => {
            let count = rows.accepted - accepted_before;
            let first_record = first_of_consecutive(record_before + 1, rows.position().record, count);
            return Err(from_message(
                CONTEXT,
                server.code,
                &server.message,
                &SentRows { columns, count, first_record },
            ));
        }
        Err(error) => return Err(failure(Phase::Connected, CONTEXT, error)),
        Ok(()) => {}
    }
    let at_end =
        sent.transpose()?.ok_or_else(|| Error::new(ErrorKind::Internal, "LOAD DATA did not request any rows"))?;
    let count = rows.accepted - accepted_before;
    let result = connection.last_result()?;
    let first_record = first_of_consecutive(record_before + 1, rows.position().record, count);
    check_stored(connection, result, &SentRows { columns, count, first_record }).await?;
    Ok(LoadDataResult::Stored { rows: count, at_end })
}

/// Returns the queued pieces as the stream that the driver reads.
fn stream_of(queue: mpsc::Receiver<Bytes>) -> BoxStream<'static, std::io::Result<Bytes>> {
    let next = |mut queue: mpsc::Receiver<Bytes>| async { queue.recv().await.map(|piece| (Ok(piece), queue)) };
    futures_util::stream::unfold(queue, next).boxed()
}

/// Runs the statement while rows are sent. The result of sending is `None` when the statement ended first.
///
/// After an error of the rows' own stream, this waits for the statement, so that the connection can still roll back.
///
/// # Errors
/// The error of the rows' own stream, or a timeout. After a timeout the connection must be closed.
async fn run_while_sending<R>(
    statement: impl Future<Output = R>,
    sending: impl Future<Output = Result<bool>>,
) -> Result<(R, Option<Result<bool>>)> {
    let (statement, sending) = (pin!(statement), pin!(sending));
    match select(statement, sending).await {
        Either::Left((response, _)) => Ok((response, None)),
        Either::Right((Ok(at_end), statement)) => match tokio::time::timeout(STORE_TIMEOUT, statement).await {
            Ok(response) => Ok((response, Some(Ok(at_end)))),
            Err(_) => Err(timed_out(Phase::Connected, CONTEXT, STORE_TIMEOUT)),
        },
        Either::Right((Err(error), statement)) => {
            // The response is about a part of the file, so it does not matter.
            let _ = tokio::time::timeout(ABANDON_TIMEOUT, statement).await;
            Err(error)
        }
    }
}

/// Queues rows until the limit or the end. Returns whether the file has ended.
async fn send(rows: &mut Rows<'_, Storage>, pieces: mpsc::Sender<Bytes>, limit_bytes: u64) -> Result<bool> {
    let mut buffer = new_buffer();
    let mut scratch = Vec::new();
    let mut sent_bytes = 0;
    while rows.advance().await? {
        if !write::<Tsv>(rows, &mut scratch, &mut buffer)? {
            continue;
        }
        buffer.push(b'\n');
        if !is_full(&buffer) && !rows.needs_flush() {
            continue;
        }
        sent_bytes += buffer.len() as u64;
        queue_pieces(&pieces, &mut buffer).await?;
        rows.sent().await?;
        if sent_bytes >= limit_bytes {
            return Ok(false);
        }
    }
    queue_pieces(&pieces, &mut buffer).await?;
    rows.all_sent().await?;
    Ok(true)
}

async fn queue_pieces(pieces: &mpsc::Sender<Bytes>, buffer: &mut Vec<u8>) -> Result<()> {
    for piece in take_pieces(buffer) {
        match tokio::time::timeout(PIECE_TIMEOUT, pieces.send(piece)).await {
            Ok(Ok(())) => {}
            // The statement has ended early, and its own error is returned instead.
            Ok(Err(_)) => std::future::pending::<()>().await,
            Err(_) => return Err(timed_out(Phase::Connected, "cannot send the rows", PIECE_TIMEOUT)),
        }
    }
    Ok(())
}

fn statement(table: &TableName, columns: &[TableColumn]) -> String {
    let mut names = Vec::with_capacity(columns.len());
    let mut settings = Vec::new();
    let is_converted = |column: &TableColumn| {
        matches!(column.storage, Storage::Bits { .. } | Storage::Geometry) || is_sent_in_hex(column)
    };
    let has_conversions = columns.iter().any(is_converted);
    for (index, column) in columns.iter().enumerate() {
        let name = quoted(&column.name);
        if matches!(column.storage, Storage::Bits { .. }) {
            // A BIT column would store the bits of the digits' characters.
            names.push(format!("@v{index}"));
            settings.push(format!("{name} = CAST(@v{index} AS UNSIGNED)"));
        } else if column.storage == Storage::Geometry {
            names.push(format!("@v{index}"));
            settings.push(format!("{name} = ST_GeomFromText(@v{index})"));
        } else if is_sent_in_hex(column) {
            // The server would reject bytes that are not valid in the character set of the statement.
            names.push(format!("@v{index}"));
            settings.push(format!("{name} = UNHEX(@v{index})"));
        } else if column.auto_increment && has_conversions {
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
        quoted_table(table),
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
        let sql = statement(&"t".into(), &[column_of("text"), bits]);
        assert!(sql.ends_with("(`c`, @v1) SET `b``d` = CAST(@v1 AS UNSIGNED)"), "{sql}");
    }

    #[test]
    fn bytes_use_a_variable() {
        let (mut id, mut raw) = (column_of("bigint(20)"), column_of("longblob"));
        id.auto_increment = true;
        raw.name = "raw".into();
        let columns = [id, raw.clone()];
        assert!(statement(&"t".into(), &columns).ends_with("(`c`, `raw`)"));
        raw.is_binary = true;
        let sql = statement(&"t".into(), &[columns[0].clone(), raw]);
        assert!(sql.ends_with("(@v0, @v1) SET `c` = @v0, `raw` = UNHEX(@v1)"), "{sql}");
    }
}

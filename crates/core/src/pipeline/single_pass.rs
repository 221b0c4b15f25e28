//! The single-pass load: reads a large file once, and sends its rows to the database as they are read.
//!
//! A scan finds the types of new columns, the bad records, the checksum that identifies a duplicate, the decompressed
//! size, and the schema and row count of a fallback. Most large files need none of these before they are loaded. So
//! their rows are loaded without a scan, in a transaction that holds the claim on the source. After the last row,
//! before COMMIT, the load also claims the content by its checksum. If the load turns out to need a scan, the
//! transaction is rolled back, and the file is scanned and loaded from the start.
//!
//! Where DDL is transactional, a missing table is created in the transaction of its rows, with the types of the first
//! rows. Spillway then checks every value, and stops the load at the first value that needs another type.

use std::fmt::Display;

use tracing::{info, warn};

use crate::destination::{Begun, FileSchema, WriteResult};
use crate::error::{Error, ErrorKind, Result, chain};
use crate::pipeline::LoadAttempt;
use crate::pipeline::load::{LoadResult, commit, while_claimed};
use crate::policy::{Action, Retry, policy};
use crate::reader::{FileReader, PassResult, PeekedFile, StreamedRows, hint};
use crate::route;

/// Maximum expected size, decompressed, of a file whose table is created in the transaction of its rows.
///
/// Other files for the same new table wait for that transaction and get a conflict. Even on a slow database the
/// transaction ends before their retries do.
const NEW_TABLE_MAX_BYTES: u64 = 256 << 20;

/// The result of a single-pass load.
pub(super) enum SinglePass {
    /// The file needs no other pass: its rows are in the table, or not needed.
    Done(LoadResult),
    /// The database refuses the rows, or is known to be down, so a retry is useless. Nothing was committed. The caller
    /// scans the file for the fallback.
    NotLoadable(Error),
    /// The file must be scanned and then loaded. Nothing was committed. If this pass has only peeked at the first rows,
    /// it contains them, and the scan continues the pass instead of starting another one.
    NeedsScan(Option<StreamedRows>),
}

/// Loads a large file in one pass. A small file is buffered in memory, so its scan is cheap, and this returns
/// `NeedsScan`.
///
/// # Errors
/// When the object is broken, has changed or cannot be read, when the lease is lost, or when the result of a COMMIT is
/// unknown.
pub(super) async fn load(attempt: &impl LoadAttempt, reader: &FileReader) -> Result<SinglePass> {
    // The lake needs final column types before it gets the first row.
    if reader.is_buffered() || attempt.config().destination.output.has_lake() {
        return Ok(SinglePass::NeedsScan(None));
    }
    let Some(mut peeked) = reader.peek().await? else { return Ok(SinglePass::NeedsScan(None)) };
    let may_reject = attempt.config().files.limits.rejects.is_on();
    // This pass stops at a bad record. A scan that rejects bad records must start from the beginning.
    let unread = |peeked: PeekedFile| if may_reject { None } else { peeked.into_unread_rows() };
    let tried = try_load(attempt, reader, &mut peeked).await;
    if !matches!(tried, Ok(Some(_))) {
        // The load was dropped, and with it the table that it may have created.
        attempt.table_changes().roll_back();
    }
    let error = match tried {
        Ok(Some(result)) => return Ok(SinglePass::Done(result)),
        Ok(None) => return Ok(SinglePass::NeedsScan(unread(peeked))),
        Err(error) => error,
    };
    let kind = error.kind();
    match (policy(kind).retry, policy(kind).action) {
        // After a scan it may be possible to reject only that row, or to widen its column.
        (Retry::Never, Action::FallBack)
            if kind == ErrorKind::DataRefused && (may_reject || attempt.try_request_wider_column(&error)) =>
        {
            Ok(SinglePass::NeedsScan(None))
        }
        (Retry::Never, Action::FallBack) => Ok(SinglePass::NotLoadable(error)),
        (Retry::Never, Action::Fail | Action::Reject) => Err(error),
        (Retry::Budget | Retry::FreshCredentials(_), _) if attempt.outage().explains(kind) => {
            attempt.outage().prove(kind);
            Ok(SinglePass::NotLoadable(error))
        }
        (Retry::Tries(_) | Retry::Budget | Retry::FreshCredentials(_), _) => {
            let text = chain(&error);
            match error.is_expected() {
                true => info!(%kind, reason = text, "the file is no longer needed, reading the ledger"),
                false => {
                    warn!(%kind, error = text, "the single-pass load failed, scanning the file before the next try")
                }
            }
            Ok(SinglePass::NeedsScan(unread(peeked)))
        }
    }
}

/// Tries once to load the file; `None` if the file must be scanned.
async fn try_load(
    attempt: &impl LoadAttempt,
    reader: &FileReader,
    peeked: &mut PeekedFile,
) -> Result<Option<LoadResult>> {
    let destination = attempt.destination(attempt.starts_with_fresh_credentials()).await?;
    let may_create_table = route::expected_bytes(attempt.source()) <= NEW_TABLE_MAX_BYTES;
    let schema = peeked.schema().clone();
    let schema = FileSchema::Provisional { schema: &schema, may_create_table };
    let begun = destination.begin(&attempt.claim(), schema).await;
    attempt.outage().observe(&begun);
    let (mut load, value_check) = match begun? {
        Begun::Open { load, value_check } => (load, value_check),
        // The report needs the number of rejected records, which only a scan returns.
        Begun::NotNeeded(_) if attempt.config().files.limits.rejects.is_on() => return Ok(None),
        Begun::NotNeeded(entry) => {
            attempt.mark_commit_resolved();
            return Ok(Some(LoadResult::NotNeeded(entry)));
        }
        Begun::NeedsScan(reason) => return Ok(needs_scan(&reason)),
    };
    let counts = match load.write(peeked.rows(reader, value_check)).await? {
        WriteResult::Written(counts) => counts,
        WriteResult::NeedsScan(reason) => return Ok(needs_scan(&reason)),
    };
    let summary = match peeked.end()? {
        PassResult::Complete(summary) => summary,
        // The load is dropped, so the server rolls back.
        PassResult::Stopped(reason) => return Ok(needs_scan(&reason)),
    };
    let hints = summary.hint(&attempt.config().files.columns).into_iter();
    attempt.set_hint(hint::joined(hints.chain(attempt.table_changes().similar_table_hint())));
    let elsewhere = async {
        attempt.register_raw(None, &summary.shape).await?;
        attempt.remove_earlier_rejects().await
    };
    while_claimed(&mut *load, elsewhere).await?;
    let body = attempt.body(summary.bytes.sha256()?, summary.bytes.decoded_bytes);
    commit(attempt, load.finalize(body, counts).await?).await.map(Some)
}

fn needs_scan(reason: &dyn Display) -> Option<LoadResult> {
    info!(%reason, "the file is scanned before it is loaded");
    None
}

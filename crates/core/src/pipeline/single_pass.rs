//! The single-pass load: a large file is read once, and its rows are sent to the database as they are read.
//!
//! Nearly every file needs nothing that only a scan finds out: the types of new columns, the bad records that may be left out, the
//! checksum that tells a duplicate, the size that decides on a staging table, and the schema and row count of a fallback. So the rows are
//! loaded without it, in a transaction that holds the claim like any other, and the body is claimed at the end, before COMMIT. If
//! it turns out that something of it is needed, the transaction is rolled back and the file is scanned, as if nothing had been tried.
//!
//! Where DDL is part of a transaction, a missing table is created in that of its rows, from the types of the file's beginning. A guard then
//! watches every value and stops the load at the first one that gives a column another type.

use std::fmt::Display;

use tracing::{info, warn};

use crate::destination::{Begun, FileSchema, WriteResult};
use crate::error::{Error, ErrorKind, Result, chain};
use crate::pipeline::Attempt;
use crate::pipeline::load::{LoadResult, commit};
use crate::pipeline::rejects;
use crate::policy::{Action, Retry, policy};
use crate::reader::{Beginning, FileReader, StreamEnd, StreamedRows};
use crate::route;

/// The largest expected size, decompressed, of a file whose table is created in the transaction of its rows. Other files for the
/// same new table wait for that transaction; at a slow database's speed it takes no longer than a conflict is retried.
const NEW_TABLE_MAX_BYTES: u64 = 256 << 20;

/// How a single-pass load ended.
pub(super) enum SinglePass {
    /// The rows are in the table.
    Done(LoadResult),
    /// The database rejects the rows, and a retry would not change that. Nothing was committed.
    Rejected(Error),
    /// The file must be scanned first. Nothing was committed. A pass that only peeked at the first rows can be continued.
    NeedsScan(Option<StreamedRows>),
}

/// Loads a large file in one pass. A small one is in memory, where a scan costs next to nothing.
///
/// # Errors
/// The object is broken, has changed, or cannot be read; the lease is lost; the result of a COMMIT is unknown.
pub(super) async fn load(attempt: &Attempt<'_>, reader: &FileReader) -> Result<SinglePass> {
    if reader.is_buffered() {
        return Ok(SinglePass::NeedsScan(None));
    }
    let Some(mut beginning) = reader.peek().await? else { return Ok(SinglePass::NeedsScan(None)) };
    let may_reject = attempt.config.files.limits.rejects.is_on();
    // A pass that leaves bad records out has to start anew.
    let unread = |beginning: Beginning| if may_reject { None } else { beginning.into_unread_rows() };
    let error = match try_load(attempt, reader, &mut beginning).await {
        Ok(Some(result)) => return Ok(SinglePass::Done(result)),
        Ok(None) => return Ok(SinglePass::NeedsScan(unread(beginning))),
        Err(error) => error,
    };
    let kind = error.kind();
    match (policy(kind).retry, policy(kind).action) {
        // It may be possible to reject that row alone.
        (Retry::Never, Action::FallBack) if kind == ErrorKind::DataRefused && may_reject => {
            Ok(SinglePass::NeedsScan(None))
        }
        (Retry::Never, Action::FallBack) => Ok(SinglePass::Rejected(error)),
        (Retry::Never, Action::Fail | Action::Reject) => Err(error),
        (Retry::Tries(_) | Retry::Budget | Retry::FreshCredentials(_), _) => {
            warn!(%kind, error = %chain(&error), "the single-pass load failed, scanning the file before the next try");
            Ok(SinglePass::NeedsScan(unread(beginning)))
        }
    }
}

/// One try; `None` if the file must be scanned.
async fn try_load(attempt: &Attempt<'_>, reader: &FileReader, beginning: &mut Beginning) -> Result<Option<LoadResult>> {
    let destination = attempt.destination(false).await?;
    let may_create_table = route::expected_bytes(&attempt.source) <= NEW_TABLE_MAX_BYTES;
    let schema = beginning.schema().clone();
    let schema = FileSchema::Provisional { schema: &schema, may_create_table };
    let (mut load, guard) = match destination.begin(&attempt.claim(), schema).await? {
        Begun::Open { load, guard } => (load, guard),
        // How many records a scan would have rejected is part of the report.
        Begun::AlreadyLoaded(_) if attempt.config.files.limits.rejects.is_on() => return Ok(None),
        Begun::AlreadyLoaded(entry) => {
            attempt.resolve_commit();
            return Ok(Some(LoadResult::AlreadyLoaded(entry)));
        }
        Begun::NeedsScan(reason) => return Ok(needs_scan(&reason)),
    };
    let counts = match load.write(beginning.rows(reader, guard)).await? {
        WriteResult::Written(counts) => counts,
        WriteResult::NeedsScan(reason) => return Ok(needs_scan(&reason)),
    };
    let summary = match beginning.end()? {
        StreamEnd::Complete(summary) => summary,
        // The load is dropped, so the server rolls back.
        StreamEnd::Stopped(reason) => return Ok(needs_scan(&reason)),
    };
    let body = attempt.body(&summary.bytes.sha256.unwrap_or_default(), summary.bytes.decoded_bytes);
    rejects::remove_earlier(attempt).await?;
    commit(attempt, load.finalize(body, counts).await?).await.map(Some)
}

fn needs_scan(reason: &dyn Display) -> Option<LoadResult> {
    info!(%reason, "the file is scanned before it is loaded");
    None
}

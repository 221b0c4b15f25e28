//! The single-pass load: a large file is read once, and its rows are sent to the database as they are read.
//!
//! Nearly every file needs nothing that only a scan finds out: the types of new columns, the bad records that may be left out, the
//! checksum that tells a duplicate, the size that decides on a staging table, and the schema and row count of a fallback. So the rows are
//! loaded without it, in a transaction that holds the claim like any other, and the body is claimed at the end, before COMMIT. If
//! it turns out that something of it is needed, the transaction is rolled back and the file is scanned, as if nothing had been tried.
//!
//! Where DDL is part of a transaction, a missing table is created in that of its rows, from the types of the file's beginning. A guard then
//! watches every value and stops the load at the first one that gives a column another type.

use tracing::{info, warn};

use crate::destination::any::{AnyDestination, AnySession};
use crate::destination::{Claim, Claimed, Destination, LedgerEntry};
use crate::error::{Error, ErrorKind, Result, chain};
use crate::pipeline::Attempt;
use crate::pipeline::load::{LoadResult, commit};
use crate::pipeline::rejects;
use crate::policy::{Action, Retry, policy};
use crate::reader::{Beginning, FileReader, Guard, StopReason, StreamEnd, StreamedRows};
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
    let may_reject = attempt.context.settings.files.limits.rejects.is_on();
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
    let (mut session, guard) = match begin(attempt, &destination, beginning).await? {
        Begun::Open(session, guard) => (session, guard),
        // How many records a scan would have rejected is part of the report.
        Begun::AlreadyLoaded(_) if attempt.context.settings.files.limits.rejects.is_on() => return Ok(None),
        Begun::AlreadyLoaded(entry) => {
            attempt.resolve_commit();
            return Ok(Some(LoadResult::AlreadyLoaded(entry)));
        }
        Begun::NeedsScan(reason) => return Ok(needs_scan(&reason)),
    };
    let schema = beginning.schema().clone();
    let loaded = destination.load(&mut session, &schema, beginning.rows(reader, guard)).await?;
    let summary = match beginning.end()? {
        StreamEnd::Complete(summary) => summary,
        // The session is dropped, so the server rolls back.
        StreamEnd::Stopped(reason) => return Ok(needs_scan(&describe(reason))),
    };
    let body = attempt.body(&summary.bytes.sha256.unwrap_or_default(), summary.bytes.decoded_bytes);
    destination.claim_body(&mut session, body).await?;
    rejects::remove_earlier(attempt).await?;
    let loaded = destination.finalize(&mut session, loaded).await?;
    commit(attempt, &destination, session, loaded).await.map(Some)
}

/// What the destination found when the load was to begin.
enum Begun {
    Open(AnySession, Guard),
    AlreadyLoaded(LedgerEntry),
    NeedsScan(String),
}

/// Claims the object version. A missing table is created from the beginning's types where the engine can do that in the transaction.
async fn begin(attempt: &Attempt<'_>, destination: &AnyDestination, beginning: &Beginning) -> Result<Begun> {
    let claim = attempt.claim(None);
    let (claimed, guard) = match destination.claim(&claim, beginning.schema()).await {
        Err(error)
            if error.kind() == ErrorKind::Unread && route::expected_bytes(&attempt.source) <= NEW_TABLE_MAX_BYTES =>
        {
            let claim = Claim { is_schema_provisional: true, ..claim };
            (destination.claim(&claim, beginning.schema()).await, Guard::EveryValue)
        }
        claimed => (claimed, Guard::Columns),
    };
    match claimed {
        Ok(Claimed::Ours(session)) => Ok(Begun::Open(session, guard)),
        Ok(Claimed::Ended(entry)) => Ok(Begun::AlreadyLoaded(entry)),
        Err(error) if error.kind() == ErrorKind::Unread => Ok(Begun::NeedsScan(error.message().to_owned())),
        Err(error) => Err(error),
    }
}

fn needs_scan(reason: &str) -> Option<LoadResult> {
    info!(reason, "the file is scanned before it is loaded");
    None
}

fn describe(reason: StopReason) -> String {
    match reason {
        StopReason::BadRecord => "the file has a bad record",
        StopReason::MoreColumns => "the file has columns that its beginning does not show",
        StopReason::TypeChanged => "a value gives a column another type than the file's beginning",
    }
    .to_owned()
}

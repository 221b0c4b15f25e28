//! The database part of the pipeline: claim, write, finalize, commit; retried as the failure table says.

use std::sync::Arc;
use std::time::Instant;

use tracing::{info, warn};

use crate::destination::ValueRejects;
use crate::destination::{
    Begun, CommitResult, FileClaim, FileSchema, LedgerEntry, ReadyLoad, RowCounts, ScanReason, WriteResult,
};
use crate::error::{Error, ErrorKind, Result, chain};
use crate::pipeline::{Attempt, FileRows, rejects};
use crate::policy::{Retry, backoff, policy};

/// How a load without a failure ended.
#[derive(Debug)]
pub(crate) enum LoadResult {
    /// This attempt loaded the rows.
    Loaded(RowCounts),
    /// An earlier attempt did, or another version with the same bytes.
    AlreadyLoaded(LedgerEntry),
}

/// Loads the rows, and waits for the database within the budget.
///
/// # Errors
/// An error proves that nothing was committed, unless its kind is [`ErrorKind::CommitUnknown`].
pub(crate) async fn load(attempt: &Attempt<'_>, rows: &FileRows<'_>) -> Result<LoadResult> {
    let started = Instant::now();
    let budget = attempt.retry_budget();
    let mut tries = 0;
    let mut fresh = false;
    loop {
        let error = match load_once(attempt, rows, fresh).await {
            Ok(result) => return Ok(result),
            Err(error) => error,
        };
        tries += 1;
        let delay = backoff(tries, fastrand::f64());
        let waited = started.elapsed() + delay;
        let again = match policy(error.kind()).retry {
            Retry::Never => false,
            Retry::Tries(most) => tries < most,
            Retry::Budget => waited < budget,
            Retry::FreshCredentials(most) => waited < budget.min(most),
        };
        if !again {
            return Err(error);
        }
        warn!(kind = %error.kind(), error = %chain(&error), tries, "the load failed, retrying");
        fresh = error.kind() == ErrorKind::Credentials;
        tokio::time::sleep(delay).await;
    }
}

async fn load_once(attempt: &Attempt<'_>, rows: &FileRows<'_>, fresh: bool) -> Result<LoadResult> {
    let destination = attempt.destination(fresh).await?;
    let value_rejects = room_for_rejects(attempt, rows);
    let claim = FileClaim { value_rejects: value_rejects.clone(), ..attempt.claim() };
    let body = attempt.body(&rows.body_sha256, rows.decoded_bytes);
    let schema = FileSchema::Final { schema: &rows.schema, body: &body };
    let mut load = match destination.begin(&claim, schema).await? {
        Begun::Open { load, .. } => load,
        Begun::AlreadyLoaded(entry) => {
            attempt.resolve_commit();
            return Ok(LoadResult::AlreadyLoaded(entry));
        }
        Begun::NeedsScan(reason) => return Err(scanned_before(reason)),
    };
    let counts = match load.write(rows.open().await?).await? {
        WriteResult::Written(counts) => counts,
        WriteResult::NeedsScan(reason) => return Err(scanned_before(reason)),
    };
    let values = value_rejects.map(|rejects| rejects.collected()).unwrap_or_default();
    check_count(rows.rows, counts.rows_parsed + values.len() as u64)?;
    let counts = RowCounts { rows_rejected: rows.rows_rejected + values.len() as u64, ..counts };
    rejects::write(attempt, rows, values).await?;
    commit(attempt, load.finalize(body, counts).await?).await
}

fn scanned_before(reason: ScanReason) -> Error {
    Error::new(ErrorKind::Internal, format!("a scanned file is to be scanned again: {reason}"))
}

/// Where the load notes rows that the table rejects, if the settings allow any more bad records.
fn room_for_rejects(attempt: &Attempt<'_>, rows: &FileRows<'_>) -> Option<Arc<ValueRejects>> {
    if !rows.can_reject_rows() {
        return None;
    }
    let limit = attempt.config.files.limits.rejects;
    let room = limit.max_of(rows.rows + rows.rows_rejected).saturating_sub(rows.rows_rejected);
    (room > 0).then(|| Arc::new(ValueRejects::new(room)))
}

/// Every pass must return the rows that the scan counted.
fn check_count(scanned: u64, read: u64) -> Result<()> {
    if scanned == read {
        return Ok(());
    }
    let message = format!("the second pass returned {read} rows, the scan {scanned}");
    Err(Error::new(ErrorKind::Internal, message))
}

/// Commits a finalized load, unless another worker has taken over.
pub(super) async fn commit(attempt: &Attempt<'_>, load: Box<dyn ReadyLoad>) -> Result<LoadResult> {
    let counts = load.counts();
    // The open transaction holds the ledger row, so no other COMMIT for this object version can be under way.
    attempt.resolve_commit();
    attempt.fence_before_commit().await?;
    match load.commit().await {
        CommitResult::Committed => {
            attempt.resolve_commit();
            Ok(LoadResult::Loaded(counts))
        }
        CommitResult::NotCommitted(error) => {
            attempt.resolve_commit();
            Err(error)
        }
        CommitResult::Unknown(error) => ask_ledger(attempt, counts, error).await,
    }
}

/// Asks the ledger about a COMMIT without an answer, within the budget.
async fn ask_ledger(attempt: &Attempt<'_>, counts: RowCounts, cause: Error) -> Result<LoadResult> {
    warn!(error = %chain(&cause), "the server did not answer COMMIT, asking the ledger");
    let started = Instant::now();
    let budget = attempt.retry_budget();
    let mut tries = 0;
    loop {
        match is_loaded(attempt).await {
            Ok(true) => {
                info!("the ledger says that COMMIT took effect");
                return Ok(LoadResult::Loaded(counts));
            }
            Ok(false) => {
                let message = "the connection was lost at COMMIT, and the ledger says that nothing was stored";
                return Err(Error::new(ErrorKind::Failover, message).with_source(cause));
            }
            Err(error) => warn!(error = %chain(&error), tries, "the ledger could not be read, retrying"),
        }
        tries += 1;
        let delay = backoff(tries, fastrand::f64());
        if started.elapsed() + delay >= budget {
            let message = "the server did not answer COMMIT, and the ledger could not be read in time";
            return Err(Error::new(ErrorKind::CommitUnknown, message).with_source(cause));
        }
        tokio::time::sleep(delay).await;
    }
}

/// Whether the ledger says that this object version's rows are in the target table. Its answer resolves every COMMIT sent before:
/// [`crate::destination::Destination::look_up`] fails while a transaction that claims the object version is open.
pub(crate) async fn is_loaded(attempt: &Attempt<'_>) -> Result<bool> {
    let entry = attempt.destination(false).await?.look_up(&attempt.source.id).await?;
    attempt.resolve_commit();
    Ok(entry.is_some_and(|entry| entry.state.is_in_target()))
}

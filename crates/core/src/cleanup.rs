//! Deletes leftovers of dead workers: expired leases, unfinished uploads, staging tables.
//!
//! Safe at any time and in parallel: only things that are older than a given age and belong to no live lease are
//! deleted. Files that no event has delivered are the job of [`crate::reconcile`].

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use tracing::{debug, info, warn};

use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind, Result, chain};
use crate::pipeline::{Context, DatabaseSettings};
use crate::report::{NotDone, is_zero};
use crate::store::lease;

/// The leftovers that one cleanup has deleted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cleared {
    /// Number of expired leases deleted.
    pub leases: usize,
    /// Number of unfinished multipart uploads aborted.
    pub uploads: usize,
    /// Names of the staging tables dropped.
    pub staging_tables: Vec<String>,
    /// Number of objects deleted that COPY would have read.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub copies: usize,
    /// Number of old attempts deleted from the history.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub attempts: u64,
}

/// Deletes leases, uploads and staging tables of dead workers. Returns how many, and what could not be done.
///
/// A lease that has expired since the sweep began stays, because the sweep could not finish the work of its worker.
///
/// A failure with one kind is logged and does not stop the others: the next cleanup tries again.
pub(crate) async fn clean_up(
    context: &Context,
    bucket: &str,
    (begun, older_than): (Timestamp, Duration),
    deadline: &Deadline,
) -> (Cleared, Vec<NotDone>) {
    let (mut cleared, mut not_done) = (Cleared::default(), Vec::new());
    match lease::drop_expired(&context.store, bucket, &context.settings.prefixes.lease, begun).await {
        Ok(count) => cleared.leases = count,
        Err(error) => not_done.push(failed("expired leases are not deleted", &error)),
    }
    match abort_uploads(context, bucket, older_than).await {
        Ok(count) => cleared.uploads = count,
        Err(error) => not_done.push(failed("unfinished uploads are not aborted", &error)),
    }
    let dropped = tokio::select! {
        dropped = drop_staging_tables(context, bucket, older_than) => dropped,
        error = deadline.reached() => Err(error),
    };
    match dropped {
        Ok(names) => cleared.staging_tables = names,
        Err(error) => not_done.push(failed("staging tables of dead workers are not dropped", &error)),
    }
    match delete_copies(context, bucket, older_than).await {
        Ok(count) => cleared.copies = count,
        Err(error) => not_done.push(failed("rows that COPY would have read are not deleted", &error)),
    }
    match maintain_attempts(context, deadline).await {
        Ok(count) => cleared.attempts = count,
        Err(error) => not_done.push(failed("the attempt history is not maintained", &error)),
    }
    info!(
        leases = cleared.leases,
        uploads = cleared.uploads,
        staging_tables = cleared.staging_tables.len(),
        copies = cleared.copies,
        attempts = cleared.attempts,
        "cleaned up after dead workers"
    );
    (cleared, not_done)
}

/// Logs a failure, and returns it for the response.
fn failed(what: &str, error: &Error) -> NotDone {
    warn!(error = %chain(error), "{what}");
    NotDone::new(what, error)
}

async fn drop_staging_tables(context: &Context, bucket: &str, older_than: Duration) -> Result<Vec<String>> {
    // `drop_expired` keeps live leases, and expired ones whose notes a later attempt needs.
    let leases = lease::leases(&context.store, bucket, &context.settings.prefixes.lease).await?;
    let live: Vec<_> = leases.into_iter().map(|lease| lease.source_id).collect();
    context
        .destinations
        .open(&context.settings.database.options, false)
        .await?
        .drop_stale_staging(older_than, &live)
        .await
}

/// Creates what the attempt history lacks, and deletes old attempts. Returns how many.
async fn maintain_attempts(context: &Context, deadline: &Deadline) -> Result<u64> {
    let DatabaseSettings { options, history_days, .. } = &context.settings.database;
    let keep_for = SignedDuration::from_hours(24 * i64::try_from(*history_days).unwrap_or(i64::MAX / 24));
    if context.outage.kind().is_some() {
        return Ok(0);
    }
    let before = Timestamp::now().saturating_sub(keep_for).unwrap_or(Timestamp::UNIX_EPOCH);
    let kept = tokio::select! {
        kept = async { context.destinations.open(options, false).await?.maintain_attempts(before).await } => kept,
        error = deadline.reached() => Err(error),
    };
    match kept {
        Ok(upkeep) => Ok(upkeep.deleted),
        // Only the owner of the ledger may create the rest, which a check names; or a load holds the table, and the next
        // cleanup tries again.
        Err(error) if matches!(error.kind(), ErrorKind::Privilege | ErrorKind::Conflict) => {
            debug!(error = %chain(&error), "the attempt history is not complete");
            Ok(0)
        }
        Err(error) => Err(error),
    }
}

/// Deletes the rows that dead workers have written for COPY. Returns how many objects.
///
/// If the transaction of such a worker still runs, its COPY fails, because each object is mandatory.
async fn delete_copies(context: &Context, bucket: &str, older_than: Duration) -> Result<usize> {
    let prefixes = &context.settings.prefixes;
    let Some(prefix) = &prefixes.copy else { return Ok(0) };
    let leases = lease::leases(&context.store, bucket, &prefixes.lease).await?;
    let live: Vec<_> = leases.into_iter().map(|lease| lease.source_id).collect();
    let age = SignedDuration::try_from(older_than).unwrap_or(SignedDuration::MAX);
    let before = Timestamp::now().checked_sub(age).unwrap_or(Timestamp::MIN);
    let (mut pages, mut count) = (context.store.list(bucket, prefix), 0);
    while let Some(page) = pages.next().await? {
        let is_live = |key: &str| live.iter().any(|source_id| key.contains(source_id.as_str()));
        for listed in page.into_iter().filter(|listed| listed.last_modified < before && !is_live(&listed.key)) {
            context.store.delete(bucket, &listed.key).await?;
            count += 1;
        }
    }
    Ok(count)
}

/// Aborts the uploads of fallback and lake objects, and of copies that are too large for one request.
async fn abort_uploads(context: &Context, bucket: &str, older_than: Duration) -> Result<usize> {
    let prefixes = &context.settings.prefixes;
    let mut leases = lease::leases(&context.store, bucket, &prefixes.lease).await?;
    leases.retain(|lease| lease.expires_at >= Timestamp::now());
    let live: Vec<_> = leases.into_iter().map(|lease| lease.source_id).collect();
    let mut count = 0;
    let written = [&prefixes.fallback, &prefixes.processed, &prefixes.failed, &prefixes.rejected];
    for prefix in written.into_iter().chain(&prefixes.lake).chain(&prefixes.copy) {
        count += context.store.abort_stale_uploads(bucket, prefix, older_than, &live).await?;
    }
    Ok(count)
}

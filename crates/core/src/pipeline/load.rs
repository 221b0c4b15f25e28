//! The load of scanned rows: claim, write, send to the lake, finalize, publish in the lake, commit, with the retries of the
//! retry policy ([`crate::policy`]).

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::{info, warn};

use crate::destination::ValueRejects;
use crate::destination::{
    Begun, Body, Claimed, CommitResult, Destination, FileClaim, FileSchema, LedgerEntry, LedgerState, OpenClaim,
    ReadyLoad, RowCounts, ScanReason, WriteResult,
};
use crate::error::{Error, ErrorKind, Result, chain};
use crate::pipeline::{FileRows, LakeObject, LoadAttempt};
use crate::policy::{Retry, backoff, policy};
use spillway_formats::reject::Reject;

/// The pause between two statements that keep the connection of a claim open. Servers close an idle one after 90 seconds.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(20);

/// The result of a load without a failure.
#[derive(Debug)]
pub(crate) enum LoadResult {
    /// This attempt loaded the rows.
    Loaded(RowCounts),
    /// The rows were already in the table, or a newer file has replaced the table; the ledger row says which.
    NotNeeded(LedgerEntry),
}

/// Loads the rows, with the retries of the retry policy. During an outage that this process knows of, it does not wait.
///
/// # Errors
/// After an error this attempt committed nothing, unless the kind is [`ErrorKind::CommitUnknown`].
pub(crate) async fn load(attempt: &impl LoadAttempt, rows: &FileRows<'_>) -> Result<LoadResult> {
    let started = Instant::now();
    let budget = attempt.retry_budget();
    let mut tries = 0;
    let mut reread_secret = attempt.starts_with_fresh_credentials();
    loop {
        let value_rejects = rows.value_rejects(attempt.config().files.limits.rejects).map(Arc::new);
        let error = match load_once(attempt, rows, value_rejects.clone(), reread_secret).await {
            Ok(result) => return Ok(result),
            Err(error) => error,
        };
        if attempt.try_request_wider_column(&error) {
            info!(error = %chain(&error), "a value does not fit its column, trying a wider one");
            continue;
        }
        let error = rows.explain_refusal(attempt.config(), value_rejects.as_deref(), error);
        tries += 1;
        let delay = backoff(tries, jitter());
        let waited = started.elapsed() + delay;
        let again = match policy(error.kind()).retry {
            Retry::Never => false,
            Retry::Tries(most) => tries < most,
            Retry::Budget => wait_or_record_outage(attempt, error.kind(), waited, budget, Duration::MAX),
            Retry::FreshCredentials(_) if !attempt.credentials_may_change() => false,
            Retry::FreshCredentials(most) => wait_or_record_outage(attempt, error.kind(), waited, budget, most),
        };
        if !again {
            return Err(error);
        }
        let (kind, text) = (error.kind(), chain(&error));
        match error.is_expected() {
            true => info!(%kind, reason = text, "the file is no longer needed, reading the ledger"),
            // One warning is enough for all tries of a file.
            false if tries > 1 => info!(%kind, error = text, tries, "the load failed, retrying"),
            false => warn!(%kind, error = text, tries, "the load failed, retrying"),
        }
        reread_secret = error.kind() == ErrorKind::Credentials;
        tokio::time::sleep(delay).await;
    }
}

/// Whether a file may wait longer for a database that is down: for at most `most`, within the retry budget.
///
/// If it may not, this process remembers the outage, unless only the deadline has ended the wait.
fn wait_or_record_outage(
    attempt: &impl LoadAttempt,
    kind: ErrorKind,
    waited: Duration,
    budget: Duration,
    most: Duration,
) -> bool {
    let outage = attempt.outage();
    let is_known = outage.explains(kind);
    let limit = budget.min(most);
    if !is_known && waited < limit {
        return true;
    }
    // A wait that the deadline has shortened does not prove an outage: it may have been a short interruption.
    let is_proved = limit == attempt.configured_retry_budget().min(most);
    if is_known || is_proved {
        outage.prove(kind);
    }
    false
}

/// The random share of a delay, so that workers do not retry at the same moment. Unit tests wait a thousandth of it.
fn jitter() -> f64 {
    if cfg!(test) { fastrand::f64() / 1000.0 } else { fastrand::f64() }
}

async fn load_once(
    attempt: &impl LoadAttempt,
    rows: &FileRows<'_>,
    value_rejects: Option<Arc<ValueRejects>>,
    reread_secret: bool,
) -> Result<LoadResult> {
    let destination = attempt.destination(reread_secret).await?;
    let body = attempt.body(&rows.body_sha256, rows.decoded_bytes);
    let stored = match attempt.config().destination.output.has_database() {
        true => store_rows(attempt, rows, value_rejects, (&*destination, &body)).await?,
        false => claim_only(attempt, rows, (&*destination, &body)).await?,
    };
    let Stored { mut claim, counts, table_rejects } = match stored {
        StoreResult::Stored(stored) => stored,
        StoreResult::NotNeeded(entry) => {
            attempt.mark_commit_resolved();
            return Ok(LoadResult::NotNeeded(entry));
        }
    };
    let counts = RowCounts { rows_rejected: rows.rows_rejected + table_rejects.len() as u64, ..counts };
    let stored_elsewhere = async {
        attempt.write_rejects(rows, table_rejects.clone()).await?;
        attempt.upload_to_lake(rows, &table_rejects).await
    };
    let object = match while_claimed(&mut *claim, stored_elsewhere).await {
        Ok(object) => object,
        Err(error) => {
            claim.undo().await;
            return Err(error);
        }
    };
    let body = Body { lake_key: object.as_ref().map(|object| object.key().to_owned()), ..body };
    let finalized = claim.finalize(body, counts).await;
    let load = publish(finalized, object).await?;
    commit(attempt, load).await
}

/// Runs `work` and keeps the connection of the claim open at the same time.
///
/// What happens between the last row and `finalize` belongs in `work`: it may take longer than the server allows a
/// transaction to be idle.
///
/// # Errors
/// When `work` or the connection fails.
pub(super) async fn while_claimed<T>(claim: &mut dyn OpenClaim, work: impl Future<Output = Result<T>>) -> Result<T> {
    let mut work = pin!(work);
    loop {
        tokio::select! {
            result = &mut work => return result,
            () = tokio::time::sleep(KEEP_ALIVE_INTERVAL) => claim.keep_alive().await?,
        }
    }
}

/// Publishes the lake object of a finalized load. After an error, nothing of the load is left in the database.
async fn publish(finalized: Result<Box<dyn ReadyLoad>>, object: Option<LakeObject<'_>>) -> Result<Box<dyn ReadyLoad>> {
    match (finalized, object) {
        (Ok(load), None) => Ok(load),
        (Ok(load), Some(object)) => match object.publish().await {
            Ok(()) => Ok(load),
            Err(error) => {
                load.undo().await;
                Err(error)
            }
        },
        (Err(error), object) => {
            if let Some(object) = object {
                object.abandon().await;
            }
            Err(error)
        }
    }
}

/// The result of [`store_rows`] and [`claim_only`].
enum StoreResult {
    Stored(Stored),
    NotNeeded(LedgerEntry),
}

/// A claim whose transaction has all rows that the database stores.
struct Stored {
    claim: Box<dyn OpenClaim>,
    counts: RowCounts,
    /// The records that the table rejected.
    table_rejects: Vec<Reject>,
}

/// Claims the source and sends its rows to the table.
async fn store_rows(
    attempt: &impl LoadAttempt,
    rows: &FileRows<'_>,
    value_rejects: Option<Arc<ValueRejects>>,
    (destination, body): (&dyn Destination, &Body),
) -> Result<StoreResult> {
    let claim = FileClaim { value_rejects: value_rejects.clone(), ..attempt.claim() };
    let schema = FileSchema::Final { schema: &rows.schema, body };
    let begun = destination.begin(&claim, schema).await;
    attempt.outage().observe(&begun);
    let mut load = match begun? {
        Begun::Open { load, .. } => load,
        Begun::NotNeeded(entry) => return Ok(StoreResult::NotNeeded(entry)),
        Begun::NeedsScan(reason) => return Err(scanned_before(reason)),
    };
    let counts = match load.write(rows.open().await?).await? {
        WriteResult::Written(counts) => counts,
        WriteResult::NeedsScan(reason) => return Err(scanned_before(reason)),
    };
    let table_rejects = value_rejects.as_ref().map(|rejects| rejects.collected()).unwrap_or_default();
    let checked = check_count(rows.rows, counts.rows_parsed + table_rejects.len() as u64)
        .and_then(|()| value_rejects.map_or(Ok(()), |rejects| rejects.check_not_all(rows.rows)));
    if let Err(error) = checked {
        load.undo().await;
        return Err(error);
    }
    Ok(StoreResult::Stored(Stored { claim: load, counts, table_rejects }))
}

/// Claims the source for rows that are stored only in the lake.
async fn claim_only(
    attempt: &impl LoadAttempt,
    rows: &FileRows<'_>,
    (destination, body): (&dyn Destination, &Body),
) -> Result<StoreResult> {
    let claimed = destination.claim(&attempt.claim(), body).await;
    attempt.outage().observe(&claimed);
    Ok(match claimed? {
        Claimed::Open(claim) => {
            StoreResult::Stored(Stored { claim, counts: RowCounts::inserted(rows.rows), table_rejects: Vec::new() })
        }
        Claimed::NotNeeded(entry) => StoreResult::NotNeeded(entry),
    })
}

fn scanned_before(reason: ScanReason) -> Error {
    Error::new(ErrorKind::Internal, format!("the database asked for another scan of a scanned file: {reason}"))
}

/// Fails unless a pass returned as many rows as the scan.
fn check_count(scanned: u64, read: u64) -> Result<()> {
    if scanned == read {
        return Ok(());
    }
    let message = format!("the load read {read} rows, the scan {scanned}");
    Err(Error::new(ErrorKind::Internal, message))
}

/// Commits a finalized load, unless another worker has taken over.
pub(super) async fn commit(attempt: &impl LoadAttempt, load: Box<dyn ReadyLoad>) -> Result<LoadResult> {
    let counts = load.counts();
    // The open transaction holds the ledger row, so no other COMMIT for this object version can be under way.
    attempt.mark_commit_resolved();
    attempt.fence_before_commit().await?;
    let result = load.commit().await;
    if !matches!(result, CommitResult::Unknown(_)) {
        attempt.mark_commit_resolved();
    }
    match result {
        CommitResult::Committed => Ok(LoadResult::Loaded(counts)),
        CommitResult::Merged(merged) => {
            Ok(LoadResult::Loaded(RowCounts { rows_rejected: counts.rows_rejected, ..merged }))
        }
        CommitResult::NotCommitted(error) => Err(error),
        CommitResult::Unknown(error) => resolve_unknown_commit(attempt, counts, error).await,
    }
}

/// Reads the ledger after a COMMIT without a response, until it can be read or the retry budget ends.
async fn resolve_unknown_commit(attempt: &impl LoadAttempt, counts: RowCounts, cause: Error) -> Result<LoadResult> {
    warn!(error = %chain(&cause), "the server did not respond to COMMIT, reading the ledger");
    let started = Instant::now();
    let budget = attempt.retry_budget();
    let mut tries = 0;
    loop {
        match finished_entry(attempt).await {
            Ok(Some(entry)) if entry.state == LedgerState::Loaded => {
                info!("the ledger says that COMMIT took effect");
                return Ok(LoadResult::Loaded(RowCounts { rows_stored: entry.rows_stored, ..counts }));
            }
            Ok(Some(entry)) => {
                info!("the ledger says that another worker found the file a duplicate or superseded");
                return Ok(LoadResult::NotNeeded(entry));
            }
            Ok(None) => {
                let message = "the connection was lost at COMMIT, and the ledger says that nothing was stored";
                return Err(Error::new(ErrorKind::Failover, message).with_source(cause));
            }
            Err(error) => warn!(error = %chain(&error), tries, "the ledger could not be read, retrying"),
        }
        tries += 1;
        let delay = backoff(tries, jitter());
        if started.elapsed() + delay >= budget {
            let message = "the server did not respond to COMMIT, and the ledger could not be read in time";
            return Err(Error::new(ErrorKind::CommitUnknown, message).with_source(cause));
        }
        tokio::time::sleep(delay).await;
    }
}

/// Returns the ledger entry of an object version that needs no load, and `None` for one that does.
///
/// This resolves every earlier COMMIT: [`crate::destination::Destination::look_up`] fails while a transaction that
/// claims the object version is open.
pub(crate) async fn finished_entry(attempt: &impl LoadAttempt) -> Result<Option<LedgerEntry>> {
    let found = attempt.destination(false).await?.look_up(&attempt.source().id).await;
    attempt.outage().observe(&found);
    let entry = found?;
    attempt.mark_commit_resolved();
    Ok(entry.filter(|entry| entry.state.needs_no_load()))
}

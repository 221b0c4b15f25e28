//! The database's part of the road: claim, load, settle, commit; tried again as the failure table says.

use std::sync::Arc;
use std::time::Instant;

use tracing::{info, warn};

use crate::destination::any::{AnyDestination, AnySession};
use crate::destination::{Claim, Claimed, CommitResult, Destination, LedgerEntry, LedgerState, Loaded};
use crate::error::{Error, ErrorKind, Result, chain};
use crate::pipeline::Attempt;
use crate::pipeline::content::{self, ScanResult};
use crate::pipeline::rejects;
use crate::policy::{Retry, backoff, policy};
use crate::reject::ValueRejects;

/// How a load ended well.
#[derive(Debug)]
pub(crate) enum LoadResult {
    /// By this attempt.
    Loaded(Loaded),
    /// By an earlier one, or under another version of the same bytes.
    AlreadyLoaded(LedgerEntry),
}

/// Loads the rows, waiting for the database within the budget. An error here proves that nothing was committed, unless
/// its kind is [`ErrorKind::CommitUnknown`].
pub(crate) async fn load(attempt: &Attempt<'_>, scanned: &ScanResult) -> Result<LoadResult> {
    let started = Instant::now();
    let budget = attempt.retry_budget();
    let mut tries = 0;
    let mut fresh = false;
    loop {
        let error = match load_once(attempt, scanned, fresh).await {
            Ok(end) => return Ok(end),
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
        warn!(kind = %error.kind(), error = %chain(&error), tries, "the database did not take the rows, trying again");
        fresh = error.kind() == ErrorKind::Credentials;
        tokio::time::sleep(delay).await;
    }
}

async fn load_once(attempt: &Attempt<'_>, scanned: &ScanResult, fresh: bool) -> Result<LoadResult> {
    let destination = attempt.destination(fresh).await?;
    let limit = attempt.context.settings.files.limits.rejects;
    let all = scanned.rows + scanned.rows_rejected;
    let room = if scanned.can_cut() { limit.most(all).saturating_sub(scanned.rows_rejected) } else { 0 };
    let value_rejects = (room > 0).then(|| Arc::new(ValueRejects::new(room)));
    let claim = Claim {
        value_rejects: value_rejects.clone(),
        ..attempt.claim(Some(attempt.body(&scanned.body_sha256, scanned.decoded_bytes)))
    };
    let mut session = match destination.claim(&claim, &scanned.schema).await? {
        Claimed::Ours(session) => session,
        Claimed::Ended(entry) => {
            attempt.commit_proved();
            return Ok(LoadResult::AlreadyLoaded(entry));
        }
    };
    let rows = content::rows(attempt, scanned).await?;
    let loaded = destination.load(&mut session, &scanned.schema, rows).await?;
    let values = value_rejects.map(|rejects| rejects.noted()).unwrap_or_default();
    let rows_given = loaded.rows_parsed + values.len() as u64;
    if rows_given != scanned.rows {
        let message = format!("the second pass gave {rows_given} rows, the first {}", scanned.rows);
        return Err(Error::new(ErrorKind::Internal, message));
    }
    let loaded = Loaded { rows_rejected: scanned.rows_rejected + values.len() as u64, ..loaded };
    rejects::write(attempt, scanned, values).await?;
    let loaded = destination.finalize(&mut session, loaded).await?;
    commit(attempt, &destination, session, loaded).await
}

/// Commits what stands ready, unless somebody else has taken over meanwhile.
pub(super) async fn commit(
    attempt: &Attempt<'_>,
    destination: &AnyDestination,
    session: AnySession,
    loaded: Loaded,
) -> Result<LoadResult> {
    // The open transaction holds the ledger row, so no other COMMIT for this source can be under way.
    attempt.commit_disproved();
    attempt.fence_before_commit().await?;
    match destination.commit(session).await {
        CommitResult::Committed => {
            attempt.commit_proved();
            Ok(LoadResult::Loaded(loaded))
        }
        CommitResult::NotCommitted(error) => {
            attempt.commit_disproved();
            Err(error)
        }
        CommitResult::Unknown(error) => ask_ledger(attempt, loaded, error).await,
    }
}

/// After a COMMIT without an answer: asks the ledger until it tells, within the budget.
async fn ask_ledger(attempt: &Attempt<'_>, loaded: Loaded, cause: Error) -> Result<LoadResult> {
    warn!(error = %chain(&cause), "COMMIT was not answered, asking the ledger");
    let started = Instant::now();
    let budget = attempt.retry_budget();
    let mut tries = 0;
    loop {
        match is_in_target(attempt).await {
            Ok(true) => {
                info!("the ledger says that the COMMIT took effect");
                return Ok(LoadResult::Loaded(loaded));
            }
            Ok(false) => {
                let message = "the connection was lost at COMMIT, and the ledger says that nothing was stored";
                return Err(Error::new(ErrorKind::Failover, message).with_source(cause));
            }
            Err(error) => warn!(error = %chain(&error), tries, "the ledger could not be asked, trying again"),
        }
        tries += 1;
        let delay = backoff(tries, fastrand::f64());
        if started.elapsed() + delay >= budget {
            let message = "COMMIT was not answered and the ledger could not be asked in time";
            return Err(Error::new(ErrorKind::CommitUnknown, message).with_source(cause));
        }
        tokio::time::sleep(delay).await;
    }
}

/// Asks the ledger whether this source's rows are in the target table. An answer settles every COMMIT sent before, as
/// [`Destination::look_up`] does not answer while a transaction that claims the source is open.
pub(crate) async fn is_in_target(attempt: &Attempt<'_>) -> Result<bool> {
    let entry = attempt.destination(false).await?.look_up(&attempt.source.id).await?;
    let is_in_target = match entry.map(|entry| entry.state) {
        Some(LedgerState::Loaded | LedgerState::Duplicate | LedgerState::Superseded) => true,
        Some(LedgerState::FellBack | LedgerState::Rejected) | None => false,
    };
    attempt.commit_disproved();
    Ok(is_in_target)
}

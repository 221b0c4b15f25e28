//! The database's part of the road: claim, load, settle, commit; tried again as the failure table says.

use std::sync::Arc;
use std::time::Instant;

use tracing::{info, warn};

use crate::error::{Error, ErrorKind, Result, chain};
use crate::pipeline::Attempt;
use crate::pipeline::content::{self, Inspected};
use crate::pipeline::rejects;
use crate::policy::{Retry, backoff, policy};
use crate::reject::ValueRejects;
use crate::target::any::{AnySession, AnyTarget};
use crate::target::{Claim, Claimed, CommitEnd, LedgerEntry, LedgerState, Loaded, Target};

/// How a load ended well.
#[derive(Debug)]
pub(crate) enum LoadEnd {
    /// By this attempt.
    Now(Loaded),
    /// By an earlier one, or under another version of the same bytes.
    Before(LedgerEntry),
}

/// Loads the rows, waiting for the database within the budget. An error here proves that nothing was committed, unless
/// its kind is [`ErrorKind::CommitUnknown`].
pub(crate) async fn load(attempt: &Attempt<'_>, inspected: &Inspected) -> Result<LoadEnd> {
    let started = Instant::now();
    let budget = attempt.retry_budget();
    let mut tries = 0;
    let mut fresh = false;
    loop {
        let error = match load_once(attempt, inspected, fresh).await {
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

async fn load_once(attempt: &Attempt<'_>, inspected: &Inspected, fresh: bool) -> Result<LoadEnd> {
    let target = attempt.target(fresh).await?;
    let limit = attempt.road.settings.files.limits.rejects;
    let all = inspected.rows + inspected.rows_rejected;
    let room = if inspected.can_cut() { limit.most(all).saturating_sub(inspected.rows_rejected) } else { 0 };
    let value_rejects = (room > 0).then(|| Arc::new(ValueRejects::new(room)));
    let claim = Claim {
        value_rejects: value_rejects.clone(),
        ..attempt.claim(Some(attempt.body(&inspected.body_sha256, inspected.decoded_bytes)))
    };
    let mut session = match target.claim(&claim, &inspected.schema).await? {
        Claimed::Ours(session) => session,
        Claimed::Ended(entry) => {
            attempt.commit_proved();
            return Ok(LoadEnd::Before(entry));
        }
    };
    let rows = content::rows(attempt, inspected).await?;
    let loaded = target.load(&mut session, &inspected.schema, rows).await?;
    let values = value_rejects.map(|rejects| rejects.noted()).unwrap_or_default();
    let rows_given = loaded.rows_parsed + values.len() as u64;
    if rows_given != inspected.rows {
        let message = format!("the second pass gave {rows_given} rows, the first {}", inspected.rows);
        return Err(Error::new(ErrorKind::Bug, message));
    }
    let loaded = Loaded { rows_rejected: inspected.rows_rejected + values.len() as u64, ..loaded };
    rejects::write(attempt, inspected, values).await?;
    let loaded = target.settle(&mut session, loaded).await?;
    commit(attempt, &target, session, loaded).await
}

/// Commits what stands ready, unless somebody else has taken over meanwhile.
pub(super) async fn commit(
    attempt: &Attempt<'_>,
    target: &AnyTarget,
    session: AnySession,
    loaded: Loaded,
) -> Result<LoadEnd> {
    // The open transaction holds the ledger row, so no other COMMIT for this source can be under way.
    attempt.commit_disproved();
    attempt.announce_commit().await?;
    match target.commit(session).await {
        CommitEnd::Committed => {
            attempt.commit_proved();
            Ok(LoadEnd::Now(loaded))
        }
        CommitEnd::NotCommitted(error) => {
            attempt.commit_disproved();
            Err(error)
        }
        CommitEnd::Unknown(error) => ask_ledger(attempt, loaded, error).await,
    }
}

/// After a COMMIT without an answer: asks the ledger until it tells, within the budget.
async fn ask_ledger(attempt: &Attempt<'_>, loaded: Loaded, cause: Error) -> Result<LoadEnd> {
    warn!(error = %chain(&cause), "COMMIT was not answered, asking the ledger");
    let started = Instant::now();
    let budget = attempt.retry_budget();
    let mut tries = 0;
    loop {
        match is_in_target(attempt).await {
            Ok(true) => {
                info!("the ledger says that the COMMIT took effect");
                return Ok(LoadEnd::Now(loaded));
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
/// [`Target::look_up`] does not answer while a transaction that claims the source is open.
pub(crate) async fn is_in_target(attempt: &Attempt<'_>) -> Result<bool> {
    let entry = attempt.target(false).await?.look_up(&attempt.source.id).await?;
    let is_in_target = match entry.map(|entry| entry.state) {
        Some(LedgerState::Loaded | LedgerState::Duplicate | LedgerState::Superseded) => true,
        Some(LedgerState::FellBack | LedgerState::Rejected) | None => false,
    };
    attempt.commit_disproved();
    Ok(is_in_target)
}

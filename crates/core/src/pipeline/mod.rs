//! The road of one object, from its name to its report. [`process`] reads as the road does.
//!
//! Whatever happens on it, the object's rows are in the target table once, or in the fallback once, or the object is
//! where it was and the caller gets an error. Every step may be repeated. `exactly-once.md` beside this file says why.

mod ahead;
mod attempt;
mod content;
mod decoded;
mod finish;
mod load;
mod one_pass;
mod rejects;
mod shares;

use std::time::Instant;

use tracing::{Instrument, info, info_span};

pub(crate) use attempt::Attempt;
pub(crate) use content::{Content, Inspected};
pub(crate) use load::{LoadEnd, is_in_target, load};
pub use shares::Shares;

use crate::catalog::Catalog;
use crate::config::{LoadMode, RoadSettings};
use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::fallback;
use crate::fault::FaultPoint;
use crate::object::{ObjectRef, Source};
use crate::pattern::KeyParts;
use crate::policy::{End, policy};
use crate::report::{Outcome, Report};
use crate::route;
use crate::secret::Secrets;
use crate::store::Store;
use crate::store::lease::Lease;
use crate::target::any::IdleConnections;

use one_pass::Tried;

/// How often an object that is overwritten while it is read is looked at anew.
const OVERWRITTEN_TRIES: u32 = 3;

/// Everything the road leads through: built once, used for every object.
#[derive(Debug, Clone)]
pub struct Road {
    /// S3.
    pub store: Store,
    /// Glue.
    pub catalog: Catalog,
    /// Where credentials come from.
    pub secrets: Secrets,
    /// Connections to the database that one object leaves to the next.
    pub connections: IdleConnections,
    /// What each object uses up.
    pub shares: Shares,
    /// Settings.
    pub settings: RoadSettings,
    /// Who works here, for the lease and the ledger.
    pub worker: String,
}

/// Takes one object down the road and says where its rows are.
///
/// # Errors
/// An error means that the object reached no end: it is still in place, and the same call may be made again.
pub async fn process(road: &Road, object: &ObjectRef, deadline: Deadline) -> Result<Report> {
    let span = info_span!("object", bucket = %object.bucket, key = %object.key);
    let mut overwritten = 0;
    loop {
        let result = process_version(road, object, &deadline).instrument(span.clone()).await;
        match result {
            Err(error) if error.kind() == ErrorKind::SourceChanged && overwritten < OVERWRITTEN_TRIES => {
                overwritten += 1;
            }
            other => return other.map_err(|error| error.for_object(object)),
        }
    }
}

/// The version of the object that is there now, under a lease and within the deadline.
async fn process_version(road: &Road, object: &ObjectRef, deadline: &Deadline) -> Result<Report> {
    let started = Instant::now();
    let share = road.shares.begin(&road.store);
    let source = match road.store.head(object).await {
        Ok(source) => source,
        Err(error) if error.kind() == ErrorKind::SourceMissing => return Ok(gone(object)),
        Err(error) => return Err(error),
    };
    let (key, origin) = match route::rejects_table(&road.settings.prefixes, &source.object.key) {
        Some(table) => {
            let origin = rejects::origin(&road.store, &source.object).await?;
            (rejects::key_parts(&road.settings, table, origin.as_deref()), origin)
        }
        None => (route::key_parts(&source.object.key, &road.settings.database), None),
    };
    let lease = hold(road, &source).await?;
    let (key, refusal) = match key {
        Ok(key) => (key, None),
        Err(refusal) => (KeyParts::default(), Some(refusal)),
    };
    let attempt = Attempt::new(road, source, key, origin, lease, deadline.clone(), share);
    FaultPoint::LeaseWritten.reached().await;
    let result = tokio::select! {
        result = walk(&attempt, refusal) => result,
        error = deadline.reached() => Err(error),
    };
    attempt.let_go(result.is_ok()).await;
    let mut report = result?;
    report.elapsed_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    finish::log(&report);
    Ok(report)
}

/// open → decompress → parse → infer → load, or fall back → ledger → move → report. A key that gives no table is refused,
/// unless an earlier attempt, by other settings, has brought its rows somewhere.
async fn walk(attempt: &Attempt<'_>, refusal: Option<Error>) -> Result<Report> {
    let settings = &attempt.road.settings;
    attempt.end_inherited_fallback().await?;
    if let Some(found) = fallback::find(&attempt.road.store, settings, &attempt.source).await? {
        return finish::fell_back_before(attempt, &found).await;
    }
    FaultPoint::FallbackLookedUp.reached().await;
    if let Some(refusal) = refusal {
        return finish::refuse_key(attempt, refusal).await;
    }
    let (refused, begun) = match one_pass::load(attempt).await {
        Ok(Tried::Ended(end)) => return finish::loaded(attempt, None, end).await,
        Ok(Tried::Refused(error)) => (Some(error), None),
        Ok(Tried::Unread(begun)) => (None, begun),
        Err(error) if policy(error.kind()).end == End::Reject => return finish::reject(attempt, error).await,
        Err(error) => return Err(error),
    };
    let inspected = match content::inspect(attempt, begun).await {
        Ok(inspected) => inspected,
        Err(error) if policy(error.kind()).end == End::Reject => return finish::reject(attempt, error).await,
        Err(error) => return Err(error),
    };
    if inspected.schema.columns.is_empty() {
        return match settings.database.options.load_mode {
            LoadMode::Append | LoadMode::Merge { .. } => finish::empty(attempt).await,
            LoadMode::Replace => {
                let message =
                    "the file is empty, without even a header, so the table keeps its rows; a header alone empties it";
                finish::reject(attempt, Error::new(ErrorKind::FileBroken, message)).await
            }
        };
    }
    let loaded = match refused {
        Some(error) => Err(error),
        None => load(attempt, &inspected).await,
    };
    match loaded {
        Ok(end) => finish::loaded(attempt, Some(&inspected), end).await,
        Err(error) => match policy(error.kind()).end {
            End::FallBack => finish::fall_back(attempt, &inspected, error).await,
            End::Reject => finish::reject(attempt, error).await,
            End::Fail => Err(error),
        },
    }
}

/// The lease that keeps a slow worker and a faster one from both finishing this source.
pub(crate) async fn hold(road: &Road, source: &Source) -> Result<Lease> {
    let settings = &road.settings;
    Lease::acquire(&road.store, &source.object, &settings.prefixes.lease, &source.id, &road.worker, settings.lease)
        .await
}

fn gone(object: &ObjectRef) -> Report {
    info!(%object, "the object is gone: an earlier delivery has moved it, or somebody deleted it");
    Report::new(object.clone(), Outcome::Skipped)
        .because("the object is gone: moved by an earlier delivery, or deleted")
}

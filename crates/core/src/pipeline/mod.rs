//! The road of one object, from its name to its report. [`process`] reads as the road does.
//!
//! Whatever happens on it, the object's rows are in the target table once, or in the fallback once, or the object is
//! where it was and the caller gets an error. Every step may be repeated. `exactly-once.md` beside this file says why.

mod attempt;
mod content;
mod cost_meter;
mod decoded;
mod finish;
mod load;
mod read_ahead;
mod rejects;
mod single_pass;

use std::time::Instant;

use tracing::{Instrument, info, info_span};

pub(crate) use attempt::Attempt;
pub(crate) use content::{Content, ScanResult};
pub use cost_meter::CostMeter;
pub(crate) use load::{LoadResult, is_in_target, load};

use crate::catalog::Catalog;
use crate::config::{LoadMode, PipelineConfig};
use crate::deadline::Deadline;
use crate::destination::any::IdleConnections;
use crate::error::{Error, ErrorKind, Result};
use crate::failpoint::Failpoint;
use crate::fallback;
use crate::object::{ObjectRef, ObjectVersion};
use crate::pattern::KeyParts;
use crate::policy::{Action, policy};
use crate::report::{Outcome, Report};
use crate::route;
use crate::secret::Secrets;
use crate::store::Store;
use crate::store::lease::Lease;

use single_pass::Tried;

/// How often an object that is overwritten while it is read is looked at anew.
const OVERWRITTEN_TRIES: u32 = 3;

/// Everything the road leads through: built once, used for every object.
#[derive(Debug, Clone)]
pub struct Context {
    /// S3.
    pub store: Store,
    /// Glue.
    pub catalog: Catalog,
    /// Where credentials come from.
    pub secrets: Secrets,
    /// Connections to the database that one object leaves to the next.
    pub connections: IdleConnections,
    /// What each object uses up.
    pub cost_meter: CostMeter,
    /// Settings.
    pub settings: PipelineConfig,
    /// Who works here, for the lease and the ledger.
    pub worker: String,
}

/// Takes one object down the road and says where its rows are.
///
/// # Errors
/// An error means that the object reached no end: it is still in place, and the same call may be made again.
pub async fn process(context: &Context, object: &ObjectRef, deadline: Deadline) -> Result<Report> {
    let span = info_span!("object", bucket = %object.bucket, key = %object.key);
    let mut overwritten = 0;
    loop {
        let result = process_version(context, object, &deadline).instrument(span.clone()).await;
        match result {
            Err(error) if error.kind() == ErrorKind::SourceChanged && overwritten < OVERWRITTEN_TRIES => {
                overwritten += 1;
            }
            other => return other.map_err(|error| error.for_object(object)),
        }
    }
}

/// The version of the object that is there now, under a lease and within the deadline.
async fn process_version(context: &Context, object: &ObjectRef, deadline: &Deadline) -> Result<Report> {
    let started = Instant::now();
    let usage = context.cost_meter.begin(&context.store);
    let source = match context.store.head(object).await {
        Ok(source) => source,
        Err(error) if error.kind() == ErrorKind::SourceMissing => return Ok(gone(object)),
        Err(error) => return Err(error),
    };
    let (key, original_key) = match route::rejects_table(&context.settings.prefixes, &source.object.key) {
        Some(table) => {
            let original_key = rejects::original_key(&context.store, &source.object).await?;
            (rejects::key_parts(&context.settings, table, original_key.as_deref()), original_key)
        }
        None => (route::key_parts(&source.object.key, &context.settings.database), None),
    };
    let lease = acquire_lease(context, &source).await?;
    let (key, rejection) = match key {
        Ok(key) => (key, None),
        Err(rejection) => (KeyParts::default(), Some(rejection)),
    };
    let attempt = Attempt::new(context, source, key, original_key, lease, deadline.clone(), usage);
    Failpoint::LeaseWritten.reached().await;
    let result = tokio::select! {
        result = walk(&attempt, rejection) => result,
        error = deadline.reached() => Err(error),
    };
    attempt.end(result.is_ok()).await;
    let mut report = result?;
    report.elapsed_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    finish::log(&report);
    Ok(report)
}

/// open → decompress → parse → infer → load, or fall back → ledger → move → report. A key that gives no table is refused,
/// unless an earlier attempt, by other settings, has brought its rows somewhere.
async fn walk(attempt: &Attempt<'_>, rejection: Option<Error>) -> Result<Report> {
    let settings = &attempt.context.settings;
    attempt.end_previous_fallback().await?;
    if let Some(found) = fallback::find(&attempt.context.store, settings, &attempt.source).await? {
        return finish::fell_back_before(attempt, &found).await;
    }
    Failpoint::FallbackLookedUp.reached().await;
    if let Some(rejection) = rejection {
        return finish::refuse_key(attempt, rejection).await;
    }
    let (refused, begun) = match single_pass::load(attempt).await {
        Ok(Tried::Ended(end)) => return finish::loaded(attempt, None, end).await,
        Ok(Tried::Refused(error)) => (Some(error), None),
        Ok(Tried::Unread(begun)) => (None, begun),
        Err(error) if policy(error.kind()).end == Action::Reject => return finish::reject(attempt, error).await,
        Err(error) => return Err(error),
    };
    let scanned = match content::scan(attempt, begun).await {
        Ok(scanned) => scanned,
        Err(error) if policy(error.kind()).end == Action::Reject => return finish::reject(attempt, error).await,
        Err(error) => return Err(error),
    };
    if scanned.schema.columns.is_empty() {
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
        None => load(attempt, &scanned).await,
    };
    match loaded {
        Ok(end) => finish::loaded(attempt, Some(&scanned), end).await,
        Err(error) => match policy(error.kind()).end {
            Action::FallBack => finish::fall_back(attempt, &scanned, error).await,
            Action::Reject => finish::reject(attempt, error).await,
            Action::Fail => Err(error),
        },
    }
}

/// The lease that keeps a slow worker and a faster one from both finishing this source.
pub(crate) async fn acquire_lease(context: &Context, source: &ObjectVersion) -> Result<Lease> {
    let settings = &context.settings;
    Lease::acquire(
        &context.store,
        &source.object,
        &settings.prefixes.lease,
        &source.id,
        &context.worker,
        settings.lease,
    )
    .await
}

fn gone(object: &ObjectRef) -> Report {
    info!(%object, "the object is gone: an earlier delivery has moved it, or somebody deleted it");
    Report::new(object.clone(), Outcome::Skipped)
        .because("the object is gone: moved by an earlier delivery, or deleted")
}

//! Finds what nobody delivered and clears what dead workers left: objects that no event brought, expired leases,
//! unfinished uploads, staging tables.
//!
//! Safe at any time and by any number of workers: objects go down the same road as ever, and only what is older than
//! a given age and held by nobody is cleared.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use crate::deadline::Deadline;
use crate::destination::Destination;
use crate::error::{Result, chain};
use crate::object::ObjectRef;
use crate::pipeline::Context;
use crate::route::Route;
use crate::store::lease;
use crate::store::read::Listed;

/// How old something must be before the sweep takes it for forgotten.
const DEFAULT_AGE_SECONDS: u64 = 15 * 60;

/// What the sweep looks for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SweepRequest {
    /// Objects, uploads and staging tables younger than this are left alone. 900 without it.
    #[serde(default)]
    pub older_than_seconds: Option<u64>,
}

impl SweepRequest {
    /// The age as a duration.
    pub fn older_than(&self) -> Duration {
        Duration::from_secs(self.older_than_seconds.unwrap_or(DEFAULT_AGE_SECONDS))
    }
}

/// What the sweep has cleared.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cleared {
    /// Expired leases that were deleted.
    pub leases: usize,
    /// Unfinished multipart uploads of workers that are gone, aborted.
    pub uploads: usize,
    /// Staging tables that were dropped.
    pub staging_tables: Vec<String>,
}

/// The objects under the upload prefixes that were there before the given age, oldest first.
///
/// # Errors
/// When the bucket cannot be listed.
pub async fn forgotten_objects(context: &Context, bucket: &str, older_than: Duration) -> Result<Vec<Listed>> {
    let prefixes = &context.settings.prefixes;
    let mut forgotten = Vec::new();
    for prefix in &prefixes.upload {
        let mut pages = context.store.list(bucket, prefix);
        while let Some(page) = pages.next().await? {
            forgotten.extend(page.into_iter().filter(|listed| {
                let is_ours = matches!(Route::of(&ObjectRef::new(bucket, &listed.key), prefixes), Route::Ingest);
                is_ours && is_older(listed.last_modified, older_than)
            }));
        }
    }
    forgotten.sort_by_key(|listed| listed.last_modified);
    Ok(forgotten)
}

/// Clears what dead workers left. Each kind on its own: trouble with one is logged and does not stop the others, as
/// nothing is lost when something stays until the next sweep.
pub async fn clear(context: &Context, bucket: &str, older_than: Duration, deadline: &Deadline) -> Cleared {
    let mut cleared = Cleared::default();
    let prefixes = &context.settings.prefixes;
    match lease::drop_expired(&context.store, bucket, &prefixes.lease).await {
        Ok(count) => cleared.leases = count,
        Err(error) => warn!(error = %chain(&error), "expired leases could not be cleared"),
    }
    match clear_uploads(context, bucket, older_than).await {
        Ok(count) => cleared.uploads = count,
        Err(error) => warn!(error = %chain(&error), "unfinished uploads could not be cleared"),
    }
    let staging = async {
        let live = lease::leases(&context.store, bucket, &prefixes.lease).await?;
        let live: Vec<_> = live.into_iter().map(|lease| lease.source_id).collect();
        // Those of every table, so it is nobody's target.
        context.destination("", false).await?.drop_stale_staging(older_than, &live).await
    };
    let swept = tokio::select! {
        swept = staging => swept,
        error = deadline.reached() => Err(error),
    };
    match swept {
        Ok(names) => cleared.staging_tables = names,
        Err(error) => warn!(error = %chain(&error), "staging tables could not be cleared"),
    }
    info!(
        leases = cleared.leases,
        uploads = cleared.uploads,
        staging_tables = cleared.staging_tables.len(),
        "the sweep has cleared what dead workers left"
    );
    cleared
}

/// Fallback objects are written as uploads, and so are the copies of objects too large for one request.
async fn clear_uploads(context: &Context, bucket: &str, older_than: Duration) -> Result<usize> {
    let prefixes = &context.settings.prefixes;
    let mut live = lease::leases(&context.store, bucket, &prefixes.lease).await?;
    live.retain(|lease| lease.expires_at >= Timestamp::now());
    let live: Vec<_> = live.into_iter().map(|lease| lease.source_id).collect();
    let mut count = 0;
    for prefix in [&prefixes.fallback, &prefixes.processed, &prefixes.failed, &prefixes.rejected] {
        count += context.store.abort_stale_uploads(bucket, prefix, older_than, &live).await?;
    }
    Ok(count)
}

fn is_older(time: Timestamp, age: Duration) -> bool {
    Timestamp::now().duration_since(time).unsigned_abs() >= age && time <= Timestamp::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_old_enough_is_forgotten() {
        let minute_ago = Timestamp::now() - jiff::SignedDuration::from_secs(60);
        assert!(is_older(minute_ago, Duration::from_secs(59)));
        assert!(!is_older(minute_ago, Duration::from_secs(120)));
    }

    #[test]
    fn a_sweep_without_an_age_leaves_a_quarter_of_an_hour() {
        assert_eq!(SweepRequest::default().older_than(), Duration::from_secs(900));
    }
}

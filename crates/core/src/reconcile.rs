//! Finds files under the upload prefixes that no event has delivered, and measures what waits.
//!
//! Safe at any time and in parallel: the lease and the ledger decide whether a file found here is loaded. Deleting
//! leftovers is the job of [`crate::cleanup`].

mod kept;

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use jiff::Timestamp;

use crate::error::Result;
use crate::fallback::Manifest;
use crate::metrics::Backlog;
use crate::object::ObjectRef;
use crate::pipeline::Context;
use crate::report::{Outcome, Report};
use crate::route::Route;
use crate::store::lease;
use crate::store::read::ListedObject;

pub(crate) use kept::Files;

/// Returns the files under the upload prefixes, oldest first.
///
/// # Errors
/// When the bucket cannot be listed.
pub(crate) async fn uploaded_files(context: &Context, bucket: &str) -> Result<Vec<ListedObject>> {
    let prefixes = &context.settings.prefixes;
    let is_upload = |listed: &ListedObject| Route::of(&ObjectRef::new(bucket, &listed.key), prefixes) == Route::Ingest;
    let mut files = context.store.list_matching(bucket, &prefixes.upload, is_upload).await?;
    files.sort_by_key(|listed| listed.last_modified);
    Ok(files)
}

/// Whether a file is so old that its event is overdue.
pub(crate) fn is_overdue(file: &ListedObject, older_than: Duration) -> bool {
    is_older(file.last_modified, older_than)
}

/// Returns the number of workers in a row that died with each object, by key. Other objects are not in the map.
///
/// # Errors
/// When a lease cannot be read.
pub(crate) async fn deaths(context: &Context, bucket: &str) -> Result<HashMap<String, u32>> {
    let mut deaths = HashMap::new();
    for found in lease::leases(&context.store, bucket, &context.settings.prefixes.lease).await? {
        let Some(object) = found.object.filter(|_| found.deaths > 0) else { continue };
        // A key has more than one lease if the object was overwritten.
        let most: &mut u32 = deaths.entry(object.key).or_default();
        *most = (*most).max(found.deaths);
    }
    Ok(deaths)
}

/// Measures what is left in the bucket after a sweep that found `files` and returned `reports`, while `fallback` waits for a replay.
/// A file that a worker is loading does not wait.
///
/// # Errors
/// When the leases cannot be listed.
pub(crate) async fn backlog(
    context: &Context,
    bucket: &str,
    files: &[ListedObject],
    reports: &[Report],
    fallback: &[Manifest],
) -> Result<Backlog> {
    // A file that was dispatched to a task waits for it.
    let done = reports.iter().filter(|report| report.outcome != Outcome::HandedOver);
    let done: HashSet<&str> = done.map(|report| report.object.key.as_str()).collect();
    let now = Timestamp::now();
    let leases = lease::leases(&context.store, bucket, &context.settings.prefixes.lease).await?;
    let live = leases.into_iter().filter(|lease| lease.expires_at >= now);
    let in_progress: HashSet<String> = live.filter_map(|lease| lease.object).map(|object| object.key).collect();
    let is_waiting = |file: &&ListedObject| !done.contains(file.key.as_str()) && !in_progress.contains(&file.key);
    let waiting = || files.iter().filter(is_waiting);
    Ok(Backlog {
        waiting_files: waiting().count() as u64,
        oldest_waiting_seconds: waiting().next().map_or(0, |oldest| age_seconds(oldest.last_modified)),
        fallback_files: fallback.len() as u64,
        fallback_rows: fallback.iter().map(|manifest| manifest.rows).sum(),
        oldest_fallback_seconds: fallback.iter().map(|manifest| age_seconds(manifest.written_at)).max().unwrap_or(0),
    })
}

/// Returns the age of something that was written at this time, in seconds.
pub(crate) fn age_seconds(time: Timestamp) -> u64 {
    Timestamp::now().duration_since(time).as_secs().try_into().unwrap_or(0)
}

fn is_older(time: Timestamp, age: Duration) -> bool {
    Timestamp::now().duration_since(time).unsigned_abs() >= age && time <= Timestamp::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_of_the_given_age_are_overdue() {
        let minute_ago = Timestamp::now() - jiff::SignedDuration::from_secs(60);
        assert!(is_older(minute_ago, Duration::from_secs(59)));
        assert!(!is_older(minute_ago, Duration::from_secs(120)));
    }
}

//! Finds files under the upload prefixes that no event has delivered.
//!
//! Safe at any time and in parallel: the lease and the ledger decide whether a file found here is loaded. Deleting
//! leftovers is the job of [`crate::cleanup`].

use std::time::Duration;

use jiff::Timestamp;

use crate::error::Result;
use crate::object::ObjectRef;
use crate::pipeline::Context;
use crate::route::Route;
use crate::store::read::ListedObject;

/// Returns the files under the upload prefixes that are at least `older_than` old, oldest first.
///
/// # Errors
/// When the bucket cannot be listed.
pub(crate) async fn undelivered_files(
    context: &Context,
    bucket: &str,
    older_than: Duration,
) -> Result<Vec<ListedObject>> {
    let prefixes = &context.settings.prefixes;
    let is_undelivered = |listed: &ListedObject| {
        let route = Route::of(&ObjectRef::new(bucket, &listed.key), prefixes);
        route == Route::Ingest && is_older(listed.last_modified, older_than)
    };
    let mut files = context.store.list_matching(bucket, &prefixes.upload, is_undelivered).await?;
    files.sort_by_key(|listed| listed.last_modified);
    Ok(files)
}

fn is_older(time: Timestamp, age: Duration) -> bool {
    Timestamp::now().duration_since(time).unsigned_abs() >= age && time <= Timestamp::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_of_the_given_age_are_undelivered() {
        let minute_ago = Timestamp::now() - jiff::SignedDuration::from_secs(60);
        assert!(is_older(minute_ago, Duration::from_secs(59)));
        assert!(!is_older(minute_ago, Duration::from_secs(120)));
    }
}

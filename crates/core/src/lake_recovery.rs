//! Finishes loads whose workers died between the lake object and COMMIT.
//!
//! Usually the next attempt at the file does that. If the file was overwritten or deleted in the meantime, there is no such
//! attempt, and the lake would keep rows that the ledger does not count. So a sweep finishes these loads from the lake object,
//! which has all rows, under the identity of their source.

use std::time::Duration;

use tracing::{Instrument, info, info_span};

use crate::deadline::Deadline;
use crate::destination::LedgerState;
use crate::error::{ErrorKind, Result};
use crate::pattern::KeyParts;
use crate::pipeline::{
    Assignment, Attempt, Context, FileRows, LoadResult, lake_objects, load, settle_lake, settled_entry,
};
use crate::reconcile::age_seconds;
use crate::report::{Outcome, Report};
use crate::row_objects::{self, Area, Manifest};

/// The age at which the manifest of an object that was never published is removed.
const ABANDONED_SECONDS: u64 = 24 * 60 * 60;

/// Finishes the interrupted loads of the lake that are older than `older_than`, one after the other. Returns the results of
/// those that had to be loaded or that failed.
///
/// # Errors
/// When the lake cannot be listed.
pub(crate) async fn finish_interrupted(
    context: &Context,
    bucket: &str,
    older_than: Duration,
    deadline: &Deadline,
) -> Result<Vec<Result<Report>>> {
    let Some(area) = Area::lake(&context.settings) else { return Ok(Vec::new()) };
    let mut results = Vec::new();
    for manifest in row_objects::list(&context.store, bucket, area, None).await? {
        // A younger one belongs to a load in progress.
        if age_seconds(manifest.written_at) < older_than.as_secs() {
            continue;
        }
        let span = info_span!("lake", key = %manifest.source.object.key);
        let finished = finish(context, &manifest, deadline).instrument(span).await;
        let is_over =
            finished.as_ref().is_err_and(|error| matches!(error.kind(), ErrorKind::Deadline | ErrorKind::Interrupted));
        results.extend(finished.map_err(|error| error.for_object(&manifest.source.object)).transpose());
        if is_over {
            break;
        }
    }
    Ok(results)
}

/// Finishes one load; `None` if nothing was loaded.
async fn finish(context: &Context, manifest: &Manifest, deadline: &Deadline) -> Result<Option<Report>> {
    let original_key = manifest.original_key.as_deref().unwrap_or(&manifest.source.object.key);
    if !context.settings.table(&manifest.target_table, original_key).destination.output.has_lake() {
        return Ok(None);
    }
    // The lease of a file that is still to be loaded counts its deaths, so it is left alone.
    let is_published = context.store.etag_of(&manifest.source.object.bucket, &manifest.key).await?.is_some();
    if !is_published && age_seconds(manifest.written_at) < ABANDONED_SECONDS {
        return Ok(None);
    }
    let usage = context.cost_meter.begin(&context.store);
    // The rows of the object already contain the parts of the key.
    let key = KeyParts { table: manifest.target_table.clone(), parts: Vec::new() };
    let assignment = Assignment { key: Ok(key), original_key: original_key.to_owned() };
    let attempt = Attempt::start(context, manifest.source.clone(), assignment, deadline, usage).await?;
    let report = attempt.run(async |attempt| finish_rows(attempt).await).await?;
    Ok((report.outcome == Outcome::Loaded).then_some(report))
}

/// Loads the rows of a published object, unless the ledger or the fallback has them. Then removes what is not needed.
async fn finish_rows(attempt: &Attempt<'_>) -> Result<Report> {
    let skipped = || attempt.report(Outcome::Skipped);
    let has_fallback = attempt.earlier_fallback().await?.is_some();
    if let Some(entry) = settled_entry(attempt).await? {
        settle_lake(attempt, entry.state).await?;
        return Ok(skipped());
    }
    let objects = lake_objects(attempt)?;
    let Some((manifest, Some(_))) = row_objects::find(objects.store, objects.area, &attempt.source).await? else {
        // No worker can complete the upload any more: this attempt holds the lease.
        objects.remove_manifest(&attempt.source).await?;
        return Ok(skipped());
    };
    if has_fallback {
        // A replay loads the rows, and finds the object.
        return Ok(skipped());
    }
    let (state, counts) = match load(attempt, &FileRows::of_row_object(objects.store, &manifest)).await? {
        LoadResult::Loaded(counts) => (LedgerState::Loaded, Some(counts)),
        LoadResult::NotNeeded(entry) => (entry.state, None),
    };
    settle_lake(attempt, state).await?;
    let Some(counts) = counts else { return Ok(skipped()) };
    info!(rows = counts.rows_stored, "the rows of an interrupted load are committed");
    let mut report =
        attempt.report(Outcome::Loaded).because("a worker died before COMMIT, after it had written the lake object");
    counts.copy_to(&mut report);
    report.rows_parsed = manifest.rows + manifest.rows_rejected;
    report.lake = attempt.lake_key();
    report.cost_usd = attempt.cost_usd();
    Ok(report)
}

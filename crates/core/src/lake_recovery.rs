//! Finishes loads whose workers died between the lake object and COMMIT.
//!
//! Usually the next attempt at the file does that. If the file was overwritten or deleted in between, no such attempt follows,
//! and the lake would keep rows that the ledger does not count. So a sweep finishes these loads from the lake object, which has
//! all rows, under the identity of their source. If the rows cannot be loaded any more, it removes the object: nothing of it
//! was committed.

use std::time::Duration;

use tracing::{Instrument, info, info_span, warn};

use crate::deadline::Deadline;
use crate::destination::{LedgerState, LoadMode, RowCounts};
use crate::error::{ErrorKind, Result, chain};
use crate::object::ObjectRef;
use crate::pattern::KeyParts;
use crate::pipeline::{
    Assignment, Attempt, Context, FileRows, LoadResult, ask, clean_up_lake, finished_entry, lake_objects, load,
    remove_from_lake,
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
    // The lease of a file that is still to be loaded counts its deaths, so it is left alone.
    let is_published = context.store.etag_of(&manifest.source.object.bucket, &manifest.key).await?.is_some();
    if !is_published && age_seconds(manifest.written_at) < ABANDONED_SECONDS {
        return Ok(None);
    }
    if is_in_place(context, manifest).await? && !is_finished(context, manifest, deadline).await? {
        // The next attempt at the file finishes its load, with the current settings.
        return Ok(None);
    }
    let usage = context.cost_meter.begin(&context.store);
    // The rows of the object already contain the parts of the key.
    let key = KeyParts { table: manifest.target_table.clone(), parts: Vec::new() };
    let original_key = manifest.original_key.as_deref().unwrap_or(&manifest.source.object.key);
    let assignment = Assignment { key: Ok(key), original_key: original_key.to_owned() };
    let attempt = Attempt::start(context, manifest.source.clone(), assignment, deadline, usage).await?;
    let report = attempt.run(async |attempt| finish_rows(attempt).await).await?;
    Ok((report.outcome == Outcome::Loaded).then_some(report))
}

/// Whether the file is still the newest version at its key, so that a sweep or its event loads it.
async fn is_in_place(context: &Context, manifest: &Manifest) -> Result<bool> {
    let source = &manifest.source;
    // Without the version id: only the newest version is listed by a sweep.
    match context.store.head(&ObjectRef::new(&source.object.bucket, &source.object.key)).await {
        Ok(newest) => Ok(newest.id == source.id),
        Err(error) if error.kind() == ErrorKind::SourceMissing => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether the ledger says that the source needs no load.
async fn is_finished(context: &Context, manifest: &Manifest, deadline: &Deadline) -> Result<bool> {
    let id = &manifest.source.id;
    let entry = ask(context, deadline, async |destination| destination.look_up(id).await).await?;
    Ok(entry.is_some_and(|entry| entry.state.needs_no_load()))
}

/// Loads the rows of a published object, unless the ledger or the fallback has them. Then removes what is not needed.
async fn finish_rows(attempt: &Attempt<'_>) -> Result<Report> {
    let skipped = || attempt.report(Outcome::Skipped);
    let has_fallback = attempt.find_earlier_fallback().await?.is_some();
    if let Some(entry) = finished_entry(attempt).await? {
        clean_up_lake(attempt, entry.state).await?;
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
    if let Some(reason) = why_not_loaded(attempt) {
        warn!(reason, "the rows of an interrupted load are not loaded");
        remove_from_lake(attempt).await?;
        return Ok(skipped());
    }
    let (state, counts) = match load(attempt, &FileRows::of_row_object(objects.store, &manifest)).await {
        Ok(LoadResult::Loaded(counts)) => (LedgerState::Loaded, Some(counts)),
        Ok(LoadResult::NotNeeded(entry)) => (entry.state, None),
        // Every later sweep would fail the same way.
        Err(error)
            if matches!(error.kind(), ErrorKind::DataRefused | ErrorKind::ExportRefused | ErrorKind::TableMismatch) =>
        {
            warn!(error = %chain(&error), "the table does not accept the rows of an interrupted load");
            remove_from_lake(attempt).await?;
            return Ok(skipped());
        }
        Err(error) => return Err(error),
    };
    clean_up_lake(attempt, state).await?;
    Ok(counts.map_or_else(skipped, |counts| loaded(attempt, &manifest, &counts)))
}

/// The report of a load that this attempt has finished.
fn loaded(attempt: &Attempt<'_>, manifest: &Manifest, counts: &RowCounts) -> Report {
    info!(rows = counts.rows_stored, "the rows of an interrupted load are committed");
    let mut report =
        attempt.report(Outcome::Loaded).because("a worker died before COMMIT, after it had written the lake object");
    counts.copy_to(&mut report);
    report.rows_parsed = manifest.rows + manifest.rows_rejected;
    report.lake = attempt.lake_key();
    report.table_changes = attempt.table_changes.reported();
    report.cost_usd = attempt.cost_usd();
    report
}

/// Why the rows of a file that is gone must not be loaded; `None` if they may be.
fn why_not_loaded(attempt: &Attempt<'_>) -> Option<&'static str> {
    let options = &attempt.config.destination;
    if !options.output.has_lake() {
        return Some("OUTPUT names no lake any more");
    }
    // The rows of a newer version may already be merged.
    match options.load_mode {
        LoadMode::Append | LoadMode::Replace | LoadMode::Mirror(_) => None,
        LoadMode::Merge { .. } | LoadMode::Changes(_) => {
            Some("the load mode (merge or changes) would replace newer rows with older ones")
        }
    }
}

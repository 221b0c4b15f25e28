//! The way back over the spillway: what fell back goes into the database once it can take it, exactly once.
//!
//! A fallback object is loaded under its source's own identity, so the ledger, the lease and the claim that guard the
//! first road guard this one too. The object leaves the fallback only after the ledger says `loaded`.

use serde::{Deserialize, Serialize};
use tracing::{Instrument, info, info_span, warn};

use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind, Result, chain};
use crate::fallback::{self, Manifest};
use crate::object::{ObjectRef, ObjectVersion};
use crate::pattern::KeyParts;
use crate::pipeline::{Assignment, Attempt, Context, FileRows, LoadResult, is_loaded, load};
use crate::report::{Outcome, Report};
use crate::route;

/// Which fallback objects are replayed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplaySelection {
    /// Only those of this target table. Without it those of `RDS_TABLE`, or of every table when `TABLE_PATTERN` is set.
    #[serde(default)]
    pub table: Option<String>,
    /// At most so many; all without it.
    #[serde(default)]
    pub limit: Option<usize>,
}

/// Replays fallback objects one after the other. Each has an end of its own: one's failure does not stop the others,
/// except that nothing more is started once the deadline is reached.
///
/// # Errors
/// Only when the fallback cannot be listed at all.
pub(crate) async fn replay(
    context: &Context,
    bucket: &str,
    selection: &ReplaySelection,
    deadline: &Deadline,
) -> Result<Vec<Result<Report>>> {
    let tables = &context.settings.database.tables;
    let own_table = tables.default.as_deref().filter(|_| tables.patterns.is_empty());
    let table = selection.table.as_deref().or(own_table);
    let manifests = fallback::list(&context.store, bucket, &context.settings, table).await?;
    let mut ends = Vec::new();
    for manifest in manifests.into_iter().take(selection.limit.unwrap_or(usize::MAX)) {
        let span = info_span!("replay", key = %manifest.source.object.key);
        let object = manifest.source.object.clone();
        let end = replay_one(context, &manifest, deadline).instrument(span).await;
        let is_over = end.as_ref().is_err_and(is_stop);
        ends.push(end.map_err(|error| error.for_object(&object)));
        if is_over {
            break;
        }
    }
    Ok(ends)
}

fn is_stop(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Deadline | ErrorKind::Interrupted)
}

async fn replay_one(context: &Context, manifest: &Manifest, deadline: &Deadline) -> Result<Report> {
    let usage = context.cost_meter.begin(&context.store);
    let source = manifest.source.clone();
    // The fallback object's rows contain the parts of the key already.
    let key = KeyParts { table: manifest.target_table.clone(), parts: Vec::new() };
    let assignment = Assignment { key: Ok(key), original_key: source.object.key.clone() };
    let attempt = Attempt::start(context, source, assignment, deadline, usage).await?;
    attempt.run(async |attempt| replay_rows(attempt, manifest).await).await
}

/// load → ledger → remove from catalog and fallback → move.
async fn replay_rows(attempt: &Attempt<'_>, manifest: &Manifest) -> Result<Report> {
    let context = attempt.context;
    let is_there = attempt.earlier_fallback().await?.is_some();
    if !is_there && !is_loaded(attempt).await? {
        // The source is still in place, and is processed again.
        return Ok(report(attempt, manifest, Outcome::Skipped).because("the fallback object was never completed"));
    }
    let mut report = report(attempt, manifest, Outcome::Replayed);
    report.rows_stored = manifest.rows;
    if is_there {
        match load(attempt, &FileRows::of_fallback(&context.store, manifest)).await? {
            LoadResult::Loaded(loaded) => loaded.copy_to(&mut report),
            LoadResult::AlreadyLoaded(entry) => report.rows_stored = entry.rows_stored,
        }
    }
    fallback::remove(&context.store, &context.catalog, &context.settings, manifest).await?;
    report.moved_to = restore_object(attempt).await;
    report.cost_usd = attempt.cost_usd();
    info!(rows = report.rows_stored, "the rows of the fallback are in the database");
    Ok(report)
}

fn report(attempt: &Attempt<'_>, manifest: &Manifest, outcome: Outcome) -> Report {
    let mut report = attempt.report(outcome);
    report.rows_parsed = manifest.rows + manifest.rows_rejected;
    report.rows_rejected = manifest.rows_rejected;
    report
}

/// Moves the source from the failed to the processed prefix. Nothing depends on it, and somebody may have taken it away.
async fn restore_object(attempt: &Attempt<'_>) -> Option<String> {
    let (prefixes, source) = (&attempt.context.settings.prefixes, &attempt.source);
    let failed_key = route::failed_key(prefixes, &source.object.key, &source.id);
    let processed_key = route::processed_key(prefixes, &source.object.key, &source.id);
    let store = &attempt.context.store;
    let moved = async {
        let failed = store.head(&ObjectRef::new(source.object.bucket.clone(), failed_key)).await?;
        // It stays the file it was: uploaded again, it is known by the identity that its copy carries.
        let failed = ObjectVersion { id: source.id.clone(), ..failed };
        store.move_object(&failed, &processed_key).await
    };
    match moved.await {
        Ok(_) => {
            attempt.record_move(&processed_key, attempt.cost_usd()).await;
            Some(processed_key)
        }
        Err(error) if error.kind() == ErrorKind::SourceMissing => None,
        Err(error) => {
            warn!(error = %chain(&error), "the source stays under the failed prefix");
            None
        }
    }
}

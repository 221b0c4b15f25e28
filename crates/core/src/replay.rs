//! Replay: loads the rows of the fallback into the database, exactly once.
//!
//! A fallback object is loaded under the identity of its source. So the lease, claim and ledger row that protected the
//! first load protect the replay too. The object is deleted only after the ledger says that its source needs no load, and after the
//! source was moved.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use tracing::{Instrument, info, info_span, warn};

use crate::deadline::Deadline;
use crate::destination::{LedgerState, ObjectPlace};
use crate::error::{Error, ErrorKind, Result};
use crate::fallback::{self, Manifest};
use crate::object::{ObjectRef, ObjectVersion, SourceId};
use crate::pattern::KeyParts;
use crate::pipeline::{
    AfterLoad, Assignment, Attempt, Context, FileRows, LoadResult, ask, clean_up_lake, finished_entry, load,
};
use crate::policy::{self, is_outage};
use crate::report::{Outcome, Report};
use crate::route;
use crate::store::moves::ObjectDisposition;

/// Number of sources that one query of the ledger contains.
const SOURCES_AT_ONCE: usize = 500;

/// Selects the fallback objects to replay.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplaySelection {
    /// Only the objects of this table. By default those of `RDS_TABLE`, or of every table if `TABLE_PATTERN` or table
    /// settings are set.
    #[serde(default)]
    pub table: Option<String>,
    /// The largest number of objects; all by default.
    #[serde(default)]
    pub limit: Option<usize>,
}

/// The result of [`replay`].
pub(crate) enum Replay {
    /// One result per fallback object.
    Done(Vec<Result<Report>>),
    /// The database is unavailable. Nothing was tried.
    Postponed(Postponed),
}

/// What waits in the fallback while the database is unavailable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Postponed {
    /// Why the database is unavailable.
    pub reason: String,
    /// Number of fallback objects that wait.
    pub files: usize,
    /// Number of rows that wait.
    pub rows: u64,
}

/// Replays fallback objects one after the other. A failure does not stop the others, but no object is started after the
/// deadline.
///
/// First, one query shows whether the database is available. Without that query, each object would wait
/// `RDS_RETRY_SECONDS` for a database that is down, on every run of the schedule.
///
/// # Errors
/// When the fallback cannot be listed. The result contains the failures of single objects.
pub(crate) async fn replay(
    context: &Context,
    bucket: &str,
    selection: &ReplaySelection,
    deadline: &Deadline,
) -> Result<Replay> {
    let rules = context.settings.database.tables.current();
    let tables = &rules.routes;
    let has_table_settings = !rules.entries.is_empty() || context.settings.database.tables.object().is_some();
    let has_one_table = tables.patterns.is_empty() && !has_table_settings;
    let own_table = tables.default.as_deref().filter(|_| has_one_table);
    let table = selection.table.as_deref().or(own_table);
    let mut manifests = fallback::list(&context.store, bucket, &context.settings, table).await?;
    manifests.truncate(selection.limit.unwrap_or(usize::MAX));
    if let Some(first) = manifests.first()
        && let Some(outage) = outage(context, &first.source.id, deadline).await
    {
        let reason = policy::describe(&outage);
        let rows = manifests.iter().map(|manifest| manifest.rows).sum();
        warn!(reason, files = manifests.len(), rows, "the database is unavailable: the fallback is replayed later");
        return Ok(Replay::Postponed(Postponed { reason, files: manifests.len(), rows }));
    }
    Ok(Replay::Done(replay_all(context, manifests, deadline).await))
}

/// Replays these objects until the deadline.
async fn replay_all(context: &Context, manifests: Vec<Manifest>, deadline: &Deadline) -> Vec<Result<Report>> {
    let mut results = Vec::new();
    for manifest in manifests {
        let span = info_span!("replay", key = %manifest.source.object.key);
        let object = manifest.source.object.clone();
        let result = replay_one(context, &manifest, deadline).instrument(span).await;
        let is_over = result.as_ref().is_err_and(is_stop);
        results.push(result.map_err(|error| error.for_object(&object)));
        if is_over {
            break;
        }
    }
    results
}

/// What a sweep has found in the fallback.
pub(crate) struct SweptFallback {
    /// The results of the replays that it has finished. An error without an object says why the ledger could not be read.
    pub(crate) finished: Vec<Result<Report>>,
    /// The files that wait for a replay.
    pub(crate) waiting: Vec<Manifest>,
    /// Why the ledger could not be read during an outage.
    pub(crate) outage: Option<Error>,
}

/// Finishes the replays whose workers died after COMMIT. Until then their rows are in the database and in the fallback.
///
/// # Errors
/// When the fallback cannot be listed.
pub(crate) async fn finish_interrupted(context: &Context, bucket: &str, deadline: &Deadline) -> Result<SweptFallback> {
    let manifests = fallback::list(&context.store, bucket, &context.settings, None).await?;
    let loaded = match loaded_sources(context, bucket, &manifests, deadline).await {
        Ok(loaded) => loaded,
        // The first sweep after the outage finishes them.
        Err(error) if is_outage(error.kind()) => {
            return Ok(SweptFallback { finished: Vec::new(), waiting: manifests, outage: Some(error) });
        }
        Err(error) => return Ok(SweptFallback { finished: vec![Err(error)], waiting: manifests, outage: None }),
    };
    let is_loaded = |manifest: &Manifest| loaded.contains(manifest.source.id.as_str());
    let (interrupted, waiting) = manifests.into_iter().partition(is_loaded);
    Ok(SweptFallback { finished: replay_all(context, interrupted, deadline).await, waiting, outage: None })
}

/// Returns the ids of the sources that need no load.
async fn loaded_sources(
    context: &Context,
    bucket: &str,
    manifests: &[Manifest],
    deadline: &Deadline,
) -> Result<HashSet<String>> {
    let mut loaded = HashSet::new();
    for chunk in manifests.chunks(SOURCES_AT_ONCE) {
        let keys: Vec<&str> = chunk.iter().map(|manifest| manifest.source.object.key.as_str()).collect();
        let etags: Vec<&str> = chunk.iter().map(|manifest| manifest.source.etag.as_str()).collect();
        let (keys, etags) = (keys.as_slice(), etags.as_slice());
        let versions =
            ask(context, deadline, async |destination| destination.loaded_versions(bucket, keys, etags).await).await?;
        loaded.extend(versions.into_iter().map(|version| version.source_id));
    }
    Ok(loaded)
}

/// Returns the error of a query about a source, if it shows that the database is unavailable.
async fn outage(context: &Context, source_id: &SourceId, deadline: &Deadline) -> Option<Error> {
    let result = ask(context, deadline, async |destination| destination.look_up(source_id).await).await;
    context.outage.observe(&result);
    result.err().filter(|error| is_outage(error.kind()))
}

fn is_stop(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Deadline | ErrorKind::Interrupted)
}

async fn replay_one(context: &Context, manifest: &Manifest, deadline: &Deadline) -> Result<Report> {
    let usage = context.cost_meter.begin(&context.store);
    let source = manifest.source.clone();
    // The rows of the fallback object already contain the parts of the key.
    let key = KeyParts { table: manifest.target_table.clone(), parts: Vec::new() };
    let original_key = manifest.original_key.as_deref().unwrap_or(&manifest.source.object.key);
    let assignment = Assignment { key: Ok(key), original_key: original_key.to_owned() };
    let attempt = Attempt::start(context, source, assignment, deadline, usage).await?;
    attempt.run(async |attempt| replay_rows(attempt, manifest).await).await
}

/// Replays one object: load → ledger → move → remove from catalog and fallback.
async fn replay_rows(attempt: &Attempt<'_>, listed: &Manifest) -> Result<Report> {
    let context = attempt.context;
    // The object may have been written again since `listed` was read. Under the lease it does not change.
    let found = attempt.find_earlier_fallback().await?;
    let manifest = found.as_ref().unwrap_or(listed);
    let mut report = report(attempt, manifest, Outcome::Replayed);
    report.rows_stored = manifest.rows;
    let state = if found.is_some() {
        match load(attempt, &FileRows::of_row_object(&context.store, manifest)).await? {
            LoadResult::Loaded(loaded) => {
                loaded.copy_to(&mut report);
                report.load_mode = Some(attempt.config.destination.stored_mode().to_owned());
                report.table_changes = attempt.table_changes.reported();
                LedgerState::Loaded
            }
            LoadResult::NotNeeded(entry) => {
                report.rows_stored = entry.rows_stored;
                entry.state
            }
        }
    } else if let Some(entry) = finished_entry(attempt).await? {
        entry.state
    } else {
        // The source is still in place, and a later attempt processes it.
        report.outcome = Outcome::Skipped;
        report.rows_stored = 0;
        return Ok(report.because("the fallback object was never completed"));
    };
    clean_up_lake(attempt, state).await?;
    report.moved_to = restore_object(attempt).await?;
    fallback::remove(&context.store, &context.catalog, &context.settings, manifest).await?;
    report.lake = attempt.lake_key();
    report.cost_usd = attempt.cost_usd();
    info!(rows = report.rows_stored, "the rows of the fallback are loaded");
    Ok(report)
}

fn report(attempt: &Attempt<'_>, manifest: &Manifest, outcome: Outcome) -> Report {
    let mut report = attempt.report(outcome);
    report.rows_parsed = manifest.rows + manifest.rows_rejected;
    report.rows_rejected = manifest.rows_rejected;
    report
}

/// Moves the source to the processed prefix, and returns its new key; `None` if there is nothing to move.
///
/// The source is under the failed prefix. It is still at its own key if the worker that wrote the fallback object died before it had
/// moved the source, and in both places if it died within the move. After this, no event for the file can write its rows to the fallback
/// again. So the fallback object and its manifest are removed only then.
///
/// With `AFTER_LOAD=delete` the source is deleted instead. With `keep` a source at its own key stays there.
///
/// # Errors
/// When the source cannot be moved. The next replay repeats the move.
async fn restore_object(attempt: &Attempt<'_>) -> Result<Option<String>> {
    let (prefixes, source) = (&attempt.context.settings.prefixes, &attempt.source);
    let failed_key = route::failed_key(prefixes, &source.object.key, &source.id);
    let processed_key = route::processed_key(prefixes, &source.object.key, &source.id);
    let failed_object = ObjectRef::new(source.object.bucket.clone(), failed_key);
    let failed = match attempt.context.store.head(&failed_object).await {
        // Keep the identity of the upload: the copy's metadata must name the source that the ledger knows.
        Ok(failed) => Some(ObjectVersion { id: source.id.clone(), ..failed }),
        Err(error) if error.kind() == ErrorKind::SourceMissing => None,
        Err(error) => return Err(error),
    };
    let own = (attempt.config.after_load != AfterLoad::Keep).then_some(source);
    let mut place = None;
    for version in failed.iter().chain(own) {
        place = place.or(move_or_delete(attempt, version, &processed_key).await?);
    }
    if let Some(place) = place {
        attempt.record_move(place, attempt.cost_usd()).await;
    }
    Ok(matches!(place, Some(ObjectPlace::MovedTo(_))).then_some(processed_key))
}

/// Moves or deletes one copy of the source. Returns the place of the source, if the copy existed.
async fn move_or_delete<'a>(
    attempt: &Attempt<'_>,
    version: &ObjectVersion,
    processed_key: &'a str,
) -> Result<Option<ObjectPlace<'a>>> {
    let store = &attempt.context.store;
    let place = match attempt.config.after_load {
        AfterLoad::Move | AfterLoad::Keep => {
            store.move_object(version, processed_key).await.map(|_| Some(ObjectPlace::MovedTo(processed_key)))
        }
        AfterLoad::Delete => store.delete_version(version).await.map(|found| match found {
            ObjectDisposition::Deleted => Some(ObjectPlace::Deleted),
            ObjectDisposition::Replaced | ObjectDisposition::Gone => None,
        }),
    };
    match place {
        // A newer version is at the key, or none.
        Err(error) if matches!(error.kind(), ErrorKind::SourceMissing | ErrorKind::SourceChanged) => Ok(None),
        place => place,
    }
}

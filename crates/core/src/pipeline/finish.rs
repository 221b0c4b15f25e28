//! The last steps of each outcome: the ledger, the move, the report.

use serde_json::json;
use tracing::{error, info, warn};

use crate::destination::{LedgerEntry, LedgerOutcome, LedgerState, ObjectPlace};
use crate::error::{Error, ErrorKind, Result, chain};
use crate::fallback::{self, Manifest};
use crate::pipeline::{AfterLoad, Attempt, FileResult, FileRows, finished_entry, lake, rejects};
use crate::policy::{describe, operator_hint, policy};
use crate::report::{Outcome, Report};
use crate::route;

/// The reason for [`Outcome::Loaded`] without rows.
const EMPTY_FILE: &str = "the file is empty";

/// Finishes a file that needs no load any more: loaded now or before, empty, a duplicate, or superseded.
pub(super) async fn loaded(attempt: &Attempt<'_>, result: FileResult) -> Result<Report> {
    let result = match result {
        // An earlier attempt, with other settings, may have read rows from this file and published them.
        FileResult::Empty => lake::find_committed(attempt)
            .await?
            .map_or(FileResult::Empty, |entry| FileResult::NotNeeded { entry, counted: None }),
        result => result,
    };
    let mut report =
        describe_result(&result, attempt.config.destination.stored_mode(), |outcome| attempt.report(outcome));
    if let FileResult::Loaded(_) = result {
        report.reason = attempt.no_glue_job();
    }
    if let FileResult::Empty = result {
        let empty = empty_outcome();
        match attempt.config.after_load {
            AfterLoad::Move => attempt.record_outcome(&empty, None).await,
            // Only the ledger will show that the file is done.
            AfterLoad::Keep | AfterLoad::Delete => attempt.try_record_outcome(&empty).await?,
        }
    }
    lake::clean_up(attempt, result.state()).await?;
    let is_moved = attempt.config.after_load != AfterLoad::Keep;
    if let FileResult::NotNeeded { .. } = result
        && is_moved
    {
        // If this worker dies within the move, the next one may not be able to read the ledger. The note in the lease makes it wait.
        attempt.note_commit_in_lease().await?;
        attempt.mark_commit_resolved();
    }
    finish_loaded(attempt, &mut report).await?;
    Ok(report)
}

/// Adds the counts and the reason of a result to the report of its outcome.
pub(crate) fn describe_result(result: &FileResult, load_mode: &str, report: impl FnOnce(Outcome) -> Report) -> Report {
    match result {
        FileResult::Loaded(loaded) => {
            let mut report = report(Outcome::Loaded);
            loaded.copy_to(&mut report);
            report.load_mode = Some(load_mode.to_owned());
            report.rows_parsed = loaded.rows_parsed + loaded.rows_rejected;
            report
        }
        FileResult::NotNeeded { entry, counted } => already_loaded(report, entry, load_mode, *counted),
        FileResult::Empty => report(Outcome::Loaded).because(EMPTY_FILE),
    }
}

/// The report for a file that needs no load. The counts are those of this attempt, or else those of the ledger.
fn already_loaded(
    report: impl FnOnce(Outcome) -> Report,
    entry: &LedgerEntry,
    load_mode: &str,
    counted: Option<(u64, u64)>,
) -> Report {
    let outcome = match entry.state {
        LedgerState::Superseded => Outcome::Superseded,
        LedgerState::Loaded | LedgerState::Duplicate | LedgerState::FellBack | LedgerState::Rejected => {
            Outcome::AlreadyLoaded
        }
    };
    let mut report = report(outcome).because(entry.explanation());
    if let Some(earlier) = entry.other_load_mode(load_mode) {
        report.reason = Some(format!("{} with LOAD_MODE={earlier}, not {load_mode}", entry.explanation()));
        report.earlier_load_mode = Some(earlier.to_owned());
    }
    report.replaced_by = entry.replaced_by.clone();
    report.rows_stored = entry.rows_stored;
    report.rows_rejected = counted.map_or(0, |(_, rejected)| rejected);
    report.rows_parsed = counted.map_or(entry.rows_parsed, |(rows, rejected)| rows + rejected);
    report
}

/// Writes the rows to the fallback, because the database refused them or is down, and moves the file.
///
/// If an earlier COMMIT is in doubt, the ledger is read first. A file that turns out to be loaded is finished instead.
pub(super) async fn fall_back(attempt: &Attempt<'_>, rows: &FileRows<'_>, cause: Error) -> Result<Report> {
    if attempt.is_commit_in_doubt()
        && let Some(entry) = finished_entry(attempt).await?
    {
        let counted = Some((rows.rows, rows.rows_rejected));
        return loaded(attempt, FileResult::NotNeeded { entry, counted }).await;
    }
    let reason = describe(&cause);
    // The failed load may have written more rejects than the scan found. Those records belong to the fallback's rows.
    rejects::write(attempt, rows, Vec::new()).await?;
    let needs_attention = policy(cause.kind()).alert;
    write_fallback(attempt, rows, &reason, needs_attention).await?;
    let fell_back = LedgerOutcome {
        body_sha256: Some(rows.body_sha256.clone()),
        rows_parsed: rows.rows,
        rows_stored: rows.rows,
        rows_rejected: rows.rows_rejected,
        ..ledger_outcome(LedgerState::FellBack, reason.clone())
    };
    attempt.record_outcome(&fell_back, Some(cause.kind())).await;
    let mut report = attempt.report(Outcome::FellBack).because(reason);
    count_fallback(&mut report, rows.rows, rows.rows_rejected);
    report.needs_attention = needs_attention;
    move_to_failed(attempt, &mut report).await?;
    Ok(report)
}

async fn write_fallback(attempt: &Attempt<'_>, rows: &FileRows<'_>, reason: &str, needs_attention: bool) -> Result<()> {
    let context = attempt.context;
    let write = fallback::RowWrite {
        source: &attempt.source,
        table: &attempt.table_name(),
        original_key: &attempt.original_key,
        body_sha256: &rows.body_sha256,
        schema: &rows.schema,
        rows: rows.rows,
        rows_rejected: rows.rows_rejected,
        reason,
        needs_attention,
    };
    let (store, catalog, settings) = (&context.store, &context.catalog, &context.settings);
    fallback::write(store, catalog, settings, &write, rows.open().await?, || attempt.fence_before_publish()).await
}

/// Leaves a file of corrected records in its place, because its records are still bad. A person corrects them there again.
///
/// # Errors
/// Returns the cause, unless an earlier attempt has loaded the file.
pub(super) async fn leave_corrected_records(attempt: &Attempt<'_>, cause: Error) -> Result<Report> {
    if attempt.is_commit_in_doubt()
        && let Some(entry) = finished_entry(attempt).await?
    {
        return loaded(attempt, FileResult::NotNeeded { entry, counted: None }).await;
    }
    // The failed load, or an earlier attempt, may have copied records that are still in this file.
    rejects::remove_earlier(attempt).await?;
    lake::clean_up(attempt, LedgerState::Rejected).await?;
    Err(cause
        .advised("nothing was loaded, and the file is still in its place; correct its records, then load it again"))
}

/// Finishes a file whose fallback object exists: registers the object in Glue, which may be repeated, and moves the
/// file.
pub(super) async fn already_fell_back(attempt: &Attempt<'_>, manifest: &Manifest) -> Result<Report> {
    let context = attempt.context;
    fallback::register_found(&context.catalog, &context.settings, manifest).await?;
    let mut report = attempt.report(Outcome::FellBack).because(manifest.reason.clone());
    count_fallback(&mut report, manifest.rows, manifest.rows_rejected);
    // The attempt that wrote the object may have ended before its report.
    report.needs_attention = manifest.needs_attention;
    move_to_failed(attempt, &mut report).await?;
    Ok(report)
}

/// Moves a file that is broken, or whose key names no table, to the failed prefix, together with the reason.
///
/// An earlier worker may have loaded it with other settings. Then it is finished as loaded.
pub(super) async fn reject(attempt: &Attempt<'_>, cause: Error) -> Result<Report> {
    if attempt.is_commit_in_doubt()
        && let Some(entry) = finished_entry(attempt).await?
    {
        return loaded(attempt, FileResult::NotNeeded { entry, counted: None }).await;
    }
    let cause = cause.for_object(&attempt.source.object);
    let reason = chain(&cause);
    rejects::remove_of_rejected(attempt).await?;
    lake::clean_up(attempt, LedgerState::Rejected).await?;
    write_reason(attempt, &cause, &reason).await?;
    attempt.record_outcome(&ledger_outcome(LedgerState::Rejected, reason.clone()), Some(cause.kind())).await;
    let mut report = attempt.report(Outcome::Rejected).because(reason);
    report.needs_attention = policy(cause.kind()).alert;
    move_to_failed(attempt, &mut report).await?;
    Ok(report)
}

/// Rejects a file without reading it, because several workers in a row died while they processed it.
///
/// # Errors
/// When the ledger cannot be read. The file then waits, because one of those workers, or an earlier one whose lease is
/// gone, may have loaded the rows.
pub(super) async fn park(attempt: &Attempt<'_>) -> Result<Report> {
    if let Some(entry) = finished_entry(attempt).await? {
        return loaded(attempt, FileResult::NotNeeded { entry, counted: None }).await;
    }
    let context = attempt.context;
    // The workers may have died after they wrote the manifest of a fallback.
    fallback::remove_incomplete(&context.store, &context.catalog, &context.settings, &attempt.source).await?;
    let message = format!(
        "{} workers in a row died while they processed the file: they were killed, or ran out of memory or time",
        attempt.earlier_deaths()
    );
    reject(attempt, Error::new(ErrorKind::Poison, message)).await
}

async fn write_reason(attempt: &Attempt<'_>, cause: &Error, reason: &str) -> Result<()> {
    let source = &attempt.source;
    let position = cause.position();
    let note = json!({
        "object": source.object,
        "source_id": source.id,
        "kind": cause.kind().name(),
        "reason": reason,
        "record": position.map(|position| position.record),
        "line": position.map(|position| position.line),
        "byte": position.map(|position| position.byte),
        "hint": operator_hint(cause),
        "tool_version": env!("CARGO_PKG_VERSION"),
    });
    let key = route::reason_key(&attempt.context.settings.prefixes, &source.object.key, &source.id);
    let body = serde_json::to_vec_pretty(&note).unwrap_or_else(|_| reason.as_bytes().to_vec());
    attempt.context.store.put(&source.object.bucket, &key, body.into(), "application/json").await?;
    Ok(())
}

/// Logs one line for an object's outcome.
pub(super) fn log(report: &Report) {
    let outcome = report.outcome.name();
    let reason = report.reason.as_deref().unwrap_or_default();
    let (rows, ms) = (report.rows_stored, report.elapsed_ms);
    match report.outcome {
        Outcome::FellBack | Outcome::Rejected if report.needs_attention => {
            error!(outcome, rows, ms, reason, "the object needs attention");
        }
        Outcome::FellBack => warn!(outcome, rows, ms, reason, "the rows were written to the fallback"),
        Outcome::Rejected => {
            warn!(outcome, rows, ms, reason, "rejected the file, and moved it to the failed prefix")
        }
        Outcome::Loaded
        | Outcome::AlreadyLoaded
        | Outcome::Superseded
        | Outcome::Replayed
        | Outcome::Skipped
        | Outcome::HandedOver => {
            let hint = report.hint.as_deref().unwrap_or_default();
            info!(outcome, rows, ms, reason, hint, "the object is processed");
        }
    }
}

/// The outcome of an empty file in the ledger.
pub(crate) fn empty_outcome() -> LedgerOutcome {
    ledger_outcome(LedgerState::Loaded, EMPTY_FILE.to_owned())
}

fn ledger_outcome(state: LedgerState, reason: String) -> LedgerOutcome {
    LedgerOutcome { state, body_sha256: None, rows_parsed: 0, rows_stored: 0, rows_rejected: 0, reason }
}

fn count_fallback(report: &mut Report, rows: u64, rows_rejected: u64) {
    report.rows_parsed = rows + rows_rejected;
    report.rows_stored = rows;
    report.rows_rejected = rows_rejected;
}

/// Moves, keeps or deletes an object whose rows need no load any more, as `AFTER_LOAD` says.
async fn finish_loaded(attempt: &Attempt<'_>, report: &mut Report) -> Result<()> {
    let (prefixes, source) = (&attempt.context.settings.prefixes, &attempt.source);
    match attempt.config.after_load {
        AfterLoad::Move => {
            let key = route::processed_key(prefixes, &source.object.key, &source.id);
            move_to(attempt, report, key).await
        }
        AfterLoad::Keep => {
            if let Some(result) = attempt.raw_result() {
                result.add_to(report);
            }
            complete(attempt, report, ObjectPlace::Kept).await;
            Ok(())
        }
        AfterLoad::Delete => {
            attempt.context.store.delete_version(source).await?;
            complete(attempt, report, ObjectPlace::Deleted).await;
            Ok(())
        }
    }
}

async fn move_to_failed(attempt: &Attempt<'_>, report: &mut Report) -> Result<()> {
    let (prefixes, source) = (&attempt.context.settings.prefixes, &attempt.source);
    move_to(attempt, report, route::failed_key(prefixes, &source.object.key, &source.id)).await
}

/// Moves the object, and adds its new key to the report.
async fn move_to(attempt: &Attempt<'_>, report: &mut Report, key: String) -> Result<()> {
    attempt.context.store.move_object(&attempt.source, &key).await?;
    complete(attempt, report, ObjectPlace::MovedTo(&key)).await;
    report.moved_to = Some(key);
    Ok(())
}

/// Adds the cost and the key of the rejects to the report, and records the place of the object.
async fn complete(attempt: &Attempt<'_>, report: &mut Report, place: ObjectPlace<'_>) {
    let (prefixes, source) = (&attempt.context.settings.prefixes, &attempt.source);
    if report.rows_rejected > 0 {
        report.rejects = Some(route::rejects_key(prefixes, &attempt.table_name(), &source.object.key, &source.id));
    }
    report.lake = attempt.lake_key();
    report.table_changes = attempt.table_changes.reported();
    report.cost_usd = attempt.cost_usd();
    attempt.record_move(place, report.cost_usd).await;
}

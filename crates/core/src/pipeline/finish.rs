//! The last steps of each end: the ledger's note, the move, the report.

use serde_json::json;
use tracing::{error, info, warn};

use crate::destination::{LedgerEntry, LedgerOutcome, LedgerState};
use crate::error::{Error, Result, chain};
use crate::fallback::{self, Manifest};
use crate::pipeline::Attempt;
use crate::pipeline::content::{self, ScanResult};
use crate::pipeline::load::{LoadResult, is_in_target};
use crate::pipeline::rejects;
use crate::policy::policy;
use crate::report::{Outcome, Report};
use crate::route;

/// Why a file's rows are not in a table that it was to replace.
const NEWER_FILE: &str = "a newer file has replaced the table already";

/// The rows are in the target table: the object goes under the processed prefix. What an earlier attempt has loaded is counted
/// as the ledger has it when the file was not read now.
pub(super) async fn loaded(attempt: &Attempt<'_>, scanned: Option<&ScanResult>, end: LoadResult) -> Result<Report> {
    let mut report = match &end {
        LoadResult::Loaded(loaded) => {
            let mut report = report(attempt, Outcome::Loaded);
            loaded.count_in(&mut report);
            report.rows_parsed = loaded.rows_parsed + loaded.rows_rejected;
            report
        }
        LoadResult::AlreadyLoaded(entry) => {
            let (outcome, reason) = match entry.state {
                LedgerState::Superseded => (Outcome::Superseded, NEWER_FILE.to_owned()),
                state => (Outcome::AlreadyLoaded, format!("the ledger says {} already", state.name())),
            };
            let mut report = report(attempt, outcome).because(reason);
            report.rows_stored = entry.rows_stored;
            report.rows_rejected = scanned.map_or(0, |scanned| scanned.rows_rejected);
            report.rows_parsed = scanned.map_or(entry.rows_parsed, |scanned| scanned.rows + scanned.rows_rejected);
            report
        }
    };
    name_rejects(attempt, &mut report);
    move_to_processed(attempt, &mut report).await?;
    Ok(report)
}

/// A file without even a header: nothing to load, and finished all the same.
pub(super) async fn empty(attempt: &Attempt<'_>) -> Result<Report> {
    let reason = "the file is empty";
    let outcome = LedgerOutcome {
        state: LedgerState::Loaded,
        rows_parsed: 0,
        rows_stored: 0,
        rows_rejected: 0,
        reason: reason.to_owned(),
    };
    attempt.record_outcome("", &outcome).await;
    let mut report = report(attempt, Outcome::Loaded).because(reason);
    move_to_processed(attempt, &mut report).await?;
    Ok(report)
}

/// The database did not take the rows, and that nothing was committed is proved: they go over the spillway.
pub(super) async fn fall_back(attempt: &Attempt<'_>, scanned: &ScanResult, cause: Error) -> Result<Report> {
    if attempt.is_commit_unproved() && is_in_target(attempt).await? {
        let entry = LedgerEntry {
            state: LedgerState::Loaded,
            rows_parsed: scanned.rows,
            rows_stored: scanned.rows,
            moved_to: None,
        };
        return loaded(attempt, Some(scanned), LoadResult::AlreadyLoaded(entry)).await;
    }
    let policy = policy(cause.kind());
    let reason = format!("{}: {} ({})", cause.kind(), chain(&cause), policy.hint);
    let context = attempt.context;
    let fallback_write = fallback::FallbackWrite {
        source: &attempt.source,
        table: &attempt.table,
        body_sha256: &scanned.body_sha256,
        schema: &scanned.schema,
        rows: scanned.rows,
        rows_rejected: scanned.rows_rejected,
        reason: &reason,
    };
    // A load that failed may have left out more.
    rejects::write(attempt, scanned, Vec::new()).await?;
    let rows = content::rows(attempt, scanned).await?;
    fallback::write(&context.store, &context.catalog, &context.settings, &fallback_write, rows, || {
        attempt.fence_before_fallback()
    })
    .await?;
    let outcome = LedgerOutcome {
        state: LedgerState::FellBack,
        rows_parsed: scanned.rows,
        rows_stored: scanned.rows,
        rows_rejected: scanned.rows_rejected,
        reason: reason.clone(),
    };
    attempt.record_outcome(&scanned.body_sha256, &outcome).await;
    let mut report = report(attempt, Outcome::FellBack).because(reason);
    report.rows_parsed = scanned.rows + scanned.rows_rejected;
    report.rows_stored = scanned.rows;
    report.rows_rejected = scanned.rows_rejected;
    name_rejects(attempt, &mut report);
    report.needs_attention = policy.alert;
    move_to_failed(attempt, &mut report).await?;
    Ok(report)
}

/// An earlier attempt has written the fallback: it is registered again, which changes nothing when it was.
pub(super) async fn fell_back_before(attempt: &Attempt<'_>, found: &Manifest) -> Result<Report> {
    let context = attempt.context;
    fallback::register_found(&context.catalog, &context.settings, found).await?;
    let mut report = report(attempt, Outcome::FellBack).because(found.reason.clone());
    report.rows_parsed = found.rows + found.rows_rejected;
    report.rows_stored = found.rows;
    report.rows_rejected = found.rows_rejected;
    name_rejects(attempt, &mut report);
    move_to_failed(attempt, &mut report).await?;
    Ok(report)
}

/// The key gives no table: it goes where broken files go, unless its rows are in a table by earlier settings.
pub(super) async fn refuse_key(attempt: &Attempt<'_>, rejection: Error) -> Result<Report> {
    if attempt.is_commit_unproved() && is_in_target(attempt).await? {
        let mut report = report(attempt, Outcome::AlreadyLoaded).because("the ledger says loaded already");
        move_to_processed(attempt, &mut report).await?;
        return Ok(report);
    }
    reject(attempt, rejection).await
}

/// The file is broken: it goes under the failed prefix, with the reason beside it.
pub(super) async fn reject(attempt: &Attempt<'_>, cause: Error) -> Result<Report> {
    let source = &attempt.source;
    let cause = cause.for_object(&source.object);
    let reason = chain(&cause);
    let position = cause.position();
    let note = json!({
        "object": source.object,
        "source_id": source.id,
        "kind": cause.kind().name(),
        "reason": reason,
        "record": position.map(|position| position.record),
        "line": position.map(|position| position.line),
        "byte": position.map(|position| position.byte),
        "hint": policy(cause.kind()).hint,
        "tool_version": env!("CARGO_PKG_VERSION"),
    });
    let key = route::reason_key(&attempt.context.settings.prefixes, &source.object.key, &source.id);
    let body = serde_json::to_vec_pretty(&note).unwrap_or_else(|_| reason.clone().into_bytes());
    attempt.context.store.put(&source.object.bucket, &key, body.into(), "application/json").await?;
    let outcome = LedgerOutcome {
        state: LedgerState::Rejected,
        rows_parsed: 0,
        rows_stored: 0,
        rows_rejected: 0,
        reason: reason.clone(),
    };
    attempt.record_outcome("", &outcome).await;
    let mut report = report(attempt, Outcome::Rejected).because(reason);
    move_to_failed(attempt, &mut report).await?;
    Ok(report)
}

/// One line for what happened to an object.
pub(super) fn log(report: &Report) {
    let outcome = report.outcome.name();
    let reason = report.reason.as_deref().unwrap_or_default();
    let (rows, ms) = (report.rows_stored, report.elapsed_ms);
    match report.outcome {
        Outcome::FellBack | Outcome::Rejected if report.needs_attention => {
            error!(outcome, rows, ms, reason, "the object needs somebody's attention");
        }
        Outcome::FellBack => warn!(outcome, rows, ms, reason, "the rows went over the spillway"),
        Outcome::Rejected => warn!(outcome, rows, ms, reason, "the file cannot be loaded and was set aside"),
        Outcome::Loaded
        | Outcome::AlreadyLoaded
        | Outcome::Superseded
        | Outcome::Replayed
        | Outcome::Skipped
        | Outcome::HandedOver => {
            info!(outcome, rows, ms, reason, "the object is done");
        }
    }
}

fn report(attempt: &Attempt<'_>, outcome: Outcome) -> Report {
    let mut report = Report::new(attempt.source.object.clone(), outcome);
    report.source_id = Some(attempt.source.id.to_string());
    report.table = Some(attempt.table.clone()).filter(|table| !table.is_empty());
    report.size_bytes = attempt.source.size_bytes;
    report
}

/// Says where the bad records are, when there are any.
fn name_rejects(attempt: &Attempt<'_>, report: &mut Report) {
    if report.rows_rejected > 0 {
        let prefixes = &attempt.context.settings.prefixes;
        report.rejects =
            Some(route::rejects_key(prefixes, &attempt.table, &attempt.source.object.key, &attempt.source.id));
    }
}

async fn move_to_processed(attempt: &Attempt<'_>, report: &mut Report) -> Result<()> {
    let source = &attempt.source;
    let key = route::processed_key(&attempt.context.settings.prefixes, &source.object.key, &source.id);
    move_to(attempt, key, report).await
}

async fn move_to_failed(attempt: &Attempt<'_>, report: &mut Report) -> Result<()> {
    let source = &attempt.source;
    let key = route::failed_key(&attempt.context.settings.prefixes, &source.object.key, &source.id);
    move_to(attempt, key, report).await
}

async fn move_to(attempt: &Attempt<'_>, key: String, report: &mut Report) -> Result<()> {
    attempt.context.store.move_object(&attempt.source, &key).await?;
    report.cost_usd = attempt.cost_usd();
    attempt.record_move(&key, report.cost_usd).await;
    report.moved_to = Some(key);
    Ok(())
}

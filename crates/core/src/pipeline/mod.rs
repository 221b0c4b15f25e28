//! The pipeline: processes one object and returns its report. `process_version`, `run` and `load_file` list the steps in order.
//!
//! After a call, one of these statements is true:
//!
//! - The object's rows are in the target table once, and in the lake once, as `OUTPUT` says.
//! - Its rows are in the fallback once.
//! - The file is rejected, and no row is stored.
//! - Its rows are not needed, because the file is a duplicate or superseded.
//! - The object is gone: an earlier call moved it, or it was deleted.
//! - The caller gets an error, and the object is still in place. The next call finds out whether the rows are stored.
//!
//! So every call and every step may be repeated. `exactly-once.md` in this folder gives the reasons.

mod attempt;
mod attempt_notes;
mod config;
mod cost_meter;
mod destinations;
mod file_rows;
mod finish;
mod glue_job;
mod known_outage;
mod lake;
mod load;
mod load_attempt;
mod operator;
mod raw_catalog;
mod rejects;
mod single_pass;
mod tables;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use tracing::{Instrument, info, info_span};

pub(crate) use attempt::{Assignment, Attempt, object_body};
pub(crate) use attempt_notes::{AttemptNote, LATE_NOTE_TIMEOUT, NOTE_TIMEOUT, is_unreachable};
pub use config::{AfterLoad, DatabaseAccess, DatabaseSettings, Dedupe, PipelineConfig, TableConfig};
pub(crate) use cost_meter::CostMeter;
pub(crate) use destinations::{ConfiguredDestinations, Destinations, ask};
pub(crate) use file_rows::FileRows;
pub(crate) use finish::{describe_result, empty_outcome};
pub use glue_job::GlueRun;
pub(crate) use glue_job::{Progress, last_run, progress, record_of_run};
pub(crate) use known_outage::KnownOutage;
pub(crate) use lake::{LakeObject, clean_up as clean_up_lake, objects as lake_objects, remove as remove_from_lake};
pub(crate) use load::{LoadResult, finished_entry, load};
pub(crate) use load_attempt::LoadAttempt;
pub(crate) use operator::Operator;
pub(crate) use rejects::{RejectWriter, copy_records};
pub(crate) use tables::Refresh;
pub use tables::{TableEntry, TableRules, Tables};

use crate::catalog::Catalog;
use crate::deadline::Deadline;
use crate::destination::LoadMode;
use crate::destination::{LedgerEntry, LedgerState, RowCounts, changes_hint};
use crate::error::{Error, ErrorKind, Result};
use crate::failpoint::Failpoint;
use crate::glue_jobs::GlueJobs;
use crate::object::{ObjectRef, ObjectVersion};
use crate::policy::Action;
use crate::raw_zone::GlueOutage;
use crate::reader::{FileReader, ScanResult, hint};
use crate::report::{Outcome, Report};
use crate::route;
use crate::store::Store;
use spillway_formats::schema::Schema;

use glue_job::{Offer, ScannedFile};
use single_pass::SinglePass;

/// Maximum number of restarts for one object. Processing restarts when the object was overwritten while it was read.
const OVERWRITTEN_RETRIES: u32 = 3;

/// Number of workers in a row that died with a file, after which the next worker parks the file instead of reading it.
pub(crate) const MAX_DEATHS: u32 = 3;

/// The clients and settings that all objects of a run share.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    /// S3.
    pub store: Store,
    /// Glue.
    pub catalog: Catalog,
    /// Opens the database.
    pub destinations: Arc<dyn Destinations>,
    /// The Glue job for large files, if it is set up.
    pub glue_jobs: Option<GlueJobs>,
    /// The database outage that this process has found, if any.
    pub outage: KnownOutage,
    /// The outage of Glue that a file of a raw zone has found, if any.
    pub glue_outage: GlueOutage,
    /// Measures the cost of each object.
    pub cost_meter: CostMeter,
    /// Whether a person reads each error.
    pub operator: Operator,
    /// Settings.
    pub settings: PipelineConfig,
    /// This worker's name in leases and the ledger.
    pub worker: String,
}

/// Loads one object, or writes its rows to the fallback, or rejects it. Returns the report.
///
/// # Errors
/// When the object has no outcome. It is still in place, and the call may be repeated.
pub(crate) async fn process(context: &Context, object: &ObjectRef, deadline: Deadline) -> Result<Report> {
    let span = info_span!("object", bucket = %object.bucket, key = %object.key);
    let mut retries = 0;
    loop {
        let result = process_version(context, object, &deadline).instrument(span.clone()).await;
        match result {
            Err(error) if error.kind() == ErrorKind::SourceChanged && retries < OVERWRITTEN_RETRIES => retries += 1,
            other => return other.map_err(|error| error.for_object(object)),
        }
    }
}

/// Processes the current version of the object: table → lease → run → report.
async fn process_version(context: &Context, object: &ObjectRef, deadline: &Deadline) -> Result<Report> {
    let usage = context.cost_meter.begin(&context.store);
    let Some(source) = current_version(context, object).await? else { return Ok(gone(context, object)) };
    let assignment = assign_table(context, &source).await?;
    let attempt = Attempt::start(context, source, assignment, deadline, usage).await?;
    let report = attempt.run(run).await?;
    finish::log(&report);
    Ok(report)
}

/// Brings the file to an outcome, and then deletes what was written for a run of the Glue job.
async fn run(attempt: &Attempt<'_>) -> Result<Report> {
    let report = reach_outcome(attempt).await?;
    if report.outcome != Outcome::HandedOver {
        glue_job::clean_up(attempt).await;
    }
    Ok(report)
}

/// Loads the file or handles its failure, then records the outcome, moves the object and returns the report.
///
/// These files are not loaded: one whose rows an earlier attempt wrote to the fallback, one that too many workers died with, and one that
/// the Glue job loads or has loaded.
async fn reach_outcome(attempt: &Attempt<'_>) -> Result<Report> {
    if let Some(manifest) = attempt.find_earlier_fallback().await? {
        return finish::already_fell_back(attempt, &manifest).await;
    }
    Failpoint::FallbackLookedUp.reached().await?;
    if attempt.earlier_deaths() >= MAX_DEATHS {
        return finish::park(attempt).await;
    }
    let scanned = match glue_job::offer(attempt).await? {
        Offer::HandedOver(report) => return Ok(*report),
        Offer::Finished(entry) => {
            return finish::loaded(attempt, FileResult::NotNeeded { entry: *entry, counted: None }).await;
        }
        Offer::LoadHere(scanned) => scanned,
    };
    match read_and_load(attempt, scanned).await {
        Ok(loaded) => finish::loaded(attempt, loaded).await,
        Err(Failure { error, rows }) => match (attempt.context.operator.action_after(error.kind()), rows) {
            // Rows for the lake alone do not need the table. The file waits for the ledger.
            (Action::FallBack, Some(_)) if !attempt.config.destination.output.has_database() => Err(error),
            (Action::FallBack | Action::Reject, _) if attempt.has_corrected_records() && is_about_records(&error) => {
                finish::leave_corrected_records(attempt, error).await
            }
            (Action::FallBack, Some(rows)) => finish::fall_back(attempt, &rows, error).await,
            (Action::Reject, _) => finish::reject(attempt, error).await,
            (Action::Fail, _) | (Action::FallBack, None) => Err(error),
        },
    }
}

/// Whether the records of a file are the reason of a failure.
fn is_about_records(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::FileBroken | ErrorKind::DataRefused)
}

/// Reads the file and loads its rows: open → decompress → parse → infer types → load.
async fn read_and_load(attempt: &Attempt<'_>, scanned: Option<Box<ScannedFile>>) -> Result<FileResult, Failure> {
    match scanned {
        Some(scanned) => load_scanned(attempt, (scanned.reader, scanned.scan), None).await,
        None => load_file(attempt, attempt.open_reader().await?).await,
    }
}

/// Loads the rows of an open file.
///
/// Tries a single-pass load first, which reads the file once. If that is not possible, scans the file (types, row
/// count) and then loads it. If the database refuses the file in a single pass, the file is scanned too, because the fallback
/// needs its schema and row count.
pub(crate) async fn load_file<A: LoadAttempt>(attempt: &A, reader: FileReader) -> Result<FileResult, Failure> {
    let (peeked_rows, rejection) = match single_pass::load(attempt, &reader).await? {
        SinglePass::Done(result) => return Ok(FileResult::of_single_pass(result)),
        SinglePass::NeedsScan(peeked_rows) => (peeked_rows, None),
        SinglePass::NotLoadable(error) if !A::HAS_FALLBACK => {
            let error = if reader.has_other_encoding() { error.of_whole_file() } else { error };
            return Err(error.into());
        }
        SinglePass::NotLoadable(error) => (None, Some(error)),
    };
    let scan = match peeked_rows {
        Some(rows) => reader.continue_scan(rows).await?,
        None => reader.scan().await?,
    };
    load_scanned(attempt, (reader, scan), rejection).await
}

/// Loads the rows of a scanned file. `rejection` is why the database refused them before the scan.
async fn load_scanned<A: LoadAttempt>(
    attempt: &A,
    (reader, scan): (FileReader, ScanResult),
    rejection: Option<Error>,
) -> Result<FileResult, Failure> {
    let own_hint = scan.hint.clone();
    attempt.set_hint(own_hint.clone());
    if scan.schema.columns.is_empty() {
        return empty_file(&attempt.config().destination.load_mode).map_err(Failure::from);
    }
    attempt.register_raw(Some(&scan.schema), &scan.shape).await?;
    let rows = FileRows::of_file(reader, scan);
    let result = match rejection.filter(|error| !scan_may_resolve(error, &rows.schema)) {
        Some(error) => Err(error),
        None => load(attempt, &rows).await,
    };
    // Only for columns that this load has created: the others are there on purpose.
    let changes = attempt.table_changes();
    let of_changes = if changes.made().is_empty() { None } else { changes_hint(&rows.schema) };
    let hints = of_changes.or(own_hint).into_iter().chain(changes.similar_table_hint());
    attempt.set_hint(hint::joined(hints));
    result.map(|result| FileResult::of_scan(result, &rows)).map_err(|error| Failure { error, rows: Some(rows) })
}

/// Whether a load after the scan may succeed, because the scan has found the order of day and month in a date column.
fn scan_may_resolve(error: &Error, schema: &Schema) -> bool {
    error.kind() == ErrorKind::DataRefused && schema.columns.iter().any(|column| column.day_order.is_some())
}

/// The result for a file that was read without a failure.
#[derive(Debug)]
pub(crate) enum FileResult {
    /// This attempt loaded the rows.
    Loaded(RowCounts),
    /// The rows were already in the table, or a newer file has replaced the table.
    NotNeeded {
        entry: LedgerEntry,
        /// Good rows and rejected records, if this attempt counted them.
        counted: Option<(u64, u64)>,
    },
    /// The file is empty, without a header.
    Empty,
}

impl FileResult {
    /// The state of the ledger row.
    fn state(&self) -> LedgerState {
        match self {
            Self::Loaded(_) | Self::Empty => LedgerState::Loaded,
            Self::NotNeeded { entry, .. } => entry.state,
        }
    }

    fn of_single_pass(result: LoadResult) -> Self {
        match result {
            LoadResult::Loaded(loaded) => Self::Loaded(loaded),
            LoadResult::NotNeeded(entry) => Self::NotNeeded { entry, counted: None },
        }
    }

    fn of_scan(result: LoadResult, rows: &FileRows<'_>) -> Self {
        match result {
            LoadResult::Loaded(loaded) => Self::Loaded(loaded),
            LoadResult::NotNeeded(entry) => Self::NotNeeded { entry, counted: Some((rows.rows, rows.rows_rejected)) },
        }
    }
}

/// A failure, with the rows that can still be written to the fallback.
pub(crate) struct Failure {
    pub(crate) error: Error,
    /// The file's rows for the fallback, if the file was scanned.
    rows: Option<FileRows<'static>>,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { error, rows: None }
    }
}

/// The result for an empty file. As a full export it is an error, because such a file must not empty the table.
pub(crate) fn empty_file(load_mode: &LoadMode) -> Result<FileResult> {
    match load_mode {
        LoadMode::Append | LoadMode::Merge { .. } | LoadMode::Changes(_) => Ok(FileResult::Empty),
        LoadMode::Replace | LoadMode::Mirror(_) => {
            let message =
                "the file is empty and has no header, so the table keeps its rows; a header alone empties the table";
            Err(Error::new(ErrorKind::FileBroken, message))
        }
    }
}

/// The current version in S3; `None` if the object is gone.
async fn current_version(context: &Context, object: &ObjectRef) -> Result<Option<ObjectVersion>> {
    match context.store.head(object).await {
        Ok(source) => Ok(Some(source)),
        Err(error) if error.kind() == ErrorKind::SourceMissing => Ok(None),
        Err(error) => Err(error),
    }
}

/// The table of an object, from its key. Corrected records are loaded into the table that they came from.
async fn assign_table(context: &Context, source: &ObjectVersion) -> Result<Assignment> {
    let (settings, key) = (&context.settings, &source.object.key);
    match route::rejects_table(&settings.prefixes, key) {
        Some(table) => {
            let original_key = rejects::original_key(&context.store, &source.object).await?;
            let key_parts = rejects::key_parts(settings, table, original_key.as_deref());
            Ok(Assignment { key: key_parts, original_key: original_key.unwrap_or_else(|| key.clone()) })
        }
        None => Ok(Assignment { key: settings.key_parts(key), original_key: key.clone() }),
    }
}

fn gone(context: &Context, object: &ObjectRef) -> Report {
    info!(%object, "the object is gone: an earlier delivery moved it, or it was deleted");
    let reason = match context.operator {
        // The name may be mistyped.
        Operator::Present => format!("the object {object} does not exist; if it was loaded before, it has moved"),
        Operator::Absent => "the object is gone: moved by an earlier delivery, or deleted".to_owned(),
    };
    Report::new(object.clone(), Outcome::Skipped).because(reason)
}

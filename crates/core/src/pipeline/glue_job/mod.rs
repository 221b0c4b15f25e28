//! Hands a large file to the Glue job: the first pass, the plan, the run, and what follows the end of a run.
//!
//! The job has the same lease and the same ledger, so it loads a file once even if a run is started twice. The record of the runs
//! is for the cost: a file has one run at a time, and after some failures the task loads the file itself.
//!
//! The order of the writes: the plan, the record without a run, StartJobRun, the id of the run in the record. A worker that dies in
//! between leaves a record without a run. Its successor looks for the run in Glue before it starts another one.

mod decide;
mod record;

use std::sync::PoisonError;

use jiff::Timestamp;
use serde::Serialize;
use tracing::{info, warn};

use crate::destination::{FileSchema, LedgerEntry};
use crate::error::{Error, ErrorKind, Result, chain};
use crate::failpoint::Failpoint;
use crate::glue_jobs::{GlueJobs, RunState};
use crate::object::ObjectVersion;
use crate::pipeline::{Attempt, Context, Dedupe, finished_entry};
use crate::plan::{self, Plan};
use crate::reader::{FileReader, ScanResult};
use crate::report::{Outcome, Report};

pub(crate) use record::{RunRecord, StoredRecord};

/// Number of failed runs after which the task loads the file itself.
const MAX_FAILED_RUNS: usize = 3;

/// What an attempt at a file does after it was offered to the Glue job.
pub(super) enum Offer {
    /// A run of the job loads the file.
    HandedOver(Box<Report>),
    /// The file needs no load any more.
    Finished(Box<LedgerEntry>),
    /// This attempt loads the file. It may have read the file already.
    LoadHere(Option<Box<ScannedFile>>),
}

/// A file after its first pass.
pub(super) struct ScannedFile {
    pub(super) reader: FileReader,
    pub(super) scan: ScanResult,
}

/// The state of a file's runs, for a process that only starts tasks.
pub(crate) enum Progress {
    /// No worker has asked for a run.
    None,
    /// A run is under way.
    UnderWay(String),
    /// A task must do the next step. The text differs for each step.
    NextStep(String),
}

impl Context {
    /// The Glue job, if it is set up and the file is large enough for it.
    pub(crate) fn glue_job_for(&self, source: &ObjectVersion) -> Option<&GlueJobs> {
        self.glue_jobs.as_ref().filter(|jobs| source.size_bytes >= jobs.settings().min_bytes)
    }
}

impl Attempt<'_> {
    /// Keeps for the report why the Glue job does not load the file.
    fn note_no_glue_job(&self, why: &str) {
        *self.no_glue_job.lock().unwrap_or_else(PoisonError::into_inner) = Some(format!("not by the Glue job: {why}"));
    }

    /// Why the Glue job does not load the file, if it was asked.
    pub(super) fn no_glue_job(&self) -> Option<String> {
        self.no_glue_job.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Returns the state of a file's runs.
///
/// # Errors
/// When S3 or Glue cannot be asked.
pub(crate) async fn progress(context: &Context, jobs: &GlueJobs, source: &ObjectVersion) -> Result<Progress> {
    let Some(StoredRecord { record, etag, .. }) = find_record(context, jobs, source).await? else {
        return Ok(Progress::None);
    };
    match record.run {
        Some(run) if record.job == jobs.settings().job && jobs.state(&run).await? == RunState::UnderWay => {
            Ok(Progress::UnderWay(run))
        }
        Some(_) | None => Ok(Progress::NextStep(etag)),
    }
}

/// The run of the Glue job that works on a file, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GlueRun {
    /// The job.
    pub job: String,
    /// The id of the run.
    pub run: String,
    /// Glue's name of its state; `None` if Glue cannot be asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// When it was started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// Whether it may still load the file.
    #[serde(skip)]
    pub(crate) is_under_way: bool,
}

/// Returns the last run for an object version, if a worker has started one.
///
/// # Errors
/// When the record cannot be read.
pub(crate) async fn last_run(context: &Context, source: &ObjectVersion) -> Result<Option<GlueRun>> {
    let Some(jobs) = context.glue_job_for(source) else { return Ok(None) };
    let Some(StoredRecord { record, .. }) = find_record(context, jobs, source).await? else { return Ok(None) };
    let Some(run) = record.run else { return Ok(None) };
    let found = match jobs.describe_run(&run).await {
        Ok(found) => found,
        Err(error) => {
            warn!(run, error = %chain(&error), "the state of the run cannot be read");
            return Ok(Some(GlueRun { job: record.job, run, state: None, started_at: None, is_under_way: true }));
        }
    };
    let is_under_way = found.as_ref().is_some_and(|found| found.is_under_way);
    let (state, started_at) = found.map_or((None, None), |found| (Some(found.state), found.started_at));
    Ok(Some(GlueRun { job: record.job, run, state, started_at, is_under_way }))
}

/// Returns the record of the file that a run loads; `None` if no worker of this bucket has started it.
///
/// # Errors
/// When S3 or Glue cannot be asked.
pub(crate) async fn record_of_run(
    context: &Context,
    jobs: &GlueJobs,
    bucket: &str,
    run: &str,
) -> Result<Option<RunRecord>> {
    let Some(source_id) = jobs.source_of(run).await? else { return Ok(None) };
    let found = record::read(&context.store, bucket, &jobs.settings().prefix, &source_id).await?;
    // Without a run, a worker has died before it knew the id.
    Ok(found.map(|stored| stored.record).filter(|record| record.run.as_deref().is_none_or(|known| known == run)))
}

/// Deletes the plan and the record of a file that has an outcome. A failure leaves two small objects.
pub(super) async fn clean_up(attempt: &Attempt<'_>) {
    let Some(jobs) = attempt.context.glue_job_for(&attempt.source) else { return };
    let (prefix, id, bucket) = (&jobs.settings().prefix, attempt.source.id.as_str(), &attempt.source.object.bucket);
    for key in [record::record_key(prefix, id), record::plan_key(prefix, id)] {
        if let Err(error) = attempt.context.store.delete(bucket, &key).await {
            warn!(key, error = %chain(&error), "an object of the Glue job could not be deleted, and stays");
        }
    }
}

/// Hands the file to the Glue job if the job can load it, or returns what this attempt must do.
///
/// # Errors
/// When S3 or Glue fails, when the job has no run left, or when the ledger cannot be read after a run. The file waits in place.
pub(super) async fn offer(attempt: &Attempt<'_>) -> Result<Offer> {
    let (context, source) = (attempt.context, &attempt.source);
    let Some(jobs) = context.glue_job_for(source) else { return Ok(Offer::LoadHere(None)) };
    if let Some(found) = find_record(context, jobs, source).await? {
        return after_request(attempt, jobs, found).await;
    }
    let (plan, _) = match plan_file(attempt).await {
        Ok(planned) => planned,
        Err(declined) => {
            info!(why = declined.why, "the Glue job cannot load the file, so this worker loads it");
            attempt.note_no_glue_job(&declined.why);
            return Ok(Offer::LoadHere(declined.scanned));
        }
    };
    write_plan(attempt, jobs, &plan).await?;
    Failpoint::GluePlanWritten.reached().await?;
    let (prefix, job) = (&jobs.settings().prefix, &jobs.settings().job);
    let stored = record::create(&context.store, prefix, source, RunRecord::new(source, job)).await?;
    start(attempt, jobs, stored).await
}

async fn find_record(context: &Context, jobs: &GlueJobs, source: &ObjectVersion) -> Result<Option<StoredRecord>> {
    let (bucket, prefix) = (&source.object.bucket, &jobs.settings().prefix);
    record::read(&context.store, bucket, prefix, source.id.as_str()).await
}

/// Continues after a worker that has asked for a run.
async fn after_request(attempt: &Attempt<'_>, jobs: &GlueJobs, mut stored: StoredRecord) -> Result<Offer> {
    let store = &attempt.context.store;
    // A run may have committed the rows. Until the ledger says that it has not, the rows must not be written to the fallback.
    attempt.doubt_commit();
    if stored.record.job != jobs.settings().job {
        // A run of another job would hold the lease if it were loading the file.
        let record = RunRecord::new(&attempt.source, &jobs.settings().job);
        stored = stored.replace(store, record).await?;
    }
    if stored.record.run.is_none() && stored.record.given_up.is_none() {
        // The worker may have died after StartJobRun.
        if let Some(run) = jobs.run_for(attempt.source.id.as_str(), &stored.record.failed).await? {
            let record = RunRecord { run: Some(run), ..stored.record.clone() };
            stored = stored.replace(store, record).await?;
        }
    }
    let Some(run) = stored.record.run.clone() else { return start_or_load(attempt, jobs, stored).await };
    let state = jobs.state(&run).await?;
    if state == RunState::UnderWay {
        return Ok(handed_over(attempt, &run));
    }
    if let Some(entry) = finished_entry(attempt).await? {
        return Ok(Offer::Finished(Box::new(entry)));
    }
    let record = after_failure(stored.record.clone(), run, state);
    stored = stored.replace(store, record).await?;
    start_or_load(attempt, jobs, stored).await
}

/// The record after a run that did not load the file.
fn after_failure(mut record: RunRecord, run: String, state: RunState) -> RunRecord {
    record.run = None;
    record.failed.push(run);
    let failed = record.failed.len();
    let (why, is_final) = match state {
        RunState::FailedForGood(why) => (why, true),
        RunState::Failed(why) => (why, failed >= MAX_FAILED_RUNS),
        RunState::Succeeded | RunState::UnderWay => {
            let why =
                "the run succeeded, but the ledger does not have the file: does its secret name another database?";
            (why.to_owned(), failed >= MAX_FAILED_RUNS)
        }
    };
    warn!(run = record.failed.last(), why, failed, "a run of the Glue job did not load the file");
    record.given_up = is_final.then(|| format!("{failed} of its runs failed, the last with {why}"));
    record
}

async fn start_or_load(attempt: &Attempt<'_>, jobs: &GlueJobs, stored: StoredRecord) -> Result<Offer> {
    match stored.record.given_up.clone() {
        None => start(attempt, jobs, stored).await,
        Some(why) => {
            // The ledger decides first: a run may have committed the rows before it failed.
            if let Some(entry) = finished_entry(attempt).await? {
                return Ok(Offer::Finished(Box::new(entry)));
            }
            attempt.note_no_glue_job(&why);
            Ok(Offer::LoadHere(None))
        }
    }
}

async fn start(attempt: &Attempt<'_>, jobs: &GlueJobs, stored: StoredRecord) -> Result<Offer> {
    let store = &attempt.context.store;
    // A worker that has lost its lease must not start a run beside that of its successor.
    attempt.verify_lease().await?;
    let run = match jobs.start(arguments(attempt, jobs)).await {
        Ok(run) => run,
        Err(error) => {
            let refused_starts = stored.record.refused_starts.saturating_add(1);
            let record = RunRecord { refused_starts, ..stored.record.clone() };
            if let Err(cause) = stored.replace(store, record).await {
                warn!(error = %chain(&cause), "the record of the Glue job could not be changed");
            }
            return Err(error);
        }
    };
    Failpoint::GlueRunStarted.reached().await?;
    let record = RunRecord { run: Some(run.clone()), ..stored.record.clone() };
    stored.replace(store, record).await?;
    Failpoint::GlueRunRecorded.reached().await?;
    info!(run, job = jobs.settings().job, "started a run of the Glue job for the object");
    Ok(handed_over(attempt, &run))
}

fn handed_over(attempt: &Attempt<'_>, run: &str) -> Offer {
    Offer::HandedOver(Box::new(
        attempt.report(Outcome::HandedOver).because(format!("to the run {run} of the Glue job")),
    ))
}

/// The arguments of a run. They repeat what the job and the stack must agree on.
fn arguments(attempt: &Attempt<'_>, jobs: &GlueJobs) -> Vec<(&'static str, String)> {
    let (settings, source) = (&attempt.context.settings, &attempt.source);
    let (bucket, id) = (&source.object.bucket, source.id.as_str());
    let plan = record::plan_key(&jobs.settings().prefix, id);
    let dedupe = match attempt.config.dedupe {
        Dedupe::Content => "content",
        Dedupe::Version => "version",
    };
    vec![
        ("--bucket", bucket.clone()),
        ("--key", source.object.key.clone()),
        ("--plan", format!("s3://{bucket}/{plan}")),
        ("--source_id", id.to_owned()),
        ("--ledger_table", attempt.config.destination.ledger_table.clone()),
        ("--lease_prefix", settings.prefixes.lease.clone()),
        ("--fallback_prefix", settings.prefixes.fallback.clone()),
        ("--dedupe", dedupe.to_owned()),
    ]
}

/// Why the job does not load a file, with the file if it was read.
struct Declined {
    why: String,
    scanned: Option<Box<ScannedFile>>,
}

impl From<Error> for Declined {
    /// The load finds the same error again, and decides what it means for the file.
    fn from(error: Error) -> Self {
        Self { why: format!("the file could not be planned ({})", chain(&error)), scanned: None }
    }
}

impl From<String> for Declined {
    fn from(why: String) -> Self {
        Self { why, scanned: None }
    }
}

/// Reads the file and compares it with its table.
async fn plan_file(attempt: &Attempt<'_>) -> Result<(Plan, ScannedFile), Declined> {
    let (source, config) = (&attempt.source, &attempt.config);
    if attempt.table.is_none() || attempt.has_corrected_records() {
        return Err("the key is not that of a file for a table".to_owned().into());
    }
    decide::check_settings(config, source)?;
    let reader = attempt.open_reader().await?;
    let format = reader.format().await?;
    if format.1.is_some() {
        return Err("a compressed file cannot be divided".to_owned().into());
    }
    let scan = reader.scan().await?;
    let scanned = ScannedFile { reader, scan };
    let planned = async {
        let scan = &scanned.scan;
        let table = match scan.schema.columns.is_empty() {
            true => None,
            false => {
                let body = attempt.body(&scan.body_sha256, scan.decoded_bytes);
                let schema = FileSchema::Final { schema: &scan.schema, body: &body };
                let inspection = attempt.destination(false).await.map_err(|error| chain(&error))?;
                let inspection = inspection.inspect(&attempt.claim(), schema).await.map_err(|error| chain(&error))?;
                if inspection.needs_no_load.is_some() {
                    return Err("the file needs no load".to_owned());
                }
                Some(inspection.table)
            }
        };
        let plan = plan::of_scan(source, config, format, scan, table);
        decide::check_scan(&plan, scan).map(|()| plan)
    };
    match planned.await {
        Ok(plan) => Ok((plan, scanned)),
        Err(why) => Err(Declined { why, scanned: Some(Box::new(scanned)) }),
    }
}

/// Writes the plan at a key that depends only on the object version, so that a repetition replaces it by the same plan.
async fn write_plan(attempt: &Attempt<'_>, jobs: &GlueJobs, plan: &Plan) -> Result<()> {
    let key = record::plan_key(&jobs.settings().prefix, attempt.source.id.as_str());
    let bytes = serde_json::to_vec(plan)
        .map_err(|error| Error::new(ErrorKind::Internal, "cannot write the plan as JSON").with_source(error))?;
    attempt.context.store.put(&attempt.source.object.bucket, &key, bytes.into(), "application/json").await?;
    Ok(())
}

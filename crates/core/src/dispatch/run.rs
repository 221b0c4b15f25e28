//! Runs a request: finds its objects, processes each of them, and returns the results.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};
use tracing::{info, warn};

use super::{BatchResult, Dispatcher, ExtractReport};
use crate::check::{Check, Surroundings, check};
use crate::cleanup::{Cleared, clean_up};
use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind, Result, chain};
use crate::lake_recovery;
use crate::listing::{List, list};
use crate::object::ObjectRef;
use crate::pipeline;
use crate::policy::is_outage;
use crate::raw_zone;
use crate::reconcile::{self, Files};
use crate::replay::{self, Postponed, Replay, ReplaySelection, SweptFallback, replay};
use crate::report::{NotDone, is_zero};
use crate::request::{Request, Selection, SweepRequest, invalid};
use crate::route::{self, Route};
use crate::status::{Status, status};
use crate::store::read::ListedObject;
use crate::sync::SyncResult;

/// The largest number of reports in the response. The response of a function is limited to 6 MB.
pub(super) const MAX_REPORTS: usize = 1000;

/// The share of its time that a sweep keeps for the clean-up and the gauges.
const SWEEP_RESERVE: u32 = 10;

/// The results of a request.
#[derive(Debug, Serialize)]
pub struct RequestResult {
    /// The results of its objects.
    #[serde(flatten)]
    pub results: BatchResult,
    /// Number of reports that the response omits, because there are too many.
    #[serde(skip_serializing_if = "is_zero")]
    pub reports_omitted: u64,
    /// The leftovers that a sweep has deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cleared: Option<Cleared>,
    /// What a sweep has not done, without an object that failed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub not_done: Vec<NotDone>,
    /// What a replay has left alone because the database is unavailable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub postponed: Option<Postponed>,
    /// The response to a status request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
    /// The result of a check.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub check: Option<Check>,
    /// The response to a list request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub list: Option<List>,
    /// The windows and watermarks of a sync.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sync: Option<SyncResult>,
    /// What the extracts have done.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub extracts: Vec<ExtractReport>,
}

impl RequestResult {
    /// Returns the response to a direct invocation: `{"statusCode", "body"}`, with the reports as JSON text.
    ///
    /// # Errors
    /// When any object failed. The caller of a function may ignore the response, but not an error.
    pub fn into_response(self) -> Result<Value> {
        let results = self.results.into_result()?;
        let body = serde_json::to_string(&Self { results, ..self }.limited()).map_err(not_json)?;
        Ok(json!({ "statusCode": 200, "body": body }))
    }

    /// The body of the response with the failures beside it, for a person who reads both.
    ///
    /// # Errors
    /// When no object has an outcome, and one failed.
    pub fn into_body_and_failures(mut self) -> Result<(Value, Vec<Error>)> {
        let failures = std::mem::take(&mut self.results.failures);
        match <[Error; 1]>::try_from(failures) {
            Ok([failure]) if self.results.reports.is_empty() => Err(failure),
            Ok(failure) => Ok((self.into_body()?, Vec::from(failure))),
            Err(failures) => Ok((self.into_body()?, failures)),
        }
    }

    fn into_body(self) -> Result<Value> {
        serde_json::to_value(self.limited()).map_err(not_json)
    }

    /// The result without the reports that a response has no space for.
    fn limited(mut self) -> Self {
        self.reports_omitted = self.results.keep_reports(MAX_REPORTS);
        self
    }
}

fn not_json(cause: serde_json::Error) -> Error {
    Error::new(ErrorKind::Internal, "cannot write the reports as JSON").with_source(cause)
}

impl From<BatchResult> for RequestResult {
    fn from(results: BatchResult) -> Self {
        Self {
            results,
            reports_omitted: 0,
            cleared: None,
            not_done: Vec::new(),
            postponed: None,
            status: None,
            check: None,
            list: None,
            sync: None,
            extracts: Vec::new(),
        }
    }
}

impl Dispatcher {
    /// Runs a request. The result contains the outcome or the failure of each object.
    ///
    /// # Errors
    /// When the request's objects cannot be determined.
    pub async fn run(&self, request: Request, deadline: &Deadline) -> Result<RequestResult> {
        // Boxed: the nested futures of the pipeline exceed the recursion limit of the compiler.
        let mut result = Box::pin(self.run_request(request, deadline)).await;
        self.context.destinations.close().await;
        if let Ok(result) = &mut result {
            self.publish(&mut result.results).await;
        }
        result
    }

    async fn run_request(&self, request: Request, deadline: &Deadline) -> Result<RequestResult> {
        // These must work with invalid table settings, which a check reports.
        if !matches!(request, Request::Status { .. } | Request::Check { .. } | Request::List { .. }) {
            self.refresh_tables().await?;
        }
        self.check_before(&request, deadline).await?;
        match request {
            Request::Object(object) => self.run_object(object, deadline).await.map(RequestResult::from),
            Request::Rejects(object) => self.run_rejects(object, deadline).await.map(RequestResult::from),
            Request::Prefix { bucket, prefixes, selection } => {
                self.run_prefix(&bucket, &prefixes, selection, deadline).await.map(RequestResult::from)
            }
            Request::Replay { bucket, selection } => self.run_replay(&bucket, &selection, deadline).await,
            Request::Sweep { bucket, sweep } => self.run_sweep(&bucket, &sweep, deadline).await,
            Request::Sync { bucket, sync } => Box::pin(self.run_sync(&bucket, &sync, deadline)).await,
            Request::GlueRun { bucket, run } => {
                self.run_glue_run(&bucket, &run, deadline).await.map(RequestResult::from)
            }
            Request::Extract { bucket, extracts } => Ok(self.run_extracts(&bucket, &extracts, deadline).await),
            Request::Status { bucket, status: request } => {
                let status = Box::pin(status(&self.context, &bucket, &request, deadline)).await?;
                Ok(RequestResult { status: Some(status), ..self.without_reports() })
            }
            Request::Check { bucket } => {
                let surroundings = Surroundings { queue: self.upload_queue.as_ref(), launcher: self.launcher.as_ref() };
                let check = Box::pin(check(&self.context, surroundings, &bucket, deadline)).await;
                Ok(RequestResult { check: Some(check), ..self.without_reports() })
            }
            Request::List { bucket, list: request } => {
                let list = Box::pin(list(&self.context, &bucket, &request, deadline)).await?;
                Ok(RequestResult { list: Some(list), ..self.without_reports() })
            }
        }
    }

    fn without_reports(&self) -> RequestResult {
        BatchResult::new(&self.metrics).into()
    }

    pub(super) async fn run_object(&self, object: ObjectRef, deadline: &Deadline) -> Result<BatchResult> {
        let route = Route::of_requested(&object, &self.context.settings.prefixes);
        Ok(self.process_one(object, route, deadline).await)
    }

    /// Processes the object of a run that has ended: it is moved, or the next step for it begins.
    async fn run_glue_run(&self, bucket: &str, run: &str, deadline: &Deadline) -> Result<BatchResult> {
        let Some(jobs) = &self.context.glue_jobs else {
            return Err(Error::new(
                ErrorKind::Settings,
                "GLUE_JOB is not set, so this stack has no runs of a Glue job",
            ));
        };
        let Some(record) = pipeline::record_of_run(&self.context, jobs, bucket, run).await? else {
            let mut results = BatchResult::new(&self.metrics);
            results.ignore(run, "no file of this bucket waits for this run of the Glue job");
            return Ok(results);
        };
        let route = Route::of_requested(&record.object, &self.context.settings.prefixes);
        let mut results = self.process_one(record.object, route, deadline).await;
        // The next sweep continues with a file that waits for another worker, for a task or for the database.
        let is_waiting = |kind| is_owned_by_another(kind) || waits_for_database(kind) || kind == ErrorKind::Throttled;
        results.forget_failures(is_waiting);
        Ok(results)
    }

    async fn run_rejects(&self, object: ObjectRef, deadline: &Deadline) -> Result<BatchResult> {
        let prefixes = &self.context.settings.prefixes;
        if route::rejects_table(prefixes, &object.key).is_none() {
            let message = format!(
                "{:?} is not the key of rejected records; such a key is {}<table>/<source id>.csv",
                object.key, prefixes.rejected
            );
            return Err(invalid(message));
        }
        Ok(self.process_one(object, Route::Ingest, deadline).await)
    }

    async fn process_one(&self, object: ObjectRef, route: Route, deadline: &Deadline) -> BatchResult {
        let mut results = BatchResult::new(&self.metrics);
        results.add(self.process(object, route, deadline).await);
        results
    }

    async fn run_prefix(
        &self,
        bucket: &str,
        prefixes: &[String],
        selection: Selection,
        deadline: &Deadline,
    ) -> Result<BatchResult> {
        let files = selection.apply(Box::pin(self.list_files(bucket, prefixes)).await?);
        let Files { pending, done, error, .. } = Box::pin(Files::sort(&self.context, bucket, files, deadline)).await;
        info!(
            pending = pending.len(),
            done, "the files under the prefix are processed, except those that need no load"
        );
        let (mut results, not_started) = self.process_in_time(bucket, pending, deadline).await;
        results.add_failure(error);
        if not_started > 0 {
            let message =
                format!("too little time was left for {not_started} files; send the request again to load them");
            results.add_failure(Some(Error::new(ErrorKind::Deadline, message)));
        }
        Ok(results)
    }

    async fn run_replay(
        &self,
        bucket: &str,
        selection: &ReplaySelection,
        deadline: &Deadline,
    ) -> Result<RequestResult> {
        let mut results = BatchResult::new(&self.metrics);
        match Box::pin(replay(&self.context, bucket, selection, deadline)).await? {
            Replay::Done(replayed) => replayed.into_iter().for_each(|result| results.add(result)),
            Replay::Postponed(postponed) => {
                return Ok(RequestResult { postponed: Some(postponed), ..RequestResult::from(results) });
            }
        }
        Ok(results.into())
    }

    async fn run_sweep(&self, bucket: &str, sweep: &SweepRequest, deadline: &Deadline) -> Result<RequestResult> {
        let (context, older_than, begun) = (&self.context, sweep.older_than(), Timestamp::now());
        let files = Box::pin(reconcile::uploaded_files(context, bucket)).await?;
        let Files { pending: files, unknown, error, .. } =
            Box::pin(Files::sort(context, bucket, files, deadline)).await;
        let overdue = files.iter().filter(|file| reconcile::is_overdue(file, older_than)).cloned().collect();
        let loading = deadline.whole_time().zip(deadline.remaining());
        let loading = loading.map(|(whole, left)| deadline.limited_to(left.saturating_sub(whole / SWEEP_RESERVE)));
        let loading = loading.as_ref().unwrap_or(deadline);
        let dispatcher = self.with_tasks_for_large_files(deadline);
        // The next sweep loads the files that are not started.
        let (mut results, not_started) = dispatcher.process_in_time(bucket, overdue, loading).await;
        if not_started > 0 {
            info!(files = not_started, "the next sweep loads the files for which too little time is left");
        }
        match Box::pin(lake_recovery::finish_interrupted(context, bucket, older_than, deadline)).await {
            Ok(finished) => finished.into_iter().for_each(|result| results.add(result)),
            Err(error) => results.add_failure(Some(error)),
        }
        let mut not_done = Vec::new();
        let fallback = match Box::pin(replay::finish_interrupted(context, bucket, deadline)).await {
            Ok(SweptFallback { finished, waiting, outage }) => {
                finished.into_iter().for_each(|result| results.add(result));
                not_done.extend(outage.map(|error| NotDone::new("replays of dead workers are not finished", &error)));
                Some(waiting)
            }
            Err(error) => {
                results.add_failure(Some(error));
                None
            }
        };
        self.publish(&mut results).await;
        // These files have another worker, or wait for the database or a free task. The next sweep tries them again.
        let is_waiting = |kind| is_owned_by_another(kind) || waits_for_database(kind) || kind == ErrorKind::Throttled;
        let of_no_worker = |error: &&Error| is_waiting(error.kind()) && !is_owned_by_another(error.kind());
        not_done.extend(results.failures.iter().filter(of_no_worker).map(|error| NotDone::new("a file waits", error)));
        results.forget_failures(is_waiting);
        // Without the ledger, the sweep does not know which of the kept files wait. An outage ends by itself.
        match error {
            Some(error) if is_outage(error.kind()) => {
                let what = format!("the ledger was not asked for {} files that stay in place", unknown.len());
                not_done.push(NotDone::new(what, &error));
            }
            error => results.add_failure(error),
        }
        let (cleared, failed) = Box::pin(clean_up(context, bucket, (begun, older_than), deadline)).await;
        not_done.extend(failed);
        not_done.truncate(MAX_REPORTS);
        if let Some(fallback) = fallback {
            match Box::pin(reconcile::backlog(context, bucket, &files, &results.reports, &fallback)).await {
                Ok(backlog) => self.metrics.backlog(&backlog),
                Err(error) => warn!(error = %chain(&error), "failed to measure the backlog"),
            }
        }
        Box::pin(raw_zone::register_noted(context, bucket, deadline)).await;
        Ok(RequestResult { cleared: Some(cleared), not_done, ..RequestResult::from(results) })
    }

    /// Every file under the prefixes, in the order of the listing, without objects that Spillway itself wrote.
    async fn list_files(&self, bucket: &str, prefixes: &[String]) -> Result<Vec<ListedObject>> {
        let is_file = |key: &str| {
            let route = Route::of_requested(&ObjectRef::new(bucket, key), &self.context.settings.prefixes);
            route == Route::Ingest && route::is_file(key)
        };
        self.context.store.list_matching(bucket, prefixes, |listed| is_file(&listed.key)).await
    }
}

/// Whether a failure says that another worker is processing the file.
pub(super) fn is_owned_by_another(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Busy | ErrorKind::LeaseLost | ErrorKind::Conflict)
}

/// Whether a failure says that the file waits until the ledger can be read. Its metrics and the age of the file show that.
fn waits_for_database(kind: ErrorKind) -> bool {
    kind == ErrorKind::CommitUnknown || is_outage(kind)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    #[test]
    fn a_response_keeps_its_shape() {
        let result = RequestResult::from(BatchResult::new(&Metrics::new("test", "test")));
        assert_eq!(result.into_response().unwrap(), json!({"statusCode": 200, "body": "{\"reports\":[]}"}));
    }
}

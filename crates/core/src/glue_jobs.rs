//! Starts runs of the Glue job for files that outgrow a task, and reads their state. SDK types do not leave this module.
//!
//! StartJobRun has no client token. [`crate::pipeline`] keeps the id of a run in S3, so that a file has one run at a time.

use aws_config::SdkConfig;
use aws_sdk_glue::Client;
use aws_sdk_glue::config::http::HttpResponse;
use aws_sdk_glue::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_glue::types::{JobRun, JobRunState};

use jiff::Timestamp;

use crate::error::{Error, ErrorKind, Result};

/// The argument with the identity of the object version. The job refuses any other version.
const SOURCE_ID: &str = "--source_id";

/// The number of runs in which the run of a file is looked for. A file has more than one only after a worker died.
const LISTED_RUNS: i32 = 200;

/// The beginning of the job's error when a new run would have the same result (`glue/load.py`).
const REFUSED: &str = "spillway refused";

/// Which files the Glue job loads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GlueJobSettings {
    /// `GLUE_JOB`: the name of the job.
    pub job: String,
    /// `GLUE_MIN_BYTES`: smaller objects are never loaded by the job.
    pub min_bytes: u64,
    /// `GLUE_JOB_PREFIX`: the destination of plans and of the records of runs.
    pub prefix: String,
}

/// The Glue job. Clones share connections.
#[derive(Debug, Clone)]
pub(crate) struct GlueJobs {
    client: Client,
    settings: GlueJobSettings,
}

/// The state of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RunState {
    /// It waits, starts, runs or stops.
    UnderWay,
    /// It ended without an error. Only the ledger proves that the file is loaded.
    Succeeded,
    /// It failed or was stopped, or Glue does not know it. A new run may succeed.
    Failed(String),
    /// It failed, and a new run would fail in the same way.
    FailedForGood(String),
}

/// A run, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RunDescription {
    /// Whether it may still load its file.
    pub(crate) is_under_way: bool,
    /// Glue's name of its state.
    pub(crate) state: String,
    /// When it was started.
    pub(crate) started_at: Option<Timestamp>,
}

impl GlueJobs {
    pub(crate) fn new(config: &SdkConfig, settings: GlueJobSettings) -> Self {
        Self { client: Client::new(config), settings }
    }

    /// The settings.
    pub(crate) fn settings(&self) -> &GlueJobSettings {
        &self.settings
    }

    /// Starts a run with these arguments, and returns its id.
    ///
    /// # Errors
    /// [`ErrorKind::Throttled`] if Glue has no run left for the job or the account.
    pub(crate) async fn start(&self, arguments: Vec<(&'static str, String)>) -> Result<String> {
        let mut request = self.client.start_job_run().job_name(&self.settings.job);
        for (name, value) in arguments {
            request = request.arguments(name, value);
        }
        let response = request.send().await.map_err(|error| self.failure("StartJobRun", error))?;
        let no_id = || Error::new(ErrorKind::Service, "Glue started a run and returned no id");
        response.job_run_id().map(str::to_owned).ok_or_else(no_id)
    }

    /// Returns the state of a run.
    pub(crate) async fn state(&self, run: &str) -> Result<RunState> {
        let found = self.find(run).await?;
        Ok(found.map_or_else(|| RunState::Failed("Glue does not know the run".to_owned()), |run| state_of(&run)))
    }

    /// Returns what Glue says about a run, for people; `None` if Glue does not know the run.
    pub(crate) async fn describe_run(&self, run: &str) -> Result<Option<RunDescription>> {
        let Some(found) = self.find(run).await? else { return Ok(None) };
        let state = found.job_run_state().map_or("UNKNOWN", JobRunState::as_str).to_owned();
        let started_at = found.started_on().and_then(|time| Timestamp::from_second(time.secs()).ok());
        Ok(Some(RunDescription { is_under_way: state_of(&found) == RunState::UnderWay, state, started_at }))
    }

    /// Returns what the job is, for people. Starts nothing.
    ///
    /// # Errors
    /// Also when the job does not exist.
    pub(crate) async fn describe(&self) -> Result<String> {
        let response = self.client.get_job().job_name(&self.settings.job).send().await;
        let response = response.map_err(|error| self.failure("GetJob", error))?;
        let job = response.job().ok_or_else(|| Error::new(ErrorKind::Service, "Glue returned no job"))?;
        let mut text = format!("the job {}", self.settings.job);
        if let Some(runs) = job.execution_property().map(|property| property.max_concurrent_runs()) {
            text += &format!(", at most {runs} runs at a time");
        }
        Ok(text)
    }

    /// Returns the id of the object version that a run loads; `None` if Glue does not know the run, or it names no version.
    pub(crate) async fn source_of(&self, run: &str) -> Result<Option<String>> {
        let found = self.find(run).await?;
        Ok(found.and_then(|run| argument(&run, SOURCE_ID)))
    }

    /// Returns the newest run for an object version, except those in `known`.
    pub(crate) async fn run_for(&self, source_id: &str, known: &[String]) -> Result<Option<String>> {
        let request = self.client.get_job_runs().job_name(&self.settings.job).max_results(LISTED_RUNS);
        let response = request.send().await.map_err(|error| self.failure("GetJobRuns", error))?;
        let is_wanted = |run: &&JobRun| {
            let is_known = run.id().is_some_and(|id| known.iter().any(|other| other == id));
            !is_known && argument(run, SOURCE_ID).as_deref() == Some(source_id)
        };
        Ok(response.job_runs().iter().find(is_wanted).and_then(|run| run.id().map(str::to_owned)))
    }

    async fn find(&self, run: &str) -> Result<Option<JobRun>> {
        match self.client.get_job_run().job_name(&self.settings.job).run_id(run).send().await {
            Ok(response) => Ok(response.job_run),
            Err(error) if code(&error) == "EntityNotFoundException" => Ok(None),
            Err(error) => Err(self.failure("GetJobRun", error)),
        }
    }

    fn failure<E>(&self, action: &str, error: SdkError<E, HttpResponse>) -> Error
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        let status = error.raw_response().map(|response| response.status().as_u16());
        let (kind, job) = (kind(code(&error), status), &self.settings.job);
        let message = match kind {
            ErrorKind::Forbidden => format!("glue:{action} on the job {job} is not allowed; grant it to the role"),
            ErrorKind::Throttled => {
                format!("the Glue job {job} has no run left, or Glue throttled glue:{action}; the object waits")
            }
            ErrorKind::Settings => {
                format!("the Glue job {job} does not exist, or rejects its arguments; check GLUE_JOB")
            }
            _ => format!("glue:{action} on the job {job} failed"),
        };
        Error::new(kind, message).with_source(error)
    }
}

fn code<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> &str {
    error.as_service_error().and_then(ProvideErrorMetadata::code).unwrap_or_default()
}

/// The error kind for an exception's code and HTTP status.
fn kind(code: &str, status: Option<u16>) -> ErrorKind {
    match (code, status) {
        ("ConcurrentRunsExceededException" | "ResourceNumberLimitExceededException", _) => ErrorKind::Throttled,
        (code, _) if code.starts_with("Throttling") || code == "TooManyRequestsException" => ErrorKind::Throttled,
        (code, _) if code.starts_with("AccessDenied") => ErrorKind::Forbidden,
        ("EntityNotFoundException" | "InvalidInputException" | "ValidationException", _) => ErrorKind::Settings,
        (_, Some(429)) => ErrorKind::Throttled,
        (_, Some(401 | 403)) => ErrorKind::Forbidden,
        _ => ErrorKind::Service,
    }
}

fn state_of(run: &JobRun) -> RunState {
    let message = run.error_message().filter(|message| !message.is_empty()).unwrap_or("no message");
    let Some(state) = run.job_run_state() else { return RunState::UnderWay };
    let failed = || format!("{state}: {message}");
    match state {
        JobRunState::Succeeded => RunState::Succeeded,
        // Another run of the same file would take as long.
        JobRunState::Timeout => RunState::FailedForGood(failed()),
        JobRunState::Failed if message.contains(REFUSED) => RunState::FailedForGood(failed()),
        JobRunState::Failed | JobRunState::Stopped | JobRunState::Error | JobRunState::Expired => {
            RunState::Failed(failed())
        }
        // Starting, Running, Stopping and Waiting, and states that Glue may add.
        _ => RunState::UnderWay,
    }
}

fn argument(run: &JobRun, name: &str) -> Option<String> {
    run.arguments().and_then(|arguments| arguments.get(name)).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_job_waits_and_missing_permission_needs_attention() {
        for (code, status, expected) in [
            ("ConcurrentRunsExceededException", Some(400), ErrorKind::Throttled),
            ("ResourceNumberLimitExceededException", Some(400), ErrorKind::Throttled),
            ("ThrottlingException", Some(400), ErrorKind::Throttled),
            ("AccessDeniedException", Some(400), ErrorKind::Forbidden),
            ("EntityNotFoundException", Some(400), ErrorKind::Settings),
            ("InternalServiceException", Some(500), ErrorKind::Service),
            ("OperationTimeoutException", Some(400), ErrorKind::Service),
        ] {
            assert_eq!(kind(code, status), expected, "{code}");
        }
    }

    #[test]
    fn only_a_refused_file_and_a_time_out_fail_for_good() {
        let run = |state: &str, message: &str| {
            state_of(&JobRun::builder().job_run_state(JobRunState::from(state)).error_message(message).build())
        };
        for state in ["STARTING", "RUNNING", "STOPPING", "WAITING", "A_NEW_STATE"] {
            assert_eq!(run(state, ""), RunState::UnderWay, "{state}");
        }
        assert_eq!(run("SUCCEEDED", ""), RunState::Succeeded);
        for state in ["FAILED", "STOPPED", "ERROR", "EXPIRED"] {
            assert_eq!(run(state, "lost"), RunState::Failed(format!("{state}: lost")));
        }
        assert_eq!(run("TIMEOUT", ""), RunState::FailedForGood("TIMEOUT: no message".to_owned()));
        let refused = "SystemExit: spillway refused: no such column";
        assert_eq!(run("FAILED", refused), RunState::FailedForGood(format!("FAILED: {refused}")));
    }
}

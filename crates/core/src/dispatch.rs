//! Who takes which object: this process, a Fargate task, or nobody.
//!
//! Every record of an event and every object of a request gets its turn, whatever becomes of the others; [`BatchResult`] then
//! says whether all of them reached an end. Anything less is an error, so that the event comes again.

mod concurrency;

use serde::Serialize;
use serde_json::Value;
use tracing::{error, info, warn};

use crate::aws::sdk_config;
use crate::catalog::Catalog;
use crate::config::{Environment, LaunchSettings, PipelineConfig};
use crate::deadline::Deadline;
use crate::destination::any::IdleConnections;
use crate::error::{Error, ErrorKind, Result, chain};
use crate::event::{self, EventItem};
use crate::failpoint::Failpoint;
use crate::launch::Launcher;
use crate::object::{ObjectRef, ObjectVersion};
use crate::pipeline::{self, Context, CostMeter};
use crate::policy::policy;
use crate::report::{Outcome, Report};
use crate::route::{self, ExecutionMode, Route};
use crate::secret::Secrets;
use crate::store::Store;
use crate::telemetry;

/// How many failures an error spells out.
const SPELLED_OUT: usize = 10;

/// Takes objects where they belong.
#[derive(Debug, Clone)]
pub struct Dispatcher {
    /// The name in metrics: `trigger`, `ingest` or `task`.
    service: &'static str,
    /// What an object goes through when this process takes it.
    pub(crate) context: Context,
    /// Starts the task that takes an object; without it everything is taken here or refused.
    launcher: Option<Launcher>,
    /// Larger objects are a task's.
    inline_max_bytes: u64,
}

/// Which objects go to tasks.
#[derive(Debug, Clone)]
pub struct Tasks {
    /// Those of more bytes, and those for which too little time is left.
    pub above_bytes: u64,
    /// How a task is started; without it such objects are refused.
    pub launch: Option<LaunchSettings>,
}

/// What became of some objects.
#[derive(Debug, Default, Serialize)]
pub struct BatchResult {
    /// Those that reached an end.
    pub reports: Vec<Report>,
    /// What an event said that is nothing for us, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ignored: Vec<String>,
    /// Those that did not.
    #[serde(skip)]
    pub failures: Vec<Error>,
}

impl BatchResult {
    /// These fates when every object reached an end and nobody has to look; else an error that lists the others.
    pub fn into_result(self) -> Result<Self> {
        let alarming: Vec<&Report> = self.reports.iter().filter(|report| report.needs_attention).collect();
        let total = self.reports.len() + self.failures.len();
        let kinds = || self.failures.iter().map(Error::kind);
        // A process that was stopped has more to do, whatever else went wrong before.
        let stopped = kinds().find(|kind| *kind == ErrorKind::Interrupted);
        let kind = match (stopped.or(kinds().next()), alarming.is_empty()) {
            (Some(kind), _) => kind,
            (None, false) => ErrorKind::Internal,
            (None, true) => return Ok(self),
        };
        let failures = self.failures.iter().map(|failure| format!("{}: {}", failure.kind(), chain(failure)));
        let alarms = alarming.into_iter().map(|report| {
            let reason = report.reason.as_deref().unwrap_or_default();
            format!("{} {} and needs attention: {reason}", report.object, report.outcome.name())
        });
        let lines: Vec<String> = failures.chain(alarms).collect();
        let more = match lines.len().saturating_sub(SPELLED_OUT) {
            0 => String::new(),
            more => format!("; and {more} more"),
        };
        let spelled_out = lines[..lines.len().min(SPELLED_OUT)].join("; ");
        Err(Error::new(kind, format!("{} of {total} objects did not end well: {spelled_out}{more}", lines.len())))
    }
}

impl Dispatcher {
    /// Builds every client once. Without `tasks` this process takes every object itself.
    pub async fn connect(service: &'static str, settings: PipelineConfig, tasks: Option<Tasks>) -> Self {
        let config = Box::pin(sdk_config(&settings.region)).await;
        let inline_max_bytes = tasks.as_ref().map_or(u64::MAX, |tasks| tasks.above_bytes);
        let launch = tasks.and_then(|tasks| tasks.launch);
        let context = Context {
            store: Store::new(&config),
            catalog: Catalog::new(&config, settings.glue.clone()),
            secrets: Secrets::new(&config, settings.database.credentials.clone()),
            connections: IdleConnections::default(),
            cost_meter: CostMeter::default(),
            worker: Environment::of_process().worker(service),
            settings,
        };
        Self { service, context, launcher: launch.map(|launch| Launcher::new(&config, launch)), inline_max_bytes }
    }

    /// Takes every object that an event names.
    ///
    /// # Errors
    /// When the event is of no known shape. What becomes of its records is in the fates.
    pub async fn event(&self, event: &Value, deadline: &Deadline) -> Result<BatchResult> {
        let items = event::parse(event)?;
        Failpoint::EventParsed.reached().await;
        let mut results = BatchResult::default();
        for item in items {
            match item {
                EventItem::Object(object) => {
                    let route = Route::of(&object, &self.context.settings.prefixes);
                    self.take(object, route, deadline, &mut results).await;
                }
                EventItem::Ignored { what, why } => {
                    info!(what, why, "the event names no object for us");
                    results.ignored.push(format!("{what}: {why}"));
                }
                EventItem::Unreadable(error) => self.fail(error, &mut results),
            }
        }
        self.context.connections.close().await;
        Ok(results)
    }

    /// Takes one object along its route and notes what became of it.
    pub async fn take(&self, object: ObjectRef, route: Route, deadline: &Deadline, results: &mut BatchResult) {
        self.note(self.outcome_of(object, route, deadline).await, results);
    }

    async fn outcome_of(&self, object: ObjectRef, route: Route, deadline: &Deadline) -> Result<Report> {
        match route {
            // Boxed: the road is long, and the compiler's patience with futures inside futures is not.
            Route::Ingest => Box::pin(self.ingest(&object, deadline)).await.map_err(|error| error.for_object(&object)),
            Route::Skip { why } => {
                info!(%object, why, "the object is none of ours");
                Ok(Report::new(object, Outcome::Skipped).because(why))
            }
        }
    }

    /// Notes what became of an object.
    pub fn note(&self, end: Result<Report>, results: &mut BatchResult) {
        match end {
            Ok(report) => self.finish(report, results),
            Err(error) => self.fail(error, results),
        }
    }

    /// Notes an object that reached an end.
    fn finish(&self, report: Report, results: &mut BatchResult) {
        telemetry::count(self.service, &report);
        results.reports.push(report);
    }

    /// Logs and notes an object that reached none.
    fn fail(&self, failure: Error, results: &mut BatchResult) {
        let policy = policy(failure.kind());
        let (kind, reason, hint) = (failure.kind().name(), chain(&failure), policy.hint);
        if policy.alert {
            error!(kind, error = reason, hint, "an object reached no end");
        } else {
            warn!(kind, error = reason, hint, "an object reached no end yet");
        }
        telemetry::count_failure(self.service, failure.kind());
        results.failures.push(failure);
    }

    async fn ingest(&self, object: &ObjectRef, deadline: &Deadline) -> Result<Report> {
        if self.launcher.is_none() && self.inline_max_bytes == u64::MAX && deadline.remaining().is_none() {
            return pipeline::process(&self.context, object, deadline.clone()).await;
        }
        let source = match self.context.store.head(object).await {
            Ok(source) => source,
            // The road has its own word for an object that is gone.
            Err(error) if error.kind() == ErrorKind::SourceMissing => {
                return pipeline::process(&self.context, object, deadline.clone()).await;
            }
            Err(error) => return Err(error),
        };
        match route::execution_mode(route::expected_bytes(&source), self.inline_max_bytes, deadline.remaining()) {
            ExecutionMode::Inline => pipeline::process(&self.context, object, deadline.clone()).await,
            ExecutionMode::Task => self.dispatch_to_fargate(source, deadline).await,
        }
    }

    async fn dispatch_to_fargate(&self, source: ObjectVersion, deadline: &Deadline) -> Result<Report> {
        let Some(launcher) = &self.launcher else { return Err(self.cannot_dispatch(&source, deadline)) };
        let task = launcher.launch(&source, deadline.remaining()).await?;
        let mut report = Report::new(source.object, Outcome::HandedOver).because(format!("to the task {task}"));
        report.source_id = Some(source.id.to_string());
        report.size_bytes = source.size_bytes;
        report.table = route::key_parts(&report.object.key, &self.context.settings.database).ok().map(|key| key.table);
        Ok(report)
    }

    fn cannot_dispatch(&self, source: &ObjectVersion, deadline: &Deadline) -> Error {
        let expected = route::expected_bytes(source);
        let size = match expected == source.size_bytes {
            true => format!("{expected} bytes"),
            false => format!("{} compressed bytes, taken for {expected},", source.size_bytes),
        };
        if expected > self.inline_max_bytes {
            let message = format!(
                "its {size} are more than INLINE_MAX_BYTES ({}), and no ECS_CLUSTER is set whose task could load it",
                self.inline_max_bytes
            );
            return Error::new(ErrorKind::Settings, message);
        }
        let left = deadline.remaining().unwrap_or_default().as_secs();
        let needed = route::time_needed(expected).as_secs();
        let message = format!("{left} s are left, its {size} may take {needed} s; it was not started");
        Error::new(ErrorKind::Deadline, message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn results(failures: Vec<Error>, reports: Vec<Report>) -> BatchResult {
        BatchResult { reports, ignored: Vec::new(), failures }
    }

    fn report(needs_attention: bool) -> Report {
        let mut report = Report::new(ObjectRef::new("b", "k"), Outcome::FellBack).because("internal: oops");
        report.needs_attention = needs_attention;
        report
    }

    #[test]
    fn objects_that_ended_are_no_error() {
        assert_eq!(results(vec![], vec![report(false)]).into_result().unwrap().reports.len(), 1);
    }

    #[test]
    fn one_failure_among_others_is_an_error_of_its_kind_and_name() {
        let failure = Error::new(ErrorKind::Throttled, "slow down").for_object("s3://b/x");
        let error = results(vec![failure], vec![report(false)]).into_result().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Throttled);
        assert_eq!(error.to_string(), "1 of 2 objects did not end well: throttled: s3://b/x: slow down");
    }

    #[test]
    fn a_process_that_was_stopped_says_so_before_all_else() {
        let failures = [ErrorKind::Throttled, ErrorKind::Interrupted].map(|kind| Error::new(kind, "x"));
        assert_eq!(results(failures.into(), vec![]).into_result().unwrap_err().kind(), ErrorKind::Interrupted);
    }

    #[test]
    fn what_needs_attention_is_an_error_too() {
        let error = results(vec![], vec![report(true), report(false)]).into_result().unwrap_err();
        assert_eq!(
            error.to_string(),
            "1 of 2 objects did not end well: s3://b/k fell_back and needs attention: internal: oops"
        );
    }

    #[test]
    fn a_long_list_is_cut() {
        let failures = (0..13).map(|_| Error::new(ErrorKind::Busy, "held")).collect();
        let error = results(failures, vec![]).into_result().unwrap_err().to_string();
        assert!(error.starts_with("13 of 13") && error.ends_with("; and 3 more"), "{error}");
        assert_eq!(error.matches("held").count(), 10);
    }
}

//! Who takes which object: this process, a Fargate task, or nobody.
//!
//! Every record of an event and every object of a request gets its turn, whatever becomes of the others; [`Fates`] then
//! says whether all of them reached an end. Anything less is an error, so that the event comes again.

mod abreast;

use serde::Serialize;
use serde_json::Value;
use tracing::{error, info, warn};

use crate::aws::sdk_config;
use crate::catalog::Catalog;
use crate::config::{Environment, LaunchSettings, RoadSettings};
use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind, Result, chain};
use crate::event::{self, EventItem};
use crate::fault::FaultPoint;
use crate::launch::Launcher;
use crate::object::{ObjectRef, Source};
use crate::pipeline::{self, Road, Shares};
use crate::policy::policy;
use crate::report::{Outcome, Report};
use crate::route::{self, Route, Runner};
use crate::secret::Secrets;
use crate::store::Store;
use crate::target::any::IdleConnections;
use crate::telemetry;

/// How many failures an error spells out.
const SPELLED_OUT: usize = 10;

/// Takes objects where they belong.
#[derive(Debug, Clone)]
pub struct Dispatcher {
    /// The name in metrics: `trigger`, `ingest` or `task`.
    service: &'static str,
    /// What an object goes through when this process takes it.
    pub(crate) road: Road,
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
pub struct Fates {
    /// Those that reached an end.
    pub reports: Vec<Report>,
    /// What an event said that is nothing for us, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ignored: Vec<String>,
    /// Those that did not.
    #[serde(skip)]
    pub failures: Vec<Error>,
}

impl Fates {
    /// These fates when every object reached an end and nobody has to look; else an error that lists the others.
    pub fn all_ended(self) -> Result<Self> {
        let alarming: Vec<&Report> = self.reports.iter().filter(|report| report.needs_attention).collect();
        let total = self.reports.len() + self.failures.len();
        let kinds = || self.failures.iter().map(Error::kind);
        // A process that was stopped has more to do, whatever else went wrong before.
        let stopped = kinds().find(|kind| *kind == ErrorKind::Interrupted);
        let kind = match (stopped.or(kinds().next()), alarming.is_empty()) {
            (Some(kind), _) => kind,
            (None, false) => ErrorKind::Bug,
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
    pub async fn connect(service: &'static str, settings: RoadSettings, tasks: Option<Tasks>) -> Self {
        let config = Box::pin(sdk_config(&settings.region)).await;
        let inline_max_bytes = tasks.as_ref().map_or(u64::MAX, |tasks| tasks.above_bytes);
        let launch = tasks.and_then(|tasks| tasks.launch);
        let road = Road {
            store: Store::new(&config),
            catalog: Catalog::new(&config, settings.glue.clone()),
            secrets: Secrets::new(&config, settings.database.credentials.clone()),
            connections: IdleConnections::default(),
            shares: Shares::default(),
            worker: Environment::of_process().worker(service),
            settings,
        };
        Self { service, road, launcher: launch.map(|launch| Launcher::new(&config, launch)), inline_max_bytes }
    }

    /// Takes every object that an event names.
    ///
    /// # Errors
    /// When the event is of no known shape. What becomes of its records is in the fates.
    pub async fn event(&self, event: &Value, deadline: &Deadline) -> Result<Fates> {
        let items = event::parse(event)?;
        FaultPoint::EventParsed.reached().await;
        let mut fates = Fates::default();
        for item in items {
            match item {
                EventItem::Object(object) => {
                    let route = Route::of(&object, &self.road.settings.prefixes);
                    self.take(object, route, deadline, &mut fates).await;
                }
                EventItem::Ignored { what, why } => {
                    info!(what, why, "the event names no object for us");
                    fates.ignored.push(format!("{what}: {why}"));
                }
                EventItem::Unreadable(error) => self.fail(error, &mut fates),
            }
        }
        self.road.connections.close().await;
        Ok(fates)
    }

    /// Takes one object along its route and notes what became of it.
    pub async fn take(&self, object: ObjectRef, route: Route, deadline: &Deadline, fates: &mut Fates) {
        self.note(self.end_of(object, route, deadline).await, fates);
    }

    async fn end_of(&self, object: ObjectRef, route: Route, deadline: &Deadline) -> Result<Report> {
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
    pub fn note(&self, end: Result<Report>, fates: &mut Fates) {
        match end {
            Ok(report) => self.finish(report, fates),
            Err(error) => self.fail(error, fates),
        }
    }

    /// Notes an object that reached an end.
    fn finish(&self, report: Report, fates: &mut Fates) {
        telemetry::count(self.service, &report);
        fates.reports.push(report);
    }

    /// Logs and notes an object that reached none.
    fn fail(&self, failure: Error, fates: &mut Fates) {
        let policy = policy(failure.kind());
        let (kind, reason, hint) = (failure.kind().name(), chain(&failure), policy.hint);
        if policy.alert {
            error!(kind, error = reason, hint, "an object reached no end");
        } else {
            warn!(kind, error = reason, hint, "an object reached no end yet");
        }
        telemetry::count_failure(self.service, failure.kind());
        fates.failures.push(failure);
    }

    async fn ingest(&self, object: &ObjectRef, deadline: &Deadline) -> Result<Report> {
        if self.launcher.is_none() && self.inline_max_bytes == u64::MAX && deadline.remaining().is_none() {
            return pipeline::process(&self.road, object, deadline.clone()).await;
        }
        let source = match self.road.store.head(object).await {
            Ok(source) => source,
            // The road has its own word for an object that is gone.
            Err(error) if error.kind() == ErrorKind::SourceMissing => {
                return pipeline::process(&self.road, object, deadline.clone()).await;
            }
            Err(error) => return Err(error),
        };
        match route::runner(route::expected_bytes(&source), self.inline_max_bytes, deadline.remaining()) {
            Runner::Inline => pipeline::process(&self.road, object, deadline.clone()).await,
            Runner::Task => self.hand_over(source, deadline).await,
        }
    }

    async fn hand_over(&self, source: Source, deadline: &Deadline) -> Result<Report> {
        let Some(launcher) = &self.launcher else { return Err(self.cannot_hand_over(&source, deadline)) };
        let task = launcher.launch(&source, deadline.remaining()).await?;
        let mut report = Report::new(source.object, Outcome::HandedOver).because(format!("to the task {task}"));
        report.source_id = Some(source.id.to_string());
        report.size_bytes = source.size_bytes;
        report.table = route::key_parts(&report.object.key, &self.road.settings.database).ok().map(|key| key.table);
        Ok(report)
    }

    fn cannot_hand_over(&self, source: &Source, deadline: &Deadline) -> Error {
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

    fn fates(failures: Vec<Error>, reports: Vec<Report>) -> Fates {
        Fates { reports, ignored: Vec::new(), failures }
    }

    fn report(needs_attention: bool) -> Report {
        let mut report = Report::new(ObjectRef::new("b", "k"), Outcome::FellBack).because("bug: oops");
        report.needs_attention = needs_attention;
        report
    }

    #[test]
    fn objects_that_ended_are_no_error() {
        assert_eq!(fates(vec![], vec![report(false)]).all_ended().unwrap().reports.len(), 1);
    }

    #[test]
    fn one_failure_among_others_is_an_error_of_its_kind_and_name() {
        let failure = Error::new(ErrorKind::Throttled, "slow down").for_object("s3://b/x");
        let error = fates(vec![failure], vec![report(false)]).all_ended().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Throttled);
        assert_eq!(error.to_string(), "1 of 2 objects did not end well: throttled: s3://b/x: slow down");
    }

    #[test]
    fn a_process_that_was_stopped_says_so_before_all_else() {
        let failures = [ErrorKind::Throttled, ErrorKind::Interrupted].map(|kind| Error::new(kind, "x"));
        assert_eq!(fates(failures.into(), vec![]).all_ended().unwrap_err().kind(), ErrorKind::Interrupted);
    }

    #[test]
    fn what_needs_attention_is_an_error_too() {
        let error = fates(vec![], vec![report(true), report(false)]).all_ended().unwrap_err();
        assert_eq!(
            error.to_string(),
            "1 of 2 objects did not end well: s3://b/k fell_back and needs attention: bug: oops"
        );
    }

    #[test]
    fn a_long_list_is_cut() {
        let failures = (0..13).map(|_| Error::new(ErrorKind::Busy, "held")).collect();
        let error = fates(failures, vec![]).all_ended().unwrap_err().to_string();
        assert!(error.starts_with("13 of 13") && error.ends_with("; and 3 more"), "{error}");
        assert_eq!(error.matches("held").count(), 10);
    }
}

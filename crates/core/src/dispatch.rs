//! Decides which process loads an object: this one or a Fargate task.
//!
//! Every record of an event and every object of a request is processed, even when others fail. [`BatchResult`] then
//! returns an error if any object failed, so that the caller retries.

mod batch;
mod concurrency;
mod extract;
mod messages;
mod run;
mod sync;
mod terminal;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use serde_json::Value;
use tracing::{info, warn};

pub use self::batch::BatchResult;
pub use self::extract::ExtractReport;
pub use self::run::RequestResult;
pub use self::terminal::{ObjectPage, Objects};

use crate::aws::sdk_config;
use crate::catalog::Catalog;
use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind, Result, chain};
use crate::event::{self, EventItem};
use crate::failpoint::Failpoint;
use crate::glue_jobs::GlueJobs;
use crate::launch::{LaunchSettings, Launcher};
use crate::metrics::Metrics;
use crate::object::{ObjectRef, ObjectVersion};
use crate::outcome_events::EventBus;
use crate::pipeline::{
    self, ConfiguredDestinations, Context, CostMeter, KnownOutage, Operator, PipelineConfig, Progress, Refresh,
};
use crate::policy;
use crate::queue::{self, QueueMessage, UploadQueue};
use crate::raw_zone::GlueOutage;
use crate::report::{Outcome, Report};
use crate::route::{self, ExecutionMode, Route};
use crate::store::{Store, lease};

/// Processes events and requests: loads each object here or dispatches it to a task.
#[derive(Debug, Clone)]
pub struct Dispatcher {
    /// Writes the metrics of each object.
    metrics: Metrics,
    /// The pipeline's context, for objects that this process loads.
    context: Context,
    /// Publishes events about outcomes.
    event_bus: Option<EventBus>,
    /// Delays messages that failed. A check tests it.
    upload_queue: Option<UploadQueue>,
    /// Starts the task for a large object; without it such an object fails.
    launcher: Option<Launcher>,
    /// The largest expected size in bytes that this process loads itself.
    inline_max_bytes: u64,
}

/// Which objects are dispatched to tasks, and how a task is started.
#[derive(Debug, Clone)]
pub struct Tasks {
    /// Objects with more expected bytes are dispatched; so are objects for which too little time is left.
    pub above_bytes: u64,
    /// How to start a task; without it an object that needs one fails.
    pub launch: Option<LaunchSettings>,
}

/// How a program processes events and requests.
#[derive(Debug, Clone)]
pub struct DispatchSettings {
    /// The service name in metrics: `trigger`, `ingest` or `task`.
    pub service: &'static str,
    /// The pipeline.
    pub pipeline: PipelineConfig,
    /// When an object is dispatched to a task; without it this process loads every object itself.
    pub tasks: Option<Tasks>,
    /// `UPLOAD_QUEUE_URL`: the queue of uploads.
    pub upload_queue_url: Option<String>,
}

impl Dispatcher {
    /// Builds every client.
    pub async fn connect(settings: DispatchSettings) -> Self {
        let DispatchSettings { service, pipeline, tasks, upload_queue_url } = settings;
        let config = Box::pin(sdk_config(&pipeline.region)).await;
        let inline_max_bytes = tasks.as_ref().map_or(u64::MAX, |tasks| tasks.above_bytes);
        let launch = tasks.and_then(|tasks| tasks.launch);
        let store = Store::new(&config);
        let event_bus = pipeline.event_bus.clone();
        Self {
            metrics: Metrics::new(&pipeline.stack, service),
            event_bus: event_bus.map(|bus| EventBus::new(&config, bus, pipeline.stack.clone())),
            upload_queue: upload_queue_url.map(|url| UploadQueue::new(&config, url)),
            launcher: launch.map(|launch| Launcher::new(&config, launch)),
            inline_max_bytes,
            context: Context {
                destinations: Arc::new(ConfiguredDestinations::new(&config, &pipeline.database, &store)),
                store,
                catalog: Catalog::new(&config, pipeline.glue.clone()),
                glue_jobs: pipeline.glue_job.clone().map(|settings| GlueJobs::new(&config, settings)),
                outage: KnownOutage::default(),
                glue_outage: GlueOutage::default(),
                cost_meter: CostMeter::default(),
                operator: Operator::Absent,
                worker: format!("{service} on {}, process {}", pipeline.host, std::process::id()),
                settings: pipeline,
            },
        }
    }

    /// Processes objects with this context, without events, queue and tasks.
    #[cfg(test)]
    pub(crate) fn of_context(context: Context) -> Self {
        Self {
            metrics: Metrics::new("test", "test"),
            context,
            event_bus: None,
            upload_queue: None,
            launcher: None,
            inline_max_bytes: u64::MAX,
        }
    }

    /// Processes every object that an event names, and returns the response to Lambda.
    ///
    /// For a batch of SQS messages the response names the messages that failed. For any other event it contains the reports.
    ///
    /// # Errors
    /// When an event without SQS messages has an unknown shape, or when any of its objects failed.
    pub async fn respond(&self, event: &Value, deadline: &Deadline) -> Result<Value> {
        let response = match QueueMessage::of_event(event) {
            // Boxed: the nested futures of the pipeline exceed the recursion limit of the compiler.
            Some(messages) => Ok(Box::pin(self.process_messages(messages, deadline)).await),
            None => Box::pin(self.process_event(event, deadline)).await.and_then(BatchResult::into_result).and_then(
                |results| {
                    serde_json::to_value(results).map_err(|error| {
                        Error::new(ErrorKind::Internal, "cannot write the reports as JSON").with_source(error)
                    })
                },
            ),
        };
        self.context.destinations.close().await;
        response
    }

    /// Processes queue messages one after the other, so that each process has one database connection.
    async fn process_messages(&self, messages: Vec<QueueMessage>, deadline: &Deadline) -> Value {
        let mut failed = Vec::new();
        for message in self.suspects_last(messages).await {
            let result = match serde_json::from_str(&message.body) {
                Ok(event) => self.process_event(&event, deadline).await,
                Err(error) => Err(Error::new(ErrorKind::EventInvalid, "the message is not JSON").with_source(error)),
            };
            if let Err(error) = result.and_then(BatchResult::into_result) {
                warn!(message = message.id, error = chain(&error), "a queue message failed and will be received again");
                failed.push(message);
            }
        }
        if let Some(queue) = &self.upload_queue {
            queue.delay(&failed).await;
        }
        queue::partial_batch_response(&failed)
    }

    /// Processes every object that an event names. The result contains the outcome or the failure of each object.
    async fn process_event(&self, event: &Value, deadline: &Deadline) -> Result<BatchResult> {
        let items = match event::parse(event) {
            Ok(items) => items,
            Err(error) => {
                self.metrics.failure(error.kind());
                return Err(error);
            }
        };
        Failpoint::EventParsed.reached().await?;
        self.refresh_tables().await?;
        let mut results = BatchResult::new(&self.metrics);
        for item in items {
            match item {
                EventItem::Object(object) => {
                    let route = Route::of(&object, &self.context.settings.prefixes);
                    results.add(self.process(object, route, deadline).await);
                }
                EventItem::Ignored { what, why } => results.ignore(&what, why),
                EventItem::Unreadable(error) => results.add(Err(error)),
            }
        }
        self.publish(&mut results).await;
        Ok(results)
    }

    /// Reads the table settings again if they have changed. Invalid ones need attention.
    ///
    /// # Errors
    /// When this process has not read valid ones before.
    async fn refresh_tables(&self) -> Result<()> {
        let refreshed = self.context.settings.database.tables.refresh(&self.context.store).await;
        if let Ok(Refresh::KeptLast(error)) | Err(error) = &refreshed {
            self.metrics.failure(error.kind());
        }
        refreshed.map(|_| ())
    }

    /// Publishes the events about new results, if there is a bus.
    async fn publish(&self, results: &mut BatchResult) {
        let (reports, failures) = results.take_unpublished();
        if let Some(bus) = &self.event_bus {
            bus.publish(reports, failures).await;
        }
    }

    /// Processes one object by its route. A panic fails only this object.
    async fn process(&self, object: ObjectRef, route: Route, deadline: &Deadline) -> Result<Report> {
        let name = object.to_string();
        // The lease of the object is dropped without an end, so the panic counts as a death.
        AssertUnwindSafe(self.process_by_route(object, route, deadline)).catch_unwind().await.unwrap_or_else(|_| {
            let message = "a panic ended the attempt; its message is in the log of the process";
            Err(Error::new(ErrorKind::Internal, message).for_object(name))
        })
    }

    async fn process_by_route(&self, object: ObjectRef, route: Route, deadline: &Deadline) -> Result<Report> {
        match route {
            Route::Ingest => match Box::pin(self.ingest(&object, deadline)).await {
                Err(error) if error.kind() == ErrorKind::SourceArchived => {
                    warn!(%object, "skipping an object in an archive of S3");
                    Ok(Report::new(object, Outcome::Skipped).because(policy::describe(&error)))
                }
                result => result.map_err(|error| error.for_object(&object)),
            },
            Route::Skip { why } => {
                info!(%object, why, "skipping an object");
                Ok(Report::new(object, Outcome::Skipped).because(why))
            }
        }
    }

    /// Loads an object in this process, or dispatches it to a Fargate task.
    async fn ingest(&self, object: &ObjectRef, deadline: &Deadline) -> Result<Report> {
        let load_inline = || pipeline::process(&self.context, object, deadline.clone());
        if self.launcher.is_none() && self.inline_max_bytes == u64::MAX && deadline.remaining().is_none() {
            return load_inline().await;
        }
        let source = match self.context.store.head(object).await {
            Ok(source) => source,
            // The pipeline reports a missing object as skipped.
            Err(error) if error.kind() == ErrorKind::SourceMissing => return load_inline().await,
            Err(error) => return Err(error),
        };
        // Without tasks, the time alone decides.
        let inline_max_bytes = if self.launcher.is_some() { self.inline_max_bytes } else { u64::MAX };
        if self.launcher.is_some() && self.context.glue_job_for(&source).is_some() {
            // Only a task has the time and the permissions for the first pass and for the start of the Glue job.
            return self.dispatch_to_fargate(source, deadline).await;
        }
        match route::execution_mode(route::expected_bytes(&source), inline_max_bytes, Some(deadline)) {
            ExecutionMode::Inline => load_inline().await,
            ExecutionMode::Task => self.dispatch_to_fargate(source, deadline).await,
            ExecutionMode::Later => Err(not_in_time(&source, deadline)),
        }
    }

    async fn dispatch_to_fargate(&self, source: ObjectVersion, deadline: &Deadline) -> Result<Report> {
        let Some(launcher) = &self.launcher else { return Err(not_in_time(&source, deadline)) };
        let lease = route::lease_key(&self.context.settings.prefixes, &source.id);
        if lease::is_live(&self.context.store, &source.object.bucket, &lease).await? {
            // A task that is started now could only fail. If that worker dies, the next sweep loads the file.
            let why = "another worker is loading the object".to_owned();
            return Ok(self.handed_over(source, why));
        }
        let step = match self.glue_progress(&source).await? {
            Progress::UnderWay(run) => {
                return Ok(self.handed_over(source, format!("to the run {run} of the Glue job")));
            }
            Progress::NextStep(step) => Some(step),
            Progress::None => None,
        };
        launcher.ensure_capacity().await?;
        let task = launcher.launch(&source, step.as_deref(), deadline.remaining()).await?;
        Ok(self.handed_over(source, format!("to the task {task}")))
    }

    /// The state of the runs of the Glue job for an object.
    async fn glue_progress(&self, source: &ObjectVersion) -> Result<Progress> {
        match self.context.glue_job_for(source) {
            Some(jobs) => pipeline::progress(&self.context, jobs, source).await,
            None => Ok(Progress::None),
        }
    }

    fn handed_over(&self, source: ObjectVersion, why: String) -> Report {
        let mut report = Report::new(source.object, Outcome::HandedOver).because(why);
        report.source_id = Some(source.id.to_string());
        report.size_bytes = source.size_bytes;
        report.table = self.context.settings.key_parts(&report.object.key).ok().map(|key| key.table.to_string());
        report
    }
}

/// The error for an object for which too little time is left.
fn not_in_time(source: &ObjectVersion, deadline: &Deadline) -> Error {
    let expected = route::expected_bytes(source);
    let size = match expected == source.size_bytes {
        true => format!("{expected} bytes"),
        false => format!("{} compressed bytes (estimated as {expected} bytes)", source.size_bytes),
    };
    let left = deadline.remaining().unwrap_or_default().as_secs();
    let needed = route::time_needed(expected).as_secs();
    let message = format!("{left} s are left, but {size} may take {needed} s, so the load was not started");
    Error::new(ErrorKind::Deadline, message)
}

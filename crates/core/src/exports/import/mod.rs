//! Imports full exports: compares each version with the one before, and loads or publishes the changes.
//!
//! An import has steps, each a request of its own: register, lock, diff, apply, publish, finish. A state machine runs them
//! (`templates/exports.yaml`). Every step may be repeated, and may be killed at any moment. The [`registry`] has the lock and the
//! progress. The lock of a step lasts longer than the function can run, so a step needs no renewal in the background. A process without
//! a deadline runs all steps itself, and renews the lock ([`run`]).
//!
//! Once a delta is planned, it is finished before any other export of the table, or it is dropped if the ledger proves that nothing of
//! it is stored and nothing was sent. So a delta always starts from the export that database and stream have.

mod apply;
mod attempt;
mod consume;
mod delta;
mod fail;
mod place;
mod publish;
mod register;
mod registry;
mod request;
mod run;
mod settings;
mod state;
mod status;

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tracing::info;

pub use run::ImportProgress;
pub use settings::{Completion, ImportSettings, ImportTarget};

use super::{DeltaPublisher, ExportDiffer};
use crate::aws::sdk_config;
use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::failpoint::Failpoint;
use crate::pipeline::{ConfiguredDestinations, Destinations, KnownOutage};
use crate::request::invalid;
use crate::store::Store;
use place::ExportPlace;
use registry::Registry;
use request::{LockedVersion, StepRequest};
use state::{ImportStatistics, ImportedExport, LockResult, PlannedImport, TableState, VersionRecord, VersionState};

/// How long the lock of a step lasts after the deadline of the function, when Lambda has ended the process.
const LOCK_MARGIN: SignedDuration = SignedDuration::from_secs(30);

/// How long the lock lasts in a process without a deadline, which renews it each minute.
const LOCK_WITHOUT_DEADLINE: Duration = Duration::from_secs(5 * 60);

/// How long a state machine waits for a lock before it looks again.
const BUSY_SECONDS: u64 = 10;

/// Imports the exports of one bucket.
#[derive(Debug)]
pub struct ExportImporter {
    settings: ImportSettings,
    store: Store,
    registry: Registry,
    destinations: Arc<dyn Destinations>,
    outage: KnownOutage,
    worker: String,
    differ: ExportDiffer,
    publisher: DeltaPublisher,
}

impl ExportImporter {
    /// Builds every client. Connects to nothing yet.
    pub async fn new(settings: ImportSettings) -> Self {
        let config = Box::pin(sdk_config(&settings.pipeline.region)).await;
        let store = Store::new(&config);
        let database = &settings.pipeline.database;
        let destinations = Arc::new(ConfiguredDestinations::new(&config, database, &store));
        let publisher = DeltaPublisher::new(settings.pipeline.clone()).await;
        Self::of(settings, (store, destinations), publisher)
    }

    /// Imports with these clients.
    pub(crate) fn of(
        settings: ImportSettings,
        (store, destinations): (Store, Arc<dyn Destinations>),
        publisher: DeltaPublisher,
    ) -> Self {
        let registry = Registry {
            store: store.clone(),
            bucket: settings.bucket.clone(),
            prefix: settings.registry_prefix.clone(),
        };
        Self {
            differ: ExportDiffer::with_store(settings.pipeline.clone(), settings.diff_memory, store.clone()),
            publisher,
            registry,
            outage: KnownOutage::default(),
            worker: format!("exports on {}, process {}", settings.pipeline.host, std::process::id()),
            destinations,
            store,
            settings,
        }
    }

    /// Runs a step, or applies the records of a stream.
    ///
    /// # Errors
    /// When the request is invalid, or the step fails. A step that failed may be repeated.
    pub async fn run(&self, request: &Value, deadline: &Deadline) -> Result<Value> {
        let work = async {
            self.settings.pipeline.database.tables.refresh(&self.store).await?;
            match consume::is_kinesis_event(request) {
                true => Box::pin(self.consume(request, deadline)).await,
                false => Box::pin(self.step(StepRequest::parse(request)?, deadline)).await,
            }
        };
        let result = tokio::select! {
            result = work => result,
            error = deadline.reached() => Err(error),
        };
        self.destinations.close().await;
        result
    }

    async fn step(&self, step: StepRequest, deadline: &Deadline) -> Result<Value> {
        match step {
            StepRequest::Register { bucket, key } => self.register(bucket.as_deref(), &key).await,
            StepRequest::Lock { tenant, table, version, owner } => {
                self.lock(&ExportPlace { tenant, table, version }, &owner, deadline).await
            }
            StepRequest::Diff(locked) => self.of_export(&locked, self.diff(&locked, deadline).await),
            StepRequest::Apply(locked) => self.of_export(&locked, self.apply(&locked, deadline).await),
            StepRequest::Publish(locked) => self.of_export(&locked, self.publish(&locked, deadline).await),
            StepRequest::Finish(locked) => self.of_export(&locked, self.finish(&locked).await),
            StepRequest::Fail { tenant, table, version, fence, error } => {
                let locked = LockedVersion::new(tenant, table, version, fence);
                self.of_export(&locked, self.fail(&locked, &error, deadline).await)
            }
            StepRequest::Status { tenant, table } => self.status(tenant.as_deref(), table.as_deref()).await,
        }
    }

    fn of_export<T>(&self, locked: &LockedVersion, result: Result<T>) -> Result<T> {
        result.map_err(|error| error.of_export(&locked.place, &self.settings.prefix))
    }

    /// Takes the lock of the table.
    async fn lock(&self, place: &ExportPlace, owner: &str, deadline: &Deadline) -> Result<Value> {
        let (now, until) = (Timestamp::now(), lock_end(deadline.remaining()));
        let take =
            |state: &mut TableState| Ok((state.take_lock(owner, &place.version, now, until), state.current.clone()));
        let (taken, current) = self.registry.change_state(place.names(), take).await?;
        Ok(match taken {
            LockResult::Locked { fence, version } => {
                Failpoint::ImportLocked.reached().await?;
                self.note_start(&ExportPlace { version: version.clone(), ..place.clone() }, current).await?;
                if version != place.version {
                    info!(table = place.table, tenant = place.tenant, version, "finishing a planned import first");
                }
                json!({"status": "locked", "fence": fence, "version": version})
            }
            LockResult::Busy { until } => {
                let left = u64::try_from(until.duration_since(now).as_secs()).unwrap_or(0);
                json!({"status": "busy", "seconds": left.clamp(1, BUSY_SECONDS)})
            }
            LockResult::Done => json!({"status": "done"}),
            LockResult::Stale { current } => {
                self.mark_stale(place, &current).await?;
                json!({"status": "stale", "current": current})
            }
        })
    }

    /// Records the start of an import that has the lock, and the end of the last one, whose process may have died before that.
    async fn note_start(&self, place: &ExportPlace, current: Option<ImportedExport>) -> Result<()> {
        let started_at = Timestamp::now();
        if let Some(current) = current {
            let last = ExportPlace { version: current.version, ..place.clone() };
            self.mark_done(&last, &current.statistics, started_at).await?;
        }
        let note = |record: &mut Option<VersionRecord>| {
            if let Some(record) = record {
                record.started_at = Some(started_at);
            }
        };
        self.registry.change_record(place, note).await
    }

    /// Prolongs the lock for this step.
    ///
    /// # Errors
    /// [`ErrorKind::LeaseLost`] when another owner has taken it.
    async fn renew(&self, locked: &LockedVersion, deadline: &Deadline) -> Result<()> {
        let until = lock_end(deadline.remaining());
        self.registry.change_state(locked.names(), |state| state.renew(locked.fence, until)).await
    }

    /// Prolongs the lock, and returns the planned import.
    async fn planned(&self, locked: &LockedVersion, deadline: &Deadline) -> Result<PlannedImport> {
        let until = lock_end(deadline.remaining());
        self.registry
            .change_state(locked.names(), |state| {
                state.renew(locked.fence, until)?;
                state.planned_under(locked.fence, &locked.place.version).cloned()
            })
            .await
    }

    /// Changes the planned import under the lock.
    async fn change_planned(&self, locked: &LockedVersion, change: impl Fn(&mut PlannedImport)) -> Result<()> {
        self.registry
            .change_state(locked.names(), |state| {
                change(state.planned_under(locked.fence, &locked.place.version)?);
                Ok(())
            })
            .await
    }

    /// Records the success: first in the state, which decides, then in the record.
    async fn finish(&self, locked: &LockedVersion) -> Result<Value> {
        let now = Timestamp::now();
        let version = &locked.place.version;
        let finish = |state: &mut TableState| {
            if state.current.as_ref().is_none_or(|current| current.version != *version) {
                self.check_complete(state.planned_under(locked.fence, version)?)?;
            }
            state.finish((locked.fence, version), self.settings.target.has_database(), now)
        };
        let statistics = self.registry.change_state(locked.names(), finish).await?;
        Failpoint::ImportFinished.reached().await?;
        self.mark_done(&locked.place, &statistics, now).await?;
        let (tenant, table) = locked.names();
        info!(
            tenant,
            table,
            version,
            compared_with = statistics.compared_with,
            rows = statistics.rows,
            inserted = statistics.inserted,
            updated = statistics.updated,
            deleted = statistics.deleted,
            unchanged = statistics.unchanged,
            rows_missing = statistics.rows_missing,
            published = statistics.published,
            seconds = statistics.elapsed_ms as f64 / 1000.0,
            "imported an export"
        );
        Ok(json!({"status": "done", "version": version, "statistics": statistics}))
    }

    /// Fails if a step of the planned import is missing.
    fn check_complete(&self, planned: &PlannedImport) -> Result<()> {
        let (statistics, target) = (&planned.statistics, &self.settings.target);
        let changes = statistics.changes();
        let is_applied = !target.has_database() || changes == 0 || statistics.is_loaded;
        let is_published = target.stream().is_none() || statistics.published == changes;
        match is_applied && is_published {
            true => Ok(()),
            false => {
                Err(invalid("the changes are not applied or not published; the steps apply and publish come first"))
            }
        }
    }

    /// Records in the version that it is done, unless the record says so.
    async fn mark_done(&self, place: &ExportPlace, statistics: &ImportStatistics, ended_at: Timestamp) -> Result<()> {
        let mark = |record: &mut Option<VersionRecord>| {
            let Some(record) = record.as_mut().filter(|record| record.state != VersionState::Done) else { return };
            record.state = VersionState::Done;
            record.ended_at = Some(ended_at);
            record.statistics = Some(statistics.clone());
            (record.error_kind, record.error) = (None, None);
        };
        self.registry.change_record(place, mark).await
    }

    /// Records in the version that a newer one was imported.
    async fn mark_stale(&self, place: &ExportPlace, current: &str) -> Result<()> {
        let now = Timestamp::now();
        let is_new = self
            .registry
            .change_record(place, |record| {
                let Some(record) = record else { return false };
                if matches!(record.state, VersionState::Done | VersionState::Stale) {
                    return false;
                }
                record.state = VersionState::Stale;
                record.ended_at = Some(now);
                true
            })
            .await?;
        if is_new {
            let ExportPlace { tenant, table, version } = place;
            info!(
                tenant,
                table, version, current, "the export is not imported, because a newer version was imported before"
            );
        }
        Ok(())
    }
}

/// The end of a lock that a step takes now: after the process has ended.
fn lock_end(time_left: Option<Duration>) -> Timestamp {
    let left = SignedDuration::try_from(time_left.unwrap_or(LOCK_WITHOUT_DEADLINE)).unwrap_or(SignedDuration::MAX);
    Timestamp::now().checked_add(left).and_then(|end| end.checked_add(LOCK_MARGIN)).unwrap_or(Timestamp::MAX)
}

/// The error for a step whose settings do not fit.
fn wrong_settings(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Settings, message)
}

//! One attempt at one object version: its lease, its deadline, and the state of its COMMIT.

mod record;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tracing::{info, warn};

use crate::deadline::Deadline;
use crate::destination::{Body, Destination, FileClaim, TableChanges};
use crate::error::{Error, Result, chain};
use crate::failpoint::Failpoint;
use crate::fallback::{self, Manifest};
use crate::key_columns::KeyFields;
use crate::object::{ObjectRef, ObjectVersion, hash_parts};
use crate::pattern::KeyParts;
use crate::pipeline::attempt_notes::AttemptNote;
use crate::pipeline::cost_meter::{ObjectUsage, Usage};
use crate::pipeline::raw_catalog::{self, RawResult};
use crate::pipeline::{AfterLoad, Context, Dedupe, TableConfig, rejects};
use crate::reader::{FileReader, ValueScan};
use crate::report::{Outcome, Report};
use crate::request::invalid;
use crate::route;
use crate::row_objects::{self, Area};
use crate::store::lease::Lease;
use crate::table_name::TableName;

/// Time kept for the fallback when an attempt with a deadline waits for the database.
const FALLBACK_RESERVE: Duration = Duration::from_secs(30);

/// The destination of an object's rows.
#[derive(Debug)]
pub(crate) struct Assignment {
    /// The table and the parts of the key, or the reason why the key names no table.
    pub(crate) key: Result<KeyParts>,
    /// The key of the file that first contained the records. It differs from the object's key for corrected rejects.
    pub(crate) original_key: String,
}

/// Whether a COMMIT for this object version may have taken effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CommitState {
    /// No COMMIT was sent.
    NotSent,
    /// This worker or an earlier one may have sent a COMMIT whose result is unknown.
    InDoubt,
    /// The ledger, or the claim that this attempt holds, proves whether a COMMIT took effect.
    Resolved,
}

/// One attempt at one object version by one worker, under a lease.
pub(crate) struct Attempt<'a> {
    pub(crate) context: &'a Context,
    pub(crate) source: ObjectVersion,
    /// The table of the rows. `None` if the key names no table: then the file is rejected.
    pub(crate) table: Option<TableName>,
    /// The settings of that table.
    pub(crate) config: TableConfig,
    /// The key of the file that first contained the records.
    pub(crate) original_key: String,
    /// The columns that the key and this attempt add to each row.
    pub(crate) key_fields: KeyFields,
    pub(crate) started_at: Timestamp,
    /// The changes of the table for this file.
    pub(crate) table_changes: TableChanges,
    /// The reason why the key names no table.
    key_error: Mutex<Option<Error>>,
    /// What the user may have meant with the file, for the report.
    hint: Mutex<Option<String>>,
    /// Why the Glue job does not load the file, for the report.
    pub(super) no_glue_job: Mutex<Option<String>>,
    /// Whether this attempt may have written rejected records.
    has_written_rejects: AtomicBool,
    /// The object with the rows in the lake, for the report.
    lake_key: Mutex<Option<String>>,
    /// The result of the registration in the raw zone's catalog, for the report.
    raw_result: Mutex<Option<RawResult>>,
    deadline: Deadline,
    started: Instant,
    usage: ObjectUsage,
    lease: Lease,
    commit: Mutex<CommitState>,
}

impl<'a> Attempt<'a> {
    /// Acquires the lease and starts the attempt.
    ///
    /// # Errors
    /// When another worker holds the lease, or S3 fails.
    pub(crate) async fn start(
        context: &'a Context,
        source: ObjectVersion,
        assignment: Assignment,
        deadline: &Deadline,
        usage: ObjectUsage,
    ) -> Result<Self> {
        let started = Instant::now();
        let Assignment { key, original_key } = assignment;
        let (key, key_error) = match key {
            Ok(key) => (Some(key), None),
            Err(error) => (None, Some(error)),
        };
        let parts = key.clone().unwrap_or_default();
        let mut config = context.settings.table(&parts.table, &original_key);
        if route::rejects_table(&context.settings.prefixes, &source.object.key).is_some() {
            check_not_replaced_by_part(&config, &source.object.key)?;
            // Corrected records are copied without the document around them.
            config.files.json.records_path = None;
            if config.after_load == AfterLoad::Keep {
                config.after_load = AfterLoad::Move;
            }
        }
        let lease = acquire_lease(context, &source).await?;
        Failpoint::LeaseWritten.reached().await?;
        let commit = match lease.previous_holder() {
            Some(previous) if previous.commit_may_be_sent => CommitState::InDoubt,
            // An earlier attempt may have loaded an object that stays in place, and then no lease tells.
            Some(_) | None if config.after_load == AfterLoad::Keep => CommitState::InDoubt,
            Some(_) | None => CommitState::NotSent,
        };
        let started_at = Timestamp::now();
        let key_fields = KeyFields::new(&config.key_columns, &source.object, &parts, started_at);
        Ok(Self {
            context,
            source,
            table: key.map(|key| key.table),
            config,
            original_key,
            key_fields,
            started_at,
            table_changes: TableChanges::default(),
            key_error: Mutex::new(key_error),
            hint: Mutex::new(None),
            no_glue_job: Mutex::new(None),
            has_written_rejects: AtomicBool::new(false),
            lake_key: Mutex::new(None),
            raw_result: Mutex::new(None),
            deadline: deadline.clone(),
            started,
            usage,
            lease,
            commit: Mutex::new(commit),
        })
    }

    /// Runs `work`, at most until the deadline, and then ends the lease.
    pub(crate) async fn run(self, work: impl AsyncFnOnce(&Self) -> Result<Report>) -> Result<Report> {
        let result = tokio::select! {
            result = work(&self) => result,
            error = self.deadline.reached() => Err(error),
        };
        let elapsed = self.started.elapsed();
        if result.is_err() {
            rejects::remove_own(&self).await;
        }
        let note = result.as_ref().err().and_then(|error| AttemptNote::of_failure(&self, error));
        self.end_lease(result.is_ok()).await;
        // Last, so that no other worker waits for the lease.
        if let Some(note) = note {
            note.write().await;
        }
        let mut report = result?;
        report.elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        Ok(report)
    }

    /// Opens the file.
    ///
    /// # Errors
    /// When the key names no table, or S3 does not return the object.
    pub(crate) async fn open_reader(&self) -> Result<FileReader> {
        if let Some(error) = self.key_error.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return Err(error);
        }
        let Context { store, settings, .. } = self.context;
        let (buffer_max_bytes, options) = (settings.buffer_max_bytes, &self.config.files);
        let reader = FileReader::open(store, &self.source, buffer_max_bytes, options, &self.key_fields).await?;
        let value_scan = if raw_catalog::is_wanted(self) { ValueScan::On } else { ValueScan::Off };
        Ok(reader.with_value_scan(value_scan))
    }

    /// Keeps a hint for the report.
    pub(crate) fn set_hint(&self, hint: Option<String>) {
        *self.hint.lock().unwrap_or_else(PoisonError::into_inner) = hint;
    }

    /// Keeps the key of the object in the lake for the report.
    pub(crate) fn set_lake_key(&self, key: &str) {
        *self.lake_key.lock().unwrap_or_else(PoisonError::into_inner) = Some(key.to_owned());
    }

    /// The key of the object in the lake that this attempt wrote or found.
    pub(crate) fn lake_key(&self) -> Option<String> {
        self.lake_key.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Keeps the result of the registration in the raw zone's catalog for the report.
    pub(super) fn set_raw_result(&self, result: RawResult) {
        *self.raw_result.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
    }

    /// The result of the registration in the raw zone's catalog, if the file was read for it.
    pub(super) fn raw_result(&self) -> Option<RawResult> {
        self.raw_result.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The table's name as the ledger stores it: empty if the key names no table.
    pub(crate) fn table_name(&self) -> TableName {
        self.table.clone().unwrap_or_default()
    }

    /// Fails if another worker has taken over the lease. On success, everything that was read before this call was
    /// written by this worker or an earlier one, and not by a successor.
    pub(crate) async fn verify_lease(&self) -> Result<()> {
        self.lease.verify().await
    }

    /// Records in the lease that COMMIT is about to be sent. Fails if another worker has taken over.
    pub(crate) async fn note_commit_in_lease(&self) -> Result<()> {
        self.lease.fence_before_commit().await?;
        self.set_commit(CommitState::InDoubt);
        Ok(())
    }

    /// Notes that no COMMIT is in doubt any more: the ledger, or a claim of this attempt, shows whether it took effect.
    pub(crate) fn mark_commit_resolved(&self) {
        self.set_commit(CommitState::Resolved);
    }

    /// Notes that another program, which has ended its lease, may have committed the rows.
    pub(super) fn doubt_commit(&self) {
        self.set_commit(CommitState::InDoubt);
    }

    /// Whether the ledger must be read before the rows may be written to the fallback.
    pub(crate) fn is_commit_in_doubt(&self) -> bool {
        *self.commit.lock().unwrap_or_else(PoisonError::into_inner) == CommitState::InDoubt
    }

    fn set_commit(&self, state: CommitState) {
        *self.commit.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }

    /// Records in the lease that a fallback object or a lake object is about to appear. Fails if another worker has taken over.
    pub(crate) async fn fence_before_publish(&self) -> Result<()> {
        self.lease.fence_before_publish().await
    }

    /// Notes that this attempt writes rejected records.
    pub(super) fn note_written_rejects(&self) {
        self.has_written_rejects.store(true, Ordering::Relaxed);
    }

    /// Whether this attempt may have written rejected records.
    pub(super) fn has_written_rejects(&self) -> bool {
        self.has_written_rejects.load(Ordering::Relaxed)
    }

    /// Whether an earlier worker has left its lease.
    pub(super) fn has_dead_predecessor(&self) -> bool {
        self.lease.previous_holder().is_some()
    }

    /// Number of workers in a row that died with this object version, before this attempt.
    pub(crate) fn earlier_deaths(&self) -> u32 {
        self.lease.previous_holder().map_or(0, |previous| previous.deaths)
    }

    /// Returns the manifest of the fallback object that an earlier attempt completed, if there is one.
    ///
    /// After this call the previous holder of the lease can no longer complete a fallback object or a lake object.
    pub(crate) async fn find_earlier_fallback(&self) -> Result<Option<Manifest>> {
        let Context { store, settings, .. } = self.context;
        if self.lease.previous_holder().is_some_and(|previous| previous.fallback_may_be_written) {
            let mut aborted = fallback::abort_writes(store, settings, &self.source).await?;
            if let Some(lake) = Area::lake(settings) {
                aborted += row_objects::abort_writes(store, lake, &self.source).await?;
            }
            info!(aborted, "took over from a worker that may have been writing the fallback or the lake");
        }
        fallback::find(store, settings, &self.source).await
    }

    /// Ends the lease. After a failed attempt, the lease keeps its notes on COMMIT and fallback for the successor.
    async fn end_lease(self, has_outcome: bool) {
        let ended = if has_outcome { self.lease.release().await } else { self.lease.abandon().await };
        if let Err(error) = ended {
            warn!(error = %chain(&error), "the lease could not be released; it expires by itself");
        }
    }

    /// The time to wait for the database: the setting, limited by the deadline.
    pub(crate) fn retry_budget(&self) -> Duration {
        let budget = self.context.settings.database.retry_budget;
        match self.deadline.remaining() {
            Some(remaining) => budget.min(remaining.saturating_sub(FALLBACK_RESERVE.min(remaining / 2))),
            None => budget,
        }
    }

    /// The time left until the deadline; `None` without one.
    pub(super) fn remaining(&self) -> Option<Duration> {
        self.deadline.remaining()
    }

    /// The destination with the current credentials; `reread_secret` reads the secret again.
    pub(crate) async fn destination(&self, reread_secret: bool) -> Result<Box<dyn Destination>> {
        self.context.destinations.open(&self.config.destination, reread_secret).await
    }

    /// The ledger's record of a body with this checksum and this decompressed size.
    pub(crate) fn body(&self, sha256: &str, decoded_bytes: u64) -> Body {
        object_body(&self.source.object, &self.config, sha256, decoded_bytes)
    }

    /// The claim on this object version in the ledger.
    pub(crate) fn claim(&self) -> FileClaim {
        FileClaim {
            source: self.source.clone(),
            table: self.table_name(),
            worker: self.context.worker.clone(),
            started_at: self.started_at,
            value_rejects: None,
            table_changes: self.table_changes.clone(),
            succession: None,
        }
    }

    /// A report with this outcome and without counts.
    pub(crate) fn report(&self, outcome: Outcome) -> Report {
        let mut report = Report::new(self.source.object.clone(), outcome);
        report.source_id = Some(self.source.id.to_string());
        report.table = self.table.as_ref().map(ToString::to_string);
        report.hint = self.hint.lock().unwrap_or_else(PoisonError::into_inner).clone();
        report.size_bytes = self.source.size_bytes;
        report
    }

    /// The cost so far in US dollars, where the kind of compute is known.
    pub(crate) fn cost_usd(&self) -> Option<f64> {
        let compute = self.context.settings.compute?;
        let Usage { time, requests } = self.usage.so_far();
        Some(compute.dollars(time, requests))
    }
}

/// The ledger's record of the body of an object with this checksum and this decompressed size.
pub(crate) fn object_body(object: &ObjectRef, config: &TableConfig, sha256: &str, decoded_bytes: u64) -> Body {
    // None for full exports: the same bytes may have to be loaded again, after another export has replaced them.
    let content_id = match (config.dedupe, &config.destination.load_mode) {
        (Dedupe::Content, mode) if !mode.loads_full_exports() => {
            Some(hash_parts(&[&object.bucket, &object.key, sha256]))
        }
        (Dedupe::Content | Dedupe::Version, _) => None,
    };
    Body { sha256: sha256.to_owned(), content_id, decoded_bytes, lake_key: None }
}

/// Fails if corrected records would replace a whole table: they are only a part of their file.
fn check_not_replaced_by_part(config: &TableConfig, key: &str) -> Result<()> {
    let mode = &config.destination.load_mode;
    if !mode.loads_full_exports() {
        return Ok(());
    }
    let message = format!(
        "with LOAD_MODE={} the corrected records of {key:?} would replace the whole table; upload the complete \
         corrected file",
        mode.name()
    );
    Err(invalid(message))
}

/// Acquires the lease, so that of two workers only one can finish this object version.
async fn acquire_lease(context: &Context, source: &ObjectVersion) -> Result<Lease> {
    let settings = &context.settings;
    let key = route::lease_key(&settings.prefixes, &source.id);
    Lease::acquire(&context.store, &source.object, key, &context.worker, settings.lease).await
}

//! One attempt at one object version: what it holds, and what it knows about its COMMIT.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tracing::{info, warn};

use crate::deadline::Deadline;
use crate::destination::LoadMode;
use crate::destination::{Body, Destination, FileClaim, LedgerOutcome};
use crate::error::{Error, Result, chain};
use crate::failpoint::Failpoint;
use crate::fallback::{self, Manifest};
use crate::key_columns::KeyFields;
use crate::object::{ObjectVersion, hash_parts};
use crate::pattern::KeyParts;
use crate::pipeline::cost_meter::{ObjectUsage, Usage};
use crate::pipeline::{Context, Dedupe, TableConfig};
use crate::reader::FileReader;
use crate::report::{Outcome, Report};
use crate::route;
use crate::store::lease::Lease;

/// The longest time that a ledger update which nothing depends on may delay an object.
const LEDGER_NOTE_TIMEOUT: Duration = Duration::from_secs(5);

/// Time kept for the fallback when an attempt with a deadline waits for the database.
const FALLBACK_RESERVE: Duration = Duration::from_secs(30);

/// Where an object's rows go.
#[derive(Debug)]
pub(crate) struct Assignment {
    /// The table and the parts of the key, or why the key gives none.
    pub(crate) key: Result<KeyParts>,
    /// The key of the file that the records were in first; differs from the object's key for corrected rejects.
    pub(crate) original_key: String,
}

/// Whether a COMMIT for this object version may have taken effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CommitState {
    /// None was sent.
    NotSent,
    /// One may have been sent, by this worker or by the previous holder of the lease, and its result is unknown.
    InDoubt,
    /// The ledger, or the claim that this attempt holds, tells whether one took effect.
    Resolved,
}

/// One attempt at one object version by one worker, under a lease.
pub(crate) struct Attempt<'a> {
    pub(crate) context: &'a Context,
    pub(crate) source: ObjectVersion,
    /// The table that the rows are for; `None` for a key that gives none, whose file is rejected.
    pub(crate) table: Option<String>,
    /// The settings of that table.
    pub(crate) config: TableConfig,
    /// The key of the file that the records were in first.
    pub(crate) original_key: String,
    /// The columns that the key and this attempt add to each row.
    pub(crate) key_fields: KeyFields,
    pub(crate) started_at: Timestamp,
    /// Why the key gives no table.
    key_error: Mutex<Option<Error>>,
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
    /// When another worker holds the lease, or S3 does not answer.
    pub(crate) async fn start(
        context: &'a Context,
        source: ObjectVersion,
        assignment: Assignment,
        deadline: &Deadline,
        usage: ObjectUsage,
    ) -> Result<Self> {
        let started = Instant::now();
        let lease = acquire_lease(context, &source).await?;
        Failpoint::LeaseWritten.reached().await;
        let commit = match lease.previous_holder() {
            Some(previous) if previous.commit_may_be_sent => CommitState::InDoubt,
            Some(_) | None => CommitState::NotSent,
        };
        let Assignment { key, original_key } = assignment;
        let (key, key_error) = match key {
            Ok(key) => (Some(key), None),
            Err(error) => (None, Some(error)),
        };
        let started_at = Timestamp::now();
        let parts = key.clone().unwrap_or_default();
        let config = context.settings.table(&parts.table);
        let key_fields = KeyFields::new(&config.key_columns, &source.object, &parts, started_at);
        Ok(Self {
            context,
            source,
            table: key.map(|key| key.table),
            config,
            original_key,
            key_fields,
            started_at,
            key_error: Mutex::new(key_error),
            deadline: deadline.clone(),
            started,
            usage,
            lease,
            commit: Mutex::new(commit),
        })
    }

    /// Does `work` within the deadline, then ends the lease.
    pub(crate) async fn run(self, work: impl AsyncFnOnce(&Self) -> Result<Report>) -> Result<Report> {
        let result = tokio::select! {
            result = work(&self) => result,
            error = self.deadline.reached() => Err(error),
        };
        let elapsed = self.started.elapsed();
        self.end_lease(result.is_ok()).await;
        let mut report = result?;
        report.elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        Ok(report)
    }

    /// Opens the file.
    ///
    /// # Errors
    /// When the key gives no table, or S3 does not return the object.
    pub(crate) async fn open_reader(&self) -> Result<FileReader> {
        if let Some(error) = self.key_error.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return Err(error);
        }
        let Context { store, settings, .. } = self.context;
        FileReader::open(store, &self.source, settings.buffer_max_bytes, &self.config.files, &self.key_fields).await
    }

    /// The table's name as the ledger stores it: empty for a key that gives none.
    pub(crate) fn table_name(&self) -> &str {
        self.table.as_deref().unwrap_or_default()
    }

    /// Fails if another worker has taken over. On success, no successor wrote anything that was read from S3 before this call.
    pub(crate) async fn verify_lease(&self) -> Result<()> {
        self.lease.verify().await
    }

    /// Records in the lease that COMMIT is about to be sent. Fails if another worker has taken over.
    pub(crate) async fn fence_before_commit(&self) -> Result<()> {
        self.lease.fence_before_commit().await?;
        self.set_commit(CommitState::InDoubt);
        Ok(())
    }

    /// The ledger, or a claim that this attempt holds, has told whether a COMMIT took effect.
    pub(crate) fn resolve_commit(&self) {
        self.set_commit(CommitState::Resolved);
    }

    /// Whether the ledger must be asked before the rows may go anywhere else.
    pub(crate) fn is_commit_in_doubt(&self) -> bool {
        *self.commit.lock().unwrap_or_else(PoisonError::into_inner) == CommitState::InDoubt
    }

    fn set_commit(&self, state: CommitState) {
        *self.commit.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }

    /// Records in the lease that the fallback object is about to appear. Fails if another worker has taken over.
    pub(crate) async fn fence_before_fallback(&self) -> Result<()> {
        self.lease.fence_before_fallback().await
    }

    /// The fallback object that an earlier attempt has written. After this call the previous holder of the lease can no longer
    /// complete one: from here on, either the object exists or it never will.
    pub(crate) async fn earlier_fallback(&self) -> Result<Option<Manifest>> {
        let Context { store, settings, .. } = self.context;
        if self.lease.previous_holder().is_some_and(|previous| previous.fallback_may_be_written) {
            let aborted = fallback::abort_writes(store, settings, &self.source).await?;
            info!(aborted, "took over from a worker that may have been writing the fallback");
        }
        fallback::find(store, settings, &self.source).await
    }

    /// Ends the lease. After an attempt without an outcome, its notes remain for the successor: a COMMIT or a fallback that
    /// may be under way.
    async fn end_lease(self, has_outcome: bool) {
        let ended = if has_outcome { self.lease.release().await } else { self.lease.abandon().await };
        if let Err(error) = ended {
            warn!(error = %chain(&error), "the lease could not be released; it expires by itself");
        }
    }

    /// How long to wait for the database: the setting, and never past the deadline.
    pub(crate) fn retry_budget(&self) -> Duration {
        let budget = self.context.settings.database.retry_budget;
        match self.deadline.remaining() {
            Some(remaining) => budget.min(remaining.saturating_sub(FALLBACK_RESERVE.min(remaining / 2))),
            None => budget,
        }
    }

    /// The destination with the current credentials; `fresh` reads the secret again.
    pub(crate) async fn destination(&self, fresh: bool) -> Result<Box<dyn Destination>> {
        self.context.destinations.open(&self.config.destination, fresh).await
    }

    /// What the ledger keeps of a body with this checksum and this many bytes after decompression.
    pub(crate) fn body(&self, sha256: &str, decoded_bytes: u64) -> Body {
        let object = &self.source.object;
        // A file that replaces the table may bring back what another file replaced in between.
        let content_id = match (self.config.dedupe, &self.config.destination.load_mode) {
            (Dedupe::Content, LoadMode::Append | LoadMode::Merge { .. }) => {
                Some(hash_parts(&[&object.bucket, &object.key, sha256]))
            }
            (Dedupe::Content, LoadMode::Replace) | (Dedupe::Version, _) => None,
        };
        Body { sha256: sha256.to_owned(), content_id, decoded_bytes }
    }

    /// The claim on this object version in the ledger.
    pub(crate) fn claim(&self) -> FileClaim {
        FileClaim {
            source: self.source.clone(),
            table: self.table_name().to_owned(),
            worker: self.context.worker.clone(),
            started_at: self.started_at,
            value_rejects: None,
        }
    }

    /// A report with this outcome and nothing counted yet.
    pub(crate) fn report(&self, outcome: Outcome) -> Report {
        let mut report = Report::new(self.source.object.clone(), outcome);
        report.source_id = Some(self.source.id.to_string());
        report.table = self.table.clone();
        report.size_bytes = self.source.size_bytes;
        report
    }

    /// Writes an outcome that is not a load into the ledger if the database answers soon; nothing depends on it.
    pub(crate) async fn record_outcome(&self, outcome: &LedgerOutcome) {
        let claim = self.claim();
        self.record("the outcome could not be recorded in the ledger", async {
            self.destination(false).await?.record(&claim, outcome).await
        })
        .await;
    }

    /// The cost so far in US dollars, where the kind of compute is known.
    pub(crate) fn cost_usd(&self) -> Option<f64> {
        let compute = self.context.settings.compute?;
        let Usage { time, requests } = self.usage.so_far();
        Some(compute.dollars(time, requests))
    }

    /// Writes the object's new key and the cost into the ledger if the database answers soon; nothing depends on it.
    pub(crate) async fn record_move(&self, moved_to: &str, cost_usd: Option<f64>) {
        self.record("the move could not be recorded in the ledger", async {
            self.destination(false).await?.record_move(&self.source.id, moved_to, cost_usd).await
        })
        .await;
    }

    async fn record(&self, failed: &str, writing: impl Future<Output = Result<()>>) {
        match tokio::time::timeout(LEDGER_NOTE_TIMEOUT, writing).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn!(error = %chain(&error), "{failed}"),
            Err(_) => warn!("{failed} within {} s", LEDGER_NOTE_TIMEOUT.as_secs()),
        }
    }
}

/// The lease that keeps a slow worker and a faster one from both finishing this object version.
async fn acquire_lease(context: &Context, source: &ObjectVersion) -> Result<Lease> {
    let settings = &context.settings;
    let key = route::lease_key(&settings.prefixes, &source.id);
    Lease::acquire(&context.store, &source.object, key, &context.worker, settings.lease).await
}

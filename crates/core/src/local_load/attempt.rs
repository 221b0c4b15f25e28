//! One attempt to load a local file.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tracing::{debug, warn};

use super::{LocalLoader, RejectFiles, Repeat, interrupted_commit};
use crate::destination::{
    AttemptRecord, Body, ChangedTypes, Destination, FileClaim, LoadMode, RunOutcome, TableChanges,
};
use crate::error::{Error, ErrorKind, Result, chain};
use crate::local_file::LocalFile;
use crate::object::{ObjectVersion, hash_parts};
use crate::pipeline::{
    AttemptNote, DatabaseAccess, Dedupe, FileRows, KnownOutage, LATE_NOTE_TIMEOUT, LakeObject, LoadAttempt,
    NOTE_TIMEOUT, TableConfig, empty_outcome, is_unreachable,
};
use crate::reader::FileShape;
use crate::report::{Outcome, Report};
use crate::secret::CredentialSettings;
use spillway_formats::reject::Reject;
use spillway_formats::schema::Schema;

/// One attempt to load one local file into one table.
pub(super) struct LocalAttempt<'a> {
    loader: &'a LocalLoader,
    file: &'a LocalFile,
    source: ObjectVersion,
    config: TableConfig,
    started_at: Timestamp,
    repeat: Repeat,
    rejects: RejectFiles,
    /// A COMMIT was sent, and its result is not known.
    commit_in_doubt: AtomicBool,
    /// The changes of the table for this file.
    table_changes: TableChanges,
    /// What the user may have meant with the file, for the report.
    hint: Mutex<Option<String>>,
}

impl<'a> LocalAttempt<'a> {
    pub(super) fn new(
        loader: &'a LocalLoader,
        (file, source): (&'a LocalFile, ObjectVersion),
        config: TableConfig,
        started_at: Timestamp,
        (repeat, rejects): (Repeat, RejectFiles),
    ) -> Self {
        let (commit_in_doubt, table_changes) = (AtomicBool::new(false), TableChanges::default());
        Self {
            loader,
            file,
            source,
            config,
            started_at,
            repeat,
            rejects,
            commit_in_doubt,
            table_changes,
            hint: Mutex::new(None),
        }
    }

    /// A report with this outcome and without counts.
    pub(super) fn report(&self, outcome: Outcome) -> Report {
        let mut report = Report::new(self.source.object.clone(), outcome);
        report.source_id = Some(self.source.id.to_string());
        report.table = Some(self.config.name.to_string());
        report.hint = self.hint.lock().unwrap_or_else(PoisonError::into_inner).clone();
        report.size_bytes = self.source.size_bytes;
        report
    }

    /// Adds the file of the rejected records to a report.
    pub(super) fn add_rejects(&self, report: &mut Report) {
        if report.outcome == Outcome::Loaded && report.rows_rejected > 0 {
            report.rejects = Some(self.rejects.records_path().display().to_string());
        }
    }

    /// Undoes what a failed attempt has written outside the database. Returns the error for the user.
    pub(super) fn fail(&self, error: Error) -> Error {
        let is_unknown = self.commit_in_doubt.load(Ordering::Relaxed) || error.kind() == ErrorKind::CommitUnknown;
        if is_unknown {
            // If the rows are stored, their rejected records are needed.
            return if error.kind() == ErrorKind::Interrupted { interrupted_commit(error) } else { error };
        }
        if let Err(error) = self.rejects.remove_written() {
            warn!(%error, "the file of rejected records could not be deleted");
        }
        if error.kind() == ErrorKind::Interrupted {
            let message = "the load was interrupted; no row of the file is stored";
            return Error::new(ErrorKind::Interrupted, message)
                .advised("run the same command again; it skips files that are loaded");
        }
        without_wider_type(error, &self.config)
    }
}

impl LocalAttempt<'_> {
    /// Records in the ledger that the file is empty. Nothing else shows that it needs no load.
    ///
    /// # Errors
    /// When the ledger cannot be written.
    pub(super) async fn record_empty(&self) -> Result<()> {
        self.destination(false).await?.record(&self.claim(), &empty_outcome()).await
    }

    /// Writes a failed attempt into the attempt history, if the database responds in time. The result of the load stays the same.
    pub(super) async fn record_failure(&self, error: &Error) {
        let kind = error.kind();
        if is_unreachable(&self.loader.outage, kind) {
            debug!(%kind, "the attempt is not recorded in the history, because the database cannot be used");
            return;
        }
        let record = AttemptRecord {
            source: self.source.clone(),
            table: self.config.name.to_string(),
            worker: self.loader.worker.clone(),
            started_at: self.started_at,
            ended_at: Timestamp::now(),
            outcome: RunOutcome::Failed,
            error_kind: kind,
            rows_parsed: 0,
            rows_stored: 0,
            rows_rejected: 0,
            reason: chain(error),
        };
        let limit = if kind == ErrorKind::Interrupted { LATE_NOTE_TIMEOUT } else { NOTE_TIMEOUT };
        let (destinations, options) = (&*self.loader.destinations, self.config.destination.clone());
        if let Err(error) = (AttemptNote { destinations, options, record, limit }).try_write().await {
            let error = chain(&error);
            debug!(%error, "the attempt could not be recorded in the history");
        }
    }
}

impl LoadAttempt for LocalAttempt<'_> {
    const HAS_FALLBACK: bool = false;

    fn source(&self) -> &ObjectVersion {
        &self.source
    }

    fn config(&self) -> &TableConfig {
        &self.config
    }

    fn table_changes(&self) -> &TableChanges {
        &self.table_changes
    }

    fn set_hint(&self, hint: Option<String>) {
        *self.hint.lock().unwrap_or_else(PoisonError::into_inner) = hint;
    }

    fn outage(&self) -> &KnownOutage {
        &self.loader.outage
    }

    fn configured_retry_budget(&self) -> Duration {
        self.loader.settings.database.retry_budget
    }

    /// A person who has typed a wrong password does not want to wait.
    fn credentials_may_change(&self) -> bool {
        matches!(self.loader.settings.database.access, DatabaseAccess::Login(CredentialSettings::Secret(_)))
    }

    fn retry_budget(&self) -> Duration {
        self.configured_retry_budget()
    }

    async fn destination(&self, reread_secret: bool) -> Result<Box<dyn Destination>> {
        self.loader.destinations.open(&self.config.destination, reread_secret).await
    }

    fn claim(&self) -> FileClaim {
        FileClaim {
            source: self.source.clone(),
            table: self.config.name.clone(),
            worker: self.loader.worker.clone(),
            started_at: self.started_at,
            value_rejects: None,
            table_changes: self.table_changes.clone(),
            succession: None,
        }
    }

    fn body(&self, sha256: &str, decoded_bytes: u64) -> Body {
        body(&self.config, self.repeat, sha256, decoded_bytes)
    }

    async fn write_rejects(&self, rows: &FileRows<'_>, values: Vec<Reject>) -> Result<()> {
        let limit = self.config.files.limits.rejects;
        if limit.is_on() { self.rejects.write(rows, values, &self.source.object.key).await } else { Ok(()) }
    }

    async fn upload_to_lake(&self, _: &FileRows<'_>, _: &[Reject]) -> Result<Option<LakeObject<'_>>> {
        Ok(None)
    }

    async fn register_raw(&self, _: Option<&Schema>, _: &FileShape) -> Result<()> {
        Ok(())
    }

    async fn remove_earlier_rejects(&self) -> Result<()> {
        // A file that another load has written is not touched: its records may be corrected, and not loaded yet.
        self.rejects.remove_written()
    }

    async fn fence_before_commit(&self) -> Result<()> {
        self.file.check_unchanged()?;
        // The open transaction holds the claim, so no other process can commit the file.
        self.commit_in_doubt.store(true, Ordering::Relaxed);
        Ok(())
    }

    fn mark_commit_resolved(&self) {
        self.commit_in_doubt.store(false, Ordering::Relaxed);
    }
}

/// Explains that a column keeps its type although `CHANGED_TYPES` allows a change.
pub(crate) fn without_wider_type(error: Error, config: &TableConfig) -> Error {
    match config.destination.changed_types == ChangedTypes::Widen && error.needs_other_type() {
        true => error.advised(
            "CHANGED_TYPES=widen knows no type for the column that holds its values and those of the file; change the column or the \
             records, or set MAX_REJECTS to load the file without its bad records",
        ),
        false => error,
    }
}

/// The ledger's record of a local file's body.
///
/// The same content is appended to a table once. A file that replaces or merges rows may restore what another file has changed in
/// between, and storing its rows twice changes nothing.
pub(crate) fn body(config: &TableConfig, repeat: Repeat, sha256: &str, decoded_bytes: u64) -> Body {
    let content_id = match (repeat, config.dedupe, &config.destination.load_mode) {
        (Repeat::Skip, Dedupe::Content, LoadMode::Append) => {
            let table = config.name.parts().collect::<Vec<_>>();
            Some(hash_parts(&[&["local file", "content", sha256], &table[..]].concat()))
        }
        (Repeat::LoadAgain, _, _)
        | (_, Dedupe::Version, _)
        | (_, _, LoadMode::Replace | LoadMode::Merge { .. } | LoadMode::Mirror(_) | LoadMode::Changes(_)) => None,
    };
    Body { sha256: sha256.to_owned(), content_id, decoded_bytes, lake_key: None }
}

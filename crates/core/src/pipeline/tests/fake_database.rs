//! A database in memory that follows a script, and the rows and ledger rows that it has committed.
//!
//! It panics when a load breaks the protocol: rows of a source that are committed twice, or COMMIT without finalize.

mod history;
mod load;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt};
use jiff::Timestamp;

use crate::destination::{
    AttemptRecord, AttemptsMaintenance, AttemptsProbe, Begun, Body, Claimed, Destination, DestinationOptions,
    DoneVersion, FileClaim, FileSchema, FoundTable, HistoryEntry, Inspection, LedgerEntry, LedgerOutcome, LedgerProbe,
    LedgerState, LoadMode, ObjectPlace, Probe, Product, RowCounts, Run, RunFilter, RunPage, ScanReason, SyncState,
    ValueCheck, inspect_new,
};
use crate::error::{Error, ErrorKind, Result};
use crate::object::{ObjectRef, ObjectVersion, SourceId};
use crate::pipeline::Destinations;
use history::run_of;
use load::FakeLoad;
use spillway_formats::schema::Schema;

/// A step of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Open,
    Begin,
    Write,
    Finalize,
    Undo,
    Commit,
    LookUp,
    History,
    LoadedVersions,
    Probe,
    Record,
    RecordAttempt,
    KeepHistory,
    RecordMove,
    Syncs,
    RecordSync,
}

/// What happens to the next COMMIT.
#[derive(Debug, Clone, Copy)]
pub(super) enum CommitFault {
    /// It takes effect, and the response is lost.
    LostAfterCommit,
    /// It does not take effect, and no response arrives.
    LostBeforeCommit,
}

/// A row of the ledger.
#[derive(Debug, Clone)]
pub(super) struct LedgerRow {
    pub(super) entry: LedgerEntry,
    pub(super) rows_rejected: u64,
    pub(super) reason: String,
    pub(super) lake_key: Option<String>,
    content_id: Option<String>,
}

/// The database. Clones share it.
#[derive(Clone, Default)]
pub(super) struct FakeDatabase(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    ledger: BTreeMap<SourceId, LedgerRow>,
    /// The versions that were claimed or recorded.
    versions: Vec<ObjectVersion>,
    rows: Vec<(SourceId, String)>,
    calls: Vec<Step>,
    fresh_opens: usize,
    /// Steps that fail, with the kind and the number of further failures.
    faults: Vec<(Step, ErrorKind, usize)>,
    hooks: Vec<(Step, Box<dyn FnOnce() + Send>)>,
    commit_faults: VecDeque<CommitFault>,
    needs_scan: Option<Step>,
    always_needs_scan: bool,
    loses_a_row: bool,
    creates_table: bool,
    hangs_at: Option<Step>,
    /// Whether a call hangs.
    is_hanging: bool,
    refused_value: Option<&'static str>,
    history: Vec<(String, HistoryEntry)>,
    denies_create: bool,
    attempts: Vec<AttemptRecord>,
    history_probe: Option<AttemptsProbe>,
    syncs: Vec<SyncState>,
    has_table: bool,
}

impl FakeDatabase {
    /// Creates the table, for an inspection.
    pub(super) fn put_table(&self) {
        self.state().has_table = true;
    }

    /// Drops the table, for an inspection.
    pub(super) fn drop_table(&self) {
        self.state().has_table = false;
    }

    /// Every call of this step fails, until [`heal`](Self::heal).
    pub(super) fn fail(&self, step: Step, kind: ErrorKind) {
        self.fail_times(step, kind, usize::MAX);
    }

    /// The next calls of this step fail.
    pub(super) fn fail_times(&self, step: Step, kind: ErrorKind, times: usize) {
        self.state().faults.push((step, kind, times));
    }

    /// Every call fails, as when the server is down.
    pub(super) fn stop(&self) {
        for step in [
            Step::Begin,
            Step::LookUp,
            Step::History,
            Step::LoadedVersions,
            Step::Probe,
            Step::Record,
            Step::RecordAttempt,
            Step::KeepHistory,
            Step::RecordMove,
            Step::Syncs,
            Step::RecordSync,
        ] {
            self.fail(step, ErrorKind::Unreachable);
        }
    }

    /// Removes all faults.
    pub(super) fn heal(&self) {
        let mut state = self.state();
        state.faults.clear();
        (state.hangs_at, state.is_hanging) = (None, false);
    }

    /// Runs an action once, before the next call of this step.
    pub(super) fn before(&self, step: Step, action: impl FnOnce() + Send + 'static) {
        self.state().hooks.push((step, Box::new(action)));
    }

    /// The next COMMIT has an unknown result.
    pub(super) fn lose_commit(&self, fault: CommitFault) {
        self.state().commit_faults.push_back(fault);
    }

    /// A provisional schema is not enough: this step asks for a scan.
    pub(super) fn needs_scan_at(&self, step: Step) {
        self.state().needs_scan = Some(step);
    }

    /// No schema is enough, which breaks the contract.
    pub(super) fn always_needs_scan(&self) {
        self.state().always_needs_scan = true;
    }

    /// The database stores one row fewer than it receives.
    pub(super) fn lose_a_row(&self) {
        self.state().loses_a_row = true;
    }

    /// The table does not exist and is created from the first rows of a single-pass load.
    pub(super) fn create_table_from_first_rows(&self) {
        self.state().creates_table = true;
    }

    /// This step never returns: `Write`, `Finalize` or `Commit`, before it takes effect.
    pub(super) fn hang_at(&self, step: Step) {
        self.state().hangs_at = Some(step);
    }

    /// Waits until a call hangs.
    pub(super) async fn until_hanging(&self) {
        while !self.state().is_hanging {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// The table cannot hold this value.
    pub(super) fn refuse_value(&self, value: Option<&'static str>) {
        self.state().refused_value = value;
    }

    /// Writes a ledger row, as another worker did.
    pub(super) fn put_ledger(&self, source: &SourceId, state: LedgerState, rows: u64) {
        self.state().put_ledger(source, state, RowCounts::inserted(rows), String::new(), None);
    }

    /// Adds a row to the history of a key.
    pub(crate) fn put_history(&self, key: &str, row: HistoryEntry) {
        self.state().history.push((key.to_owned(), row));
    }

    /// The user may not create tables.
    pub(crate) fn deny_create(&self) {
        self.state().denies_create = true;
    }

    /// What the attempt history lacks.
    pub(super) fn put_history_probe(&self, probe: AttemptsProbe) {
        self.state().history_probe = Some(probe);
    }

    /// The attempts in the history, oldest first.
    pub(super) fn attempts(&self) -> Vec<AttemptRecord> {
        self.state().attempts.clone()
    }

    /// The committed rows, fields joined by commas.
    pub(super) fn rows(&self) -> Vec<String> {
        self.state().rows.iter().map(|(_, row)| row.clone()).collect()
    }

    /// Whether rows of this source are committed.
    pub(super) fn has_rows_of(&self, source: &SourceId) -> bool {
        self.state().rows.iter().any(|(id, _)| id == source)
    }

    /// All ledger rows.
    pub(super) fn ledger(&self) -> Vec<LedgerRow> {
        self.state().ledger.values().cloned().collect()
    }

    /// Number of calls of a step.
    pub(super) fn calls(&self, step: Step) -> usize {
        self.state().calls.iter().filter(|call| **call == step).count()
    }

    /// Number of calls that asked for fresh credentials.
    pub(super) fn fresh_opens(&self) -> usize {
        self.state().fresh_opens
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a call, runs its hook, and fails if a fault is set.
    fn call(&self, step: Step) -> Result<()> {
        let hook = {
            let mut state = self.state();
            state.calls.push(step);
            let index = state.hooks.iter().position(|(hooked, _)| *hooked == step);
            index.map(|index| state.hooks.remove(index).1)
        };
        if let Some(action) = hook {
            action();
        }
        let mut state = self.state();
        match state.faults.iter_mut().find(|(failing, _, left)| *failing == step && *left > 0) {
            Some((_, kind, left)) => {
                *left -= 1;
                Err(Error::new(*kind, format!("scripted failure at {step:?}")))
            }
            None => Ok(()),
        }
    }

    async fn hang_if(&self, step: Step) {
        if self.state().hangs_at == Some(step) {
            self.state().is_hanging = true;
            std::future::pending::<()>().await;
        }
    }

    fn begin_now(&self, claim: &FileClaim, schema: FileSchema<'_>) -> Result<Begun> {
        self.call(Step::Begin)?;
        let mut state = self.state();
        state.versions.push(claim.source.clone());
        if let Some(entry) = state.entry_in_target(&claim.source.id) {
            return Ok(Begun::NotNeeded(entry));
        }
        let is_provisional = schema.body().is_none();
        if state.always_needs_scan || (is_provisional && state.needs_scan == Some(Step::Begin)) {
            return Ok(Begun::NeedsScan(ScanReason::TableMissing));
        }
        let content_id = schema.body().and_then(|body| body.content_id.clone());
        if state.has_content(content_id.as_deref()) {
            let id = &claim.source.id;
            state.put_ledger(id, LedgerState::Duplicate, RowCounts::default(), String::new(), None);
            return Ok(Begun::NotNeeded(state.ledger[id].entry.clone()));
        }
        let value_check =
            if is_provisional && state.creates_table { ValueCheck::EveryValue } else { ValueCheck::NotNeeded };
        let columns = schema.schema().columns.iter().map(|column| column.name.clone()).collect();
        let load = FakeLoad { database: self.clone(), claim: claim.clone(), columns, is_provisional, rows: Vec::new() };
        Ok(Begun::Open { load: Box::new(load), value_check })
    }
}

impl State {
    fn put_ledger(
        &mut self,
        source: &SourceId,
        state: LedgerState,
        counts: RowCounts,
        reason: String,
        content_id: Option<String>,
    ) {
        let (rows_parsed, rows_stored) = (counts.rows_parsed, counts.rows_stored);
        let (object, committed_at) = (ObjectRef::new("bucket", "key"), Some(Timestamp::UNIX_EPOCH));
        let (moved_to, stored_reason) = (None, Some(reason.clone()).filter(|reason| !reason.is_empty()));
        let entry = LedgerEntry {
            state,
            rows_parsed,
            rows_stored,
            moved_to,
            object,
            committed_at,
            reason: stored_reason,
            load_mode: None,
            replaced_by: None,
        };
        let row = LedgerRow { entry, rows_rejected: counts.rows_rejected, reason, lake_key: None, content_id };
        self.ledger.insert(source.clone(), row);
    }

    fn entry_in_target(&self, source: &SourceId) -> Option<LedgerEntry> {
        self.ledger.get(source).map(|row| row.entry.clone()).filter(|entry| entry.state.needs_no_load())
    }

    fn has_content(&self, content_id: Option<&str>) -> bool {
        content_id.is_some() && self.ledger.values().any(|row| row.content_id.as_deref() == content_id)
    }
}

impl std::fmt::Debug for FakeDatabase {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("FakeDatabase")
    }
}

impl Destinations for FakeDatabase {
    fn open<'a>(&'a self, _: &'a DestinationOptions, fresh: bool) -> BoxFuture<'a, Result<Box<dyn Destination>>> {
        async move {
            self.state().fresh_opens += usize::from(fresh);
            self.call(Step::Open)?;
            Ok(Box::new(self.clone()) as Box<dyn Destination>)
        }
        .boxed()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        async {}.boxed()
    }
}

impl Destination for FakeDatabase {
    fn claim<'a>(&'a self, claim: &'a FileClaim, body: &'a Body) -> BoxFuture<'a, Result<Claimed>> {
        async move {
            let schema = Schema::default();
            let schema = FileSchema::Final { schema: &schema, body };
            Ok(match self.begin_now(claim, schema)? {
                Begun::Open { load, .. } => Claimed::Open(load),
                Begun::NotNeeded(entry) => Claimed::NotNeeded(entry),
                Begun::NeedsScan(reason) => panic!("a claim needs no scan: {reason}"),
            })
        }
        .boxed()
    }

    fn begin<'a>(&'a self, claim: &'a FileClaim, schema: FileSchema<'a>) -> BoxFuture<'a, Result<Begun>> {
        async move { self.begin_now(claim, schema) }.boxed()
    }

    fn look_up<'a>(&'a self, source_id: &'a SourceId) -> BoxFuture<'a, Result<Option<LedgerEntry>>> {
        async move {
            self.call(Step::LookUp)?;
            Ok(self.state().ledger.get(source_id).map(|row| row.entry.clone()))
        }
        .boxed()
    }

    fn history<'a>(&'a self, object: &'a ObjectRef) -> BoxFuture<'a, Result<Vec<HistoryEntry>>> {
        async move {
            self.call(Step::History)?;
            Ok(self.state().history.iter().filter(|(key, _)| *key == object.key).map(|(_, row)| row.clone()).collect())
        }
        .boxed()
    }

    fn runs<'a>(&'a self, filter: &'a RunFilter) -> BoxFuture<'a, Result<RunPage>> {
        async move {
            self.call(Step::History)?;
            let state = self.state();
            let is_wanted = |run: &&Run| filter.key.as_ref().is_none_or(|key| run.key == *key);
            let runs = state.attempts.iter().rev().map(run_of).collect::<Vec<_>>();
            let runs = runs.iter().filter(is_wanted).take(filter.limit).cloned().collect();
            Ok(RunPage { runs, next: None, has_attempts_table: true })
        }
        .boxed()
    }

    fn record_attempt<'a>(&'a self, attempt: &'a AttemptRecord) -> BoxFuture<'a, Result<()>> {
        async move {
            self.call(Step::RecordAttempt)?;
            self.hang_if(Step::RecordAttempt).await;
            self.state().attempts.push(attempt.clone());
            Ok(())
        }
        .boxed()
    }

    fn syncs<'a>(&'a self, bucket: &'a str) -> BoxFuture<'a, Result<Vec<SyncState>>> {
        async move {
            self.call(Step::Syncs)?;
            Ok(self.state().syncs.iter().filter(|sync| sync.bucket == bucket).cloned().collect())
        }
        .boxed()
    }

    fn record_sync<'a>(&'a self, sync: &'a SyncState) -> BoxFuture<'a, Result<()>> {
        async move {
            self.call(Step::RecordSync)?;
            let mut state = self.state();
            let old = state.syncs.iter().position(|old| (&old.bucket, &old.table) == (&sync.bucket, &sync.table));
            let old = old.map(|index| state.syncs.remove(index));
            let watermark = sync.watermark.max(old.and_then(|old| old.watermark));
            state.syncs.push(SyncState { watermark, ..sync.clone() });
            Ok(())
        }
        .boxed()
    }

    fn maintain_attempts(&self, before: Timestamp) -> BoxFuture<'_, Result<AttemptsMaintenance>> {
        async move {
            self.call(Step::KeepHistory)?;
            let mut state = self.state();
            let count = state.attempts.len();
            state.attempts.retain(|attempt| attempt.started_at >= before);
            Ok(AttemptsMaintenance { deleted: (count - state.attempts.len()) as u64 })
        }
        .boxed()
    }

    fn inspect<'a>(&'a self, _: &'a FileClaim, schema: FileSchema<'a>) -> BoxFuture<'a, Result<Inspection>> {
        async move {
            let mut new = inspect_new(Product::MySql, &"orders".into(), schema.schema(), &LoadMode::Append)?;
            if self.state().has_table
                && let FoundTable::Missing { columns, .. } = new.table
            {
                new.table = FoundTable::Existing { columns, add_sql: Vec::new(), ignored: Vec::new() };
            }
            Ok(new)
        }
        .boxed()
    }

    fn probe(&self) -> BoxFuture<'_, Result<Probe>> {
        async move {
            self.call(Step::Probe)?;
            let state = self.state();
            let table = match state.denies_create {
                true => vec![Error::new(ErrorKind::Privilege, "cannot create a table")],
                false => Vec::new(),
            };
            let ledger = if state.ledger.is_empty() { LedgerProbe::Missing } else { LedgerProbe::Usable };
            let history = Ok(state.history_probe.clone());
            Ok(Probe {
                load_statement: Ok("INSERT"),
                temporary_table: Ok(()),
                table,
                ledger: Ok(ledger),
                history,
                grants: String::new(),
            })
        }
        .boxed()
    }

    fn record<'a>(&'a self, claim: &'a FileClaim, outcome: &'a LedgerOutcome) -> BoxFuture<'a, Result<()>> {
        async move {
            self.call(Step::Record)?;
            let mut state = self.state();
            state.versions.push(claim.source.clone());
            if state.entry_in_target(&claim.source.id).is_none() {
                let LedgerOutcome { rows_parsed, rows_stored, rows_rejected, .. } = *outcome;
                let counts = RowCounts { rows_parsed, rows_stored, rows_rejected, ..RowCounts::default() };
                state.put_ledger(&claim.source.id, outcome.state, counts, outcome.reason.clone(), None);
            }
            Ok(())
        }
        .boxed()
    }

    fn loaded_versions<'a>(
        &'a self,
        bucket: &'a str,
        keys: &'a [&'a str],
        etags: &'a [&'a str],
    ) -> BoxFuture<'a, Result<Vec<DoneVersion>>> {
        async move {
            self.call(Step::LoadedVersions)?;
            let state = self.state();
            let is_meant = |version: &&ObjectVersion| {
                version.object.bucket == bucket
                    && keys.contains(&version.object.key.as_str())
                    && etags.contains(&version.etag.as_str())
                    && state.entry_in_target(&version.id).is_some()
            };
            let loaded = |version: &ObjectVersion| DoneVersion {
                source_id: version.id.to_string(),
                key: version.object.key.clone(),
                version_id: version.object.version_id.clone(),
                etag: version.etag.clone(),
                size_bytes: version.size_bytes,
            };
            Ok(state.versions.iter().filter(is_meant).map(loaded).collect())
        }
        .boxed()
    }

    fn record_move<'a>(
        &'a self,
        source_id: &'a SourceId,
        place: ObjectPlace<'a>,
        _: Option<f64>,
    ) -> BoxFuture<'a, Result<()>> {
        async move {
            self.call(Step::RecordMove)?;
            if let (Some(row), ObjectPlace::MovedTo(key)) = (self.state().ledger.get_mut(source_id), place) {
                row.entry.moved_to = Some(key.to_owned());
            }
            Ok(())
        }
        .boxed()
    }

    fn drop_stale_staging<'a>(&'a self, _: Duration, _: &'a [SourceId]) -> BoxFuture<'a, Result<Vec<String>>> {
        async { Ok(Vec::new()) }.boxed()
    }
}

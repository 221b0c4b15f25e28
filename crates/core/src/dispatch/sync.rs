//! Runs a sync: lists the files of each table's window, loads those that the ledger does not know, and moves the watermark.

use std::collections::HashSet;

use jiff::Timestamp;
use tracing::{info, warn};

use super::run::{MAX_REPORTS, is_owned_by_another};
use super::{BatchResult, Dispatcher, RequestResult};
use crate::deadline::Deadline;
use crate::destination::SyncState;
use crate::error::{Error, ErrorKind, Result, chain};
use crate::failpoint::Failpoint;
use crate::pipeline::ask;
use crate::raw_zone;
use crate::reconcile::Files;
use crate::report::{Outcome, Report};
use crate::request::invalid;
use crate::route;
use crate::store::read::ListedObject;
use crate::sync::{self, Listing, SearchRoot, SearchRoots, SyncRequest, SyncResult, TableSync};
use crate::table_name::TableName;

/// The share of its time that a function spends on one file. A file that needs more is dispatched to a task.
const MAX_SHARE: u32 = 4;

/// What the syncs of the tables of one request share.
struct SyncRun<'a> {
    bucket: &'a str,
    request: &'a SyncRequest,
    deadline: &'a Deadline,
    /// When the sync started, before anything was listed.
    started_at: Timestamp,
}

/// One table of a request.
struct TableRun<'a> {
    table: &'a TableName,
    roots: &'a [SearchRoot<'a>],
    /// Its last sync.
    state: Option<&'a SyncState>,
    /// The time by which its files must be listed.
    listing: Deadline,
}

/// The results of the tables so far.
struct Progress {
    results: BatchResult,
    /// Errors that are not about one file. No kind of them is forgotten, because the table is not complete.
    errors: Vec<Error>,
    sync: SyncResult,
}

impl Progress {
    fn is_interrupted(&self) -> bool {
        let is_interrupted = |error: &Error| error.kind() == ErrorKind::Interrupted;
        self.results.failures.iter().chain(&self.errors).any(is_interrupted)
    }
}

impl Dispatcher {
    /// Syncs one table, or every table whose files stay in place.
    ///
    /// # Errors
    /// When no table keeps its files, when the watermarks cannot be read, or when the tables cannot be found.
    pub(super) async fn run_sync(
        &self,
        bucket: &str,
        request: &SyncRequest,
        deadline: &Deadline,
    ) -> Result<RequestResult> {
        let context = &self.context;
        if request.table.is_none() && !context.settings.keeps_files() {
            return Err(invalid("no table has AFTER_LOAD=keep, so the sync needs a table"));
        }
        let run = SyncRun { bucket, request, deadline, started_at: sync::now() };
        let states = ask(context, deadline, async |database| database.syncs(bucket).await).await?;
        let rules = context.settings.database.tables.current();
        let requests = context.store.requests();
        let roots = tokio::select! {
            roots = Box::pin(sync::roots(context, bucket, &rules, request.table.as_ref())) => roots?,
            error = deadline.reached() => return Err(no_tables_found(error)),
        };
        if let Some(table) = request.table.as_ref().filter(|_| roots.is_empty()) {
            return Err(invalid(format!("no pattern names the table {table}, and no key in the bucket belongs to it")));
        }
        let used = context.store.requests().since(requests);
        let sync = SyncResult { s3_requests: (used.reads + used.writes) as u64, ..SyncResult::default() };
        let Progress { mut results, errors, mut sync } = Box::pin(self.sync_tables(&run, roots, &states, sync)).await;
        self.metrics.sync(sync.remaining(), sync.incomplete());
        // Another worker has these files, or the next sync tries them again.
        results.forget_failures(|kind| is_owned_by_another(kind) || kind == ErrorKind::Throttled);
        errors.into_iter().for_each(|error| results.add(Err(error)));
        self.publish(&mut results).await;
        // Only after everything else: Glue does not delay the metrics of the sync.
        Box::pin(raw_zone::register_noted(context, bucket, deadline)).await;
        sync.reports_omitted = results.keep_reports(MAX_REPORTS);
        Ok(RequestResult { sync: Some(sync), ..RequestResult::from(results) })
    }

    /// Syncs the tables one after the other, those with the oldest last sync first.
    async fn sync_tables(
        &self,
        run: &SyncRun<'_>,
        roots: SearchRoots<'_>,
        states: &[SyncState],
        sync: SyncResult,
    ) -> Progress {
        let mut tables: Vec<(TableName, Vec<SearchRoot<'_>>)> = roots.into_iter().collect();
        sync::sort_by_last_sync(&mut tables, states);
        let dispatcher = self.with_tasks_for_large_files(run.deadline);
        let mut progress = Progress { results: BatchResult::new(&self.metrics), errors: Vec::new(), sync };
        for (index, (table, roots)) in tables.iter().enumerate() {
            // A long listing leaves time for the tables after it.
            let listing = match run.deadline.remaining() {
                Some(left) if index + 1 < tables.len() => run.deadline.limited_to(left / 2),
                _ => run.deadline.clone(),
            };
            let table = TableRun { table, roots, state: sync::state_of(states, table), listing };
            Box::pin(dispatcher.sync_table(run, &table, &mut progress)).await;
            if progress.is_interrupted() {
                break;
            }
        }
        progress
    }

    /// Syncs one table, and adds its result. After an error, the watermark stays where it is.
    async fn sync_table(&self, run: &SyncRun<'_>, table: &TableRun<'_>, progress: &mut Progress) {
        let context = &self.context;
        let requests = context.store.requests();
        let watermark = table.state.and_then(|state| state.watermark);
        let window = sync::window(run.request, watermark, context.settings.sync_overlap);
        let mut sync = TableSync::new(table.table, window, watermark);
        if run.deadline.remaining().is_none_or(|left| left >= route::time_needed(0)) {
            if run.request.window.is_none() {
                self.record_start(run, table).await;
            }
            if let Err(error) = self.sync_files(run, table, &mut sync, progress).await {
                progress.errors.push(error);
            }
            let used = context.store.requests().since(requests);
            sync.s3_requests = (used.reads + used.writes) as u64;
            let TableSync { table, files, done, remaining, s3_requests, .. } = &sync;
            let watermark = sync.watermark.map(|time| time.to_string());
            info!(table, files, done, remaining, s3_requests, watermark, "synced a table");
        }
        progress.sync.tables.push(sync);
    }

    /// Lists the files of a table, loads them and records the end of the sync.
    async fn sync_files(
        &self,
        run: &SyncRun<'_>,
        table: &TableRun<'_>,
        sync: &mut TableSync,
        progress: &mut Progress,
    ) -> Result<()> {
        let context = &self.context;
        let Listing { files, unmatched } = tokio::select! {
            listing = Box::pin(sync::files(context, run.bucket, (table.table, table.roots), sync.window())) => listing?,
            error = table.listing.reached() => return Err(not_listed(table.table, error)),
        };
        (sync.files, sync.unmatched) = (files.len() as u64, unmatched);
        let Files { pending, done, unknown, error } =
            Box::pin(Files::sort(context, run.bucket, files, run.deadline)).await;
        sync.done = done as u64;
        progress.errors.extend(error);
        Failpoint::SyncListed.reached().await?;
        let with_time = |file: &ListedObject| (file.key.clone(), sync::time_of(&context.settings, file));
        let waiting: Vec<(String, Timestamp)> = pending.iter().chain(&unknown).map(with_time).collect();
        // The next sync loads the files that are not started.
        let (mut loaded, _) = self.process_in_time(run.bucket, pending, run.deadline).await;
        self.publish(&mut loaded).await;
        sync.count(waiting.len() as u64, &loaded.reports);
        let oldest = oldest_remaining(&waiting, &loaded.reports);
        progress.results.absorb(loaded);
        match run.request.window {
            None => self.record_end(run, sync, oldest).await,
            Some(_) => Ok(()),
        }
    }

    /// Writes the start of a sync beside the ledger, before anything can fail: the next sync begins with the other tables.
    async fn record_start(&self, run: &SyncRun<'_>, table: &TableRun<'_>) {
        let last = table.state;
        let state = SyncState {
            bucket: run.bucket.to_owned(),
            table: table.table.to_string(),
            watermark: None,
            started_at: run.started_at,
            ended_at: last.map_or(run.started_at, |last| last.ended_at),
            files: last.map_or(0, |last| last.files),
            remaining: last.map_or(0, |last| last.remaining),
            worker: self.context.worker.clone(),
        };
        let recorded = ask(&self.context, run.deadline, async |database| database.record_sync(&state).await).await;
        if let Err(error) = recorded {
            // The end of the sync is written to the same row. If that fails as well, the sync fails.
            warn!(table = state.table, error = %chain(&error), "the start of the sync could not be recorded");
        }
    }

    /// Writes the end of a sync beside the ledger, and moves the watermark.
    async fn record_end(&self, run: &SyncRun<'_>, sync: &mut TableSync, oldest: Option<Timestamp>) -> Result<()> {
        Failpoint::SyncFilesDone.reached().await?;
        let state = SyncState {
            bucket: run.bucket.to_owned(),
            table: sync.table.clone(),
            watermark: Some(sync::next_watermark(run.started_at, oldest)),
            started_at: run.started_at,
            ended_at: Timestamp::now(),
            files: sync.files,
            remaining: sync.remaining.unwrap_or_default(),
            worker: self.context.worker.clone(),
        };
        ask(&self.context, &run.deadline.closing(), async |database| database.record_sync(&state).await).await?;
        sync.watermark = sync.watermark.max(state.watermark);
        Ok(())
    }

    /// A dispatcher that starts tasks for files that would need a large part of this function's time.
    pub(super) fn with_tasks_for_large_files(&self, deadline: &Deadline) -> Self {
        let mut dispatcher = self.clone();
        if let (Some(whole), Some(_)) = (deadline.whole_time(), &self.launcher) {
            dispatcher.inline_max_bytes = self.inline_max_bytes.min(route::bytes_in(whole / MAX_SHARE));
        }
        dispatcher
    }
}

/// The time of the oldest of these files without an outcome.
fn oldest_remaining(waiting: &[(String, Timestamp)], reports: &[Report]) -> Option<Timestamp> {
    let done = reports.iter().filter(|report| report.outcome != Outcome::HandedOver);
    let done: HashSet<&str> = done.map(|report| report.object.key.as_str()).collect();
    waiting.iter().filter(|(key, _)| !done.contains(key.as_str())).map(|(_, time)| *time).min()
}

fn not_listed(table: &TableName, cause: Error) -> Error {
    let message =
        format!("the files of {table} could not be listed in time; sync this table alone, or a shorter window");
    Error::new(cause.kind(), message).with_source(cause)
}

fn no_tables_found(cause: Error) -> Error {
    let message = "the folders of the tables could not be listed in time; put {table} before the time in the pattern";
    Error::new(cause.kind(), message).with_source(cause)
}

//! Runs a sync: lists the files of each table's window, loads those that the ledger does not know, and moves the watermark.

use std::time::Duration;

use jiff::Timestamp;
use tracing::info;

use super::run::is_owned_by_another;
use super::{BatchResult, Dispatcher, RequestResult};
use crate::deadline::Deadline;
use crate::destination::SyncState;
use crate::error::{Error, ErrorKind, Result};
use crate::failpoint::Failpoint;
use crate::pipeline::ask;
use crate::reconcile::Files;
use crate::request::invalid;
use crate::route;
use crate::store::read::ListedObject;
use crate::sync::{self, Place, SyncRequest, SyncResult, TableSync};
use crate::table_name::TableName;

/// The largest number of reports in the response. The response of a function is limited to 6 MB.
const MAX_REPORTS: usize = 1000;

/// The share of its time that a function spends on one file. A file that needs more is dispatched to a task.
const MAX_SHARE: u32 = 4;

/// What the syncs of the tables of one request share.
struct SyncRun<'a> {
    bucket: &'a str,
    request: &'a SyncRequest,
    deadline: &'a Deadline,
    /// When the sync started, before anything was listed.
    started_at: Timestamp,
    /// The time at the start; `None` without a deadline.
    whole_time: Option<Duration>,
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
        let run = SyncRun { bucket, request, deadline, started_at: sync::now(), whole_time: deadline.remaining() };
        let states = ask(context, deadline, async |database| database.syncs(bucket).await).await?;
        let rules = context.settings.database.tables.current();
        let places = sync::places(context, bucket, &rules, request.table.as_ref()).await?;
        let mut tables: Vec<(TableName, Vec<Place<'_>>)> = places.into_iter().collect();
        sync::sort_by_last_sync(&mut tables, &states);
        let dispatcher = self.with_tasks_for_large_files(run.whole_time);
        let (mut results, mut sync) = (BatchResult::new(&self.metrics), SyncResult::default());
        for (table, places) in tables {
            let state = sync::state_of(&states, &table);
            match Box::pin(dispatcher.sync_table(&run, (&table, &places), state, &mut results)).await {
                Ok(table) => sync.tables.push(table),
                Err(error) => {
                    results.add(Err(error));
                    self.publish(&mut results).await;
                }
            }
            if results.failures.iter().any(|failure| failure.kind() == ErrorKind::Interrupted) {
                break;
            }
        }
        self.metrics.sync(sync.remaining(), sync.incomplete());
        // Another worker has these files, or the next sync tries them again.
        results.forget_failures(|kind| is_owned_by_another(kind) || kind == ErrorKind::Throttled);
        sync.reports_omitted = results.keep_reports(MAX_REPORTS);
        Ok(RequestResult { sync: Some(sync), ..RequestResult::from(results) })
    }

    /// Syncs one table. After an error, the watermark stays where it is.
    async fn sync_table(
        &self,
        run: &SyncRun<'_>,
        (table, places): (&TableName, &[Place<'_>]),
        state: Option<&SyncState>,
        results: &mut BatchResult,
    ) -> Result<TableSync> {
        let context = &self.context;
        let requests = context.store.requests();
        let watermark = state.and_then(|state| state.watermark);
        let window = sync::window(run.request, watermark, context.settings.sync_overlap);
        let mut sync = TableSync::new(table, window, watermark);
        if run.deadline.remaining().is_some_and(|left| left < route::time_needed(0)) {
            return Ok(sync);
        }
        let files = tokio::select! {
            files = Box::pin(sync::files(context, run.bucket, (table, places), window)) => files?,
            error = run.deadline.reached() => return Err(not_listed(table, error)),
        };
        sync.files = files.len() as u64;
        let Files { pending, done, unknown, error } =
            Box::pin(Files::sort(context, run.bucket, files, run.deadline)).await;
        sync.done = done as u64;
        Failpoint::SyncListed.reached().await;
        let waiting = (pending.len() + unknown.len()) as u64;
        let mut loaded = self.load_in_time(run, pending).await;
        self.publish(&mut loaded).await;
        sync.count(waiting, &loaded.reports);
        loaded.add_failure(error);
        results.absorb(loaded);
        if run.request.window.is_none() {
            self.record(run, &mut sync).await?;
        }
        let used = context.store.requests().since(requests);
        sync.s3_requests = (used.reads + used.writes) as u64;
        let TableSync { table, files, done, remaining, s3_requests, .. } = &sync;
        let watermark = sync.watermark.map(|time| time.to_string());
        info!(table, files, done, remaining, s3_requests, watermark, "synced a table");
        Ok(sync)
    }

    /// Loads files until too little time is left for the next one.
    async fn load_in_time(&self, run: &SyncRun<'_>, files: Vec<ListedObject>) -> BatchResult {
        let may_start = |file: &ListedObject| {
            let expected = route::expected_bytes_by_key(&file.key, file.size_bytes);
            let needed = route::time_needed(expected);
            let is_for_task = expected > self.inline_max_bytes;
            // A file that a new invocation could not load either fails, and the failure says why.
            let never_fits = run.whole_time.is_some_and(|whole| needed > whole);
            is_for_task || never_fits || run.deadline.remaining().is_none_or(|left| left >= needed)
        };
        self.process_while(run.bucket, files, run.deadline, may_start).await
    }

    /// Writes the end of a sync beside the ledger. The watermark moves to the start of the sync if no file remains.
    async fn record(&self, run: &SyncRun<'_>, sync: &mut TableSync) -> Result<()> {
        Failpoint::SyncFilesDone.reached().await;
        let state = SyncState {
            bucket: run.bucket.to_owned(),
            table: sync.table.clone(),
            watermark: sync.is_complete().then_some(run.started_at),
            started_at: run.started_at,
            ended_at: Timestamp::now(),
            files: sync.files,
            remaining: sync.remaining.unwrap_or_default(),
            worker: self.context.worker.clone(),
        };
        ask(&self.context, run.deadline, async |database| database.record_sync(&state).await).await?;
        sync.watermark = sync.watermark.max(state.watermark);
        Ok(())
    }

    /// A dispatcher that starts tasks for files that would need a large part of this function's time.
    fn with_tasks_for_large_files(&self, whole_time: Option<Duration>) -> Self {
        let mut dispatcher = self.clone();
        if let (Some(whole), Some(_)) = (whole_time, &self.launcher) {
            dispatcher.inline_max_bytes = self.inline_max_bytes.min(route::bytes_in(whole / MAX_SHARE));
        }
        dispatcher
    }
}

fn not_listed(table: &TableName, cause: Error) -> Error {
    let message = format!("the files of {table} could not be listed in time; name a shorter window");
    Error::new(cause.kind(), message).with_source(cause)
}

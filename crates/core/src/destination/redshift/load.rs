//! The load of one file: its plan, its rows in S3, and the transaction that copies them.

use std::sync::Arc;

use futures_util::future::{BoxFuture, FutureExt};
use tracing::{info, warn};

use super::client::{Committed, Limit, Transaction};
use super::column::{Storage, columns_query};
use super::failure::rolled_back;
use super::key::{needs_primary_key, primary_key_query};
use super::ledger::{RedshiftDialect, queries, random};
use super::literal::bind;
use super::plan::{Plan, TableRows, stored_name};
use super::sql::{Copied, LedgerRow, LedgerTables, LoadStatements, Step, TableChange};
use super::write::{Folder, not_in_s3};
use super::{Redshift, duplicate_outcome, listed_changes, superseded_outcome};
use crate::batch::BatchStream;
use crate::destination::changes::created;
use crate::destination::database::claim_of;
use crate::destination::merge::sequence_name;
use crate::destination::rows::Rows;
use crate::destination::{
    Begun, Body, CommitResult, FileClaim, FileSchema, LedgerState, LoadMode, OpenClaim, OpenLoad, ReadyLoad, RowCounts,
    ScanReason, ValueCheck, WriteResult,
};
use crate::error::{Error, ErrorKind, Result, chain};
use crate::failpoint::Failpoint;
use crate::ledger::{Claim, CurrentSource, Row, WORKER_CHARACTERS, truncated};

impl Redshift {
    /// Fails if the table is one of the ledger's own, or the rows cannot be in S3.
    fn check_file(&self, file: &FileClaim) -> Result<()> {
        let own = LedgerTables::own_names(&self.options.ledger_table);
        let name = file.table.own_name().to_lowercase();
        if own.iter().any(|own| own.to_lowercase() == name) {
            let message = format!("the table {} is one of the ledger's tables; choose another name", file.table);
            return Err(Error::new(ErrorKind::Settings, message));
        }
        if file.source.object.bucket.contains('/') {
            return Err(not_in_s3());
        }
        Ok(())
    }

    /// Reads what a load must know before it starts.
    async fn find(&self, file: &FileClaim) -> Result<Found> {
        let (tables, id, mode) = (&self.tables, file.source.id.as_str(), &self.options.load_mode);
        let mut sqls = vec![tables.fence_query(id), tables.attempt_query(id), columns_query(&file.table)];
        if needs_primary_key(mode) {
            sqls.push(primary_key_query(&file.table));
        }
        if self.options.claims_table() {
            let current = self.ledger().current_query::<RedshiftDialect>();
            sqls.push(bind(&current, &[stored_name(&file.table).unique_text().as_ref().into()]));
        }
        let context = "cannot read the ledger and the table's columns";
        let mut results = queries(self.client(), context, &sqls).await?.into_iter();
        let mut next = |is_queried: bool| if is_queried { results.next().unwrap_or_default() } else { Vec::new() };
        let (fence, attempt) = (next(true), next(true));
        let table = TableRows { columns: next(true), primary_key: next(needs_primary_key(mode)) };
        Ok(Found { fence, attempt, table, current: next(self.options.claims_table()) })
    }
}

/// The rows that [`Redshift::find`] has read.
struct Found {
    fence: Vec<Row>,
    attempt: Vec<Row>,
    table: TableRows,
    /// The source that was the last to replace the table.
    current: Vec<Row>,
}

/// See [`crate::destination::Destination::begin`].
pub(super) async fn begin(redshift: &Arc<Redshift>, file: &FileClaim, schema: FileSchema<'_>) -> Result<Begun> {
    file.table_changes.roll_back();
    redshift.check_file(file)?;
    redshift.ensure_ledger().await?;
    let source_id = &file.source.id;
    if let Some(entry) = redshift.ledger().find_done(&mut redshift.session(), source_id).await? {
        return Ok(Begun::NotNeeded(entry));
    }
    let Some(body) = schema.body() else { return Ok(Begun::NeedsScan(ScanReason::RowsCopied)) };
    let claim = claim_of(file, Some(body));
    if let Some(entry) = redshift.ledger().find_duplicate(&mut redshift.session(), &claim).await? {
        redshift.record_outcome(&claim, &duplicate_outcome(&entry, body), "").await?;
        return Ok(Begun::NotNeeded(entry));
    }
    let found = redshift.find(file).await?;
    let plan = redshift.plan(file, schema, &found.table)?;
    let current = found.current.first().map(CurrentSource::read).transpose()?;
    if let Some(current) = current.as_ref().filter(|_| !plan.columns.is_empty())
        && let Some(entry) = current.superseding(&claim)?
    {
        redshift.record_outcome(&claim, &superseded_outcome(&entry, body), "").await?;
        return Ok(Begun::NotNeeded(entry));
    }
    if !plan.ignored.is_empty() {
        let columns = plan.ignored.join(", ");
        info!(table = %file.table, columns, "columns that the table lacks are not loaded");
    }
    if plan.create_table.is_some() {
        file.table_changes.record_in_transaction(created(&plan.columns));
    }
    Failpoint::Begun.reached().await?;
    let attempt_id = random();
    let settings = redshift.client().settings();
    let bucket = &file.source.object.bucket;
    let load = Load {
        redshift: redshift.clone(),
        file: file.clone(),
        body: body.clone(),
        plan,
        fields: schema.schema().columns.len(),
        fence: found.fence.first().map(|row| row.text(0)).transpose()?,
        attempt: found.attempt.first().map(|row| row.count(0)).transpose()?.unwrap_or(0) + 1,
        current: current.map(|current| current.source_id),
        folder: Folder::new(&redshift.database.store, bucket, &settings.copy_prefix, source_id, &attempt_id),
        attempt_id,
    };
    Ok(Begun::Open { load: Box::new(load), value_check: ValueCheck::NotNeeded })
}

/// A load whose rows go to S3. Nothing of it is in the database.
#[derive(Debug)]
struct Load {
    redshift: Arc<Redshift>,
    file: FileClaim,
    body: Body,
    plan: Plan,
    /// Number of fields in each row of the file.
    fields: usize,
    /// The fence that the claim has read.
    fence: Option<String>,
    /// The number of this attempt.
    attempt: u64,
    /// The source that was the last to replace the table, as the claim has read it.
    current: Option<String>,
    /// Tells the attempts at a file apart.
    attempt_id: String,
    folder: Folder,
}

impl Load {
    async fn write_rows(&mut self, rows: BatchStream<'_>) -> Result<RowCounts> {
        let Self { redshift, file, body, plan, fields, folder, .. } = self;
        let rows = Rows::<Storage>::new(rows, *fields, &plan.columns, body.decoded_bytes);
        let mut rows = rows.with_rejects(file.value_rejects.clone());
        if plan.columns.is_empty() {
            return match rows.advance().await? {
                false => Ok(RowCounts::default()),
                true => Err(Error::new(ErrorKind::Internal, "a file without columns has rows")),
            };
        }
        let sequence = sequence(redshift, plan);
        let written = folder.write(&mut rows, sequence.as_deref()).await?;
        Failpoint::RowsAll.reached().await?;
        Ok(RowCounts::inserted(written))
    }

    /// Returns the transaction.
    fn statements(&self, body: &Body, counts: RowCounts) -> (Vec<Step>, Vec<String>) {
        let (settings, changes) = (self.redshift.client().settings(), listed_changes(&self.file));
        let claim = claim_of(&self.file, Some(body));
        let claim = Claim { worker: truncated(claim.worker, WORKER_CHARACTERS), ..claim };
        let manifest_key = self.folder.manifest_key();
        let copied = self.folder.has_parts().then(|| Copied {
            bucket: &self.folder.bucket,
            manifest_key: &manifest_key,
            rows: counts.rows_stored,
            role: &settings.copy_role,
        });
        let (options, plan) = (&self.redshift.options, &self.plan);
        let (table, sequence) = (stored_name(&self.file.table), sequence(&self.redshift, plan));
        let current_of = table.unique_text();
        let replaces = options.claims_table() && !plan.columns.is_empty();
        let change = match &sequence {
            _ if replaces => TableChange::Replace { current_of: &current_of, current: self.current.as_deref() },
            Some(sequence) => TableChange::Merge { sequence },
            None => TableChange::Append,
        };
        let (fence, create_table) = (self.fence.as_deref(), plan.create_table.as_deref());
        let load = LoadStatements { fence, change, columns: &plan.columns, create_table, copied };
        let row = LedgerRow {
            state: LedgerState::Loaded,
            attempt: self.attempt,
            rows_parsed: counts.rows_parsed + counts.rows_rejected,
            rows_stored: counts.rows_stored,
            rows_rejected: counts.rows_rejected,
            load_mode: Some(options.stored_mode()),
            reason: None,
            table_changes: Some(changes.as_str()).filter(|changes| !changes.is_empty()),
            current_of: replaces.then_some(current_of.as_ref()),
        };
        self.redshift.tables.load(&claim, &load, &row).into_iter().unzip()
    }

    async fn undo(mut self) {
        self.file.table_changes.roll_back();
        self.folder.remove().await;
    }
}

/// Returns the name of the staged column with the row numbers of a merge; `None` in other load modes.
fn sequence(redshift: &Redshift, plan: &Plan) -> Option<String> {
    let is_merge = matches!(redshift.options.load_mode, LoadMode::Merge { .. }) && !plan.columns.is_empty();
    is_merge.then(|| sequence_name(&plan.columns))
}

impl OpenLoad for Load {
    fn write<'a>(&'a mut self, rows: BatchStream<'a>) -> BoxFuture<'a, Result<WriteResult>> {
        async move {
            let written = self.write_rows(rows).await;
            if written.is_err() {
                self.file.table_changes.roll_back();
                self.folder.remove().await;
            }
            written.map(WriteResult::Written)
        }
        .boxed()
    }
}

impl OpenClaim for Load {
    fn keep_alive(&mut self) -> BoxFuture<'_, Result<()>> {
        // The Data API has no connection to close.
        async move { Ok(()) }.boxed()
    }

    fn finalize(self: Box<Self>, body: Body, counts: RowCounts) -> BoxFuture<'static, Result<Box<dyn ReadyLoad>>> {
        async move {
            if !self.folder.has_parts() && counts.rows_stored > 0 {
                self.undo().await;
                return Err(Error::new(ErrorKind::Internal, "the rows of a failed load cannot be copied"));
            }
            if let Err(error) = Failpoint::BeforeLedgerEnd.reached().await {
                self.undo().await;
                return Err(error);
            }
            let (steps, sqls) = self.statements(&body, counts);
            Ok(Box::new(Ready { load: *self, counts, steps, sqls }) as Box<dyn ReadyLoad>)
        }
        .boxed()
    }

    fn undo(self: Box<Self>) -> BoxFuture<'static, ()> {
        async move { Self::undo(*self).await }.boxed()
    }
}

/// A load whose rows are in S3, and whose transaction is not sent.
#[derive(Debug)]
struct Ready {
    load: Load,
    counts: RowCounts,
    steps: Vec<Step>,
    sqls: Vec<String>,
}

impl Ready {
    /// Returns the result of a transaction that was rolled back or never ran.
    ///
    /// An earlier worker's transaction may still run, and this worker may now write the rows elsewhere. So all claims are ended
    /// first. If that fails, the result is unknown.
    async fn not_committed(self, error: Error) -> CommitResult {
        let Load { redshift, file, .. } = &self.load;
        match redshift.fence_off(&file.source.id).await {
            Ok(Some(entry)) if entry.state.needs_no_load() => {
                self.load.undo().await;
                let message = "another worker has loaded the same file";
                CommitResult::NotCommitted(Error::new(ErrorKind::Conflict, message).with_source(error))
            }
            Ok(_) => {
                self.load.undo().await;
                CommitResult::NotCommitted(error)
            }
            Err(fence_error) => {
                warn!(error = %chain(&fence_error), "the claims on the file could not be ended");
                CommitResult::Unknown(error)
            }
        }
    }

    /// Returns the counts that the last statement of a merge has read from the ledger.
    async fn merged_counts(&self, committed: &Committed) -> Result<RowCounts> {
        let rows = self.load.redshift.client().rows(committed, self.sqls.len() - 1).await?;
        let row = rows.first().ok_or_else(|| Error::new(ErrorKind::Internal, "the counts of the merge are missing"))?;
        let (rows_stored, rows_updated, rows_unchanged) = (row.count(0)?, row.count(1)?, row.count(2)?);
        Ok(RowCounts { rows_stored, rows_updated, rows_unchanged, ..self.counts })
    }

    /// Whether rows are merged, so that only the server has counted them.
    fn merges(&self) -> bool {
        self.load.folder.has_parts() && sequence(&self.load.redshift, &self.load.plan).is_some()
    }
}

impl ReadyLoad for Ready {
    fn counts(&self) -> RowCounts {
        self.counts
    }

    fn undo(self: Box<Self>) -> BoxFuture<'static, ()> {
        async move { self.load.undo().await }.boxed()
    }

    fn commit(mut self: Box<Self>) -> BoxFuture<'static, CommitResult> {
        async move {
            if let Err(error) = Failpoint::BeforeCommit.reached().await {
                return self.not_committed(error).await;
            }
            let client = self.load.redshift.client();
            // It may wait for the loads before it, so it has no time limit.
            match client.transaction(&self.sqls, &self.load.attempt_id, Limit::None).await {
                Transaction::Committed(committed) => {
                    if let Err(error) = Failpoint::AfterCommit.reached().await {
                        return CommitResult::Unknown(error);
                    }
                    let merges = self.merges();
                    self.load.folder.remove().await;
                    match merges {
                        true => self
                            .merged_counts(&committed)
                            .await
                            .map_or_else(CommitResult::Unknown, CommitResult::Merged),
                        false => CommitResult::Committed,
                    }
                }
                Transaction::RolledBack(failed) => {
                    let context = format!("cannot copy the rows into the table {} of Redshift", self.load.file.table);
                    let error = rolled_back(&context, &failed, &self.steps);
                    self.not_committed(error).await
                }
                Transaction::Refused(error) => self.not_committed(error).await,
                Transaction::Unknown(error) => CommitResult::Unknown(error),
            }
        }
        .boxed()
    }
}

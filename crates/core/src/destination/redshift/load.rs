//! The load of one file: its plan, its rows in S3, and the transaction that copies them.

use std::sync::Arc;

use futures_util::future::{BoxFuture, FutureExt};
use tracing::{info, warn};

use super::client::{Limit, Transaction};
use super::column::{Storage, TableColumn, columns_query, new_columns, read_columns};
use super::failure::rolled_back;
use super::ledger::{queries, random};
use super::sql::{Copied, LedgerRow, LedgerTables, LoadStatements, Step, create_table};
use super::write::{Folder, not_in_s3};
use super::{Redshift, WORKER_CHARACTERS, duplicate_outcome, listed_changes};
use crate::batch::BatchStream;
use crate::destination::changes::created;
use crate::destination::column::{Lacking, find_lacking, mismatch};
use crate::destination::database::claim_of;
use crate::destination::engine::Request;
use crate::destination::rows::Rows;
use crate::destination::table::columns_to_send;
use crate::destination::{
    Begun, Body, CommitResult, FileClaim, FileSchema, LedgerState, OpenClaim, OpenLoad, ReadyLoad, RowCounts,
    ScanReason, ValueCheck, WriteResult,
};
use crate::error::{Error, ErrorKind, Result, chain};
use crate::failpoint::Failpoint;
use crate::ledger::{Claim, Row, truncated};
use spillway_formats::schema::Schema;

/// The load mode in the ledger.
const LOAD_MODE: &str = "append";

/// What a load does to its table.
#[derive(Debug)]
pub(super) struct Plan {
    /// The columns that receive values. Empty for a file without columns.
    pub(super) columns: Vec<TableColumn>,
    /// The statement that creates a missing table.
    pub(super) create_table: Option<String>,
    /// The file's columns that are not loaded, because the table lacks them.
    pub(super) ignored: Vec<String>,
}

impl Redshift {
    /// Plans the load, from the rows of [`columns_query`].
    pub(super) fn plan(&self, file: &FileClaim, schema: FileSchema<'_>, found: &[Row]) -> Result<Plan> {
        let (table, columns) = (&file.table, &schema.schema().columns);
        if columns.is_empty() {
            return Ok(Plan { columns: Vec::new(), create_table: None, ignored: Vec::new() });
        }
        if found.is_empty() {
            let columns = new_columns(columns)?;
            let sql = create_table(table, &columns, &self.options.redshift_keys);
            return Ok(Plan { columns, create_table: Some(sql), ignored: Vec::new() });
        }
        let table_columns = read_columns(table, found)?;
        let request = Request { file, schema, options: &self.options };
        let ignored = match find_lacking(table, &table_columns, schema, self.options.unknown_columns)? {
            Lacking::Ignore(columns) => columns.iter().map(|column| column.name.clone()).collect(),
            Lacking::Nothing | Lacking::Add(_) | Lacking::Json(_) | Lacking::NeedsScan => Vec::new(),
        };
        let columns = columns_to_send(&request, &table_columns, &[])?.unwrap_or_default();
        let columns = without_unsupported(table, columns, schema.schema())?;
        Ok(Plan { columns, create_table: None, ignored })
    }

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
}

/// Returns the columns without those of types that COPY is not used for.
///
/// # Errors
/// [`ErrorKind::TableMismatch`] when the file has a value for one of them, or when none is left.
fn without_unsupported(table: &str, mut columns: Vec<TableColumn>, schema: &Schema) -> Result<Vec<TableColumn>> {
    let is_unsupported = |column: &TableColumn| matches!(column.storage, Storage::Unsupported(_));
    let is_empty = |column: &TableColumn| schema.columns.get(column.field).is_some_and(|column| column.is_empty());
    let has_other = columns.iter().any(|column| !is_unsupported(column));
    if let Some(column) = columns.iter().find(|column| is_unsupported(column) && !(has_other && is_empty(column))) {
        let message = format!(
            "Spillway does not copy values into columns of the type {}, as {} of table {table}",
            column.type_text, column.name
        );
        return Err(mismatch(&column.name, message));
    }
    columns.retain(|column| !is_unsupported(column));
    Ok(columns)
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
    let tables = &redshift.tables;
    let sqls =
        [tables.fence_query(source_id.as_str()), tables.attempt_query(source_id.as_str()), columns_query(&file.table)];
    let found = queries(redshift.client(), "cannot read the ledger and the table's columns", &sqls).await?;
    let [fence, attempt, columns] = found.as_slice() else {
        return Err(Error::new(ErrorKind::Internal, "the results of the queries are not complete"));
    };
    let plan = redshift.plan(file, schema, columns)?;
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
        fence: fence.first().map(|row| row.text(0)).transpose()?,
        attempt: attempt.first().map(|row| row.count(0)).transpose()?.unwrap_or(0) + 1,
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
    /// Tells the attempts at a file apart.
    attempt_id: String,
    folder: Folder,
}

impl Load {
    async fn write_rows(&mut self, rows: BatchStream<'_>) -> Result<RowCounts> {
        let Self { file, body, plan, fields, folder, .. } = self;
        let rows = Rows::<Storage>::new(rows, *fields, &plan.columns, body.decoded_bytes);
        let mut rows = rows.with_rejects(file.value_rejects.clone());
        if plan.columns.is_empty() {
            return match rows.advance().await? {
                false => Ok(RowCounts::default()),
                true => Err(Error::new(ErrorKind::Internal, "a file without columns has rows")),
            };
        }
        let written = folder.write(&mut rows).await?;
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
        let (fence, create_table) = (self.fence.as_deref(), self.plan.create_table.as_deref());
        let load = LoadStatements { fence, columns: &self.plan.columns, create_table, copied };
        let row = LedgerRow {
            state: LedgerState::Loaded,
            attempt: self.attempt,
            rows_parsed: counts.rows_parsed + counts.rows_rejected,
            rows_stored: counts.rows_stored,
            rows_rejected: counts.rows_rejected,
            load_mode: Some(LOAD_MODE),
            reason: None,
            table_changes: Some(changes.as_str()).filter(|changes| !changes.is_empty()),
        };
        self.redshift.tables.load(&claim, &load, &row).into_iter().unzip()
    }

    async fn undo(mut self) {
        self.file.table_changes.roll_back();
        self.folder.remove().await;
    }
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
                Transaction::Committed(_) => {
                    if let Err(error) = Failpoint::AfterCommit.reached().await {
                        return CommitResult::Unknown(error);
                    }
                    self.load.folder.remove().await;
                    CommitResult::Committed
                }
                Transaction::RolledBack(failed) => {
                    let error = rolled_back("cannot copy the rows into Redshift", &failed, &self.steps);
                    self.not_committed(error).await
                }
                Transaction::Refused(error) => self.not_committed(error).await,
                Transaction::Unknown(error) => CommitResult::Unknown(error),
            }
        }
        .boxed()
    }
}

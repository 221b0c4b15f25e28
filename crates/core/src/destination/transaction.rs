//! An open load: one transaction from the first row to COMMIT, in the steps that every SQL engine shares.
//!
//! A staged load commits its rows to a staging table in chunks, and its transaction begins after the last chunk.

use std::sync::Arc;

use futures_util::future::{BoxFuture, FutureExt};
use tracing::warn;

use super::database::{Database, claim_of};
use super::engine::{LoadConnection, SendOptions, SendResult};
use super::limits::commit_timeout;
use super::operation::moved_to_end;
use super::rows::Rows;
use super::{Body, CommitResult, FileClaim, OpenClaim, OpenLoad, ReadyLoad, RowCounts, ScanReason, WriteResult};
use crate::batch::BatchStream;
use crate::error::{Error, ErrorKind, Result, chain};
use crate::failpoint::Failpoint;
use crate::ledger::{ClaimResult, Loaded, TableChangesColumn, scope_name};

/// The context of an error while the connection is kept open.
pub(super) const KEEP_ALIVE: &str = "cannot keep the connection open";

/// A load whose connection has a transaction with the claim or, for a staged load, a staging table.
#[derive(Debug)]
pub(super) struct Load<C: LoadConnection> {
    pub(super) database: Arc<Database<C>>,
    pub(super) connection: C,
    pub(super) file: FileClaim,
    /// The body, once it is known.
    pub(super) body: Option<Body>,
    pub(super) plan: C::Plan,
    /// Number of fields in each row of the file.
    pub(super) fields: usize,
    /// Whether changes of the table are written to the ledger.
    pub(super) changes_column: TableChangesColumn,
}

impl<C: LoadConnection> Load<C> {
    async fn write_rows(&mut self, rows: BatchStream<'_>) -> Result<WriteResult> {
        let Self { database, connection, file, body, plan, fields, .. } = self;
        let columns = C::columns(plan);
        let size_bytes = size_bytes(file, body.as_ref());
        let extra = columns.iter().find_map(|column| column.extra.clone());
        let (rows, fields) = match (columns.iter().find_map(|column| column.operation), extra) {
            (Some(index), extra) => {
                let more = usize::from(extra.is_some());
                (moved_to_end(rows, (index, database.options.load_mode.operation_column()), extra), *fields + more)
            }
            (None, Some(extra)) => (extra.as_ref().clone().add_to(rows), *fields + 1),
            (None, None) => (rows, *fields),
        };
        let mut rows = Rows::new(rows, fields, columns, size_bytes).with_rejects(file.value_rejects.clone());
        if columns.is_empty() {
            return match rows.advance().await? {
                false => Ok(WriteResult::Written(RowCounts::default())),
                true => Err(Error::new(ErrorKind::Internal, "a file without columns has rows")),
            };
        }
        if database.replaces(plan) && C::staging(plan).is_none() {
            connection.delete_rows(&file.table, columns).await?;
            Failpoint::OldRowsDeleted.reached().await?;
        }
        let options = &database.options;
        // A scanned body above the limit is staged. The decompressed size of a file that was not scanned is unknown, so
        // its rows are counted against the limit.
        let max_transaction_bytes = if body.is_some() { u64::MAX } else { options.atomic_max_bytes };
        let send_options = SendOptions { table: &file.table, method: options.load_method, max_transaction_bytes };
        match connection.send(plan, &send_options, &mut rows).await? {
            SendResult::All { stored } => {
                Failpoint::RowsAll.reached().await?;
                let counts = RowCounts { rows_parsed: rows.accepted, rows_stored: stored, ..RowCounts::default() };
                Ok(WriteResult::Written(counts))
            }
            SendResult::TooManyBytes => Ok(WriteResult::NeedsScan(ScanReason::SizeUnknown)),
        }
    }

    /// Runs every step between the last row and COMMIT.
    async fn complete(&mut self, body: Body, counts: RowCounts) -> Result<(RowCounts, C::Transaction)> {
        let is_new_body = self.body.is_none();
        let body = &*self.body.insert(body);
        let Self { database, connection, file, plan, changes_column, .. } = self;
        let (claim, ledger) = (claim_of(file, Some(body)), database.ledger());
        if C::staging(plan).is_some() {
            match database.begin_claim(connection, &claim, plan).await? {
                ClaimResult::Claimed => {}
                ClaimResult::NotNeeded(_) => {
                    // The caller retries, and then finds the source loaded.
                    let message =
                        "another worker has loaded the same rows, or a newer file, while these rows were staged";
                    return Err(Error::new(ErrorKind::Conflict, message).expected());
                }
            }
            if database.replaces(plan) {
                connection.delete_rows(&file.table, C::columns(plan)).await?;
                Failpoint::OldRowsDeleted.reached().await?;
            }
        } else if is_new_body {
            ledger.claim_body(connection, &claim).await?;
        }
        if let Some(values) = connection.mirror_scope(plan, body.decoded_bytes).await? {
            let scope = scope_name(&file.table, &values);
            match ledger.claim_table(connection, &claim, &scope).await? {
                ClaimResult::Claimed => {}
                ClaimResult::NotNeeded(_) => {
                    // The caller retries, and then finds the source superseded.
                    let message = "a newer file with the same scope is loaded";
                    return Err(Error::new(ErrorKind::Conflict, message).expected());
                }
            }
        }
        if let Some(succession) = &file.succession {
            ledger.succeed(connection, &claim, succession).await?;
        }
        let counts = match counts.rows_parsed {
            0 if !database.options.load_mode.deletes_missing() => counts,
            rows_parsed => {
                let applied = connection.apply(plan, &file.table, counts, body.decoded_bytes).await?;
                RowCounts { rows_parsed, rows_rejected: counts.rows_rejected, ..applied }
            }
        };
        if C::staging(plan).is_some() {
            Failpoint::AfterInsertSelect.reached().await?;
        }
        Failpoint::BeforeLedgerEnd.reached().await?;
        let load_mode = database.options.stored_mode();
        let changes = changes_column.listed(file.table_changes.made());
        let loaded = Loaded {
            load_mode,
            counts,
            lake_key: body.lake_key.as_deref(),
            columns: database.ledger_columns(),
            table_changes: &changes,
        };
        let transaction = ledger.record_loaded(connection, &file.source.id, &loaded).await?;
        Ok((counts, transaction))
    }

    /// Rolls back and drops the staging table, if the server still responds. This removes the claim, so the load cannot
    /// be finalized afterwards.
    async fn roll_back(&mut self) {
        self.connection.roll_back().await;
        self.file.table_changes.roll_back();
        // If this fails, the cleanup of stale staging tables drops the table later.
        let _ = self.connection.drop_staging(&mut self.plan).await;
    }

    /// Adds the missing privilege to an error, after the transaction was rolled back.
    async fn explained(&mut self, error: Error) -> Error {
        let Self { database, connection, file, .. } = self;
        database.explained(connection, file, error).await
    }

    /// Drops the staging table and releases the connection, after COMMIT. An error does not change the result of the
    /// load.
    async fn clean_up(mut self) {
        if let Some(staging) = C::staging(&self.plan).map(str::to_owned) {
            let dropped = match Failpoint::BeforeStagingDrop.reached().await {
                Ok(()) => self.connection.drop_staging(&mut self.plan).await,
                Err(error) => Err(error),
            };
            if let Err(error) = dropped {
                warn!(table = staging, error = %chain(&error), "cannot drop the staging table; the next cleanup drops it");
            }
        }
        match C::is_reusable(&self.plan) {
            true => self.database.idle.keep(&self.database.credentials, self.connection),
            false => self.connection.close().await,
        }
    }
}

impl<C: LoadConnection> OpenLoad for Load<C> {
    fn write<'a>(&'a mut self, rows: BatchStream<'a>) -> BoxFuture<'a, Result<WriteResult>> {
        async move {
            let written = self.write_rows(rows).await;
            if !matches!(written, Ok(WriteResult::Written(_))) {
                self.roll_back().await;
            }
            match written {
                Ok(written) => Ok(written),
                Err(error) => Err(self.explained(error).await),
            }
        }
        .boxed()
    }
}

impl<C: LoadConnection> OpenClaim for Load<C> {
    fn keep_alive(&mut self) -> BoxFuture<'_, Result<()>> {
        self.connection.run(KEEP_ALIVE, "SELECT 1").boxed()
    }

    fn finalize(mut self: Box<Self>, body: Body, counts: RowCounts) -> BoxFuture<'static, Result<Box<dyn ReadyLoad>>> {
        async move {
            match self.complete(body, counts).await {
                Ok((counts, transaction)) => {
                    Ok(Box::new(Ready { load: *self, counts, transaction }) as Box<dyn ReadyLoad>)
                }
                Err(error) => {
                    self.roll_back().await;
                    Err(self.explained(error).await)
                }
            }
        }
        .boxed()
    }

    fn undo(mut self: Box<Self>) -> BoxFuture<'static, ()> {
        async move { self.roll_back().await }.boxed()
    }
}

/// A load with every step done except COMMIT.
#[derive(Debug)]
struct Ready<C: LoadConnection> {
    load: Load<C>,
    counts: RowCounts,
    transaction: C::Transaction,
}

impl<C: LoadConnection> ReadyLoad for Ready<C> {
    fn counts(&self) -> RowCounts {
        self.counts
    }

    fn undo(mut self: Box<Self>) -> BoxFuture<'static, ()> {
        async move { self.load.roll_back().await }.boxed()
    }

    fn commit(self: Box<Self>) -> BoxFuture<'static, CommitResult> {
        async move {
            let Self { mut load, transaction, .. } = *self;
            let limit = commit_timeout(size_bytes(&load.file, load.body.as_ref()));
            let result = match Failpoint::BeforeCommit.reached().await {
                Ok(()) => load.connection.commit(limit, transaction).await,
                Err(error) => CommitResult::NotCommitted(error),
            };
            match &result {
                CommitResult::Committed | CommitResult::Merged(_) => {
                    if let Err(error) = Failpoint::AfterCommit.reached().await {
                        return CommitResult::Unknown(error);
                    }
                    load.clean_up().await;
                }
                CommitResult::NotCommitted(_) => load.roll_back().await,
                CommitResult::Unknown(_) => {}
            }
            result
        }
        .boxed()
    }
}

/// Returns the size of the decompressed body, or the object's size while the former is not known.
fn size_bytes(file: &FileClaim, body: Option<&Body>) -> u64 {
    body.map_or(file.source.size_bytes, |body| body.decoded_bytes)
}

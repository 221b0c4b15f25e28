//! A load as one transaction of an SQL database: the steps that MySQL and PostgreSQL share.
//!
//! [`Database`] is the [`Destination`] of every engine whose connection implements [`LoadConnection`]. It decides the
//! order of the steps, when everything is undone, and when a connection is kept. The engines decide how a table is
//! checked and how rows get into it.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt};
use tracing::warn;

use super::engine::{LoadConnection, Planned, Request, Sending, Sent, Started};
use super::idle::Idle;
use super::limits::commit_timeout;
use super::rows::Rows;
use super::{
    Begun, Body, CommitResult, Credentials, Destination, DestinationOptions, FileClaim, FileSchema, Guard, LedgerEntry,
    LedgerOutcome, LoadMode, OpenLoad, ReadyLoad, RowCounts, ScanReason, WriteResult,
};
use crate::batch::BatchStream;
use crate::error::{Error, ErrorKind, Result, chain};
use crate::failpoint::Failpoint;
use crate::ledger::{Claim, ClaimResult, Dialect, SqlLedger};
use crate::object::SourceId;

/// The database that credentials name. Each call takes an idle connection or opens a new one.
#[derive(Debug)]
pub(super) struct Database<C> {
    credentials: Credentials,
    options: DestinationOptions,
    idle: Idle<C>,
}

impl<C: LoadConnection> Database<C> {
    /// The database that these credentials name.
    pub(super) fn new(credentials: Credentials, options: DestinationOptions, idle: Idle<C>) -> Arc<Self> {
        Arc::new(Self { credentials, options, idle })
    }

    async fn connect(&self) -> Result<C> {
        match self.idle.take(&self.credentials).await {
            Some(connection) => Ok(connection),
            None => C::open(&self.credentials, &self.options).await,
        }
    }

    /// Keeps the connection after work that succeeded, and closes it otherwise.
    async fn release<T>(&self, connection: C, result: Result<T>) -> Result<T> {
        self.idle.release(&self.credentials, connection, result).await
    }

    fn ledger(&self) -> SqlLedger<'_> {
        SqlLedger::new(&self.options.ledger_table)
    }

    async fn begin_on(&self, connection: &mut C, request: &Request<'_>) -> Result<Start<C::Plan>> {
        let (file, ledger) = (request.file, self.ledger());
        ledger.ensure(connection).await?;
        if let Some(entry) = ledger.find_loaded(connection, &file.source.id).await? {
            return Ok(Start::AlreadyLoaded(entry));
        }
        let mut plan = match connection.plan(request).await? {
            Planned::Ready(plan) => plan,
            Planned::NeedsScan(reason) => return Ok(Start::NeedsScan(reason)),
        };
        if C::staging(&plan).is_some() {
            return Ok(Start::Open(plan, Guard::NotNeeded));
        }
        match self.begin_claim(connection, &claim(file, request.schema.body()), &plan).await? {
            ClaimResult::Claimed => {}
            ClaimResult::AlreadyLoaded(entry) => return Ok(Start::AlreadyLoaded(entry)),
        }
        match connection.start(request, &mut plan).await? {
            Started::Open(guard) => Ok(Start::Open(plan, guard)),
            Started::NeedsScan(reason) => Ok(Start::NeedsScan(reason)),
        }
    }

    /// Begins a transaction and claims the source in it, and the table where the file replaces it.
    async fn begin_claim(&self, connection: &mut C, claim: &Claim<'_>, plan: &C::Plan) -> Result<ClaimResult> {
        connection.run("cannot begin a transaction", C::Dialect::BEGIN).await?;
        Failpoint::Begun.reached().await;
        let mut result = self.ledger().claim(connection, claim).await?;
        if result == ClaimResult::Claimed && self.replaces(plan) {
            result = self.ledger().claim_table(connection, claim).await?;
        }
        if result == ClaimResult::Claimed {
            Failpoint::Claimed.reached().await;
        }
        Ok(result)
    }

    /// Whether the file replaces the table's rows. A file without columns does not.
    fn replaces(&self, plan: &C::Plan) -> bool {
        !C::columns(plan).is_empty() && self.options.load_mode == LoadMode::Replace
    }
}

/// The result of `begin_on`.
enum Start<Plan> {
    Open(Plan, Guard),
    AlreadyLoaded(LedgerEntry),
    NeedsScan(ScanReason),
}

fn claim<'a>(file: &'a FileClaim, body: Option<&'a Body>) -> Claim<'a> {
    Claim {
        source: &file.source,
        table: &file.table,
        worker: &file.worker,
        started_at: file.started_at,
        body_sha256: body.map(|body| body.sha256.as_str()),
        content_id: body.and_then(|body| body.content_id.as_deref()),
    }
}

fn size_bytes(file: &FileClaim, body: Option<&Body>) -> u64 {
    body.map_or(file.source.size_bytes, |body| body.decoded_bytes)
}

impl<C: LoadConnection> Destination for Arc<Database<C>> {
    fn begin<'a>(&'a self, file: &'a FileClaim, schema: FileSchema<'a>) -> BoxFuture<'a, Result<Begun>> {
        async move {
            let mut connection = self.connect().await?;
            let request = Request { file, schema, options: &self.options };
            let result = match self.begin_on(&mut connection, &request).await {
                Ok(Start::Open(plan, guard)) => {
                    let (file, body) = (file.clone(), schema.body().cloned());
                    let load = Load { database: self.clone(), connection, file, body, plan };
                    return Ok(Begun::Open { load: Box::new(load), guard });
                }
                Ok(Start::AlreadyLoaded(entry)) => Ok(Begun::AlreadyLoaded(entry)),
                Ok(Start::NeedsScan(reason)) => {
                    connection.roll_back().await;
                    Ok(Begun::NeedsScan(reason))
                }
                Err(error) => {
                    connection.roll_back().await;
                    Err(error)
                }
            };
            connection.close().await;
            result
        }
        .boxed()
    }

    fn look_up<'a>(&'a self, source_id: &'a SourceId) -> BoxFuture<'a, Result<Option<LedgerEntry>>> {
        async move {
            let mut connection = self.connect().await?;
            let entry = self.ledger().look_up(&mut connection, source_id).await;
            self.release(connection, entry).await
        }
        .boxed()
    }

    fn record<'a>(&'a self, file: &'a FileClaim, outcome: &'a LedgerOutcome) -> BoxFuture<'a, Result<()>> {
        async move {
            let mut connection = self.connect().await?;
            let claim = Claim { body_sha256: outcome.body_sha256.as_deref(), ..claim(file, None) };
            let recorded = async {
                self.ledger().ensure(&mut connection).await?;
                self.ledger().record(&mut connection, &claim, outcome).await
            }
            .await;
            self.release(connection, recorded).await
        }
        .boxed()
    }

    fn record_move<'a>(
        &'a self,
        source_id: &'a SourceId,
        moved_to: &'a str,
        cost_usd: Option<f64>,
    ) -> BoxFuture<'a, Result<()>> {
        async move {
            let mut connection = self.connect().await?;
            let recorded = self.ledger().record_move(&mut connection, source_id, moved_to, cost_usd).await;
            self.release(connection, recorded).await
        }
        .boxed()
    }

    fn drop_stale_staging<'a>(
        &'a self,
        older_than: Duration,
        live: &'a [SourceId],
    ) -> BoxFuture<'a, Result<Vec<String>>> {
        async move {
            if !C::HAS_STAGING_TABLES {
                return Ok(Vec::new());
            }
            let mut connection = self.connect().await?;
            let dropped = connection.drop_stale_staging(older_than, live).await;
            self.release(connection, dropped).await
        }
        .boxed()
    }
}

/// A connection with a transaction that holds the claim or, for a staged load, with a staging table.
#[derive(Debug)]
struct Load<C: LoadConnection> {
    database: Arc<Database<C>>,
    connection: C,
    file: FileClaim,
    /// The body, once it is known.
    body: Option<Body>,
    plan: C::Plan,
}

impl<C: LoadConnection> Load<C> {
    async fn write_rows(&mut self, rows: BatchStream<'_>) -> Result<WriteResult> {
        let Self { database, connection, file, body, plan } = self;
        let columns = C::columns(plan);
        let size_bytes = size_bytes(file, body.as_ref());
        let mut rows = Rows::new(rows, columns, size_bytes).with_rejects(file.value_rejects.clone());
        if columns.is_empty() {
            return match rows.advance().await? {
                false => Ok(WriteResult::Written(RowCounts::default())),
                true => Err(Error::new(ErrorKind::Internal, "a file without columns has rows")),
            };
        }
        if database.replaces(plan) && C::staging(plan).is_none() {
            connection.delete_rows(&file.table, columns).await?;
        }
        let options = &database.options;
        // A scanned body that is too large is staged. A compressed one that was not scanned may turn out to be too
        // large.
        let max_transaction_bytes = if body.is_some() { u64::MAX } else { options.atomic_max_bytes };
        let sending = Sending { table: &file.table, method: options.load_method, max_transaction_bytes };
        match connection.send(plan, &sending, &mut rows).await? {
            Sent::All { stored } => {
                let counts = RowCounts { rows_parsed: rows.accepted, rows_stored: stored, ..RowCounts::default() };
                Ok(WriteResult::Written(counts))
            }
            Sent::TooManyBytes => Ok(WriteResult::NeedsScan(ScanReason::SizeUnknown)),
        }
    }

    /// Everything between the last row and COMMIT.
    async fn complete(&mut self, body: Body, counts: RowCounts) -> Result<(RowCounts, C::Transaction)> {
        let is_new_body = self.body.is_none();
        let body = &*self.body.insert(body);
        let Self { database, connection, file, plan, .. } = self;
        let (claim, ledger) = (claim(file, Some(body)), database.ledger());
        if C::staging(plan).is_some() {
            match database.begin_claim(connection, &claim, plan).await? {
                ClaimResult::Claimed => {}
                ClaimResult::AlreadyLoaded(_) => {
                    // The next try finds the source loaded.
                    let message = "another worker has loaded the same rows meanwhile";
                    return Err(Error::new(ErrorKind::Conflict, message));
                }
            }
            if database.replaces(plan) {
                connection.delete_rows(&file.table, C::columns(plan)).await?;
            }
        } else if is_new_body {
            ledger.claim_body(connection, &claim).await?;
        }
        let applied = connection.apply(plan, &file.table, counts, body.decoded_bytes).await?;
        let counts = RowCounts { rows_rejected: counts.rows_rejected, ..applied };
        if C::staging(plan).is_some() {
            Failpoint::AfterInsertSelect.reached().await;
        }
        Failpoint::BeforeLedgerEnd.reached().await;
        let mode = database.options.load_mode.name();
        let transaction = ledger.finish(connection, &file.source.id, mode, counts).await?;
        Ok((counts, transaction))
    }

    /// Rolls back and drops the staging table, if the server still answers. The load cannot be finalized after this,
    /// because its ledger row is gone.
    async fn undo(&mut self) {
        self.connection.roll_back().await;
        // After a lost connection, the cleanup of stale staging tables drops it.
        let _ = self.connection.drop_staging(&mut self.plan).await;
    }

    /// After COMMIT: drops the staging table and gives the connection back. An error here does not change what was
    /// committed.
    async fn clean_up(mut self) {
        if let Some(staging) = C::staging(&self.plan).map(str::to_owned) {
            Failpoint::BeforeStagingDrop.reached().await;
            if let Err(error) = self.connection.drop_staging(&mut self.plan).await {
                warn!(table = staging, error = %chain(&error), "the staging table was not dropped; the next cleanup drops it");
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
            match &written {
                Ok(WriteResult::Written(_)) => Failpoint::RowsAll.reached().await,
                Ok(WriteResult::NeedsScan(_)) | Err(_) => self.undo().await,
            }
            written
        }
        .boxed()
    }

    fn finalize(mut self: Box<Self>, body: Body, counts: RowCounts) -> BoxFuture<'static, Result<Box<dyn ReadyLoad>>> {
        async move {
            match self.complete(body, counts).await {
                Ok((counts, transaction)) => {
                    Ok(Box::new(Ready { load: *self, counts, transaction }) as Box<dyn ReadyLoad>)
                }
                Err(error) => {
                    self.undo().await;
                    Err(error)
                }
            }
        }
        .boxed()
    }
}

/// A load that only lacks its COMMIT.
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

    fn commit(self: Box<Self>) -> BoxFuture<'static, CommitResult> {
        async move {
            let Self { mut load, transaction, .. } = *self;
            Failpoint::BeforeCommit.reached().await;
            let limit = commit_timeout(size_bytes(&load.file, load.body.as_ref()));
            let result = load.connection.commit(limit, transaction).await;
            match &result {
                CommitResult::Committed => {
                    Failpoint::AfterCommit.reached().await;
                    load.clean_up().await;
                }
                CommitResult::NotCommitted(_) => load.undo().await,
                CommitResult::Unknown(_) => {}
            }
            result
        }
        .boxed()
    }
}

//! Opens loads and writes outcomes: the steps of a [`Destination`] that every SQL engine shares.
//!
//! [`Database`] is the destination of every engine whose connection implements [`LoadConnection`]. It decides when a
//! connection is opened, kept or closed, and in which order a file is claimed. [`super::transaction`] is the open load.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt};
use jiff::Timestamp;

use super::engine::{LoadConnection, PlanResult, Request, StartResult};
use super::idle::Idle;
use super::transaction::Load;
use super::{
    AttemptRecord, AttemptsMaintenance, Begun, Body, Claimed, Credentials, Destination, DestinationOptions,
    DoneVersion, FileClaim, FileSchema, HistoryEntry, Inspection, LedgerEntry, LedgerOutcome, LoadMode, ObjectPlace,
    Probe, RunFilter, RunPage, ScanReason, SyncState, ValueCheck, claim, inspect,
};
use crate::error::{Advice, Error, ErrorKind, Result};
use crate::failpoint::Failpoint;
use crate::ledger::{Claim, ClaimResult, Dialect, LedgerColumns, SqlLedger, TableChangesColumn};
use crate::object::{ObjectRef, SourceId};

/// The database that credentials name. Each call uses an idle connection or opens a new one.
#[derive(Debug)]
pub(super) struct Database<C> {
    pub(super) credentials: Credentials,
    pub(super) options: DestinationOptions,
    pub(super) idle: Idle<C>,
}

impl<C: LoadConnection> Database<C> {
    /// Returns the database without connecting to it.
    pub(super) fn new(credentials: Credentials, options: DestinationOptions, idle: Idle<C>) -> Arc<Self> {
        Arc::new(Self { credentials, options, idle })
    }

    pub(super) async fn connect(&self) -> Result<C> {
        match self.idle.take(&self.credentials).await {
            Some(connection) => Ok(connection),
            None => self.open().await,
        }
    }

    /// Opens a connection. If the user may not use the database, the error has the statement that allows it.
    async fn open(&self) -> Result<C> {
        C::open(&self.credentials, &self.options).await.map_err(|error| match is_unexplained(&error) {
            true => {
                let grant = C::login_grant(&self.credentials);
                let error = error.with_cause_in_message();
                error.explained(&format!("to allow it, run as an administrator: {grant}")).with_advice()
            }
            false => error,
        })
    }

    /// Keeps the connection after a success, and closes it after an error. Returns the result, with the missing privilege in its error.
    async fn release<T>(&self, mut connection: C, result: Result<T>) -> Result<T> {
        let result = match result {
            Err(error) if is_unexplained(&error) => {
                connection.roll_back().await;
                Err(connection.explain_denial(None, &self.options, error).await)
            }
            result => result,
        };
        self.idle.release(&self.credentials, connection, result).await
    }

    /// The same after a call that only reads the ledger.
    async fn release_reader<T>(&self, mut connection: C, result: Result<T>) -> Result<T> {
        let result = match result {
            Err(error) if is_unexplained(&error) => {
                connection.roll_back().await;
                Err(connection.explain_denied_read(&self.options, error).await)
            }
            result => result,
        };
        self.idle.release(&self.credentials, connection, result).await
    }

    /// The columns of the ledger that loads with these options need.
    pub(super) fn ledger_columns(&self) -> LedgerColumns {
        LedgerColumns {
            lake: self.options.output.has_lake(),
            deletes: self.options.load_mode.deletes_by_key(),
            missing: self.options.load_mode.has_operations(),
        }
    }

    pub(super) fn ledger(&self) -> SqlLedger<'_> {
        SqlLedger::new(&self.options.ledger_table)
    }

    /// Runs the steps of [`Destination::begin`] on a connection. The caller rolls back unless a load is open.
    async fn begin_on(&self, connection: &mut C, request: &Request<'_>) -> Result<BeginResult<C::Plan>> {
        let (file, ledger) = (request.file, self.ledger());
        ledger.ensure(connection, self.ledger_columns()).await?;
        if let Some(mut entry) = ledger.find_done(connection, &file.source.id).await? {
            if self.options.claims_table() {
                ledger.add_replacement(connection, &file.table, (&file.source.id, &mut entry)).await?;
            }
            return Ok(BeginResult::NotNeeded(Box::new(entry), true));
        }
        let planned = connection.plan(request).await;
        let changes_column = self.changes_column(connection, file, &planned).await;
        let mut plan = match planned? {
            PlanResult::Ready(plan) => plan,
            PlanResult::NeedsScan(reason) => return Ok(BeginResult::NeedsScan(reason)),
        };
        if C::staging(&plan).is_some() {
            return Ok(BeginResult::Open(plan, changes_column, ValueCheck::NotNeeded));
        }
        match self.begin_claim(connection, &claim_of(file, request.schema.body()), &plan).await? {
            ClaimResult::Claimed => {}
            ClaimResult::NotNeeded(entry) => return Ok(BeginResult::NotNeeded(entry, C::is_reusable(&plan))),
        }
        match connection.start(request, &mut plan).await? {
            StartResult::Open(value_check) => Ok(BeginResult::Open(plan, changes_column, value_check)),
            StartResult::NeedsScan(reason) => Ok(BeginResult::NeedsScan(reason)),
        }
    }

    /// Adds the ledger's column for changes of the table if there are any, also if the plan has failed after some of them.
    async fn changes_column(
        &self,
        connection: &mut C,
        file: &FileClaim,
        planned: &Result<PlanResult<C::Plan>>,
    ) -> TableChangesColumn {
        let will_create = matches!(planned, Ok(PlanResult::Ready(plan)) if C::creates_table(plan));
        if !will_create && file.table_changes.made().is_empty() {
            return TableChangesColumn::Absent;
        }
        let Credentials { host, port, user, database, .. } = &self.credentials;
        let database = format!("{user}@{host}:{port}/{database}");
        self.ledger().ensure_changes_column(connection, &self.idle.failed_additions, &database).await
    }

    /// Begins a transaction and claims the source in it, and the table where the newest file decides its rows.
    pub(super) async fn begin_claim(
        &self,
        connection: &mut C,
        claim: &Claim<'_>,
        plan: &C::Plan,
    ) -> Result<ClaimResult> {
        connection.run("cannot begin a transaction", C::Dialect::BEGIN).await?;
        Failpoint::Begun.reached().await?;
        let mut result = self.ledger().claim(connection, claim).await?;
        if result == ClaimResult::Claimed && self.claims_table(plan) {
            result = self.ledger().claim_table(connection, claim, &claim.table.unique_text()).await?;
        }
        if result == ClaimResult::Claimed {
            Failpoint::Claimed.reached().await?;
        }
        Ok(result)
    }

    /// Adds the missing privilege to the error of a load, after its transaction was rolled back.
    pub(super) async fn explained(&self, connection: &mut C, file: &FileClaim, error: Error) -> Error {
        if !is_unexplained(&error) {
            return error;
        }
        let error = connection.explain_denial(Some(&file.table), &self.options, error).await;
        if error.advice() != Advice::OfKind {
            return error;
        }
        // After a denied COPY, the connection cannot be used.
        let Ok(mut connection) = self.connect().await else { return error };
        let error = connection.explain_denial(Some(&file.table), &self.options, error).await;
        connection.close().await;
        error
    }

    /// Whether the table's rows are deleted before the file's rows are sent. A file without columns deletes none.
    pub(super) fn replaces(&self, plan: &C::Plan) -> bool {
        !C::columns(plan).is_empty() && self.options.load_mode == LoadMode::Replace
    }

    /// Whether the file must be the newest of its table. A file without columns need not be.
    fn claims_table(&self, plan: &C::Plan) -> bool {
        !C::columns(plan).is_empty() && self.options.claims_table()
    }
}

/// Whether an error says that a privilege is missing, but not which statement grants it.
fn is_unexplained(error: &Error) -> bool {
    error.kind() == ErrorKind::Privilege && error.advice() == Advice::OfKind
}

/// The result of [`Database::begin_on`].
enum BeginResult<Plan> {
    Open(Plan, TableChangesColumn, ValueCheck),
    /// The entry, and whether the connection can be used for another file.
    NotNeeded(Box<LedgerEntry>, bool),
    NeedsScan(ScanReason),
}

/// Returns the claim as the ledger stores it.
pub(super) fn claim_of<'a>(file: &'a FileClaim, body: Option<&'a Body>) -> Claim<'a> {
    Claim {
        source: &file.source,
        table: &file.table,
        worker: &file.worker,
        started_at: file.started_at,
        body_sha256: body.map(|body| body.sha256.as_str()),
        content_id: body.and_then(|body| body.content_id.as_deref()),
    }
}

impl<C: LoadConnection> Destination for Arc<Database<C>> {
    fn begin<'a>(&'a self, file: &'a FileClaim, schema: FileSchema<'a>) -> BoxFuture<'a, Result<Begun>> {
        async move {
            // An earlier try may have lost its connection.
            file.table_changes.roll_back();
            let mut connection = self.connect().await?;
            let request = Request { file, schema, options: &self.options };
            let mut is_reusable = false;
            let result = match self.begin_on(&mut connection, &request).await {
                Ok(BeginResult::Open(plan, changes_column, value_check)) => {
                    let (file, body) = (file.clone(), schema.body().cloned());
                    let fields = schema.schema().columns.len();
                    let load = Load { database: self.clone(), connection, file, body, plan, fields, changes_column };
                    return Ok(Begun::Open { load: Box::new(load), value_check });
                }
                Ok(BeginResult::NotNeeded(entry, reusable)) => {
                    is_reusable = reusable;
                    Ok(Begun::NotNeeded(*entry))
                }
                Ok(BeginResult::NeedsScan(reason)) => {
                    connection.roll_back().await;
                    Ok(Begun::NeedsScan(reason))
                }
                Err(error) => {
                    connection.roll_back().await;
                    Err(self.explained(&mut connection, file, error).await)
                }
            };
            file.table_changes.roll_back();
            // No transaction is open, so the next of many loaded files can use the connection.
            match is_reusable {
                true => self.idle.keep(&self.credentials, connection),
                false => connection.close().await,
            }
            result
        }
        .boxed()
    }

    fn claim<'a>(&'a self, file: &'a FileClaim, body: &'a Body) -> BoxFuture<'a, Result<Claimed>> {
        claim::claim(self, file, body).boxed()
    }

    fn look_up<'a>(&'a self, source_id: &'a SourceId) -> BoxFuture<'a, Result<Option<LedgerEntry>>> {
        async move {
            let mut connection = self.connect().await?;
            let entry = self.ledger().look_up(&mut connection, source_id).await;
            self.release_reader(connection, entry).await
        }
        .boxed()
    }

    fn history<'a>(&'a self, object: &'a ObjectRef) -> BoxFuture<'a, Result<Vec<HistoryEntry>>> {
        async move {
            let mut connection = self.connect().await?;
            let entries = self.ledger().history(&mut connection, object).await;
            self.release_reader(connection, entries).await
        }
        .boxed()
    }

    fn runs<'a>(&'a self, filter: &'a RunFilter) -> BoxFuture<'a, Result<RunPage>> {
        async move {
            let mut connection = self.connect().await?;
            let page = self.ledger().runs(&mut connection, filter).await;
            self.release_reader(connection, page).await
        }
        .boxed()
    }

    fn record_attempt<'a>(&'a self, attempt: &'a AttemptRecord) -> BoxFuture<'a, Result<()>> {
        async move {
            let mut connection = self.connect().await?;
            let recorded = self.ledger().record_attempt(&mut connection, attempt).await;
            self.release(connection, recorded).await
        }
        .boxed()
    }

    fn syncs<'a>(&'a self, bucket: &'a str) -> BoxFuture<'a, Result<Vec<SyncState>>> {
        async move {
            let mut connection = self.connect().await?;
            let syncs = self.ledger().syncs(&mut connection, bucket).await;
            self.release_reader(connection, syncs).await
        }
        .boxed()
    }

    fn record_sync<'a>(&'a self, sync: &'a SyncState) -> BoxFuture<'a, Result<()>> {
        async move {
            let mut connection = self.connect().await?;
            let recorded = self.ledger().record_sync(&mut connection, sync).await;
            self.release(connection, recorded).await
        }
        .boxed()
    }

    fn maintain_attempts(&self, before: Timestamp) -> BoxFuture<'_, Result<AttemptsMaintenance>> {
        async move {
            let mut connection = self.connect().await?;
            let kept = match self.ledger().exists(&mut connection).await {
                Ok(true) => self.ledger().maintain_attempts(&mut connection, before).await,
                Ok(false) => Ok(AttemptsMaintenance::default()),
                Err(error) => Err(error),
            };
            // Its session waits for locks for a second only.
            connection.close().await;
            kept
        }
        .boxed()
    }

    fn inspect<'a>(&'a self, file: &'a FileClaim, schema: FileSchema<'a>) -> BoxFuture<'a, Result<Inspection>> {
        async move {
            let mut connection = self.connect().await?;
            let request = Request { file, schema, options: &self.options };
            let inspection = inspect::inspect(&mut connection, &request).await;
            self.release(connection, inspection).await
        }
        .boxed()
    }

    fn probe(&self) -> BoxFuture<'_, Result<Probe>> {
        async move {
            let mut connection = self.open().await?;
            let probe = Probe::run(&mut connection, &self.options).await;
            // Closing it drops the temporary table.
            connection.close().await;
            Ok(probe)
        }
        .boxed()
    }

    fn record<'a>(&'a self, file: &'a FileClaim, outcome: &'a LedgerOutcome) -> BoxFuture<'a, Result<()>> {
        async move {
            let mut connection = self.connect().await?;
            let claim = Claim { body_sha256: outcome.body_sha256.as_deref(), ..claim_of(file, None) };
            let recorded = async {
                self.ledger().ensure(&mut connection, LedgerColumns::COMMON).await?;
                self.ledger().record(&mut connection, &claim, outcome, &file.table_changes.made()).await
            }
            .await;
            self.release(connection, recorded).await
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
            let mut connection = self.connect().await?;
            let versions = self.ledger().loaded_versions(&mut connection, bucket, keys, etags).await;
            self.release_reader(connection, versions).await
        }
        .boxed()
    }

    fn record_move<'a>(
        &'a self,
        source_id: &'a SourceId,
        place: ObjectPlace<'a>,
        cost_usd: Option<f64>,
    ) -> BoxFuture<'a, Result<()>> {
        async move {
            let mut connection = self.connect().await?;
            let recorded = self.ledger().record_move(&mut connection, source_id, place, cost_usd).await;
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
            let mut connection = self.connect().await?;
            let dropped = connection.drop_stale_staging(older_than, live).await;
            self.release(connection, dropped).await
        }
        .boxed()
    }
}

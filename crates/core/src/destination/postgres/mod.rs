//! PostgreSQL: rows by COPY FROM STDIN, and their ledger row, in one transaction.
//!
//! Each load has a connection of its own, without a pool. A transaction may be of any size: rolling one back is cheap and blocks no other
//! session, so nothing is ever committed in chunks. Rows that are merged wait in a temporary table of the same transaction. The driver's types
//! stay in this module.

mod check;
mod column;
pub(super) mod connect;
mod copy;
mod encoding;
mod failure;
mod key;
mod ledger;
mod ledger_table;
mod merge;
mod rejection;
mod replace;
mod table;
mod unsupported;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt};

use crate::destination::idle::{Idle, Reusable};
use crate::destination::limits::Phase;
use crate::destination::rows::Rows;
use crate::destination::{
    Begun, Body, Claim, CommitResult, Credentials, Destination, DestinationOptions, FileClaim, FileSchema, Guard,
    LedgerEntry, LedgerOutcome, LoadMode, OpenLoad, ReadyLoad, RowCounts, ScanReason, WriteResult,
};
use crate::error::{Error, ErrorKind, Result};
use crate::failpoint::Failpoint;
use crate::format::BatchStream;
use crate::object::SourceId;

use column::TargetColumn;
use connect::Connection;
use failure::{failure, leaves_commit_open};
use ledger::{BEGIN, ClaimResult, Ledger, commit_statement, transaction_outcome};
use merge::Merge;
use table::Prepared;

/// COMMIT waits for the log to be written, and for a standby where there is one.
const COMMIT_LIMIT: Duration = Duration::from_secs(15);
const COMMIT_BYTES_PER_SECOND: u64 = 16 * 1024 * 1024;

/// A PostgreSQL database. Each call takes an idle connection or opens a new one. Clones share everything.
#[derive(Debug, Clone)]
pub(super) struct PostgresDestination {
    settings: Arc<(Credentials, DestinationOptions)>,
    idle: Idle<Connection>,
}

impl PostgresDestination {
    /// The database that these credentials name.
    pub(super) fn new(credentials: Credentials, options: DestinationOptions, idle: Idle<Connection>) -> Self {
        Self { settings: Arc::new((credentials, options)), idle }
    }

    fn credentials(&self) -> &Credentials {
        &self.settings.0
    }

    fn options(&self) -> &DestinationOptions {
        &self.settings.1
    }

    async fn connect(&self) -> Result<Connection> {
        match self.idle.take(self.credentials()).await {
            Some(connection) => Ok(connection),
            None => Connection::open(self.credentials(), self.options()).await,
        }
    }

    fn ledger(&self) -> Ledger<'_> {
        Ledger::new(&self.options().ledger_table)
    }

    async fn open(&self, claim: &FileClaim, schema: FileSchema<'_>) -> Result<Begun> {
        let mut connection = self.connect().await?;
        match self.begin_on(&mut connection, claim, schema).await {
            Ok(Start::Open { columns, merge, guard }) => {
                let (destination, claim, body) = (self.clone(), claim.clone(), schema.body().cloned());
                let load = PostgresLoad { destination, connection, claim, body, columns, merge };
                Ok(Begun::Open { load: Box::new(load), guard })
            }
            Ok(Start::AlreadyLoaded(entry)) => {
                connection.close().await;
                Ok(Begun::AlreadyLoaded(entry))
            }
            Ok(Start::NeedsScan(reason)) => {
                connection.roll_back().await;
                connection.close().await;
                Ok(Begun::NeedsScan(reason))
            }
            Err(error) => {
                connection.roll_back().await;
                connection.close().await;
                Err(error)
            }
        }
    }

    async fn begin_on(&self, connection: &mut Connection, file: &FileClaim, schema: FileSchema<'_>) -> Result<Start> {
        let (options, ledger) = (self.options(), self.ledger());
        ledger_table::ensure(connection, &options.ledger_table).await?;
        let known = ledger.peek(connection, &file.source.id).await?;
        if let Some(entry) = known.filter(|entry| entry.state.is_in_target()) {
            return Ok(Start::AlreadyLoaded(entry));
        }
        let found = match table::prepare(connection, &file.table, schema, options).await? {
            Prepared::Ready { columns, key } => {
                Failpoint::TableMade.reached().await;
                Some((columns, key))
            }
            Prepared::NeedsScan(ScanReason::TableMissing) if self.may_create(schema) => None,
            Prepared::NeedsScan(reason) => return Ok(Start::NeedsScan(reason)),
        };
        connection.run("cannot begin a transaction", BEGIN).await?;
        Failpoint::Begun.reached().await;
        let claim = Claim::new(file, schema.body());
        let mut result = ledger.claim(connection, claim).await?;
        if matches!(result, ClaimResult::Ours) && found.as_ref().is_some_and(|(columns, _)| self.replaces(columns)) {
            result = ledger.claim_table(connection, claim).await?;
        }
        if let ClaimResult::Ended(entry) = result {
            return Ok(Start::AlreadyLoaded(entry));
        }
        Failpoint::Claimed.reached().await;
        let Some((columns, key)) = found else {
            let created = table::create_in_transaction(connection, &file.table, schema.schema()).await?;
            let Some(columns) = created else { return Ok(Start::NeedsScan(ScanReason::TableMissing)) };
            Failpoint::TableMade.reached().await;
            return Ok(Start::Open { columns, merge: None, guard: Guard::EveryValue });
        };
        let merge = match key {
            Some(key) => Some(Merge::prepare(connection, key, &file.table, &columns).await?),
            None => None,
        };
        Ok(Start::Open { columns, merge, guard: Guard::NotNeeded })
    }

    /// Whether a missing table may be created in the load's transaction. Only appended rows need neither a key nor a claim on the table.
    fn may_create(&self, schema: FileSchema<'_>) -> bool {
        let is_allowed = matches!(schema, FileSchema::Provisional { may_create_table: true, .. });
        is_allowed && self.options().load_mode == LoadMode::Append
    }

    /// Whether the file replaces the table's rows. A file without columns does not.
    fn replaces(&self, columns: &[TargetColumn]) -> bool {
        !columns.is_empty() && self.options().load_mode == LoadMode::Replace
    }
}

/// The result of `begin_on`.
enum Start {
    Open { columns: Vec<TargetColumn>, merge: Option<Merge>, guard: Guard },
    AlreadyLoaded(LedgerEntry),
    NeedsScan(ScanReason),
}

/// A connection with a transaction that holds the claim. Dropping it closes the connection, and the server rolls back.
#[derive(Debug)]
struct PostgresLoad {
    destination: PostgresDestination,
    connection: Connection,
    claim: FileClaim,
    /// The body, where it was known at the beginning.
    body: Option<Body>,
    /// The table's columns in the file's order.
    columns: Vec<TargetColumn>,
    /// The merge, in that mode.
    merge: Option<Merge>,
}

impl PostgresLoad {
    fn decoded_bytes(&self) -> u64 {
        self.body.as_ref().map_or(self.claim.source.size_bytes, |body| body.decoded_bytes)
    }

    async fn write_rows(&mut self, rows: BatchStream<'_>) -> Result<RowCounts> {
        let size_bytes = self.decoded_bytes();
        let Self { destination, connection, claim, columns, merge, .. } = self;
        let mut rows = Rows::new(rows, columns, size_bytes).with_rejects(claim.value_rejects.clone());
        if columns.is_empty() {
            return match rows.advance().await? {
                false => Ok(RowCounts::default()),
                true => Err(Error::new(ErrorKind::Internal, "a file without columns has rows")),
            };
        }
        if destination.replaces(columns) {
            replace::delete_rows(connection, &claim.table, columns).await?;
        }
        let place = merge.as_ref().map_or(&claim.table, |merge| &merge.staging);
        let rows_stored = copy::load(connection, place, columns, &mut rows).await?;
        Ok(RowCounts { rows_parsed: rows.taken, rows_stored, ..RowCounts::default() })
    }

    /// Returns the final counts and the transaction's number.
    async fn complete(&mut self, body: Body, counts: RowCounts) -> Result<(RowCounts, i64)> {
        let is_new_body = self.body.is_none();
        let body = self.body.insert(body);
        let Self { destination, connection, claim: file, columns, merge, .. } = self;
        let ledger = destination.ledger();
        if is_new_body {
            ledger.claim_body(connection, Claim::new(file, Some(&*body))).await?;
        }
        let counts = match merge {
            Some(merge) => {
                let merged = merge.apply(connection, &file.table, columns, counts, body.decoded_bytes).await?;
                RowCounts { rows_rejected: counts.rows_rejected, ..merged }
            }
            None => counts,
        };
        Failpoint::BeforeLedgerEnd.reached().await;
        let mode = &destination.options().load_mode;
        let transaction = ledger.finish(connection, &file.source.id, mode, counts).await?;
        Ok((counts, transaction))
    }
}

impl OpenLoad for PostgresLoad {
    fn write<'a>(&'a mut self, rows: BatchStream<'a>) -> BoxFuture<'a, Result<WriteResult>> {
        async move {
            match self.write_rows(rows).await {
                Ok(counts) => {
                    Failpoint::RowsAll.reached().await;
                    Ok(WriteResult::Written(counts))
                }
                Err(error) => {
                    self.connection.roll_back().await;
                    Err(error)
                }
            }
        }
        .boxed()
    }

    fn finalize(mut self: Box<Self>, body: Body, counts: RowCounts) -> BoxFuture<'static, Result<Box<dyn ReadyLoad>>> {
        async move {
            match self.complete(body, counts).await {
                Ok((counts, transaction)) => {
                    Ok(Box::new(ReadyPostgresLoad { load: *self, counts, transaction }) as Box<dyn ReadyLoad>)
                }
                Err(error) => {
                    self.connection.roll_back().await;
                    Err(error)
                }
            }
        }
        .boxed()
    }
}

/// A load of which only COMMIT is missing.
#[derive(Debug)]
struct ReadyPostgresLoad {
    load: PostgresLoad,
    counts: RowCounts,
    /// The transaction's number.
    transaction: i64,
}

impl ReadyPostgresLoad {
    async fn send_commit(self) -> CommitResult {
        let Self { mut load, transaction, .. } = self;
        let doing = "COMMIT was not answered";
        let limit = COMMIT_LIMIT + Duration::from_secs(load.decoded_bytes() / COMMIT_BYTES_PER_SECOND);
        Failpoint::BeforeCommit.reached().await;
        let (messages, end) = match load.connection.messages(limit, doing, &commit_statement(transaction)).await {
            Ok(answer) => answer,
            Err(timeout) => return CommitResult::Unknown(timeout),
        };
        match (end, transaction_outcome(&messages)) {
            (Ok(()), Some("committed")) => {
                Failpoint::AfterCommit.reached().await;
                load.destination.idle.keep(load.destination.credentials(), load.connection);
                CommitResult::Committed
            }
            (Ok(()), Some("aborted")) => {
                let message = "the server has answered COMMIT with ROLLBACK: the transaction had failed before";
                CommitResult::NotCommitted(Error::new(ErrorKind::Conflict, message))
            }
            (Ok(()), _) => {
                let message = "the server does not say whether COMMIT took effect";
                CommitResult::Unknown(Error::new(ErrorKind::Failover, message))
            }
            // An error in the query that follows COMMIT says nothing about COMMIT.
            (Err(error), _) if !messages.is_empty() || leaves_commit_open(&error) => {
                CommitResult::Unknown(failure(Phase::Connected, doing, error))
            }
            (Err(error), _) => {
                load.connection.roll_back().await;
                CommitResult::NotCommitted(failure(Phase::Connected, "the server refused COMMIT", error))
            }
        }
    }
}

impl ReadyLoad for ReadyPostgresLoad {
    fn counts(&self) -> RowCounts {
        self.counts
    }

    fn commit(self: Box<Self>) -> BoxFuture<'static, CommitResult> {
        self.send_commit().boxed()
    }
}

impl Destination for PostgresDestination {
    fn begin<'a>(&'a self, claim: &'a FileClaim, schema: FileSchema<'a>) -> BoxFuture<'a, Result<Begun>> {
        self.open(claim, schema).boxed()
    }

    fn look_up<'a>(&'a self, source_id: &'a SourceId) -> BoxFuture<'a, Result<Option<LedgerEntry>>> {
        async move {
            let mut connection = self.connect().await?;
            let entry = self.ledger().look_up(&mut connection, source_id).await;
            self.idle.end(self.credentials(), connection, entry).await
        }
        .boxed()
    }

    fn record<'a>(&'a self, claim: &'a FileClaim, outcome: &'a LedgerOutcome) -> BoxFuture<'a, Result<()>> {
        async move {
            let mut connection = self.connect().await?;
            ledger_table::ensure(&mut connection, &self.options().ledger_table).await?;
            let body_sha256 = outcome.body_sha256.as_deref().unwrap_or_default();
            let claim = Claim { file: claim, body_sha256, content_id: None };
            let recorded = self.ledger().record(&mut connection, claim, outcome).await;
            self.idle.end(self.credentials(), connection, recorded).await
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
            self.idle.end(self.credentials(), connection, recorded).await
        }
        .boxed()
    }

    /// Staging tables are temporary here and end with their transaction, so there are none to drop.
    fn drop_stale_staging<'a>(
        &'a self,
        _older_than: Duration,
        _live: &'a [SourceId],
    ) -> BoxFuture<'a, Result<Vec<String>>> {
        async { Ok(Vec::new()) }.boxed()
    }
}

//! MySQL and MariaDB: rows by LOAD DATA LOCAL (or INSERT), and their ledger row, in one transaction.
//!
//! Each load has a connection of its own, without a pool. A file above `atomic_max_bytes` is loaded through a staging table, and so is every
//! file that is merged (through a temporary one when it is small). The driver's types stay in this module.

mod check;
mod column;
pub(super) mod connect;
mod failure;
mod insert;
mod ledger;
mod load;
mod load_data;
mod merge;
mod rejection;
mod replace;
mod rows;
mod staging;
mod table;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt};
use tracing::warn;

use crate::destination::idle::{Idle, Reusable};
use crate::destination::limits::Phase;
use crate::destination::{
    Begun, Body, Claim, CommitResult, Credentials, Destination, DestinationOptions, FileClaim, FileSchema, Guard,
    LedgerEntry, LedgerOutcome, LoadMode, OpenLoad, ReadyLoad, RowCounts, ScanReason, WriteResult,
};
use crate::error::{Error, ErrorKind, Result, chain};
use crate::failpoint::Failpoint;
use crate::format::BatchStream;
use crate::object::SourceId;

use column::TargetColumn;
use connect::Connection;
use failure::{failure, leaves_commit_open, server_code};
use ledger::{ClaimResult, Ledger};
use merge::{Keep, Merge};
use table::Prepared;

/// COMMIT of a large transaction writes the binary log; it may take this long, and longer by size.
const COMMIT_LIMIT: Duration = Duration::from_secs(15);
const COMMIT_BYTES_PER_SECOND: u64 = 16 * 1024 * 1024;

/// A MySQL or MariaDB database. Each call takes an idle connection or opens a new one. Clones share everything.
#[derive(Debug, Clone)]
pub(super) struct MySqlDestination {
    settings: Arc<(Credentials, DestinationOptions)>,
    idle: Idle<Connection>,
}

impl MySqlDestination {
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
            Ok(Start::Open { columns, staging, merge }) => {
                let (destination, claim, body) = (self.clone(), claim.clone(), schema.body().cloned());
                let load = MySqlLoad { destination, connection, claim, body, columns, staging, merge };
                Ok(Begun::Open { load: Box::new(load), guard: Guard::NotNeeded })
            }
            Ok(Start::AlreadyLoaded(entry)) => {
                connection.close().await;
                Ok(Begun::AlreadyLoaded(entry))
            }
            Ok(Start::NeedsScan(reason)) => {
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
        ledger.ensure(connection).await?;
        let known = ledger.peek(connection, &file.source.id).await?;
        if let Some(entry) = known.filter(|entry| entry.state.is_in_target()) {
            return Ok(Start::AlreadyLoaded(entry));
        }
        let (columns, key) = match table::prepare(connection, &file.table, schema, options).await? {
            Prepared::Ready { columns, key } => (columns, key),
            Prepared::NeedsScan(reason) => return Ok(Start::NeedsScan(reason)),
        };
        Failpoint::TableMade.reached().await;
        let (name, claim) = (staging::name(&file.source.id), Claim::new(file, schema.body()));
        if decoded_bytes(file, schema.body()) > options.atomic_max_bytes && !columns.is_empty() {
            if schema.body().is_none() {
                return Ok(Start::NeedsScan(ScanReason::SizeUnknown));
            }
            if !self.is_duplicate_content(connection, claim).await? {
                let merge = match key {
                    Some(key) => {
                        Some(Merge::prepare(connection, key, &columns, name.clone(), Keep::UntilDropped).await?)
                    }
                    None => {
                        staging::create(connection, &name, &file.table).await?;
                        None
                    }
                };
                return Ok(Start::Open { columns, staging: Some(name), merge });
            }
        }
        let merge = match key {
            Some(key) => Some(Merge::prepare(connection, key, &columns, name, Keep::Session).await?),
            None => None,
        };
        match self.begin_claim(connection, claim, &columns).await? {
            ClaimResult::Ours => Ok(Start::Open { columns, staging: None, merge }),
            ClaimResult::Ended(entry) => Ok(Start::AlreadyLoaded(entry)),
        }
    }

    async fn is_duplicate_content(&self, connection: &mut Connection, claim: Claim<'_>) -> Result<bool> {
        let Some(content_id) = claim.content_id else { return Ok(false) };
        Ok(self.ledger().peek_content(connection, content_id).await?.is_some())
    }

    async fn begin_claim(
        &self,
        connection: &mut Connection,
        claim: Claim<'_>,
        columns: &[TargetColumn],
    ) -> Result<ClaimResult> {
        connection.run("cannot begin a transaction", "BEGIN").await?;
        Failpoint::Begun.reached().await;
        let mut result = self.ledger().claim(connection, claim).await?;
        if matches!(result, ClaimResult::Ours) && self.replaces(columns) {
            result = self.ledger().claim_table(connection, claim).await?;
        }
        if matches!(result, ClaimResult::Ours) {
            Failpoint::Claimed.reached().await;
        }
        Ok(result)
    }

    /// Whether the file replaces the table's rows. A file without columns does not.
    fn replaces(&self, columns: &[TargetColumn]) -> bool {
        !columns.is_empty() && self.options().load_mode == LoadMode::Replace
    }
}

/// Size of the decompressed body; the object's size while that is not known.
fn decoded_bytes(file: &FileClaim, body: Option<&Body>) -> u64 {
    body.map_or(file.source.size_bytes, |body| body.decoded_bytes)
}

/// The result of `begin_on`.
enum Start {
    Open { columns: Vec<TargetColumn>, staging: Option<String>, merge: Option<Merge> },
    AlreadyLoaded(LedgerEntry),
    NeedsScan(ScanReason),
}

/// A connection with a transaction that holds the claim or, for a large file, with its staging table. Dropping it closes the
/// connection, and the server rolls back.
#[derive(Debug)]
struct MySqlLoad {
    destination: MySqlDestination,
    connection: Connection,
    claim: FileClaim,
    /// The body, where it was known at the beginning.
    body: Option<Body>,
    /// The table's columns in the file's order.
    columns: Vec<TargetColumn>,
    /// The staging table of a large file.
    staging: Option<String>,
    /// The merge, in that mode.
    merge: Option<Merge>,
}

impl MySqlLoad {
    fn decoded_bytes(&self) -> u64 {
        decoded_bytes(&self.claim, self.body.as_ref())
    }

    /// Rolls back and drops the staging table, if the server still answers.
    async fn undo(&mut self) {
        self.connection.roll_back().await;
        if let Some(staging) = self.staging.take() {
            // After a lost connection, the cleanup of stale staging tables drops it.
            let _ = staging::drop_table(&mut self.connection, &staging).await;
        }
    }

    async fn complete(&mut self, body: Body, counts: RowCounts) -> Result<RowCounts> {
        let is_new_body = self.body.is_none();
        let body = self.body.insert(body);
        let Self { destination, connection, claim: file, columns, staging, merge, .. } = self;
        let (claim, ledger) = (Claim::new(file, Some(&*body)), destination.ledger());
        if staging.is_some() {
            match destination.begin_claim(connection, claim, columns).await? {
                ClaimResult::Ours => {}
                ClaimResult::Ended(_) => {
                    // The next try finds the source loaded.
                    let message = "another worker has loaded the same rows meanwhile";
                    return Err(Error::new(ErrorKind::Conflict, message));
                }
            }
        } else if is_new_body {
            ledger.claim_body(connection, claim).await?;
        }
        let size_bytes = body.decoded_bytes;
        let counts = match (&*merge, &*staging) {
            (Some(merge), _) => {
                let merged = merge.apply(connection, &file.table, columns, counts, size_bytes).await?;
                RowCounts { rows_rejected: counts.rows_rejected, ..merged }
            }
            (None, Some(staging)) => {
                if destination.replaces(columns) {
                    replace::delete_rows(connection, &file.table, columns).await?;
                }
                staging::copy_from_staging(connection, staging, &file.table, columns, counts.rows_stored, size_bytes)
                    .await?;
                counts
            }
            (None, None) => counts,
        };
        if staging.is_some() {
            Failpoint::AfterInsertSelect.reached().await;
        }
        Failpoint::BeforeLedgerEnd.reached().await;
        ledger.finish(connection, &file.source.id, &destination.options().load_mode, counts).await?;
        Ok(counts)
    }

    /// After COMMIT: drops the staging table and gives the connection back. An error here does not change what was committed.
    async fn clean_up(mut self) {
        if let Some(staging) = self.staging.take() {
            Failpoint::BeforeStagingDrop.reached().await;
            if let Err(error) = staging::drop_table(&mut self.connection, &staging).await {
                warn!(table = staging, error = %chain(&error), "the staging table was not dropped; the cleanup drops it");
            }
        }
        match self.merge {
            // Its temporary tables end with the connection.
            Some(_) => self.connection.close().await,
            None => self.destination.idle.keep(self.destination.credentials(), self.connection),
        }
    }
}

impl OpenLoad for MySqlLoad {
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
                Ok(counts) => Ok(Box::new(ReadyMySqlLoad { load: *self, counts }) as Box<dyn ReadyLoad>),
                Err(error) => {
                    self.undo().await;
                    Err(error)
                }
            }
        }
        .boxed()
    }
}

/// A load of which only COMMIT is missing.
#[derive(Debug)]
struct ReadyMySqlLoad {
    load: MySqlLoad,
    counts: RowCounts,
}

impl ReadyMySqlLoad {
    async fn send_commit(mut self) -> CommitResult {
        let doing = "COMMIT was not answered";
        let limit = COMMIT_LIMIT + Duration::from_secs(self.load.decoded_bytes() / COMMIT_BYTES_PER_SECOND);
        Failpoint::BeforeCommit.reached().await;
        let error = match self.load.connection.run_raw(limit, doing, b"COMMIT").await {
            Ok(Ok(_)) => {
                Failpoint::AfterCommit.reached().await;
                self.load.clean_up().await;
                return CommitResult::Committed;
            }
            Ok(Err(error)) => error,
            Err(timeout) => return CommitResult::Unknown(timeout),
        };
        let is_answer = server_code(&error).is_some_and(|code| !leaves_commit_open(code));
        if !is_answer {
            return CommitResult::Unknown(failure(Phase::Connected, doing, error));
        }
        self.load.undo().await;
        CommitResult::NotCommitted(failure(Phase::Connected, "the server refused COMMIT", error))
    }
}

impl ReadyLoad for ReadyMySqlLoad {
    fn counts(&self) -> RowCounts {
        self.counts
    }

    fn commit(self: Box<Self>) -> BoxFuture<'static, CommitResult> {
        self.send_commit().boxed()
    }
}

impl Destination for MySqlDestination {
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
            self.ledger().ensure(&mut connection).await?;
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

    fn drop_stale_staging<'a>(
        &'a self,
        older_than: Duration,
        live: &'a [SourceId],
    ) -> BoxFuture<'a, Result<Vec<String>>> {
        async move {
            let mut connection = self.connect().await?;
            let dropped = staging::drop_stale(&mut connection, older_than, live).await;
            self.idle.end(self.credentials(), connection, dropped).await
        }
        .boxed()
    }
}

//! The databases that rows are loaded into, and the steps of a load.
//!
//! [`open`] returns the destination for given credentials. A load then has these steps:
//!
//! 1. [`Destination::begin`] claims the source and returns an [`OpenLoad`].
//! 2. [`OpenLoad::write`] sends the rows.
//! 3. [`OpenClaim::finalize`] writes the ledger row and returns a [`ReadyLoad`].
//! 4. [`ReadyLoad::commit`] commits. Only a [`ReadyLoad`] has this method.
//!
//! The types of a driver stay inside the module of its engine. Every failure is an [`Error`] with a kind, for which
//! `crate::policy` has the retries and the outcome.

mod changes;
mod check;
mod claim;
mod codes;
mod column;
mod database;
mod denial;
#[cfg(test)]
mod documented_spellings;
mod encoding;
mod engine;
mod extra;
mod failure;
mod idle;
mod inspect;
mod limits;
mod matching;
mod merge;
mod mirror;
mod mysql;
mod operation;
mod options;
mod piece;
mod postgres;
mod probe;
mod redact;
mod redshift;
mod rows;
pub(crate) mod source;
mod staging_name;
mod succession;
mod table;
mod transaction;
mod value_rejects;
mod widen;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use jiff::Timestamp;

use crate::batch::BatchStream;
use crate::error::{Error, Result};
use crate::object::{ObjectRef, ObjectVersion, SourceId};
use crate::table_name::TableName;
use spillway_formats::schema::Schema;

pub use crate::ledger::{
    AttemptRecord, AttemptsMaintenance, AttemptsProbe, DoneVersion, HistoryEntry, LedgerEntry, LedgerOutcome,
    LedgerState, LoadDetails, ObjectPlace, RowCounts, Run, RunCursor, RunFilter, RunOutcome, RunPage, RunPlaces,
    SyncState,
};
pub use changes::TableChanges;
use database::Database;
use idle::Idle;
pub use inspect::{FilledColumn, FoundTable, Inspection, RowChecker, TypeChange, inspect_new};
pub use operation::OperationCounts;
pub(crate) use operation::changes_hint;
pub use options::{
    Authentication, ChangedTypes, Changes, Credentials, DatabaseKind, DestinationOptions, Engine, LoadMethod, LoadMode,
    Mirror, MissingColumns, Output, Product, Tls, UnknownColumns,
};
pub use probe::{LedgerProbe, Probe};
#[cfg(test)]
pub(crate) use redshift::redshift_statements;
pub use redshift::{RedshiftDatabase, RedshiftKeys, RedshiftLogin, RedshiftServer, RedshiftSettings};
pub use succession::Succession;
pub(crate) use value_rejects::RejectCounts;
pub use value_rejects::ValueRejects;

/// Returns the destination that the credentials name. Its first call connects.
pub fn open(credentials: Credentials, options: DestinationOptions, idle: &IdleConnections) -> Box<dyn Destination> {
    match credentials.engine {
        Engine::MySql => Box::new(Database::new(credentials, options, idle.mysql.clone())),
        Engine::Postgres => Box::new(Database::new(credentials, options, idle.postgres.clone())),
    }
}

/// Open connections that a run can reuse for its next file. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct IdleConnections {
    mysql: Idle<mysql::connect::Connection>,
    postgres: Idle<postgres::connect::Connection>,
}

impl IdleConnections {
    /// Closes all connections. Called at the end of a run.
    pub async fn close(&self) {
        self.mysql.close().await;
        self.postgres.close().await;
    }
}

/// A worker's request to load one source (object version) into one table.
#[derive(Debug, Clone)]
pub struct FileClaim {
    /// The version of the object that the rows are read from.
    pub source: ObjectVersion,
    /// The table that the rows are loaded into.
    pub table: TableName,
    /// Host, process and start time of the worker, for people who read the ledger.
    pub worker: String,
    /// When this attempt started.
    pub started_at: Timestamp,
    /// Collects the rows that the check before sending refuses. If this is `None`, or its limit is reached, such a row
    /// fails the load.
    pub value_rejects: Option<Arc<ValueRejects>>,
    /// The changes of the table for this file, requested and made.
    pub table_changes: TableChanges,
    /// The place among the deltas of the table, if the file is a delta that an import of exports has written.
    pub succession: Option<Succession>,
}

/// A file's columns, and how much of the file they were inferred from.
#[derive(Debug, Clone, Copy)]
pub enum FileSchema<'a> {
    /// The whole file was scanned: the column types are final.
    Final {
        /// The columns.
        schema: &'a Schema,
        /// The body that was scanned.
        body: &'a Body,
    },
    /// Only the file's beginning was read. The column names are final, but later values may need other types.
    Provisional {
        /// The columns.
        schema: &'a Schema,
        /// The load's transaction may create a missing table from these types. The caller then checks every later value
        /// against them.
        may_create_table: bool,
    },
}

impl<'a> FileSchema<'a> {
    /// Returns the columns.
    pub fn schema(&self) -> &'a Schema {
        match self {
            Self::Final { schema, .. } | Self::Provisional { schema, .. } => schema,
        }
    }

    /// Returns the body, if it was read to its end.
    pub fn body(&self) -> Option<&'a Body> {
        match self {
            Self::Final { body, .. } => Some(body),
            Self::Provisional { .. } => None,
        }
    }
}

/// Checksum, identity and size of a file's body that was read to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Body {
    /// SHA-256 of the stored bytes, in hex.
    pub sha256: String,
    /// A hash of bucket, key and body, so that the same bytes under the same key load once. `None` if they may load
    /// again: with `DEDUPE=version`, and in replace mode.
    pub content_id: Option<String>,
    /// Size of the decompressed body. Time limits and staging depend on it.
    pub decoded_bytes: u64,
    /// The key of the object with the rows in the lake, if there is one.
    pub lake_key: Option<String>,
}

/// The result of [`Destination::begin`].
pub enum Begun {
    /// The load is open and holds the claim, so no other worker can commit the source's rows. A load through a staging
    /// table is an exception: it claims the source in [`OpenClaim::finalize`].
    Open {
        /// The load.
        load: Box<dyn OpenLoad>,
        /// Whether the caller must check later values against the schema.
        value_check: ValueCheck,
    },
    /// The ledger says that the source needs no load, see [`LedgerState::needs_no_load`]. No transaction is open.
    NotNeeded(LedgerEntry),
    /// The file must be read to its end first. Nothing was created, and no transaction is open. Never returned for a
    /// [`FileSchema::Final`].
    NeedsScan(ScanReason),
}

/// The result of [`Destination::claim`].
pub enum Claimed {
    /// An open transaction holds the claim.
    Open(Box<dyn OpenClaim>),
    /// The ledger says that the source needs no load. No transaction is open.
    NotNeeded(LedgerEntry),
}

/// Whether later values of a file must be checked against its provisional schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueCheck {
    /// The table existed, so each value is checked against its column anyway.
    NotNeeded,
    /// The table was created from the provisional types. A value that does not fit them must fail the load.
    EveryValue,
}

/// Why a file must be read to its end before it can be loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ScanReason {
    /// The table must be created, and column types depend on every value.
    #[error("the table does not exist, and its column types depend on every value of the file")]
    TableMissing,
    /// Columns must be added, and their types depend on every value.
    #[error("the table lacks columns of the file, and their types depend on every value of the file")]
    ColumnsMissing,
    /// A column that the server fills has no value in the first rows. The load omits it if no row has a value.
    #[error("a column that the server fills has no value in the file's first rows")]
    ColumnEmpty,
    /// The rows are copied from S3 with final column types.
    #[error("the rows are copied from S3, and their column types depend on every value of the file")]
    RowsCopied,
    /// The file may be too large for one transaction, and its decompressed size is not known.
    #[error("the file may be too large for one transaction, so its decompressed size must be known")]
    SizeUnknown,
}

/// The result of [`OpenLoad::write`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteResult {
    /// The server has accepted all rows.
    Written(RowCounts),
    /// The file must be read to its end first. The load was rolled back. Never returned for a [`FileSchema::Final`].
    NeedsScan(ScanReason),
}

/// The result of a COMMIT.
#[derive(Debug)]
pub enum CommitResult {
    /// The server has confirmed that the rows and their ledger row are stored.
    Committed,
    /// The same, by a server that merges the rows at COMMIT. These are their counts.
    Merged(RowCounts),
    /// The server has rejected COMMIT, or COMMIT was never sent. Nothing is stored.
    NotCommitted(Error),
    /// The server did not respond to COMMIT. Only the ledger shows the result, see [`Destination::look_up`].
    Unknown(Error),
}

/// A database that stores each source's rows at most once.
///
/// Any number of workers may repeat every call with the same source at the same time. At most one of their commits is
/// [`CommitResult::Committed`] or [`CommitResult::Merged`], and every later [`begin`](Self::begin) returns [`Begun::NotNeeded`]. No call
/// retries: the caller does, by the retry policy (`crate::policy`).
pub trait Destination: Send + Sync {
    /// Claims the source and opens a load.
    ///
    /// The steps are:
    ///
    /// 1. Create the ledger if it is missing. With a final schema, also create the table or its missing columns.
    /// 2. Check that the table can store the file.
    /// 3. Begin a transaction, and claim the source in it.
    ///
    /// A load through a staging table skips the third step. It only checks that the source needs a load, and claims the
    /// source in [`OpenClaim::finalize`]. A source that fell back or was rejected can be claimed again.
    ///
    /// # Errors
    /// [`crate::error::ErrorKind::Conflict`] while another worker holds the claim. After an error no transaction is
    /// open.
    fn begin<'a>(&'a self, claim: &'a FileClaim, schema: FileSchema<'a>) -> BoxFuture<'a, Result<Begun>>;

    /// Claims the source and its content, for rows that are stored only in the lake. Creates the ledger if it is missing.
    ///
    /// # Errors
    /// As [`begin`](Self::begin).
    fn claim<'a>(&'a self, claim: &'a FileClaim, body: &'a Body) -> BoxFuture<'a, Result<Claimed>>;

    /// Returns the source's ledger entry; `None` if the entry or the ledger does not exist. Does not wait for a lock.
    ///
    /// # Errors
    /// [`crate::error::ErrorKind::Conflict`] while a transaction holds a claim on the source. So a returned result is
    ///    final:
    /// no earlier transaction can still commit the source.
    fn look_up<'a>(&'a self, source_id: &'a SourceId) -> BoxFuture<'a, Result<Option<LedgerEntry>>>;

    /// Returns the latest ledger rows of an object's key, newest first; none if the ledger does not exist. Reads only.
    fn history<'a>(&'a self, object: &'a ObjectRef) -> BoxFuture<'a, Result<Vec<HistoryEntry>>>;

    /// Returns runs, from the ledger and the attempt history, newest first; none if the ledger does not exist. Reads only.
    fn runs<'a>(&'a self, filter: &'a RunFilter) -> BoxFuture<'a, Result<RunPage>>;

    /// Writes an attempt that did not load its file into the attempt history. Creates the history and the ledger if
    /// they are missing.
    fn record_attempt<'a>(&'a self, attempt: &'a AttemptRecord) -> BoxFuture<'a, Result<()>>;

    /// Returns the watermarks of a bucket's syncs, by table; none if no sync has run. Reads only.
    fn syncs<'a>(&'a self, bucket: &'a str) -> BoxFuture<'a, Result<Vec<SyncState>>>;

    /// Writes the end of a sync beside the ledger, and its watermark if it has one. A watermark never moves back.
    fn record_sync<'a>(&'a self, sync: &'a SyncState) -> BoxFuture<'a, Result<()>>;

    /// Creates what the history lacks, and deletes attempts that started before a time, in small batches.
    ///
    /// # Errors
    /// Also when the user may not create something. Old attempts are deleted nevertheless.
    fn maintain_attempts(&self, before: Timestamp) -> BoxFuture<'_, Result<AttemptsMaintenance>>;

    /// Returns what a load with a final schema would find and change. Reads only.
    ///
    /// # Errors
    /// The error with which the load would fail before it sends a row.
    fn inspect<'a>(&'a self, claim: &'a FileClaim, schema: FileSchema<'a>) -> BoxFuture<'a, Result<Inspection>>;

    /// Tests what a load needs, on a new connection, and leaves nothing in the database.
    ///
    /// # Errors
    /// When it cannot connect. The result contains later failures.
    fn probe(&self) -> BoxFuture<'_, Result<Probe>>;

    /// Writes an outcome other than a load, in its own transaction. A source that is already loaded stays loaded.
    fn record<'a>(&'a self, claim: &'a FileClaim, outcome: &'a LedgerOutcome) -> BoxFuture<'a, Result<()>>;

    /// Returns the ledger rows of the versions of these keys that need no load, see [`LedgerState::needs_no_load`]; none
    /// if the ledger does not exist. `etags` limits the rows to versions with one of these ETags. Reads only.
    fn loaded_versions<'a>(
        &'a self,
        bucket: &'a str,
        keys: &'a [&'a str],
        etags: &'a [&'a str],
    ) -> BoxFuture<'a, Result<Vec<DoneVersion>>>;

    /// Writes into the ledger the place of the object, and the total cost in US dollars, if it is known.
    fn record_move<'a>(
        &'a self,
        source_id: &'a SourceId,
        place: ObjectPlace<'a>,
        cost_usd: Option<f64>,
    ) -> BoxFuture<'a, Result<()>>;

    /// Drops staging tables that are older than `older_than` and whose source is not in `live`, so that their workers
    /// must be dead. Returns their names.
    fn drop_stale_staging<'a>(
        &'a self,
        older_than: Duration,
        live: &'a [SourceId],
    ) -> BoxFuture<'a, Result<Vec<String>>>;
}

/// A claim on a source. Dropping it rolls back.
pub trait OpenClaim: Send {
    /// Sends a statement without effect, so that the server does not end an idle transaction or connection.
    fn keep_alive(&mut self) -> BoxFuture<'_, Result<()>>;

    /// Does everything that is left except COMMIT: merges or copies staged rows, and writes `loaded` into the ledger
    /// row.
    ///
    /// `body` is the same as in [`FileSchema::Final`], with `lake_key` set. A load that began with a provisional schema
    /// claims its content here. `counts` are those of [`OpenLoad::write`], with `rows_rejected` set by the caller.
    ///
    /// # Errors
    /// [`crate::error::ErrorKind::Conflict`] when another source with the same content is loaded, or being loaded.
    /// After an error the load is rolled back, if the server still responds.
    fn finalize(self: Box<Self>, body: Body, counts: RowCounts) -> BoxFuture<'static, Result<Box<dyn ReadyLoad>>>;

    /// Rolls back, and drops the staging table of a staged load, if the server still responds.
    fn undo(self: Box<Self>) -> BoxFuture<'static, ()>;
}

/// A load that accepts rows. Dropping it rolls back, but leaves a staging table to the cleanup.
pub trait OpenLoad: OpenClaim {
    /// Sends all rows of the file.
    ///
    /// Each value is checked against the type of its column before it is sent, and the rows that the server has stored
    /// are compared with the rows that were sent. Staged rows count as inserted.
    ///
    /// # Errors
    /// After an error the load is rolled back, if the server still responds, and it cannot be finalized.
    fn write<'a>(&'a mut self, rows: BatchStream<'a>) -> BoxFuture<'a, Result<WriteResult>>;
}

/// A load that can be committed. Dropping it rolls back, but leaves a staging table to the cleanup.
pub trait ReadyLoad: Send {
    /// Returns the final row counts. If the server merges the rows at COMMIT, all of them count as inserted until then.
    fn counts(&self) -> RowCounts;

    /// Rolls back, and drops the staging table of a staged load, if the server still responds.
    fn undo(self: Box<Self>) -> BoxFuture<'static, ()>;

    /// Sends COMMIT.
    fn commit(self: Box<Self>) -> BoxFuture<'static, CommitResult>;
}

//! The contract of an SQL engine, which [`super::database`] and [`super::transaction`] load rows through.

use std::fmt::Debug;
use std::time::Duration;

use super::column::TableColumn;
use super::idle::Session;
use super::rows::Rows;
use super::table::TableConnection;
use super::{
    CommitResult, Credentials, DestinationOptions, FileClaim, FileSchema, LoadMethod, RowCounts, ScanReason, ValueCheck,
};
use crate::error::{Error, Position, Result};
use crate::ledger::{LedgerConnection, SqlLedger};
use crate::object::SourceId;
use crate::table_name::TableName;

/// A connection that loads rows. Dropping it closes it, and then the server rolls back.
///
/// The caller keeps this order: `plan`, `start`, `send`, `apply`, `commit`.
pub(super) trait LoadConnection: LedgerConnection + TableConnection + Session + 'static {
    /// The columns of the checked table, and how rows are written to it.
    type Plan: Debug + Send + Sync;

    /// Whether the staging tables of loads outlive their connection, so that they must be dropped.
    const HAS_STAGING_TABLES: bool;

    /// Returns the name of the statement that sends rows with this load method, as far as the server's settings show.
    ///
    /// # Errors
    /// When the server does not allow the method.
    fn load_statement(&self, method: LoadMethod) -> Result<&'static str>;

    /// Checks the table and creates what is missing, outside of any transaction.
    fn plan(&mut self, request: &Request<'_>) -> impl Future<Output = Result<PlanResult<Self::Plan>>> + Send;

    /// Completes the plan in the transaction that holds the claim. Not called for a staged plan.
    fn start(
        &mut self,
        request: &Request<'_>,
        plan: &mut Self::Plan,
    ) -> impl Future<Output = Result<StartResult>> + Send;

    /// Checks a value as before it is sent.
    ///
    /// # Errors
    /// [`crate::error::ErrorKind::DataRefused`] with position and column.
    fn check_value(
        column: &TableColumn<Self::Storage>,
        field: Option<&[u8]>,
        scratch: &mut Vec<u8>,
        position: Position,
    ) -> Result<()>;

    /// Returns the table's columns in the file's order. Empty for a file without columns.
    fn columns(plan: &Self::Plan) -> &[TableColumn<Self::Storage>];

    /// Returns the staging table that rows are committed to in chunks. The source is then claimed after the last chunk.
    fn staging(plan: &Self::Plan) -> Option<&str>;

    /// Whether the table will be created in the transaction that holds the claim.
    fn creates_table(_plan: &Self::Plan) -> bool {
        false
    }

    /// Whether the connection can be used for another load after this one.
    fn is_reusable(plan: &Self::Plan) -> bool;

    /// Deletes all rows of the table, in the open transaction.
    fn delete_rows(
        &mut self,
        table: &TableName,
        columns: &[TableColumn<Self::Storage>],
    ) -> impl Future<Output = Result<()>> + Send;

    /// Sends rows to the table or its staging table.
    fn send(
        &mut self,
        plan: &Self::Plan,
        options: &SendOptions<'_>,
        rows: &mut Rows<'_, Self::Storage>,
    ) -> impl Future<Output = Result<SendResult>> + Send;

    /// Returns the values of a mirror's scope, from the staged rows; `None` for a load without a scope.
    ///
    /// # Errors
    /// [`crate::error::ErrorKind::ExportRefused`] unless the rows have exactly one value in each column of the scope.
    fn mirror_scope(
        &mut self,
        plan: &Self::Plan,
        size_bytes: u64,
    ) -> impl Future<Output = Result<Option<Vec<String>>>> + Send;

    /// Merges or copies staged rows into the table, in the open transaction. A mirror also deletes rows.
    ///
    /// Returns how many rows are stored, updated, unchanged and deleted. `counts` are those of the sent rows. Only a mirror may have
    /// none.
    fn apply(
        &mut self,
        plan: &Self::Plan,
        table: &TableName,
        counts: RowCounts,
        size_bytes: u64,
    ) -> impl Future<Output = Result<RowCounts>> + Send;

    /// Sends COMMIT.
    fn commit(&mut self, limit: Duration, transaction: Self::Transaction) -> impl Future<Output = CommitResult> + Send;

    /// Adds the missing privilege and its GRANT to an error of the kind [`crate::error::ErrorKind::Privilege`], outside of any
    /// transaction. The error stays as it is if they are not known.
    fn explain_denial(
        &mut self,
        table: Option<&TableName>,
        options: &DestinationOptions,
        error: Error,
    ) -> impl Future<Output = Error> + Send;

    /// The same for a command that only reads the ledger.
    fn explain_denied_read(&mut self, options: &DestinationOptions, error: Error)
    -> impl Future<Output = Error> + Send;

    /// Returns the statement that lets a user log in to a database and load into it.
    fn login_grant(credentials: &Credentials) -> String;

    /// Returns the statements that grant what loads need on the database and on tables of any name; empty if nothing is missing.
    ///
    /// # Errors
    /// When the server does not show the privileges of the user.
    fn missing_grants(&mut self, options: &DestinationOptions) -> impl Future<Output = Result<String>> + Send;

    /// Drops the staging table. The plan then has none.
    fn drop_staging(&mut self, _plan: &mut Self::Plan) -> impl Future<Output = Result<()>> + Send {
        async { Ok(()) }
    }

    /// Drops staging tables of dead workers, see [`super::Destination::drop_stale_staging`].
    fn drop_stale_staging(
        &mut self,
        older_than: Duration,
        live: &[SourceId],
    ) -> impl Future<Output = Result<Vec<String>>> + Send;
}

/// A request to load a file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request<'a> {
    pub(super) file: &'a FileClaim,
    pub(super) schema: FileSchema<'a>,
    pub(super) options: &'a DestinationOptions,
}

impl<'a> Request<'a> {
    /// Returns the ledger that the file is claimed in.
    pub(super) fn ledger(&self) -> SqlLedger<'a> {
        SqlLedger::new(&self.options.ledger_table)
    }

    /// Returns the size of the decompressed body, or the object's size while the former is not known.
    pub(super) fn size_bytes(&self) -> u64 {
        self.schema.body().map_or(self.file.source.size_bytes, |body| body.decoded_bytes)
    }
}

/// The result of [`LoadConnection::plan`].
pub(super) enum PlanResult<Plan> {
    Ready(Plan),
    NeedsScan(ScanReason),
}

/// The result of [`LoadConnection::start`].
pub(super) enum StartResult {
    Open(ValueCheck),
    NeedsScan(ScanReason),
}

/// Options of [`LoadConnection::send`].
#[derive(Debug, Clone, Copy)]
pub(super) struct SendOptions<'a> {
    /// The table to load.
    pub(super) table: &'a TableName,
    /// The statement that sends rows, on engines with more than one.
    pub(super) method: LoadMethod,
    /// Maximum size of a transaction, on engines that need a limit.
    pub(super) max_transaction_bytes: u64,
}

/// The result of [`LoadConnection::send`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SendResult {
    /// All rows were sent, and the server has stored this many.
    All { stored: u64 },
    /// The rows exceed the maximum size of a transaction.
    TooManyBytes,
}

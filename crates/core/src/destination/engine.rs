//! What an SQL engine implements so that [`super::transaction`] can load rows into it.

use std::fmt::Debug;
use std::time::Duration;

use super::column::TableColumn;
use super::idle::Reusable;
use super::rows::Rows;
use super::{
    CommitResult, Credentials, DestinationOptions, FileClaim, FileSchema, Guard, LoadMethod, RowCounts, ScanReason,
};
use crate::error::Result;
use crate::ledger::{LedgerConnection, SqlLedger};
use crate::object::SourceId;

/// A connection that loads rows. Dropping it closes it, and the server rolls back.
///
/// `plan` and `start` come first, then `send`, `apply` and `commit`; [`super::transaction::Database`] keeps this order.
pub(super) trait LoadConnection: LedgerConnection + Reusable + Sized + 'static {
    /// How the engine stores a column's values.
    type Storage: Send + Sync;

    /// The checked table, and how rows get into it.
    type Plan: Debug + Send + Sync;

    /// Whether staging tables outlive their connection, so that they must be dropped.
    const HAS_STAGING_TABLES: bool;

    /// Connects.
    fn open(credentials: &Credentials, options: &DestinationOptions) -> impl Future<Output = Result<Self>> + Send;

    /// Checks the table, and creates it, its missing columns and staging tables, outside of any transaction.
    fn plan(&mut self, request: &Request<'_>) -> impl Future<Output = Result<Planned<Self::Plan>>> + Send;

    /// Completes the plan in the transaction that holds the claim. Not called for a staged plan.
    fn start(&mut self, request: &Request<'_>, plan: &mut Self::Plan) -> impl Future<Output = Result<Started>> + Send;

    /// The table's columns in the file's order; none for a file without columns.
    fn columns(plan: &Self::Plan) -> &[TableColumn<Self::Storage>];

    /// The staging table that rows are committed to first. The source is then claimed when they are copied.
    fn staging(plan: &Self::Plan) -> Option<&str>;

    /// Whether the connection can be used for another load after this one.
    fn is_reusable(plan: &Self::Plan) -> bool;

    /// Deletes all rows of the table, in the open transaction.
    fn delete_rows(
        &mut self,
        table: &str,
        columns: &[TableColumn<Self::Storage>],
    ) -> impl Future<Output = Result<()>> + Send;

    /// Sends rows to the table or its staging table.
    fn send(
        &mut self,
        plan: &Self::Plan,
        sending: &Sending<'_>,
        rows: &mut Rows<'_, Self::Storage>,
    ) -> impl Future<Output = Result<Sent>> + Send;

    /// Merges or copies staged rows into the table, in the open transaction. Returns the final counts, without the
    /// rejected records.
    fn apply(
        &mut self,
        plan: &Self::Plan,
        table: &str,
        counts: RowCounts,
        size_bytes: u64,
    ) -> impl Future<Output = Result<RowCounts>> + Send;

    /// Sends COMMIT.
    fn commit(&mut self, limit: Duration, transaction: Self::Transaction) -> impl Future<Output = CommitResult> + Send;

    /// Drops the plan's staging table. The plan is not staged any more then.
    fn drop_staging(&mut self, _plan: &mut Self::Plan) -> impl Future<Output = Result<()>> + Send {
        async { Ok(()) }
    }

    /// Drops staging tables of dead workers, see [`super::Destination::drop_stale_staging`].
    fn drop_stale_staging(
        &mut self,
        _older_than: Duration,
        _live: &[SourceId],
    ) -> impl Future<Output = Result<Vec<String>>> + Send {
        async { Ok(Vec::new()) }
    }
}

/// A load that is about to begin.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request<'a> {
    pub(super) file: &'a FileClaim,
    pub(super) schema: FileSchema<'a>,
    pub(super) options: &'a DestinationOptions,
}

impl<'a> Request<'a> {
    /// The ledger that the file is claimed in.
    pub(super) fn ledger(&self) -> SqlLedger<'a> {
        SqlLedger::new(&self.options.ledger_table)
    }

    /// Size of the decompressed body; the object's size while that is not known.
    pub(super) fn size_bytes(&self) -> u64 {
        self.schema.body().map_or(self.file.source.size_bytes, |body| body.decoded_bytes)
    }
}

/// The result of [`LoadConnection::plan`].
pub(super) enum Planned<Plan> {
    Ready(Plan),
    NeedsScan(ScanReason),
}

/// The result of [`LoadConnection::start`].
pub(super) enum Started {
    Open(Guard),
    NeedsScan(ScanReason),
}

/// How rows are sent, apart from the plan.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sending<'a> {
    pub(super) table: &'a str,
    pub(super) method: LoadMethod,
    /// As many bytes fit into one transaction, on engines with such a limit.
    pub(super) max_transaction_bytes: u64,
}

/// The result of [`LoadConnection::send`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sent {
    /// All rows were sent, and the server has stored this many.
    All { stored: u64 },
    /// More rows than one transaction should contain.
    TooManyBytes,
}

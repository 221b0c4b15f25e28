//! PostgreSQL: rows by COPY FROM STDIN, and their ledger row, in one transaction.
//!
//! Each load has a connection of its own, without a pool. A transaction may be of any size: rolling one back is cheap
//! and blocks no other session, so nothing is ever committed in chunks. Rows that are merged wait in a temporary table
//! of the same transaction. The driver's types stay in this module.

mod check;
mod codes;
mod column;
pub(super) mod connect;
mod encoding;
mod failure;
mod key;
mod ledger;
mod merge;
mod rejection;
mod replace;
mod table;
mod unsupported;
mod write;

use std::time::Duration;

use tokio_postgres::SimpleQueryMessage;

use crate::destination::engine::{LoadConnection, Planned, Request, Sending, Sent, Started};
use crate::destination::failure::Phase;
use crate::destination::rows::Rows;
use crate::destination::{
    CommitResult, Credentials, DestinationOptions, FileSchema, Guard, LoadMode, RowCounts, ScanReason,
};
use crate::error::{Error, ErrorKind, Result};
use crate::failpoint::Failpoint;

use column::{Storage, TableColumn};
use connect::Connection;
use failure::{failure, leaves_commit_open};
use key::MergeKey;
use merge::Merge;
use table::Prepared;

/// The table's columns, and how rows get into it.
#[derive(Debug)]
pub(in crate::destination) struct Plan {
    /// The table's columns in the file's order; none before a missing table is created.
    columns: Vec<TableColumn>,
    step: Step,
}

/// What is left to do in the transaction before rows are sent, and after it.
#[derive(Debug)]
enum Step {
    /// Rows go into the table.
    Send,
    /// The missing table is created first.
    CreateTable,
    /// The staging table of a merge is created first.
    PrepareMerge(MergeKey),
    /// Rows go into the staging table of a merge.
    Merge(Merge),
}

impl LoadConnection for Connection {
    type Storage = Storage;
    type Plan = Plan;

    /// They are temporary and end with their transaction.
    const HAS_STAGING_TABLES: bool = false;

    async fn open(credentials: &Credentials, options: &DestinationOptions) -> Result<Self> {
        Self::connect(credentials, options).await
    }

    async fn plan(&mut self, request: &Request<'_>) -> Result<Planned<Plan>> {
        match table::prepare(self, &request.file.table, request.schema, request.options).await? {
            Prepared::Ready { columns, key } => {
                Failpoint::TableMade.reached().await;
                Ok(Planned::Ready(Plan { columns, step: key.map_or(Step::Send, Step::PrepareMerge) }))
            }
            Prepared::NeedsScan(ScanReason::TableMissing) if may_create_table(request) => {
                Ok(Planned::Ready(Plan { columns: Vec::new(), step: Step::CreateTable }))
            }
            Prepared::NeedsScan(reason) => Ok(Planned::NeedsScan(reason)),
        }
    }

    async fn start(&mut self, request: &Request<'_>, plan: &mut Plan) -> Result<Started> {
        let table = &request.file.table;
        match std::mem::replace(&mut plan.step, Step::Send) {
            Step::CreateTable => {
                let created = table::create_in_transaction(self, table, request.schema.schema()).await?;
                let Some(columns) = created else { return Ok(Started::NeedsScan(ScanReason::TableMissing)) };
                plan.columns = columns;
                Failpoint::TableMade.reached().await;
                return Ok(Started::Open(Guard::EveryValue));
            }
            Step::PrepareMerge(key) => {
                plan.step = Step::Merge(Merge::prepare(self, key, table, &plan.columns).await?);
            }
            step @ (Step::Send | Step::Merge(_)) => plan.step = step,
        }
        Ok(Started::Open(Guard::NotNeeded))
    }

    fn columns(plan: &Plan) -> &[TableColumn] {
        &plan.columns
    }

    fn staging(_: &Plan) -> Option<&str> {
        None
    }

    fn is_reusable(_: &Plan) -> bool {
        true
    }

    async fn delete_rows(&mut self, table: &str, columns: &[TableColumn]) -> Result<()> {
        replace::delete_rows(self, table, columns).await
    }

    async fn send(&mut self, plan: &Plan, sending: &Sending<'_>, rows: &mut Rows<'_, Storage>) -> Result<Sent> {
        let place = match &plan.step {
            Step::Merge(merge) => merge.staging.as_str(),
            Step::Send | Step::CreateTable | Step::PrepareMerge(_) => sending.table,
        };
        let stored = write::load(self, place, &plan.columns, rows).await?;
        Ok(Sent::All { stored })
    }

    async fn apply(&mut self, plan: &Plan, table: &str, counts: RowCounts, size_bytes: u64) -> Result<RowCounts> {
        match &plan.step {
            Step::Merge(merge) => merge.apply(self, table, &plan.columns, counts, size_bytes).await,
            Step::Send | Step::CreateTable | Step::PrepareMerge(_) => Ok(counts),
        }
    }

    async fn commit(&mut self, limit: Duration, transaction: i64) -> CommitResult {
        let doing = "COMMIT was not answered";
        // The server answers COMMIT of a failed transaction with ROLLBACK, which is not an error and which the driver
        // does not show.
        let sql = format!("COMMIT; SELECT txid_status({transaction}) AS status");
        let (messages, end) = match self.messages(limit, doing, &sql).await {
            Ok(answer) => answer,
            Err(timeout) => return CommitResult::Unknown(timeout),
        };
        match (end, transaction_status(&messages)) {
            (Ok(()), Some("committed")) => CommitResult::Committed,
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
                CommitResult::NotCommitted(failure(Phase::Connected, "the server refused COMMIT", error))
            }
        }
    }
}

/// Whether a missing table may be created in the load's transaction. In the other load modes the table must exist
/// before its key is read, or before it is claimed.
fn may_create_table(request: &Request<'_>) -> bool {
    let is_allowed = matches!(request.schema, FileSchema::Provisional { may_create_table: true, .. });
    is_allowed && request.options.load_mode == LoadMode::Append
}

fn transaction_status(messages: &[SimpleQueryMessage]) -> Option<&str> {
    messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.try_get("status").ok().flatten(),
        _ => None,
    })
}

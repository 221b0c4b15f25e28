//! PostgreSQL: loads rows by COPY FROM STDIN, in the transaction of their ledger row.
//!
//! Each load has its own connection, without a pool. A transaction may have any size, because a rollback is cheap and
//! blocks no other session, so no rows are committed in chunks. A merge stages its rows in a temporary table of the
//! same transaction. Only the Glue job has staging tables that outlive it. The driver's types stay in this module.

mod array;
pub(super) mod check;
mod codes;
pub(super) mod column;
pub(super) mod connect;
mod denial;
mod encoding;
mod failure;
mod key;
mod ledger;
mod merge;
mod mirror;
mod rejection;
mod replace;
pub(super) mod source;
mod staging;
pub(super) mod table;
mod unsupported;
mod widen;
mod write;

use std::time::Duration;

use tokio_postgres::SimpleQueryMessage;

use crate::destination::denial::{needs_temporary_table, read_tables, wanted_tables};
use crate::destination::engine::{LoadConnection, PlanResult, Request, SendOptions, SendResult, StartResult};
use crate::destination::failure::Phase;
use crate::destination::merge::MergeTarget;
use crate::destination::rows::Rows;
use crate::destination::table::{Prepared, prepare};
use crate::destination::{
    CommitResult, Credentials, DestinationOptions, FileSchema, LoadMethod, LoadMode, RowCounts, ScanReason, ValueCheck,
};
use crate::error::{Error, ErrorKind, Position, Result};
use crate::failpoint::Failpoint;
use crate::object::SourceId;
use crate::table_name::TableName;

use column::{Storage, TableColumn};
use connect::Connection;
use failure::{failure, leaves_commit_in_doubt};
use key::MergeKey;
use merge::Merge;
use mirror::MirrorPlan;

/// The table's columns, and how rows are written to it.
#[derive(Debug)]
pub(in crate::destination) struct Plan {
    /// The table's columns in the file's order. Empty until a missing table is created.
    columns: Vec<TableColumn>,
    step: Step,
}

/// How rows are written to the table, and what the transaction must create first.
#[derive(Debug)]
enum Step {
    /// Rows are sent to the table.
    Send,
    /// The missing table is created first.
    CreateTable,
    /// The staging table of a merge is created first.
    PrepareMerge(MergeKey, Option<MirrorPlan>),
    /// Rows are sent to the staging table of a merge.
    Merge(Merge),
}

impl LoadConnection for Connection {
    type Plan = Plan;

    /// Staging tables are temporary and end with their transaction.
    const HAS_STAGING_TABLES: bool = false;

    fn load_statement(&self, _: LoadMethod) -> Result<&'static str> {
        Ok("COPY")
    }

    async fn plan(&mut self, request: &Request<'_>) -> Result<PlanResult<Plan>> {
        match prepare(self, request).await? {
            Prepared::Ready { columns, key } => {
                Failpoint::TableMade.reached().await?;
                let mirror = match (&key, &request.options.load_mode) {
                    (Some(_), LoadMode::Mirror(rules)) => Some(MirrorPlan::new(rules, &request.file.table, &columns)?),
                    (None, LoadMode::Mirror(_)) => None,
                    (_, LoadMode::Append | LoadMode::Replace | LoadMode::Merge { .. } | LoadMode::Changes(_)) => None,
                };
                let step = key.map_or(Step::Send, |key| Step::PrepareMerge(key, mirror));
                Ok(PlanResult::Ready(Plan { columns, step }))
            }
            Prepared::NeedsScan(ScanReason::TableMissing) if may_create_table(request) => {
                Ok(PlanResult::Ready(Plan { columns: Vec::new(), step: Step::CreateTable }))
            }
            Prepared::NeedsScan(reason) => Ok(PlanResult::NeedsScan(reason)),
        }
    }

    async fn start(&mut self, request: &Request<'_>, plan: &mut Plan) -> Result<StartResult> {
        let table = &request.file.table;
        match std::mem::replace(&mut plan.step, Step::Send) {
            Step::CreateTable => {
                let created = table::create_in_transaction(self, request).await?;
                let Some(columns) = created else { return Ok(StartResult::NeedsScan(ScanReason::TableMissing)) };
                plan.columns = columns;
                Failpoint::TableMade.reached().await?;
                return Ok(StartResult::Open(ValueCheck::EveryValue));
            }
            Step::PrepareMerge(key, mirror) => {
                plan.step = Step::Merge(Merge::prepare(self, (key, mirror), table, &plan.columns).await?);
            }
            step @ (Step::Send | Step::Merge(_)) => plan.step = step,
        }
        Ok(StartResult::Open(ValueCheck::NotNeeded))
    }

    fn check_value(
        column: &TableColumn,
        field: Option<&[u8]>,
        scratch: &mut Vec<u8>,
        position: Position,
    ) -> Result<()> {
        check::check(column, field, scratch, position).map(|_| ())
    }

    fn columns(plan: &Plan) -> &[TableColumn] {
        &plan.columns
    }

    fn staging(_: &Plan) -> Option<&str> {
        None
    }

    fn creates_table(plan: &Plan) -> bool {
        matches!(plan.step, Step::CreateTable)
    }

    fn is_reusable(_: &Plan) -> bool {
        true
    }

    async fn delete_rows(&mut self, table: &TableName, columns: &[TableColumn]) -> Result<()> {
        replace::delete_rows(self, table, columns).await
    }

    async fn send(
        &mut self,
        plan: &Plan,
        options: &SendOptions<'_>,
        rows: &mut Rows<'_, Storage>,
    ) -> Result<SendResult> {
        let stored = match &plan.step {
            Step::Merge(merge) => write::load(self, &merge.staging.as_str().into(), &plan.columns, rows).await?,
            Step::Send | Step::CreateTable | Step::PrepareMerge(..) => {
                write::load(self, options.table, &plan.columns, rows).await?
            }
        };
        table::check_types(self, options.table, &plan.columns).await?;
        Ok(SendResult::All { stored })
    }

    async fn mirror_scope(&mut self, plan: &Plan, size_bytes: u64) -> Result<Option<Vec<String>>> {
        match &plan.step {
            Step::Merge(Merge { mirror: Some(mirror), staging, .. }) => {
                mirror.read_scope(self, staging, size_bytes).await
            }
            Step::Merge(_) | Step::Send | Step::CreateTable | Step::PrepareMerge(..) => Ok(None),
        }
    }

    async fn apply(&mut self, plan: &Plan, table: &TableName, counts: RowCounts, size_bytes: u64) -> Result<RowCounts> {
        match &plan.step {
            Step::Merge(merge) => {
                let target = MergeTarget { table, columns: &plan.columns, staged: counts.rows_stored, size_bytes };
                merge.apply(self, &target).await
            }
            Step::Send | Step::CreateTable | Step::PrepareMerge(..) => Ok(counts),
        }
    }

    async fn explain_denial(&mut self, table: Option<&TableName>, options: &DestinationOptions, error: Error) -> Error {
        let of_database = if needs_temporary_table(&options.load_mode) { "TEMPORARY" } else { "" };
        denial::explain(self, &wanted_tables(table, options), of_database, error).await
    }

    async fn explain_denied_read(&mut self, options: &DestinationOptions, error: Error) -> Error {
        denial::explain(self, &read_tables(options), "", error).await
    }

    fn login_grant(credentials: &Credentials) -> String {
        denial::login_grant(credentials)
    }

    async fn missing_grants(&mut self, options: &DestinationOptions) -> Result<String> {
        denial::missing_grants(self, options).await
    }

    async fn drop_stale_staging(&mut self, older_than: Duration, live: &[SourceId]) -> Result<Vec<String>> {
        staging::drop_stale(self, older_than, live).await
    }

    async fn commit(&mut self, limit: Duration, transaction: i64) -> CommitResult {
        let context = "the server did not respond to COMMIT";
        // The server rolls back when it receives COMMIT for a failed transaction. That is not an error, and the driver
        // does not return it, so the status is queried.
        let sql = format!("COMMIT; SELECT txid_status({transaction}) AS status");
        let (messages, end) = match self.messages(limit, context, &sql).await {
            Ok(messages) => messages,
            Err(timeout) => return CommitResult::Unknown(timeout),
        };
        match (end, transaction_status(&messages)) {
            (Ok(()), Some("committed")) => CommitResult::Committed,
            (Ok(()), Some("aborted")) => {
                let message = "the server rolled back at COMMIT, because the transaction had failed before";
                CommitResult::NotCommitted(Error::new(ErrorKind::Conflict, message))
            }
            (Ok(()), _) => {
                let message = "the server does not return whether COMMIT took effect";
                CommitResult::Unknown(Error::new(ErrorKind::Failover, message))
            }
            // An error of the query after COMMIT does not show whether COMMIT took effect.
            (Err(error), _) if !messages.is_empty() || leaves_commit_in_doubt(&error) => {
                CommitResult::Unknown(failure(Phase::Connected, context, error))
            }
            (Err(error), _) => {
                CommitResult::NotCommitted(failure(Phase::Connected, "the server rejected COMMIT", error))
            }
        }
    }
}

/// Whether a missing table may be created in the load's transaction.
///
/// In a merge or a mirror the table must exist before its key is read, and in a replace before it is claimed.
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

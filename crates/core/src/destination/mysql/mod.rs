//! MySQL and MariaDB: loads rows by LOAD DATA LOCAL or INSERT, in the transaction of their ledger row.
//!
//! Each load has its own connection, without a pool. A file above `atomic_max_bytes` is loaded through a staging table.
//! So is every merged file; its staging table is temporary unless the file is large. The driver's types stay in this
//! module.

mod check;
mod codes;
mod column;
pub(super) mod connect;
mod denial;
mod encoding;
mod failure;
mod insert;
mod key;
mod ledger;
mod load_data;
mod merge;
mod mirror;
mod rejection;
mod replace;
pub(super) mod source;
mod staging;
pub(super) mod table;
mod unsupported;
mod widen;
mod wkt;
mod write;

use std::time::Duration;

use crate::destination::column::NullFill;
use crate::destination::denial::{needs_temporary_table, read_tables, wanted_tables};
use crate::destination::engine::{LoadConnection, PlanResult, Request, SendOptions, SendResult, StartResult};
use crate::destination::failure::Phase;
use crate::destination::merge::MergeTarget;
use crate::destination::rows::Rows;
use crate::destination::staging_name;
use crate::destination::table::{Prepared, prepare};
use crate::destination::{
    CommitResult, Credentials, DestinationOptions, LoadMethod, LoadMode, RowCounts, ScanReason, ValueCheck,
};
use crate::error::{Error, Position, Result};
use crate::failpoint::Failpoint;
use crate::object::SourceId;
use crate::table_name::TableName;

use codes::leaves_commit_in_doubt;
use column::{Storage, TableColumn};
use connect::Connection;
use failure::{failure, server_code};
use merge::{Merge, StagingLifetime};
use mirror::MirrorPlan;
use rejection::SentRows;

/// The table's columns, and how rows are written to it.
#[derive(Debug)]
pub(in crate::destination) struct Plan {
    /// The table's columns in the file's order.
    columns: Vec<TableColumn>,
    /// The staging table of a large file, which outlives the connection.
    staging: Option<String>,
    /// The merge, in that load mode.
    merge: Option<Merge>,
}

impl LoadConnection for Connection {
    type Plan = Plan;

    const HAS_STAGING_TABLES: bool = true;

    fn load_statement(&self, method: LoadMethod) -> Result<&'static str> {
        write::statement_name(self, method)
    }

    async fn plan(&mut self, request: &Request<'_>) -> Result<PlanResult<Plan>> {
        let Request { file, schema, options } = *request;
        let (mut columns, key) = match prepare(self, request).await? {
            Prepared::Ready { columns, key } => (columns, key),
            Prepared::NeedsScan(reason) => return Ok(PlanResult::NeedsScan(reason)),
        };
        Failpoint::TableMade.reached().await?;
        let is_large = request.size_bytes() > options.atomic_max_bytes && !columns.is_empty();
        if is_large && schema.body().is_none() {
            return Ok(PlanResult::NeedsScan(ScanReason::SizeUnknown));
        }
        let name = staging_name::new(&file.source.id);
        // Content that is loaded already needs only its ledger row.
        let is_staged = is_large && !self.is_loaded_content(request).await?;
        if is_staged {
            // The staging table would number the rows from 1.
            columns.iter_mut().for_each(|column| column.null_fill = NullFill::Nothing);
        }
        let merge = match key {
            Some(key) => {
                let lifetime = if is_staged { StagingLifetime::UntilDropped } else { StagingLifetime::Connection };
                let mirror = match &options.load_mode {
                    LoadMode::Mirror(rules) => Some(MirrorPlan::new(rules, &file.table, &columns, &name)?),
                    LoadMode::Append | LoadMode::Replace | LoadMode::Merge { .. } | LoadMode::Changes(_) => None,
                };
                Some(Merge::prepare(self, (key, mirror), &columns, name.clone(), lifetime).await?)
            }
            None => {
                if is_staged {
                    staging::create(self, &name, &file.table).await?;
                }
                None
            }
        };
        Ok(PlanResult::Ready(Plan { columns, staging: is_staged.then_some(name), merge }))
    }

    async fn start(&mut self, _: &Request<'_>, _: &mut Plan) -> Result<StartResult> {
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

    fn staging(plan: &Plan) -> Option<&str> {
        plan.staging.as_deref()
    }

    /// A merge leaves temporary tables on its connection.
    fn is_reusable(plan: &Plan) -> bool {
        plan.merge.is_none()
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
        write::send(self, plan, options, rows).await
    }

    async fn mirror_scope(&mut self, plan: &Plan, size_bytes: u64) -> Result<Option<Vec<String>>> {
        match &plan.merge {
            Some(Merge { mirror: Some(mirror), staging, .. }) => mirror.read_scope(self, staging, size_bytes).await,
            Some(Merge { mirror: None, .. }) | None => Ok(None),
        }
    }

    async fn apply(&mut self, plan: &Plan, table: &TableName, counts: RowCounts, size_bytes: u64) -> Result<RowCounts> {
        match plan {
            Plan { merge: Some(merge), columns, .. } => {
                merge.apply(self, &MergeTarget { table, columns, staged: counts.rows_stored, size_bytes }).await
            }
            Plan { merge: None, staging: Some(staging), columns } => {
                // The order of the staging table is not that of the file.
                let rows = SentRows { columns, count: counts.rows_stored, first_record: None };
                staging::copy_from_staging(self, staging, table, &rows, size_bytes).await?;
                Ok(counts)
            }
            Plan { merge: None, staging: None, .. } => Ok(counts),
        }
    }

    async fn explain_denial(&mut self, table: Option<&TableName>, options: &DestinationOptions, error: Error) -> Error {
        denial::explain(self, &wanted_tables(table, options), needs_temporary_table(&options.load_mode), error).await
    }

    async fn explain_denied_read(&mut self, options: &DestinationOptions, error: Error) -> Error {
        denial::explain(self, &read_tables(options), false, error).await
    }

    fn login_grant(credentials: &Credentials) -> String {
        denial::login_grant(credentials)
    }

    async fn missing_grants(&mut self, options: &DestinationOptions) -> Result<String> {
        denial::missing_grants(self, options).await
    }

    async fn commit(&mut self, limit: Duration, (): ()) -> CommitResult {
        let context = "the server did not respond to COMMIT";
        match self.run_raw(limit, context, b"COMMIT").await {
            Ok(Ok(_)) => CommitResult::Committed,
            Ok(Err(error)) if server_code(&error).is_some_and(|code| !leaves_commit_in_doubt(code)) => {
                CommitResult::NotCommitted(failure(Phase::Connected, "the server rejected COMMIT", error))
            }
            Ok(Err(error)) => CommitResult::Unknown(failure(Phase::Connected, context, error)),
            Err(timeout) => CommitResult::Unknown(timeout),
        }
    }

    async fn drop_staging(&mut self, plan: &mut Plan) -> Result<()> {
        match plan.staging.take() {
            Some(staging) => staging::drop_table(self, &staging).await,
            None => Ok(()),
        }
    }

    async fn drop_stale_staging(&mut self, older_than: Duration, live: &[SourceId]) -> Result<Vec<String>> {
        staging::drop_stale(self, older_than, live).await
    }
}

impl Connection {
    async fn is_loaded_content(&mut self, request: &Request<'_>) -> Result<bool> {
        match request.schema.body().and_then(|body| body.content_id.as_deref()) {
            Some(content_id) => request.ledger().has_content(self, content_id).await,
            None => Ok(false),
        }
    }
}

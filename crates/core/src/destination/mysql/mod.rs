//! MySQL and MariaDB: rows by LOAD DATA LOCAL (or INSERT), and their ledger row, in one transaction.
//!
//! Each load has a connection of its own, without a pool. A file above `atomic_max_bytes` is loaded through a staging
//! table, and so is every file that is merged (through a temporary one when it is small). The driver's types stay in
//! this module.

mod check;
mod codes;
mod column;
pub(super) mod connect;
mod encoding;
mod failure;
mod insert;
mod key;
mod ledger;
mod load_data;
mod merge;
mod rejection;
mod replace;
mod staging;
mod table;
mod unsupported;
mod write;

use std::time::Duration;

use crate::destination::engine::{LoadConnection, Planned, Request, Sending, Sent, Started};
use crate::destination::failure::Phase;
use crate::destination::rows::Rows;
use crate::destination::{CommitResult, Credentials, DestinationOptions, Guard, RowCounts, ScanReason};
use crate::error::Result;
use crate::failpoint::Failpoint;
use crate::object::SourceId;

use codes::leaves_commit_open;
use column::{Storage, TableColumn};
use connect::Connection;
use failure::{failure, server_code};
use merge::{Keep, Merge};
use table::Prepared;

/// The table's columns, and how rows get into it.
#[derive(Debug)]
pub(in crate::destination) struct Plan {
    /// The table's columns in the file's order.
    columns: Vec<TableColumn>,
    /// The staging table of a large file, which outlives the connection.
    staging: Option<String>,
    /// The merge, in that mode.
    merge: Option<Merge>,
}

impl LoadConnection for Connection {
    type Storage = Storage;
    type Plan = Plan;

    const HAS_STAGING_TABLES: bool = true;

    async fn open(credentials: &Credentials, options: &DestinationOptions) -> Result<Self> {
        Self::connect(credentials, options).await
    }

    async fn plan(&mut self, request: &Request<'_>) -> Result<Planned<Plan>> {
        let Request { file, schema, options } = *request;
        let (columns, key) = match table::prepare(self, &file.table, schema, options).await? {
            Prepared::Ready { columns, key } => (columns, key),
            Prepared::NeedsScan(reason) => return Ok(Planned::NeedsScan(reason)),
        };
        Failpoint::TableMade.reached().await;
        let is_large = request.size_bytes() > options.atomic_max_bytes && !columns.is_empty();
        if is_large && schema.body().is_none() {
            return Ok(Planned::NeedsScan(ScanReason::SizeUnknown));
        }
        let name = staging::name(&file.source.id);
        // Content that is loaded already only needs its ledger row, without any staging.
        let is_staged = is_large && !self.is_loaded_content(request).await?;
        let merge = match (key, is_staged) {
            (Some(key), true) => Some(Merge::prepare(self, key, &columns, name.clone(), Keep::UntilDropped).await?),
            (Some(key), false) => Some(Merge::prepare(self, key, &columns, name.clone(), Keep::Session).await?),
            (None, true) => {
                staging::create(self, &name, &file.table).await?;
                None
            }
            (None, false) => None,
        };
        Ok(Planned::Ready(Plan { columns, staging: is_staged.then_some(name), merge }))
    }

    async fn start(&mut self, _: &Request<'_>, _: &mut Plan) -> Result<Started> {
        Ok(Started::Open(Guard::NotNeeded))
    }

    fn columns(plan: &Plan) -> &[TableColumn] {
        &plan.columns
    }

    fn staging(plan: &Plan) -> Option<&str> {
        plan.staging.as_deref()
    }

    /// The temporary tables of a merge end with their connection.
    fn is_reusable(plan: &Plan) -> bool {
        plan.merge.is_none()
    }

    async fn delete_rows(&mut self, table: &str, columns: &[TableColumn]) -> Result<()> {
        replace::delete_rows(self, table, columns).await
    }

    async fn send(&mut self, plan: &Plan, sending: &Sending<'_>, rows: &mut Rows<'_, Storage>) -> Result<Sent> {
        write::send(self, plan, sending, rows).await
    }

    async fn apply(&mut self, plan: &Plan, table: &str, counts: RowCounts, size_bytes: u64) -> Result<RowCounts> {
        match plan {
            Plan { merge: Some(merge), columns, .. } => merge.apply(self, table, columns, counts, size_bytes).await,
            Plan { merge: None, staging: Some(staging), columns } => {
                staging::copy_from_staging(self, staging, table, columns, counts.rows_stored, size_bytes).await?;
                Ok(counts)
            }
            Plan { merge: None, staging: None, .. } => Ok(counts),
        }
    }

    async fn commit(&mut self, limit: Duration, (): ()) -> CommitResult {
        let doing = "COMMIT was not answered";
        match self.run_raw(limit, doing, b"COMMIT").await {
            Ok(Ok(_)) => CommitResult::Committed,
            Ok(Err(error)) if server_code(&error).is_some_and(|code| !leaves_commit_open(code)) => {
                CommitResult::NotCommitted(failure(Phase::Connected, "the server refused COMMIT", error))
            }
            Ok(Err(error)) => CommitResult::Unknown(failure(Phase::Connected, doing, error)),
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

//! The status request: shows what waits, or where one file is and why. Reads only, and works while the database is
//! down.

mod file;

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::deadline::Deadline;
use crate::destination::SyncState;
use crate::error::{Result, chain};
use crate::fallback::{self, Manifest};
use crate::object::ObjectRef;
use crate::pipeline::{Context, ask};
use crate::policy;
use crate::reconcile::{Files, age_seconds, uploaded_files};
use crate::store::lease::{self, LeaseInfo};
use crate::store::read::ListedObject;

pub use file::{FallbackStatus, FileState, FileStatus, LedgerStatus, ReasonFile, StoredFile};

/// The parameters of a status request.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StatusRequest {
    /// The key that a file was uploaded to. Without it, the status is about everything that waits.
    #[serde(default)]
    pub key: Option<String>,
}

/// The response to a status request.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Status {
    /// What waits.
    Backlog(BacklogStatus),
    /// Where one file is.
    File(Box<FileStatus>),
}

/// What waits in the bucket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BacklogStatus {
    /// The files under the upload prefixes, including those that are being loaded. Files that stay in place are not among
    /// them if the ledger says that they need no load.
    pub waiting: Waiting,
    /// The rows in the fallback, by table.
    pub fallback: Vec<TableBacklog>,
    /// The live leases: the files that are being loaded or replayed.
    pub leases: Vec<LeaseStatus>,
    /// The watermark and the last sync of each table that was synced. None while the database is not available.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub syncs: Vec<SyncState>,
    /// Whether the database is available.
    pub database: DatabaseStatus,
}

/// The files under the upload prefixes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Waiting {
    /// Number of files.
    pub files: usize,
    /// The file that was uploaded first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oldest: Option<OldestFile>,
}

/// The file that has waited longest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OldestFile {
    /// Its key.
    pub key: String,
    /// Its age in seconds.
    pub age_seconds: u64,
}

/// The rows of one table in the fallback.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TableBacklog {
    /// The table that the rows are to be loaded into.
    pub table: String,
    /// Number of files.
    pub files: usize,
    /// Number of rows.
    pub rows: u64,
    /// Age of the oldest fallback in seconds.
    pub oldest_age_seconds: u64,
}

/// A live lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LeaseStatus {
    /// The key of the object, if the lease names it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The worker that holds it.
    pub worker: String,
    /// When it was acquired.
    pub acquired_at: Timestamp,
    /// When it expires, unless the worker renews it.
    pub expires_at: Timestamp,
}

/// Whether the database is available.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DatabaseStatus {
    /// Whether a query succeeds.
    pub available: bool,
    /// The error, with advice; `None` if the database is available.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Returns what waits, or where the file of the request is.
///
/// # Errors
/// When S3 cannot be read. A database that is down is part of the status.
pub(crate) async fn status(
    context: &Context,
    bucket: &str,
    request: &StatusRequest,
    deadline: &Deadline,
) -> Result<Status> {
    Ok(match &request.key {
        Some(key) => Status::File(Box::new(file::file(context, &ObjectRef::new(bucket, key), deadline).await?)),
        None => Status::Backlog(backlog(context, bucket, deadline).await?),
    })
}

async fn backlog(context: &Context, bucket: &str, deadline: &Deadline) -> Result<BacklogStatus> {
    let Context { store, settings, .. } = context;
    let (files, manifests, leases, (database, syncs)) = tokio::join!(
        waiting_files(context, bucket, deadline),
        fallback::list(store, bucket, settings, None),
        live_leases(context, bucket),
        database(context, bucket, deadline),
    );
    let files = files?;
    let oldest = files
        .first()
        .map(|file: &ListedObject| OldestFile { key: file.key.clone(), age_seconds: age_seconds(file.last_modified) });
    Ok(BacklogStatus {
        waiting: Waiting { files: files.len(), oldest },
        fallback: by_table(&manifests?),
        leases: leases?.iter().map(LeaseStatus::of).collect(),
        syncs,
        database,
    })
}

/// Returns the files that wait, oldest first. While the ledger cannot be read, files that stay in place count as waiting.
async fn waiting_files(context: &Context, bucket: &str, deadline: &Deadline) -> Result<Vec<ListedObject>> {
    let files = uploaded_files(context, bucket).await?;
    let Files { mut pending, unknown, .. } = Box::pin(Files::sort(context, bucket, files, deadline)).await;
    pending.extend(unknown);
    pending.sort_by_key(|file| file.last_modified);
    Ok(pending)
}

/// Returns the leases that have not expired.
async fn live_leases(context: &Context, bucket: &str) -> Result<Vec<LeaseInfo>> {
    let mut leases = lease::leases(&context.store, bucket, &context.settings.prefixes.lease).await?;
    leases.retain(|lease| lease.expires_at >= Timestamp::now());
    Ok(leases)
}

/// Asks the database for the ledger rows of a key that no object has, where only the connection and the ledger matter, and for
/// the watermarks.
async fn database(context: &Context, bucket: &str, deadline: &Deadline) -> (DatabaseStatus, Vec<SyncState>) {
    let nothing = ObjectRef::new(bucket, "");
    let response = ask(context, deadline, async |database| {
        database.history(&nothing).await?;
        Ok(database.syncs(bucket).await.unwrap_or_else(|error| {
            warn!(error = %chain(&error), "the watermarks cannot be read");
            Vec::new()
        }))
    });
    match response.await {
        Ok(syncs) => (DatabaseStatus { available: true, reason: None }, syncs),
        Err(error) => (DatabaseStatus { available: false, reason: Some(policy::describe(&error)) }, Vec::new()),
    }
}

fn by_table(manifests: &[Manifest]) -> Vec<TableBacklog> {
    let mut tables: BTreeMap<&str, TableBacklog> = BTreeMap::new();
    for manifest in manifests {
        let backlog = tables.entry(&manifest.target_table).or_insert_with(|| TableBacklog {
            table: manifest.target_table.to_string(),
            files: 0,
            rows: 0,
            oldest_age_seconds: 0,
        });
        backlog.files += 1;
        backlog.rows += manifest.rows;
        backlog.oldest_age_seconds = backlog.oldest_age_seconds.max(age_seconds(manifest.written_at));
    }
    tables.into_values().collect()
}

impl LeaseStatus {
    fn of(lease: &LeaseInfo) -> Self {
        Self {
            key: lease.object.as_ref().map(|object| object.key.clone()),
            worker: lease.worker.clone(),
            acquired_at: lease.acquired_at,
            expires_at: lease.expires_at,
        }
    }
}

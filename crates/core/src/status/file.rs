//! Finds one file: its object, lease, moved objects, fallback, reason, rejects and ledger rows.
//!
//! A moved object is found by its name, which contains the path below the upload prefix. So a file with the same path
//! below another upload prefix is found too.

mod explanation;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use tracing::warn;

use super::{LeaseStatus, live_leases};
use crate::deadline::Deadline;
use crate::destination::{HistoryEntry, LedgerState, Run, RunFilter, RunPage, RunPlaces};
use crate::error::{ErrorKind, Result, chain};
use crate::fallback::{self, Manifest};
use crate::object::{ObjectRef, ObjectVersion};
use crate::pipeline::{Context, GlueRun, ask, last_run};
use crate::policy;
use crate::route::{self, MovedName};
use crate::store::read::ListedObject;

/// Number of attempts that are shown.
const MAX_ATTEMPTS: usize = 20;

/// Upper bound for the size of a reason file.
const MAX_REASON_BYTES: u64 = 1 << 20;

/// Where a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FileState {
    /// The object is at its key, and no worker is loading it.
    Waiting,
    /// A worker holds its lease, or a run of the Glue job is under way.
    Loading,
    /// Nothing is left to load: its rows are in the table, or a newer file has replaced them.
    Loaded,
    /// Its rows are in the fallback.
    FellBack,
    /// It is broken, its key yields no table, or it was parked. None of its rows is stored.
    Rejected,
    /// Nothing was found.
    Unknown,
}

/// Where a file is, and why.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FileStatus {
    /// The key of the upload.
    pub key: String,
    /// The state of the latest version.
    pub state: FileState,
    /// The state in a sentence, and what the user can do.
    pub explanation: String,
    /// The object at the key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object: Option<StoredFile>,
    /// The live lease on a version of the object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lease: Option<LeaseStatus>,
    /// The last run of the Glue job for the object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub glue_run: Option<GlueRun>,
    /// The objects under the processed and the failed prefix that were moved from the key, newest first.
    pub moved: Vec<StoredFile>,
    /// The latest rows in the fallback.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fallback: Option<FallbackStatus>,
    /// The latest reason file under the failed prefix.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<ReasonFile>,
    /// The rejected records of the latest version, and the errors of each.
    pub rejects: Vec<StoredFile>,
    /// The ledger rows of the key.
    pub ledger: LedgerStatus,
    /// The latest attempts at the key, newest first, also those that failed.
    pub attempts: Vec<Run>,
}

/// An object in the bucket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StoredFile {
    /// The key.
    pub key: String,
    /// The version id, in a versioned bucket. Listings do not contain it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version_id: Option<String>,
    /// The size in bytes.
    pub size_bytes: u64,
    /// When it was written.
    pub last_modified: Timestamp,
    /// The ETag, including its quotes.
    pub etag: String,
}

/// Rows in the fallback, from their manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FallbackStatus {
    /// The table that the rows are to be loaded into.
    pub table: String,
    /// Number of rows.
    pub rows: u64,
    /// The reason.
    pub reason: String,
    /// When the manifest was written.
    pub written_at: Timestamp,
    /// The key of the fallback object.
    pub key: String,
    /// The Glue table, if the manifest names it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub glue_table: Option<String>,
}

/// A reason file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReasonFile {
    /// Its key.
    pub key: String,
    /// Its content: the reason, its position in the file and a hint.
    pub content: Value,
}

/// The ledger rows of a key, or why the ledger cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LedgerStatus {
    /// The latest rows, newest first.
    pub rows: Vec<HistoryEntry>,
    /// The error of the database, with advice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// An object that was moved from the key, or its reason file.
#[derive(Debug)]
struct Moved {
    /// The start of the version's identity.
    id_start: String,
    is_processed: bool,
    is_reason: bool,
    file: StoredFile,
}

/// A state that a version of the file had at some time, as an object, a manifest or a ledger row shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Trace {
    at: Timestamp,
    state: FileState,
    /// The start of the version's identity.
    id_start: String,
}

/// Returns where a file is.
///
/// # Errors
/// When S3 cannot be read.
pub(super) async fn file(context: &Context, object: &ObjectRef, deadline: &Deadline) -> Result<FileStatus> {
    let (current, leases, manifest, moved, (ledger, attempts)) = tokio::join!(
        current(context, object),
        live_leases(context, &object.bucket),
        latest_manifest(context, object),
        moved(context, object),
        ledger(context, object, deadline),
    );
    let (current, manifest, moved) = (current?, manifest?, moved?);
    let is_meant = |leased: &ObjectRef| (&leased.bucket, &leased.key) == (&object.bucket, &object.key);
    let lease = leases?.into_iter().find(|lease| lease.object.as_ref().is_some_and(is_meant));
    let latest = latest(manifest.as_ref(), &moved, &ledger.rows);
    let id_start = match (&current, &latest) {
        (Some(current), _) => Some(current.id.as_str()),
        (None, Some(latest)) => Some(latest.id_start.as_str()),
        (None, None) => None,
    };
    let mut status = FileStatus {
        key: object.key.clone(),
        state: FileState::Unknown,
        explanation: String::new(),
        object: current.as_ref().map(StoredFile::of_version),
        lease: lease.as_ref().map(LeaseStatus::of),
        glue_run: match &current {
            Some(current) => last_run(context, current).await?,
            None => None,
        },
        fallback: manifest.as_ref().map(FallbackStatus::of),
        reason: reason(context, &object.bucket, &moved).await?,
        rejects: rejects(context, object, manifest.as_ref(), id_start).await?,
        moved: moved.into_iter().filter(|moved| !moved.is_reason).map(|moved| moved.file).collect(),
        ledger,
        attempts,
    };
    status.state = state(&status, current.as_ref(), manifest.as_ref(), latest.as_ref());
    status.explanation = explanation::of(&status, &context.settings, object);
    Ok(status)
}

/// The state of the latest version. Every other field is set.
fn state(
    status: &FileStatus,
    current: Option<&ObjectVersion>,
    manifest: Option<&Manifest>,
    latest: Option<&Trace>,
) -> FileState {
    match (&status.lease, current) {
        (Some(_), _) => FileState::Loading,
        (None, Some(current)) => match state_in_place(current, manifest, &status.ledger.rows) {
            // A run that waits or starts has no lease yet.
            FileState::Waiting if status.glue_run.as_ref().is_some_and(|run| run.is_under_way) => FileState::Loading,
            state => state,
        },
        (None, None) => latest.map_or(FileState::Unknown, |latest| latest.state),
    }
}

/// The version of the object that is at its key.
async fn current(context: &Context, object: &ObjectRef) -> Result<Option<ObjectVersion>> {
    match context.store.head(object).await {
        Ok(version) => Ok(Some(version)),
        Err(error) if error.kind() == ErrorKind::SourceMissing => Ok(None),
        Err(error) => Err(error),
    }
}

async fn latest_manifest(context: &Context, object: &ObjectRef) -> Result<Option<Manifest>> {
    let manifests = fallback::list(&context.store, &object.bucket, &context.settings, None).await?;
    let of_key = manifests.into_iter().filter(|manifest| manifest.source.object.key == object.key);
    Ok(of_key.max_by_key(|manifest| manifest.written_at))
}

/// The moved objects and reason files, newest first.
async fn moved(context: &Context, object: &ObjectRef) -> Result<Vec<Moved>> {
    let prefixes = &context.settings.prefixes;
    let mut found = Vec::new();
    for (prefix, is_processed) in [(&prefixes.processed, true), (&prefixes.failed, false)] {
        let name = MovedName::of(prefix, prefixes, &object.key);
        let mut pages = context.store.list(&object.bucket, &name.start);
        while let Some(page) = pages.next().await? {
            for listed in page {
                let of_reason = route::key_of_reason(&listed.key);
                let Some(id) = name.short_id(of_reason.unwrap_or(&listed.key)) else { continue };
                let (id_start, is_reason) = (id.to_owned(), of_reason.is_some());
                found.push(Moved { id_start, is_processed, is_reason, file: StoredFile::of_listed(listed) });
            }
        }
    }
    found.sort_by_key(|moved| std::cmp::Reverse(moved.file.last_modified));
    Ok(found)
}

/// The ledger rows of the key, and the attempts at it. An error of the history is only logged.
async fn ledger(context: &Context, object: &ObjectRef, deadline: &Deadline) -> (LedgerStatus, Vec<Run>) {
    let filter = RunFilter {
        places: RunPlaces::Bucket(object.bucket.clone()),
        key: Some(object.key.clone()),
        limit: MAX_ATTEMPTS,
        ..RunFilter::default()
    };
    let read = ask(context, deadline, async |database| {
        let rows = database.history(object).await?;
        let attempts = database.runs(&filter).await.unwrap_or_else(|error| {
            warn!(error = %chain(&error), "the attempt history cannot be read");
            RunPage::default()
        });
        Ok((rows, attempts.runs))
    });
    match read.await {
        Ok((rows, attempts)) => (LedgerStatus { rows, error: None }, attempts),
        Err(error) => (LedgerStatus { rows: Vec::new(), error: Some(policy::describe(&error)) }, Vec::new()),
    }
}

/// The latest reason file. One that cannot be parsed is returned as text.
async fn reason(context: &Context, bucket: &str, moved: &[Moved]) -> Result<Option<ReasonFile>> {
    let Some(Moved { file, .. }) = moved.iter().find(|moved| moved.is_reason) else { return Ok(None) };
    let Some(small) = context.store.read_small(bucket, &file.key, MAX_REASON_BYTES).await? else { return Ok(None) };
    let content = serde_json::from_slice(&small.bytes)
        .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&small.bytes).into_owned()));
    Ok(Some(ReasonFile { key: file.key.clone(), content }))
}

/// The rejected records of the version whose identity begins with `id_start`.
async fn rejects(
    context: &Context,
    object: &ObjectRef,
    manifest: Option<&Manifest>,
    id_start: Option<&str>,
) -> Result<Vec<StoredFile>> {
    let settings = &context.settings;
    let table = match manifest {
        Some(manifest) => Some(manifest.target_table.clone()),
        None => settings.key_parts(&object.key).ok().map(|parts| parts.table),
    };
    let (Some(table), Some(id_start)) = (table, id_start) else { return Ok(Vec::new()) };
    let prefix = route::rejects_prefix(&settings.prefixes, &table, id_start);
    let found = context.store.list_matching(&object.bucket, &[prefix], |_| true).await?;
    Ok(found.into_iter().map(StoredFile::of_listed).collect())
}

/// The latest trace of a file that is not at its key.
fn latest(manifest: Option<&Manifest>, moved: &[Moved], rows: &[HistoryEntry]) -> Option<Trace> {
    let of_manifest = manifest.map(|manifest| Trace {
        at: manifest.written_at,
        state: FileState::FellBack,
        id_start: manifest.source.id.to_string(),
    });
    let of_rows = rows.iter().map(|row| Trace {
        at: row.committed_at.unwrap_or(row.started_at),
        state: FileState::of(row.state),
        id_start: row.source_id.clone(),
    });
    // The ledger is more reliable than the prefix: a replayed file may still be under the failed prefix.
    let is_in_ledger = |moved: &&Moved| rows.iter().any(|row| row.source_id.starts_with(&moved.id_start));
    let has_reason = |id: &str| moved.iter().any(|other| other.is_reason && other.id_start == id);
    let of_moved = moved.iter().filter(|moved| !is_in_ledger(moved)).map(|moved| Trace {
        at: moved.file.last_modified,
        state: match (moved.is_processed, has_reason(&moved.id_start)) {
            (true, _) => FileState::Loaded,
            (false, true) => FileState::Rejected,
            (false, false) => FileState::FellBack,
        },
        id_start: moved.id_start.clone(),
    });
    of_manifest.into_iter().chain(of_moved).chain(of_rows).max_by_key(|trace| trace.at)
}

/// The state of a version that is at its key and has no live lease.
fn state_in_place(current: &ObjectVersion, manifest: Option<&Manifest>, rows: &[HistoryEntry]) -> FileState {
    let is_current = |row: &&HistoryEntry| row.source_id == current.id.as_str();
    if rows.iter().find(is_current).is_some_and(|row| row.state.needs_no_load()) {
        return FileState::Loaded;
    }
    match manifest.is_some_and(|manifest| manifest.source.id == current.id) {
        true => FileState::FellBack,
        false => FileState::Waiting,
    }
}

impl FileState {
    fn of(state: LedgerState) -> Self {
        match state {
            LedgerState::Loaded | LedgerState::Duplicate | LedgerState::Superseded => Self::Loaded,
            LedgerState::FellBack => Self::FellBack,
            LedgerState::Rejected => Self::Rejected,
        }
    }
}

impl StoredFile {
    fn of_version(version: &ObjectVersion) -> Self {
        Self {
            key: version.object.key.clone(),
            version_id: version.object.version_id.clone(),
            size_bytes: version.size_bytes,
            last_modified: version.last_modified,
            etag: version.etag.clone(),
        }
    }

    fn of_listed(listed: ListedObject) -> Self {
        let ListedObject { key, size_bytes, etag, last_modified } = listed;
        Self { key, version_id: None, size_bytes, last_modified, etag }
    }
}

impl FallbackStatus {
    fn of(manifest: &Manifest) -> Self {
        Self {
            table: manifest.target_table.to_string(),
            rows: manifest.rows,
            reason: manifest.reason.clone(),
            written_at: manifest.written_at,
            key: manifest.key.clone(),
            glue_table: manifest.glue_table.clone(),
        }
    }
}

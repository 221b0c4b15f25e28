//! Writes two objects for a file with bad records: the records, copied byte for byte, and the error of each.
//!
//! Both objects are written before the rows are committed or the fallback is completed. If a worker dies in between,
//! the next attempt writes them again. A worker reads the ETags of existing objects, then verifies its lease, and
//! changes only objects with these ETags. So a worker that has lost its lease never changes the objects of its
//! successor.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::error::{Error, ErrorKind, Result, chain};
use crate::failpoint::Failpoint;
use crate::key_columns::KeyColumn;
use crate::object::ObjectRef;
use crate::pattern::KeyParts;
use crate::pipeline::{Attempt, FileRows, PipelineConfig};
use crate::reader::{FileLayout, FileReader};
use crate::route;
use crate::store::Store;
use crate::store::upload::Upload;
use crate::store::write::{Created, Deleted};
use crate::table_name::TableName;
use spillway_formats::decoder::Layout;
use spillway_formats::reject::{Reject, RejectCode};

/// Number of bytes of the error file that are read for its first line, which names the original file.
const ERRORS_HEAD_BYTES: u64 = 64 * 1024;

/// One line of the error file.
#[derive(Debug, Serialize)]
struct ErrorLine<'a> {
    object_key: &'a str,
    record: u64,
    line: u64,
    byte: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<&'a str>,
    code: RejectCode,
    reason: &'a str,
}

impl Attempt<'_> {
    /// Whether the file has records that were rejected from another file, and that a person has corrected.
    pub(super) fn has_corrected_records(&self) -> bool {
        route::rejects_table(&self.context.settings.prefixes, &self.source.object.key).is_some()
    }
}

/// The keys of the rejected records and of their errors.
fn keys(attempt: &Attempt<'_>) -> [String; 2] {
    let (prefixes, source) = (&attempt.context.settings.prefixes, &attempt.source);
    [
        route::rejects_key(prefixes, &attempt.table_name(), &source.object.key, &source.id),
        route::reject_errors_key(prefixes, &attempt.table_name(), &source.id),
    ]
}

/// Returns the key of the file that contained these records, from their error file; `None` without an error file.
///
/// # Errors
/// When S3 fails.
pub(super) async fn original_key(store: &Store, object: &ObjectRef) -> Result<Option<String>> {
    #[derive(Deserialize)]
    struct Line {
        object_key: Option<String>,
    }
    let errors = ObjectRef::new(&object.bucket, route::errors_key_for(&object.key));
    let source = match store.head(&errors).await {
        Ok(source) => source,
        Err(error) if error.kind() == ErrorKind::SourceMissing => return Ok(None),
        Err(error) => return Err(error),
    };
    let head = store.read_range(&errors, &source.etag, 0..source.size_bytes.min(ERRORS_HEAD_BYTES)).await?;
    let first = head.split(|byte| *byte == b'\n').next().unwrap_or_default();
    Ok(serde_json::from_slice(first).ok().and_then(|line: Line| line.object_key))
}

/// Returns the table of corrected records, whatever the patterns say now, and the parts of the original file's key.
///
/// # Errors
/// When the table is one of Spillway's own, or when `KEY_COLUMNS` or the table settings need the original key and it is
/// unknown.
pub(super) fn key_parts(settings: &PipelineConfig, table: TableName, original_key: Option<&str>) -> Result<KeyParts> {
    settings.check_not_own(&table)?;
    let config = settings.table(&table, original_key.unwrap_or_default());
    let needs_parts = config.key_columns.iter().any(|column| matches!(column, KeyColumn::Part(_)));
    let needs_key = needs_parts || settings.database.tables.current().has_patterns_of_entries();
    if !needs_parts && (!needs_key || original_key.is_some()) {
        return Ok(KeyParts { table, ..KeyParts::default() });
    }
    let original_key = original_key.ok_or_else(|| {
        let message = "KEY_COLUMNS or the table settings need the key of the file that contained these records, but their error \
             file (.jsonl), which names that file in object_key, is missing or does not contain JSON lines; restore it";
        Error::new(ErrorKind::KeyRefused, message)
    })?;
    Ok(KeyParts { table, ..settings.key_parts(original_key)? })
}

/// Deletes the rejects of earlier attempts. None of these attempts has committed.
///
/// # Errors
/// When they may still exist, or another worker has taken over. Then do not commit.
pub(super) async fn remove_earlier(attempt: &Attempt<'_>) -> Result<()> {
    // Without MAX_REJECTS, only a worker that died before can have written some: an attempt that fails deletes its own.
    if !attempt.config.files.limits.rejects.is_on() && !attempt.has_dead_predecessor() {
        return Ok(());
    }
    remove(attempt).await
}

/// Deletes the rejects that a failed attempt has written, so that they do not stay if `MAX_REJECTS` is turned off before the next one.
///
/// If rows may be committed, or are in the fallback, their rejects are needed.
pub(super) async fn remove_own(attempt: &Attempt<'_>) {
    if !attempt.has_written_rejects() || attempt.is_commit_in_doubt() {
        return;
    }
    if let Err(error) = remove(attempt).await {
        warn!(error = %chain(&error), "the rejected records of the failed attempt could not be deleted; the next attempt replaces them");
    }
}

/// Deletes the rejects of a file that is rejected as a whole. Only a worker that died, or this attempt, can have written some.
///
/// # Errors
/// As [`remove_earlier`].
pub(super) async fn remove_of_rejected(attempt: &Attempt<'_>) -> Result<()> {
    if attempt.has_dead_predecessor() || attempt.has_written_rejects() { remove(attempt).await } else { Ok(()) }
}

async fn remove(attempt: &Attempt<'_>) -> Result<()> {
    let found = look_up(attempt, false).await?;
    let (store, bucket) = (&attempt.context.store, &attempt.source.object.bucket);
    for (key, etag) in keys(attempt).iter().zip(found) {
        let Some(etag) = etag else { continue };
        match store.delete_if(bucket, key, &etag).await? {
            Deleted::Done | Deleted::Gone => {}
            Deleted::Changed => return Err(taken_over(key)),
        }
    }
    Ok(())
}

/// Returns the ETags of the records and the errors that earlier attempts wrote; `None` for a missing object.
///
/// If the caller will change the objects, verifies the lease after reading them. That proves that no successor wrote
/// them.
async fn look_up(attempt: &Attempt<'_>, will_write: bool) -> Result<[Option<String>; 2]> {
    Failpoint::BeforeRejects.reached().await?;
    let (store, bucket, [records, errors]) = (&attempt.context.store, &attempt.source.object.bucket, keys(attempt));
    let (records, errors) = tokio::try_join!(store.etag_of(bucket, &records), store.etag_of(bucket, &errors))?;
    if will_write || records.is_some() || errors.is_some() {
        attempt.verify_lease().await?;
        Failpoint::RejectsLookedUp.reached().await?;
    }
    Ok([records, errors])
}

/// Writes the records that the scan rejected and the records in `table_rejects`.
///
/// # Errors
/// When they may be incomplete. Then do not commit.
pub(super) async fn write(attempt: &Attempt<'_>, rows: &FileRows<'_>, table_rejects: Vec<Reject>) -> Result<()> {
    let Some((reader, scan)) = rows.scanned_file() else { return Ok(()) };
    let FileLayout::Streaming(layout) = &scan.layout else { return Ok(()) };
    if !attempt.config.files.limits.rejects.is_on() {
        return remove_earlier(attempt).await;
    }
    let mut rejects = [rows.rejects(), &table_rejects].concat();
    if rejects.is_empty() {
        return remove_earlier(attempt).await;
    }
    let found = look_up(attempt, true).await?;
    attempt.note_written_rejects();
    rejects.sort_by_key(|reject| reject.position.byte);
    let (store, bucket, keys) = (&attempt.context.store, &attempt.source.object.bucket, keys(attempt));
    let content_type = match layout {
        Layout::Csv(_) => "text/csv",
        Layout::Json { .. } => "application/x-ndjson",
    };
    let mut records = store.upload(bucket, &keys[0], content_type);
    let mut errors = store.upload(bucket, &keys[1], "application/x-ndjson");
    let copied = copy_records(reader, layout, rejects, &attempt.original_key, (&mut records, &mut errors)).await;
    if let Err(error) = copied {
        // Return the first error; the cleanup aborts uploads that could not be aborted here.
        let _ = records.abort().await;
        let _ = errors.abort().await;
        return Err(error);
    }
    for ((key, upload), etag) in keys.iter().zip([records, errors]).zip(found).rev() {
        // Overwrite instead of delete and create: if a successor wrote the same bytes, the ETag is the same, and its
        // object stays as it is.
        let created = match etag {
            Some(etag) => upload.finish_over(&etag).await?,
            None => upload.finish_new().await?,
        };
        if created == Created::Exists {
            return Err(taken_over(key));
        }
    }
    Failpoint::RejectsWritten.reached().await?;
    Ok(())
}

/// Receives rejected records or their errors: an object in S3 or a file of this machine.
pub(crate) trait RejectWriter: Send {
    /// Appends bytes.
    fn append(&mut self, bytes: &[u8]) -> impl Future<Output = Result<()>> + Send;
}

impl RejectWriter for Upload {
    async fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.write(bytes).await
    }
}

/// Reads the file once more, and copies its header and the rejected records, each with its error. Skipped lines above and below
/// the records are copied too, because the settings skip them when the corrected records are loaded.
pub(crate) async fn copy_records<W: RejectWriter>(
    reader: &FileReader,
    layout: &Layout,
    rejects: Vec<Reject>,
    original_key: &str,
    (records, errors): (&mut W, &mut W),
) -> Result<()> {
    let starts = rejects.iter().map(|reject| reject.position.byte);
    let (mut bytes, mut extractor) = reader.records(layout, starts).await?;
    let mut rejects = VecDeque::from(rejects);
    let mut has_ended = false;
    while !has_ended && (!rejects.is_empty() || extractor.has_footer()) {
        match bytes.next().await? {
            Some(chunk) => extractor.push(&chunk)?,
            None => {
                extractor.finish()?;
                has_ended = true;
            }
        }
        while let Some(record) = extractor.next_record()? {
            records.append(record.bytes).await?;
            if !record.bytes.ends_with(b"\n") && !record.bytes.ends_with(b"\r") {
                records.append(b"\n").await?;
            }
            if let Some(reject) = rejects.pop_front_if(|reject| reject.position.byte == record.start) {
                errors.append(&error_line(original_key, &reject)?).await?;
            }
        }
    }
    if rejects.is_empty() { Ok(()) } else { Err(not_found_again()) }
}

fn error_line(object_key: &str, reject: &Reject) -> Result<Vec<u8>> {
    let Reject { position, code, column, reason } = reject;
    let line = ErrorLine {
        object_key,
        record: position.record,
        line: position.line,
        byte: position.byte,
        column: column.as_deref(),
        code: *code,
        reason,
    };
    let mut line = serde_json::to_vec(&line).map_err(|error| {
        Error::new(ErrorKind::Internal, "cannot write the error of a rejected record as JSON").with_source(error)
    })?;
    line.push(b'\n');
    Ok(line)
}

fn taken_over(key: &str) -> Error {
    let message = format!("another worker has taken over and changed {key}; the next attempt resolves it");
    Error::new(ErrorKind::LeaseLost, message)
}

fn not_found_again() -> Error {
    Error::new(ErrorKind::Internal, "the last pass over the file did not find a rejected record")
}

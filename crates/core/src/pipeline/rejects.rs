//! The bad records of a file, cut out byte for byte and written beside what is wrong with each, before the rows commit.
//!
//! Whoever commits (or completes the fallback) has written them: nothing is lost when a worker dies in between, and the next
//! attempt writes them anew. A worker whose lease was taken over while it stood still takes away and overwrites nothing: what it has seen here
//! before it proved its lease is its predecessors', and it touches nothing else.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
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
use spillway_formats::decoder::Layout;
use spillway_formats::reject::{Reject, RejectCode};

/// As much of the notes is read to learn which file they are about: their first line and more.
const NOTES_BEGINNING_BYTES: u64 = 64 * 1024;

/// One line of the notes.
#[derive(Debug, Serialize)]
struct Note<'a> {
    object_key: &'a str,
    record: u64,
    line: u64,
    byte: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<&'a str>,
    code: RejectCode,
    reason: &'a str,
}

/// Where the records go, and the notes on them.
fn keys(attempt: &Attempt<'_>) -> [String; 2] {
    let (prefixes, source) = (&attempt.context.settings.prefixes, &attempt.source);
    [
        route::rejects_key(prefixes, attempt.table_name(), &source.object.key, &source.id),
        route::reject_notes_key(prefixes, attempt.table_name(), &source.id),
    ]
}

/// The key of the file that corrected records were cut out of, as the notes beside them say; nothing when they do not.
///
/// # Errors
/// When S3 cannot be asked.
pub(super) async fn original_key(store: &Store, object: &ObjectRef) -> Result<Option<String>> {
    #[derive(Deserialize)]
    struct Line {
        object_key: Option<String>,
    }
    let notes = ObjectRef::new(&object.bucket, route::notes_key_for(&object.key));
    let source = match store.head(&notes).await {
        Ok(source) => source,
        Err(error) if error.kind() == ErrorKind::SourceMissing => return Ok(None),
        Err(error) => return Err(error),
    };
    let beginning = store.read_range(&notes, &source.etag, 0..source.size_bytes.min(NOTES_BEGINNING_BYTES)).await?;
    let first = beginning.split(|byte| *byte == b'\n').next().unwrap_or_default();
    Ok(serde_json::from_slice(first).ok().and_then(|line: Line| line.object_key))
}

/// Where corrected records go: into the table they came from, whatever the patterns say now, with the parts of the key of the file they
/// were cut out of.
///
/// # Errors
/// When such parts are asked for and cannot be known.
pub(super) fn key_parts(settings: &PipelineConfig, table: String, original_key: Option<&str>) -> Result<KeyParts> {
    if !settings.key_columns.iter().any(|column| matches!(column, KeyColumn::Part(_))) {
        return Ok(KeyParts { table, ..KeyParts::default() });
    }
    let original_key = original_key.ok_or_else(|| {
        let message = "KEY_COLUMNS takes parts of the key of the file that these records came from, and the notes beside them, \
             which have it in object_key, are gone or are no JSON lines; put them back";
        Error::new(ErrorKind::KeyRefused, message)
    })?;
    Ok(KeyParts { table, ..settings.key_parts(original_key)? })
}

/// Takes away what another attempt, which did not commit, may have left out.
///
/// # Errors
/// When it may still be there, or somebody has taken over; nothing may commit then.
pub(super) async fn remove_earlier(attempt: &Attempt<'_>) -> Result<()> {
    if !attempt.config.files.limits.rejects.is_on() {
        return Ok(());
    }
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

/// The ETags of what earlier attempts have written. Where it is to be changed, the lease is proved after the look: so it is none of a
/// successor's.
async fn look_up(attempt: &Attempt<'_>, will_write: bool) -> Result<[Option<String>; 2]> {
    Failpoint::BeforeRejects.reached().await;
    let (store, bucket, [records, notes]) = (&attempt.context.store, &attempt.source.object.bucket, keys(attempt));
    let (records, notes) = tokio::try_join!(store.etag_of(bucket, &records), store.etag_of(bucket, &notes))?;
    if will_write || records.is_some() || notes.is_some() {
        attempt.verify_lease().await?;
        Failpoint::RejectsLookedUp.reached().await;
    }
    Ok([records, notes])
}

/// Writes the records that the first pass has left out, and those whose `values` the table cannot take.
///
/// # Errors
/// When they may not be there; nothing may commit then.
pub(super) async fn write(attempt: &Attempt<'_>, rows: &FileRows<'_>, values: Vec<Reject>) -> Result<()> {
    let Some((reader, scan)) = rows.scanned_file() else { return Ok(()) };
    let FileLayout::Streaming(layout) = &scan.layout else { return Ok(()) };
    if !attempt.config.files.limits.rejects.is_on() {
        return Ok(());
    }
    let mut rejects = [rows.rejects(), &values].concat();
    if rejects.is_empty() {
        return remove_earlier(attempt).await;
    }
    let found = look_up(attempt, true).await?;
    rejects.sort_by_key(|reject| reject.position.byte);
    let (store, bucket, keys) = (&attempt.context.store, &attempt.source.object.bucket, keys(attempt));
    let content_type = match layout {
        Layout::Csv(_) => "text/csv",
        Layout::Json { .. } => "application/x-ndjson",
    };
    let mut records = store.upload(bucket, &keys[0], content_type);
    let mut notes = store.upload(bucket, &keys[1], "application/x-ndjson");
    if let Err(error) = copy_records(attempt, reader, layout, rejects, &mut records, &mut notes).await {
        // The first error is the one to tell; parts that stay behind are swept.
        let _ = records.abort().await;
        let _ = notes.abort().await;
        return Err(error);
    }
    for ((key, upload), etag) in keys.iter().zip([records, notes]).zip(found).rev() {
        // Not deleted first: what a successor has written of the same bytes has the same ETag, and is the same then as before.
        let end = match etag {
            Some(etag) => upload.finish_over(&etag).await?,
            None => upload.finish_new().await?,
        };
        if end == Created::Exists {
            return Err(taken_over(key));
        }
    }
    Failpoint::RejectsWritten.reached().await;
    Ok(())
}

/// Reads the object once more and copies the header and the rejected records out of it, each record with its note.
async fn copy_records(
    attempt: &Attempt<'_>,
    reader: &FileReader,
    layout: &Layout,
    rejects: Vec<Reject>,
    records: &mut Upload,
    notes: &mut Upload,
) -> Result<()> {
    let starts = rejects.iter().map(|reject| reject.position.byte);
    let (mut bytes, mut extractor) = reader.records(layout, starts).await?;
    let mut rejects = VecDeque::from(rejects);
    let mut has_ended = false;
    while !has_ended && !rejects.is_empty() {
        match bytes.next().await? {
            Some(chunk) => extractor.push(&chunk)?,
            None => {
                extractor.finish()?;
                has_ended = true;
            }
        }
        while let Some(record) = extractor.next_record()? {
            records.write(record.bytes).await?;
            if !record.bytes.ends_with(b"\n") && !record.bytes.ends_with(b"\r") {
                records.write(b"\n").await?;
            }
            if let Some(reject) = rejects.pop_front_if(|reject| reject.position.byte == record.start) {
                notes.write(&note(&attempt.original_key, &reject)?).await?;
            }
        }
    }
    if rejects.is_empty() { Ok(()) } else { Err(not_found_again()) }
}

fn note(object_key: &str, reject: &Reject) -> Result<Vec<u8>> {
    let Reject { position, code, column, reason } = reject;
    let note = Note {
        object_key,
        record: position.record,
        line: position.line,
        byte: position.byte,
        column: column.as_deref(),
        code: *code,
        reason,
    };
    let mut line = serde_json::to_vec(&note)
        .map_err(|error| Error::new(ErrorKind::Internal, "the note of a bad record is no JSON").with_source(error))?;
    line.push(b'\n');
    Ok(line)
}

fn taken_over(key: &str) -> Error {
    let message =
        format!("{key} was changed meanwhile, by another worker that has taken over; the next attempt settles it");
    Error::new(ErrorKind::LeaseLost, message)
}

fn not_found_again() -> Error {
    Error::new(ErrorKind::Internal, "a rejected record was not found again in the last pass over the file")
}

//! Decides whether an object is loaded, by which process, and into which table; builds the keys of its files. Does no I/O.
//!
//! Every key that Spillway writes is built here, from the source's key and id alone, so that every attempt of every
//! worker uses the same keys.

mod moved;
mod table;

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::deadline::Deadline;
use crate::object::{ObjectRef, ObjectVersion, SourceId};
use crate::table_name::TableName;
use spillway_formats::detect::{FileName, NamedFormat, known_endings, looks_compressed};
use spillway_formats::schema::fallback::FallbackFormat;

pub(crate) use moved::MovedName;
pub use table::TableRoutes;
pub(crate) use table::{check_not_own, glue_table, key_parts, lake_table};

/// S3's limit for the length of a key, in bytes.
const MAX_KEY_BYTES: usize = 1024;

/// Suffix that turns the key of a failed object into the key of its reason.
const REASON_SUFFIX: &str = ".reason.json";

/// The name of the object next to the parts of an extract that describes them.
pub(crate) const EXTRACT_MANIFEST: &str = "_manifest.json";

/// The name of the object in the folder of a table that says what its last extract has done.
pub(crate) const EXTRACT_STATE: &str = "_extract.json";

/// Assumed ratio of decompressed to stored bytes, for a compressed object that has not been read yet.
const ASSUMED_COMPRESSION_RATIO: u64 = 10;

/// The characters of a table name that are percent-encoded in a folder name.
const FOLDER: &AsciiSet = &NON_ALPHANUMERIC.remove(b'_').remove(b'-');

/// The prefixes in the bucket. Each ends with a slash, and none is inside another, except below an empty upload prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prefixes {
    /// `UPLOAD_PREFIX`: prefixes of the files to load. A single empty one is the whole bucket.
    pub upload: Vec<String>,
    /// `PROCESSED_PREFIX`: the destination of loaded files.
    pub processed: String,
    /// `FAILED_PREFIX`: the destination of files that were rejected or whose rows are in the fallback.
    pub failed: String,
    /// `GLUE_FALLBACK_PREFIX`: the destination of rows that the database did not accept.
    pub fallback: String,
    /// `LEASE_PREFIX`: the leases of files in progress.
    pub lease: String,
    /// `REJECTED_PREFIX`: the destination of rejected records.
    pub rejected: String,
    /// `LAKE_PREFIX`: the destination of rows for the lake, if there is one.
    pub lake: Option<String>,
    /// `GLUE_JOB_PREFIX`: the plans and scripts of the Glue job, if there is one.
    pub glue_job: Option<String>,
    /// `REDSHIFT_COPY_PREFIX`: the rows that COPY reads, with Redshift.
    pub copy: Option<String>,
}

/// Whether an object is loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Route {
    /// The object is loaded.
    Ingest,
    /// The object stays in place and nothing is written.
    Skip {
        /// The reason, for the report.
        why: String,
    },
}

impl Route {
    /// The route of an object that an event names: only files with a known extension under an upload prefix are loaded.
    pub(crate) fn of(object: &ObjectRef, prefixes: &Prefixes) -> Self {
        let requested = Self::of_requested(object, prefixes);
        if requested != Self::Ingest {
            return requested;
        }
        if upload_prefix(prefixes, &object.key).is_none() {
            return skip(format!("it is not under the upload prefix {}", prefixes.upload.join(", ")));
        }
        if !is_file(&object.key) {
            return skip(format!("its name does not end in {}", known_endings()));
        }
        Self::Ingest
    }

    /// The route of an object that a request names: all keys are loaded except those that Spillway writes.
    pub(crate) fn of_requested(object: &ObjectRef, prefixes: &Prefixes) -> Self {
        if object.key.ends_with('/') {
            return skip("it is a folder marker");
        }
        match own_prefix(&object.key, prefixes) {
            Some(prefix) => skip(format!("Spillway itself writes under {prefix}")),
            // The prefix of the lake may have been changed, or removed from the settings.
            None if has_form_of_row_object(&object.key) => skip("its key has the form of an object of the lake"),
            None if describes_extract(&object.key) => skip("it describes an extract and contains no rows"),
            None => Self::Ingest,
        }
    }
}

/// Whether a key or a folder is under one of the prefixes that Spillway writes to.
pub(crate) fn is_own(key: &str, prefixes: &Prefixes) -> bool {
    own_prefix(key, prefixes).is_some()
}

fn own_prefix<'a>(key: &str, prefixes: &'a Prefixes) -> Option<&'a str> {
    let own = [&prefixes.processed, &prefixes.failed, &prefixes.fallback, &prefixes.lease, &prefixes.rejected];
    own.into_iter()
        .chain(&prefixes.lake)
        .chain(&prefixes.copy)
        .chain(&prefixes.glue_job)
        .map(String::as_str)
        .find(|prefix| key.starts_with(prefix))
}

/// Whether a key ends like that of a row object, `dt=2026-11-20/<source id>.parquet`, or of its manifest.
fn has_form_of_row_object(key: &str) -> bool {
    let Some((folders, name)) = key.rsplit_once('/') else { return false };
    let folder = folders.rsplit('/').next().unwrap_or_default();
    match name.split_once('.') {
        Some((id, "parquet")) => SourceId::parse(id).is_some() && folder.strip_prefix("dt=").is_some_and(is_day),
        Some((id, "json")) => SourceId::parse(id).is_some() && folder == "_manifests",
        Some(_) | None => false,
    }
}

/// Whether a key is that of an object which describes an extract. Athena does not read such objects, because of the underscore.
pub(crate) fn describes_extract(key: &str) -> bool {
    let name = key.rsplit('/').next().unwrap_or_default();
    name == EXTRACT_MANIFEST || name == EXTRACT_STATE
}

/// Whether a text is a day as [`rows_day`] writes it.
fn is_day(text: &str) -> bool {
    text.len() == 10 && text.parse::<jiff::civil::Date>().is_ok()
}

/// The upload prefix of a key. No upload prefix contains another one, so there is at most one.
pub(crate) fn upload_prefix<'a>(prefixes: &'a Prefixes, key: &str) -> Option<&'a str> {
    prefixes.upload.iter().map(String::as_str).find(|prefix| key.starts_with(prefix))
}

fn skip(why: impl Into<String>) -> Route {
    Route::Skip { why: why.into() }
}

/// Whether a key has the ending of a data file, such as `.csv` or `.CSV.gz`.
pub(crate) fn is_file(key: &str) -> bool {
    FileName::of(key).is_some()
}

/// Estimated size in bytes after decompression. A compressed object counts ten times its size.
pub(crate) fn expected_bytes(source: &ObjectVersion) -> u64 {
    decompressed(source.size_bytes, looks_compressed(&source.object.key, source.content_encoding.as_deref()))
}

/// The same for an object of which only the key and the size are known.
pub(crate) fn expected_bytes_by_key(key: &str, size_bytes: u64) -> u64 {
    decompressed(size_bytes, looks_compressed(key, None))
}

fn decompressed(size_bytes: u64, is_compressed: bool) -> u64 {
    if is_compressed { size_bytes.saturating_mul(ASSUMED_COMPRESSION_RATIO) } else { size_bytes }
}

/// The process that loads an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ExecutionMode {
    /// This process.
    Inline,
    /// A Fargate task.
    Task,
    /// A later invocation, because too little time is left for a file that is not worth a task.
    Later,
}

/// The largest expected size of a file that waits for a later invocation instead of starting a task. A slow database loads it in
/// about a minute, the time for which Fargate charges each task at least.
pub(crate) const WAITING_MAX_BYTES: u64 = 64 << 20;

/// Selects the process for an object; without a deadline, time does not matter.
pub(crate) fn execution_mode(expected_bytes: u64, inline_max_bytes: u64, deadline: Option<&Deadline>) -> ExecutionMode {
    let needed = time_needed(expected_bytes);
    let is_enough = |time: Option<Duration>| time.is_none_or(|time| time >= needed);
    if expected_bytes > inline_max_bytes {
        ExecutionMode::Task
    } else if is_enough(deadline.and_then(Deadline::remaining)) {
        ExecutionMode::Inline
    } else if expected_bytes <= WAITING_MAX_BYTES && is_enough(deadline.and_then(Deadline::whole_time)) {
        ExecutionMode::Later
    } else {
        ExecutionMode::Task
    }
}

/// The time that a load of this size may take. It is not started if less is left.
///
/// The estimate is a fixed part for connecting, claiming and moving, and 1 s per MiB for a slow database. It need not
/// be exact, because a load that runs out of time is rolled back.
pub(crate) fn time_needed(expected_bytes: u64) -> Duration {
    FIXED_TIME + Duration::from_secs(expected_bytes / BYTES_PER_SECOND)
}

/// The largest expected size for which this time is enough, see [`time_needed`].
pub(crate) fn bytes_in(time: Duration) -> u64 {
    time.saturating_sub(FIXED_TIME).as_secs().saturating_mul(BYTES_PER_SECOND)
}

/// The time for connecting, claiming and moving, whatever the size of a file.
const FIXED_TIME: Duration = Duration::from_secs(15);
/// The speed of a slow database.
const BYTES_PER_SECOND: u64 = 1 << 20;

/// The key that a loaded object is moved to.
pub(crate) fn processed_key(prefixes: &Prefixes, key: &str, id: &SourceId) -> String {
    moved::key(&prefixes.processed, prefixes, key, id, MAX_KEY_BYTES)
}

/// The key that an object is moved to if its rows fell back or it was rejected.
pub(crate) fn failed_key(prefixes: &Prefixes, key: &str, id: &SourceId) -> String {
    moved::key(&prefixes.failed, prefixes, key, id, MAX_KEY_BYTES - REASON_SUFFIX.len())
}

/// The key of the reason for an object at [`failed_key`].
pub(crate) fn reason_key(prefixes: &Prefixes, key: &str, id: &SourceId) -> String {
    failed_key(prefixes, key, id) + REASON_SUFFIX
}

/// The key of the failed object that a reason belongs to; `None` for the key of another object.
pub(crate) fn key_of_reason(key: &str) -> Option<&str> {
    key.strip_suffix(REASON_SUFFIX)
}

/// The key of a source's lease.
pub(crate) fn lease_key(prefixes: &Prefixes, id: &SourceId) -> String {
    format!("{}{id}", prefixes.lease)
}

/// The key of the file that contains a source's rejected records, in the format of the source.
pub(crate) fn rejects_key(prefixes: &Prefixes, table: &TableName, key: &str, id: &SourceId) -> String {
    let is_json = FileName::of(key).is_some_and(|name| name.format == NamedFormat::Json);
    format!("{}.{}", rejects_stem(prefixes, table, id), if is_json { "json" } else { "csv" })
}

/// The key of the JSONL file that contains the error of each rejected record.
pub(crate) fn reject_errors_key(prefixes: &Prefixes, table: &TableName, id: &SourceId) -> String {
    format!("{}.jsonl", rejects_stem(prefixes, table, id))
}

/// The key of the JSONL errors that belong to a file of rejected records at `key`.
pub(crate) fn errors_key_for(key: &str) -> String {
    let stem = key.rsplit_once('.').map_or(key, |(stem, _)| stem);
    format!("{stem}.jsonl")
}

fn rejects_stem(prefixes: &Prefixes, table: &TableName, id: &SourceId) -> String {
    rejects_prefix(prefixes, table, id.as_str())
}

/// The prefix of the rejected records and errors of the sources of a table whose id begins with `id_start`.
pub(crate) fn rejects_prefix(prefixes: &Prefixes, table: &TableName, id_start: &str) -> String {
    // A dot in a name is encoded, so a dot in the folder separates schema and table.
    let folder: Vec<String> = table.parts().map(|part| utf8_percent_encode(part, FOLDER).to_string()).collect();
    format!("{}{}/{id_start}", prefixes.rejected, folder.join("."))
}

/// The table of a file of rejected records; `None` for other keys.
pub(crate) fn rejects_table(prefixes: &Prefixes, key: &str) -> Option<TableName> {
    let (folder, file) = key.strip_prefix(&prefixes.rejected)?.split_once('/')?;
    let decoded = |part: &str| Some(percent_decode_str(part).decode_utf8().ok()?.into_owned());
    let table: TableName = match folder.split_once('.') {
        Some((schema, own_name)) => TableName::in_schema(&decoded(schema)?, &decoded(own_name)?),
        None => decoded(folder)?.into(),
    };
    let is_records = [".csv", ".json"].iter().any(|ending| file.to_ascii_lowercase().ends_with(ending));
    (table.parts().all(|part| !part.is_empty()) && is_records).then_some(table)
}

/// The prefix of a table's row objects under `root`, which is its `Location` in Glue.
pub(crate) fn rows_table_prefix(root: &str, table: &TableName) -> String {
    format!("{root}{}/", table::folder(table))
}

/// The value of the partition key `dt`: the day in UTC on which the source was written.
pub(crate) fn rows_day(last_modified: Timestamp) -> String {
    last_modified.to_zoned(TimeZone::UTC).strftime("%Y-%m-%d").to_string()
}

/// The prefix of one partition, which is its `Location` in Glue.
pub(crate) fn rows_partition_prefix(root: &str, table: &TableName, day: &str) -> String {
    format!("{}dt={day}/", rows_table_prefix(root, table))
}

/// The key of a source's row object.
pub(crate) fn rows_key(
    root: &str,
    table: &TableName,
    last_modified: Timestamp,
    id: &SourceId,
    format: FallbackFormat,
) -> String {
    let folder = rows_partition_prefix(root, table, &rows_day(last_modified));
    format!("{folder}{id}.{}", format.extension())
}

/// The prefix of all manifests under `root`. Athena ignores it because of the underscore.
pub(crate) fn manifests_prefix(root: &str) -> String {
    format!("{root}_manifests/")
}

/// The key of the manifest of a source's row object.
pub(crate) fn manifest_key(root: &str, id: &SourceId) -> String {
    format!("{}{id}.json", manifests_prefix(root))
}

/// The prefix of registrations of raw zones that are still to be made. Athena ignores it because of the underscore.
pub(crate) fn registrations_prefix(prefixes: &Prefixes) -> String {
    format!("{}_registrations/", prefixes.fallback)
}

/// The key of a registration that is still to be made; `hash` is that of its text.
pub(crate) fn registration_key(prefixes: &Prefixes, hash: &str) -> String {
    format!("{}{hash}.json", registrations_prefix(prefixes))
}

#[cfg(test)]
mod tests;

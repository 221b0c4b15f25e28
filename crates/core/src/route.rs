//! Decides whether an object is loaded, by which process, and into which table; builds the keys of its files. Pure.
//!
//! Every key that Spillway writes is built here, from the source's key and id alone, so that every attempt of every
//! worker uses the same keys.

mod moved;
mod table;

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

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
    own.into_iter().chain(&prefixes.lake).map(String::as_str).find(|prefix| key.starts_with(prefix))
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
}

/// Selects the process for an object; `remaining` is this process's time, `None` without a deadline.
pub(crate) fn execution_mode(expected_bytes: u64, inline_max_bytes: u64, remaining: Option<Duration>) -> ExecutionMode {
    let in_time = remaining.is_none_or(|remaining| remaining >= time_needed(expected_bytes));
    if expected_bytes <= inline_max_bytes && in_time { ExecutionMode::Inline } else { ExecutionMode::Task }
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
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    const UNKNOWN_ENDING: &str = "its name does not end in .csv or .tsv or .json or .jsonl or .ndjson or .parquet, with or without .gz or .zst or .zip";

    fn id() -> SourceId {
        SourceId::parse(ID).unwrap()
    }

    fn prefixes() -> Prefixes {
        Prefixes {
            upload: vec!["uploads/".into()],
            processed: "processed/".into(),
            failed: "failed/".into(),
            fallback: "fallback/".into(),
            lease: "lease/".into(),
            rejected: "rejected/".into(),
            lake: None,
        }
    }

    #[rstest]
    #[case("uploads/a.csv", None)]
    #[case("uploads/A.CSV", None)]
    #[case("uploads/year=2026/a b+c%2B..//é.csv", None)]
    #[case("uploads/x/", Some("it is a folder marker"))]
    #[case("uploads/x.csv/", Some("it is a folder marker"))]
    #[case("uploads/a.csv.gz", None)]
    #[case("uploads/a.TSV.zst", None)]
    #[case("uploads/a.txt", Some(UNKNOWN_ENDING))]
    #[case("uploads/a.gz", Some(UNKNOWN_ENDING))]
    #[case("uploads/csv", Some(UNKNOWN_ENDING))]
    #[case("uploads/éé", Some(UNKNOWN_ENDING))]
    #[case("other/a.csv", Some("it is not under the upload prefix uploads/"))]
    #[case("uploads", Some("it is not under the upload prefix uploads/"))]
    #[case("processed/a.csv", Some("Spillway itself writes under processed/"))]
    #[case("failed/a.csv", Some("Spillway itself writes under failed/"))]
    #[case("fallback/t/dt=2026-11-20/a.csv", Some("Spillway itself writes under fallback/"))]
    #[case("lease/a.csv", Some("Spillway itself writes under lease/"))]
    fn routes(#[case] key: &str, #[case] skipped: Option<&str>) {
        let expected = skipped.map_or(Route::Ingest, skip);
        assert_eq!(Route::of(&ObjectRef::new("b", key), &prefixes()), expected);
    }

    #[test]
    fn objects_of_the_lake_are_skipped_only_if_there_is_one() {
        let with_lake = Prefixes { upload: vec![String::new()], lake: Some("lake/".into()), ..prefixes() };
        let without = Prefixes { lake: None, ..with_lake.clone() };
        let object = ObjectRef::new("b", "lake/t/dt=2026-11-20/a.parquet");
        assert_eq!(Route::of(&object, &with_lake), skip("Spillway itself writes under lake/"));
        assert_eq!(Route::of(&object, &without), Route::Ingest);
    }

    /// The setting of the lake may be gone, and its objects are still in the bucket.
    #[rstest]
    #[case("former/t/dt=2026-11-20/ID.parquet", true)]
    #[case("former/a/b/t/dt=2026-11-20/ID.parquet", true)]
    #[case("former/_manifests/ID.json", true)]
    #[case("former/t/dt=2026-11-20/ID.csv", false)]
    #[case("former/t/dt=2026-13-20/ID.parquet", false)]
    #[case("former/t/day=2026-11-20/ID.parquet", false)]
    #[case("former/t/dt=2026-11-20/aID.parquet", false)]
    #[case("former/t/dt=2026-11-20/a.parquet", false)]
    #[case("former/manifests/ID.json", false)]
    #[case("ID.parquet", false)]
    fn objects_of_a_former_lake_are_skipped(#[case] key: &str, #[case] is_skipped: bool) {
        let object = ObjectRef::new("b", key.replace("ID", ID));
        let whole = Prefixes { upload: vec![String::new()], ..prefixes() };
        for route in [Route::of(&object, &whole), Route::of_requested(&object, &whole)] {
            assert_eq!(route != Route::Ingest, is_skipped, "{key}");
        }
    }

    #[rstest]
    #[case("anywhere/data.txt", true)]
    #[case("uploads/a.csv", true)]
    #[case("anywhere/", false)]
    #[case("processed/a.csv", false)]
    fn requested_object_may_have_any_key_except_our_own(#[case] key: &str, #[case] ingested: bool) {
        assert_eq!(Route::of_requested(&ObjectRef::new("b", key), &prefixes()) == Route::Ingest, ingested);
    }

    #[rstest]
    #[case("uploads/a/b/orders.csv", "processed/a/b/orders.0123456789abcdef.csv")]
    #[case("uploads/ORDERS.CSV", "processed/ORDERS.0123456789abcdef.CSV")]
    #[case("uploads/a b+c..//é.csv", "processed/a b+c..//é.0123456789abcdef.csv")]
    #[case("uploads/day.1/orders.CSV.gz", "processed/day.1/orders.0123456789abcdef.CSV.gz")]
    #[case("uploads/.csv", "processed/.csv.0123456789abcdef")]
    #[case("uploads/.csv.gz", "processed/.csv.gz.0123456789abcdef")]
    #[case("elsewhere/data.txt", "processed/elsewhere/data.txt.0123456789abcdef")]
    fn destination_keys_keep_the_path_and_contain_the_source_id(#[case] key: &str, #[case] expected: &str) {
        assert_eq!(processed_key(&prefixes(), key, &id()), expected);
        assert_eq!(failed_key(&prefixes(), key, &id()), expected.replacen("processed/", "failed/", 1));
        assert_eq!(reason_key(&prefixes(), key, &id()), failed_key(&prefixes(), key, &id()) + ".reason.json");
    }

    #[test]
    fn several_upload_prefixes_are_allowed() {
        let several = Prefixes { upload: vec!["a/".into(), "b/c/".into()], ..prefixes() };
        let of = |key: &str| Route::of(&ObjectRef::new("b", key), &several);
        assert_eq!((of("a/x.csv"), of("b/c/x.csv")), (Route::Ingest, Route::Ingest));
        assert_eq!(of("b/x.csv"), skip("it is not under the upload prefix a/, b/c/"));
        assert_eq!(processed_key(&several, "b/c/d/x.csv", &id()), "processed/d/x.0123456789abcdef.csv");
    }

    #[test]
    fn with_the_bucket_as_upload_prefix_only_our_own_keys_are_skipped() {
        let whole = Prefixes { upload: vec![String::new()], ..prefixes() };
        let of = |key: &str| Route::of(&ObjectRef::new("b", key), &whole);
        assert_eq!((of("x.csv"), of("any/where/x.csv")), (Route::Ingest, Route::Ingest));
        for own in [
            processed_key(&whole, "any/x.csv", &id()),
            reason_key(&whole, "any/x.csv", &id()),
            manifest_key(&whole.fallback, &id()),
            lease_key(&whole, &id()),
            rows_key(&whole.fallback, &"t".into(), Timestamp::UNIX_EPOCH, &id(), FallbackFormat::Csv),
        ] {
            assert!(matches!(of(&own), Route::Skip { .. }), "{own}");
        }
        assert_eq!(processed_key(&whole, "any/x.csv", &id()), "processed/any/x.0123456789abcdef.csv");
    }

    #[test]
    fn key_that_is_too_long_becomes_the_source_id() {
        let key = format!("uploads/{}.csv.gz", "x".repeat(1009));
        assert_eq!(key.len(), 1024);
        assert_eq!(processed_key(&prefixes(), &key, &id()), format!("processed/_long/{ID}.csv.gz"));
        assert_eq!(reason_key(&prefixes(), &key, &id()), format!("failed/_long/{ID}.csv.gz.reason.json"));
    }

    #[rstest]
    #[case("orders", "rejected/orders/")]
    #[case("a/b %\u{e9}", "rejected/a%2Fb%20%25%C3%A9/")]
    #[case("a.b", "rejected/a%2Eb/")]
    fn the_key_of_rejected_records_contains_their_table(#[case] table: &str, #[case] folder: &str) {
        check_rejects_key(&table.into(), folder);
    }

    #[test]
    fn the_key_of_rejected_records_contains_the_schema() {
        check_rejects_key(&TableName::in_schema("sales", "a.b"), "rejected/sales.a%2Eb/");
    }

    fn check_rejects_key(table: &TableName, folder: &str) {
        let key = rejects_key(&prefixes(), table, "uploads/a.csv", &id());
        assert_eq!(key, format!("{folder}{ID}.csv"));
        assert_eq!(reject_errors_key(&prefixes(), table, &id()), format!("{folder}{ID}.jsonl"));
        assert_eq!(errors_key_for(&key), reject_errors_key(&prefixes(), table, &id()));
        assert_eq!(rejects_table(&prefixes(), &key).as_ref(), Some(table));
        assert_eq!(rejects_table(&prefixes(), &reject_errors_key(&prefixes(), table, &id())), None);
        assert_eq!(rejects_table(&prefixes(), "uploads/orders/a.csv"), None);
        assert_ne!(Route::of_requested(&ObjectRef::new("b", key), &prefixes()), Route::Ingest);
    }

    #[test]
    fn keys_of_row_objects_and_the_lease() {
        let written: Timestamp = "2026-11-20T23:59:59.9Z".parse().unwrap();
        let data = rows_key("fallback/", &"t".into(), written, &id(), FallbackFormat::Parquet);
        assert_eq!(data, format!("fallback/t/dt=2026-11-20/{ID}.parquet"));
        assert_eq!(manifest_key("fallback/", &id()), format!("fallback/_manifests/{ID}.json"));
        assert_eq!(lease_key(&prefixes(), &id()), format!("lease/{ID}"));
    }

    #[rstest]
    #[case(10, 10, None, ExecutionMode::Inline)]
    #[case(11, 10, None, ExecutionMode::Task)]
    #[case(10, 10, Some(60), ExecutionMode::Inline)]
    #[case(10, 10, Some(15), ExecutionMode::Inline)]
    #[case(10, 10, Some(14), ExecutionMode::Task)]
    #[case(10 << 20, 10 << 20, Some(24), ExecutionMode::Task)]
    #[case(10 << 20, 10 << 20, Some(25), ExecutionMode::Inline)]
    fn small_objects_are_loaded_inline_if_enough_time_is_left(
        #[case] size: u64,
        #[case] inline_max: u64,
        #[case] seconds: Option<u64>,
        #[case] expected: ExecutionMode,
    ) {
        assert_eq!(execution_mode(size, inline_max, seconds.map(Duration::from_secs)), expected);
    }

    #[rstest]
    #[case("a.csv", None, 7)]
    #[case("a.csv.gz", None, 70)]
    #[case("a.zst", None, 70)]
    #[case("a.csv", Some("gzip"), 70)]
    #[case("a.csv.gz", Some("gzip"), 70)]
    fn compressed_objects_count_ten_times_their_size(
        #[case] key: &str,
        #[case] encoding: Option<&str>,
        #[case] expected: u64,
    ) {
        let encoding = encoding.map(str::to_owned);
        let source = ObjectVersion::new(ObjectRef::new("b", key), "e".into(), 7, Timestamp::UNIX_EPOCH, encoding);
        assert_eq!(expected_bytes(&source), expected);
    }

    proptest! {
        #[test]
        fn any_key_has_a_route_and_keys_that_fit(key in "\\PC{0,1024}") {
            let object = ObjectRef::new("b", key.as_str());
            let is_ours = Route::of(&object, &prefixes()) == Route::Ingest;
            prop_assert!(!is_ours || (key.starts_with("uploads/") && is_file(&key)));
            for written in [processed_key(&prefixes(), &key, &id()), reason_key(&prefixes(), &key, &id())] {
                prop_assert!(written.len() <= 1024);
                prop_assert_ne!(Route::of_requested(&ObjectRef::new("b", written), &prefixes()), Route::Ingest);
            }
        }
    }
}

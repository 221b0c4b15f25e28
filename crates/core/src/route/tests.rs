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
        glue_job: None,
        copy: None,
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
#[case(10, 10, Some((60, 60)), ExecutionMode::Inline)]
#[case(10, 10, Some((16, 300)), ExecutionMode::Inline)]
#[case(10, 10, Some((14, 300)), ExecutionMode::Later)]
#[case(10, 10, Some((14, 14)), ExecutionMode::Task)]
#[case(10 << 20, 10 << 20, Some((24, 300)), ExecutionMode::Later)]
#[case(10 << 20, 10 << 20, Some((26, 300)), ExecutionMode::Inline)]
#[case(100 << 20, u64::MAX, Some((100, 300)), ExecutionMode::Task)]
#[case(100 << 20, u64::MAX, Some((120, 300)), ExecutionMode::Inline)]
#[case(11, 10, Some((14, 300)), ExecutionMode::Task)]
fn process_is_selected_by_size_and_time(
    #[case] size: u64,
    #[case] inline_max: u64,
    #[case] left_of_whole: Option<(u64, u64)>,
    #[case] expected: ExecutionMode,
) {
    let deadline = left_of_whole.map(|(left, whole)| Deadline::with_time_left(left, whole));
    assert_eq!(execution_mode(size, inline_max, deadline.as_ref()), expected);
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

//! Each sample request and each kind of invalid request.

use rstest::rstest;
use serde_json::json;

use super::*;
use crate::destination::{RunFilter, RunOutcome, RunPlaces};
use crate::listing::{FallbackFilter, RejectsFilter};

macro_rules! sample {
    ($name:literal) => {
        include_str!(concat!("../../../../events/", $name, ".json"))
    };
}

fn parse(request: &str) -> Result<Request> {
    Request::parse(&serde_json::from_str(request).expect("JSON"), "default", None)
}

fn prefix(selection: Selection) -> Request {
    Request::Prefix { bucket: "spillway-data".into(), prefixes: vec!["uploads/".into()], selection }
}

fn at(text: &str) -> Timestamp {
    text.parse().expect("a timestamp")
}

#[test]
fn sample_requests_are_parsed() {
    let window = Selection::Window { start: at("2026-11-20T00:00:00Z"), end: at("2026-11-21T00:00:00Z") };
    let selection = ReplaySelection { table: None, limit: Some(100) };
    let sweep = SweepRequest { older_than_seconds: Some(3600) };
    let object = ObjectRef::new("spillway-data", "uploads/orders.csv");
    assert_eq!(parse(sample!("ingest-key")).unwrap(), Request::Object(object));
    assert_eq!(parse(sample!("ingest-prefix-all")).unwrap(), prefix(Selection::All));
    assert_eq!(parse(sample!("ingest-prefix-latest")).unwrap(), prefix(Selection::Latest));
    assert_eq!(parse(sample!("ingest-window")).unwrap(), prefix(window));
    assert_eq!(parse(sample!("ingest-replay")).unwrap(), Request::Replay { bucket: "default".into(), selection });
    let folder = "rejected/orders/0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef.csv";
    let rejects = Request::Rejects(ObjectRef::new("spillway-data", folder));
    assert_eq!(parse(sample!("ingest-rejects")).unwrap(), rejects);
    let raw_zone = Request::Prefix {
        bucket: "spillway-data".into(),
        prefixes: vec!["data/batch/".into()],
        selection: Selection::All,
    };
    assert_eq!(parse(sample!("ingest-raw-zone")).unwrap(), raw_zone);
    let selection = ReplaySelection { table: Some("orders".into()), limit: Some(100) };
    let one_table = Request::Replay { bucket: "default".into(), selection };
    assert_eq!(parse(sample!("ingest-replay-table")).unwrap(), one_table);
    assert_eq!(parse(sample!("ingest-sweep")).unwrap(), Request::Sweep { bucket: "default".into(), sweep });
    let sync = |window| {
        let sync = SyncRequest { table: Some("orders".into()), window };
        Request::Sync { bucket: "default".into(), sync }
    };
    assert_eq!(parse(sample!("ingest-sync")).unwrap(), sync(None));
    let window = Window { from: Some(at("2026-11-20T00:00:00Z")), to: Some(at("2026-11-21T00:00:00Z")) };
    assert_eq!(parse(sample!("ingest-sync-window")).unwrap(), sync(Some(window)));
    assert_eq!(
        parse(r#"{"sync": {}}"#).unwrap(),
        Request::Sync { bucket: "default".into(), sync: SyncRequest::default() }
    );
    let Request::Extract { bucket, extracts } = parse(sample!("ingest-extract")).unwrap() else { panic!("an extract") };
    let [job] = &extracts[..] else { panic!("one extract: {extracts:?}") };
    assert_eq!(
        (bucket.as_str(), job.extract.prefix.as_str(), job.extract.name.as_str()),
        ("default", "data/batch/", "items")
    );
    assert_eq!((job.extract.slot, job.secret.as_deref(), job.in_task), (Some(at("2026-11-30T08:30:00Z")), None, false));
    let status = |key: Option<&str>| {
        let status = StatusRequest { key: key.map(str::to_owned) };
        Request::Status { bucket: "default".into(), status }
    };
    assert_eq!(parse(sample!("ingest-status")).unwrap(), status(None));
    assert_eq!(parse(sample!("ingest-status-key")).unwrap(), status(Some("uploads/orders.csv")));
    assert_eq!(parse(sample!("ingest-check")).unwrap(), Request::Check { bucket: "default".into() });
}

/// The task gets the same extract, with the time of the first start, and does not start another task.
#[test]
fn request_of_a_task_has_a_fixed_time() {
    let text = r#"{"bucket": "zone", "extract": [{"secret": "s", "query": "SELECT 1 AS a", "name": "n", "to": "z", "run_in": "task"}]}"#;
    let Request::Extract { bucket, extracts } = parse(text).unwrap() else { panic!("an extract") };
    assert!(extracts[0].in_task && extracts[0].extract.prefix == "z/" && bucket == "zone");
    let now = at("2026-11-30T08:30:10Z");
    let request = extracts[0].task_request(&bucket, now);
    let Request::Extract { extracts: again, .. } = parse(&request.to_string()).unwrap() else { panic!("an extract") };
    assert_eq!((again[0].extract.slot, again[0].in_task), (Some(now), false));
    assert_eq!((&again[0].extract.relation, &again[0].secret), (&extracts[0].extract.relation, &extracts[0].secret));
}

#[rstest]
#[case(r#"{"extract": {"table": "a"}}"#, "invalid request")]
#[case(r#"{"extract": {"to": "z/"}}"#, "an extract needs either \"table\" or \"query\"")]
#[case(
    r#"{"extract": {"table": "a", "query": "SELECT 1", "to": "z/"}}"#,
    "an extract needs either \"table\" or \"query\""
)]
#[case(r#"{"extract": {"query": "SELECT 1", "to": "z/"}}"#, "an extract of a query needs \"name\"")]
#[case(r#"{"extract": {"table": "a", "to": "s3://b/z/"}}"#, "\"to\" is a prefix of the bucket")]
#[case(r#"{"extract": {"table": "a", "to": "z/", "at": "noon"}}"#, "at")]
#[case(r#"{"extract": {"table": "a", "to": "z/", "run_in": "cron"}}"#, "invalid request")]
#[case(r#"{"extract": []}"#, "\"extract\" has 0 extracts")]
#[case(r#"{"key": "a.csv", "prefix": "b/"}"#, "invalid request")]
#[case(r#"{"key": "a.csv", "sweep": {}}"#, "invalid request")]
#[case(r#"{"key": ""}"#, "the key is empty")]
#[case(r#"{"key": 7}"#, "invalid request")]
#[case(r#"{"prefix": "a/", "version_id": "v"}"#, "invalid request")]
#[case(r#"{"mode": "all"}"#, "unknown request")]
#[case(r#"{"bucket": "b"}"#, "unknown request")]
#[case(r#"{"keys": "a.csv"}"#, "unknown request")]
#[case("{}", "unknown request")]
#[case("7", "unknown request")]
#[case(r#"{"prefix": "a/", "mode": "newest"}"#, "invalid request")]
#[case(r#"{"replay": {"tabel": "t"}}"#, "invalid request")]
#[case(r#"{"sweep": {"older_than_seconds": -1}}"#, "invalid request")]
#[case(r#"{"glue_run": ""}"#, "the id of the run is empty")]
#[case(r#"{"glue_run": {"id": "jr_1"}}"#, "invalid request")]
#[case(r#"{"glue_run": "jr_1", "key": "a.csv"}"#, "invalid request")]
#[case(r#"{"sync": {"tabel": "t"}}"#, "invalid request")]
#[case(r#"{"sync": {"table": ""}}"#, "the table is empty")]
#[case(r#"{"sync": {"table": "a.b.c"}}"#, "the table has more than one dot")]
#[case(r#"{"sync": {"start_ts": "soon"}}"#, "start_ts is \"soon\"")]
#[case(r#"{"sync": {"start_ts": "2026-11-20", "end_ts": "2026-11-20"}}"#, "start_ts is not before end_ts")]
#[case(r#"{"status": {"key": ""}}"#, "the key is empty")]
#[case(r#"{"status": {"keys": "a.csv"}}"#, "invalid request")]
#[case(r#"{"status": {}, "check": {}}"#, "invalid request")]
#[case(r#"{"check": {"deep": true}}"#, "invalid request")]
#[case(r#"{"runs": {"outcome": "lost"}}"#, "invalid request")]
#[case(r#"{"runs": {"id": "abc"}}"#, "id is \"abc\"")]
#[case(r#"{"runs": {"id": "zzzzzzzzz"}}"#, "id is \"zzzzzzzzz\"")]
#[case(r#"{"runs": {"limit": 0}}"#, "limit is 0")]
#[case(r#"{"runs": {"limit": 1001}}"#, "limit is 1001")]
#[case(r#"{"runs": {"after": "x"}}"#, "after is \"x\"")]
#[case(r#"{"runs": {"since": "yesterday"}}"#, "since is \"yesterday\"")]
#[case(r#"{"fallback": {}}"#, "invalid request")]
#[case(r#"{"rejects": {"list": {"id": "0123456789"}}}"#, "invalid request")]
#[case(r#"{"prefix": "a/", "start_ts": "2026-11-20"}"#, "start_ts needs end_ts")]
#[case(r#"{"prefix": "a/", "end_ts": "2026-11-20"}"#, "end_ts needs start_ts")]
#[case(
    r#"{"prefix": "a/", "mode": "all", "start_ts": "2026-11-20", "end_ts": "2026-11-21"}"#,
    "mode cannot be combined with start_ts and end_ts"
)]
#[case(r#"{"prefix": "a/", "start_ts": "2026-11-21", "end_ts": "2026-11-20"}"#, "start_ts is not before end_ts")]
#[case(r#"{"prefix": "a/", "start_ts": "yesterday", "end_ts": "2026-11-20"}"#, "start_ts is \"yesterday\"")]
fn invalid_requests_are_rejected(#[case] request: &str, #[case] expected: &str) {
    let error = parse(request).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::EventInvalid);
    assert!(error.to_string().starts_with(expected), "{error}");
}

#[test]
fn list_requests_are_parsed() {
    let runs = RunFilter {
        places: RunPlaces::BucketOrLocal("default".into()),
        since: Some(at("2026-11-20T00:00:00Z")),
        outcome: Some(RunOutcome::Failed),
        table: Some("orders".into()),
        limit: 100,
        ..RunFilter::default()
    };
    let list = |list| Request::List { bucket: "default".into(), list };
    assert_eq!(parse(sample!("ingest-runs")).unwrap(), list(ListRequest::Runs(runs)));
    let of_bucket = RunFilter { places: RunPlaces::Bucket("other".into()), limit: 50, ..RunFilter::default() };
    let expected = Request::List { bucket: "other".into(), list: ListRequest::Runs(of_bucket) };
    assert_eq!(parse(r#"{"bucket": "other", "runs": {}}"#).unwrap(), expected);
    let fallback = FallbackFilter { limit: 50, ..FallbackFilter::default() };
    assert_eq!(parse(sample!("ingest-fallback-list")).unwrap(), list(ListRequest::Fallback(fallback)));
    let rejects = RejectsFilter { table: Some("orders".into()), limit: 50, ..RejectsFilter::default() };
    assert_eq!(parse(sample!("ingest-rejects-list")).unwrap(), list(ListRequest::Rejects(rejects)));
}

#[rstest]
#[case("2026-11-20T08:30:00+02:00", "2026-11-20T06:30:00Z")]
#[case("2026-11-20T08:30:00", "2026-11-20T08:30:00Z")]
#[case("2026-11-20", "2026-11-20T00:00:00Z")]
fn timestamps_are_parsed(#[case] text: &str, #[case] expected: &str) {
    assert_eq!(parse_timestamp("start_ts", text).unwrap(), at(expected));
}

#[test]
fn an_empty_request_is_the_default_request() {
    let prefixes = vec!["in/".to_owned(), "also/".to_owned()];
    let default = DefaultRequest::Prefix { bucket: "b".into(), prefixes: prefixes.clone(), mode: PrefixMode::Latest };
    let expected = Request::Prefix { bucket: "b".into(), prefixes, selection: Selection::Latest };
    for empty in [json!({}), Value::Null] {
        assert_eq!(Request::parse(&empty, "other", Some(&default)).unwrap(), expected);
    }
    let named = Request::parse(&json!({"key": "k"}), "other", Some(&default)).unwrap();
    assert_eq!(named, Request::Object(ObjectRef::new("other", "k")));
}

#[test]
fn files_are_selected_oldest_first() {
    let file = |key: &str, time: &str| ListedObject {
        key: key.into(),
        size_bytes: 1,
        etag: String::new(),
        last_modified: at(time),
    };
    let files = vec![
        file("c", "2026-11-20T00:00:02Z"),
        file("b", "2026-11-20T00:00:01Z"),
        file("a", "2026-11-20T00:00:01Z"),
        file("d", "2026-11-20T00:00:00Z"),
    ];
    let keys =
        |selection: Selection| selection.apply(files.clone()).into_iter().map(|file| file.key).collect::<String>();
    assert_eq!(keys(Selection::All), "dabc");
    assert_eq!(keys(Selection::Latest), "c");
    let window = Selection::Window { start: at("2026-11-20T00:00:01Z"), end: at("2026-11-20T00:00:02Z") };
    assert_eq!(keys(window), "ab");
    assert!(Selection::Latest.apply(Vec::new()).is_empty());
}

#[test]
fn run_of_the_glue_job_has_a_default_bucket() {
    let request = parse(r#"{"glue_run": "jr_1"}"#).unwrap();
    assert_eq!(request, Request::GlueRun { bucket: "default".into(), run: "jr_1".into() });
}

#[test]
fn sweep_ignores_the_last_15_minutes_by_default() {
    assert_eq!(SweepRequest::default().older_than(), Duration::from_secs(900));
}

//! Files that are handed to the Glue job.

use rstest::rstest;
use serde_json::Value;

use super::{Fixture, KEY, Reading, Step};
use crate::destination::{LedgerState, LoadMode, Output};
use crate::error::ErrorKind;
use crate::glue_jobs::GlueJobSettings;
use crate::pipeline::{AfterLoad, PipelineConfig, Progress, progress};
use crate::report::{Outcome, Report};
use spillway_formats::csv::{BlankRecords, RepeatedHeaders, ShortRecords};
use spillway_formats::json::JsonValues;
use spillway_formats::reject::RejectLimit;

/// A file that is large enough for the job, and whose table exists.
fn fixture() -> Fixture {
    let mut fixture = Fixture::new(Reading::SinglePass);
    let prefix = "glue/".to_owned();
    fixture.settings.prefixes.glue_job = Some(prefix.clone());
    fixture.settings.glue_job = Some(GlueJobSettings { job: "large-files".to_owned(), min_bytes: 1, prefix });
    fixture.database.put_table();
    fixture
}

fn glue_objects(fixture: &Fixture) -> usize {
    fixture.aws.keys().iter().filter(|key| key.starts_with("glue/")).count()
}

/// Processes the file, and fails unless it was handed over.
async fn hand_over(fixture: &Fixture) -> Report {
    let report = fixture.process().await.unwrap();
    assert_eq!(report.outcome, Outcome::HandedOver, "{report:?}");
    assert!(!fixture.aws.keys().iter().any(|key| key.starts_with("lease/")), "the job could not get the lease");
    report
}

async fn load_by_job(fixture: &Fixture) {
    fixture.database.put_ledger(&fixture.version(KEY).await.id, LedgerState::Loaded, 2);
}

async fn next_step(fixture: &Fixture) -> String {
    let context = fixture.context();
    let source = fixture.version(KEY).await;
    match progress(&context, context.glue_job_for(&source).unwrap(), &source).await.unwrap() {
        Progress::NextStep(step) => step,
        Progress::UnderWay(run) => format!("run {run}"),
        Progress::None => "none".to_owned(),
    }
}

#[tokio::test]
async fn large_file_starts_one_run() {
    let fixture = fixture();
    assert_eq!(next_step(&fixture).await, "none");
    let report = hand_over(&fixture).await;
    assert_eq!(report.reason.as_deref(), Some("to the run jr_1 of the Glue job"));
    // A duplicate event, and a sweep.
    hand_over(&fixture).await;
    assert_eq!(next_step(&fixture).await, "run jr_1");
    let runs = fixture.aws.job_runs();
    assert_eq!(runs.len(), 1, "{runs:?}");
    let id = fixture.version(KEY).await.id;
    let arguments = &runs[0]["Arguments"];
    for (name, value) in [
        ("--bucket", "bucket".to_owned()),
        ("--key", KEY.to_owned()),
        ("--source_id", id.to_string()),
        ("--plan", format!("s3://bucket/glue/plans/{id}.json")),
        ("--lease_prefix", "lease/".to_owned()),
        ("--fallback_prefix", "fallback/".to_owned()),
        ("--dedupe", "content".to_owned()),
    ] {
        assert_eq!(arguments[name], value.as_str(), "{name}");
    }
    let plan: Value = serde_json::from_slice(&fixture.aws.get(&format!("glue/plans/{id}.json")).unwrap()).unwrap();
    assert_eq!(
        (&plan["rows_parsed"], &plan["table"]["load_mode"]),
        (&Value::from(2), &Value::from("append")),
        "{plan:#}"
    );
    assert_eq!(plan["columns"][0]["table_column"], "id", "{plan:#}");
    assert_eq!((fixture.database.rows().len(), fixture.database.calls(Step::Begin)), (0, 0));
}

#[tokio::test]
async fn smaller_file_is_loaded_here() {
    let mut fixture = fixture();
    fixture.settings.glue_job.as_mut().unwrap().min_bytes = 1_000;
    assert_eq!(fixture.process().await.unwrap().outcome, Outcome::Loaded);
    fixture.assert_loaded();
    assert_eq!((fixture.aws.job_runs().len(), glue_objects(&fixture)), (0, 0));
}

/// The state of a run proves nothing: it may have failed after COMMIT.
#[rstest]
#[tokio::test]
async fn file_of_an_ended_run_is_moved(#[values("SUCCEEDED", "FAILED", "STOPPED", "TIMEOUT")] state: &'static str) {
    let fixture = fixture();
    hand_over(&fixture).await;
    load_by_job(&fixture).await;
    fixture.aws.end_job_run("jr_1", state, "");
    assert_eq!(next_step(&fixture).await.len(), 34, "an ETag");
    let report = fixture.process().await.unwrap();
    assert_eq!(report.outcome, Outcome::AlreadyLoaded, "{report:?}");
    assert!(report.moved_to.is_some_and(|key| key.starts_with("processed/")));
    assert_eq!((fixture.aws.job_runs().len(), glue_objects(&fixture)), (1, 0));
}

/// Until the ledger can be read, the rows of an ended run may be in the table. The fallback would store them twice.
#[tokio::test]
async fn file_of_an_ended_run_waits_for_the_ledger() {
    let fixture = fixture();
    hand_over(&fixture).await;
    load_by_job(&fixture).await;
    fixture.aws.end_job_run("jr_1", "SUCCEEDED", "");
    fixture.database.stop();
    fixture.process().await.unwrap_err();
    assert!(fixture.fallback_rows().is_empty());
    fixture.database.heal();
    assert_eq!(fixture.process().await.unwrap().outcome, Outcome::AlreadyLoaded);
}

#[rstest]
#[case::failed("FAILED", "lost an executor", 3)]
#[case::stopped("STOPPED", "", 3)]
#[case::succeeded_elsewhere("SUCCEEDED", "", 3)]
#[case::refused("FAILED", "SystemExit: spillway refused: a value does not fit", 1)]
#[case::timed_out("TIMEOUT", "", 1)]
#[tokio::test]
async fn worker_loads_a_file_whose_runs_fail(
    #[case] state: &'static str,
    #[case] message: &'static str,
    #[case] expected_runs: usize,
) {
    let fixture = fixture();
    for run in 1..=expected_runs {
        let before = next_step(&fixture).await;
        hand_over(&fixture).await;
        fixture.aws.end_job_run(&format!("jr_{run}"), state, message);
        assert_ne!(next_step(&fixture).await, before, "no other task would start");
    }
    let report = fixture.process().await.unwrap();
    assert_eq!(report.outcome, Outcome::Loaded, "{report:?}");
    let reason = report.reason.unwrap();
    assert!(reason.starts_with(&format!("not by the Glue job: {expected_runs} of its runs failed")), "{reason}");
    fixture.assert_loaded();
    assert_eq!((fixture.aws.job_runs().len(), glue_objects(&fixture)), (expected_runs, 0));
}

#[rstest]
#[case::no_run_left("ConcurrentRunsExceededException", ErrorKind::Throttled)]
#[case::no_permission("AccessDeniedException", ErrorKind::Forbidden)]
#[case::no_job("EntityNotFoundException", ErrorKind::Settings)]
#[tokio::test]
async fn file_waits_in_place_if_no_run_starts(#[case] code: &'static str, #[case] kind: ErrorKind) {
    let fixture = fixture();
    fixture.aws.fail_with("StartJobRun", "", 400, code);
    assert_eq!(fixture.process().await.unwrap_err().kind(), kind);
    let first = next_step(&fixture).await;
    assert_eq!(fixture.process().await.unwrap_err().kind(), kind);
    assert_ne!(next_step(&fixture).await, first, "no other task would start");
    assert!(fixture.aws.get(KEY).is_some());
    fixture.aws.heal();
    hand_over(&fixture).await;
    assert_eq!(fixture.aws.job_runs().len(), 1);
}

/// A worker may die, or lose the response, after Glue has started a run.
#[tokio::test]
async fn run_without_a_record_is_found_in_glue() {
    let fixture = fixture();
    fixture.aws.lose_response("StartJobRun", "");
    assert_eq!(fixture.process().await.unwrap_err().kind(), ErrorKind::Service);
    let report = hand_over(&fixture).await;
    assert_eq!(report.reason.as_deref(), Some("to the run jr_1 of the Glue job"));
    assert_eq!(fixture.aws.job_runs().len(), 1);
}

/// Runs of other files do not count.
#[tokio::test]
async fn each_file_has_its_own_run() {
    let fixture = fixture();
    fixture.aws.put("uploads/b.csv", "id,note\n3,three\n");
    hand_over(&fixture).await;
    let other = fixture.process_key("uploads/b.csv").await.unwrap();
    assert_eq!(other.reason.as_deref(), Some("to the run jr_2 of the Glue job"));
}

#[tokio::test]
async fn request_for_an_ended_run_moves_its_file() {
    let fixture = fixture();
    hand_over(&fixture).await;
    load_by_job(&fixture).await;
    fixture.aws.end_job_run("jr_1", "SUCCEEDED", "");
    let unknown = fixture.run(&serde_json::json!({"glue_run": "jr_9"})).await;
    assert!(unknown["ignored"][0].as_str().is_some_and(|text| text.starts_with("jr_9")), "{unknown}");
    let result = fixture.run(&serde_json::json!({"glue_run": "jr_1"})).await;
    assert_eq!(result["reports"][0]["outcome"], "already_loaded", "{result}");
}

type Change = fn(&mut PipelineConfig);

/// The worker loads each of these files itself, and says why.
#[rstest]
#[case::load_mode(|settings: &mut PipelineConfig| settings.database.options.load_mode = LoadMode::Replace, "LOAD_MODE")]
#[case::max_rejects(|settings: &mut PipelineConfig| settings.files.limits.rejects = RejectLimit::Count(1), "MAX_REJECTS")]
#[case::kept_files(|settings: &mut PipelineConfig| settings.after_load = AfterLoad::Keep, "AFTER_LOAD")]
#[case::null_values(|settings: &mut PipelineConfig| settings.files.csv.null_values = Some(Vec::new()), "NULL_VALUES")]
#[case::blank_records(|settings: &mut PipelineConfig| settings.files.csv.blank_records = BlankRecords::Skip, "CSV settings")]
#[case::short_records(|settings: &mut PipelineConfig| settings.files.csv.short_records = ShortRecords::Fill, "CSV settings")]
#[case::comments(|settings: &mut PipelineConfig| settings.files.csv.comment = Some(b';'), "CSV settings")]
#[case::repeated_headers(|settings: &mut PipelineConfig| settings.files.csv.repeated_headers = RepeatedHeaders::Skip, "CSV settings")]
#[case::footer(|settings: &mut PipelineConfig| settings.files.csv.skip_footer_lines = 1, "CSV settings")]
#[case::json_settings(|settings: &mut PipelineConfig| settings.files.json.flatten_depth = 1, "JSON settings")]
#[case::json_values(|settings: &mut PipelineConfig| settings.files.json.values = JsonValues::DynamoDb, "JSON settings")]
#[tokio::test]
async fn settings_that_the_job_does_not_know(#[case] change: Change, #[case] why: &str) {
    let mut fixture = fixture();
    change(&mut fixture.settings);
    let report = fixture.process().await.unwrap();
    assert_eq!(report.outcome, Outcome::Loaded, "{report:?}");
    let reason = report.reason.unwrap_or_default();
    assert!(reason.starts_with("not by the Glue job: ") && reason.contains(why), "{reason}");
    assert_eq!((fixture.aws.job_runs().len(), glue_objects(&fixture)), (0, 0));
}

#[rstest]
#[case::line_break_in_quotes("a.csv", "id,note\n1,\"one\nmore\"\n2,two\n", "a value has a line break")]
#[case::empty_line("a.csv", "id,note\n1,one\n\n2,two\n", "a line is not a record")]
#[case::line_above_the_header("a.csv", "# made today\nid,note\n1,one\n2,two\n", "lines above the header")]
#[case::escaped_quotes("a.csv", "id,note\n1,\"o\\\"ne\"\n2,two\n", "escaped by another character")]
#[case::extra_delimiter("a.csv", "id,note\n1,one,\n2,two,\n", "one more field")]
#[case::end_mark("a.csv", "id,note\n1,one\n2,two\u{1a}", "a Ctrl-Z")]
#[case::no_rows("a.csv", "id,note\n", "no rows")]
#[case::json_array("a.json", "[{\"id\": 1, \"note\": \"one\"}]", "not at the beginning")]
#[case::json_over_lines("a.json", "{\"id\": 1,\n\"note\": \"one\"}\n", "a value has a line break")]
#[case::nested("a.json", "{\"id\": 1, \"note\": {\"a\": 2}}\n", "nested values")]
#[case::not_a_number("a.json", "{\"id\": NaN, \"note\": \"one\"}\n", "numbers that JSON does not have")]
#[tokio::test]
async fn files_that_the_job_does_not_read(#[case] name: &str, #[case] file: &str, #[case] why: &str) {
    let fixture = fixture();
    let key = format!("uploads/other/{name}");
    fixture.aws.put(&key, file);
    let report = fixture.process_key(&key).await.unwrap();
    assert_eq!(report.outcome, Outcome::Loaded, "{report:?}");
    let reason = report.reason.unwrap_or_default();
    assert!(reason.starts_with("not by the Glue job: ") && reason.contains(why), "{reason}");
    assert_eq!((fixture.aws.job_runs().len(), glue_objects(&fixture)), (0, 0));
}

#[tokio::test]
async fn file_in_lines_of_json_is_handed_over() {
    let fixture = fixture();
    fixture.aws.put(KEY, "{\"id\": 1, \"note\": \"one\"}\n{\"id\": 2, \"note\": \"two\"}\n");
    hand_over(&fixture).await;
}

#[tokio::test]
async fn file_for_a_missing_table_is_loaded_here() {
    let fixture = fixture();
    fixture.database.drop_table();
    let report = fixture.process().await.unwrap();
    assert_eq!(report.reason.as_deref(), Some("not by the Glue job: the table does not exist yet"));
    fixture.assert_loaded();
}

#[tokio::test]
async fn file_for_the_lake_is_loaded_here() {
    let fixture = fixture().with_output(Output::Both);
    let report = fixture.process().await.unwrap();
    assert!(report.reason.is_some_and(|reason| reason.contains("OUTPUT")));
}

/// A broken file is rejected as without the job.
#[tokio::test]
async fn broken_file_is_rejected() {
    let fixture = fixture();
    fixture.aws.put(KEY, "id,note\n1,\"one\n");
    let report = fixture.process().await.unwrap();
    assert_eq!(report.outcome, Outcome::Rejected, "{report:?}");
    assert_eq!((fixture.aws.job_runs().len(), glue_objects(&fixture)), (0, 0));
}

#[tokio::test]
async fn status_names_the_run_that_works_on_the_file() {
    let fixture = fixture();
    hand_over(&fixture).await;
    let status = serde_json::to_value(fixture.status(Some(KEY)).await.unwrap()).unwrap();
    assert_eq!(status["state"], "loading", "{status:#}");
    let expected = "the run jr_1 of the Glue job large-files works on the file since 2025-12-01T00:00:00Z (STARTING)";
    assert!(status["explanation"].as_str().unwrap().starts_with(expected), "{status:#}");
    assert_eq!(
        (&status["glue_run"]["run"], &status["glue_run"]["state"]),
        (&Value::from("jr_1"), &Value::from("STARTING"))
    );
    fixture.aws.end_job_run("jr_1", "FAILED", "lost");
    let status = serde_json::to_value(fixture.status(Some(KEY)).await.unwrap()).unwrap();
    assert_eq!((&status["state"], &status["glue_run"]["state"]), (&Value::from("waiting"), &Value::from("FAILED")));
}

#[tokio::test]
async fn check_reads_the_job() {
    let item = async |fixture: &Fixture| {
        let check = serde_json::to_value(fixture.check().await).unwrap();
        check["items"].as_array().unwrap().iter().find(|item| item["name"] == "glue_job").cloned()
    };
    let mut fixture = fixture();
    let found = item(&fixture).await.unwrap();
    assert_eq!(found["ok"], true, "{found:#}");
    assert!(found["found"].as_str().unwrap().starts_with("the job large-files, at most 3 runs at a time"), "{found:#}");
    if let Some(settings) = &mut fixture.settings.glue_job {
        settings.job = "no-such-job".to_owned();
    }
    let missing = item(&fixture).await.unwrap();
    assert_eq!(missing["ok"], false, "{missing:#}");
    assert!(missing["reason"].as_str().unwrap().contains("the Glue job no-such-job does not exist"), "{missing:#}");
    fixture.settings.glue_job = None;
    assert_eq!(item(&fixture).await, None);
}

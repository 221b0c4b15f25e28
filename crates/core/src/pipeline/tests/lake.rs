//! Rows in the lake: once, whatever fails, and only for files that the ledger counts.

use rstest::rstest;

use super::{CommitFault, FILE, Fixture, KEY, Reading, Step};
use crate::destination::{LedgerState, LoadMode, Output};
use crate::error::ErrorKind;
use crate::report::Outcome;

fn fixture(output: Output) -> Fixture {
    Fixture::new(Reading::Buffered).with_output(output)
}

/// Asserts that the file is loaded, that the lake has its rows once, and that the ledger names the object.
async fn assert_stored(fixture: &Fixture, output: Output) {
    assert_eq!(fixture.objects(), "lake processed");
    assert_eq!(fixture.lake_rows().await, ["1,one", "2,two"]);
    let rows: &[&str] = if output.has_database() { &["1,one", "2,two"] } else { &[] };
    assert_eq!(fixture.database.rows(), rows);
    let ledger = fixture.database.ledger();
    assert_eq!((ledger.len(), ledger[0].entry.state, ledger[0].entry.rows_stored), (1, LedgerState::Loaded, 2));
    let key = fixture.aws.keys().into_iter().find(|key| key.starts_with("lake/"));
    assert_eq!(ledger[0].lake_key, key);
    assert_eq!((fixture.aws.partitions(), fixture.aws.unfinished_uploads()), (1, 0));
}

#[rstest]
#[tokio::test]
async fn file_is_stored_where_output_says(
    #[values(Output::Lake, Output::Both)] output: Output,
    #[values(Reading::Buffered, Reading::SinglePass)] reading: Reading,
) {
    let fixture = Fixture::new(reading).with_output(output);
    let source_id = fixture.version(KEY).await.id;
    let report = fixture.process().await.unwrap();
    assert_eq!((report.outcome, report.rows_parsed, report.rows_stored), (Outcome::Loaded, 2, 2));
    assert_eq!(report.lake, Some(format!("lake/orders/dt=2026-11-20/{source_id}.parquet")));
    assert_stored(&fixture, output).await;
    assert_eq!(fixture.process().await.unwrap().outcome, Outcome::Skipped);
}

#[tokio::test]
async fn without_lake_nothing_of_it_is_requested() {
    let fixture = Fixture::new(Reading::Buffered);
    fixture.aws.fail("GetTable", "");
    fixture.aws.fail("PutObject", "lake/");
    assert_eq!(fixture.process().await.unwrap().lake, None);
    fixture.assert_loaded();
    assert!(fixture.sweep().await.reports.is_empty());
}

/// A fault of one request or of COMMIT.
#[derive(Debug, Clone, Copy)]
enum Fault {
    Refused(&'static str, &'static str),
    ResponseLost(&'static str, &'static str),
    Commit(CommitFault),
    Finalize,
}

#[rstest]
#[case::catalog_unreadable(Fault::Refused("GetTable", "orders"), "upload")]
#[case::table_not_created(Fault::Refused("CreateTable", "orders"), "upload")]
#[case::manifest_not_written(Fault::Refused("PutObject", "lake/_manifests/"), "upload")]
#[case::manifest_response_lost(Fault::ResponseLost("PutObject", "lake/_manifests/"), "lake-manifest upload")]
#[case::upload_not_started(Fault::Refused("CreateMultipartUpload", "lake/"), "lake-manifest upload")]
#[case::part_not_sent(Fault::Refused("UploadPart", "lake/"), "lake-manifest upload")]
#[case::ledger_not_written(Fault::Finalize, "lake-manifest upload")]
#[case::not_completed(Fault::Refused("CompleteMultipartUpload", "lake/"), "lake-manifest lease upload")]
#[case::completion_response_lost(
    Fault::ResponseLost("CompleteMultipartUpload", "lake/"),
    "lake-manifest lake lease upload"
)]
#[case::not_registered(Fault::Refused("CreatePartition", "orders"), "lake-manifest lake lease upload")]
#[case::not_committed(Fault::Commit(CommitFault::LostBeforeCommit), "lake-manifest lake lease upload")]
#[case::committed(Fault::Commit(CommitFault::LostAfterCommit), "lake-manifest lake lease upload")]
#[case::not_moved(Fault::Refused("CopyObject", "processed/"), "lake lease upload")]
#[tokio::test]
async fn every_step_is_found_done_by_the_next_attempt(
    #[values(Output::Lake, Output::Both)] output: Output,
    #[case] fault: Fault,
    #[case] objects: &str,
) {
    let fixture = fixture(output);
    match fault {
        Fault::Refused(operation, key_part) => fixture.aws.fail(operation, key_part),
        Fault::ResponseLost(operation, key_part) => fixture.aws.lose_response(operation, key_part),
        Fault::Finalize => fixture.database.fail(Step::Finalize, ErrorKind::Service),
        Fault::Commit(fault) => {
            fixture.database.lose_commit(fault);
            fixture.database.fail(Step::LookUp, ErrorKind::Privilege);
        }
    }
    fixture.process().await.unwrap_err();
    // A staging table does not stay.
    let is_undone = !matches!(fault, Fault::Commit(_) | Fault::Finalize | Fault::Refused("CopyObject", _));
    assert_eq!(fixture.database.calls(Step::Undo) > 0, is_undone);
    fixture.aws.heal();
    fixture.database.heal();
    assert_eq!((fixture.objects().as_str(), fixture.aws.unfinished_uploads()), (objects, 0));

    let report = fixture.process().await.unwrap();
    assert!(matches!(report.outcome, Outcome::Loaded | Outcome::AlreadyLoaded), "{report:?}");
    assert_stored(&fixture, output).await;
}

#[rstest]
#[tokio::test]
async fn worker_that_lost_its_lease_publishes_nothing(#[values(Output::Lake, Output::Both)] output: Output) {
    let fixture = fixture(output);
    fixture.aws.before("UploadPart", "lake/", 0, fixture.steal_lease());
    assert_eq!(fixture.process().await.unwrap_err().kind(), ErrorKind::LeaseLost);
    assert_eq!((fixture.objects().as_str(), fixture.database.rows().len()), ("lake-manifest lease upload", 0));
    assert_eq!(fixture.aws.unfinished_uploads(), 0);
}

/// The previous holder has noted that its object is about to appear.
#[tokio::test]
async fn upload_of_the_previous_holder_is_aborted() {
    let fixture = fixture(Output::Both);
    fixture.aws.fail("CompleteMultipartUpload", "lake/");
    fixture.process().await.unwrap_err();
    fixture.aws.heal();
    let key = format!("lake/orders/dt=2026-11-20/{}.parquet", fixture.version(KEY).await.id);
    fixture.aws.start_upload(&key);
    fixture.process().await.unwrap();
    assert_stored(&fixture, Output::Both).await;
}

/// Processes a file up to COMMIT, which does not take effect.
async fn published_without_commit(output: Output) -> Fixture {
    let fixture = fixture(output);
    publish_without_commit(&fixture, output).await;
    fixture
}

async fn publish_without_commit(fixture: &Fixture, output: Output) {
    fixture.database.fail_times(Step::Commit, ErrorKind::Privilege, 1);
    fixture.database.fail(Step::Record, ErrorKind::Privilege);
    if output.has_database() {
        // Without a fallback object, the next attempt loads.
        fixture.aws.fail("PutObject", "fallback/");
    }
    fixture.process().await.unwrap_err();
    fixture.aws.heal();
    fixture.database.heal();
    assert_eq!(fixture.objects(), "lake-manifest lake lease upload");
}

/// The object of a load that was not committed leaves the lake when the same bytes are loaded as another source.
#[rstest]
#[tokio::test]
async fn duplicate_is_not_in_the_lake(#[values(Output::Lake, Output::Both)] output: Output) {
    let fixture = published_without_commit(output).await;
    let version = fixture.version(KEY).await;
    fixture.database.put_ledger(&version.id, LedgerState::Duplicate, 0);
    assert_eq!(fixture.process().await.unwrap().outcome, Outcome::AlreadyLoaded);
    assert_eq!((fixture.objects().as_str(), fixture.aws.partitions()), ("processed", 0));
}

#[tokio::test]
async fn rejected_file_is_not_in_the_lake() {
    let mut fixture = published_without_commit(Output::Both).await;
    fixture.settings.files.limits.max_columns = 1;
    assert_eq!(fixture.process().await.unwrap().outcome, Outcome::Rejected);
    assert_eq!((fixture.objects().as_str(), fixture.aws.partitions()), ("failed reason", 0));
}

/// The file is gone, so only a sweep can finish its load.
#[rstest]
#[tokio::test]
async fn sweep_finishes_load_of_file_that_is_gone(#[values(Output::Lake, Output::Both)] output: Output) {
    let fixture = published_without_commit(output).await;
    fixture.aws.delete(KEY);
    fixture.expire_lease();
    let results = fixture.sweep().await;
    assert_eq!(results.reports.iter().map(|report| report.outcome).collect::<Vec<_>>(), [Outcome::Loaded]);
    assert_eq!((fixture.objects().as_str(), fixture.ledger_state()), ("lake", Some(LedgerState::Loaded)));
    assert_eq!(fixture.lake_rows().await, ["1,one", "2,two"]);
    assert_eq!(fixture.database.rows().len(), if output.has_database() { 2 } else { 0 });
    assert!(fixture.sweep().await.reports.is_empty());
}

/// Rows that the table does not accept would fail in every sweep.
#[rstest]
#[case::data_refused(ErrorKind::DataRefused)]
#[case::table_does_not_fit(ErrorKind::TableMismatch)]
#[tokio::test]
async fn sweep_removes_rows_that_the_table_does_not_accept(#[case] kind: ErrorKind) {
    let fixture = published_without_commit(Output::Both).await;
    fixture.aws.delete(KEY);
    fixture.expire_lease();
    fixture.database.fail(Step::Begin, kind);
    let results = fixture.sweep().await;
    assert_eq!((results.reports.len(), results.failures.len()), (0, 0));
    assert_eq!((fixture.objects().as_str(), fixture.aws.partitions()), ("", 0));
}

#[tokio::test]
async fn sweep_keeps_rows_while_the_database_is_down() {
    let fixture = published_without_commit(Output::Both).await;
    fixture.aws.delete(KEY);
    fixture.expire_lease();
    fixture.database.fail(Step::Begin, ErrorKind::Unreachable);
    fixture.sweep().await;
    // The lease is that of the sweep's own attempt. The next sweep needs or deletes it.
    assert_eq!(fixture.objects(), "lake-manifest lake lease");
    fixture.database.heal();
    assert_eq!(fixture.sweep().await.reports.len(), 1);
    assert_eq!((fixture.objects().as_str(), fixture.database.rows().len()), ("lake", 2));
}

/// The rows of the overwritten version are older than those in the table.
#[tokio::test]
async fn sweep_does_not_merge_the_rows_of_a_file_that_is_gone() {
    let mut fixture = published_without_commit(Output::Both).await;
    fixture.aws.put(KEY, "id,note\n1,newer\n");
    fixture.settings.database.options.load_mode = LoadMode::Merge { key: vec!["id".to_owned()] };
    fixture.expire_lease();
    fixture.sweep().await;
    assert_eq!(fixture.database.rows(), ["1,newer"]);
    assert_eq!((fixture.objects().as_str(), fixture.lake_rows().await), ("lake processed", vec!["1,newer".to_owned()]));
}

#[tokio::test]
async fn other_rows_than_those_of_an_earlier_attempt_wait() {
    let mut fixture = published_without_commit(Output::Both).await;
    fixture.settings.files.csv.has_header = false;
    let error = fixture.process().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DestinationTaken);
    assert!(error.message().contains("delete that object, but only if the ledger does not say loaded"), "{error}");
    assert!(fixture.database.rows().is_empty());

    // The sweep does not load the rows of the former settings either.
    fixture.expire_lease();
    let results = fixture.sweep().await;
    assert!(results.reports.is_empty());
    assert_eq!(results.failures[0].kind(), ErrorKind::DestinationTaken);
    assert!(fixture.database.rows().is_empty());

    // Without the object, the next attempt writes the file again.
    let key = fixture.aws.keys().into_iter().find(|key| key.starts_with("lake/orders/")).unwrap();
    fixture.aws.delete(&key);
    assert_eq!(fixture.process().await.unwrap().outcome, Outcome::Loaded);
    assert_eq!(fixture.database.rows().len(), 3);
    assert_eq!(fixture.lake_rows().await, ["id,note", "1,one", "2,two"]);
}

/// The published object has rows, and this attempt reads none.
#[tokio::test]
async fn file_whose_header_is_now_its_last_line_waits() {
    let mut fixture = published_without_commit(Output::Both).await;
    fixture.settings.files.csv.skip_lines = Some(2);
    assert_eq!(fixture.process().await.unwrap_err().kind(), ErrorKind::DestinationTaken);
    assert_eq!(fixture.objects(), "lake-manifest lake lease upload");
}

/// Every line is now a comment.
#[tokio::test]
async fn file_that_is_now_empty_waits() {
    let mut fixture = fixture(Output::Both);
    fixture.aws.put(KEY, "%id,note\n%1,one\n");
    publish_without_commit(&fixture, Output::Both).await;
    fixture.settings.files.csv.comment = Some(b'%');
    assert_eq!(fixture.process().await.unwrap_err().kind(), ErrorKind::DestinationTaken);
    assert_eq!(fixture.objects(), "lake-manifest lake lease upload");
}

/// The ledger row of the load names no object, so the lake must have none.
#[rstest]
#[tokio::test]
async fn object_is_removed_if_output_has_no_lake_any_more(#[values(false, true)] is_gone: bool) {
    let mut fixture = published_without_commit(Output::Both).await;
    fixture.settings.database.options.output = Output::Database;
    if is_gone {
        fixture.aws.delete(KEY);
        fixture.expire_lease();
        assert!(fixture.sweep().await.reports.is_empty());
        assert_eq!((fixture.objects().as_str(), fixture.database.rows().len()), ("", 0));
    } else {
        assert_eq!(fixture.process().await.unwrap().outcome, Outcome::Loaded);
        assert_eq!((fixture.objects().as_str(), fixture.database.rows().len()), ("processed", 2));
        assert_eq!(fixture.database.ledger()[0].lake_key, None);
    }
    assert_eq!(fixture.aws.partitions(), 0);
}

/// The worker died after COMMIT, so the ledger row names the object.
#[tokio::test]
async fn committed_object_stays_if_output_has_no_lake_any_more() {
    let mut fixture = fixture(Output::Both);
    fixture.database.lose_commit(CommitFault::LostAfterCommit);
    fixture.database.fail(Step::LookUp, ErrorKind::Privilege);
    fixture.process().await.unwrap_err();
    fixture.database.heal();
    fixture.settings.database.options.output = Output::Database;
    assert_eq!(fixture.process().await.unwrap().outcome, Outcome::AlreadyLoaded);
    assert_stored(&fixture, Output::Both).await;
}

#[tokio::test]
async fn rejected_values_are_not_in_the_lake() {
    let fixture = fixture(Output::Both).with_max_rejects(5);
    fixture.aws.put(KEY, "id,note\n1,one\n2,refused\n3\n4,four\n");
    fixture.database.refuse_value(Some("refused"));
    let report = fixture.process().await.unwrap();
    assert_eq!((report.rows_parsed, report.rows_stored, report.rows_rejected), (4, 2, 2));
    assert_eq!(fixture.database.rows(), ["1,one", "4,four"]);
    assert_eq!(fixture.lake_rows().await, ["1,one", "4,four"]);
}

#[rstest]
#[case::database_down(ErrorKind::Unreachable)]
#[case::table_does_not_fit(ErrorKind::TableMismatch)]
#[tokio::test]
async fn file_that_falls_back_is_in_the_lake_after_its_replay(#[case] kind: ErrorKind) {
    let fixture = fixture(Output::Both);
    fixture.database.fail(Step::Begin, kind);
    assert_eq!(fixture.process().await.unwrap().outcome, Outcome::FellBack);
    assert_eq!(fixture.objects(), "failed manifest fallback");
    fixture.database.heal();
    let report = fixture.replay().await.remove(0).unwrap();
    assert_eq!((report.outcome, report.lake.is_some()), (Outcome::Replayed, true));
    assert_stored(&fixture, Output::Both).await;
}

/// The lake has the rows already, and the replay finds them.
#[tokio::test]
async fn file_that_falls_back_after_it_was_published_is_in_the_lake_once() {
    let fixture = published_without_commit(Output::Both).await;
    fixture.database.fail(Step::Begin, ErrorKind::TableMismatch);
    assert_eq!(fixture.process().await.unwrap().outcome, Outcome::FellBack);
    assert_eq!(fixture.objects(), "failed manifest fallback lake-manifest lake");
    assert!(fixture.sweep().await.reports.is_empty(), "the replay finishes the load, not the sweep");
    fixture.database.heal();
    assert_eq!(fixture.replay().await.remove(0).unwrap().outcome, Outcome::Replayed);
    assert_stored(&fixture, Output::Both).await;
}

#[rstest]
#[case::ledger_down(ErrorKind::Unreachable)]
#[case::user_without_privilege(ErrorKind::Privilege)]
#[tokio::test]
async fn file_for_the_lake_alone_waits_for_the_ledger(#[case] kind: ErrorKind) {
    let fixture = fixture(Output::Lake);
    fixture.database.fail(Step::Begin, kind);
    assert_eq!(fixture.process().await.unwrap_err().kind(), kind);
    fixture.assert_waits("upload");
    fixture.database.heal();
    fixture.process().await.unwrap();
    assert_stored(&fixture, Output::Lake).await;
}

#[rstest]
#[tokio::test]
async fn file_without_rows_has_no_object(
    #[values(Output::Lake, Output::Both)] output: Output,
    #[values("", "id,note\n")] body: &str,
) {
    let fixture = fixture(output);
    fixture.aws.put(KEY, body);
    let report = fixture.process().await.unwrap();
    assert_eq!((report.outcome, report.lake), (Outcome::Loaded, None));
    assert_eq!((fixture.objects().as_str(), fixture.ledger_state()), ("processed", Some(LedgerState::Loaded)));
}

#[tokio::test]
async fn corrected_records_have_an_object_of_their_own() {
    let fixture = fixture(Output::Both).with_max_rejects(5);
    fixture.aws.put(KEY, FILE.replace("2,two", "2"));
    fixture.process().await.unwrap();
    let rejects =
        fixture.aws.keys().into_iter().find(|key| key.starts_with("rejected/") && key.ends_with(".csv")).unwrap();
    fixture.aws.put(&rejects, "id,note\n2,two\n");
    assert_eq!(fixture.process_key(&rejects).await.unwrap().outcome, Outcome::Loaded);
    let mut rows = fixture.lake_rows().await;
    rows.sort();
    assert_eq!(rows, ["1,one", "2,two"]);
}

#[tokio::test]
async fn check_tests_the_lake_if_there_is_one() {
    let fixture = fixture(Output::Both);
    let item = |check: crate::check::Check| check.items.into_iter().find(|item| item.name == "lake");
    assert!(item(fixture.check().await).unwrap().ok);
    fixture.aws.fail_with("GetDatabase", "lake_tables", 403, "AccessDenied");
    assert!(!item(fixture.check().await).unwrap().ok);
    assert!(item(Fixture::new(Reading::Buffered).check().await).is_none());
}

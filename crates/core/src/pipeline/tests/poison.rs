//! Files with which workers have died: the count in the lease, and the file that is parked.

use rstest::rstest;
use serde_json::{Value, json};

use super::{CommitFault, FILE, Fixture, KEY, Reading, Step};
use crate::destination::{LedgerState, LoadMode};
use crate::error::ErrorKind;
use crate::report::Outcome;

/// A file with which this number of workers have died.
async fn after_deaths(reading: Reading, deaths: u32) -> Fixture {
    let fixture = Fixture::new(reading);
    fixture.leave_lease_with(json!({"unended_acquisitions": deaths})).await;
    fixture
}

fn assert_parked(fixture: &Fixture) {
    fixture.assert_waits("failed reason");
    assert_eq!(fixture.ledger_state(), Some(LedgerState::Rejected));
    let key = fixture.aws.keys().into_iter().find(|key| key.ends_with(".reason.json")).unwrap();
    let reason: Value = serde_json::from_slice(&fixture.aws.get(&key).unwrap()).unwrap();
    assert_eq!(reason["kind"], "poison");
    assert!(reason["reason"].as_str().unwrap().contains("3 workers in a row died"), "{reason}");
}

#[rstest]
#[case::no_count_in_an_old_lease(json!({}), false)]
#[case::none(json!({"unended_acquisitions": 0}), false)]
#[case::one(json!({"unended_acquisitions": 1}), false)]
#[case::two(json!({"unended_acquisitions": 2}), false)]
#[case::three(json!({"unended_acquisitions": 3}), true)]
#[case::more(json!({"unended_acquisitions": 30}), true)]
#[tokio::test]
async fn file_is_parked_after_three_deaths(
    #[values(Reading::Buffered, Reading::SinglePass)] reading: Reading,
    #[case] lease: Value,
    #[case] is_parked: bool,
) {
    let fixture = Fixture::new(reading);
    fixture.leave_lease_with(lease).await;
    let report = fixture.process().await.unwrap();
    if is_parked {
        assert_eq!((report.outcome, report.needs_attention), (Outcome::Rejected, true));
        fixture.assert_waits("failed reason");
        assert_eq!((fixture.database.calls(Step::Begin), fixture.ledger_state()), (0, Some(LedgerState::Rejected)));
    } else {
        assert_eq!((report.outcome, report.needs_attention), (Outcome::Loaded, false));
        fixture.assert_loaded();
    }
}

#[rstest]
#[tokio::test]
async fn each_death_is_counted_and_the_fourth_worker_parks_the_file(
    #[values(Reading::Buffered, Reading::SinglePass)] reading: Reading,
) {
    let fixture = Fixture::new(reading);
    for deaths in 1..=3 {
        fixture.die_while_writing().await;
        assert_eq!(fixture.unended_acquisitions(), Some(deaths));
    }
    let writes = fixture.database.calls(Step::Write);
    assert_eq!(fixture.process().await.unwrap().outcome, Outcome::Rejected);
    assert_eq!(fixture.database.calls(Step::Write), writes);
    assert_parked(&fixture);
}

/// A worker that fails and ends its lease has not died. It keeps the count of those that did.
#[rstest]
#[case(ErrorKind::Conflict)]
#[case(ErrorKind::Service)]
#[tokio::test]
async fn failed_attempt_is_not_counted_as_a_death(#[case] kind: ErrorKind) {
    let fixture = after_deaths(Reading::Buffered, 2).await;
    for _ in 0..3 {
        fixture.database.fail(Step::Write, kind);
        assert_eq!(fixture.process().await.unwrap_err().kind(), kind);
        fixture.database.heal();
        assert_eq!(fixture.unended_acquisitions(), Some(2));
    }
    fixture.die_while_writing().await;
    assert_eq!(fixture.process().await.unwrap().outcome, Outcome::Rejected);
    assert_parked(&fixture);
}

#[tokio::test]
async fn failed_attempts_alone_leave_no_lease() {
    let fixture = Fixture::new(Reading::Buffered);
    fixture.database.fail(Step::Write, ErrorKind::Service);
    for _ in 0..4 {
        fixture.process().await.unwrap_err();
        assert_eq!(fixture.unended_acquisitions(), None);
    }
}

/// A lease that says COMMIT may have been sent, or a row that the ledger has although the lease says nothing.
#[rstest]
#[case::in_doubt(true)]
#[case::lease_without_notes(false)]
#[tokio::test]
async fn file_that_is_loaded_is_finished_and_not_parked(#[case] commit_may_be_sent: bool) {
    let fixture = Fixture::new(Reading::Buffered);
    fixture.database.put_ledger(&fixture.version(KEY).await.id, LedgerState::Loaded, 2);
    fixture.leave_lease_with(json!({"unended_acquisitions": 3, "commit_may_be_sent": commit_may_be_sent})).await;
    let report = fixture.process().await.unwrap();
    assert_eq!((report.outcome, report.needs_attention), (Outcome::AlreadyLoaded, false));
    assert_eq!((fixture.objects().as_str(), fixture.ledger_state()), ("processed", Some(LedgerState::Loaded)));
}

#[rstest]
#[tokio::test]
async fn file_waits_while_the_ledger_cannot_be_read(
    #[values(true, false)] commit_may_be_sent: bool,
    #[values(ErrorKind::Unreachable, ErrorKind::Conflict)] kind: ErrorKind,
) {
    let fixture = Fixture::new(Reading::Buffered);
    fixture.leave_lease_with(json!({"unended_acquisitions": 3, "commit_may_be_sent": commit_may_be_sent})).await;
    fixture.database.fail(Step::LookUp, kind);
    for _ in 0..2 {
        assert_eq!(fixture.process().await.unwrap_err().kind(), kind);
        fixture.assert_waits("lease upload");
        assert_eq!(fixture.unended_acquisitions(), Some(3));
        assert_eq!(fixture.lease_notes(), Some((commit_may_be_sent, false)));
    }
    fixture.database.heal();
    assert_eq!(fixture.process().await.unwrap().outcome, Outcome::Rejected);
    assert_parked(&fixture);
}

/// The COMMIT takes effect, and the worker dies before it learns that. Two more die before they read the file.
#[tokio::test]
async fn commit_in_doubt_survives_the_deaths_after_it() {
    let fixture = Fixture::new(Reading::Buffered);
    fixture.database.lose_commit(CommitFault::LostAfterCommit);
    fixture.database.fail(Step::LookUp, ErrorKind::Unreachable);
    assert_eq!(fixture.process().await.unwrap_err().kind(), ErrorKind::CommitUnknown);
    fixture.database.heal();
    fixture.leave_lease_with(json!({"unended_acquisitions": 3, "commit_may_be_sent": true})).await;
    assert_eq!(fixture.process().await.unwrap().outcome, Outcome::AlreadyLoaded);
    fixture.assert_loaded();
}

#[tokio::test]
async fn file_that_fell_back_is_finished_and_not_parked() {
    let fixture = Fixture::new(Reading::Buffered);
    fixture.database.fail(Step::Begin, ErrorKind::TableMismatch);
    fixture.aws.fail("CopyObject", "failed/");
    fixture.process().await.unwrap_err();
    fixture.aws.heal();
    fixture.leave_lease_with(json!({"unended_acquisitions": 3, "fallback_may_be_written": true})).await;
    assert_eq!(fixture.process().await.unwrap().outcome, Outcome::FellBack);
    fixture.assert_fell_back();
}

/// Workers that die while they write the fallback leave a manifest, for which no replay may wait.
#[tokio::test]
async fn parked_file_leaves_no_manifest() {
    let fixture = Fixture::new(Reading::Buffered);
    fixture.database.fail(Step::Begin, ErrorKind::TableMismatch);
    fixture.aws.fail("CreateMultipartUpload", "fallback/");
    fixture.process().await.unwrap_err();
    assert_eq!(fixture.objects(), "manifest upload");
    fixture.aws.heal();
    fixture.leave_lease_with(json!({"unended_acquisitions": 3})).await;
    assert_eq!(fixture.process().await.unwrap().outcome, Outcome::Rejected);
    assert_parked(&fixture);
    assert!(fixture.replay().await.is_empty());
}

#[tokio::test]
async fn parked_file_leaves_no_rejected_records() {
    let fixture = Fixture::new(Reading::Buffered).with_max_rejects(1);
    fixture.aws.put(KEY, format!("{FILE}a short record\n"));
    fixture.die_at(Step::Finalize).await;
    assert!(fixture.objects().contains("rejects"), "{}", fixture.objects());
    fixture.leave_lease_with(json!({"unended_acquisitions": 3})).await;
    assert_eq!(fixture.process().await.unwrap().outcome, Outcome::Rejected);
    assert_parked(&fixture);
}

#[rstest]
#[case::same_bytes(FILE)]
#[case::other_bytes("id,note\n1,one\n2,two\n3,three\n")]
#[tokio::test]
async fn parked_file_that_is_uploaded_again_has_a_new_count(#[case] body: &str) {
    let fixture = after_deaths(Reading::Buffered, 3).await;
    assert_eq!(fixture.process().await.unwrap().outcome, Outcome::Rejected);
    fixture.aws.put(KEY, body);
    for _ in 0..2 {
        fixture.die_while_writing().await;
    }
    assert_eq!(fixture.process().await.unwrap().outcome, Outcome::Loaded);
    assert_eq!(fixture.database.rows().len(), body.lines().count() - 1);
}

#[tokio::test]
async fn parked_file_whose_move_fails_is_parked_by_the_next_worker() {
    let fixture = after_deaths(Reading::Buffered, 3).await;
    fixture.aws.fail("CopyObject", "failed/");
    assert_eq!(fixture.process().await.unwrap_err().kind(), ErrorKind::Service);
    assert_eq!((fixture.objects().as_str(), fixture.unended_acquisitions()), ("reason lease upload", Some(3)));
    fixture.aws.heal();
    assert_eq!(fixture.process().await.unwrap().outcome, Outcome::Rejected);
    assert_parked(&fixture);
}

/// Two files, of which the first in the listing panics while it is read.
#[tokio::test]
async fn panic_fails_only_its_own_object_and_counts_as_a_death() {
    let fixture = Fixture::new(Reading::Buffered);
    fixture.aws.put("uploads/b.csv", "id,note\n3,three\n");
    fixture.aws.before("GetObject", KEY, 0, || panic!("a panic that the test expects"));
    let results = fixture.sweep().await;
    assert_eq!(results.reports.len(), 1);
    assert_eq!(
        (results.reports[0].object.key.as_str(), results.reports[0].outcome),
        ("uploads/b.csv", Outcome::Loaded)
    );
    let kinds: Vec<_> = results.failures.iter().map(|failure| failure.kind()).collect();
    assert_eq!((kinds, fixture.unended_acquisitions()), (vec![ErrorKind::Internal], Some(1)));
    assert!(results.failures[0].to_string().contains(KEY), "{}", results.failures[0]);
}

#[rstest]
#[case::no_deaths(0, ["1,one", "2,two", "3,three"])]
#[case::one_death(1, ["3,three", "1,one", "2,two"])]
#[case::two_deaths(2, ["3,three", "1,one", "2,two"])]
#[tokio::test]
async fn sweep_starts_a_file_with_deaths_after_the_others(
    #[values(1, 4)] max_concurrent_files: usize,
    #[case] deaths: u32,
    #[case] rows: [&str; 3],
) {
    let mut fixture = after_deaths(Reading::Buffered, deaths).await;
    fixture.settings.max_concurrent_files = max_concurrent_files;
    fixture.aws.put("uploads/b.csv", "id,note\n3,three\n");
    let results = fixture.sweep().await;
    assert_eq!((results.reports.len(), results.failures.len()), (2, 0));
    if deaths > 0 || max_concurrent_files == 1 {
        assert_eq!(fixture.database.rows(), rows);
    }
}

/// In these modes the order of the files decides the rows of the table.
#[tokio::test]
async fn sweep_keeps_the_order_of_files_that_replace_each_other() {
    let mut fixture = after_deaths(Reading::Buffered, 1).await;
    fixture.settings.database.options.load_mode = LoadMode::Replace;
    fixture.aws.put("uploads/b.csv", "id,note\n3,three\n");
    let results = fixture.sweep().await;
    let keys: Vec<_> = results.reports.iter().map(|report| report.object.key.as_str()).collect();
    assert_eq!(keys, [KEY, "uploads/b.csv"]);
}

#[tokio::test]
async fn sweep_goes_on_without_the_counts_if_the_leases_cannot_be_read() {
    let fixture = Fixture::new(Reading::Buffered);
    fixture.aws.put("uploads/b.csv", "id,note\n3,three\n");
    fixture.aws.put(&format!("lease/{}", "1".repeat(64)), "not a lease");
    let results = fixture.sweep().await;
    assert_eq!((results.reports.len(), results.failures.len()), (2, 0));
}

/// If a worker dies, its whole batch is received again. The other files of the batch do not wait a second time.
#[rstest]
#[case::first_time(1, ["1,one", "2,two", "3,three"])]
#[case::second_time(2, ["3,three", "1,one", "2,two"])]
#[tokio::test]
async fn batch_that_is_received_again_processes_a_file_with_deaths_last(
    #[case] receive_count: u32,
    #[case] rows: [&str; 3],
) {
    let fixture = after_deaths(Reading::Buffered, 1).await;
    fixture.aws.put("uploads/b.csv", "id,note\n3,three\n");
    let response = fixture.receive(&[KEY, "uploads/b.csv"], receive_count).await;
    assert_eq!(response, json!({"batchItemFailures": []}));
    assert_eq!(fixture.database.rows(), rows);
}

/// The ledger must be read before a file is parked. During an outage the sweep leaves the file in place, and does not fail.
#[rstest]
#[case::outage(ErrorKind::Unreachable)]
#[case::broken_secret(ErrorKind::SecretInvalid)]
#[tokio::test]
async fn sweep_leaves_a_file_that_waits_for_the_database(#[case] kind: ErrorKind) {
    let fixture = after_deaths(Reading::Buffered, 3).await;
    fixture.database.fail(Step::LookUp, kind);
    let results = fixture.sweep().await;
    assert_eq!((results.reports.len(), results.failures.len()), (0, 0));
    fixture.assert_waits("lease upload");
    fixture.database.heal();
    assert_eq!(fixture.sweep().await.reports[0].outcome, Outcome::Rejected);
    assert_parked(&fixture);
}

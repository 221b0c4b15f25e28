//! Leases, manifests, uploads and fallback objects of an earlier attempt.

use rstest::rstest;

use super::{FILE, Fixture, KEY, Reading, Step};
use crate::destination::LedgerState;
use crate::error::ErrorKind;
use crate::report::Outcome;

#[rstest]
#[tokio::test]
async fn file_with_a_live_lease_is_left_to_its_holder(
    #[values(Reading::Buffered, Reading::SinglePass)] reading: Reading,
) {
    let fixture = Fixture::new(reading);
    fixture.put_live_lease(&fixture.version(KEY).await);
    assert_eq!(fixture.process().await.unwrap_err().kind(), ErrorKind::Busy);
    fixture.assert_waits("lease upload");
    assert_eq!(fixture.database.calls(Step::Open), 0);
}

#[rstest]
#[tokio::test]
async fn expired_lease_is_taken_over(
    #[values(Reading::Buffered, Reading::SinglePass)] reading: Reading,
    #[values(false, true)] commit_may_be_sent: bool,
    #[values(false, true)] fallback_may_be_written: bool,
) {
    let fixture = Fixture::new(reading);
    fixture.leave_lease(commit_may_be_sent, fallback_may_be_written).await;
    assert_eq!(fixture.process().await.unwrap().outcome, Outcome::Loaded);
    fixture.assert_loaded();
}

/// A fallback with a completed object, whose attempt ended before it was registered or moved.
async fn fallback_before_the_move(reading: Reading) -> Fixture {
    let fixture = Fixture::new(reading);
    fixture.database.fail(Step::Begin, ErrorKind::TableMismatch);
    fixture.aws.fail("CopyObject", "failed/");
    fixture.process().await.unwrap_err();
    assert_eq!(fixture.objects(), "manifest fallback lease upload");
    fixture.aws.heal();
    fixture.database.heal();
    fixture
}

#[rstest]
#[tokio::test]
async fn file_that_fell_back_before_is_not_loaded_although_the_database_accepts_it(
    #[values(Reading::Buffered, Reading::SinglePass)] reading: Reading,
) {
    let fixture = fallback_before_the_move(reading).await;
    let begins = fixture.database.calls(Step::Begin);
    let report = fixture.process().await.unwrap();
    assert_eq!((report.outcome, report.rows_stored), (Outcome::FellBack, 2));
    assert!(report.reason.unwrap().starts_with("table_mismatch"));
    assert_eq!(fixture.database.calls(Step::Begin), begins);
    fixture.assert_fell_back();
}

#[rstest]
#[case::manifest("_manifests/")]
#[case::object("orders/")]
#[tokio::test]
async fn outage_of_s3_is_not_a_missing_fallback(
    #[values(Reading::Buffered, Reading::SinglePass)] reading: Reading,
    #[case] key_part: &str,
) {
    let fixture = fallback_before_the_move(reading).await;
    fixture.aws.fail_with("GetObject", key_part, 503, "SlowDown");
    assert_eq!(fixture.process().await.unwrap_err().kind(), ErrorKind::Throttled);
    assert_eq!(fixture.objects(), "manifest fallback lease upload");
    assert!(fixture.database.rows().is_empty());
}

#[tokio::test]
async fn fallback_without_its_manifest_waits_for_an_operator() {
    let fixture = fallback_before_the_move(Reading::Buffered).await;
    let manifest = fixture.aws.keys().into_iter().find(|key| key.contains("_manifests/")).unwrap();
    fixture.aws.delete(&manifest);
    let error = fixture.process().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Service);
    assert!(error.message().contains(&manifest), "{error}");
    assert!(fixture.database.rows().is_empty());
}

/// The upload must end before the successor looks for the object: it could complete in between.
#[rstest]
#[case(true, 0)]
#[case(false, 1)]
#[tokio::test]
async fn unfinished_fallback_of_the_previous_holder_is_aborted(
    #[case] fallback_may_be_written: bool,
    #[case] unfinished_uploads: usize,
) {
    let fixture = Fixture::new(Reading::Buffered);
    fixture.database.fail(Step::Begin, ErrorKind::TableMismatch);
    fixture.aws.fail("CreateMultipartUpload", "fallback/");
    fixture.process().await.unwrap_err();
    assert_eq!(fixture.objects(), "manifest upload");
    fixture.aws.heal();
    fixture.database.heal();
    let version = fixture.version(KEY).await;
    fixture.aws.start_upload(&format!("fallback/orders/dt=2026-11-20/{}.parquet", version.id));
    fixture.leave_lease(false, fallback_may_be_written).await;

    assert_eq!(fixture.process().await.unwrap().outcome, Outcome::Loaded);
    assert_eq!(fixture.aws.unfinished_uploads(), unfinished_uploads);
    assert_eq!(fixture.objects(), "manifest processed");
}

#[tokio::test]
async fn uploads_that_cannot_be_aborted_stop_the_attempt() {
    let fixture = Fixture::new(Reading::Buffered);
    fixture.database.fail(Step::Begin, ErrorKind::TableMismatch);
    fixture.aws.fail("CreateMultipartUpload", "fallback/");
    fixture.process().await.unwrap_err();
    fixture.aws.heal();
    fixture.database.heal();
    fixture.leave_lease(false, true).await;
    fixture.aws.fail("ListMultipartUploads", "");
    assert_eq!(fixture.process().await.unwrap_err().kind(), ErrorKind::Service);
    assert_eq!((fixture.objects().as_str(), fixture.lease_notes()), ("manifest lease upload", Some((false, true))));
    assert!(fixture.database.rows().is_empty());
}

#[rstest]
#[case::lease_cannot_be_written("PutObject", 500, ErrorKind::Service)]
#[case::lease_is_forbidden("PutObject", 403, ErrorKind::Forbidden)]
#[tokio::test]
async fn nothing_happens_without_a_lease(
    #[case] operation: &'static str,
    #[case] status: u16,
    #[case] kind: ErrorKind,
) {
    let fixture = Fixture::new(Reading::Buffered);
    fixture.aws.fail_with(operation, "lease/", status, "");
    assert_eq!(fixture.process().await.unwrap_err().kind(), kind);
    fixture.assert_waits("upload");
    assert_eq!(fixture.database.calls(Step::Open), 0);
}

#[tokio::test]
async fn lease_whose_response_was_lost_must_expire_first() {
    let fixture = Fixture::new(Reading::Buffered);
    fixture.aws.lose_response("PutObject", "lease/");
    assert_eq!(fixture.process().await.unwrap_err().kind(), ErrorKind::Service);
    assert_eq!(fixture.process().await.unwrap_err().kind(), ErrorKind::Busy);
    fixture.assert_waits("lease upload");
}

#[tokio::test]
async fn lease_that_cannot_be_deleted_does_not_change_the_outcome() {
    let fixture = Fixture::new(Reading::Buffered);
    fixture.aws.fail("DeleteObject", "lease/");
    assert_eq!(fixture.process().await.unwrap().outcome, Outcome::Loaded);
    assert_eq!(fixture.objects(), "lease processed");
    fixture.aws.put("uploads/b.csv", FILE);
    fixture.aws.heal();
    assert_eq!(fixture.process_key("uploads/b.csv").await.unwrap().outcome, Outcome::Loaded);
}

/// The rows of the file are not needed. Its worker died within the move, and the next one cannot read the ledger.
#[rstest]
#[case(LedgerState::Duplicate)]
#[case(LedgerState::Superseded)]
#[tokio::test]
async fn file_without_need_for_a_load_never_falls_back_after_a_half_move(#[case] state: LedgerState) {
    let fixture = Fixture::new(Reading::Buffered);
    let version = fixture.version(KEY).await;
    fixture.database.put_ledger(&version.id, state, 2);
    fixture.aws.fail("DeleteObject", "uploads/");
    fixture.process().await.unwrap_err();
    assert_eq!(fixture.objects(), "lease processed upload");
    fixture.aws.heal();
    fixture.database.stop();
    fixture.process().await.unwrap_err();
    assert_eq!(fixture.objects(), "lease processed upload");
    fixture.database.heal();
    fixture.process().await.unwrap();
    assert_eq!(fixture.objects(), "processed");
}

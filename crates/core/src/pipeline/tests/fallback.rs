//! Fallback writes that fail halfway, and the next attempt after them.

use rstest::rstest;

use super::{Fixture, Reading, Step};
use crate::destination::LedgerState;
use crate::error::ErrorKind;
use crate::report::Outcome;

/// A fault of S3 or Glue during a fallback write.
#[derive(Debug, Clone, Copy)]
enum Fault {
    Refused(&'static str, &'static str),
    ResponseLost(&'static str, &'static str),
}

/// A file whose rows the database rejects, and whose fallback write fails.
async fn failed_fallback(fault: Fault) -> (Fixture, ErrorKind) {
    let fixture = Fixture::new(Reading::SinglePass);
    fixture.database.fail(Step::Begin, ErrorKind::TableMismatch);
    match fault {
        Fault::Refused(operation, key_part) => fixture.aws.fail(operation, key_part),
        Fault::ResponseLost(operation, key_part) => fixture.aws.lose_response(operation, key_part),
    }
    let kind = fixture.process().await.unwrap_err().kind();
    fixture.aws.heal();
    (fixture, kind)
}

#[rstest]
#[case::catalog_unreadable(Fault::Refused("GetTable", "spare"), "upload")]
#[case::table_not_created(Fault::Refused("CreateTable", "spare"), "upload")]
#[case::manifest_not_written(Fault::Refused("PutObject", "_manifests/"), "upload")]
#[case::manifest_response_lost(Fault::ResponseLost("PutObject", "_manifests/"), "manifest upload")]
#[case::upload_not_started(Fault::Refused("CreateMultipartUpload", "fallback/"), "manifest upload")]
#[case::part_not_sent(Fault::Refused("UploadPart", "fallback/"), "manifest upload")]
#[case::not_completed(Fault::Refused("CompleteMultipartUpload", "fallback/"), "manifest lease upload")]
#[case::completion_response_lost(
    Fault::ResponseLost("CompleteMultipartUpload", "fallback/"),
    "manifest fallback lease upload"
)]
#[case::not_registered(Fault::Refused("CreatePartition", "spare"), "manifest fallback lease upload")]
#[tokio::test]
async fn failed_fallback_ends_in_one_place_at_the_next_attempt(
    #[values(false, true)] database_accepts_it_then: bool,
    #[case] fault: Fault,
    #[case] objects: &str,
) {
    let (fixture, kind) = failed_fallback(fault).await;
    assert_eq!((kind, fixture.objects().as_str()), (ErrorKind::Service, objects));
    assert_eq!((fixture.aws.unfinished_uploads(), fixture.ledger_state()), (0, None));
    // The lease remains only if the object was about to be completed.
    assert_eq!(fixture.lease_notes().is_some(), objects.contains("lease"));
    assert!(fixture.lease_notes().is_none_or(|notes| notes == (false, true)));

    if database_accepts_it_then {
        fixture.database.heal();
    }
    let report = fixture.process().await.unwrap();
    // If the object was completed, the file has fallen back, whatever the database says now.
    if database_accepts_it_then && !objects.contains("fallback") {
        assert_eq!(report.outcome, Outcome::Loaded);
        assert_eq!(fixture.database.rows(), ["1,one", "2,two"]);
        assert!(fixture.fallback_rows().is_empty());
        assert!(fixture.objects().ends_with("processed"));
    } else {
        assert_eq!(report.outcome, Outcome::FellBack);
        fixture.assert_fell_back();
    }
}

#[rstest]
#[tokio::test]
async fn worker_that_lost_its_lease_does_not_complete_the_fallback(
    #[values(Reading::Buffered, Reading::SinglePass)] reading: Reading,
    #[values("CreateMultipartUpload", "UploadPart")] before: &'static str,
) {
    let fixture = Fixture::new(reading);
    fixture.database.fail(Step::Begin, ErrorKind::TableMismatch);
    fixture.aws.before(before, "fallback/", 0, fixture.steal_lease());
    assert_eq!(fixture.process().await.unwrap_err().kind(), ErrorKind::LeaseLost);
    fixture.assert_waits("manifest lease upload");
    assert_eq!(fixture.aws.unfinished_uploads(), 0);
}

#[rstest]
#[tokio::test]
async fn fallback_works_while_the_database_is_down(#[values(Reading::Buffered, Reading::SinglePass)] reading: Reading) {
    let fixture = Fixture::new(reading);
    fixture.database.stop();
    let report = fixture.process().await.unwrap();
    assert_eq!((report.outcome, report.needs_attention), (Outcome::FellBack, false));
    fixture.assert_fell_back();
    assert_eq!(fixture.ledger_state(), None);
}

#[tokio::test]
async fn duplicate_event_after_a_fallback_is_skipped() {
    let fixture = Fixture::new(Reading::Buffered);
    fixture.database.stop();
    fixture.process().await.unwrap();
    fixture.database.heal();
    assert_eq!(fixture.process().await.unwrap().outcome, Outcome::Skipped);
    fixture.assert_fell_back();
}

#[tokio::test]
async fn ledger_has_counts_and_reason_of_a_fallback() {
    let fixture = Fixture::new(Reading::Buffered);
    fixture.database.fail(Step::Write, ErrorKind::TableMismatch);
    let report = fixture.process().await.unwrap();
    let row = &fixture.database.ledger()[0];
    assert_eq!((row.entry.state, row.entry.rows_parsed, row.entry.rows_stored), (LedgerState::FellBack, 2, 2));
    assert_eq!(Some(&row.reason), report.reason.as_ref());
    assert_eq!(row.entry.moved_to, report.moved_to);
}

#[tokio::test]
async fn two_files_of_a_day_share_one_partition() {
    let fixture = Fixture::new(Reading::Buffered);
    fixture.aws.put("uploads/b.csv", "id,note\n3,three\n");
    fixture.database.stop();
    fixture.process().await.unwrap();
    fixture.process_key("uploads/b.csv").await.unwrap();
    assert_eq!(fixture.objects(), "failed failed manifest manifest fallback fallback");
    assert_eq!((fixture.aws.partitions(), fixture.fallback_rows().len()), (1, 3));
}

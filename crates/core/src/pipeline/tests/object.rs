//! Objects that are missing, unreadable, or overwritten while they are read.

use rstest::rstest;
use serde_json::json;

use super::{Fixture, KEY, Reading, Step};
use crate::error::ErrorKind;
use crate::report::Outcome;

const NEWER: &str = "id,note\n3,three\n";

#[tokio::test]
async fn object_that_is_gone_is_skipped() {
    let fixture = Fixture::new(Reading::Buffered);
    fixture.aws.delete(KEY);
    let report = fixture.process().await.unwrap();
    assert_eq!(report.outcome, Outcome::Skipped);
    assert!(report.reason.unwrap().contains("gone"));
    assert_eq!((fixture.objects().as_str(), fixture.database.calls(Step::Open)), ("", 0));
}

#[rstest]
#[case("HeadObject", 403, "", ErrorKind::Forbidden)]
#[case("HeadObject", 500, "", ErrorKind::Service)]
#[case("HeadObject", 503, "", ErrorKind::Throttled)]
#[case("GetObject", 403, "AccessDenied", ErrorKind::Forbidden)]
#[case("GetObject", 400, "KMS.DisabledException", ErrorKind::Forbidden)]
#[case("GetObject", 500, "InternalError", ErrorKind::Service)]
#[case("GetObject", 503, "SlowDown", ErrorKind::Throttled)]
#[tokio::test]
async fn object_that_cannot_be_read_waits_and_never_falls_back(
    #[values(Reading::Buffered, Reading::SinglePass)] reading: Reading,
    #[case] operation: &'static str,
    #[case] status: u16,
    #[case] code: &'static str,
    #[case] kind: ErrorKind,
) {
    let fixture = Fixture::new(reading);
    fixture.aws.fail_with(operation, "uploads/", status, code);
    assert_eq!(fixture.process().await.unwrap_err().kind(), kind);
    fixture.assert_waits("upload");
    assert_eq!(fixture.ledger_state(), None);

    fixture.aws.heal();
    assert_eq!(fixture.process().await.unwrap().outcome, Outcome::Loaded);
    fixture.assert_loaded();
}

/// The object is overwritten before a pass over its bytes. A single-pass load that needs a scan reads it twice, and a
/// third time for its rows.
#[rstest]
#[case(Reading::Buffered, 0)]
#[case(Reading::SinglePass, 0)]
#[case(Reading::SinglePass, 1)]
#[case(Reading::SinglePass, 2)]
#[tokio::test]
async fn object_that_is_overwritten_while_it_is_read_is_loaded_in_its_new_version(
    #[case] reading: Reading,
    #[case] passes_before: u32,
) {
    let fixture = Fixture::new(reading);
    fixture.database.needs_scan_at(Step::Write);
    let aws = fixture.aws.clone();
    fixture.aws.before("GetObject", "uploads/", passes_before, move || aws.put(KEY, NEWER));
    assert_eq!(fixture.process().await.unwrap().outcome, Outcome::Loaded);
    assert_eq!(fixture.database.rows(), ["3,three"]);
    assert_eq!(fixture.objects(), "processed");
}

#[tokio::test]
async fn object_that_changes_in_every_try_waits() {
    let fixture = Fixture::new(Reading::Buffered);
    for version in 0..4 {
        let aws = fixture.aws.clone();
        fixture.aws.before("GetObject", "uploads/", 0, move || aws.put(KEY, format!("id,note\n{version},x\n")));
    }
    assert_eq!(fixture.process().await.unwrap_err().kind(), ErrorKind::SourceChanged);
    fixture.assert_waits("upload");
    assert_eq!(fixture.process().await.unwrap().outcome, Outcome::Loaded);
    assert_eq!(fixture.database.rows(), ["3,x"]);
}

#[rstest]
#[tokio::test]
async fn object_that_is_deleted_while_it_is_read_is_an_error_once(
    #[values(Reading::Buffered, Reading::SinglePass)] reading: Reading,
) {
    let fixture = Fixture::new(reading);
    let aws = fixture.aws.clone();
    fixture.aws.before("GetObject", "uploads/", 0, move || aws.delete(KEY));
    assert_eq!(fixture.process().await.unwrap_err().kind(), ErrorKind::SourceMissing);
    fixture.assert_waits("");
    assert_eq!(fixture.process().await.unwrap().outcome, Outcome::Skipped);
}

/// An object in an archive of S3 cannot be read. Neither events nor sweeps wait for it.
#[tokio::test]
async fn archived_object_is_skipped() {
    let fixture = Fixture::new(Reading::Buffered);
    fixture.aws.fail_with("GetObject", "uploads/", 403, "InvalidObjectState");
    let swept = fixture.sweep().await.into_result().unwrap();
    assert_eq!(swept.reports[0].outcome, Outcome::Skipped);
    assert!(swept.reports[0].reason.as_ref().unwrap().contains("restore the object"), "{swept:?}");
    assert_eq!(fixture.receive(&[KEY], 1).await["batchItemFailures"], json!([]));
    fixture.assert_waits("upload");
    fixture.aws.heal();
    assert_eq!(fixture.process().await.unwrap().outcome, Outcome::Loaded);
}

//! `AFTER_LOAD`: files that stay in place or are deleted after the load, with duplicate events, crashes and outages.

use rstest::rstest;

use super::{CommitFault, Fixture, KEY, Reading, Step};
use crate::destination::LedgerState;
use crate::error::ErrorKind;
use crate::pipeline::{AfterLoad, Dedupe};
use crate::report::Outcome;

fn fixture(reading: Reading, after_load: AfterLoad) -> Fixture {
    let mut fixture = Fixture::new(reading);
    fixture.settings.after_load = after_load;
    fixture
}

/// Asserts that the rows are in the table once, and that the bucket contains exactly these kinds of objects.
fn assert_loaded_once(fixture: &Fixture, objects: &str) {
    assert_eq!(fixture.objects(), objects);
    assert_eq!(fixture.database.rows(), ["1,one", "2,two"]);
    assert_eq!(fixture.ledger_state(), Some(LedgerState::Loaded));
}

#[rstest]
#[tokio::test]
async fn kept_file_stays_in_place_and_loads_once(#[values(Reading::Buffered, Reading::SinglePass)] reading: Reading) {
    let fixture = fixture(reading, AfterLoad::Keep);
    let report = fixture.process().await.unwrap();
    assert_eq!((report.outcome, report.moved_to), (Outcome::Loaded, None));
    assert_loaded_once(&fixture, "upload");
    assert_eq!(fixture.process().await.unwrap().outcome, Outcome::AlreadyLoaded);
    assert_loaded_once(&fixture, "upload");
}

#[tokio::test]
async fn sweep_leaves_kept_files_alone() {
    let fixture = fixture(Reading::Buffered, AfterLoad::Keep);
    assert_eq!(fixture.sweep().await.reports.len(), 1);
    let begun = fixture.database.calls(Step::Begin);
    let swept = fixture.sweep().await;
    assert!(swept.reports.is_empty() && swept.failures.is_empty());
    assert_eq!(fixture.database.calls(Step::Begin), begun);
    let status = serde_json::to_value(fixture.status(None).await.unwrap()).unwrap();
    assert_eq!(status["waiting"]["files"], 0);

    // The next version is another file.
    fixture.aws.put(KEY, "id,note\n3,three\n");
    assert_eq!(fixture.sweep().await.reports.len(), 1);
    assert_eq!(fixture.database.rows(), ["1,one", "2,two", "3,three"]);
    assert_eq!(fixture.objects(), "upload");
}

/// A listing does not tell versions apart, so S3 is asked for the current one.
#[tokio::test]
async fn sweep_compares_versions_of_kept_files_if_each_must_be_loaded() {
    let mut fixture = fixture(Reading::Buffered, AfterLoad::Keep);
    fixture.settings.dedupe = Dedupe::Version;
    fixture.sweep().await;
    assert!(fixture.sweep().await.reports.is_empty());
    assert_loaded_once(&fixture, "upload");
}

/// An outage ends by itself, so the sweep does not fail.
#[tokio::test]
async fn sweep_that_cannot_read_the_ledger_starts_no_kept_file() {
    let fixture = fixture(Reading::Buffered, AfterLoad::Keep);
    fixture.process().await.unwrap();
    fixture.database.fail(Step::LoadedVersions, ErrorKind::Privilege);
    let swept = fixture.sweep().await;
    assert_eq!((swept.reports.len(), swept.failures.len()), (0, 1));
    assert_eq!(swept.failures[0].kind(), ErrorKind::Privilege);
    fixture.database.heal();
    fixture.database.stop();
    let swept = fixture.sweep().await;
    assert_eq!((swept.reports.len(), swept.failures.len()), (0, 0));
    assert_loaded_once(&fixture, "upload");
}

/// A duplicate event of a loaded file must not write its rows to the fallback. Only the ledger can tell.
#[rstest]
#[tokio::test]
async fn kept_file_waits_for_the_ledger(
    #[values(Reading::Buffered, Reading::SinglePass)] reading: Reading,
    #[values(true, false)] is_loaded: bool,
) {
    let fixture = fixture(reading, AfterLoad::Keep);
    if is_loaded {
        fixture.process().await.unwrap();
    }
    fixture.database.stop();
    assert_eq!(fixture.process().await.unwrap_err().kind(), ErrorKind::Unreachable);
    assert!(!fixture.objects().contains("fallback") && fixture.objects().ends_with("upload"));
    fixture.database.heal();
    let expected = if is_loaded { Outcome::AlreadyLoaded } else { Outcome::Loaded };
    assert_eq!(fixture.process().await.unwrap().outcome, expected);
    assert_loaded_once(&fixture, "upload");
}

#[tokio::test]
async fn kept_file_that_the_database_refuses_falls_back() {
    let fixture = fixture(Reading::Buffered, AfterLoad::Keep);
    fixture.database.fail(Step::Begin, ErrorKind::TableMismatch);
    assert_eq!(fixture.process().await.unwrap().outcome, Outcome::FellBack);
    fixture.assert_fell_back();
}

/// A loaded file that could not be read any more with other settings is still a loaded file.
#[tokio::test]
async fn loaded_file_that_stays_in_place_is_not_rejected_later() {
    let mut fixture = fixture(Reading::Buffered, AfterLoad::Keep);
    fixture.process().await.unwrap();
    fixture.settings.files.csv.delimiter = Some(b';');
    fixture.settings.files.limits.max_record_bytes = 1;
    let outcome = fixture.process().await.unwrap().outcome;
    assert_eq!(outcome, Outcome::AlreadyLoaded);
    assert_loaded_once(&fixture, "upload");
}

#[rstest]
#[tokio::test]
async fn file_is_deleted_after_the_load(#[values(Reading::Buffered, Reading::SinglePass)] reading: Reading) {
    let fixture = fixture(reading, AfterLoad::Delete);
    let report = fixture.process().await.unwrap();
    assert_eq!((report.outcome, report.moved_to), (Outcome::Loaded, None));
    assert_loaded_once(&fixture, "");
    assert_eq!(fixture.process().await.unwrap().outcome, Outcome::Skipped);
}

#[tokio::test]
async fn failed_delete_is_repeated_without_a_load() {
    let fixture = fixture(Reading::Buffered, AfterLoad::Delete);
    fixture.aws.fail("DeleteObject", "uploads/");
    assert_eq!(fixture.process().await.unwrap_err().kind(), ErrorKind::Service);
    assert_loaded_once(&fixture, "lease upload");
    fixture.aws.heal();
    assert_eq!(fixture.process().await.unwrap().outcome, Outcome::AlreadyLoaded);
    assert_loaded_once(&fixture, "");
}

#[rstest]
#[case(CommitFault::LostAfterCommit)]
#[case(CommitFault::LostBeforeCommit)]
#[tokio::test]
async fn file_is_not_deleted_while_its_commit_is_in_doubt(#[case] fault: CommitFault) {
    let fixture = fixture(Reading::Buffered, AfterLoad::Delete);
    fixture.database.lose_commit(fault);
    fixture.database.fail(Step::LookUp, ErrorKind::Privilege);
    assert_eq!(fixture.process().await.unwrap_err().kind(), ErrorKind::CommitUnknown);
    assert_eq!(fixture.objects(), "lease upload");
    fixture.database.heal();
    fixture.process().await.unwrap();
    assert_loaded_once(&fixture, "");
}

#[tokio::test]
async fn object_that_is_overwritten_before_its_delete_stays() {
    let fixture = fixture(Reading::Buffered, AfterLoad::Delete);
    let aws = fixture.aws.clone();
    fixture.aws.before("DeleteObject", "uploads/", 0, move || aws.put(KEY, "id,note\n3,three\n"));
    assert_eq!(fixture.process().await.unwrap().outcome, Outcome::Loaded);
    assert_eq!(fixture.objects(), "upload");
    assert_eq!(fixture.process().await.unwrap().outcome, Outcome::Loaded);
    assert_eq!(fixture.database.rows(), ["1,one", "2,two", "3,three"]);
    assert_eq!(fixture.objects(), "");
}

#[tokio::test]
async fn empty_file_is_deleted_only_after_the_ledger_has_it() {
    let fixture = fixture(Reading::Buffered, AfterLoad::Delete);
    fixture.aws.put(KEY, "");
    fixture.database.stop();
    assert!(fixture.process().await.is_err());
    assert!(fixture.objects().ends_with("upload"), "{}", fixture.objects());
    fixture.database.heal();
    fixture.process().await.unwrap();
    assert_eq!(fixture.objects(), "");
    assert_eq!(fixture.ledger_state(), Some(LedgerState::Loaded));
}

#[rstest]
#[case(AfterLoad::Keep, "processed")]
#[case(AfterLoad::Delete, "")]
#[tokio::test]
async fn replayed_file_moves_or_is_deleted(#[case] after_load: AfterLoad, #[case] objects: &str) {
    let fixture = fixture(Reading::Buffered, after_load);
    fixture.database.fail(Step::Begin, ErrorKind::TableMismatch);
    assert_eq!(fixture.process().await.unwrap().outcome, Outcome::FellBack);
    fixture.database.heal();
    assert!(fixture.replay().await.remove(0).is_ok());
    assert_loaded_once(&fixture, objects);
}

#[tokio::test]
async fn status_of_a_kept_file_says_that_it_stays() {
    let fixture = fixture(Reading::Buffered, AfterLoad::Keep);
    fixture.process().await.unwrap();
    let id = fixture.version(KEY).await.id;
    let mut row = super::status::entry(id.as_str(), LedgerState::Loaded, "2026-11-20T12:00:00Z");
    row.reason = None;
    fixture.database.put_history(KEY, row);
    let status = serde_json::to_value(fixture.status(Some(KEY)).await.unwrap()).unwrap();
    assert_eq!(status["state"], "loaded");
    assert!(status["explanation"].as_str().unwrap().contains("stays in place"), "{status:#}");
}

//! Each result of begin, duplicates, and files without rows.

use rstest::rstest;

use super::{FILE, Fixture, KEY, Reading, Step};
use crate::destination::{LedgerState, LoadMode};
use crate::error::ErrorKind;
use crate::pipeline::Dedupe;
use crate::report::Outcome;

#[rstest]
#[tokio::test]
async fn open_load_is_committed_and_the_object_moves(
    #[values(Reading::Buffered, Reading::SinglePass)] reading: Reading,
) {
    let fixture = Fixture::new(reading);
    let report = fixture.process().await.unwrap();
    assert_eq!((report.outcome, report.rows_parsed, report.rows_stored), (Outcome::Loaded, 2, 2));
    assert_eq!((report.table.as_deref(), report.reason), (Some("orders"), None));
    fixture.assert_loaded();
    assert_eq!(fixture.database.ledger()[0].entry.moved_to, report.moved_to);
    assert_eq!(fixture.aws.unfinished_uploads(), 0);
}

#[rstest]
#[case(LedgerState::Loaded, Outcome::AlreadyLoaded)]
#[case(LedgerState::Duplicate, Outcome::AlreadyLoaded)]
#[case(LedgerState::Superseded, Outcome::Superseded)]
#[tokio::test]
async fn file_that_the_ledger_has_is_only_moved(
    #[values(Reading::Buffered, Reading::SinglePass)] reading: Reading,
    #[values(0, 1)] max_rejects: u64,
    #[case] state: LedgerState,
    #[case] outcome: Outcome,
) {
    let fixture = Fixture::new(reading).with_max_rejects(max_rejects);
    fixture.database.put_ledger(&fixture.version(KEY).await.id, state, 2);
    let report = fixture.process().await.unwrap();
    assert_eq!((report.outcome, report.rows_parsed, report.rows_stored), (outcome, 2, 2));
    assert_eq!((fixture.objects().as_str(), fixture.database.calls(Step::Write)), ("processed", 0));
}

#[rstest]
#[case(LedgerState::FellBack)]
#[case(LedgerState::Rejected)]
#[tokio::test]
async fn file_that_was_not_loaded_before_is_loaded_now(
    #[values(Reading::Buffered, Reading::SinglePass)] reading: Reading,
    #[case] state: LedgerState,
) {
    let fixture = Fixture::new(reading);
    fixture.database.put_ledger(&fixture.version(KEY).await.id, state, 0);
    assert_eq!(fixture.process().await.unwrap().outcome, Outcome::Loaded);
    fixture.assert_loaded();
}

#[rstest]
#[tokio::test]
async fn file_that_needs_a_scan_is_scanned_and_loaded_once(
    #[values(Step::Begin, Step::Write)] step: Step,
    #[values(0, 1)] max_rejects: u64,
) {
    let fixture = Fixture::new(Reading::SinglePass).with_max_rejects(max_rejects);
    fixture.database.needs_scan_at(step);
    assert_eq!(fixture.process().await.unwrap().outcome, Outcome::Loaded);
    assert_eq!((fixture.database.calls(Step::Begin), fixture.database.calls(Step::Commit)), (2, 1));
    fixture.assert_loaded();
}

/// The object is read once for the scan and once for the load.
#[tokio::test]
async fn scan_continues_the_pass_that_peeked_at_the_first_rows() {
    let fixture = Fixture::new(Reading::SinglePass);
    fixture.database.needs_scan_at(Step::Begin);
    fixture.aws.before("GetObject", "uploads/", 2, || panic!("a third pass over the object"));
    assert_eq!(fixture.process().await.unwrap().outcome, Outcome::Loaded);
}

/// The first batch of rows decides the types of a new table; the last row needs another type.
#[tokio::test]
async fn value_of_another_type_stops_the_single_pass_load() {
    let fixture = Fixture::new(Reading::SinglePass);
    fixture.database.create_table_from_first_rows();
    fixture.aws.put(KEY, format!("id\n{}x\n", "1\n".repeat(3_000)));
    let report = fixture.process().await.unwrap();
    assert_eq!((report.outcome, report.rows_stored), (Outcome::Loaded, 3_001));
    assert_eq!((fixture.database.calls(Step::Begin), fixture.database.calls(Step::Commit)), (2, 1));
}

/// The order of day and month is known only after the scan, so the first rows may be refused without it.
#[rstest]
#[case::proved("day\n01/02/2024\n13/02/2024\n", Outcome::Loaded)]
#[case::not_proved("day\n01/02/2024\n03/02/2024\n", Outcome::FellBack)]
#[tokio::test]
async fn refused_dates_are_loaded_after_a_scan_that_proves_their_order(#[case] body: &str, #[case] outcome: Outcome) {
    let fixture = Fixture::new(Reading::SinglePass);
    fixture.aws.put(KEY, body);
    fixture.database.fail_times(Step::Write, ErrorKind::DataRefused, 1);
    let report = fixture.process().await.unwrap();
    assert_eq!((report.outcome, report.rows_stored), (outcome, 2));
}

#[rstest]
#[tokio::test]
async fn document_with_records_in_an_array_has_a_hint(
    #[values(Reading::Buffered, Reading::SinglePass)] reading: Reading,
) {
    let fixture = Fixture::new(reading);
    fixture.aws.put(KEY, "{\"next\": null, \"items\": [{\"id\": 1}, {\"id\": 2}]}");
    let report = fixture.process().await.unwrap();
    assert_eq!((report.outcome, report.rows_stored), (Outcome::Loaded, 1));
    assert!(report.hint.is_some_and(|hint| hint.ends_with("set JSON_RECORDS to items")));
}

#[rstest]
#[tokio::test]
async fn duplicate_event_is_skipped(#[values(Reading::Buffered, Reading::SinglePass)] reading: Reading) {
    let fixture = Fixture::new(reading);
    fixture.process().await.unwrap();
    assert_eq!(fixture.process().await.unwrap().outcome, Outcome::Skipped);
    fixture.assert_loaded();
}

/// The object was deleted and uploaded again, so version and ETag are the same.
#[rstest]
#[case(Dedupe::Content)]
#[case(Dedupe::Version)]
#[tokio::test]
async fn file_that_is_uploaded_again_is_loaded_once(
    #[values(Reading::Buffered, Reading::SinglePass)] reading: Reading,
    #[case] dedupe: Dedupe,
) {
    let mut fixture = Fixture::new(reading);
    fixture.settings.dedupe = dedupe;
    fixture.process().await.unwrap();
    fixture.aws.put(KEY, FILE);
    assert_eq!(fixture.process().await.unwrap().outcome, Outcome::AlreadyLoaded);
    fixture.assert_loaded();
}

/// An upload in parts has another ETag, so it is another version with the same content.
#[rstest]
#[case(Dedupe::Content, Outcome::AlreadyLoaded, 2)]
#[case(Dedupe::Version, Outcome::Loaded, 4)]
#[tokio::test]
async fn same_content_in_another_version_is_a_duplicate_unless_every_version_counts(
    #[values(Reading::Buffered, Reading::SinglePass)] reading: Reading,
    #[case] dedupe: Dedupe,
    #[case] outcome: Outcome,
    #[case] rows: usize,
) {
    let mut fixture = Fixture::new(reading);
    fixture.settings.dedupe = dedupe;
    fixture.process().await.unwrap();
    fixture.aws.put_in_parts(KEY, FILE);
    assert_eq!(fixture.process().await.unwrap().outcome, outcome);
    assert_eq!((fixture.objects().as_str(), fixture.database.rows().len()), ("processed processed", rows));
}

#[rstest]
#[tokio::test]
async fn other_content_under_the_same_key_is_loaded(
    #[values(Reading::Buffered, Reading::SinglePass)] reading: Reading,
) {
    let fixture = Fixture::new(reading);
    fixture.process().await.unwrap();
    fixture.aws.put(KEY, "id,note\n3,three\n");
    assert_eq!(fixture.process().await.unwrap().outcome, Outcome::Loaded);
    assert_eq!(fixture.database.rows(), ["1,one", "2,two", "3,three"]);
    assert_eq!(fixture.objects(), "processed processed");
}

#[rstest]
#[case::empty("", Some("the file is empty"))]
#[case::header_only("id,note\n", None)]
#[tokio::test]
async fn file_without_rows_is_loaded_with_no_rows(
    #[values(Reading::Buffered, Reading::SinglePass)] reading: Reading,
    #[case] body: &str,
    #[case] reason: Option<&str>,
) {
    let fixture = Fixture::new(reading);
    fixture.aws.put(KEY, body);
    let report = fixture.process().await.unwrap();
    assert_eq!((report.outcome, report.rows_stored, report.reason.as_deref()), (Outcome::Loaded, 0, reason));
    assert_eq!((fixture.objects().as_str(), fixture.ledger_state()), ("processed", Some(LedgerState::Loaded)));
}

#[rstest]
#[tokio::test]
async fn empty_file_without_header_does_not_replace_a_table(
    #[values(Reading::Buffered, Reading::SinglePass)] reading: Reading,
) {
    let mut fixture = Fixture::new(reading);
    fixture.settings.database.options.load_mode = LoadMode::Replace;
    fixture.aws.put(KEY, "");
    let report = fixture.process().await.unwrap();
    assert_eq!((report.outcome, fixture.objects().as_str()), (Outcome::Rejected, "failed reason"));
    assert_eq!(fixture.database.calls(Step::Begin), 0);
}

#[tokio::test]
async fn scan_of_a_scanned_file_is_a_bug() {
    let fixture = Fixture::new(Reading::Buffered);
    fixture.database.always_needs_scan();
    let report = fixture.process().await.unwrap();
    assert!(report.needs_attention && report.reason.unwrap().starts_with(ErrorKind::Internal.name()));
    fixture.assert_fell_back();
}

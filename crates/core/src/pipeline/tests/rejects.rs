//! Files that are rejected as a whole, and records that are rejected one by one.

use rstest::rstest;
use serde_json::Value;

use super::{FILE, Fixture, KEY, Reading, Step};
use crate::destination::LedgerState;
use crate::error::ErrorKind;
use crate::pattern::TablePatterns;
use crate::pipeline::{TableRules, Tables};
use crate::report::Outcome;
use crate::route::{self, TableRoutes};

/// The second record lacks a field.
const ONE_BAD_RECORD: &str = "id,note\n1,one\n2\n3,three\n";

/// Why a file is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    Broken,
    NoTable,
}

fn fixture(reading: Reading, cause: Cause) -> Fixture {
    let mut fixture = Fixture::new(reading);
    match cause {
        Cause::Broken => fixture.aws.put(KEY, ONE_BAD_RECORD),
        Cause::NoTable => {
            let patterns = TablePatterns::parse("uploads/{table}/**").unwrap();
            let rules = TableRules::of_routes(TableRoutes { patterns, default: None });
            fixture.settings.database.tables = Tables::fixed(rules);
        }
    }
    fixture
}

/// The only object of this kind.
fn text(fixture: &Fixture, ending: &str) -> String {
    let key = fixture.aws.keys().into_iter().find(|key| key.ends_with(ending)).unwrap();
    String::from_utf8(fixture.aws.get(&key).unwrap()).unwrap()
}

#[rstest]
#[case(Cause::Broken, "file_broken", Some(2))]
#[case(Cause::NoTable, "key_refused", None)]
#[tokio::test]
async fn rejected_file_moves_with_its_reason(
    #[values(Reading::Buffered, Reading::SinglePass)] reading: Reading,
    #[case] cause: Cause,
    #[case] kind: &str,
    #[case] record: Option<u64>,
) {
    let fixture = fixture(reading, cause);
    let report = fixture.process().await.unwrap();
    assert_eq!((report.outcome, report.rows_stored, report.needs_attention), (Outcome::Rejected, 0, false));
    fixture.assert_waits("failed reason");
    let reason: Value = serde_json::from_str(&text(&fixture, ".reason.json")).unwrap();
    assert_eq!((reason["kind"].as_str(), reason["record"].as_u64()), (Some(kind), record));
    assert_eq!(reason["reason"].as_str(), report.reason.as_deref());
    assert_eq!(fixture.ledger_state(), Some(LedgerState::Rejected));
}

/// With an earlier COMMIT in doubt the ledger decides. `None` means that the ledger cannot be read.
#[rstest]
#[case::loaded(Some(LedgerState::Loaded), "processed", Some(Outcome::AlreadyLoaded))]
#[case::not_loaded(Some(LedgerState::FellBack), "failed reason", Some(Outcome::Rejected))]
#[case::cannot_say(None, "lease upload", None)]
#[tokio::test]
async fn rejected_file_asks_the_ledger_about_an_earlier_commit(
    #[values(Reading::Buffered, Reading::SinglePass)] reading: Reading,
    #[values(Cause::Broken, Cause::NoTable)] cause: Cause,
    #[case] ledger: Option<LedgerState>,
    #[case] objects: &str,
    #[case] outcome: Option<Outcome>,
) {
    let fixture = fixture(reading, cause);
    fixture.leave_lease(true, false).await;
    match ledger {
        Some(state) => fixture.database.put_ledger(&fixture.version(KEY).await.id, state, 2),
        None => fixture.database.fail(Step::LookUp, ErrorKind::Unreachable),
    }
    // The database would find loaded rows when a load begins. Here the file is rejected before or at that step.
    fixture.database.fail(Step::Begin, ErrorKind::FileBroken);
    let result = fixture.process().await;
    assert_eq!(result.as_ref().ok().map(|report| report.outcome), outcome, "{result:?}");
    assert_eq!(fixture.objects(), objects);
    assert_eq!(fixture.database.calls(Step::LookUp), 1);
}

#[tokio::test]
async fn rejected_file_without_a_commit_in_doubt_needs_no_database() {
    let fixture = fixture(Reading::Buffered, Cause::Broken);
    fixture.leave_lease(false, false).await;
    fixture.database.stop();
    assert_eq!(fixture.process().await.unwrap().outcome, Outcome::Rejected);
    fixture.assert_waits("failed reason");
    assert_eq!(fixture.database.calls(Step::LookUp), 0);
}

#[rstest]
#[tokio::test]
async fn bad_record_is_written_with_its_error_and_the_others_are_loaded(
    #[values(Reading::Buffered, Reading::SinglePass)] reading: Reading,
) {
    let fixture = Fixture::new(reading).with_max_rejects(1);
    fixture.aws.put(KEY, ONE_BAD_RECORD);
    let report = fixture.process().await.unwrap();
    assert_eq!((report.outcome, report.rows_parsed), (Outcome::Loaded, 3));
    assert_eq!((report.rows_stored, report.rows_rejected), (2, 1));
    assert_eq!(fixture.objects(), "processed rejects reject-errors");
    assert_eq!(fixture.database.rows(), ["1,one", "3,three"]);
    assert_eq!(fixture.database.ledger()[0].rows_rejected, 1);
    assert_eq!(fixture.aws.get(&report.rejects.unwrap()).unwrap(), b"id,note\n2\n");
    let error: Value = serde_json::from_str(&text(&fixture, ".jsonl")).unwrap();
    assert_eq!((error["object_key"].as_str(), error["record"].as_u64()), (Some(KEY), Some(2)));
    assert_eq!(error["code"], "field_count");
}

/// `MAX_REJECTS` may be turned off before the next attempt, which then writes no rejects.
#[tokio::test]
async fn rejects_of_an_attempt_without_an_outcome_do_not_stay() {
    let fixture = Fixture::new(Reading::Buffered).with_max_rejects(1);
    fixture.aws.put(KEY, ONE_BAD_RECORD);
    fixture.database.fail(Step::Finalize, ErrorKind::Conflict);
    fixture.process().await.unwrap_err();
    fixture.assert_waits("upload");

    fixture.database.heal();
    fixture.die_at(Step::Finalize).await;
    fixture.assert_waits("lease rejects reject-errors upload");

    let fixture = fixture.with_max_rejects(0);
    assert_eq!(fixture.process().await.unwrap().outcome, Outcome::Rejected);
    fixture.assert_waits("failed reason");
}

#[rstest]
#[tokio::test]
async fn value_that_the_table_rejects_is_written_with_its_error(
    #[values(Reading::Buffered, Reading::SinglePass)] reading: Reading,
) {
    let fixture = Fixture::new(reading).with_max_rejects(1);
    fixture.database.refuse_value(Some("two"));
    let report = fixture.process().await.unwrap();
    assert_eq!((report.outcome, report.rows_parsed, report.rows_rejected), (Outcome::Loaded, 2, 1));
    assert_eq!(fixture.database.rows(), ["1,one"]);
    assert_eq!(text(&fixture, ".csv"), "id,note\n1,one\n2,two\n", "the moved object is complete");
    assert_eq!(fixture.aws.get(&report.rejects.unwrap()).unwrap(), b"id,note\n2,two\n");
    let error: Value = serde_json::from_str(&text(&fixture, ".jsonl")).unwrap();
    assert_eq!((error["code"].as_str(), error["column"].as_str()), (Some("value_refused"), Some("note")));
    assert!(!error["reason"].as_str().unwrap().contains("two"), "an error contains a value");
}

/// If the table rejects more values than allowed, none of the rows are loaded, and the whole file falls back.
#[rstest]
#[case(0, FILE, "does not fit the column")]
#[case(
    1,
    "id,note\n1,two\n2,two\n",
    "MAX_REJECTS allows (1 of 2): at least 2 have a value that does not fit its column"
)]
#[case(9, "id,note\n1,two\n2,two\n", "each of the 2 rows has a value that does not fit its column")]
#[case(9, "id,note\n1\n2,two\n", "the only row")]
#[tokio::test]
async fn too_many_rejected_values_fall_back_as_a_whole(
    #[values(Reading::Buffered, Reading::SinglePass)] reading: Reading,
    #[case] max_rejects: u64,
    #[case] body: &str,
    #[case] reason: &str,
) {
    let fixture = Fixture::new(reading).with_max_rejects(max_rejects);
    fixture.aws.put(KEY, body);
    fixture.database.refuse_value(Some("two"));
    let report = fixture.process().await.unwrap();
    let unreadable = u64::from(body.contains("1\n"));
    assert_eq!((report.outcome, report.rows_rejected), (Outcome::FellBack, unreadable));
    let why = report.reason.unwrap();
    assert!(why.contains(reason) && why.contains("column note"), "{why}");
    match unreadable {
        0 => fixture.assert_fell_back(),
        _ => assert_eq!(fixture.objects(), "failed manifest fallback rejects reject-errors"),
    }
    assert!(fixture.database.rows().is_empty());
}

/// Records that are still bad stay in their file. A person corrects them there, and sends the request again.
#[rstest]
#[case::cannot_be_read("id,note\n1\n2\n", ErrorKind::FileBroken)]
#[case::do_not_fit("id,note\n1,two\n2,two\n", ErrorKind::DataRefused)]
#[tokio::test]
async fn records_that_are_not_corrected_stay_in_place(
    #[values(Reading::Buffered, Reading::SinglePass)] reading: Reading,
    #[values(0, 1, 9)] max_rejects: u64,
    #[case] body: &str,
    #[case] kind: ErrorKind,
) {
    let mut fixture = fixture(reading, Cause::NoTable);
    fixture.settings.files.limits.rejects = spillway_formats::reject::RejectLimit::Count(max_rejects);
    let id = fixture.version(KEY).await.id;
    let key = route::rejects_key(&fixture.settings.prefixes, &"customers".into(), KEY, &id);
    fixture.aws.put(&key, body);
    fixture.database.refuse_value(Some("two"));
    let before = fixture.objects();
    let error = fixture.process_key(&key).await.unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    assert_eq!(fixture.objects(), before);
    assert_eq!(fixture.aws.get(&key).unwrap(), body.as_bytes());
    assert!(fixture.database.rows().is_empty());
    // After they are corrected, the same request loads them.
    fixture.aws.put(&key, "id,note\n1,one\n2,zwei\n");
    assert_eq!(fixture.process_key(&key).await.unwrap().outcome, Outcome::Loaded);
    assert_eq!(fixture.database.rows(), ["1,one", "2,zwei"]);
}

#[rstest]
#[tokio::test]
async fn file_with_rejects_falls_back_with_its_good_rows(
    #[values(Reading::Buffered, Reading::SinglePass)] reading: Reading,
) {
    let fixture = Fixture::new(reading).with_max_rejects(1);
    fixture.aws.put(KEY, ONE_BAD_RECORD);
    fixture.database.stop();
    let report = fixture.process().await.unwrap();
    assert_eq!((report.outcome, report.rows_stored, report.rows_rejected), (Outcome::FellBack, 2, 1));
    assert_eq!(fixture.objects(), "failed manifest fallback rejects reject-errors");
    assert_eq!(fixture.fallback_rows(), ["1,one", "3,three"]);
}

#[rstest]
#[case("GetObject", "upload")]
#[case("CreateMultipartUpload", "upload")]
#[case("UploadPart", "upload")]
#[case("CompleteMultipartUpload", "upload")]
#[tokio::test]
async fn nothing_is_committed_before_the_rejects_are_written(
    #[values(Reading::Buffered, Reading::SinglePass)] reading: Reading,
    #[case] operation: &'static str,
    #[case] objects: &str,
) {
    let fixture = Fixture::new(reading).with_max_rejects(1);
    fixture.aws.put(KEY, ONE_BAD_RECORD);
    fixture.aws.fail(operation, "rejected/");
    assert_eq!(fixture.process().await.unwrap_err().kind(), ErrorKind::Service);
    fixture.assert_waits(objects);
    assert_eq!((fixture.database.calls(Step::Commit), fixture.aws.unfinished_uploads()), (0, 0));
}

/// An attempt that wrote one rejected record and did not commit, because its worker died. A sweep has deleted its lease.
async fn rejects_of_an_earlier_attempt(reading: Reading) -> Fixture {
    let fixture = Fixture::new(reading).with_max_rejects(1);
    fixture.database.refuse_value(Some("two"));
    fixture.die_at(Step::Finalize).await;
    let lease = fixture.aws.keys().into_iter().find(|key| key.starts_with("lease/")).unwrap();
    fixture.aws.delete(&lease);
    fixture.assert_waits("rejects reject-errors upload");
    fixture
}

#[rstest]
#[case::same_rejects(Some("two"), "processed rejects reject-errors", 1)]
#[case::no_rejects(None, "processed", 2)]
#[tokio::test]
async fn rejects_of_an_earlier_attempt_are_replaced(
    #[values(Reading::Buffered, Reading::SinglePass)] reading: Reading,
    #[case] refused_value: Option<&'static str>,
    #[case] objects: &str,
    #[case] rows: usize,
) {
    let fixture = rejects_of_an_earlier_attempt(reading).await;
    fixture.database.refuse_value(refused_value);
    assert_eq!(fixture.process().await.unwrap().outcome, Outcome::Loaded);
    assert_eq!((fixture.objects().as_str(), fixture.database.rows().len()), (objects, rows));
}

/// The rejects may belong to the successor, so a worker that lost its lease neither deletes nor overwrites them.
#[rstest]
#[tokio::test]
async fn worker_that_lost_its_lease_leaves_the_rejects(
    #[values(Reading::Buffered, Reading::SinglePass)] reading: Reading,
    #[values(None, Some("two"))] refused_value: Option<&'static str>,
) {
    let fixture = rejects_of_an_earlier_attempt(reading).await;
    fixture.database.refuse_value(refused_value);
    fixture.aws.before("GetObject", "rejected/", 0, fixture.steal_lease());
    assert_eq!(fixture.process().await.unwrap_err().kind(), ErrorKind::LeaseLost);
    fixture.assert_waits("lease rejects reject-errors upload");
}

#[tokio::test]
async fn rejects_that_change_after_the_lease_was_verified_stop_the_load() {
    let fixture = rejects_of_an_earlier_attempt(Reading::Buffered).await;
    fixture.database.refuse_value(None);
    let aws = fixture.aws.clone();
    let key = fixture.aws.keys().into_iter().find(|key| key.starts_with("rejected/")).unwrap();
    fixture.aws.before("DeleteObject", "rejected/", 0, move || aws.put(&key, "other rejects"));
    assert_eq!(fixture.process().await.unwrap_err().kind(), ErrorKind::LeaseLost);
    fixture.assert_waits("rejects reject-errors upload");
}

#[tokio::test]
async fn corrected_rejects_are_loaded_into_their_table() {
    let mut fixture = fixture(Reading::Buffered, Cause::NoTable);
    fixture.settings.files.limits.rejects = spillway_formats::reject::RejectLimit::Count(1);
    let id = fixture.version(KEY).await.id;
    let key = route::rejects_key(&fixture.settings.prefixes, &"customers".into(), KEY, &id);
    fixture.aws.put(&key, "id,note\n2,corrected\n");
    let report = fixture.process_key(&key).await.unwrap();
    assert_eq!((report.outcome, report.table.as_deref()), (Outcome::Loaded, Some("customers")));
    assert_eq!(fixture.database.rows(), ["2,corrected"]);
    assert_eq!(fixture.objects(), "processed upload");
}

/// The folder of rejects names their table. A request must not load rows into the ledger that way.
#[tokio::test]
async fn corrected_rejects_are_never_loaded_into_spillways_own_tables() {
    let mut fixture = fixture(Reading::Buffered, Cause::NoTable);
    fixture.settings.files.limits.rejects = spillway_formats::reject::RejectLimit::Count(1);
    let id = fixture.version(KEY).await.id;
    let key = route::rejects_key(&fixture.settings.prefixes, &"spillway_ledger".into(), KEY, &id);
    fixture.aws.put(&key, "id,note\n2,forged\n");
    let report = fixture.process_key(&key).await.unwrap();
    assert_eq!(report.outcome, Outcome::Rejected, "{report:?}");
    assert!(fixture.database.rows().is_empty());
}

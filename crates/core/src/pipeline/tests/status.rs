//! Status and check: each state of a file, also while the database is down, and each item of a check.

use rstest::rstest;
use serde_json::{Value, json};

use super::{Fixture, KEY, Reading, Step};
use crate::destination::{HistoryEntry, LedgerState, LoadDetails};
use crate::error::ErrorKind;
use crate::report::Outcome;

pub(super) fn entry(fixture_id: &str, state: LedgerState, started_at: &str) -> HistoryEntry {
    HistoryEntry {
        source_id: fixture_id.to_owned(),
        state,
        rows_parsed: 2,
        rows_stored: 2,
        rows_rejected: 0,
        load: LoadDetails::default(),
        attempt: 1,
        started_at: started_at.parse().unwrap(),
        committed_at: None,
        moved_to: None,
        reason: None,
        table_changes: None,
    }
}

/// The status of a key, which must not change the bucket or the database.
async fn status_of(fixture: &Fixture, key: &str) -> Value {
    status(fixture, Some(key)).await
}

async fn status(fixture: &Fixture, key: Option<&str>) -> Value {
    let before = (fixture.aws.keys(), fixture.database.rows(), fixture.database.ledger().len());
    let status = serde_json::to_value(fixture.status(key).await.unwrap()).unwrap();
    assert_eq!((fixture.aws.keys(), fixture.database.rows(), fixture.database.ledger().len()), before);
    status
}

#[track_caller]
fn assert_state(status: &Value, state: &str, explanation: &str) {
    assert_eq!(status["state"], state, "{status:#}");
    assert!(status["explanation"].as_str().unwrap().contains(explanation), "{status:#}");
}

#[rstest]
#[case::database_is_up(false, "its event or the next sweep loads it")]
#[case::database_is_down(true, "may write its rows to the fallback")]
#[tokio::test]
async fn file_without_a_lease_waits(#[case] is_down: bool, #[case] explanation: &str) {
    let fixture = Fixture::new(Reading::Buffered);
    if is_down {
        fixture.database.stop();
    }
    let found = status_of(&fixture, KEY).await;
    assert_state(&found, "waiting", explanation);
    assert_eq!((&found["object"]["size_bytes"], &found["lease"]), (&json!(20), &Value::Null), "{found:#}");
    let error = found["ledger"]["error"].as_str().unwrap_or_default();
    assert_eq!(error.starts_with("unreachable: "), is_down, "{found:#}");
}

#[tokio::test]
async fn file_with_a_live_lease_is_loading() {
    let fixture = Fixture::new(Reading::Buffered);
    fixture.put_live_lease(&fixture.version(KEY).await);
    fixture.database.stop();
    let found = status_of(&fixture, KEY).await;
    assert_state(&found, "loading", "the worker \"other\" is loading the file");
    assert_eq!(found["lease"]["worker"], "other");
    let backlog = status(&fixture, None).await;
    assert_eq!((&backlog["leases"][0]["key"], &backlog["waiting"]["files"]), (&json!(KEY), &json!(1)));
}

#[tokio::test]
async fn expired_lease_does_not_count() {
    let fixture = Fixture::new(Reading::Buffered);
    fixture.leave_lease(true, false).await;
    assert_state(&status_of(&fixture, KEY).await, "waiting", "no worker has it");
    assert_eq!(status(&fixture, None).await["leases"], json!([]));
}

#[tokio::test]
async fn fallback_is_shown_with_its_reason_until_it_is_replayed() {
    let fixture = Fixture::new(Reading::Buffered);
    fixture.database.stop();
    assert_eq!(fixture.process().await.unwrap().outcome, Outcome::FellBack);
    let found = status_of(&fixture, KEY).await;
    assert_state(&found, "fell_back", "a replay loads them when the cause is gone");
    assert_eq!((&found["fallback"]["table"], &found["fallback"]["rows"]), (&json!("orders"), &json!(2)));
    assert!(found["fallback"]["reason"].as_str().unwrap().starts_with("unreachable: "), "{found:#}");
    assert!(found["moved"][0]["key"].as_str().unwrap().starts_with("failed/a."), "{found:#}");

    let backlog = status(&fixture, None).await;
    assert_eq!((&backlog["fallback"][0]["files"], &backlog["fallback"][0]["rows"]), (&json!(1), &json!(2)));
    assert_eq!(backlog["database"]["available"], false);
    assert!(backlog["database"]["reason"].as_str().unwrap().starts_with("unreachable: "), "{backlog:#}");

    fixture.database.heal();
    fixture.replay().await.remove(0).unwrap();
    // A history that this database returns is prescribed, and here it is empty.
    assert_state(&status_of(&fixture, KEY).await, "loaded", "this ledger has no row of it");
    let backlog = status(&fixture, None).await;
    assert_eq!((&backlog["fallback"], &backlog["database"]), (&json!([]), &json!({"available": true})));
}

#[tokio::test]
async fn rejected_file_is_shown_with_its_reason_file() {
    let fixture = Fixture::new(Reading::Buffered);
    fixture.aws.put(KEY, "id,note\n1,\"never closed\n");
    assert_eq!(fixture.process().await.unwrap().outcome, Outcome::Rejected);
    fixture.database.stop();
    let found = status_of(&fixture, KEY).await;
    assert_state(&found, "rejected", "correct the file and upload it again");
    assert_eq!(found["reason"]["content"]["kind"], "file_broken", "{found:#}");
    assert_eq!(found["moved"].as_array().unwrap().len(), 1, "{found:#}");
}

#[tokio::test]
async fn rejected_records_of_a_loaded_file_are_shown() {
    let fixture = Fixture::new(Reading::Buffered).with_max_rejects(1);
    fixture.aws.put(KEY, "id,note\n1,one\n2,two,too many\n");
    assert_eq!(fixture.process().await.unwrap().outcome, Outcome::Loaded);
    let found = status_of(&fixture, KEY).await;
    assert_state(&found, "loaded", "some records were rejected");
    assert_eq!(found["rejects"].as_array().unwrap().len(), 2, "{found:#}");
}

#[rstest]
#[case(LedgerState::Loaded, "loaded", "the rows are in the table; the object has not moved yet")]
#[case(LedgerState::Duplicate, "loaded", "set DEDUPE=version")]
#[case(LedgerState::Superseded, "loaded", "a newer file has replaced the table")]
// A rejected file that was moved back under the upload prefix is tried again.
#[case(LedgerState::Rejected, "waiting", "no worker has it")]
#[tokio::test]
async fn ledger_decides_for_a_version_that_is_in_place(
    #[case] ledger: LedgerState,
    #[case] state: &str,
    #[case] explanation: &str,
) {
    let fixture = Fixture::new(Reading::Buffered);
    let id = fixture.version(KEY).await.id.to_string();
    fixture.database.put_history(KEY, entry(&id, ledger, "2026-11-20T12:00:00Z"));
    assert_state(&status_of(&fixture, KEY).await, state, explanation);
}

/// A replay that could not move the object leaves it under the failed prefix.
#[tokio::test]
async fn ledger_overrides_the_place_of_a_moved_object() {
    let fixture = Fixture::new(Reading::Buffered);
    let id = fixture.version(KEY).await.id.to_string();
    fixture.aws.delete(KEY);
    fixture.aws.put(&format!("failed/a.{}.csv", &id[..16]), "id\n");
    assert_state(&status_of(&fixture, KEY).await, "fell_back", "a replay has loaded them unless they were deleted");
    fixture.database.put_history(KEY, entry(&id, LedgerState::Loaded, "2026-11-19T12:00:00Z"));
    assert_state(&status_of(&fixture, KEY).await, "loaded", "the rows are in the table");
}

#[rstest]
#[case("uploads/b.csv", "unknown", "no object has this key")]
// Another file, whose name begins like that of a moved one.
#[case("uploads/a.b.csv", "unknown", "files are loaded from uploads/")]
#[case("uploads/notes.txt", "waiting", "its name does not end in .csv")]
#[case("processed/a.csv", "waiting", "ask for the key that the file was uploaded to")]
#[tokio::test]
async fn key_that_is_not_a_waiting_file_is_explained(
    #[case] key: &str,
    #[case] state: &str,
    #[case] explanation: &str,
) {
    let fixture = Fixture::new(Reading::Buffered);
    fixture.process().await.unwrap();
    if state == "waiting" {
        fixture.aws.put(key, "x");
    }
    assert_state(&status_of(&fixture, key).await, state, explanation);
}

/// The names of the items that failed, separated by spaces.
async fn failed_items(fixture: &Fixture) -> String {
    let keys = fixture.aws.keys();
    let check = fixture.check().await;
    assert_eq!(fixture.aws.keys(), keys, "the check left an object");
    let failed: Vec<_> = check.items.iter().filter(|item| !item.ok).collect();
    assert!(failed.iter().all(|item| item.reason.is_some() && item.fix.is_some()), "{check:#?}");
    assert_eq!((check.ok, check.items.len()), (failed.is_empty(), 12), "{check:#?}");
    failed.iter().map(|item| item.name).collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn check_of_a_good_deployment_passes() {
    assert_eq!(failed_items(&Fixture::new(Reading::Buffered)).await, "");
}

#[rstest]
#[case("ListObjectsV2", "", "bucket")]
#[case("PutObject", "lease/", "bucket_write")]
#[case("GetDatabase", "", "glue")]
#[tokio::test]
async fn check_names_the_failed_service(#[case] operation: &'static str, #[case] key: &str, #[case] expected: &str) {
    let fixture = Fixture::new(Reading::Buffered);
    fixture.aws.fail_with(operation, key, 403, "AccessDenied");
    assert_eq!(failed_items(&fixture).await, expected);
}

#[rstest]
#[case(Step::Open, ErrorKind::SecretInvalid, "secret database load_statement temporary_table table ledger history")]
#[case(Step::Probe, ErrorKind::Credentials, "database load_statement temporary_table table ledger history")]
#[tokio::test]
async fn check_names_the_items_that_need_a_failed_one(
    #[case] step: Step,
    #[case] kind: ErrorKind,
    #[case] expected: &str,
) {
    let fixture = Fixture::new(Reading::Buffered);
    fixture.database.fail(step, kind);
    assert_eq!(failed_items(&fixture).await, expected);
    let reason = fixture.check().await.items.into_iter().find(|item| item.name == "ledger").unwrap().reason.unwrap();
    let cause = expected.split(' ').next().unwrap();
    assert_eq!(reason, format!("not tried, because {cause:?} failed"));
}

#[tokio::test]
async fn ledger_that_may_not_be_created_fails_the_check() {
    let fixture = Fixture::new(Reading::Buffered);
    fixture.database.deny_create();
    assert_eq!(failed_items(&fixture).await, "table ledger");
    fixture.database.put_ledger(&fixture.version(KEY).await.id, LedgerState::Loaded, 2);
    assert_eq!(failed_items(&fixture).await, "table");
}

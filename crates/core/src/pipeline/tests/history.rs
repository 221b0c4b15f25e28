//! The attempt history: which attempts it contains, and that it changes no outcome. Lists of fallbacks and rejects.

use std::time::Duration;

use rstest::rstest;
use serde_json::{Value, json};

use super::{Fixture, KEY, Reading, Step};
use crate::deadline::Deadline;
use crate::destination::{AttemptsProbe, RunOutcome};
use crate::error::ErrorKind;
use crate::report::Outcome;

#[tokio::test]
async fn failed_attempt_is_noted_after_its_lease_has_ended() {
    let fixture = Fixture::new(Reading::Buffered);
    fixture.database.fail(Step::Begin, ErrorKind::Conflict);
    let aws = fixture.aws.clone();
    fixture.database.before(Step::RecordAttempt, move || {
        assert!(!aws.keys().iter().any(|key| key.starts_with("lease/")), "{:?}", aws.keys());
    });
    assert_eq!(fixture.process().await.unwrap_err().kind(), ErrorKind::Conflict);
    let attempts = fixture.database.attempts();
    assert_eq!(attempts.len(), 1);
    let attempt = &attempts[0];
    assert_eq!((attempt.outcome, attempt.error_kind), (RunOutcome::Failed, ErrorKind::Conflict));
    assert_eq!((attempt.source.object.key.as_str(), attempt.table.as_str()), (KEY, "orders"));
    assert!(attempt.started_at <= attempt.ended_at && attempt.reason.contains("scripted failure"), "{attempt:?}");
}

#[tokio::test]
async fn load_writes_nothing_to_the_history() {
    let fixture = Fixture::new(Reading::Buffered);
    fixture.process().await.unwrap();
    fixture.assert_loaded();
    assert_eq!(fixture.database.calls(Step::RecordAttempt), 0);
}

#[tokio::test]
async fn fallback_and_rejected_file_are_noted_with_their_counts() {
    let fixture = Fixture::new(Reading::Buffered);
    fixture.database.fail(Step::Begin, ErrorKind::TableMismatch);
    assert_eq!(fixture.process().await.unwrap().outcome, Outcome::FellBack);
    fixture.aws.put("uploads/b.csv", "id,note\n1,\"never closed\n");
    assert_eq!(fixture.process_key("uploads/b.csv").await.unwrap().outcome, Outcome::Rejected);
    let noted: Vec<_> = fixture.database.attempts().iter().map(|a| (a.outcome, a.error_kind, a.rows_stored)).collect();
    assert_eq!(
        noted,
        [(RunOutcome::FellBack, ErrorKind::TableMismatch, 2), (RunOutcome::Rejected, ErrorKind::FileBroken, 0)]
    );
}

#[tokio::test]
async fn nothing_is_noted_while_the_database_is_down() {
    let fixture = Fixture::new(Reading::Buffered);
    fixture.database.stop();
    let context = fixture.context();
    assert_eq!(fixture.process_in(&context, KEY).await.unwrap().outcome, Outcome::FellBack);
    // The outage is known now, so a failure for another reason does not wait for the database either.
    fixture.aws.put("uploads/b.csv", "id\n1\n");
    fixture.aws.fail("GetObject", "b.csv");
    fixture.process_in(&context, "uploads/b.csv").await.unwrap_err();
    assert_eq!(fixture.database.calls(Step::RecordAttempt), 0);
}

#[rstest]
#[case::right_is_missing(ErrorKind::Privilege)]
#[case::server_is_gone(ErrorKind::Unreachable)]
#[tokio::test]
async fn failure_of_a_note_changes_no_outcome(#[case] kind: ErrorKind) {
    let fixture = Fixture::new(Reading::Buffered);
    fixture.database.fail(Step::RecordAttempt, kind);
    fixture.database.fail_times(Step::Begin, ErrorKind::TableMismatch, 1);
    assert_eq!(fixture.process().await.unwrap().outcome, Outcome::FellBack);
    fixture.assert_fell_back();
    assert_eq!(fixture.database.calls(Step::RecordAttempt), 1);
}

#[tokio::test]
async fn note_that_hangs_ends_soon() {
    let fixture = Fixture::new(Reading::Buffered);
    fixture.database.fail(Step::Begin, ErrorKind::Conflict);
    fixture.database.hang_at(Step::RecordAttempt);
    let deadline = Deadline::within(Duration::from_secs(4));
    let attempt = fixture.process_until(KEY, deadline);
    let result = tokio::time::timeout(Duration::from_secs(3), attempt).await.expect("the note has a time limit");
    assert_eq!(result.unwrap_err().kind(), ErrorKind::Conflict);
}

#[tokio::test]
async fn status_shows_failed_attempts() {
    let fixture = Fixture::new(Reading::Buffered);
    fixture.database.fail(Step::Begin, ErrorKind::Conflict);
    fixture.process().await.unwrap_err();
    let status = serde_json::to_value(fixture.status(Some(KEY)).await.unwrap()).unwrap();
    assert_eq!((&status["state"], &status["attempts"][0]["outcome"]), (&json!("waiting"), &json!("failed")));
    let explanation = status["explanation"].as_str().unwrap();
    assert!(explanation.contains("an attempt failed") && explanation.contains("(conflict: "), "{explanation}");
}

#[tokio::test]
async fn sweep_deletes_old_attempts() {
    let mut fixture = Fixture::new(Reading::Buffered);
    fixture.database.fail(Step::Begin, ErrorKind::Conflict);
    fixture.process().await.unwrap_err();
    fixture.sweep().await;
    assert_eq!(fixture.database.attempts().len(), 2, "they are not old yet");
    fixture.settings.database.history_days = 0;
    let result = fixture.run(&json!({"sweep": {}})).await;
    assert_eq!(result["cleared"]["attempts"], 3, "{result}");
    assert!(fixture.database.attempts().is_empty());
}

#[tokio::test]
async fn check_tells_what_the_history_lacks_and_passes() {
    let fixture = Fixture::new(Reading::Buffered);
    fixture.database.put_history_probe(AttemptsProbe {
        table: "spillway_ledger_attempts".to_owned(),
        exists: false,
        missing_indexes: vec!["CREATE INDEX i ON spillway_ledger (state)".to_owned()],
        missing_columns: vec!["ALTER TABLE spillway_ledger ADD COLUMN c text".to_owned()],
    });
    let check = fixture.check().await;
    let item = check.items.iter().find(|item| item.name == "history").unwrap();
    let found = item.found.as_deref().unwrap();
    assert!(item.ok && found.contains("spillway_ledger_attempts does not exist") && found.contains("CREATE INDEX i"));
    assert!(found.contains("ALTER TABLE spillway_ledger ADD COLUMN c"), "{found}");
}

#[tokio::test]
async fn fallback_is_listed_page_by_page() {
    let fixture = Fixture::new(Reading::Buffered);
    fixture.database.stop();
    for name in ["a", "b", "c"] {
        fixture.aws.put(&format!("uploads/{name}.csv"), format!("id\n{name}\n"));
        fixture.process_key(&format!("uploads/{name}.csv")).await.unwrap();
    }
    let list = async |fields: Value| fixture.run(&json!({"fallback": {"list": fields}})).await["list"].clone();
    let first = list(json!({"limit": 2})).await;
    let second = list(json!({"limit": 2, "after": first["next"]})).await;
    let mut keys: Vec<String> = [&first, &second]
        .iter()
        .flat_map(|list| list["items"].as_array().unwrap())
        .map(|item| item["key"].as_str().unwrap().to_owned())
        .collect();
    keys.sort();
    assert_eq!(keys, ["uploads/a.csv", "uploads/b.csv", "uploads/c.csv"]);
    assert_eq!((first["items"].as_array().unwrap().len(), &second["next"]), (2, &Value::Null));
    let one = list(json!({"key": "uploads/b.csv"})).await;
    let item = &one["items"][0];
    assert_eq!((&item["table"], &item["rows"]), (&json!("orders"), &json!(1)), "{one}");
    assert!(item["reason"].as_str().unwrap().starts_with("unreachable: "), "{one}");
    let by_id = list(json!({"id": item["source_id"].as_str().unwrap()[..16]})).await;
    assert_eq!(by_id["items"][0]["source_id"], item["source_id"]);
    assert_eq!(list(json!({"table": "other"})).await["items"], json!([]));
}

#[tokio::test]
async fn rejects_are_listed_and_one_is_shown_with_its_errors() {
    let fixture = Fixture::new(Reading::Buffered).with_max_rejects(1);
    fixture.aws.put(KEY, "id,note\n1,one\n2,two,too many\n");
    fixture.process().await.unwrap();
    let list = async |fields: Value| fixture.run(&json!({"rejects": {"list": fields}})).await["list"].clone();
    let all = list(json!({})).await;
    let item = &all["items"][0];
    assert_eq!((&item["table"], &item["errors"]), (&json!("orders"), &Value::Null), "{all}");
    // The ages of two responses may differ by a second.
    assert_eq!(list(json!({"table": "orders"})).await["items"][0]["key"], item["key"]);
    assert_eq!(list(json!({"table": "other"})).await["items"], json!([]));
    let shown = list(json!({"key": item["key"]})).await["items"][0].clone();
    assert_eq!((&shown["original_key"], &shown["errors"][0]["record"]), (&json!(KEY), &json!(2)), "{shown}");
    assert!(!shown.to_string().contains("too many\""), "an error contains no value: {shown}");
}

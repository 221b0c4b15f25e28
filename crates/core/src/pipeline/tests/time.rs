//! Requests and messages that run out of time: which files start, and what becomes of the others.

use std::time::Duration;

use serde_json::json;

use super::{Fixture, Reading, Step};
use crate::deadline::Deadline;
use crate::error::ErrorKind;

/// Enough for the start of one small file, which takes a part of it: 15 seconds are wanted for each.
const SHORT: Duration = Duration::from_secs(20);

/// Three more files, and a database that needs two seconds for the first one.
fn fixture() -> Fixture {
    let fixture = Fixture::new(Reading::Buffered);
    (1..=3).for_each(|file| fixture.aws.put(&format!("uploads/more/{file}.csv"), format!("id,note\n{file},x\n")));
    fixture.database.before(Step::Begin, || std::thread::sleep(Duration::from_millis(2200)));
    fixture
}

#[tokio::test]
async fn sweep_leaves_files_without_time_to_the_next_sweep() {
    let fixture = fixture();
    // A tenth is reserved for the clean-up.
    let deadline = Deadline::within(SHORT + Duration::from_secs(2));
    let swept = fixture.run_until(&json!({"sweep": {"older_than_seconds": 0}}), &deadline).await;
    assert_eq!((swept.results.reports.len(), swept.results.failures.len()), (1, 0), "{swept:?}");
    assert!(swept.cleared.is_some());
    assert_eq!(fixture.sweep().await.reports.len(), 3);
}

#[tokio::test]
async fn prefix_request_fails_once_for_all_files_without_time() {
    let fixture = fixture();
    let result = fixture.run_until(&json!({"prefix": "uploads/"}), &Deadline::within(SHORT)).await;
    let failures: Vec<ErrorKind> = result.results.failures.iter().map(crate::error::Error::kind).collect();
    assert_eq!((result.results.reports.len(), failures), (1, vec![ErrorKind::Deadline]));
    let error = result.into_response().unwrap_err();
    assert!(error.to_string().contains("3 files"), "{error}");
}

#[tokio::test]
async fn messages_without_time_are_received_again() {
    let fixture = fixture();
    let keys = ["uploads/more/1.csv", "uploads/more/2.csv", "uploads/more/3.csv"];
    let response = fixture.receive_until(&keys, 1, &Deadline::within(SHORT)).await;
    let failed: Vec<&str> = response["batchItemFailures"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|one| one["itemIdentifier"].as_str())
        .collect();
    assert_eq!(failed, keys[1..]);
}

/// The response of a function is limited to 6 MB.
#[tokio::test]
async fn response_has_a_limited_number_of_reports() {
    let fixture = Fixture::new(Reading::Buffered);
    let mut result =
        fixture.run_until(&json!({"prefix": "uploads/"}), &Deadline::within(Duration::from_secs(900))).await;
    result.results.reports = vec![result.results.reports[0].clone(); 1_003];
    let response = result.into_response().unwrap();
    let body: serde_json::Value = serde_json::from_str(response["body"].as_str().unwrap()).unwrap();
    assert_eq!((body["reports"].as_array().unwrap().len(), &body["reports_omitted"]), (1_000, &json!(3)));
}

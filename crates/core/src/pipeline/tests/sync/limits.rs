//! Syncs that run out of time, cannot list a table, or find folders above or outside of their window.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{fixture, fixture_with, key, put, sync, sync_orders, time};
use crate::deadline::Deadline;
use crate::dispatch::Dispatcher;
use crate::error::ErrorKind;
use crate::memory_aws::BUCKET;
use crate::pipeline::tests::Fixture;
use crate::request::Request;

/// Runs a sync of all tables with this much time, and returns its error or its tables.
async fn sync_all_within(fixture: &Fixture, time: Duration) -> (Option<ErrorKind>, Vec<Value>) {
    let request = Request::parse(&json!({"sync": {}}), BUCKET, None).unwrap();
    let result =
        Box::pin(Dispatcher::of_context(fixture.context()).run(request, &Deadline::within(time))).await.unwrap();
    let tables = serde_json::to_value(&result).unwrap()["sync"]["tables"].as_array().unwrap().clone();
    (result.into_response().err().map(|error| error.kind()), tables)
}

/// A table whose files cannot be listed uses up the time of a sync. The next one begins with the other table.
#[tokio::test]
async fn table_that_cannot_be_listed_does_not_block_the_others() {
    let fixture = fixture();
    put(&fixture, "orders", 1, 1);
    put(&fixture, "refunds", 1, 1);
    let aws = fixture.aws.clone();
    // The first listing finds the tables.
    fixture.aws.before("ListObjectsV2", "", 1, move || {
        std::thread::sleep(Duration::from_secs(2));
        aws.fail_with("ListObjectsV2", "", 503, "SlowDown");
    });
    let (error, tables) = sync_all_within(&fixture, Duration::from_secs(20)).await;
    // Such an error is not forgotten, because it is not about one file.
    assert_eq!(error, Some(ErrorKind::Throttled));
    let remaining = tables.iter().map(|table| (&table["table"], &table["remaining"])).collect::<Vec<_>>();
    assert_eq!(remaining, [(&json!("orders"), &Value::Null), (&json!("refunds"), &Value::Null)]);
    fixture.aws.heal();
    let (error, tables) = sync_all_within(&fixture, Duration::from_secs(900)).await;
    let names: Vec<&Value> = tables.iter().map(|table| &table["table"]).collect();
    assert_eq!((error, names), (None, vec![&json!("refunds"), &json!("orders")]));
}

/// The start of a sync is recorded before its files are listed, and a failure keeps the counts of the sync before.
#[tokio::test]
async fn start_of_a_sync_is_recorded() {
    let fixture = fixture();
    put(&fixture, "orders", 1, 1);
    let complete = sync_orders(&fixture).await;
    fixture.aws.before("ListObjectsV2", "", 1, {
        let aws = fixture.aws.clone();
        move || aws.fail("ListObjectsV2", "")
    });
    let (error, _) = sync_all_within(&fixture, Duration::from_secs(900)).await;
    assert!(error.is_some());
    fixture.aws.heal();
    let status = serde_json::to_value(fixture.status(None).await.unwrap()).unwrap();
    let state = &status["syncs"][0];
    assert_eq!((&state["watermark"], &state["files"]), (&complete["watermark"], &json!(1)));
    assert!(time(&state["started_at"]) > time(&state["ended_at"]), "{state}");
}

/// Without tasks, a file that needs most of the function's time is started, so that it loads or fails.
#[tokio::test]
async fn file_that_needs_most_of_the_time_is_not_left_for_ever() {
    let fixture = fixture();
    // The file needs 17 of 17.9 seconds. The listing of the tables takes 1.9 of them.
    fixture.aws.put(&key("orders", 1, 1), "id\n".to_owned() + &"1234567\n".repeat(2 << 17));
    fixture.aws.before("ListObjectsV2", "", 1, || std::thread::sleep(Duration::from_millis(1900)));
    let (error, tables) = sync_all_within(&fixture, Duration::from_millis(20_900)).await;
    assert_eq!((error, &tables[0]["remaining"]), (Some(ErrorKind::Deadline), &json!(1)), "{tables:?}");
}

#[tokio::test]
async fn oldest_remaining_file_limits_the_watermark() {
    let fixture = fixture();
    for hours_ago in [1, 5, 9] {
        put(&fixture, "orders", hours_ago, 1);
    }
    fixture.aws.fail("GetObject", &key("orders", 5, 1));
    let partial = sync_orders(&fixture).await;
    let watermark = Timestamp::now().duration_since(time(&partial["watermark"]));
    assert!((5 * 3600..5 * 3600 + 120).contains(&watermark.as_secs()), "{partial}");
}

/// The folders of the time are above the table, so that each day is a place of its own.
#[tokio::test]
async fn days_above_the_table_are_limited_to_the_window() {
    let requests = async |pattern: &str, days: i64| {
        let fixture = fixture_with(pattern);
        for day in 0..days {
            let time = Timestamp::now() - SignedDuration::from_hours(24 * day);
            let folders = time.strftime("year=%Y/month=%m/day=%d");
            let key = pattern.replace("year={year}/month={month}/day={day}", &folders.to_string());
            fixture.aws.put(&key.replace("{table}", "orders").replace("{n}", "1"), format!("id\n{day}\n"));
        }
        let start = Timestamp::now() - SignedDuration::from_hours(1);
        let result = sync(&fixture, json!({"table": "orders", "start_ts": start})).await;
        let (total, table) = (&result["sync"]["s3_requests"], &result["sync"]["tables"][0]);
        assert!((1..=2).contains(&table["files"].as_u64().unwrap()) && total.as_u64() > Some(0), "{result}");
        table["s3_requests"].as_u64().unwrap()
    };
    for pattern in [
        "raw/year={year}/month={month}/day={day}/{table}.csv",
        "raw/year={year}/month={month}/day={day}/{table}/{n}.csv",
    ] {
        assert!(requests(pattern, 60).await <= requests(pattern, 2).await + 2, "{pattern}");
    }
}

#[tokio::test]
async fn file_that_no_pattern_matches_is_counted() {
    let fixture = fixture();
    put(&fixture, "orders", 1, 1);
    fixture.aws.put(&key("orders", 1, 2).replace("orders_part2", "orders.part2"), "id\n1\n");
    let result = sync_orders(&fixture).await;
    assert_eq!((&result["files"], &result["unmatched"]), (&json!(1), &json!(1)), "{result}");
}

#[tokio::test]
async fn table_without_a_pattern_or_a_key_fails() {
    let fixture = fixture();
    put(&fixture, "orders", 1, 1);
    let request = Request::parse(&json!({"sync": {"table": "order"}}), BUCKET, None).unwrap();
    let (dispatcher, deadline) =
        (Dispatcher::of_context(fixture.context()), Deadline::within(Duration::from_secs(900)));
    let error = Box::pin(dispatcher.run(request, &deadline)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::EventInvalid);
    assert!(error.to_string().contains("order"), "{error}");
}

//! Syncs: the window, the listing, the watermark, and what a sync leaves for the next one.

mod limits;

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{Fixture, Reading, Step};
use crate::deadline::Deadline;
use crate::dispatch::Dispatcher;
use crate::error::ErrorKind;
use crate::memory_aws::BUCKET;
use crate::pattern::TablePatterns;
use crate::pipeline::{AfterLoad, TableEntry, TableRules, Tables};
use crate::request::Request;
use crate::route::TableRoutes;

const BATCH: &str = "data/{table}/year={year}/month={month}/day={day}/hhmm={hhmm}/{table}_part{n}.csv";

fn rules(patterns: &str) -> TableRules {
    let patterns = TablePatterns::parse(patterns).unwrap();
    TableRules::of_routes(TableRoutes { patterns, default: None })
}

fn fixture_with(patterns: &str) -> Fixture {
    let mut fixture = Fixture::new(Reading::Buffered);
    fixture.settings.after_load = AfterLoad::Keep;
    fixture.settings.database.tables = Tables::fixed(rules(patterns));
    fixture
}

fn fixture() -> Fixture {
    fixture_with(BATCH)
}

/// The key of a part whose folders name the time this many hours ago.
fn key(table: &str, hours_ago: i64, part: u32) -> String {
    let time = Timestamp::now() - SignedDuration::from_hours(hours_ago);
    let folders = time.strftime("year=%Y/month=%m/day=%d/hhmm=%H%M");
    format!("data/{table}/{folders}/{table}_part{part}.csv")
}

/// Uploads a part with one row, which no other part has.
fn put(fixture: &Fixture, table: &str, hours_ago: i64, part: u32) {
    fixture.aws.put(&key(table, hours_ago, part), format!("id\n{table}-{hours_ago}-{part}\n"));
}

async fn sync(fixture: &Fixture, request: Value) -> Value {
    Box::pin(fixture.run(&json!({"sync": request}))).await
}

/// Syncs a table, and returns its result.
async fn sync_orders(fixture: &Fixture) -> Value {
    let response = sync(fixture, json!({"table": "orders"})).await;
    response["sync"]["tables"][0].clone()
}

fn time(value: &Value) -> Timestamp {
    value.as_str().expect("a time").parse().unwrap()
}

#[tokio::test]
async fn second_sync_reads_no_file() {
    let mut fixture = fixture();
    fixture.settings.sync_overlap = Duration::from_secs(48 * 3600);
    (1..=3).for_each(|part| put(&fixture, "orders", 5 * i64::from(part), part));
    put(&fixture, "refunds", 5, 1);
    let started = Timestamp::now();
    let first = sync_orders(&fixture).await;
    assert_eq!((&first["files"], &first["done"], &first["remaining"]), (&json!(3), &json!(0), &json!(0)));
    assert!(first["from"].is_null() && time(&first["watermark"]) >= started, "{first}");
    assert_eq!(fixture.database.rows(), ["orders-15-3", "orders-10-2", "orders-5-1"]);

    let begun = fixture.database.calls(Step::Begin);
    fixture.aws.fail("GetObject", "data/");
    fixture.aws.fail("HeadObject", "data/");
    let second = sync_orders(&fixture).await;
    assert_eq!((&second["files"], &second["done"], &second["remaining"]), (&json!(3), &json!(3), &json!(0)));
    assert_eq!(time(&second["from"]), time(&first["watermark"]) - SignedDuration::from_hours(48));
    assert!(time(&second["watermark"]) > time(&first["watermark"]));
    assert_eq!(fixture.database.calls(Step::Begin), begun);
}

#[tokio::test]
async fn late_file_within_the_overlap_is_loaded_and_an_older_one_needs_a_window() {
    let mut fixture = fixture();
    fixture.settings.sync_overlap = Duration::from_secs(48 * 3600);
    put(&fixture, "orders", 1, 1);
    sync_orders(&fixture).await;
    put(&fixture, "orders", 40, 2);
    put(&fixture, "orders", 24 * 30, 3);
    let late = sync_orders(&fixture).await;
    assert_eq!((&late["files"], &late["done"]), (&json!(2), &json!(1)), "{late}");
    assert_eq!(fixture.database.rows(), ["orders-1-1", "orders-40-2"]);

    let start = Timestamp::now() - SignedDuration::from_hours(24 * 31);
    let end = start + SignedDuration::from_hours(48);
    let window = sync(&fixture, json!({"table": "orders", "start_ts": start, "end_ts": end})).await;
    assert_eq!(window["sync"]["tables"][0]["files"], 1, "{window}");
    assert_eq!(fixture.database.rows().len(), 3);
    // A window of the request does not move the watermark.
    assert_eq!(window["sync"]["tables"][0]["watermark"], late["watermark"]);
}

#[tokio::test]
async fn full_sync_finds_every_file() {
    let fixture = fixture();
    put(&fixture, "orders", 1, 1);
    sync_orders(&fixture).await;
    put(&fixture, "orders", 24 * 400, 2);
    assert_eq!(sync_orders(&fixture).await["files"], 1);
    let full = sync(&fixture, json!({"table": "orders", "start_ts": "0001-01-01"})).await;
    assert_eq!(full["sync"]["tables"][0]["files"], 2, "{full}");
    assert_eq!(fixture.database.rows().len(), 2);
}

/// The listing of a window does not grow with the folders outside of it.
#[tokio::test]
async fn listing_is_limited_to_the_days_of_the_window() {
    let requests = async |days: i64| {
        let fixture = fixture();
        (0..days).for_each(|day| put(&fixture, "orders", 24 * day, 1));
        sync_orders(&fixture).await;
        let again = sync_orders(&fixture).await;
        assert!(again["files"].as_u64().unwrap() <= 2, "{again}");
        again["s3_requests"].as_u64().unwrap()
    };
    let few = requests(3).await;
    assert!(few <= 10, "{few}");
    assert!(requests(60).await <= few + 2);
}

/// Folders may spell numbers without leading zeros. A folder whose name cannot be read as a time is in every window.
#[tokio::test]
async fn folders_may_have_other_spellings() {
    let fixture = fixture_with("data/{table}/year={year}/month={month}/day={day}/{n}.csv");
    let today = Timestamp::now().strftime("year=%Y/month=%-m/day=%-d").to_string();
    fixture.aws.put(&format!("data/orders/{today}/1.csv"), "id\n1\n");
    fixture.aws.put("data/orders/year=latest/month=1/day=1/2.csv", "id\n2\n");
    fixture.aws.put("data/orders/year=2020/month=1/day=31/3.csv", "id\n3\n");
    let start = Timestamp::now() - SignedDuration::from_hours(1);
    let result = sync(&fixture, json!({"table": "orders", "start_ts": start})).await;
    assert_eq!(result["sync"]["tables"][0]["files"], 2, "{result}");
}

/// The time of all objects in memory is noon of 20 November 2026.
#[tokio::test]
async fn time_of_the_object_counts_without_a_time_in_the_key() {
    let fixture = fixture_with("in/{table}/**");
    fixture.aws.put("in/orders/a/1.csv", "id\n1\n");
    let files = async |start: &str, end: &str| {
        let result = sync(&fixture, json!({"table": "orders", "start_ts": start, "end_ts": end})).await;
        result["sync"]["tables"][0]["files"].as_u64()
    };
    assert_eq!(files("2026-11-20", "2026-11-20T12:00:00Z").await, Some(0));
    assert_eq!(files("2026-11-20T12:00:00Z", "2026-11-21").await, Some(1));
    assert_eq!(fixture.database.rows(), ["1"]);
}

#[tokio::test]
async fn file_that_fails_keeps_the_watermark() {
    let fixture = fixture();
    put(&fixture, "orders", 2, 1);
    let complete = sync_orders(&fixture).await;
    put(&fixture, "orders", 1, 2);
    put(&fixture, "orders", 1, 3);
    fixture.aws.fail("GetObject", "part2");
    let partial = sync_orders(&fixture).await;
    assert_eq!((&partial["remaining"], &partial["outcomes"]["loaded"]), (&json!(1), &json!(1)), "{partial}");
    assert_eq!(partial["watermark"], complete["watermark"]);
    fixture.aws.heal();
    let last = sync_orders(&fixture).await;
    assert_eq!(last["remaining"], 0);
    assert!(time(&last["watermark"]) > time(&complete["watermark"]));
    assert_eq!(fixture.database.rows().len(), 3);
    let status = serde_json::to_value(fixture.status(None).await.unwrap()).unwrap();
    assert_eq!(
        (&status["syncs"][0]["table"], &status["syncs"][0]["watermark"]),
        (&json!("orders"), &last["watermark"])
    );
}

#[tokio::test]
async fn file_that_falls_back_has_an_outcome() {
    let fixture = fixture();
    put(&fixture, "orders", 0, 1);
    fixture.database.refuse_value(Some("orders-0-1"));
    let result = sync_orders(&fixture).await;
    assert_eq!((&result["outcomes"]["fell_back"], &result["remaining"]), (&json!(1), &json!(0)), "{result}");
    assert!(result["watermark"].is_string());
}

#[tokio::test]
async fn sync_stops_before_its_time_is_over_and_the_next_one_goes_on() {
    let fixture = fixture();
    (1..=3).for_each(|part| put(&fixture, "orders", 1, part));
    let request = Request::parse(&json!({"sync": {"table": "orders"}}), BUCKET, None).unwrap();
    // The time is enough for the start of one file, which takes a part of it.
    fixture.database.before(Step::Begin, || std::thread::sleep(Duration::from_millis(2200)));
    let deadline = Deadline::within(Duration::from_secs(20));
    let result = Box::pin(Dispatcher::of_context(fixture.context()).run(request, &deadline)).await.unwrap();
    let stopped = serde_json::to_value(result).unwrap()["sync"]["tables"][0].clone();
    assert_eq!((&stopped["outcomes"]["loaded"], &stopped["remaining"]), (&json!(1), &json!(2)), "{stopped}");
    // Every earlier file has an outcome.
    assert!(time(&stopped["watermark"]) < Timestamp::now() - SignedDuration::from_mins(59), "{stopped}");
    let next = sync_orders(&fixture).await;
    assert_eq!((&next["done"], &next["remaining"]), (&json!(1), &json!(0)));
    assert_eq!(fixture.database.rows().len(), 3);
}

#[tokio::test]
async fn two_syncs_at_once_load_each_file_once() {
    let fixture = fixture();
    (1..=4).for_each(|part| put(&fixture, "orders", 0, part));
    let (one, other) = tokio::join!(sync_orders(&fixture), sync_orders(&fixture));
    assert_eq!(one["files"], other["files"]);
    sync_orders(&fixture).await;
    assert_eq!(fixture.database.rows().len(), 4);
}

/// A watermark that cannot be written costs a longer listing, and no row.
#[tokio::test]
async fn watermark_that_cannot_be_written_fails_the_sync_after_the_loads() {
    let fixture = fixture();
    put(&fixture, "orders", 0, 1);
    fixture.database.fail(Step::RecordSync, ErrorKind::Privilege);
    let request = Request::parse(&json!({"sync": {"table": "orders"}}), BUCKET, None).unwrap();
    let (dispatcher, deadline) =
        (Dispatcher::of_context(fixture.context()), Deadline::within(Duration::from_secs(900)));
    let error = Box::pin(dispatcher.run(request, &deadline)).await.unwrap().into_response().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Privilege);
    assert_eq!(fixture.database.rows().len(), 1);
    fixture.database.heal();
    assert_eq!(sync_orders(&fixture).await["done"], 1);
}

#[tokio::test]
async fn every_table_that_keeps_its_files_is_synced() {
    let mut fixture = fixture();
    let entry = |pattern: &str, after_load| TableEntry {
        patterns: TablePatterns::parse(pattern).unwrap(),
        name: None,
        config: crate::pipeline::TableConfig { after_load, ..fixture.settings.table_defaults(&"t".into()) },
    };
    let entries = vec![
        entry("raw/orders/{n}.csv => orders", AfterLoad::Keep),
        entry("raw/moved/{n}.csv => moved", AfterLoad::Move),
        entry("lake/{table}/dt={dt}/{n}.csv", AfterLoad::Keep),
    ];
    let patterns = entries.iter().fold(TablePatterns::default(), |all, entry| all.followed_by(&entry.patterns));
    let routes = TableRoutes {
        patterns: patterns.followed_by(&TablePatterns::parse("other/{table}/**").unwrap()),
        default: None,
    };
    fixture.settings.after_load = AfterLoad::Move;
    fixture.settings.database.tables = Tables::fixed(TableRules { routes, entries });
    for key in ["raw/orders/1.csv", "raw/moved/1.csv", "lake/Visits/dt=2026-11-01/1.csv", "other/x/1.csv"] {
        fixture.aws.put(key, format!("id\n{}\n", key.replace('/', "-")));
    }
    let result = sync(&fixture, json!({})).await;
    let tables: Vec<&str> =
        result["sync"]["tables"].as_array().unwrap().iter().map(|table| table["table"].as_str().unwrap()).collect();
    assert_eq!(tables, ["orders", "visits"]);
    assert_eq!(fixture.database.rows().len(), 2);
    // A request can name any table.
    let moved = sync(&fixture, json!({"table": "Moved"})).await;
    assert_eq!(moved["reports"][0]["moved_to"].as_str().map(|key| &key[..10]), Some("processed/"), "{moved}");
}

#[tokio::test]
async fn sync_of_all_tables_needs_one_that_keeps_its_files() {
    let mut fixture = fixture();
    fixture.settings.after_load = AfterLoad::Move;
    let request = Request::parse(&json!({"sync": {}}), BUCKET, None).unwrap();
    let (dispatcher, deadline) =
        (Dispatcher::of_context(fixture.context()), Deadline::within(Duration::from_secs(900)));
    let error = Box::pin(dispatcher.run(request, &deadline)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::EventInvalid);
    assert!(error.to_string().contains("AFTER_LOAD"), "{error}");
}

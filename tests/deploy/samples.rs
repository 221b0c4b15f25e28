//! Sends each sample event in `events/` to the Lambda binaries, as `sam local invoke` does.
//!
//! The tests replace the bucket's name, which must be unique among all accounts, and remove the versions of objects.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use spillway_test_env::fixture::{TABLE, file};
use spillway_test_env::lambda::{Function, Response};
use spillway_test_env::run;
use spillway_test_env::sample_events::{Topic, lines};
use spillway_test_env::settings::Settings;
use spillway_test_env::test_env::TestEnv;

fn sample(test_env: &TestEnv, name: &str) -> Result<Value> {
    let path = run::workspace().join("events").join(name);
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut event = serde_json::from_str(&text.replace("spillway-data", &test_env.fixture.account.bucket))?;
    remove_versions(&mut event);
    Ok(event)
}

/// Removes the versions of objects, which do not exist in the test's bucket.
fn remove_versions(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|name, _| !["versionId", "version-id"].contains(&name.as_str()));
            fields.values_mut().for_each(remove_versions);
        }
        Value::Array(values) => values.iter_mut().for_each(remove_versions),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

async fn put(test_env: &TestEnv, key: &str) -> Result<()> {
    test_env.fixture.account.put(key, file(key, 4).0).await?;
    Ok(())
}

async fn call(test_env: &TestEnv, name: &str) -> Result<Response> {
    let settings = test_env.settings();
    let function =
        if name.starts_with("ingest-") { Function::ingest(&settings)? } else { Function::trigger(&settings)? };
    function.invoke(&sample(test_env, name)?).await
}

/// Every key in the sample, encoded as in the sample.
fn keys(event: &Value) -> Vec<String> {
    match event {
        Value::Object(fields) => {
            let mut found: Vec<String> = fields.values().flat_map(keys).collect();
            if let (Some(key), true) = (fields.get("key").and_then(Value::as_str), fields.contains_key("size")) {
                found.push(key.to_owned());
            }
            found
        }
        Value::Array(values) => values.iter().flat_map(keys).collect(),
        Value::String(text) => serde_json::from_str::<Value>(text)
            .ok()
            .filter(Value::is_object)
            .map(|inner| keys(&inner))
            .unwrap_or_default(),
        Value::Null | Value::Bool(_) | Value::Number(_) => Vec::new(),
    }
}

fn decoded(key: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = key.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let digits: String = rest.by_ref().take(2).map(char::from).collect();
                bytes.push(u8::from_str_radix(&digits, 16).expect("an encoded key"));
            }
            other => bytes.push(other),
        }
    }
    String::from_utf8(bytes).expect("a key in UTF-8")
}

/// Notifications of files, from S3 and in messages of SQS, SNS and EventBridge, load four rows per file.
#[tokio::test]
async fn notifications_of_files_load_every_row() -> Result<()> {
    for name in [
        "s3-put.json",
        "s3-odd-key.json",
        "s3-multi-record.json",
        "sqs-wrapped.json",
        "sns-in-sqs.json",
        "eventbridge-object-created.json",
    ] {
        let test_env = TestEnv::new().await?;
        let event = sample(&test_env, name)?;
        let is_raw = event["detail"].is_object();
        let named: Vec<String> =
            keys(&event).iter().map(|key| if is_raw { key.clone() } else { decoded(key) }).collect();
        ensure!(!named.is_empty(), "{name} contains no key");
        let loadable: Vec<&String> =
            named.iter().filter(|key| key.starts_with("uploads/") && key.to_lowercase().ends_with(".csv")).collect();
        for key in &loadable {
            put(&test_env, key).await?;
        }
        let response = call(&test_env, name).await?;
        response.ensure_success().with_context(|| name.to_string())?;
        let rows = test_env.rows(&format!("SELECT COUNT(*) FROM {{schema}}.{TABLE}")).await?;
        assert_eq!(rows[0][0], Some((4 * loadable.len()).to_string()), "{name}: {}", response.body);
        assert_eq!(test_env.fixture.account.keys("uploads/").await?, Vec::<String>::new(), "{name}");
    }
    Ok(())
}

/// Notifications that need no action succeed and write nothing.
#[tokio::test]
async fn irrelevant_notifications_write_nothing() -> Result<()> {
    let test_env = TestEnv::new().await?;
    for name in [
        "s3-test-event.json",
        "s3-folder-marker.json",
        "s3-foreign-suffix.json",
        "s3-own-prefix.json",
        "s3-removed.json",
    ] {
        let response = call(&test_env, name).await?;
        response.ensure_success().with_context(|| name.to_string())?;
    }
    assert_eq!(test_env.fixture.account.keys("").await?, Vec::<String>::new());
    assert_eq!(
        test_env.rows("SELECT table_name FROM information_schema.tables WHERE table_schema = '{schema}'").await?,
        Vec::<Vec<_>>::new()
    );
    Ok(())
}

#[tokio::test]
async fn notification_without_key_fails_the_event() -> Result<()> {
    let response = call(&TestEnv::new().await?, "s3-missing-key.json").await?;
    assert_eq!(response.error_type(), Some("event_invalid"), "{} {}", response.body, response.logs);
    assert!(response.error_message().contains("key"), "{}", response.error_message());
    Ok(())
}

/// Each request processes the files that it names, and leaves the others under the upload prefix.
#[tokio::test]
async fn ingest_requests_process_the_named_files() -> Result<()> {
    for (name, left) in [
        ("ingest-key.json", vec!["uploads/refunds.csv"]),
        ("ingest-prefix-all.json", vec![]),
        ("ingest-prefix-latest.json", vec!["uploads/orders.csv"]),
        ("ingest-replay.json", vec!["uploads/orders.csv", "uploads/refunds.csv"]),
        ("ingest-replay-table.json", vec!["uploads/orders.csv", "uploads/refunds.csv"]),
        ("ingest-rejects.json", vec!["uploads/orders.csv", "uploads/refunds.csv"]),
        ("ingest-sweep.json", vec!["uploads/orders.csv", "uploads/refunds.csv"]),
        ("ingest-sync.json", vec![]),
        ("ingest-sync-window.json", vec!["uploads/orders.csv", "uploads/refunds.csv"]),
        ("ingest-status.json", vec!["uploads/orders.csv", "uploads/refunds.csv"]),
        ("ingest-status-key.json", vec!["uploads/orders.csv", "uploads/refunds.csv"]),
        ("ingest-check.json", vec!["uploads/orders.csv", "uploads/refunds.csv"]),
        ("ingest-runs.json", vec!["uploads/orders.csv", "uploads/refunds.csv"]),
        ("ingest-fallback-list.json", vec!["uploads/orders.csv", "uploads/refunds.csv"]),
        ("ingest-rejects-list.json", vec!["uploads/orders.csv", "uploads/refunds.csv"]),
    ] {
        let test_env = TestEnv::new().await?;
        put(&test_env, "uploads/orders.csv").await?;
        // S3 lists times in whole seconds.
        tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
        put(&test_env, "uploads/refunds.csv").await?;
        let response = call(&test_env, name).await?;
        response.ensure_success().with_context(|| name.to_string())?;
        assert_eq!(response.body["statusCode"], 200, "{name}");
        assert_eq!(test_env.fixture.account.keys("uploads/").await?, left, "{name}: {}", response.body);
    }
    Ok(())
}

/// One request loads a raw zone with two tables.
#[tokio::test]
async fn raw_zone_request_loads_two_tables() -> Result<()> {
    let test_env = TestEnv::new().await?;
    let pattern = "data/batch/{table}/year={year}/month={month}/day={day}/hhmm={hhmm}/{table}_part{n}.csv";
    let settings = test_env.settings().without("RDS_TABLE").with("TABLE_PATTERN", pattern);
    for table in ["orders", "refunds"] {
        put(&test_env, &format!("data/batch/{table}/year=2026/month=11/day=20/hhmm=0830/{table}_part1.csv")).await?;
    }
    let response = Function::ingest(&settings)?.invoke(&sample(&test_env, "ingest-raw-zone.json")?).await?;
    response.ensure_success()?;
    for table in ["orders", "refunds"] {
        let rows = test_env.rows(&format!("SELECT COUNT(*) FROM {{schema}}.{table}")).await?;
        assert_eq!(rows, [[Some("4".to_owned())]], "{table}");
    }
    Ok(())
}

/// One notification loads events from two folders into two tables.
#[tokio::test]
async fn shop_event_notification_loads_two_tables() -> Result<()> {
    let test_env = TestEnv::new().await?;
    let settings = test_env.settings().without("RDS_TABLE").with("TABLE_PATTERN", "{table}/**");
    let settings = settings.with("UPLOAD_PREFIX", "sale_events/,inventory_events/");
    let event = sample(&test_env, "s3-shop-events.json")?;
    for (topic, key) in [Topic::Sale, Topic::Inventory].into_iter().zip(keys(&event)) {
        ensure!(key.starts_with(topic.folder()), "{key}");
        test_env.fixture.account.put(&key, lines(topic, 100..103, &[])).await?;
    }
    let response = Function::trigger(&settings)?.invoke(&event).await?;
    response.ensure_success()?;
    for topic in [Topic::Sale, Topic::Inventory] {
        let rows = test_env.rows(&format!("SELECT COUNT(*) FROM {{schema}}.{}", topic.folder())).await?;
        assert_eq!(rows, [[Some("3".to_owned())]], "{topic:?}");
    }
    Ok(())
}

/// The sample for the transform of streams has a record of each kind. It needs neither a database nor AWS.
#[tokio::test]
async fn records_of_a_stream_are_transformed() -> Result<()> {
    let path = run::workspace().join("events").join("firehose-records.json");
    let event: Value = serde_json::from_slice(&std::fs::read(&path)?)?;
    let settings = Settings::default().with("STREAM_TABLE_FIELD", "table");
    let response = Function::ingest(&settings)?.invoke(&event).await?;
    response.ensure_success()?;
    let records = response.body["records"].as_array().context("no records")?;
    let results: Vec<&str> = records.iter().filter_map(|record| record["result"].as_str()).collect();
    assert_eq!(results, ["Ok", "Ok", "ProcessingFailed", "Dropped"]);
    ensure!(response.logs.contains("no_table") && !response.logs.contains("r-3"), "{}", response.logs);
    Ok(())
}

/// The sample's window is one day, which contains the test's file only on that day. A larger window contains it always.
#[tokio::test]
async fn time_window_request_loads_files_in_window() -> Result<()> {
    let test_env = TestEnv::new().await?;
    put(&test_env, "uploads/orders.csv").await?;
    let response = call(&test_env, "ingest-window.json").await?;
    response.ensure_success()?;
    let mut window = sample(&test_env, "ingest-window.json")?;
    window["start_ts"] = "2020-01-01".into();
    window["end_ts"] = "2100-01-01".into();
    let response = Function::ingest(&test_env.settings())?.invoke(&window).await?;
    response.ensure_success()?;
    assert_eq!(test_env.fixture.account.keys("uploads/").await?, Vec::<String>::new());
    Ok(())
}

#[test]
fn every_sample_is_tested() -> Result<()> {
    let here = include_str!("samples.rs");
    for entry in std::fs::read_dir(run::workspace().join("events"))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        // A unit test of the settings reads the variables in env.json, and `load::extract_requests` sends the extract.
        let is_event = name.ends_with(".json") && !["env.json", "ingest-extract.json"].contains(&name.as_str());
        ensure!(!is_event || here.contains(&format!("\"{name}\"")), "no test uses {name}");
    }
    Ok(())
}

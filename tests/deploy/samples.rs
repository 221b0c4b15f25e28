//! Each sample event in events/ through the real Lambda binaries: what `sam local invoke` shows its user. Only the bucket
//! is the test's own, since names of buckets are shared by all accounts, and versions of objects are left out.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use spillway_test_env::fixture::{TABLE, file};
use spillway_test_env::lambda::{Answer, Function};
use spillway_test_env::run;
use spillway_test_env::sample_events::{Topic, lines};
use spillway_test_env::test_env::TestEnv;

fn sample(test_env: &TestEnv, name: &str) -> Result<Value> {
    let path = run::workspace().join("events").join(name);
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut event = serde_json::from_str(&text.replace("spillway-data", &test_env.fixture.account.bucket))?;
    forget_versions(&mut event);
    Ok(event)
}

/// The versions that samples name are in nobody's bucket.
fn forget_versions(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|name, _| !["versionId", "version-id"].contains(&name.as_str()));
            fields.values_mut().for_each(forget_versions);
        }
        Value::Array(values) => values.iter_mut().for_each(forget_versions),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

async fn put(test_env: &TestEnv, key: &str) -> Result<()> {
    test_env.fixture.account.put(key, file(key, 4).0).await?;
    Ok(())
}

async fn call(test_env: &TestEnv, name: &str) -> Result<Answer> {
    let settings = test_env.settings();
    let function =
        if name.starts_with("ingest-") { Function::ingest(&settings)? } else { Function::trigger(&settings)? };
    function.invoke(&sample(test_env, name)?).await
}

/// Every key that the sample names, decoded as S3 encodes it.
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
                bytes.push(u8::from_str_radix(&digits, 16).expect("the samples' keys are encoded"));
            }
            other => bytes.push(other),
        }
    }
    String::from_utf8(bytes).expect("the samples' keys are text")
}

/// The trigger's samples that bring files, in every wrapping: each file's four rows arrive.
#[tokio::test]
async fn notifications_that_bring_files() -> Result<()> {
    for name in [
        "s3-put.json",
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
        ensure!(!named.is_empty(), "{name} names no key");
        let loadable: Vec<&String> =
            named.iter().filter(|key| key.starts_with("uploads/") && key.to_lowercase().ends_with(".csv")).collect();
        for key in &loadable {
            put(&test_env, key).await?;
        }
        let answer = call(&test_env, name).await?;
        ensure!(!answer.is_failure(), "{name}: {} {}", answer.body, answer.logs);
        let rows = test_env.rows(&format!("SELECT COUNT(*) FROM {{schema}}.{TABLE}")).await?;
        assert_eq!(rows[0][0], Some((4 * loadable.len()).to_string()), "{name}: {}", answer.body);
        assert_eq!(test_env.fixture.account.keys("uploads/").await?, Vec::<String>::new(), "{name}");
    }
    Ok(())
}

/// The samples that are nothing for us are accepted, and nothing is written.
#[tokio::test]
async fn notifications_that_are_nothing_for_us() -> Result<()> {
    let test_env = TestEnv::new().await?;
    for name in [
        "s3-test-event.json",
        "s3-folder-marker.json",
        "s3-foreign-suffix.json",
        "s3-own-prefix.json",
        "s3-removed.json",
    ] {
        let answer = call(&test_env, name).await?;
        ensure!(!answer.is_failure(), "{name}: {} {}", answer.body, answer.logs);
    }
    assert_eq!(test_env.fixture.account.keys("").await?, Vec::<String>::new());
    assert_eq!(
        test_env.rows("SELECT table_name FROM information_schema.tables WHERE table_schema = '{schema}'").await?,
        Vec::<Vec<_>>::new()
    );
    Ok(())
}

#[tokio::test]
async fn a_notification_without_a_key_fails_clearly() -> Result<()> {
    let answer = call(&TestEnv::new().await?, "s3-missing-key.json").await?;
    assert_eq!(answer.error_type(), Some("event_invalid"), "{} {}", answer.body, answer.logs);
    assert!(answer.error_message().contains("key"), "{}", answer.error_message());
    Ok(())
}

/// What each request leaves of two files in the bucket.
#[tokio::test]
async fn requests_to_the_ingest_function() -> Result<()> {
    for (name, left) in [
        ("ingest-key.json", vec!["uploads/refunds.csv"]),
        ("ingest-prefix-all.json", vec![]),
        ("ingest-prefix-latest.json", vec!["uploads/orders.csv"]),
        ("ingest-replay.json", vec!["uploads/orders.csv", "uploads/refunds.csv"]),
        ("ingest-replay-table.json", vec!["uploads/orders.csv", "uploads/refunds.csv"]),
        ("ingest-rejects.json", vec!["uploads/orders.csv", "uploads/refunds.csv"]),
        ("ingest-sweep.json", vec!["uploads/orders.csv", "uploads/refunds.csv"]),
    ] {
        let test_env = TestEnv::new().await?;
        put(&test_env, "uploads/orders.csv").await?;
        // S3 lists times in whole seconds.
        tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
        put(&test_env, "uploads/refunds.csv").await?;
        let answer = call(&test_env, name).await?;
        ensure!(!answer.is_failure(), "{name}: {} {}", answer.body, answer.logs);
        assert_eq!(answer.body["statusCode"], 200, "{name}");
        assert_eq!(test_env.fixture.account.keys("uploads/").await?, left, "{name}: {}", answer.body);
    }
    Ok(())
}

/// A raw zone of several tables through one request.
#[tokio::test]
async fn a_request_for_a_raw_zone() -> Result<()> {
    let test_env = TestEnv::new().await?;
    let pattern = "data/batch/{table}/year={year}/month={month}/day={day}/hhmm={hhmm}/{table}_part{n}.csv";
    let settings = test_env.settings().without("RDS_TABLE").with("TABLE_PATTERN", pattern);
    for table in ["orders", "refunds"] {
        put(&test_env, &format!("data/batch/{table}/year=2026/month=11/day=20/hhmm=0830/{table}_part1.csv")).await?;
    }
    let answer = Function::ingest(&settings)?.invoke(&sample(&test_env, "ingest-raw-zone.json")?).await?;
    ensure!(!answer.is_failure(), "{} {}", answer.body, answer.logs);
    for table in ["orders", "refunds"] {
        let rows = test_env.rows(&format!("SELECT COUNT(*) FROM {{schema}}.{table}")).await?;
        assert_eq!(rows, [[Some("4".to_owned())]], "{table}");
    }
    Ok(())
}

/// Events of shops in two folders, each with a table of its own.
#[tokio::test]
async fn a_notification_of_shop_events() -> Result<()> {
    let test_env = TestEnv::new().await?;
    let settings = test_env.settings().without("RDS_TABLE").with("TABLE_PATTERN", "{table}/**");
    let settings = settings.with("UPLOAD_PREFIX", "sale_events/,inventory_events/");
    let event = sample(&test_env, "s3-shop-events.json")?;
    for (topic, key) in [Topic::Sale, Topic::Inventory].into_iter().zip(keys(&event)) {
        ensure!(key.starts_with(topic.folder()), "{key}");
        test_env.fixture.account.put(&key, lines(topic, 100..103, &[])).await?;
    }
    let answer = Function::trigger(&settings)?.invoke(&event).await?;
    ensure!(!answer.is_failure(), "{} {}", answer.body, answer.logs);
    for topic in [Topic::Sale, Topic::Inventory] {
        let rows = test_env.rows(&format!("SELECT COUNT(*) FROM {{schema}}.{}", topic.folder())).await?;
        assert_eq!(rows, [[Some("3".to_owned())]], "{topic:?}");
    }
    Ok(())
}

/// The window of the sample is one day; the files are as old as the test. So the request is understood and finds what
/// falls into it: both files on that day, none on any other.
#[tokio::test]
async fn a_request_for_a_time_window() -> Result<()> {
    let test_env = TestEnv::new().await?;
    put(&test_env, "uploads/orders.csv").await?;
    let answer = call(&test_env, "ingest-window.json").await?;
    ensure!(!answer.is_failure(), "{} {}", answer.body, answer.logs);
    let mut window = sample(&test_env, "ingest-window.json")?;
    window["start_ts"] = "2020-01-01".into();
    window["end_ts"] = "2100-01-01".into();
    let answer = Function::ingest(&test_env.settings())?.invoke(&window).await?;
    ensure!(!answer.is_failure(), "{} {}", answer.body, answer.logs);
    assert_eq!(test_env.fixture.account.keys("uploads/").await?, Vec::<String>::new());
    Ok(())
}

#[test]
fn no_sample_is_left_out() -> Result<()> {
    let here = include_str!("samples.rs");
    for entry in std::fs::read_dir(run::workspace().join("events"))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        ensure!(!name.ends_with(".json") || here.contains(&format!("\"{name}\"")), "{name} is in no test");
    }
    Ok(())
}

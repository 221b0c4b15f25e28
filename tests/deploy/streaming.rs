//! Streams: Kinesis, Firehose, the transform function, files, the trigger function, tables.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aws_smithy_types::base64;
use serde_json::{Value, json};
use spillway_test_env::aws_json::call;
use spillway_test_env::cloud::{Account, Cloud};
use spillway_test_env::database::{Database, Engine, Options, Schema};
use spillway_test_env::deploy::Deployment;
use spillway_test_env::firehose::{Firehose, KinesisRecord, kinesis, records};
use spillway_test_env::fixture::GLUE_DATABASE;
use spillway_test_env::lambda::Function;
use spillway_test_env::run;
use spillway_test_env::sample_events::{Topic, broken_stream_record};
use spillway_test_env::terminal::spillway;
use spillway_test_env::test_env::TestEnv;
use spillway_test_env::wait;

const TEMPLATE: &str = "templates/streaming.yaml";
const STACK: &str = "stream";
const TABLE_SETTINGS: &str = "settings/tables.toml";
const ERRORS: &str = "failed/stream-errors/processing-failed/2026/11/20/";
const TIMEOUT: Duration = Duration::from_secs(120);

/// The settings of the tables, as `docs/streams.md` recommends them.
const TABLES: &str = r#"
[[table]]
pattern = "stream/{table}/**"
load_mode = "merge"
merge_key = ["request_id"]
unknown_columns = "add"
max_rejects = 100

[table.columns.table]
ignore = true
"#;

/// The published events: topic, number, and how many of them are broken.
const PUBLISHED: [(Topic, &str, u64, u64); 2] =
    [(Topic::Sale, "sale", 700, 21), (Topic::Inventory, "inventory", 300, 9)];

/// A Spillway stack, and a stack with a stream that writes into its bucket.
struct Site {
    server: Database,
    schema: Schema,
    stack: Deployment,
    outputs: Value,
}

impl Site {
    async fn deploy(cloud: &Cloud, engine: Engine, parameters: &[(&str, &str)]) -> Result<Self> {
        let server = Database::start(engine, Options::default()).await?;
        let schema = server.schema().await?;
        let mut account = cloud.account_without_bucket().await?;
        account.bucket = format!("spillway-stream-{}", account.id);
        let settings = format!("TableSettings=s3://{}/{TABLE_SETTINGS}", account.bucket);
        let glue_database = format!("GlueDatabase={GLUE_DATABASE}");
        let own = ["MoreUploadPrefixes=stream/", "DatabaseRetrySeconds=30", &glue_database, &settings];
        let stack = Deployment::deploy_into(account, "spillway", &server, &schema, &own).await?;
        stack.account.put(TABLE_SETTINGS, TABLES).await?;
        let bucket = stack.account.bucket.clone();
        let parameters = [&[("BucketName", bucket.as_str()), ("KeyFields", "request_id")], parameters].concat();
        let outputs = stack.deploy_beside(TEMPLATE, STACK, &parameters).await?;
        Ok(Self { server, schema, stack, outputs })
    }

    fn account(&self) -> &Account {
        &self.stack.account
    }

    fn output(&self, name: &str) -> Result<&str> {
        self.outputs[name].as_str().with_context(|| format!("the stack has no output {name}"))
    }

    /// Publishes sample events with the command line.
    async fn publish(&self, topic: &str, events: u64, broken: u64) -> Result<()> {
        let (count, faults) = (events.to_string(), broken.to_string());
        let arguments = ["sample", "--json", "--stream", self.output("StreamName")?, "--topic", topic];
        let arguments = [&arguments[..], &["--events", &count, "--broken", &faults]].concat();
        let published = spillway(&self.account().settings(), &arguments).await?.ensure_code(0)?.json()?;
        ensure!(published["records"] == events && published["broken"] == broken, "{published}");
        Ok(())
    }

    /// Identity, SKU and quantity of each row of a table.
    async fn rows(&self, table: &str) -> Result<BTreeSet<String>> {
        let query = format!("SELECT request_id, sku, qty FROM {{schema}}.{table}");
        let rows = self.server.query(&self.schema, &query).await?;
        let count = rows.len();
        let found: BTreeSet<String> = rows.into_iter().map(|row| joined(&row)).collect();
        ensure!(found.len() == count, "{table} has a row twice");
        Ok(found)
    }

    /// Waits until every file is loaded and the tables have this number of rows.
    async fn wait_for_rows(&self, expected: [(&str, usize); 2]) -> Result<()> {
        let waited = wait::until("the events to be in their tables", TIMEOUT, async || {
            for prefix in ["stream/", "lease/"] {
                if !self.account().keys(prefix).await?.is_empty() {
                    return Ok(false);
                }
            }
            for (table, count) in expected {
                if self.rows(table).await.map_or(0, |rows| rows.len()) != count {
                    return Ok(false);
                }
            }
            Ok(true)
        })
        .await;
        self.stack.with_logs(waited).await
    }

    /// The sum of a metric that the transform function has written.
    async fn metric(&self, name: &str) -> Result<u64> {
        let request = json!({"logGroupName": self.output("TransformLogGroupName")?, "limit": 10_000});
        let events = call(self.account(), "logs", "Logs_20140328.FilterLogEvents", &request).await?;
        let lines = events["events"].as_array().into_iter().flatten().filter_map(|event| event["message"].as_str());
        let metrics = lines.filter_map(|line| serde_json::from_str::<Value>(line.trim()).ok());
        Ok(metrics.filter(|line| line["_aws"].is_object()).filter_map(|line| line[name].as_u64()).sum())
    }
}

fn joined(row: &[Option<String>]) -> String {
    row.iter().map(|value| value.as_deref().unwrap_or("NULL")).collect::<Vec<_>>().join(" ")
}

/// The numbers of the broken events, as the command line selects them.
fn broken_numbers(events: u64, broken: u64) -> Vec<u64> {
    (1..=broken).map(|number| number * events / (broken + 1)).collect()
}

/// The rows of the events that are not broken.
fn good_rows(topic: Topic, events: u64, broken: &[u64]) -> BTreeSet<String> {
    let row = |number: u64| {
        let event = topic.event(number);
        let text = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
        format!("{} {} {}", text("request_id"), text("sku"), event["qty"])
    };
    (0..events).filter(|number| !broken.contains(number)).map(row).collect()
}

#[tokio::test]
async fn events_of_a_stream_are_in_their_tables_once() -> Result<()> {
    load_events_once(Engine::MariaDb).await
}

#[tokio::test]
#[ignore = "takes minutes; part of `make test-stack`"]
async fn events_of_a_stream_are_in_tables_of_postgres_once() -> Result<()> {
    load_events_once(Engine::Postgres).await
}

/// The whole path, with Firehose replaced by the test. One batch is delivered twice.
async fn load_events_once(engine: Engine) -> Result<()> {
    let cloud = Cloud::start().await?;
    let site = Site::deploy(&cloud, engine, &[]).await?;
    let firehose = Firehose::replace(site.account(), site.output("DeliveryStreamName")?).await?;
    for (_, topic, events, broken) in PUBLISHED {
        site.publish(topic, events, broken).await?;
    }
    let published = records(site.account(), site.output("StreamName")?).await?;
    assert_eq!(published.len(), 1_000);

    // Batches of 100 records; a file for each table after every third batch. The fifth batch is delivered a second time.
    let mut batches = Vec::new();
    for batch in published.chunks(100) {
        batches.push(firehose.transform(batch).await?);
    }
    let mut again = firehose.transform(&published[400..500]).await?;
    again.clear_failed();
    for buffered in batches.chunks(3) {
        firehose.deliver(&buffered.iter().collect::<Vec<_>>()).await?;
    }
    firehose.deliver(&[&again]).await?;

    site.wait_for_rows([("sale_events", 679), ("inventory_events", 291)]).await?;
    for (topic, _, events, broken) in PUBLISHED {
        let expected = good_rows(topic, events, &broken_numbers(events, broken));
        assert_eq!(site.rows(topic.folder()).await?, expected);
    }

    // The broken records are complete, where a person finds them, and nothing else failed.
    let failed = site.account().keys("failed/").await?;
    ensure!(failed.iter().all(|key| key.starts_with(ERRORS)), "{failed:?}");
    let mut raw = Vec::new();
    for key in &failed {
        raw.extend(raw_records(&site.account().get(key).await?)?);
    }
    raw.sort();
    let mut expected: Vec<Vec<u8>> = PUBLISHED
        .iter()
        .flat_map(|(topic, _, events, broken)| {
            let numbers = broken_numbers(*events, *broken).into_iter().enumerate();
            numbers.map(|(way, number)| broken_stream_record(*topic, number, way as u64))
        })
        .collect();
    expected.sort();
    assert_eq!(raw, expected);
    ensure!(site.account().keys("rejected/").await?.is_empty() && site.account().keys("fallback/").await?.is_empty());

    // Metrics: the fifth batch was transformed twice.
    let (records, failures) = (site.metric("StreamRecords").await?, site.metric("StreamFailedRecords").await?);
    assert_eq!(records, 1_100);
    ensure!(failures >= 30 && site.metric("StreamFailures").await? == failures, "{failures}");

    bad_events_do_not_hold_back_their_file(&site, &firehose, &published).await?;

    // A person corrects the broken sales, and uploads them together with an event that is loaded already.
    let mut numbers = broken_numbers(700, 21);
    numbers.push(0);
    let corrected: String = numbers.iter().map(|number| format!("{}\n", Topic::Sale.event(*number))).collect();
    site.account().put("stream/sale_events/corrected.jsonl", corrected).await?;
    site.wait_for_rows([("sale_events", 701), ("inventory_events", 291)]).await?;
    assert_eq!(site.rows("sale_events").await?, good_rows(Topic::Sale, 701, &[]));
    Ok(())
}

/// An event without its key goes to the error prefix. One with a value of a wrong type is a rejected record. A third one in the same
/// file is loaded.
async fn bad_events_do_not_hold_back_their_file(
    site: &Site,
    firehose: &Firehose,
    before: &[KinesisRecord],
) -> Result<()> {
    let event = |number: u64| {
        let mut event = Topic::Sale.event(number);
        event["table"] = "sale_events".into();
        event
    };
    let (good, mut no_key, mut wrong_type) = (event(700), event(701), event(702));
    no_key["request_id"] = Value::Null;
    wrong_type["qty"] = "many".into();
    let events = [good, no_key, wrong_type];
    let put: Vec<Value> =
        events.iter().map(|event| json!({"Data": base64::encode(event.to_string()), "PartitionKey": "1"})).collect();
    let stream = site.output("StreamName")?;
    kinesis(site.account(), "PutRecords", &json!({"StreamName": stream, "Records": put})).await?;
    let mut published = records(site.account(), stream).await?;
    published.retain(|record| !before.contains(record));
    assert_eq!(published.len(), events.len());
    let keys = firehose.deliver(&[&firehose.transform(&published).await?]).await?;

    site.wait_for_rows([("sale_events", 680), ("inventory_events", 291)]).await?;
    let failed: Vec<&String> = keys.iter().filter(|key| key.starts_with(ERRORS)).collect();
    ensure!(keys.len() == 2 && failed.len() == 1, "{keys:?}");
    assert_eq!(raw_records(&site.account().get(failed[0]).await?)?, [events[1].to_string().into_bytes()]);
    let rejected = site.account().keys("rejected/").await?;
    let reasons = rejected.iter().find(|key| key.ends_with(".jsonl")).context("no record was rejected")?;
    let reason: Value = serde_json::from_slice(&site.account().get(reasons).await?)?;
    ensure!(reason["code"] == "value_refused" && reason["column"] == "qty", "{reason}");
    ensure!(rejected.len() == 2 && site.account().keys("fallback/").await?.is_empty(), "{rejected:?}");
    Ok(())
}

/// The original records in a file of the error prefix.
fn raw_records(file: &[u8]) -> Result<Vec<Vec<u8>>> {
    let lines = std::str::from_utf8(file)?.lines();
    lines
        .map(|line| {
            let line: Value = serde_json::from_str(line)?;
            Ok(base64::decode(line["rawData"].as_str().context("no rawData")?)?)
        })
        .collect()
}

/// The delivery stream of the template, run by MiniStack: it calls the function and uses its partition keys.
#[tokio::test]
#[ignore = "takes minutes; part of `make test-stack`"]
async fn deployed_delivery_stream_calls_the_transform() -> Result<()> {
    let cloud = Cloud::start().await?;
    let site = Site::deploy(&cloud, Engine::Postgres, &[("Compression", "UNCOMPRESSED")]).await?;
    site.publish("sale", 20, 4).await?;
    site.publish("inventory", 10, 1).await?;
    site.wait_for_rows([("sale_events", 16), ("inventory_events", 9)]).await?;
    for (topic, events, broken) in [(Topic::Sale, 20, 4), (Topic::Inventory, 10, 1)] {
        assert_eq!(site.rows(topic.folder()).await?, good_rows(topic, events, &broken_numbers(events, broken)));
    }
    assert_eq!(site.metric("StreamFailedRecords").await?, 5);
    Ok(())
}

/// A response has at most 6 MB. Records that do not fit are in the stream again, and a later event contains them.
#[tokio::test]
async fn records_that_exceed_the_response_are_in_the_stream_again() -> Result<()> {
    // Their results are larger than the records, because a result has the name of the table twice. The event is below the limit of
    // Lambda for events.
    const RECORDS: usize = 27_000;
    let table = "a".repeat(63);
    let account = Cloud::shared().await?.account().await?;
    let stream = run::unique("stream");
    kinesis(&account, "CreateStream", &json!({"StreamName": stream, "ShardCount": 1})).await?;
    wait::until("the stream to be active", TIMEOUT, async || {
        let summary = kinesis(&account, "DescribeStreamSummary", &json!({"StreamName": stream})).await?;
        Ok(summary["StreamDescriptionSummary"]["StreamStatus"] == "ACTIVE")
    })
    .await?;
    let data = |number: usize| format!("{{\"table\":\"{table}\",\"n\":{number}}}");
    let records_of_event: Vec<Value> = (0..RECORDS)
        .map(|number| {
            let metadata = json!({"partitionKey": format!("key-{number}"), "sequenceNumber": number.to_string()});
            let (record_id, data) = (number.to_string(), base64::encode(data(number)));
            json!({"recordId": record_id, "data": data, "kinesisRecordMetadata": metadata})
        })
        .collect();
    let event = json!({
        "invocationId": "i", "deliveryStreamArn": "arn:aws:firehose:us-east-1:000000000000:deliverystream/d",
        "sourceKinesisStreamArn": format!("arn:aws:kinesis:us-east-1:{}:stream/{stream}", account.id),
        "region": "us-east-1", "records": records_of_event,
    });
    let settings = account.settings().with("STREAM_TABLE_FIELD", "table");
    let response = Function::ingest(&settings)?.invoke(&event).await?;
    response.ensure_success()?;
    let size = response.body.to_string().len();
    ensure!(size <= 6_291_556, "the response has {size} bytes");
    let results = response.body["records"].as_array().context("no records")?;
    assert_eq!(results.len(), RECORDS);
    let dropped: BTreeSet<Vec<u8>> = results
        .iter()
        .enumerate()
        .filter(|(_, result)| result["result"] == "Dropped")
        .map(|(number, _)| data(number).into_bytes())
        .collect();
    ensure!(!dropped.is_empty() && dropped.len() < RECORDS / 2, "{} records were dropped", dropped.len());
    let again = records(&account, &stream).await?;
    assert_eq!(again.len(), dropped.len());
    ensure!(again.iter().all(|record| record.partition_key().starts_with("key-")), "another partition key");
    assert_eq!(again.into_iter().map(|record| record.data).collect::<BTreeSet<_>>(), dropped);
    println!("{RECORDS} records: a response of {size} bytes, {} records sent again", dropped.len());
    Ok(())
}

/// The ingest function either runs requests or transforms records. It refuses the events of the other role.
#[tokio::test]
async fn each_function_refuses_the_events_of_the_other() -> Result<()> {
    let test_env = TestEnv::new().await?;
    let path = run::workspace().join("events/firehose-records.json");
    let response =
        Function::ingest(&test_env.settings())?.invoke(&serde_json::from_slice(&std::fs::read(path)?)?).await?;
    assert_eq!(response.error_type(), Some("event_invalid"));
    ensure!(response.error_message().contains("STREAM_TABLE_FIELD"), "{}", response.error_message());

    let settings = test_env.settings().with("STREAM_TABLE_FIELD", "table");
    let response = Function::ingest(&settings)?.invoke(&json!({"sweep": {}})).await?;
    assert_eq!(response.error_type(), Some("event_invalid"));
    ensure!(response.error_message().contains("STREAM_TABLE_FIELD"), "{}", response.error_message());
    Ok(())
}

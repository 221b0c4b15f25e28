//! Consumers of the published stream: one in the test, and the function with the events of Lambda.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use aws_smithy_types::base64;
use rstest::rstest;
use serde_json::{Value, json};
use spillway_test_env::database::Engine;
use spillway_test_env::failpoint::Pause;
use spillway_test_env::firehose::{KinesisRecord, records};
use spillway_test_env::lambda::Function;

use super::site::{Rows, STREAM, Site, TABLE, TIMEOUT, rows, version};

/// The function applies the published records to an empty table, in calls that are repeated, overlap and are killed.
#[rstest]
#[case::mariadb(Engine::MariaDb)]
#[case::postgresql(Engine::Postgres)]
#[tokio::test]
async fn published_stream_gives_the_newest_export(#[case] engine: Engine) -> Result<()> {
    let site = Site::new(engine, "both").await?;
    for number in 1..=4 {
        site.import(&version(number), &rows(number), None).await?;
    }
    let published = records(&site.test_env.fixture.account, STREAM).await?;
    site.test_env.sql(&format!("DELETE FROM {{schema}}.{TABLE}")).await?;
    let consumer = Function::ingest(&site.settings.clone().with("EXPORT_TARGET", "database"))?;
    let mut shards: BTreeMap<&str, Vec<&KinesisRecord>> = BTreeMap::new();
    for record in &published {
        shards.entry(record.shard()).or_default().push(record);
    }
    ensure!(shards.len() == 2, "{} shards", shards.len());
    let mut calls = 0;
    for records in shards.values() {
        for (index, batch) in records.chunks(150).enumerate() {
            let event = kinesis_event(batch);
            if index == 1 {
                let pause = Pause::at("AfterCommit")?;
                let settings = site.settings.clone().with("EXPORT_TARGET", "database").and(&pause.settings());
                let mut call = Function::ingest(&settings)?.start(&event).await?;
                call.wait_for(&pause, TIMEOUT).await?;
                call.kill().await?;
            }
            let twice = [&event, &event];
            // A batch that comes again with other limits.
            let overlapping = kinesis_event(&batch[batch.len() / 2..]);
            for event in twice.into_iter().chain([&overlapping]) {
                let response = consumer.invoke(event).await?;
                response.ensure_success()?;
                assert_eq!(response.body, json!({"batchItemFailures": []}));
                calls += 1;
            }
        }
    }
    ensure!(site.table().await? == rows(4), "the table has other rows than the newest export");
    println!("{} records in {calls} calls", published.len());
    Ok(())
}

/// The event with which Lambda delivers these records.
fn kinesis_event(records: &[&KinesisRecord]) -> Value {
    let record = |record: &&KinesisRecord| {
        json!({
            "eventSource": "aws:kinesis", "eventVersion": "1.0", "eventName": "aws:kinesis:record",
            "eventID": format!("{}:{}", record.shard(), record.sequence_number()),
            "eventSourceARN": format!("arn:aws:kinesis:us-east-1:000000000000:stream/{STREAM}"),
            "kinesis": {
                "kinesisSchemaVersion": "1.0", "partitionKey": record.partition_key(),
                "sequenceNumber": record.sequence_number(), "data": base64::encode(&record.data),
            },
        })
    };
    json!({"Records": records.iter().map(record).collect::<Vec<_>>()})
}

/// A consumer of the published stream, as `docs/exports.md` describes it.
#[derive(Default)]
pub(super) struct Consumer {
    pub(super) rows: Rows,
    last: BTreeMap<String, (String, u64)>,
}

impl Consumer {
    pub(super) fn read(&mut self, record: &KinesisRecord) -> Result<()> {
        let message: Value = serde_json::from_slice(&record.data)?;
        let source = &message["source"];
        let text = |value: &Value| value.as_str().map(str::to_owned).context("a field is not text");
        ensure!(source["tenant"] == "tenant" && source["table"] == "test_table", "{message}");
        let change = (text(&source["export_version"])?, text(&source["sequence"])?.parse()?);
        if self.last.insert(record.partition_key().to_owned(), change.clone()) == Some(change) {
            return Ok(());
        }
        let (before, after) = (&message["before"], &message["after"]);
        let row = if after.is_null() { before } else { after };
        let id: u64 = text(&row["id"])?.parse()?;
        match after.is_null() {
            true => drop(self.rows.remove(&id)),
            false => drop(self.rows.insert(id, (text(&after["name"])?, after["price"].as_str().map(str::to_owned)))),
        }
        Ok(())
    }
}

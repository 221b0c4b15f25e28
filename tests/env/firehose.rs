//! Replaces Amazon Data Firehose on the local AWS: reads a Kinesis stream, calls the deployed transform function, and writes objects.
//!
//! MiniStack's own Firehose writes one object per record at once, does not compress, and drops records that failed. So these
//! steps follow the documentation of AWS instead: calls with batches of records, buffers by folder, gzip, and files with the
//! failed records under the error prefix. The deployed delivery stream names the function and the prefixes.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use async_compression::tokio::write::GzipEncoder;
use aws_smithy_types::base64;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use crate::aws_json::call;
use crate::cloud::{Account, REGION};
use crate::{http, run};

/// The time in prefixes and names.
const DAY: &str = "2026/11/20";
const TIME: &str = "2026-11-20-10-15-30";
/// The ending of objects, as `templates/streaming.yaml` sets it for gzip.
const ENDING: &str = ".jsonl.gz";

/// A record of a Kinesis stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KinesisRecord {
    /// The bytes.
    pub data: Vec<u8>,
    partition_key: String,
    sequence_number: String,
    shard: String,
}

/// A deployed delivery stream that the test replaces.
#[derive(Debug)]
pub struct Firehose {
    account: Account,
    name: String,
    arn: String,
    stream_arn: String,
    function: String,
    prefix: String,
    error_prefix: String,
}

/// What one call of the function has returned.
#[derive(Debug, Default)]
pub struct Transformed {
    /// The data for each folder.
    pub delivered: BTreeMap<String, Vec<u8>>,
    /// The lines for the error prefix.
    failed: Vec<Value>,
    /// The number of dropped records.
    pub dropped: usize,
}

/// Calls an operation of Kinesis.
pub async fn kinesis(account: &Account, operation: &str, body: &Value) -> Result<Value> {
    call(account, "kinesis", &format!("Kinesis_20131202.{operation}"), body).await
}

/// Every record of a stream, shard by shard.
pub async fn records(account: &Account, stream: &str) -> Result<Vec<KinesisRecord>> {
    let shards = kinesis(account, "ListShards", &json!({"StreamName": stream})).await?;
    let mut found = Vec::new();
    for shard in shards["Shards"].as_array().context("the stream has no shards")? {
        let shard = shard["ShardId"].as_str().context("a shard has no id")?;
        let start = json!({"StreamName": stream, "ShardId": shard, "ShardIteratorType": "TRIM_HORIZON"});
        let mut iterator = kinesis(account, "GetShardIterator", &start).await?["ShardIterator"].clone();
        loop {
            let page = kinesis(account, "GetRecords", &json!({"ShardIterator": iterator, "Limit": 1_000})).await?;
            let records = page["Records"].as_array().context("the response has no records")?;
            if records.is_empty() {
                break;
            }
            for record in records {
                found.push(KinesisRecord::read(record, shard)?);
            }
            iterator = page["NextShardIterator"].clone();
        }
    }
    Ok(found)
}

impl KinesisRecord {
    fn read(record: &Value, shard: &str) -> Result<Self> {
        let text = |name: &str| record[name].as_str().with_context(|| format!("a record has no {name}"));
        Ok(Self {
            data: base64::decode(text("Data")?)?,
            partition_key: text("PartitionKey")?.to_owned(),
            sequence_number: text("SequenceNumber")?.to_owned(),
            shard: shard.to_owned(),
        })
    }

    /// The key that selects its shard.
    pub fn partition_key(&self) -> &str {
        &self.partition_key
    }

    /// Its shard.
    pub fn shard(&self) -> &str {
        &self.shard
    }

    /// Its number in the shard.
    pub fn sequence_number(&self) -> &str {
        &self.sequence_number
    }

    /// The record in an event for the function.
    fn event(&self, record_id: &str) -> Value {
        json!({
            "recordId": record_id,
            "approximateArrivalTimestamp": 1_795_000_000_000_u64,
            "data": base64::encode(&self.data),
            "kinesisRecordMetadata": {
                "sequenceNumber": self.sequence_number, "subsequenceNumber": 0, "partitionKey": self.partition_key,
                "shardId": self.shard, "approximateArrivalTimestamp": 1_795_000_000_000_u64,
            },
        })
    }
}

impl Firehose {
    /// Reads the settings of a delivery stream, then deletes it, so that MiniStack does not deliver its records too.
    pub async fn replace(account: &Account, name: &str) -> Result<Self> {
        let named = json!({"DeliveryStreamName": name});
        let described = call(account, "firehose", "Firehose_20150804.DescribeDeliveryStream", &named).await?;
        let stream = &described["DeliveryStreamDescription"];
        let destination = &stream["Destinations"][0]["ExtendedS3DestinationDescription"];
        let text = |value: &Value| value.as_str().map(str::to_owned).context("the delivery stream lacks a setting");
        let parameters = &destination["ProcessingConfiguration"]["Processors"][0]["Parameters"];
        let function = parameters.as_array().into_iter().flatten().find(|pair| pair["ParameterName"] == "LambdaArn");
        let arn = text(&function.context("the delivery stream has no function")?["ParameterValue"])?;
        ensure!(destination["CompressionFormat"] == "GZIP", "{destination}");
        let firehose = Self {
            account: account.clone(),
            name: name.to_owned(),
            arn: text(&stream["DeliveryStreamARN"])?,
            stream_arn: text(&stream["Source"]["KinesisStreamSourceDescription"]["KinesisStreamARN"])?,
            function: arn.rsplit(':').next().unwrap_or_default().to_owned(),
            prefix: text(&destination["Prefix"])?,
            error_prefix: text(&destination["ErrorOutputPrefix"])?,
        };
        call(account, "firehose", "Firehose_20150804.DeleteDeliveryStream", &named).await?;
        Ok(firehose)
    }

    /// Calls the function with these records, and checks its response as Firehose does.
    pub async fn transform(&self, records: &[KinesisRecord]) -> Result<Transformed> {
        let ids: Vec<String> = (0..records.len()).map(|index| format!("{index:056}")).collect();
        let events: Vec<Value> = records.iter().zip(&ids).map(|(record, id)| record.event(id)).collect();
        let event = json!({
            "invocationId": run::unique("invocation"), "deliveryStreamArn": self.arn, "region": REGION,
            "sourceKinesisStreamArn": self.stream_arn, "records": events,
        });
        let path = format!("/2015-03-31/functions/{}/invocations", self.function);
        let credential = self.account.credential("lambda");
        let headers = [("Authorization", credential.as_str())];
        let response = http::post(self.account.port, &path, &headers, &event.to_string()).await?;
        let response: Value = serde_json::from_str(&response.body).context("the function's response is not JSON")?;
        let results = response["records"].as_array().with_context(|| format!("the function failed: {response}"))?;
        let returned: Vec<&str> = results.iter().filter_map(|result| result["recordId"].as_str()).collect();
        ensure!(returned == ids, "the response has other records than the event");
        let mut transformed = Transformed::default();
        for (record, result) in records.iter().zip(results) {
            transformed.add(record, result)?;
        }
        Ok(transformed)
    }

    /// Writes one object for each folder, and one with the failed records. Returns their keys.
    pub async fn deliver(&self, buffered: &[&Transformed]) -> Result<Vec<String>> {
        let mut folders: BTreeMap<&str, Vec<u8>> = BTreeMap::new();
        for (table, data) in buffered.iter().flat_map(|transformed| &transformed.delivered) {
            folders.entry(table).or_default().extend_from_slice(data);
        }
        let failed: Vec<u8> =
            buffered.iter().flat_map(|one| &one.failed).flat_map(|line| format!("{line}\n").into_bytes()).collect();
        let mut keys = Vec::new();
        for (table, data) in folders {
            let prefix = self.prefix.replace("!{partitionKeyFromLambda:table}", table);
            keys.push(self.put(&prefix, ENDING, &gzip(&data).await?).await?);
        }
        if !failed.is_empty() {
            let prefix = self.error_prefix.replace("!{firehose:error-output-type}", "processing-failed");
            keys.push(self.put(&prefix, "", &failed).await?);
        }
        Ok(keys)
    }

    async fn put(&self, prefix: &str, ending: &str, body: &[u8]) -> Result<String> {
        let prefix = prefix.replace("!{timestamp:yyyy/MM/dd}", DAY);
        ensure!(!prefix.contains("!{"), "an expression of the prefix is not known: {prefix}");
        let key = format!("{prefix}{}-1-{TIME}-{}{ending}", self.name, run::unique("object"));
        self.account.put(&key, body.to_vec()).await?;
        Ok(key)
    }
}

impl Transformed {
    /// Keeps only the delivered records, for a second delivery of the same ones.
    pub fn clear_failed(&mut self) {
        self.failed.clear();
    }

    fn add(&mut self, record: &KinesisRecord, result: &Value) -> Result<()> {
        match result["result"].as_str() {
            Some("Ok") => {
                let table = result["metadata"]["partitionKeys"]["table"].as_str();
                let table = table.filter(|table| !table.is_empty()).context("a record has no partition key")?;
                let data = base64::decode(result["data"].as_str().context("a record has no data")?)?;
                self.delivered.entry(table.to_owned()).or_default().extend_from_slice(&data);
            }
            Some("Dropped") => self.dropped += 1,
            Some("ProcessingFailed") => self.failed.push(json!({
                "attemptsMade": 1, "arrivalTimestamp": 1_795_000_000_000_u64, "errorCode": "Lambda.ProcessingFailedStatus",
                "errorMessage": "ProcessingFailed status set for record", "attemptEndingTimestamp": 1_795_000_001_000_u64,
                "rawData": base64::encode(&record.data), "lambdaArn": "arn:aws:lambda:us-east-1:000000000000:function:transform",
            })),
            _ => anyhow::bail!("a record has another result: {result}"),
        }
        Ok(())
    }
}

async fn gzip(data: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = GzipEncoder::new(Vec::new());
    encoder.write_all(data).await?;
    encoder.shutdown().await?;
    Ok(encoder.into_inner())
}

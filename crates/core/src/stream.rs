//! Transforms records of a stream for Amazon Data Firehose: events as lines, each in the folder of its table.
//!
//! The ingest function does this if `STREAM_TABLE_FIELD` is set (`templates/streaming.yaml`). It needs no database. Firehose
//! writes the lines below `stream/<table>/`, where the trigger function loads them like any file. A record that is not delivered
//! goes to the error prefix, complete and unchanged. Firehose may deliver a record twice, so a table needs `LOAD_MODE=merge`.

mod failure;
mod objects;
mod record;
mod response;

use aws_smithy_types::base64;
use serde_json::Value;
use spillway_formats::limits::ReadLimits;
use tracing::{info, warn};

use crate::error::{Error, ErrorKind, Result};
use crate::kinesis::DataStream;
use crate::metrics::{Metrics, StreamCounts};
use failure::{Failure, Reason};
use record::{EventRules, RecordContent};
use response::{EventRecord, Fitted, MAX_RESPONSE_BYTES, ResponseRecord, StreamEvent, original};

pub(crate) use record::table_name;
pub use response::is_stream_event;

/// The most failed records of one event that are logged one by one. Metrics count all of them.
const MAX_LOGGED: usize = 20;

/// Settings of the transform.
#[derive(Debug, Clone)]
pub struct StreamSettings {
    /// `AWS_REGION`.
    pub region: String,
    /// `STACK_NAME`.
    pub stack: String,
    /// `STREAM_TABLE_FIELD`: the field of an event that names its table.
    pub table_field: String,
    /// `STREAM_TABLES`, in lower case: the accepted tables. `None` accepts every valid name.
    pub tables: Option<Vec<String>>,
    /// `STREAM_KEY_FIELDS`: the fields that each event must have.
    pub key_fields: Vec<String>,
    /// `LEDGER_TABLE`, which no event may name.
    pub ledger_table: String,
    /// Limits on an event.
    pub limits: ReadLimits,
}

/// Transforms events of Firehose.
#[derive(Debug)]
pub struct Transform {
    region: String,
    rules: EventRules,
    metrics: Metrics,
    max_response_bytes: usize,
}

impl Transform {
    /// A transform with these settings.
    pub fn new(settings: StreamSettings) -> Self {
        let StreamSettings { region, stack, table_field, tables, key_fields, ledger_table, limits } = settings;
        Self {
            region,
            rules: EventRules { table_field, tables, key_fields, ledger_table, limits },
            metrics: Metrics::new(&stack, "stream"),
            max_response_bytes: MAX_RESPONSE_BYTES,
        }
    }

    /// Transforms the records of an event, and returns the response for Firehose.
    ///
    /// # Errors
    /// When the event is not one of Firehose, or Kinesis does not accept records that do not fit into the response.
    /// Firehose then calls again, and at last writes all records of the event to the error prefix.
    pub async fn run(&self, event: &Value) -> Result<Value> {
        let result = self.transform(event).await;
        if let Err(error) = &result {
            self.metrics.failure(error.kind());
        }
        result
    }

    async fn transform(&self, event: &Value) -> Result<Value> {
        let event = StreamEvent::parse(event)?;
        let (fitted, counts) = self.fit(&event);
        if let Some(stream) = event.source_kinesis_stream_arn
            && !fitted.resend.is_empty()
        {
            let records: Vec<_> = fitted.resend.iter().filter_map(|index| original(&event.records[*index])).collect();
            Box::pin(DataStream::named(&self.region, stream)).await.put(&records).await?;
        }
        info!(
            records = counts.records,
            events = counts.events,
            failed = counts.all_failed(),
            empty = counts.empty,
            sent_again = counts.sent_again,
            "transformed records of a stream"
        );
        self.metrics.stream(&counts);
        serde_json::to_value(&fitted.response)
            .map_err(|error| Error::new(ErrorKind::Internal, "the response is not JSON").with_source(error))
    }

    /// Reads the records, and fits the response into its limit.
    fn fit<'a>(&self, event: &StreamEvent<'a>) -> (Fitted<'a>, StreamCounts) {
        let contents: Vec<_> = event.records.iter().map(|record| self.read(record)).collect();
        let records = event.records.iter().zip(&contents).map(|(record, content)| ResponseRecord::of(record, content));
        let fitted = Fitted::within(self.max_response_bytes, event.overflow(), records.collect());
        let mut counts = StreamCounts {
            records: contents.len() as u64,
            sent_again: fitted.resend.len() as u64,
            ..StreamCounts::default()
        };
        for (index, content) in contents.iter().enumerate() {
            match content {
                // It is counted when Firehose delivers it again.
                Ok(RecordContent::Events(_)) if fitted.resend.binary_search(&index).is_ok() => {}
                Ok(RecordContent::Events(_)) if fitted.too_large.binary_search(&index).is_ok() => {
                    let detail = "the result of the record does not fit into the response, and it cannot be sent again";
                    count_failure(&mut counts, &event.records[index], &Failure::new(Reason::TooLarge, detail));
                }
                Ok(RecordContent::Events(events)) => counts.events += events.count,
                Ok(RecordContent::Empty) => counts.empty += 1,
                Err(failure) => count_failure(&mut counts, &event.records[index], failure),
            }
        }
        (fitted, counts)
    }

    fn read(&self, record: &EventRecord<'_>) -> Result<RecordContent, Failure> {
        let data = base64::decode(record.data);
        let data = data.map_err(|_| Failure::new(Reason::NotJson, "the data of the record is not base64"))?;
        record::read(&data, &self.rules)
    }
}

/// Counts a record that is not delivered, and logs the first ones.
fn count_failure(counts: &mut StreamCounts, record: &EventRecord<'_>, failure: &Failure) {
    if counts.all_failed() < MAX_LOGGED as u64 {
        log(record, failure);
    }
    *counts.failed.entry(failure.reason.name()).or_default() += 1;
}

/// Logs a record that is not delivered, without its content. The sequence number finds it in the stream.
fn log(record: &EventRecord<'_>, failure: &Failure) {
    let sequence_number = record.kinesis_record_metadata.as_ref().and_then(|metadata| metadata.sequence_number);
    warn!(
        record_id = record.record_id,
        sequence_number,
        reason = failure.reason.name(),
        detail = &*failure.detail,
        "a record goes to the error prefix"
    );
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;

    fn transform() -> Transform {
        let rules = record::tests::rules();
        Transform::new(StreamSettings {
            region: "us-east-1".into(),
            stack: "s".into(),
            table_field: rules.table_field,
            tables: None,
            key_fields: Vec::new(),
            ledger_table: rules.ledger_table,
            limits: rules.limits,
        })
    }

    fn event(records: &[&str]) -> Value {
        let record =
            |(index, data): (usize, &&str)| json!({"recordId": index.to_string(), "data": base64::encode(data)});
        let records: Vec<Value> = records.iter().enumerate().map(record).collect();
        json!({"invocationId": "i", "deliveryStreamArn": "arn:d", "region": "us-east-1", "records": records})
    }

    #[tokio::test]
    async fn each_record_has_one_result_in_its_order() {
        let broken = r#"{"table":"#;
        let event = event(&[r#"{"table":"Orders","n":1}"#, broken, " \n", r#"{"table":"a"}{"table":"a"}"#]);
        let response = transform().run(&event).await.unwrap();
        let data = |text: &str| base64::encode(text);
        assert_eq!(
            response,
            json!({"records": [
                {"recordId": "0", "result": "Ok", "data": data("{\"table\":\"Orders\",\"n\":1}\n"), "metadata": {"partitionKeys": {"table": "orders"}}},
                {"recordId": "1", "result": "ProcessingFailed", "data": data(broken)},
                {"recordId": "2", "result": "Dropped"},
                {"recordId": "3", "result": "Ok", "data": data("{\"table\":\"a\"}\n{\"table\":\"a\"}\n"), "metadata": {"partitionKeys": {"table": "a"}}},
            ]})
        );
    }

    #[test]
    fn counts_cover_each_record() {
        let event = event(&[r#"{"table":"a"}{"table":"a"}"#, "x", r#"{"n":1}"#, "y", ""]);
        let event = StreamEvent::parse(&event).unwrap();
        let (_, counts) = transform().fit(&event);
        let failed = BTreeMap::from([("no_table", 1), ("not_json", 2)]);
        assert_eq!(counts, StreamCounts { records: 5, events: 2, empty: 1, sent_again: 0, failed });
    }

    #[test]
    fn data_that_is_not_base64_fails() {
        let event = json!({"deliveryStreamArn": "a", "records": [{"recordId": "1", "data": "%"}]});
        let (fitted, counts) = transform().fit(&StreamEvent::parse(&event).unwrap());
        assert_eq!(fitted.response.records[0].result, response::RecordResult::ProcessingFailed);
        assert_eq!(counts.failed, BTreeMap::from([("not_json", 1)]));
    }

    /// Records that were put into Firehose directly have no stream to be put into again. Those that do not fit fail.
    #[tokio::test]
    async fn response_never_exceeds_its_limit() {
        let transform = Transform { max_response_bytes: 1_000, ..transform() };
        let event = event(&[r#"{"table":"a"}"#; 15]);
        let (fitted, counts) = transform.fit(&StreamEvent::parse(&event).unwrap());
        let failed = fitted.too_large.len() as u64;
        assert!(fitted.resend.is_empty() && failed > 0, "{counts:?}");
        assert_eq!(counts.failed, BTreeMap::from([("too_large", failed)]));
        assert_eq!(counts.events + failed, 15);
        let response = transform.run(&event).await.unwrap();
        assert!(response.to_string().len() <= 1_000 + r#"{"records":[]}"#.len());
        assert_eq!(response["records"].as_array().unwrap().len(), 15);
    }

    #[test]
    fn records_of_kinesis_that_do_not_fit_are_sent_again() {
        let transform = Transform { max_response_bytes: 1_000, ..transform() };
        let mut event = event(&[r#"{"table":"a"}"#; 15]);
        event["sourceKinesisStreamArn"] = "arn:k".into();
        let (fitted, counts) = transform.fit(&StreamEvent::parse(&event).unwrap());
        assert!(fitted.too_large.is_empty() && counts.failed.is_empty() && counts.sent_again > 0, "{counts:?}");
        assert_eq!(counts.events + counts.sent_again, 15);
    }
}

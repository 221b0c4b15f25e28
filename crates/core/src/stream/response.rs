//! The event that Amazon Data Firehose sends to a transform function, and the response.
//!
//! Lambda returns at most 6 MB. Records that do not fit are put into the source stream again and reported as dropped, so that a
//! later event contains them. That is how the functions that AWS publishes for Firehose do it. To report them as failed would
//! move good records to the error prefix. Two kinds of records must fail: one that exceeds the limit alone would return without
//! end, and one that was put into Firehose directly has no source stream.
//! Sources: <https://docs.aws.amazon.com/firehose/latest/dev/data-transformation.html> (limit),
//! <https://docs.aws.amazon.com/firehose/latest/dev/data-transformation-status-model.html> (fields of a record).

use std::io;

use aws_smithy_types::base64;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::failure::Failure;
use super::record::{Events, RecordContent};
use crate::error::{Error, ErrorKind, Result};
use crate::kinesis::StreamRecord;

/// The largest response in bytes, with some space below Lambda's 6,291,556 for what surrounds the records.
pub(super) const MAX_RESPONSE_BYTES: usize = 6_000_000;

/// An event of Firehose. Fields that are not needed may be missing.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct StreamEvent<'a> {
    /// The Kinesis data stream that the records come from; `None` for records that were put into Firehose directly.
    pub(super) source_kinesis_stream_arn: Option<&'a str>,
    #[serde(borrow)]
    pub(super) records: Vec<EventRecord<'a>>,
}

/// A record of an event.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct EventRecord<'a> {
    /// Identifies the record in the response.
    pub(super) record_id: &'a str,
    /// The bytes in base64.
    pub(super) data: &'a str,
    #[serde(borrow)]
    pub(super) kinesis_record_metadata: Option<KinesisMetadata<'a>>,
}

/// Where a record was in its stream.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct KinesisMetadata<'a> {
    pub(super) partition_key: &'a str,
    pub(super) sequence_number: Option<&'a str>,
}

/// The response.
#[derive(Debug, Serialize)]
pub(super) struct StreamResponse<'a> {
    pub(super) records: Vec<ResponseRecord<'a>>,
}

/// The result of one record.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ResponseRecord<'a> {
    pub(super) record_id: &'a str,
    pub(super) result: RecordResult,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) data: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<Metadata>,
}

/// What Firehose does with a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) enum RecordResult {
    /// It delivers the data of the response.
    Ok,
    /// It does not deliver the record.
    Dropped,
    /// It writes the record to the error prefix.
    ProcessingFailed,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    partition_keys: PartitionKeys,
}

/// The keys that the prefix in `templates/streaming.yaml` contains.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct PartitionKeys {
    table: String,
}

/// A response that fits, and the records that did not.
#[derive(Debug)]
pub(super) struct Fitted<'a> {
    pub(super) response: StreamResponse<'a>,
    /// Indexes of records to put into the source stream again.
    pub(super) resend: Vec<usize>,
    /// Indexes of records that are reported as failed, because they cannot be sent again.
    pub(super) too_large: Vec<usize>,
}

/// What happens to a record that does not fit into the response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Overflow {
    /// It is put into the source stream again.
    Resend,
    /// It is reported as failed.
    Fail,
}

/// Whether an event is one of Firehose.
pub fn is_stream_event(event: &Value) -> bool {
    event["deliveryStreamArn"].is_string() && event["records"].is_array()
}

impl<'a> StreamEvent<'a> {
    /// What happens to records that do not fit: those that were put into Firehose directly have no source stream.
    pub(super) fn overflow(&self) -> Overflow {
        self.source_kinesis_stream_arn.map_or(Overflow::Fail, |_| Overflow::Resend)
    }

    /// Parses an event.
    ///
    /// # Errors
    /// [`ErrorKind::EventInvalid`] when it is not one of Firehose with records of Kinesis or of direct puts.
    pub(super) fn parse(event: &'a Value) -> Result<Self> {
        let invalid = |what: &str| Error::new(ErrorKind::EventInvalid, what);
        if !is_stream_event(event) {
            return Err(invalid(
                "this function has STREAM_TABLE_FIELD, so it transforms records of Firehose; the event is not from Firehose",
            ));
        }
        Self::deserialize(event).map_err(|error| {
            // A message of the parser could show a part of a record.
            let at = if error.is_data() { "a record without recordId or data" } else { "another form" };
            invalid(&format!("the event of Firehose has {at}"))
        })
    }
}

impl<'a> ResponseRecord<'a> {
    /// The result of a record that was read.
    pub(super) fn of(record: &EventRecord<'a>, content: &Result<RecordContent, Failure>) -> Self {
        let (result, data, metadata) = match content {
            Ok(RecordContent::Events(Events { table, lines, .. })) => {
                let partition_keys = PartitionKeys { table: table.clone() };
                (RecordResult::Ok, Some(base64::encode(lines)), Some(Metadata { partition_keys }))
            }
            Ok(RecordContent::Empty) => (RecordResult::Dropped, None, None),
            Err(_) => (RecordResult::ProcessingFailed, Some(record.data.to_owned()), None),
        };
        Self { record_id: record.record_id, result, data, metadata }
    }

    /// The same result with fewer bytes. A record without data is dropped, so its data must be elsewhere.
    fn shortened(&self, overflow: Overflow) -> Self {
        let result = match (self.result, overflow) {
            // Firehose has the record's own data, which it writes to the error prefix.
            (RecordResult::ProcessingFailed, _) | (RecordResult::Ok, Overflow::Fail) => RecordResult::ProcessingFailed,
            (RecordResult::Ok, Overflow::Resend) | (RecordResult::Dropped, _) => RecordResult::Dropped,
        };
        Self { record_id: self.record_id, result, data: None, metadata: None }
    }

    fn size_bytes(&self) -> usize {
        let mut counter = Counter(0);
        // The counter accepts everything, and the record consists of strings.
        let _ = serde_json::to_writer(&mut counter, self);
        counter.0 + 1
    }
}

impl<'a> Fitted<'a> {
    /// Shortens records, from the first one that does not fit on, so that the response has at most this many bytes.
    pub(super) fn within(max_bytes: usize, overflow: Overflow, records: Vec<ResponseRecord<'a>>) -> Self {
        let shorten = |record: &ResponseRecord<'a>| match record.size_bytes() > max_bytes {
            true => record.shortened(Overflow::Fail),
            false => record.shortened(overflow),
        };
        let short: Vec<ResponseRecord<'a>> = records.iter().map(shorten).collect();
        let mut left = max_bytes.saturating_sub(short.iter().map(ResponseRecord::size_bytes).sum());
        let (mut resend, mut too_large) = (Vec::new(), Vec::new());
        let fit = |(index, (record, short)): (usize, (ResponseRecord<'a>, ResponseRecord<'a>))| {
            let more = record.size_bytes().saturating_sub(short.size_bytes());
            if more <= left {
                left -= more;
                return record;
            }
            match (record.result, short.result) {
                (RecordResult::Ok, RecordResult::ProcessingFailed) => too_large.push(index),
                (RecordResult::Ok, _) => resend.push(index),
                (RecordResult::Dropped | RecordResult::ProcessingFailed, _) => {}
            }
            short
        };
        let records = records.into_iter().zip(short).enumerate().map(fit).collect();
        Self { response: StreamResponse { records }, resend, too_large }
    }
}

/// The record as it was in the source stream.
pub(super) fn original(record: &EventRecord<'_>) -> Option<StreamRecord> {
    let key = record.kinesis_record_metadata.as_ref().map_or(record.record_id, |metadata| metadata.partition_key);
    let data = base64::decode(record.data).ok()?;
    // A partition key has at most 256 characters.
    Some(StreamRecord { data, partition_key: key.chars().take(256).collect() })
}

/// Counts bytes.
struct Counter(usize);

impl io::Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The partition key in the prefix of the template, as [`PartitionKeys`] names it.
    const PARTITION_KEY: &str = "table";

    fn ok(record_id: &str, bytes: usize) -> ResponseRecord<'_> {
        let partition_keys = PartitionKeys { table: "a".into() };
        let (data, metadata) = (Some("x".repeat(bytes)), Some(Metadata { partition_keys }));
        ResponseRecord { record_id, result: RecordResult::Ok, data, metadata }
    }

    #[test]
    fn partition_key_is_that_of_the_template() {
        let template = include_str!("../../../../templates/streaming.yaml");
        assert!(template.contains(&format!("!{{partitionKeyFromLambda:{PARTITION_KEY}}}")));
        let record = serde_json::to_value(ok("1", 1)).unwrap();
        assert_eq!(record["metadata"]["partitionKeys"], json!({PARTITION_KEY: "a"}));
    }

    #[test]
    fn response_that_fits_is_complete() {
        let fitted = Fitted::within(10_000, Overflow::Resend, vec![ok("1", 100), ok("2", 100)]);
        assert!(fitted.resend.is_empty() && fitted.too_large.is_empty());
        assert_eq!(fitted.response.records, [ok("1", 100), ok("2", 100)]);
    }

    #[test]
    fn records_that_do_not_fit_are_dropped_and_sent_again() {
        let records = vec![ok("1", 600), ok("2", 600), ok("3", 10)];
        let fitted = Fitted::within(1_000, Overflow::Resend, records);
        assert_eq!((fitted.resend, fitted.too_large), (vec![1], vec![]));
        let results: Vec<_> = fitted.response.records.iter().map(|record| record.result).collect();
        assert_eq!(results, [RecordResult::Ok, RecordResult::Dropped, RecordResult::Ok]);
        assert!(serde_json::to_string(&fitted.response).unwrap().len() <= 1_000 + r#"{"records":[]}"#.len());
        assert_eq!(fitted.response.records[1].data, None);
    }

    #[test]
    fn failed_record_that_does_not_fit_stays_failed() {
        let failed = ResponseRecord { result: RecordResult::ProcessingFailed, metadata: None, ..ok("1", 2_000) };
        let fitted = Fitted::within(1_000, Overflow::Resend, vec![failed]);
        assert!(fitted.resend.is_empty() && fitted.too_large.is_empty());
        assert_eq!(fitted.response.records[0].result, RecordResult::ProcessingFailed);
        assert_eq!(fitted.response.records[0].data, None);
    }

    /// Sent again, such a record would never fit.
    #[test]
    fn record_that_exceeds_the_response_alone_fails() {
        let fitted = Fitted::within(1_000, Overflow::Resend, vec![ok("1", 100), ok("2", 2_000), ok("3", 100)]);
        assert_eq!((fitted.resend, fitted.too_large), (vec![], vec![1]));
        assert_eq!(fitted.response.records[1].result, RecordResult::ProcessingFailed);
        assert_eq!(fitted.response.records[2], ok("3", 100));
    }

    #[test]
    fn direct_puts_that_do_not_fit_fail() {
        let fitted = Fitted::within(1_000, Overflow::Fail, vec![ok("1", 600), ok("2", 600)]);
        assert_eq!((fitted.resend, fitted.too_large), (vec![], vec![1]));
        assert_eq!(fitted.response.records[1].result, RecordResult::ProcessingFailed);
    }

    #[test]
    fn event_of_kinesis_and_of_direct_puts_is_parsed() {
        let event = json!({
            "invocationId": "i", "deliveryStreamArn": "arn:d", "sourceKinesisStreamArn": "arn:k", "region": "us-east-1",
            "records": [{
                "recordId": "1", "approximateArrivalTimestamp": 1_510_772_160_000_u64, "data": "e30=",
                "kinesisRecordMetadata": {
                    "sequenceNumber": "49", "subsequenceNumber": 0, "partitionKey": "p", "shardId": "shardId-000000000000",
                    "approximateArrivalTimestamp": 1_510_772_160_000_u64
                }
            }, {"recordId": "2", "data": "e30="}]
        });
        let parsed = StreamEvent::parse(&event).unwrap();
        assert_eq!(parsed.source_kinesis_stream_arn, Some("arn:k"));
        let originals: Vec<_> = parsed.records.iter().filter_map(original).map(|record| record.partition_key).collect();
        assert_eq!(originals, ["p", "2"]);
    }

    #[test]
    fn other_events_are_errors_without_their_values() {
        for event in [
            json!({"sweep": {}}),
            json!({"deliveryStreamArn": "a", "records": {}}),
            json!({"deliveryStreamArn": "a", "records": [{"recordId": "1", "kafkaRecordValue": "s3cret"}]}),
            json!({"deliveryStreamArn": "a", "records": [{"recordId": "s3cret", "data": 5}]}),
        ] {
            let error = StreamEvent::parse(&event).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::EventInvalid);
            assert!(!error.to_string().contains("s3cret"), "{error}");
        }
    }
}

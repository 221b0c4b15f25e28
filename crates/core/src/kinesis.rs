//! Puts records into a Kinesis data stream.
//!
//! PutRecords is the only operation, so its requests are signed like those of `function`, without the SDK's crate: the deployed
//! functions do not grow. Kinesis may store some records of a request and refuse others. Only the refused ones are sent again.

use std::time::Duration;

use aws_smithy_types::base64;
use serde::Deserialize;
use serde_json::json;
use tracing::debug;

use crate::error::{Error, ErrorKind, Result};
use crate::function::{Response, SignedRequests};

/// The most records in one request. Source: the API reference of `PutRecords`.
pub(crate) const MAX_RECORDS: usize = 500;
/// The most bytes in one request, with the partition keys. The limit of Kinesis was 5 MiB and is now 10 MiB.
pub(crate) const MAX_BYTES: usize = 4 << 20;
/// The most requests in a row in which Kinesis stores no record.
const MAX_TRIES: u32 = 8;
/// The pause after the first refusal. It doubles with each further one in a row.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause.
const MAX_PAUSE: Duration = Duration::from_secs(5);
/// Limit for one request.
const TIMEOUT: Duration = Duration::from_secs(20);
const HEADERS: [(&str, &str); 2] =
    [("content-type", "application/x-amz-json-1.1"), ("x-amz-target", "Kinesis_20131202.PutRecords")];

/// A data stream.
#[derive(Debug)]
pub struct DataStream {
    requests: SignedRequests,
    /// `StreamName` or `StreamARN`.
    field: &'static str,
    /// The name or the ARN.
    name: String,
}

/// A record for a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamRecord {
    /// The bytes.
    pub data: Vec<u8>,
    /// The key whose hash selects the shard.
    pub partition_key: String,
}

/// What a call has done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PutSummary {
    /// Requests to Kinesis.
    pub requests: u64,
    /// Records that Kinesis refused at first, and that were sent again.
    pub sent_again: u64,
}

/// The response to a request that Kinesis has processed.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct PutResponse {
    records: Vec<PutResult>,
}

/// The result for one record, in the order of the request.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct PutResult {
    error_code: Option<String>,
}

/// The response to a request that Kinesis has refused as a whole.
#[derive(Deserialize, Default)]
struct Refusal {
    #[serde(rename = "__type", default)]
    code: String,
    #[serde(alias = "Message", default)]
    message: String,
}

/// What Kinesis has done with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
enum PutOutcome {
    /// For each record, whether it is stored.
    Processed(Vec<RecordOutcome>),
    /// No record is stored; a later request may succeed.
    Throttled(String),
}

/// What Kinesis has done with a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RecordOutcome {
    Stored,
    Refused,
}

impl DataStream {
    /// The stream with this name or ARN.
    pub async fn named(region: &str, name: &str) -> Self {
        let field = if name.starts_with("arn:") { "StreamARN" } else { "StreamName" };
        Self { requests: SignedRequests::new(region).await, field, name: name.to_owned() }
    }

    /// Puts the records, in requests within the limits of Kinesis. Records that Kinesis refuses are sent again with pauses.
    ///
    /// A record can be stored twice if a response is lost.
    ///
    /// # Errors
    /// When Kinesis refuses a request, or still refuses records at the last try. Then some records may be stored.
    pub async fn put(&self, records: &[StreamRecord]) -> Result<PutSummary> {
        let mut summary = PutSummary::default();
        for batch in batches(records) {
            let send = async |records: &[&StreamRecord]| self.send(records).await;
            let sent = put_batch(batch, FIRST_PAUSE, send).await?;
            summary.requests += sent.requests;
            summary.sent_again += sent.sent_again;
        }
        Ok(summary)
    }

    async fn send(&self, records: &[&StreamRecord]) -> Result<PutOutcome> {
        let records: Vec<_> = records
            .iter()
            .map(|record| json!({"Data": base64::encode(&record.data), "PartitionKey": record.partition_key}))
            .collect();
        let body = json!({self.field: self.name, "Records": records}).to_string();
        let response = tokio::time::timeout(TIMEOUT, self.requests.post("kinesis", "/", &HEADERS, body)).await;
        let response = response.map_err(|_| self.error(ErrorKind::Service, "Kinesis did not respond in time"))??;
        self.outcome(&response)
    }

    fn outcome(&self, response: &Response) -> Result<PutOutcome> {
        if response.status == 200 {
            let response: PutResponse = serde_json::from_str(&response.body).map_err(|error| {
                self.error(ErrorKind::Service, "the response of Kinesis has another form").with_source(error)
            })?;
            let outcome = |result: &PutResult| match result.error_code {
                None => RecordOutcome::Stored,
                Some(_) => RecordOutcome::Refused,
            };
            return Ok(PutOutcome::Processed(response.records.iter().map(outcome).collect()));
        }
        let refusal: Refusal = serde_json::from_str(&response.body).unwrap_or_default();
        // The code may have a namespace before it.
        let code = refusal.code.rsplit('#').next().unwrap_or_default();
        let kind = match (response.status, code) {
            (_, "ProvisionedThroughputExceededException" | "LimitExceededException" | "KMSThrottlingException")
            | (429 | 500.., _) => return Ok(PutOutcome::Throttled(code.to_owned())),
            (_, "ResourceNotFoundException") => ErrorKind::Settings,
            (403, _) | (_, "AccessDeniedException") => ErrorKind::Forbidden,
            _ => ErrorKind::Service,
        };
        Err(self.error(kind, &format!("Kinesis refused the records ({code}): {}", refusal.message)))
    }

    fn error(&self, kind: ErrorKind, what: &str) -> Error {
        Error::new(kind, format!("{what}; stream {:?}", self.name))
    }
}

/// The records in groups that fit into a request. A record above the limit is sent alone, so that Kinesis returns the error.
fn batches(records: &[StreamRecord]) -> Vec<&[StreamRecord]> {
    let (mut found, mut start, mut bytes) = (Vec::new(), 0, 0);
    for (index, record) in records.iter().enumerate() {
        let size = record.data.len() + record.partition_key.len();
        if index > start && (index - start == MAX_RECORDS || bytes + size > MAX_BYTES) {
            found.push(&records[start..index]);
            (start, bytes) = (index, 0);
        }
        bytes += size;
    }
    if start < records.len() {
        found.push(&records[start..]);
    }
    found
}

/// Sends the records of one request until each is stored.
async fn put_batch(
    records: &[StreamRecord],
    first_pause: Duration,
    send: impl AsyncFn(&[&StreamRecord]) -> Result<PutOutcome>,
) -> Result<PutSummary> {
    let mut left: Vec<&StreamRecord> = records.iter().collect();
    let (mut summary, mut tries) = (PutSummary::default(), 0);
    loop {
        let outcome = send(&left).await?;
        summary.requests += 1;
        let (refused, why) = match outcome {
            PutOutcome::Throttled(code) => (left.clone(), code),
            PutOutcome::Processed(outcomes) if outcomes.len() == left.len() => {
                let refused = left.iter().zip(&outcomes).filter(|(_, outcome)| **outcome == RecordOutcome::Refused);
                (refused.map(|(record, _)| *record).collect(), "some records were refused".to_owned())
            }
            PutOutcome::Processed(_) => {
                return Err(Error::new(ErrorKind::Service, "Kinesis returned another number of results than records"));
            }
        };
        if refused.is_empty() {
            return Ok(summary);
        }
        tries = if refused.len() < left.len() { 1 } else { tries + 1 };
        if tries == MAX_TRIES {
            let message = format!("Kinesis still refuses {} records after {MAX_TRIES} tries ({why})", refused.len());
            return Err(Error::new(ErrorKind::Throttled, message));
        }
        debug!(records = refused.len(), why, "sending records again");
        summary.sent_again += refused.len() as u64;
        left = refused;
        tokio::time::sleep(pause(first_pause, tries)).await;
    }
}

/// The pause before the next try, with a random part, so that many writers do not try at the same moment.
fn pause(first: Duration, tries: u32) -> Duration {
    let longest = first.saturating_mul(1 << tries.saturating_sub(1).min(16)).min(MAX_PAUSE);
    longest.mul_f64(0.5 + fastrand::f64() / 2.0)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    const SHORT: Duration = Duration::from_millis(1);

    fn record(number: usize, bytes: usize) -> StreamRecord {
        StreamRecord { data: vec![b'x'; bytes], partition_key: format!("{number:04}") }
    }

    #[test]
    fn batches_keep_order_and_limits() {
        let records: Vec<StreamRecord> = (0..1_201).map(|number| record(number, 10)).collect();
        let found = batches(&records);
        assert_eq!(found.iter().map(|batch| batch.len()).collect::<Vec<_>>(), [500, 500, 201]);
        assert_eq!(found.concat(), records);
        let large: Vec<StreamRecord> = (0..5).map(|number| record(number, 1 << 20)).collect();
        assert_eq!(batches(&large).iter().map(|batch| batch.len()).collect::<Vec<_>>(), [3, 2]);
        assert_eq!(batches(&[record(0, 6 << 20)]).len(), 1);
        assert!(batches(&[]).is_empty());
    }

    #[tokio::test]
    async fn only_refused_records_are_sent_again() {
        let records: Vec<StreamRecord> = (0..5).map(|number| record(number, 1)).collect();
        let sent = RefCell::new(Vec::new());
        let summary = put_batch(&records, SHORT, async |records: &[&StreamRecord]| {
            let keys: Vec<String> = records.iter().map(|record| record.partition_key.clone()).collect();
            sent.borrow_mut().push(keys);
            Ok(match sent.borrow().len() {
                1 => PutOutcome::Throttled("LimitExceededException".to_owned()),
                2 => PutOutcome::Processed(
                    (0..5)
                        .map(|index| if index % 2 == 1 { RecordOutcome::Refused } else { RecordOutcome::Stored })
                        .collect(),
                ),
                _ => PutOutcome::Processed(vec![RecordOutcome::Stored; records.len()]),
            })
        });
        assert_eq!(summary.await.unwrap(), PutSummary { requests: 3, sent_again: 7 });
        assert_eq!(sent.borrow()[2], ["0001", "0003"]);
    }

    #[tokio::test]
    async fn stream_without_capacity_is_an_error() {
        let records = [record(0, 1)];
        let refuse = async |_: &[&StreamRecord]| Ok(PutOutcome::Processed(vec![RecordOutcome::Refused]));
        let error = put_batch(&records, SHORT, refuse).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Throttled);
    }

    #[test]
    fn pauses_double_up_to_five_seconds() {
        for (tries, longest) in [(1, 100), (2, 200), (7, 5_000), (40, 5_000)] {
            let pause = pause(FIRST_PAUSE, tries).as_millis();
            assert!(pause * 2 >= longest && pause <= longest, "{tries}: {pause}");
        }
    }
}

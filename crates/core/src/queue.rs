//! The upload queue: SQS messages that contain events, and when a failed one is received again.
//!
//! Lambda receives and deletes the messages. The queue's visibility timeout must be longer than the function's timeout, so
//! without a change a failed message would wait that long, although most failures are over within a minute.

use std::time::Duration;

use aws_config::SdkConfig;
use aws_config::timeout::TimeoutConfig;
use aws_lambda_events::sqs::SqsMessage;
use aws_sdk_sqs::Client;
use aws_sdk_sqs::error::{DisplayErrorContext, ProvideErrorMetadata};
use aws_sdk_sqs::types::QueueAttributeName;
use futures_util::future::join_all;
use serde::Deserialize;
use serde_json::{Value, json};
use tracing::warn;

use crate::error::{Error, ErrorKind, Result};

/// The delay before a message is received for the second time.
const FIRST_DELAY: Duration = Duration::from_secs(60);
/// Limit for one request, so that a network without a path to SQS does not use up the function's time.
const TIMEOUT: Duration = Duration::from_secs(3);
/// The longest delay.
const MAX_DELAY: Duration = Duration::from_secs(15 * 60);

/// A message of the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct QueueMessage {
    /// Its id, by which the response to Lambda names it.
    pub(crate) id: String,
    /// The handle of this receipt.
    receipt_handle: String,
    /// The text, which should be an event as JSON.
    pub(crate) body: String,
    /// How often it was received, this time included.
    receive_count: u32,
}

impl QueueMessage {
    /// The messages of an event, if the event is a batch of SQS messages.
    pub(crate) fn of_event(event: &Value) -> Option<Vec<Self>> {
        let records = event.get("Records")?.as_array().filter(|records| !records.is_empty())?;
        records.iter().map(Self::of_record).collect()
    }

    fn of_record(record: &Value) -> Option<Self> {
        if record.get("eventSource")?.as_str()? != "aws:sqs" {
            return None;
        }
        let message = SqsMessage::deserialize(record).ok()?;
        let receive_count = message.attributes.get("ApproximateReceiveCount").and_then(|count| count.parse().ok());
        Some(Self {
            id: message.message_id?,
            receipt_handle: message.receipt_handle.unwrap_or_default(),
            body: message.body.unwrap_or_default(),
            receive_count: receive_count.unwrap_or(1),
        })
    }

    /// Whether the message was received before, so that an earlier attempt has failed or died.
    pub(crate) fn was_received_before(&self) -> bool {
        self.receive_count > 1
    }

    /// How long a failed message waits: a minute at first, doubled with each receipt.
    fn delay(&self) -> Duration {
        let doublings = self.receive_count.saturating_sub(1).min(10);
        FIRST_DELAY.saturating_mul(1 << doublings).min(MAX_DELAY)
    }
}

/// The response to Lambda: the messages that must be received again. Lambda deletes the others from the queue.
///
/// Lambda reads it only if the event source mapping has `FunctionResponseTypes: [ReportBatchItemFailures]`. Source:
/// <https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html>
pub(crate) fn partial_batch_response(failed: &[QueueMessage]) -> Value {
    let failures: Vec<Value> = failed.iter().map(|message| json!({"itemIdentifier": message.id})).collect();
    json!({ "batchItemFailures": failures })
}

/// The queue that the settings name. Clones share connections.
#[derive(Debug, Clone)]
pub(crate) struct UploadQueue {
    client: Client,
    url: String,
}

impl UploadQueue {
    /// The queue with this URL.
    pub(crate) fn new(config: &SdkConfig, url: String) -> Self {
        let timeouts = TimeoutConfig::builder().operation_timeout(TIMEOUT).build();
        let settings = aws_sdk_sqs::config::Builder::from(config).timeout_config(timeouts);
        Self { client: Client::from_conf(settings.build()), url }
    }

    /// Reads the queue's ARN, which proves that the queue exists.
    ///
    /// # Errors
    /// [`ErrorKind::Settings`] when the queue does not exist. Other kinds when it cannot be read.
    pub(crate) async fn arn(&self) -> Result<String> {
        let name = QueueAttributeName::QueueArn;
        let request = self.client.get_queue_attributes().queue_url(&self.url).attribute_names(name.clone());
        let response = request.send().await.map_err(|error| {
            let code = error.as_service_error().and_then(ProvideErrorMetadata::code).unwrap_or_default();
            let (kind, what) = match code {
                code if code.contains("NonExistentQueue") || code == "QueueDoesNotExist" => {
                    (ErrorKind::Settings, "the queue does not exist")
                }
                code if code.starts_with("AccessDenied") => {
                    (ErrorKind::Forbidden, "sqs:GetQueueAttributes is not allowed")
                }
                code if code.contains("Throttl") => (ErrorKind::Throttled, "SQS throttled the request"),
                _ => (ErrorKind::Service, "SQS failed or could not be reached"),
            };
            Error::new(kind, format!("{what}: {}", self.url)).with_source(error)
        })?;
        let arn = response.attributes().and_then(|attributes| attributes.get(&name)).cloned();
        arn.ok_or_else(|| Error::new(ErrorKind::Service, format!("SQS returned no ARN of {}", self.url)))
    }

    /// Sets when failed messages are received again. If that fails, they wait for the visibility timeout of the queue.
    ///
    /// All requests are sent at once, so that together they take no longer than one: the function may be close to its deadline.
    pub(crate) async fn delay(&self, failed: &[QueueMessage]) {
        join_all(failed.iter().map(|message| self.delay_one(message))).await;
    }

    async fn delay_one(&self, message: &QueueMessage) {
        let seconds = i32::try_from(message.delay().as_secs()).unwrap_or(i32::MAX);
        let request = self.client.change_message_visibility().queue_url(&self.url);
        let result = request.receipt_handle(&message.receipt_handle).visibility_timeout(seconds).send().await;
        if let Err(error) = result {
            let error = DisplayErrorContext(error);
            warn!(%error, "failed to set the delay of a queue message; it waits for the queue's visibility timeout");
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn record(id: &str) -> Value {
        json!({
            "messageId": id, "receiptHandle": "handle", "body": "{}", "eventSource": "aws:sqs",
            "attributes": {"ApproximateReceiveCount": "2"}
        })
    }

    #[test]
    fn a_batch_of_messages_is_recognized() {
        let messages = QueueMessage::of_event(&json!({"Records": [record("a"), record("b")]})).unwrap();
        assert_eq!(messages.iter().map(|message| message.id.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(messages[0].receive_count, 2);
    }

    #[rstest]
    #[case(json!({"Records": []}))]
    #[case(json!({"Records": [{"eventSource": "aws:s3", "s3": {}}]}))]
    #[case(json!({"detail-type": "Object Created"}))]
    #[case(json!(7))]
    fn other_events_are_not_batches(#[case] event: Value) {
        assert_eq!(QueueMessage::of_event(&event), None);
    }

    #[test]
    fn the_delay_doubles_up_to_a_quarter_of_an_hour() {
        let delay = |receive_count| {
            let message = QueueMessage { receive_count, ..QueueMessage::of_record(&record("a")).unwrap() };
            message.delay().as_secs()
        };
        assert_eq!([0, 1, 2, 3, 4, 5, u32::MAX].map(delay), [60, 60, 120, 240, 480, 900, 900]);
    }

    #[test]
    fn the_response_names_the_failed_messages() {
        let message = QueueMessage::of_record(&record("a")).unwrap();
        assert_eq!(partial_batch_response(&[message]), json!({"batchItemFailures": [{"itemIdentifier": "a"}]}));
        assert_eq!(partial_batch_response(&[]), json!({"batchItemFailures": []}));
    }
}

//! Where a bucket sends the events of new objects.

use super::Store;
use super::failure::failure;
use crate::error::Result;

/// The start of the names of S3's events about new objects.
const CREATED: &str = "s3:ObjectCreated:";

/// Where a bucket sends the events of new objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Notifications {
    /// The ARNs of queues, topics and functions.
    pub(crate) targets: Vec<String>,
    /// Whether EventBridge gets all events of the bucket.
    pub(crate) to_event_bridge: bool,
}

impl Store {
    /// Reads where the bucket sends the events of new objects.
    ///
    /// # Errors
    /// When the role may not read it, or S3 fails.
    pub(crate) async fn notifications(&self, bucket: &str) -> Result<Notifications> {
        let response = self
            .client
            .get_bucket_notification_configuration()
            .bucket(bucket)
            .send()
            .await
            .map_err(|error| failure("read the notifications of the bucket", error).for_object(bucket))?;
        let queues = response.queue_configurations().iter().map(|queue| (queue.queue_arn(), queue.events()));
        let topics = response.topic_configurations().iter().map(|topic| (topic.topic_arn(), topic.events()));
        let functions = response.lambda_function_configurations().iter();
        let functions = functions.map(|function| (function.lambda_function_arn(), function.events()));
        let of_new_objects = queues
            .chain(topics)
            .chain(functions)
            .filter(|(_, events)| events.iter().any(|event| event.as_str().starts_with(CREATED)));
        Ok(Notifications {
            targets: of_new_objects.map(|(arn, _)| arn.to_owned()).collect(),
            to_event_bridge: response.event_bridge_configuration().is_some(),
        })
    }
}

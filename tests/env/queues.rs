//! The queues of a stack: how many messages they contain.

use anyhow::{Context, Result};
use serde_json::json;

use crate::aws_json::call;
use crate::cloud::Account;
use crate::deploy::Deployment;

/// The outputs with the URLs of the stack's queues.
pub const QUEUES: [&str; 3] = ["UploadQueueUrl", "DeadLetterQueueUrl", "FailureQueueUrl"];

/// The messages of a queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Messages {
    /// Messages that a consumer can receive.
    pub visible: u64,
    /// Messages that a consumer has received, or that wait for their delay.
    pub invisible: u64,
}

impl Messages {
    /// All messages.
    pub fn all(self) -> u64 {
        self.visible + self.invisible
    }
}

/// The messages of the queue with this URL.
pub async fn messages(account: &Account, queue: &str) -> Result<Messages> {
    let names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"];
    let request = json!({"QueueUrl": queue, "AttributeNames": names});
    let response = call(account, "sqs", "AmazonSQS.GetQueueAttributes", &request).await?;
    let number = |name: &str| {
        let number = response["Attributes"][name].as_str().and_then(|number| number.parse::<u64>().ok());
        number.with_context(|| format!("no {name} in {response}"))
    };
    Ok(Messages { visible: number(names[0])?, invisible: number(names[1])? })
}

impl Deployment {
    /// The messages in a queue of the stack, by the name of the output with its URL.
    pub async fn messages(&self, output: &str) -> Result<Messages> {
        messages(&self.account, self.output(output)?).await
    }
}

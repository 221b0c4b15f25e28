//! `spillway events`: sample events for an object, in every shape that the functions accept.

use clap::{Args, ValueEnum};
use serde_json::{Map, Value, json};
use spillway_core::error::{Error, ErrorKind, Result};
use spillway_core::object::ObjectRef;

use crate::exit::Exit;
use crate::file_name::FileName;
use crate::session::Session;

/// The arguments of the command.
#[derive(Debug, Args)]
#[command(
    after_help = "Example: spillway events s3://bucket/uploads/a.csv --shape s3 | sam local invoke TriggerFunction -e -"
)]
pub(crate) struct Arguments {
    /// Object, as s3://bucket/key
    #[arg(value_name = "S3_URI")]
    object: String,
    /// Print only the event of this shape; by default all of them, by name
    #[arg(long, value_name = "SHAPE")]
    shape: Option<Shape>,
}

/// The shape of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Shape {
    /// Notification of S3, for the trigger function
    S3,
    /// Event of EventBridge, for the trigger function
    Eventbridge,
    /// Notification in a message of SQS, for the trigger function
    Sqs,
    /// Notification through SNS in a message of SQS, for the trigger function
    Sns,
    /// Request, for the ingest function
    Request,
}

/// The size in the events. The functions read the object's own size.
const SIZE_BYTES: u64 = 1024;
const ETAG: &str = "0123456789abcdef0123456789abcdef";
const REGION: &str = "us-east-1";
const TIME: &str = "2026-11-20T12:00:00.000Z";

/// Runs the command.
pub(crate) fn run(arguments: &Arguments, session: &Session) -> Result<Exit> {
    let FileName::Object(object) = FileName::of(arguments.object.as_ref())? else {
        let message = format!("{} is not an object in S3; write s3://bucket/key", arguments.object);
        return Err(Error::new(ErrorKind::EventInvalid, message));
    };
    let document = match arguments.shape {
        Some(shape) => event(shape, &object),
        None => {
            let named = |shape: &Shape| (name(*shape).to_owned(), event(*shape, &object));
            Value::Object(Shape::value_variants().iter().map(named).collect::<Map<_, _>>())
        }
    };
    // The result is JSON in either format.
    session.output.result(&document, |_| format!("{document:#}\n"));
    Ok(Exit::Done)
}

fn name(shape: Shape) -> &'static str {
    match shape {
        Shape::S3 => "s3",
        Shape::Eventbridge => "eventbridge",
        Shape::Sqs => "sqs",
        Shape::Sns => "sns",
        Shape::Request => "request",
    }
}

fn event(shape: Shape, object: &ObjectRef) -> Value {
    match shape {
        Shape::S3 => notification(object),
        Shape::Eventbridge => json!({
            "version": "0",
            "id": "17793124-05d4-b198-2fde-7ededc63b103",
            "detail-type": "Object Created",
            "source": "aws.s3",
            "account": "123456789012",
            "time": TIME,
            "region": REGION,
            "resources": [format!("arn:aws:s3:::{}", object.bucket)],
            "detail": {
                "version": "0",
                "bucket": { "name": object.bucket },
                "object": { "key": object.key, "size": SIZE_BYTES, "etag": ETAG, "sequencer": "617f08299329d189" },
                "request-id": "N4N7GDK58NMKJ12R",
                "requester": "123456789012",
                "source-ip-address": "192.0.2.10",
                "reason": "PutObject",
            },
        }),
        Shape::Sqs => message(&notification(object)),
        Shape::Sns => message(&json!({
            "Type": "Notification",
            "MessageId": "dc1e94d9-56c5-5e96-808d-cc7f68faa162",
            "TopicArn": format!("arn:aws:sns:{REGION}:123456789012:uploads"),
            "Subject": "Amazon S3 Notification",
            "Message": notification(object).to_string(),
            "Timestamp": TIME,
        })),
        Shape::Request => json!({ "bucket": object.bucket, "key": object.key }),
    }
}

/// A notification of S3. Its key is encoded like a form.
fn notification(object: &ObjectRef) -> Value {
    json!({ "Records": [{
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "awsRegion": REGION,
        "eventTime": TIME,
        "eventName": "ObjectCreated:Put",
        "userIdentity": { "principalId": "AWS:AIDAEXAMPLE" },
        "requestParameters": { "sourceIPAddress": "192.0.2.10" },
        "responseElements": { "x-amz-request-id": "EXAMPLE123456789", "x-amz-id-2": "EXAMPLE123/abcdefgh" },
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": "uploads",
            "bucket": {
                "name": object.bucket,
                "ownerIdentity": { "principalId": "A3NL1EXAMPLE" },
                "arn": format!("arn:aws:s3:::{}", object.bucket),
            },
            "object": {
                "key": encoded(&object.key), "size": SIZE_BYTES, "eTag": ETAG, "sequencer": "0A1B2C3D4E5F678901",
            },
        },
    }] })
}

/// An event of SQS with one message.
fn message(body: &Value) -> Value {
    json!({ "Records": [{
        "messageId": "059f36b4-87a3-44ab-83d2-661970000001",
        "receiptHandle": "AQEBexample",
        "body": body.to_string(),
        "attributes": {
            "ApproximateReceiveCount": "1",
            "SentTimestamp": "1763640000000",
            "SenderId": "AIDAEXAMPLE",
            "ApproximateFirstReceiveTimestamp": "1763640000001",
        },
        "messageAttributes": {},
        "eventSource": "aws:sqs",
        "eventSourceARN": format!("arn:aws:sqs:{REGION}:123456789012:uploads"),
        "awsRegion": REGION,
    }] })
}

/// A key as in a notification: a space becomes `+`, and most other characters are percent-encoded.
fn encoded(key: &str) -> String {
    let mut encoded = String::with_capacity(key.len());
    for byte in key.bytes() {
        match byte {
            b' ' => encoded.push('+'),
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'*' | b'/' | b'(' | b')' | b'!' => {
                encoded.push(char::from(byte));
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_notifications_encode_the_key() {
        let object = ObjectRef::new("b", "a b/50%+.csv");
        assert_eq!(event(Shape::S3, &object)["Records"][0]["s3"]["object"]["key"], "a+b/50%25%2B.csv");
        assert_eq!(event(Shape::Eventbridge, &object)["detail"]["object"]["key"], "a b/50%+.csv");
        assert_eq!(event(Shape::Request, &object)["key"], "a b/50%+.csv");
        let body = event(Shape::Sqs, &object)["Records"][0]["body"].as_str().unwrap().to_owned();
        assert_eq!(serde_json::from_str::<Value>(&body).unwrap(), notification(&object));
    }
}

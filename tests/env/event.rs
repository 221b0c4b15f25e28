//! Notifications in the format of S3: form-encoded keys, one or more records per event.

use serde_json::{Value, json};

use crate::cloud::Object;

/// A notification with a record for each object.
pub fn object_created(bucket: &str, objects: &[&Object]) -> Value {
    let records: Vec<Value> = objects.iter().enumerate().map(|(index, object)| record(bucket, index, object)).collect();
    json!({"Records": records})
}

/// The key as in a notification: a space becomes `+`, and most other characters are percent-encoded.
pub fn encoded_key(key: &str) -> String {
    let mut encoded = String::with_capacity(key.len());
    for byte in key.bytes() {
        match byte {
            b' ' => encoded.push('+'),
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'*' | b'/' | b'(' | b')' | b'!' => {
                encoded.push(char::from(byte))
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

fn record(bucket: &str, index: usize, object: &Object) -> Value {
    json!({
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "awsRegion": "us-east-1",
        "eventTime": "2026-11-02T08:15:30.000Z",
        "eventName": "ObjectCreated:Put",
        "userIdentity": {"principalId": "AWS:AIDAEXAMPLE"},
        "requestParameters": {"sourceIPAddress": "192.0.2.1"},
        "responseElements": {"x-amz-request-id": "C3D13FE58DE4C810", "x-amz-id-2": "FMyUVURIY8"},
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": "uploads",
            "bucket": {"name": bucket, "ownerIdentity": {"principalId": "A3NL1KOZZKExample"}, "arn": format!("arn:aws:s3:::{bucket}")},
            "object": {
                "key": encoded_key(&object.key),
                "size": object.size_bytes,
                "eTag": object.etag,
                "sequencer": format!("0055AED6DCD9028{index:X}"),
            },
        },
    })
}

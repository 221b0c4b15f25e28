//! Events as they arrive, to the objects they name. Pure: nothing is asked of S3.
//!
//! The same upload is announced in several shapes: an S3 notification (keys form-encoded), an EventBridge event (keys
//! raw), either of them in an SQS message, with or without SNS around it. All come out as the same [`EventItem`]s, one
//! per record. Fields that are not needed may be missing or odd.

use aws_lambda_events::s3::{S3Bucket, S3Object};
use aws_lambda_events::sqs::SqsMessage;
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde_json::Value;

use crate::error::{Error, ErrorKind, Result};
use crate::object::ObjectRef;

/// How many envelopes may lie around a notification: SQS, SNS, and one to spare.
const MAX_ENVELOPES: u32 = 3;

/// What one record of an event says.
#[derive(Debug)]
pub enum EventItem {
    /// An object was created.
    Object(ObjectRef),
    /// Nothing for us, known by name.
    Ignored {
        /// What it is.
        what: String,
        /// Why nothing is done.
        why: &'static str,
    },
    /// A record that should name an object and does not. The others still get their turn; then the event fails.
    Unreadable(Error),
}

/// What each record of an event says, in the event's order. An event of no known shape is an error.
pub fn parse(event: &Value) -> Result<Vec<EventItem>> {
    let mut items = Vec::new();
    read_event(event, MAX_ENVELOPES, &mut items)?;
    Ok(items)
}

/// As [`parse`], from the bytes of the event.
pub fn parse_bytes(event: &[u8]) -> Result<Vec<EventItem>> {
    let event = serde_json::from_slice(event).map_err(|error| invalid("the event is not JSON").with_source(error))?;
    parse(&event)
}

fn read_event(event: &Value, envelopes_left: u32, items: &mut Vec<EventItem>) -> Result<()> {
    if let Some(records) = event.get("Records").and_then(Value::as_array) {
        if records.is_empty() {
            items.push(EventItem::Ignored { what: "an event".into(), why: "it has no records" });
        }
        for record in records {
            read_record(record, envelopes_left, items);
        }
        return Ok(());
    }
    if let Some(detail_type) = event.get("detail-type").and_then(Value::as_str) {
        items.push(from_event_bridge(detail_type, event));
        return Ok(());
    }
    if event.get("Event").and_then(Value::as_str) == Some("s3:TestEvent") {
        items.push(EventItem::Ignored {
            what: "s3:TestEvent".into(),
            why: "S3 sends it when notifications are set up; it names no object",
        });
        return Ok(());
    }
    // An SNS notification that SQS carries: with raw message delivery SNS leaves no trace, and none is needed.
    if let Some(message) = event.get("Message").and_then(Value::as_str) {
        return read_enveloped(message, "SNS message", envelopes_left, items);
    }
    Err(invalid("the event is neither an S3 notification nor an EventBridge event, nor one of them in SQS or SNS"))
}

/// One record of a `Records` list. Its trouble stays its own.
fn read_record(record: &Value, envelopes_left: u32, items: &mut Vec<EventItem>) {
    let enveloped = if record.get("s3").is_some() {
        items.push(from_notification(record));
        return;
    } else if let Some(message) = record.pointer("/Sns/Message").and_then(Value::as_str) {
        read_enveloped(message, "SNS message", envelopes_left, items)
    } else if let Ok(SqsMessage { body: Some(body), .. }) = SqsMessage::deserialize(record) {
        read_enveloped(&body, "SQS message", envelopes_left, items)
    } else {
        Err(invalid("a record of the event is neither of S3 nor of SQS nor of SNS"))
    };
    if let Err(error) = enveloped {
        items.push(EventItem::Unreadable(error));
    }
}

fn read_enveloped(text: &str, envelope: &str, envelopes_left: u32, items: &mut Vec<EventItem>) -> Result<()> {
    let Some(envelopes_left) = envelopes_left.checked_sub(1) else {
        return Err(invalid("the event has too many envelopes around it"));
    };
    let event: Value = serde_json::from_str(text)
        .map_err(|error| invalid(format!("the body of an {envelope} is not JSON")).with_source(error))?;
    read_event(&event, envelopes_left, items)
}

/// A record of an S3 notification. Only what we need is read, so that what S3-like services leave out is not missed.
#[derive(Deserialize)]
struct Notification {
    bucket: Option<S3Bucket>,
    object: Option<S3Object>,
}

fn from_notification(record: &Value) -> EventItem {
    let name = record.get("eventName").and_then(Value::as_str).unwrap_or_default();
    let is_created = name.trim_start_matches("s3:").starts_with("ObjectCreated:");
    // A record without a name is taken for an upload: at worst S3 answers that there is no such object.
    if !name.is_empty() && !is_created {
        return EventItem::Ignored { what: name.to_owned(), why: "only created objects are loaded" };
    }
    let found = record.get("s3").map(Notification::deserialize);
    let (bucket, object) = match found {
        Some(Ok(Notification { bucket, object })) => (bucket, object),
        Some(Err(error)) => {
            return EventItem::Unreadable(invalid("a record of the S3 notification is malformed").with_source(error));
        }
        None => (None, None),
    };
    let bucket = bucket.and_then(|bucket| bucket.name);
    let (key, version_id) = object.map_or((None, None), |object| (object.key, object.version_id));
    match key.as_deref().map(decode_form).transpose() {
        Ok(key) => named_object("the S3 notification", bucket, key, version_id),
        Err(error) => EventItem::Unreadable(error),
    }
}

/// What EventBridge says of an object. The fields are named as in the notification, or nearly.
#[derive(Deserialize)]
struct Detail {
    bucket: Option<DetailBucket>,
    object: Option<DetailObject>,
}

#[derive(Deserialize)]
struct DetailBucket {
    name: Option<String>,
}

#[derive(Deserialize)]
struct DetailObject {
    key: Option<String>,
    #[serde(rename = "version-id")]
    version_id: Option<String>,
}

fn from_event_bridge(detail_type: &str, event: &Value) -> EventItem {
    if detail_type != "Object Created" {
        return EventItem::Ignored { what: detail_type.to_owned(), why: "only created objects are loaded" };
    }
    let detail = match event.get("detail").map(Detail::deserialize) {
        Some(Ok(detail)) => detail,
        Some(Err(error)) => {
            let error = invalid("the detail of the EventBridge event is malformed").with_source(error);
            return EventItem::Unreadable(error);
        }
        None => Detail { bucket: None, object: None },
    };
    let bucket = detail.bucket.and_then(|bucket| bucket.name);
    let (key, version_id) = detail.object.map_or((None, None), |object| (object.key, object.version_id));
    named_object("the EventBridge event", bucket, key, version_id)
}

fn named_object(source: &str, bucket: Option<String>, key: Option<String>, version_id: Option<String>) -> EventItem {
    let filled = |text: Option<String>| text.filter(|text| !text.is_empty());
    match (filled(bucket), filled(key)) {
        (Some(bucket), Some(key)) => EventItem::Object(ObjectRef { bucket, key, version_id: filled(version_id) }),
        (None, Some(key)) => EventItem::Unreadable(invalid(format!("{source} names no bucket for the key {key:?}"))),
        (Some(bucket), None) => {
            EventItem::Unreadable(invalid(format!("{source} names no key in the bucket {bucket:?}")))
        }
        (None, None) => EventItem::Unreadable(invalid(format!("{source} names neither bucket nor key"))),
    }
}

/// A key as notifications carry it: a plus is a space, then percent-decoding, once.
fn decode_form(key: &str) -> Result<String> {
    let spaced = key.replace('+', " ");
    match percent_decode_str(&spaced).decode_utf8() {
        Ok(decoded) => Ok(decoded.into_owned()),
        Err(error) => Err(invalid(format!("the key {key:?} is not UTF-8 once it is decoded")).with_source(error)),
    }
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::EventInvalid, message)
}

//! Parses events into the objects they name. Does no I/O.
//!
//! The same upload can arrive as an S3 notification (keys form-encoded) or an EventBridge event (keys not encoded), and
//! either of them in an SQS message, an SNS message or both. All become [`EventItem`]s, one per record. Fields that are
//! not needed may be missing or malformed.

use aws_lambda_events::s3::{S3Bucket, S3Object};
use aws_lambda_events::sqs::SqsMessage;
use serde::Deserialize;
use serde_json::Value;

use crate::error::{Error, ErrorKind, Result};
use crate::object::{ObjectRef, decode_key};

/// Maximum number of envelopes around a notification: SQS, SNS and one more.
const MAX_ENVELOPES: u32 = 3;

/// One record of an event.
#[derive(Debug)]
pub(crate) enum EventItem {
    /// An object was created.
    Object(ObjectRef),
    /// A known record that names no object to load.
    Ignored {
        /// The name of the record's type.
        what: String,
        /// Why it is ignored.
        why: &'static str,
    },
    /// A record that should name an object but does not. The other records are processed; then the event fails.
    Unreadable(Error),
}

/// Parses an event into its records, in their order.
///
/// # Errors
/// [`ErrorKind::EventInvalid`] when the event has an unknown shape.
pub(crate) fn parse(event: &Value) -> Result<Vec<EventItem>> {
    let mut items = Vec::new();
    read_event(event, MAX_ENVELOPES, &mut items)?;
    Ok(items)
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
    // An SNS message within an SQS message. With raw message delivery SNS adds no envelope.
    if let Some(message) = event.get("Message").and_then(Value::as_str) {
        return read_enveloped(message, "SNS message", envelopes_left, items);
    }
    Err(invalid("the event is not an S3 notification or EventBridge event, nor one of these in SQS or SNS"))
}

/// Parses one record of a `Records` list. A malformed record does not affect the others.
fn read_record(record: &Value, envelopes_left: u32, items: &mut Vec<EventItem>) {
    let enveloped = if record.get("s3").is_some() {
        items.push(from_notification(record));
        return;
    } else if let Some(message) = record.pointer("/Sns/Message").and_then(Value::as_str) {
        read_enveloped(message, "SNS message", envelopes_left, items)
    } else if let Ok(SqsMessage { body: Some(body), .. }) = SqsMessage::deserialize(record) {
        read_enveloped(&body, "SQS message", envelopes_left, items)
    } else {
        Err(invalid("a record of the event is not from S3, SQS or SNS"))
    };
    if let Err(error) = enveloped {
        items.push(EventItem::Unreadable(error));
    }
}

fn read_enveloped(text: &str, envelope: &str, envelopes_left: u32, items: &mut Vec<EventItem>) -> Result<()> {
    let Some(envelopes_left) = envelopes_left.checked_sub(1) else {
        return Err(invalid("the event has too many envelopes"));
    };
    let event: Value = serde_json::from_str(text)
        .map_err(|error| invalid(format!("the body of an {envelope} is not JSON")).with_source(error))?;
    read_event(&event, envelopes_left, items)
}

/// The needed fields of an S3 notification's record. S3-compatible services may omit the others.
#[derive(Deserialize)]
struct Notification {
    bucket: Option<S3Bucket>,
    object: Option<S3Object>,
}

fn from_notification(record: &Value) -> EventItem {
    let name = record.get("eventName").and_then(Value::as_str).unwrap_or_default();
    let is_created = name.trim_start_matches("s3:").starts_with("ObjectCreated:");
    // A record without an event name counts as an upload. If it is not one, S3 says that the object does not exist.
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
    match key.as_deref().map(decode).transpose() {
        Ok(key) => named_object("the S3 notification", bucket, key, version_id),
        Err(error) => EventItem::Unreadable(error),
    }
}

/// The needed fields of an EventBridge event's detail. Their names differ slightly from the notification's.
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

fn decode(key: &str) -> Result<String> {
    decode_key(key)
        .map_err(|error| invalid(format!("the key {key:?} is not UTF-8 once it is decoded")).with_source(error))
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::EventInvalid, message)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn json(event: &[u8]) -> Value {
        serde_json::from_slice(event).expect("JSON")
    }

    macro_rules! sample {
        ($name:literal) => {
            include_bytes!(concat!("../../../events/", $name, ".json")).as_slice()
        };
    }

    /// One line for each item: the object, the ignored record, or the error.
    fn items(event: &[u8]) -> Vec<String> {
        let describe = |item: EventItem| match item {
            EventItem::Object(object) => match &object.version_id {
                Some(version) => format!("{object} version {version}"),
                None => object.to_string(),
            },
            EventItem::Ignored { what, .. } => format!("ignored: {what}"),
            EventItem::Unreadable(error) => format!("{}: {error}", error.kind()),
        };
        parse(&json(event)).expect("an event of a known shape").into_iter().map(describe).collect()
    }

    #[rstest]
    #[case(sample!("s3-put"), &["s3://spillway-data/uploads/orders.csv"])]
    #[case(sample!("s3-odd-key"), &["s3://spillway-data/uploads/2026/café orders 50% + more=1.csv"])]
    #[case(sample!("s3-multi-record"), &["s3://spillway-data/uploads/orders.csv", "s3://spillway-data/uploads/customers.CSV"])]
    #[case(
        sample!("s3-shop-events"),
        &[
            "s3://spillway-data/sale_events/2026/11/20/events.jsonl",
            "s3://spillway-data/inventory_events/2026/11/20/event-100.json"
        ]
    )]
    #[case(sample!("s3-test-event"), &["ignored: s3:TestEvent"])]
    #[case(sample!("s3-removed"), &["ignored: ObjectRemoved:Delete"])]
    #[case(sample!("s3-folder-marker"), &["s3://spillway-data/uploads/2026/"])]
    #[case(sample!("s3-foreign-suffix"), &["s3://spillway-data/uploads/readme.txt"])]
    #[case(sample!("s3-own-prefix"), &["s3://spillway-data/processed/orders.0123456789abcdef.csv"])]
    #[case(
        sample!("eventbridge-object-created"),
        &["s3://spillway-data/uploads/2026/orders+50% & more.csv version IYV3p45BT0ac8hjHg1houSdS1a.Mro8e"]
    )]
    #[case(sample!("sqs-wrapped"), &["s3://spillway-data/uploads/a b.csv", "ignored: s3:TestEvent"])]
    #[case(sample!("sns-in-sqs"), &["s3://spillway-data/uploads/orders+new.csv"])]
    #[case(
        sample!("s3-missing-key"),
        &[
            "event_invalid: the S3 notification names no key in the bucket \"spillway-data\"",
            "s3://spillway-data/uploads/orders.csv"
        ]
    )]
    fn sample_events_are_parsed(#[case] event: &[u8], #[case] expected: &[&str]) {
        assert_eq!(items(event), expected);
    }

    #[rstest]
    #[case(json!({"eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": "b"}, "object": {"key": "k"}}}), "s3://b/k")]
    #[case(json!({"s3": {"bucket": {"name": "b"}, "object": {"key": "%2B%252B+"}}}), "s3://b/+%2B ")]
    #[case(json!({"s3": {"bucket": {"name": "b"}, "object": {"key": "50%"}}}), "s3://b/50%")]
    #[case(json!({"eventName": "s3:ObjectCreated:Copy", "s3": {"bucket": {"name": "b"}, "object": {"key": "k"}}}), "s3://b/k")]
    #[case(json!({"Sns": {"Message": "{\"Records\": [{\"s3\": {\"bucket\": {\"name\": \"b\"}, \"object\": {\"key\": \"k\"}}}]}"}}), "s3://b/k")]
    #[case(json!({"eventName": "ObjectRestore:Completed", "s3": {}}), "ignored: ObjectRestore:Completed")]
    #[case(json!({"s3": {"object": {"key": "k"}}}), "event_invalid: the S3 notification names no bucket for the key \"k\"")]
    #[case(json!({"s3": {"bucket": {"name": ""}, "object": {"key": ""}}}), "event_invalid: the S3 notification names neither bucket nor key")]
    #[case(json!({"s3": {"bucket": "b", "object": 7}}), "event_invalid: a record of the S3 notification is malformed")]
    #[case(json!({"s3": {"bucket": {"name": "b"}, "object": {"key": "%FF"}}}), "event_invalid: the key \"%FF\" is not UTF-8 once it is decoded")]
    #[case(json!({"body": "not json"}), "event_invalid: the body of an SQS message is not JSON")]
    #[case(json!({"body": "{}"}), "event_invalid: the event is not an S3 notification or EventBridge event, nor one of these in SQS or SNS")]
    #[case(json!(7), "event_invalid: a record of the event is not from S3, SQS or SNS")]
    fn records_may_omit_or_break_unneeded_fields(#[case] record: Value, #[case] expected: &str) {
        let event = json!({"Records": [record]}).to_string();
        assert_eq!(items(event.as_bytes()), [expected]);
    }

    #[rstest]
    #[case("[]", "the event is not an S3 notification")]
    #[case("null", "the event is not an S3 notification")]
    #[case("{\"Records\": {}}", "the event is not an S3 notification")]
    #[case("{\"key\": \"uploads/a.csv\"}", "the event is not an S3 notification")]
    fn an_event_of_an_unknown_shape_is_an_error(#[case] event: &str, #[case] expected: &str) {
        let error = parse(&json(event.as_bytes())).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::EventInvalid);
        assert!(error.to_string().starts_with(expected), "{error}");
    }

    #[test]
    fn an_event_without_an_upload_is_ignored() {
        assert_eq!(items(b"{\"Records\": []}"), ["ignored: an event"]);
        assert_eq!(items(b"{\"detail-type\": \"Object Deleted\"}"), ["ignored: Object Deleted"]);
    }

    #[test]
    fn nested_envelopes_are_limited() {
        let mut event = String::from("{\"Records\": []}");
        for _ in 0..6 {
            event = json!({ "Message": event }).to_string();
        }
        assert!(parse(&json(event.as_bytes())).unwrap_err().to_string().contains("too many envelopes"));
    }

    /// Random JSON that often contains the names that the parser reads.
    fn any_json() -> impl Strategy<Value = Value> {
        let name = prop_oneof![
            Just("Records"),
            Just("s3"),
            Just("bucket"),
            Just("object"),
            Just("key"),
            Just("name"),
            Just("body"),
            Just("Sns"),
            Just("Message"),
            Just("detail"),
            Just("detail-type"),
            Just("eventName"),
            Just("Event"),
        ];
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "\\PC{0,12}".prop_map(Value::from),
            Just(Value::from("Object Created")),
        ];
        leaf.prop_recursive(5, 40, 4, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec((name.clone().prop_map(str::to_owned), inner), 0..4)
                    .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_json_is_an_event_or_an_error(event in any_json()) {
            if let Ok(items) = parse(&event) {
                for item in items {
                    if let EventItem::Object(object) = item {
                        prop_assert!(!object.bucket.is_empty() && !object.key.is_empty());
                    }
                }
            }
        }
    }
}

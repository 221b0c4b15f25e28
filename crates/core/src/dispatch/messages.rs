//! The order in which one invocation processes queue messages.
//!
//! If a worker dies, the whole batch is received again, also the files that it had not started. So files with which
//! workers have died come last, and delay no other file a second time.

use std::collections::{BTreeSet, HashMap};

use super::Dispatcher;
use super::concurrency::is_any_order;
use crate::event::{self, EventItem};
use crate::object::ObjectRef;
use crate::queue::QueueMessage;

impl Dispatcher {
    /// Sorts a batch that was received before by the number of workers that died with its objects.
    pub(super) async fn suspects_last(&self, messages: Vec<QueueMessage>) -> Vec<QueueMessage> {
        let was_received_before = messages.iter().any(QueueMessage::was_received_before);
        if messages.len() < 2 || !was_received_before || !is_any_order(&self.context.settings) {
            return messages;
        }
        let objects: Vec<Vec<ObjectRef>> = messages.iter().map(objects).collect();
        let mut deaths: HashMap<ObjectRef, u32> = HashMap::new();
        for bucket in objects.iter().flatten().map(|object| &object.bucket).collect::<BTreeSet<_>>() {
            let of_bucket = self.deaths(bucket).await;
            deaths.extend(of_bucket.into_iter().map(|(key, count)| (ObjectRef::new(bucket, key), count)));
        }
        let of_message = |objects: &Vec<ObjectRef>| {
            objects.iter().filter_map(|object| deaths.get(&ObjectRef::new(&object.bucket, &object.key))).max().copied()
        };
        let mut counted: Vec<_> = objects.iter().map(of_message).zip(messages).collect();
        counted.sort_by_key(|(deaths, _)| *deaths);
        counted.into_iter().map(|(_, message)| message).collect()
    }
}

/// The objects that the event in a message names.
fn objects(message: &QueueMessage) -> Vec<ObjectRef> {
    let event = serde_json::from_str(&message.body).ok();
    let items = event.and_then(|event| event::parse(&event).ok()).unwrap_or_default();
    let object = |item| match item {
        EventItem::Object(object) => Some(object),
        EventItem::Ignored { .. } | EventItem::Unreadable(_) => None,
    };
    items.into_iter().filter_map(object).collect()
}

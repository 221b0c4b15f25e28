//! Sample events of shops as JSON: sales and changes of stock, some of them damaged.
//!
//! The same number yields the same event, so that stored rows can be compared with events.

use serde_json::{Value, json};

/// The subject of an event, which decides its folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Topic {
    /// A sale.
    Sale,
    /// A change of a shop's stock.
    Inventory,
}

const CATEGORIES: [&str; 4] = ["books", "garden", "toys", "wine & spirits"];
/// Seconds between two events.
const INTERVAL_SECONDS: u64 = 7;

impl Topic {
    /// The folder of its events, and the name of their table.
    pub fn folder(self) -> &'static str {
        match self {
            Self::Sale => "sale_events",
            Self::Inventory => "inventory_events",
        }
    }

    /// One event. Some fields are optional, as in real events.
    pub fn event(self, number: u64) -> Value {
        let seconds = number * INTERVAL_SECONDS;
        let ts = format!("2026-11-20T{:02}:{:02}:{:02}Z", seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
        let mut event = json!({
            "request_id": format!("{}-{number:08}", if self == Self::Sale { "s" } else { "i" }),
            "category": CATEGORIES[(number % 4) as usize],
            "store_id": 100 + number % 7,
            "ts": ts,
            "sku": format!("{:06}", number * 37 % 1_000_000),
            "qty": 1 + number % 5,
        });
        match self {
            Self::Sale => {
                let cents = 99 + number * 1_301 % 100_000;
                event["event_type"] = "sale".into();
                event["sales"] = format!("{}.{:02}", cents / 100, cents % 100).into();
                event["gift_wrap"] = number.is_multiple_of(3).into();
                event["is_return"] = number.is_multiple_of(11).into();
                if number.is_multiple_of(2) {
                    event["priority_shipping"] = number.is_multiple_of(4).into();
                }
            }
            Self::Inventory => {
                event["event_type"] = if number.is_multiple_of(5) { "restock" } else { "count" }.into();
                event["is_return"] = false.into();
            }
        }
        event
    }

    /// A truncated event, which is not valid JSON.
    pub fn broken(self, number: u64) -> String {
        let mut text = self.event(number).to_string();
        text.truncate(text.len() / 2);
        text
    }
}

/// The field of a record that names the table of its event.
pub const TABLE_FIELD: &str = "table";

/// A record for a stream: an event that names its table.
pub fn stream_record(topic: Topic, number: u64) -> Vec<u8> {
    let mut event = topic.event(number);
    event[TABLE_FIELD] = topic.folder().into();
    event.to_string().into_bytes()
}

/// A record that cannot be delivered, in one of five ways: truncated, without a table, with a table of Spillway's own, with a
/// number as the table, or with a byte that is not UTF-8.
pub fn broken_stream_record(topic: Topic, number: u64, way: u64) -> Vec<u8> {
    let mut event = topic.event(number);
    match way % 5 {
        0 => return topic.broken(number).into_bytes(),
        1 => {}
        2 => event[TABLE_FIELD] = "spillway_ledger".into(),
        3 => event[TABLE_FIELD] = 7.into(),
        _ => {
            let mut bytes = stream_record(topic, number);
            let inside = bytes.len() - 3;
            bytes[inside] = 0xff;
            return bytes;
        }
    }
    event.to_string().into_bytes()
}

/// A file with one event per line. Those with the numbers in `broken` are truncated.
pub fn lines(topic: Topic, numbers: std::ops::Range<u64>, broken: &[u64]) -> String {
    let line = |number: u64| match broken.contains(&number) {
        true => topic.broken(number),
        false => topic.event(number).to_string(),
    };
    numbers.map(|number| line(number) + "\n").collect()
}

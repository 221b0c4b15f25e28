//! Events of shops as their systems send them: sales and changes of stock, as JSON, some of them broken. The same number
//! gives the same event, so that what arrives can be compared with what was sent.

use serde_json::{Value, json};

/// What an event is about, and so which folder it is put into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Topic {
    /// Something was sold.
    Sale,
    /// A shop's stock has changed.
    Inventory,
}

const CATEGORIES: [&str; 4] = ["books", "garden", "toys", "wine & spirits"];
/// Seconds from one event to the next.
const PACE_SECONDS: u64 = 7;

impl Topic {
    /// The folder of its events, and the name of their table.
    pub fn folder(self) -> &'static str {
        match self {
            Self::Sale => "sale_events",
            Self::Inventory => "inventory_events",
        }
    }

    /// One event. Some fields are there only now and then, as in real ones.
    pub fn event(self, number: u64) -> Value {
        let seconds = number * PACE_SECONDS;
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

    /// An event that was cut off on its way: no JSON any more.
    pub fn broken(self, number: u64) -> String {
        let mut text = self.event(number).to_string();
        text.truncate(text.len() / 2);
        text
    }
}

/// One file of events, one on each line; those with these numbers are broken.
pub fn lines(topic: Topic, numbers: std::ops::Range<u64>, broken: &[u64]) -> String {
    let line = |number: u64| match broken.contains(&number) {
        true => topic.broken(number),
        false => topic.event(number).to_string(),
    };
    numbers.map(|number| line(number) + "\n").collect()
}

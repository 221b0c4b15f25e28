//! Texts and numbers in HTML.

use jiff::Timestamp;

use crate::table::printable;

/// A text for HTML, in elements and in quoted attributes. Control characters are shown as escapes.
pub(super) fn escaped(text: &str) -> String {
    let mut html = String::with_capacity(text.len());
    for character in printable(text).chars() {
        match character {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            other => html.push(other),
        }
    }
    html
}

/// An amount in US dollars.
pub(super) fn dollars(amount: f64) -> String {
    match amount {
        amount if amount >= 0.995 => format!("${amount:.2}"),
        amount if amount > 0.0 => format!("${amount:.4}"),
        _ => "$0".to_owned(),
    }
}

/// A time to the minute.
pub(super) fn minute(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M UTC").to_string()
}

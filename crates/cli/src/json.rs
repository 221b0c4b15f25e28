//! Parts of a response as text and lists.

use serde_json::Value;

use crate::table::printable;

/// A text for the terminal; empty if there is none.
pub(crate) fn text(value: &Value) -> String {
    value.as_str().map(printable).unwrap_or_default()
}

/// The items of a list; none if the value is no list.
pub(crate) fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

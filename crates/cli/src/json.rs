//! Parts of a response as text and lists.

use serde_json::Value;

use crate::table::printable;

/// The text of a value for the terminal. Empty if the value is not a text.
pub(crate) fn text(value: &Value) -> String {
    value.as_str().map(printable).unwrap_or_default()
}

/// The items of a list. Empty if the value is not a list.
pub(crate) fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

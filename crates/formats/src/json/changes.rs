//! Records of changes (`JSON_VALUES=changes`), as Debezium and `spillway diff` write them: `{"op": "u", "before": {…}, "after": {…}}`.
//!
//! The row of a change is `after` or, for a deleted row, `before`. Its operation becomes the column `op`. Debezium's `payload` with a
//! `schema` beside it is unwrapped. The first line of a delta of `spillway diff`, which has no operation, is skipped.
//! <https://debezium.io/documentation/reference/stable/connectors/postgresql.html#postgresql-events>

use std::collections::BTreeMap;

use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use crate::{Error, ErrorKind, Position, Result};

/// The column of the operation.
const OPERATION: &str = "op";

#[derive(serde::Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, default)]
    payload: Option<&'a RawValue>,
    #[serde(borrow, default)]
    op: Option<&'a RawValue>,
    #[serde(borrow, default)]
    before: Option<&'a RawValue>,
    #[serde(borrow, default)]
    after: Option<&'a RawValue>,
    #[serde(borrow, default)]
    format: Option<&'a RawValue>,
}

/// Bytes that are not text, as `spillway diff` writes them.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Bytes {
    #[serde(rename = "hex")]
    _hex: IgnoredAny,
}

/// Returns the row of a change as plain JSON, with its operation; `None` for the summary of a delta.
///
/// # Errors
/// When the record is not a change, or its row has a column `op` or bytes that are not text.
pub(super) fn plain(record: &str, start: Position) -> Result<Option<String>> {
    let invalid = |what: &str| {
        let message = format!("the record is not a change, which JSON_VALUES expects: {what}");
        Error::new(ErrorKind::Invalid, message).at(start)
    };
    // The message of serde_json may quote the file.
    let parse = |text| serde_json::from_str::<Envelope<'_>>(text).map_err(|_| invalid("it has another form"));
    let mut envelope = parse(record)?;
    if let (None, Some(payload)) = (envelope.op, envelope.payload) {
        envelope = parse(payload.get())?;
    }
    let Envelope { op, before, after, format, .. } = envelope;
    let Some(operation) = op else {
        return match format.map(RawValue::get) {
            Some("\"spillway-delta\"") => Ok(None),
            _ => Err(invalid("it has no op")),
        };
    };
    if !operation.get().starts_with('"') {
        return Err(invalid("op is not a string"));
    }
    let Some(row) = after.or(before).filter(|row| row.get() != "null") else {
        return Err(invalid("it has neither before nor after"));
    };
    let row = row.get();
    let members: BTreeMap<String, &RawValue> =
        serde_json::from_str(row).map_err(|_| invalid("before or after is not an object"))?;
    if members.contains_key(OPERATION) {
        return Err(invalid("its row has a column op, which would be confused with its operation"));
    }
    if let Some((name, _)) = members.iter().find(|(_, value)| serde_json::from_str::<Bytes>(value.get()).is_ok()) {
        return Err(invalid(&format!("column {name} has bytes that are not text, which changes cannot contain")));
    }
    let rest = row.trim_start().strip_prefix('{').unwrap_or_default();
    let comma = if members.is_empty() { "" } else { "," };
    Ok(Some(format!("{{\"{OPERATION}\":{}{comma}{rest}", operation.get())))
}

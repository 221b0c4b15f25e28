//! Records of changes (`JSON_VALUES=changes`), as Debezium and `spillway diff` write them: `{"op": "u", "before": {…}, "after": {…}}`.
//!
//! The row of a change is `after` or, for a deleted row, `before`. Its operation becomes the column `op`. Debezium's `payload` with a
//! `schema` beside it is unwrapped. The first line of a delta of `spillway diff` has no operation: it
//! tells how many changes must follow.
//! <https://debezium.io/documentation/reference/stable/connectors/postgresql.html#postgresql-events>

use std::collections::BTreeMap;

use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use crate::{Error, ErrorKind, Position, Result};

/// The column of the operation.
const OPERATION: &str = "op";

/// What Debezium writes in place of an unchanged large value that PostgreSQL does not send.
const UNAVAILABLE: &str = "\"__debezium_unavailable_value\"";

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

/// A record of a file of changes.
pub(super) enum Record {
    /// The row of a change as plain JSON, with its operation.
    Row(String),
    /// The summary of a delta, with the number of its changes.
    Summary(u64),
}

/// The numbers of changes in the summary of a delta.
#[derive(serde::Deserialize)]
struct Summary {
    inserted: u64,
    updated: u64,
    deleted: u64,
}

/// Bytes that are not text, as `spillway diff` writes them.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Bytes {
    #[serde(rename = "hex")]
    _hex: IgnoredAny,
}

/// Reads a record.
///
/// # Errors
/// When the record is not a change, or its row has a column `op` or bytes that are not text.
pub(super) fn read(record: &str, start: Position) -> Result<Record> {
    let invalid = |what: &str| {
        let message = format!("the record is not a change, which JSON_VALUES expects: {what}");
        Error::new(ErrorKind::Invalid, message).at(start)
    };
    let parse = |text| object::<Envelope<'_>>(text).ok_or_else(|| invalid("it has another form"));
    let mut envelope = parse(record)?;
    if let (None, Some(payload)) = (envelope.op, envelope.payload) {
        envelope = parse(payload.get())?;
    }
    let Envelope { op, before, after, format, .. } = envelope;
    let Some(operation) = op else {
        return match format.map(RawValue::get) {
            Some("\"spillway-delta\"") => match object::<Summary>(record) {
                Some(Summary { inserted, updated, deleted }) => Ok(Record::Summary(inserted + updated + deleted)),
                None => Err(invalid("the summary of the delta has no numbers of changes")),
            },
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
        object(row).ok_or_else(|| invalid("before or after is not an object"))?;
    if members.contains_key(OPERATION) {
        return Err(invalid("its row has a column op, which would be confused with its operation"));
    }
    if let Some((name, _)) = members.iter().find(|(_, value)| object::<Bytes>(value.get()).is_some()) {
        return Err(invalid(&format!("column {name} has bytes that are not text, which changes cannot contain")));
    }
    if let Some((name, _)) = members.iter().find(|(_, value)| value.get() == UNAVAILABLE) {
        let what = format!("Debezium did not send the value of column {name}; set REPLICA IDENTITY FULL for the table");
        return Err(invalid(&what));
    }
    let rest = row.trim_start().strip_prefix('{').unwrap_or_default();
    let comma = if members.is_empty() { "" } else { "," };
    Ok(Record::Row(format!("{{\"{OPERATION}\":{}{comma}{rest}", operation.get())))
}

/// Reads a JSON object. The error of serde_json is dropped, because its message may quote the file.
fn object<'a, T: serde::Deserialize<'a>>(text: &'a str) -> Option<T> {
    // serde_json reads an array as a struct, too.
    text.trim_start().starts_with('{').then(|| serde_json::from_str(text).ok()).flatten()
}

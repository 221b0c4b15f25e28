//! Parses a line of a delta. A line that `Change::write_line` would not write is rejected.
//!
//! The messages of the JSON parser contain values, so errors have a message of their own.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};

use super::row::{DeltaChange, DeltaRow, DeltaValue};
use crate::exports::delta::{FORMAT, FORMAT_VERSION};
use crate::exports::{Operation, Summary};

/// The columns of key and rows, as the summary names them.
#[derive(Debug)]
pub(super) struct RowColumns {
    key: Arc<[String]>,
    old: Arc<[String]>,
    new: Arc<[String]>,
}

impl RowColumns {
    pub(super) fn of(summary: &Summary) -> Self {
        let old = summary.old.as_ref().map(|old| old.columns.as_slice()).unwrap_or_default();
        Self { key: summary.key.as_slice().into(), old: old.into(), new: summary.new.columns.as_slice().into() }
    }
}

/// What identifies the first line.
#[derive(Deserialize)]
struct Format {
    format: String,
    format_version: u32,
}

/// Parses the first line.
///
/// # Errors
/// Returns the reason when it is not the summary of a delta, or of another version of the format.
pub(super) fn summary(line: &[u8]) -> Result<Summary, String> {
    let format: Format =
        serde_json::from_slice(line).map_err(|_| "the file is not a delta: its first line has no format".to_owned())?;
    if format.format != FORMAT {
        return Err(format!("the file is not a delta: the format of its first line is not {FORMAT}"));
    }
    if format.format_version != FORMAT_VERSION {
        let version = format.format_version;
        return Err(format!("the delta has format_version {version}; this version of Spillway reads {FORMAT_VERSION}"));
    }
    serde_json::from_slice(line).map_err(|_| "the summary lacks a field, or a field has another type".to_owned())
}

/// Parses a line with a change.
///
/// # Errors
/// Returns the reason when it is not a change with these columns.
pub(super) fn change(line: &[u8], columns: &RowColumns) -> Result<DeltaChange, String> {
    let reason = RefCell::new(None);
    let mut parser = serde_json::Deserializer::from_slice(line);
    let parsed = ChangeSeed { columns, reason: &reason }.deserialize(&mut parser);
    let parsed = parsed.and_then(|parsed| parser.end().map(|()| parsed));
    let parsed = parsed.map_err(|error| match reason.take() {
        Some(reason) => reason,
        None if error.is_data() => format!("a value in column {} of the line has another type", error.column()),
        None => "the line is not complete JSON".to_owned(),
    })?;
    parsed.checked()
}

/// The fields of a line, before they are compared with each other.
#[derive(Default)]
struct Parsed {
    operation: Option<Operation>,
    key: Option<DeltaRow>,
    /// The outer option is the field, the inner one its value.
    before: Option<Option<DeltaRow>>,
    after: Option<Option<DeltaRow>>,
    seq: Option<u64>,
}

impl Parsed {
    fn checked(self) -> Result<DeltaChange, String> {
        let Self {
            operation: Some(operation),
            key: Some(key),
            before: Some(before),
            after: Some(after),
            seq: Some(seq),
        } = self
        else {
            return Err("the change lacks one of op, key, before, after and seq".to_owned());
        };
        let (has_before, has_after) = match operation {
            Operation::Create => (false, true),
            Operation::Update => (true, true),
            Operation::Delete => (true, false),
        };
        if (before.is_some(), after.is_some()) != (has_before, has_after) {
            return Err(format!("op is {}, which does not fit the rows before and after", operation.name()));
        }
        if let Some(index) = key.values().iter().position(|value| *value == DeltaValue::Null) {
            return Err(format!("the key column {} is null", key.columns()[index]));
        }
        for (name, value) in key.fields() {
            let other = after.iter().flat_map(DeltaRow::fields).find(|(column, _)| *column == name);
            if other.is_some_and(|(_, other)| other != value) {
                return Err(format!("the key column {name} has another value in the row after"));
            }
        }
        Ok(DeltaChange { seq, operation, key, before, after })
    }
}

/// Where a visitor stores the reason of its error, because the error itself also contains values.
type Reason = RefCell<Option<String>>;

struct ChangeSeed<'a> {
    columns: &'a RowColumns,
    reason: &'a Reason,
}

impl<'de> DeserializeSeed<'de> for ChangeSeed<'_> {
    type Value = Parsed;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Parsed, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for ChangeSeed<'_> {
    type Value = Parsed;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a change")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Parsed, A::Error> {
        let (mut parsed, columns, reason) = (Parsed::default(), self.columns, self.reason);
        while let Some(field) = map.next_key::<Field>()? {
            let is_repeated = match field {
                Field::Op => parsed.operation.replace(operation(map.next_value()?, reason)?).is_some(),
                Field::Key => {
                    let key = map.next_value_seed(RowSeed { columns: &columns.key, name: "key", reason })?;
                    let key = key.ok_or_else(|| rejected(reason, "key is null".to_owned()))?;
                    parsed.key.replace(key).is_some()
                }
                Field::Before => {
                    let row = map.next_value_seed(RowSeed { columns: &columns.old, name: "before", reason })?;
                    parsed.before.replace(row).is_some()
                }
                Field::After => {
                    let row = map.next_value_seed(RowSeed { columns: &columns.new, name: "after", reason })?;
                    parsed.after.replace(row).is_some()
                }
                Field::Seq => parsed.seq.replace(map.next_value()?).is_some(),
                Field::Other => {
                    map.next_value::<IgnoredAny>()?;
                    return Err(rejected(reason, "the change has a field that this format does not have".to_owned()));
                }
            };
            if is_repeated {
                return Err(rejected(reason, "the change has a field twice".to_owned()));
            }
        }
        Ok(parsed)
    }
}

/// A field of a change.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Field {
    Op,
    Key,
    Before,
    After,
    Seq,
    #[serde(other)]
    Other,
}

/// The name of an operation.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Op {
    C,
    U,
    D,
    #[serde(other)]
    Other,
}

fn operation<E: serde::de::Error>(op: Op, reason: &Reason) -> Result<Operation, E> {
    match op {
        Op::C => Ok(Operation::Create),
        Op::U => Ok(Operation::Update),
        Op::D => Ok(Operation::Delete),
        Op::Other => Err(rejected(reason, "op is not c, u or d".to_owned())),
    }
}

/// Stores the reason, and returns the error that ends the parser.
fn rejected<E: serde::de::Error>(reason: &Reason, why: String) -> E {
    reason.replace(Some(why));
    E::custom("rejected")
}

/// Parses a row or null.
struct RowSeed<'a> {
    columns: &'a Arc<[String]>,
    /// The field of the change.
    name: &'static str,
    reason: &'a Reason,
}

impl<'de> DeserializeSeed<'de> for RowSeed<'_> {
    type Value = Option<DeltaRow>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for RowSeed<'_> {
    type Value = Option<DeltaRow>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a row or null")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let Self { columns, name, reason } = self;
        let mut values = Vec::with_capacity(columns.len());
        for column in columns.iter() {
            if map.next_key_seed(NameSeed(column))? != Some(true) {
                let message = format!("the row {name} lacks the column {column}, or has it in another order");
                return Err(rejected(reason, message));
            }
            values.push(map.next_value_seed(ValueSeed)?);
        }
        match map.next_key::<IgnoredAny>()? {
            None => Ok(Some(DeltaRow::of(columns.clone(), values))),
            Some(_) => Err(rejected(reason, format!("the row {name} has a column that the summary does not name"))),
        }
    }
}

/// Returns whether the name of a column is the expected one.
struct NameSeed<'a>(&'a str);

impl<'de> DeserializeSeed<'de> for NameSeed<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for NameSeed<'_> {
    type Value = bool;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the name of a column")
    }

    fn visit_str<E>(self, name: &str) -> Result<bool, E> {
        Ok(name == self.0)
    }
}

struct ValueSeed;

impl<'de> DeserializeSeed<'de> for ValueSeed {
    type Value = DeltaValue;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<DeltaValue, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ValueSeed {
    type Value = DeltaValue;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a string, null or bytes in hex")
    }

    fn visit_unit<E>(self) -> Result<DeltaValue, E> {
        Ok(DeltaValue::Null)
    }

    fn visit_str<E>(self, text: &str) -> Result<DeltaValue, E> {
        Ok(DeltaValue::Text(text.to_owned()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<DeltaValue, A::Error> {
        let wrong = || A::Error::custom("not bytes in hex");
        if map.next_key_seed(NameSeed("hex"))? != Some(true) {
            return Err(wrong());
        }
        let bytes = from_hex(&map.next_value::<String>()?).ok_or_else(wrong)?;
        // The writer writes UTF-8 as a string, so each value has one form.
        if map.next_key::<IgnoredAny>()?.is_some() || std::str::from_utf8(&bytes).is_ok() {
            return Err(wrong());
        }
        Ok(DeltaValue::Bytes(bytes))
    }
}

/// The bytes of a text with two hex digits each.
fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: &u8| (*byte as char).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let bytes = pairs.iter().map(|[high, low]| Some(digit(high)? << 4 | digit(low)?));
    if rest.is_empty() { bytes.collect() } else { None }
}

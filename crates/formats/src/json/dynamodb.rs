//! Items as DynamoDB exports them (`JSON_VALUES=dynamodb`): `{"Item": {"id": {"S": "a"}, "n": {"N": "1"}}}`.
//!
//! Each attribute is an object whose only key names the type. It is converted to a plain JSON value before the record is read:
//! strings and bytes (in Base64) to strings, numbers to numbers with the same digits, sets and lists to arrays.
//! <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/S3DataExport.Output.html>

use std::collections::HashSet;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};

use crate::{Error, ErrorKind, Position, Result};

/// An exported record. An incremental export has other keys, and is not supported.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Exported {
    #[serde(rename = "Item")]
    item: Attributes,
}

/// The attributes of an item or a map, in the order of the file.
struct Attributes(Vec<(String, Attribute)>);

/// A value with the name of its type as its only key.
#[derive(serde::Deserialize)]
enum Attribute {
    #[serde(rename = "S")]
    String(String),
    #[serde(rename = "N")]
    Number(Number),
    #[serde(rename = "B")]
    Binary(String),
    #[serde(rename = "BOOL")]
    Boolean(bool),
    #[serde(rename = "NULL")]
    Null(bool),
    #[serde(rename = "SS")]
    Strings(Vec<String>),
    #[serde(rename = "NS")]
    Numbers(Vec<Number>),
    #[serde(rename = "BS")]
    Binaries(Vec<String>),
    #[serde(rename = "L")]
    List(Vec<Attribute>),
    #[serde(rename = "M")]
    Map(Attributes),
}

/// The digits of a number, which JSON accepts as they are.
struct Number(String);

/// Returns the item of an exported record as plain JSON.
///
/// # Errors
/// When the record is not an exported item.
pub(super) fn plain(record: &str, start: Position) -> Result<String> {
    let exported: Exported = serde_json::from_str(record).map_err(|error| {
        // The message of serde_json may quote the file.
        let line = start.line + error.line().saturating_sub(1) as u64;
        let message = format!(
            "the record is not an item of a DynamoDB export, which JSON_VALUES expects: see line {line}, column {}",
            error.column()
        );
        Error::new(ErrorKind::Invalid, message).at(start)
    })?;
    let mut plain = String::with_capacity(record.len());
    exported.item.write(&mut plain);
    Ok(plain)
}

impl Attributes {
    fn write(&self, out: &mut String) {
        write_list(out, ('{', '}'), &self.0, |out, (name, value)| {
            write_string(out, name);
            out.push(':');
            value.write(out);
        });
    }
}

impl Attribute {
    fn write(&self, out: &mut String) {
        match self {
            Self::String(text) | Self::Binary(text) => write_string(out, text),
            Self::Number(number) => out.push_str(&number.0),
            Self::Boolean(value) => out.push_str(if *value { "true" } else { "false" }),
            Self::Null(true | false) => out.push_str("null"),
            Self::Strings(texts) | Self::Binaries(texts) => {
                write_list(out, ('[', ']'), texts, |out, text| write_string(out, text));
            }
            Self::Numbers(numbers) => write_list(out, ('[', ']'), numbers, |out, number| out.push_str(&number.0)),
            Self::List(values) => write_list(out, ('[', ']'), values, |out, value| value.write(out)),
            Self::Map(attributes) => attributes.write(out),
        }
    }
}

fn write_list<T>(out: &mut String, brackets: (char, char), items: &[T], write: impl Fn(&mut String, &T)) {
    out.push(brackets.0);
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        write(out, item);
    }
    out.push(brackets.1);
}

fn write_string(out: &mut String, text: &str) {
    out.push_str(&serde_json::Value::from(text).to_string());
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let is_bare = text.starts_with(|first: char| first == '-' || first.is_ascii_digit()) && text.trim_end() == text;
        match is_bare && serde_json::from_str::<IgnoredAny>(&text).is_ok() {
            true => Ok(Self(text)),
            false => Err(D::Error::custom("not a number")),
        }
    }
}

impl<'de> Deserialize<'de> for Attributes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Distinct;

        impl<'de> Visitor<'de> for Distinct {
            type Value = Attributes;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("attributes")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Attributes, A::Error> {
                let (mut attributes, mut names) = (Vec::new(), HashSet::new());
                while let Some((name, value)) = map.next_entry::<String, Attribute>()? {
                    if !names.insert(name.clone()) {
                        return Err(A::Error::custom("an attribute is repeated"));
                    }
                    attributes.push((name, value));
                }
                Ok(Attributes(attributes))
            }
        }

        deserializer.deserialize_map(Distinct)
    }
}

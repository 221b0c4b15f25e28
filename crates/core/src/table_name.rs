//! The name of a table in the database, with or without a schema (a *database* in MySQL and MariaDB).
//!
//! Only settings name schemas: `sales.orders`. A dot in a text that comes from a key is a part of the table's own name, so
//! an upload cannot choose another schema.

use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::object::hash_parts;

/// Separates the schema from the table's own name in settings, messages and the ledger.
const SEPARATOR: char = '.';

/// The name of a table. As text it is `table` or `schema.table`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TableName {
    text: String,
    /// The number of bytes of the schema's name in `text`.
    schema_bytes: Option<usize>,
}

impl TableName {
    /// A table in a schema.
    pub fn in_schema(schema: &str, own_name: &str) -> Self {
        Self { text: format!("{schema}{SEPARATOR}{own_name}"), schema_bytes: Some(schema.len()) }
    }

    /// A name as settings spell it: a dot separates schema and table.
    ///
    /// # Errors
    /// The end of a sentence about the name.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text.split_once(SEPARATOR) {
            None => Ok(text.into()),
            Some((_, own_name)) if own_name.contains(SEPARATOR) => {
                Err("has more than one dot; a dot separates the schema and the table".to_owned())
            }
            Some((schema, own_name)) if schema.is_empty() || own_name.is_empty() => {
                Err("has a dot, but not a schema before it and a table after it".to_owned())
            }
            Some((schema, own_name)) => Ok(Self::in_schema(schema, own_name)),
        }
    }

    /// The complete text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The schema, if the settings name one.
    pub fn schema(&self) -> Option<&str> {
        self.schema_bytes.map(|bytes| &self.text[..bytes])
    }

    /// The name without the schema.
    pub fn own_name(&self) -> &str {
        self.schema_bytes.map_or(self.text.as_str(), |bytes| &self.text[bytes + SEPARATOR.len_utf8()..])
    }

    /// The schema, if there is one, and the name without the schema.
    pub fn parts(&self) -> impl Iterator<Item = &str> {
        self.schema().into_iter().chain([self.own_name()])
    }

    /// A text that no other table has, of at most 64 characters.
    ///
    /// It is the complete text, unless a dot in it can be a part of a name: `a.b` is also the text of the table `b` in the schema
    /// `a`. Then it is a hash of the parts.
    pub fn unique_text(&self) -> Cow<'_, str> {
        if self.parts().any(|part| part.contains(SEPARATOR)) {
            let parts: Vec<&str> = self.parts().collect();
            return Cow::Owned(hash_parts(&parts));
        }
        Cow::Borrowed(&self.text)
    }

    /// The name in lower case.
    #[must_use]
    pub fn to_lowercase(&self) -> Self {
        let own_name = self.own_name().to_lowercase();
        match self.schema() {
            Some(schema) => Self::in_schema(&schema.to_lowercase(), &own_name),
            None => own_name.into(),
        }
    }
}

impl From<&str> for TableName {
    /// A table without a schema, whatever its name contains.
    fn from(own_name: &str) -> Self {
        own_name.to_owned().into()
    }
}

impl From<String> for TableName {
    /// A table without a schema, whatever its name contains.
    fn from(own_name: String) -> Self {
        Self { text: own_name, schema_bytes: None }
    }
}

impl Deref for TableName {
    type Target = str;

    fn deref(&self) -> &str {
        &self.text
    }
}

impl PartialEq<str> for TableName {
    fn eq(&self, other: &str) -> bool {
        self.text == other
    }
}

impl PartialEq<&str> for TableName {
    fn eq(&self, other: &&str) -> bool {
        self.text == *other
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

/// A table without a schema is a string, as in manifests of earlier versions.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Stored {
    Plain(String),
    InSchema { schema: String, table: String },
}

impl Serialize for TableName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let table = self.own_name().to_owned();
        match self.schema() {
            None => Stored::Plain(table),
            Some(schema) => Stored::InSchema { schema: schema.to_owned(), table },
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for TableName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match Stored::deserialize(deserializer)? {
            Stored::Plain(table) => table.into(),
            Stored::InSchema { schema, table } => Self::in_schema(&schema, &table),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_dot_separates_schema_and_table() {
        let name = TableName::parse("sales.orders").unwrap();
        assert_eq!((name.schema(), name.own_name(), name.as_str()), (Some("sales"), "orders", "sales.orders"));
        let plain = TableName::parse("orders").unwrap();
        assert_eq!((plain.schema(), plain.own_name()), (None, "orders"));
        for text in ["a.b.c", ".b", "a.", "."] {
            assert!(TableName::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn dot_of_a_text_from_a_key_is_no_separator() {
        let name = TableName::from("acme.com_orders");
        assert_eq!((name.schema(), name.own_name()), (None, "acme.com_orders"));
        assert_ne!(TableName::from("a.b"), TableName::parse("a.b").unwrap());
    }

    #[test]
    fn tables_with_the_same_text_have_different_unique_texts() {
        let same = [TableName::from("a.b.c"), TableName::in_schema("a", "b.c"), TableName::in_schema("a.b", "c")];
        let [plain, first, second] = same.each_ref().map(|name| (name.as_str(), name.unique_text()));
        assert_eq!((plain.0, first.0), (second.0, second.0));
        assert!(plain.1 != first.1 && first.1 != second.1 && second.1 != plain.1);
        assert!([plain, first, second].iter().all(|(_, unique)| unique.len() == 64));
        assert_eq!(TableName::in_schema("a", "b").unique_text(), "a.b");
        assert_ne!(TableName::from("a.b").unique_text(), "a.b");
        assert_eq!(TableName::from("orders").unique_text(), "orders");
    }

    #[test]
    fn stored_name_keeps_its_schema() {
        for name in [TableName::from("a.b"), TableName::in_schema("a", "b")] {
            let json = serde_json::to_string(&name).unwrap();
            assert_eq!(serde_json::from_str::<TableName>(&json).unwrap(), name, "{json}");
        }
        assert_eq!(serde_json::to_string(&TableName::from("orders")).unwrap(), "\"orders\"");
    }
}

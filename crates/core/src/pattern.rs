//! Parses and matches `TABLE_PATTERN`: patterns over complete keys that determine the target table. Does no I/O.
//!
//! All characters match themselves, except:
//!
//! - `{name}` matches at least one character within a path segment, as few as possible. A name from an earlier segment
//!   matches only the same text again.
//! - `*` matches any number of characters within a segment, also none.
//! - `**` or `...` as the last segment matches one or more segments.
//!
//! Patterns are separated by spaces or commas, and the first match wins. `=> name` after a pattern names the table and
//! may contain parts (`=> {tenant}_{table}`); otherwise the part `{table}` is the table. A dot in that name, but not in a
//! part, separates schema and table (`=> {tenant}.orders`). Matching never backtracks, so
//! its time is linear in the length of the key.

mod folders;
mod matching;
mod parsing;
mod place;
mod reach;
mod table_name;
#[cfg(test)]
mod tests;

use std::fmt;

use crate::table_name::TableName;

pub(crate) use folders::{Contents, PatternFolder};
pub(crate) use place::KeyPlace;
pub(crate) use table_name::{attempts_table, own_table, syncs_table, table_name};

/// Names that have another meaning in `KEY_COLUMNS`, so parts cannot have them.
pub(crate) const SPECIAL_NAMES: [&str; 4] = ["source_bucket", "source_key", "source_row", "loaded_at"];

/// The patterns of a `TABLE_PATTERN`, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TablePatterns(Vec<TablePattern>);

/// One pattern with its table name.
#[derive(Debug, Clone, PartialEq, Eq)]
struct TablePattern {
    /// The original text, for messages.
    text: String,
    segments: Vec<Vec<Piece>>,
    /// Whether the pattern ends with `**` or `...`.
    has_tail: bool,
    /// The schema of the table, if the pattern names one.
    schema: Option<Vec<Piece>>,
    table: Vec<Piece>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Literal(String),
    /// A named part.
    Part(String),
    /// `*`.
    Any,
}

/// The table and the parts that a matching pattern extracts from a key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyParts {
    /// The table name, not validated.
    pub table: TableName,
    /// The named parts, in the order of the pattern.
    pub parts: Vec<(String, String)>,
}

impl KeyParts {
    /// The text of a part, if the pattern has a part of this name.
    pub fn part(&self, name: &str) -> Option<&str> {
        self.parts.iter().find(|part| part.0 == name).map(|part| part.1.as_str())
    }
}

impl TablePatterns {
    /// Parses patterns.
    ///
    /// # Errors
    /// A message that names the invalid pattern and the mistake.
    pub fn parse(text: &str) -> Result<Self, String> {
        let spaced = text.replace("=>", " => ");
        let mut words = spaced.split([',', ' ', '\t', '\r', '\n']).filter(|word| !word.is_empty()).peekable();
        let mut patterns = Vec::new();
        while let Some(word) = words.next() {
            if word == "=>" {
                return Err("=> needs a pattern before it".to_owned());
            }
            let table = match words.next_if_eq(&"=>") {
                Some(_) => {
                    let table = words.next().filter(|table| *table != "=>");
                    Some(table.ok_or_else(|| format!("{word} => needs a table name after it"))?)
                }
                None => None,
            };
            patterns.push(TablePattern::parse(word, table).map_err(|why| format!("{word} {why}"))?);
        }
        if patterns.is_empty() { Err("it contains no pattern".to_owned()) } else { Ok(Self(patterns)) }
    }

    /// Whether there are no patterns.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// These patterns, and after them the others.
    #[must_use]
    pub fn followed_by(&self, others: &Self) -> Self {
        Self(self.0.iter().chain(&others.0).cloned().collect())
    }

    /// Whether any pattern has a part of this name.
    pub fn have_part(&self, name: &str) -> bool {
        self.0.iter().any(|pattern| pattern.has_part(name))
    }

    /// The table names after `=>` that contain no parts.
    pub fn fixed_tables(&self) -> impl Iterator<Item = TableName> {
        self.0.iter().filter_map(|pattern| match (pattern.schema.as_deref(), pattern.table.as_slice()) {
            (None, [Piece::Literal(table)]) => Some(table.as_str().into()),
            (Some([Piece::Literal(schema)]), [Piece::Literal(table)]) => Some(TableName::in_schema(schema, table)),
            _ => None,
        })
    }

    /// Matches a key; returns the table and the parts of the first pattern that matches.
    pub fn match_key(&self, key: &str) -> Option<KeyParts> {
        self.0.iter().find_map(|pattern| pattern.match_key(key))
    }
}

/// The original texts of the patterns, separated by commas.
impl fmt::Display for TablePatterns {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, pattern) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(formatter, "{comma}{}", pattern.text)?;
        }
        Ok(())
    }
}

impl TablePattern {
    fn has_part(&self, wanted: &str) -> bool {
        self.segments.iter().flatten().any(|piece| matches!(piece, Piece::Part(name) if name == wanted))
    }
}

//! The keys of a JSON file, which become its columns.

use std::collections::HashMap;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Visitor};

/// The most bytes of all keys together, the same as for a CSV header.
const MAX_KEY_BYTES: usize = 1024 * 1024;

/// The keys of the file, in order of first appearance.
#[derive(Debug)]
pub(super) struct Columns {
    pub(super) keys: Vec<String>,
    /// The index of each key in `keys`.
    indexes: HashMap<String, usize>,
    key_bytes: usize,
    /// The most keys; `None` if all are known.
    max: Option<usize>,
}

/// Finds the index of a key.
pub(super) struct Key<'rows> {
    pub(super) columns: &'rows mut Columns,
    /// The index that the key most likely has: the records of a file usually have the same order of keys.
    pub(super) likely: usize,
}

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = usize;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<usize, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = usize;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a key")
    }

    fn visit_str<E: serde::de::Error>(self, key: &str) -> Result<usize, E> {
        if self.columns.keys.get(self.likely).is_some_and(|likely| likely == key) {
            return Ok(self.likely);
        }
        if let Some(index) = self.columns.indexes.get(key) {
            return Ok(*index);
        }
        self.columns.add(key).map_err(E::custom)
    }
}

impl Columns {
    /// No keys yet; at most so many.
    pub(super) fn new(max_columns: usize) -> Self {
        Self { keys: Vec::new(), indexes: HashMap::new(), key_bytes: 0, max: Some(max_columns) }
    }

    /// All keys of a file.
    pub(super) fn known(keys: &[String]) -> Self {
        let indexes = keys.iter().cloned().zip(0..).collect();
        Self { keys: keys.to_vec(), indexes, key_bytes: 0, max: None }
    }

    /// The index of a key.
    pub(super) fn find(&self, key: &str) -> Option<usize> {
        self.indexes.get(key).copied()
    }

    /// Checks the number and the size of keys against the limits.
    pub(super) fn check_size(&self, keys: usize, bytes: usize) -> Result<(), String> {
        match self.max {
            Some(max) if keys > max => Err(format!("the file has more than {max} different keys")),
            _ if bytes > MAX_KEY_BYTES => Err(format!("the file's keys have more than {MAX_KEY_BYTES} bytes")),
            Some(_) | None => Ok(()),
        }
    }

    /// Removes all keys but the first `known`.
    #[cold]
    pub(super) fn truncate(&mut self, known: usize) {
        for key in self.keys.drain(known..) {
            self.key_bytes -= key.len();
            self.indexes.remove(&key);
        }
    }

    /// Adds a key.
    #[cold]
    pub(super) fn add(&mut self, key: &str) -> Result<usize, String> {
        self.max.ok_or("a key was absent when the file was read before")?;
        self.check_size(self.keys.len() + 1, self.key_bytes + key.len())?;
        self.key_bytes += key.len();
        self.indexes.insert(key.to_owned(), self.keys.len());
        self.keys.push(key.to_owned());
        Ok(self.keys.len() - 1)
    }
}

/// A key for a message: quoted, and cut to 64 bytes.
pub(super) fn quoted(key: &str) -> String {
    format!("{:?}", &key[..key.floor_char_boundary(64)])
}

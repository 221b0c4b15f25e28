//! Records as rows: one object's members, each in its key's column.
//!
//! serde_json says whether the object is one and where its values are; a value keeps its own bytes.

use std::collections::{HashMap, VecDeque};
use std::fmt;

use memchr::memchr;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::{Batch, Error, ErrorKind, FieldKind, Position, Result};

/// All keys together may have as many bytes, as the header of a CSV file.
const MAX_KEY_BYTES: usize = 1024 * 1024;

/// Collects records.
#[derive(Debug)]
pub(super) struct Rows {
    columns: Columns,
    /// Where the value of each key lies in the record that is being read.
    cells: Vec<Cell>,
    batch: Batch,
    ready: VecDeque<Batch>,
}

/// The keys of the file, in order of first appearance.
#[derive(Debug)]
struct Columns {
    keys: Vec<String>,
    permits: HashMap<String, usize>,
    key_bytes: usize,
    /// How many there may be; `None` when all are known.
    most: Option<usize>,
}

/// A value's bytes in its record.
#[derive(Debug, Clone, Copy, Default)]
struct Cell {
    /// The record that has this value; another one has none for the key.
    record: u64,
    start: usize,
    end: usize,
}

impl Rows {
    pub(super) fn new(max_columns: usize) -> Self {
        let columns = Columns { keys: Vec::new(), permits: HashMap::new(), key_bytes: 0, most: Some(max_columns) };
        Self { columns, cells: Vec::new(), batch: Batch::default(), ready: VecDeque::new() }
    }

    pub(super) fn with_keys(keys: &[String]) -> Self {
        let permits = keys.iter().cloned().zip(0..).collect();
        Self {
            columns: Columns { keys: keys.to_vec(), permits, key_bytes: 0, most: None },
            cells: vec![Cell::default(); keys.len()],
            batch: Batch::new(keys.len()),
            ready: VecDeque::new(),
        }
    }

    pub(super) fn keys(&self) -> &[String] {
        &self.columns.keys
    }

    pub(super) fn take_batch(&mut self) -> Option<Batch> {
        self.ready.pop_front()
    }

    /// Makes what there is a batch of its own.
    pub(super) fn hand_on(&mut self) {
        if !self.batch.is_empty() {
            let next = self.batch.next();
            self.ready.push_back(std::mem::replace(&mut self.batch, next));
        }
    }

    #[cfg(test)]
    pub(super) fn held_bytes(&self) -> usize {
        let keys: usize = self.columns.keys.iter().map(|key| 2 * key.capacity()).sum();
        let batches = self.ready.iter().chain([&self.batch]);
        keys + self.cells.capacity() * size_of::<Cell>() + batches.map(Batch::held_bytes).sum::<usize>()
    }

    /// Takes one record in, from its opening to its closing brace.
    /// One that is bad leaves nothing behind.
    pub(super) fn read(&mut self, record: &[u8], start: Position) -> Result<()> {
        let known_keys = self.columns.keys.len();
        let taken = self.take(record, start);
        if taken.is_err() {
            self.batch.discard_open_row();
            self.columns.remove_earlier(known_keys);
            self.cells.truncate(known_keys);
            if self.batch.width() > known_keys {
                self.batch = Batch::new(known_keys);
            }
        }
        taken
    }

    fn take(&mut self, record: &[u8], start: Position) -> Result<()> {
        let text = std::str::from_utf8(record).map_err(|error| {
            Error::new(ErrorKind::Internal, "a record is cut within a character").with_source(error)
        })?;
        let members = Members { columns: &mut self.columns, cells: &mut self.cells, text, record: start.record };
        let mut json = serde_json::Deserializer::from_str(text);
        members.deserialize(&mut json).map_err(|error| broken(&error, text, start))?;
        if self.columns.keys.len() > self.batch.width() {
            self.hand_on();
            self.batch = Batch::new(self.columns.keys.len());
        }
        for (cell, key) in self.cells.iter().zip(&self.columns.keys) {
            if cell.record != start.record {
                self.batch.push_field(None);
            } else if let Err(what) = push(&mut self.batch, &text[cell.start..cell.end]) {
                return Err(Error::new(ErrorKind::Invalid, what).at(start).in_column(key));
            }
        }
        self.batch.end_row(start);
        if self.batch.is_full() {
            self.hand_on();
        }
        Ok(())
    }
}

/// Adds a value, as it stands in the file, to the open row; or says what is wrong with it.
fn push(batch: &mut Batch, value: &str) -> Result<(), &'static str> {
    const LONE: &str = "an escape in a string is half of a surrogate pair";
    match value.as_bytes() {
        [b'"', inner @ .., b'"'] if memchr(b'\\', inner).is_none() => batch.push_kind(FieldKind::String, inner),
        [b'"', ..] => {
            let text: String = serde_json::from_str(value).map_err(|_| LONE)?;
            batch.push_kind(FieldKind::String, text.as_bytes());
        }
        nested @ [b'{' | b'[', ..] => {
            if has_lone_surrogate(nested) {
                return Err(LONE);
            }
            batch.push_kind(FieldKind::Nested, nested);
        }
        b"null" => batch.push_field(None),
        scalar => batch.push_kind(FieldKind::Plain, scalar),
    }
    Ok(())
}

/// Whether an escape in valid JSON means half a character.
fn has_lone_surrogate(json: &[u8]) -> bool {
    let mut rest = json;
    while let Some(at) = memchr(b'\\', rest) {
        rest = &rest[at..];
        match escaped(rest) {
            Some(0xdc00..=0xdfff) => return true,
            Some(0xd800..=0xdbff) => match escaped(&rest[6..]) {
                Some(0xdc00..=0xdfff) => rest = &rest[12..],
                _ => return true,
            },
            _ => rest = &rest[2..],
        }
    }
    false
}

/// The number in `\uXXXX`, when the text begins with that.
fn escaped(text: &[u8]) -> Option<u32> {
    let digits = text.strip_prefix(b"\\u")?.get(..4)?;
    u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// What serde_json holds against a record, and where. Its messages hold no values.
fn broken(error: &serde_json::Error, text: &str, start: Position) -> Error {
    let told = error.to_string();
    let what = told.rsplit_once(" at line ").map_or(told.as_str(), |(what, _)| what);
    let lines_before = error.line().saturating_sub(1);
    let line_start: usize = text.split_inclusive('\n').take(lines_before).map(str::len).sum();
    let byte = start.byte + (line_start + error.column().saturating_sub(1)) as u64;
    let line = start.line + lines_before as u64;
    let message = format!("the record is no valid JSON: {what} at line {line}, byte {byte}");
    Error::new(ErrorKind::Invalid, message).at(start)
}

/// Notes where each member of an object lies.
struct Members<'rows, 'text> {
    columns: &'rows mut Columns,
    cells: &'rows mut Vec<Cell>,
    text: &'text str,
    record: u64,
}

impl<'de> DeserializeSeed<'de> for Members<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Members<'_, '_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let mut likely = 0;
        while let Some(place) = members.next_key_seed(Key { columns: &mut *self.columns, likely })? {
            likely = place + 1;
            if place == self.cells.len() {
                self.cells.push(Cell::default());
            }
            if self.cells[place].record == self.record {
                let key = shown(&self.columns.keys[place]);
                return Err(A::Error::custom(format_args!("the key {key} is there twice")));
            }
            let value: &RawValue = members.next_value()?;
            let start = value.get().as_ptr() as usize - self.text.as_ptr() as usize;
            self.cells[place] = Cell { record: self.record, start, end: start + value.get().len() };
        }
        Ok(())
    }
}

/// A key for a message: quoted, and not longer than a name.
fn shown(key: &str) -> String {
    format!("{:?}", &key[..key.floor_char_boundary(64)])
}

/// Finds a key's place.
struct Key<'rows> {
    columns: &'rows mut Columns,
    /// The place it most likely has: records of a file have their keys in one order.
    likely: usize,
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
        if let Some(place) = self.columns.permits.get(key) {
            return Ok(*place);
        }
        self.columns.add(key).map_err(E::custom)
    }
}

impl Columns {
    /// Forgets the keys that came after the first so many.
    #[cold]
    fn remove_earlier(&mut self, known: usize) {
        for key in self.keys.drain(known..) {
            self.key_bytes -= key.len();
            self.permits.remove(&key);
        }
    }

    #[cold]
    fn add(&mut self, key: &str) -> Result<usize, String> {
        let most = self.most.ok_or("a key was not there when the file was read before")?;
        if self.keys.len() >= most {
            return Err(format!("the file has more than {most} different keys"));
        }
        self.key_bytes += key.len();
        if self.key_bytes > MAX_KEY_BYTES {
            return Err(format!("the file's keys have more than {MAX_KEY_BYTES} bytes"));
        }
        self.permits.insert(key.to_owned(), self.keys.len());
        self.keys.push(key.to_owned());
        Ok(self.keys.len() - 1)
    }
}

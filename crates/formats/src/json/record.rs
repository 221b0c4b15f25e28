//! Records as rows: the members of an object, each in the column of its key.
//!
//! serde_json checks the object and finds its values. A value keeps its own bytes.

use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;

use memchr::memchr;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::columns::{Columns, Key, quoted};
use super::flatten::{Flattener, Located, Unlocated};
use super::non_finite::{NonFinite, Replaced};
use super::{JsonOptions, JsonValues, changes, dynamodb};
use crate::{Batch, Error, ErrorKind, FieldKind, Position, Result};
use changes::Record;

/// Collects records.
#[derive(Debug)]
pub(super) struct Rows {
    columns: Columns,
    values: JsonValues,
    /// `None` if objects within records stay JSON.
    flattener: Option<Flattener>,
    /// The value of each key in the record that is being read.
    cells: Vec<Cell>,
    batch: Batch,
    ready: VecDeque<Batch>,
    /// The key of the only array of objects in the first record.
    array_key: Option<String>,
    has_non_finite: bool,
    /// The number of records, of any kind.
    records: u64,
    /// The number of summaries of deltas among them, and the number of changes that they declare.
    summaries: u64,
    delta_changes: Option<u64>,
}

/// The bytes of a value in its record.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Cell {
    /// The number of the record. In any other record the key has no value.
    pub(super) record: u64,
    pub(super) start: usize,
    pub(super) end: usize,
}

impl Rows {
    pub(super) fn new(max_columns: usize) -> Self {
        Self::of(Columns::new(max_columns))
    }

    pub(super) fn with_keys(keys: &[String]) -> Self {
        Self::of(Columns::known(keys))
    }

    fn of(columns: Columns) -> Self {
        Self {
            values: JsonValues::Plain,
            flattener: None,
            cells: vec![Cell::default(); columns.keys.len()],
            batch: Batch::new(columns.keys.len()),
            ready: VecDeque::new(),
            array_key: None,
            has_non_finite: false,
            records: 0,
            summaries: 0,
            delta_changes: None,
            columns,
        }
    }

    /// Sets, before the first record, how values are read.
    pub(super) fn follow(&mut self, options: &JsonOptions) {
        self.values = options.values;
        self.flattener = (options.flatten_depth > 0).then(|| Flattener::new(options.flatten_depth));
    }

    /// Continues with the flattened columns of an earlier pass. Call it after `follow`.
    pub(super) fn set_joins(&mut self, joins: &[Vec<usize>]) {
        if let Some(flattener) = &mut self.flattener {
            flattener.set_joins(joins);
        }
    }

    pub(super) fn keys(&self) -> &[String] {
        &self.columns.keys
    }

    pub(super) fn joins(&self) -> &[Vec<usize>] {
        self.flattener.as_ref().map_or(&[], Flattener::joins)
    }

    pub(super) fn array_key(&self) -> Option<&str> {
        self.array_key.as_deref()
    }

    /// Whether a record had a number that is not finite.
    pub(super) fn has_non_finite(&self) -> bool {
        self.has_non_finite
    }

    pub(super) fn take_batch(&mut self) -> Option<Batch> {
        self.ready.pop_front()
    }

    /// Fails if a delta has another number of changes than its summary says.
    pub(super) fn check_delta(&self) -> Result<(), String> {
        let changes = self.records - self.summaries;
        match self.delta_changes {
            Some(expected) if expected != changes => Err(format!(
                "the summary of the delta counts {expected} changes, and the file has {changes}: it is truncated or was changed"
            )),
            Some(_) | None => Ok(()),
        }
    }

    /// Ends the batch. It can be taken then.
    pub(super) fn end_batch(&mut self) {
        if !self.batch.is_empty() {
            let next = self.batch.next();
            self.ready.push_back(std::mem::replace(&mut self.batch, next));
        }
    }

    #[cfg(test)]
    pub(super) fn memory_bytes(&self) -> usize {
        let keys: usize = self.columns.keys.iter().map(|key| 2 * key.capacity()).sum();
        let batches = self.ready.iter().chain([&self.batch]);
        keys + self.cells.capacity() * size_of::<Cell>() + batches.map(Batch::memory_bytes).sum::<usize>()
    }

    /// Adds one record, from its opening to its closing brace. An invalid one changes nothing.
    pub(super) fn read(&mut self, record: &[u8], start: Position) -> Result<()> {
        self.records += 1;
        let known_keys = self.columns.keys.len();
        let added = self.add(record, start);
        if added.is_err() {
            self.batch.discard_open_row();
            self.columns.truncate(known_keys);
            if let Some(flattener) = &mut self.flattener {
                flattener.truncate(known_keys);
            }
            self.cells.truncate(known_keys);
            if self.batch.width() > known_keys {
                self.batch = Batch::new(known_keys);
            }
        }
        added
    }

    fn add(&mut self, record: &[u8], start: Position) -> Result<()> {
        let text = std::str::from_utf8(record)
            .map_err(|error| Error::new(ErrorKind::Internal, "a record ends within a character").with_source(error))?;
        match self.values {
            JsonValues::Plain => self.add_plain(text, start),
            JsonValues::DynamoDb => self.add_plain(&dynamodb::plain(text, start)?, start),
            JsonValues::Changes => match changes::read(text, start)? {
                Record::Row(row) => self.add_plain(&row, start),
                Record::Summary(changes) => {
                    self.delta_changes = Some(self.delta_changes.unwrap_or(0).saturating_add(changes));
                    self.summaries += 1;
                    Ok(())
                }
            },
        }
    }

    fn add_plain(&mut self, text: &str, start: Position) -> Result<()> {
        match self.locate(text, start) {
            Ok(()) => {
                if start.record == 1 {
                    self.array_key = self.find_array_key(text);
                }
                self.push_row(start, |batch, cell| push(batch, &text[cell]))
            }
            Err(error) => {
                let Some(replaced) = Replaced::of(text) else { return Err(error) };
                self.has_non_finite = true;
                self.forget_record(start.record);
                self.locate(&replaced.text, start)?;
                self.push_row(start, |batch, cell| push_replaced(batch, &replaced, cell))
            }
        }
    }

    /// Finds the value of each key.
    fn locate(&mut self, text: &str, start: Position) -> Result<()> {
        if let Some(flattener) = &mut self.flattener {
            let (columns, cells, record) = (&mut self.columns, &mut self.cells, start.record);
            return flattener.locate(Located { columns, cells, text, record }).map_err(|why| match why {
                Unlocated::NotJson(error) => invalid(&error, text, start),
                Unlocated::Keys(what) => Error::new(ErrorKind::Invalid, what).at(start),
            });
        }
        let members = Members { columns: &mut self.columns, cells: &mut self.cells, text, record: start.record };
        let mut json = serde_json::Deserializer::from_str(text);
        members.deserialize(&mut json).map_err(|error| invalid(&error, text, start))
    }

    /// The key of the only array of objects in the first record.
    fn find_array_key(&self, text: &str) -> Option<String> {
        let is_array_of_objects = |cell: &Cell| {
            let value = text.get(cell.start..cell.end).unwrap_or_default();
            value.strip_prefix('[').is_some_and(|elements| elements.trim_start().starts_with('{'))
        };
        let mut arrays =
            self.cells.iter().zip(&self.columns.keys).filter(|(cell, _)| cell.record == 1 && is_array_of_objects(cell));
        let (_, key) = arrays.next()?;
        arrays.next().is_none().then(|| key.clone())
    }

    /// Removes the values that were found in a record.
    #[cold]
    fn forget_record(&mut self, record: u64) {
        self.cells.iter_mut().filter(|cell| cell.record == record).for_each(|cell| *cell = Cell::default());
        if let Some(flattener) = &mut self.flattener {
            flattener.forget_record(record);
        }
    }

    /// Adds a row of the values that were found. `push` adds the value in a range of the record, or returns why it is invalid.
    #[inline]
    fn push_row(
        &mut self,
        start: Position,
        push: impl Fn(&mut Batch, Range<usize>) -> Result<(), &'static str>,
    ) -> Result<()> {
        if self.columns.keys.len() > self.batch.width() {
            self.end_batch();
            self.batch = Batch::new(self.columns.keys.len());
        }
        for (cell, key) in self.cells.iter().zip(&self.columns.keys) {
            if cell.record != start.record {
                self.batch.push_field(None);
            } else if let Err(what) = push(&mut self.batch, cell.start..cell.end) {
                return Err(Error::new(ErrorKind::Invalid, what).at(start).in_column(key));
            }
        }
        self.batch.end_row(start);
        if self.batch.is_full() {
            self.end_batch();
        }
        Ok(())
    }
}

/// Adds a value of a record with numbers that are not finite.
#[cold]
fn push_replaced(batch: &mut Batch, replaced: &Replaced, cell: Range<usize>) -> Result<(), &'static str> {
    const NESTED: &str = "the value contains NaN or Infinity, which JSON does not have; write null or a string";
    match replaced.first_in(cell.clone()) {
        None => push(batch, &replaced.text[cell]),
        Some((place, _)) if place != cell.start => Err(NESTED),
        // A string, as in Parquet, so that a new column with an infinite number is text.
        Some((_, infinite @ (NonFinite::Infinity | NonFinite::NegativeInfinity))) => {
            batch.push_kind(FieldKind::String, infinite.spelling().as_bytes());
            Ok(())
        }
        Some((_, NonFinite::NaN)) => {
            batch.push_field(None);
            Ok(())
        }
    }
}

/// Adds a value, as it is in the file, to the open row. The error is the reason why the value is invalid.
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

/// Whether an escape in valid JSON is half of a surrogate pair.
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

/// The number in `\uXXXX`, if the text starts with such an escape.
fn escaped(text: &[u8]) -> Option<u32> {
    let digits = text.strip_prefix(b"\\u")?.get(..4)?;
    u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// The error of a record that serde_json rejects, with its position. The messages of serde_json contain no values.
fn invalid(error: &serde_json::Error, text: &str, start: Position) -> Error {
    let message = error.to_string();
    let what = message.rsplit_once(" at line ").map_or(message.as_str(), |(what, _)| what);
    let lines_before = error.line().saturating_sub(1);
    let line_start: usize = text.split_inclusive('\n').take(lines_before).map(str::len).sum();
    let byte = start.byte + (line_start + error.column().saturating_sub(1)) as u64;
    let line = start.line + lines_before as u64;
    let message = format!("the record is not valid JSON: {what} at line {line}, byte {byte}");
    Error::new(ErrorKind::Invalid, message).at(start)
}

/// Stores where each member of an object is.
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
        while let Some(index) = members.next_key_seed(Key { columns: &mut *self.columns, likely })? {
            likely = index + 1;
            if index == self.cells.len() {
                self.cells.push(Cell::default());
            }
            if self.cells[index].record == self.record {
                let key = quoted(&self.columns.keys[index]);
                return Err(A::Error::custom(format_args!("the key {key} occurs twice")));
            }
            let value: &RawValue = members.next_value()?;
            let start = value.get().as_ptr() as usize - self.text.as_ptr() as usize;
            self.cells[index] = Cell { record: self.record, start, end: start + value.get().len() };
        }
        Ok(())
    }
}

//! Flattens objects within a record (`JSON_FLATTEN_DEPTH`): `{"a": {"b": 1}}` has a column `a_b`.
//!
//! Objects within arrays, and objects below the depth, stay JSON. Two paths of keys with the same column are an error. `null`
//! in place of an object is NULL in all of its columns, so a key that is `null` in every record has no column.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::columns::{Columns, quoted};
use super::record::Cell;

/// Finds the values of records whose objects are flattened.
#[derive(Debug)]
pub(super) struct Flattener {
    /// The number of levels of objects to flatten, at least one.
    depth: usize,
    /// For each column, where its name joins two keys.
    joins: Vec<Vec<usize>>,
    /// The last record in which a path had an object or `null` instead of a value.
    objects: HashMap<String, Vec<(Vec<usize>, u64)>>,
    object_count: usize,
    object_bytes: usize,
    path: Path,
}

/// Keys from the record to a value.
#[derive(Debug, Default)]
struct Path {
    /// The keys, joined by `_`.
    name: String,
    /// The offset of each joining `_`. With them, no two paths are equal.
    joins: Vec<usize>,
}

/// The columns of a file, the values of a record, and the record.
pub(super) struct Located<'a, 'text> {
    pub(super) columns: &'a mut Columns,
    pub(super) cells: &'a mut Vec<Cell>,
    pub(super) text: &'text str,
    pub(super) record: u64,
}

/// Why a record is invalid.
pub(super) enum Unlocated {
    /// It is not JSON.
    NotJson(serde_json::Error),
    /// Its keys are repeated, or result in the same column.
    Keys(String),
}

impl Flattener {
    pub(super) fn new(depth: usize) -> Self {
        let (joins, objects) = (Vec::new(), HashMap::new());
        Self { depth, joins, objects, object_count: 0, object_bytes: 0, path: Path::default() }
    }

    /// Continues with the columns of an earlier pass, so that both passes accept the same records.
    pub(super) fn set_joins(&mut self, joins: &[Vec<usize>]) {
        self.joins = joins.to_vec();
    }

    /// For each column, where its name joins two keys.
    pub(super) fn joins(&self) -> &[Vec<usize>] {
        &self.joins
    }

    /// Finds the value of each path.
    pub(super) fn locate(&mut self, mut located: Located<'_, '_>) -> Result<(), Unlocated> {
        self.path = Path::default();
        let text = located.text;
        self.read_object(text, self.depth, &mut located)
    }

    /// Removes all columns but the first `known`.
    pub(super) fn truncate(&mut self, known: usize) {
        self.joins.truncate(known);
    }

    /// Removes the objects that were found in a record.
    #[cold]
    pub(super) fn forget_record(&mut self, record: u64) {
        for (_, last) in self.objects.values_mut().flatten().filter(|(_, last)| *last == record) {
            *last = 0;
        }
    }

    fn read_object(&mut self, object: &str, levels: usize, located: &mut Located<'_, '_>) -> Result<(), Unlocated> {
        let Members(members) = serde_json::from_str(object).map_err(Unlocated::NotJson)?;
        let is_record = self.path.name.is_empty() && levels == self.depth;
        for (key, value) in members {
            let before = (self.path.name.len(), self.path.joins.len());
            match is_record {
                true => self.path.name.push_str(&key),
                false => self.path.push(&key),
            }
            match value.get() {
                object if levels > 0 && object.starts_with('{') => {
                    self.add_object(located).map_err(Unlocated::Keys)?;
                    self.read_object(object, levels - 1, located)?;
                }
                "null" if !self.has_column(located) => self.add_object(located).map_err(Unlocated::Keys)?,
                value => self.add_value(value, located).map_err(Unlocated::Keys)?,
            }
            self.path.name.truncate(before.0);
            self.path.joins.truncate(before.1);
        }
        Ok(())
    }

    /// Whether the open path has a column.
    fn has_column(&self, located: &Located<'_, '_>) -> bool {
        let column = located.columns.find(&self.path.name);
        column.is_some_and(|index| self.joins.get(index).is_none_or(|joins| *joins == self.path.joins))
    }

    /// Adds a value at the open path.
    fn add_value(&mut self, value: &str, located: &mut Located<'_, '_>) -> Result<(), String> {
        let index = match located.columns.find(&self.path.name) {
            Some(index) => {
                if let Some(joins) = self.joins.get(index).filter(|joins| **joins != self.path.joins) {
                    return Err(same_column(&self.path, joins));
                }
                index
            }
            None => {
                let index = located.columns.add(&self.path.name)?;
                self.joins.resize(index, Vec::new());
                self.joins.push(self.path.joins.clone());
                index
            }
        };
        if located.cells.len() <= index {
            located.cells.resize(index + 1, Cell::default());
        }
        if located.cells[index].record == located.record || self.is_object(located.record) {
            return Err(self.repeated());
        }
        let start = value.as_ptr() as usize - located.text.as_ptr() as usize;
        located.cells[index] = Cell { record: located.record, start, end: start + value.len() };
        Ok(())
    }

    /// Adds an object at the open path, or a `null` that may be in place of one.
    fn add_object(&mut self, located: &Located<'_, '_>) -> Result<(), String> {
        let column = located.columns.find(&self.path.name);
        let is_same = |index: &usize| self.joins.get(*index).is_none_or(|joins| *joins == self.path.joins);
        let has_value = column.filter(is_same).and_then(|index| located.cells.get(index));
        if has_value.is_some_and(|cell| cell.record == located.record) || self.is_object(located.record) {
            return Err(self.repeated());
        }
        let objects = self.objects.entry(self.path.name.clone()).or_default();
        match objects.iter_mut().find(|(joins, _)| *joins == self.path.joins) {
            Some((_, last)) => *last = located.record,
            None => {
                self.object_count += 1;
                self.object_bytes += self.path.name.len();
                located.columns.check_size(self.object_count, self.object_bytes)?;
                objects.push((self.path.joins.clone(), located.record));
            }
        }
        Ok(())
    }

    /// Whether the record has an object at the open path.
    fn is_object(&self, record: u64) -> bool {
        let mut objects = self.objects.get(&self.path.name).into_iter().flatten();
        objects.any(|(joins, last)| *last == record && *joins == self.path.joins)
    }

    fn repeated(&self) -> String {
        format!("the key {} occurs twice", quoted(&self.path.shown(&self.path.joins)))
    }
}

impl Path {
    /// Adds a key within the object at this path.
    fn push(&mut self, key: &str) {
        self.joins.push(self.name.len());
        self.name.push('_');
        self.name.push_str(key);
    }

    /// The keys with dots between them, if the name joins them at these offsets.
    fn shown(&self, joins: &[usize]) -> String {
        let mut shown = self.name.clone();
        for join in joins {
            shown.replace_range(*join..=*join, ".");
        }
        shown
    }
}

#[cold]
fn same_column(path: &Path, joins: &[usize]) -> String {
    let (one, other) = (quoted(&path.shown(joins)), quoted(&path.shown(&path.joins)));
    format!("the keys {one} and {other} both have the column {} (JSON_FLATTEN_DEPTH)", quoted(&path.name))
}

/// The members of an object, in order.
struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Ordered;

        impl<'de> Visitor<'de> for Ordered {
            type Value = Members<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry::<Cow<'de, str>, &'de RawValue>()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(Ordered)
    }
}
